"""`reactionnet-export DATASET DIR`: the data set for tools that know nothing of this package.

DIR gets Parquet files with all pictures and labels that Hugging Face's `load_dataset(DIR)` opens (`export_parquet`),
`croissant.json` (Croissant 1.1 with RAI fields; `croissant`) and `README.md`, the card (`card`).
"""

import json
import shutil
from pathlib import Path
from typing import Annotated

import typer

from reactionnet_datasets.card import card, gather
from reactionnet_datasets.catalog import manifest_of
from reactionnet_datasets.command import LogLevel, Quiet, Version, console, make_app, refusals, set_log_level
from reactionnet_datasets.croissant import croissant
from reactionnet_datasets.export_parquet import Part, export_parquet
from reactionnet_datasets.shards import TEMPORARY, file_sha256, write_atomic
from reactionnet_datasets.storage import open_storage

CARD, METADATA = "README.md", "croissant.json"


def export(dataset: str | Path, out: Path) -> list[Part]:
    """Write the export of a folder or URL to a new folder, which appears when it is whole.

    ValueError where `out` holds something already or there is no data set; ShardError where it is damaged.
    """
    storage = open_storage(dataset)
    manifest = manifest_of(storage)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not an empty folder; name a new one")
    partial = out.parent / f"{TEMPORARY}{out.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        parts = export_parquet(storage, manifest, partial)
        facts = gather(storage, manifest)
        sha256 = {part.path: file_sha256(partial / part.path) for part in parts}
        text = json.dumps(croissant(facts, parts, sha256), indent=1, ensure_ascii=False) + "\n"
        write_atomic(partial / METADATA, text.encode())
        write_atomic(partial / CARD, card(facts, _configs(parts)).encode())
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return parts


def write_card(dataset: str | Path) -> str:
    """The card alone, as text, for a data set of which nothing is exported."""
    storage = open_storage(dataset)
    return card(gather(storage, manifest_of(storage)), {})


def _configs(parts: list[Part]) -> dict[str, list[str]]:
    configs: dict[str, list[str]] = {}
    for part in parts:
        splits = configs.setdefault(part.config, [])
        if part.split not in splits:
            splits.append(part.split)
    return configs


app = make_app()


@app.command()
def run(
    dataset: Annotated[str, typer.Argument(help="Folder or URL of the data set.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder to write to.")],
    card_only: Annotated[bool, typer.Option("--card-only", help="Write the card alone.")] = False,
    log_level: LogLevel = "warning",
    quiet: Quiet = False,
    version_: Version = False,
) -> None:
    """Write Parquet files that Hugging Face opens, Croissant metadata and a data set card."""
    set_log_level(log_level)
    with refusals():
        if card_only:
            write_atomic(folder / CARD, write_card(dataset).encode())
            told = f"card in {folder / CARD}"
        else:
            parts = export(dataset, folder)
            frames = sum(part.rows for part in parts if part.config == "frames")
            told = f"{frames:,} frames in {len(parts)} files in {folder}"
    if not quiet:
        console.print(told)


def main() -> None:
    """Entry point of the command."""
    app()


if __name__ == "__main__":
    main()
