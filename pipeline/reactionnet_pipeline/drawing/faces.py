"""Drawn people in rooms who turn the head, blink, talk and smile; face detectors take them for photographs.

`draw_reactor("ada", LOOKS["ada"])` gives a `Clip` without face boxes, `draw_pair` two people in one room;
`composing.with_detected_faces` adds the boxes. All of it is computed from numbers; nothing is loaded.

Letters: H height, W width, C colour (RGB).
"""

import math

import cv2
import numpy as np

from reactionnet_pipeline.drawing.composition import Clip
from reactionnet_pipeline.drawing.heads import LEFT, TOP, UNIT, Head, Looks, Pose, smooth_noise, step

LOOKS = {
    "ada": Looks(skin=(232, 190, 165), hair=(60, 38, 26), style="long", iris=(70, 95, 70), lips=(190, 95, 95), jaw=0.92,
                 eyes=1.1, brows=0.8, lip_fullness=1.2, clothes=(150, 40, 60), room=(205, 195, 180)),
    "bo": Looks(skin=(214, 165, 130), hair=(28, 24, 22), style="short", beard=1.0, moustache=1.0, brows=1.4, jaw=1.06,
                nose=1.15, clothes=(40, 60, 50), room=(120, 140, 160), light=0.5),
    "cy": Looks(skin=(120, 78, 54), hair=(18, 15, 14), style="curly", iris=(50, 32, 22), nose=1.3, lip_fullness=1.5,
                mouth=1.1, jaw=0.98, clothes=(225, 170, 60), room=(170, 190, 175)),
    "dot": Looks(skin=(240, 205, 185), hair=(205, 165, 95), style="bob", iris=(80, 120, 160), lips=(205, 100, 105),
                 width=0.94, jaw=0.86, eyes=1.15, brows=0.65, nose=0.85, clothes=(60, 120, 170), room=(220, 205, 210)),
    "ed": Looks(skin=(225, 175, 150), hair=(200, 198, 195), style="side", hairline=-1.15, age=1.0, iris=(100, 120, 135),
                jaw=1.05, length=1.06, nose=1.2, nose_length=1.08, eyes=0.9, lip_fullness=0.7, brows=1.1,
                clothes=(90, 85, 80), room=(150, 130, 110), light=0.6),
    "fay": Looks(skin=(165, 112, 80), hair=(22, 17, 16), style="bun", iris=(60, 38, 25), lips=(150, 62, 62), eyes=1.12,
                 jaw=0.94, lip_fullness=1.35, brows=1.0, clothes=(120, 60, 140), room=(200, 170, 150), light=0.4),
    "gus": Looks(skin=(238, 185, 160), hair=(175, 80, 35), style="short", beard=0.8, moustache=0.6, iris=(75, 115, 95),
                 width=1.05, jaw=1.1, mouth=1.08, brows=0.9, clothes=(50, 100, 70), room=(185, 185, 195)),
    "hui": Looks(skin=(235, 198, 160), hair=(20, 20, 24), style="fringe", iris=(48, 32, 24), width=1.0, jaw=0.95,
                 eyes=0.95, eye_distance=1.08, nose=0.95, nose_length=0.9, length=0.94, lip_fullness=1.05, brows=0.8,
                 clothes=(235, 235, 230), room=(140, 165, 150), light=0.5),
    "ike": Looks(skin=(104, 69, 50), hair=(15, 13, 12), style="bald", beard=0.45, moustache=0.2, iris=(40, 25, 18),
                 lips=(132, 72, 64), nose=1.35, lip_fullness=1.3, jaw=1.08, mouth=1.0, brows=1.1,
                 clothes=(170, 50, 40), room=(205, 205, 195)),
    "joy": Looks(skin=(205, 150, 115), hair=(110, 58, 30), style="curly", iris=(85, 65, 35), lips=(180, 80, 80),
                 width=0.97, jaw=0.88, eyes=1.18, brows=0.9, nose=1.0, mouth=1.15, clothes=(40, 130, 130),
                 room=(215, 190, 140)),
    "kit": Looks(skin=(228, 180, 155), hair=(95, 70, 48), style="side", glasses=True, iris=(65, 85, 110), jaw=0.97,
                 length=1.08, nose_length=1.1, eyes=0.95, brows=1.2, clothes=(70, 70, 110), room=(165, 150, 145)),
    "lou": Looks(skin=(190, 135, 100), hair=(25, 20, 20), style="short", moustache=1.0, iris=(55, 35, 25), width=1.06,
                 jaw=1.12, length=0.95, nose=1.25, eyes=0.92, brows=1.5, age=0.5, clothes=(210, 120, 60),
                 room=(130, 120, 150), light=0.5),
}  # fmt: skip


BODY_LEFT, BODY_TOP = -2.2, 0.55  # the body's plane in units of the head


def _room(looks: Looks, width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """A wall out of focus: a gradient of light, a shelf or a window, a plant or a picture."""
    wall = np.array(looks.room, np.float32)
    corners = wall * rng.uniform(0.72, 1.12, (2, 2, 1))
    room = cv2.resize(corners.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    for _ in range(rng.integers(3, 6)):
        x, y = rng.uniform(-0.1, 1, 2) * (width, height)
        w, h = rng.uniform(0.08, 0.3, 2) * (width, height)
        colour = wall * rng.uniform(0.45, 1.2) + rng.uniform(-25, 25, 3)
        cv2.rectangle(room, (int(x), int(y)), (int(x + w), int(y + h)), colour.tolist(), -1)
    room = cv2.GaussianBlur(room, (0, 0), max(width / 90, 1))
    return np.clip(room + rng.normal(0, 2.0, (height, width, 1)), 0, 255).astype(np.uint8)


def _body(looks: Looks, rng: np.random.Generator) -> np.ndarray:
    """Neck and shoulders as RGB and opacity (H, W, 4), a plane that begins at BODY_LEFT, BODY_TOP of the head's."""
    xs = np.arange(round(-2 * BODY_LEFT * UNIT), dtype=np.float32) / UNIT + BODY_LEFT
    ys = np.arange(round(5 * UNIT), dtype=np.float32) / UNIT + BODY_TOP
    x, y = np.meshgrid(xs, ys)
    across = np.abs(x) / (0.62 * looks.width + 0.25 * np.clip(y - 1.6, 0, 1) ** 2)
    neck = step(1 - across, 0.02) * (y > 0.6)
    tone = np.clip(1.0 - 0.5 * across**2 + 0.12 * looks.light * x, 0.3, 1.1)
    tone *= np.interp(y, [1.15, 1.6, 2.15], [0.45, 0.62, 0.85])  # the chin's shadow
    picture = np.array(looks.skin, np.float32) * tone[..., None]
    top = 1.91 + 0.52 * np.clip((np.abs(x) - 0.5) / 1.7, 0, 1) ** 2.2
    shoulders = step(y - top, 0.015) * step(2.12 - np.abs(x) - 0.35 * np.clip(2.6 - y, 0, 1) ** 2, 0.02)
    collar = 0.34 * np.clip(1 - (x / 0.56) ** 2, 0, 1)
    shirt = np.where(across > 1, 1, step(y - top - collar, 0.015))[..., None]
    light = np.clip(1.0 - 0.12 * x**2 + 0.16 * looks.light * x, 0.4, 1.2)
    light *= np.interp(y, [1.85, 2.15, 3.5], [0.8, 1, 0.8])
    light *= 1 + 0.10 * smooth_noise(rng, x.shape, 45) + 0.03 * smooth_noise(rng, x.shape, 4)  # folds and cloth
    picture = picture * (1 - shirt) + np.array(looks.clothes, np.float32) * light[..., None] * shirt
    alpha = np.maximum(neck, shoulders) * 255
    return np.clip(np.dstack([picture, alpha]), 0, 255).astype(np.uint8)


class Reactor:
    """A person before a wall, in pictures of one size. `unit` is half of the face's width in pixels."""

    def __init__(self, looks: Looks, *, size: tuple[int, int], unit: float, eyes: tuple[float, float], seed: int):
        """`eyes`: the point between them, in pixels, where the head rests."""
        rng = np.random.default_rng(seed)
        self.head = Head(looks, seed)
        self.room = _room(looks, *size, rng)
        rows, columns = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)
        self.u_HW, self.v_HW = (columns - eyes[0]) / unit, (rows - eyes[1]) / unit
        self.shrink = max(1.0, UNIT / unit / 1.5)  # planes much larger than the picture are made smaller first
        self.body = self._shrunk(_body(looks, rng))

    def picture(self, pose: Pose, before: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The picture (H, W, 3), before the wall or another picture, and where the person is in it (H, W), 0-255."""
        canvas = self.room.copy() if before is None else before.copy()
        person = np.zeros(canvas.shape[:2], np.uint8)
        body_x = (self.u_HW - 0.5 * pose.x - BODY_LEFT) * UNIT
        body_y = (self.v_HW - 0.3 * pose.y - BODY_TOP) * UNIT
        self._lay(canvas, person, self.body, (body_x, body_y))
        head = cv2.cvtColor(self.head.face(pose), cv2.COLOR_RGB2RGBA)
        head[..., 3] = self.head.alpha_HW
        self._lay(canvas, person, self._shrunk(head), self._turned(pose))
        return canvas, person

    def _shrunk(self, plane: np.ndarray) -> np.ndarray:
        scale = 1 / self.shrink
        return plane if scale == 1 else cv2.resize(plane, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)

    def _turned(self, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
        """Where in the head's plane each pixel looks: points shift by their depth as the head turns."""
        yaw, pitch, roll = (math.radians(angle) for angle in (pose.yaw, pose.pitch, pose.roll))
        u, v = self.u_HW - pose.x, self.v_HW - pose.y - 1.2  # the neck is where it rolls
        u, v = u * math.cos(roll) + v * math.sin(roll), v * math.cos(roll) - u * math.sin(roll) + 1.2
        x, y = u, v
        for _ in range(3):  # the depth is known at the point that is looked for
            map_x, map_y = (x - LEFT) * UNIT, (y - TOP) * UNIT
            z = cv2.remap(self.head.warp_depth_HW, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            x, y = (u - z * math.sin(yaw)) / math.cos(yaw), (v + z * math.sin(pitch)) / math.cos(pitch)
        return (x - LEFT) * UNIT, (y - TOP) * UNIT

    def _lay(
        self, canvas: np.ndarray, person: np.ndarray, plane: np.ndarray, at: tuple[np.ndarray, np.ndarray]
    ) -> None:
        """Draw a plane over the canvas and the mask, in place, only where it is."""
        at_x, at_y = at[0] / self.shrink, at[1] / self.shrink
        seen = (at_x > -2) & (at_y > -2) & (at_x < plane.shape[1] + 1) & (at_y < plane.shape[0] + 1)
        left, top, w, h = cv2.boundingRect(seen.astype(np.uint8))
        part = slice(top, top + h), slice(left, left + w)
        if not w:
            return
        drawn = cv2.remap(plane, at_x[part], at_y[part], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        opaque = drawn[..., 3:].astype(np.uint16)
        canvas[part] = ((drawn[..., :3] * opaque + canvas[part] * (255 - opaque)) // 255).astype(np.uint8)
        person[part] = np.maximum(person[part], drawn[..., 3])


def poses(count: int, fps: float, seed: int, liveliness: float = 1.0) -> list[Pose]:
    """How a person moves for `count` pictures: slow turns, blinks, a word now and then, one smile."""
    rng = np.random.default_rng(seed)
    t = np.arange(count) / fps

    def wander(size: float, slow_s: float) -> np.ndarray:
        waves = [np.sin(2 * np.pi * (t / (slow_s * stretch) + rng.random())) for stretch in (1, 0.61, 0.37)]
        return liveliness * size * (waves[0] + 0.5 * waves[1] + 0.25 * waves[2]) / 1.3

    blink = np.zeros(count)
    at = rng.uniform(0.4, 2.0)
    while at < t[-1]:
        blink = np.maximum(blink, np.clip(1.6 - np.abs(t - at) / 0.07, 0, 1))
        at += rng.uniform(1.6, 3.5)
    smile_at, talk_at = rng.uniform(0.25, 0.75) * t[-1], rng.uniform(0.1, 0.9) * t[-1]
    smile = np.clip(1.5 - np.abs(t - smile_at) / 0.9, 0, 1) * rng.uniform(0.7, 1.0)
    talk = np.clip(1.4 - np.abs(t - talk_at) / 0.8, 0, 1) * (0.5 - 0.5 * np.cos(2 * np.pi * 3.3 * t)) * 0.7
    moves = {
        "yaw": wander(9, 4.0), "pitch": wander(4, 3.1), "roll": wander(4, 4.7), "x": wander(0.10, 5.0),
        "y": wander(0.05, 3.7), "blink": blink, "gaze_x": wander(0.6, 1.9), "gaze_y": wander(0.4, 2.3),
        "smile": smile, "talk": talk, "brows": np.clip(wander(0.6, 2.9), 0, 1),
    }  # fmt: skip
    return [Pose(**{name: float(values[n]) for name, values in moves.items()}) for n in range(count)]


def draw_reactor(
    subject_id: str,
    looks: Looks,
    *,
    size: tuple[int, int] = (400, 300),
    duration_s: float = 3.0,
    fps: float = 25.0,
    face: float = 0.4,
    eyes: tuple[float, float] = (0.5, 0.42),
    seed: int = 0,
) -> Clip:
    """A clip of one person without face boxes; `face` is the face's width as a share of the picture's height."""
    width, height = size
    place = eyes[0] * width, eyes[1] * height
    reactor = Reactor(looks, size=size, unit=face * height / 2, eyes=place, seed=seed)
    drawn = [reactor.picture(pose) for pose in poses(round(duration_s * fps), fps, seed)]
    return Clip(name=subject_id, frames=[p for p, _ in drawn], masks=[m for _, m in drawn], fps=fps)


def draw_pair(
    name: str,
    looks: tuple[Looks, Looks],
    *,
    size: tuple[int, int] = (480, 300),
    duration_s: float = 3.0,
    fps: float = 25.0,
    face: float = 0.36,
    seed: int = 0,
) -> Clip:
    """A clip of two people side by side in one room, without face boxes."""
    width, height = size
    left, right = (
        Reactor(person, size=size, unit=face * height / 2, eyes=(width * x, height * 0.42), seed=seed + n)
        for n, (person, x) in enumerate(zip(looks, (0.28, 0.72), strict=True))
    )
    count, frames, masks = round(duration_s * fps), [], []
    for left_pose, right_pose in zip(poses(count, fps, seed), poses(count, fps, seed + 1), strict=True):
        picture, mask = left.picture(left_pose)
        picture, other = right.picture(right_pose, before=picture)
        frames.append(picture)
        masks.append(np.maximum(mask, other))
    return Clip(name=name, frames=frames, masks=masks, fps=fps)
