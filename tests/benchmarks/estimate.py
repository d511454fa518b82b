"""What `reactionnet-build --estimate` says against what a build then takes: `python tests/benchmarks/estimate.py`.

On the shared reaction videos and on the demo's drawn ones (or any manifest given with --manifest): core-seconds of all
processes, GB in the work folder and GB published, estimated and true, in turn, three times; goal: the median of the
errors is at most 35 %. Core-seconds are read from the processes while they run, since not all of them are waited for by
the one that started them.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from scale import watched_build

SHARED = Path(__file__).resolve().parents[3] / "shared" / "reaction_videos" / "manifest.jsonl"
GOAL = 0.35
LICENCES = ("--allow-license", "CC-BY-3.0")
console = Console(width=110)


def draw(folder: Path) -> Path:
    """The demo's videos."""
    from reactionnet_pipeline import demo
    from reactionnet_pipeline.drawing.composing import MANIFEST, write_truth

    write_truth(demo.draw_all(folder), folder)
    return folder / MANIFEST


def estimated(manifest: Path, out: Path, workers: int) -> dict[str, float]:
    """What the command says."""
    command = [sys.executable, "-P", "-m", "reactionnet_pipeline.cli", "--sources", str(manifest), "--out", str(out)]
    command += ["--estimate", "--json", "--workers", str(workers), *LICENCES, "-q"]
    said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if out.exists():
        raise SystemExit(f"the estimate wrote {out}")
    return {
        "core-seconds": said["core_hours"] * 3600,
        "GB staged": sum(said["staged_gb"].values()),
        "GB published": said["published_gb"],
    }


def true(manifest: Path, out: Path, workers: int) -> dict[str, float]:
    """What a build takes."""
    watch = watched_build(manifest, out, "--workers", str(workers), "--max-loss", "1", *LICENCES)
    return {
        "core-seconds": sum(watch.seconds.values()),
        "GB staged": size_of(out.with_name(out.name + ".work")),
        "GB published": size_of(out),
    }


def size_of(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9


def main(
    manifest: Annotated[list[Path] | None, typer.Option(help="Manifests. [default: shared and drawn videos]")] = None,
    rounds: Annotated[int, typer.Option(help="How often.")] = 3,
    workers: Annotated[int, typer.Option(help="Workers of the build.")] = 1,
) -> None:
    """Estimate, build, compare; nothing is kept."""
    table = Table(title=f"estimate against a build, {workers} workers, {rounds} rounds")
    for column in ("sources", "what", "estimated", "true", "error", "median error", "goal"):
        table.add_column(column, justify="left" if column in ("sources", "what") else "right")
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        if not manifest:
            (here / "drawn").mkdir()
            manifest = [*([SHARED] if SHARED.exists() else []), draw(here / "drawn")]
        for path in manifest:
            pairs = []
            for number in range(rounds):
                out = here / f"{path.parent.name}{number}"
                pairs.append((estimated(path, out, workers), true(path, out, workers)))
                console.print(path.parent.name, *pairs[-1])
            for what in pairs[0][0]:
                errors = [abs(said[what] / took[what] - 1) for said, took in pairs]
                said, took = ([pair[place][what] for pair in pairs] for place in (0, 1))
                table.add_row(
                    path.parent.name, what, ", ".join(f"{v:.4g}" for v in said), ", ".join(f"{v:.4g}" for v in took),
                    ", ".join(f"{error:.0%}" for error in errors), f"{statistics.median(errors):.0%}", f"{GOAL:.0%}",
                )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
