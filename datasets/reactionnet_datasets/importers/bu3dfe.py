"""BU-3DFE: 100 subjects, each with a neutral face and six expressions posed at four levels; one still (and scan) each.

Yin et al., FG 2006. Access by Binghamton University's licence; nothing is downloaded. Reads, below ROOT or its BU_3DFE:

    F0001/F0001_AN01WH_F2D.bmp       subject, expression (AN DI FE HA NE SA SU), level (01-04; NE00), race, the picture
    F0001/F0001_AN01WH_F3D.wrl       ..._RAW.wrl and other forms of the same scan, which are not opened

Labels are what names say: there is no annotation file. Where the reference leaves something open: the codes of race
(WH BL AE AM IN LA are recalled) are stored as they are written, in lower case, under `ethnicity`; gender is the first letter
of the subject; levels are `expression_level` 1-4, and 0 for neutral. Scans stay where they are: `scans` in a record's
provenance names them. A scan without its picture is missing; a subject with fewer than 25 pictures is counted, since no
list says what a copy should hold; a subject's archive without its folder is an error, and so is an empty folder. Nobody
published folds: `bu3dfe-10fold-ours-v1` takes every tenth subject.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reactionnet_datasets.about import PARTLY, About, Known, folds_of
from reactionnet_datasets.clip import Clip, Pictures, one
from reactionnet_datasets.release import PICTURE_SUFFIXES, Release, ReleaseError
from reactionnet_datasets.sample import Label

EXPRESSIONS = {
    "AN": "anger", "DI": "disgust", "FE": "fear", "HA": "happiness", "NE": "neutral", "SA": "sadness", "SU": "surprise",
}  # fmt: skip
SCANS_OF_A_SUBJECT = 25  # neutral, and six expressions at four levels
_SUBJECT = "[FM][0-9][0-9][0-9][0-9]"
_SCAN = re.compile(r"([FM]\d{4})_([A-Z]{2})(\d{2})([A-Z]{2})(?:_([A-Z0-9]+))?", re.IGNORECASE)

ABOUT = About(
    name="bu3dfe",
    title="BU-3DFE: 100 subjects posing six expressions at four levels",
    markers=(f"{_SUBJECT}|BU?3DFE/{_SUBJECT}",),
    terms="Binghamton University's licence; no redistribution",
    ask="Binghamton University, Lijun Yin's group",
    license="LicenseRef-BU-3DFE",
    papers=("ReactioNet (DRR)",),
    status=PARTLY,
    listed=False,
    known=(
        Known(what="scans", count=2_500),
        Known(what="subjects", count=100, of="subjects"),
        Known(what="neutral faces", count=100, where={"expression": "neutral"}),
        *(Known(what=f"faces of {name}", count=400, where={"expression": name})
          for name in sorted(set(EXPRESSIONS.values()) - {"neutral"})),
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Options:
    pass


def read(release: Release, options: Options) -> Iterator[Clip]:
    """One clip a picture. ReleaseError for a picture whose name does not say what it shows."""
    top = release.root if release.listing(release.root, _SUBJECT) else release.first("BU_3DFE", "BU-3DFE")
    folders = [path for path in release.listing(top, _SUBJECT) if path.is_dir()]
    for folder in folders:
        yield from _read_subject(release, folder)


def _read_subject(release: Release, folder: Path) -> Iterator[Clip]:
    pictures: dict[str, Path] = {}
    scans: dict[str, list[str]] = {}
    for path in release.listing(folder):
        match = _SCAN.fullmatch(path.stem)
        kind = (match[5] or "").upper() if match else ""
        is_picture = path.suffix.lower() in PICTURE_SUFFIXES
        if is_picture and (kind == "F2D" or match is None):
            name = _checked(release, path)
            if name in pictures:
                raise ReleaseError(f"{release.relative(path)} and {pictures[name].name}: which one is meant?")
            pictures[name] = path
        elif match is not None:
            scans.setdefault(_checked(release, path), []).append(release.relative(path))
        else:
            release.note("files whose names say nothing of a scan", release.relative(path))
    for name in sorted(scans.keys() - pictures.keys()):
        release.missing.append(f"{release.relative(folder)}/{name}_F2D.bmp")
    if 0 < len(pictures.keys() | scans.keys()) < SCANS_OF_A_SUBJECT:
        release.note(f"subjects with fewer than {SCANS_OF_A_SUBJECT} scans", f"{folder.name}: {len(pictures)}")
    for name, path in sorted(pictures.items()):
        yield Clip(
            video=name,
            subject=name[:5],
            frames=(0,),
            media=Pictures(files=(release.file(path),)),
            labels=_labels(name),
            folds=folds_of("bu3dfe", name[:5]),
            facts={"scans": scans[name]} if name in scans else {},
        )


def _checked(release: Release, path: Path) -> str:
    """A scan's name (`F0001_AN01WH`), in capitals, if it says what it should."""
    match = _SCAN.fullmatch(path.stem)
    expected = "expected SUBJECT_EXPRESSIONLEVELRACE_F2D, such as F0001_AN01WH_F2D.bmp"
    if match is None:
        raise ReleaseError(f"{release.relative(path)}: {expected}")
    subject, expression, level, race = (part.upper() for part in match.groups()[:4])
    if subject != path.parent.name.upper():
        raise ReleaseError(f"{release.relative(path)} lies in the folder of another subject")
    if expression not in EXPRESSIONS or not (int(level) == 0 if expression == "NE" else 1 <= int(level) <= 4):
        raise ReleaseError(f"{release.relative(path)}: {expression}{level}; {expected}")
    return f"{subject}_{expression}{level}{race}"


def _labels(name: str) -> dict[str, Label]:
    code, level, race = name[6:8], int(name[8:10]), name[10:12]
    return {
        "expression": one("bu3dfe7", EXPRESSIONS[code], raw=code),
        "expression_level": one("level", level),
        "gender": one("female_male", "female" if name[0] == "F" else "male"),
        "ethnicity": one("ethnicity", race.lower(), raw=race),
    }
