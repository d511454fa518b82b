"""What the data sets of the ABAW challenges share: folders of numbered crops, labels of one line a frame, sample files.

A label file has a header and then one line a frame: line k below the header is frame k, whose crop is `00001.jpg` for
frame 1. Crops have gaps where no face was found, so that both are joined by number, never by their order.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from reactionnet_datasets.labels import CLASSES, class_name
from reactionnet_datasets.release import PICTURE_SUFFIXES, Release, ReleaseError
from reactionnet_datasets.rules import ABAW_AUS

_AU = re.compile(r"AU[ _]?0*([1-9][0-9]*)", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", re.IGNORECASE)

EXPRESSIONS: dict[str, Sequence[str]] = {space: CLASSES[space] for space in ("abaw8", "abaw7")}
_CODES = {"0": 0, "1": 1, "-1": -1}

Line = tuple[int, list[str]]  # its number in the file, its cells
Cell = tuple[object, str, str | None]  # value, mask, code as written where it is masked
Columns = dict[str, tuple[str, dict[int, Cell]]]  # label -> its space, and a cell of each frame that has a line


def crops_of(release: Release, folder: Path) -> dict[int, Path]:
    """Frame number -> crop. Whatever else lies in the folder is counted. ReleaseError where a number comes twice."""
    crops: dict[int, Path] = {}
    for path in release.listing(folder):
        if path.suffix.lower() not in PICTURE_SUFFIXES or not path.stem.isdecimal():
            release.note("stray files beside crops", release.relative(path))
            continue
        number = int(path.stem)
        if number < 1:
            raise ReleaseError(f"{release.relative(path)} is frame 0; frames count from 1")
        if number in crops:
            raise ReleaseError(
                f"{release.relative(path)}: frame {number} is also {crops[number].name}: which is meant?"
            )
        crops[number] = path
    return crops


def label_lines(release: Release, path: Path) -> tuple[list[str], list[Line]]:
    """The header's cells and a line a frame, frame 1 first. ReleaseError for no header, or an empty line in between."""
    lines = release.text(path).rstrip("\n \t").split("\n")
    header = [cell.strip(" '\"") for cell in lines[0].split(",")]
    if not header[0] or _NUMBER.fullmatch(header[0]):
        raise release.fault(path, 1, f"{lines[0][:40]!r}; expected a header, so that line 2 is frame 1")
    rows = []
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            raise release.fault(path, number, "is empty: which frame is the next line's?")
        rows.append((number, [cell.strip() for cell in line.split(",")]))
    return header, rows


def action_units(release: Release, path: Path, header: Sequence[str]) -> dict[int, int]:
    """Action unit -> its column. ReleaseError where a cell of the header is none."""
    columns: dict[int, int] = {}
    for place, name in enumerate(header):
        match = _AU.fullmatch(name)
        if match is None or int(match[1]) in columns:
            raise release.fault(path, 1, f"{name!r}; expected action units, each once, such as AU1,AU2,AU4")
        columns[int(match[1])] = place
    return columns


def classes_in_order(release: Release, path: Path, header: Sequence[str], known: Mapping[str, Sequence[str]]) -> str:
    """The space whose names the header lists, in its order: codes count along it. ReleaseError for any other list."""
    names = [class_name(name) for name in header if name]
    for space, classes in known.items():
        if names == list(classes):
            return space
    lists = " or ".join(",".join(classes) for classes in known.values())
    raise release.fault(path, 1, f"{','.join(header)}; expected {lists}: the codes count along this list")


def code_of(release: Release, path: Path, line: Line, classes: Sequence[str]) -> tuple[str | None, str]:
    """(class name, or None for -1; the code as written) of a line with one whole number, however many classes there are."""
    number, cells = line
    while len(cells) > 1 and not cells[-1]:
        cells = cells[:-1]
    if len(cells) != 1:
        raise release.fault(path, number, f"{','.join(cells)}; expected one class code")
    code = release.whole(path, number, cells[0], "class code")
    if not -1 <= code < len(classes):
        raise release.fault(path, number, f"class code {code}; expected -1 to {len(classes) - 1}")
    return (None if code < 0 else classes[code]), cells[0]


def sampled(release: Release, path: Path) -> dict[str, list[int]]:
    """Video -> frames of a sample of a submission: lines `video/00001.jpg,0,...`, which tell what is to be predicted.

    The lines have one number or twelve, whatever the header says, so that only what is before the first comma is read.
    """
    frames: dict[str, set[int]] = {}
    for number, line in enumerate(release.text(path).split("\n"), 1):
        location = line.split(",", 1)[0].strip(" '\"")
        if not location or location.lower() in ("image_location", "image"):
            continue
        match = re.fullmatch(r"(.+)[/\\]0*([1-9][0-9]*)(\.[A-Za-z]+)", location)
        if match is None or match[3].lower() not in PICTURE_SUFFIXES:
            raise release.fault(path, number, f"{location!r}; expected a place such as video/00001.jpg, frames from 1")
        frames.setdefault(match[1], set()).add(int(match[2]))
    return {video: sorted(of_video) for video, of_video in frames.items()}


def text_files(release: Release, folders: Sequence[Path]) -> Iterator[Path]:
    """Text files directly in these folders."""
    for folder in folders:
        yield from (path for path in release.listing(folder, "*.txt") if path.is_file())


def _au_columns(release: Release, path: Path, header: Sequence[str], rows: Mapping[int, Line]) -> Columns:
    places = action_units(release, path, header)
    found: Columns = {f"au_occ_{au}": ("au_occ", {}) for au in places}
    for frame, (number, cells) in rows.items():
        if len(cells) != len(header):
            raise release.fault(path, number, f"{len(cells)} cells; the header has {len(header)}")
        for au, place in places.items():
            found[f"au_occ_{au}"][1][frame] = _occurrence(release, path, number, cells[place], au)
    return found


def _occurrence(release: Release, path: Path, number: int, text: str, au: int) -> Cell:
    code = _CODES.get(text)
    if code is None:
        code = release.whole(path, number, text, f"AU {au}")
        if code not in (0, 1, -1):
            raise release.fault(path, number, f"AU {au} is {text}; expected 0, 1 or -1")
    return (None, "invalid_code", text) if code < 0 else (code, "valid", None)


def _expr_columns(release: Release, path: Path, header: Sequence[str], rows: Mapping[int, Line]) -> Columns:
    space = classes_in_order(release, path, header, EXPRESSIONS)
    found: dict[int, Cell] = {}
    for frame, line in rows.items():
        name, code = code_of(release, path, line, CLASSES[space])
        found[frame] = (None, "invalid_code", code) if name is None else (name, "valid", None)
    return {"expression": (space, found)}


def _va_columns(release: Release, path: Path, header: Sequence[str], rows: Mapping[int, Line]) -> Columns:
    names = [name.lower() for name in header]
    if sorted(names) != ["arousal", "valence"]:
        raise release.fault(path, 1, f"{','.join(header)}; expected valence,arousal")
    found: Columns = {name: ("va", {}) for name in names}
    for frame, (number, cells) in rows.items():
        if len(cells) != 2:
            raise release.fault(path, number, f"{len(cells)} cells; expected valence,arousal")
        for name, text in zip(names, cells, strict=True):
            found[name][1][frame] = _affect(release, path, number, text, name)
    return found


def _affect(release: Release, path: Path, number: int, text: str, name: str) -> Cell:
    value = release.number(path, number, text, name)
    if value == -5:
        return None, "invalid_code", text
    if not -1 <= value <= 1:
        raise release.fault(path, number, f"{name} is {text}; expected -1 to 1, or -5")
    return value, "valid", None


def mtl_columns(release: Release, path: Path, header: Sequence[str], rows: Mapping[int, Line]) -> Columns:
    """`image,valence,arousal,expression` and action units; those may share one name in the header (`aus`)."""
    names = [name.lower() for name in header]
    if names[1:4] != ["valence", "arousal", "expression"]:
        raise release.fault(path, 1, f"{','.join(header)}; expected image,valence,arousal,expression,AU1,...")
    aus = [f"AU{au}" for au in ABAW_AUS] if len(names) == 5 else list(header[4:])
    found: Columns = {"valence": ("va", {}), "arousal": ("va", {}), "expression": ("abaw8", {})}
    columns = action_units(release, path, aus)
    found.update({f"au_occ_{au}": ("au_occ", {}) for au in columns})
    for frame, (number, cells) in rows.items():
        if len(cells) != 4 + len(aus):
            raise release.fault(path, number, f"{len(cells)} cells; expected {4 + len(aus)}")
        for name, text in zip(("valence", "arousal"), cells[1:3], strict=True):
            found[name][1][frame] = _affect(release, path, number, text, name)
        face, code = code_of(release, path, (number, cells[3:4]), CLASSES["abaw8"])
        found["expression"][1][frame] = (None, "invalid_code", code) if face is None else (face, "valid", None)
        for au, place in columns.items():
            found[f"au_occ_{au}"][1][frame] = _occurrence(release, path, number, cells[4 + place], au)
    return found


READERS = {"au": _au_columns, "expr": _expr_columns, "va": _va_columns}
