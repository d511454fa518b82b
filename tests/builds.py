"""Running the build command as a user would, and looking at what it published."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from reactionnet_datasets.shards import MANIFEST, file_sha256

RATIO = "0.4,0.3,0.3"  # three subjects' groups: one a split


@dataclass(frozen=True)
class Drawn:
    """A folder with videos, `sources.jsonl` and `ground_truth.json`."""

    folder: Path
    records: tuple[dict, ...]

    @property
    def manifest(self) -> Path:
        return self.folder / "sources.jsonl"

    def rows(self) -> list[dict]:
        return [json.loads(line) for line in self.manifest.read_text().splitlines()]


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run_build(manifest: Path, out: Path, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """`reactionnet-build` in a process of its own."""
    command = [sys.executable, "-m", "reactionnet_pipeline.cli", "--sources", str(manifest), "--out", str(out), "-q"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"exit code {done.returncode}: {done.stderr[-3000:]}")
    return done


def published(out: Path, split: str | None = None) -> dict[str, str]:
    """sha256 of every published file (of one split, if given), by name relative to the data set's folder."""
    content = json.loads((out / MANIFEST).read_bytes())
    names = {MANIFEST, "splits.lock", "dead_letters.jsonl"} if split is None else {"splits.lock"}
    for name, entry in content["splits"].items():
        if split in (None, name):
            names |= {shard[kind] for shard in entry["shards"] for kind in ("path", "index")}
            names |= {part for parts in entry["tables"].values() for part in parts}
    return {name: file_sha256(out / name) for name in sorted(names)}


@dataclass(frozen=True)
class Built:
    out: Path
    files: dict[str, str]
