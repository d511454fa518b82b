"""The tasks of the ABAW challenges: which files label which video, for which split, and which videos are to be tested.

A task has a folder with one txt a video in its sets (Train_Set, Validation_Set); MTL has one txt a set, whose lines name
their picture. Test videos stand in a list by e-mail, or in the sample of a submission, which names their frames too.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reactionnet_datasets.abaw import (
    EXPRESSIONS,
    READERS,
    Columns,
    Line,
    action_units,
    classes_in_order,
    label_lines,
    mtl_columns,
    sampled,
    text_files,
)
from reactionnet_datasets.about import one_of
from reactionnet_datasets.release import Release, ReleaseError
from reactionnet_datasets.rules import ABAW_AUS

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
LISTS = "names_of_videos_in_each_test_set"
ASK = "d.kollias@qmul.ac.uk"


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


def tasks_of(release: Release, which: str, annotations: str) -> list[Task]:
    """The tasks named in `which` ("all": those that the release has), read from a folder of annotations, or the one there is.

    ReleaseError for a task that lacks, and for sets and lists that contradict each other.
    """
    wanted = [name.strip() for name in which.lower().split(",") if name.strip()]
    for name in wanted:
        one_of("tasks", name, ("all", *TASKS))
    folders = _task_folders(release, annotations)
    lists, samples = _test_files(release)
    found = [name for name in TASKS if name in folders or name in lists or name in samples]
    if "mtl" in wanted and len(wanted) > 1:
        raise ReleaseError(f"--tasks {which}: mtl has labels of its own for the same frames; import it alone")
    if "all" in wanted:
        wanted = [name for name in found if name != "mtl"] or found
        if "mtl" in found and "mtl" not in wanted:
            release.note("labels left out: MTL's are read by --tasks mtl", release.relative(folders["mtl"]))
    if lacking := [name for name in wanted if name not in found]:
        raise release.not_here(f"affwild2: labels or a test list of the task {lacking[0]}")
    if not lists and not samples:
        release.note(f"no lists of test videos; ask {ASK}", LISTS)
    return [_task(release, name, folders.get(name), lists.get(name), samples.get(name)) for name in wanted]


def _task_folders(release: Release, annotations: str) -> dict[str, Path]:
    if annotations != "auto":
        places = [release.first(annotations)]
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
        where = "" if annotations == "auto" else f" in --annotations {annotations}"
        raise release.not_here(f"affwild2: annotations such as AU_Detection_Challenge{where}")
    place, folders = next(iter(found.items()))
    packed = [name for folder in folders.values() for name in release.packed(below=folder)]
    packed += [
        name for name in release.packed(levels=0, below=place)
        if re.match(r"(AU|EXPR|VA|MTL)_", name.rpartition("/")[2], re.IGNORECASE)
    ]  # fmt: skip
    if packed:
        raise ReleaseError(f"{', '.join(packed[:3])}: not unpacked; unpack the annotations first")
    return folders


def _test_files(release: Release) -> tuple[dict[str, Path], dict[str, Path]]:
    """The list and the sample file of each task."""
    if (top := release.find(LISTS)) is not None and top.is_dir() and not release.listing(top):
        raise ReleaseError(f"{LISTS} is empty: is the release complete?")
    folders = [path for path in release.listing(release.root) if path.is_dir()]
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


def columns_of(release: Release, task: Task, video: str, pictures: Mapping[int, Path]) -> Columns:
    """A task's labels of a video by frame. Crops that MTL lists and that are not there are missing."""
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
