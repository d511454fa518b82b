"""`reactionnet-challenge RUN... --data SHARDS`: several ABAW6 models answer together, smoothed, as a submission file.

The models vote (`smoothing.vote`); where one is given a validation split, the sigma of the Gaussian filter is chosen there
by the task's own score, over the mean of the models' answers; frames that the shards lack (no face was found) take the
nearest one's answer. Letters: T frames of a video, K outputs, E models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from reactionnet_datasets.command import LogLevel, Quiet, Version, console, make_app, refusals, set_log_level
from reactionnet_models import abaw6
from reactionnet_models import data as data_of
from reactionnet_models.data import Data
from reactionnet_models.features import to_device
from reactionnet_models.pretrained import Loaded, from_pretrained, recipe_of
from reactionnet_models.smoothing import SIGMAS, fill_faceless, smooth, tune_sigma, vote
from reactionnet_models.submission import frame_name, read_template, write_submission

app = make_app()
_LABELS = ("au_BTM", "au_mask_BTM", "class_BT", "affect_BTD", "affect_mask_BTD")


@dataclass(frozen=True, kw_only=True)
class Answers:
    """One video: its frames in order, a model's answers to them, and their labels where they were asked for."""

    frames_T: np.ndarray
    values_TK: np.ndarray
    labels: Mapping[str, np.ndarray]


@torch.no_grad()
def answer(
    loaded: Loaded, shards: str, split: str, *, labelled: bool = False, device: str = "cpu"
) -> dict[str, Answers]:
    """Answers to every frame of a split, by video; EMI: one row a video. ValueError where the model is not one of ABAW6."""
    if loaded.module is not abaw6 or loaded.config.task == "pretrain":
        raise ValueError(f"{loaded.preset} of {loaded.module.__name__.rpartition('.')[2]} does none of ABAW6's tasks")
    config, recipe = loaded.config, replace(recipe_of(loaded), labels=abaw6.labels(loaded.config))
    stage = recipe.stages[-1]
    stage = replace(stage, stride=max(stage.stride, stage.window))
    fields = (*(field for field in recipe.fields if field != "labels"), *(("labels",) if labelled else ()), "meta")
    dataset = data_of.open_split(
        abaw6, config, recipe, stage, Data(root=shards, task=recipe.split_task), split, fields=fields, labelled=labelled
    )
    model = loaded.model.to(device).eval()
    found: dict[str, list[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]] = {}
    for items in dataset:
        batch = abaw6.prepare(to_device(items, torch.device(device)), config)
        values = torch.stack([*abaw6.predictions(model(batch), config).values()], -1).float().cpu().numpy()
        labels = {name: batch[name].cpu().numpy() for name in _LABELS if name in batch}
        for place, meta in enumerate(items["meta"]):
            present = items["frame_mask"][place].numpy()
            if config.task == "emi":
                rows: tuple[Any, Any, dict[str, Any]] = (np.zeros(1, np.int64), values[place][None], {})
            else:
                of_frames = {name: value[place][present] for name, value in labels.items()}
                rows = (items["frame"][place].numpy()[present], values[place][present], of_frames)
            found.setdefault(meta["video_id"], []).append(rows)
    return {video: _joined(parts) for video, parts in found.items()}


def _joined(parts: Sequence[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]) -> Answers:
    frames_T = np.concatenate([frames for frames, _, _ in parts])
    order = np.argsort(frames_T, kind="stable")
    values_TK = np.concatenate([values for _, values, _ in parts])[order]
    labels = {name: np.concatenate([of_part[name] for _, _, of_part in parts])[order] for name in parts[0][2]}
    return Answers(frames_T=frames_T[order], values_TK=values_TK, labels=labels)


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
    """The best sigma for the mean of the models' answers on a labelled split, and each one's score."""
    each = [answer(model, shards, split, labelled=True, device=device) for model in models]
    means = {video: np.mean([one[video].values_TK for one in each], axis=0) for video in each[0]}
    config = models[0].config
    return tune_sigma(means, lambda videos: score_of(config, videos, each[0]), SIGMAS[config.task])


def combine(task: str, each: Sequence[Answers], sigma: float, num_frames: int, threshold: float) -> np.ndarray:
    """What the models answer together to frames 0 to `num_frames` - 1 of a video: filled, smoothed, then voted."""
    filled = []
    for one in each:
        face_T = np.zeros(max(num_frames, int(one.frames_T.max()) + 1), bool)
        face_T[one.frames_T] = True
        values_TK = np.zeros((len(face_T), one.values_TK.shape[1]), np.float32)
        values_TK[one.frames_T] = one.values_TK
        filled.append(smooth(fill_faceless(values_TK, face_T), sigma))
    return vote(task, np.stack(filled), threshold)


@app.command()
def run(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Models of one task: subsets, folds or seeds.")],
    data: Annotated[str, typer.Option(help="Folder or URL of the shards.")],
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("predictions.txt"),
    split: Annotated[str, typer.Option(help="Which split is answered.")] = "test",
    tune: Annotated[str, typer.Option(help="Labelled split that chooses sigma; none: --sigma.")] = "val",
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
        models = [from_pretrained(one) for one in runs]
        task = models[0].config.task
        if any((one.module, one.config.task) != (abaw6, task) for one in models) or task == "pretrain":
            raise ValueError("the runs are not of one of ABAW6's tasks: name models of the same task")
        scores: dict[float, float] = {}
        if tune != "none" and task != "emi":
            sigma, scores = choose_sigma(models, data, tune, device)
        num = submit(models, data, split, out, 0.0 if task == "emi" else sigma, template, device)
    if not quiet:
        for value, score in scores.items():
            console.print(f"sigma {value:g}: {score:.4f} on {tune}{'  <- chosen' if value == sigma else ''}")
        console.print(f"{num} lines of {len(models)} models in {out}, sigma {sigma:g}")


def submit(
    models: Sequence[Loaded], shards: str, split: str, out: Path, sigma: float, template: Path | None, device: str
) -> int:
    """Write the file and return its number of lines."""
    each = [answer(model, shards, split, device=device) for model in models]
    config, lines = models[0].config, read_template(template) if template else []
    wanted: dict[str, int] = {}
    for line in lines:
        video, _, picture = line.partition("/")
        wanted[video] = max(wanted.get(video, 0), int(picture.split(".")[0]) if picture else 0)
    answers: dict[str, np.ndarray] = {}
    for video in each[0]:
        given = [one[video] for one in each]
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
