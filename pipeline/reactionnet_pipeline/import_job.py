"""The import of a data set as a Beam job: `reactionnet-import --runner` lays jobs down and starts this command.

A job is one shard; it calls the same function that a local import calls, so that the bytes are the same on any runner.
What travels are paths: the release, the output and the work folder must be reachable under one name by every worker.

    python -m reactionnet_pipeline.import_job WORK --runner FnApiRunner [any option of Beam]

With `--check` the options are looked at and nothing is run.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

from reactionnet_datasets.importing import do_written_job
from reactionnet_pipeline.launch import LOCAL, beam_parser, local_runner


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
    options = PipelineOptions(list(beam_options))
    runner = options.view_as(StandardOptions).runner
    if runner in LOCAL:
        logs = work / "logs"
        logs.mkdir(exist_ok=True)
        direct = options.view_as(DirectOptions)
        if direct.direct_num_workers == 1:  # Beam's default
            direct.direct_num_workers = os.cpu_count() or 1
        runner = local_runner(logs)
        options.view_as(StandardOptions).runner = None
    with beam.Pipeline(runner=runner, options=options) as pipeline:
        jobs = sorted(str(path) for path in (work / "jobs").glob("*.json"))
        _ = pipeline | beam.Create(jobs) | ImportShards()


def main() -> None:
    """Entry point of the command."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("work", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments, beam_options = parser.parse_known_args()
    _, unknown = beam_parser().parse_known_args(beam_options)
    if unknown:
        sys.exit(f"no such option, of the data set or of Beam: {unknown[0]}")
    if arguments.check:
        return
    if not (arguments.work / "jobs").is_dir():
        sys.exit(f"{arguments.work} holds no jobs: reactionnet-import --runner lays them down")
    run(arguments.work, beam_options)


if __name__ == "__main__":
    main()
