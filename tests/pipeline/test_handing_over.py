"""A job that was handed over to a service: what `--finish` says and writes once it is done."""

import json
import shutil

import pytest

from builds import RATIO, published, run_build
from reactionnet_pipeline.plan import BUILT
from reactionnet_pipeline.publish import RESULT


@pytest.fixture
def done(built, tmp_path):
    """Folders as a service leaves them: built and published, but without a report."""
    out = shutil.copytree(built.out, tmp_path / "set")
    work = shutil.copytree(built.out.with_name("dataset.work"), tmp_path / "set.work")
    for path in (work / BUILT, out / "run_report.json", out / "report.html"):
        path.unlink()
    return out


def test_a_job_that_is_done_is_reported_and_nothing_is_built(done, drawn, built):
    stages = {path: path.stat().st_mtime_ns for path in done.with_name("set.work").rglob("*") if path.is_file()}
    run_build(drawn.manifest, done, "--split-ratio", RATIO, "--finish")
    report, once = (json.loads((out / "run_report.json").read_bytes()) for out in (done, built.out))
    assert {**report, **TIMES} == {**once, **TIMES}
    assert report["frames_read"] > 0
    assert (done / "report.html").exists()
    assert published(done) == built.files
    assert {path: path.stat().st_mtime_ns for path in stages} == stages


TIMES = dict.fromkeys(("seconds", "pipeline_seconds", "frames_per_s"))


def test_a_job_that_lost_too_much_fails(done, drawn):
    result = done.with_name("set.work") / RESULT
    counts = {"admitted": 3, "built": 1, "lost": 2}
    result.write_text(json.dumps({"counts": counts, "lost": 2 / 3, "published": False}))
    (done.with_name("set.work") / "dead_letters.jsonl").write_text("")
    finished = run_build(drawn.manifest, done, "--split-ratio", RATIO, "--finish", check=False)
    assert finished.returncode == 1
    assert "not published: 2 of 3" in finished.stderr


def test_a_job_that_is_not_done_is_named(done, drawn):
    (done.with_name("set.work") / RESULT).unlink()
    finished = run_build(drawn.manifest, done, "--split-ratio", RATIO, "--finish", check=False)
    assert finished.returncode == 2
    assert finished.stderr.startswith("reactionnet-build: --finish: there is no")
    assert not (done / "run_report.json").exists()
