import json
import os
import sys
import time
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from misbehaving import fill_the_disk
from reactionnet_datasets.splits import SPLITS, hash_of
from reactionnet_pipeline import admitted
from reactionnet_pipeline.cli import app
from reactionnet_pipeline.config import Config, with_settings
from reactionnet_pipeline.errors import Code
from reactionnet_pipeline.gate import Gate
from reactionnet_pipeline.manifest import ManifestError
from reactionnet_pipeline.plan import inputs_digest, make_plan, nothing_left, notices, write_plan

RATIO = (0.8, 0.1, 0.1)
PANE = {"role": "reaction", "x": 0, "y": 0, "w": 64, "h": 64, "start_s": 0, "end_s": 9}


def manifest(folder, *rows):
    path = folder / "sources.jsonl"
    common = {"license": "CC0-1.0"}
    path.write_text("".join(json.dumps({**common, "uri": f"{row['video_id']}.mp4", **row}) + "\n" for row in rows))
    return path


def plan(path, gate=None, layouts=None, disjoint="subject", lock=None):
    return make_plan(path, gate or Gate(), layouts, RATIO, disjoint, lock or {})


def digest(made, splits=SPLITS, config=None, target=1 << 20, max_loss=0.2):
    return inputs_digest(made, splits, config or Config(), target, max_loss)


def test_planning_opens_nothing_that_the_manifest_names(tmp_path):
    rows = [{"video_id": "good"}, {"video_id": "nc", "license": "CC-BY-NC-4.0"}, {"video_id": "gone"}]
    for row in rows:
        (tmp_path / f"{row['video_id']}.mp4").write_bytes(b"video")
    path, opened = manifest(tmp_path, *rows), []
    watching = [True]
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if watching and event == "open" else None)
    made = plan(path, Gate(tombstones=frozenset({"gone"})))
    digest(made)
    watching.clear()
    assert str(path) in opened
    assert not [name for name in opened if name.endswith(".mp4")]
    assert [row.video_id for row in made.rows] == ["good"]
    assert [(letter.code, letter.line) for letter in made.letters] == [
        (Code.LICENCE_NOT_ALLOWED, 2),
        (Code.TAKEN_DOWN, 3),
    ]


def test_files_that_do_not_exist_are_planned_all_the_same(tmp_path):
    made = plan(manifest(tmp_path, {"video_id": "a"}))
    assert made.rows[0].location == str(tmp_path / "a.mp4")
    assert digest(made) == digest(made)


def test_a_source_that_would_join_two_splits_is_a_letter(tmp_path):
    lock = {hash_of("subject:ann"): "train", hash_of("subject:bob"): "test"}
    made = plan(manifest(tmp_path, {"video_id": "both", "subject_ids": ["ann", "bob"]}, {"video_id": "a"}), lock=lock)
    (letter,) = made.letters
    assert (letter.code, letter.video_id, letter.line) == (Code.SPLIT_CONFLICT, "both", 1)
    assert "test and train" in letter.message
    assert [row.video_id for row in made.rows] == ["a"]


def test_sources_tied_by_a_stimulus_stay_together_only_where_asked(tmp_path):
    path = manifest(tmp_path, *({"video_id": f"v{n}", "stimulus_id": "film"} for n in range(10)))
    assert len(set(plan(path).assignment.split_of.values())) == 3
    assert len(set(plan(path, disjoint="both").assignment.split_of.values())) == 1
    assert any("only one split" in line for line in notices(plan(path, disjoint="both"), SPLITS, "both"))
    with pytest.raises(ManifestError, match="--disjoint nobody: expected subject or both"):
        plan(path, disjoint="nobody")


def test_rows_of_one_file_or_content_are_never_in_two_splits_wherever_it_lies(tmp_path):
    rows = [{"video_id": f"v{n}"} for n in range(40)]
    for n in range(10):
        rows[n] |= {"uri": "one.mp4", "start_s": n, "end_s": n + 1}
        rows[n + 10] |= {"sha256": "ab" * 32}
    (tmp_path / "elsewhere").mkdir()
    made, moved = plan(manifest(tmp_path, *rows)), plan(manifest(tmp_path / "elsewhere", *rows[::-1]))
    split_of = made.assignment.split_of
    assert len({split_of[f"v{n}"] for n in range(10)}) == len({split_of[f"v{n}"] for n in range(10, 20)}) == 1
    assert len(set(split_of.values())) == 3
    assert made.assignment.lock == moved.assignment.lock


def test_a_layout_drawn_by_hand_wins_and_one_for_nobody_is_an_error(tmp_path):
    path = manifest(tmp_path, {"video_id": "a", "layout": [PANE]}, {"video_id": "nc", "license": "MIT"})
    layouts = tmp_path / "layouts.jsonl"
    lines = [json.dumps({"video_id": name, "panes": [{**PANE, "w": 32}]}) for name in ("a", "nc", "ghost")]
    layouts.write_text("\n".join(lines[:2]))
    made = plan(path, layouts=layouts)
    assert (made.rows[0].layout.origin, made.rows[0].layout.panes[0].w) == ("override", 32)
    layouts.write_text("\n".join(lines))
    with pytest.raises(ManifestError, match="the manifest lacks: ghost"):
        plan(path, layouts=layouts)


def test_another_input_of_any_kind_is_another_digest(tmp_path):
    rows = [{"video_id": f"v{n}"} for n in range(3)]
    video = tmp_path / "v0.mp4"
    video.write_bytes(b"one")
    made = plan(manifest(tmp_path, *rows))
    found = {
        "as it was": digest(made),
        "splits": digest(made, splits=("train",)),
        "setting": digest(made, config=with_settings(Config(), ["decode.quality=80"])),
        "target": digest(made, target=1 << 21),
        "max loss": digest(made, max_loss=0.5),
        "tombstones": digest(plan(tmp_path / "sources.jsonl", Gate(tombstones=frozenset({"ab" * 32})))),
        "lock": digest(plan(tmp_path / "sources.jsonl", lock={hash_of("video:gone"): "train"})),
        "letter": digest(replace(made, letters=plan(manifest(tmp_path, {"video_id": "x", "license": "MIT"})).letters)),
        "row": digest(plan(manifest(tmp_path, {**rows[0], "title": "t"}, *rows[1:]))),
        "further field": digest(plan(manifest(tmp_path, {**rows[0], "views": 3}, *rows[1:]))),
    }
    os.utime(video, (1, 1))
    found["changed file"] = digest(made)
    video.unlink()
    found["no file"] = digest(made)
    assert len(set(found.values())) == len(found)


def test_files_of_splits_that_are_not_built_do_not_count(tmp_path):
    made = plan(manifest(tmp_path, *({"video_id": f"v{n}"} for n in range(10))))
    before = digest(made, splits=("test",))
    for row in made.rows:
        if made.assignment.split_of[row.video_id] != "test":
            (tmp_path / f"{row.video_id}.mp4").write_bytes(b"new")
    assert digest(made, splits=("test",)) == before != digest(made)


def test_the_user_is_told_what_the_plan_comes_to(tmp_path):
    made = plan(manifest(tmp_path, {"video_id": "a"}, {"video_id": "b", "license": "MIT"}))
    told = "\n".join(notices(made, SPLITS, "subject"))
    for part in ("1 LICENCE_NOT_ALLOWED", "1 sources name no subject_ids", "the val split will be empty"):
        assert part in told
    none = plan(manifest(tmp_path, {"video_id": "b", "license": "MIT"}))
    assert "1 LICENCE_NOT_ALLOWED); the first: line 1, MIT is not covered" in nothing_left(none)


def test_the_plan_on_file_says_what_was_planned(tmp_path):
    rows = [{"video_id": "a", "layout": [PANE], "subject_ids": ["ann"], "start_s": 1, "end_s": 3}, {"video_id": "b"}]
    made = plan(manifest(tmp_path, *rows))
    write_plan(made, tmp_path / "work")
    sources = list(admitted.read_sources(str(tmp_path / "work"), SPLITS))
    assert [source.video_id for source in sources] == ["a", "b"]
    assert sources[0].layout == made.rows[0].layout
    assert (sources[0].subject_ids, sources[0].start_s, sources[0].end_s) == (("ann",), 1.0, 3.0)
    assert admitted.find_row(tmp_path / "work", "b")["split"] == made.assignment.split_of["b"]
    with pytest.raises(KeyError):
        admitted.find_row(tmp_path / "work", "c")


@pytest.mark.slow
def test_a_hundred_thousand_rows_are_planned_within_a_minute(tmp_path):
    rows = [{"video_id": f"v{n}", "title": "t" * 60, "subject_ids": [f"s{n % 5000}"]} for n in range(100_000)]
    path, began = manifest(tmp_path, *rows), time.process_time()
    made = plan(path)
    digest(made)
    write_plan(made, tmp_path / "work")
    assert time.process_time() - began < 60
    assert len(made.rows) == 100_000


def test_a_tombstone_that_matches_nothing_is_named(tmp_path):
    path = manifest(tmp_path, {"video_id": "good"}, {"video_id": "gone"})
    said = "\n".join(notices(plan(path, Gate(tombstones=frozenset({"gone", "typo", "ab" * 32}))), SPLITS, "subject"))
    assert "match no video_id: typo (1 in all)" in said


def test_a_full_disk_is_said_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr("reactionnet_pipeline.cli.write_plan", lambda made, work: fill_the_disk())
    path = manifest(tmp_path, {"video_id": "a"})
    options = ["--embedding-model", "none", "--caption-model", "none", "--demographics-model", "none"]
    done = CliRunner().invoke(app, ["--sources", str(path), "--out", str(tmp_path / "out"), *options])
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith("reactionnet-build: a disk is full (No space left on device): free")
