"""Composing split-screen videos whose panes, faces and times are known exactly, for measuring and for the demo.

One main function: `compose(Composition(...), folder)` writes `<video_id>.mp4` and returns its ground truth record;
`write_truth(records, folder)` then writes `ground_truth.json` and the build manifest `sources.jsonl` beside the videos.
A `Composition` is a canvas with `Placed` clips on it; `arrangements` has the usual ways to place them. A `Clip` is a
list of RGB pictures with the face boxes of each; `known_faces.with_detected_faces` finds those that are not known.

    clip = Clip(name="s01", frames=pictures, fps=25, faces=boxes)
    placed = pip(clip, stimulus, (640, 360), corner="bottom right", share=0.3, border=3)
    record = compose(Composition(video_id="pip_1", layout="pip", size=(640, 360), placed=placed), folder)

The ground truth has the form "reaction-video-ground-truth/1": boxes are x, y, width, height in the upright picture, a
pane is the rectangle of the content without its border, a cut-out pane is the bounding box of where the person is most
of the time. A composition and a folder give the same bytes again.

Letters: H height, W width, C colour (RGB).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from reactionnet_pipeline.drawing.composition import FACE, STIMULUS, Caption, Composition, Placed
from reactionnet_pipeline.drawing.sound import SAMPLE_RATE, sound
from reactionnet_pipeline.records import Box

SAMPLING_HZ = 5  # truth samples of the faces a second
TRUTH, MANIFEST = "ground_truth.json", "sources.jsonl"
TRUTH_HEAD = {
    "schema": "reaction-video-ground-truth/1",
    "coordinates": "pixels of the shown (upright) picture; origin top left; boxes are [x, y, w, h]; start, end and t "
    "are seconds; frame counts decoded frames from 0",
    "face_boxes": "sampled about 5 times a second, known before composition and moved by the known crop and scale; "
    "visible_fraction is the share neither hidden by later panes nor cut off",
    "expected": "ok: the panes and the subject are to be found; reject: the file is to be refused, with the reason",
}


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
        self.rims: dict[int, np.ndarray] = {}

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

    def _rim(self, number: int) -> np.ndarray:
        """Opacity of a pane with its border."""
        if number not in self.rims:
            pane = self.composition.placed[number]
            outline = _outline(pane, pane.border)
            self.rims[number] = _full(pane, pane.border) if outline is None else outline
        return self.rims[number]

    def draw(self, canvas: np.ndarray, number: int, time_s: float) -> None:
        pane = self.composition.placed[number]
        if pane.shadow:
            spread = pane.shadow * 2
            shade = np.pad(self._rim(number), spread)
            shade = cv2.GaussianBlur(shade, (0, 0), pane.shadow) // 2
            offset = pane.border + spread - pane.shadow // 2
            _blend(canvas, np.zeros(3, np.uint8), shade, pane.x - offset, pane.y - offset)
        if pane.border:
            rim = self._rim(number)
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
    assert pane.clip.masks is not None, f"{pane.clip.name} has no masks to be cut out with"
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
