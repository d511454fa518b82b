"""Key frames of what is being watched: the pictures of a clip that are worth a caption.

Chosen by content: one soon after each cut, then further ones spaced through long shots, and none that looks like one
that is chosen already. A still stimulus gives one picture, however long it is shown.

Letters: H height, W width (thumbnails of `cuts.thumbnail`).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

EPSILON_S = 1e-6  # times are sums of fractions


@dataclass(frozen=True, kw_only=True)
class Config:
    """Seconds and numbers; `min_step` is the mean difference of two thumbnails, in grey levels, that counts as new."""

    most: int = 8
    every_s: float = 4.0
    settle_s: float = 0.4  # after a cut: compression and fades need a moment
    min_step: float = 4.0

    def __post_init__(self) -> None:
        if self.most < 1 or not self.every_s > 0 or self.settle_s < 0 or self.min_step < 0:
            raise ValueError(
                f"most {self.most}, every_s {self.every_s}, settle_s {self.settle_s}, min_step {self.min_step}:"
                " at least one key frame, a positive spacing, no negative times or steps"
            )


def choose(
    t_s: Sequence[float], cuts: Collection[int], thumbnail: Callable[[int], np.ndarray], config: Config
) -> list[int]:
    """Places (indexes into `t_s`) of the key frames, in time order; at least one where there is a picture.

    `cuts` are places at which a new shot begins; `thumbnail(place)` is asked only for pictures that come into question.
    Where there are too many, pictures after cuts go before spaced ones, and long shots before short ones.
    """
    if not len(t_s):
        return []
    edges = sorted({0, *(cut for cut in cuts if 0 < cut < len(t_s)), len(t_s)})
    ranked: list[tuple[tuple, int]] = []
    for first, stop in pairwise(edges):
        start = _settled(t_s, first, stop, config.settle_s if first else 0.0)
        length_s = t_s[stop - 1] - t_s[first]
        for number, place in enumerate(_spaced(t_s, start, stop, config.every_s)):
            ranked.append(((number, -length_s, place), place))
    chosen: list[int] = []
    seen: list[np.ndarray] = []
    for _, place in sorted(ranked):
        picture_HW = thumbnail(place)
        if all(float(np.abs(picture_HW - other_HW).mean()) >= config.min_step for other_HW in seen):
            chosen.append(place)
            seen.append(picture_HW)
        if len(chosen) == config.most:
            break
    return sorted(chosen)


def _settled(t_s: Sequence[float], first: int, stop: int, settle_s: float) -> int:
    """The first place of a shot that lies `settle_s` behind its cut, but never past its middle."""
    middle = (first + stop - 1) // 2
    return next(
        (place for place in range(first, middle) if t_s[place] - t_s[first] > settle_s - EPSILON_S),
        middle if settle_s else first,
    )


def _spaced(t_s: Sequence[float], start: int, stop: int, every_s: float) -> list[int]:
    places = [start]
    for place in range(start + 1, stop):
        if t_s[place] - t_s[places[-1]] > every_s - EPSILON_S:
            places.append(place)
    return places
