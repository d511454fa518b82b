"""Augmentation that is the same for every frame of an item, and that takes landmarks, boxes and head pose along.

What is drawn is one `View` an item: which part of the picture is shown at which size, whether it is mirrored, and how
colours change. Mirroring exchanges left and right landmarks by name, so that point 36 stays the outer corner of the
subject's right eye. Letters: T frames, H, W, 3; points are x, y in pixels, a pixel's centre at whole numbers.
"""

from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np
from PIL import Image

# 68 landmarks (iBUG, counted from 0): what each becomes in a mirror.
MIRROR_68 = np.array([
    *range(16, -1, -1),                                              # jaw
    *range(26, 16, -1),                                              # brows
    27, 28, 29, 30, 35, 34, 33, 32, 31,                              # nose
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,                  # eyes
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55,                  # outer lips
    64, 63, 62, 61, 60, 67, 66, 65,                                  # inner lips
])  # fmt: skip
# 49 landmarks are the 68 without the jaw and the inner corners of the mouth.
INNER_49 = np.array([point for point in range(17, 68) if point not in (60, 64)])
MIRROR_49 = np.searchsorted(INNER_49, MIRROR_68[INNER_49])
_MIRRORS = {68: MIRROR_68, 49: MIRROR_49}


def inner_landmarks(landmarks: np.ndarray) -> np.ndarray:
    """(..., 68, 2) to the 49 points of FERA 2015 and JAA-Net, (..., 49, 2).

    So too of DISFA's 66 points, which are the 68 without the inner corners of the mouth.
    """
    return landmarks[..., 17:, :] if landmarks.shape[-2] == 66 else landmarks[..., INNER_49, :]


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What may be drawn. Sizes in pixels; without `random` the middle is shown, unmirrored, in its own colours.

    The picture is brought to `resize` (its shorter side), then a square of `crop` is taken: anywhere if `random`. Of the
    picture's area a share of `scale` is shown, with sides in a proportion of `aspect` (as in Inception's training).
    `flip` is how probable a mirror is; `brightness`, `contrast` and `saturation` are how far a factor may lie from 1.
    With `box` the picture is what lies in the item's boxes, stretched to `crop` x `crop`; where an item has none, all of it.
    """

    resize: int | None = None
    crop: int | None = None
    random: bool = True
    scale: tuple[float, float] = (1.0, 1.0)
    aspect: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    box: bool = False

    def __post_init__(self) -> None:
        if self.box and (self.crop is None or self.resize is not None or self.scale != (1.0, 1.0)):
            raise ValueError("box shows all of a box at one size: name it as crop, without resize and scale")
        for name in ("resize", "crop"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more pixels")
        for name in ("flip", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 to 1")
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.aspect[0] <= self.aspect[1]:
            raise ValueError(
                f"scale {self.scale} or aspect {self.aspect} is no range of positive numbers, scale up to 1"
            )
        if self.scale != (1.0, 1.0) and self.crop is None:
            raise ValueError(f"scale {self.scale} shows a part of the picture; name its size as crop")

    def draw(self, height: int, width: int, random: np.random.Generator, boxes_N4: np.ndarray | None = None) -> "View":
        """A view of pictures of this size. ValueError where the crop is larger than the picture.

        `boxes` (x, y, w, h; NaN where there is none) count with `box` alone.
        """
        if not self.random:
            return self.middle(height, width, boxes_N4)
        return self._view_of(height, width, random.random(8), boxes_N4)

    def middle(self, height: int, width: int, boxes_N4: np.ndarray | None = None) -> "View":
        """What is shown where nothing is drawn."""
        return replace(self, random=False)._view_of(height, width, np.full(8, 0.5), boxes_N4)

    def _view_of(self, height: int, width: int, draws: np.ndarray, boxes_N4: np.ndarray | None) -> "View":
        x, y, w, h = 0.0, 0.0, float(width), float(height)
        out_w, out_h = width, height
        if self.box:
            assert self.crop is not None
            out_w = out_h = self.crop
            x, y, w, h = _around(boxes_N4, height, width)
        if self.resize is not None:
            factor = self.resize / min(width, height)
            out_w, out_h = round(width * factor), round(height * factor)
        if self.crop is not None and not self.box:
            if self.crop > min(out_w, out_h):
                raise ValueError(f"a crop of {self.crop} does not fit a picture of {out_w} x {out_h}; name a resize")
            w, h = self.crop * width / out_w, self.crop * height / out_h
            if self.random and self.scale != (1.0, 1.0):
                w, h = self._part(width, height, draws)
            # Whole pixels, so that a crop of unscaled pictures is a copy.
            x, y = np.floor(draws[0] * (width - w + 1)), np.floor(draws[1] * (height - h + 1))
            x, y = min(x, width - w), min(y, height - h)
            out_w = out_h = self.crop
        return View(
            x=float(x),
            y=float(y),
            w=w,
            h=h,
            out_w=out_w,
            out_h=out_h,
            mirrored=bool(self.random and draws[2] < self.flip),
            brightness=1 + self.brightness * (2 * draws[3] - 1),
            contrast=1 + self.contrast * (2 * draws[4] - 1),
            saturation=1 + self.saturation * (2 * draws[5] - 1),
        )

    def _part(self, width: int, height: int, draws: np.ndarray) -> tuple[float, float]:
        share = self.scale[0] + draws[6] * (self.scale[1] - self.scale[0])
        low, high = np.log(self.aspect)
        proportion = float(np.exp(low + draws[7] * (high - low)))
        side = (share * width * height) ** 0.5
        return min(side * proportion**0.5, width), min(side / proportion**0.5, height)


def _around(boxes_N4: np.ndarray | None, height: int, width: int) -> tuple[float, float, float, float]:
    """x, y, w, h of what all boxes together cover of a picture; all of it where there is no box in it."""
    given = np.zeros((0, 4)) if boxes_N4 is None else boxes_N4[np.isfinite(boxes_N4).all(-1)].astype(float)
    if len(given):
        x, y = np.maximum(given[:, :2].min(0), 0)
        right, bottom = np.minimum((given[:, :2] + given[:, 2:]).max(0), (width, height))
        if right - x >= 1 and bottom - y >= 1:
            return float(x), float(y), float(right - x), float(bottom - y)
    return 0.0, 0.0, float(width), float(height)


@dataclass(frozen=True, kw_only=True)
class View:
    """What is shown of every picture of an item: a rectangle of it at a size, perhaps mirrored, with changed colours."""

    x: float
    y: float
    w: float
    h: float
    out_w: int
    out_h: int
    mirrored: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0

    @cached_property
    def is_whole(self) -> bool:
        """Whether a picture of the output's size needs no change of place; a larger one may need a crop."""
        return not self.mirrored and (self.x, self.y, self.w, self.h) == (0, 0, self.out_w, self.out_h)

    @property
    def changes_colours(self) -> bool:
        """Whether `recolour` does anything."""
        return (self.brightness, self.contrast, self.saturation) != (1, 1, 1)

    def scaled(self, factor: int) -> "View":
        """The same view of pictures that were decoded at 1/factor of their size."""
        if factor == 1:
            return self
        shrunk = {name: getattr(self, name) / factor for name in ("x", "y", "w", "h")}
        return View(**{**asdict(self), **shrunk})

    def show(self, picture: np.ndarray, out: np.ndarray) -> None:
        """Write a picture (H, W, 3), as seen in this view, to `out` (out_h, out_w, 3). Colours stay."""
        if (self.w, self.h) == (self.out_w, self.out_h) and self.x == int(self.x) and self.y == int(self.y):
            x, y = int(self.x), int(self.y)
            seen = picture[y : y + self.out_h, x : x + self.out_w]
            if not self.mirrored:
                out[...] = seen
                return
            seen = np.ascontiguousarray(seen)
        else:
            box = (self.x, self.y, min(self.x + self.w, picture.shape[1]), min(self.y + self.h, picture.shape[0]))
            resized = Image.fromarray(picture).resize((self.out_w, self.out_h), Image.Resampling.BILINEAR, box)
            seen = np.asarray(resized)
            if not self.mirrored:
                out[...] = seen
                return
        out[...] = np.asarray(Image.fromarray(seen).transpose(Image.Transpose.FLIP_LEFT_RIGHT))

    def recolour(self, frames: np.ndarray) -> None:
        """Change colours of (T, H, W, 3) in place, all frames alike: the mean grey is that of the whole item."""
        if not self.changes_colours or not frames.size:
            return
        values = np.arange(256, dtype=np.float32) * self.brightness
        grey = float(_grey(frames[:: max(len(frames) // 8, 1)]).mean()) * self.brightness
        table = np.clip((values - grey) * self.contrast + grey + 0.5, 0, 255).astype(np.uint8)
        for frame in frames:  # one at a time: floats of a whole item would be four times its size
            changed = table[frame]
            if self.saturation != 1:
                plain = _grey(changed)[..., None]
                changed = np.clip(plain + self.saturation * (changed - plain) + 0.5, 0, 255).astype(np.uint8)
            frame[...] = changed

    def move_points(self, points: np.ndarray) -> np.ndarray:
        """Landmarks (..., N, 2) in the view's pixels; N of 68 or 49 exchange sides in a mirror.

        ValueError for another N in a mirror: nobody knows which point is whose.
        """
        offset, factor = np.array([self.x, self.y]), np.array([self.out_w / self.w, self.out_h / self.h])
        moved = ((points + 0.5 - offset) * factor - 0.5).astype(points.dtype)
        if self.mirrored:
            mirror = _MIRRORS.get(points.shape[-2])
            if mirror is None:
                raise ValueError(f"no mirror is known for {points.shape[-2]} landmarks; 68 and 49 have one")
            moved = moved[..., mirror, :]
            moved[..., 0] = self.out_w - 1 - moved[..., 0]
        return moved

    def move_boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Rectangles (..., 4) x, y, w, h in the view's pixels; they may reach beyond its edges."""
        factor = np.array([self.out_w / self.w, self.out_h / self.h] * 2)
        moved = ((boxes - np.array([self.x, self.y, 0, 0])) * factor).astype(boxes.dtype)
        if self.mirrored:
            moved[..., 0] = self.out_w - moved[..., 0] - moved[..., 2]
        return moved

    def move_angles(self, angles: np.ndarray) -> np.ndarray:
        """Yaw, pitch and, of a head, roll (..., 2 or 3): a mirror turns yaw and roll round."""
        return angles * np.array([-1, 1, -1], angles.dtype)[: angles.shape[-1]] if self.mirrored else angles


def _grey(frames: np.ndarray) -> np.ndarray:
    """Luma (ITU-R BT.601) of (..., 3), float32."""
    return frames @ np.array([0.299, 0.587, 0.114], np.float32)
