"""Aff-Wild2: videos from the web, labelled frame by frame with action units, expressions, valence and arousal.

Kollias and Zafeiriou, 2018 to 2024; the ABAW challenges. EULA signed by a permanent academic, no redistribution, shards
included; nothing is downloaded. Reads the annotations of ABAW1 to ABAW6:

    cropped_aligned/<video>[_left|_right]/00001.jpg     or cropped/: face crops, numbered from 1, with gaps
    <N>th ABAW Annotations/AU_Detection_Challenge/{Train_Set,Validation_Set}/<video>[_left|_right].txt
        EXPR_Recognition_Challenge (or EXPR_Classification_Challenge), VA_Estimation_Challenge; ABAW1: annotations/
        {AU,EXPR,VA}_Set/{Training_Set,Validation_Set}; ABAW3 and 4 also MTL_Challenge, one txt a set
    names_of_videos_in_each_test_set/*test_set_release.txt, *_test_set_{example,sample}.txt      optional
    batch1/*.mp4  batch2/*.mp4                          optional: times and sound; pictures always come from the crops

A line below the header is a frame, `-1` (AU, expression) and `-5` (valence, arousal) are masked `invalid_code`, each
value on its own: that a frame counts only where all twelve action units are valid is the rule `abaw:row` of the reader.
Columns are found by the header; an expression's code counts along it, with seven names (ABAW1 and 2) or eight. Splits are
a task's own (`split_au`, `split_expr`, `split_va`, `split_mtl`): a video can train one task and validate another.

A video and its labels keep `_left` and `_right` in their name, as two people of one video; `person` says which. Folds
(`affwild2-5fold-ours-v1`) leave it out, and so does the look-up of the video. Who a person is, nobody says.

Where the reference leaves something open: a clip has the frames that a task has a line for and that have a crop; lines
without a crop and crops without a line belong to the release and are counted, while a labelled or listed video without
any crop is an error. Crops of videos that no list names are counted and left out. Frames of a test video are masked
`withheld`: those of the sample file, or without one all crops; a release of test lists alone, without any annotations, is
taken for one that was not unpacked. MTL's labels are of other frames of the same videos and would contradict the tasks'
own, so that they are read by `--tasks mtl`, or where there are no others. `--crops` chooses between cropped_aligned (taken
first) and cropped. Without its video a clip's times are those of `--fps`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reactionnet_datasets.abaw import Columns, crops_of
from reactionnet_datasets.abaw_tasks import ASK, Task, columns_of, tasks_of
from reactionnet_datasets.about import CONFIRMED, About, folds_of, one_of
from reactionnet_datasets.clip import Clip, File, Pictures, per_frame
from reactionnet_datasets.media import MediaError, VideoFacts, has_decoder, video_facts
from reactionnet_datasets.release import Release, ReleaseError
from reactionnet_datasets.release_videos import by_name, plain_name
from reactionnet_datasets.sample import Label

CROPS = {
    "aligned": ("cropped_aligned", "cropped_aligned_images"),
    "cropped": ("cropped", "cropped_images"),
}
# column, what is counted, its value, and the number in papers on ABAW6 and ABAW2
KNOWN = (
    ("split_au", "videos of au in ABAW6", None, 547),
    ("split_expr", "videos of expr in ABAW6", None, 548),
    ("split_va", "videos of va in ABAW6", None, 594),
    ("split_au", "videos of au in ABAW2, train", "train", 305),
    ("split_au", "videos of au in ABAW2, val", "val", 105),
)
_FOLDERS = ("AU_*", "EXPR_*", "VA_*", "MTL_*")

ABOUT = About(
    name="affwild2",
    title="Aff-Wild2 (ABAW): web videos with action units, expressions, valence and arousal a frame",
    markers=(
        "|".join(name for names in CROPS.values() for name in names),
        "|".join([*_FOLDERS, *(f"*/{name}" for name in _FOLDERS)]),
    ),
    terms="EULA signed by a permanent academic; research only; no redistribution, shards included",
    ask=ASK,
    license="LicenseRef-Aff-Wild2",
    papers=("ReactioNet (DRR)", "ABAW6", "AAR"),
    status=CONFIRMED,
)


@dataclass(frozen=True, kw_only=True)
class Options:
    tasks: str = "all"
    annotations: str = "auto"
    crops: str = "auto"
    sound: bool = True
    fps: float = 30.0


def doctor(frames):
    """Videos of each task, both people of one counted once. Papers tell of ABAW2 and ABAW6, so that others are no fault."""
    from reactionnet_datasets.doctor import compare

    findings = []
    names = {"video_id", *(column for column, *_ in KNOWN)} & set(frames.column_names)
    columns = frames.select(sorted(names))
    rows = columns.group_by(columns.column_names).aggregate([]).to_pylist()
    for column, what, split, known in KNOWN:
        if column in columns.column_names:
            there = {_person(row["video_id"])[0] for row in rows if (row[column] == split if split else row[column])}
            findings.append(compare(what, known, len(there), recalled=True))
    return findings


def read(release: Release, options: Options) -> Iterator[Clip]:
    """One clip a video and person. ReleaseError for labels out of place, or lists that contradict each other."""
    tasks = tasks_of(release, options.tasks, options.annotations)
    crops = _crop_folders(release, options)
    raw = by_name(release, [path for path in release.listing(release.root, "batch*") if path.is_dir()])
    videos = sorted(set().union(*(task.videos() for task in tasks)))
    for name in sorted(set(crops) - {video.lower() for video in videos}):
        release.note(f"crops of videos that no list names (lists of test videos: {ASK})", crops[name].name)
    for video in videos:
        folder = crops.get(video.lower())
        pictures = crops_of(release, folder) if folder is not None else {}
        if folder is None or not pictures:
            release.missing.append(f"{_crops_name(release, options)}/{video}/*.jpg")
            continue
        clip = _clip(release, video, pictures, tasks, _raw(release, raw, video, options), options)
        if clip is not None:
            yield clip


# -- crops ----------------------------------------------------------------------------------------------------------


def _crop_folders(release: Release, options: Options) -> dict[str, Path]:
    """Lower-case name -> folder; folders called batch1 and so on are looked into."""
    top = release.first(_crops_name(release, options))
    places = [path for path in release.listing(top) if path.is_dir()]
    batches = [path for path in places if re.fullmatch(r"batch\d+", path.name.lower())]
    places = [path for path in places if path not in batches]
    places += [path for batch in batches for path in release.listing(batch) if path.is_dir()]
    found: dict[str, Path] = {}
    for path in places:
        if path.name.lower() in found:
            raise ReleaseError(
                f"{release.relative(path)} and {release.relative(found[path.name.lower()])} are one video"
            )
        found[path.name.lower()] = path
    return found


def _crops_name(release: Release, options: Options) -> str:
    one_of("crops", options.crops, ("auto", *CROPS))
    names = [name for kind, names in CROPS.items() if options.crops in ("auto", kind) for name in names]
    return release.relative(release.first(*names))


# -- clips -----------------------------------------------------------------------------------------------------------


def _clip(
    release: Release, video: str, pictures: Mapping[int, Path], tasks: Sequence[Task],
    raw: tuple[File, VideoFacts] | None, options: Options,
) -> Clip | None:  # fmt: skip
    columns: Columns = {}
    for task in tasks:
        if task.split_of(video) is not None:
            columns |= columns_of(release, task, video, pictures)
    numbers = {frame for _, found in columns.values() for frame in found}
    frames = sorted(numbers & set(pictures))
    if lacking := len(numbers) - len(frames):
        release.note("labelled frames without a crop", video, lacking)
    if spare := len(pictures) - len(frames):
        release.note("crops without a label line", video, spare)
    files = [release.file(pictures[frame]) for frame in frames]
    if not frames:
        raise ReleaseError(f"{video}: no crop has the number of a label line; crops {min(pictures)} to {max(pictures)}")
    base, person = _person(video)
    splits = {task.name: split for task in tasks if (split := task.split_of(video)) is not None}
    facts = raw[1] if raw is not None else None
    return Clip(
        video=video,
        track=person,
        frames=frames,
        media=Pictures(files=files),
        fps=facts.fps if facts else options.fps,
        first_frame_number=1,
        t_s=[facts.t_s[frame - 1] for frame in frames] if facts and frames[-1] <= facts.num_frames else None,
        labels={name: _label(space, found, frames) for name, (space, found) in columns.items()},
        splits=splits,
        folds=folds_of("affwild2", base) if {"train", "val"} & set(splits.values()) else {},
        sound=raw[0] if raw is not None and raw[1].has_sound else None,
        facts={"frame_base": 1, "raw_video": base},
    )


def _label(space: str, found: Mapping[int, tuple[object, str, str | None]], frames: Sequence[int]) -> Label:
    absent = (None, "not_annotated", None)
    values, masks, raw = zip(*(found.get(frame, absent) for frame in frames), strict=True)
    return per_frame(space, values, masks, raw)


def _person(video: str) -> tuple[str, str]:
    """The video without its suffix, and who of it is meant."""
    match = re.fullmatch(r"(.+)_(left|right)", video, re.IGNORECASE)
    return (match[1], match[2].lower()) if match else (video, "0")


def _raw(release: Release, raw: Mapping[str, Path], video: str, options: Options) -> tuple[File, VideoFacts] | None:
    """The video that the crops were made of, where it is there and can be read: it is wanted for times and sound alone."""
    path = raw.get(plain_name(_person(video)[0]))
    if path is None or not options.sound:
        return None
    if not has_decoder():
        release.note('videos not looked at (times, sound): pip install "reactionnet[pipeline]"', release.relative(path))
        return None
    file = release.file(path)
    try:
        return (file, video_facts(release.root, file)) if file is not None else None
    except MediaError as error:
        release.note("videos that cannot be read, so that their clips have no sound", str(error))
        return None
