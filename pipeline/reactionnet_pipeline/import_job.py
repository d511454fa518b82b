"""The import of a data set as a Beam job: `reactionnet-import --runner` lays jobs down and starts this command.

A job is one shard; it calls the same function that a local import calls, so that the bytes are the same on any runner.
What travels are paths: the release, the output and the work folder must be reachable under one name by every worker.

    python -m reactionnet_pipeline.import_job WORK --runner FnApiRunner [any option of Beam]

With `--check` the options are looked at and nothing is run.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam

from reactionnet_datasets.importing import do_written_job
from reactionnet_pipeline.errors import JobError
from reactionnet_pipeline.launch import beam_parser, check_runner, finish, open_pipeline, read_options


@dataclass(eq=False)
class ImportShards(beam.PTransform):
    """Paths of jobs -> the same paths, once done."""

    def expand(self, paths):
        return paths | "Spread" >> beam.Reshuffle() | "Write" >> beam.Map(_do)


def _do(path: str) -> str:
    do_written_job(Path(path))
    return path


def run(work: Path, beam_options: Sequence[str]) -> None:
    """Do all jobs that lie in `work/jobs`. Raises what a job raises: nothing is published here."""
    logs = work / "logs"
    logs.mkdir(exist_ok=True)
    pipeline = open_pipeline(read_options(beam_options), os.cpu_count() or 1, logs)
    jobs = sorted(str(path) for path in (work / "jobs").glob("*.json"))
    _ = pipeline | beam.Create(jobs) | ImportShards()
    finish(pipeline)


def main() -> None:
    """Entry point of the command."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("work", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments, beam_options = parser.parse_known_args()
    try:
        _, unknown = beam_parser(beam_options).parse_known_args(beam_options)
        if unknown:
            sys.exit(f"no such option, of the data set or of Beam: {unknown[0]}")
        check_runner(beam_options, work=str(arguments.work))
    except ValueError as error:
        sys.exit(str(error))
    if arguments.check:
        return
    if not (arguments.work / "jobs").is_dir():
        sys.exit(f"{arguments.work} holds no jobs: reactionnet-import --runner lays them down")
    try:
        run(arguments.work, beam_options)
    except JobError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    # under its own name: what stands in `__main__` would be pickled with its code
    importlib.import_module("reactionnet_pipeline.import_job").main()
