"""What ABAW6 does with frame-wise answers: frames without a face, smoothing over time, and votes of several models.

The printed Eq. 5 is an integral called a loss; what the text describes is a Gaussian filter on each probability or value
over time, with a sigma tuned for each task on the validation set. Letters: T frames, K numbers, E models, S samples.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

# The paper names none of its sigmas. 0 is no smoothing.
SIGMAS = {
    "au": (0.0, 1.0, 2.0, 3.0, 5.0, 8.0),
    "expr": (0.0, 3.0, 5.0, 10.0, 15.0, 25.0),
    "ce": (0.0, 3.0, 5.0, 10.0, 15.0, 25.0),
    "va": (0.0, 5.0, 10.0, 20.0, 30.0, 50.0),
    "emi": (0.0,),
}


def fill_faceless(values_TK: np.ndarray, face_T: np.ndarray) -> np.ndarray:
    """Values of frames without a face, from the nearest frame with one, the earlier of two. ValueError without any."""
    places = np.flatnonzero(face_T)
    if not len(places):
        raise ValueError("no frame of the video has a face: there is nothing to fill from")
    frames = np.arange(len(face_T))
    after = np.searchsorted(places, frames).clip(max=len(places) - 1)
    before = (after - 1).clip(min=0)
    nearer = np.abs(places[after] - frames) < np.abs(places[before] - frames)
    chosen = np.where(face_T, frames, np.where(nearer, places[after], places[before]))
    return values_TK[chosen]


def smooth(values_TK: np.ndarray, sigma: float) -> np.ndarray:
    """Each column through a Gaussian filter over time; the video is mirrored at its ends. Sigma 0 changes nothing."""
    if sigma == 0:
        return values_TK
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(values_TK.astype(np.float64), sigma, axis=0, mode="reflect").astype(values_TK.dtype)


def tune_sigma(score: Callable[[float], float], sigmas: Sequence[float]) -> tuple[float, dict[float, float]]:
    """The sigma that scores best, the smaller of equals, and the score of each; nan is worse than any."""
    found = {sigma: score(sigma) for sigma in sigmas}
    return max(sorted(found), key=lambda sigma: -math.inf if math.isnan(found[sigma]) else found[sigma]), found


def vote(task: str, answers_ESK: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """What an ensemble answers. Action units: a majority of models for each unit, at a tie the mean probability decides,
    (S, K) of 0 and 1. Classes: the class that most models choose, of equals the one with the highest mean probability, (S).
    Valence, arousal and intensities: the mean, (S, K), since votes on numbers are not defined."""
    mean_SK = answers_ESK.mean(0)
    if task == "au":
        votes_SK = (answers_ESK >= threshold).sum(0) * 2
        decided = np.where(votes_SK == len(answers_ESK), mean_SK >= threshold, votes_SK > len(answers_ESK))
        return decided.astype(np.int64)
    if task in ("expr", "ce"):
        num = answers_ESK.shape[-1]
        votes_SK = (answers_ESK.argmax(-1)[..., None] == np.arange(num)).sum(0)
        return np.where(votes_SK == votes_SK.max(-1, keepdims=True), mean_SK, -np.inf).argmax(-1)
    return mean_SK


def partition_by_scene(scene_SF: np.ndarray, num: int = 4, seed: int = 0) -> np.ndarray:
    """Which of `num` subsets each video belongs to, (S), by k-means on embeddings of its whole frames. The paper says "by
    background" alone. ValueError with fewer videos than subsets."""
    if len(scene_SF) < num:
        raise ValueError(f"{len(scene_SF)} videos cannot be divided into {num} subsets")
    from sklearn.cluster import KMeans

    unit = scene_SF / np.linalg.norm(scene_SF, axis=1, keepdims=True).clip(min=1e-12)
    return KMeans(num, n_init=10, random_state=seed).fit_predict(unit)
