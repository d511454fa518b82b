"""What travels between the stages: small frozen records of ids, times, boxes and paths, never pixels.

Coordinates are pixels of the upright picture (rotation tag applied), origin top left; boxes are x, y, width, height.
Times are seconds from the start of the file as a player shows it. Frames count decoded pictures from 0.
"""

from dataclasses import dataclass
from itertools import pairwise

STIMULUS, REACTION = "stimulus", "reaction"


@dataclass(frozen=True, kw_only=True)
class Box:
    """An axis-parallel rectangle; face boxes follow MTCNN's convention (facenet-pytorch)."""

    x: float
    y: float
    w: float
    h: float

    @property
    def centre(self) -> tuple[float, float]:
        return self.x + self.w / 2, self.y + self.h / 2

    def intersection(self, other: "Box") -> float:
        """Shared area in square pixels."""
        w = min(self.x + self.w, other.x + other.w) - max(self.x, other.x)
        h = min(self.y + self.h, other.y + other.h) - max(self.y, other.y)
        return max(w, 0.0) * max(h, 0.0)

    def iou(self, other: "Box") -> float:
        """Intersection over union, 0 to 1."""
        shared = self.intersection(other)
        union = self.w * self.h + other.w * other.h - shared
        return shared / union if union > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class Face:
    """One detected face. `points` are the two eyes, the nose and the mouth corners, as MTCNN gives them."""

    box: Box
    score: float
    points: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Pane:
    """A rectangle of the picture that shows one thing for a span of time.

    `shape` is rect, round (the rectangle is the bounding box) or cutout (a person without a pane edge). `z` orders
    overlapping panes: a pane hides those with a smaller z.
    """

    role: str
    x: int
    y: int
    w: int
    h: int
    start_s: float
    end_s: float
    confidence: float
    shape: str = "rect"
    z: int = 0

    @property
    def box(self) -> Box:
        return Box(x=self.x, y=self.y, w=self.w, h=self.h)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """All panes of a video over its whole length; spans with the same set of panes follow one another.

    `origin` is "detected", "manifest" or "override".
    """

    panes: tuple[Pane, ...]
    origin: str = "detected"

    def spans(self) -> list[tuple[float, float, tuple[Pane, ...]]]:
        """(start_s, end_s, panes) in time order; a pane belongs to every span that it covers."""
        times = sorted({t for pane in self.panes for t in (pane.start_s, pane.end_s)})
        spans = []
        for start, end in pairwise(times):
            panes = tuple(pane for pane in self.panes if pane.start_s <= start and pane.end_s >= end)
            if panes:
                spans.append((start, end, panes))
        return spans


@dataclass(frozen=True, kw_only=True)
class Source:
    """One admitted manifest row, as the stages need it. `uri` is absolute; the row's other fields stay on file."""

    video_id: str
    line: int
    uri: str
    split: str
    sha256: str | None = None
    subject_ids: tuple[str, ...] = ()
    start_s: float | None = None
    end_s: float | None = None
    layout: Layout | None = None  # drawn by hand


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """A source that lies on this machine and has been probed. `probe` is the file of its `VideoInfo`."""

    source: Source
    path: str
    sha256: str
    probe: str


@dataclass(frozen=True, kw_only=True)
class LaidOut:
    """A source with its layout and, if it has one, its sound track resampled (a file, see `sound`)."""

    ingested: Ingested
    layout: str
    sound: str | None


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of one layout span: frames `first` to `stop - 1` are written, a second more on each side is decoded."""

    laid_out: LaidOut
    span: int
    number: int
    first: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class SegmentPart:
    """What one decoded segment left on file: an Arrow table of faces, and the blob that holds the JPEGs."""

    laid_out: LaidOut
    span: int
    number: int
    first: int
    stop: int
    table: str
    blob: str
    lost: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class VideoDone:
    """A source that was built; `summary` is a JSON file with its layout, subjects and counts for tables and report."""

    video_id: str
    split: str
    summary: str
