"""`reactionnet-build`: reaction videos in, verified shards out.

This module parses, checks and plans; Beam and everything heavy is imported only once there is work to do.
"""

import difflib
import json
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from reactionnet_datasets.shards import MANIFEST, manifest_version, read_manifest, remove_temporaries
from reactionnet_datasets.splits import LOCK, SPLITS, read_lock
from reactionnet_datasets.stores import Place, StoreError, StorePath, as_place
from reactionnet_pipeline.annotations import Annotation, label_columns, read_annotations, write_annotations
from reactionnet_pipeline.config import Config, with_settings
from reactionnet_pipeline.errors import DISK_FULL, JobError, disk_full
from reactionnet_pipeline.gate import DEFAULT_LICENCES, Gate, read_tombstones
from reactionnet_pipeline.identity import read_curated
from reactionnet_pipeline.lease import Lease, LeaseHeldError
from reactionnet_pipeline.manifest import ManifestError
from reactionnet_pipeline.model_options import (
    AUTO,
    Found,
    LeftOut,
    Weights,
    checked,
    find_blip,
    find_deepface,
    find_embedding,
    stamps,
)
from reactionnet_pipeline.plan import (
    Plan,
    all_versions,
    inputs_digest,
    make_plan,
    names_all_subjects,
    note_built,
    nothing_left,
    nothing_to_do,
    notices,
    to_look_at,
    write_plan,
)
from reactionnet_pipeline.publish import DEAD_LETTERS, RESULT

EXIT_REFUSED, EXIT_FAILED, EXIT_INTERRUPTED = 2, 1, 130
MAX_UNMATCHED = 20  # annotations that are listed on the screen
FREE_SPACE_FACTOR = 1.5  # staged pictures and shards together are seldom larger than the sources

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
console = Console(stderr=True, highlight=False, markup=False)


class UserError(Exception):
    """Something the user can mend: shown as one message, exit code 2."""


def _version(value: bool) -> None:
    if value:
        print(f"reactionnet {version('reactionnet')}")
        raise typer.Exit


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Any option of Apache Beam may follow, such as --runner DataflowRunner.",
)
def build(
    context: typer.Context,
    sources_: Annotated[
        str, typer.Option("--sources", metavar="PATH|URL", help="Manifest of sources: JSONL, CSV or Parquet.")
    ] = "sources.jsonl",
    out_: Annotated[
        str, typer.Option("--out", metavar="PATH|URL", help="Folder of the data set; gs:// and s3:// as well.")
    ] = "dataset",
    split: Annotated[str, typer.Option(help="Which split to write: train, val, test or all.")] = "all",
    work_: Annotated[
        str | None,
        typer.Option("--work", metavar="PATH|URL", help="Work folder; it may be deleted after. [default: OUT.work]"),
    ] = None,
    workers: Annotated[int, typer.Option(help="Worker processes of the local runner; 0 takes one a core.", min=0)] = 0,
    allow_license: Annotated[
        list[str] | None, typer.Option(help="Also allow this SPDX or LicenseRef- identifier.")
    ] = None,
    require_consent: Annotated[
        bool, typer.Option("--require-consent", help="Refuse rows that name no consent.")
    ] = False,
    tombstones_: Annotated[
        str | None,
        typer.Option("--tombstones", metavar="PATH|URL", help="Ids or sha256 of sources that were taken down."),
    ] = None,
    layouts_: Annotated[
        str | None, typer.Option("--layouts", metavar="PATH|URL", help="Layouts drawn by hand (JSONL); they win.")
    ] = None,
    annotations_: Annotated[
        str | None,
        typer.Option(
            "--annotations",
            metavar="PATH|URL",
            help="FACS codes, expressions and corrected captions (JSONL, CSV or Parquet).",
        ),
    ] = None,
    caption_model: Annotated[
        str, typer.Option(help="BLIP that describes the stimulus: auto, a name on the hub, a folder, or none.")
    ] = AUTO,
    embedding_model: Annotated[
        str, typer.Option(help="What tells people by their faces: auto, dlib, facenet, a file of weights, or none.")
    ] = AUTO,
    demographics_model: Annotated[
        str, typer.Option(help="DeepFace's attribute nets: auto, a folder like $DEEPFACE_HOME, or none.")
    ] = AUTO,
    clips: Annotated[
        str | None, typer.Option(help="all, or highlights: only where the face reacts most. [default: all]")
    ] = None,
    key_frames: Annotated[
        int | None, typer.Option(help="Choose so many frames for annotation by hand. [default: 0]")
    ] = None,
    split_ratio: Annotated[str, typer.Option(help="Shares of train, val, test.")] = "0.8,0.1,0.1",
    disjoint: Annotated[
        str, typer.Option(help="What no two splits share: subject, or both (stimulus too).")
    ] = "subject",
    target_shard_bytes: Annotated[
        int, typer.Option(help="Bytes a shard should have at most, on average.", min=4096)
    ] = 256 << 20,
    max_loss: Annotated[
        float, typer.Option(help="Fail where more of the admitted sources is lost.", min=0, max=1)
    ] = 0.2,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any other setting: stage.field=value.")] = None,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate", help="Say what the build will cost, from short runs on a few sources; build nothing."
        ),
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="With --estimate: print JSON.")] = False,
    prices: Annotated[
        Path | None, typer.Option(help="With --estimate: prices and rates. [default: an example]", show_default=False)
    ] = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="After a job that a template started: report, and say if it published.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --runner DataflowRunner: build and check the job, start nothing.")
    ] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "warning",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress bar, no summary.")] = False,
    version_: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Build a data set from reaction videos.

    Finds the panes, follows the reactor's face, and writes sharded WebDataset tars with tables and a report. Runs on
    this machine by default; the same job runs on any Beam runner.
    """
    started = time.monotonic()
    console.quiet = quiet
    left_out: list[LeftOut] = []
    try:
        sources, out = _place("--sources", sources_), _place("--out", out_)
        work = _place("--work", work_) if work_ else out.with_name(out.name + ".work")
        tombstones = _place("--tombstones", tombstones_) if tombstones_ else None
        layouts = _place("--layouts", layouts_) if layouts_ else None
        annotations = _place("--annotations", annotations_) if annotations_ else None
        splits = _splits(split)
        if not estimate and (json_ or prices):
            raise UserError("--json and --prices go with --estimate")
        gate = Gate(
            licences=frozenset([*DEFAULT_LICENCES, *(allow_license or ())]),
            require_consent=require_consent,
            tombstones=read_tombstones(tombstones) if tombstones else frozenset(),
        )
        flags = {"clips.select": clips, "key_frames.num": key_frames}
        given = [f"{name}={value}" for name, value in flags.items() if value is not None]
        config = with_settings(Config(), [*(set_ or ()), *given])
        beam_options = _beam_options(context.args, workers, out, work)
        on_dataflow = _on_dataflow(beam_options)
        if dry_run and not on_dataflow:
            raise UserError("--dry-run goes with --runner DataflowRunner")
        console.print(f"licences allowed: {', '.join(sorted(gate.licences))}", style="dim")
        made = make_plan(sources, gate, layouts, _ratio(split_ratio), disjoint, {} if dry_run else _read_lock(out))
        if not made.rows:
            raise UserError(nothing_left(made))
        models = [find_blip(caption_model, ask_hub=False), find_deepface(demographics_model)]
        if not names_all_subjects(made):
            models.append(find_embedding(embedding_model))
        by_face = any(isinstance(model, Found) and model.stage == "embeddings" for model in models)
        for line in notices(made, splits, disjoint, by_face):
            console.print(line, style="dim")
        coded = _read_annotations(annotations, config, made)
        curated = asdict(read_curated(as_place(config.identity.curated))) if config.identity.curated else None
        further = {"models": stamps(models), "annotations": [asdict(row) for row in coded], "curated": curated}
        looked_at = to_look_at(made, splits) if by_face else splits
        if estimate:
            _estimate(made, looked_at, config, models, prices, workers, json_)
            return
        if on_dataflow:
            _check_reach(made, looked_at, models, beam_options)
        if dry_run:
            _dry_run(made, models, out, work, splits, config, target_shard_bytes, max_loss, beam_options)
            return
        digest = inputs_digest(made, splits, config, target_shard_bytes, max_loss, further)
        if not _hands_over(beam_options) and nothing_to_do(out, work, digest):
            _say_left_out([model for model in models if isinstance(model, LeftOut)])
            console.print(f"nothing to do: {out / MANIFEST} is up to date")
            return
        models[0] = find_blip(caption_model)
        left_out += [model for model in models if isinstance(model, LeftOut)]
        _say_left_out(left_out)
        further["models"] = stamps(models)
        digest = inputs_digest(made, splits, config, target_shard_bytes, max_loss, further)
        with Lease(out), Lease(work):
            remove_temporaries(out)
            remove_temporaries(work)
            _check_space(made, looked_at, out, work)
            devices = {
                stage: "cpu" if on_dataflow else getattr(config, stage).device  # this machine may have no GPU
                for stage in ("captions", "demographics", "embeddings")
            }
            weights, unusable = checked([model for model in models if isinstance(model, Found)], work, devices)
            _say_left_out(unusable)
            left_out += unusable
            result: dict[str, Any] | None
            if finish:
                result = _finished(work)
                if result["published"]:  # by a machine that may have other weights
                    left_out = [LeftOut(**stage) for stage in read_manifest(out)["stages_left_out"]]
            else:
                write_plan(made, work)
                write_annotations(work, coded)
                result = _run(
                    made,
                    weights,
                    left_out,
                    label_columns(coded),
                    out,
                    work,
                    splits,
                    config,
                    target_shard_bytes,
                    max_loss,
                    workers,
                    beam_options,
                    log_level,
                    quiet,
                )
            if result is None:
                console.print("handed over; when the job is done, --finish with the same options writes the report")
                raise typer.Exit
            from reactionnet_pipeline.annotation_report import annotation_facts
            from reactionnet_pipeline.report import write_report

            facts = {
                "seconds": round(time.monotonic() - started, 3),
                "stages_left_out": [asdict(stage) for stage in left_out],
                "annotations": annotation_facts(coded, made, out) if coded and result["published"] else None,
                **result,
            }
            write_report(out, work, splits, facts, len(made.letters))
            if result["published"]:
                if by_face:  # the lock, and with it the plan, is another now
                    made = make_plan(sources, gate, layouts, _ratio(split_ratio), disjoint, _read_lock(out))
                    digest = inputs_digest(made, splits, config, target_shard_bytes, max_loss, further)
                note_built(out, work, digest)
    except (UserError, ManifestError, LeaseHeldError, StoreError, JobError, ValueError) as error:
        if type(error) not in (UserError, ManifestError, LeaseHeldError, StoreError, JobError, ValueError):
            raise
        console.quiet = False
        lead = f"{out} is in use by " if isinstance(error, LeaseHeldError) else ""
        console.print(f"reactionnet-build: {lead}{error}", style="bold red", soft_wrap=True)
        raise typer.Exit(EXIT_FAILED if isinstance(error, StoreError | JobError) else EXIT_REFUSED) from None
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        console.quiet = False
        console.print(f"reactionnet-build: {disk_full(error.strerror or str(error))}", style="bold red", soft_wrap=True)
        raise typer.Exit(EXIT_FAILED) from None
    except KeyboardInterrupt:
        console.print("\nstopped; the same command goes on where this one was", style="bold")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _summarise(result, out, work)
    _say_unmatched(facts["annotations"])
    _say_left_out(left_out)
    raise typer.Exit(0 if result["published"] else EXIT_FAILED)


def _estimate(
    made: Plan, splits: Sequence[str], config: Config, models: Sequence[Found | LeftOut], prices: Path | None,
    workers: int, as_json: bool,
) -> None:  # fmt: skip
    from reactionnet_pipeline import estimate
    from reactionnet_pipeline.prices import read_prices

    rows = [row for row in made.rows if made.assignment.split_of[row.video_id] in splits]
    if not rows:
        raise UserError(f"no source falls into {', '.join(splits)}: nothing to estimate")
    found = estimate.estimate_build(rows, config, models, read_prices(prices), workers or os.cpu_count() or 1)
    if as_json:
        print(json.dumps(estimate.as_json(found), indent=1))
    else:
        estimate.show(found, Console(highlight=False, markup=False))


def _on_dataflow(beam_options: Sequence[str]) -> bool:
    if not beam_options:
        return False
    from reactionnet_pipeline.dataflow import RUNNERS
    from reactionnet_pipeline.launch import read_options, runner_name

    return runner_name(read_options(beam_options)) in RUNNERS


def _check_reach(
    made: Plan, splits: Sequence[str], models: Sequence[Found | LeftOut], beam_options: Sequence[str]
) -> None:
    """Refuse a job whose workers could not open its sources or models."""
    from reactionnet_pipeline.launch import check_reach

    rows = [row.location for row in made.rows if made.assignment.split_of[row.video_id] in splits]
    check_reach(beam_options, rows, {model.stage: model.path for model in models if isinstance(model, Found)})


def _dry_run(
    made: Plan, models: Sequence[Found | LeftOut], out: Place, work: Place, splits: tuple[str, ...], config: Config,
    target_shard_bytes: int, max_loss: float, beam_options: Sequence[str],
) -> None:  # fmt: skip
    """Show the job that would be sent. UserError with all that is wrong with it."""
    from reactionnet_pipeline import dry_run
    from reactionnet_pipeline.build import Build
    from reactionnet_pipeline.launch import hinted, read_options

    _say_left_out([model for model in models if isinstance(model, LeftOut)])
    weights = {
        model.stage: Weights(name=model.name, path=model.path, digest="", engine=model.engine, files=model.files)
        for model in models
        if isinstance(model, Found)
    }
    job = Build(
        root=str(out),
        work=str(work),
        splits=splits,
        config=config,
        target_shard_bytes=target_shard_bytes,
        max_loss=max_loss,
        versions=tuple(all_versions().items()),
        facts="{}",
        look_at=to_look_at(made, splits),
        embeddings=weights.get("embeddings"),
        captions=weights.get("captions"),
        demographics=weights.get("demographics"),
    )
    options = read_options(beam_options)
    found = dry_run.dry_run(hinted(job, options), options)
    dry_run.show(found, console)
    if found.problems:
        raise UserError("this job would not do:\n  " + "\n  ".join(found.problems))
    console.print("nothing was started; nothing is wrong with the job as far as that can be seen from here")


def _place(option: str, text: str) -> Place:
    try:
        return as_place(text)
    except ValueError as error:
        raise UserError(f"{option}: {error}") from None


def _read_annotations(path: Place | None, config: Config, made: Plan) -> tuple[Annotation, ...]:
    if path is None:
        return ()
    known = [*(row.video_id for row in made.rows), *(letter.video_id for letter in made.letters)]
    return read_annotations(path, config.clips.dataset, known)


def _say_left_out(stages: Sequence[LeftOut]) -> None:
    for stage in stages:
        console.print(
            f"left out: {stage.stage}: {stage.reason}; to have it: {stage.remedy}", style="yellow", soft_wrap=True
        )


def _say_unmatched(facts: Mapping[str, Any] | None) -> None:
    if facts and facts["unmatched"]:
        console.print(f"{len(facts['unmatched'])} of {facts['rows']} annotations match nothing:", style="yellow")
        for row in facts["unmatched"][:MAX_UNMATCHED]:
            console.print(
                f"  line {row['line']}: {row['video_id']} at {row['t_s']:g} s: {row['reason']}", soft_wrap=True
            )
        if len(facts["unmatched"]) > MAX_UNMATCHED:
            console.print("  ... all of them are in run_report.json")


def _splits(split: str) -> tuple[str, ...]:
    if split not in (*SPLITS, "all"):
        raise UserError(f"--split {split}: expected train, val, test or all")
    return SPLITS if split == "all" else (split,)


def _ratio(text: str) -> tuple[float, float, float]:
    try:
        train, val, test = (float(share) for share in text.split(","))
    except ValueError:
        raise UserError(f"--split-ratio {text}: expected three numbers, such as 0.8,0.1,0.1") from None
    if min(train, val, test) < 0 or train + val + test <= 0:
        raise UserError(f"--split-ratio {text}: shares are 0 or more, and not all 0")
    return train, val, test


def _read_lock(out: Place) -> dict[str, str]:
    path = out / LOCK
    return read_lock(path.read_bytes()) if path.exists() else {}


def _check_space(made: Plan, splits: Sequence[str], out: Place, work: Place) -> None:
    """Refuse to start what would clearly fill the disk; a store has none."""
    needed = 0.0
    for row in made.rows:
        if made.assignment.split_of[row.video_id] in splits and "://" not in row.location:
            path = Path(row.location)
            needed += path.stat().st_size * FREE_SPACE_FACTOR if path.is_file() else 0
    for folder in (out, work):
        if isinstance(folder, StorePath):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise UserError(
                f"{folder} has {free / 1e9:.1f} GB free; about {needed / 1e9:.1f} GB are needed for these sources."
                " Free some, or choose another --out and --work"
            )


def _beam_options(arguments: list[str], workers: int, out: Place, work: Place) -> list[str]:
    """Options meant for Beam; a name that Beam does not know either is the user's slip, and so is what a runner lacks."""
    if not arguments:
        return []
    from reactionnet_pipeline.launch import beam_parser, check_runner

    parser: Any = beam_parser(arguments)
    try:
        _, unknown = parser.parse_known_args(arguments)
    except SystemExit:
        raise UserError(f"Beam refuses these options: {' '.join(arguments)}") from None
    if unknown:
        known = ["--sources", "--out", "--split", "--work", "--workers", "--allow-license", "--tombstones", "--layouts",
                 "--require-consent", "--split-ratio", "--disjoint", "--target-shard-bytes", "--max-loss", "--set",
                 "--annotations", "--caption-model", "--embedding-model", "--demographics-model", "--clips",
                 "--key-frames", "--estimate", "--json", "--prices", "--finish", "--dry-run"]  # fmt: skip
        near = difflib.get_close_matches(unknown[0].partition("=")[0], [*known, *parser._option_string_actions], n=1)
        raise UserError(f"no such option: {unknown[0]}" + (f"; did you mean {near[0]}?" if near else ""))
    check_runner(arguments, workers, str(out), str(work))
    return arguments


def _run(
    made: Plan, weights: dict[str, Weights], left_out: list[LeftOut], labels: tuple[str, ...], out: Place, work: Place,
    splits: tuple[str, ...], config: Config, target_shard_bytes: int, max_loss: float,
    workers: int, beam_options: list[str], log_level: str, quiet: bool,
) -> dict[str, Any] | None:  # fmt: skip
    """What came out; None where the job was handed over to a service that only now begins it."""
    from reactionnet_pipeline.build import LABELS, Build
    from reactionnet_pipeline.highlights import key_frame_quota
    from reactionnet_pipeline.launch import run
    from reactionnet_pipeline.progress import Watcher
    from reactionnet_pipeline.weights import digests

    facts = {
        "versions": all_versions(),
        "config": {stage: settings for stage, settings in asdict(config).items() if stage != "dataflow"},
        "models": digests() | {f"{stage}: {model.name}": model.digest for stage, model in weights.items()},
        "stages_left_out": [asdict(stage) for stage in left_out],
    }
    job = Build(
        root=str(out.resolve()),
        work=str(work.resolve()),
        splits=splits,
        config=config,
        target_shard_bytes=target_shard_bytes,
        max_loss=max_loss,
        versions=tuple(all_versions().items()),
        facts=json.dumps(facts),
        labels=(*LABELS, *(label for label in labels if label not in LABELS)),
        embeddings=weights.get("embeddings"),
        look_at=to_look_at(made, splits),
        captions=weights.get("captions"),
        demographics=weights.get("demographics"),
        key_frames=tuple(key_frame_quota(config.key_frames.num, Counter(made.assignment.split_of.values())).items()),
        replacing=manifest_version(out),
    )
    looked_at = job.look_at if job.embeddings else splits
    num_sources = sum(made.assignment.split_of[row.video_id] in looked_at for row in made.rows)
    started = time.monotonic()
    with Watcher(work.resolve(), num_sources, quiet) as watcher:
        run(job, workers or os.cpu_count() or 1, beam_options, log_level)
    if _hands_over(beam_options):
        return None
    return _result(work, watcher.totals["decode"], time.monotonic() - started)


def _hands_over(beam_options: Sequence[str]) -> bool:
    """Whether Dataflow's template launcher started this command: the job begins when it ends."""
    return any(option.startswith("--template_location") for option in beam_options)


def _finished(work: Place) -> dict[str, Any]:
    """What came out of a job that was handed over; its time is counted from then."""
    from reactionnet_pipeline.progress import Watcher

    try:
        seconds = ((work / RESULT).stat().st_mtime_ns - (work / "plan" / LOCK).stat().st_mtime_ns) / 1e9
    except FileNotFoundError as missing:
        raise UserError(
            f"--finish: there is no {missing.filename}: no job of these folders was done; look at its log, or run it again"
        ) from None
    return {"seconds": round(seconds, 3)} | _result(work, Watcher(work, 0, True).read()["decode"], seconds)


def _result(work: Place, frames: int, seconds: float) -> dict[str, Any]:
    result = json.loads((work / RESULT).read_bytes())
    return {
        **result,
        "pipeline_seconds": round(seconds, 3),
        "frames_read": frames,
        "frames_per_s": round(frames / seconds, 2),
    }


def _summarise(result: dict[str, Any], out: Place, work: Place) -> None:
    counts = result["counts"]
    if not result["published"]:
        console.quiet = False
        console.print(
            f"reactionnet-build: not published: {counts['lost']} of {counts['admitted']} admitted sources were lost"
            f" ({result['lost']:.0%}, --max-loss allows less); see {work / DEAD_LETTERS}",
            style="bold red",
            soft_wrap=True,
        )
        return
    content = json.loads((out / MANIFEST).read_bytes())
    table = Table(title=str(out))
    for name in ("split", "sources", "clips", "chunks", "frames", "shards", "lost"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for split, entry in content["splits"].items():
        lost = ", ".join(f"{count} {code}" for code, count in entry["lost"].items()) or "0"
        numbers = (entry["sources"], entry["clips"], entry["records"], entry["frames"], len(entry["shards"]))
        table.add_row(split, *map(str, numbers), lost)
    console.print(table)
    wanted, found = (
        content["config"]["key_frames"]["num"],
        sum(s.get("key_frames", 0) for s in content["splits"].values()),
    )
    if wanted:
        few = " (others would lie within half a second of these, or in a split not built)" if found < wanted else ""
        console.print(f"{found:,} of {wanted:,} key frames: tables/key_frames{few}", soft_wrap=True)
    logs = ""
    if isinstance(work, StorePath):
        from reactionnet_pipeline.launch import logs_folder

        logs = f"; logs: {logs_folder(work)} on each worker"
    console.print(f"{result['frames_per_s']:.0f} frames/s; report: {out / 'report.html'}{logs}", soft_wrap=True)


def main() -> None:
    """Entry point of the command."""
    logging.basicConfig(handlers=[logging.NullHandler()])  # until there is a folder for logs
    app()


if __name__ == "__main__":
    main()
