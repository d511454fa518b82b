"""What travels between the stages: small frozen records of ids, times, boxes and paths, never pixels.

Coordinates are pixels of the upright picture (rotation tag applied), origin top left; boxes are x, y, width, height.
Times are seconds from the start of the file as a player shows it. Frames count decoded pictures from 0.
"""

from dataclasses import dataclass

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
        for start, end in zip(times, times[1:], strict=False):
            panes = tuple(pane for pane in self.panes if pane.start_s <= start and pane.end_s >= end)
            if panes:
                spans.append((start, end, panes))
        return spans
