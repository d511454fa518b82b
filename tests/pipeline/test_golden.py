"""The cache is keyed by `VERSION` constants: output may not change while they stay.

`golden.json` holds what the drawn videos gave, compared to half a pixel, so that another CPU's last bits do not matter.
After a change that is meant: raise the `VERSION` of the module and record anew with
`REACTIONNET_RECORD_GOLDEN=1 pytest tests/pipeline/test_golden.py`.
"""

import io
import json
import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import simplejpeg

from reactionnet_datasets.shards import MANIFEST, ShardInfo
from reactionnet_datasets.tabulate import read_chunks
from reactionnet_pipeline import decode, layout

GOLDEN = Path(__file__).with_name("golden.json")
EVERY = 12  # frames
TOLERANCE = {"boxes": 0.5, "landmarks": 0.5, "pose": 0.5, "grey": 0.5, "layouts": 0.0}


def versions() -> dict:
    return {"decode": decode.VERSIONS, "layout": layout.VERSION}


def measured(root: Path) -> dict[str, list]:
    """Numbers that change when a stage does: boxes, mean landmarks, pose, mean grey of crops; panes."""
    content = json.loads((root / MANIFEST).read_bytes())
    names = [field.name for field in fields(ShardInfo)]
    entries = [shard for split in content["splits"].values() for shard in split["shards"]]
    shards = [ShardInfo(**{name: shard[name] for name in names}) for shard in entries]
    rows = []
    for info in shards:
        tar = (root / info.path).read_bytes()
        for chunk, places, arrays in read_chunks(root, info):
            landmarks, pose = (np.load(io.BytesIO(arrays[name])) for name in ("landmarks.npy", "pose.npy"))
            for k in range(0, len(chunk.frames), EVERY):
                offset, size = places[f"{k:03d}.reaction.jpg"]
                crop = simplejpeg.decode_jpeg(tar[offset : offset + size])
                rows.append((chunk.key, k, chunk.face_boxes[k], landmarks[k].mean(axis=0), pose[k], crop.mean()))
    rows.sort(key=lambda row: row[:2])
    panes = pq.read_table(root / "tables/layouts.parquet").select(["video_id", "role", "x", "y", "w", "h"]).to_pylist()
    return {
        "keys": [f"{key}+{k}" for key, k, *_ in rows],
        "boxes": [list(box) for _, _, box, *_ in rows],
        "landmarks": [np.round(mean, 2).tolist() for *_, mean, _, _ in rows],
        "pose": [np.round(angles, 2).tolist() for *_, angles, _ in rows],
        "grey": [round(float(grey), 2) for *_, grey in rows],
        "layouts": [
            [row[side] for side in "xywh"] for row in sorted(panes, key=lambda r: (r["video_id"], r["x"], r["y"]))
        ],
    }


def test_output_changes_only_with_a_version(built):
    now = measured(built.out)
    if os.environ.get("REACTIONNET_RECORD_GOLDEN"):
        GOLDEN.write_text(json.dumps({"versions": versions(), **now}, indent=0) + "\n")
        pytest.skip(f"recorded {GOLDEN.name}")
    golden = json.loads(GOLDEN.read_text())
    assert golden["versions"] == versions(), (
        f"a VERSION was raised: record {GOLDEN.name} anew (see this file's docstring)"
    )
    assert now["keys"] == golden["keys"], "other clips come out: raise a VERSION"
    for name, most in TOLERANCE.items():
        off = np.abs(np.array(now[name]) - np.array(golden[name])).max()
        assert off <= most, f"{name} changed by {off:.2f} though no VERSION did: raise that of the module you changed"
