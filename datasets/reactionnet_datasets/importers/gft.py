"""GFT, Group Formation Task: 96 people in triads, one minute each, 172,800 frames with occurrences of action units.

Girard et al., FG 2017; osf.io/7wcyz. The wiki's annotations are CC-BY-4.0, videos need an agreement with the University of
Pittsburgh; nothing is downloaded. **The names and columns of the released files are unconfirmed**, so everything is
driven by what the headers say. Accepted is this form, as one table or one a subject:

    annotations/*.csv or *.csv     subject,frame,AU1,AU2,AU4,...     frames count from 1; `--annotations` names the place
    images/001A/1.jpg              or videos/001A.mp4 (avi), or in any one folder; `--pictures` names it

A column is an action unit if its name matches `AU ?0*N`; a table without a header, or without a frame column, is refused,
and no column is assumed. A table without a subject column is its file's subject's (`001A.csv`). 0 and 1 are values;
`--missing-codes 9,999,-1` are masked `uncodable`, other codes are refused. The official 78 training and 18 test subjects
were not found published: `--partition FILE` with `subject,train|test` lines gives them, else there are no splits.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from reactionnet_datasets.about import UNCONFIRMED, About, Known
from reactionnet_datasets.clip import Clip, Pictures, Video, per_frame
from reactionnet_datasets.release import Release, ReleaseError

FPS = 30.0  # 1,800 frames a minute
VIDEOS = (".mp4", ".avi", ".mov", ".mkv")
_AU = re.compile(r"AU ?0*(\d+)", re.IGNORECASE)

ABOUT = About(
    name="gft",
    title="GFT, Sayette Group Formation Task: 96 people, three at a table",
    markers=(),
    terms="annotations CC-BY-4.0; videos by signed agreement with the University of Pittsburgh; no redistribution",
    ask="osf.io/7wcyz",
    license="LicenseRef-GFT",
    papers=("AAR",),
    status=UNCONFIRMED,
    listed=False,
    known=(
        Known(what="frames", count=172_800),
        Known(what="subjects", count=96, of="subjects"),
        Known(what="subjects in train", count=78, of="subjects", where={"split_all": "train"}),
        Known(what="subjects in test", count=18, of="subjects", where={"split_all": "test"}),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Options:
    annotations: str = "auto"
    pictures: str = "auto"
    partition: Path | None = None
    missing_codes: str = "9,999,-1"


@dataclass(frozen=True, kw_only=True)
class Row:
    """Codes of one frame by action unit, as written."""

    frame: int
    codes: Mapping[int, str]


def markers(options: Options) -> tuple[str, ...]:
    """Tables and pictures, wherever the options say that they are."""
    tables = "annotations/*.csv|*.csv|*/*.csv" if options.annotations == "auto" else options.annotations
    places = "images|frames|pictures|videos|[0-9][0-9][0-9][a-z]*|*/[0-9][0-9][0-9][a-z]*"
    return tables, places if options.pictures == "auto" else options.pictures


def read(release: Release, options: Options) -> Iterator[Clip]:
    """One clip a subject. ReleaseError for a table whose header does not say what its columns are."""
    missing = {code.strip() for code in options.missing_codes.split(",") if code.strip()}
    partition = _partition(_place_of(release, options.partition)) if options.partition else {}
    if not partition and (lying := release.find("partition.csv")) is not None:
        release.note("partitions that were not used (--partition)", lying.name)
    tables = _tables(release, options)
    pictures = _pictures(release, options)
    subjects = {subject: path for path in tables for subject in _subjects(release, path)}
    if unknown := sorted(set(partition) - set(subjects)):
        raise ReleaseError(f"--partition names {', '.join(unknown[:5])}, of whom there are no codes")
    unlabelled = sorted(path.name for path in pictures if path.stem not in subjects and _holds_pictures(release, path))
    release.missing += [f"codes of {name} (its pictures are there)" for name in unlabelled]
    for subject, path in sorted(subjects.items()):
        if partition and subject not in partition:
            raise ReleaseError(f"--partition {options.partition} does not say where {subject} belongs")
        rows = sorted((row for who, row in _rows(release, path) if who == subject), key=lambda row: row.frame)
        if twice := [a.frame for a, b in itertools.pairwise(rows) if a.frame == b.frame]:
            raise ReleaseError(f"{release.relative(path)}: frame {twice[0]} of {subject} twice")
        media = _media(release, pictures, subject, [row.frame for row in rows])
        if media is None:
            continue
        yield Clip(
            video=subject,
            subject=subject,
            frames=[row.frame for row in rows],
            media=media,
            fps=FPS,
            first_frame_number=1,
            labels=_labels(rows, missing, f"{release.relative(path)}, {subject}"),
            splits={"all": partition[subject]} if partition else {},
            facts={"frame_base": 1, "format": UNCONFIRMED},
        )


def _tables(release: Release, options: Options) -> list[Path]:
    if options.annotations != "auto":
        place = release.first(options.annotations)
        return release.listing(place, "*.csv") if place.is_dir() else [place]
    for folder in (release.find("annotations"), release.root):
        if folder is not None and (
            found := [p for p in release.listing(folder, "*.csv") if not _splits(release, p, options)]
        ):
            return found
    below = [path for path in release.listing(release.root) if path.is_dir() and release.listing(path, "*.csv")]
    if len(below) == 1:
        return release.listing(below[0], "*.csv")
    raise release.not_here("gft: *.csv or annotations/*.csv with the header subject,frame,AU1,AU2,...")


def _splits(release: Release, path: Path, options: Options) -> bool:
    """Whether a table is the partition, which may lie beside the codes."""
    if options.partition is not None:
        place = _place_of(release, options.partition)
        return place.exists() and path.samefile(place)
    return path.stem.lower() == "partition"


def _place_of(release: Release, partition: Path) -> Path:
    """Where the partition lies: as given, or in ROOT."""
    return partition if partition.exists() else release.root / partition


def _header(release: Release, path: Path) -> tuple[list[str], int | None, int, dict[int, int]]:
    """The cells of the header, the places of subject and frame, and of each action unit."""
    _, cells = next(release.rows(path), (0, []))
    names = [cell.strip("'\" ").lower() for cell in cells]
    aus = {int(match[1]): place for place, name in enumerate(names) if (match := _AU.fullmatch(name))}
    if not aus or "frame" not in names:
        raise ReleaseError(
            f"{release.relative(path)} begins with {','.join(cells[:6]) or 'nothing'}; expected a header such as"
            " subject,frame,AU1,AU2,...: the columns of GFT are not guessed"
        )
    if len(aus) != sum(bool(_AU.fullmatch(name)) for name in names):
        raise ReleaseError(f"{release.relative(path)} names an action unit twice")
    return cells, names.index("subject") if "subject" in names else None, names.index("frame"), aus


def _subjects(release: Release, path: Path) -> list[str]:
    _, subject, _, _ = _header(release, path)
    if subject is None:
        return [path.stem]
    return sorted({cells[subject] for _, cells in list(release.rows(path))[1:] if len(cells) > subject})


def _rows(release: Release, path: Path) -> Iterator[tuple[str, Row]]:
    header, subject, frame, aus = _header(release, path)
    rows = release.rows(path)
    next(rows)
    for line, cells in rows:
        if len(cells) != len(header):
            raise release.fault(path, line, f"{len(cells)} cells; the header has {len(header)}")
        who = path.stem if subject is None else cells[subject]
        codes = {au: cells[place] for au, place in aus.items()}
        yield who, Row(frame=release.whole(path, line, cells[frame], "frame"), codes=codes)


def _labels(rows: list[Row], missing: set[str], where: str) -> dict:
    labels = {}
    for au in rows[0].codes:
        codes = [row.codes[au] for row in rows]
        if wrong := sorted({code for code in codes if code not in missing and code not in ("", "0", "1")}):
            raise ReleaseError(f"{where}: AU {au} is {wrong[0]!r}; expected 0, 1 or one of --missing-codes")
        masks = ["uncodable" if c in missing else "not_annotated" if c == "" else "valid" for c in codes]
        values = [int(c) if mask == "valid" else None for c, mask in zip(codes, masks, strict=True)]
        labels[f"au_occ_{au}"] = per_frame("au_occ", values, masks, [code or None for code in codes])
    return labels


def _pictures(release: Release, options: Options) -> list[Path]:
    """Folders of pictures, or videos, one a subject."""
    names = ("images", "frames", "pictures", "videos") if options.pictures == "auto" else (options.pictures,)
    for name in names:
        if (folder := release.find(name)) is not None and folder.is_dir():
            return release.listing(folder)
    if options.pictures == "auto":
        for folder in (release.root, *(path for path in release.listing(release.root) if path.is_dir())):
            if found := [path for path in release.listing(folder) if _is_media(path)]:
                return found
    raise release.not_here(f"gft: pictures in {' or '.join(names)}/001A/1.jpg, or videos/001A.mp4")


def _is_media(path: Path) -> bool:
    return path.suffix.lower() in VIDEOS or (path.is_dir() and re.fullmatch(r"\d{3}[A-Za-z]", path.name) is not None)


def _holds_pictures(release: Release, path: Path) -> bool:
    return path.suffix.lower() in VIDEOS or (path.is_dir() and bool(release.pictures(path)))


def _media(release: Release, places: list[Path], subject: str, frames: list[int]) -> Pictures | Video | None:
    folder = next((path for path in places if path.is_dir() and path.name.lower() == subject.lower()), None)
    if folder is not None:
        named = {}
        for path in release.pictures(folder):
            number = path.stem.removeprefix(f"{subject}_")
            if not number.isdigit() or int(number) in named:
                raise ReleaseError(
                    f"{release.relative(path)}: expected pictures named by number, each once, such as 1.jpg"
                )
            named[int(number)] = path
        where = release.relative(folder)
        return Pictures(files=[release.file(named.get(frame) or f"{where}/{frame}.jpg") for frame in frames])
    video = next((p for p in places if p.suffix.lower() in VIDEOS and p.stem.lower() == subject.lower()), None)
    if video is None or (file := release.file(video)) is None:
        release.missing.append(f"pictures or video of {subject}")
        return None
    return Video(file=file, places=[frame - 1 for frame in frames])


def _partition(path: Path) -> dict[str, str]:
    splits: dict[str, str] = {}
    release = Release(path.parent)
    for line, cells in release.rows(path):
        if line == 1 and len(cells) == 2 and cells[0].lower() in ("subject", "subject_id", "id"):
            continue
        if len(cells) != 2 or cells[1].lower() not in ("train", "test", "val"):
            raise release.fault(path, line, f"{','.join(cells)}; expected subject,train or subject,test")
        if splits.setdefault(cells[0], cells[1].lower()) != cells[1].lower():
            raise release.fault(path, line, f"{cells[0]} is in two splits")
    return splits
