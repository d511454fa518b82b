"""One small picture a video with its panes and faces drawn in, for the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from reactionnet_datasets.shards import write_atomic
from reactionnet_datasets.stores import Place
from reactionnet_pipeline.records import STIMULUS, Layout
from reactionnet_pipeline.video import VideoInfo, sample_frames, whole

SIDE = 400
COLOURS = {STIMULUS: (80, 160, 255), "reaction": (255, 190, 60), "face": (90, 230, 120)}


def draw(
    path: Path, info: VideoInfo, layout: Layout, faces: Mapping[int, Sequence[Mapping]], stem: Place
) -> str | None:
    """Write `{stem}.preview.jpg` of the frame that `faces` names; its file name, None where it does not decode."""
    (frame, rows), *_ = faces.items()
    view = whole(info, SIDE)
    scale = view.out_w / info.width
    for _, picture in sample_frames(path, info, [frame], view):
        canvas = np.ascontiguousarray(picture)
        t_s = float(info.times_s[frame])
        for pane in sorted(layout.panes, key=lambda pane: pane.z):
            if pane.start_s <= t_s < pane.end_s:
                _rectangle(canvas, (pane.x, pane.y, pane.w, pane.h), scale, COLOURS[pane.role], 2)
        for row in rows:
            _rectangle(canvas, row["box"], scale, COLOURS["face"], 1)
            crop = np.array(row["crop"]).reshape(2, 3)
            inverse = cv2.invertAffineTransform(crop)
            points = np.array(row["landmarks"]).reshape(-1, 2) @ inverse[:, :2].T + inverse[:, 2]
            for x, y in points * scale:
                cv2.circle(canvas, (round(x), round(y)), 1, COLOURS["face"], -1)
        file = stem.with_name(stem.name + ".preview.jpg")
        write_atomic(file, simplejpeg.encode_jpeg(canvas, quality=80, colorspace="RGB"))
        return file.name
    return None


def _rectangle(
    canvas: np.ndarray, box: Sequence[float], scale: float, colour: tuple[int, int, int], width: int
) -> None:
    x, y, w, h = (number * scale for number in box)
    cv2.rectangle(canvas, (round(x), round(y)), (round(x + w) - 1, round(y + h) - 1), colour, width)
