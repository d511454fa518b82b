"""From a data set's shards to the batches of a stage: which part, which rules, in what order, and how long one waits.

A loader is any iterable with a length and a state. `Loader` wraps `ShardDataset`; `features.FeatureLoader` reads what an
earlier stage computed.
"""

import io
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from reactionnet_datasets import ShardDataset
from reactionnet_datasets.catalog import manifest_of
from reactionnet_datasets.rules import make_rules
from reactionnet_datasets.storage import open_storage
from reactionnet_models.recipe import Recipe, Stage


@dataclass(frozen=True, kw_only=True)
class Data:
    """Shards, and the fold of the recipe's protocol where it has one. `protocol` and `task` are the recipe's."""

    root: str
    fold: int | None = None
    protocol: str = ""
    task: str = ""

    def __post_init__(self) -> None:
        if self.protocol and self.fold is None:
            raise ValueError(f"this preset's protocol {self.protocol} has folds: name one with --fold")
        if self.fold is not None and not self.protocol:
            raise ValueError(f"this preset has no folds: leave --fold {self.fold} out")

    @property
    def selection(self) -> dict[str, Any]:
        """What `ShardDataset` is told besides the split."""
        if self.protocol:
            return {"protocol": self.protocol, "fold": self.fold}
        return {"task": self.task} if self.task else {}


def open_split(
    module: ModuleType, config: Any, recipe: Recipe, stage: Stage, data: Data, split: str | None, *,
    train: bool = False, seed: int = 0, labelled: bool = True, **changed: Any,
) -> ShardDataset:  # fmt: skip
    """Windows of one split as a stage wants them: shuffled and drawn for training, in order and whole else."""
    given: dict[str, Any] = {
        "fields": recipe.fields,
        "labels": recipe.labels,
        "labelled": labelled,
        "window": stage.window or None,
        "stride": stage.stride if stage.window else None,
        "num_frames": stage.num_frames,
        "augment": module.view(config, train),
        "shuffle": train,
        "seed": seed,
        "batch_size": stage.batch_size,
        "uneven": "drop" if train else "keep",
        **({"split": split, **data.selection} if split else {}),
        **(module.stream(config, train) if hasattr(module, "stream") else {}),  # what else a model wants of its data
        **changed,
    }
    if "labels" not in given["fields"] or not recipe.labels:
        given |= {"labels": (), "labelled": False}
    return ShardDataset(data.root, **given)


def has_stimulus(root: str) -> bool:
    """Whether any record of a data set has a picture of what is watched."""
    storage = open_storage(root)
    shards = (shard for split in manifest_of(storage)["splits"].values() for shard in split["shards"])
    indexes = (pa.ipc.open_file(pa.BufferReader(storage.whole(shard["index"]))).read_all() for shard in shards)
    return any(".stimulus." in suffix for index in indexes for suffix in index["suffix"].to_pylist())


def labels_there(root: str, labels: Mapping[str, str | None]) -> dict[str, str | None]:
    """Those of some labels whose columns a data set has. ValueError where it has none of them."""
    storage = open_storage(root)
    parts = [part for split in manifest_of(storage)["splits"].values() for part in split["tables"]["frames"]]
    columns = {name for part in parts for name in pq.read_schema(io.BytesIO(storage.whole(part))).names}
    rules = {rule.target: rule for rule in make_rules(labels)}
    found = {name: rule for name, rule in labels.items() if {f"{of}_mask" for of in rules[name].sources} <= columns}
    if labels and not found:
        known = ", ".join(sorted(name.removesuffix("_mask") for name in columns if name.endswith("_mask")))
        raise ValueError(f"{root} has none of {', '.join(labels)}; its labels: {known or 'none'}")
    return found


def masked_labels(items: Mapping[str, Any], labels: Mapping[str, str | None]) -> dict[str, torch.Tensor]:
    """Labels that a data set lacks, as the stream would give them if nobody had annotated any."""
    found: dict[str, torch.Tensor] = {}
    shape = items["frame_mask"].shape
    for rule in make_rules(labels):
        of = shape[:1] if rule.of_a_clip else shape
        values, valid = rule.missing(of.numel())
        found[rule.target] = torch.from_numpy(values.reshape(*of, *values.shape[1:]))
        found[f"{rule.target}_mask"] = torch.from_numpy(valid.reshape(of))
    return found


def scan_labels(
    module: ModuleType, config: Any, recipe: Recipe, stage: Stage, data: Data, split: str
) -> dict[str, np.ndarray]:
    """Every label and mask of a split in the order of its windows; no picture is opened."""
    dataset = open_split(
        module, config, recipe, stage, data, split, fields=("labels",), augment=None, batch_size=1024, num_frames=None,
        rank=0, num_ranks=1,
    )  # fmt: skip
    found: dict[str, list[np.ndarray]] = {}
    for batch in dataset:
        for name, values in batch["labels"].items():
            # clips differ in length
            found.setdefault(name, []).append(values.numpy() if stage.window else values.numpy().ravel())
    return {name: np.concatenate(parts) for name, parts in found.items()}


def rates_of(labels: Mapping[str, np.ndarray], classes: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    """Shares of the valid labels: how often an action unit occurs, a mean of a number, `expression=NAME` of a class."""
    rates: dict[str, float] = {}
    for name, values in labels.items():
        mask = labels.get(f"{name}_mask")
        if mask is None or not mask.any():
            continue
        if name in classes:
            shares = np.bincount(values[mask], minlength=len(classes[name])) / mask.sum()
            rates |= {f"{name}={one}": float(share) for one, share in zip(classes[name], shares, strict=True)}
        else:
            rates[name] = float(values[mask].mean())
    return rates


def places_of_videos(
    module: ModuleType, config: Any, recipe: Recipe, stage: Stage, data: Data, split: str, videos: Collection[str]
) -> np.ndarray:
    """Places of the labelled windows that are of some videos, ascending. ValueError where there are none."""
    dataset = open_split(
        module, config, recipe, stage, data, split, fields=("labels", "meta"), augment=None, batch_size=1024,
        num_frames=None, rank=0, num_ranks=1,
    )  # fmt: skip
    chosen = [meta["video_id"] in videos for batch in dataset for meta in batch["meta"]]
    if not any(chosen):
        raise ValueError(f"none of the {len(videos)} videos named is in {split} of {data.root}")
    return np.flatnonzero(chosen)


def balanced_subset(index_N: np.ndarray, mask_N: np.ndarray, seed: int) -> np.ndarray:
    """Places of a subset with as many of each class as the rarest has, drawn once by a seed; ascending.

    ValueError where nothing is labelled.
    """
    if not mask_N.any():
        raise ValueError("no class is labelled: a balanced subset cannot be drawn")
    random = np.random.default_rng(seed)
    classes, counts = np.unique(index_N[mask_N], return_counts=True)
    chosen = [
        random.choice(np.flatnonzero(mask_N & (index_N == one)), size=counts.min(), replace=False) for one in classes
    ]
    return np.sort(np.concatenate(chosen))


class Loader:
    """A `ShardDataset` that knows how long its reader waited, and whose state at an epoch's end is the next one's start."""

    prepared = False

    def __init__(self, dataset: ShardDataset):
        self.dataset = dataset
        self.waited_s, self.since = 0.0, time.perf_counter()

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return _Timed(self, iter(self.dataset))

    def state_dict(self) -> dict[str, Any]:
        state = self.dataset.state_dict()
        if state["start"] + state["taken"] >= len(self):
            return {**state, "epoch": state["epoch"] + 1, "start": 0, "taken": 0}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.dataset.load_state_dict(state)


class _Timed:
    def __init__(self, loader: Loader, items: Iterator[dict[str, Any]]):
        self._loader, self._items = loader, items

    def __iter__(self) -> "_Timed":
        return self

    def __next__(self) -> dict[str, Any]:
        begun = time.perf_counter()
        try:
            return next(self._items)
        finally:
            self._loader.waited_s += time.perf_counter() - begun
