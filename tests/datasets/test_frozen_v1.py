"""A data set of schema reactionnet-1 that was written once and is never written again: it stays readable.

Drawn, 46 KB: two clips of two and three frames of 16 px with stimulus, sound, captions and labels. Its bytes may not
change; where a test here fails, it is the reader that has to be mended.
"""

from pathlib import Path

import pytest
import webdataset

from drawn_shards import told
from reactionnet_datasets import ShardDataset
from reactionnet_datasets.sample import SCHEMA, Chunk
from reactionnet_datasets.shards import read_manifest
from reactionnet_datasets.tables import read_table
from reactionnet_datasets.validate import validate

V1 = Path(__file__).parent / "data" / "v1"
FIELDS = ("frames", "stimulus", "landmarks", "landmarks49", "pose", "boxes", "audio", "caption", "labels", "meta")


def test_it_is_small_and_of_this_schema():
    assert sum(file.stat().st_size for file in V1.rglob("*") if file.is_file()) < 50_000
    assert read_manifest(V1)["schema"] == SCHEMA == "reactionnet-1"


def test_it_is_valid():
    report = validate(V1)
    assert report.faults == []
    assert (report.records, report.frames, report.pictures) == (2, 5, 10)


def test_every_field_reads_as_it_was_written():
    labels = {"expression": None, "au_int_12": None, "au_occ_12": "intensity>=2", "scene": "classes:scene8"}
    first, second = ShardDataset(V1, fields=FIELDS, labels=labels)
    assert [told(picture) for picture in second["frames"]] == [(1, 0), (1, 1), (1, 2)]
    assert [told(picture) for picture in second["stimulus"]] == [(1, 0), (1, 1), (1, 2)]
    assert second["stimulus"].shape == (3, 3, 16, 24)
    assert second["key"] == "video001-0-000000"
    assert second["t_s"].tolist() == [0.0, 0.04, 0.08]
    assert second["landmarks"][0, 67].tolist() == [67 * 0.25, 67 * 0.125]
    assert second["landmarks49"].shape == (3, 49, 2)
    assert second["pose"][2].tolist() == [10, 20, 30]
    assert second["boxes"][0].tolist() == [4, 6, 8, 10]
    assert int(second["audio_length"]) == 1920
    assert (second["audio"][[0, 1919]] * 32768).tolist() == [0, 119]
    assert second["caption"] == "a wall"
    assert second["meta"]["license"] == "CC0-1.0"
    assert second["meta"]["credit"] == {"creator": "reactionnet"}
    found = second["labels"]
    assert first["labels"]["expression"].tolist() == [4, 4]  # fear
    assert found["expression"].tolist() == [1, 1, 1]  # happiness
    assert found["au_int_12_mask"].tolist() == [False, True, False]
    assert float(found["au_int_12"][1]) == 1
    assert float(found["au_occ_12"][1]) == 0
    assert not found["scene_mask"]


def test_its_tables_and_records_read_alone():
    tables = read_manifest(V1)["splits"]["train"]["tables"]
    rows = read_table(V1, "frames", tables["frames"]).to_pylist()
    assert [row["au_int_12_mask"] for row in rows] == ["uncodable", "valid", "uncodable", "valid", "uncodable"]
    shard = next((V1 / "shards").glob("*.tar"))
    samples = list(webdataset.WebDataset(str(shard), shardshuffle=False))
    chunk = Chunk.from_json(samples[1]["json"])
    assert chunk.labels["au_int_12"].raw == ["9", "1", "9"]
    assert chunk.labels["scene"].mask == "withheld"


def test_another_schema_is_refused():
    other = (V1 / "dataset.json").read_text().replace("reactionnet-1", "reactionnet-2")
    with pytest.raises(ValueError, match="schema 'reactionnet-2'"):
        Chunk.from_json(other.encode())
