"""`reactionnet-train MODEL PRESET --data SHARDS`: train a preset of a paper's model."""

import ctypes
import json
import logging
import signal
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from reactionnet_datasets.command import LogLevel, Quiet, Version, console, errors, make_app, refusals, set_log_level
from reactionnet_models.catalogue import all_presets, describe, load_model_module, preset_of

if TYPE_CHECKING:
    from reactionnet_models.data import Data

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # malloc.h
SIGNALLED = 128  # a shell's exit code for a signal is its number above this
app = make_app()


@app.command()
def run(
    model: Annotated[str | None, typer.Argument(help="aar, abaw6, cage, drr or eri; --list shows all presets.")] = None,
    preset: Annotated[str | None, typer.Argument(help="Which variant.")] = None,
    data: Annotated[str | None, typer.Option(help="Folder or URL of the shards.")] = None,
    fold: Annotated[int | None, typer.Option(help="Fold of the preset's protocol.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder. [default: runs/MODEL-PRESET...]")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value or stage.field=value.")] = None,
    val: Annotated[str, typer.Option(help="Split that chooses the best epoch (the papers: test); none keeps the last.")] = "auto",
    videos: Annotated[Path | None, typer.Option(help="Text file of the last stage's videos, of reactionnet-subsets.")] = None,
    sweep: Annotated[str | None, typer.Option(help="KEY=A,B,C: a run for each value, and a table of their scores.")] = None,
    init: Annotated[str | None, typer.Option(help="Run or model to start from; none starts afresh.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides weights, order and draws.")] = 0,
    precision: Annotated[str, typer.Option(help="32-true, bf16-mixed, 16-mixed; auto: bf16-mixed if faster here.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Processors or GPUs to train on.")] = 1,
    checkpoint_steps: Annotated[int, typer.Option(min=1, help="Steps from one checkpoint to the next.")] = 200,
    max_steps: Annotated[int, typer.Option(min=0, help="Stop each stage after so many steps; 0 trains to the end.")] = 0,
    list_: Annotated[bool, typer.Option("--list", help="Show every preset and its size.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="With --list: as JSON.")] = False,
    log_level: LogLevel = "warning",
    quiet: Quiet = False,
    version_: Version = False,
) -> None:  # fmt: skip
    """Train a preset. The same command goes on with a run that was stopped, in the middle of an epoch too."""
    set_log_level(log_level)
    if list_:
        show_list(json_)
        return
    try:
        with refusals():
            given = (val, videos, init, seed, precision, devices, checkpoint_steps, max_steps or -1, quiet)
            if sweep:
                _sweep(sweep, model, preset, data, fold, out, settings or [], given)
            else:
                _train(model, preset, data, fold, out, settings or [], *given)
    except KeyboardInterrupt:
        errors.print("interrupted; the same command goes on")
        raise typer.Exit(SIGNALLED + signal.SIGINT) from None


def _train(  # type: ignore[no-untyped-def]
    model, preset, data, fold, out, settings, val, videos, init, seed, precision, devices, checkpoint_steps, max_steps, quiet
):  # fmt: skip
    from reactionnet_models.settings import apply_settings

    if not model or not preset:
        raise ValueError(
            "name a model and a preset, such as `reactionnet-train aar small --data SHARDS`; --list shows all"
        )
    if not data:
        raise ValueError("name the shards with --data")
    module = load_model_module(model)
    config, recipe = apply_settings(preset_of(module, preset), module.RECIPES[preset], settings, module)
    if recipe.start and init is None:
        raise ValueError(f"{preset} starts from a trained {recipe.start}: name its run with --init, or --init none")
    from reactionnet_models.training import Data, Job, SignalledError, StoppedEarlyError, is_first, train

    where = Data(root=data, fold=fold, protocol=recipe.protocol, task=recipe.split_task)
    if val == "auto":
        val = judging_split(where)
    else:  # a split that the user names chooses
        recipe = replace(recipe, keep_last=False)
    suffix = f"-fold{fold}" if fold is not None else ""
    job = Job(
        module=module, preset=preset, config=config, recipe=recipe, data=where,
        out=out or Path("runs") / f"{model}-{preset}{suffix}-seed{seed}", seed=seed, val="" if val == "none" else val,
        start="" if init in (None, "none") else init, precision=precision, devices=devices,
        checkpoint_steps=checkpoint_steps, max_steps=max_steps, quiet=quiet,
        videos=tuple(videos.read_text().split()) if videos else (),
    )  # fmt: skip
    # Its hints on workers, logging intervals and filled folders do not fit here; its errors are raised.
    warnings.filterwarnings("ignore", module="lightning")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        summary = train(job)
    except StoppedEarlyError as stopped:
        if is_first():
            console.print(f"{stopped}; the same command without --max-steps goes on from the last checkpoint")
        return
    except SignalledError as stopped:
        errors.print(f"{stopped}; the same command goes on from the last checkpoint")
        raise typer.Exit(SIGNALLED + stopped.number) from None
    if not quiet and is_first():
        console.print(
            f"{job.out}: {summary['epochs']} epochs in {summary['seconds']:.0f} s, kept: {summary['chosen_by']}"
        )
        for name, value in summary["last_epoch"].items():
            console.print(f"  {name} {value:.4f}")
        console.print(f"then: reactionnet-evaluate {job.out} --data {data}")


def judging_split(where: "Data") -> str:
    """`val`, where the data has such a split, of the recipe's task if it names one; else, and for folds, nothing."""
    from reactionnet_datasets.catalog import Source, manifest_of, open_catalog
    from reactionnet_datasets.storage import ShardError, open_storage

    if where.protocol:
        return ""
    storage = open_storage(where.root)
    try:
        if not where.task:
            return "val" if "val" in manifest_of(storage)["splits"] else ""
        open_catalog(Source(root=where.root, split="val", task=where.task), storage)
    except ShardError as error:
        raise ValueError(f"--data {where.root} holds no shards: {error}") from error
    except ValueError:  # nobody is in it
        return ""
    return "val"


def _sweep(sweep: str, model, preset, data, fold, out, settings, given) -> None:  # type: ignore[no-untyped-def]
    """One run a value of a setting, in OUT/KEY=VALUE, and a table of each one's best score on the judging split."""
    key, equals, values = sweep.partition("=")
    if not equals or not values or not model or not preset:
        raise ValueError(f"--sweep {sweep}: expected a model, a preset and KEY=A,B,C, such as delay_s=0,0.2,0.4,0.8")
    if given[0] == "none":
        raise ValueError(f"--sweep {sweep} needs a split that judges: name one with --val")
    root = out or Path("runs") / f"{model}-{preset}-sweep"
    recipe = load_model_module(model).RECIPES[preset]
    table = Table(title=f"{model} {preset} by {key}")
    for column in (key, f"best val {recipe.monitor}", "run"):
        table.add_column(column)
    for value in values.split(","):
        folder = root / f"{key}={value}"
        _train(model, preset, data, fold, folder, [*settings, f"{key}={value}"], *given)
        rows = (folder / "history.jsonl").read_text().splitlines() if (folder / "history.jsonl").is_file() else []
        scores = [row[name] for row in map(json.loads, rows) if (name := f"val_{recipe.monitor}") in row]
        best = f"{(max if recipe.higher_is_better else min)(scores):.4f}" if scores else "-"
        table.add_row(value, best, str(folder))
    console.print(table)


def show_list(as_json: bool) -> None:
    """Every preset, counted from the built module."""
    rows = [describe(module, preset) for module, preset in all_presets()]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(title="presets")
    for column in ("model", "preset", "table_row", "task", "dataset", "num_parameters", "input_shape", "published"):
        table.add_column(column)
    for row in rows:
        main = {name: row["published"][name] for name in ("f1", "ccc", "top3") if name in row["published"]}
        table.add_row(
            row["model"], row["preset"], row["table_row"] or "-", row["task"], row["dataset"],
            f"{row['num_parameters']:,}", "x".join(map(str, row["input_shape"])),
            ", ".join(f"{name} {value:g}" for name, value in main.items()) or "-",
        )  # fmt: skip
    Console(width=170).print(table)


def keep_freed_memory() -> None:
    """Have the C library keep what a step frees for the next step. glibc gives large blocks back to the system and takes them
    anew, page by page: an eighth of a training step of AAR's on a processor. Other systems' libraries are left as they are."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        # bytes from which a block is mapped by itself, and unmapped when freed; older glibc allows 32 MiB at most
        _ = libc.mallopt(MMAP_THRESHOLD, 1 << 30) or libc.mallopt(MMAP_THRESHOLD, 1 << 25)
        libc.mallopt(TRIM_THRESHOLD, (1 << 31) - 1)  # free bytes at the heap's end from which it shrinks


def main() -> None:
    """Entry point of the command."""
    keep_freed_memory()
    app()


if __name__ == "__main__":
    main()
