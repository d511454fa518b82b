import numpy as np
import pytest

from reactionnet_pipeline.pose import FRONTAL_68x2, HEAD_68x3, angles, head_pose, rotation


def pictured(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """The mean head, turned, as a picture shows it (y down), somewhere and of some size."""
    return (HEAD_68x3 @ rotation(yaw, pitch, roll).T)[:, :2] * (200, -200) + (320, 240)


@pytest.mark.parametrize("pose", [(25, 0, 0), (0, -15, 0), (0, 0, 10), (-30, 12, -20), (0, 0, 0)])
def test_a_turned_head_is_read_back(pose):
    assert head_pose(pictured(*pose)) == pytest.approx(pose, abs=1e-6)
    assert angles(rotation(*pose)) == pytest.approx(pose, abs=1e-6)


def test_yaw_above_zero_turns_the_face_to_the_right_edge():
    nose_tip, jaw = 30, [0, 16]
    points = pictured(20, 0, 0)
    assert points[nose_tip, 0] > points[jaw, 0].mean() + 10


def test_pitch_above_zero_looks_up():
    up, level = pictured(0, 20, 0), pictured(0, 0, 0)
    nose_tip, eyes = 30, [36, 45]
    assert up[nose_tip, 1] - up[eyes, 1].mean() < level[nose_tip, 1] - level[eyes, 1].mean()


def test_roll_above_zero_tilts_clockwise():
    points = pictured(0, 0, 15)
    left_in_the_picture, right_in_the_picture = 36, 45
    assert points[right_in_the_picture, 1] > points[left_in_the_picture, 1]


def test_size_and_place_change_nothing():
    points = pictured(10, 5, -3)
    assert head_pose(points * 0.3 + (1000, -50)) == pytest.approx(head_pose(points))


def test_the_mean_head_is_a_face():
    assert FRONTAL_68x2[36, 0] < FRONTAL_68x2[45, 0]  # the eye at the picture's left comes first
    assert FRONTAL_68x2[8, 1] > FRONTAL_68x2[57, 1] > FRONTAL_68x2[33, 1] > FRONTAL_68x2[27, 1]  # chin, lip, nose, root
    assert HEAD_68x3[30, 2] == HEAD_68x3[:, 2].max()  # nothing is nearer than the tip of the nose


@pytest.mark.parametrize("axis, limit", [("yaw", 6.0), ("pitch", 4.0), ("roll", 2.0)])
def test_true_landmarks_of_rendered_heads_give_their_poses(shared, axis, limit):
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(shared / "rendered_facs" / "labels.parquet", columns=["subject_id", "yaw", "pitch", "roll"])
    points = np.load(shared / "rendered_facs" / "landmarks.npz")["landmarks"].astype(np.float32)
    others = [row for row in range(0, len(points), 40) if int(table["subject_id"][row].as_py()[1:]) % 2]
    place = ("yaw", "pitch", "roll").index(axis)
    errors = [head_pose(points[row])[place] - table[axis][row].as_py() for row in others]
    assert np.abs(errors).mean() < limit
