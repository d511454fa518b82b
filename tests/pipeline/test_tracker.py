import cv2
import numpy as np
import pytest

from reactionnet_pipeline.detector import detect_faces
from reactionnet_pipeline.records import Box
from reactionnet_pipeline.tracker import NAMES, make_tracker


@pytest.fixture(scope="module")
def portrait(shared) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(shared / "faces" / "astronaut_collins.png")), cv2.COLOR_BGR2RGB)


def panned(picture: np.ndarray, num_frames: int, step_px: int) -> list[np.ndarray]:
    """A camera that moves to the left: everything in the picture moves to the right."""
    return [np.roll(picture, k * step_px, axis=1) for k in range(num_frames)]


@pytest.mark.parametrize("name", NAMES)
def test_every_tracker_follows_a_face(portrait, name):
    start = detect_faces(portrait)[0].box
    frames = panned(portrait, 13, 3)
    tracker = make_tracker(name, 0.6)
    tracker.start(frames[0], start)
    for frame in frames[1:]:
        found = tracker.update(frame)
        assert found is not None
    moved = Box(x=start.x + 36, y=start.y, w=start.w, h=start.h)
    assert found[0].iou(moved) > 0.6 > start.iou(moved)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "mil"])  # which seeds itself from the clock
def test_the_same_frames_give_the_same_boxes(portrait, name):
    runs = []
    for _ in range(2):
        tracker = make_tracker(name, 0.6)
        tracker.start(portrait, detect_faces(portrait)[0].box)
        runs.append([tracker.update(frame)[0] for frame in panned(portrait, 5, 2)])
    assert runs[0] == runs[1]


def test_mtcnn_lets_go_of_what_is_no_face(portrait):
    tracker = make_tracker("mtcnn", 0.6)
    tracker.start(portrait, detect_faces(portrait)[0].box)
    assert tracker.update(np.full_like(portrait, 90)) is None


def test_an_unknown_name_is_an_error_that_lists_the_known():
    with pytest.raises(ValueError, match=r"no tracker 'median': one of mtcnn, boosting"):
        make_tracker("median", 0.6)
