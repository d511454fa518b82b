"""ReactioNet (Li et al., ICCV 2023): clips of people who react, with what they watch, 17 action units and captions.

**The layout of the release is unconfirmed**: no reader, no list of files is public. What is read is a neutral manifest
that a licence holder makes from what they received; it is never to be called the release's format:

    manifest.csv        clip_id,frame,reaction_path,stimulus_path,subject,scene,subscene,expr,au1_occ,au1_int,...,caption,split

One row a picture; paths are relative to ROOT. An empty cell is not annotated. Expressions and scenes are names, in any of
the usual spellings; action units' columns may lack, and so may every column but clip_id, frame and reaction_path. A
caption is a human's (the paper's were corrected by hand). Where the reference leaves something open: occurrences are 0 or
1 and intensities 0 to 5; a clip has one subject and one split; a subject in two splits is refused; the frame rate is
unknown and `--fps` says it (30 without); columns that are not named above are refused, so that no label is lost to a typo.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reactionnet_datasets.about import UNCONFIRMED, About, Known
from reactionnet_datasets.clip import Clip, Pictures, per_frame
from reactionnet_datasets.labels import CLASSES, REACTIONNET_AUS, class_name
from reactionnet_datasets.release import Release, ReleaseError
from reactionnet_datasets.sample import Label

REQUIRED = ("clip_id", "frame", "reaction_path")
COLUMNS = (*REQUIRED, "stimulus_path", "subject", "scene", "subscene", "expr", "caption", "split")
_AU = re.compile(r"au(\d+)_(occ|int)")
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "devel": "val", "test": "test"}

ABOUT = About(
    name="reactionnet",
    title="ReactioNet: reaction videos with what is watched, read from a neutral manifest",
    markers=("manifest.csv",),
    terms="on request; research only; pictures from Creative Commons videos",
    ask="the authors (Binghamton University, Lijun Yin's group)",
    license="LicenseRef-ReactioNet",
    papers=("ReactioNet (DRR)",),
    status=UNCONFIRMED,
    known=(  # as the paper says; how the release counts is not known
        Known(what="clips", count=2_486, of="videos", recalled=True),
        Known(what="subjects (about)", count=1_566, of="subjects", recalled=True),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Options:
    manifest: str = "manifest.csv"
    fps: float = 30.0


def markers(options: Options) -> tuple[str, ...]:
    """The manifest, whatever it is called."""
    return (f"{options.manifest}|*.csv" if options.manifest == "manifest.csv" else options.manifest,)


def read(release: Release, options: Options) -> Iterator[Clip]:
    """One clip a clip_id. ReleaseError for an unknown column, and for a value that is none, with its line."""
    path = _manifest(release, options)
    split_of: dict[str, str] = {}
    for clip_id, rows in _clips(release, path):
        cells = [cells for _, cells in rows]
        subject, split = (_constant(release, path, rows, name) for name in ("subject", "split"))
        if split and split.lower() not in SPLITS:
            raise release.fault(path, rows[0][0], f"split {split!r}; expected train, val or test")
        split = SPLITS[split.lower()] if split else None
        if subject and split and split_of.setdefault(subject, split) != split:
            raise release.fault(path, rows[0][0], f"subject {subject} is in {split} and in {split_of[subject]}")
        stimuli = [row.get("stimulus_path", "") for row in cells]
        if any(stimuli) and not all(stimuli):
            raise release.fault(path, rows[0][0], f"clip {clip_id} has stimulus pictures for some of its frames only")
        yield Clip(
            video=clip_id,
            subject=subject,
            frames=[int(row["frame"]) for row in cells],
            media=Pictures(files=[release.file(row["reaction_path"]) for row in cells]),
            stimulus=Pictures(files=[release.file(name) for name in stimuli]) if all(stimuli) else None,
            fps=options.fps,
            labels=_labels(release, path, rows),
            splits={"all": split} if split else {},
            captions=_captions(cells, options.fps),
            facts={"format": UNCONFIRMED},
        )


Rows = list[tuple[int, dict[str, str]]]


def _manifest(release: Release, options: Options) -> Path:
    found = release.find(options.manifest)
    if found is not None:
        return found
    tables = release.listing(release.root, "*.csv")
    if options.manifest != "manifest.csv" or len(tables) != 1:
        raise release.not_here(f"reactionnet: the neutral manifest {options.manifest}")
    return tables[0]


def _clips(release: Release, path: Path) -> Iterator[tuple[str, Rows]]:
    """Rows by clip, ordered by frame; a clip's rows stand together, so that memory holds one clip."""
    seen: set[str] = set()
    held: Rows = []
    for line, cells in release.records(path, REQUIRED):
        if not seen and not held:
            unknown = [name for name in cells if name not in COLUMNS and not _is_au(name)]
            if unknown:
                raise ReleaseError(f"{release.relative(path)} has unknown columns: {', '.join(unknown)}")
        clip_id = cells["clip_id"]
        if held and held[-1][1]["clip_id"] != clip_id:
            yield held[0][1]["clip_id"], _ordered(release, path, held)
            held = []
        if not held:
            if clip_id in seen:
                raise release.fault(path, line, f"clip {clip_id} goes on here; the rows of a clip stand together")
            seen.add(clip_id)
        cells["frame"] = str(release.whole(path, line, cells["frame"], "frame"))
        held.append((line, cells))
    if held:
        yield held[0][1]["clip_id"], _ordered(release, path, held)


def _ordered(release: Release, path: Path, rows: Rows) -> Rows:
    rows = sorted(rows, key=lambda row: int(row[1]["frame"]))
    for (_, before), (line, cells) in itertools.pairwise(rows):
        if before["frame"] == cells["frame"]:
            raise release.fault(path, line, f"frame {cells['frame']} of {cells['clip_id']} twice")
    return rows


def _is_au(name: str) -> bool:
    match = _AU.fullmatch(name)
    return match is not None and int(match[1]) in REACTIONNET_AUS


def _constant(release: Release, path: Path, rows: Rows, name: str) -> str | None:
    values = {cells.get(name, "") for _, cells in rows} - {""}
    if len(values) > 1:
        raise release.fault(path, rows[0][0], f"clip {rows[0][1]['clip_id']} has {name} {' and '.join(sorted(values))}")
    return values.pop() if values else None


def _labels(release: Release, path: Path, rows: Rows) -> dict[str, Label]:
    labels: dict[str, Label] = {}
    for name in rows[0][1]:
        if match := _AU.fullmatch(name):
            limit = 1 if match[2] == "occ" else 5
            codes = [_code(release, path, line, cells, name, limit) for line, cells in rows]
            labels[f"au_{match[2]}_{match[1]}"] = per_frame(f"au_{match[2]}", codes)
    if "expr" in rows[0][1]:
        names = [class_name(cells["expr"]) if cells["expr"] else None for _, cells in rows]
        labels["expression"] = per_frame("expression", names)
    for column, name in (("scene", "scene"), ("subscene", "sub_scene")):
        if column in rows[0][1]:
            names = [class_name(cells[column]) if cells[column] else None for _, cells in rows]
            known = column == "scene" and set(names) - {None} <= set(CLASSES["scene8"])
            labels[name] = per_frame("scene8" if known else name, names)
    return labels


def _captions(rows: list[dict[str, str]], fps: float) -> list[dict[str, Any]]:
    """What is described, from the frame on at which it begins."""
    captions: list[dict[str, Any]] = []
    for row in rows:
        text = row.get("caption", "")
        if text and (not captions or captions[-1]["text"] != text):
            captions.append({"decoding": "human", "text": text, "t_s": round(int(row["frame"]) / fps, 6)})
    return captions


def _code(release: Release, path: Path, line: int, cells: Mapping[str, str], name: str, limit: int) -> Any:
    if cells[name] == "":
        return None
    code = release.whole(path, line, cells[name], name)
    if not 0 <= code <= limit:
        raise release.fault(path, line, f"{name} {code}; expected 0 to {limit}, or nothing")
    return code
