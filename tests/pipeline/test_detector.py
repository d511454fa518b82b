import cv2
import numpy as np
import pytest

from reactionnet_pipeline.detector import _suppress, detect_faces, detect_faces_hog, look
from reactionnet_pipeline.records import Box


def read(path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


@pytest.fixture(scope="module")
def astronaut(shared) -> np.ndarray:
    return read(shared / "faces" / "astronaut_collins.png")


@pytest.mark.parametrize(
    "name, count",
    [("astronaut_collins.png", 1), ("grid_speaker.png", 1), ("no_face_lake.png", 0), ("two_tilted_heads.png", 2)],
)
def test_counts_the_faces_of_still_pictures(shared, name, count):
    assert len(detect_faces(read(shared / "faces" / name), min_score=0.9)) == count


def test_agrees_with_facenet_pytorch(astronaut):
    from reactionnet_datasets import torchvision_on_cpu

    torchvision_on_cpu.ensure()
    from facenet_pytorch import MTCNN

    (x1, y1, x2, y2), *_ = MTCNN(keep_all=True).detect(astronaut)[0]
    ours = detect_faces(astronaut)[0].box
    assert ours.iou(Box(x=x1, y=y1, w=x2 - x1, h=y2 - y1)) > 0.8


def test_a_look_beside_the_face_finds_its_way_back(astronaut):
    box = detect_faces(astronaut)[0].box
    beside = Box(x=box.x + 0.15 * box.w, y=box.y - 0.1 * box.h, w=box.w, h=box.h)
    face = look(astronaut, [beside])[0]
    assert face.score > 0.9
    assert face.box.iou(box) > 0.75 > beside.iou(box)


def test_a_look_at_nothing_says_so(astronaut):
    nothing, outside = look(astronaut, [Box(x=330, y=20, w=80, h=100), Box(x=-400, y=900, w=80, h=100)])
    assert nothing.score < 0.5
    assert outside.score < 0.5


def test_a_face_cut_off_by_the_edge_is_found(astronaut):
    box = detect_faces(astronaut)[0].box
    cut = astronaut[:, round(box.x + 0.2 * box.w) :]
    assert detect_faces(np.ascontiguousarray(cut))


def test_boxes_are_whole_quarters_of_a_pixel(astronaut):
    box = detect_faces(astronaut)[0].box
    assert all(value * 4 == round(value * 4) for value in (box.x, box.y, box.w, box.h))


def test_dlib_finds_the_same_face_in_the_same_convention(astronaut):
    assert detect_faces_hog(astronaut)[0].box.iou(detect_faces(astronaut)[0].box) > 0.6


@pytest.mark.parametrize("size", [(8, 8), (21, 400), (64, 64)])
def test_pictures_too_small_or_empty_have_no_faces(size):
    assert detect_faces(np.full((*size, 3), 128, np.uint8)) == []


def test_suppression_by_hand():
    rows = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [22, 22, 26, 26]], float)
    scores = np.array([0.8, 0.9, 0.7, 0.6])
    assert _suppress(rows, scores, 0.5) == [1, 2, 3]  # 9 x 10 of 110 shared; a sixth of the union
    assert _suppress(rows, scores, 0.5, by_smaller=True) == [1, 2]  # the last lies within the third
