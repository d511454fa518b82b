"""Run Beam graphs: on this machine with Beam's FnApiRunner, or on the runner that the options name.

The graph is the same everywhere, and so are the bytes. What differs is who starts the workers: here it is `worker`,
elsewhere Beam. What is wrong with a runner's options is said before anything is opened (`check_runner`).
"""

import argparse
import difflib
import hashlib
import logging
import os
import re
import shlex
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    StandardOptions,
    TestOptions,
    WorkerOptions,
)
from apache_beam.runners.runner import PipelineState

from reactionnet_datasets.stores import Place, StoreError, as_place, scratch
from reactionnet_pipeline import dataflow
from reactionnet_pipeline.build import Build, build_graph
from reactionnet_pipeline.errors import DISK_FULL, JobError, disk_full
from reactionnet_pipeline.isolated import one_thread_from_now, preload

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# "DirectRunner" would first try to download another runner and fall back without a word
LOCAL = (None, "DirectRunner", "FnApiRunner", "local")
PORTABLE = ("PortableRunner", "FlinkRunner", "SparkRunner")
DASK = "apache_beam.runners.dask.dask_runner.DaskRunner"
FOREVER_S = 366 * 86_400  # Beam's own limit of 300 s would end the watch over a job, not only a call that hangs
ANSWER_S = 5
# what a worker's OSError says, from which a driver learns of it
DISK_FULL_SAID = re.compile(rf"\[Errno (?:{'|'.join(map(str, DISK_FULL))})\] (\w[\w ]*\w)")


def run(build: Build, workers: int, beam_options: list[str], log_level: str) -> None:
    """Run to the end. Whatever the stages raise (faults of ours, not of a source) is raised here; JobError where the
    runner says that the job failed or was cancelled.
    """
    options = read_options(beam_options)
    logs = _log_to(build, log_level)
    pipeline = open_pipeline(options, workers, logs)
    build_graph(pipeline, hinted(build, options))
    finish(pipeline)


def read_options(beam_options: Sequence[str]) -> PipelineOptions:
    """Beam's options as a runner gets them, with what this pipeline needs of it where the user did not say."""
    options = PipelineOptions(list(beam_options))
    name = runner_name(options)
    options.view_as(StandardOptions).runner = name
    setup = options.view_as(SetupOptions)
    setup.save_main_session = bool(setup.save_main_session)  # Beam's default ships whatever started this process
    if name in dataflow.RUNNERS:
        dataflow.set_defaults(options)
    if name in PORTABLE and not any(option.startswith("--job_server_timeout") for option in beam_options):
        options.view_as(PortableOptions).job_server_timeout = FOREVER_S
    return options


def hinted(build: Build, options: PipelineOptions) -> Build:
    """A build with the resource hints of its stages, where the runner reads them: others would keep workers apart for
    each kind of hint and gain nothing.
    """
    if options.view_as(StandardOptions).runner in dataflow.RUNNERS:
        config = build.config
        devices = {
            "Caption": config.captions.device if build.captions else None,
            "Demographics": config.demographics.device if build.demographics else None,
            "Embed": config.embeddings.device if build.embeddings else None,
        }
        return replace(build, hints=dataflow.hints(config.dataflow, devices, options))
    return build


def open_pipeline(options: PipelineOptions, workers: int, logs: Path) -> beam.Pipeline:
    """An empty pipeline on the runner that the options name; `workers` and `logs` are those of this machine."""
    standard = options.view_as(StandardOptions)
    if standard.runner in LOCAL:
        direct = options.view_as(DirectOptions)
        if direct.direct_num_workers == 1:  # Beam's default
            direct.direct_num_workers = workers
        standard.runner = None
        return beam.Pipeline(runner=local_runner(logs), options=options)
    if standard.runner in dataflow.RUNNERS:
        try:
            import apache_beam.runners.dataflow.internal.apiclient  # noqa: F401
        except ImportError as error:
            raise ValueError(f'--runner {standard.runner} needs pip install "reactionnet[gcp]" ({error})') from None
    if options.view_as(PortableOptions).environment_type == "LOOPBACK":
        _stage_processes_write_to(logs / "workers.log")
    return beam.Pipeline(options=options)


def finish(pipeline: beam.Pipeline) -> None:
    """Run a pipeline and wait for its end; an interrupt ends the job too, wherever it runs."""
    from apache_beam.runners.dataflow.dataflow_runner import DataflowRuntimeException

    try:
        result = pipeline.run()
        if pipeline.options.view_as(GoogleCloudOptions).template_location:  # Dataflow starts it once this process ends
            return
        try:
            result.wait_until_finish()
        except KeyboardInterrupt:
            with suppress(NotImplementedError):
                result.cancel()
            raise
    except DataflowRuntimeException as error:
        raise JobError(str(error)) from error
    except RuntimeError as error:  # what a worker raised comes as text
        if said := re.search(r"\bStoreError: (.+?)(?=\\n| \[while running|$)", str(error), re.MULTILINE):
            raise StoreError(said[1]) from error
        if said := DISK_FULL_SAID.search(str(error)):
            raise disk_full(said[1]) from error
        raise
    if result.state != PipelineState.DONE:
        raise JobError(f"the job ended as {result.state}; nothing was published by it")


# -- what is wrong with the options ------------------------------------------------------------------------------------


def check_runner(
    beam_options: Sequence[str], workers: int = 0, out: str | None = None, work: str | None = None
) -> None:
    """ValueError with all that the options of a runner lack or have wrong. Opens nothing but a connection to the job
    service that they name.
    """
    options = PipelineOptions(list(beam_options))
    name = runner_name(options)
    if name in LOCAL:
        return
    found = []
    if workers:
        found.append(
            f"--workers {workers} is for builds on this machine: Dataflow takes --max_num_workers, Beam's local job"
            " service --direct_num_workers"
        )
    if options.view_as(TestOptions).dry_run:
        found.append("--dry_run is for tests of Beam: --dry-run checks a job")
    if name in dataflow.RUNNERS:
        found += dataflow.slips(options, out, work)
    elif name in PORTABLE:
        found += _portable_slips(options, name)
    if found:
        raise ValueError(f"--runner {name}\n  " + "\n  ".join(found))


def check_reach(beam_options: Sequence[str], locations: Sequence[str], weights: Mapping[str, str]) -> None:
    """ValueError where workers elsewhere could not open these sources, or the weights of these stages."""
    options = PipelineOptions(list(beam_options))
    found = dataflow.out_of_reach(locations, weights, bool(options.view_as(WorkerOptions).sdk_container_image))
    if found:
        raise ValueError(f"--runner {runner_name(options)}\n  " + "\n  ".join(found))


def runner_name(options: PipelineOptions) -> str | None:
    """The runner as Beam calls it, whose class may be named in full. ValueError for one that there is not."""
    given = options.view_as(StandardOptions).runner
    if given is None or "." in given:
        return given
    names = {name.lower(): name for name in (*StandardOptions.KNOWN_RUNNER_NAMES, "DaskRunner", "local")}
    for word in (given.lower(), given.lower() + "runner"):
        if word in names:
            return DASK if names[word] == "DaskRunner" else names[word]
    near = difflib.get_close_matches(given.lower(), names, n=1)
    hint = f"did you mean {names[near[0]]}?" if near else f"there are {', '.join(sorted(names.values()))}"
    raise ValueError(f"--runner {given}: no such runner; {hint}")


def _portable_slips(options: PipelineOptions, name: str) -> list[str]:
    portable = options.view_as(PortableOptions)
    found = []
    endpoint = portable.job_endpoint
    if endpoint:
        found += [] if endpoint == "embed" else _unanswered("--job_endpoint", endpoint)
    elif name == "PortableRunner":
        found.append(
            "--job_endpoint is missing: the job service, such as --job_endpoint=localhost:8099"
            " (python -m apache_beam.runners.portability.local_job_service_main --port 8099 starts Beam's own)"
        )
    needs = {
        "LOOPBACK": (None, ""),
        "EXTERNAL": ("external_service_address", "a worker pool, such as --environment_config=localhost:50000"),
        "DOCKER": ("docker_container_image", "an image with reactionnet[pipeline] in it"),
        "PROCESS": ("process_command", 'such as --environment_config={"command": "/opt/apache/beam/boot"}'),
    }
    kind = portable.environment_type
    if kind not in needs:
        said = f"--environment_type {kind}: expected" if kind else "--environment_type is missing:"
        return [*found, f"{said} LOOPBACK (workers in this process), EXTERNAL (a worker pool), DOCKER or PROCESS"]
    option, example = needs[kind]
    place = portable.environment_config or (option and portable.lookup_environment_option(option))
    if option and not place:
        found.append(f"--environment_config is missing: {example}")
    elif kind == "EXTERNAL" and (endpoint or "").startswith(("localhost", "127.")):  # else it may see what we do not
        found += _unanswered("--environment_config", str(place))
    return found


def _unanswered(option: str, place: str) -> list[str]:
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal():
        return [f"{option} {place}: expected HOST:PORT"]
    try:
        socket.create_connection((host, int(port)), ANSWER_S).close()
    except OSError as error:
        return [f"{option} {place}: nobody answers there ({error.strerror or error})"]
    return []


def beam_parser(arguments: Sequence[str] = ()) -> argparse.ArgumentParser:
    """A parser of all options that Beam knows: what it leaves over is a slip, which Beam itself would pass over."""
    if any("dask" in argument.lower() for argument in arguments):
        os.environ.setdefault(
            "DASK_DISTRIBUTED__WORKER__DAEMON", "False"
        )  # daemons may start no processes, as stages do
        try:
            import apache_beam.runners.dask.dask_runner  # noqa: F401, its options are known once it is loaded
        except ImportError as error:
            raise ValueError(f'--runner DaskRunner needs Dask: pip install "dask[distributed]" ({error})') from None
    parser: Any = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for group in PipelineOptions.__subclasses__():
        group._add_argparse_args(parser)
    return parser


# -- this machine ------------------------------------------------------------------------------------------------------


def logs_folder(work: Place) -> Path:
    """Where logs are written: in the work folder or, where that lies in a store, in this machine's scratch folder."""
    if isinstance(work, Path):
        return work / "logs"
    return scratch() / f"logs-{hashlib.sha256(str(work).encode()).hexdigest()[:8]}"


def _log_to(build: Build, log_level: str) -> Path:
    folder = logs_folder(as_place(build.work))
    folder.mkdir(exist_ok=True)
    logging.basicConfig(filename=folder / "launcher.log", level=log_level.upper(), format=LOG_FORMAT, force=True)
    logging.raiseExceptions = False  # a full disk is told by what it stops, not by each line that could not be logged
    # Beam's threads die of the connections that an interrupt closes: that is for the log, not for the user
    threading.excepthook = lambda fault: logging.error("in a thread of the runner", exc_info=fault.exc_value)
    return folder


def local_runner(logs: Path):
    """Real processes, which write what they have to say to the log folder."""
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from apache_beam.transforms.environments import SubprocessSDKEnvironment

    one_thread_from_now()
    os.environ["PYTHONSAFEPATH"] = "1"
    worker = f"{shlex.quote(sys.executable)} -m reactionnet_pipeline.worker {os.getpid()}"
    command = f"exec {worker} >>{shlex.quote(str(logs / 'workers.log'))} 2>&1"
    return FnApiRunner(default_environment=SubprocessSDKEnvironment.from_command_string(command))


def _stage_processes_write_to(log: Path) -> None:
    """Start the server of the stages' processes with its output in a file: its children inherit that."""
    one_thread_from_now()
    preload()
    ours = os.dup(2)
    try:
        with log.open("a") as file:
            os.dup2(file.fileno(), 2)
            forkserver.ensure_running()
    finally:
        os.dup2(ours, 2)
        os.close(ours)
