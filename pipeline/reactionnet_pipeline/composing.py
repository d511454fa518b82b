"""Composing split-screen videos whose panes, faces and times are known exactly, for measuring and for the demo.

One main function: `compose(Composition(...), folder)` writes `<video_id>.mp4` and returns its ground truth record;
`write_truth(records, folder)` then writes `ground_truth.json` and the build manifest `sources.jsonl` beside the videos.
A `Composition` is a canvas with `Placed` clips on it; `side_by_side`, `pip`, `top_bottom`, `grid`, `inset` and
`layout_change` place clips in the usual ways. A `Clip` is a list of RGB pictures, played forwards and backwards, with
the face boxes of each picture; `with_detected_faces` finds those in clips whose boxes are not known.

    clip = Clip(name="s01", frames=pictures, fps=25, faces=boxes)
    placed = pip(clip, stimulus, (640, 360), corner="bottom right", share=0.3, border=3)
    record = compose(Composition(video_id="pip_1", layout="pip", size=(640, 360), placed=placed), folder)

The ground truth has the form "reaction-video-ground-truth/1": boxes are x, y, width, height in the upright picture, a
pane is the rectangle of the content without its border, a cut-out pane is the bounding box of where the person is most
of the time. A composition and a folder give the same bytes again.

Letters: T frames, H height, W width, C colour (RGB), N sound samples.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from reactionnet_pipeline.records import Box

SAMPLE_RATE = 44_100
SAMPLING_HZ = 5  # truth samples of the faces a second
FACE, STIMULUS = "face", "stimulus"
TRUTH, MANIFEST = "ground_truth.json", "sources.jsonl"
TRUTH_HEAD = {
    "schema": "reaction-video-ground-truth/1",
    "coordinates": "pixels of the shown (upright) picture; origin top left; boxes are [x, y, w, h]; start, end and t "
    "are seconds; frame counts decoded frames from 0",
    "face_boxes": "sampled about 5 times a second, known before composition and moved by the known crop and scale; "
    "visible_fraction is the share neither hidden by later panes nor cut off",
    "expected": "ok: the panes and the subject are to be found; reject: the file is to be refused, with the reason",
}


@dataclass(frozen=True, kw_only=True)
class KnownFace:
    """A face in a picture of a clip: whose it is, and its box in MTCNN's convention."""

    subject_id: str
    box: Box
    score: float = 1.0
    source: str = "drawn"


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Pictures of one size, (H, W, 3) uint8 RGB, with the faces in each; `masks` (H, W) of 0-255 show the person."""

    name: str  # subject or stimulus id
    frames: Sequence[np.ndarray]
    fps: float = 25.0
    faces: Sequence[Sequence[KnownFace]] = ()  # one entry a frame, or none at all
    masks: Sequence[np.ndarray] | None = None
    scene: str = "self-made video"
    sub_scene: str = "drawing"

    @property
    def subject_ids(self) -> list[str]:
        return sorted({face.subject_id for faces in self.faces for face in faces})

    def index_at(self, time_s: float) -> int:
        """Which picture is shown: forwards, then backwards, so that motion never jumps."""
        last = len(self.frames) - 1
        step = int(time_s * self.fps + 1e-6)
        return 0 if last == 0 else last - abs(last - step % (2 * last))


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A clip in a rectangle of the canvas for a span of time; later ones in the list hide earlier ones.

    `shape`: rect, rounded (rect with round corners), round (an ellipse) or cutout (only where the clip's mask is).
    `focus` is the point of the clip (as shares of its size) that stays in view when it is cropped, `zoom` >= 1 crops.
    """

    clip: Clip
    role: str  # FACE or STIMULUS
    x: int
    y: int
    w: int
    h: int
    start_s: float = 0.0
    end_s: float | None = None
    shape: str = "rect"
    border: int = 0  # pixels around the pane, outside of it
    border_rgb: tuple[int, int, int] = (255, 255, 255)
    shadow: int = 0  # softness in pixels
    zoom: float = 1.0
    focus: tuple[float, float] = (0.5, 0.45)
    clip_start_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Caption:
    """Text over everything: a title, a line of subtitles, a channel's logo. `height` is that of the letters."""

    text: str
    x: int
    y: int  # of the base line
    height: int = 18
    rgb: tuple[int, int, int] = (255, 255, 255)
    start_s: float = 0.0
    end_s: float = 1e9
    plate_rgb: tuple[int, int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Composition:
    """Everything about one video. `expected` is "ok" or a plain reason for refusal, such as no_stimulus."""

    video_id: str
    layout: str  # side_by_side, pip, top_bottom, multi_reactor, inset_background, layout_change, full_face
    placed: Sequence[Placed]
    size: tuple[int, int] = (640, 360)
    duration_s: float = 5.0
    fps: int = 25
    background: np.ndarray | None = None  # (H, W, 3), black without
    captions: Sequence[Caption] = ()
    timeline: Sequence[tuple[float, float, str]] = ()  # where the layout changes
    noise: float = 0.0  # standard deviation, grey levels
    crf: int = 23
    bit_rate: int | None = None  # bits a second, instead of crf
    variable_rate: bool = False
    frozen: bool = False  # the first picture all the time
    rotation: int = 0  # degrees clockwise that a player turns the stored picture: 0, 90, 180, 270
    sound: str | None = "speech"  # speech, tones, noise, or None for no track
    expected: str = "ok"
    description: str = ""
    flags: Sequence[str] = ()
    seed: int = 0

    def end_of(self, pane: Placed) -> float:
        return self.duration_s if pane.end_s is None else pane.end_s


# Placing clips ------------------------------------------------------------------------------------------------------


def side_by_side(
    left: Clip, right: Clip, size, *, stimulus="left", share=0.5, gap=0, margin=0, top=0, **look
) -> list[Placed]:
    """Two panes of one height; `share` is the left one's part of the width, `margin` and `top` leave a rim."""
    width, height = size
    inner = width - 2 * margin - gap
    left_w = _even(inner * share)
    first = {"x": margin, "y": margin + top, "w": left_w, "h": height - 2 * margin - 2 * top}
    second = {**first, "x": margin + left_w + gap, "w": inner - left_w}
    roles = (STIMULUS, FACE) if stimulus == "left" else (FACE, STIMULUS)
    return [
        Placed(clip=clip, role=role, **place, **look)
        for clip, role, place in zip((left, right), roles, (first, second), strict=True)
    ]


def top_bottom(top: Clip, bottom: Clip, size, *, stimulus="top", share=0.5, gap=0, **look) -> list[Placed]:
    """Two panes of the whole width; `share` is the upper one's part of the height."""
    width, height = size
    top_h = _even((height - gap) * share)
    roles = (STIMULUS, FACE) if stimulus == "top" else (FACE, STIMULUS)
    return [
        Placed(clip=top, role=roles[0], x=0, y=0, w=width, h=top_h, **look),
        Placed(clip=bottom, role=roles[1], x=0, y=top_h + gap, w=width, h=height - gap - top_h, **look),
    ]


def pip(
    face: Clip, stimulus: Clip, size, *, corner="bottom right", share=0.28, aspect=4 / 3, margin=10, **look
) -> list[Placed]:
    """A stimulus that fills the canvas and a face camera of `share` of the width in a corner ("top left", ...)."""
    width, height = size
    w = _even(width * share)
    h = _even(w / aspect)
    x = margin if "left" in corner else width - margin - w
    y = margin if "top" in corner else height - margin - h
    return [
        Placed(clip=stimulus, role=STIMULUS, x=0, y=0, w=width, h=height),
        Placed(clip=face, role=FACE, x=x, y=y, w=w, h=h, **look),
    ]


def cutout(face: Clip, stimulus: Clip, size, *, share=0.4, right=True) -> list[Placed]:
    """The reactor without her room in a lower corner of the stimulus; `share` is of the canvas height."""
    width, height = size
    clip_h, clip_w = face.frames[0].shape[:2]
    h = _even(height * share)
    w = _even(h * clip_w / clip_h)
    return [
        Placed(clip=stimulus, role=STIMULUS, x=0, y=0, w=width, h=height),
        Placed(clip=face, role=FACE, x=width - w if right else 0, y=height - h, w=w, h=h, shape="cutout"),
    ]


def grid(faces: Sequence[Clip], stimulus: Clip, size, *, columns=2, gap=0, **look) -> list[Placed]:
    """Equal cells in rows, the stimulus in the first one."""
    width, height = size
    rows = -(-(len(faces) + 1) // columns)
    w, h = _even((width - gap * (columns + 1)) / columns), _even((height - gap * (rows + 1)) / rows)
    return [
        Placed(
            clip=clip,
            role=FACE if cell else STIMULUS,
            x=gap + cell % columns * (w + gap),
            y=gap + cell // columns * (h + gap),
            w=w,
            h=h,
            **look,
        )
        for cell, clip in enumerate((stimulus, *faces))
    ]


def inset(faces: Sequence[Clip], stimulus: Clip, size, *, right=True, **look) -> list[Placed]:
    """Stimulus and a column of face cameras (one or two) with a rim around them, for a decorated background."""
    width, height = size
    wide_w, wide_h = _even(width * 0.6), _even(width * 0.6 * 9 / 16)
    face_w = _even(width * 0.29)
    face_h = _even(min(face_w * 0.75, (height * 0.86) / len(faces) - 12))
    rim = (width - wide_w - face_w) // 3
    wide_x, face_x = (rim, 2 * rim + wide_w) if right else (2 * rim + face_w, rim)
    top = (height - (face_h + 12) * len(faces) + 12) // 2 + height // 20
    return [
        Placed(clip=stimulus, role=STIMULUS, x=wide_x, y=_even(height * 0.21), w=wide_w, h=wide_h, **look),
        *(
            Placed(clip=face, role=FACE, x=face_x, y=_even(top + n * (face_h + 12)), w=face_w, h=face_h, **look)
            for n, face in enumerate(faces)
        ),
    ]


def layout_change(intro: Clip, split: Sequence[Placed], size, *, start_s: float, end_s: float) -> list[Placed]:
    """The reactor alone, then `split` from `start_s` to `end_s`, then alone again (see `Composition.timeline`)."""
    full = Placed(clip=intro, role=FACE, x=0, y=0, w=size[0], h=size[1])
    return [
        replace(full, end_s=start_s),
        *(replace(pane, start_s=start_s, end_s=end_s) for pane in split),
        replace(full, start_s=end_s),
    ]


def _even(value: float) -> int:
    return round(value / 2) * 2


def decorated(size: tuple[int, int], seed: int) -> np.ndarray:
    """A background as channels have it: two colours run into one another, with dots and stripes."""
    rng = np.random.default_rng(seed)
    width, height = size
    corners = rng.integers(10, 190, (2, 2, 3)).astype(np.float32)
    picture = cv2.resize(corners, size, interpolation=cv2.INTER_LINEAR)
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    stripe = [int(level) for level in rng.integers(20, 200, 3)]
    for y in range(0, 2 * height, max(height // 6, 8)):
        cv2.line(picture, (0, y), (width, y - height // 10), stripe, 1, cv2.LINE_AA)
    for x, y, radius in rng.integers(0, [width, height, 6], (70, 3)):
        cv2.circle(picture, (int(x), int(y)), int(radius), [int(c) for c in rng.integers(60, 255, 3)], -1, cv2.LINE_AA)
    return picture


# Faces of clips whose boxes are not known ---------------------------------------------------------------------------


def with_detected_faces(clip: Clip, subject_ids: Sequence[str], every: int = 3, min_score: float = 0.7) -> Clip:
    """Find the faces with MTCNN in each `every`-th picture and interpolate between; persons are told by their place.

    `subject_ids` names the persons from left to right. Raises ValueError where a person is nowhere found.
    """
    from reactionnet_pipeline.detector import detect_faces

    count, smallest = len(subject_ids), max(20, round(min(clip.frames[0].shape[:2]) * 0.12))
    indexes = sorted({*range(0, len(clip.frames), every), len(clip.frames) - 1})
    known: list[dict[int, tuple[Box, float]]] = [{} for _ in subject_ids]
    for index in indexes:
        found = detect_faces(clip.frames[index], min_face_px=smallest, min_score=min_score)[:count]
        if len(found) == count:
            for person, face in enumerate(sorted(found, key=lambda face: face.box.centre)):
                known[person][index] = (face.box, face.score)
    if not all(known):
        raise ValueError(f"{clip.name}: not one of {len(indexes)} pictures shows {count} faces that MTCNN finds")
    faces = zip(
        *(_interpolated(subject, seen, len(clip.frames)) for subject, seen in zip(subject_ids, known, strict=True)),
        strict=True,
    )
    return replace(clip, faces=list(faces))


def _interpolated(subject_id: str, seen: dict[int, tuple[Box, float]], count: int) -> Iterator[KnownFace]:
    at = sorted(seen)
    boxes = np.array([(box.x, box.y, box.w, box.h) for box, _ in (seen[index] for index in at)])
    for index in range(count):
        x, y, w, h = (float(np.interp(index, at, boxes[:, side])) for side in range(4))
        box = Box(x=x, y=y, w=w, h=h)
        score, source = (seen[index][1], "mtcnn") if index in seen else (1.0, "interpolated")
        yield KnownFace(subject_id=subject_id, box=box, score=score, source=source)


# Pictures -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Crop:
    """The part of a clip's picture that a pane shows."""

    x: int
    y: int
    w: int
    h: int


def _crop(pane: Placed) -> _Crop:
    height, width = pane.clip.frames[0].shape[:2]
    scale = min(width / pane.w, height / pane.h) / pane.zoom
    w, h = min(width, round(pane.w * scale)), min(height, round(pane.h * scale))
    x = round(np.clip(pane.focus[0] * width - w / 2, 0, width - w))
    y = round(np.clip(pane.focus[1] * height - h / 2, 0, height - h))
    return _Crop(x, y, w, h)


def _cut(picture: np.ndarray, crop: _Crop, pane: Placed) -> np.ndarray:
    part = picture[crop.y : crop.y + crop.h, crop.x : crop.x + crop.w]
    kernel = cv2.INTER_AREA if pane.w < crop.w else cv2.INTER_LINEAR
    return part if part.shape[:2] == (pane.h, pane.w) else cv2.resize(part, (pane.w, pane.h), interpolation=kernel)


def _outline(pane: Placed, grow: int = 0) -> np.ndarray | None:
    """Opacity (H, W) 0-255 of a pane's shape with `grow` pixels around it; None where all of it is opaque."""
    w, h = pane.w + 2 * grow, pane.h + 2 * grow
    mask = np.zeros((h, w), np.uint8)
    if pane.shape == "round":
        # half-pixel centres: fixed-point coordinates with 4 fractional bits
        centre, axes = (round((w - 1) * 8), round((h - 1) * 8)), (round((w - 1) * 8), round((h - 1) * 8))
        return cv2.ellipse(mask, centre, axes, 0, 0, 360, 255, -1, cv2.LINE_AA, 4)
    if pane.shape == "rounded":
        radius = min(w, h) // 8
        cv2.rectangle(mask, (radius, 0), (w - 1 - radius, h - 1), 255, -1)
        cv2.rectangle(mask, (0, radius), (w - 1, h - 1 - radius), 255, -1)
        for x in (radius, w - 1 - radius):
            for y in (radius, h - 1 - radius):
                cv2.circle(mask, (x, y), radius, 255, -1, cv2.LINE_AA)
        return mask
    return None


def _blend(canvas: np.ndarray, picture: np.ndarray, mask: np.ndarray | None, x: int, y: int) -> None:
    """Put a picture (or one colour) on the canvas, in place; parts outside of the canvas are left out."""
    h, w = picture.shape[:2] if mask is None else mask.shape
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, canvas.shape[1]), min(y + h, canvas.shape[0])
    if left >= right or top >= bottom:
        return
    inside = slice(top - y, bottom - y), slice(left - x, right - x)
    part = picture[inside] if picture.ndim == 3 else np.broadcast_to(picture, (bottom - top, right - left, 3))
    under = canvas[top:bottom, left:right]
    if mask is None:
        under[:] = part
    else:
        alpha = mask[inside][..., None].astype(np.uint16)
        under[:] = ((part * alpha + under * (255 - alpha) + 127) // 255).astype(np.uint8)


class _Panes:
    """Crops and outlines of a composition's panes, worked out once."""

    def __init__(self, composition: Composition):
        self.composition = composition
        self.crops = [_crop(pane) for pane in composition.placed]
        self.outlines = [_outline(pane) for pane in composition.placed]
        self.rims = [_outline(pane, pane.border) for pane in composition.placed]

    def shown(self, time_s: float) -> list[int]:
        at = time_s + 1e-6
        panes = self.composition.placed
        return [n for n, pane in enumerate(panes) if pane.start_s <= at < self.composition.end_of(pane)]

    def index(self, number: int, time_s: float) -> int:
        """Which picture of its clip a pane shows."""
        pane = self.composition.placed[number]
        return pane.clip.index_at(0.0 if self.composition.frozen else time_s + pane.clip_start_s)

    def mask(self, number: int, time_s: float) -> np.ndarray | None:
        pane = self.composition.placed[number]
        if pane.shape != "cutout":
            return self.outlines[number]
        assert pane.clip.masks is not None, f"{pane.clip.name} has no masks to be cut out with"
        return _cut(pane.clip.masks[self.index(number, time_s)], self.crops[number], pane)

    def draw(self, canvas: np.ndarray, number: int, time_s: float) -> None:
        pane = self.composition.placed[number]
        if pane.shadow:
            spread = pane.shadow * 2
            shade = np.pad(self.rims[number] if self.rims[number] is not None else _full(pane, pane.border), spread)
            shade = cv2.GaussianBlur(shade, (0, 0), pane.shadow) // 2
            offset = pane.border + spread - pane.shadow // 2
            _blend(canvas, np.zeros(3, np.uint8), shade, pane.x - offset, pane.y - offset)
        if pane.border:
            rim = self.rims[number] if self.rims[number] is not None else _full(pane, pane.border)
            _blend(canvas, np.array(pane.border_rgb, np.uint8), rim, pane.x - pane.border, pane.y - pane.border)
        picture = _cut(pane.clip.frames[self.index(number, time_s)], self.crops[number], pane)
        _blend(canvas, picture, self.mask(number, time_s), pane.x, pane.y)

    def faces(self, time_s: float) -> list[dict]:
        """The truth about all faces shown at a time."""
        numbers, found = self.shown(time_s), []
        for number in numbers:
            pane, crop = self.composition.placed[number], self.crops[number]
            if not pane.clip.faces:
                continue
            sx, sy = pane.w / crop.w, pane.h / crop.h
            for face in pane.clip.faces[self.index(number, time_s)]:
                x, y = pane.x + (face.box.x - crop.x) * sx, pane.y + (face.box.y - crop.y) * sy
                box = Box(x=x, y=y, w=face.box.w * sx, h=face.box.h * sy)
                visible = self._visible(box, number, [n for n in numbers if n > number], time_s)
                found.append(
                    {
                        "pane_id": f"p{number}",
                        "role": "reactor" if pane.role == FACE else "stimulus",
                        "subject_id": face.subject_id,
                        "box": [round(value, 1) for value in (box.x, box.y, box.w, box.h)],
                        "score": round(face.score, 4),
                        "source": face.source,
                        "visible_fraction": round(visible, 2),
                    }
                )
        return found

    def _visible(self, box: Box, number: int, later: Iterable[int], time_s: float) -> float:
        """Share of a face box inside of its pane's shape and the canvas, and not under later panes."""
        width, height = self.composition.size
        seen = np.zeros((height, width, 3), np.uint8)
        for pane, level in ((number, 255), *((n, 0) for n in later)):
            place, mask = self.composition.placed[pane], self.mask(pane, time_s)
            if place.shape == "cutout" and level:
                mask = None  # the face is the person: what the mask leaves out is not hers
            _blend(seen, np.full(3, level, np.uint8), _full(place) if mask is None else mask, place.x, place.y)
        left, top, right, bottom = (round(value) for value in (box.x, box.y, box.x + box.w, box.y + box.h))
        area = max(right - left, 1) * max(bottom - top, 1)
        return float((seen[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0), 0] > 127).sum()) / area


def _full(pane: Placed, grow: int = 0) -> np.ndarray:
    return np.full((pane.h + 2 * grow, pane.w + 2 * grow), 255, np.uint8)


def pictures(composition: Composition) -> Iterator[tuple[int, np.ndarray]]:
    """(tick, upright picture (H, W, 3) RGB) in display order; ticks are 1 / fps apart where the rate is constant."""
    panes, rng = _Panes(composition), np.random.default_rng(composition.seed)
    width, height = composition.size
    ground = np.zeros((height, width, 3), np.uint8) if composition.background is None else composition.background
    grain = rng.normal(0, composition.noise, (height + 64, width + 64, 1)).astype(np.int16)
    for tick in ticks(composition):
        time_s, canvas = tick / composition.fps, ground.copy()
        for number in panes.shown(time_s):
            panes.draw(canvas, number, time_s)
        for caption in composition.captions:
            if caption.start_s <= time_s < caption.end_s:
                _write_caption(canvas, caption)
        if composition.noise and not composition.frozen:
            y, x = rng.integers(0, 64, 2)  # one grain, moved about: much cheaper than new noise
            canvas = np.clip(canvas + grain[y : y + height, x : x + width], 0, 255).astype(np.uint8)
        yield tick, canvas


def ticks(composition: Composition) -> list[int]:
    """Times of the frames in units of 1 / fps: all of them, or about two thirds where the rate varies."""
    every = list(range(round(composition.duration_s * composition.fps)))
    if not composition.variable_rate:
        return every
    rng = np.random.default_rng(composition.seed + 1)
    return [tick for tick in every if tick in (0, every[-1]) or rng.random() < 0.65]


def _write_caption(canvas: np.ndarray, caption: Caption) -> None:
    scale = caption.height / 22
    weight = max(1, round(scale * 1.6))
    (w, h), base = cv2.getTextSize(caption.text, cv2.FONT_HERSHEY_DUPLEX, scale, weight)
    if caption.plate_rgb is not None:
        corner, opposite = (caption.x - 6, caption.y - h - 6), (caption.x + w + 6, caption.y + base + 4)
        cv2.rectangle(canvas, corner, opposite, caption.plate_rgb, -1)
    at = caption.x, caption.y
    cv2.putText(canvas, caption.text, at, cv2.FONT_HERSHEY_DUPLEX, scale, caption.rgb, weight, cv2.LINE_AA)


# Sound --------------------------------------------------------------------------------------------------------------


def sound(kind: str, duration_s: float, seed: int) -> np.ndarray:
    """Stereo float32 (2, N), -1 to 1: "tones", "noise", or "speech" (a voice of made-up syllables over tones)."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
    notes = 220 * 2 ** (rng.integers(0, 24, int(duration_s * 2) + 2) / 12)
    pitch = notes[(t * 2).astype(int)]
    music = 0.12 * np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE) * np.exp(-3 * (t * 2 % 1))
    if kind == "tones":
        return np.stack([music, music]).astype(np.float32)
    hiss = rng.normal(0, 0.05, len(t))
    if kind == "noise":
        return np.stack([hiss, np.roll(hiss, 7)]).astype(np.float32)
    if kind != "speech":
        raise ValueError(f'sound "{kind}": known are speech, tones and noise')
    voice_hz = rng.uniform(95, 210) * (1 + 0.08 * np.sin(2 * np.pi * 0.7 * t))
    phase = 2 * np.pi * np.cumsum(voice_hz) / SAMPLE_RATE
    syllable = (t * 4.5).astype(int)  # syllables a second
    vowels = rng.uniform([300, 900], [800, 2300], (syllable[-1] + 1, 2))[syllable]
    speaking = (rng.random(syllable[-1] + 1) < 0.7)[syllable] * np.sin(np.pi * (t * 4.5 % 1)) ** 2
    voice = np.zeros_like(t)
    for harmonic in range(1, 22):
        hz = harmonic * voice_hz
        voice += np.exp(-(((hz[:, None] - vowels) / 160) ** 2)).sum(axis=1) * np.sin(harmonic * phase)
    voice = 0.18 * speaking * voice + 0.01 * speaking * hiss
    return np.clip(np.stack([music * 0.5 + voice, music * 0.6 + voice]), -1, 1).astype(np.float32)


# Files --------------------------------------------------------------------------------------------------------------


def compose(composition: Composition, folder: Path) -> dict:
    """Write `<video_id>.mp4` into `folder` and return its ground truth record."""
    width, height = composition.size
    if width % 2 or height % 2:
        raise ValueError(f"{composition.video_id}: {width}x{height} pixels, but H.264 needs even sides")
    path = folder / f"{composition.video_id}.mp4"
    _encode(path, composition)
    if composition.rotation:
        _tag_rotation(path, composition.rotation)
    panes = _Panes(composition)
    samples, due_s = [], 0.0
    for frame, tick in enumerate(ticks(composition)):
        if (time_s := tick / composition.fps) >= due_s - 1e-9:
            samples.append({"frame": frame, "t": round(time_s, 4), "faces": panes.faces(time_s)})
            due_s = max(due_s + 1 / SAMPLING_HZ, time_s)
    return _record(composition, path, samples)


def _encode(path: Path, composition: Composition) -> None:
    turns = composition.rotation // 90  # counter-clockwise here, so that the player's turn puts it upright
    width, height = composition.size if turns % 2 == 0 else composition.size[::-1]
    with av.open(str(path), "w", options={"movflags": "+faststart", "fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=composition.fps)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.time_base = video.codec_context.time_base = Fraction(1, composition.fps)
        video.codec_context.thread_count = 1
        video.options = {"preset": "superfast", "flags": "+bitexact"}
        if composition.bit_rate:
            video.bit_rate = composition.bit_rate
        else:
            video.options = {**video.options, "crf": str(composition.crf)}
        if composition.sound:
            audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="stereo")
            audio.options = {"flags": "+bitexact", "aac_coder": "fast"}
        for tick, picture in pictures(composition):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(picture, turns)), format="rgb24")
            frame.pts = tick
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if composition.sound:
            samples = sound(composition.sound, composition.duration_s, composition.seed)
            for start in range(0, samples.shape[1], 1024):
                piece = np.ascontiguousarray(samples[:, start : start + 1024])
                block = av.AudioFrame.from_ndarray(piece, format="fltp", layout="stereo")
                block.sample_rate, block.pts, block.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
                container.mux(audio.encode(block))
            container.mux(audio.encode())


def _tag_rotation(path: Path, degrees: int) -> None:
    """Set the display matrix in the video track's header (ISO 14496-12, 8.3.2): the first `tkhd` box, version 0."""
    content = bytearray(path.read_bytes())
    head = content.index(b"tkhd") + 4
    assert content[head] == 0, "a version 1 track header"
    one = 1 << 16
    a, b = {90: (0, one), 180: (-one, 0), 270: (0, -one)}[degrees]
    matrix = (a, b, 0, -b, a, 0, 0, 0, 1 << 30)
    content[head + 40 : head + 76] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(content)


def _record(composition: Composition, path: Path, samples: list[dict]) -> dict:
    stimuli = [pane.clip for pane in composition.placed if pane.role == STIMULUS]
    subjects = list(dict.fromkeys(s for pane in composition.placed if pane.role == FACE for s in pane.clip.subject_ids))
    timeline = composition.timeline or [(0, composition.duration_s, composition.layout)]
    content = path.read_bytes()
    return {
        "video_id": composition.video_id,
        "file": path.name,
        "layout_class": composition.layout,
        "description": composition.description,
        "expected": "ok" if composition.expected == "ok" else "reject",
        "expected_failure_reason": None if composition.expected == "ok" else composition.expected,
        "flags": list(composition.flags),
        "width": composition.size[0],
        "height": composition.size[1],
        "fps": composition.fps,
        "frames": len(ticks(composition)),
        "duration": composition.duration_s,
        "has_audio": composition.sound is not None,
        "stimulus_id": stimuli[0].name if stimuli else None,
        "stimulus_scene": stimuli[0].scene if stimuli else None,
        "sub_scene": stimuli[0].sub_scene if stimuli else None,
        "subject_ids": subjects,
        "major_subject_id": subjects[0] if subjects else None,
        "layout_timeline": [{"start": start, "end": end, "layout": layout} for start, end, layout in timeline],
        "panes": [_pane_record(composition, number) for number in range(len(composition.placed))],
        "face_boxes": samples,
        "face_box_sampling_hz": SAMPLING_HZ,
        "rotation_tag": composition.rotation,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _pane_record(composition: Composition, number: int) -> dict:
    pane = composition.placed[number]
    x, y, w, h = _person(pane) if pane.shape == "cutout" else (pane.x, pane.y, pane.w, pane.h)
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + w, composition.size[0]), min(y + h, composition.size[1])
    shows = {"subject_ids": pane.clip.subject_ids} if pane.role == FACE else {"stimulus_id": pane.clip.name}
    return {
        "pane_id": f"p{number}",
        "role": pane.role,
        **{"x": left, "y": top, "w": right - left, "h": bottom - top},
        "start": pane.start_s,
        "end": composition.end_of(pane),
        "z": number,
        "shape": "rect" if pane.shape == "rounded" else pane.shape,
        **shows,
    }


def _person(pane: Placed) -> tuple[int, int, int, int]:
    """Bounding box, on the canvas, of the pixels that show the person in at least half of the pictures."""
    crop = _crop(pane)
    often = np.mean([_cut(mask, crop, pane) > 127 for mask in pane.clip.masks], axis=0) >= 0.5
    x, y, w, h = cv2.boundingRect(often.astype(np.uint8))
    return pane.x + x, pane.y + y, w, h


def write_truth(records: Sequence[dict], folder: Path) -> None:
    """`ground_truth.json` and `sources.jsonl` beside the videos, the latter as the build reads it."""
    stimuli = {
        record["stimulus_id"]: {"scene": record["stimulus_scene"], "sub_scene": record["sub_scene"]}
        for record in records
        if record["stimulus_id"]
    }
    truth = {**TRUTH_HEAD, "stimuli": stimuli, "videos": list(records)}
    (folder / TRUTH).write_text(json.dumps(truth, indent=1) + "\n")
    lines = [json.dumps(_manifest_row(record), sort_keys=True) + "\n" for record in records]
    (folder / MANIFEST).write_text("".join(lines))


def _manifest_row(record: dict) -> dict:
    return {
        "video_id": record["video_id"],
        "uri": record["file"],
        "source_title": record["description"] or record["video_id"],
        "license": "CC0-1.0",
        "creator": "reactionnet-demo",
        **{key: record[key] for key in ("stimulus_scene", "sub_scene", "stimulus_id", "subject_ids", "duration")},
        "sha256": record["sha256"],
    }
