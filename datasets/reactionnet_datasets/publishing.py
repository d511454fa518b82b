"""`reactionnet-publish CANDIDATE DATASET`: make a data set that was looked at the one that readers see.

A build publishes into a folder that nobody reads, `reactionnet-validate` looks at it, and this command brings it to where
readers look: what `dataset.json` lists is copied, each file held against its sha256, and `dataset.json` is replaced last,
in one step. Names hold digests, so a file that is there already is not copied again, and a second run does nothing. In one
file system a copy is another name of the same bytes and takes no room.
"""

import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from reactionnet_datasets.command import LogLevel, Quiet, Version, console, make_app, refusals, set_log_level
from reactionnet_datasets.listing import digests_of, remove_unlisted
from reactionnet_datasets.shards import MANIFEST, TEMPORARY, file_sha256, read_manifest, write_atomic, write_manifest
from reactionnet_datasets.splits import LOCK
from reactionnet_datasets.storage import ShardError
from reactionnet_datasets.stores import NO_VERSION, Place, StorePath, as_place, files_below, local

# what goes with a data set and is not listed, where it is there
BESIDE = (LOCK, "dead_letters.jsonl", "run_report.json", "import_report.json", "report.html")


@dataclass(frozen=True, kw_only=True)
class Published:
    """How many of the listed files were copied, and how many were there."""

    copied: int
    kept: int
    sha256: str


def publish(candidate: Place, dataset: Place) -> Published:
    """Make `dataset` list just what `candidate` does. Readers see the old one or the new one, whole.

    FileNotFoundError where there is no candidate, ShardError where a file is missing or not what its manifest says,
    StoreError where somebody else publishes to the same store; in each case readers go on with the old one.
    """
    if candidate.resolve() == dataset.resolve():
        raise ValueError(f"{candidate} is both the candidate and the data set; build into a folder of its own")
    try:
        content = read_manifest(candidate)
    except FileNotFoundError:
        raise FileNotFoundError(f"{candidate} holds no {MANIFEST}: nothing was built there") from None
    replacing, before = _published(dataset)
    digests, sizes, there = digests_of(content), files_below(candidate), files_below(dataset)
    missing = sorted(digests.keys() - sizes.keys())
    if missing:
        raise ShardError(f"{candidate} lacks {missing[0]} ({len(missing)} in all), which its {MANIFEST} lists")
    new = sorted(name for name in digests if there.get(name) != sizes[name])
    for name in new:
        _copy(candidate / name, dataset / name, digests[name])
    for name in BESIDE:
        if name in sizes:
            data = (candidate / name).read_bytes()
            if name not in there or (dataset / name).read_bytes() != data:
                write_atomic(dataset / name, data)
        elif name in there:
            (dataset / name).unlink(missing_ok=True)
    if content != before:  # else what the manifest before this one listed may still have readers
        write_manifest(dataset, {key: value for key, value in content.items() if key != "schema"}, replacing)
        remove_unlisted(dataset, digests.keys() | digests_of(before).keys())
    sha256 = file_sha256(dataset / MANIFEST)
    return Published(copied=len(new), kept=len(digests) - len(new), sha256=sha256)


def _published(dataset: Place) -> tuple[str, Mapping[str, Any]]:
    """The version of `dataset.json` in a store, and what it says; nothing where there is none."""
    path = dataset / MANIFEST
    try:
        version = path.stat().version if isinstance(path, StorePath) else NO_VERSION
        return version, read_manifest(dataset)
    except FileNotFoundError:
        return NO_VERSION, {}


def _copy(source: Place, target: Place, sha256: str) -> None:
    with local(source) as file:
        if not file_sha256(file).startswith(sha256):
            raise ShardError(f"{source} is not what {MANIFEST} says: its sha256 differs")
        if isinstance(target, StorePath):
            target.put(file)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
        try:
            try:
                os.link(file, temporary)
            except OSError:  # another file system, or one that knows no links
                shutil.copyfile(file, temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


app = make_app()


@app.command()
def run(
    candidate: Annotated[str, typer.Argument(help="Folder or URL that was built into and validated.")],
    dataset: Annotated[str, typer.Argument(help="Folder or URL that readers know.")],
    log_level: LogLevel = "warning",
    quiet: Quiet = False,
    version_: Version = False,
) -> None:
    """Make a validated data set the one that readers see, in one step; a second run does nothing."""
    set_log_level(log_level)
    with refusals():
        done = publish(as_place(candidate), as_place(dataset))
    if not quiet:
        console.print(f"{dataset}: {done.copied} files copied, {done.kept} were there; {MANIFEST} {done.sha256[:12]}")


def main() -> None:
    """Entry point of the command."""
    app()


if __name__ == "__main__":
    main()
