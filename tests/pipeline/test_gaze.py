import io
import math

import numpy as np
import pyarrow.parquet as pq
import pytest

from reactionnet_datasets.shards import ShardInfo, read_manifest
from reactionnet_datasets.tabulate import read_chunks
from reactionnet_pipeline import gaze, landmarks
from reactionnet_pipeline.pose import FRONTAL_68x2, head_pose


def drawn_eyes(pupil_x=0.0, pupil_y=0.0, crop_px=256):
    """A flat face of skin with two white eyes, each with a dark disc: offsets in pixels of a crop of 256."""
    scale = crop_px / 256
    matrix = landmarks.crop_matrix(np.array([1.0, 0.0, 0.0, 0.0]), crop_px)
    points = FRONTAL_68x2 - landmarks._UPRIGHT_CENTRE
    points = points @ matrix[:, :2].T + matrix[:, 2]
    y, x = np.mgrid[:crop_px, :crop_px]
    crop = np.full((crop_px, crop_px, 3), (190, 150, 130), np.uint8)
    for eye in (points[36:42], points[42:48]):
        middle = (eye[0] + eye[3]) / 2
        white = ((x - middle[0]) / (12 * scale)) ** 2 + ((y - middle[1]) / (5 * scale)) ** 2 < 1
        iris = np.hypot(x - middle[0] - pupil_x * scale, y - middle[1] - pupil_y * scale) < 4.5 * scale
        crop[white] = (230, 230, 230)
        crop[white & iris] = (40, 30, 30)
    return crop, points.astype(np.float32)


def looked(crop, points):
    return gaze.find_gaze(crop, points, (0.0, 0.0, 0.0))


def test_yaw_above_zero_looks_to_the_right_edge():
    left, ahead, right = (looked(*drawn_eyes(pupil_x=x)).yaw for x in (-4, 0, 4))
    assert left + 3 < ahead < right - 3


def test_a_mirrored_face_looks_to_the_other_side_and_as_high():
    crop, points = drawn_eyes(pupil_x=3, pupil_y=-1)
    mirrored = points.copy()
    mirrored[:, 0] = 255 - mirrored[:, 0]
    order = [*range(36), 45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40, *range(48, 68)]
    one, other = looked(crop, points), looked(np.ascontiguousarray(crop[:, ::-1]), mirrored[order])
    assert other.yaw == pytest.approx(-one.yaw, abs=0.3)
    assert other.pitch == pytest.approx(one.pitch, abs=0.3)


def test_a_smaller_crop_is_read_alike():
    assert looked(*drawn_eyes(3, 0, crop_px=128)).yaw == pytest.approx(looked(*drawn_eyes(3, 0)).yaw, abs=3)


def test_what_cannot_be_seen_is_not_measured():
    enlarged = np.array([[5.0, 0, 0], [0, 5.0, 0]])
    plain = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    seen = gaze.Gaze(5.0, -2.0, 0.1)
    assert gaze.measured(seen, plain, 256) == (5.0, -2.0)
    assert all(map(math.isnan, gaze.measured(seen._replace(closure=0.8), plain, 256)))
    assert all(map(math.isnan, gaze.measured(seen, enlarged, 256)))
    assert all(map(math.isnan, gaze.measured(seen, enlarged / 2, 128)))


@pytest.mark.parametrize("axis, column", [(0, "gaze_yaw"), (1, "gaze_pitch")])
def test_rendered_eyes_beat_a_constant_guess_with_the_right_sign(rendered, axis, column):
    found, truth = rendered
    error = np.abs(found[:, axis] - truth[:, axis]).mean()
    constant = np.abs(truth[:, axis] - np.median(truth[:, axis])).mean()
    assert error < 0.75 * constant, f"{column}: {error:.2f} against {constant:.2f} degrees"
    extremes = np.abs(truth[:, axis] - np.median(truth[:, axis])) > constant
    assert np.corrcoef(found[extremes, axis], truth[extremes, axis])[0, 1] > 0.5


@pytest.fixture(scope="module")
def rendered(shared):
    """Found and true gaze of two frames of every clip of the subjects that the net was not fitted on (true landmarks)."""
    import av

    folder = shared / "rendered_facs"
    table = pq.read_table(folder / "labels.parquet", columns=["video_id", "frame", "gaze_yaw", "gaze_pitch"])
    points = np.load(folder / "landmarks.npz")["landmarks"].astype(np.float32)
    rows = {(r["video_id"], r["frame"]): k for k, r in enumerate(table.select(["video_id", "frame"]).to_pylist())}
    angles = np.stack([table[name].to_numpy() for name in ("gaze_yaw", "gaze_pitch")], axis=1)
    found, truth = [], []
    for path in sorted((folder / "videos").glob("*.mp4")):
        if int(path.stem[1:4]) % 2 == 0:
            continue
        with av.open(str(path)) as container:
            for k, picture in enumerate(container.decode(video=0)):
                if k in (10, 34):
                    row = rows[path.stem, k]
                    matrix = landmarks.crop_matrix(landmarks.align(points[row]), 256)
                    crop = landmarks.warp(picture.to_ndarray(format="rgb24"), matrix, 256)
                    in_crop = (points[row] @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
                    found.append(gaze.find_gaze(crop, in_crop, head_pose(points[row]))[:2])
                    truth.append(angles[row])
    return np.array(found), np.array(truth)


def test_records_and_tables_hold_gaze(built):
    content = read_manifest(built.out)
    for split in content["splits"].values():
        for shard in split["shards"]:
            for chunk, _, arrays in read_chunks(
                built.out, ShardInfo(**{n: shard[n] for n in ShardInfo.__annotations__})
            ):
                stream = np.load(io.BytesIO(arrays["gaze.npy"]))
                assert (stream.shape, stream.dtype) == ((len(chunk.frames), 2), np.float32)
                table = pq.read_table(built.out / "tables/frames.parquet", filters=[("key", "=", chunk.key)])
                in_table = np.array([table["gaze_yaw"].to_pylist(), table["gaze_pitch"].to_pylist()], float).T
                np.testing.assert_array_equal(in_table.astype(np.float32), stream)
