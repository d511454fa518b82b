"""`reactionnet-import NAME ROOT OUT`: a data set as its owners ship it in, verified shards out."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from reactionnet_datasets import media
from reactionnet_datasets.about import CONFIRMED, Finding, all_about, load_importer, make_options
from reactionnet_datasets.command import alone
from reactionnet_datasets.doctor import examine, frames_of, published_frames
from reactionnet_datasets.import_plan import Job, Plan, plan
from reactionnet_datasets.import_publish import REPORT, publish
from reactionnet_datasets.importing import Written, read_results, write_job, write_jobs
from reactionnet_datasets.release import Release, ReleaseError
from reactionnet_datasets.shards import MANIFEST, read_manifest, remove_temporaries

EXIT_REFUSED, EXIT_INTERRUPTED = 2, 130

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
console = Console(stderr=True, highlight=False, markup=False)


def _version(value: bool) -> None:
    if value:
        print(f"reactionnet {version('reactionnet')}")
        raise typer.Exit


def _list(value: bool) -> None:
    if value:
        show_list()
        raise typer.Exit


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="A data set's own options follow as flags, such as --camera right; see its module's docstring.",
)
def import_data_set(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Which data set; --list shows all.")],
    root: Annotated[Path, typer.Argument(help="Folder of the release. With --doctor alone: the imported data set.")],
    out: Annotated[Path | None, typer.Argument(help="Folder to write.")] = None,
    work: Annotated[Path | None, typer.Option(help="Work folder; it may be deleted after. [default: OUT.work]")] = None,
    workers: Annotated[int, typer.Option(help="Processes; 0 takes one a core.", min=0)] = 0,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out what is missing or damaged, and record it.")
    ] = False,
    doctor: Annotated[bool, typer.Option("--doctor", help="Compare with what is known of the data set.")] = False,
    landmarks: Annotated[str, typer.Option(help="none, or dlib: find 68 landmarks where there are none.")] = "none",
    runner: Annotated[
        str | None, typer.Option(help="Import on this Apache Beam runner; its options may follow.")
    ] = None,
    target_shard_bytes: Annotated[int, typer.Option(help="Bytes a shard should have, on average.", min=4096)] = 256
    << 20,
    set_: Annotated[list[str] | None, typer.Option("--set", help="An option of the data set: name=value.")] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "warning",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress bar, no summary.")] = False,
    list_: Annotated[
        bool, typer.Option("--list", callback=_list, is_eager=True, help="Show all data sets, terms and status.")
    ] = False,
    version_: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Import the release of a data set into shards.

    Original pictures are copied, not encoded anew; videos are decoded once. A killed import goes on where it was.
    """
    console.quiet = quiet
    try:
        module = load_importer(name)
        if out is None:
            if not doctor:
                raise ReleaseError("OUT is missing: reactionnet-import NAME ROOT OUT")
            show_findings(examine(published_frames(root), module))
            return
        given, beam_options = _flags(context.args, set_ or (), module, runner)
        options = make_options(module, given)
        if landmarks not in ("none", "dlib"):
            raise ReleaseError(f"--landmarks {landmarks}: expected none or dlib")
        if landmarks == "dlib" and not media.has_landmarks():
            raise ReleaseError('--landmarks dlib needs the pipeline: pip install "reactionnet[pipeline]"')
        work = work or out.with_name(out.name + ".work")
        _check_places(root, out, work)
        release = Release(root)
        if runner:
            _start_beam(work, ["--check", "--runner", runner, *beam_options])  # a slip is found before all is read
        if module.ABOUT.status != CONFIRMED:
            console.print(f"{module.ABOUT.name}: layout {module.ABOUT.status}; check what is imported", style="yellow")
        with alone(out, "import"), alone(work, "import"):
            remove_temporaries(out)
            remove_temporaries(work)
            with Bars(quiet) as bars:
                read = bars.add("labels read", None)
                planned = plan(
                    release, module, options, out, work, target_bytes=target_shard_bytes, allow_missing=allow_missing,
                    landmarks=landmarks, on_clip=lambda clip: read(len(clip.frames)),
                )  # fmt: skip
                wrote = bars.add("frames written", planned.num_frames)
                if runner:
                    written = _run_beam(planned, work, runner, beam_options)
                else:
                    written = run_jobs(planned.jobs, workers or os.cpu_count() or 1, wrote)
            findings = examine(frames_of(out, written), module) if doctor else []
            publish(out, module.ABOUT, planned, written, findings)
    except (ValueError, OSError) as error:
        console.quiet = False
        console.print(f"reactionnet-import: {error}", style="bold red", soft_wrap=True)
        raise typer.Exit(EXIT_REFUSED) from None
    except KeyboardInterrupt:
        console.print("\nstopped; the same command goes on where this one was", style="bold")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _summarise(out, planned)
    if doctor:
        show_findings(findings)


def _flags(
    arguments: Sequence[str], settings: Sequence[str], module: Any, runner: str | None
) -> tuple[dict[str, str], list[str]]:
    """The importer's options by name, and what is left for Beam where there is a runner."""
    given, beam_options = {}, []
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"--set {setting}: expected name=value")
        given[name] = value
    known = module.Options.__dataclass_fields__
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            if runner:
                beam_options.append(word)
                continue
            raise ValueError(f"{word!r} is one argument too many: reactionnet-import NAME ROOT OUT [--option value]")
        name, equals, value = word[2:].partition("=")
        if runner and name.replace("-", "_") not in known:
            beam_options.append(word)
            continue
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "yes"  # a switch
        given[name] = value
    return given, beam_options


def _check_places(root: Path, out: Path, work: Path) -> None:
    for place in (out, work):
        if place.exists() and not place.is_dir():
            raise ReleaseError(f"{place} is a file; expected a folder to write")
        if root.resolve() in (place.resolve(), *place.resolve().parents) and root.is_dir():
            raise ReleaseError(
                f"{place} lies inside the release {root}: choose a place outside, so that it stays as it is"
            )
    if (out / MANIFEST).exists():
        read_manifest(out)  # a ValueError where it is of another version


# -- running jobs ----------------------------------------------------------------------------------------------------


def run_jobs(jobs: Sequence[Job], workers: int, on_frames: Callable[[int], None]) -> list[Written]:
    """Do all jobs in `workers` processes; the order of what comes back is that of the jobs."""
    if workers == 1 or len(jobs) == 1:
        return [write_job(job, on_frames) for job in jobs]
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    shown = 0
    with ProcessPoolExecutor(
        min(workers, len(jobs)), mp_context=context, initializer=_begin, initargs=(counter, os.getpid())
    ) as pool:
        try:
            futures = [pool.submit(_do, job) for job in jobs]
            waiting = set(futures)
            while waiting:
                done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                on_frames(counter.value - shown)
                shown = counter.value
            return [future.result() for future in futures]
        except BrokenProcessPool:
            raise ReleaseError(
                "a worker process died (out of memory?): the same command goes on where it was"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()  # else leaving the block would wait for whole shards
            raise


_counter: Any = None


def _begin(counter: Any, parent: int) -> None:
    global _counter  # noqa: PLW0603
    _counter = counter
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, lambda *_: os._exit(EXIT_INTERRUPTED))  # the launcher says what happened
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """A worker whose launcher was killed would wait for work for ever."""
    while os.getppid() == parent:
        time.sleep(0.5)
    media.close_decoders()
    os._exit(1)


def _do(job: Job) -> Written:
    def add(frames: int) -> None:
        with _counter.get_lock():
            _counter.value += frames

    return write_job(job, add)


def _run_beam(planned: Plan, work: Path, runner: str, beam_options: Sequence[str]) -> list[Written]:
    """Let the pipeline's import job do the same jobs in a Beam graph."""
    write_jobs(work, planned.jobs)
    _start_beam(work, ["--runner", runner, *beam_options])
    return read_results(work, len(planned.jobs))


def _start_beam(work: Path, arguments: Sequence[str]) -> None:
    if not media.has_decoder():
        raise ReleaseError('--runner needs the pipeline: pip install "reactionnet[pipeline]"')
    command = [sys.executable, "-m", "reactionnet_pipeline.import_job", str(work.resolve()), *arguments]
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise ReleaseError(f"the Beam job failed with exit code {done.returncode}:\n{done.stderr[-2000:]}")


# -- showing ---------------------------------------------------------------------------------------------------------


class Bars:
    """Progress bars; nothing where they are not wanted."""

    def __init__(self, quiet: bool):
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=console, disable=quiet,
        )  # fmt: skip

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def add(self, what: str, total: int | None) -> Callable[[int], None]:
        task = self._progress.add_task(what, total=total)
        return lambda num: self._progress.advance(task, num)


def show_list() -> None:
    """Every data set on stdout."""
    for about in all_about():
        print(f"{about.name}: {about.title}")
        print(f"    terms:  {about.terms} ({about.license})")
        print(f"    ask:    {about.ask}")
        print(f"    format: {about.status}")
        print(f"    used by: {', '.join(about.papers) or 'none of the five papers'}")


def show_findings(findings: Sequence[Finding]) -> None:
    """What the doctor found, on stdout."""
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        print(f"{finding.what:{width}}  expected {finding.expected}, found {finding.found}: {finding.verdict}")


def _summarise(out: Path, planned: Plan) -> None:
    content = read_manifest(out)
    table = Table(title=str(out))
    for name in ("group", "subjects", "clips", "frames", "shards"):
        table.add_column(name, justify="left" if name == "group" else "right")
    for group, entry in content["splits"].items():
        numbers = (entry["subjects"], entry["clips"], entry["frames"], len(entry["shards"]))
        table.add_row(group, *map(str, numbers))
    console.print(table)
    for kind, noted in planned.facts["notes"].items():
        console.print(f"{noted['count']} {kind} (first: {noted['examples'][0]})", soft_wrap=True)
    for name in planned.facts["refused"][:5]:
        console.print(f"{name} is a pickle and was not opened", soft_wrap=True)
    if planned.facts["missing"]:
        console.print(
            f"{len(planned.facts['missing'])} missing files were left out; see {out / REPORT}", style="yellow"
        )


def main() -> None:
    """Entry point of the command."""
    app()


if __name__ == "__main__":
    main()
