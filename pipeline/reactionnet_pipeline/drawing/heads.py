"""Drawn heads that face detectors take for photographs: sculpted, lit and painted from numbers, nothing loaded.

A head is a relief: depth and colour over a frontal plane, lit once. Lids, irises, brows and mouth are painted into it
for each picture, and turning the head shifts every point by its depth. Coordinates of the head: unit 70 mm (half of
the face's width), origin between the eyes, x to the right and y down in the picture, z towards the camera.

Letters: H height, W width, C colour (RGB).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

Rgb = tuple[int, int, int]
UNIT = 150  # pixels of the painted head
LEFT, TOP, RIGHT, BOTTOM = -1.7, -2.3, 1.7, 2.3
PIVOT_Z = 0.1  # the axis of the neck lies behind the face
SIDES = (-1, 1)
# How far hair stands off the skull, and how far from the middle the temples begin, by style.
GROWTH = {
    "short": 0.07,
    "long": 0.12,
    "bob": 0.13,
    "fringe": 0.12,
    "curly": 0.24,
    "bald": 0.0,
    "bun": 0.06,
    "side": 0.1,
}
TEMPLES = {"short": 0.80, "curly": 0.84, "side": 0.82, "bun": 0.82}


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What tells one drawn person from another. Lengths are factors of the average face."""

    skin: Rgb
    hair: Rgb
    iris: Rgb = (90, 60, 40)
    lips: Rgb | None = None
    brows: float = 1.0  # thickness
    style: str = "short"  # of the hair: short, long, bob, fringe, curly, bald, bun, side
    hairline: float = -0.95  # y
    beard: float = 0.0  # 0 none, 0.4 stubble, 1 full
    moustache: float = 0.0
    glasses: bool = False
    width: float = 1.0
    jaw: float = 1.0  # width of the lower face
    length: float = 1.0  # of the lower face
    eyes: float = 1.0
    eye_distance: float = 1.0
    nose: float = 1.0  # width
    nose_length: float = 1.0
    mouth: float = 1.0
    lip_fullness: float = 1.0
    age: float = 0.0  # 0 smooth, 1 lined
    clothes: Rgb = (60, 80, 120)
    room: Rgb = (190, 180, 165)
    light: float = -0.5  # where the lamp stands: -1 left, 1 right


@dataclass(frozen=True, kw_only=True)
class Pose:
    """How a head is held and what the face does in one picture. Angles in degrees, the rest 0 to 1."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    x: float = 0.0  # shift, units of the head
    y: float = 0.0
    blink: float = 0.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0
    smile: float = 0.0
    talk: float = 0.0  # how far the jaw is open
    brows: float = 0.0  # raised


def _plane() -> tuple[np.ndarray, np.ndarray]:
    xs = np.arange(round((RIGHT - LEFT) * UNIT), dtype=np.float32) / UNIT + LEFT
    ys = np.arange(round((BOTTOM - TOP) * UNIT), dtype=np.float32) / UNIT + TOP
    x_HW, y_HW = np.meshgrid(xs, ys)
    return x_HW, y_HW


def _bump(x_HW, y_HW, at: tuple[float, float], size: tuple[float, float]) -> np.ndarray:
    return np.exp(-(((x_HW - at[0]) / size[0]) ** 2 + ((y_HW - at[1]) / size[1]) ** 2) / 2)


def step(value_HW: np.ndarray, soft: float) -> np.ndarray:
    """0 to 1, half at zero."""
    return np.clip(value_HW / (2 * soft) + 0.5, 0, 1)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cell: int) -> np.ndarray:
    """Mean 0, about -1 to 1, features of `cell` pixels."""
    small = rng.normal(0, 0.7, (shape[0] // cell + 3, shape[1] // cell + 3)).astype(np.float32)
    return cv2.resize(small, shape[::-1], interpolation=cv2.INTER_CUBIC)


def _pixels(*points: tuple[float, float]) -> np.ndarray:
    """Points of the head as cv2 takes them with shift=4."""
    return np.round([((x - LEFT) * UNIT * 16, (y - TOP) * UNIT * 16) for x, y in points]).astype(np.int32)


class Head:
    """The painted and lit relief of one person, and the picture of it in any pose."""

    def __init__(self, looks: Looks, seed: int = 0):
        self.looks = looks
        self.rng = np.random.default_rng(seed)
        self.x_HW, self.y_HW = _plane()
        self.eye_x = 0.445 * looks.eye_distance
        self.nose_y = 0.62 * looks.nose_length
        self.mouth_y = 0.60 * looks.nose_length + 0.42 * looks.length
        self.chin_y = self.mouth_y + 0.62 * looks.length
        self.half_width_HW = self._half_width()
        self.depth_HW = self._depth()
        self.inside_HW = step(self.half_width_HW - np.abs(self.x_HW), 0.012) * (self.half_width_HW > 0.06)
        self.skin_HWC = self._skin()
        self.picture_HWC, self.alpha_HW = self._dress()
        extended = np.where(self.inside_HW > 0.3, self.depth_HW, 0.15).astype(np.float32)
        self.warp_depth_HW = cv2.GaussianBlur(extended, (0, 0), 6) - PIVOT_Z
        self.brow_mask_HW = self._brows()

    # -- the relief

    def _half_width(self) -> np.ndarray:
        """Half of the head's width at each height: skull, cheeks, jaw, chin; 0 above and below."""
        looks = self.looks
        at = [-1.62, -1.55, -1.35, -1.0, -0.5, 0.0, 0.4, 0.75, self.mouth_y, self.mouth_y + 0.3, self.chin_y - 0.1,
              self.chin_y, self.chin_y + 0.03]  # fmt: skip
        wide = [0.0, 0.42, 0.76, 0.96, 1.02, 1.0, 0.98, 0.92 * looks.jaw, 0.79 * looks.jaw, 0.60 * looks.jaw,
                0.36 * looks.jaw, 0.16 * looks.jaw, 0.0]  # fmt: skip
        ys = self.y_HW[:, 0]
        half = np.sqrt(np.interp(ys, at, (np.array(wide) * looks.width) ** 2))  # squares: the ends are round
        half = gaussian_filter1d(half, 0.03 * UNIT)[:, None].astype(np.float32)
        return np.broadcast_to(half, self.x_HW.shape)

    def _depth(self) -> np.ndarray:
        x, y, looks = self.x_HW, self.y_HW, self.looks
        profile = np.interp(
            y[:, 0],
            [-1.6, -1.3, -0.9, -0.35, 0.0, 0.5, self.mouth_y, self.chin_y - 0.15, self.chin_y + 0.1],
            [0.15, 0.72, 1.02, 1.16, 1.12, 1.12, 1.1, 1.0, 0.62],
        )
        profile = gaussian_filter1d(profile, 0.08 * UNIT)[:, None]
        across = np.abs(x) / np.maximum(self.half_width_HW, 0.05)
        z = profile * np.sqrt(np.clip(1 - across**2.3, 0.0, 1))
        for side in SIDES:
            ex = side * self.eye_x
            z -= 0.20 * _bump(x, y, (ex - side * 0.04, -0.02), (0.21, 0.13))  # sockets
            z += 0.085 * _bump(x, y, (ex, 0.005), (0.15, 0.095))  # eyeballs
            z += 0.055 * _bump(x, y, (ex, -0.31), (0.27, 0.08))  # brow ridges
            z += 0.09 * _bump(x, y, (side * 0.66, 0.38), (0.2, 0.2))  # cheekbones
            z += 0.13 * _bump(x, y, (side * 0.17 * looks.nose, self.nose_y - 0.03), (0.07 * looks.nose, 0.075))
        ridge = np.interp(y[:, :1], [-0.3, -0.05, 0.3, self.nose_y - 0.06, self.nose_y + 0.1], [0, 0.1, 0.24, 0.34, 0])
        wide = np.interp(y[:, :1], [-0.2, self.nose_y], [0.085, 0.15 * looks.nose])
        ridge = gaussian_filter1d(ridge, 0.035 * UNIT, axis=0)
        z += ridge * np.exp(-((x / wide) ** 2) / 2)
        z += 0.08 * _bump(x, y, (0, self.nose_y - 0.05), (0.1 * looks.nose, 0.09))
        z += 0.10 * _bump(x, y, (0, self.mouth_y - 0.02), (0.36, 0.22))
        z += 0.09 * _bump(x, y, (0, self.chin_y - 0.2), (0.2, 0.12))
        z -= 0.06 * _bump(x, y, (0, self.mouth_y + 0.26), (0.22, 0.06))
        return z.astype(np.float32)

    def _skin(self) -> np.ndarray:
        """Lit skin without eyes, brows and mouth, float32 RGB."""
        x, y, looks, rng = self.x_HW, self.y_HW, self.looks, self.rng
        skin = np.broadcast_to(np.array(looks.skin, np.float32), (*x.shape, 3)).copy()
        blush = sum(_bump(x, y, (side * 0.6, 0.45), (0.25, 0.2)) for side in SIDES)
        blush = blush + 0.8 * _bump(x, y, (0, 0.55), (0.2, 0.15))
        skin *= 1 - blush[..., None] * np.array([0.0, 0.09, 0.10], np.float32)
        mottle = smooth_noise(rng, x.shape, 14) * 0.02 + smooth_noise(rng, x.shape, 3) * 0.018
        skin *= (1 + mottle)[..., None]
        relief = cv2.GaussianBlur(self.depth_HW, (0, 0), 2.0)
        light = self._light(relief)
        hollow = relief - cv2.GaussianBlur(relief, (0, 0), 0.13 * UNIT)
        light *= np.clip(1 + 1.9 * hollow, 0.45, 1.25)
        for side in SIDES:
            light *= 1 - 0.30 * _bump(x, y, (side * self.eye_x - side * 0.12, -0.14), (0.17, 0.07))  # under the brow
            light *= 1 - 0.13 * _bump(x, y, (side * self.eye_x, 0.17), (0.19, 0.05))  # under the eye
            fold = np.abs(x - side * (0.25 + 0.42 * (y - self.nose_y)))
            along = step(y - self.nose_y + 0.02, 0.06) * step(self.mouth_y + 0.02 - y, 0.1)
            light *= 1 - (0.10 + 0.18 * looks.age) * np.exp(-((fold / 0.035) ** 2)) * along
        light *= 1 - 0.34 * _bump(x, y, (0, self.nose_y + 0.13), (0.16 * looks.nose, 0.05))
        light *= 1 - 0.22 * _bump(x, y, (0, self.mouth_y + 0.2), (0.22, 0.045))
        for wrinkle in (-0.55, -0.68, -0.8):
            light *= 1 - 0.13 * looks.age * np.exp(-(((y - wrinkle - 0.03 * x**2) / 0.014) ** 2)) * step(
                0.6 - abs(x), 0.1
            )
        lit = skin * light[..., None]
        shine = np.clip(self._light(relief, power=14) - 0.55, 0, 1) * 60
        lit += shine[..., None]
        nostrils = sum(
            _bump(x, y, (s * 0.105 * looks.nose, self.nose_y + 0.055), (0.052 * looks.nose, 0.026)) for s in SIDES
        )
        lit *= 1 - 0.78 * np.clip(nostrils, 0, 1)[..., None]
        wings = sum(
            np.exp(
                -(((np.hypot((x - s * 0.17 * looks.nose) / looks.nose, y - self.nose_y + 0.02) - 0.105) / 0.02) ** 2)
            )
            * step(s * x - 0.2 * looks.nose, 0.03)
            for s in SIDES
        )
        return (lit * (1 - 0.22 * wings)[..., None]).astype(np.float32)

    def _light(self, relief_HW: np.ndarray, power: float = 1.0) -> np.ndarray:
        """Lambert's law for a soft lamp above, beside the camera, and a weak one from the other side."""
        gy, gx = np.gradient(relief_HW, 1 / UNIT)
        length = np.sqrt(gx**2 + gy**2 + 1)
        lamp = np.array([self.looks.light * 0.6, -0.55, 0.9])
        lamp /= np.linalg.norm(lamp)
        fill = np.array([-self.looks.light * 0.9, -0.1, 0.6])
        fill /= np.linalg.norm(fill)
        key = np.clip((-gx * lamp[0] - gy * lamp[1] + lamp[2]) / length, 0, 1)
        if power != 1:
            return key**power
        rest = np.clip((-gx * fill[0] - gy * fill[1] + fill[2]) / length, 0, 1)
        return (0.30 + 0.66 * key + 0.20 * rest).astype(np.float32)

    # -- hair

    def _strands(self, around: tuple[float, float] = (0.0, -1.2)) -> np.ndarray:
        """Noise drawn out along lines that leave the crown, 0.6 to 1.4."""
        turn = np.arctan2(self.x_HW - around[0], self.y_HW - around[1] + 0.05)
        away = np.hypot(self.x_HW - around[0], self.y_HW - around[1])
        noise = self.rng.normal(0, 1, (24, 900)).astype(np.float32)
        fine = 2 * cv2.GaussianBlur(noise, (0, 0), 0.8)
        map_x, map_y = ((turn / np.pi + 1) * 449).astype(np.float32), (away * 6).astype(np.float32)
        return np.clip(
            1 + 0.2 * cv2.remap(fine, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), 0.6, 1.4
        )

    def _curls(self) -> np.ndarray:
        noise = smooth_noise(self.rng, self.x_HW.shape, 9)
        return np.clip(
            1 + (0.35 if sum(self.looks.hair) < 120 else 0.10) * noise, 0.5, 1.5
        )  # MTCNN sees small faces in strong curls

    def _scalp(self, wobble_HW: np.ndarray) -> np.ndarray:
        """Opacity, 0 to 1, of the hair on the skull: above the hairline and beside the temples."""
        x, y, looks = self.x_HW, self.y_HW, self.looks
        line = looks.hairline + 0.30 * np.clip(np.abs(x) - 0.25, 0, 1) ** 1.5 + wobble_HW
        if looks.style == "fringe":
            line = -0.47 + 0.10 * np.abs(x) + 0.6 * wobble_HW
        if looks.style == "side":
            line = looks.hairline + 0.22 * (0.6 - x) * step(x + 0.5, 0.1) + 0.2 * np.abs(x) + wobble_HW
        temple = TEMPLES.get(looks.style, 0.86) * looks.width + 0.10 * np.clip(0.1 - y, 0, 1)
        sides = step(np.abs(x) + wobble_HW - temple, 0.02) * step(0.1 - y + wobble_HW, 0.05)
        return np.maximum(step(line - y, 0.025), sides)

    def _hair(self, wobble_HW: np.ndarray) -> np.ndarray:
        x, y, looks = self.x_HW, self.y_HW, self.looks
        grow = GROWTH[looks.style]
        crown = 1 - np.hypot(x / (1.02 * looks.width + grow), (y + 0.45) / (1.2 + grow))
        if looks.style == "curly":
            crown = crown + 0.03 * smooth_noise(self.rng, x.shape, 14)
        hair = self._scalp(wobble_HW) * step(crown, 0.015)
        if looks.style in ("long", "bob"):
            end = 2.0 if looks.style == "long" else self.mouth_y + 0.15
            inner = (0.86 + 0.05 * np.sin(y * 3)) * looks.width - wobble_HW
            outer = (1.14 + 0.10 * np.clip(y + 0.4, 0, 1.5) + 0.03 * np.sin(4 * y)) * looks.width + wobble_HW
            drape = step(np.abs(x) - inner, 0.02) * step(outer - np.abs(x), 0.03)
            hair = np.maximum(hair, drape * step(y + 0.5, 0.02) * step(end - y + 2 * wobble_HW, 0.04))
        if looks.style == "bun":
            hair = np.maximum(hair, step(1 - np.hypot(x / 0.42, (y + 1.78) / 0.34) + wobble_HW, 0.03))
        return hair

    def _hair_colour(self) -> np.ndarray:
        x, y, looks = self.x_HW, self.y_HW, self.looks
        parting = -0.5 if looks.style == "side" else 0.0
        texture = self._curls() if looks.style == "curly" else self._strands((parting, -1.25))
        dome = np.clip(1.15 - 0.45 * np.abs(x - looks.light * 0.5) - 0.15 * np.abs(y + 1.0), 0.45, 1.2)
        shine = 0.35 * _bump(x, y, (looks.light * 0.4, -1.15), (0.5, 0.16))
        return np.array(looks.hair, np.float32) * (texture * (dome + shine))[..., None] + 30 * shine[..., None]

    def _beard(self, wobble_HW: np.ndarray) -> np.ndarray:
        """Opacity of beard and moustache, grainy."""
        x, y, looks = np.abs(self.x_HW), self.y_HW, self.looks
        jaw = step(x - 0.62 * looks.width + 0.55 * np.clip(y - 0.75, 0, 1.2), 0.12) * step(y - 0.3 + wobble_HW, 0.15)
        chin = step(y - self.mouth_y - 0.20 + wobble_HW, 0.05)
        off_lip = np.abs(y - self.mouth_y + 0.19 - 0.12 * x**2 + wobble_HW * 0.5)
        moustache = step(0.09 - off_lip, 0.025) * step(0.46 - x, 0.05)
        grain = np.clip(0.82 + 0.3 * self.rng.normal(0, 1, x.shape), 0, 1).astype(np.float32)
        cover = np.maximum(looks.beard * np.maximum(jaw, chin), looks.moustache * moustache)
        return np.clip(cover, 0, 1) * cv2.GaussianBlur(grain, (0, 0), 0.9)

    def _dress(self) -> tuple[np.ndarray, np.ndarray]:
        """Skin with ears, hair and beard, uint8 RGB, and the head's opacity."""
        x, y, looks = self.x_HW, self.y_HW, self.looks
        wobble = 0.035 * smooth_noise(self.rng, x.shape, 12)
        ears = [(s * 1.03 * looks.width, 0.2) for s in SIDES]
        ear = sum(step(1 - np.hypot((x - ex) / 0.12, (y - ey) / 0.34), 0.08) for ex, ey in ears)
        shade = 0.74 - 0.25 * np.sum([_bump(x, y, place, (0.05, 0.18)) for place in ears], axis=0)
        face = self.inside_HW[..., None]
        picture = self.skin_HWC * face + np.array(looks.skin, np.float32) * shade[..., None] * (1 - face)
        alpha = np.maximum(self.inside_HW, np.clip(ear, 0, 1))

        if looks.style == "bald":
            hair = 0.28 * self._scalp(wobble) * self.inside_HW  # the shadow of shaved hair
        else:
            hair = self._hair(wobble)
            alpha = np.maximum(alpha, hair)
            picture *= 1 - 0.30 * cv2.GaussianBlur(hair, (0, 0), 0.05 * UNIT)[..., None]  # its soft shadow on the skin
        picture = picture * (1 - hair[..., None]) + self._hair_colour() * hair[..., None]
        beard = (self._beard(wobble) * self.inside_HW)[..., None]
        light = self._light(cv2.GaussianBlur(self.depth_HW, (0, 0), 3))[..., None]
        picture = picture * (1 - beard) + np.array(looks.hair, np.float32) * (0.75 + 0.4 * light) * beard
        return np.clip(picture, 0, 255).astype(np.uint8), (np.clip(alpha, 0, 1) * 255).astype(np.uint8)

    def _brows(self) -> np.ndarray:
        """Opacity of the brows, 0-255: short strokes along an arch."""
        mask, rng = np.zeros(self.x_HW.shape, np.uint8), self.rng
        for side in SIDES:
            for along in np.linspace(0, 1, 90):
                x = side * (0.17 + 0.55 * along)
                y = -0.29 - 0.09 * np.sin(np.pi * min(along * 0.85 + 0.08, 1)) + 0.05 * along
                thick = 0.055 * self.looks.brows * (1 - 0.6 * along)
                for _ in range(3):
                    dy = rng.uniform(-thick, thick)
                    lean = side * (0.02 + 0.05 * along), -0.045 * (1 - along)
                    cv2.polylines(
                        mask, [_pixels((x, y + dy), (x + lean[0], y + dy + lean[1]))], False, 235, 2, cv2.LINE_AA, 4
                    )
        return cv2.GaussianBlur(mask, (0, 0), 1.3)

    # -- what moves in the face

    def face(self, pose: Pose) -> np.ndarray:
        """The relief's picture (H, W, 3) with eyes, brows and mouth painted in."""
        picture = self._lower_face(pose)
        self._paint_brows(picture, pose)
        for side in SIDES:
            self._paint_eye(picture, side, pose)
        self._paint_mouth(picture, pose)
        if self.looks.glasses:
            self._paint_glasses(picture)
        return picture

    @cached_property
    def _lower_fields(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, slice]:
        rows = slice(round((0.3 - TOP) * UNIT), self.x_HW.shape[0])
        x, y = self.x_HW[rows], self.y_HW[rows]
        jaw = step(y - self.mouth_y, 0.25) * np.exp(-((x / 0.75) ** 4)) * step(self.chin_y + 0.35 - y, 0.3)
        cheek_x = np.sum([s * _bump(x, y, (s * 0.42, self.mouth_y - 0.05), (0.2, 0.2)) for s in SIDES], axis=0)
        cheek_y = np.sum([_bump(x, y, (s * 0.48, self.mouth_y - 0.15), (0.22, 0.24)) for s in SIDES], axis=0)
        return jaw.astype(np.float32), cheek_x.astype(np.float32), cheek_y.astype(np.float32), rows

    def _lower_face(self, pose: Pose) -> np.ndarray:
        """Jaw down, cheeks out and up."""
        jaw, cheek_x, cheek_y, rows = self._lower_fields
        picture = self.picture_HWC.copy()
        shift_x = 0.07 * pose.smile * cheek_x
        shift_y = 0.16 * pose.talk * jaw - 0.07 * pose.smile * cheek_y
        map_x = (self.x_HW[rows] - shift_x - LEFT) * UNIT
        map_y = (self.y_HW[rows] - shift_y - TOP) * UNIT
        picture[rows] = cv2.remap(self.picture_HWC, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return picture

    def _window(self, x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice]:
        rows = slice(round((y0 - TOP) * UNIT), round((y1 - TOP) * UNIT))
        return rows, slice(round((x0 - LEFT) * UNIT), round((x1 - LEFT) * UNIT))

    def _mix(self, picture, window, mask_HW: np.ndarray, colour: Sequence[float] | np.ndarray) -> None:
        part = picture[window]
        alpha = mask_HW[window][..., None].astype(np.float32) / 255
        part[:] = (part * (1 - alpha) + np.asarray(colour, np.float32) * alpha).astype(np.uint8)

    def _paint_brows(self, picture: np.ndarray, pose: Pose) -> None:
        shift = round(-0.07 * pose.brows * UNIT)
        window = self._window(-0.95, -0.62, 0.95, -0.12)
        mask = np.roll(self.brow_mask_HW[window], shift, axis=0)
        alpha = mask[..., None].astype(np.float32) / 255 * (0.9 if sum(self.looks.hair) < 400 else 0.6)
        colour = np.array(self.looks.hair, np.float32) * 0.72
        picture[window] = (picture[window] * (1 - alpha) + colour * alpha).astype(np.uint8)

    def _paint_eye(self, picture: np.ndarray, side: int, pose: Pose) -> None:
        """Sclera, iris and lids within an almond that the upper lid closes."""
        size, ex = self.looks.eyes, side * self.eye_x
        wide, open_up = 0.215 * size, 0.10 * size * (1 - pose.blink) * (1 - 0.25 * pose.smile)
        low = 0.062 * size * (1 - 0.3 * pose.smile)
        upper_end = low * (0.8 if pose.blink > 0.5 else 1.0)
        t = np.linspace(-1, 1, 25)
        arch = (1 - t**2) ** 0.8
        tilt = -0.018 * side * t  # the outer corner a little higher
        upper = [
            (ex + wide * u, tilt_u - open_up * a + upper_end * a * pose.blink)
            for u, a, tilt_u in zip(t, arch, tilt, strict=True)
        ]
        lower = [(ex + wide * u, tilt_u + low * a) for u, a, tilt_u in zip(t, arch, tilt, strict=True)]
        window = self._window(ex - 0.34, -0.27, ex + 0.34, 0.22)
        if open_up > 0.015:
            almond = np.zeros(self.x_HW.shape, np.uint8)
            cv2.fillPoly(almond, [_pixels(*upper, *lower[::-1])], 255, cv2.LINE_AA, 4)
            x, y = self.x_HW[window], self.y_HW[window]
            ix, iy = ex + 0.05 * pose.gaze_x, -0.018 + 0.03 * pose.gaze_y
            away = np.hypot(x - ix, y - iy)
            ball = np.clip(1 - 0.55 * (np.hypot((x - ex) / 0.24, y / 0.17)) ** 2, 0.45, 1)
            white = np.array([222, 214, 210], np.float32) * ball[..., None]
            ring = 1 - 0.45 * step(away - 0.075 * size, 0.012) + 0.25 * _bump(x, y, (ix, iy + 0.05), (0.05, 0.03))
            eye = (
                white
                + (np.array(self.looks.iris, np.float32) * ring[..., None] - white)
                * step(0.092 * size - away, 0.008)[..., None]
            )
            eye *= 1 - 0.93 * step(0.042 * size - away, 0.006)[..., None]
            glint = _bump(x, y, (ix + 0.03 * np.sign(self.looks.light), iy - 0.035), (0.014, 0.014))
            eye += 215 * glint[..., None]
            lid_y = np.interp(x[0], [p[0] for p in upper], [p[1] for p in upper])
            eye *= 1 - 0.5 * np.exp(-(((y - lid_y) / 0.035) ** 2))[..., None]  # the lid's shadow
            self._mix(picture, window, almond, np.clip(eye, 0, 255))
        lines = np.zeros(self.x_HW.shape, np.uint8)
        cv2.polylines(lines, [_pixels(*upper)], False, 255, 4, cv2.LINE_AA, 4)
        lines[window] = cv2.GaussianBlur(lines[window], (0, 0), 1.2)
        self._mix(picture, window, lines, np.array(self.looks.skin) * 0.16)
        soft = np.zeros(self.x_HW.shape, np.uint8)
        crease = [(x, y - 0.062 * size * (1 - 0.5 * pose.blink)) for x, y in upper[3:-2]]
        cv2.polylines(soft, [_pixels(*crease)], False, 120, 3, cv2.LINE_AA, 4)
        cv2.polylines(soft, [_pixels(*lower)], False, 130, 2, cv2.LINE_AA, 4)
        soft[window] = cv2.GaussianBlur(soft[window], (0, 0), 1.5)
        self._mix(picture, window, soft, np.array(self.looks.skin) * 0.35)

    def _paint_mouth(self, picture: np.ndarray, pose: Pose) -> None:
        looks = self.looks
        wide = 0.365 * looks.mouth * (1 + 0.2 * pose.smile - 0.1 * pose.talk)
        gap = 0.15 * pose.talk + 0.045 * pose.smile
        full = looks.lip_fullness
        t = np.linspace(-1, 1, 31)
        arch = (1 - t**2) ** 0.75
        bow = 0.022 * np.exp(-((t / 0.12) ** 2))
        corner = self.mouth_y + 0.03 * pose.smile - (0.015 + 0.13 * pose.smile) * t**2
        line_up = corner - 0.25 * gap * arch + 0.012 * np.cos(3 * np.pi * t) * (1 - np.abs(t))
        line_low = corner + 0.75 * gap * arch + 0.012 * np.cos(3 * np.pi * t) * (1 - np.abs(t))
        top = line_up - 0.092 * full * arch * (1 + 0.15 * np.cos(2 * np.pi * t)) + bow
        bottom = line_low + 0.115 * full * arch
        skin = np.array(looks.skin, np.float32)
        lips = np.array(looks.lips, np.float32) if looks.lips else skin * [0.80, 0.62, 0.62]
        points = {name: list(zip(wide * t, line, strict=True)) for name, line in
                  (("top", top), ("up", line_up), ("low", line_low), ("bottom", bottom))}  # fmt: skip
        window = self._window(-0.62, self.mouth_y - 0.3, 0.62, self.mouth_y + 0.45)
        shapes = [("top", "up", lips * 0.74), ("low", "bottom", lips * 0.97), ("up", "low", np.array([52, 18, 18]))]
        for first, second, colour in shapes:
            if first == "up" and gap < 0.012:
                continue
            mask = np.zeros(self.x_HW.shape, np.uint8)
            cv2.fillPoly(mask, [_pixels(*points[first], *points[second][::-1])], 235, cv2.LINE_AA, 4)
            mask[window] = cv2.GaussianBlur(mask[window], (0, 0), 1.4)
            self._mix(picture, window, mask, colour)
            if first == "up" and pose.smile + pose.talk > 0.25:  # upper teeth
                teeth = list(zip(0.8 * wide * t, line_up + 0.55 * (line_low - line_up), strict=True))
                mask = np.zeros(self.x_HW.shape, np.uint8)
                cv2.fillPoly(
                    mask, [_pixels(*[(0.8 * x, y) for x, y in points["up"]], *teeth[::-1])], 225, cv2.LINE_AA, 4
                )
                mask[window] = cv2.GaussianBlur(mask[window], (0, 0), 1.2)
                self._mix(picture, window, mask, np.array([226, 218, 206]) * min(1.0, skin.mean() / 255 + 0.35))
        x, y = self.x_HW[window], self.y_HW[window]
        light = 34 * _bump(x, y, (looks.light * 0.08, float(line_low[15]) + 0.055 * full), (0.13, 0.022))
        picture[window] = np.clip(picture[window] + light[..., None], 0, 255).astype(np.uint8)
        lines = np.zeros(self.x_HW.shape, np.uint8)
        for name in ("up", "low") if gap > 0.012 else ("up",):
            cv2.polylines(lines, [_pixels(*points[name])], False, 220, 3, cv2.LINE_AA, 4)
        lines[window] = cv2.GaussianBlur(lines[window], (0, 0), 1.2)
        self._mix(picture, window, lines, skin * [0.30, 0.14, 0.14])

    def _paint_glasses(self, picture: np.ndarray) -> None:
        frame = np.zeros(self.x_HW.shape, np.uint8)
        for side in SIDES:
            (centre,) = _pixels((side * (self.eye_x + 0.01), 0.03))
            axes = round(0.31 * UNIT * 16), round(0.235 * UNIT * 16)
            cv2.ellipse(frame, centre, axes, 0, 0, 360, 255, 4, cv2.LINE_AA, 4)
            ends = (side * (self.eye_x + 0.32), -0.02), (side * 1.0, 0.0)
            cv2.polylines(frame, [_pixels(*ends)], False, 255, 4, cv2.LINE_AA, 4)
        cv2.polylines(
            frame,
            [_pixels((-self.eye_x + 0.3, -0.02), (0, -0.07), (self.eye_x - 0.3, -0.02))],
            False,
            255,
            4,
            cv2.LINE_AA,
            4,
        )
        self._mix(picture, self._window(-1.1, -0.35, 1.1, 0.4), frame, (38, 32, 34))
