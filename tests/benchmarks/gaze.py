"""Gaze on RenderedFACS, next to a constant guess and to what the head's pose alone tells.

    python tests/benchmarks/gaze.py                 # mean error an axis on S001, S003, ...
    python tests/benchmarks/gaze.py --fit           # fit gaze.npz to S000, S002, ... and write it
    python tests/benchmarks/gaze.py --folder DIR --all   # all subjects of another folder of the same form

Every face goes the way that it goes in the pipeline: MTCNN's box, dlib's landmarks, the aligned crop, `find_gaze`. The
net was fitted to one half of the subjects and is reported on the other, so that no person is in both.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import torch
from torch import nn

from reactionnet_pipeline import gaze, landmarks
from reactionnet_pipeline.detector import detect_faces
from reactionnet_pipeline.pose import head_pose

SHARED = Path(__file__).resolve().parents[3] / "shared" / "rendered_facs"
AXES = ("gaze_yaw", "gaze_pitch")
LIMIT = 0.75  # of the error of a constant guess
Eyes = tuple[np.ndarray, np.ndarray, tuple[float, float, float], np.ndarray]


def detected(folder: Path, subjects: int | None, frames: range) -> Iterator[Eyes]:
    """(crop, landmarks in it, pose, true yaw, pitch and closure) of the even (0), odd (1) or all (None) subjects."""
    columns = ["video_id", "frame", "subject_id", *AXES, "AU45"]
    table = pq.read_table(folder / "labels.parquet", columns=columns).to_pylist()
    truth = {(r["video_id"], r["frame"]): np.array([r[AXES[0]], r[AXES[1]], r["AU45"] / 5]) for r in table}
    wanted = {row["video_id"] for row in table if subjects is None or int(row["subject_id"][1:]) % 2 == subjects}
    for video_id in sorted(wanted):
        with av.open(str(folder / "videos" / f"{video_id}.mp4")) as container:
            for k, picture in enumerate(container.decode(video=0)):
                if k in frames:
                    rgb = picture.to_ndarray(format="rgb24")
                    if faces := detect_faces(rgb):
                        points = landmarks.find_landmarks(rgb, faces[0].box)
                        matrix = landmarks.crop_matrix(landmarks.align(points), gaze.CROP_PX)
                        crop = landmarks.warp(rgb, matrix, gaze.CROP_PX)
                        yield crop, points @ matrix[:, :2].T + matrix[:, 2], head_pose(points), truth[video_id, k]


def fit(eyes: list[Eyes], seed: int = 0, copies: int = 3, hidden: int = 48, epochs: int = 20) -> dict[str, np.ndarray]:
    """Weights of the net: least absolute errors of the angles, least squares of the closure.

    Each picture is also seen with the landmarks shifted, as another face detector would place them.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    inputs, truth = [], []
    for copy in range(copies + 1):
        for crop, points, pose, true in eyes:
            shifted = points.copy()
            if copy:
                shifted[gaze.EYES] += rng.normal(0, 0.7, (2, 2)).repeat(6, axis=0)
            inputs.append(gaze.eye_inputs(crop, shifted, pose))
            truth.append([true, true * (-1, 1, 1)])
    x = np.concatenate(inputs)
    mean, std = x.mean(axis=0), x.std(axis=0) + 1e-6
    x_NF = torch.tensor((x - mean) / std, dtype=torch.float32)
    y_N3 = torch.tensor(np.concatenate(truth) / gaze.UNIT, dtype=torch.float32)
    net = nn.Sequential(nn.Linear(x.shape[1], hidden), nn.Tanh(), nn.Dropout(0.3), nn.Linear(hidden, 3))
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=0.3)
    steps = epochs * 2 * len(eyes) // 128
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(x_NF), (128,))
        error = net(x_NF[chosen] + 0.3 * torch.randn(128, x.shape[1])) - y_N3[chosen]
        loss = error[:, :2].abs().mean() + 0.2 * error[:, 2].square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    first, last = net[0], net[3]
    values = {"w1": first.weight.T, "b1": first.bias, "w2": last.weight.T, "b2": last.bias}
    arrays = {name: value.detach().numpy().astype(np.float32) for name, value in values.items()}
    return {"mean": mean.astype(np.float32), "std": std.astype(np.float32), **arrays}


def measure(folder: Path = SHARED, subjects: int | None = 1, frames: range = range(4, 48, 6)) -> dict[str, np.ndarray]:
    """Found gaze (N, 3: yaw, pitch, closure), truth (N, 3), poses (N, 3), and milliseconds a frame."""
    rows = list(detected(folder, subjects, frames))
    started = time.perf_counter()
    found = np.array([gaze.find_gaze(crop, points, pose) for crop, points, pose, _ in rows])
    ms = (time.perf_counter() - started) * 1000 / len(rows)
    poses, truth = np.array([row[2] for row in rows]), np.array([row[3] for row in rows])
    return {"found": found, "truth": truth, "poses": poses, "ms": np.array(ms)}


def pose_alone(poses_N3: np.ndarray, truth_N: np.ndarray) -> np.ndarray:
    """Errors of the best linear guess from the pose, given the truth: a peer that is flattered."""
    design = np.c_[poses_N3, np.ones(len(poses_N3))]
    return np.abs(design @ np.linalg.lstsq(design, truth_N, rcond=None)[0] - truth_N)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=SHARED, help="RenderedFACS")
    parser.add_argument("--all", action="store_true", help="all subjects of the folder: none of them may be fitted")
    parser.add_argument("--fit", action="store_true", help="write the net instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.fit:
        path = Path(gaze.__file__).with_name(gaze.WEIGHTS)
        np.savez(path, **fit(list(detected(options.folder, 0, range(0, 48, 3)))))
        print(f"{path}: {path.stat().st_size} bytes")
        return
    result = measure(options.folder, None if options.all else 1)
    found, truth = result["found"], result["truth"]
    print(f"{len(found)} pictures, {result['ms']:.3f} ms each")
    print(f"{'axis':12}{'error':>8}{'constant':>10}{'ratio':>8}{'pose alone':>12}{'correlation':>13}   degrees")
    for axis, name in enumerate(AXES):
        error = np.abs(found[:, axis] - truth[:, axis]).mean()
        constant = np.abs(truth[:, axis] - np.median(truth[:, axis])).mean()
        pose = pose_alone(result["poses"], truth[:, axis]).mean()
        correlation = np.corrcoef(found[:, axis], truth[:, axis])[0, 1]
        verdict = "met" if error <= LIMIT * constant and correlation > 0 else "NOT MET"
        print(
            f"{name:12}{error:8.2f}{constant:10.2f}{error / constant:8.3f}{pose:12.2f}{correlation:13.2f}   {verdict}"
        )
    shut, open_, called = truth[:, 2] >= 0.7, truth[:, 2] < 0.3, found[:, 2] >= gaze.CLOSED
    print(f"closed eyes seen as closed {called[shut].mean():.2f}, open eyes {called[open_].mean():.4f}")


if __name__ == "__main__":
    main()
