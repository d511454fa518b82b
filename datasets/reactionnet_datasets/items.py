"""From windows of clips to tensors: what fills one place of a batch, and what a batch is made of.

Every array of a batch is allocated once, when the first of its items knows the picture's size, and filled in place by as
many threads as there are. Letters: B items, T frames (padded to the longest, `frame_mask` says which count), H, W,
N landmarks, S samples of sound.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from reactionnet_datasets.augment import Augment, View, inner_landmarks
from reactionnet_datasets.buffers import Pool
from reactionnet_datasets.catalog import Catalog
from reactionnet_datasets.pictures import decode
from reactionnet_datasets.records import SOUND_RATE, Parsed, Records, Run, Wanted, check_name
from reactionnet_datasets.rules import Rule
from reactionnet_datasets.shards import BLOCK
from reactionnet_datasets.sound_features import logmel, mfcc
from reactionnet_datasets.storage import ShardError
from reactionnet_datasets.windows import Windows

# Computed from an item's sound; a record holds the sound alone.
SOUND_FEATURES = {"mfcc": mfcc, "logmel": lambda audio_BS, _: logmel(audio_BS)}  # of sound and each window's own length
FIELDS = (
    "frames", "stimulus", "landmarks", "landmarks49", "pose", "boxes", "audio", *SOUND_FEATURES, "caption", "labels", "meta"
)  # fmt: skip
# What a record may lack, and the shape of one frame of it.
_OPTIONAL: dict[str, tuple[int, ...]] = {"landmarks": (68, 2), "pose": (3,), "gaze": (2,), "highlight": ()}
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
        if self.augment_stimulus is not None and self.augment_stimulus.box:
            raise ValueError("boxes are of the reaction: augment_stimulus cannot show one")
        if self.rules and "labels" not in self.fields:
            raise ValueError("labels are named, but not asked for: add 'labels' to fields")
        if not 0 <= self.delay_s < 3600:
            raise ValueError(f"delay_s is {self.delay_s}; expected seconds by which the stimulus is earlier, 0 or more")

    @property
    def sound(self) -> bool:
        """Whether an item's sound is needed."""
        return any(field == "audio" or field in SOUND_FEATURES for field in self.fields)

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
        members |= {"landmarks66"} if "landmarks49" in self.fields else set()
        return Wanted(
            rules=self.rules,
            arrays=tuple(sorted(members)),
            boxes="boxes" in self.fields or bool(self.augment and self.augment.box),
            sound=self.sound,
            captions="caption" in self.fields,
            meta="meta" in self.fields,
        )


class Batch:
    """Arrays of one batch while it is being filled. `lengths` are the frames of each item.

    Pictures come from `pool`; without one they lie in memory that worker processes hand over without a copy.
    """

    def __init__(self, recipe: Recipe, lengths: Sequence[int], length: int | None, pool: Pool | None):
        self.num, self.length = len(lengths), length or max(lengths)
        self._pool = pool
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
        if name not in self.arrays:
            self._allocate(name, view)
        found = self.arrays[name]
        if found.shape[2:4] != (view.out_h, view.out_w):
            raise ValueError(
                f"{name} of {view.out_w} x {view.out_h} pixels in a batch of {found.shape[3]} x {found.shape[2]}: bring "
                f"them to one size by augment{'_stimulus' if name == 'stimulus' else ''}=Augment(resize=..., crop=...)"
            )
        return found

    def _allocate(self, name: str, view: View) -> None:
        with self._lock:
            if name not in self.arrays:
                shape = (self.num, self.length, view.out_h, view.out_w, 3)
                self._tensors[name] = self._pool.empty(shape) if self._pool else _shared(shape)
                if name == "stimulus":
                    self.arrays["stimulus_mask"] = np.zeros((self.num, self.length), bool)
                self.arrays[name] = self._tensors[name].numpy()  # last: others take its presence for all

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

    def fail(self, slot: int, error: ShardError, skip: bool) -> None:
        """Note that an item cannot be had, or raise."""
        if not skip:
            raise error
        self.failed[slot] = error

    def finish(self, recipe: Recipe, *, single: bool) -> dict[str, Any]:
        """What is delivered: tensors, and lists of B for texts. With `single`, of its only item without the B."""
        whole = not self.failed
        keep = [slot for slot in range(self.num) if slot not in self.failed]
        item: dict[str, Any] = {"key": self.keys if whole else [self.keys[slot] for slot in keep]}
        if "stimulus" in self.arrays:
            self.arrays["stimulus"][~self.arrays["stimulus_mask"].any(axis=1)] = 0
        for name, array in self.arrays.items():
            tensor = self._tensors[name] if name in self._tensors else torch.from_numpy(array)
            if not whole:
                tensor = tensor[keep]
            # Pictures stay as they were decoded; the channels-last memory is what convolutions like best.
            item[name] = tensor.permute(0, 1, 4, 2, 3) if name in ("frames", "stimulus") else tensor
        if "stimulus" in recipe.fields and "stimulus" not in item:  # nobody in the batch saw any
            side = recipe.augment_stimulus.crop if recipe.augment_stimulus and recipe.augment_stimulus.crop else 0
            item["stimulus"] = torch.zeros((len(keep), self.length, 3, side, side), dtype=torch.uint8)
            item["stimulus_mask"] = torch.zeros((len(keep), self.length), dtype=torch.bool)
        if "labels" in recipe.fields:
            item["labels"] = {
                name: torch.from_numpy(array if whole else array[keep]) for name, array in self.labels.items()
            }
        if "caption" in recipe.fields:
            item["caption"] = [self.texts[slot] for slot in keep]
        if recipe.sound:
            audio_BS, item["audio_length"] = _padded([self.sounds[slot] for slot in keep])
            if "audio" in recipe.fields:
                item["audio"] = audio_BS
            sounds = {name: compute for name, compute in SOUND_FEATURES.items() if name in recipe.fields}
            item |= {name: compute(audio_BS, item["audio_length"]) for name, compute in sounds.items()}
        if "meta" in recipe.fields:
            item["meta"] = [self.metas[slot] for slot in keep]
        return _only(item) if single else item


def _shared(shape: tuple[int, ...]) -> torch.Tensor:
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


class Piece(NamedTuple):
    """A chunk, places in it, and places in the item: slices, or arrays of as many."""

    parsed: Parsed
    places: Any
    out: Any


class Task(NamedTuple):
    """One item to read: frames `start` to before `end` of a clip, of which `length` are delivered.

    `chunk` holds the first of them, at `place`.
    """

    reader: "Reader"
    clip: int
    start: int
    end: int
    length: int
    chunk: int
    place: int


class _Shown(NamedTuple):
    """Pictures to decode into `out` (T, H, W, 3): `slots` are their frames, in the order of the runs' members."""

    runs: list[Run]
    slots: Sequence[int]
    size: tuple[int, int]
    view: View
    out: np.ndarray


class _Found(NamedTuple):
    """An item of which everything but the pictures is at hand."""

    slot: int
    task: Task
    pieces: list[Piece]
    shown: list[_Shown]
    view: View | None


class Reader:
    """Fills places of batches from one catalog."""

    def __init__(self, catalog: Catalog, windows: Windows, recipe: Recipe):
        self.catalog, self.windows, self.recipe = catalog, windows, recipe
        self.records = Records(catalog, recipe.wanted())
        self._arrays = recipe.arrays
        self._chunk_begin = np.cumsum(catalog.chunk_frames) - catalog.chunk_frames
        self._views: dict[tuple[str, tuple[int, int]], View] = {}
        plain = set(recipe.fields) <= {"frames", "labels"} and not (recipe.augment and recipe.augment.box)
        self._singles = windows.window == 1 and "frames" in recipe.fields and plain

    def tasks(self, items: np.ndarray) -> list[Task]:
        """What is to be read for these items."""
        clips, starts, ends = self.windows.spans(items)
        lengths = self.windows.lengths(starts, ends)
        frames = self._chunk_begin[self.catalog.clip_first[clips]] + starts  # counted over all clips
        chunks = self._chunk_begin.searchsorted(frames, side="right") - 1
        columns = (clips, starts, ends, lengths, chunks, frames - self._chunk_begin[chunks])
        return [Task(self, *row) for row in zip(*(column.tolist() for column in columns), strict=True)]

    def fill(
        self,
        batch: Batch,
        work: Sequence[tuple[int, Task]],
        random: Callable[[int], np.random.Generator],
        *,
        skip: bool,
    ) -> None:
        """Read items into their places (slots) of a batch. `random(slot)` gives an item's own draws.

        Raises ShardError where a record is damaged; with `skip` it is kept in `batch.failed` instead. First all is found
        out about the pictures, then they are decoded in one tight loop, which leaves the processor's caches to the decoder.
        """
        if self._singles:
            self._fill_singles(batch, work, random, skip)
            return
        found: list[_Found] = []
        for slot, task in work:
            try:
                found.append(self._find(batch, slot, task, partial(random, slot)))
            except ShardError as error:
                batch.fail(slot, error, skip)
        for one in found:
            try:
                for show in one.shown:
                    self._decode(show)
                self._fill(batch, one)
            except ShardError as error:
                batch.fail(one.slot, error, skip)

    def _fill_singles(
        self, batch: Batch, work: Sequence[tuple[int, Task]], random: Callable[[int], np.random.Generator], skip: bool
    ) -> None:
        """Items of one frame each, in which all that is not decoding counts most: as `fill`, without its detours."""
        parsed_of, member_of, read = self.records.parsed, self.records.member, self.catalog.storage.read
        augment, rules = self.recipe.augment, self.recipe.rules
        fixed = augment is None or not augment.random
        found = []
        for slot, task in work:
            try:
                parsed = parsed_of(task.chunk)
                found.append((slot, task.place, parsed, member_of(parsed, "reaction", task.place)))
            except ShardError as error:
                batch.fail(slot, error, skip)
        last: tuple[int, int] | None = None
        for slot, _, parsed, (path, start, num_bytes, name) in found:
            try:
                size = parsed.pictures["reaction"].size or self.records.picture_size(
                    parsed, "reaction", path, start, num_bytes, name
                )
                if size != last or not fixed:
                    view, last = self._view("frames", augment, size, partial(random, slot)), size
                    pictures = batch.pictures("frames", view)
                data = memoryview(read(path, start, num_bytes))
                check_name(data, 0, name, path)
                decode(data[BLOCK:], name, size, view, pictures[slot, 0])
                if not fixed:
                    view.recolour(pictures[slot])
            except ShardError as error:
                batch.fail(slot, error, skip)
        slots = [slot for slot, _, _, _ in found]
        batch.arrays["t_s"][slots, 0] = [parsed.t_s[place] for _, place, parsed, _ in found]
        numbers = [parsed.frames.item(place) for _, place, parsed, _ in found]
        batch.arrays["frame"][slots, 0] = numbers
        for number, (slot, place, parsed, _) in zip(numbers, found, strict=True):
            batch.keys[slot] = f"{parsed.stem}-{number:06d}"
            for rule in rules:
                targets, valid = parsed.labels[rule.target]
                at = slot if rule.of_a_clip else (slot, 0)
                batch.labels[rule.target][at] = targets[place]
                batch.labels[f"{rule.target}_mask"][at] = valid[place]

    def _find(self, batch: Batch, slot: int, task: Task, random: Callable[[], np.random.Generator]) -> "_Found":
        """The chunks that an item touches, and its pictures; their places in the batch are allocated."""
        recipe = self.recipe
        frames = None  # all of them
        if task.length < task.end - task.start:
            frames = self.windows.frames(task.start, task.end, random() if recipe.jitter else None)
        pieces = self._pieces(task, frames)
        shown = []
        if "frames" in recipe.fields:
            shown.append(self._show(batch, "frames", "reaction", slot, pieces, recipe.augment, random))
        if "stimulus" in recipe.fields and (earlier := self._earlier_pieces(task.clip, pieces)):
            shown.append(self._show(batch, "stimulus", "stimulus", slot, earlier, recipe.augment_stimulus, random))
            for _, _, out in earlier:
                batch.arrays["stimulus_mask"][slot, out] = True
        view = shown[0].view if "frames" in recipe.fields else None
        return _Found(slot, task, pieces, shown, view)

    def _fill(self, batch: Batch, found: "_Found") -> None:
        """Everything but the pictures."""
        recipe, slot, pieces = self.recipe, found.slot, found.pieces
        first = pieces[0].parsed
        t_s, numbers = batch.arrays["t_s"][slot], batch.arrays["frame"][slot]
        for parsed, places, out in pieces:
            t_s[out] = parsed.t_s[places]
            numbers[out] = parsed.frames[places]
            for rule in recipe.rules:
                targets, valid = parsed.labels[rule.target]
                if not rule.of_a_clip:
                    batch.labels[rule.target][slot, out] = targets[places]
                    batch.labels[f"{rule.target}_mask"][slot, out] = valid[places]
            for name in self._arrays:
                values = self._array(parsed, name)
                batch.array(name, values)[slot, out] = _moved(name, values[places], found.view)
        for rule in recipe.rules:
            if rule.of_a_clip:
                _first_valid(batch, slot, rule, pieces)
        batch.keys[slot] = f"{first.stem}-{int(numbers[0]):06d}"
        if "caption" in recipe.fields:
            batch.texts[slot] = _caption(first, float(t_s[0]))
        if recipe.sound:
            batch.sounds[slot] = self._sound(found.task)
        if "meta" in recipe.fields:
            batch.metas[slot] = {**first.meta, "shard": self.catalog.shards[first.shard].path}

    def _pieces(self, task: Task, frames: np.ndarray | None = None) -> list[Piece]:
        """The chunks that hold an item's frames: all of its span, or those of `frames` (ascending, of the clip)."""
        pieces: list[Piece] = []
        chunk, first, done = task.chunk, task.start - task.place, 0  # `first`: the chunk's first frame in the clip
        while done < (task.end - task.start if frames is None else len(frames)):
            parsed = self.records.parsed(chunk)
            past = first + parsed.num
            if frames is None:
                stop = min(past, task.end) - task.start
                pieces.append(
                    Piece(parsed, slice(task.start + done - first, task.start + stop - first), slice(done, stop))
                )
                done = stop
            elif frames[done] < past:
                stop = int(frames.searchsorted(past))
                pieces.append(Piece(parsed, frames[done:stop] - first, slice(done, stop)))
                done = stop
            chunk, first = chunk + 1, past
        return pieces

    def _show(
        self,
        batch: Batch,
        name: str,
        role: str,
        slot: int,
        pieces: Sequence[Piece],
        augment: Augment | None,
        random: Callable[[], np.random.Generator],
    ) -> "_Shown":
        """Which pictures go where in the batch, all of an item in one view."""
        runs = [run for parsed, places, _ in pieces for run in self.records.runs(parsed, role, places)]
        run = runs[0]
        begin, end, member = run.members[0]
        size = self.records.picture_size(pieces[0].parsed, role, run.path, run.start + begin, end - begin, member)
        boxes_N4 = None
        if augment is not None and augment.box:
            boxes_N4 = np.concatenate([parsed.arrays["boxes"][places] for parsed, places, _ in pieces])
        view = self._view(name, augment, size, random, boxes_N4)
        out = batch.pictures(name, view)[slot]
        slots: Sequence[int]
        if isinstance(pieces[0].out, slice):  # one piece follows the other
            slots = range(pieces[0].out.start, pieces[-1].out.stop)
        else:
            slots = [place for piece in pieces for place in piece.out]
        if len(slots) < len(out):
            blank = np.ones(len(out), bool)
            blank[slots] = False
            out[blank] = 0
        return _Shown(runs, slots, size, view, out)

    def _decode(self, shown: "_Shown") -> None:
        read, size, view, out = self.catalog.storage.read, shown.size, shown.view, shown.out
        slots = iter(shown.slots)
        for path, start, num_bytes, members in shown.runs:
            data = memoryview(read(path, start, num_bytes))
            for begin, end, name in members:
                check_name(data, begin, name, path)
                decode(data[begin + BLOCK : end], name, size, view, out[next(slots)])
        if view.changes_colours:
            seen = out[shown.slots]
            view.recolour(seen)
            out[shown.slots] = seen

    def _view(
        self,
        name: str,
        augment: Augment | None,
        size: tuple[int, int],
        random: Callable[[], np.random.Generator],
        boxes_N4: np.ndarray | None = None,
    ) -> View:
        if augment is not None and augment.random:
            return augment.draw(*size, random(), boxes_N4)
        if augment is not None and augment.box:
            return augment.middle(*size, boxes_N4)
        view = self._views.get((name, size))
        if view is None:
            height, width = size
            whole = View(x=0, y=0, w=width, h=height, out_w=width, out_h=height)
            view = self._views[name, size] = augment.middle(height, width) if augment else whole
        return view

    def _earlier_pieces(self, clip: int, pieces: Sequence[Piece]) -> list[Piece]:
        """Where the stimulus of each frame lies; those before the clip begins, or not stored, are left out."""
        earlier: list[Piece] = []
        for piece, places, out in pieces:
            for at, (parsed, place) in enumerate(self._earlier(clip, piece, places), start=out.start):
                if parsed is None or parsed.pictures["stimulus"].starts[place] < 0:
                    continue
                if not earlier or earlier[-1].parsed is not parsed:
                    earlier.append(Piece(parsed, [], []))
                earlier[-1].places.append(place)
                earlier[-1].out.append(at)
        return earlier

    def _earlier(self, clip: int, parsed: Parsed, places: Any) -> list[tuple[Parsed | None, int]]:
        delay_s = self.recipe.delay_s
        if delay_s == 0:
            return [(parsed, int(place)) for place in np.arange(parsed.num)[places]]
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
        if values is None and name == "landmarks49":
            values = parsed.arrays.get("landmarks66")
        if values is None:
            if member not in _OPTIONAL:
                raise ShardError(f"record {parsed.key} has no {member}.npy; leave {member!r} out of fields")
            values = np.full((parsed.num, *_OPTIONAL[member]), np.nan, np.float32)
        if name == "landmarks49" and values.shape[1] in (66, 68):
            values = inner_landmarks(values)
        if name == "landmarks49" and values.shape[1] != 49:
            raise ShardError(f"record {parsed.key} has {values.shape[1]} landmarks; 49 come from 68, 66 or 49")
        return values

    def _sound(self, task: Task) -> np.ndarray:
        """All sound of a span (S,), float32 in -1 to 1; silence where a record has none in between."""
        parts = self._pieces(task)
        first, last = parts[0][0], parts[-1][0]
        start_s, end_s = first.t_s[parts[0].places][0], last.t_s[parts[-1].places][-1]
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


def _moved(name: str, values: np.ndarray, view: View | None) -> np.ndarray:
    if view is None:
        return values
    if name in ("landmarks", "landmarks49"):
        return view.move_points(values)
    if name == "boxes":
        return view.move_boxes(values)
    return view.move_angles(values) if name in ("pose", "gaze") else values


def _first_valid(batch: Batch, slot: int, rule: Rule, pieces: Sequence[Piece]) -> None:
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
