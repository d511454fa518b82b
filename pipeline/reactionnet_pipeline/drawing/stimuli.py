"""Drawn clips to be watched: shapes that drift, a landscape that scrolls, a cartoon, a scene with cuts, a talking head.

Every function here takes (seed, size, duration_s) and gives a `Clip`; STIMULI lists them by name.
"""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from reactionnet_pipeline.drawing.composition import Clip
from reactionnet_pipeline.drawing.faces import LOOKS, draw_reactor
from reactionnet_pipeline.drawing.heads import smooth_noise

FPS = 25.0
Size = tuple[int, int]
SEASONS = [  # high sky, low sky, ground
    ((90, 150, 220), (215, 225, 235), (80, 130, 60)),
    ((240, 150, 90), (250, 220, 170), (150, 90, 50)),
    ((20, 25, 60), (70, 60, 110), (50, 70, 90)),
    ((150, 190, 225), (235, 240, 245), (205, 210, 220)),
    ((110, 170, 200), (240, 220, 180), (200, 165, 105)),
]


def _colours(rng: np.random.Generator, count: int) -> list[list[int]]:
    """Saturated colours, RGB."""
    hsv = rng.integers([0, 110, 120], [180, 256, 256], (1, count, 3)).astype(np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0].tolist()


def shapes(seed: int, size: Size = (640, 360), duration_s: float = 4.0) -> Clip:
    """Discs and boxes that drift and turn over a moving wash of colour."""
    rng, (width, height) = np.random.default_rng(seed), size
    wash = 120 + 70 * np.dstack([smooth_noise(rng, (height, width * 2), width // 6) for _ in "rgb"])
    wash = np.clip(wash, 0, 255).astype(np.uint8)
    colours, boxy = _colours(rng, 12), rng.random(12) < 0.5
    radius, phase = rng.uniform(0.04, 0.16, 12) * height, rng.uniform(0, 6.3, (12, 2))
    speed = rng.uniform(0.4, 1.6, (12, 2))
    frames = []
    for n in range(round(duration_s * FPS)):
        t, shift = n / FPS, round(width / 2 * (1 + np.sin(0.5 * n / FPS)))
        picture = np.ascontiguousarray(wash[:, shift : shift + width])
        for k, colour in enumerate(colours):
            x, y = (0.5 + 0.48 * np.sin(phase[k] + speed[k] * t)) * size
            if boxy[k]:
                corners = cv2.boxPoints(((float(x), float(y)), (2 * radius[k], 1.3 * radius[k]), 60 * t * speed[k, 0]))
                cv2.fillPoly(picture, [corners.astype(np.int32)], colour, cv2.LINE_AA)
            else:
                cv2.circle(picture, (int(x), int(y)), int(radius[k]), colour, -1, cv2.LINE_AA)
        frames.append(picture)
    return Clip(name=f"shapes_{seed}", frames=frames, fps=FPS, scene="animation", sub_scene="moving shapes")


def landscape(seed: int, size: Size = (640, 360), duration_s: float = 4.0) -> Clip:
    """Sky, clouds, hills and trees that pass by at speeds that fall with their distance."""
    rng, (width, height) = np.random.default_rng(seed), size
    far = width * 3
    columns = np.arange(far)
    high, low, ground = SEASONS[seed % len(SEASONS)]
    sky = np.linspace(high, low, height)[:, None] + np.zeros((1, far, 1))
    clouds = np.clip(smooth_noise(rng, (height, far), height // 4) * 1.4 - 0.3, 0, 1)
    clouds *= np.linspace(1, 0, height)[:, None]
    layers = [(np.clip(sky + 110 * clouds[..., None], 0, 255).astype(np.uint8), np.full((height, far), True), 0.15)]
    for depth in range(3):
        soil = np.array(ground) * (1.1 - 0.15 * depth) * rng.uniform(0.8, 1.1)
        rough = 1 + 0.14 * smooth_noise(rng, (height, far), 5) + 0.2 * smooth_noise(rng, (height, far), 30)
        waves = np.sum([np.sin(columns * rng.uniform(1, 5) * 6.3 / far + rng.uniform(0, 6)) for _ in range(4)], axis=0)
        crest = height * (0.45 + 0.17 * depth) - waves * height * 0.035
        hill = np.clip(soil * rough[..., None], 0, 255).astype(np.uint8)
        solid = np.arange(height)[:, None] > crest
        for x in rng.integers(40, far - 40, 14 * (depth + 1)):
            tall = int(height * (0.05 + 0.06 * depth) * rng.uniform(0.7, 1.4))
            foot = int(crest[x]) + 4
            tree = np.zeros((height, far), np.uint8)
            cv2.line(tree, (int(x), foot), (int(x), foot - tall), 1, max(2, tall // 9))
            cv2.circle(tree, (int(x), foot - tall), tall // 2, 2, -1)
            hill[tree == 1], hill[tree == 2] = (80, 55, 40), (soil * 0.55).astype(np.uint8)
            solid |= tree > 0
        layers.append((hill, solid, 0.25 + 0.4 * depth))
    frames = []
    for n in range(round(duration_s * FPS)):
        picture = np.zeros((height, width, 3), np.uint8)
        for layer, solid, speed in layers:
            x = min(round(n * speed * width / 130), far - width)
            cv2.copyTo(layer[:, x : x + width], solid[:, x : x + width].astype(np.uint8), picture)
        frames.append(picture)
    return Clip(name=f"landscape_{seed}", frames=frames, fps=FPS, scene="self-made video", sub_scene="landscape")


def cartoon(seed: int, size: Size = (640, 360), duration_s: float = 4.0) -> Clip:
    """A bird-like figure that hops over a meadow, after a ball."""
    rng, (width, height) = np.random.default_rng(seed), size
    body, wing, beak, ball = _colours(rng, 4)
    meadow = landscape(seed + 1, size, 0.04).frames[0]
    unit, frames = height / 12, []
    for n in range(round(duration_s * FPS)):
        t, picture = n / FPS, meadow.copy()
        x = width * (0.5 + 0.3 * np.sin(1.3 * t))
        y = height * 0.72 - 2.2 * unit * abs(np.sin(4.2 * t))
        facing = 1 if np.cos(1.3 * t) > 0 else -1

        def at(dx: float, dy: float, x=x, y=y, facing=facing) -> tuple[int, int]:
            return int(x + facing * dx * unit), int(y + dy * unit)

        for foot in (-0.5, 0.5):
            cv2.line(picture, at(foot, 1.4), at(foot + 0.2, 2.5), beak, max(2, int(unit / 4)), cv2.LINE_AA)
        cv2.ellipse(picture, at(0, 0), (int(1.9 * unit), int(1.6 * unit)), 0, 0, 360, body, -1, cv2.LINE_AA)
        flap = 35 * np.sin(9 * t)
        cv2.ellipse(
            picture, at(-0.6, 0.1), (int(1.2 * unit), int(0.6 * unit)), facing * flap, 0, 360, wing, -1, cv2.LINE_AA
        )
        cv2.circle(picture, at(1.3, -1.5), int(1.0 * unit), body, -1, cv2.LINE_AA)
        cv2.fillPoly(picture, [np.array([at(2.1, -1.7), at(3.1, -1.3), at(2.1, -1.0)])], beak, cv2.LINE_AA)
        cv2.circle(picture, at(1.6, -1.7), int(0.28 * unit), (20, 20, 20), -1, cv2.LINE_AA)
        hop = abs(np.sin(5.1 * t + 1))
        cv2.circle(picture, at(4.4, 1.6 - 2 * hop), int(0.8 * unit), ball, -1, cv2.LINE_AA)
        frames.append(picture)
    return Clip(name=f"cartoon_{seed}", frames=frames, fps=FPS, scene="animation", sub_scene="cartoon animal")


def cuts(seed: int, size: Size = (640, 360), duration_s: float = 4.0) -> Clip:
    """Four scenes cut hard against one another."""
    each = duration_s / 4
    scenes = [landscape(seed, size, each), shapes(seed + 1, size, each), cartoon(seed + 2, size, each)]
    scenes.append(landscape(seed + 3, size, each))
    frames = [picture for scene in scenes for picture in scene.frames]
    return Clip(name=f"cuts_{seed}", frames=frames, fps=FPS, scene="film", sub_scene="scenes with cuts")


def talking_head(seed: int, size: Size = (640, 360), duration_s: float = 4.0) -> Clip:
    """A speaker in a studio, a face inside the stimulus; the name of the clip is the speaker's, without boxes."""
    names = sorted(LOOKS)
    name = names[seed % len(names)]
    clip = draw_reactor(name, LOOKS[name], size=size, duration_s=duration_s, face=0.46, eyes=(0.6, 0.44), seed=seed)
    return replace(clip, scene="interview/public speech", sub_scene="a person facing the camera")


STIMULI: dict[str, Callable[..., Clip]] = {
    "shapes": shapes,
    "landscape": landscape,
    "cartoon": cartoon,
    "cuts": cuts,
    "talking_head": talking_head,
}
