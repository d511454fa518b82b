"""What trained parts compute, kept on disk for the next stage, beside labels and masks.

A model says which of its parts' outputs are kept, `FEATURES`, and which entries of a batch, `KEPT`.

View 0 is the middle crop; each further view has one drawn crop and mirror a sequence. Files are NumPy arrays, read by
memory map; `done.json`, written last, says what they were made from.
"""

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reactionnet_datasets import ShardDataset
from reactionnet_datasets.shards import write_atomic

DONE = "done.json"
PARENT = os.getppid()  # when this process began, before anything could fail


@torch.no_grad()
def cache_features(
    parts: nn.ModuleList, module: ModuleType, config: Any, dataset: ShardDataset, folder: Path, *,
    views: int, seed: int, device: torch.device, precision: str, made_from: Mapping[str, Any],
) -> None:  # fmt: skip
    """Run `parts` over a data set once a view, in mixed precision where `precision` (Lightning's names) is one. Does nothing
    where the same was done before."""
    if (folder / DONE).is_file() and json.loads((folder / DONE).read_bytes()) == dict(made_from):
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DONE).unlink(missing_ok=True)
    parts = parts.to(device).eval()
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    for view in range(1 + views):
        dataset.set_epoch(0)
        random = None if view == 0 else torch.Generator().manual_seed(seed * 1000 + view)
        arrays: dict[str, list[np.ndarray]] = {}
        for items in dataset:
            batch = module.prepare(to_device(items, device), config, random)
            with torch.autocast(device.type, dtype=half, enabled=half is not None):
                found = {
                    name: value for part in parts for name, value in part(batch).items() if name in module.FEATURES
                }
            found |= {name: batch[name] for name in module.KEPT if name in batch and view == 0}
            for name, value in found.items():
                exact = value.float() if value.is_floating_point() else value
                arrays.setdefault(name, []).append(exact.cpu().numpy())
        for name, chunks in arrays.items():
            file = f"{name}_{view}.npy" if name in module.FEATURES else f"{name}.npy"
            np.save(folder / file, np.concatenate(chunks))
    write_atomic(folder / DONE, json.dumps(dict(made_from), sort_keys=True).encode())


def await_features(folder: Path, made_from: Mapping[str, Any]) -> None:
    """Wait until the process that started this one has kept what is asked for. RuntimeError where that has ended."""
    while not ((folder / DONE).is_file() and json.loads((folder / DONE).read_bytes()) == dict(made_from)):
        if os.getppid() != PARENT:
            raise RuntimeError(f"the process that was to keep {folder} has ended")
        time.sleep(0.2)


class FeatureLoader:
    """Batches of kept features. For training shuffled by seed and epoch, each sequence in a drawn view; else view 0.

    Of `num_ranks` processes each has as many sequences of an epoch; what does not divide is left out of that epoch.
    """

    prepared = True
    waited_s = 0.0

    def __init__(
        self, folder: Path, module: ModuleType, *, batch_size: int, views: int, train: bool, seed: int, rank: int = 0,
        num_ranks: int = 1,
    ):  # fmt: skip
        count = 1 + views if train else 1
        self._features = {
            name: [np.load(folder / f"{name}_{view}.npy", mmap_mode="r") for view in range(count)]
            for name in module.FEATURES
            if (folder / f"{name}_0.npy").is_file()
        }
        self._labels = {
            name: torch.from_numpy(np.load(folder / f"{name}.npy"))
            for name in module.KEPT
            if (folder / f"{name}.npy").is_file()
        }
        self._num, self._num_views = len(next(iter(self._features.values()))[0]), count
        self._rank, self._num_ranks = rank, num_ranks
        if self._num < num_ranks:
            raise ValueError(f"{self._num} sequences cannot be shared by {num_ranks} processes: name fewer --devices")
        self._batch_size, self._train, self._seed = batch_size, train, seed
        self._epoch = self._taken = 0
        self._resumed = False

    def __len__(self) -> int:
        return math.ceil(self._num // self._num_ranks / self._batch_size)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        if self._resumed:
            self._resumed = False
        elif self._taken:
            self._epoch, self._taken = self._epoch + 1, 0
        num = self._num
        random = np.random.default_rng([self._seed, self._epoch])
        order = random.permutation(num) if self._train else np.arange(num)
        views = random.integers(self._num_views, size=num)
        whole = num - num % self._num_ranks
        return self._batches(order[self._rank : whole : self._num_ranks], views)

    def _batches(self, order: np.ndarray, views: np.ndarray) -> Iterator[dict[str, Tensor]]:
        for first in range(self._taken * self._batch_size, len(order), self._batch_size):
            places = order[first : first + self._batch_size]
            drawn = {
                name: torch.from_numpy(np.stack([of_views[views[place]][place] for place in places]))
                for name, of_views in self._features.items()
            }
            self._taken += 1
            yield drawn | {name: values[places] for name, values in self._labels.items()}

    def state_dict(self) -> dict[str, Any]:
        if self._taken >= len(self):
            return {"epoch": self._epoch + 1, "taken": 0}
        return {"epoch": self._epoch, "taken": self._taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._epoch, self._taken, self._resumed = state["epoch"], state["taken"], True


def find_device(name: str) -> torch.device:
    """A device by its name. ValueError where torch does not know it, or it is not there."""
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"--device {name} cannot be had here; cpu can, and cuda with a GPU and torch built for it"
        ) from error


def to_device(items: Any, device: torch.device) -> Any:
    """Tensors of a (nested) dict on a device; texts stay."""
    if isinstance(items, Tensor):
        return items.to(device, non_blocking=True)
    if isinstance(items, dict):
        return {name: to_device(value, device) for name, value in items.items()}
    return items
