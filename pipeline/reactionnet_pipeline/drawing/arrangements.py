"""The usual ways to place clips on one screen: side by side, in a corner, cut out, in a grid, inset, changing.

Every function gives the `Placed` panes for a canvas of `size` (width, height); `look` goes to `Placed` as it is.
"""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from reactionnet_pipeline.drawing.composition import FACE, STIMULUS, Clip, Placed


def side_by_side(
    left: Clip, right: Clip, size, *, stimulus="left", share=0.5, gap=0, margin=0, top=0, **look
) -> list[Placed]:
    """Two panes of one height; `share` is the left one's part of the width, `margin` and `top` leave a rim."""
    width, height = size
    inner = width - 2 * margin - gap
    left_w = _even(inner * share)
    first = {"x": margin, "y": margin + top, "w": left_w, "h": height - 2 * margin - 2 * top}
    second = {**first, "x": margin + left_w + gap, "w": inner - left_w}
    roles = (STIMULUS, FACE) if stimulus == "left" else (FACE, STIMULUS)
    return [
        Placed(clip=clip, role=role, **place, **look)
        for clip, role, place in zip((left, right), roles, (first, second), strict=True)
    ]


def top_bottom(top: Clip, bottom: Clip, size, *, stimulus="top", share=0.5, gap=0, **look) -> list[Placed]:
    """Two panes of the whole width; `share` is the upper one's part of the height."""
    width, height = size
    top_h = _even((height - gap) * share)
    roles = (STIMULUS, FACE) if stimulus == "top" else (FACE, STIMULUS)
    return [
        Placed(clip=top, role=roles[0], x=0, y=0, w=width, h=top_h, **look),
        Placed(clip=bottom, role=roles[1], x=0, y=top_h + gap, w=width, h=height - gap - top_h, **look),
    ]


def pip(
    face: Clip, stimulus: Clip, size, *, corner="bottom right", share=0.28, aspect=4 / 3, margin=10, **look
) -> list[Placed]:
    """A stimulus that fills the canvas and a face camera of `share` of the width in a corner ("top left", ...)."""
    width, height = size
    w = _even(width * share)
    h = _even(w / aspect)
    x = margin if "left" in corner else width - margin - w
    y = margin if "top" in corner else height - margin - h
    return [
        Placed(clip=stimulus, role=STIMULUS, x=0, y=0, w=width, h=height),
        Placed(clip=face, role=FACE, x=x, y=y, w=w, h=h, **look),
    ]


def cutout(face: Clip, stimulus: Clip, size, *, share=0.4, right=True) -> list[Placed]:
    """The reactor without her room in a lower corner of the stimulus; `share` is of the canvas height."""
    width, height = size
    clip_h, clip_w = face.frames[0].shape[:2]
    h = _even(height * share)
    w = _even(h * clip_w / clip_h)
    return [
        Placed(clip=stimulus, role=STIMULUS, x=0, y=0, w=width, h=height),
        Placed(clip=face, role=FACE, x=width - w if right else 0, y=height - h, w=w, h=h, shape="cutout"),
    ]


def grid(faces: Sequence[Clip], stimulus: Clip, size, *, columns=2, gap=0, **look) -> list[Placed]:
    """Equal cells in rows, the stimulus in the first one."""
    width, height = size
    rows = -(-(len(faces) + 1) // columns)
    w, h = _even((width - gap * (columns + 1)) / columns), _even((height - gap * (rows + 1)) / rows)
    return [
        Placed(
            clip=clip,
            role=FACE if cell else STIMULUS,
            x=gap + cell % columns * (w + gap),
            y=gap + cell // columns * (h + gap),
            w=w,
            h=h,
            **look,
        )
        for cell, clip in enumerate((stimulus, *faces))
    ]


def inset(faces: Sequence[Clip], stimulus: Clip, size, *, right=True, **look) -> list[Placed]:
    """Stimulus and a column of face cameras (one or two) with a rim around them, for a decorated background."""
    width, height = size
    wide_w, wide_h = _even(width * 0.6), _even(width * 0.6 * 9 / 16)
    face_w = _even(width * 0.29)
    face_h = _even(min(face_w * 0.75, (height * 0.86) / len(faces) - 12))
    rim = (width - wide_w - face_w) // 3
    wide_x, face_x = (rim, 2 * rim + wide_w) if right else (2 * rim + face_w, rim)
    top = (height - (face_h + 12) * len(faces) + 12) // 2 + height // 20
    return [
        Placed(clip=stimulus, role=STIMULUS, x=wide_x, y=_even(height * 0.21), w=wide_w, h=wide_h, **look),
        *(
            Placed(clip=face, role=FACE, x=face_x, y=_even(top + n * (face_h + 12)), w=face_w, h=face_h, **look)
            for n, face in enumerate(faces)
        ),
    ]


def layout_change(intro: Clip, split: Sequence[Placed], size, *, start_s: float, end_s: float) -> list[Placed]:
    """The reactor alone, then `split` from `start_s` to `end_s`, then alone again (see `Composition.timeline`)."""
    full = Placed(clip=intro, role=FACE, x=0, y=0, w=size[0], h=size[1])
    return [
        replace(full, end_s=start_s),
        *(replace(pane, start_s=start_s, end_s=end_s) for pane in split),
        replace(full, start_s=end_s),
    ]


def _even(value: float) -> int:
    return round(value / 2) * 2


def decorated(size: tuple[int, int], seed: int) -> np.ndarray:
    """A background as channels have it: two colours run into one another, with dots and stripes."""
    rng = np.random.default_rng(seed)
    width, height = size
    corners = rng.integers(10, 190, (2, 2, 3)).astype(np.float32)
    picture = cv2.resize(corners, size, interpolation=cv2.INTER_LINEAR)
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    stripe = [int(level) for level in rng.integers(20, 200, 3)]
    for y in range(0, 2 * height, max(height // 6, 8)):
        cv2.line(picture, (0, y), (width, y - height // 10), stripe, 1, cv2.LINE_AA)
    for x, y, radius in rng.integers(0, [width, height, 6], (70, 3)):
        cv2.circle(picture, (int(x), int(y)), int(radius), [int(c) for c in rng.integers(60, 255, 3)], -1, cv2.LINE_AA)
    return picture
