"""The same graph on other runners: the same bytes, and a message where a runner lacks something."""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from builds import RATIO, published, run_build
from checks import digests
from fake.disfa import write_disfa
from reactionnet_datasets.shards import ShardInfo
from reactionnet_datasets.tabulate import TableParts
from reactionnet_pipeline.launch import check_runner
from reactionnet_pipeline.parts import ShardRef
from reactionnet_pipeline.publish import Tabulated, check_written


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


@contextmanager
def started(module: str, option: str):
    """A server of Beam's in a process of its own; gives its address."""
    port = free_port()
    # the pool starts its workers with the `python` that it finds first
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", module, f"--{option}={port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("localhost", port), 1).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def job_service():
    with started("apache_beam.runners.portability.local_job_service_main", "port") as address:
        yield address


@pytest.fixture(scope="module")
def worker_pool():
    with started("apache_beam.runners.worker.worker_pool_main", "service_port") as address:
        yield address


@pytest.mark.slow
def test_workers_in_the_launcher_give_the_same_bytes_and_say_nothing(built, drawn, job_service, tmp_path):
    options = ("--runner", "PortableRunner", f"--job_endpoint={job_service}", "--environment_type=LOOPBACK")
    done = run_build(drawn.manifest, tmp_path / "d", "--split-ratio", RATIO, *options)
    assert published(tmp_path / "d") == built.files
    assert done.stdout == done.stderr == ""


@pytest.mark.slow
def test_workers_of_a_pool_give_the_same_bytes(built, drawn, job_service, worker_pool, tmp_path):
    options = (
        "--runner", "PortableRunner", f"--job_endpoint={job_service}", "--environment_type=EXTERNAL",
        f"--environment_config={worker_pool}", "--direct_num_workers=2",
    )  # fmt: skip
    run_build(drawn.manifest, tmp_path / "d", "--split-ratio", RATIO, *options)
    assert published(tmp_path / "d") == built.files


@pytest.mark.slow
def test_dask_gives_the_same_bytes(built, drawn, tmp_path):
    pytest.importorskip("distributed", reason="Dask is not installed")
    run_build(drawn.manifest, tmp_path / "d", "--split-ratio", RATIO, "--runner", "DaskRunner")
    assert published(tmp_path / "d") == built.files


@pytest.mark.slow
def test_an_import_on_a_portable_runner_writes_the_same_bytes(job_service, worker_pool, tmp_path):
    release = write_disfa(tmp_path / "disfa")
    command = [sys.executable, "-m", "reactionnet_datasets.import_cli", "disfa", str(release)]
    portable = ("--runner", "PortableRunner", f"--job_endpoint={job_service}", "--environment_type=EXTERNAL",
                f"--environment_config={worker_pool}")  # fmt: skip
    for name, options in (("here", ("--workers", "1")), ("there", portable)):
        done = subprocess.run(
            [*command, str(tmp_path / name), "-q", *options], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "here") == digests(tmp_path / "there")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--runner=Dataflw",), "no such runner; did you mean DataflowRunner?"),
        (("--runner=xyz",), "no such runner; there are"),
        (("--runner=PortableRunner",), "--job_endpoint is missing"),
        (("--runner=PortableRunner",), "--environment_type is missing: LOOPBACK"),
        (("--runner=PortableRunner", "--job_endpoint=localhost"), "--job_endpoint localhost: expected HOST:PORT"),
        (("--runner=PortableRunner", "--environment_type=LOPBACK"), "--environment_type LOPBACK: expected LOOPBACK"),
        (("--runner=PortableRunner", "--environment_type=EXTERNAL"), "--environment_config is missing: a worker pool"),
        (("--runner=SparkRunner", "--environment_type=DOCKER"), "--environment_config is missing: an image"),
    ],
)
def test_what_a_runner_lacks_is_said(options, message):
    with pytest.raises(ValueError, match="--runner") as said:
        check_runner(options)
    assert message in str(said.value)


def test_a_service_that_nobody_runs_is_named():
    port = free_port()
    with pytest.raises(ValueError, match=f"--job_endpoint localhost:{port}: nobody answers there"):
        check_runner(["--runner=PortableRunner", f"--job_endpoint=localhost:{port}", "--environment_type=LOOPBACK"])


def test_shards_that_lack_clips_are_not_published():
    """As a runner leaves them that drops what a function gives at the end of a bundle."""
    sources = pa.table({"clips": [1, 2], "frames": [60, 90]})
    shards = [whole_shard("a", 1, 60), whole_shard("b", 2, 90)]
    check_written("train", sources, shards)
    for wrong in (shards[:1], [*shards, shards[1]]):
        with pytest.raises(RuntimeError, match="train: 3 clips of 150 frames were assembled, and"):
            check_written("train", sources, wrong)


def whole_shard(name: str, clips: int, frames: int) -> Tabulated:
    info = ShardInfo(path=name, index=name, sha256="", num_bytes=0, records=clips, index_sha256="")
    parts = TableParts(frames=name, windows=name, num_frames=frames, num_clips=clips)
    return Tabulated(shard=ShardRef(split="train", number=0, info=info), parts=parts)


def test_the_local_runner_needs_nothing():
    for options in ((), ("--runner=DirectRunner",), ("--runner=direct",), ("--runner=FnApiRunner",)):
        check_runner(options, 2, "/out", "/work")
