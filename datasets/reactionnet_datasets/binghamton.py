"""What the releases of Binghamton University have in common: BP4D's and BP4D+'s sequences of pictures and tables of codes.

A sequence is a subject's task, `F001_T1`. Its pictures lie in `<pictures>/F001/T1/`, or still in `F001.zip`, and are
numbered with 3 or 4 digits or none: they are found by the number. Tables have one row a coded frame; 9 is unknown.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from reactionnet_datasets.clip import File, per_frame
from reactionnet_datasets.release import Release, ReleaseError
from reactionnet_datasets.sample import Label

FPS = 25.0
UNKNOWN = 9
INTENSITY_AUS = (6, 10, 12, 14, 17)
_SEQUENCE = re.compile(r"([FM]\d{3})_T(\d+)(?:_.*)?\.csv", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Codes:
    """A sequence's table: frame numbers, and for each column the native codes."""

    frames: tuple[int, ...]
    columns: Mapping[int, tuple[int, ...]]


def sequence_of(path: Path) -> str:
    """`F001_T1` of a table's name. ReleaseError is the caller's: ValueError where the name is no sequence's."""
    match = _SEQUENCE.fullmatch(path.name)
    if match is None:
        raise ReleaseError(f"{path.name}: expected a name such as F001_T1.csv")
    return f"{match[1].upper()}_T{int(match[2])}"


def tables_in(release: Release, folder: Path) -> dict[str, Path]:
    """Tables of a folder by sequence. ReleaseError where two are of the same."""
    tables: dict[str, Path] = {}
    for path in release.listing(folder, "*.csv"):
        if (name := sequence_of(path)) in tables:
            raise ReleaseError(f"{release.relative(path)} and {tables[name].name} are both of {name}")
        tables[name] = path
    return tables


def occurrence_rows(release: Release, path: Path) -> tuple[list[str], Codes]:
    """The header and all columns by position. ReleaseError for ragged rows, codes but 0, 1, 9, frames out of order."""
    rows = release.rows(path)
    line, header = next(rows, (0, []))
    if not header:
        raise ReleaseError(f"{release.relative(path)} is empty")
    frames: list[int] = []
    values: list[list[int]] = []
    for line, cells in rows:
        if len(cells) != len(header):
            raise release.fault(path, line, f"{len(cells)} cells; the header has {len(header)}")
        try:
            numbers = list(map(int, cells))  # a release has 15 million
        except ValueError:
            numbers = [release.whole(path, line, cell, "code") for cell in cells]
        if frames and numbers[0] <= frames[-1]:
            raise release.fault(path, line, f"frame {numbers[0]} after {frames[-1]}; frames ascend")
        wrong = sorted({number for number in numbers[1:] if number not in (0, 1, UNKNOWN)})
        if wrong:
            raise release.fault(path, line, f"code {wrong[0]}; expected 0, 1 or 9")
        frames.append(numbers[0])
        values.append(numbers[1:])
    if not frames:
        raise ReleaseError(f"{release.relative(path)} has a header but no rows")
    if header[0].isdigit() and int(header[0]) > 0 and int(header[0]) == frames[0] - 1:
        raise release.fault(path, 1, f"begins with frame {header[0]}; expected a header row first")
    columns = dict(enumerate(zip(*values, strict=True), 1))
    return header, Codes(frames=tuple(frames), columns=columns)


def intensity_rows(release: Release, path: Path) -> dict[int, int]:
    """Native code by frame of an intensity table: no header, `frame,intensity`, 0 to 5, 9 unknown."""
    codes: dict[int, int] = {}
    for line, cells in release.rows(path):
        if len(cells) != 2:
            raise release.fault(path, line, f"{len(cells)} cells; expected frame,intensity")
        frame, code = (release.whole(path, line, cell, "cell") for cell in cells)
        if code not in (0, 1, 2, 3, 4, 5, UNKNOWN):
            raise release.fault(path, line, f"intensity {code}; expected 0 to 5 or 9")
        if frame in codes:
            raise release.fault(path, line, f"frame {frame} twice")
        codes[frame] = code
    if not codes:
        raise ReleaseError(f"{release.relative(path)} has no rows")
    return codes


def label_of(space: str, codes: Iterable[int | None]) -> Label:
    """Codes a frame as a label: 9 is uncodable and keeps its native code; null is not annotated."""
    codes = list(codes)
    return per_frame(
        space,
        [None if code == UNKNOWN else code for code in codes],
        ["not_annotated" if code is None else "uncodable" if code == UNKNOWN else "valid" for code in codes],
        ["9" if code == UNKNOWN else None for code in codes],
    )


def intensity_labels(
    release: Release, tables: Mapping[int, Mapping[str, Path]], sequence: str, frames: Iterable[int]
) -> dict[str, Label]:
    """`au_int_N` of a sequence's frames. Frames that only an intensity table has are counted."""
    frames = tuple(frames)
    labels = {}
    for au, of_sequence in sorted(tables.items()):
        if sequence not in of_sequence:
            release.note(f"sequences without intensities of AU {au}", sequence)
            continue
        codes = intensity_rows(release, of_sequence[sequence])
        if more := sorted(set(codes) - set(frames)):
            release.note(
                "frames with an intensity but no occurrences", f"{sequence} AU {au} frame {more[0]}", len(more)
            )
        if lacking := [frame for frame in frames if frame not in codes]:
            release.note("coded frames without an intensity", f"{sequence} AU {au} frame {lacking[0]}", len(lacking))
        labels[f"au_int_{au}"] = label_of("au_int", [codes.get(frame) for frame in frames])
    return labels


def intensity_tables(release: Release, *folders: str) -> dict[int, dict[str, Path]]:
    """Tables by action unit and sequence, from the first of the folders that is there; none where none is."""
    for name in folders:
        folder = release.find(name)
        if folder is not None:
            tables = {}
            for place in release.listing(folder, "AU*"):
                match = re.fullmatch(r"AU0?(\d+)", place.name, re.IGNORECASE)
                if match is None:
                    raise ReleaseError(f"{release.relative(place)}: expected a folder such as AU06")
                tables[int(match[1])] = tables_in(release, place)
            if not tables:
                raise ReleaseError(f"{release.relative(folder)} holds no folder such as AU06: is the release unpacked?")
            for au in sorted(set(INTENSITY_AUS) - set(tables)):
                release.note("action units without intensities", f"{release.relative(folder)}/AU{au:02d}")
            return tables
    release.note("releases without intensities", " or ".join(folders))
    return {}


def pictures_of(release: Release, pictures: Path, subject: str) -> dict[str, dict[int, File | Path]] | None:
    """A subject's pictures by sequence and number: paths, or members of `F001.zip`. None where the subject has none."""
    folder = release.find(f"{release.relative(pictures)}/{subject}", packed=True)
    if folder is not None and folder.is_dir():
        found: dict[str, dict[int, File | Path]] = {}
        for task in release.listing(folder, "T*"):
            if task.is_dir():
                sequence = f"{subject}_T{_number(release, task, task.name[1:])}"
                found[sequence] = _numbered(release, task)
        return found
    archive = release.find(f"{release.relative(pictures)}/{subject}.zip")
    if archive is None:
        return None
    zipped: dict[str, dict[int, File | Path]] = {}
    for name, member in release.members(archive).items():
        match = re.search(r"(?:^|/)T(\d+)/(\d+)\.jpe?g$", name, re.IGNORECASE)
        if match:
            numbers = zipped.setdefault(f"{subject}_T{int(match[1])}", {})
            if int(match[2]) in numbers:
                raise ReleaseError(f"{member.name} and another are both picture {int(match[2])}")
            numbers[int(match[2])] = member
    return zipped


def _numbered(release: Release, folder: Path) -> dict[int, File | Path]:
    numbers: dict[int, File | Path] = {}
    for path in release.pictures(folder):
        number = _number(release, path, path.stem)
        if number in numbers:
            raise ReleaseError(f"{release.relative(path)} and another are both picture {number}: which one is meant?")
        numbers[number] = path
    return numbers


def _number(release: Release, path: Path, text: str) -> int:
    if not text.isdigit():
        raise ReleaseError(f"{release.relative(path)}: expected a number, as in T1 and 0001.jpg")
    return int(text)


def files_for(
    release: Release, found: Mapping[int, File | Path], frames: Iterable[int], offset: int, where: str
) -> list[File | None]:
    """The picture of each coded frame: the one whose number is the frame's plus `offset`; what is not there is missing."""
    files: list[File | None] = []
    for frame in frames:
        picture = found.get(frame + offset)
        if picture is None:
            release.missing.append(f"{where}/{frame + offset}.jpg (frame {frame})")
            files.append(None)
        else:
            files.append(picture if isinstance(picture, File) else release.file(picture))
    return files
