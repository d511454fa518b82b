"""Highlights, key frames and voices in whole builds of the drawn videos."""

import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from builds import RATIO, published, run_build
from reactionnet_datasets.shards import ShardInfo, read_manifest
from reactionnet_datasets.tables import read_table
from reactionnet_datasets.tabulate import read_chunks


def table(out, name):
    parts = [part for split in read_manifest(out)["splits"].values() for part in split["tables"][name]]
    return read_table(out, name, parts).to_pylist()


def test_every_frame_has_a_score_and_every_record_the_same(built):
    in_table = {(row["key"], row["frame"]): row["highlight"] for row in table(built.out, "frames")}
    windows = {row["key"]: row["highlight"] for row in table(built.out, "windows")}
    for split in read_manifest(built.out)["splits"].values():
        for shard in split["shards"]:
            for chunk, _, arrays in read_chunks(
                built.out, ShardInfo(**{n: shard[n] for n in ShardInfo.__annotations__})
            ):
                stream = np.load(io.BytesIO(arrays["highlight.npy"]))
                assert stream.min() >= 0
                assert [in_table[chunk.key, frame] for frame in chunk.frames] == stream.tolist()
                assert windows[chunk.key] == pytest.approx(stream.mean())
    assert max(in_table.values()) > 1


def test_speaking_is_masked_just_where_there_is_no_sound(built):
    heard = {row["video_id"]: row["has_audio"] for row in table(built.out, "sources")}
    for row in table(built.out, "frames"):
        assert row["speaking_mask"] == ("valid" if heard[row["video_id"]] else "not_annotated")
        assert (row["speaking"] is None) == (row["speaking_mask"] != "valid")


def test_no_key_frames_are_chosen_unasked(built):
    assert table(built.out, "key_frames") == []


@pytest.mark.slow
def test_highlights_are_shorter_clips_and_hang_on_nothing_else(drawn, built, tmp_path):
    """Built twice, one split alone the second time: the same bytes; key frames are frames of the clips, N in all."""
    options = ["--split-ratio", RATIO, "--clips", "highlights", "--set", "clips.highlights.length_s=1"]
    for name, further in (("a", ["--workers", "1"]), ("b", ["--workers", "2", "--split", "train"])):
        run_build(drawn.manifest, tmp_path / name, *options, "--key-frames", "6", *further)
    a = published(tmp_path / "a", "train")
    assert {k: v for k, v in a.items() if k != "splits.lock"} == {
        k: v for k, v in published(tmp_path / "b", "train").items() if k != "splits.lock"
    }
    frames = {(row["key"], row["frame"]): row for row in table(tmp_path / "a", "frames")}
    everything = {(row["video_id"], row["frame"]): row for row in table(built.out, "frames")}
    assert 0 < len(frames) < len(everything)
    assert all(everything[row["video_id"], row["frame"]]["highlight"] == row["highlight"] for row in frames.values())
    chosen = table(tmp_path / "a", "key_frames")
    assert len(chosen) == 6
    assert all(frames[row["key"], row["frame"]]["member"] == row["member"] for row in chosen)


@pytest.mark.slow
def test_another_number_of_key_frames_assembles_nothing_anew(drawn, tmp_path):
    out = tmp_path / "dataset"
    shards = []
    for number in ("3", "5"):
        run_build(drawn.manifest, out, "--workers", "1", "--split-ratio", RATIO, "--key-frames", number)
        content = json.loads((out / "dataset.json").read_bytes())
        shards.append([shard["sha256"] for split in content["splits"].values() for shard in split["shards"]])
        times = sorted(path.stat().st_mtime_ns for path in (tmp_path / "dataset.work" / "clips").glob("*.part"))
        shards[-1].append(times)
        assert len(table(out, "key_frames")) == int(number)
    assert shards[0] == shards[1]
    assert pq.read_table(out / "tables/key_frames.parquet").num_rows >= 5
