"""Head pose from detected landmarks on RenderedFACS, next to a constant guess.

    python tests/benchmarks/head_pose.py            # mean error an axis on S001, S003, ...
    python tests/benchmarks/head_pose.py --fit      # print the mean head of pose.py, fitted to S000, S002, ...

Every face goes the way that it goes in the pipeline: MTCNN's box, dlib's 68 landmarks in it, `head_pose`. The mean head
was fitted to the other half of the subjects, so that no person is in both.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq

from reactionnet_pipeline import pose
from reactionnet_pipeline.detector import detect_faces
from reactionnet_pipeline.landmarks import find_landmarks

SHARED = Path(__file__).resolve().parents[3] / "shared" / "rendered_facs"
AXES = ("yaw", "pitch", "roll")
LIMITS = (6.0, 4.0, 2.0)  # degrees


def detected(folder: Path, subjects: int, frames: range) -> Iterator[tuple[np.ndarray | None, np.ndarray]]:
    """(68 landmarks or None where no face is found, true pose) of the even (0) or odd (1) subjects."""
    table = pq.read_table(folder / "labels.parquet", columns=["video_id", "frame", "subject_id", *AXES]).to_pylist()
    truth = {(row["video_id"], row["frame"]): np.array([row[axis] for axis in AXES]) for row in table}
    for video_id in sorted({row["video_id"] for row in table if int(row["subject_id"][1:]) % 2 == subjects}):
        with av.open(str(folder / "videos" / f"{video_id}.mp4")) as container:
            for k, picture in enumerate(container.decode(video=0)):
                if k in frames:
                    rgb = picture.to_ndarray(format="rgb24")
                    faces = detect_faces(rgb)
                    yield (find_landmarks(rgb, faces[0].box) if faces else None), truth[video_id, k]


def fit_head(points_N68x2: np.ndarray, poses_N3: np.ndarray, rounds: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """The 3-D head (68x3) that best explains the landmarks under weak perspective, given the poses, and its weights.

    Alternates between the head and each picture's scale and shift. In `pose.HEAD_68x3`'s units.
    """
    points = points_N68x2 * (1.0, -1.0)
    points -= points.mean(axis=1, keepdims=True)
    turns = np.array([pose.rotation(*row)[:2] for row in poses_N3])
    scale, shift = np.sqrt((points**2).sum(axis=(1, 2)) / 68), np.zeros((len(points), 2))
    for _ in range(rounds):
        scaled = turns * scale[:, None, None]
        head = np.linalg.solve(
            np.einsum("nij,nik->jk", scaled, scaled), np.einsum("nij,nki->jk", scaled, points - shift[:, None])
        ).T
        head -= head.mean(axis=0)
        seen = np.einsum("nij,kj->nki", turns, head)
        scale = (seen * points).sum(axis=(1, 2)) / (seen * seen).sum(axis=(1, 2))
        shift = (points - scale[:, None, None] * seen).mean(axis=1)
    residual = ((points - shift[:, None] - scale[:, None, None] * seen) ** 2).sum(axis=2).mean(axis=0)
    weight = residual.min() / residual
    head = (head - (head[27] + head[51]) / 2) / (head[16, 0] - head[0, 0])
    return head, weight


def measure(folder: Path = SHARED, frames: range = range(4, 48, 12)) -> dict[str, np.ndarray | int]:
    """Mean absolute errors (3,) of the detected poses and of the median of all poses, and how many faces were missed."""
    rows = list(detected(folder, 1, frames))
    truth = np.array([true for points, true in rows if points is not None])
    found = np.array([pose.head_pose(points) for points, _ in rows if points is not None])
    return {
        "error": np.abs(found - truth).mean(axis=0),
        "constant": np.abs(truth - np.median(truth, axis=0)).mean(axis=0),
        "missed": sum(points is None for points, _ in rows),
        "pictures": len(rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=SHARED, help="RenderedFACS")
    parser.add_argument("--fit", action="store_true", help="print the mean head instead")
    options = parser.parse_args()
    if options.fit:
        rows = [(points, true) for points, true in detected(options.folder, 0, range(4, 48, 12)) if points is not None]
        head, weight = fit_head(np.array([points for points, _ in rows], float), np.array([true for _, true in rows]))
        for (x, y, z), w in zip(head * 1000, weight * 100, strict=True):
            print(f"{x:.0f} {y:.0f} {z:.0f} {w:.0f}")
        return
    result = measure(options.folder)
    print(f"{result['pictures']} pictures of 24 persons, {result['missed']} without a detected face")
    print(f"{'axis':8}{'mean error':>12}{'constant':>10}{'limit':>8}   degrees")
    for axis, error, constant, limit in zip(AXES, result["error"], result["constant"], LIMITS, strict=True):
        print(f"{axis:8}{error:12.2f}{constant:10.2f}{limit:8.1f}   {'met' if error <= limit else 'NOT MET'}")


if __name__ == "__main__":
    main()
