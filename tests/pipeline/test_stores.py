"""Builds whose sources, work and output lie in an object store: the same bytes, also where the store misbehaves."""

import json
from pathlib import Path

import pytest

from builds import RATIO, published, run_build
from faulty_store import BUCKET, s3_server
from reactionnet_datasets import stores
from reactionnet_datasets.shards import MANIFEST, read_manifest
from reactionnet_datasets.stores import StorePath, files_below
from reactionnet_datasets.tables import read_part
from reactionnet_pipeline.lease import NAME

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
