"""What is published is whole and just what was validated, whatever happens on the way."""

import shutil
import subprocess
import sys

import pytest

from drawn_shards import write_dataset
from faulty_store import BUCKET, s3_server
from reactionnet_datasets import stores
from reactionnet_datasets.listing import digests_of
from reactionnet_datasets.publishing import publish
from reactionnet_datasets.shards import MANIFEST, file_sha256, read_manifest
from reactionnet_datasets.splits import LOCK, write_lock
from reactionnet_datasets.storage import ShardError
from reactionnet_datasets.stores import StoreError, StorePath, files_below
from reactionnet_datasets.validate import validate


@pytest.fixture
def candidate(tmp_path):
    return write_dataset(tmp_path / "candidate", [3, 4, 2], num_shards=2, side=8)


def content(root):
    return {name: file_sha256(root / name) for name in files_below(root)}


def test_readers_get_just_what_the_candidate_holds(candidate, tmp_path):
    (candidate / LOCK).write_bytes(write_lock({}))
    (candidate / "shards" / "stray.tar").write_bytes(b"of an earlier build")
    done = publish(candidate, tmp_path / "set")
    listed = digests_of(read_manifest(candidate)).keys()
    assert content(tmp_path / "set").keys() == {*listed, MANIFEST, LOCK}
    assert content(tmp_path / "set").items() <= content(candidate).items()
    assert (done.copied, done.kept, done.sha256) == (len(listed), 0, file_sha256(candidate / MANIFEST))
    assert validate(tmp_path / "set").faults == []


def test_a_second_run_writes_nothing(candidate, tmp_path):
    (candidate / LOCK).write_bytes(write_lock({}))
    publish(candidate, tmp_path / "set")
    before = {name: (tmp_path / "set" / name).stat().st_mtime_ns for name in files_below(tmp_path / "set")}
    assert publish(candidate, tmp_path / "set").copied == 0
    assert {name: (tmp_path / "set" / name).stat().st_mtime_ns for name in before} == before
    (candidate / LOCK).unlink()
    publish(candidate, tmp_path / "set")
    assert before.keys() - files_below(tmp_path / "set").keys() == {LOCK}


def test_what_the_replaced_manifest_lists_stays_for_its_readers(candidate, tmp_path):
    generations = [candidate, *(write_dataset(tmp_path / f"c{n}", [n, 5], num_shards=1, side=8) for n in (6, 7))]
    files = [digests_of(read_manifest(root)).keys() for root in generations]
    for root in generations:
        publish(root, tmp_path / "set")
    publish(generations[-1], tmp_path / "set")  # tried again
    there = content(tmp_path / "set").keys()
    assert files[1] | files[2] <= there
    assert not (files[0] - files[1] - files[2]) & there


@pytest.mark.parametrize("fault", ["missing", "changed"])
def test_a_candidate_that_is_not_whole_changes_nothing(candidate, tmp_path, fault):
    old = write_dataset(tmp_path / "old", [6, 5], num_shards=1, side=8)
    publish(old, tmp_path / "set")
    before = content(tmp_path / "set")
    shard = candidate / read_manifest(candidate)["splits"]["train"]["shards"][-1]["path"]
    if fault == "missing":
        shard.unlink()
    else:
        data = bytearray(shard.read_bytes())
        data[700] ^= 1
        shard.write_bytes(data)
    with pytest.raises(ShardError, match=shard.name):
        publish(candidate, tmp_path / "set")
    assert before.items() <= content(tmp_path / "set").items()
    assert read_manifest(tmp_path / "set") == read_manifest(old)


def test_the_command_names_what_is_wrong(tmp_path):
    command = [sys.executable, "-m", "reactionnet_datasets.publishing", tmp_path / "none", tmp_path / "set"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path / 'none'} holds no {MANIFEST}: nothing was built there\n"
    assert not (tmp_path / "set").exists()


def test_onto_itself_is_refused(candidate):
    with pytest.raises(ValueError, match="both"):
        publish(candidate, candidate.parent / "candidate")


def test_a_copy_across_file_systems_is_a_copy(candidate, tmp_path, monkeypatch):
    def no_links(source, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", no_links)
    publish(candidate, tmp_path / "set")
    shutil.rmtree(candidate)
    assert validate(tmp_path / "set").faults == []


def test_into_a_store_and_on_to_another_place_in_it(candidate, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stores._systems.clear()
    first, second = (StorePath(f"s3://{BUCKET}/{name}") for name in ("first", "second"))
    with s3_server(monkeypatch.setenv) as server:
        server.faults.append(
            lambda request: request.method == "PUT" and ".idx" in request.path and request.refuse("403 No")
        )
        with pytest.raises(StoreError, match="idx"):
            publish(candidate, first)
        assert not (first / MANIFEST).exists()
        server.faults.clear()
        publish(candidate, first)
        done = publish(first, second)
        assert publish(first, second).copied == 0
        assert content(second).items() <= content(candidate).items()
        assert done.sha256 == file_sha256(candidate / MANIFEST)
        assert validate(second).faults == []
