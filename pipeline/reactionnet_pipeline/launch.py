"""Run a build's graph: on this machine with Beam's FnApiRunner, or on the runner that the options name."""

import argparse
import hashlib
import logging
import os
import re
import shlex
import sys
import threading
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

from reactionnet_datasets.stores import Place, StoreError, as_place, scratch
from reactionnet_pipeline.build import Build, build_graph

# "DirectRunner" would first try to download another runner and fall back without a word
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
LOCAL = (None, "DirectRunner", "FnApiRunner", "direct", "local")


def run(build: Build, workers: int, beam_options: list[str], log_level: str) -> None:
    """Run to the end. Whatever the stages raise (faults of ours, not of a source) is raised here."""
    options = PipelineOptions(beam_options)
    logs = _log_to(build, log_level)
    runner = options.view_as(StandardOptions).runner
    if runner in LOCAL:
        direct = options.view_as(DirectOptions)
        if direct.direct_num_workers == 1:  # Beam's default
            direct.direct_num_workers = workers
        runner = local_runner(logs)
        options.view_as(StandardOptions).runner = None
    pipeline = beam.Pipeline(runner=runner, options=options)
    build_graph(pipeline, build)
    try:
        result = pipeline.run()
        result.wait_until_finish()
    except RuntimeError as error:  # what a worker raised comes as text
        if said := re.search(r"\bStoreError: (.+?)(?=\\n| \[while running|$)", str(error), re.MULTILINE):
            raise StoreError(said[1]) from error
        raise


def logs_folder(work: Place) -> Path:
    """Where logs are written: in the work folder or, where that lies in a store, in this machine's scratch folder."""
    if isinstance(work, Path):
        return work / "logs"
    return scratch() / f"logs-{hashlib.sha256(str(work).encode()).hexdigest()[:8]}"


def beam_parser() -> argparse.ArgumentParser:
    """A parser of all options that Beam knows: what it leaves over is a slip, which Beam itself would pass over."""
    parser: Any = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for group in PipelineOptions.__subclasses__():
        group._add_argparse_args(parser)
    return parser


def _log_to(build: Build, log_level: str) -> Path:
    folder = logs_folder(as_place(build.work))
    folder.mkdir(exist_ok=True)
    logging.basicConfig(filename=folder / "launcher.log", level=log_level.upper(), format=LOG_FORMAT, force=True)
    # Beam's threads die of the connections that an interrupt closes: that is for the log, not for the user
    threading.excepthook = lambda fault: logging.error("in a thread of the runner", exc_info=fault.exc_value)
    return folder


def local_runner(logs: Path):
    """Real processes, which write what they have to say to the log folder."""
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from apache_beam.transforms.environments import SubprocessSDKEnvironment

    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", PYTHONSAFEPATH="1")
    worker = f"{shlex.quote(sys.executable)} -m reactionnet_pipeline.worker {os.getpid()}"
    command = f"exec {worker} >>{shlex.quote(str(logs / 'workers.log'))} 2>&1"
    return FnApiRunner(default_environment=SubprocessSDKEnvironment.from_command_string(command))
