"""What a composed video is made of: clips, where they are placed, captions, and how all of it is recorded.

Coordinates are pixels of the upright picture. Letters: H height, W width, C colour (RGB).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reactionnet_pipeline.records import Box

FACE, STIMULUS = "face", "stimulus"  # roles, in the words of the ground truth


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
        """Who is seen, from the left, as manifests name several people."""
        places: dict[str, list[float]] = {}
        for face in (face for faces in self.faces for face in faces):
            places.setdefault(face.subject_id, []).append(face.box.centre[0])
        return sorted(places, key=lambda subject: (sum(places[subject]) / len(places[subject]), subject))

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
