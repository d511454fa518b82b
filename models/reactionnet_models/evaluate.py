"""`reactionnet-evaluate RUN... --data SHARDS`: our scores beside the paper's, with the metric spelled out.

Several runs are folds of one protocol: their scores are averaged. Beside ours stands the prior, what a model scores that
never looks at a picture. Scores of other data than the paper's say nothing about the paper's numbers, and the table says
so.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import nn

from reactionnet_datasets.command import EXIT_REFUSED, LogLevel, Quiet, Version, set_log_level
from reactionnet_datasets.shards import write_atomic
from reactionnet_models import data as data_of
from reactionnet_models import figures
from reactionnet_models.data import Data
from reactionnet_models.features import to_device
from reactionnet_models.pretrained import Loaded, from_pretrained
from reactionnet_models.recipe import Recipe

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
console = Console(highlight=False, markup=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


@torch.no_grad()
def evaluate(
    model: nn.Module, module: ModuleType, config: Any, recipe: Recipe, data: Data, split: str,
    rates: Mapping[str, float], *, device: str = "cpu",
) -> dict[str, Any]:  # fmt: skip
    """Scores of a model and of the prior over every labelled window of a split, with what pictures are drawn from."""
    stage = replace(recipe.stages[-1], balanced=False)
    stage = replace(stage, stride=max(stage.stride, stage.window))  # every frame once
    dataset = data_of.open_split(module, config, recipe, stage, data, split)
    model = model.to(device).eval()
    ours, prior = module.metrics(config), module.metrics(config)
    num = 0
    for items in dataset:
        batch = module.prepare(to_device(items, torch.device(device)), config)
        out = model(batch)
        given = module.prior(config, rates, batch)
        for metric, other in zip(ours, prior, strict=True):
            metric.update(out, batch)
            other.update(given, batch)
        num += int(items["frame_mask"].sum())
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


def mean_over_folds(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each score over runs, as the papers average folds."""
    return {name: sum(scores[name] for scores in found) / len(found) for name in found[0]}


@app.command()
def run(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders, or models; several are folds.")],
    data: Annotated[str, typer.Option(help="Folder or URL of the shards; another data set's are fine.")],
    split: Annotated[str, typer.Option(help="Which split; a protocol's fold calls it test.")] = "test",
    fold: Annotated[int | None, typer.Option(help="Fold, where the run does not say it.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results. [default: RUN/evaluation]")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    log_level: LogLevel = "warning",
    quiet: Quiet = False,
    version_: Version = False,
) -> None:
    """Print the paper's table beside ours; write evaluation.json and pictures."""
    set_log_level(log_level)
    try:
        _evaluate(runs, data, split, fold, out, device, quiet)
    except (OSError, ValueError) as error:
        errors.print(f"error: {error}")
        raise typer.Exit(EXIT_REFUSED) from None


def _evaluate(
    runs: Sequence[str], data: str, split: str, fold: int | None, out: Path | None, device: str, quiet: bool
) -> None:
    loaded = [from_pretrained(one) for one in runs]
    first = loaded[0]
    if len({(one.module.__name__, one.preset) for one in loaded}) > 1:
        raise ValueError("the runs are of different presets; folds of one table are of the same")
    recipe = replace(first.module.RECIPES[first.preset], labels=first.module.labels(first.config))
    results = [_of_one(one, recipe, data, split, fold, device) for one in loaded]
    scores = mean_over_folds([result["scores"] for result in results])
    prior = mean_over_folds([result["prior"] for result in results])
    folder = out or Path(runs[0]) / "evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "runs": list(runs), "data": data, "split": split, "preset": first.preset, "scores": scores, "prior": prior,
        "published": dict(recipe.published), "each": [{**result, "details": None} for result in results],
        "definitions": results[0]["definitions"],
    }  # fmt: skip
    write_atomic(folder / "evaluation.json", (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
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
        for text in results[0]["definitions"]:
            console.print(f"metric: {text}")
        console.print(f"written: {folder}")


def _of_one(one: Loaded, recipe: Recipe, data: str, split: str, fold: int | None, device: str) -> dict[str, Any]:
    chosen = one.details.get("fold") if fold is None else fold
    where = Data(root=data, fold=chosen, protocol=recipe.protocol if chosen is not None else "", task=recipe.split_task)
    rates = one.details.get("rates", {})
    return evaluate(one.model, one.module, one.config, recipe, where, split, rates, device=device)


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
        printed = f"{recipe.published[name]:.4f}" if name in recipe.published else "-"
        table.add_row(name, printed, f"{value:.4f}", f"{prior[name]:.4f}")
    return table


def main() -> None:
    """Entry point of the command."""
    app()


if __name__ == "__main__":
    main()
