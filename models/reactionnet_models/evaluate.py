"""`reactionnet-evaluate RUN... --data SHARDS`: our scores beside the paper's, with the metric spelled out.

Several runs are folds of one protocol: their scores are averaged. Beside ours stands the prior, what a model scores that
never looks at a picture. Scores of other data than the paper's say nothing about the paper's numbers, and the table says
so. Another data set need not have all labels: what it lacks is named, and not measured.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Annotated, Any

import torch
import typer
from rich.table import Table
from torch import nn

from reactionnet_datasets.command import LogLevel, Quiet, Version, console, make_app, refusals, set_log_level
from reactionnet_datasets.shards import write_atomic
from reactionnet_models import data as data_of
from reactionnet_models import figures
from reactionnet_models.catalogue import without_weights
from reactionnet_models.data import Data
from reactionnet_models.features import find_device, to_device
from reactionnet_models.pretrained import Loaded, from_pretrained, recipe_of
from reactionnet_models.recipe import Recipe
from reactionnet_models.settings import apply_settings
from reactionnet_models.whole_clips import Onward, carries, end_to_end

app = make_app()


@torch.no_grad()
def evaluate(
    model: nn.Module, module: ModuleType, config: Any, recipe: Recipe, data: Data, split: str,
    rates: Mapping[str, float], *, lacking: Mapping[str, str | None] = MappingProxyType({}), device: str = "cpu",
) -> dict[str, Any]:  # fmt: skip
    """Scores of a model and of the prior over every labelled window of a split, with what pictures are drawn from.

    `lacking` are labels of the model that the data set does not have, which `recipe` leaves out: nothing is measured on them.
    """
    stage = end_to_end(recipe.stages[-1], module, config)
    whole: dict[str, Any] = {"fields": (*recipe.fields, "meta"), "labelled": False} if carries(module, config) else {}
    dataset = data_of.open_split(module, config, recipe, stage, data, split, **whole)
    place = find_device(device)
    onward = Onward(model.to(place).eval(), module, config)
    ours, prior = module.metrics(config), module.metrics(config)
    num = 0
    for items in dataset:
        if lacking:
            items |= {"labels": items["labels"] | data_of.masked_labels(items, lacking), "lacking": tuple(lacking)}
        batch = module.prepare(to_device(items, place), config)
        out = onward(items, batch)
        given = module.prior(config, rates, batch)
        for metric, other in zip(ours, prior, strict=True):
            metric.update(out, batch)
            other.update(given, batch)
        num += _num_labelled(items)
    details: dict[str, Any] = {}
    for metric in ours:
        details |= metric.details()
    return {
        "scores": {name: value for metric in ours for name, value in metric.compute().items()},
        "prior": {name: value for metric in prior for name, value in metric.compute().items()},
        "definitions": [metric.definition for metric in ours],
        "details": details,
        "frames": num,
        "split": split,
    }


def _num_labelled(items: Mapping[str, Any]) -> int:
    """Frames of a batch with any valid label; all of them where labels are of whole clips."""
    frame_mask_BT = items["frame_mask"]
    masks = [value for name, value in items.get("labels", {}).items() if name.endswith("_mask")]
    if not masks or any(mask.dim() < 2 for mask in masks):
        return int(frame_mask_BT.sum())
    return int((torch.stack(masks).any(0) & frame_mask_BT).sum())


def mean_over_folds(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each score over the runs that have it, as the papers average folds; nan where none has."""
    means = {}
    for name in found[0]:
        measured = [scores[name] for scores in found if not math.isnan(scores[name])]
        means[name] = sum(measured) / len(measured) if measured else math.nan
    return means


@app.command()
def run(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders, or models; several are folds.")],
    data: Annotated[str, typer.Option(help="Folder or URL of the shards; another data set's are fine.")],
    split: Annotated[str | None, typer.Option(help="Which split. [default: what the paper reports: test, or val]")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value of the model, such as threshold=0.4.")] = None,
    fold: Annotated[int | None, typer.Option(help="Fold, where the run does not say it.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results. [default: RUN/evaluation]")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    log_level: LogLevel = "warning",
    quiet: Quiet = False,
    version_: Version = False,
) -> None:  # fmt: skip
    """Print the paper's table beside ours; write evaluation.json and pictures."""
    set_log_level(log_level)
    with refusals():
        _evaluate(runs, data, split, settings or [], fold, out, device, quiet)


def _evaluate(
    runs: Sequence[str], data: str, split: str | None, settings: Sequence[str], fold: int | None, out: Path | None,
    device: str, quiet: bool,
) -> None:  # fmt: skip
    loaded = [_changed(from_pretrained(one), settings) for one in runs]
    first = loaded[0]
    if len({(one.module.__name__, one.preset) for one in loaded}) > 1:
        raise ValueError("the runs are of different presets; folds of one table are of the same")
    recipe = recipe_of(first)
    asked = recipe.labels
    recipe = replace(recipe, labels=data_of.labels_there(data, asked))
    lacking = {name: rule for name, rule in asked.items() if name not in recipe.labels}
    split = split or recipe.test_split
    results = [_of_one(one, recipe, lacking, data, split, fold, device) for one in loaded]
    scores = mean_over_folds([result["scores"] for result in results])
    prior = mean_over_folds([result["prior"] for result in results])
    folder = out or Path(runs[0]) / "evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "runs": list(runs), "data": data, "split": split, "preset": first.preset, "scores": scores, "prior": prior,
        "published": dict(recipe.published), "each": [{**result, "details": None} for result in results],
        "definitions": results[0]["definitions"], "labels_not_there": list(lacking),
    }  # fmt: skip
    write_atomic(folder / "evaluation.json", (json.dumps(_null(content), indent=1, sort_keys=True) + "\n").encode())
    details = results[0]["details"]
    if "confusion" in details:
        names, _ = details["confusion"]
        total = sum(torch.tensor(result["details"]["confusion"][1]) for result in results)
        figures.draw_confusion(names, torch.as_tensor(total).tolist(), folder / "confusion.png")
    if "bars" in details:
        ours = {name: scores[f"f1_{name}"] for name in details["bars"]}
        paper = {name: recipe.published[f"f1_{name}"] for name in ours if f"f1_{name}" in recipe.published}
        figures.draw_bars(ours, paper, folder / "action_units.png")
    if not quiet:
        console.print(table_of(first, recipe, scores, prior, len(results), data, split, results[0]["frames"]))
        if lacking:
            console.print(f"no such labels in {data}, so not measured: {', '.join(lacking)}")
        for text in results[0]["definitions"]:
            console.print(f"metric: {text}")
        console.print(f"written: {folder}")


def _changed(one: Loaded, settings: Sequence[str]) -> Loaded:
    """The model under other settings. ValueError for a slip, and where its weights would not fit them."""
    recipe = one.module.RECIPES[one.preset]
    if not settings:
        return one
    if of_stage := [setting for setting in settings if "." in setting.partition("=")[0]]:
        raise ValueError(f"--set {of_stage[0]} is of training; here is none")
    config, _ = apply_settings(one.config, recipe, settings, one.module)
    if _outputs(one.module.labels(config)) != _outputs(one.module.labels(one.config)):
        raise ValueError(f"--set {', '.join(settings)}: the model's outputs stand for something else")
    model = one.module.build(without_weights(config))
    try:
        model.load_state_dict(one.model.state_dict())
    except RuntimeError as error:
        raise ValueError(
            f"--set {', '.join(settings)}: that is another network than the one that was trained"
        ) from error
    return replace(one, config=config, model=model.eval())


def _outputs(labels: Mapping[str, str | None]) -> list[tuple[str, str]]:
    """What a model answers, in order: targets, of classes with their space. How a target is read may change."""
    return [(name, rule if rule and rule.startswith("classes") else "") for name, rule in labels.items()]


def _null(value: Any) -> Any:
    """The same without nan, which json does not have."""
    if isinstance(value, dict):
        return {name: _null(of) for name, of in value.items()}
    if isinstance(value, list):
        return [_null(of) for of in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _of_one(
    one: Loaded, recipe: Recipe, lacking: Mapping[str, str | None], data: str, split: str, fold: int | None, device: str
) -> dict[str, Any]:
    chosen = one.details.get("fold") if fold is None else fold
    where = Data(root=data, fold=chosen, protocol=recipe.protocol if chosen is not None else "", task=recipe.split_task)
    rates = one.details.get("rates", {})
    return evaluate(one.model, one.module, one.config, recipe, where, split, rates, lacking=lacking, device=device)


def table_of(
    first: Loaded, recipe: Recipe, scores: Mapping[str, float], prior: Mapping[str, float], num: int, data: str, split: str,
    frames: int,
) -> Table:  # fmt: skip
    """The paper's row beside ours."""
    row = recipe.table_row or "no row of the paper"
    how = f"mean of {num} folds" if num > 1 else f"{frames:,} frames"
    table = Table(title=f"{first.preset}: {row} (on {recipe.dataset}) and ours on {data}, {split}, {how}")
    for column in ("", "paper", "ours", "prior"):
        table.add_column(column, justify="left" if not column else "right")
    for name, value in scores.items():
        shown = [
            "-" if math.isnan(one) else f"{one:.4f}"
            for one in (recipe.published.get(name, math.nan), value, prior[name])
        ]
        table.add_row(name, *shown)
    return table


def main() -> None:
    """Entry point of the command."""
    app()


if __name__ == "__main__":
    main()
