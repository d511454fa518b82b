"""FER+: ten annotators' votes for each of FER2013's 35,887 grey 48x48 pictures, eight emotions, unknown, no face.

Barsoum et al., ICMI 2016; github.com/microsoft/FERPlus. The votes are under the MIT licence, the pixels come from Kaggle's
FER2013; nothing is downloaded. ROOT holds one of two forms:

    fer2013.csv                 emotion,pixels,Usage: pictures as text, and FER2013's own class
    fer2013new.csv              Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF
    FER2013Train/fer0000000.png, label.csv; FER2013Valid/, FER2013Test/         as the owners' script writes them; also in data/
                                rows of label.csv: fer0032220.png,"(0, 0, 48, 48)",0,0,0,0,2,1,0,7,0,0
                                (where there is no label.csv, fer2013new.csv is read in its place)

Stored are the ten counts, `votes_neutral` ... `votes_contempt`, `votes_unknown`, `votes_nf`, and of the first form FER2013's
class as `expression_fer2013`. Which emotion they make is a rule of the reader (`ferplus:majority` and others): results under
different rules are not comparable. Training is `train`, PublicTest `val`, PrivateTest `test`. Rows of the two tables are the
same pictures in the same order: another number of rows, or another usage, is an error. Where the reference leaves something
open: rows without an image name (148, 10 and 15; nobody saw a face) are counted and left out, as the owners' script does;
`--unnamed yes` imports them as `row-0000005`. Where ROOT has both forms, `--form auto` takes the tables.
"""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reactionnet_datasets.about import CONFIRMED, About, Known, class_at, one_of
from reactionnet_datasets.clip import Clip, GreyPixels, Pictures, one
from reactionnet_datasets.labels import classes_of
from reactionnet_datasets.release import Release, ReleaseError
from reactionnet_datasets.sample import Label

VOTES = (*classes_of("ferplus8"), "unknown", "NF")  # in the order of the columns
FER2013 = classes_of("fer2013_7")
SIZE = 48
SPLIT_OF_USAGE = {"training": "train", "publictest": "val", "privatetest": "test"}
FOLDERS = {"FER2013Train": "train", "FER2013Valid": "val", "FER2013Test": "test"}
# Pictures that a rule gives an emotion: train, val, test; counted in the owners' tables.
COUNTS = {
    "majority": (25_060, 3_199, 3_153),
    "probability": (27_956, 3_505, 3_505),
    "multi_target": (27_671, 3_472, 3_472),
    "argmax8": (28_559, 3_579, 3_573),
    "argmax10": (28_389, 3_553, 3_546),
}
MAJORITY = {  # neutral to contempt
    "train": (8740, 7287, 3149, 3014, 2100, 119, 532, 119),
    "val": (1182, 865, 415, 351, 287, 24, 62, 13),
    "test": (1090, 893, 396, 384, 273, 18, 83, 16),
}
_BOX = re.compile(r"\(\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\)")

ABOUT = About(
    name="ferplus",
    title="FER+: ten annotators' votes for the pictures of FER2013",
    markers=("fer2013new.csv|FER2013Train|data/FER2013Train",),
    terms="votes MIT; FER2013's pixels under the terms of Kaggle's challenge",
    ask="github.com/microsoft/FERPlus; kaggle.com (fer2013)",
    license="LicenseRef-FER2013",
    papers=("ReactioNet (DRR)",),
    status=CONFIRMED,
)
# rows with an image name
KNOWN = (
    Known(what="train", count=28_561, where={"split_all": "train"}),
    Known(what="val (PublicTest)", count=3_579, where={"split_all": "val"}),
    Known(what="test (PrivateTest)", count=3_574, where={"split_all": "test"}),
)


@dataclass(frozen=True, kw_only=True)
class Options:
    form: str = "auto"
    unnamed: bool = False


def doctor(frames):
    """Pictures by split, and how many of them each rule gives an emotion; for the majority, which."""
    from reactionnet_datasets.doctor import compare, count
    from reactionnet_datasets.rules import FERPLUS_VOTES, Values, make_rule

    named = frames.filter([not video.startswith("row-") for video in frames["video_id"].to_pylist()])
    findings = [compare(known.what, known.count, count(named, known)) for known in KNOWN]
    columns = {
        f"votes_{name}": Values(values=frames[f"votes_{name}"].to_pylist(), space="votes") for name in FERPLUS_VOTES
    }
    split_of = np.array(frames["split_all"].to_pylist())
    for rule, counts in COUNTS.items():
        _, valid = make_rule("expression", f"ferplus:{rule}").derive(columns)
        for split, expected in zip(MAJORITY, counts, strict=True):
            findings.append(compare(f"{split}, ferplus:{rule}", expected, int((valid & (split_of == split)).sum())))
    targets, _ = make_rule("expression", "ferplus:majority").derive(columns)
    for split, numbers in MAJORITY.items():
        for index, expected in enumerate(numbers):
            found = int(((targets == index) & (split_of == split)).sum())
            findings.append(compare(f"{split}, majority for {VOTES[index]}", expected, found))
    return findings


def read(release: Release, options: Options) -> Iterator[Clip]:
    """One clip a picture."""
    one_of("form", options.form, ("auto", "tables", "folders"))
    tables = [release.find(name) for name in ("fer2013new.csv", "fer2013.csv")]
    train = release.find("FER2013Train") or release.find("data/FER2013Train")
    if options.form == "tables" or (options.form == "auto" and (all(tables) or train is None)):
        return _read_tables(release, options)
    if train is None:
        raise release.not_here("FER2013Train, FER2013Valid and FER2013Test")
    if not release.pictures(train) and not all(tables):
        names = [release.relative(path) for path in tables if path] or ["no fer2013.csv"]
        raise release.not_here(f"pictures in {release.relative(train)}, or fer2013.csv beside {', '.join(names)}")
    return _read_folders(release, train.parent)


def _read_tables(release: Release, options: Options) -> Iterator[Clip]:
    votes_path, pixels_path = release.first("fer2013new.csv"), release.first("fer2013.csv")
    file = release.file(pixels_path)
    if file is None:
        return
    votes = release.records(votes_path, ("Usage", "Image name", *VOTES))
    pixels = release.records(pixels_path, ("emotion", "pixels", "Usage"))
    seen: set[str] = set()
    for number, ((line, row), (other, picture)) in enumerate(
        _together(release, votes_path, pixels_path, votes, pixels)
    ):
        split = SPLIT_OF_USAGE.get(row["Usage"].lower())
        if split is None:
            raise release.fault(
                votes_path, line, f"usage {row['Usage']!r}; expected Training, PublicTest or PrivateTest"
            )
        if row["Usage"].lower() != picture["Usage"].lower():
            raise release.fault(
                pixels_path, other, f"usage {picture['Usage']}, but {row['Usage']} in {votes_path.name} line {line}: the"
                " rows are not of the same pictures",
            )  # fmt: skip
        name = row["Image name"].rpartition(".")[0] or row["Image name"]
        if not name:
            release.note(f"rows of {row['Usage']} without an image name", f"{votes_path.name} line {line}")
            if not options.unnamed:
                continue
            name = f"row-{number:07d}"
        if name in seen:
            raise release.fault(votes_path, line, f"{name} is listed before")
        seen.add(name)
        emotion = release.whole(pixels_path, other, picture["emotion"], "emotion")
        if (value := class_at(FER2013, emotion)) is None:
            raise release.fault(pixels_path, other, f"emotion {emotion}; expected 0 to 6")
        labels = _votes(release, votes_path, line, [row[name] for name in VOTES])
        labels["expression_fer2013"] = one("fer2013_7", value, raw=str(emotion))
        text = _pixels(release, pixels_path, other, picture["pixels"])
        yield Clip(
            video=name,
            frames=(0,),
            media=GreyPixels(file=file, width=SIZE, height=SIZE, pixels=[text]),
            labels=labels,
            splits={"all": split},
        )


def _together(release: Release, first: Path, second: Path, votes: Iterator, pixels: Iterator) -> Iterator:
    try:
        yield from zip(votes, pixels, strict=True)
    except ValueError as error:
        if "zip()" not in str(error):
            raise
        raise ReleaseError(
            f"{release.relative(first)} and {release.relative(second)} differ in their number of rows: one is cut off"
        ) from None


def _pixels(release: Release, path: Path, line: int, text: str) -> str:
    try:
        grey = np.array(text.split(), np.int64)
    except (ValueError, OverflowError):
        grey = np.array([-1])
    if len(grey) != SIZE * SIZE or grey.min() < 0 or grey.max() > 255:
        raise release.fault(path, line, f"expected {SIZE * SIZE} pixels from 0 to 255; found {len(text.split())} words")
    return base64.b64encode(grey.astype(np.uint8).tobytes()).decode()


def _votes(release: Release, path: Path, line: int, cells: list[str]) -> dict[str, Label]:
    labels = {}
    for name, cell in zip(VOTES, cells, strict=True):
        votes = release.whole(path, line, cell, f"votes for {name}")
        if not 0 <= votes <= 10:
            raise release.fault(path, line, f"{votes} votes for {name}; expected 0 to 10")
        labels[f"votes_{name.lower()}"] = one("votes", votes)
    return labels


def _rows_of(release: Release, path: Path, split: str) -> Iterator[tuple[int, list[str]]]:
    """Rows of a folder's label.csv, or those of its split in fer2013new.csv in the same form."""
    if path.name.lower() == "label.csv":
        yield from release.rows(path)
        return
    for line, row in release.records(path, ("Usage", "Image name", *VOTES)):
        if (usage := row["Usage"].lower()) not in SPLIT_OF_USAGE:
            raise release.fault(path, line, f"usage {usage!r}; expected Training, PublicTest or PrivateTest")
        if SPLIT_OF_USAGE[usage] != split:
            continue
        if row["Image name"]:
            yield line, [row["Image name"], f"(0, 0, {SIZE}, {SIZE})", *(row[name] for name in VOTES)]
        else:
            release.note(f"rows of {row['Usage']} without an image name", f"{path.name} line {line}")


def _read_folders(release: Release, top: Path) -> Iterator[Clip]:
    seen: set[str] = set()
    for name, split in FOLDERS.items():
        relative = name if top == release.root else f"{release.relative(top)}/{name}"
        folder = release.find(relative)
        if folder is None:
            raise release.not_here(f"{relative} beside {' and '.join(sorted(set(FOLDERS) - {name}))}")
        path = release.find(f"{relative}/label.csv") or release.find("fer2013new.csv")
        if path is None:
            raise release.not_here(f"{relative}/label.csv, or fer2013new.csv")
        unlisted = {picture.name.lower() for picture in release.pictures(folder)}
        for line, cells in _rows_of(release, path, split):
            match = _BOX.fullmatch(cells[1]) if len(cells) == 2 + len(VOTES) else None
            if match is None:
                raise release.fault(
                    path, line, f'{len(cells)} cells; expected a name, a box such as "(0, 0, 48, 48)" and ten votes'
                )
            stem = cells[0].rpartition(".")[0]
            if stem in seen:
                raise release.fault(path, line, f"{cells[0]} is listed before")
            seen.add(stem)
            unlisted.discard(cells[0].lower())
            left, top_, right, bottom = map(int, match.groups())
            file = release.file(f"{relative}/{cells[0]}")
            if file is not None:
                yield Clip(
                    video=stem,
                    frames=(0,),
                    media=Pictures(files=(file,)),
                    labels=_votes(release, path, line, cells[2:]),
                    splits={"all": split},
                    boxes=[[left, top_, right - left, bottom - top_]],
                )
        release.missing += [f"votes for {relative}/{picture} (it is there)" for picture in sorted(unlisted)]
