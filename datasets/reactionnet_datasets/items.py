"""From windows of clips to tensors: what fills one place of a batch, and what a batch is made of.

Every array of a batch is allocated once, when the first of its items knows the picture's size, and filled in place by as
many threads as there are. Letters: B items, T frames (padded to the longest, `frame_mask` says which count), H, W,
N landmarks, S samples of sound.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from reactionnet_datasets.augment import Augment, View, inner_landmarks
from reactionnet_datasets.catalog import Catalog
from reactionnet_datasets.pictures import decode, picture_size
from reactionnet_datasets.records import SOUND_RATE, Parsed, Records, Wanted
from reactionnet_datasets.rules import Rule
from reactionnet_datasets.storage import ShardError
from reactionnet_datasets.windows import Windows

FIELDS = ("frames", "stimulus", "landmarks", "landmarks49", "pose", "boxes", "audio", "caption", "labels", "meta")
# What a record may lack, and the shape of one frame of it.
_OPTIONAL = {"landmarks": (68, 2), "pose": (3,)}
_CAPTION_ORDER = ("human", "beam", "nucleus")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What an item holds."""

    fields: tuple[str, ...] = ("frames", "labels")
    rules: tuple[Rule, ...] = ()
    augment: Augment | None = None
    augment_stimulus: Augment | None = None
    delay_s: float = 0.0
    jitter: bool = False

    def __post_init__(self) -> None:
        if len(set(self.fields)) != len(self.fields):
            raise ValueError(f"fields {self.fields} name one twice")
        if self.rules and "labels" not in self.fields:
            raise ValueError("labels are named, but not asked for: add 'labels' to fields")
        if not 0 <= self.delay_s < 3600:
            raise ValueError(f"delay_s is {self.delay_s}; expected seconds by which the stimulus is earlier, 0 or more")

    @property
    def streams(self) -> tuple[str, ...]:
        """Feature streams by name: fields that are none of ours."""
        return tuple(field for field in self.fields if field not in FIELDS)

    @property
    def arrays(self) -> tuple[str, ...]:
        """Arrays of a frame each to deliver, as items call them."""
        return tuple(f for f in self.fields if f in ("landmarks", "landmarks49", "pose", "boxes")) + self.streams

    def wanted(self) -> Wanted:
        """Which members of a record that takes."""
        members = {"landmarks" if name == "landmarks49" else name for name in self.arrays if name != "boxes"}
        return Wanted(
            rules=self.rules,
            arrays=tuple(sorted(members)),
            boxes="boxes" in self.fields,
            sound="audio" in self.fields,
            captions="caption" in self.fields,
            meta="meta" in self.fields,
        )


class Batch:
    """Arrays of one batch while it is being filled. `lengths` are the frames of each item.

    `shared` puts pictures into memory that worker processes hand over without a copy.
    """

    def __init__(self, recipe: Recipe, lengths: Sequence[int], length: int | None, *, shared: bool = False):
        self.num, self.length = len(lengths), length or max(lengths)
        self._shared = shared
        self._lock = threading.Lock()
        self.arrays: dict[str, np.ndarray] = {}
        self._tensors: dict[str, torch.Tensor] = {}
        places = np.arange(self.length)
        self.arrays["frame_mask"] = places < np.array(lengths)[:, None]
        self.arrays["t_s"] = np.full((self.num, self.length), np.nan)
        self.arrays["frame"] = np.full((self.num, self.length), -1, np.int64)
        self.labels: dict[str, np.ndarray] = {}
        for rule in recipe.rules:
            shape = (self.num,) if rule.of_a_clip else (self.num, self.length)
            targets, valid = rule.missing(int(np.prod(shape)))
            self.labels[rule.target] = targets.reshape(*shape, *targets.shape[1:])
            self.labels[f"{rule.target}_mask"] = valid.reshape(shape)
        self.keys: list[str] = [""] * self.num
        self.texts: list[str] = [""] * self.num
        self.sounds: list[np.ndarray] = [np.zeros(0, np.float32)] * self.num
        self.metas: list[dict[str, Any]] = [{} for _ in range(self.num)]
        self.failed: dict[int, ShardError] = {}

    def pictures(self, name: str, view: View) -> np.ndarray:
        """(B, T, H, W, 3), allocated by the first who asks. ValueError where another size was asked for before."""
        with self._lock:
            if name not in self.arrays:
                shape = (self.num, self.length, view.out_h, view.out_w, 3)
                self._tensors[name] = _empty(shape, self._shared)
                self.arrays[name] = self._tensors[name].numpy()
                if name == "stimulus":
                    self.arrays["stimulus_mask"] = np.zeros((self.num, self.length), bool)
        found = self.arrays[name]
        if found.shape[2:4] != (view.out_h, view.out_w):
            raise ValueError(
                f"{name} of {view.out_w} x {view.out_h} pixels in a batch of {found.shape[3]} x {found.shape[2]}: bring "
                f"them to one size by augment{'_stimulus' if name == 'stimulus' else ''}=Augment(resize=..., crop=...)"
            )
        return found

    def array(self, name: str, like: np.ndarray) -> np.ndarray:
        """(B, T, ...) of NaN (0 for whole numbers), allocated by the first who asks."""
        with self._lock:
            if name not in self.arrays:
                shape = (self.num, self.length, *like.shape[1:])
                empty = np.nan if like.dtype.kind == "f" else 0
                self.arrays[name] = np.full(shape, empty, like.dtype)
        found = self.arrays[name]
        if found.shape[2:] != like.shape[1:]:
            raise ValueError(f"{name} has {like.shape[1:]} a frame, others of its batch {found.shape[2:]}")
        return found

    def finish(self, recipe: Recipe, *, single: bool) -> dict[str, Any]:
        """What is delivered: tensors, and lists of B for texts. With `single`, of its only item without the B."""
        keep = [slot for slot in range(self.num) if slot not in self.failed]
        item: dict[str, Any] = {"key": [self.keys[slot] for slot in keep]}
        if "stimulus" in self.arrays:
            self.arrays["stimulus"][~self.arrays["stimulus_mask"].any(axis=1)] = 0
        for name, array in self.arrays.items():
            tensor = self._tensors[name] if name in self._tensors else torch.from_numpy(array)
            if len(keep) < self.num:
                tensor = tensor[keep]
            # Pictures stay as they were decoded; the channels-last memory is what convolutions like best.
            item[name] = tensor.permute(0, 1, 4, 2, 3) if name in ("frames", "stimulus") else tensor
        if "stimulus" in recipe.fields and "stimulus" not in item:  # nobody in the batch saw any
            side = recipe.augment_stimulus.crop if recipe.augment_stimulus and recipe.augment_stimulus.crop else 0
            item["stimulus"] = torch.zeros((len(keep), self.length, 3, side, side), dtype=torch.uint8)
            item["stimulus_mask"] = torch.zeros((len(keep), self.length), dtype=torch.bool)
        if "labels" in recipe.fields:
            item["labels"] = {name: torch.from_numpy(array[keep]) for name, array in self.labels.items()}
        if "caption" in recipe.fields:
            item["caption"] = [self.texts[slot] for slot in keep]
        if "audio" in recipe.fields:
            item["audio"], item["audio_length"] = _padded([self.sounds[slot] for slot in keep])
        if "meta" in recipe.fields:
            item["meta"] = [self.metas[slot] for slot in keep]
        return _only(item) if single else item


def _empty(shape: tuple[int, ...], shared: bool) -> torch.Tensor:
    if not shared:
        return torch.empty(shape, dtype=torch.uint8)
    storage = torch.UntypedStorage._new_shared(int(np.prod(shape)))
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)  # type: ignore[call-overload]


def _padded(sounds: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(sound) for sound in sounds])
    padded = torch.zeros((len(sounds), max((len(sound) for sound in sounds), default=0)), dtype=torch.float32)
    for row, sound in zip(padded, sounds, strict=True):
        row[: len(sound)] = torch.from_numpy(sound)
    return padded, lengths


def _only(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _only(value) if isinstance(value, dict) else value[0] for name, value in item.items()}


class Reader:
    """Fills places of batches from one catalog."""

    def __init__(self, catalog: Catalog, windows: Windows, recipe: Recipe):
        self.catalog, self.windows, self.recipe = catalog, windows, recipe
        self.records = Records(catalog, recipe.wanted())

    def length(self, item: int) -> int:
        """Frames of an item."""
        _, start, end = self.windows.span(item)
        return min(end - start, self.windows.num_frames or end - start)

    def fill(self, batch: Batch, slot: int, item: int, random: Callable[[], np.random.Generator]) -> None:
        """Read one item into a place of a batch. ShardError where a record is damaged."""
        recipe, catalog = self.recipe, self.catalog
        clip, start, end = self.windows.span(item)
        jitter = random() if recipe.jitter and self.windows.num_frames else None
        frames = self.windows.frames(start, end, jitter)
        pieces = list(self._pieces(clip, frames))
        view: View | None = None
        if "frames" in recipe.fields:
            view = self._decode(batch, "frames", "reaction", slot, pieces, recipe.augment, random)
        if "stimulus" in recipe.fields:
            self._stimulus(batch, slot, clip, pieces, random)
        first = pieces[0][0]
        for parsed, places, out in pieces:
            batch.arrays["t_s"][slot, out] = parsed.t_s[places]
            batch.arrays["frame"][slot, out] = parsed.frames[places]
            for rule in recipe.rules:
                targets, valid = parsed.labels[rule.target]
                if not rule.of_a_clip:
                    batch.labels[rule.target][slot, out] = targets[places]
                    batch.labels[f"{rule.target}_mask"][slot, out] = valid[places]
            for name in recipe.arrays:
                values = self._array(parsed, name)
                batch.array(name, values)[slot, out] = _moved(name, values[places], view)
        for rule in recipe.rules:
            if rule.of_a_clip:
                _first_valid(batch, slot, rule, pieces)
        number = int(first.frames[pieces[0][1]][0])
        batch.keys[slot] = f"{first.key.rpartition('-')[0]}-{number:06d}"
        if "caption" in recipe.fields:
            batch.texts[slot] = _caption(first, float(batch.arrays["t_s"][slot, 0]))
        if "audio" in recipe.fields:
            batch.sounds[slot] = self._sound(clip, start, end)
        if "meta" in recipe.fields:
            batch.metas[slot] = {**first.meta, "shard": catalog.shards[first.shard].path}

    def _pieces(self, clip: int, frames: np.ndarray) -> list[tuple[Parsed, Any, slice]]:
        """The chunks that hold these frames of a clip: chunk, places within it, places within the item."""
        low, high = int(self.catalog.clip_first[clip]), int(self.catalog.clip_first[clip + 1])
        if high - low == 1:
            return [(self.records.parsed(low), frames, slice(0, len(frames)))]
        firsts = self.catalog.chunk_place[low:high]
        pieces = []
        cuts = [*np.searchsorted(frames, firsts).tolist(), len(frames)]
        for chunk, (begin, end) in enumerate(pairwise(cuts)):
            if end > begin:
                places = frames[begin:end] - firsts[chunk]
                pieces.append((self.records.parsed(low + chunk), places, slice(begin, end)))
        return pieces

    def _decode(
        self,
        batch: Batch,
        name: str,
        role: str,
        slot: int,
        pieces: Sequence[tuple[Parsed, Any, slice | Sequence[int]]],
        augment: Augment | None,
        random: Callable[[], np.random.Generator],
    ) -> View:
        """Decode the pictures of all pieces into the batch, all in one view."""
        size: tuple[int, int] | None = None
        out: np.ndarray | None = None
        for parsed, places, where in pieces:
            slots = range(where.start, where.stop) if isinstance(where, slice) else where
            for (data, member), at in zip(self.records.pictures(parsed, role, places), slots, strict=True):
                if size is None or out is None:
                    size = picture_size(data, member)
                    view = _view(augment, size, random)
                    out = batch.pictures(name, view)[slot]
                    if sum(len(places) for _, places, _ in pieces) < len(out):
                        out[~_filled(out, pieces)] = 0
                decode(data, member, size, view, out[at])
        assert out is not None
        if view.changes_colours:
            filled = _filled(out, pieces)
            seen = out[filled]
            view.recolour(seen)
            out[filled] = seen
        return view

    def _stimulus(
        self, batch: Batch, slot: int, clip: int, pieces: Sequence[tuple[Parsed, Any, slice]], random: Any
    ) -> None:
        """What was watched `delay_s` before each frame; masked before the clip begins and where nothing was stored."""
        wanted = [
            (parsed, int(place), at)
            for piece, places, out in pieces
            for at, (parsed, place) in enumerate(self._earlier(clip, piece, places), start=out.start)
            if parsed is not None and parsed.pictures["stimulus"].row[place] >= 0
        ]
        if not wanted:
            return
        grouped: list[tuple[Parsed, list[int], list[int]]] = []
        for parsed, place, at in wanted:
            if grouped and grouped[-1][0] is parsed:
                grouped[-1][1].append(place)
                grouped[-1][2].append(at)
            else:
                grouped.append((parsed, [place], [at]))
        self._decode(batch, "stimulus", "stimulus", slot, grouped, self.recipe.augment_stimulus, random)
        batch.arrays["stimulus_mask"][slot, [at for _, _, at in wanted]] = True

    def _earlier(self, clip: int, parsed: Parsed, places: Any) -> list[tuple[Parsed | None, int]]:
        delay_s = self.recipe.delay_s
        if delay_s == 0:
            return [(parsed, int(place)) for place in places]
        times = parsed.t_s[places] - delay_s
        chunks = [parsed]
        while chunks[0].t_s[0] > times[0] and chunks[0].chunk > self.catalog.clip_first[clip]:
            chunks.insert(0, self.records.parsed(chunks[0].chunk - 1))
        t_s = np.concatenate([chunk.t_s for chunk in chunks])
        owner = np.repeat(np.arange(len(chunks)), [chunk.num for chunk in chunks])
        place = np.concatenate([np.arange(chunk.num) for chunk in chunks])
        half = np.median(np.diff(t_s)) / 2 + 1e-6 if len(t_s) > 1 else 0.0
        after = np.clip(np.searchsorted(t_s, times), 1, max(len(t_s) - 1, 1))
        nearest = np.where(times - t_s[after - 1] <= t_s[np.minimum(after, len(t_s) - 1)] - times, after - 1, after)
        nearest = np.minimum(nearest, len(t_s) - 1)
        return [
            (chunks[owner[at]], int(place[at])) if time >= t_s[0] - half else (None, 0)
            for at, time in zip(nearest, times, strict=True)
        ]

    def _array(self, parsed: Parsed, name: str) -> np.ndarray:
        member = "landmarks" if name == "landmarks49" else name
        values = parsed.arrays.get(member)
        if values is None:
            if member not in _OPTIONAL:
                raise ShardError(f"record {parsed.key} has no {member}.npy; leave {member!r} out of fields")
            values = np.full((parsed.num, *_OPTIONAL[member]), np.nan, np.float32)
        if name == "landmarks49" and values.shape[1] == 68:
            values = inner_landmarks(values)
        if name == "landmarks49" and values.shape[1] != 49:
            raise ShardError(f"record {parsed.key} has {values.shape[1]} landmarks; 49 come from 68 or 49")
        return values

    def _sound(self, clip: int, start: int, end: int) -> np.ndarray:
        """All sound of a span (S,), float32 in -1 to 1; silence where a record has none in between."""
        parts = self._pieces(clip, np.arange(start, end))
        first, last = parts[0][0], parts[-1][0]
        start_s, end_s = first.t_s[parts[0][1][0]], last.t_s[parts[-1][1][-1]]
        begun = np.concatenate([parsed.t_s[places] for parsed, places, _ in parts])
        end_s += float(np.median(np.diff(begun))) if len(begun) > 1 else _frame_s(first)
        sound = np.zeros(round((end_s - start_s) * SOUND_RATE), np.float32)
        heard = 0
        for parsed, _, _ in parts:
            if parsed.sound is None:
                continue
            offset = round((parsed.sound_start_s - start_s) * SOUND_RATE)
            samples = parsed.sound[max(-offset, 0) : max(len(sound) - offset, 0)]
            at = max(offset, 0)
            sound[at : at + len(samples)] = samples.astype(np.float32) / 32768
            heard += len(samples)
        return sound if heard else sound[:0]


def _frame_s(parsed: Parsed) -> float:
    """How long one frame lasts, seconds."""
    return float(np.median(np.diff(parsed.t_s))) if parsed.num > 1 else 0.0


def _view(augment: Augment | None, size: tuple[int, int], random: Callable[[], np.random.Generator]) -> View:
    height, width = size
    if augment is None:
        return View(x=0, y=0, w=width, h=height, out_w=width, out_h=height)
    return augment.draw(height, width, random() if augment.random else _NEVER_ASKED)


_NEVER_ASKED = np.random.default_rng(0)  # stands where nothing is drawn


def _filled(out: np.ndarray, pieces: Sequence[tuple[Any, Any, Any]]) -> np.ndarray:
    """Which frames get a picture; the others are blank, and their mask is false."""
    filled = np.zeros(len(out), bool)
    for _, _, where in pieces:
        filled[where] = True
    return filled


def _moved(name: str, values: np.ndarray, view: View | None) -> np.ndarray:
    if view is None:
        return values
    if name in ("landmarks", "landmarks49"):
        return view.move_points(values)
    if name == "boxes":
        return view.move_boxes(values)
    return view.move_pose(values) if name == "pose" else values


def _first_valid(batch: Batch, slot: int, rule: Rule, pieces: Sequence[tuple[Parsed, Any, slice]]) -> None:
    """A clip-wide target: stored once, or a frame each, of which the first valid one counts."""
    for parsed, places, _ in pieces:
        targets, valid = parsed.labels[rule.target]
        chosen = np.flatnonzero(valid[places])
        if len(chosen):
            batch.labels[rule.target][slot] = targets[places][chosen[0]]
            batch.labels[f"{rule.target}_mask"][slot] = True
            return


def _caption(parsed: Parsed, t_s: float) -> str:
    """What a human wrote before what a model said; of several the one nearest in time. Empty where there is none."""
    order = {decoding: number for number, decoding in enumerate(_CAPTION_ORDER)}
    ranked = sorted(
        parsed.captions,
        key=lambda row: (order.get(row.get("decoding", ""), len(order)), abs((row.get("t_s") or 0.0) - t_s)),
    )
    return str(ranked[0].get("text", "")) if ranked else ""
