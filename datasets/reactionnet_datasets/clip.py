"""What an importer hands over: a clip of one person, its labels, and where its pictures lie in the release.

A `Clip` holds references and numbers, never pixels, and has one JSON line (`to_line`, `from_line`), so that clips may
wait on disk and travel to other processes. Letters: T frames, N points.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from reactionnet_datasets.sample import MASKS, Label


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of the release: `path` relative to its root with "/", `member` inside where the file is a zip archive."""

    path: str
    size: int
    mtime_ns: int = 0
    member: str | None = None

    @property
    def name(self) -> str:
        """As tables and messages call it."""
        return f"{self.path}!{self.member}" if self.member else self.path


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """One picture file a frame, copied as it is; null where it is missing: such frames are left out (`present`)."""

    files: Sequence[File | None]


@dataclass(frozen=True, kw_only=True)
class Video:
    """Frames of a video. `places` are the decoded pictures wanted, counted from 0 in the order shown, one a frame.

    `crop` is x, y, w, h in the stored picture; `turn` are degrees clockwise, applied after the crop.
    """

    file: File
    places: Sequence[int]
    crop: Sequence[int] | None = None
    turn: int = 0


@dataclass(frozen=True, kw_only=True)
class GreyPixels:
    """Pictures that the release spells as numbers: base64 of width x height bytes each, stored as PNG."""

    file: File
    width: int
    height: int
    pixels: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class NoPictures:
    """A release of features alone: `num` frames without a picture, which `file` tells of."""

    file: File
    num: int


Media = Pictures | Video | GreyPixels | NoPictures


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """A feature stream given in full: nested lists, first axis T; null where a frame has none."""

    values: Sequence[Any]


@dataclass(frozen=True, kw_only=True)
class ArrayFiles:
    """A feature stream of one small file a frame: .npy, or .mat with `variable`; null where a frame has none."""

    files: Sequence[File | None]
    variable: str | None = None
    shape: Sequence[int] = ()  # of one frame: what a frame without a file is filled with NaN to


Stream = Numbers | ArrayFiles


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One person in one video, or one still picture, as the release has it.

    `frames` are numbers as the labels count them, ascending; gaps are allowed, and unless `cut_at_gaps` is off each run
    becomes a clip of its own in the shards. `splits` maps a task (`all`, `au`, ...) to train, val or test; `folds` a
    published protocol to the part that the subject belongs to. Landmarks named `landmarks` are the 68 of iBUG; other
    schemes are streams of another name (`landmarks66`). `boxes` are x, y, w, h a frame. `sound` is resampled to 16 kHz.
    """

    video: str
    frames: Sequence[int]
    media: Media
    subject: str | None = None
    track: str = "0"
    fps: float | None = None
    first_frame_number: int = 0  # the number at time 0
    t_s: Sequence[float] | None = None
    labels: Mapping[str, Label] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)
    folds: Mapping[str, int] = field(default_factory=dict)
    boxes: Sequence[Sequence[float]] | None = None
    streams: Mapping[str, Stream] = field(default_factory=dict)
    stimulus: Media | None = None
    stimulus_facts: Mapping[str, Any] | None = None
    captions: Sequence[Mapping[str, Any]] = ()
    sound: File | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    cut_at_gaps: bool = True

    def __post_init__(self) -> None:
        frames = list(self.frames)
        if not frames or any(b <= a for a, b in pairwise(frames)):
            raise ValueError(f"{self.video}: frame numbers are not ascending: {frames[:10]}...")
        for name, label in self.labels.items():
            if not isinstance(label.mask, str) and len(label.mask) != len(frames):
                raise ValueError(f"{self.video}: {len(label.mask)} values of {name} for {len(frames)} frames")
        for media in (self.media, self.stimulus):
            if media is not None and num_pictures(media) != len(frames):
                raise ValueError(f"{self.video}: {num_pictures(media)} pictures for {len(frames)} frames")
        for split in self.splits.values():
            if split not in ("train", "val", "test"):
                raise ValueError(f"{self.video}: split {split!r}; expected train, val or test")


def num_pictures(media: Media) -> int:
    """Pictures that a clip's media has, one a frame."""
    match media:
        case Pictures():
            return len(media.files)
        case Video():
            return len(media.places)
        case GreyPixels():
            return len(media.pixels)
        case NoPictures():
            return media.num


def files_of(media: Media) -> list[File]:
    """The files behind a clip's pictures, one a frame, or the one that has them all."""
    return [file for file in media.files if file] if isinstance(media, Pictures) else [media.file]


def source_of(media: Media, place: int) -> str:
    """The file that a frame's picture came from, relative to the release."""
    file = media.files[place] if isinstance(media, Pictures) else media.file
    if file is None:
        raise ValueError(f"frame {place} has no picture")
    return file.name


def present(clip: Clip) -> Clip | None:
    """The clip without the frames whose picture is missing; None where it has no others."""
    places = [
        place
        for place in range(len(clip.frames))
        if all(not isinstance(media, Pictures) or media.files[place] for media in (clip.media, clip.stimulus))
    ]
    if len(places) == len(clip.frames):
        return clip
    return select(clip, places) if places else None


def select(clip: Clip, places: Sequence[int]) -> Clip:
    """The clip with the frames at these places alone."""

    def pick(values):
        return None if values is None else [values[place] for place in places]

    return replace(
        clip,
        frames=pick(clip.frames),
        media=_picked(clip.media, pick),
        stimulus=None if clip.stimulus is None else _picked(clip.stimulus, pick),
        t_s=pick(clip.t_s),
        boxes=pick(clip.boxes),
        labels={name: label_at(label, places) for name, label in clip.labels.items()},
        streams={
            name: replace(stream, values=pick(stream.values))
            if isinstance(stream, Numbers)
            else replace(stream, files=pick(stream.files))
            for name, stream in clip.streams.items()
        },
    )


def _picked(media: Media, pick: Callable[[Sequence], list]) -> Media:
    match media:
        case Pictures():
            return replace(media, files=pick(media.files))
        case Video():
            return replace(media, places=pick(media.places))
        case GreyPixels():
            return replace(media, pixels=pick(media.pixels))
        case NoPictures():
            return replace(media, num=len(pick(range(media.num))))


def label_at(label: Label, places: Sequence[int]) -> Label:
    """A label of each frame, for the frames at these places; a label of the whole clip as it is."""
    if isinstance(label.mask, str):
        return label
    raw = [label.raw[place] for place in places] if label.raw is not None else None
    raw = raw if raw is not None and any(code is not None for code in raw) else None
    values, masks = [label.value[place] for place in places], [label.mask[place] for place in places]
    return Label(space=label.space, value=values, mask=masks, raw=raw, rule=label.rule)


def per_frame(space: str, values: Iterable[Any], masks: Iterable[str] | None = None, raw: Sequence | None = None):
    """A label of each frame. Without `masks`, null is `not_annotated` and everything else valid.

    `raw` are native codes; they are kept where they say more than the value does, that is under a mask.
    """
    values = list(values)
    given = ["not_annotated" if value is None else "valid" for value in values] if masks is None else list(masks)
    kept = None
    if raw is not None and any(mask != "valid" for mask in given):
        kept = [code if mask != "valid" else None for code, mask in zip(raw, given, strict=True)]
        kept = kept if any(code is not None for code in kept) else None
    return Label(space=space, value=values, mask=given, raw=kept)


def one(space: str, value: Any, mask: str | None = None, raw: Any = None) -> Label:
    """A label of a whole clip or still. Null is `not_annotated` unless a mask says otherwise."""
    return Label(space=space, value=value, mask=mask or ("not_annotated" if value is None else "valid"), raw=raw)


_KINDS: dict[str, type] = {
    kind.__name__: kind for kind in (Pictures, Video, GreyPixels, NoPictures, Numbers, ArrayFiles)
}
_SHORT = {mask: number for number, mask in enumerate(MASKS)}


def to_line(clip: Clip) -> str:
    """The clip as one line of JSON: equal clips, equal lines."""
    content = {name: getattr(clip, name) for name in Clip.__dataclass_fields__}
    content["media"], content["stimulus"] = _plain(clip.media), _plain(clip.stimulus)
    content["streams"] = {name: _plain(stream) for name, stream in clip.streams.items()}
    content["sound"] = vars(clip.sound) if clip.sound else None
    content["labels"] = {name: _plain_label(label) for name, label in clip.labels.items()}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_number)


def from_line(line: str) -> Clip:
    """The inverse of `to_line`."""
    content = json.loads(line)
    content["media"], content["stimulus"] = _full(content["media"]), _full(content["stimulus"])
    content["streams"] = {name: _full(stream) for name, stream in content["streams"].items()}
    content["sound"] = File(**content["sound"]) if content["sound"] else None
    content["labels"] = {name: _full_label(label) for name, label in content["labels"].items()}
    return Clip(**content)


def _number(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()  # a NumPy scalar
    if isinstance(value, range):
        return list(value)
    raise TypeError(f"{type(value).__name__} {value!r} has no JSON form")


def _plain(thing: Any) -> Any:
    if thing is None:
        return None
    content = {"kind": type(thing).__name__, **vars(thing)}  # `asdict` would copy every number
    if "files" in content:
        content["files"] = [vars(file) if file else None for file in thing.files]
    if "file" in content:
        content["file"] = vars(thing.file)
    return content


def _full(content: Any) -> Any:
    if content is None:
        return None
    kind = _KINDS[content.pop("kind")]
    if "files" in content:
        content["files"] = [File(**file) if file else None for file in content["files"]]
    if "file" in content:
        content["file"] = File(**content["file"])
    return kind(**content)


def _plain_label(label: Label) -> dict[str, Any]:
    # words a frame would make most of a line
    mask = label.mask if isinstance(label.mask, str) else [_SHORT[word] for word in label.mask]
    return {"space": label.space, "value": label.value, "mask": mask, "raw": label.raw, "rule": label.rule}


def _full_label(content: dict[str, Any]) -> Label:
    mask = content.pop("mask")
    return Label(mask=mask if isinstance(mask, str) else [MASKS[number] for number in mask], **content)
