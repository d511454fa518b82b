"""CAGE's augmentation: each part against torchvision's on single pictures, and what is drawn how often."""

import pytest
import torch

from reactionnet_datasets.torchvision_on_cpu import ensure
from reactionnet_models import augmentation

ensure()
from torchvision.transforms.v2 import functional  # noqa: E402


@pytest.fixture
def image() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.nn.functional.interpolate(torch.rand(3, 3, 6, 7), (48, 56), mode="bicubic").clamp(0, 1)


def test_colours_change_as_in_torchvision(image):
    brightness, contrast = torch.tensor([0.8, 1.0, 1.2]), torch.tensor([1.2, 0.9, 0.8])
    saturation, hue = torch.tensor([0.8, 1.2, 1.1]), torch.tensor([-0.1, 0.04, 0.1])
    found = augmentation.jitter(image, brightness, contrast, saturation, hue, [2, 0, 3, 1])
    for b in range(3):
        one = functional.adjust_saturation(image[b], float(saturation[b]))
        one = functional.adjust_brightness(one, float(brightness[b]))
        one = functional.adjust_hue(one, float(hue[b]))
        one = functional.adjust_contrast(one, float(contrast[b]))
        torch.testing.assert_close(found[b], one, atol=2e-3, rtol=0)


def test_rotation_turns_as_in_torchvision(image):
    angles = torch.tensor([-10.0, 3.0, 7.5])
    found = augmentation.warp(image, augmentation.rotation(angles, 48, 56))
    for b in range(3):
        one = functional.rotate(image[b], float(angles[b]), interpolation=functional.InterpolationMode.BILINEAR)
        torch.testing.assert_close(found[b, :, 4:-4, 4:-4], one[:, 4:-4, 4:-4], atol=2e-3, rtol=0)


def test_perspective_moves_corners_as_in_torchvision(image):
    still = [[0, 0], [55, 0], [55, 47], [0, 47]]
    moved = [[3, 2], [52, 4], [55, 44], [1, 43]]
    # torchvision takes a point's numbers as distances from the picture's edge, ours are pixel centres
    points = (torch.tensor([corners]).expand(3, -1, -1) - 0.5 for corners in (moved, still))
    found = augmentation.warp(image, augmentation.homography(*points))
    for b in range(3):
        one = functional.perspective(image[b], still, moved)
        torch.testing.assert_close(found[b, :, 6:-6, 6:-6], one[:, 6:-6, 6:-6], atol=5e-3, rtol=0)


def test_each_picture_has_draws_of_its_own_and_the_same_seed_the_same():
    frames = torch.rand(1, 3, 32, 32).expand(6, -1, -1, -1)
    first, again = (augmentation.prepare(frames, torch.Generator().manual_seed(7)) for _ in range(2))
    other = augmentation.prepare(frames, torch.Generator().manual_seed(8))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert all(not torch.equal(first[0], first[b]) for b in range(1, 6))


@pytest.mark.parametrize(
    ("setting", "more", "share"),
    [
        ("hue", 0.1, (0.9, 1)),
        ("p_perspective", 1.0, (0.9, 1)),
        ("p_erase", 1.0, (0.9, 1)),
        ("p_erase", 0.25, (0.1, 0.4)),
    ],
)
def test_a_list_can_be_gentler(setting, more, share):
    torch.manual_seed(0)
    frames = torch.nn.functional.interpolate(torch.rand(64, 3, 4, 4), (32, 32), mode="bicubic").clamp(0, 1)
    settings = {"hue": 0.0, "p_perspective": 0.0, "p_erase": 0.0}
    gentle, other = (
        augmentation.prepare(frames, torch.Generator().manual_seed(3), **{**settings, setting: value})
        for value in (0.0, more)
    )
    changed = (gentle != other).flatten(1).any(1).float().mean()
    assert share[0] <= float(changed) <= share[1]


def test_what_is_drawn_is_the_papers_list(monkeypatch):
    """Mirror .5, grey .01, up to 10 degrees, colours within .2 and hue within .1, perspective .2 of half a side with p .5,
    a rectangle with p .5 of .02 to .2 of the picture and sides in .3 to 3.3; then ImageNet's mean and deviation."""
    num, drawn = 3000, {}

    def kept(name):
        part = getattr(augmentation, name)

        def call(*given):
            drawn[name] = given
            return part(*given)

        return call

    for name in ("jitter", "rotation", "homography", "normalise", "erase"):
        monkeypatch.setattr(augmentation, name, kept(name))
    image = torch.rand(3, 1, 40).expand(num, -1, 20, -1)
    augmentation.prepare(image, torch.Generator().manual_seed(0))

    shown, *factors, hue, order = drawn["jitter"]
    coloured = (shown[:, 0] != shown[:, 1]).flatten(1).any(1)
    mirrored = (shown == image.flip(-1)).flatten(1).all(1)
    assert float((~coloured).float().mean()) == pytest.approx(0.01, abs=0.006)
    assert float(mirrored[coloured].float().mean()) == pytest.approx(0.5, abs=0.03)
    for values, low, high in [(factor, 0.8, 1.2) for factor in factors] + [
        (hue, -0.1, 0.1), (drawn["rotation"][0], -10, 10)
    ]:  # fmt: skip
        within = 0.01 * (high - low)
        assert low <= float(values.min()) < low + within and high - within < float(values.max()) <= high
    assert sorted(order) == [0, 1, 2, 3]

    corners, still = drawn["homography"]
    moved = (corners - still).abs()
    assert moved[..., 0].unique().tolist() == [0, 1, 2, 3, 4]  # .2 of half of 40
    assert moved[..., 1].unique().tolist() == [0, 1, 2]
    assert float(moved.flatten(1).any(1).float().mean()) == pytest.approx(0.5, abs=0.03)

    normal, colours = drawn["erase"][0], drawn["normalise"][0]
    for channel, (mean, deviation) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]):
        torch.testing.assert_close(normal[:, channel], (colours[:, channel] - mean) / deviation)
    assert drawn["erase"][2] == 0.5


def test_half_of_the_pictures_lose_a_rectangle_of_two_to_twenty_percent():
    num = 400
    draw = augmentation._Draws(torch.Generator().manual_seed(0), num, torch.device("cpu"))
    changed = augmentation.erase(torch.full((num, 3, 50, 50), 9.0), draw)[:, 0] != 9.0
    share = changed.float().mean((1, 2))
    erased = share > 0
    assert 0.4 < float(erased.float().mean()) < 0.6
    assert float(share[erased].min()) > 0.015 and float(share.max()) < 0.215
    rows, columns = changed.any(2).sum(1)[erased], changed.any(1).sum(1)[erased]
    assert torch.equal(rows * columns, changed.sum((1, 2))[erased])  # one full rectangle each
    aspect = rows / columns
    assert 0.25 < float(aspect.min()) < 0.4 and 2.5 < float(aspect.max()) < 4
