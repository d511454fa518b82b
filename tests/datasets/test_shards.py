import json
import subprocess
import tarfile

import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from reactionnet_datasets import shards
from reactionnet_datasets.shards import Record, ShardInfo, bucket_of, read_index, scan_tar, shards_for, write_shard


def records(num=3):
    return [
        Record(key=f"v-0-{n:06d}", members=(("json", b'{"n":%d}' % n), ("npy", bytes(n)), ("000.reaction.jpg", b"x" * 600)))
        for n in range(num)
    ]  # fmt: skip


def files(root):
    return sorted(path.name for path in root.rglob("*") if path.is_file())


def test_the_index_agrees_with_a_scan_and_with_the_bytes(tmp_path):
    info = write_shard(tmp_path, "train-00000", records())
    index, data = read_index(tmp_path / info.index), (tmp_path / info.path).read_bytes()
    assert index.equals(scan_tar(tmp_path / info.path))
    assert len(data) == info.num_bytes
    assert (info.records, index.num_rows) == (3, 9)
    places = [(row["offset"], row["size"]) for row in index.to_pylist()]
    members = [data for record in records() for _, data in record.members]
    assert [data[offset : offset + size] for offset, size in places] == members


def test_same_records_give_same_bytes_and_the_name_tells_the_content(tmp_path):
    one = write_shard(tmp_path / "a", "s", iter(records()))
    other = write_shard(tmp_path / "b", "s", records())
    changed = write_shard(tmp_path / "b", "s", records(2))
    assert one == other
    assert (tmp_path / "a" / one.path).read_bytes() == (tmp_path / "b" / one.path).read_bytes()
    assert one.sha256 == shards.file_sha256(tmp_path / "a" / one.path)
    assert one.sha256[:12] in one.path
    assert changed.path != one.path


def test_headers_are_ustar_and_know_no_clock_or_owner(tmp_path):
    info = write_shard(tmp_path, "s", records(1))
    assert (tmp_path / info.path).read_bytes()[257:265] == b"ustar\x0000"
    with tarfile.open(tmp_path / info.path) as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar} == {(0, 0, 0, "", "", 0o444)}


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    def failing():
        yield from records(2)
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        write_shard(tmp_path, "s", failing())
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ([Record(key="a", members=(("json", b""),))] * 2, "'a' occurs twice in shard s"),
        ([Record(key="a", members=(("x" * 120, b""),))], "name is too long"),
        ([Record(key="a.b", members=(("json", b""),))], "'a.b' is no key"),
    ],
)
def test_keys_and_names_that_would_not_read_back_are_refused(tmp_path, bad, reason):
    with pytest.raises(ValueError, match=reason):
        write_shard(tmp_path, "s", bad)
    assert files(tmp_path) == []


def test_plain_webdataset_and_tar_read_a_shard(tmp_path):
    info = write_shard(tmp_path, "s", records())
    samples = list(webdataset.WebDataset(str(tmp_path / info.path), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [record.key for record in records()]
    assert [sample["json"] for sample in samples] == [b'{"n":0}', b'{"n":1}', b'{"n":2}']
    listed = subprocess.run(["tar", "tf", tmp_path / info.path], capture_output=True, text=True, check=True)
    assert listed.stdout.split()[:3] == ["v-0-000000.json", "v-0-000000.npy", "v-0-000000.000.reaction.jpg"]
    assert listed.stderr == ""


def test_an_empty_shard_is_a_tar_too(tmp_path):
    info = write_shard(tmp_path, "s", [])
    assert read_index(tmp_path / info.index).equals(scan_tar(tmp_path / info.path))
    assert info == ShardInfo(**json.loads(json.dumps(vars(info))))


@pytest.mark.parametrize("data", [b"", b"nonsense" * 100])
def test_a_damaged_index_is_named(tmp_path, data):
    (tmp_path / "s.idx").write_bytes(data)
    with pytest.raises(ValueError, match=r"s\.idx is no shard index"):
        read_index(tmp_path / "s.idx")


@given(st.text(), st.integers(0, 12))
def test_doubling_the_shards_splits_each_in_two_and_moves_nothing_else(clip_id, power):
    assert bucket_of(clip_id, 2 << power) // 2 == bucket_of(clip_id, 1 << power) < 1 << power


@given(st.integers(0, 1 << 50), st.integers(1, 1 << 40))
def test_the_number_of_shards_is_the_least_power_of_two_that_holds_all(num_bytes, target):
    num = shards_for(num_bytes, target)
    assert num.bit_count() == 1
    assert num * target >= num_bytes
    assert num == 1 or num // 2 * target < num_bytes


def test_a_target_of_nothing_is_refused():
    with pytest.raises(ValueError, match="target of 0 bytes"):
        shards_for(10, 0)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "reactionnet-0"}', "\xff"])
def test_a_manifest_that_is_not_ours_is_refused(tmp_path, text):
    (tmp_path / "dataset.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"dataset\.json"):
        shards.read_manifest(tmp_path)


def test_only_what_a_killed_writer_left_is_removed(tmp_path):
    shards.write_manifest(tmp_path, {"splits": {}})
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / f"{shards.TEMPORARY}1").write_bytes(b"half")
    assert shards.remove_temporaries(tmp_path) == 1
    assert files(tmp_path) == ["dataset.json"]
