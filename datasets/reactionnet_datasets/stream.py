"""`ShardDataset`: shards as an iterable of windows, shuffled, batched, decoded by threads, resumable to the batch.

Two ways to run it. In the training process itself (`for batch in ShardDataset(...)`, the default and usually the fastest):
threads decode into the batch's own memory while the model computes, and no picture is copied between processes. Or in the
worker processes of `torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=N)`, which give the same batches in
the same order. A loader that batches by itself (`ShardDataset(batch_size=None)` and `DataLoader(batch_size=B)`) gets
every sample once too, in an order that depends on its workers.
"""

import hashlib
import logging
import os
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from reactionnet_datasets.augment import Augment
from reactionnet_datasets.buffers import Pool
from reactionnet_datasets.catalog import Source, open_catalog
from reactionnet_datasets.items import Batch, Reader, Recipe, Task
from reactionnet_datasets.rules import make_rules
from reactionnet_datasets.storage import CACHE_BYTES, RemoteStorage, open_storage
from reactionnet_datasets.windows import Order, Windows, epoch_order, mixed_order, share_of

STATE = "reactionnet-stream-1"
MAX_WORKERS = 256
MAX_THREADS = 16
# The fewest pictures that one task decodes: enough to make handing it over small beside decoding.
TASK_PICTURES = 8

log = logging.getLogger(__name__)


class ShardDataset(IterableDataset):
    """Windows of one or several data sets, as dicts of tensors.

    `root` is a folder, a URL that fsspec opens, a `Source`, or several of these; `split`, `task`, `protocol` and `fold`
    apply to those that are not a `Source`. The items: `window` consecutive frames every `stride`, `num_frames` spread
    over a window or a clip (`jitter`: at random places of their parts), or whole clips; see `windows`.

    An item has `key`, `frames` (uint8 T, 3, H, W), `frame_mask` (T, false where a short window was padded), `t_s` and
    `frame` (T), and what `fields` asks for: `labels` (for each of `labels` a target and `NAME_mask`, true where valid),
    `stimulus` with `stimulus_mask` (`delay_s` earlier), `landmarks` or `landmarks49`, `pose`, `boxes`, `audio` with
    `audio_length` (16 kHz), `mfcc` and `logmel` of that sound (F, 128 and F, 64: see `sound_features`), `caption`, `meta`,
    and any feature stream by name. With `batch_size` all have a first axis B.

    `labels` are names, or names with rules (`{"au_occ_12": "intensity>=2"}`); why a value is missing is a word in the column
    `NAME_mask` of `tables/frames`. `labelled` leaves out windows without any valid one; `subset` keeps those at these
    places of an unshuffled pass of one root. `weights` mixes several roots by share; an epoch then has `epoch_items`. Ranks
    are those of torch.distributed unless given; for `uneven` see `windows.share_of`. `on_error="skip"` leaves damaged
    records out and counts them in `num_skipped`. `shuffle_shards` shuffles within so many shards at a time.

    Every pass is an epoch of its own; `set_epoch` chooses the next. Raises ValueError for arguments that do not fit, and
    its subclass ShardError where the bytes are not what the manifest says.
    """

    def __init__(
        self,
        root: str | Path | Source | Sequence[str | Path | Source],
        *,
        split: str | None = None,
        task: str | None = None,
        protocol: str | Path | None = None,
        fold: int | None = None,
        fields: Sequence[str] = ("frames", "labels"),
        labels: Sequence[str] | Mapping[str, str | None] = (),
        labelled: bool = False,
        subset: Sequence[int] | np.ndarray | None = None,
        window: int | None = None,
        stride: int | None = None,
        num_frames: int | None = None,
        tail: str = "keep",
        jitter: bool = False,
        delay_s: float = 0.0,
        augment: Augment | None = None,
        augment_stimulus: Augment | None = None,
        shuffle: bool = False,
        shuffle_shards: int | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        drop_last: bool = False,
        rank: int | None = None,
        num_ranks: int | None = None,
        uneven: str = "keep",
        weights: Sequence[float] | None = None,
        epoch_items: int | None = None,
        on_error: str = "raise",
        cache: str | Path | None = None,
        cache_bytes: int = CACHE_BYTES,
        threads: int | None = None,
        prefetch: int | None = None,
    ):
        super().__init__()
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error is {on_error!r}; expected raise or skip")
        for name, value in (("batch_size", batch_size), ("shuffle_shards", shuffle_shards), ("prefetch", prefetch)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")
        if seed < 0 or (threads is not None and threads < 0):
            raise ValueError(f"seed {seed} or threads {threads} is negative")
        if jitter and not num_frames:
            raise ValueError("jitter moves the frames that num_frames spreads; name num_frames")
        rules = make_rules(labels)
        self.recipe = Recipe(
            fields=tuple(fields), rules=rules, augment=augment, augment_stimulus=augment_stimulus, delay_s=delay_s,
            jitter=jitter,
        )  # fmt: skip
        if labelled and not rules:
            raise ValueError("labelled windows were asked for, but no labels")
        roots = list(root) if isinstance(root, Sequence) and not isinstance(root, str) else [root]
        common = Source(root="", split=split, task=task, protocol=protocol, fold=fold)
        self.sources = tuple(one if isinstance(one, Source) else replace(common, root=one) for one in roots)
        self._readers: list[Reader] = []
        needed = tuple(dict.fromkeys(source for rule in rules for source in rule.sources)) if labelled else ()
        for source in self.sources:
            storage = open_storage(source.root, cache=cache, cache_bytes=cache_bytes)
            catalog = open_catalog(source, storage, needed)
            windows = Windows(
                clip_frames=catalog.clip_frames, window=window, stride=stride, num_frames=num_frames, tail=tail
            )
            self._readers.append(Reader(catalog, windows, self.recipe))
        self._firsts = np.cumsum([0, *(len(reader.windows) for reader in self._readers)])
        self._candidates = [_candidates(reader, labelled) for reader in self._readers]
        if subset is not None:
            self._candidates = [_checked_subset(subset, self._candidates)]
        self._subset = None if subset is None else hashlib.sha256(self._candidates[0].tobytes()).hexdigest()[:16]
        if not sum(map(len, self._candidates)):
            raise ValueError("no window is left: clips are shorter than the window, or none has a valid label")
        self._weights = _checked_weights(weights, self._candidates, shuffle)
        if epoch_items is not None and (self._weights is None or epoch_items < 1):
            raise ValueError(f"epoch_items {epoch_items} needs weights, and 1 or more")
        self._epoch_items = epoch_items or sum(map(len, self._candidates))
        self._shuffle, self._seed, self._uneven = shuffle, seed, uneven
        self._shuffle_shards = shuffle_shards or _shards_that_fit(self._readers, cache_bytes)
        self.batch_size, self._drop_last = batch_size, drop_last
        self.rank, self.num_ranks = _ranks(rank, num_ranks)
        self._on_error, self._threads, self._prefetch = on_error, threads, prefetch
        # Place 0 is the process that made this; worker w has place w + 1. Shared, because workers get a copy of the rest.
        self._next_epoch = torch.zeros(MAX_WORKERS + 1, dtype=torch.int64).share_memory_()
        self._skipped = torch.zeros(MAX_WORKERS + 1, dtype=torch.int64).share_memory_()
        self._resume: tuple[int, int, int] | None = None  # epoch, first unit, units of this worker that were taken
        self._position: _Position | None = None
        self._pool = Pool(0)
        self._share(0)  # complains now about ranks that would get nothing

    @property
    def num_skipped(self) -> int:
        """Items left out because a record was damaged, in all workers."""
        return int(self._skipped.sum())

    def classes(self, label: str) -> tuple[str, ...]:
        """Names behind a class label's indexes. ValueError where the label has no rule that names them."""
        rule = next((rule for rule in self.recipe.rules if rule.target == label), None)
        if rule is None or not rule.classes:
            raise ValueError(f"{label!r} has no classes of its own; ask for it by a rule, such as classes:affectnet8")
        return rule.classes

    def set_epoch(self, epoch: int) -> None:
        """The next pass is this epoch, from its beginning."""
        self._next_epoch.fill_(epoch)
        self._resume = None

    def __len__(self) -> int:
        """Batches of one epoch of this rank, or items where it does not batch."""
        return self._num_units(len(self._share(0).items))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 0)
        if workers > MAX_WORKERS:
            raise ValueError(f"{workers} workers; at most {MAX_WORKERS} are supported")
        return _Pass(self, worker, workers)

    def state_dict(self) -> dict[str, Any]:
        """Where the current pass is. In a worker it is the worker's own, which StatefulDataLoader collects."""
        position = self._position
        if position is None:
            epoch, start, taken = self._start(_place())
            position = _Position(epoch=epoch, start=start, taken=taken)
        if position.ended and not position.workers:
            position = _Position(epoch=position.epoch + 1)
        return {
            "schema": STATE,
            "epoch": position.epoch,
            "start": position.start,
            "taken": position.taken,
            "worker": position.worker,
            "workers": position.workers,
            "settings": self._settings(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was taken. ValueError where it is of another data set, selection or number of workers."""
        if state.get("schema") != STATE:
            raise ValueError(f"no state of this reader: schema {state.get('schema')!r}, expected {STATE!r}")
        ours = self._settings()
        other = [name for name in ours if state["settings"].get(name) != ours[name]]
        if other:
            found = {name: state["settings"].get(name) for name in other}
            raise ValueError(f"the state was taken with other settings: {found}; now { ({n: ours[n] for n in other}) }")
        info = get_worker_info()
        workers = info.num_workers if info else 0
        if state["workers"] not in (0, workers):
            raise ValueError(
                f"the state is of one of {state['workers']} workers, and here are {workers}: load it through a "
                "StatefulDataLoader with as many"
            )
        start, taken = state["start"], state["taken"]
        if not state["workers"]:
            start, taken = start + taken, 0
        self._resume = (state["epoch"], start, taken)
        self._position = None
        if info:
            self._next_epoch[_place()] = state["epoch"]
        else:
            self._next_epoch.fill_(state["epoch"])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_position": None}

    def _settings(self) -> dict[str, Any]:
        """What decides which item comes when; a state is only good for the same."""
        windows = self._readers[0].windows
        content = hashlib.sha256("".join(reader.catalog.digest for reader in self._readers).encode())
        return {
            "content": content.hexdigest()[:16],
            "items": [len(candidates) for candidates in self._candidates],
            "subset": self._subset,
            "window": windows.window,
            "stride": windows.stride,
            "num_frames": windows.num_frames,
            "tail": windows.tail,
            "shuffle": self._shuffle,
            "shuffle_shards": self._shuffle_shards,
            "seed": self._seed,
            "batch_size": self.batch_size,
            "drop_last": self._drop_last,
            "num_ranks": self.num_ranks,
            "uneven": self._uneven,
            "weights": self._weights,
            "epoch_items": self._epoch_items,
        }

    def _start(self, place: int) -> tuple[int, int, int]:
        """Epoch, first unit and units taken of the pass that would begin now."""
        epoch = int(self._next_epoch[place])
        if self._resume is not None and self._resume[0] == epoch:
            return self._resume
        return epoch, 0, 0

    def _share(self, epoch: int) -> Order:
        """The items of this rank in an epoch, as numbers over all sources."""
        merged = np.concatenate(
            [first + items for first, items in zip(self._firsts[:-1], self._candidates, strict=True)]
        )
        if self._weights is not None:
            sizes = [len(items) for items in self._candidates]
            order = merged[mixed_order(sizes, self._weights, self._epoch_items, seed=self._seed, epoch=epoch)]
        else:
            groups = self._shards_of_items() if self._shuffle and self._shuffle_shards else None
            order = epoch_order(
                merged,
                groups=groups,
                group_size=self._shuffle_shards,
                shuffle=self._shuffle,
                seed=self._seed,
                epoch=epoch,
            )
        return share_of(order, rank=self.rank, num_ranks=self.num_ranks, uneven=self._uneven)

    def _shards_of_items(self) -> np.ndarray:
        shards, before = [], 0
        for reader, items in zip(self._readers, self._candidates, strict=True):
            clips = reader.windows.spans(items)[0]
            shards.append(before + reader.catalog.chunk_shard[reader.catalog.clip_first[clips]])
            before += len(reader.catalog.shards)
        return np.concatenate(shards)

    def _num_units(self, items: int) -> int:
        if self.batch_size is None:
            return items
        return items // self.batch_size if self._drop_last else -(-items // self.batch_size)

    def _work(self, numbers: np.ndarray) -> list[Task]:
        """Which reader reads which span, for items numbered over all sources."""
        if len(self._readers) == 1:
            return self._readers[0].tasks(numbers)
        sources = self._firsts.searchsorted(numbers, side="right") - 1
        work: list[Task | None] = [None] * len(numbers)
        for source in np.unique(sources):
            places = np.flatnonzero(sources == source)
            tasks = self._readers[source].tasks(numbers[places] - self._firsts[source])
            for place, task in zip(places, tasks, strict=True):
                work[place] = task
        return [task for task in work if task is not None]


@dataclass(kw_only=True)
class _Position:
    """How far a pass has come: the dataset knows it even when the pass itself is gone."""

    epoch: int
    start: int = 0
    taken: int = 0
    worker: int = 0
    workers: int = 0
    ended: bool = False


class _Pass:
    """One pass over an epoch by one process. What is ahead is being decoded; what was delivered is counted."""

    def __init__(self, dataset: ShardDataset, worker: int, workers: int):
        self._dataset = dataset
        self._position = _Position(epoch=-1, worker=worker, workers=workers)
        self._begun = False
        self._units: deque[_Unit] = deque()
        if workers:
            # At once: all workers must agree on the epoch, also those that never get to deliver anything.
            self._begin()

    def __iter__(self) -> "_Pass":
        return self

    def __next__(self) -> dict[str, Any]:
        if not self._begun:
            self._begin()
        while not self._closed:
            while len(self._units) < self._ahead and self._submitted < self._num_units:
                self._units.append(self._submit(self._submitted))
                self._submitted += self._step
            if not self._units:
                self._close()
                self._position.ended = True
                break
            unit = self._units.popleft()
            try:
                item = unit.wait()
            except BaseException:
                self._close()
                raise
            self._position.taken += 1
            if item is not None:
                return item
        raise StopIteration

    def _begin(self) -> None:
        dataset, position = self._dataset, self._position
        position.epoch, position.start, position.taken = dataset._start(_place())
        dataset._position, dataset._resume = position, None
        if position.workers:
            dataset._next_epoch[_place()] = position.epoch + 1
        else:
            dataset._next_epoch.fill_(position.epoch + 1)
        self._begun, self._closed = True, False
        share = dataset._share(position.epoch)
        self._items, self._repeated = share.items, share.repeated
        self._num_units = dataset._num_units(len(self._items))
        self._step = max(position.workers, 1)
        self._submitted = position.start + position.worker + position.taken * self._step
        threads = dataset._threads
        if threads is None:
            threads = min(max(_cores() // self._step, 1), MAX_THREADS)
            if position.workers and threads == 1:
                threads = 0  # the loader's processes are parallel enough, and a thread would only add hand-overs
        self._threads, self._pool = threads, None
        if threads:
            self._pool = ThreadPoolExecutor(threads, thread_name_prefix="reactionnet")
            weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)
        self._ahead = dataset._prefetch or _units_ahead(
            threads, dataset.batch_size, dataset._readers[0].windows.length or 1
        )
        dataset._pool.keep = self._ahead + 2  # those ahead, the one that is looked at, the one before

    def _close(self) -> None:
        self._closed = True
        self._units.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, unit: int) -> "_Unit":
        dataset = self._dataset
        size = dataset.batch_size or 1
        numbers = self._items[unit * size : (unit + 1) * size]
        work = dataset._work(numbers)
        pool = None if self._position.workers else dataset._pool
        batch = Batch(dataset.recipe, [task.length for task in work], dataset._readers[0].windows.length, pool)
        if dataset._uneven == "pad":
            batch.arrays["repeated"] = (
                np.arange(unit * size, unit * size + len(work)) >= len(self._items) - self._repeated
            )
        return _Unit(dataset, batch, work, numbers, self._position.epoch, self._pool, self._threads, _place())


class _Unit:
    """A batch, or an item, on its way."""

    def __init__(
        self,
        dataset: ShardDataset,
        batch: Batch,
        work: Sequence[Task],
        numbers: np.ndarray,
        epoch: int,
        pool: ThreadPoolExecutor | None,
        threads: int,
        place: int,
    ):
        self._dataset, self._batch, self._work, self._numbers = dataset, batch, work, numbers
        self._epoch, self._pool, self._place = epoch, pool, place
        self._futures: list[Future[None]] = []
        if pool is not None:
            group = _items_a_task(batch.num, batch.length, threads)
            self._futures = [
                pool.submit(self._fill, range(first, min(first + group, batch.num)))
                for first in range(0, batch.num, group)
            ]

    def wait(self) -> dict[str, Any] | None:
        """The batch when it is full; None where nothing of it could be read and skipping is allowed."""
        if self._pool is None:
            self._fill(range(self._batch.num))
        for future in self._futures:
            future.result()
        dataset, batch = self._dataset, self._batch
        if batch.failed:
            dataset._skipped[self._place] += len(batch.failed)
            for error in batch.failed.values():
                log.warning("left out: %s", error)
            if len(batch.failed) == batch.num:
                return None
        return batch.finish(dataset.recipe, single=dataset.batch_size is None)

    def _fill(self, slots: range) -> None:
        skip = self._dataset._on_error == "skip"
        for reader, group in groupby(slots, key=lambda slot: self._work[slot].reader):
            reader.fill(self._batch, [(slot, self._work[slot]) for slot in group], self._random, skip=skip)

    def _random(self, slot: int) -> np.random.Generator:
        """Draws for one item that depend on seed, epoch and item alone, not on who reads it."""
        return np.random.default_rng([self._dataset._seed, self._epoch, int(self._numbers[slot]), 2])


def _items_a_task(items: int, length: int, threads: int) -> int:
    """An even share for each thread, but not less than is worth handing over."""
    return max(-(-items // threads), -(-TASK_PICTURES // length))


def _units_ahead(threads: int, batch_size: int | None, length: int) -> int:
    """How many batches, or items, to have in hand: one that is waited for, work for every thread beyond it, and as much
    again for while nobody asks."""
    if not threads:
        return 1
    if batch_size is None:
        return 1 + 2 * threads
    tasks = -(-batch_size // _items_a_task(batch_size, length, threads))
    return 1 + 2 * -(-threads // tasks)


def _place() -> int:
    info = get_worker_info()
    return info.id + 1 if info else 0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ranks(rank: int | None, num_ranks: int | None) -> tuple[int, int]:
    if (rank is None) != (num_ranks is None):
        raise ValueError(f"rank {rank} and num_ranks {num_ranks} belong together; name both or neither")
    if rank is not None and num_ranks is not None:
        return rank, num_ranks
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _candidates(reader: Reader, labelled: bool) -> np.ndarray:
    """Items of a reader: all, or those with a frame that counts as labelled."""
    if not labelled or reader.catalog.labelled is None:
        return np.arange(len(reader.windows))
    clips, starts, ends = reader.windows.spans(np.arange(len(reader.windows)))
    before = np.r_[0, np.cumsum(reader.catalog.labelled)]
    first = (np.cumsum(reader.catalog.clip_frames) - reader.catalog.clip_frames)[clips]
    return np.flatnonzero(before[first + ends] > before[first + starts])


def _checked_subset(subset: Sequence[int] | np.ndarray, candidates: Sequence[np.ndarray]) -> np.ndarray:
    places = np.unique(np.asarray(subset, np.int64))
    if len(candidates) != 1:
        raise ValueError(f"subset counts the windows of one data set; here are {len(candidates)}")
    if not len(places) or places[0] < 0 or places[-1] >= len(candidates[0]):
        raise ValueError(f"subset holds {len(places)} places; expected 1 or more, from 0 to {len(candidates[0]) - 1}")
    return candidates[0][places]


def _checked_weights(
    weights: Sequence[float] | None, candidates: Sequence[np.ndarray], shuffle: bool
) -> list[float] | None:
    if weights is None:
        return None
    if len(weights) != len(candidates) or min(weights) < 0 or not sum(weights) > 0:
        raise ValueError(f"weights {list(weights)} for {len(candidates)} data sets; expected one each, 0 or more")
    if not shuffle:
        raise ValueError("weights draw at random; they need shuffle=True")
    for weight, items in zip(weights, candidates, strict=True):
        if weight > 0 and not len(items):
            raise ValueError(f"weight {weight} for a data set without a window")
    return list(weights)


def _shards_that_fit(readers: Sequence[Reader], cache_bytes: int) -> int | None:
    """Shards that half of the cache holds, where a remote data set does not fit as a whole; else None."""
    if not any(isinstance(reader.catalog.storage, RemoteStorage) for reader in readers):
        return None
    sizes = [info.num_bytes for reader in readers for info in reader.catalog.shards]
    if sum(sizes) <= cache_bytes // 2:
        return None
    return max(cache_bytes // 2 // max(sizes), 1)
