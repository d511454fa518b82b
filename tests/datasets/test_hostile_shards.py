"""Shards that are cut off, swapped, damaged or written to do harm: refused by name, or skipped and counted."""

import os
import pickle
import shutil

import numpy as np
import pyarrow as pa
import pytest
from torch.utils.data import DataLoader

from drawn_shards import clip_records, npy, write_dataset
from reactionnet_datasets import ShardDataset, ShardError
from reactionnet_datasets.catalog import ShardIndex
from reactionnet_datasets.sample import chunk_spans
from reactionnet_datasets.shards import (
    INDEX_SCHEMA,
    Record,
    ShardInfo,
    file_sha256,
    read_index,
    read_manifest,
    write_manifest,
    write_shard,
)
from reactionnet_datasets.tabulate import tabulate

LENGTHS = (5, 4, 130, 3)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("sound"), LENGTHS, num_shards=1, side=8)


@pytest.fixture
def root(sound, tmp_path):
    shutil.copytree(sound, tmp_path / "set")
    return tmp_path / "set"


def shard_of(root):
    return read_manifest(root)["splits"]["train"]["shards"][0]


def declare(root, **changed):
    """Make the manifest agree with a changed file, so that only the reader's own checks are left."""
    manifest = read_manifest(root)
    manifest["splits"]["train"]["shards"][0].update(changed)
    write_manifest(root, manifest)


def rewrite(root, records):
    info = write_shard(root, "train-00000", records)
    parts = tabulate(root, info, ())
    entry = {"shards": [vars(info)], "tables": {"frames": [parts.frames], "windows": [parts.windows]}}
    write_manifest(root, {"splits": {"train": entry}})


def all_records():
    return [record for clip, num in enumerate(LENGTHS) for record in clip_records(clip, num, side=8)]


def read(root, **options):
    return list(ShardDataset(root, window=1, fields=("frames", "landmarks"), **options))


def places_to_cut(root):
    """Within headers, json, arrays, pictures, padding and the end mark, and at their borders."""
    rows = read_index(root / shard_of(root)["index"]).to_pylist()
    size = shard_of(root)["num_bytes"]
    at = {0, 1, 511, 512, size - 1, size - 512, size - 1024, size - 1025}
    for row in (rows[0], rows[1], rows[4], rows[-1]):
        at |= {row["offset"] - 512, row["offset"] - 200, row["offset"], row["offset"] + row["size"] // 2}
        at |= {row["offset"] + row["size"], row["offset"] + row["size"] + 1}
    return sorted(place for place in at if place < size)


def test_a_shard_cut_off_at_any_kind_of_place_is_refused_by_name(root):
    path = root / shard_of(root)["path"]
    whole = path.read_bytes()
    for place in places_to_cut(root):
        path.write_bytes(whole[:place])
        with pytest.raises(ShardError, match=rf"{shard_of(root)['path']} has {place} bytes"):
            read(root)


def test_a_shard_cut_off_under_the_reader_is_an_error_and_no_crash(root):
    path = root / shard_of(root)["path"]
    items = iter(ShardDataset(root, window=1, threads=0))
    next(items)
    os.truncate(path, 20_000)
    with pytest.raises(ShardError, match="the index expects"):
        list(items)


def test_where_the_manifest_lies_too_the_read_itself_ends_early(root):
    os.truncate(root / shard_of(root)["path"], 20_000)
    declare(root, num_bytes=20_000)
    with pytest.raises(ShardError, match="overlap or lie outside"):
        read(root)


def damaged_picture(root):
    """Overwrite the middle of one picture of clip 1, and let no hash know."""
    rows = read_index(root / shard_of(root)["index"]).to_pylist()
    row = next(r for r in rows if r["key"] == "video001-0-000000" and r["suffix"] == "002.reaction.jpg")
    data = bytearray((root / shard_of(root)["path"]).read_bytes())
    data[row["offset"] : row["offset"] + row["size"]] = b"\x00" * row["size"]
    (root / shard_of(root)["path"]).write_bytes(data)


def test_a_damaged_picture_is_named(root):
    damaged_picture(root)
    with pytest.raises(ShardError, match=r"video001-0-000000\.002\.reaction\.jpg"):
        read(root)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_what_is_damaged_is_skipped_and_counted_on_request(root, workers, batch_size):
    damaged_picture(root)
    dataset = ShardDataset(root, window=1, batch_size=batch_size, on_error="skip")
    batches = list(DataLoader(dataset, batch_size=None, num_workers=workers))
    keys = [key for batch in batches for key in ([batch["key"]] if batch_size is None else batch["key"])]
    assert len(keys) == sum(LENGTHS) - 1
    assert "video001-0-000002" not in keys
    assert dataset.num_skipped == 1
    if batch_size:
        assert sum(len(batch["frames"]) for batch in batches) == len(keys)


def test_a_whole_clip_is_skipped_for_one_damaged_picture(root):
    damaged_picture(root)
    dataset = ShardDataset(root, on_error="skip")
    assert [item["key"] for item in dataset] == ["video000-0-000000", "video002-0-000000", "video003-0-000000"]
    assert dataset.num_skipped == 1


def test_swapped_members_are_refused(root):
    """Two pictures change places, headers and all: every byte is still a good tar."""
    rows = read_index(root / shard_of(root)["index"]).to_pylist()
    first, second = [r for r in rows if r["key"] == "video001-0-000000" and r["suffix"].endswith("reaction.jpg")][:2]
    data = bytearray((root / shard_of(root)["path"]).read_bytes())
    one = data[first["offset"] - 512 : second["offset"] - 512]
    two = data[second["offset"] - 512 : second["offset"] - 512 + len(one)]
    assert first["size"] <= len(one) and second["size"] <= len(one)
    data[first["offset"] - 512 : second["offset"] - 512] = two
    data[second["offset"] - 512 : second["offset"] - 512 + len(one)] = one
    (root / shard_of(root)["path"]).write_bytes(data)
    with pytest.raises(ShardError, match=r"has b'video001-0-000000\.001\.reaction\.jpg' where its index expects"):
        read(root)


def test_a_json_of_another_record_is_refused(root):
    records = all_records()
    other = records[1].members[0]
    declare_anew(root, [Record(key=records[0].key, members=(other, *records[0].members[1:])), *records[1:]])
    with pytest.raises(ShardError, match="the json of video000-0-000000 is of another record"):
        read(root)


def declare_anew(root, records):
    """A shard whose records contradict the tables that are kept."""
    info = write_shard(root, "train-00000", records)
    manifest = read_manifest(root)
    old = shard_of(root)["path"]
    shutil.move(root / info.path, root / old)
    declare(root, **{**vars(info), "path": old})
    assert manifest["schema"]


class Harm:
    def __reduce__(self):
        return os.system, ("echo harm",)


@pytest.mark.parametrize(
    ("member", "data", "reason"),
    [
        ("landmarks.npy", pickle.dumps(Harm()), "landmarks.npy of video000-0-000000 is damaged"),
        ("landmarks.npy", npy(np.array([Harm()], object)), "landmarks.npy of video000-0-000000 is damaged"),
        ("landmarks.npy", npy(np.zeros((9, 68, 2), np.float32)), "expected 5 rows"),
        ("landmarks.npy", npy(np.zeros((5, 68, 2), np.float32))[:100], "is damaged"),
        ("json", b"[" * 100_000, "the json of video000-0-000000 is damaged"),
        ("json", b"\xff\xfe", "the json of video000-0-000000 is damaged"),
        ("json", b"{}", "of another record or schema"),
        ("json", None, "record video000-0-000000 has no json"),
        ("003.reaction.jpg", None, "has no reaction picture for its frame 3"),
        ("003.reaction.jpg", b"", r"003\.reaction\.jpg"),
        ("003.reaction.png", b"", "one too many"),
        ("900.reaction.jpg", b"", "one too many"),
    ],
)
def test_harmful_members_are_refused_by_name(root, member, data, reason):
    first, *others = all_records()
    members = [(name, content) for name, content in first.members if name != member]
    if data is not None:
        places = {name: place for place, (name, _) in enumerate(first.members)}
        members.insert(places.get(member, len(members)), (member, data))
    declare_anew(root, [Record(key=first.key, members=tuple(members)), *others])
    with pytest.raises(ShardError, match=reason):
        read(root)


def test_a_picture_that_claims_to_be_huge_is_refused_before_memory_is_taken(root):
    first, *others = all_records()
    data = bytearray(dict(first.members)["000.reaction.jpg"])
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xf0\x00\xf0\x00"
    members = tuple((name, bytes(data) if name == "000.reaction.jpg" else content) for name, content in first.members)
    declare_anew(root, [Record(key=first.key, members=members), *others])
    with pytest.raises(ShardError, match="61440 x 61440 pixels"):
        read(root)


INFO = ShardInfo(path="s.tar", sha256="", num_bytes=10_240, index="s.idx", index_sha256="", records=1)


def index_bytes(*rows):
    table = pa.Table.from_pylist([dict(zip(INDEX_SCHEMA.names, row, strict=True)) for row in rows], schema=INDEX_SCHEMA)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, INDEX_SCHEMA) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    "rows",
    [
        [("a", "json", 0, 5)],
        [("a", "json", -512, 5)],
        [("a", "json", 512, -1)],
        [("a", "json", 512, 1 << 62)],
        [("a", "json", (1 << 63) - 1, 5)],
        [("a", "json", 512, 9729)],
        [("a", "json", 512, 600), ("a", "x.npy", 1024, 5)],
        [("a", "json", 2048, 5), ("a", "x.npy", 512, 5)],
        [("a", "json", 512, 5), ("b", "json", 1536, 5), ("a", "x.npy", 2560, 5)],
        [(None, "json", 512, 5)],
    ],
)
def test_indexes_with_impossible_places_are_refused(rows):
    with pytest.raises(ShardError, match=r"s\.idx has"):
        ShardIndex.parse(index_bytes(*rows), INFO)


def test_a_good_index_is_read():
    index = ShardIndex.parse(index_bytes(("a", "json", 512, 5), ("a", "x.npy", 1536, 5), ("b", "json", 2560, 5)), INFO)
    assert index.rows == {"a": (0, 2), "b": (2, 3)}


@pytest.mark.parametrize("path", ["../x.tar", "/etc/passwd", "shards/../../x.tar", "s3://other/x.tar", ""])
def test_manifests_that_lead_out_of_the_folder_are_refused(root, path):
    declare(root, path=path)
    with pytest.raises(ShardError, match="leads out of the data set"):
        ShardDataset(root)


def test_an_index_that_was_exchanged_is_refused(root):
    index = root / shard_of(root)["index"]
    index.write_bytes(index_bytes(("a", "json", 512, 5)))
    with pytest.raises(ShardError, match=r"is not the index that dataset\.json lists"):
        read(root)
    declare(root, index_sha256=file_sha256(index))
    with pytest.raises(ShardError, match="has no record video000-0-000000"):
        read(root)


def test_a_lost_record_is_missed_at_once(root):
    assert len(list(chunk_spans(130))) == 2
    records = all_records()
    rewrite(root, [record for record in records if record.key != "video002-0-000128"])
    with pytest.raises(ShardError, match="clip video002-0-000000 has 130 frames, its chunks 128"):
        ShardDataset(root)


def test_tables_of_other_shards_are_refused(root):
    declare(root, path="shards/other.tar")
    with pytest.raises(ShardError, match=r"which dataset\.json does not list"):
        ShardDataset(root)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "reactionnet-9"}', '{"schema": "reactionnet-1"}'])
def test_a_manifest_that_is_not_ours_is_refused(root, text):
    (root / "dataset.json").write_text(text)
    with pytest.raises(ShardError, match=r"dataset\.json"):
        ShardDataset(root)
