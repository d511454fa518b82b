"""Which frames make up an item, and in which order items come.

A clip of n frames gives, by the reading mode,

    window=W, stride=S       items of W consecutive frames that start at 0, S, 2S, ...; the last one may be short
    num_frames=N             one item of N frames spread over the clip (the middles of N equal parts)
    window, stride and N     N frames spread over each window
    nothing                  one item, the whole clip

With `tail="keep"` every frame that a stride does not jump over is in an item: with S = W in exactly one. An item shorter
than asked for is padded by the reader, and its mask says so; nothing is repeated. `tail="drop"` leaves short ones out.
Items are numbers; nothing is listed, so a data set of a million windows costs one array of its clips.
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Windows:
    """The items of a list of clips. `clip_frames` has the length of each.

    ValueError for sizes below 1, a stride without a window, more `num_frames` than `window`, or an unknown tail.
    """

    clip_frames: np.ndarray
    window: int | None = None
    stride: int | None = None
    num_frames: int | None = None
    tail: str = "keep"
    _ends: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("window", "stride", "num_frames"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")
        if self.stride is not None and self.window is None:
            raise ValueError(f"stride {self.stride} without a window; a stride is how far windows lie apart")
        if self.window is not None and self.num_frames is not None and self.num_frames > self.window:
            raise ValueError(f"{self.num_frames} frames cannot be spread over a window of {self.window}")
        if self.tail not in ("keep", "drop"):
            raise ValueError(f"tail is {self.tail!r}; expected keep or drop")
        object.__setattr__(self, "_ends", np.cumsum(self._counts()))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def length(self) -> int | None:
        """Frames of an item; None where it is the clip's length."""
        return self.num_frames or self.window

    def _counts(self) -> np.ndarray:
        frames = self.clip_frames.astype(np.int64)
        if self.window is None:
            least = self.num_frames or 1
            return (frames >= least).astype(np.int64) if self.tail == "drop" else np.ones(len(frames), np.int64)
        beyond = frames - self.window
        if self.tail == "drop":
            return np.where(beyond >= 0, beyond // self._stride + 1, 0)
        # Starts go on until one window reaches the end, or a stride leaves the clip.
        reached = -(-np.maximum(beyond, 0) // self._stride) + 1
        return np.minimum(reached, -(-frames // self._stride))

    @property
    def _stride(self) -> int:
        return self.stride or self.window or 1

    def spans(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each item its clip, its first frame within the clip, and the frame after its last."""
        clips = self._ends.searchsorted(items, side="right")
        frames = self.clip_frames[clips]
        if self.window is None:
            return clips, np.zeros(len(clips), np.int64), frames
        before = np.where(clips > 0, self._ends[clips - 1], 0)
        starts = (items - before) * self._stride
        return clips, starts, np.minimum(starts + self.window, frames)

    def lengths(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """How many frames `frames` will give."""
        return np.minimum(ends - starts, self.num_frames) if self.num_frames else ends - starts

    def frames(self, start: int, end: int, jitter: np.random.Generator | None = None) -> np.ndarray:
        """The frames of an item, ascending: all of its span, or `num_frames` spread over it.

        Each is the middle of one of N equal parts, or with `jitter` a random frame of its part. A span that is shorter
        than N gives each of its frames once.
        """
        num = self.num_frames
        if num is None or end - start <= num:
            return np.arange(start, end)
        parts = np.arange(num) if jitter is not None else np.arange(num) + 0.5
        places = parts * ((end - start) / num)
        if jitter is not None:
            # Drawn within [part, next part): ascending, though neighbours may meet.
            places = places + jitter.random(num) * ((end - start) / num)
        return start + np.minimum(places.astype(np.int64), end - start - 1)


@dataclass(frozen=True, kw_only=True)
class Order:
    """The order of one epoch: `items` of all ranks; `repeated` counts those at the end that are there a second time."""

    items: np.ndarray
    repeated: int = 0


def epoch_order(
    candidates: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    group_size: int | None = None,
    shuffle: bool,
    seed: int,
    epoch: int,
) -> np.ndarray:
    """Items of one epoch in order: as they lie, or shuffled.

    With `groups` (the shard of each candidate) and `group_size`, shards are shuffled first and items only within
    `group_size` shards at a time, so that a remote data set is read shard by shard.
    """
    if not shuffle:
        return candidates
    random = np.random.default_rng([seed, epoch])
    if groups is None or group_size is None:
        return random.permutation(candidates)
    present = np.unique(groups)
    place = np.empty(int(present[-1]) + 1, np.int64)
    place[present] = random.permutation(len(present)) // group_size
    mixed = random.permutation(len(candidates))
    return candidates[mixed[np.argsort(place[groups[mixed]], kind="stable")]]


def mixed_order(sizes: list[int], weights: list[float], num: int, *, seed: int, epoch: int) -> np.ndarray:
    """Draw `num` items from several lists by weight; a list that runs out starts again in a new order.

    Lists are numbered one after another: item i of list k is `sum(sizes[:k]) + i`. Shares are exact up to one item.
    """
    random = np.random.default_rng([seed, epoch, 1])
    shares = np.array(weights, np.float64) / np.sum(weights)
    counts = np.diff(np.round(np.cumsum(shares) * num).astype(np.int64), prepend=0)
    drawn = []
    for first, size, count in zip(np.cumsum([0, *sizes[:-1]]), sizes, counts, strict=True):
        rounds = -(-int(count) // size)
        items = np.concatenate([random.permutation(size) for _ in range(rounds)] or [np.zeros(0, np.int64)])
        drawn.append(first + items[:count])
    return random.permutation(np.concatenate(drawn))


def share_of(order: np.ndarray, *, rank: int, num_ranks: int, uneven: str) -> Order:
    """What one rank reads: every `num_ranks`-th item.

    `uneven`: "keep" (ranks may differ by one item, all come once), "drop" (what does not divide is left out) or "pad"
    (the first items come again at the end). ValueError for another word, or where a rank would have nothing.
    """
    if uneven not in ("keep", "drop", "pad"):
        raise ValueError(f"uneven is {uneven!r}; expected keep, drop or pad")
    if not 0 <= rank < num_ranks:
        raise ValueError(f"rank {rank} of {num_ranks}; ranks count from 0")
    beyond = len(order) % num_ranks
    repeated = 0
    if beyond and uneven == "drop":
        order = order[: len(order) - beyond]
    elif beyond and uneven == "pad":
        added = np.resize(order, num_ranks - beyond)
        order = np.concatenate([order, added])
        # The added ones are the last of the whole list, at most one of them in each rank.
        repeated = int(rank >= beyond)
    mine = order[rank::num_ranks]
    if not len(mine):
        raise ValueError(f"{len(order)} items leave rank {rank} of {num_ranks} without any; use fewer ranks")
    return Order(items=mine, repeated=repeated)
