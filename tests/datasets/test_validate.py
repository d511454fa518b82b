"""Every kind of fault is planted once, and found by name."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from drawn_shards import clip_records, flac, jpeg, npy, write_dataset
from reactionnet_datasets.extract import extract
from reactionnet_datasets.sample import Label
from reactionnet_datasets.shards import (
    INDEX_SCHEMA,
    Record,
    file_sha256,
    read_index,
    read_manifest,
    write_manifest,
    write_shard,
)
from reactionnet_datasets.splits import LOCK, hash_of, write_lock
from reactionnet_datasets.tabulate import tabulate
from reactionnet_datasets.validate import validate


def labels(clip, frames):
    return {"au_int_12": Label(space="au_int", value=[f % 6 for f in frames], mask=["valid"] * len(frames))}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A data set without a fault: two splits, four subjects, a clip of two chunks."""
    return write_dataset(
        tmp_path_factory.mktemp("sound"), [3, 4, 2, 130], num_shards=1, labels=labels, label_names=("au_int_12",),
        split_of=lambda clip: "val" if clip == 2 else "train", stimulus=True, sound=True, side=8,
        of_clip=lambda clip: {"splits": {"all": "val" if clip == 2 else "train"}, "folds": {"disfa-3fold": 1},
                              "subject_id": ("SN002", "SN010", "SN001", "SN026")[clip]},
    )  # fmt: skip


@pytest.fixture
def root(sound, tmp_path):
    shutil.copytree(sound, tmp_path / "set")
    return tmp_path / "set"


def found(root):
    return [str(fault) for fault in validate(root).faults]


def shard_of(root, split="train"):
    return read_manifest(root)["splits"][split]["shards"][0]


def rewrite(root, change, split="train", clips=((0, 3), (1, 4), (3, 130))):
    """Write a split's shard anew with changed records, tables, manifest and all: only the content is wrong."""
    options = {"labels": labels, "stimulus": True, "sound": True, "side": 8, "splits": {"all": split},
               "folds": {"disfa-3fold": 1}}  # fmt: skip
    subjects = ("SN002", "SN010", "SN001", "SN026")
    records = change(
        [r for clip, num in clips for r in clip_records(clip, num, **{**options, "subject_id": subjects[clip]})]
    )
    info = write_shard(root, f"{split}-00000", records)
    entry = read_manifest(root)
    parts = tabulate(root, info, ("au_int_12",))
    entry["splits"][split] = {"shards": [vars(info)], "tables": {"frames": [parts.frames], "windows": [parts.windows]}}
    write_manifest(root, entry)


def with_member(record, suffix, data):
    """A record with one member changed, added, or (data None) left out."""
    members = [(name, content) for name, content in record.members if name != suffix]
    return Record(key=record.key, members=(*members, (suffix, data)) if data is not None else tuple(members))


def with_json(record, **changed):
    content = json.loads(record.members[0][1])
    content.update(changed)
    return Record(key=record.key, members=(("json", json.dumps(content).encode()), *record.members[1:]))


def test_a_sound_data_set_has_no_fault(root):
    report = validate(root)
    assert report.faults == []
    assert (report.shards, report.records, report.frames, report.pictures) == (2, 5, 139, 278)
    rewrite(root, lambda records: records)
    assert validate(root).faults == []


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_changed_bytes_are_found_by_their_hash(root):
    flip(root / shard_of(root)["path"], 513)  # within the first json
    assert any("sha256 differs" in fault for fault in found(root))


@pytest.mark.parametrize("keep", [0, 100, 512, 5000, 20000, -512, -1])
def test_a_shard_cut_off_anywhere_is_found(root, keep):
    path = root / shard_of(root)["path"]
    whole = path.stat().st_size
    os.truncate(path, keep if keep >= 0 else whole + keep)
    assert f"{shard_of(root)['path']}: has {path.stat().st_size} bytes" in "\n".join(found(root))


def test_missing_files_are_named(root):
    (root / shard_of(root)["path"]).unlink()
    (root / shard_of(root, "val")["index"]).unlink()
    (root / read_manifest(root)["splits"]["val"]["tables"]["windows"][0]).unlink()
    faults = "\n".join(found(root))
    assert f"{shard_of(root)['path']}: is missing" in faults
    assert f"{shard_of(root, 'val')['index']}: is missing" in faults
    assert "tables/windows.parquet" in faults


def test_an_index_of_another_shard_is_found(root):
    train, val = shard_of(root), shard_of(root, "val")
    shutil.copy(root / val["index"], root / train["index"])
    faults = found(root)
    assert any(f"{train['index']}: sha256 differs" in fault for fault in faults)
    assert any("disagrees with its tar" in fault for fault in faults)


def test_an_index_that_points_elsewhere_is_found_though_its_hash_is_right(root):
    info = shard_of(root)
    rows = read_index(root / info["index"]).to_pylist()
    rows[3]["offset"] += 512
    (root / info["index"]).unlink()  # a reader may have it mapped
    with pa.OSFile(str(root / info["index"]), "wb") as sink, pa.ipc.new_file(sink, INDEX_SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=INDEX_SCHEMA))
    manifest = read_manifest(root)
    manifest["splits"]["train"]["shards"][0]["index_sha256"] = file_sha256(root / info["index"])
    write_manifest(root, manifest)
    (fault,) = found(root)
    assert "offset of member 3 is" in fault


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda r: with_member(r, "001.reaction.jpg", b"\xff\xd8 no picture"), "picture 001.reaction.jpg cannot be decoded"),
        (lambda r: with_member(r, "001.reaction.jpg", jpeg(np.zeros((8, 8, 3), np.uint8))[:-9]), "001.reaction.jpg cannot"),
        (lambda r: with_member(r, "001.reaction.png", b"no picture"), "001.reaction.png"),
        (lambda r: with_member(r, "002.reaction.jpg", None), "has no reaction picture for frames 2"),
        (lambda r: with_member(r, "001.stimulus.jpg", None), "pairs are broken: no stimulus picture for frames 1"),
        (lambda r: with_member(r, "003.stimulus.jpg", jpeg(np.zeros((8, 8, 3), np.uint8))), "belongs to none of its 3 frames"),
        (lambda r: with_member(r, "landmarks.npy", npy(np.zeros((3, 49, 2), np.float32))), "has shape (3, 49, 2)"),
        (lambda r: with_member(r, "pose.npy", npy(np.array([{}], object))), "pose.npy is no array"),
        (lambda r: with_member(r, "audio.flac", b"fLaC"), "audio.flac cannot be decoded"),
        (lambda r: with_member(r, "audio.flac", None), "speaks of sound"),
        (lambda r: with_member(r, "virus.exe", b"MZ"), "member virus.exe is of no kind"),
        (lambda r: with_json(r, t_s=[0.0, 0.08, 0.04]), "its times do not increase"),
        (lambda r: with_json(r, frames=[0, 0, 1]), "its frame numbers do not increase"),
        (lambda r: with_json(r, clip_num_frames=9), "clip_num_frames is 9, its records make it 3"),
        (lambda r: with_json(r, subject_id="SN001"), "split leak: subject SN001 is in train and val"),
        (lambda r: with_json(r, folds={"disfa-3fold": 2}), "whose list says 1"),
        (lambda r: with_json(r, subject_id="SN026", folds={"disfa-3fold": 2}), "is in parts 1, 2 of disfa-3fold"),
        (lambda r: with_json(r, splits={"all": "val"}), "record video000-0-000000 is in train and val"),
        (lambda r: with_json(r, labels={"au_int_12": {"space": "au_int", "value": [0, 9, 1], "mask": ["valid"] * 3,
                                                      "raw": None, "rule": None}}), "au_int goes from 0 to 5"),
        (lambda r: with_json(r, labels={"au_int_12": {"space": "au_int", "value": [1], "mask": ["valid"],
                                                      "raw": None, "rule": None}}), "has 1 values for 3 frames"),
        (lambda r: with_json(r, labels={"joy": {"space": "unit", "value": 1, "mask": "valid", "raw": None,
                                                "rule": None}}), "no label column is called 'joy'"),
    ],
)  # fmt: skip
def test_planted_faults_are_found(root, change, what):
    def damaged(records):
        return [change(records[0]), *records[1:]]

    try:
        rewrite(root, damaged)
    except (ValueError, IndexError):
        # The tables cannot be made of such a record; it is written without its rows.
        rewrite_shard_alone(root, damaged)
    faults = found(root)
    assert any(what in fault for fault in faults), faults


def rewrite_shard_alone(root, change):
    manifest = read_manifest(root)
    rewrite(root, lambda records: records)
    options = {"labels": labels, "stimulus": True, "sound": True, "side": 8, "splits": {"all": "train"}}
    info = write_shard(root, "train-00000", change(clip_records(0, 3, subject_id="SN002", **options)))
    manifest["splits"]["train"]["shards"] = [vars(info)]
    write_manifest(root, manifest)


def test_swapped_json_is_found(root):
    def swapped(records):
        first, second = records[0].members[0], records[1].members[0]
        return [
            Record(key=records[0].key, members=(second, *records[0].members[1:])),
            Record(key=records[1].key, members=(first, *records[1].members[1:])),
            *records[2:],
        ]

    rewrite_shard_alone(root, lambda records: swapped([*records, *clip_records(1, 4, side=8, stimulus=True)]))
    assert any("its json belongs to record video001-0-000000: members were swapped" in fault for fault in found(root))


def test_records_out_of_order_and_missing_are_found(root):
    rewrite(root, lambda records: [records[0], records[1], records[3], records[2]])
    assert any("its records do not follow one another in time" in fault for fault in found(root))
    rewrite(root, lambda records: records[:-1])
    assert any("clip_num_frames is 130, its records make it 128" in fault for fault in found(root))


def test_tables_of_other_records_are_found(root):
    manifest = read_manifest(root)
    tables = manifest["splits"]["train"]["tables"]
    rewrite(root, lambda records: records[:1])
    changed = read_manifest(root)
    changed["splits"]["train"]["tables"] = tables
    write_manifest(root, changed)
    what = "tables/frames of train and the shards disagree about record video000-0-000000, video001-0-000000"
    assert any(what in fault for fault in found(root))


def test_a_lock_that_says_otherwise_is_found(root):
    (root / LOCK).write_bytes(write_lock({hash_of("video:video000"): "test"}))
    assert found(root) == [f"{LOCK}: has video video000 in test, its records are in train"]


def test_a_manifest_that_leads_out_of_the_folder_is_refused(root):
    manifest = read_manifest(root)
    manifest["splits"]["train"]["shards"][0]["path"] = "../../etc/passwd"
    write_manifest(root, manifest)
    assert any("leads out of the data set" in fault for fault in found(root))


def command(module, *arguments):
    return subprocess.run(
        [sys.executable, "-m", f"reactionnet_datasets.{module}", *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_commands_print_one_line_a_fault_and_a_users_mistake_is_no_traceback(root, tmp_path):
    good = command("validate", root)
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout == "2 shards, 5 records, 139 frames, 278 pictures: no faults\n"
    (root / shard_of(root)["path"]).unlink()
    bad = command("validate", root, "--max-faults", 1)
    assert bad.returncode == 1
    assert bad.stderr.startswith(f"{shard_of(root)['path']}: is missing")
    nothing = command("validate", tmp_path)
    assert nothing.returncode == 2
    assert "Traceback" not in nothing.stderr and "dataset.json" in nothing.stderr
    unknown = command("extract", root, "nobody-0-000000", tmp_path / "out")
    assert unknown.returncode == 2
    assert "no record is called 'nobody-0-000000'" in unknown.stderr
    assert not (tmp_path / "out").exists()


def test_extract_gives_the_original_bytes(root, tmp_path):
    (record,) = clip_records(1, 4, labels=labels, stimulus=True, sound=True, side=8, splits={"all": "train"},
                             folds={"disfa-3fold": 1}, subject_id="SN010")  # fmt: skip
    files = extract(root, record.key, tmp_path / "out")
    assert {file.name: file.read_bytes() for file in files} == {f"{record.key}.{s}": data for s, data in record.members}
    assert flac(0.0, 2560) == (tmp_path / "out" / f"{record.key}.audio.flac").read_bytes()


def test_extract_says_which_record_holds_a_frame(root, tmp_path):
    with pytest.raises(ValueError, match="may lie in video003-0-000128"):
        extract(root, "video003-0-000129", tmp_path)
