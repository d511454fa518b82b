import json
import math
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from reactionnet_pipeline import accuracy, demo

README = Path(__file__).resolve().parents[2] / "README.md"
ONE = ["12_no_sound"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    return folder, demo.draw_all(folder, ONE)


def test_a_video_comes_with_its_truth_and_its_manifest_row(drawn):
    folder, (record,) = drawn
    (row,) = map(json.loads, (folder / "sources.jsonl").read_text().splitlines())
    assert accuracy.read_truth(folder) == [record]
    assert row["subject_ids"] == record["subject_ids"] == ["drawn_ada"]
    assert [pane["role"] for pane in record["panes"]] == ["stimulus", "face"]
    assert len(record["face_boxes"]) == 25
    assert all(face["visible_fraction"] == 1 for sample in record["face_boxes"] for face in sample["faces"])


def test_drawn_files_are_kept_unless_they_were_changed(drawn):
    folder, (record,) = drawn
    video = folder / record["file"]
    before = video.stat().st_mtime_ns
    assert demo.draw_all(folder, ONE) == [record]
    assert video.stat().st_mtime_ns == before
    video.write_bytes(video.read_bytes() + b"spoilt")
    assert demo.still_good(folder) == []


def test_totals_count_what_was_built(tmp_path):
    clips = [{"video_id": "v", "clip_id": f"c{n // 3}", "key": f"k{n // 2}", "shard": "s"} for n in range(6)]
    folder = tmp_path / "tables" / "frames.parquet"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(clips), folder / "part-0.parquet")
    letters = [{"code": "NO_FACE", "kept": False}, {"code": "DAMAGED", "kept": True}]
    (tmp_path / "dead_letters.jsonl").write_text("".join(json.dumps(letter) + "\n" for letter in letters))
    names, values = (list(column.cells) for column in demo.totals([{}, {}], tmp_path, 2.0).columns)
    rows = dict(zip(names, values, strict=True))
    assert [rows[name] for name in ("sources", "clips", "chunks", "shards")] == ["2", "2", "3", "1"]
    assert rows["frames/s, whole build"] == "3"
    assert rows["losses"] == "1 NO_FACE"


def test_the_version_is_printed():
    result = CliRunner().invoke(demo.app, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("reactionnet ")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "demo"
    result = CliRunner().invoke(demo.app, [str(folder), "--quiet"])
    assert result.exit_code == 0, result.output
    return folder


@pytest.mark.slow
def test_the_whole_demo(whole):
    truths = accuracy.read_truth(whole / "videos")
    assert len({subject for truth in truths for subject in truth["subject_ids"]}) >= 8
    measured = accuracy.measure(truths, accuracy.read_built(whole / "dataset"))
    assert sum(video.right for video in measured) >= 0.8 * len(measured)
    assert sum(video.faces.rows_on_nobody for video in measured) == 0


@pytest.mark.slow
def test_the_examples_of_the_readme_stream_the_demo(whole, monkeypatch):
    monkeypatch.chdir(whole.parent)
    examples = [
        block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "demo/dataset" in block
    ]
    assert len(examples) == 3
    for example in examples:
        names = {}
        exec(compile(example, "README.md", "exec"), names)
        assert "loss" not in names or math.isfinite(names["loss"])
    assert "loss" in names
