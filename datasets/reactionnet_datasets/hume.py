"""What the two data sets of Hume AI share: rows of intensities that people reported of themselves, one a video."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reactionnet_datasets.clip import one
from reactionnet_datasets.labels import class_name, classes_of
from reactionnet_datasets.release import Release
from reactionnet_datasets.release_videos import plain_name
from reactionnet_datasets.sample import Label

# splits as the challenges call them
SPLITS = {
    "train": "train", "training": "train", "devel": "val", "dev": "val", "val": "val", "valid": "val",
    "validation": "val", "test": "test",
}  # fmt: skip
_EMPTY = ("", "nan", "null", "none")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of a table: `name` as `plain_name` spells it, `written` as it stands there, `cells` by `class_name`."""

    line: int
    name: str
    written: str
    cells: dict[str, str]


def rows_of(release: Release, path: Path, name: str, required: Sequence[str]) -> Iterator[Row]:
    """Rows of a table whose header may have any order and spelling (`Empathic-Pain`, `Empathic Pain`).

    `name` is the header of the column that names the video. ReleaseError where a column lacks, a row has too few or too
    many cells, or a video comes twice.
    """
    rows = release.rows(path)
    _, header = next(rows, (0, []))
    columns = [class_name(cell.strip("'\"")) for cell in header]
    if lacking := [column for column in (class_name(name), *required) if columns.count(column) != 1]:
        shown = ",".join(header) or "nothing"
        raise release.fault(path, 1, f"expected one column each of {', '.join(lacking)}; the header is {shown}")
    seen: dict[str, int] = {}
    for line, cells in rows:
        if len(cells) != len(columns):
            raise release.fault(path, line, f"{len(cells)} cells; the header has {len(columns)}")
        of_column = dict(zip(columns, cells, strict=True))
        written = of_column.pop(class_name(name))
        plain = plain_name(written)
        if not plain:
            raise release.fault(path, line, f"no {name}")
        if plain in seen:
            raise release.fault(path, line, f"{written} stands in line {seen[plain]} already")
        seen[plain] = line
        yield Row(line=line, name=plain, written=written.strip("[]'\" "), cells=of_column)


def intensities(release: Release, path: Path, row: Row, space: str, prefix: str, split: str) -> dict[str, Label]:
    """A label a class, 0 to 1 as reported. What a test row leaves empty is withheld; elsewhere it is an error."""
    labels = {}
    for name in classes_of(space):
        text = row.cells[name]
        if text.lower() in _EMPTY:
            if split != "test":
                raise release.fault(path, row.line, f"{row.written} has no {name}; only test rows may lack values")
            labels[f"{prefix}_{name}"] = one("unit", None, "withheld")
            continue
        value = release.number(path, row.line, text, name)
        if not 0 <= value <= 1:
            raise release.fault(path, row.line, f"{name} is {text}; expected 0 to 1")
        labels[f"{prefix}_{name}"] = one("unit", value)
    return labels


def withheld(space: str, prefix: str) -> dict[str, Label]:
    """The labels of a test video without a row."""
    return {f"{prefix}_{name}": one("unit", None, "withheld") for name in classes_of(space)}
