"""How strongly a face reacts: one score a frame, the windows in which it is highest, and sparse key frames.

ReactioNet (section 2) cut 1,168 long videos into 2,486 clips "with highlighted facial responses", 442 frames each, and
"sparsely selected" 50,000 key frames, both by hand. The score here, the same for both:

    score = (z(motion) / 2 + z(change)) * (1 + after_cut / 2)

motion: how fast the 51 inner landmarks move in the aligned crop (root mean square, face widths a second); change: how far
they are from the subject's own rest, the median over all frames of the subject in the video (face widths); z: distance
from the subject's median in robust standard deviations, 0 to 6; after_cut: 0 to 1, how well the moment fits a reaction to
the last cut of the stimulus: rising to 1 at 0.6 s (reactions start 0.2 to 1.0 s late), back to 0 at 2 s.

Nothing is drawn at random: equal scores are put in the order of sha256(clip, frame).

Letters: T frames; 68x2 landmarks in pixels of the aligned crop.
"""

import hashlib
import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

VERSION = 1
INNER = slice(17, 68)  # the jaw's points tremble most and say least
MOTION_S = 0.2  # motion is measured over this long
MOTION_FLOOR, CHANGE_FLOOR = 0.02, 0.004  # face widths a second, and face widths: what the landmarks tremble by
Z_MAX = 6.0
BEST_DELAY_S, LAST_DELAY_S = 0.6, 2.0
BIN_S = 0.5  # key frames of one clip: at most one in each half second


@dataclass(frozen=True, kw_only=True)
class Config:
    """Highlights of `length_s`, at most `most` a video; those after the best have at least `share` of its score."""

    length_s: float = 15.0  # the paper's 442 frames at 30 a second
    most: int = 3  # the paper has 2.13 a video
    share: float = 0.5
    step_s: float = 0.5

    def __post_init__(self) -> None:
        if not self.length_s > 0 or self.most < 1 or not 0 <= self.share <= 1 or not self.step_s > 0:
            raise ValueError(
                f"length_s {self.length_s}, most {self.most}, share {self.share}, step_s {self.step_s}: expected times"
                " above 0, at least one highlight, a share from 0 to 1"
            )


@dataclass(frozen=True, kw_only=True)
class Highlight:
    """Frames `first` to `last` (numbers of the video) of one run, and their mean score."""

    first: int
    last: int
    score: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """One person's frames in a video (T,) in order, their times, scores and layout spans."""

    frames: np.ndarray
    t_s: np.ndarray
    score: np.ndarray
    span: np.ndarray

    def at(self, frames: Sequence[int]) -> np.ndarray:
        """Scores of some of the frames, float32."""
        return self.score[np.searchsorted(self.frames, frames)].astype(np.float32)


def score_frames(
    landmarks_T68x2: np.ndarray, t_s: np.ndarray, frames: np.ndarray, face_px: float, cuts_s: Sequence[float] = ()
) -> np.ndarray:
    """The score of each frame (T,) of one subject in one video, in time order; runs may lie between gaps.

    `face_px` is the width of a face in the crop. Motion is not measured across a gap in `frames`.
    """
    points = landmarks_T68x2[:, INNER].astype(np.float64) / face_px
    rest = np.median(points, axis=0)
    change = np.sqrt(((points - rest) ** 2).sum(axis=2).mean(axis=1))
    motion = np.zeros(len(points))
    for run in _runs(frames):
        motion[run] = _motion(points[run], t_s[run])
    reacting = _z(motion, MOTION_FLOOR) / 2 + _z(change, CHANGE_FLOOR)
    return (reacting * (1 + after_cut(t_s, cuts_s) / 2)).astype(np.float32)


def _runs(frames: np.ndarray) -> list[slice]:
    edges = np.nonzero(np.diff(frames) != 1)[0] + 1
    return [slice(int(a), int(b)) for a, b in zip([0, *edges], [*edges, len(frames)], strict=True) if b > a]


def _motion(points_T51x2: np.ndarray, t_s: np.ndarray) -> np.ndarray:
    before = np.searchsorted(t_s, t_s - MOTION_S / 2 - 1e-6)
    after = np.minimum(np.searchsorted(t_s, t_s + MOTION_S / 2 + 1e-6, side="right") - 1, len(t_s) - 1)
    passed = np.maximum(t_s[after] - t_s[before], 1e-3)
    way = np.sqrt(((points_T51x2[after] - points_T51x2[before]) ** 2).sum(axis=2).mean(axis=1))
    return way / passed


def _z(values: np.ndarray, floor: float) -> np.ndarray:
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))
    return np.clip((values - middle) / max(float(spread), floor), 0, Z_MAX)


def after_cut(t_s: np.ndarray, cuts_s: Sequence[float]) -> np.ndarray:
    """0 to 1: how well each time fits a reaction to the last cut before it."""
    cuts = np.sort(np.asarray(cuts_s, float))
    last = np.searchsorted(cuts, t_s, side="right") - 1
    delay = np.where(last >= 0, t_s - cuts[np.maximum(last, 0)] if len(cuts) else np.inf, np.inf)
    rising, falling = delay / BEST_DELAY_S, (LAST_DELAY_S - delay) / (LAST_DELAY_S - BEST_DELAY_S)
    return np.clip(np.minimum(rising, falling), 0, 1)


def choose_highlights(
    runs: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], config: Config, video_id: str
) -> list[Highlight]:
    """The best windows of a video that do not overlap, in time order.

    `runs` are (frames, t_s, scores) of one subject without a gap each. A run shorter than a window is one window.
    """
    windows = [window for run in runs for window in _windows(*run, config)]
    windows.sort(key=lambda window: (-round(window.score, 4), _order(video_id, window.first)))
    chosen: list[Highlight] = []
    for window in windows:
        if len(chosen) == config.most or (chosen and window.score < config.share * chosen[0].score):
            break
        if all(window.last < other.first or window.first > other.last for other in chosen):
            chosen.append(window)
    return sorted(chosen, key=lambda window: window.first)


def _windows(frames: np.ndarray, t_s: np.ndarray, scores: np.ndarray, config: Config) -> list[Highlight]:
    last_start = max(float(t_s[-1]) - config.length_s, float(t_s[0]))
    starts = np.arange(t_s[0], last_start + 1e-6, config.step_s)
    total = np.concatenate([[0.0], np.cumsum(scores, dtype=np.float64)])
    begins = np.searchsorted(t_s, starts - 1e-6)
    ends = np.searchsorted(t_s, starts + config.length_s - 1e-6)
    return [
        Highlight(first=int(frames[a]), last=int(frames[b - 1]), score=float((total[b] - total[a]) / (b - a)))
        for a, b in zip(begins.tolist(), ends.tolist(), strict=True)
    ]


def _order(name: str, frame: int) -> str:
    return hashlib.sha256(f"{name}:{frame}".encode()).hexdigest()


def key_frame_quota(num: int, sources: Mapping[str, int]) -> dict[str, int]:
    """How many of `num` key frames each split gets: by its share of the sources, so that no split hangs on another."""
    total = sum(sources.values())
    exact = {split: num * count / total if total else 0.0 for split, count in sources.items()}
    quota = {split: int(share) for split, share in exact.items()}
    left = sorted(exact, key=lambda split: (quota[split] - exact[split], split))
    for split in left[: num - sum(quota.values())] if total else ():
        quota[split] += 1
    return quota


def key_frame_candidates(clip_id: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The best frame of each half second of a clip, best first, each with its `rank` among them."""
    start_s = min(row["t_s"] for row in rows)
    best: dict[int, tuple] = {}
    for row in rows:
        place = (-row["highlight"], _order(clip_id, row["frame"]))
        number = int((row["t_s"] - start_s) / BIN_S + 1e-6)
        if number not in best or place < best[number][0]:
            best[number] = (place, row)
    ranked = sorted(best.values(), key=lambda found: found[0])
    return [{**row, "rank": rank} for rank, (_, row) in enumerate(ranked)]


def pick_key_frames(candidates: Iterable[Mapping[str, Any]], num: int) -> list[dict[str, Any]]:
    """`num` frames over all clips: every clip's best before any clip's second. Fewer where there are no more."""
    best = heapq.nsmallest(
        num, candidates, key=lambda row: (row["rank"], -row["highlight"], _order(row["clip_id"], row["frame"]))
    )
    picked = [{name: value for name, value in row.items() if name != "rank"} for row in best]
    return sorted(picked, key=lambda row: (row["clip_id"], row["frame"]))
