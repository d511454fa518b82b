"""RAF-DB: faces from the web, 15,339 with one of seven basic expressions and others with one of eleven compound ones.

Li and Deng, IEEE TIP 28(1), 2019. Non-commercial, by e-mail to its makers at BUPT; nothing is downloaded. Reads

    basic/EmoLabel/list_patition_label.txt (sic)        "train_00001.jpg 5"; the split is the name's prefix
    basic/Image/{aligned/train_00001_aligned.jpg, original/train_00001.jpg}
    basic/Annotation/manual/train_00001_manu_attri.txt  5 landmarks "x<TAB>y", then gender, race and group of age
    basic/Annotation/auto/train_00001_auto_attri.txt    37 landmarks
    basic/Annotation/boundingbox/train_00001_boundingbox.txt
    compound/...                                        the same with 11 classes; its exact tree is recalled, not confirmed

Codes count from 1 and are kept as `raw`: 1 surprise 2 fear 3 disgust 4 happiness 5 sadness 6 anger 7 neutral. Basic labels
are `expression`, compound ones `compound`. Where the reference leaves something open: both sets are imported if both are
there (`--subset basic|compound` takes one), under the names `basic/train_00001` and `compound/train_00001`, since their
numbers have nothing to do with each other. `--pictures auto` takes aligned faces where they are, else originals. Landmarks
are in pixels of the originals: streams `landmarks5` and `landmarks37` with these, `original_landmarks5` and so on beside
aligned faces. What the four numbers of a bounding box mean is unconfirmed: they are kept in a record's provenance as written,
not as a face's box. Attribute folders may lack as a whole; a single file that lacks among others is missing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reactionnet_datasets.about import PARTLY, About, Known, class_at, one_of
from reactionnet_datasets.clip import Clip, Numbers, Pictures, one
from reactionnet_datasets.labels import classes_of
from reactionnet_datasets.release import PICTURE_SUFFIXES, Release, ReleaseError
from reactionnet_datasets.sample import Label

SUBSETS = ("basic", "compound")
CLASSES = {"basic": classes_of("rafdb7"), "compound": classes_of("rafdb_compound11")}
SPACES = {"basic": ("expression", "rafdb7"), "compound": ("compound", "rafdb_compound11")}
ATTRIBUTES = (("gender", "rafdb_gender3"), ("ethnicity", "rafdb_race3"), ("age_group", "rafdb_age5"))
LISTS = ("list_patition_label.txt", "list_partition_label.txt")  # as it is spelled, and as copies mend it
NUM_MANUAL, NUM_AUTO = 5, 37

ABOUT = About(
    name="rafdb",
    title="RAF-DB, Real-world Affective Faces: basic and compound expressions",
    markers=("basic/EmoLabel/*.txt|compound/EmoLabel/*.txt",),
    terms="non-commercial research; no redistribution",
    ask="PRIS, Beijing University of Posts and Telecommunications, by e-mail",
    license="LicenseRef-RAF-DB",
    papers=("ReactioNet (DRR)", "ABAW6"),
    status=PARTLY,
)
KNOWN = {
    "basic": (
        Known(what="basic, train", count=12_271, where={"split_all": "train", "expression_mask": "valid"}),
        Known(what="basic, test", count=3_068, where={"split_all": "test", "expression_mask": "valid"}),
    ),
    "compound": (
        Known(what="compound, train", count=3_162, where={"split_all": "train", "compound_mask": "valid"}, recalled=True),
        Known(what="compound, test", count=792, where={"split_all": "test", "compound_mask": "valid"}, recalled=True),
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Options:
    subset: str = "auto"
    pictures: str = "auto"


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """Files of one kind by the picture's name without extension; None where the folder is not there."""

    folder: Path | None
    of_name: dict[str, Path] = field(default_factory=dict)


def doctor(frames):
    """The counts of the subsets that were imported."""
    from reactionnet_datasets.doctor import compare, count

    present = [subset for subset in SUBSETS if SPACES[subset][0] in frames.column_names]
    return [compare(k.what, k.count, count(frames, k), k.recalled) for subset in present for k in KNOWN[subset]]


def read(release: Release, options: Options) -> Iterator[Clip]:
    """One clip a picture of the list."""
    one_of("subset", options.subset, ("auto", *SUBSETS))
    one_of("pictures", options.pictures, ("auto", "aligned", "original"))
    wanted = SUBSETS if options.subset == "auto" else (options.subset,)
    for subset in wanted:
        if release.find(subset) is not None or options.subset == subset:
            yield from _read_subset(release, subset, options.pictures)


def _read_subset(release: Release, subset: str, kind: str) -> Iterator[Clip]:
    path = release.first(*(f"{subset}/EmoLabel/{name}" for name in LISTS))
    kind, folder = _picture_folder(release, subset, kind)
    pictures = _by_name(release, folder, "_aligned", PICTURE_SUFFIXES)
    manual, auto, boxes = (
        _annotations(release, subset, name, suffix)
        for name, suffix in (("manual", "_manu_attri"), ("auto", "_auto_attri"), ("boundingbox", "_boundingbox"))
    )
    prefix = "" if kind == "original" else "original_"
    codes = _codes(release, path, subset)
    release.missing += [
        f"label of {release.relative(pictures[name])} in {path.name}" for name in sorted(pictures.keys() - codes.keys())
    ]
    for name, (line, code) in codes.items():
        expected = f"{release.relative(folder)}/{name}{'_aligned' if kind == 'aligned' else ''}.jpg"
        file = release.file(pictures.get(name) or expected)
        facts: dict[str, Any] = {"pictures": kind}
        streams, labels = {}, _label(release, path, line, subset, code)
        if (attributes := _file_of(release, manual, name, "_manu_attri")) is not None:
            points, others = _manual(release, attributes)
            streams[f"{prefix}landmarks5"] = Numbers(values=[points])
            labels |= others
        if (found := _file_of(release, auto, name, "_auto_attri")) is not None:
            streams[f"{prefix}landmarks37"] = Numbers(values=[_points(release, found, NUM_AUTO)])
        if (found := _file_of(release, boxes, name, "_boundingbox")) is not None:
            facts["bounding_box"] = _box(release, found)
        if file is not None:
            yield Clip(
                video=f"{subset}/{name}",
                frames=(0,),
                media=Pictures(files=(file,)),
                labels=labels,
                splits={"all": name.partition("_")[0]},
                streams=streams,
                facts=facts,
            )


def _picture_folder(release: Release, subset: str, kind: str) -> tuple[str, Path]:
    top = release.first(f"{subset}/Image")
    if kind == "auto":
        kind = "aligned" if release.find(f"{subset}/Image/aligned") else "original"
    if release.find(f"{subset}/Image/{kind}") is None:
        names = ", ".join(path.name for path in release.listing(top)) or "nothing"
        raise ReleaseError(f"expected {subset}/Image/aligned or {subset}/Image/original ({kind}); found {names}")
    return kind, release.first(f"{subset}/Image/{kind}")


def _annotations(release: Release, subset: str, name: str, suffix: str) -> Annotations:
    folder = release.find(f"{subset}/Annotation/{name}")
    if folder is None:
        release.note("folders of annotations that lack", f"{subset}/Annotation/{name}")
        return Annotations(folder=None)
    return Annotations(folder=folder, of_name=_by_name(release, folder, suffix, (".txt",)))


def _by_name(release: Release, folder: Path, suffix: str, extensions: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in release.listing(folder):
        if path.suffix.lower() not in extensions:
            continue
        name = path.stem.lower().removesuffix(suffix)
        if name in found:
            raise ReleaseError(f"{release.relative(path)} and {found[name].name}: which one is meant?")
        found[name] = path
    return found


def _file_of(release: Release, annotations: Annotations, name: str, suffix: str) -> Path | None:
    if annotations.folder is None:
        return None
    if name not in annotations.of_name:
        release.missing.append(f"{release.relative(annotations.folder)}/{name}{suffix}.txt")
    return annotations.of_name.get(name)


def _codes(release: Release, path: Path, subset: str) -> dict[str, tuple[int, str]]:
    """(line, code) by picture. ReleaseError for the list that third parties made of it, which disagrees."""
    codes: dict[str, tuple[int, str]] = {}
    for line, text in enumerate(release.text(path).split("\n"), 1):
        words = text.split()
        if not words:
            continue
        if len(words) == 3 and words[1].lower() in ("train", "test"):
            raise release.fault(
                path, line, f"{text!r}: name, split and label are a third party's list, which disagrees with the release"
                f" ({'train_00001.jpg 5'!r}); put the release's own in its place",
            )  # fmt: skip
        name = words[0].lower().rpartition(".")[0].removesuffix("_aligned")
        if len(words) != 2 or name.partition("_")[0] not in ("train", "test"):
            raise release.fault(path, line, f"{text!r}; expected a picture and its class, such as train_00001.jpg 5")
        if codes.setdefault(name, (line, words[1]))[1] != words[1]:
            raise release.fault(path, line, f"{words[0]} is listed before with another class")
    return codes


def _label(release: Release, path: Path, line: int, subset: str, text: str) -> dict[str, Label]:
    column, space = SPACES[subset]
    code = release.whole(path, line, text, "class")
    value = class_at(CLASSES[subset], code - 1)  # codes count from 1
    if value is None:
        raise release.fault(path, line, f"class {code}; expected 1 to {len(CLASSES[subset])}")
    return {column: one(space, value, raw=str(code))}


def _manual(release: Release, path: Path) -> tuple[list[list[float]], dict[str, Label]]:
    lines = release.lines(path)
    if len(lines) != NUM_MANUAL + len(ATTRIBUTES):
        raise ReleaseError(
            f"{release.relative(path)} has {len(lines)} lines; expected {NUM_MANUAL} landmarks, gender, race and age"
        )
    labels = {}
    for number, (column, space) in enumerate(ATTRIBUTES, NUM_MANUAL):
        code = release.whole(path, number + 1, lines[number], column)
        value = class_at(classes_of(space), code)
        if value is None:
            raise release.fault(path, number + 1, f"{column} {code}; expected 0 to {len(classes_of(space)) - 1}")
        labels[column] = one(space, value, raw=str(code))
    return [_point(release, path, number, line) for number, line in enumerate(lines[:NUM_MANUAL], 1)], labels


def _points(release: Release, path: Path, num: int) -> list[list[float]]:
    lines = release.lines(path)
    if len(lines) != num:
        raise ReleaseError(f"{release.relative(path)} has {len(lines)} lines; expected {num} landmarks")
    return [_point(release, path, number, line) for number, line in enumerate(lines, 1)]


def _point(release: Release, path: Path, number: int, line: str) -> list[float]:
    point = [release.number(path, number, word, "landmark") for word in line.replace(",", " ").split()]
    if len(point) != 2:
        raise release.fault(path, number, f"{line!r}; expected x and y")
    return point


def _box(release: Release, path: Path) -> list[float]:
    words = release.text(path).replace(",", " ").split()
    numbers = [release.number(path, 1, word, "bounding box") for word in words]
    if len(numbers) != 4:
        raise ReleaseError(f"{release.relative(path)} has {len(numbers)} numbers; expected 4")
    return numbers
