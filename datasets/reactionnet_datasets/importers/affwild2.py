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
`withheld`: those of the sample file, or without one all crops. MTL's labels are of other frames of the same videos and
would contradict the tasks' own, so that they are read by `--tasks mtl`, or where there are no others. `--crops` chooses
between cropped_aligned (taken first) and cropped. Without its video a clip's times are those of `--fps`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reactionnet_datasets.abaw import (
    EXPRESSIONS,
    READERS,
    Columns,
    Line,
    action_units,
    classes_in_order,
    crops_of,
    label_lines,
    mtl_columns,
    sampled,
    text_files,
)  # fmt: skip
from reactionnet_datasets.about import CONFIRMED, About, folds_of, one_of
from reactionnet_datasets.clip import Clip, File, Pictures, per_frame
from reactionnet_datasets.media import MediaError, VideoFacts, has_decoder, video_facts
from reactionnet_datasets.release import Release, ReleaseError
from reactionnet_datasets.release_videos import by_name, plain_name
from reactionnet_datasets.rules import ABAW_AUS
from reactionnet_datasets.sample import Label

TASKS = ("au", "expr", "va", "mtl")
TASK_FOLDERS = {
    "au": r"AU_(Detection_Challenge|Set)",
    "expr": r"EXPR_((Recognition|Classification)_Challenge|Set)",
    "va": r"VA_(Estimation_Challenge|Set)",
    "mtl": r"MTL_(Challenge|Set)",
}
TASK_WORDS = {
    "au": r"(^|_)(au|action)_",
    "expr": r"(^|_)expr",
    "va": r"(^|_)(va|valence)_",
    "mtl": r"(^|_)(mtl|multi)",
}
CROPS = {
    "aligned": ("cropped_aligned", "cropped_aligned_images"),
    "cropped": ("cropped", "cropped_images"),
}
LISTS = "names_of_videos_in_each_test_set"
ASK = "d.kollias@qmul.ac.uk"
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


@dataclass(frozen=True, kw_only=True)
class Task:
    """Files of one task by video, and the frames of its test videos; None: all that have a crop."""

    name: str
    files: Mapping[str, tuple[str, Path]] = field(default_factory=dict)
    rows: Mapping[str, tuple[str, Path, list[str], Mapping[int, Line]]] = field(default_factory=dict)  # mtl
    test: Mapping[str, Sequence[int] | None] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)  # label -> its space, masked for test videos

    def videos(self) -> set[str]:
        return {*self.files, *self.rows, *self.test}

    def split_of(self, video: str) -> str | None:
        entry = self.files.get(video) or self.rows.get(video)
        return entry[0] if entry else "test" if video in self.test else None


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
    tasks = _tasks(release, options)
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


# -- what lies where -------------------------------------------------------------------------------------------------


def _tasks(release: Release, options: Options) -> list[Task]:
    wanted = [name.strip() for name in options.tasks.lower().split(",") if name.strip()]
    for name in wanted:
        one_of("tasks", name, ("all", *TASKS))
    folders = _task_folders(release, options)
    lists, samples = _test_files(release, options)
    found = [name for name in TASKS if name in folders or name in lists or name in samples]
    if "mtl" in wanted and len(wanted) > 1:
        raise ReleaseError(f"--tasks {options.tasks}: mtl has labels of its own for the same frames; import it alone")
    if "all" in wanted:
        wanted = [name for name in found if name != "mtl"] or found
        if "mtl" in found and "mtl" not in wanted:
            release.note("labels left out: MTL's are read by --tasks mtl", release.relative(folders["mtl"]))
    if lacking := [name for name in wanted if name not in found]:
        raise release.not_here(f"affwild2: labels or a test list of the task {lacking[0]}")
    if not lists and not samples:
        release.note(f"no lists of test videos; ask {ASK}", LISTS)
    return [_task(release, name, folders.get(name), lists.get(name), samples.get(name)) for name in wanted]


def _task_folders(release: Release, options: Options) -> dict[str, Path]:
    if options.annotations != "auto":
        places = [release.first(options.annotations)]
    else:
        places = [release.root, *(path for path in release.listing(release.root) if path.is_dir())]
    found: dict[Path, dict[str, Path]] = {}
    for place in places:
        for path in release.listing(place):
            for name, pattern in TASK_FOLDERS.items():
                if path.is_dir() and re.fullmatch(pattern, path.name.replace(" ", "_"), re.IGNORECASE):
                    if name in found.setdefault(place, {}):
                        other = found[place][name].name
                        raise ReleaseError(f"{release.relative(place)} has {other} and {path.name}: keep one of them")
                    found[place][name] = path
    if len(found) > 1:
        names = ", ".join(repr(release.relative(place)) for place in found)
        raise ReleaseError(f"there are annotations in {names}: choose one with --annotations FOLDER")
    if not found:
        where = "" if options.annotations == "auto" else f" in --annotations {options.annotations}"
        raise release.not_here(f"affwild2: annotations such as AU_Detection_Challenge{where}")
    (place, folders) = next(iter(found.items()))
    inside = f"{release.relative(place)}/"
    if packed := [name for name in release.packed(levels=2) if name.startswith(inside)]:
        raise ReleaseError(f"{', '.join(packed[:3])}: not unpacked; unpack the annotations first")
    return folders


def _test_files(release: Release, options: Options) -> tuple[dict[str, Path], dict[str, Path]]:
    """The list and the sample file of each task."""
    if (top := release.find(LISTS)) is not None and top.is_dir() and not release.listing(top):
        raise ReleaseError(f"{LISTS} is empty: is the release complete?")
    crops = {name for names in CROPS.values() for name in names}
    folders = [path for path in release.listing(release.root) if path.is_dir() and path.name.lower() not in crops]
    lists: dict[str, Path] = {}
    samples: dict[str, Path] = {}
    for path in text_files(release, [release.root, *folders]):
        name = re.sub(r"[^a-z0-9]+", "_", path.stem.lower())
        kind = re.search(r"test_set_(release|example|sample)|test_set$", name)
        if kind is None:
            continue
        tasks = [task for task, words in TASK_WORDS.items() if re.search(words, name)]
        if len(tasks) != 1:
            release.note("lists of another task", release.relative(path))
            continue
        found = samples if kind[1] in ("example", "sample") else lists
        if tasks[0] in found:
            raise ReleaseError(
                f"{release.relative(found[tasks[0]])} and {release.relative(path)} are of one task: keep one of them"
            )
        found[tasks[0]] = path
    return lists, samples


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


def _task(release: Release, name: str, folder: Path | None, listed: Path | None, sample: Path | None) -> Task:
    files: dict[str, tuple[str, Path]] = {}
    rows: dict[str, tuple[str, Path, list[str], Mapping[int, Line]]] = {}
    if folder is not None and name == "mtl":
        rows = _mtl_rows(release, folder)
    elif folder is not None:
        files = _files(release, folder)
    test = _test_videos(release, listed, sample)
    if twice := sorted(set(test) & {*files, *rows}):
        raise ReleaseError(
            f"{twice[0]} is a test video of the task {name}, and in its {files.get(twice[0], ['set'])[0]}"
        )
    return Task(name=name, files=files, rows=rows, test=test, columns=_masked_columns(release, name, files))


def _files(release: Release, folder: Path) -> dict[str, tuple[str, Path]]:
    """Video -> (split, file). ReleaseError where a set lacks, or a video is in two."""
    sets: dict[str, Path] = {}
    for path in release.listing(folder):
        match = re.match(r"(train|val|test)", path.name.lower())
        if path.is_dir() and match:
            sets[match[1]] = path
    if lacking := [split for split in ("train", "val") if split not in sets]:
        found = ", ".join(path.name for path in release.listing(folder)) or "nothing"
        wanted = {"train": "Train_Set", "val": "Validation_Set"}[lacking[0]]
        raise ReleaseError(f"expected {wanted} in {release.relative(folder)}; found {found}: is the release complete?")
    files: dict[str, tuple[str, Path]] = {}
    for split, place in sets.items():
        paths = release.listing(place, "*.txt")
        if not paths:
            raise ReleaseError(f"{release.relative(place)} holds no <video>.txt: is the release complete?")
        for path in paths:
            if path.stem in files:
                other = release.relative(files[path.stem][1])
                raise ReleaseError(f"{path.stem} is in two sets of one task: {other} and {release.relative(path)}")
            files[path.stem] = (split, path)
    return files


def _test_videos(release: Release, listed: Path | None, sample: Path | None) -> dict[str, Sequence[int] | None]:
    test: dict[str, Sequence[int] | None] = {}
    if listed is not None:
        lines = release.lines(listed)
        if lines and re.search(r"/0*\d+\.[a-z]+", lines[-1], re.IGNORECASE):
            test.update(sampled(release, listed))  # a list of pictures, as MTL's is
        else:
            test.update({re.sub(r"\.(mp4|avi|txt)$", "", line.strip(","), flags=re.IGNORECASE): None for line in lines})
    if sample is not None:
        frames = sampled(release, sample)
        for video in sorted(set(test) ^ set(frames)) if listed is not None else ():
            release.note("test videos that the list or the sample file lacks", f"{video} ({sample.name})")
        test.update(frames)
    return test


def _masked_columns(release: Release, name: str, files: Mapping[str, tuple[str, Path]]) -> dict[str, str]:
    """What the labels of a test video would be: as the first file's header says, else as in ABAW6."""
    if name == "va":
        return {"valence": "va", "arousal": "va"}
    header: list[str] = []
    path = None
    if files:
        path = files[min(files)][1]
        header, _ = label_lines(release, path)
    if name == "expr":
        return {"expression": classes_in_order(release, path, header, EXPRESSIONS) if path else "abaw8"}
    aus = action_units(release, path, header) if path else ABAW_AUS
    columns = {f"au_occ_{au}": "au_occ" for au in aus}
    return {"valence": "va", "arousal": "va", "expression": "abaw8", **columns} if name == "mtl" else columns


# -- labels ----------------------------------------------------------------------------------------------------------


def _columns(release: Release, task: Task, video: str, pictures: Mapping[int, Path]) -> Columns:
    if video in task.files:
        _, path = task.files[video]
        header, lines = label_lines(release, path)
        return READERS[task.name](release, path, header, dict(enumerate(lines, 1)))
    if video in task.rows:
        _, path, header, rows = task.rows[video]
        for frame in sorted(set(rows) - set(pictures)):  # listed by their names, so that they should be there
            release.missing.append(f"{video}/{frame:05d}.jpg ({release.relative(path)} line {rows[frame][0]})")
        return mtl_columns(release, path, header, rows)
    frames = task.test[video]
    numbers = pictures if frames is None else frames
    return {name: (space, dict.fromkeys(numbers, (None, "withheld", None))) for name, space in task.columns.items()}


def _mtl_rows(release: Release, folder: Path) -> dict[str, tuple[str, Path, list[str], Mapping[int, Line]]]:
    """Video -> its lines by frame, of files that name a picture a line."""
    found: dict[str, tuple[str, Path, list[str], dict[int, Line]]] = {}
    folders = [folder, *(path for path in release.listing(folder) if path.is_dir())]
    for path in text_files(release, folders):
        inside = release.relative(path).removeprefix(release.relative(folder)).lower()
        match = re.search(r"train|val|test", inside)
        if match is None:
            raise ReleaseError(f"{release.relative(path)}: expected a name that says train or validation")
        header, lines = label_lines(release, path)
        for line in lines:
            place = re.fullmatch(r"(.+)/0*([0-9]+)\.[A-Za-z]+", line[1][0])
            if place is None:
                raise release.fault(path, line[0], f"{line[1][0]!r}; expected a picture such as video/00001.jpg")
            split, _, _, rows = found.setdefault(place[1], (match[0], path, header, {}))
            if split != match[0] or int(place[2]) in rows:
                raise release.fault(path, line[0], f"{line[1][0]} is listed before, or its video is in {split}")
            rows[int(place[2])] = line
    if not found:
        raise ReleaseError(f"{release.relative(folder)} holds no list of pictures: is the release complete?")
    return dict(found)


# -- clips -----------------------------------------------------------------------------------------------------------


def _clip(
    release: Release, video: str, pictures: Mapping[int, Path], tasks: Sequence[Task],
    raw: tuple[File, VideoFacts] | None, options: Options,
) -> Clip | None:  # fmt: skip
    columns: Columns = {}
    for task in tasks:
        if task.split_of(video) is not None:
            columns |= _columns(release, task, video, pictures)
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
