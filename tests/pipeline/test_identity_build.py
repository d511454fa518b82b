"""A whole build of videos whose manifest names nobody."""

import json
import shutil
import stat
import tarfile

import pyarrow.parquet as pq
import pytest

from builds import RATIO, published, run_build, write_rows
from reactionnet_datasets.shards import MANIFEST


@pytest.fixture(scope="module")
def nameless(drawn, tmp_path_factory):
    rows = drawn.rows()
    for row in rows:
        row.pop("subject_ids", None)
    folder = tmp_path_factory.mktemp("nameless")
    manifest = write_rows(folder / "sources.jsonl", rows)
    run_build(manifest, folder / "out", "--split-ratio", RATIO)
    return manifest, folder / "out"


def test_faces_name_the_subjects_and_stay_in_the_work_folder(nameless):
    _, out = nameless
    subjects = pq.read_table(out / "tables/subjects.parquet").to_pylist()
    assert {row["id_origin"] for row in subjects} == {"face"}
    # drawn faces are much alike: who is one person is not asked here, only that nobody is in two splits
    assert len({row["subject_id"] for row in subjects}) == len(subjects)
    vectors = list((out.parent / "out.work" / "embeddings").glob("*.npz"))
    assert len(vectors) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in vectors} == {0o600}
    for shard in (out / "shards").glob("*.tar"):
        with tarfile.open(shard) as tar:
            assert not [name for name in tar.getnames() if "embed" in name or "vector" in name]


def test_a_rerun_finds_nothing_to_do(nameless):
    """The lock that the first run wrote is another input than the one it began with."""
    manifest, out = nameless
    before = (out / MANIFEST).stat().st_mtime_ns
    run_build(manifest, out, "--split-ratio", RATIO)
    assert (out / MANIFEST).stat().st_mtime_ns == before


@pytest.mark.slow
def test_one_split_alone_is_the_same_once_the_lock_knows_it(nameless, tmp_path):
    manifest, out = nameless
    content = json.loads((out / MANIFEST).read_bytes())
    split = next(name for name, entry in content["splits"].items() if entry["sources"])
    shutil.copytree(out, tmp_path / "alone", ignore=shutil.ignore_patterns("shards", "tables", "*.json", "*.html"))
    run_build(manifest, tmp_path / "alone", "--split", split, "--split-ratio", RATIO)
    assert published(tmp_path / "alone", split) == published(out, split)
    opened = {path.name.partition("-")[0] for path in (tmp_path / "alone.work" / "decode").glob("*.json")}
    assert len(opened) == content["splits"][split]["sources"]


@pytest.mark.slow
def test_without_a_model_a_source_is_a_subject_of_its_own(nameless, tmp_path):
    manifest, _ = nameless
    run_build(manifest, tmp_path / "out", "--split-ratio", RATIO, "--embedding-model", "none")
    subjects = pq.read_table(tmp_path / "out/tables/subjects.parquet").to_pylist()
    assert {row["id_origin"] for row in subjects} == {"video"}
    assert not (tmp_path / "out.work" / "embeddings").exists()


def test_a_model_that_is_not_there_is_refused_before_anything_is_opened(nameless, tmp_path):
    manifest, _ = nameless
    done = run_build(manifest, tmp_path / "out", "--embedding-model", str(tmp_path / "no.dat"), check=False)
    assert done.returncode == 2
    assert "no such file of weights" in done.stderr
    assert not (tmp_path / "out.work").exists()


def test_a_curators_slip_is_named_before_anything_is_opened(nameless, tmp_path):
    manifest, _ = nameless
    lines = tmp_path / "curated.jsonl"
    for text, what in (('{"merge": ["a"]}', "line 1"), (None, "No such file")):
        lines.write_text(text) if text else lines.unlink()
        done = run_build(manifest, tmp_path / "out", "--set", f"identity.curated={lines}", check=False)
        assert (done.returncode, what in done.stderr) == (2, True)
    assert not (tmp_path / "out.work").exists()
