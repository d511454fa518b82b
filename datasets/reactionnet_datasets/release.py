"""Reading a data set's release as its owners ship it: folders, tables and archives, and what is wrong with them.

A `Release` is what an importer reads through. It finds files whatever the case of their names, passes over what file
managers leave behind, remembers what is missing, and refuses pickles by name. Counts of what belongs to a release but
cannot be used (frames without a crop, dead addresses) are `note`d and end in `import_report.json`.
"""

import csv
import io
import os
import re
import stat
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np

from reactionnet_datasets.clip import File

SHOWN = 20  # names in a message
EXAMPLES = 20  # of each kind of note in the report
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".gif", ".webp")
PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth")
_JUNK = re.compile(r"(\..*|thumbs\.db|desktop\.ini|__macosx)", re.IGNORECASE)
_ARCHIVE = re.compile(
    r"(?P<stem>.+?)(\.part\d+)?((\.tar)?\.(zip|rar|7z|tar|tgz|tbz2?|txz|gz|bz2|xz)(\.\d{3})?|\.z\d\d)", re.IGNORECASE
)
_UNFINISHED = re.compile(r".+\.(part|crdownload|download|aria2)", re.IGNORECASE)


class ReleaseError(ValueError):
    """The release is not as its importer expects: the message shows what was expected, and what was found."""


class MissingMediaError(ReleaseError):
    """Files that the release lists are not there, or pictures do not decode."""


@dataclass
class Noted:
    """How often something was found, and the first examples."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str, count: int = 1) -> None:
        self.count += count
        if len(self.examples) < EXAMPLES:
            self.examples.append(example)


class Release:
    """A folder with a release. `missing` and `notes` fill up while an importer reads."""

    def __init__(self, root: Path):
        self.root = root
        self._below = f"{root / '_'}"[:-1]  # with a separator at its end, whatever ROOT is
        self.missing: list[str] = []
        self.notes: dict[str, Noted] = {}
        self.refused: list[str] = []
        self._opened: set[str] = set()  # archives
        if not root.is_dir():
            kind = "is a file: unpack it first" if root.exists() else "does not exist"
            if root.suffix.lower() in (".csv", ".txt", ".tsv", ".xlsx", ".json", ".parquet"):
                kind = f"is a table: give the folder that holds it, {root.parent}" if root.exists() else kind
            raise ReleaseError(f"ROOT {root} {kind}; expected the folder of the release")

    # -- finding -------------------------------------------------------------------------------------------------

    def find(self, path: str, *, packed: bool = False) -> Path | None:
        """The file or folder at `path` relative to the root, whatever the case of its name; None where there is none.

        ReleaseError for what is there as its archive alone (unless `packed` says that this is as good), so that nothing else
        is taken in its stead, and for a path that leaves the root, as a list in a release might try.
        """
        place, lacking = self._walk(path)
        if not lacking:
            return place
        if (archives := _packed(place).get(lacking[0].lower())) and not packed:
            raise ReleaseError(f"{self.relative(place / archives[0])} is not unpacked: unpack it first")
        return None

    def _walk(self, path: str) -> tuple[Path, Sequence[str]]:
        """How far a path leads, and the parts of it that are not there."""
        parts = PurePosixPath(path.replace("\\", "/")).parts
        if not parts or ".." in parts or PurePosixPath(path).is_absolute():
            raise ReleaseError(f"path {path!r} leads out of the release")
        exact = self.root.joinpath(*parts)
        if exact.exists():
            return exact, ()
        place = self.root
        for number, part in enumerate(parts):
            match = [name for name in _names(place) if name.lower() == part.lower()]
            if len(match) > 1:
                raise ReleaseError(f"{self.relative(place)} holds {' and '.join(match)}: which one is meant?")
            if not match:
                return place, parts[number:]
            place = place / match[0]
        return place, ()

    def first(self, *paths: str) -> Path:
        """The first of several spellings that exists. ReleaseError, with what was found, where none does."""
        for path in paths:
            if (found := self.find(path)) is not None:
                return found
        raise self.not_here(" or ".join(paths))

    def listing(self, folder: Path | str, pattern: str = "*") -> list[Path]:
        """Entries of a folder whose names match, sorted, without what file managers leave. Case does not matter."""
        place = self.first(folder) if isinstance(folder, str) else folder
        if not place.is_dir():
            raise ReleaseError(f"{self.relative(place)} is not a folder; expected one with {pattern}")
        return [place / name for name in _names(place) if fnmatchcase(name.lower(), pattern.lower())]

    def pictures(self, folder: Path) -> list[Path]:
        """The pictures directly in a folder, sorted by name."""
        return [path for path in self.listing(folder) if path.suffix.lower() in PICTURE_SUFFIXES]

    def relative(self, path: Path) -> str:
        """As tables and messages call a path: relative to the root, with "/"."""
        if path == self.root:
            return self.root.name
        text = str(path)  # asked of every picture, for which pathlib is slow
        if not text.startswith(self._below):
            raise ValueError(f"{path} is not below {self.root}")
        return text[len(self._below) :].replace(os.sep, "/")

    def not_here(self, expected: str) -> ReleaseError:
        """An error that says what was expected below the root, and what there is."""
        found = _names(self.root)
        shown = ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
        packed = self.packed(levels=2)
        hint = f"; unpack {', '.join(packed[:3])} first" if packed else ""
        return ReleaseError(f"expected {expected} in {self.root}; found {shown or 'an empty folder'}{hint}")

    def packed(self, levels: int = 1, below: Path | None = None) -> list[str]:
        """Archives and unfinished downloads in a folder (else the root) and so many levels of folders below it.

        Left out are those that this release was read from, and those beside a folder or file of the same name, which is
        what was unpacked of them.
        """
        found = []
        for folder in self._folders(levels, below):
            names = _names(folder)
            packed = [name for archives in _packed(folder).values() for name in archives]
            packed += [name for name in names if _UNFINISHED.fullmatch(name)]
            found += [self.relative(folder / name) for name in packed]
        return sorted(set(found) - self._opened)

    def empty(self, levels: int = 1) -> list[str]:
        """Folders without anything in them, so many levels below the root."""
        return sorted(self.relative(folder) for folder in self._folders(levels)[1:] if not _names(folder))

    def _folders(self, levels: int, below: Path | None = None) -> list[Path]:
        folders = [below or self.root]
        found = list(folders)
        for _ in range(levels):
            # what ends like a file is not asked, as there may be a million of them
            folders = [
                path for folder in folders for name in _names(folder)
                if "." not in name[-5:] and (path := folder / name).is_dir()
            ]  # fmt: skip
            found += folders
        return found

    # -- files ---------------------------------------------------------------------------------------------------

    def file(self, path: Path | str) -> File | None:
        """A reference to a file that the release lists; None, and a line in `missing`, where it is not there or empty."""
        given = path if isinstance(path, str) else self.relative(path)
        place, lacking = self._walk(path) if isinstance(path, str) else (path, ())
        try:
            facts = None if lacking else place.stat()
        except FileNotFoundError:
            facts = None
        if facts is None or not stat.S_ISREG(facts.st_mode):
            self.missing.append(given)
            return None
        if not facts.st_size:
            self.missing.append(f"{given} (has no bytes)")
            return None
        return File(path=self.relative(place), size=facts.st_size, mtime_ns=facts.st_mtime_ns)

    def members(self, archive: Path) -> dict[str, File]:
        """Files in a zip archive by name. ReleaseError where it is cut off or no zip."""
        facts = archive.stat()
        self._opened.add(self.relative(archive))
        try:
            with zipfile.ZipFile(archive) as content:
                return {
                    info.filename: File(
                        path=self.relative(archive),
                        size=info.file_size,
                        mtime_ns=facts.st_mtime_ns,
                        member=info.filename,
                    )
                    for info in content.infolist()
                    if not info.is_dir() and not any(_JUNK.fullmatch(part) for part in info.filename.split("/"))
                }
        except zipfile.BadZipFile as error:
            raise ReleaseError(f"{self.relative(archive)} cannot be read ({error}): fetch it again") from error

    # -- tables --------------------------------------------------------------------------------------------------

    def text(self, path: Path) -> str:
        """A text file, with or without a byte order mark, lines ended by LF. Pickles are refused by name."""
        if path.suffix.lower() in PICKLES:
            raise ReleaseError(f"{self.relative(path)} is a pickle: reading it could run anything, so it is refused")
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except FileNotFoundError:
            raise ReleaseError(f"expected a file {self.relative(path)}; there is none") from None
        except UnicodeDecodeError as error:
            raise ReleaseError(f"{self.relative(path)} is not text in UTF-8 ({error})") from error
        return text.replace("\r\n", "\n").replace("\r", "\n")

    def lines(self, path: Path) -> list[str]:
        """Lines without blanks around them and without empty ones."""
        return [line for line in (line.strip() for line in self.text(path).split("\n")) if line]

    def rows(self, path: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
        """(line number from 1, cells without blanks around them) of a csv file; empty lines are left out.

        Some lists are hundreds of megabytes: they are read line by line.
        """
        if path.suffix.lower() in PICKLES:
            raise ReleaseError(f"{self.relative(path)} is a pickle: reading it could run anything, so it is refused")
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file, delimiter=delimiter)
                for row in reader:
                    cells = [cell.strip() for cell in row]
                    if any(cells):
                        yield reader.line_num, cells
        except (FileNotFoundError, IsADirectoryError):
            raise ReleaseError(f"expected a file {self.relative(path)}; there is none") from None
        except UnicodeDecodeError as error:
            raise ReleaseError(f"{self.relative(path)} is not text in UTF-8 ({error})") from error
        except csv.Error as error:
            raise ReleaseError(f"{self.relative(path)} line {reader.line_num}: {error}") from error

    def records(self, path: Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
        """(line number, cells by header name) of a csv file. ReleaseError where a required column or a cell lacks.

        Required columns are found whatever the case of their names, quotes around them or "_" for a blank.
        """
        rows = self.rows(path)
        _, found = next(rows, (0, []))
        spelled = {_plain_header(name): name for name in required}
        header = [spelled.get(_plain_header(name), name) for name in found]
        if twice := [name for name in required if header.count(name) > 1]:
            raise ReleaseError(f"{self.relative(path)} has the column {twice[0]} twice")
        absent = [name for name in required if name not in header]
        if absent:
            raise ReleaseError(
                f"{self.relative(path)} has no column {', '.join(absent)}; its header is {', '.join(header) or 'empty'}"
            )
        for line, cells in rows:
            if len(cells) != len(header):
                raise self.fault(path, line, f"{len(cells)} cells; the header has {len(header)}")
            yield line, dict(zip(header, cells, strict=True))

    def fault(self, path: Path, line: int, what: str) -> ReleaseError:
        """An error in a line of a file."""
        return ReleaseError(f"{self.relative(path)} line {line}: {what}")

    def whole(self, path: Path, line: int, text: str, what: str) -> int:
        """A whole number, however it is written (`3`, `3.0`, `3.0e+00`)."""
        value = self.number(path, line, text, what)
        if value != int(value):
            raise self.fault(path, line, f"{what} is {text!r}; expected a whole number")
        return int(value)

    def number(self, path: Path, line: int, text: str, what: str) -> float:
        """A finite number."""
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not np.isfinite(value):
            raise self.fault(path, line, f"{what} is {text!r}; expected a number")
        return value

    def array(self, path: Path) -> np.ndarray:
        """A .npy file. ReleaseError, by name, where it holds a pickle or is damaged."""
        return load_npy(path.read_bytes(), self.relative(path))

    # -- remarks -------------------------------------------------------------------------------------------------

    def note(self, kind: str, example: str, count: int = 1) -> None:
        """Something that belongs to the release but cannot be used; counted in the report, not an error."""
        self.notes.setdefault(kind, Noted()).add(example, count)

    def refuse(self, path: Path) -> None:
        """A file that is never opened, such as a pickle of features; named in the report."""
        self.refused.append(self.relative(path))


def _plain_header(name: str) -> str:
    return name.strip(" '\"").lower().replace("_", " ").replace("-", " ")


def load_npy(data: bytes, name: str) -> np.ndarray:
    """An array from the bytes of a .npy file; never a pickle."""
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except ValueError as error:
        if "pickle" in str(error).lower():
            raise ReleaseError(f"{name} holds a pickle: reading it could run anything, so it is refused") from error
        raise ReleaseError(f"{name} is no .npy file: {error}") from error
    except EOFError as error:
        raise ReleaseError(f"{name} is cut off") from error


@lru_cache(maxsize=64)
def _names_at(folder: str, mtime_ns: int) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in os.scandir(folder) if not _JUNK.fullmatch(entry.name)))


def _names(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        return ()
    return _names_at(str(folder), folder.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _packed_at(folder: str, mtime_ns: int) -> dict[str, list[str]]:
    names = _names_at(folder, mtime_ns)
    archives = {name: match["stem"].lower() for name in names if (match := _ARCHIVE.fullmatch(name))}
    unpacked = {name.lower() for name in names if name not in archives}
    found: dict[str, list[str]] = {}
    for name, stem in archives.items():
        if stem not in unpacked:
            found.setdefault(stem, []).append(name)
    return found


def _packed(folder: Path) -> dict[str, list[str]]:
    """What lies in a folder as its archive alone: lower-case name -> the archive, or its parts."""
    if not folder.is_dir():
        return {}
    return _packed_at(str(folder), folder.stat().st_mtime_ns)


def missing_media(missing: Sequence[str], packed: Sequence[str] = (), empty: Sequence[str] = ()) -> MissingMediaError:
    """The error for files that the release lists and that are not there: the first 20 and the total.

    `packed` are archives in the release that may hold them, `empty` folders where they may be expected.
    """
    shown = "\n  ".join(missing[:SHOWN])
    more = f"\n  ... and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    hint = f"not unpacked: {', '.join(packed[:SHOWN])}; " if packed else ""
    hint += f"empty: {', '.join(empty[:SHOWN])}; " if empty else ""
    return MissingMediaError(
        f"{len(missing)} files that the release lists are missing or damaged:\n  {shown}{more}\n{hint}"
        "complete the release, or let --allow-missing leave these frames out"
    )
