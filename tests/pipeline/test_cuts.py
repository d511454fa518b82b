import numpy as np

from reactionnet_pipeline.cuts import SIDE, CutDetector, find_cuts, thumbnail


def shot(seed: int, num_frames: int, step_px: int = 0) -> list[np.ndarray]:
    """Frames of one random picture that slides sideways, with a little noise."""
    chance = np.random.default_rng(seed)
    scene = np.kron(chance.integers(0, 255, (9, 12, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    noise = chance.integers(0, 8, (num_frames, 180, 240, 3))
    return [np.clip(np.roll(scene, k * step_px, axis=1) + noise[k], 0, 255).astype(np.uint8) for k in range(num_frames)]


def test_a_change_of_scene_is_a_cut_and_nothing_else_is():
    frames = shot(1, 20) + shot(2, 15) + shot(3, 10)
    assert find_cuts(map(thumbnail, frames)) == [20, 35]


def test_a_moving_camera_is_no_cut():
    assert find_cuts(map(thumbnail, shot(1, 30, step_px=6))) == []


def test_a_later_start_finds_the_same_cuts():
    thumbs = [thumbnail(frame) for frame in shot(1, 20, 2) + shot(2, 25, 2)]
    assert [place + 10 for place in find_cuts(thumbs[10:])] == find_cuts(thumbs) == [20]


def test_the_first_frame_is_never_a_cut():
    assert not CutDetector().is_cut(thumbnail(shot(1, 1)[0]))


def test_thumbnails_of_any_size_and_of_grey_pictures():
    for size in [(720, 640, 3), (33, 17, 3), (90, 1280), (20, 20, 3)]:
        grey = thumbnail(np.full(size, 70, np.uint8))
        assert grey.shape == (SIDE, SIDE)
        np.testing.assert_allclose(grey, 70, atol=1)
