"""Small data sets for tests, drawn: every picture tells, in its own pixels, which clip and frame it is."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import soundfile

from reactionnet_datasets.sample import Chunk, Label, chunk_spans, make_key, picture_suffix
from reactionnet_datasets.shards import Record, bucket_of, write_manifest, write_shard
from reactionnet_datasets.tabulate import tabulate

SIDE = 32
FPS = 25.0
STEP = 8  # grey levels between two numbers: JPEG moves a flat picture by one or two


def draw(clip: int, frame: int, role: str = "reaction", side: int = SIDE) -> np.ndarray:
    """A flat picture (side, side, 3): red and green tell the frame, blue the clip; a stimulus is a stripe wider."""
    colour = (STEP * (frame % 32), STEP * (frame // 32 % 32), STEP * (clip % 32))
    picture = np.empty((side, side if role == "reaction" else side + STEP, 3), np.uint8)
    picture[:] = colour
    return picture


def told(picture_CHW: Any) -> tuple[int, int]:
    """Clip and frame that a picture tells."""
    red, green, blue = (round(float(channel.float().mean()) / STEP) for channel in picture_CHW)
    return blue, red + 32 * green


def jpeg(picture: np.ndarray) -> bytes:
    return simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality=95, colorsubsampling="444")


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def flac(start_s: float, num: int) -> bytes:
    """16 kHz mono whose samples count the milliseconds since the video's start."""
    file = io.BytesIO()
    ms = np.arange(round(start_s * 16000), round(start_s * 16000) + num) // 16
    soundfile.write(file, ms.astype(np.int16), 16000, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def clip_records(
    clip: int,
    num: int,
    *,
    labels: Callable[[int, range], Mapping[str, Label]] | None = None,
    stimulus: bool = False,
    sound: bool = False,
    side: int = SIDE,
    first: int = 0,
    **changed: Any,
) -> list[Record]:
    """All records of clip number `clip` with `num` frames, chunk by chunk."""
    video = f"video{clip:03d}"
    records = []
    for begin, end in chunk_spans(num):
        frames = range(first + begin, first + end)
        key = make_key(video, "0", frames[0])
        t_s = [frame / FPS for frame in frames]
        chunk = Chunk(
            key=key,
            dataset="drawn",
            video_id=video,
            clip_id=f"{video}-0-{first:06d}",
            track="0",
            frames=list(frames),
            t_s=t_s,
            clip_first_frame=first,
            clip_num_frames=num,
            fps=FPS,
            audio={"rate": 16000, "start_s": t_s[0]} if sound else None,
            face_boxes=[[4, 6, 8, 10]] * len(frames),
            labels=labels(clip, frames) if labels else {},
            **{"subject_id": f"subject{clip % 5}", "splits": {"all": "train"}, **changed},
        )
        points = np.arange(68, dtype=np.float32)[None, :, None] * np.float32([0.25, 0.125]) + np.zeros(
            (len(frames), 1, 1)
        )
        members = [
            ("json", chunk.to_json()),
            ("landmarks.npy", npy(points.astype(np.float32))),
            ("pose.npy", npy(np.tile(np.float32([10, 20, 30]), (len(frames), 1)))),
        ]
        if sound:
            members.append(("audio.flac", flac(t_s[0], round(len(frames) * 16000 / FPS))))
        for role in ("reaction", "stimulus") if stimulus else ("reaction",):
            members += [
                (picture_suffix(place, role), jpeg(draw(clip, frame, role, side))) for place, frame in enumerate(frames)
            ]
        records.append(Record(key=key, members=tuple(members)))
    return records


def write_dataset(
    root: Path,
    lengths: Sequence[int],
    *,
    num_shards: int = 2,
    split_of: Callable[[int], str] = lambda clip: "train",
    label_names: Sequence[str] = (),
    tasks: Sequence[str] = ("all",),
    of_clip: Callable[[int], Mapping[str, Any]] = lambda clip: {},
    **options: Any,
) -> Path:
    """A published data set with clip 0, 1, ... of these lengths, as the pipeline writes it."""
    splits: dict[str, Any] = {}
    for split in sorted({split_of(clip) for clip in range(len(lengths))}):
        clips = [clip for clip in range(len(lengths)) if split_of(clip) == split]
        shards, frames, windows = [], [], []
        for number in range(num_shards):
            mine = [clip for clip in clips if bucket_of(f"clip{clip}", num_shards) == number]
            records = [
                record for clip in mine for record in clip_records(clip, lengths[clip], **{**options, **of_clip(clip)})
            ]
            info = write_shard(root, f"{split}-{number:05d}", records)
            parts = tabulate(root, info, label_names, tasks)
            shards.append(asdict(info))
            frames.append(parts.frames)
            windows.append(parts.windows)
        splits[split] = {"shards": shards, "tables": {"frames": frames, "windows": windows}}
    write_manifest(root, {"dataset": "drawn", "splits": splits})
    return root
