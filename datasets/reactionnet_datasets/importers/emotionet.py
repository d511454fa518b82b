"""EmotioNet: faces from the web with occurrences of action units, annotated by an algorithm (950,000) or by hand (24,600).

Benitez-Quiroz et al., CVPR 2016. By a form of the Ohio State University, non-commercial. The release is lists of addresses;
whoever has it fetched the pictures, and nothing is downloaded here. Reads, in ROOT (or lists in its
`--lists FOLDER`),

    dataFile_0001.txt, ...             automatic: url, original url, AU1 ... AU60, tab separated, without a header
    EmotioNet_FACS_*.xlsx or .csv      by hand: URL,URL orig,'AU 1','AU 2',... with quotes and blanks, addresses in quotes
    */N_0000000001_00001.jpg           pictures, in any folder of ROOT or in `--images FOLDER`

0 and 1 are values, 999 is `not_annotated` with `raw` "999". A picture is known by its address's base name. Where the
reference leaves something open: many addresses are dead, so that listed pictures without a file are counted in the
report, not errors; a release of which no picture is there is one, and so is a gap in the automatic lists' numbers. Where
ROOT has both kinds of lists, both are read, and a picture's labels by hand win (`--annotations automatic|manual` reads
one; `annotated` in a record's provenance). A picture that is listed twice alike is imported once, twice with other labels
is an error. Columns that are no action units (such as compound emotions, whose form is unconfirmed) are counted. Nobody
published a stable split: `emotionet-ours-v1` spreads pictures by a hash of their names.
"""

import csv
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from reactionnet_datasets.about import CONFIRMED, About, folds_of, one_of
from reactionnet_datasets.clip import Clip, Pictures, one
from reactionnet_datasets.release import PICTURE_SUFFIXES, Release, ReleaseError
from reactionnet_datasets.sample import Label

NUM_AUTOMATIC = 60  # AU1 to AU60, each in its column
NOT_ANNOTATED = "999"
_AU = re.compile(r"AU ?0*(\d+)", re.IGNORECASE)
_LIST = re.compile(r"dataFile_(\d+)\.txt", re.IGNORECASE)
_CODES = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}

ABOUT = About(
    name="emotionet",
    title="EmotioNet: web faces with action units, by an algorithm or by hand",
    markers=("dataFile_*.txt|*EmotioNet*.xlsx|*EmotioNet*.csv",),
    terms="form of the Ohio State University; non-commercial; no redistribution",
    ask="the Ohio State University, Aleix Martinez's group",
    license="LicenseRef-EmotioNet",
    papers=("ReactioNet (DRR)",),
    status=CONFIRMED,
    listed=False,
)


@dataclass(frozen=True, kw_only=True)
class Options:
    annotations: str = "auto"
    images: str = ""
    lists: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One listed picture: its base name, and codes by action unit as written (`999` for none)."""

    name: str
    codes: dict[int, str]
    where: str


def markers(options: Options) -> tuple[str, ...]:
    """The lists, in ROOT or where `--lists` says."""
    folder = f"{options.lists.strip('/')}/" if options.lists else ""
    return tuple("|".join(folder + pattern for pattern in marker.split("|")) for marker in ABOUT.markers)


def read(release: Release, options: Options) -> Iterator[Clip]:
    """One clip a listed picture that is there."""
    one_of("annotations", options.annotations, ("auto", "automatic", "manual"))
    pictures = _pictures(release, options)
    seen: dict[str, tuple[int, str]] = {}  # a hash of the codes, so that a million names stay small
    num = 0
    for kind, paths in _lists(release, options):
        for row in (row for path in paths for row in _rows(release, path, kind)):
            stem, facts = row.name.rpartition(".")[0].lower() or row.name.lower(), hash(tuple(row.codes.items()))
            if stem in seen:
                before, who = seen[stem]
                if who == kind and before != facts:
                    raise ReleaseError(f"{row.where}: {row.name} is listed before with other codes")
                release.note(
                    "pictures listed twice"
                    if who == kind
                    else "pictures of automatic lists that are listed by hand too",
                    row.where,
                )
                continue
            seen[stem] = facts, kind
            path = _picture(release, pictures, row)
            if path is None:
                release.note("listed pictures without a file (dead addresses)", row.name)
                continue
            file = release.file(path)
            num += 1
            if file is not None:
                yield _clip(row, Pictures(files=(file,)), kind)
    if not num:
        raise release.not_here(f"emotionet: pictures of the lists, such as {next(iter(seen), 'none')}")
    left = sum(len(paths) for paths in pictures.values()) - num
    if left:
        release.note("pictures that no list names", str(left), left)


def _clip(row: Row, media: Pictures, kind: str) -> Clip:
    video = row.name.rpartition(".")[0] or row.name
    return Clip(
        video=video,
        frames=(0,),
        media=media,
        labels={f"au_occ_{au}": _label(code) for au, code in row.codes.items()},
        folds=folds_of("emotionet", video),
        facts={"annotated": "automatically" if kind == "automatic" else "manually"},
    )


def _label(code: str) -> Label:
    return one("au_occ", None, raw=code) if code == NOT_ANNOTATED else one("au_occ", int(code))


def _lists(release: Release, options: Options) -> list[tuple[str, list[Path]]]:
    """Kinds of lists with their files; those by hand first, since they win."""
    wanted, folder = options.annotations, release.first(options.lists) if options.lists else release.root
    automatic = release.listing(folder, "dataFile_*.txt")
    manual = [
        path for path in release.listing(folder, "*EmotioNet*") if path.suffix.lower() in (".xlsx", ".csv", ".xls")
    ]
    numbers = {int(match[1]) for path in automatic if (match := _LIST.fullmatch(path.name))}
    release.missing += [f"dataFile_{n:04d}.txt" for n in range(1, max(numbers, default=0)) if n not in numbers]
    kinds = [("manual", manual), ("automatic", automatic)]
    chosen = [(kind, paths) for kind, paths in kinds if wanted == kind or (wanted == "auto" and paths)]
    if lacking := [kind for kind, paths in chosen if not paths]:
        expected = {"manual": "EmotioNet_FACS_*.xlsx or .csv", "automatic": "dataFile_*.txt"}[lacking[0]]
        raise release.not_here(f"emotionet: {expected}")
    return chosen


# -- pictures --------------------------------------------------------------------------------------------------------


def _pictures(release: Release, options: Options) -> dict[str, list[Path]]:
    """Pictures below a folder by name without extension, in lower case."""
    found: dict[str, list[Path]] = {}
    folders = [release.first(options.images) if options.images else release.root]
    while folders:
        for path in release.listing(folders.pop()):
            if path.is_dir():
                if not path.is_symlink():  # a link may lead round in a circle
                    folders.append(path)
            elif path.suffix.lower() in PICTURE_SUFFIXES:
                found.setdefault(path.stem.lower(), []).append(path)
    return found


def _picture(release: Release, pictures: dict[str, list[Path]], row: Row) -> Path | None:
    stem = row.name.rpartition(".")[0].lower() or row.name.lower()
    found = pictures.get(stem, [])
    found = [path for path in found if path.name.lower() == row.name.lower()] or found
    if len(found) > 1:
        names = " and ".join(sorted(release.relative(path) for path in found[:2]))
        raise ReleaseError(f"{row.where}: {names} are both called {row.name}; which one is meant?")
    return found[0] if found else None


# -- lists -----------------------------------------------------------------------------------------------------------


def _rows(release: Release, path: Path, kind: str) -> Iterator[Row]:
    if kind == "automatic":
        yield from _automatic(release, path)
        return
    cells = _sheet(release, path) if path.suffix.lower().startswith(".xls") else release.rows(path)
    yield from _manual(release, path, cells)


def _automatic(release: Release, path: Path) -> Iterator[Row]:
    if not path.stat().st_size:
        raise ReleaseError(f"{release.relative(path)} has no bytes")
    for line, cells in release.rows(path, "\t"):
        if len(cells) == 3 + NUM_AUTOMATIC and not cells[-1]:
            cells.pop()  # a tab at the line's end
        if len(cells) != 2 + NUM_AUTOMATIC:
            raise release.fault(path, line, f"{len(cells)} cells; expected two addresses and {NUM_AUTOMATIC} codes")
        codes = {au: _code(release, path, line, au, cell) for au, cell in enumerate(cells[2:], 1)}
        yield Row(name=_base_name(release, path, line, cells[0]), codes=codes, where=_where(release, path, line))


def _manual(release: Release, path: Path, rows: Iterable[tuple[int, list[str]]]) -> Iterator[Row]:
    header: list[str] = []
    places: dict[int, int] = {}
    for line, cells in rows:
        plain = [cell.strip(" '\"") for cell in cells]
        if not header:
            header = [name.lower() for name in plain]
            places = {int(match[1]): place for place, name in enumerate(plain) if (match := _AU.fullmatch(name))}
            if "url" not in header or not places:
                raise release.fault(path, line, f"begins with {','.join(cells[:4])}; expected URL,URL orig,'AU 1',...")
            if len(places) != sum(bool(_AU.fullmatch(name)) for name in plain):
                raise release.fault(path, line, "names an action unit twice")
            for name in sorted(set(header) - {"url", "url orig", ""} - {header[place] for place in places.values()}):
                release.note("columns that are no action units", f"{path.name}: {name}")
            continue
        if len(plain) > len(header):  # a comma in an address, which stands in single quotes
            plain = [cell.strip(" '\"") for cell in next(csv.reader([",".join(cells)], quotechar="'"))]
        if len(plain) != len(header):
            raise release.fault(path, line, f"{len(plain)} cells; the header has {len(header)}")
        codes = {au: _code(release, path, line, au, plain[place]) for au, place in sorted(places.items())}
        name = _base_name(release, path, line, plain[header.index("url")])
        yield Row(name=name, codes=codes, where=_where(release, path, line))


def _sheet(release: Release, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows of an Excel file's first sheet, as text."""
    try:
        from openpyxl import load_workbook  # type: ignore[import-untyped]
        from openpyxl.utils.exceptions import InvalidFileException  # type: ignore[import-untyped]
    except ImportError:
        raise ReleaseError(
            f'{release.relative(path)} is an Excel file: pip install "reactionnet[importers]" reads it'
        ) from None
    try:
        book = load_workbook(path, read_only=True, data_only=True)
        try:
            width = 0
            for line, values in enumerate(book.worksheets[0].iter_rows(values_only=True), 1):
                cells = [_text(value) for value in values]
                width = width or max((n for n, cell in enumerate(cells, 1) if cell), default=0)
                if any(cells):
                    yield line, (cells + [""] * width)[:width]
        finally:
            book.close()
    except (InvalidFileException, zipfile.BadZipFile, zlib.error, KeyError, OSError, SyntaxError) as error:
        raise ReleaseError(f"{release.relative(path)} is no whole Excel file in .xlsx: {error}") from error


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _code(release: Release, path: Path, line: int, au: int, text: str) -> str:
    if text in ("", NOT_ANNOTATED, "999.0"):
        return NOT_ANNOTATED
    if text not in _CODES:
        raise release.fault(path, line, f"AU {au} is {text!r}; expected 0, 1 or {NOT_ANNOTATED}")
    return str(_CODES[text])


def _base_name(release: Release, path: Path, line: int, url: str) -> str:
    name = unquote(urlsplit(url.strip(" '\"")).path).rpartition("/")[2]
    if not name:
        raise release.fault(path, line, f"address {url!r} names no picture")
    return name


def _where(release: Release, path: Path, line: int) -> str:
    return f"{release.relative(path)} line {line}"
