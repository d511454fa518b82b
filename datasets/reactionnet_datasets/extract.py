"""`reactionnet-extract DATASET KEY DIR`: the original bytes of one record, a file a member."""

from pathlib import Path
from typing import Annotated

import typer

from reactionnet_datasets.catalog import Catalog, Source, open_catalog
from reactionnet_datasets.command import LogLevel, Quiet, Version, console, make_app, refusals, set_log_level
from reactionnet_datasets.records import check_name
from reactionnet_datasets.shards import BLOCK, write_atomic
from reactionnet_datasets.storage import ShardError, open_storage


def extract(dataset: str | Path, key: str, folder: Path) -> list[Path]:
    """Write every member of a record to `folder` as `KEY.suffix`; returns the files.

    `dataset` is a folder or a URL. ValueError where there is no such record, ShardError where it is damaged.
    """
    catalog = open_catalog(Source(root=dataset), open_storage(dataset))
    if key not in catalog.keys:
        raise ValueError(f"no record is called {key!r} in {catalog.storage.name}{_nearest(catalog, key)}")
    shard = int(catalog.chunk_shard[catalog.keys.index(key)])
    index = catalog.index_of(shard)
    if key not in index.rows:
        raise ShardError(f"{index.path} has no record {key}, which tables/windows lists")
    first, last = index.rows[key]
    members = []
    for row, suffix in enumerate(index.suffix[first:last].to_pylist(), start=first):
        name = f"{key}.{suffix}"
        if "/" in name or "\\" in name or "\0" in name:
            raise ShardError(f"{index.path} has a member {name!r}, which is no file name")
        size = int(index.size[row])
        data = catalog.storage.read(index.path, int(index.offset[row]) - BLOCK, BLOCK + size)
        check_name(data, 0, name.encode(), index.path)
        members.append((folder / name, bytes(data[BLOCK:])))
    for path, content in members:
        write_atomic(path, content)
    return [path for path, _ in members]


def _nearest(catalog: Catalog, key: str) -> str:
    """Which record holds a frame, for the key of a window or frame that begins within one."""
    stem, _, number = key.rpartition("-")
    same = [name for name in catalog.keys if name.rpartition("-")[0] == stem and number.isdecimal()]
    before = [name for name in same if int(name.rpartition("-")[2]) <= int(number)]
    if before:
        return f"; its frame may lie in {max(before)}"
    return f"; its first is {catalog.keys[0]!r}"


app = make_app()


@app.command()
def run(
    dataset: Annotated[str, typer.Argument(help="Folder or URL of the data set.")],
    key: Annotated[str, typer.Argument(help="Key of the record.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write to.")],
    log_level: LogLevel = "warning",
    quiet: Quiet = False,
    version_: Version = False,
) -> None:
    """Write the original bytes of one record: pictures, sound, arrays and json."""
    set_log_level(log_level)
    with refusals():
        files = extract(dataset, key, folder)
    if not quiet:
        console.print(f"{len(files)} files in {folder}")


def main() -> None:
    """Entry point of the command."""
    app()


if __name__ == "__main__":
    main()
