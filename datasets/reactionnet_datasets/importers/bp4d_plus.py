"""BP4D+: 140 subjects, tasks T1 to T10, of which T1, T6, T7 and T8 are coded: 197,756 frames, 34 action units.

Zhang et al., CVPR 2016 (the superset of MMSE-HR). Binghamton University's licence; nothing is downloaded. ROOT is the
folder that holds RawData:

    RawData/2D+3D/F001.zip              holds F001/T1/0000.jpg ...; or unpacked, 2D+3D/F001/T1/0000.jpg
    RawData/AUCoding/AU_OCC/F001_T1.csv               a header, then column 0 the frame from 1, 34 action units
    RawData/AUCoding/AU_INT/AU06/F001_T1_AU06.csv     frame,intensity, 0 to 5, 9 unknown; AU 6, 10, 12, 14, 17

Pictures count from 0 and codes from 1: frame f is picture f - 1 (`--frame-offset -1`). Columns are not contiguous, so
they are read by the header's numbers; where the header has words, by the 35 positions that FMAE-IAT published, and any
other width is refused. F041_T7, whose video is longer than its codes, is left out and noted. Thermal pictures, 3D and
physiology are not read. Where the reference leaves something open: a subject's zip is read in place, and an unpacked
folder beside it is preferred; pictures of a coded task without codes are an error. Folds: `bp4dplus-4fold`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reactionnet_datasets.about import CONFIRMED, About, Known, folds_of
from reactionnet_datasets.binghamton import (
    FPS,
    Codes,
    files_for,
    intensity_labels,
    intensity_tables,
    label_of,
    occurrence_rows,
    pictures_of,
    tables_in,
)
from reactionnet_datasets.clip import Clip, Pictures
from reactionnet_datasets.release import Release

AUS = (1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22, 23, 24, *range(27, 40))
CODED_TASKS = ("T1", "T6", "T7", "T8")
KNOWN_BAD = {"F041_T7": "its video and its codes differ in length"}

ABOUT = About(
    name="bp4d_plus",
    title="BP4D+: 140 subjects, ten tasks, four of them coded",
    markers=("RawData/AUCoding", "RawData/2D+3D"),
    terms="licence of Binghamton University, signed by faculty, a fee for some parts; no redistribution",
    ask="Binghamton University, Lijun Yin's group",
    license="LicenseRef-BP4D-Plus",
    papers=("ReactioNet (DRR)",),
    status=CONFIRMED,
    known=(
        Known(what="frames (whether F041_T7's are among them is not known)", count=197_756),
        Known(what="sequences (560 coded, without F041_T7)", count=559, of="videos"),
        Known(what="subjects", count=140, of="subjects"),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Options:
    frame_offset: int = -1


def read(release: Release, options: Options) -> Iterator[Clip]:
    """One clip a coded sequence. ReleaseError for tables of another data set and codes out of place."""
    pictures = release.first("RawData/2D+3D")
    tables = tables_in(release, release.first("RawData/AUCoding/AU_OCC", "RawData/AUCoding"))
    intensities = intensity_tables(release, "RawData/AUCoding/AU_INT")
    subjects = sorted({name.partition("_")[0] for name in tables})
    for path in release.listing(pictures, "[FM]*"):
        if path.name.partition(".")[0].upper() not in subjects:
            release.missing.append(f"codes of {path.name.partition('.')[0]} ({release.relative(path)} is there)")
    for subject in subjects:
        found = pictures_of(release, pictures, subject) or {}
        for name in sorted(set(found) - set(tables)):
            if name.partition("_")[2] in CODED_TASKS:
                release.missing.append(f"codes of {name} (its pictures are there)")
        for name in sorted(name for name in tables if name.partition("_")[0] == subject):
            if name in KNOWN_BAD:
                release.note("sequences left out as known to be bad", f"{name}: {KNOWN_BAD[name]}")
                continue
            codes = _codes(release, tables[name])
            where = f"{release.relative(pictures)}/{name.replace('_', '/')}"
            files = files_for(release, found.get(name, {}), codes.frames, options.frame_offset, where)
            labels = {f"au_occ_{au}": label_of("au_occ", codes.columns[au]) for au in AUS if au in codes.columns}
            yield Clip(
                video=name,
                subject=subject,
                frames=codes.frames,
                media=Pictures(files=files),
                fps=FPS,
                first_frame_number=1,
                labels=labels | intensity_labels(release, intensities, name, codes.frames),
                folds=folds_of("bp4d_plus", subject),
                facts={"frame_base": 1, "picture_base": 1 + options.frame_offset},
            )


def _codes(release: Release, path: Path) -> Codes:
    """Columns by action unit: as the header numbers them, or, where it has words, by position."""
    header, codes = occurrence_rows(release, path)
    if all(cell.strip("'\" ").upper().removeprefix("AU").strip().isdigit() for cell in header[1:]):
        aus = [int(cell.strip("'\" ").upper().removeprefix("AU")) for cell in header[1:]]
        unknown = sorted(set(aus) - set(AUS))
        if unknown or len(set(aus)) != len(aus):
            raise release.fault(
                path, 1, f"header names AU {unknown or aus}, which BP4D+ does not code: is this BP4D's?"
            )
        if lacking := sorted(set(AUS) - set(aus)):
            release.note("tables without some action units", f"{path.name}: AU {', '.join(map(str, lacking))}")
    elif len(header) == len(AUS) + 1:
        aus = list(AUS)
        release.note("tables read by position, their header has words", path.name)
    else:
        raise release.fault(path, 1, f"{len(header)} columns whose header has words; expected numbers, or 35 columns")
    return Codes(frames=codes.frames, columns={au: codes.columns[place] for place, au in enumerate(aus, 1)})
