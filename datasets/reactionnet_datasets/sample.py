"""What one record of a shard holds: the contract between what writes shards and what reads them, version 1.

A record is a **chunk**: at most 128 consecutive frames of one clip (one frame for a still image). Its members, in tar
order, where KEY is the chunk's key and NNN the place of a frame in the chunk:

    KEY.json               ids, times, boxes, captions, labels, licence and provenance (`Chunk`)
    KEY.landmarks.npy      float32 (T, 68, 2), pixels of the reaction picture
    KEY.pose.npy           float32 (T, 3), yaw, pitch, roll in degrees
    KEY.gaze.npy           float32 (T, 2), yaw, pitch of the eyes in the head in degrees; NaN through a blink
    KEY.highlight.npy      float32 (T,), how strongly the face reacts (built data)
    KEY.<stream>.npy       any further feature stream, first axis T or stated in the json
    KEY.audio.flac         16 kHz mono, from `audio.start_s`
    KEY.NNN.reaction.jpg   one aligned face picture a frame (png and others where a data set ships them)
    KEY.NNN.stimulus.jpg   one picture a frame of what is being watched, where it is known

All reaction pictures come before all stimulus pictures, so that a window of either is one contiguous read.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SCHEMA = "reactionnet-1"
CHUNK_FRAMES = 128
# A USTAR name has 100 bytes; the longest suffix of a member, ".127.reaction.jpeg", leaves 82.
MAX_KEY = 80
MAX_ESCAPED_ID = 64

MASKS = ("valid", "not_annotated", "uncodable", "invalid_code", "withheld", "rule_gave_none")

_UNCLEAN = re.compile(rb"[^A-Za-z0-9-]")
_KEY = re.compile(r"[A-Za-z0-9_-]+")


def escape(text: str) -> str:
    """Spell any text with `[A-Za-z0-9_-]` alone: other bytes become `_xx`, `_` itself `_5f`. One to one.

    WebDataset splits a member's name at its first dot, so a dot in a key would merge all samples of a video.
    """
    return _UNCLEAN.sub(lambda byte: b"_%02x" % ord(byte[0]), text.encode()).decode()


def unescape(text: str) -> str:
    """The inverse of `escape`. ValueError where the text was not made by it."""
    try:
        plain = re.sub(rb"_(..?)", lambda m: bytes([int(m[1], 16)]), text.encode("ascii")).decode()
    except (ValueError, UnicodeError):
        plain = None
    if plain is None or escape(plain) != text:
        raise ValueError(f"{text!r} is not an escaped name: expected letters, digits, '-' and '_xx'")
    return plain


def make_key(video_id: str, track: str, first_frame: int) -> str:
    """`{video}-{track}-{first_frame:06d}`. Without the subject, which a curator may change."""
    key = f"{escape(video_id)}-{escape(track)}-{first_frame:06d}"
    if len(key) > MAX_KEY:
        raise ValueError(f"key {key!r} has {len(key)} characters; at most {MAX_KEY} fit a tar header")
    return key


def is_key(text: str) -> bool:
    """Whether a text can be the key of a record."""
    return bool(_KEY.fullmatch(text)) and len(text) <= MAX_KEY


@dataclass(frozen=True, kw_only=True)
class Label:
    """A value in its native form, and why it is missing where it is.

    `space` names a label space (`au_occ`, `expression8`, `scene`, ...). `value` is null under a mask, never 0. For a
    label of each frame, `value`, `mask` and `raw` are lists of one entry a frame. `rule` names what derived the value;
    null for a value as released.
    """

    space: str
    value: Any
    mask: str | Sequence[str] = "valid"
    raw: Any = None
    rule: str | None = None

    def __post_init__(self) -> None:
        masks = [self.mask] if isinstance(self.mask, str) else list(self.mask)
        values = [self.value] if isinstance(self.mask, str) else list(self.value)
        if len(masks) != len(values):
            raise ValueError(f"label in {self.space}: {len(values)} values but {len(masks)} masks")
        for value, mask in zip(values, masks, strict=True):
            if mask not in MASKS:
                raise ValueError(f"label in {self.space}: mask {mask!r}; expected one of {', '.join(MASKS)}")
            if (value is None) != (mask != "valid"):
                raise ValueError(f"label in {self.space}: value {value!r} with mask {mask!r}; masked values are null")


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """The json member. Lists have one entry a frame; rectangles are x, y, w, h in pixels of the upright picture.

    `crop` maps picture to reaction-picture pixels, two rows of three numbers flattened. `track` tells people of one
    video apart; `major` says how the clip's subject was chosen. `audio.start_s` is the time of its first sample; a
    window's sound is everything that was heard then, not the subject's alone.
    """

    key: str
    dataset: str
    video_id: str
    clip_id: str
    subject_id: str | None
    track: str
    frames: Sequence[int]
    t_s: Sequence[float]
    clip_first_frame: int
    clip_num_frames: int
    splits: Mapping[str, str] = field(default_factory=dict)
    folds: Mapping[str, int] = field(default_factory=dict)
    fps: float | None = None
    face_boxes: Sequence[Sequence[float]] | None = None
    face_sources: Sequence[str] | None = None
    crop: Sequence[Sequence[float]] | None = None
    panes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    cuts: Mapping[str, Sequence[int]] = field(default_factory=dict)
    audio: Mapping[str, Any] | None = None
    major: Mapping[str, Any] | None = None
    stimulus: Mapping[str, Any] | None = None
    captions: Sequence[Mapping[str, Any]] = field(default_factory=list)
    labels: Mapping[str, Label] = field(default_factory=dict)
    license: str | None = None
    credit: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not is_key(self.key):
            raise ValueError(f"{self.key!r} is no key: expected 1 to {MAX_KEY} of [A-Za-z0-9_-]")
        if not 1 <= len(self.frames) <= CHUNK_FRAMES:
            raise ValueError(f"{self.key}: {len(self.frames)} frames; a chunk holds 1 to {CHUNK_FRAMES}")
        for name in ("t_s", "face_boxes", "face_sources", "crop"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.frames):
                raise ValueError(f"{self.key}: {len(values)} {name} for {len(self.frames)} frames")

    def to_json(self) -> bytes:
        """Canonical bytes: sorted keys, no spaces, no NaN."""
        labels = {name: vars(label) for name, label in self.labels.items()}  # `asdict` would copy every number
        return canonical_json({"schema": SCHEMA, **vars(self), "labels": labels})

    @classmethod
    def from_json(cls, data: bytes) -> "Chunk":
        """Read back what `to_json` wrote. ValueError for another schema."""
        content = json.loads(data)
        schema = content.pop("schema", None)
        if schema != SCHEMA:
            raise ValueError(f"record has schema {schema!r}; this version reads {SCHEMA!r}")
        labels = {name: Label(**label) for name, label in content.pop("labels").items()}
        return cls(labels=labels, **content)


def canonical_json(content: Any) -> bytes:
    """One spelling for one content, so that equal contents have equal bytes. ValueError for NaN or infinity."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def chunk_spans(num_frames: int) -> Iterator[tuple[int, int]]:
    """(first, past the last) of each chunk of a clip: 128 frames each, the rest in the last."""
    for part in range(math.ceil(num_frames / CHUNK_FRAMES)):
        yield part * CHUNK_FRAMES, min((part + 1) * CHUNK_FRAMES, num_frames)


def picture_suffix(place: int, role: str, extension: str = "jpg") -> str:
    """Suffix of a picture member: `picture_suffix(7, "reaction")` is `007.reaction.jpg`."""
    return f"{place:03d}.{role}.{extension}"
