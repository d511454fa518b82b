import cv2
import numpy as np
import pytest

from reactionnet_pipeline.detector import detect_faces
from reactionnet_pipeline.landmarks import CROP_CENTRE, CROP_FACE, align, crop_matrix, find_landmarks, warp
from reactionnet_pipeline.pose import FRONTAL_68x2


def turned(points: np.ndarray, degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)) * scale, np.sin(np.radians(degrees)) * scale
    return points @ np.array([[c, s], [-s, c]]) + shift


@pytest.mark.parametrize("degrees", [0, 30, -75])
def test_any_turned_face_comes_out_upright(degrees):
    points = turned(FRONTAL_68x2, degrees, 150, (400, 200))
    matrix = crop_matrix(align(points), 256)
    upright = points @ matrix[:, :2].T + matrix[:, 2]
    expected = FRONTAL_68x2 * CROP_FACE * 256 + np.array(CROP_CENTRE) * 256
    np.testing.assert_allclose(upright, expected, atol=1e-6)


def test_a_crop_holds_the_whole_face_and_scales_with_its_side():
    matrix = crop_matrix(align(FRONTAL_68x2), 1)
    points = FRONTAL_68x2 @ matrix[:, :2].T + matrix[:, 2]
    assert points.min() > 0.1
    assert points.max() < 0.9
    np.testing.assert_allclose(crop_matrix(align(FRONTAL_68x2), 128), matrix * 128)


def test_the_mean_of_two_alignments_is_an_alignment():
    a, b = (align(turned(FRONTAL_68x2, degrees, 100, (0, 0))) for degrees in (0, 20))
    np.testing.assert_allclose((a + b)[:2] / np.hypot(*(a + b)[:2]), align(turned(FRONTAL_68x2, 10, 1, (0, 0)))[:2])


@pytest.mark.parametrize("shrink", [1.0, 0.4, 0.2])
def test_a_warp_puts_each_pixel_where_the_matrix_says(shrink):
    picture = np.zeros((600, 800, 3), np.uint8)
    cv2.circle(picture, (500, 300), 30, (255, 255, 255), -1)
    matrix = np.array([[shrink, 0, 10 - 400 * shrink], [0, shrink, 20 - 200 * shrink]])
    out = warp(picture, matrix, 256)[..., 0].astype(float)
    ys, xs = np.mgrid[:256, :256]
    centre = (xs * out).sum() / out.sum(), (ys * out).sum() / out.sum()
    assert centre == pytest.approx((10 + 100 * shrink, 20 + 100 * shrink), abs=0.3)


def test_landmarks_lie_where_a_real_face_has_them(shared):
    bgr = cv2.imread(str(shared / "faces" / "astronaut_collins.png"))
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    face = detect_faces(rgb)[0]
    points = find_landmarks(rgb, face.box)
    assert points.shape == (68, 2)
    assert points.dtype == np.float32
    found = [points[36:42].mean(axis=0), points[42:48].mean(axis=0), points[30], points[48], points[54]]
    np.testing.assert_allclose(found, face.points, atol=0.12 * face.box.w)  # MTCNN's five points agree
