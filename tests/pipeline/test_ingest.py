import os
from contextlib import nullcontext
from hashlib import sha256

import pytest

from misbehaving import fill_the_disk
from reactionnet_pipeline import admitted
from reactionnet_pipeline.errors import Code, SourceError
from reactionnet_pipeline.ingest import ingest, load_info
from reactionnet_pipeline.records import Source
from reactionnet_pipeline.video import probe


def source(path, **changed):
    return Source(**{"video_id": "v", "line": 1, "uri": str(path), "split": "train", **changed})


def refusal(*arguments):
    with pytest.raises(SourceError) as caught:
        ingest(*arguments)
    return caught.value.code


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    import av
    import numpy as np

    path = tmp_path_factory.mktemp("film") / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for n in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), n * 20, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_a_source_is_hashed_and_probed_once(tmp_path, film):
    found = ingest(source(film), tmp_path)
    assert found.sha256 == sha256(film.read_bytes()).hexdigest()
    info, fresh = load_info(found.probe), probe(film)
    assert info.times_s.tolist() == fresh.times_s.tolist()
    assert {n: v for n, v in vars(info).items() if n[-1:] != "s"} == {
        n: v for n, v in vars(fresh).items() if n[-1:] != "s"
    }
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    assert ingest(source(film), tmp_path) == found
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == before


def test_other_bytes_than_the_manifest_promises_are_refused(tmp_path, film):
    assert refusal(source(film, sha256="0" * 64), tmp_path) == Code.CHECKSUM_MISMATCH
    ingest(source(film, sha256=sha256(film.read_bytes()).hexdigest()), tmp_path)


def test_content_that_was_taken_down_is_found_under_any_name(tmp_path, film):
    assert refusal(source(film), tmp_path, frozenset({sha256(film.read_bytes()).hexdigest()})) == Code.TAKEN_DOWN
    assert not (tmp_path / "probe").exists()


def test_a_changed_file_is_read_again(tmp_path, film):
    path = tmp_path / "a.mp4"
    path.write_bytes(film.read_bytes())
    before = ingest(source(path), tmp_path)
    path.write_bytes(film.read_bytes() + b"\0" * 8)
    os.utime(path, (1, 1))
    assert ingest(source(path), tmp_path).sha256 != before.sha256


@pytest.mark.parametrize("uri", ["none.mp4", ".", "x" * 300, "gs2://bucket/a.mp4"])
def test_what_is_not_there_failed_to_be_fetched(tmp_path, uri):
    assert refusal(source(tmp_path / uri), tmp_path / "work") == Code.FETCH_FAILED


def test_a_full_disk_is_no_fault_of_the_source(tmp_path, film, monkeypatch):
    """As when an object is copied into a scratch folder that has no room."""
    monkeypatch.setattr("reactionnet_pipeline.ingest.local", lambda path: nullcontext(fill_the_disk()))
    with pytest.raises(OSError, match="No space left"):
        ingest(source(film), tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    assert refusal(source(tmp_path / "a.mp4"), tmp_path / "work") == Code.FETCH_FAILED


def test_the_stage_of_a_build_reads_what_was_taken_down_from_the_plan(film, tmp_path):
    from reactionnet_pipeline.build import ingest_one

    admitted.write_tombstones(tmp_path, [])
    assert ingest_one(source(film), tmp_path).source.video_id
    admitted.write_tombstones(tmp_path, [sha256(film.read_bytes()).hexdigest()])
    with pytest.raises(SourceError, match="TAKEN_DOWN"):
        ingest_one(source(film), tmp_path)
