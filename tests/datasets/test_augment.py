"""Augmentation that takes landmarks, boxes and pose along."""

import numpy as np
import pytest

from reactionnet_datasets.augment import INNER_49, MIRROR_49, MIRROR_68, Augment, View, inner_landmarks

# As JAA-Net's reader lists it, counted from 1.
PUBLISHED_49 = (
    10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 11, 12, 13, 14, 19, 18, 17, 16, 15, 29, 28, 27, 26, 31, 30, 23, 22, 21, 20, 25, 24,
    38, 37, 36, 35, 34, 33, 32, 43, 42, 41, 40, 39, 46, 45, 44, 49, 48, 47,
)  # fmt: skip


def test_the_mirrors_are_those_that_were_published_and_undo_themselves():
    assert (MIRROR_49 + 1).tolist() == list(PUBLISHED_49)
    for mirror in (MIRROR_49, MIRROR_68):
        assert mirror[mirror].tolist() == list(range(len(mirror)))
    assert len(INNER_49) == 49
    assert inner_landmarks(np.arange(136).reshape(1, 68, 2))[0, 0].tolist() == [34, 35]


def dots(points, side=64):
    """A picture with a bright dot at each point."""
    picture = np.zeros((side, side, 3), np.uint8)
    for x, y in points:
        picture[round(y), round(x)] = 255
    return picture


def face():
    """68 distinct points of a symmetric face: point n and its mirror image lie at mirrored places."""
    random = np.random.default_rng(0)
    points = np.zeros((68, 2), np.float32)
    for point, other in enumerate(MIRROR_68):
        if point <= other:
            x, y = random.integers(4, 28), random.integers(4, 60)
            points[point], points[other] = ((x, y), (63 - x, y)) if point != other else ((31.5, y), (31.5, y))
    return points


def test_points_follow_the_picture_through_crop_and_mirror():
    points = np.float32([[10, 20], [40, 33], [25, 50]])
    view = View(x=8, y=16, w=40, h=40, out_w=40, out_h=40, mirrored=True)
    out = np.empty((40, 40, 3), np.uint8)
    view.show(dots(points), out)
    seen = {(int(x), int(y)) for y, x in np.argwhere(out[..., 0] > 128)}
    plain = View(x=8, y=16, w=40, h=40, out_w=40, out_h=40).move_points(points)
    plain[:, 0] = 39 - plain[:, 0]
    assert seen == {(int(x), int(y)) for x, y in plain}


def test_a_mirrored_symmetric_face_keeps_its_landmarks():
    view = View(x=0, y=0, w=64, h=64, out_w=64, out_h=64, mirrored=True)
    np.testing.assert_allclose(view.move_points(face()), face())
    np.testing.assert_allclose(view.move_points(inner_landmarks(face())), inner_landmarks(face()))
    with pytest.raises(ValueError, match="no mirror is known for 5 landmarks"):
        view.move_points(np.zeros((5, 2), np.float32))


def test_points_follow_a_resize_to_the_centres_of_pixels():
    view = View(x=0, y=0, w=64, h=64, out_w=32, out_h=32)
    np.testing.assert_allclose(view.move_points(np.float32([[0.5, 0.5], [63.5 - 1, 10.5]])), [[0, 0], [31, 5]])


def test_boxes_and_pose_turn_with_the_mirror():
    view = View(x=10, y=0, w=40, h=40, out_w=80, out_h=80, mirrored=True)
    np.testing.assert_allclose(view.move_boxes(np.float32([[15, 5, 10, 20]])), [[80 - 10 - 20, 10, 20, 40]])
    assert view.move_angles(np.float32([1, 2, 3])).tolist() == [-1, 2, -3]
    assert view.move_angles(np.float32([[1, 2]])).tolist() == [[-1, 2]]  # gaze


def test_the_middle_is_shown_where_nothing_is_random():
    view = Augment(resize=32, crop=24, random=False, flip=1.0, brightness=0.5).draw(64, 64, np.random.default_rng(0))
    assert (view.x, view.y, view.w, view.h, view.out_w) == (8, 8, 48, 48, 24)
    assert not view.mirrored and not view.changes_colours


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 90), (90, 48)])
def test_what_is_drawn_stays_within_the_picture(height, width):
    augment = Augment(resize=40, crop=32, scale=(0.3, 0.9), aspect=(0.7, 1.4), flip=0.5)
    random = np.random.default_rng(0)
    views = [augment.draw(height, width, random) for _ in range(200)]
    for view in views:
        assert 0 <= view.x <= view.x + view.w <= width + 1e-6
        assert 0 <= view.y <= view.y + view.h <= height + 1e-6
        assert 0.29 * width * height < view.w * view.h < 0.91 * width * height
    assert 60 < sum(view.mirrored for view in views) < 140


def test_all_crops_of_an_unscaled_picture_can_be_drawn():
    views = [Augment(crop=62).draw(64, 64, random) for random in [np.random.default_rng(1)] for _ in range(200)]
    assert {(view.x, view.y) for view in views} == {(x, y) for x in range(3) for y in range(3)}


def test_colours_change_alike_in_all_frames():
    frames = np.stack([np.full((4, 4, 3), (60, 100, 140), np.uint8), np.full((4, 4, 3), 200, np.uint8)])
    view = View(x=0, y=0, w=4, h=4, out_w=4, out_h=4, brightness=1.2, saturation=0.0)
    changed = frames.copy()
    view.recolour(changed)
    assert np.ptp(changed[0].astype(int), axis=-1).max() <= 1  # grey
    assert changed[1].mean() == 240
    view = View(x=0, y=0, w=4, h=4, out_w=4, out_h=4, contrast=0.5)
    changed = frames.copy()
    view.recolour(changed)
    mean = 0.5 * (0.299 * 60 + 0.587 * 100 + 0.114 * 140 + 200)
    assert abs(float(changed[1].mean()) - (mean + 0.5 * (200 - mean))) <= 1


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"crop": 0}, "crop is 0"),
        ({"flip": 1.5}, "flip is 1.5"),
        ({"crop": 8, "scale": (0.9, 0.5)}, "no range"),
        ({"scale": (0.5, 1.0)}, "name its size as crop"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, reason):
    with pytest.raises(ValueError, match=reason):
        Augment(**wrong)


def test_a_crop_larger_than_the_picture_is_refused():
    with pytest.raises(ValueError, match="a crop of 100 does not fit a picture of 64 x 64"):
        Augment(crop=100).draw(64, 64, np.random.default_rng(0))


def test_a_box_is_stretched_to_the_crop_and_without_one_all_is_seen():
    augment = Augment(box=True, crop=24, random=False)
    boxes = np.float32([[10, 4, 16, 30], [12, -6, 20, 20], [np.nan] * 4])
    view = augment.middle(48, 64, boxes)
    assert (view.x, view.y, view.w, view.h) == (10, 0, 22, 34), "both boxes, as far as they lie in the picture"
    assert (view.out_w, view.out_h) == (24, 24)
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[0:34, 10:32] = 200
    out = np.empty((24, 24, 3), np.uint8)
    view.show(picture, out)
    assert (out[1:-1, 1:-1] == 200).all()
    for nothing in (None, boxes[2:], np.float32([[70, 4, 9, 9]])):
        whole = augment.middle(48, 64, nothing)
        assert (whole.x, whole.y, whole.w, whole.h) == (0, 0, 64, 48)
    with pytest.raises(ValueError, match="name it as crop"):
        Augment(box=True)
