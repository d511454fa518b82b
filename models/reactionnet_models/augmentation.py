"""CAGE's augmentation list (Section 4.2), drawn for each picture, computed for the whole batch on its device.

In the paper's order: mirror .5, grey .01, rotation by up to 10 degrees, colour jitter (brightness, contrast, saturation
.2, hue .1), perspective (distortion .2, p .5), normalisation by ImageNet's mean and deviation, random erasing (p .5).
torchvision draws one set of numbers a call; here each picture has its own, without a loop over pictures. Rotation and
perspective are one bilinear resampling of one homography, black outside (torchvision resamples twice). The order of the
four colour changes is drawn once a batch. Letters: B pictures, C = 3, H, W; colours 0 to 1.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
P_MIRROR, P_GREY, P_PERSPECTIVE, P_ERASE = 0.5, 0.01, 0.5, 0.5
DEGREES, DISTORTION, JITTER, HUE = 10.0, 0.2, 0.2, 0.1
ERASED_SHARE, ERASED_ASPECT = (0.02, 0.2), (0.3, 3.3)
_GREY = (0.2989, 0.587, 0.114)  # as torchvision


def prepare(
    image: Tensor,
    random: torch.Generator | None,
    *,
    hue: float = HUE,
    p_perspective: float = P_PERSPECTIVE,
    p_erase: float = P_ERASE,
) -> Tensor:
    """Pictures (B, 3, H, W) augmented by draws of `random` and normalised; without it normalised alone."""
    if random is None:
        return normalise(image)
    num, _, height, width = image.shape
    draw = _Draws(random, num, image.device)
    image = torch.where(draw.chance(P_MIRROR)[:, None, None, None], image.flip(-1), image)
    image = torch.where(draw.chance(P_GREY)[:, None, None, None], grey(image).expand_as(image), image)
    angle_B = draw.uniform(-DEGREES, DEGREES)
    corners_B42 = draw.corners(height, width)
    distort = draw.chance(p_perspective)
    image = jitter(
        image, draw.uniform(1 - JITTER, 1 + JITTER), draw.uniform(1 - JITTER, 1 + JITTER),
        draw.uniform(1 - JITTER, 1 + JITTER), draw.uniform(-hue, hue), draw.order(4),
    )  # fmt: skip
    still_B42 = _corners(height, width).to(image).expand(num, -1, -1)
    corners_B42 = torch.where(distort[:, None, None], corners_B42, still_B42)
    inverse_B33 = rotation(angle_B, height, width) @ homography(corners_B42, still_B42)
    image = normalise(warp(image, inverse_B33))
    return erase(image, draw, p_erase)


def normalise(image_BCHW: Tensor) -> Tensor:
    """Colours in 0 to 1 by ImageNet's mean and deviation."""
    mean, deviation = (image_BCHW.new_tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return (image_BCHW - mean) / deviation


def grey(image_BCHW: Tensor) -> Tensor:
    """Luma (B, 1, H, W)."""
    return (image_BCHW * image_BCHW.new_tensor(_GREY)[:, None, None]).sum(1, keepdim=True)


def jitter(
    image: Tensor, brightness_B: Tensor, contrast_B: Tensor, saturation_B: Tensor, hue_B: Tensor, order: list[int]
) -> Tensor:
    """torchvision's four colour changes with factors of each picture's own, in the order given (0 is brightness)."""
    for step in order:
        if step == 3:
            image = turn_hue(image, hue_B) if hue_B.any() else image
            continue
        factor = (brightness_B, contrast_B, saturation_B)[step][:, None, None, None]
        other = (0, grey(image).mean((1, 2, 3), keepdim=True), grey(image))[step] if step else 0
        image = (factor * image + (1 - factor) * other).clamp(0, 1)
    return image


def turn_hue(image_BCHW: Tensor, hue_B: Tensor) -> Tensor:
    """Hue moved by a share of its circle, through HSV."""
    red, green, blue = image_BCHW.unbind(1)
    value, _ = image_BCHW.max(1)
    chroma = value - image_BCHW.min(1).values
    safe = torch.where(chroma == 0, 1, chroma)
    hue = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = (hue / 6 + hue_B[:, None, None]) % 1.0
    saturation = chroma / torch.where(value == 0, 1, value)
    # channel n of RGB: v - v s max(0, min(k, 4 - k, 1)), k = (n + 6 h) mod 6 with n = 5, 3, 1
    k = (hue.new_tensor([5.0, 3.0, 1.0])[:, None, None] + 6 * hue[:, None]) % 6
    return value[:, None] * (1 - saturation[:, None] * torch.minimum(k, 4 - k).clamp(0, 1))


def _corners(height: int, width: int) -> Tensor:
    """Pixel centres of the four corners, clockwise from the top left: (4, 2)."""
    return torch.tensor([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], dtype=torch.float32)


def rotation(angle_B: Tensor, height: int, width: int) -> Tensor:
    """Where each pixel of a picture turned by `angle` degrees (counter-clockwise) comes from: (B, 3, 3), pixels."""
    radians = angle_B * (math.pi / 180)
    cos, sin = radians.cos(), radians.sin()
    x, y = (width - 1) / 2, (height - 1) / 2
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    rows = [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y, zero, zero, one]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def homography(from_B42: Tensor, to_B42: Tensor) -> Tensor:
    """The projective map (B, 3, 3) that takes four points to four others; solved in float64."""
    x, y = from_B42.double().unbind(-1)
    u, v = to_B42.double().unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows_u = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], -1)
    rows_v = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], -1)
    solved = torch.linalg.solve(torch.cat([rows_u, rows_v], 1), torch.cat([u, v], 1))
    return torch.cat([solved, torch.ones_like(solved[:, :1])], 1).unflatten(-1, (3, 3)).to(from_B42.dtype)


def warp(image_BCHW: Tensor, inverse_B33: Tensor) -> Tensor:
    """Each output pixel (x, y) shows the input at `inverse` times (x, y, 1), bilinear; black outside."""
    height, width = image_BCHW.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=image_BCHW.device), torch.arange(width, device=image_BCHW.device), indexing="ij"
    )
    place_P3 = torch.stack([x, y, torch.ones_like(x)], -1).reshape(-1, 3).to(image_BCHW)
    source = place_P3 @ inverse_B33.transpose(1, 2)
    source = source[..., :2] / source[..., 2:]
    size = source.new_tensor([width, height])
    grid = ((2 * source + 1) / size - 1).unflatten(1, (height, width))
    return functional.grid_sample(image_BCHW, grid, padding_mode="zeros", align_corners=False)


def erase(image_BCHW: Tensor, draw: "_Draws", chance: float = P_ERASE) -> Tensor:
    """One rectangle a picture becomes noise, by chance; one that does not fit is left out."""
    height, width = image_BCHW.shape[-2:]
    share = draw.uniform(*ERASED_SHARE) * height * width
    aspect = draw.uniform(*(math.log(side) for side in ERASED_ASPECT)).exp()
    tall, wide = (share * aspect).sqrt().round(), (share / aspect).sqrt().round()
    top = (draw.uniform(0, 1) * (height - tall + 1)).floor()
    left = (draw.uniform(0, 1) * (width - wide + 1)).floor()
    fits = draw.chance(chance) & (tall < height) & (wide < width)
    y = torch.arange(height, device=image_BCHW.device)[None, :, None]
    x = torch.arange(width, device=image_BCHW.device)[None, None, :]
    top, left, tall, wide = (value[:, None, None] for value in (top, left, tall, wide))
    inside = (y >= top) & (y < top + tall) & (x >= left) & (x < left + wide) & fits[:, None, None]
    return torch.where(inside[:, None], draw.noise(image_BCHW.shape), image_BCHW)


class _Draws:
    """Numbers of one batch: one a picture. Drawn on the CPU, so that they do not depend on the device."""

    def __init__(self, random: torch.Generator, num: int, device: torch.device):
        self._random, self._num, self._device = random, num, device

    def uniform(self, low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(self._num, generator=self._random)).to(self._device)

    def chance(self, probability: float) -> Tensor:
        return (torch.rand(self._num, generator=self._random) < probability).to(self._device)

    def order(self, num: int) -> list[int]:
        return torch.randperm(num, generator=self._random).tolist()

    def corners(self, height: int, width: int) -> Tensor:
        """Corners moved inwards by up to DISTORTION of half the side, in whole pixels, as torchvision does."""
        most = torch.tensor([int(DISTORTION * (width // 2)), int(DISTORTION * (height // 2))])
        moved = (torch.rand(self._num, 4, 2, generator=self._random) * (most + 1)).floor()
        inwards = torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]])
        return (_corners(height, width) + moved * inwards).to(self._device)

    def noise(self, shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=self._random).to(self._device)
