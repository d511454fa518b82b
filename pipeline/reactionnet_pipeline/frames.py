"""A process that decodes for others: requests come as lines of JSON on stdin, answers go to stdout.

Who imports a data set that ships videos asks this one, so that no other package needs a video decoder, and a video that
crashes the decoder costs one answer. A request names a `video` and wants its `facts`, its `sound`, or the pictures at
`places` (as JPEG, 4:2:0); or it has a `picture` (base64) in which 68 landmarks are to be found. The wire format is
`reactionnet_datasets.media`'s.
"""

import base64
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from reactionnet_datasets.media import END, FAULT, HEADER
from reactionnet_pipeline.errors import Code, SourceError
from reactionnet_pipeline.video import View, probe, read_frames

Send = Callable[[int, float, bytes], None]


def send_facts(path: Path, send: Send) -> None:
    """One answer: sizes, rate and time stamps, as JSON."""
    info = probe(path)
    facts = {
        "num_frames": info.num_frames, "fps": info.fps, "width": info.width, "height": info.height,
        "has_sound": info.has_audio, "t_s": [round(float(t), 6) for t in info.times_s],
    }  # fmt: skip
    send(0, 0.0, json.dumps(facts).encode())


def send_pictures(path: Path, request: dict[str, Any], send: Send) -> None:
    """One answer a picture that decodes, in order; those that do not are left out."""
    info = probe(path)
    wanted = [int(place) for place in request["places"]]
    x, y, w, h = request.get("crop") or (0, 0, info.width, info.height)
    if x < 0 or y < 0 or w < 1 or h < 1 or x + w > info.width or y + h > info.height:
        raise SourceError(Code.UNREADABLE, f"{path.name} is {info.width}x{info.height}: {x},{y},{w},{h} is not in it")
    views = [View(x=x, y=y, w=w, h=h, out_w=w, out_h=h)]
    pick = set(wanted)
    if not wanted:
        return
    for place, pictures in read_frames(
        path, info, min(wanted), max(wanted) + 1, lambda place: views if place in pick else []
    ):
        if pictures:
            picture = np.rot90(pictures[0], -(request.get("turn") or 0) // 90)
            data = simplejpeg.encode_jpeg(
                np.ascontiguousarray(picture), quality=request["quality"], colorspace="RGB", colorsubsampling="420",
                fastdct=False,
            )  # fmt: skip
            send(place, float(info.times_s[place]), data)


def send_sound(path: Path, send: Send) -> None:
    """Answers of int16 samples at 16 kHz; none where there is no sound."""
    from reactionnet_pipeline.sound import sound_of_file

    for piece in sound_of_file(path):
        send(0, 0.0, piece)


def send_landmarks(data: bytes, send: Send) -> None:
    """One answer, 68 x 2 float32 in pixels of the picture, of the largest face; none where no face is found."""
    from PIL import Image

    from reactionnet_pipeline.detector import detect_faces
    from reactionnet_pipeline.landmarks import find_landmarks

    rgb_HWC = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    faces = detect_faces(rgb_HWC)
    if faces:
        largest = max(faces, key=lambda face: face.box.w * face.box.h)
        send(0, 0.0, find_landmarks(rgb_HWC, largest.box).astype("<f4").tobytes())


def answer(request: dict[str, Any], send: Send) -> None:
    """Do what a request asks. Raises SourceError where the file cannot be read."""
    if "picture" in request:
        send_landmarks(base64.b64decode(request["picture"]), send)
        return
    path = Path(request["video"])
    if request.get("facts"):
        send_facts(path, send)
    elif request.get("sound"):
        send_sound(path, send)
    else:
        send_pictures(path, request, send)


def main() -> None:
    """Answer until stdin ends."""
    # libraries print to stdout; the answers go to a pipe of their own
    out = os.fdopen(os.dup(1), "wb", buffering=1 << 20)
    os.dup2(2, 1)

    def send(place: int, t_s: float, data: bytes) -> None:
        out.write(HEADER.pack(place, t_s, len(data)) + data)

    for line in sys.stdin.buffer:
        try:
            answer(json.loads(line), send)
            send(END, 0.0, b"")
        except SourceError as error:
            send(FAULT, 0.0, str(error).encode())
        out.flush()


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, KeyboardInterrupt):
        sys.exit(1)
