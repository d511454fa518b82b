"""BP4D: 41 subjects, 8 tasks each, 146,847 frames coded for the occurrence of action units and 5 intensities.

Zhang et al., Image and Vision Computing 32(10), 2014. Binghamton University's licence; nothing is downloaded. Reads what
circulates under either spelling:

    Sequences(2D+3D)/F001/T1/2440.jpg    or 2D+3D/...; or F001.zip, or the video release: 2F01_01.avi anywhere up to two
                                         folders deep
    AUCoding/AU_OCC/F001_T1.csv          or AUCoding/F001_T1.csv: a header, column 0 the frame, column k AU k, the last a
                                         flag of occlusion; 0, 1, 9 unknown
    AU-Intensity-Codes3.0/AU06/F001_T1_06.csv    or AUCoding/AU_INT/AU06/F001_T1_AU06.csv: frame,intensity; may lack

Pictures are joined by number: frame n is the picture whose name is n with any padding (`--frame-offset` shifts), or the
nth picture of a video. Only coded frames are imported. Where the reference leaves something open: the header's words do
not matter, but units in another order than 1, 2, 3, ... are refused, and so are tables like BP4D+'s; every action unit
that anybody coded somewhere is a column, and the 12 of the protocols always are; pictures without codes are an error;
landmarks of the release differ by version and are not read. Folds: `bp4d-3fold`, `bp4d-fera2015`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from reactionnet_datasets.about import CONFIRMED, About, Finding, Known, folds_of, one_of
from reactionnet_datasets.binghamton import (
    FPS,
    UNKNOWN,
    Codes,
    files_for,
    intensity_labels,
    intensity_tables,
    label_of,
    occurrence_rows,
    pictures_of,
    tables_in,
)
from reactionnet_datasets.bp4d_segments import SEGMENTS
from reactionnet_datasets.clip import Clip, Pictures, Video
from reactionnet_datasets.protocols import load_protocol
from reactionnet_datasets.release import Release, ReleaseError

AUS = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)
BP4D_PLUS_WIDTH = 35
FRAMES_OF_PART = {1: 50_631, 2: 50_182, 3: 46_034}  # as ME-GraphAU and FMAE list them
# the video release counts tasks otherwise
TASK_OF_VIDEO = {"01": 1, "03": 2, "07": 3, "08": 4, "09": 5, "10": 6, "11": 7, "13": 8}
VIDEO = re.compile(r"2([FM])(\d{2})_(\d{2})\.(avi|mp4|mov)", re.IGNORECASE)

ABOUT = About(
    name="bp4d",
    title="BP4D-Spontaneous: 41 subjects, eight tasks that elicit emotion",
    markers=("AUCoding", "Sequences(2D+3D)|2D+3D|2[FM]??_??.*|*/2[FM]??_??.*|*/*/2[FM]??_??.*"),
    terms="licence of Binghamton University, signed by faculty, a fee for some parts; no redistribution",
    ask="Binghamton University, Lijun Yin's group",
    license="LicenseRef-BP4D",
    papers=("ReactioNet (DRR)", "ABAW6", "AAR"),
    status=CONFIRMED,
    known=(
        Known(what="frames", count=146_847),
        Known(what="sequences", count=328, of="videos"),
        Known(what="subjects", count=41, of="subjects"),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Options:
    frames: str = "auto"
    frame_offset: int = 0


def doctor(frames: pa.Table) -> list[Finding]:
    """First and last coded frame of every sequence, and the frames of each part of the folds."""
    from reactionnet_datasets.doctor import by_part

    spans = {
        row["video_id"]: (row["frame_min"], row["frame_max"])
        for row in frames.select(["video_id", "frame"])
        .set_column(0, "video_id", frames["video_id"].cast(pa.string()))
        .group_by("video_id")
        .aggregate([("frame", "min"), ("frame", "max")])
        .to_pylist()
    }
    other = sorted(name for name, span in SEGMENTS.items() if spans.get(name) != span)
    verdict = f"DIFFERS by {-len(other):+} ({', '.join(other[:3])}, ...)" if other else "OK"
    found = str(len(SEGMENTS) - len(other))
    segments = Finding(what="coded segments as known", expected=str(len(SEGMENTS)), found=found, verdict=verdict)
    return [segments, *by_part(frames, load_protocol("bp4d-3fold"), FRAMES_OF_PART)]


def read(release: Release, options: Options) -> Iterator[Clip]:
    """One clip a sequence. ReleaseError for tables of another data set and codes out of place."""
    one_of("frames", options.frames, ("auto", "images", "video"))
    coding = release.first("AUCoding/AU_OCC", "AUCoding")
    tables = tables_in(release, coding)
    if not tables:
        raise release.not_here("bp4d: AUCoding/AU_OCC/F001_T1.csv or AUCoding/F001_T1.csv")
    aus, flagged = _coded(release, tables)
    intensities = intensity_tables(release, "AU-Intensity-Codes3.0", "AUCoding/AU_INT")
    pictures = release.find("Sequences(2D+3D)") or release.find("2D+3D")
    if options.frames == "video" or (options.frames == "auto" and pictures is None):
        media = _media_of_videos(release, tables, options)
    elif pictures is not None:
        media = _media_of_pictures(release, pictures, tables, options)
    else:
        raise release.not_here("bp4d: Sequences(2D+3D) or 2D+3D")
    for name, codes, pictured in media:
        labels = {f"au_occ_{au}": label_of("au_occ", codes.columns[au]) for au in aus}
        if flagged:
            labels["occluded"] = label_of("number", codes.columns[max(codes.columns)])
        subject = name.partition("_")[0]
        yield Clip(
            video=name,
            subject=subject,
            frames=codes.frames,
            media=pictured,
            fps=FPS,
            first_frame_number=1,
            labels=labels | intensity_labels(release, intensities, name, codes.frames),
            folds=folds_of("bp4d", subject),
            facts={"frame_base": 1},
        )


def _coded(release: Release, tables: Mapping[str, Path]) -> tuple[tuple[int, ...], bool]:
    """The action units that anybody coded anywhere, and whether the last column flags anything."""
    aus, widths, flagged = set(AUS), set(), False
    for path in tables.values():
        codes = _codes(release, path)
        last = max(codes.columns)
        widths.add(last)
        aus |= {au for au, column in codes.columns.items() if au < last and set(column) != {UNKNOWN}}
        flagged |= set(codes.columns[last]) != {UNKNOWN}
    if len(widths) > 1:
        raise ReleaseError(f"tables of occurrences are {' and '.join(map(str, sorted(widths)))} codes wide")
    return tuple(sorted(aus)), flagged


def _codes(release: Release, path: Path) -> Codes:
    header, codes = occurrence_rows(release, path)
    # the first cell is of frames, the last of the flag, whatever they say
    named = [re.sub(r"^AU ?0*|['\" ]", "", cell, flags=re.IGNORECASE) for cell in header[1:-1]]
    in_order = named == [str(au) for au in range(1, len(header) - 1)]
    if len(header) == BP4D_PLUS_WIDTH and not in_order:
        raise release.fault(
            path, 1, f"{BP4D_PLUS_WIDTH} columns: that is how BP4D+ codes, whose columns are other units"
        )
    if all(name.isdigit() for name in named) and not in_order:
        raise release.fault(path, 1, f"header {','.join(header[:9])},...; expected 0,1,2,3,...: column k is AU k")
    if max(codes.columns) <= max(AUS):
        raise release.fault(path, 1, f"{len(header)} columns; expected one for each AU to {max(AUS)}, and a flag")
    return codes


Sequence = tuple[str, Codes, Pictures | Video]


def _media_of_pictures(
    release: Release, pictures: Path, tables: Mapping[str, Path], options: Options
) -> Iterator[Sequence]:
    names_of: dict[str, list[str]] = {}
    for name in sorted(tables):
        names_of.setdefault(name.partition("_")[0], []).append(name)
    for path in release.listing(pictures, "[FM]*"):
        subject = path.name.partition(".")[0].upper()
        if subject not in names_of:
            release.missing.append(f"codes of {subject} ({release.relative(path)} is there)")
    for subject, names in names_of.items():
        found = pictures_of(release, pictures, subject) or {}
        for name in sorted(set(found) - set(names)):
            release.missing.append(f"codes of {name} (its pictures are there)")
        for name in names:
            codes = _codes(release, tables[name])
            where = f"{release.relative(pictures)}/{name.replace('_', '/')}"
            files = files_for(release, found.get(name, {}), codes.frames, options.frame_offset, where)
            yield name, codes, Pictures(files=files)


def _media_of_videos(release: Release, tables: Mapping[str, Path], options: Options) -> Iterator[Sequence]:
    videos: dict[str, Path] = {}
    for depth in ("", "*/", "*/*/"):
        for path in sorted(release.root.glob(f"{depth}*")):
            if match := VIDEO.fullmatch(path.name):
                if match[3] not in TASK_OF_VIDEO:
                    raise ReleaseError(f"{release.relative(path)}: task {match[3]}; known: {', '.join(TASK_OF_VIDEO)}")
                name = f"{match[1].upper()}0{match[2]}_T{TASK_OF_VIDEO[match[3]]}"
                if name in videos:
                    raise ReleaseError(f"{release.relative(path)} and {release.relative(videos[name])} are both {name}")
                videos[name] = path
    for name in sorted(set(videos) - set(tables)):
        release.missing.append(f"codes of {name} ({release.relative(videos[name])} is there)")
    for name in sorted(tables):
        if name not in videos:
            release.missing.append(f"video of {name}")
            continue
        file = release.file(videos[name])
        codes = _codes(release, tables[name])
        if file is not None:
            places = [frame - 1 + options.frame_offset for frame in codes.frames]
            if places[0] < 0:
                raise ReleaseError(f"{name}: frame {codes.frames[0]} would be picture {places[0]} of the video")
            yield name, codes, Video(file=file, places=places)
