"""From a shard to its rows in `tables/frames` and `tables/windows`: the tables are a function of the shards."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from reactionnet_datasets.arrays import from_npy
from reactionnet_datasets.sample import Chunk
from reactionnet_datasets.shards import BLOCK, ShardInfo, read_index
from reactionnet_datasets.stores import Place, local
from reactionnet_datasets.tables import make_table, schema_of, write_part


@dataclass(frozen=True, kw_only=True)
class TableParts:
    """The parts of two tables that belong to one shard, relative to the data set's folder, and what they count."""

    frames: str
    windows: str
    num_frames: int
    num_clips: int


def read_chunks(root: Place, info: ShardInfo) -> Iterator[tuple[Chunk, dict[str, tuple[int, int]], dict[str, bytes]]]:
    """Each record's json, where its members lie (suffix to offset and size), and the bytes of its small arrays."""
    index = read_index(root / info.index)
    rows = zip(*(index[name].to_pylist() for name in index.column_names), strict=True)
    with local(root / info.path) as file, file.open("rb") as tar:
        for _, members in groupby(rows, key=lambda row: row[0]):
            places = {suffix: (offset, size) for _, suffix, offset, size in members}
            arrays = {}
            for suffix, (offset, size) in places.items():
                if suffix == "json" or suffix.endswith(".npy"):
                    tar.seek(offset)
                    arrays[suffix] = tar.read(size)
            yield Chunk.from_json(arrays["json"]), places, arrays


def tabulate(root: Place, info: ShardInfo, labels: Iterable[str], tasks: Iterable[str] = ("all",)) -> TableParts:
    """Write the table parts of one shard, named like it."""
    labels, tasks = tuple(labels), tuple(tasks)
    frames, windows = [], []
    for chunk, places, arrays in read_chunks(root, info):
        frames += list(_frame_rows(chunk, places, arrays, info.path, labels, tasks))
        windows.append(_window_row(chunk, places, arrays, info.path))
    stem = Path(info.path).stem
    return TableParts(
        frames=write_part(root, "frames", stem, make_table(frames, schema_of("frames", tasks, labels))),
        windows=write_part(root, "windows", stem, make_table(windows, schema_of("windows"))),
        num_frames=len(frames),
        num_clips=len({row["clip_id"] for row in windows}),
    )


def tabulate_captions(root: Place, info: ShardInfo) -> str | None:
    """Write the captions of a shard's clips, each clip's once, as a part of `captions`; None where there are none."""
    rows = [
        {"video_id": chunk.video_id, "clip_id": chunk.clip_id, **caption}
        for chunk, _, _ in read_chunks(root, info)
        if chunk.frames[0] == chunk.clip_first_frame  # every chunk of a clip has them
        for caption in chunk.captions
    ]
    return write_part(root, "captions", Path(info.path).stem, make_table(rows, schema_of("captions"))) if rows else None


def _frame_rows(
    chunk: Chunk, places: Mapping[str, Any], arrays: Mapping[str, bytes], shard: str, labels: tuple, tasks: tuple
) -> Iterator[dict[str, Any]]:
    pose = from_npy(arrays["pose.npy"]) if "pose.npy" in arrays else None
    gaze = from_npy(arrays["gaze.npy"]) if "gaze.npy" in arrays else None
    highlight = from_npy(arrays["highlight.npy"]) if "highlight.npy" in arrays else None
    picture = {suffix[:3]: suffix for suffix in places if ".reaction." in suffix}
    common = {
        **_ids(chunk),
        "shard": shard,
        "folds": list(chunk.folds.items()),
        **{f"split_{task}": chunk.splits.get(task) for task in tasks},
    }
    paths = chunk.provenance.get("source_paths") or [chunk.provenance.get("source_path")] * len(chunk.frames)
    for place, frame in enumerate(chunk.frames):
        row = {
            **common,
            "frame": frame,
            "t_s": chunk.t_s[place],
            "member": f"{chunk.key}.{picture[number]}" if (number := f"{place:03d}") in picture else None,
            "source_path": paths[place],
        }
        if chunk.face_boxes is not None:
            row.update(zip(("face_x", "face_y", "face_w", "face_h"), chunk.face_boxes[place], strict=True))
        if chunk.face_sources is not None:
            row["face_source"] = chunk.face_sources[place]
        if pose is not None:
            row.update(zip(("yaw", "pitch", "roll"), map(float, pose[place]), strict=True))
        if highlight is not None:
            row["highlight"] = float(highlight[place])
        if gaze is not None:
            angles = (None if np.isnan(angle) else float(angle) for angle in gaze[place])
            row.update(zip(("gaze_yaw", "gaze_pitch"), angles, strict=True))
        for name in labels:
            label = chunk.labels.get(name)
            if label is None:
                value, mask = None, "not_annotated"
            elif isinstance(label.mask, str):
                value, mask = label.value, label.mask
            else:
                value, mask = label.value[place], label.mask[place]
            row[name], row[f"{name}_mask"] = value, mask
        yield row


def _ids(chunk: Chunk) -> dict[str, Any]:
    """The columns by which rows of both tables are joined."""
    return {
        "key": chunk.key,
        "dataset": chunk.dataset,
        "video_id": chunk.video_id,
        "subject_id": chunk.subject_id,
        "clip_id": chunk.clip_id,
        "person": chunk.track,
    }


def _window_row(
    chunk: Chunk, places: Mapping[str, tuple[int, int]], arrays: Mapping[str, bytes], shard: str
) -> dict[str, Any]:
    highlight = from_npy(arrays["highlight.npy"]) if "highlight.npy" in arrays else None
    return {
        **_ids(chunk),
        "first_frame": chunk.frames[0],
        "num_frames": len(chunk.frames),
        "clip_first_frame": chunk.clip_first_frame,
        "clip_num_frames": chunk.clip_num_frames,
        "start_s": chunk.t_s[0],
        "end_s": chunk.t_s[-1],
        "fps": chunk.fps,
        "highlight": None if highlight is None else float(highlight.mean()),
        "has_stimulus": any(".stimulus." in suffix for suffix in places),
        "has_audio": "audio.flac" in places,
        "shard": shard,
        "num_bytes": sum(BLOCK + size + -size % BLOCK for _, size in places.values()),
    }
