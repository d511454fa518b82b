"""`reactionnet-challenge RUN... --data SHARDS`: several ABAW6 models answer together, smoothed, as a submission file.

Frames that the shards lack (no face was found), or whose landmarks a model lacks, take the nearest one's answer; each
model's answers are smoothed, then the models vote (`smoothing.vote`). Sigma of the Gaussian filter is the one with which
what would be written scores best by the task's own score, on the validation split, or on what a run's fold held out.
Letters: T frames of a video, K outputs in the order of the task's file, E models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from reactionnet_datasets.command import LogLevel, Quiet, Version, console, make_app, refusals, set_log_level
from reactionnet_models import abaw6
from reactionnet_models import data as data_of
from reactionnet_models.data import Data
from reactionnet_models.features import find_device, to_device
from reactionnet_models.pretrained import Loaded, from_pretrained, recipe_of
from reactionnet_models.recipe import Recipe
from reactionnet_models.smoothing import SIGMAS, fill_faceless, smooth, tune_sigma, vote
from reactionnet_models.submission import frame_name, places_of, read_template, write_submission
from reactionnet_models.whole_clips import end_to_end

app = make_app()


@dataclass(frozen=True, kw_only=True)
class Answers:
    """One video: the frames that exist, in order, which of them a model could answer, its answers, and the labels of all of
    them where they were asked for."""

    video: str
    frames_T: np.ndarray
    answered_T: np.ndarray
    values_TK: np.ndarray
    labels: Mapping[str, np.ndarray]


_Part = tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]  # the last four of `Answers`, of a window


def load_models(runs: Sequence[str]) -> list[Loaded]:
    """The models of some runs. ValueError where they are not of one task, or answer something else than its file lists."""
    models = [from_pretrained(one) for one in runs]
    tasks = {one.config.task if one.module is abaw6 else "" for one in models}
    if len(tasks) > 1 or tasks & {"", "pretrain"}:
        raise ValueError("the runs are not of one of ABAW6's tasks: name models of the same task")
    for name, one in zip(runs, models, strict=True):
        try:
            places_of(one.config.task, one.config.names)
        except ValueError as error:
            raise ValueError(
                f"{name}: {error}; leave the run out, or train one without --set of aus, classes or emotions on the task's "
                "own labels"
            ) from error
    return models


def fold_of(loaded: Loaded) -> int | None:
    """The fold that a run left out of its training; None where its preset has no folds. ValueError where it does not say."""
    protocol, fold = recipe_of(loaded).protocol, loaded.details.get("fold")
    if protocol and fold is None:
        raise ValueError(f"a model of {loaded.preset} does not say which fold of {protocol} it is: name --tune none")
    return fold if protocol else None


@torch.no_grad()
def answer(
    loaded: Loaded, shards: str, split: str, *, fold: int | None = None, labelled: bool = False, device: str = "cpu"
) -> dict[str, Answers]:
    """Answers to every frame of a split, or of a split of a fold of the model's protocol, by video; EMI: one row a video.
    `labelled`: with their labels. ValueError where the model is not one of ABAW6, or has other outputs than the task's file."""
    if loaded.module is not abaw6 or loaded.config.task == "pretrain":
        raise ValueError(f"{loaded.preset} of {loaded.module.__name__.rpartition('.')[2]} does none of ABAW6's tasks")
    config, recipe = loaded.config, recipe_of(loaded)
    places = places_of(config.task, config.names)
    stage = end_to_end(recipe.stages[-1], abaw6, config)
    fields = (*(field for field in recipe.fields if field != "labels"), *(("labels",) if labelled else ()), "meta")
    where = _where(recipe, config.task, shards, fold)
    try:  # unlabelled windows too: sigma is to be chosen on the whole of a video, as it would be written
        dataset = data_of.open_split(abaw6, config, recipe, stage, where, split, fields=fields, labelled=False)
    except ValueError as error:
        if fold is None:
            raise
        raise ValueError(
            f"what fold {fold} of {recipe.protocol} held out cannot be answered: {error}; name shards that have it, or "
            "--tune none and --sigma"
        ) from error
    where_to = find_device(device)
    model = loaded.model.to(where_to).eval()
    found: dict[str, list[_Part]] = {}
    for items in dataset:
        batch = abaw6.prepare(to_device(items, where_to), config)
        values = torch.stack([*abaw6.predictions(model(batch), config).values()], -1).float().cpu().numpy()[..., places]
        answered_BT = batch.get("aligned_BT", items["frame_mask"]).cpu().numpy()
        labels = _labels(items["labels"], config, places) if labelled else {}
        for place, meta in enumerate(items["meta"]):
            present = items["frame_mask"][place].cpu().numpy()
            if config.task == "emi":
                rows: _Part = (np.zeros(1, np.int64), answered_BT[place].any(keepdims=True), values[place][None], {})
            else:
                frames_T = items["frame"][place].cpu().numpy()[present]
                of_frames = {name: value[place][present] for name, value in labels.items()}
                rows = (frames_T, answered_BT[place][present], values[place][present], of_frames)
            found.setdefault(meta["video_id"], []).append(rows)
    return {video: _joined(video, parts) for video, parts in found.items()}


def _where(recipe: Recipe, task: str, shards: str, fold: int | None) -> Data:
    if fold is not None:
        return Data(root=shards, fold=fold, protocol=recipe.protocol)
    # a preset of folds names no split of its task, but what it answers has one
    plain = abaw6.RECIPES[task] if recipe.protocol else recipe
    return Data(root=shards, task=plain.split_task)


def _labels(found: Mapping[str, torch.Tensor], config: Any, places: Sequence[int]) -> dict[str, np.ndarray]:
    """What the metric compares with, in the order of the task's file. Not what `prepare` gives, which masks frames without
    landmarks: their lines are written, and counted, too."""
    columns = list(abaw6.labels(config))
    values = torch.stack([found[name] for name in columns], -1).cpu().numpy()
    mask = torch.stack([found[f"{name}_mask"] for name in columns], -1).cpu().numpy()
    if config.task in ("expr", "ce"):
        in_file = np.argsort(places)
        return {"class_BT": np.where(mask, in_file[values.clip(0)], -100)[..., 0]}
    stem, letter = ("au", "M") if config.task == "au" else ("affect", "D")
    values = np.where(mask, values, 0).astype(np.float32)
    return {f"{stem}_BT{letter}": values[..., places], f"{stem}_mask_BT{letter}": mask[..., places]}


def _joined(video: str, parts: Sequence[_Part]) -> Answers:
    frames_T, answered_T, values_TK = (np.concatenate([part[place] for part in parts]) for place in range(3))
    order = np.argsort(frames_T, kind="stable")
    labels = {name: np.concatenate([part[3][name] for part in parts])[order] for name in parts[0][3]}
    return Answers(
        video=video, frames_T=frames_T[order], answered_T=answered_T[order], values_TK=values_TK[order], labels=labels
    )


def by_video(each: Sequence[Mapping[str, Answers]]) -> dict[str, list[Answers]]:
    """What the models answered to each video, of those that answered it."""
    found: dict[str, list[Answers]] = {}
    for one in each:
        for video, answers in one.items():
            found.setdefault(video, []).append(answers)
    return found


def score_of(config: Any, videos: Mapping[str, np.ndarray], truth: Mapping[str, Answers]) -> float:
    """The number that the challenge ranks by, over all frames of all videos pooled."""
    (metric,) = abaw6.metrics(config)
    for video, values_TK in videos.items():
        share = torch.from_numpy(values_TK).float()
        score = (
            share.logit(eps=1e-6) if config.task == "au" else share if config.task == "va" else share.clamp(1e-9).log()
        )
        batch = {name: torch.from_numpy(value)[None] for name, value in truth[video].labels.items()}
        metric.update({"score_BTK": score[None]}, batch)
    return metric.compute()[{"au": "f1", "va": "ccc_mean"}.get(config.task, "f1_macro")]


def choose_sigma(models: Sequence[Loaded], shards: str, split: str, device: str) -> tuple[float, dict[float, float]]:
    """The best sigma, and each one's score, on what no model was trained on: a labelled split, or what a run's fold held out
    (`tuned_on`). A video is answered by the models for which it is that."""
    parts = [(fold, split if fold is None else "test") for fold in map(fold_of, models)]
    each = [
        answer(model, shards, part, fold=fold, labelled=True, device=device)
        for model, (fold, part) in zip(models, parts, strict=True)
    ]
    return tuned(models[0].config, by_video(each))


def tuned_on(models: Sequence[Loaded], split: str) -> str:
    """What `choose_sigma` answers, in words."""
    folds = {fold_of(model) for model in models}
    held_out = sorted(fold for fold in folds if fold is not None)
    name = f"what fold{'s' * (len(held_out) > 1)} {', '.join(map(str, held_out))} held out"
    return name if None not in folds else f"{split} and {name}" if held_out else split


def tuned(config: Any, videos: Mapping[str, Sequence[Answers]]) -> tuple[float, dict[float, float]]:
    """The sigma with which what would be written of some videos scores best, and each one's score. ValueError where none of
    them is labelled."""
    labelled = {video: given for video, given in videos.items() if _is_labelled(given[0])}
    if not labelled:
        raise ValueError("no frame is labelled that sigma could be chosen on: name another --tune, or none and --sigma")
    truth = {video: given[0] for video, given in labelled.items()}

    def score(sigma: float) -> float:
        return score_of(config, {video: _as_scores(config, given, sigma) for video, given in labelled.items()}, truth)

    return tune_sigma(score, SIGMAS[config.task])


def _is_labelled(one: Answers) -> bool:
    if "class_BT" in one.labels:
        return bool((one.labels["class_BT"] >= 0).any())
    return any(value.any() for name, value in one.labels.items() if "_mask_" in name)


def _as_scores(config: Any, given: Sequence[Answers], sigma: float) -> np.ndarray:
    """What would be written of the frames that exist, as scores (T, K)."""
    found = combine(config.task, given, sigma, 0, config.threshold)[given[0].frames_T]
    return np.eye(len(config.names))[found] if config.task in ("expr", "ce") else found


def combine(task: str, each: Sequence[Answers], sigma: float, num_frames: int, threshold: float) -> np.ndarray:
    """What the models answer together to frames 0 to `num_frames` - 1 of a video, and to all that exist: filled, smoothed,
    then voted. ValueError where a model could answer none."""
    length = max(num_frames, *(int(one.frames_T.max(initial=-1)) + 1 for one in each))
    filled = []
    for one in each:
        if not one.answered_T.any():
            raise ValueError(
                f"{one.video}: no frame can be answered, since none has landmarks: take runs that do not align faces, or "
                "shards without this video"
            )
        frames_T = one.frames_T[one.answered_T]
        face_T = np.zeros(length, bool)
        face_T[frames_T] = True
        values_TK = np.zeros((length, one.values_TK.shape[1]), np.float32)
        values_TK[frames_T] = one.values_TK[one.answered_T]
        filled.append(smooth(fill_faceless(values_TK, face_T), sigma))
    return vote(task, np.stack(filled), threshold)


@app.command()
def run(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Models of one task: subsets, folds or seeds.")],
    data: Annotated[str, typer.Option(help="Folder or URL of the shards.")],
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("predictions.txt"),
    split: Annotated[str, typer.Option(help="Which split is answered.")] = "test",
    tune: Annotated[str, typer.Option(help="Labelled split for sigma (of folds what they held out); none: --sigma.")] = "val",
    sigma: Annotated[float, typer.Option(min=0, help="Frames; used where --tune is none.")] = 0.0,
    template: Annotated[Path | None, typer.Option(help="The challenge's sample file: which lines, in which order.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    log_level: LogLevel = "warning",
    quiet: Quiet = False,
    version_: Version = False,
) -> None:  # fmt: skip
    """Write one submission file of several models' votes."""
    set_log_level(log_level)
    with refusals():
        models = load_models(runs)
        task = models[0].config.task
        scores: dict[float, float] = {}
        if tune != "none" and task != "emi":
            sigma, scores = choose_sigma(models, data, tune, device)
        num = submit(models, data, split, out, 0.0 if task == "emi" else sigma, template, device)
    if not quiet:
        on = tuned_on(models, tune) if scores else ""
        for value, score in scores.items():
            console.print(f"sigma {value:g}: {score:.4f} on {on}{'  <- chosen' if value == sigma else ''}")
        console.print(f"{num} lines of {len(models)} models in {out}, sigma {sigma:g}")


def submit(
    models: Sequence[Loaded], shards: str, split: str, out: Path, sigma: float, template: Path | None, device: str
) -> int:
    """Write the file and return its number of lines."""
    videos = by_video([answer(model, shards, split, device=device) for model in models])
    config, lines = models[0].config, read_template(template) if template else []
    wanted: dict[str, int] = {}
    for line in lines:
        video, _, picture = line.partition("/")
        wanted[video] = max(wanted.get(video, 0), int(picture.split(".")[0]) if picture else 0)
    answers: dict[str, np.ndarray] = {}
    for video, given in videos.items():
        found = combine(config.task, given, sigma, wanted.get(video, 0), config.threshold)
        if config.task == "emi":
            answers[video] = found[0]
        else:
            shown = range(len(found)) if video in wanted else given[0].frames_T
            answers |= {frame_name(video, int(frame)): found[frame] for frame in shown}
    return write_submission(out, config.task, answers, lines)


def main() -> None:
    """Entry point of the command."""
    app()


if __name__ == "__main__":
    main()
