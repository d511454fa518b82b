"""Ranges of files in a folder or behind a URL, and the cache between."""

import itertools
import pickle
import threading
from types import SimpleNamespace

import fsspec
import numpy as np
import pytest
from torch.utils.data import DataLoader

from drawn_shards import write_dataset
from reactionnet_datasets import ShardDataset
from reactionnet_datasets.records import Records, Wanted
from reactionnet_datasets.storage import LocalStorage, RemoteStorage, ShardError, open_storage

DATA = np.random.default_rng(0).bytes(10_000)


@pytest.fixture
def remote(tmp_path):
    """A file of 10,000 bytes in fsspec's memory, read in blocks of 1,000 through a cache of 4,000."""
    system = fsspec.filesystem("memory")
    system.pipe_file("/bucket/set/file", DATA)
    yield RemoteStorage("memory://bucket/set", tmp_path / "cache", cache_bytes=4000, block_bytes=1000)
    system.rm("/bucket", recursive=True)


def cached(path):
    return sum(file.stat().st_size for file in path.rglob("*.block"))


@pytest.mark.parametrize(
    ("start", "size"), [(0, 0), (0, 1), (0, 10_000), (999, 2), (1000, 1000), (9_999, 1), (2500, 4000)]
)
def test_ranges_are_the_bytes_of_the_file(remote, tmp_path, start, size):
    (tmp_path / "file").write_bytes(DATA)
    assert bytes(remote.read("file", start, size)) == DATA[start : start + size]
    local = LocalStorage(tmp_path)
    for _ in ("read", "mapped"):
        assert bytes(local.read("file", start, size)) == DATA[start : start + size]


@pytest.mark.parametrize(("start", "size"), [(0, 10_001), (10_000, 1), (-1, 5), (1 << 60, 1)])
def test_ranges_beyond_the_end_are_refused(remote, tmp_path, start, size):
    (tmp_path / "file").write_bytes(DATA)
    for storage in (remote, LocalStorage(tmp_path)):
        with pytest.raises(ShardError, match="file ends at byte 10000; the index expects"):
            storage.read("file", start, size)


def test_a_block_is_fetched_once_and_the_cache_stays_small(remote, tmp_path):
    for start in (0, 500, 100):
        remote.read("file", start, 400)
    assert remote.fetched_bytes == 1000
    for start in range(0, 10_000, 100):
        remote.read("file", start, 100)
        assert cached(tmp_path / "cache") <= 4000
    assert remote.fetched_bytes == 10_000
    again = pickle.loads(pickle.dumps(remote))
    again.read("file", 9_900, 100)
    assert again.fetched_bytes == 0  # still there for another process


@pytest.mark.parametrize("damage", [b"cut", b"of another length" * 100])
def test_a_cached_block_of_another_length_is_fetched_again(remote, tmp_path, damage):
    remote.read("file", 0, 10)
    (block,) = (tmp_path / "cache").rglob("*.block")
    block.write_bytes(damage)
    assert bytes(remote.read("file", 0, 10)) == DATA[:10]
    assert block.stat().st_size == 1000


def test_threads_that_want_the_same_block_fetch_it_once(remote):
    threads = [threading.Thread(target=remote.read, args=("file", 0, 900)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert remote.fetched_bytes == 1000


def test_what_does_not_exist_is_named(remote, tmp_path):
    for storage in (remote, LocalStorage(tmp_path)):
        with pytest.raises(ShardError, match="nowhere"):
            storage.read("nowhere", 0, 1)
        with pytest.raises(ShardError, match="nowhere"):
            storage.whole("nowhere")
        with pytest.raises(ShardError, match="leads out"):
            storage.whole("../file")


def test_many_files_are_open_a_few_at_a_time(tmp_path):
    for number in range(100):
        (tmp_path / str(number)).write_bytes(bytes([number]))
    storage = LocalStorage(tmp_path)
    assert [bytes(storage.read(str(n), 0, 1)) for n in range(100)] == [bytes([n]) for n in range(100)]
    assert len(storage._files) <= 64


@pytest.mark.parametrize("room", [1 << 40, 0])
def test_of_a_mapped_file_parts_far_from_each_other_are_read_at_once(tmp_path, monkeypatch, room):
    (tmp_path / "file").write_bytes(DATA)
    monkeypatch.setattr("reactionnet_datasets.storage._half_of_memory", lambda: room)
    assert (LocalStorage(tmp_path).joins("file") > len(DATA)) == (room > 0)


def test_spread_frames_are_the_same_from_mapped_files_and_from_read_ones(tmp_path, monkeypatch):
    root = write_dataset(tmp_path / "set", [6, 300, 9], num_shards=2, side=32)

    def batches():
        return [batch["frames"].tolist() for batch in ShardDataset(root, num_frames=5, batch_size=2, shuffle=True)]

    mapped = batches()
    monkeypatch.setattr("reactionnet_datasets.storage._half_of_memory", lambda: 0)
    assert batches() == mapped


def test_pictures_that_lie_in_another_order_than_their_frames_are_read_apart():
    """Other writers sort `10.jpg` before `2.jpg`."""
    places = SimpleNamespace(
        starts=[4096, 0, 2048, 1 << 20], ends=[5000, 900, 3000, (1 << 20) + 9], names=[b"a", b"b", b"c", b"d"]
    )
    for joins, runs in ((2048, [(4096, 904), (0, 3000), (1 << 20, 9)]), (1 << 40, [(4096, 904), (0, (1 << 20) + 9)])):
        storage = SimpleNamespace(joins=lambda path, joins=joins: joins)
        records = Records(SimpleNamespace(shards=[SimpleNamespace(path="a.tar")], storage=storage), Wanted())
        parsed = SimpleNamespace(pictures={"reaction": places}, shard=0, num=4)
        found = records.runs(parsed, "reaction", slice(None))
        assert [(run.start, run.num_bytes) for run in found] == runs
        members = [(run.start + first, run.start + last, name) for run in found for first, last, name in run.members]
        assert members == list(zip(places.starts, places.ends, places.names, strict=True))


def test_urls_and_folders_are_told_apart(tmp_path):
    assert isinstance(open_storage(tmp_path), LocalStorage)
    assert isinstance(open_storage(f"file://{tmp_path}"), LocalStorage)
    assert isinstance(open_storage("memory://bucket", cache=tmp_path), RemoteStorage)
    with pytest.raises(ValueError, match="chains file systems"):
        open_storage("simplecache::s3://bucket")
    with pytest.raises(ValueError, match="too small"):
        open_storage("memory://bucket", cache=tmp_path, cache_bytes=10)


@pytest.fixture
def published(tmp_path):
    """A data set in a folder and the same in fsspec's memory."""
    root = write_dataset(tmp_path / "set", [6, 130, 3, 9], num_shards=3, side=8)
    system = fsspec.filesystem("memory")
    for file in root.rglob("*"):
        if file.is_file():
            system.pipe_file(f"/published/{file.relative_to(root).as_posix()}", file.read_bytes())
    yield root, "memory://published"
    system.rm("/published", recursive=True)


def test_a_remote_data_set_gives_the_same_batches_as_a_local_one(published, tmp_path):
    root, url = published

    def batches(where, workers=0):
        dataset = ShardDataset(where, window=4, batch_size=3, shuffle=True, cache=tmp_path / "cache")
        loaded = DataLoader(dataset, batch_size=None, num_workers=workers)
        return [(batch["key"], batch["frames"].sum()) for batch in loaded]

    assert batches(url) == batches(root) == batches(url, workers=2)


def test_a_remote_data_set_larger_than_its_cache_is_shuffled_by_shards(published, tmp_path):
    _, url = published
    options = {"window": 1, "shuffle": True, "fields": ("meta",), "cache": tmp_path / "cache"}
    small = [item["meta"]["shard"] for item in ShardDataset(url, cache_bytes=1 << 18, **options)]
    assert len([shard for shard, _ in itertools.groupby(small)]) == len(set(small)) > 1
    mixed = [item["meta"]["shard"] for item in ShardDataset(url, **options)]
    assert len([shard for shard, _ in itertools.groupby(mixed)]) > len(set(small))
    assert small == [item["meta"]["shard"] for item in ShardDataset(url, cache_bytes=1 << 18, **options)]
