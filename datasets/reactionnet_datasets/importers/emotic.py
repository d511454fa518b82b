"""EMOTIC: people in context, each with a body box, 26 categories (several may apply), valence, arousal, dominance of 1-10.

Kosti et al., IEEE TPAMI 42(11), 2019. Access by a form, non-commercial; nothing is downloaded. ROOT holds

    emotic/{mscoco,framesdb,emodb_small,ade20k}/images/...     also without the folder emotic
    Annotations/Annotations.mat                                variables train, val, test; or, as public readers convert it,
    {train,val,test}.csv                                       Index,Folder,Filename,Image Size,BBox,Categorical_Labels,
                                                               Continuous_Labels,Gender,Age; also in a folder of ROOT
                                                               or of emotic

One clip a person: the whole picture, the person's box in it, and `person` the place in the picture's list (of a csv, among
the rows of the picture). Labels: `emotic_affection` ... `emotic_yearning` 0 or 1, `valence`, `arousal`, `dominance` on the
native scale (train one annotator's whole numbers, val and test the mean of several), `gender`, `age_group`. `(x-5.5)/4.5`
and the like are rules of the reader. val and test hold what the release combined; what each annotator said is kept in a
record's provenance. Where the reference leaves something open: the .mat is read if both forms are there
(`--annotations mat|csv`); a person whom nobody annotated, or without combined labels, is imported with masks and counted,
so that `--doctor` counts those with categories and VAD; a gender or age on which annotators differ is masked
`rule_gave_none`; boxes are clipped to the picture's listed size and counted, and where nothing is left of one, the person has
no box. `Image Size` of the csv is width, height.

Not read: the conversion to arrays (`{split}_{context,body,cat,cont}_arr.npy`), whose pictures are resized and whose order of
rows, channels and scale of affects are **unconfirmed**; where it is all there is, the message says so.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reactionnet_datasets.about import CONFIRMED, About, Known, one_of
from reactionnet_datasets.clip import Clip, Pictures, one
from reactionnet_datasets.labels import class_name, classes_of
from reactionnet_datasets.media import load_mat
from reactionnet_datasets.release import Release, ReleaseError
from reactionnet_datasets.sample import Label

CATEGORIES = classes_of("emotic26")
AFFECTS = ("valence", "arousal", "dominance")
SPLITS = ("train", "val", "test")
COLUMNS = ("Folder", "Filename", "Image Size", "BBox", "Categorical_Labels", "Continuous_Labels", "Gender", "Age")
SOURCES = ("mscoco", "framesdb", "emodb_small", "ade20k")
MATS = ("Annotations/Annotations.mat", "Annotations.mat", "emotic/Annotations/Annotations.mat")
_NAN = re.compile(r"\bnan\b", re.IGNORECASE)

ABOUT = About(
    name="emotic",
    title="EMOTIC: people in context with 26 categories, valence, arousal and dominance",
    markers=(
        "|".join(f"{top}{source}" for top in ("emotic/", "") for source in SOURCES),
        "|".join((*MATS, "*train*.csv", "*/*train*.csv", "emotic/*/*train*.csv")),
    ),
    terms="access form; non-commercial; no redistribution",
    ask="s3.sunai.uoc.edu/emotic (Universitat Oberta de Catalunya)",
    license="LicenseRef-EMOTIC",
    papers=("CAGE",),
    status=CONFIRMED,
)
# people with categories and VAD
KNOWN = tuple(
    Known(
        what=f"annotated people, {split}", count=count,
        where={"split_all": split, "valence_mask": "valid", "emotic_affection_mask": "valid"},
    )
    for split, count in zip(SPLITS, (23_266, 3_315, 7_203), strict=True)
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Options:
    annotations: str = "auto"


@dataclass(frozen=True, kw_only=True)
class Person:
    """One annotated person, in plain values. `categories` and `affects` are None where nobody gave them."""

    folder: str
    filename: str
    split: str
    size: tuple[float, float]  # width, height
    bbox: tuple[float, ...]  # x1, y1, x2, y2
    categories: tuple[str, ...] | None
    affects: tuple[float | None, ...]
    gender: tuple[str, ...]
    age: tuple[str, ...]
    where: str
    said: tuple[dict[str, Any], ...] = ()  # by each annotator, of val and test


def doctor(frames):
    """People with all labels; boxes and masks are no part of the published counts."""
    from reactionnet_datasets.doctor import compare, count

    return [compare(known.what, known.count, count(frames, known)) for known in KNOWN]


def unread(release: Release) -> str | None:
    """The arrays of a conversion."""
    for folder in (release.root, *(path for path in release.listing(release.root) if path.is_dir())):
        for path in release.listing(folder, "*_arr.npy"):
            return f"{release.relative(path)} is of the conversion to arrays, which is unconfirmed and not read"
    return None


def read(release: Release, options: Options) -> Iterator[Clip]:
    """One clip a person."""
    one_of("annotations", options.annotations, ("auto", "mat", "csv"))
    mat = next((path for name in MATS if (path := release.find(name)) is not None), None)
    if options.annotations == "mat" and mat is None:
        raise release.not_here(MATS[0])
    people = _read_csv(release) if mat is None or options.annotations == "csv" else _read_mat(release, mat)
    top = "emotic/" if release.find("emotic") is not None else ""
    persons: Counter[tuple[str, str]] = Counter()
    splits: dict[tuple[str, str], str] = {}
    for person in people:
        picture = person.folder, person.filename
        if splits.setdefault(picture, person.split) != person.split:
            raise ReleaseError(f"{person.where}: {'/'.join(picture)} is in {splits[picture]} and in {person.split}")
        number = persons[picture]
        persons[picture] += 1
        clip = _clip(release, top, person, number)
        if clip is not None:
            yield clip
    _note_unlisted(release, top, {f"{folder}/{name}".lower() for folder, name in splits})


def _note_unlisted(release: Release, top: str, listed: set[str]) -> None:
    """Pictures that no list names are counted: if there are many, a list is cut off."""
    for folder in sorted({name.rpartition("/")[0] for name in listed}):
        place = release.find(top + folder)
        for path in release.pictures(place) if place is not None and place.is_dir() else ():
            if f"{folder}/{path.name}".lower() not in listed:
                release.note("pictures that no list names", release.relative(path))


def _clip(release: Release, top: str, person: Person, number: int) -> Clip | None:
    path = f"{person.folder}/{person.filename}"
    file = release.file(f"{top}{path}")
    if person.categories is None and all(value is None for value in person.affects):
        release.note("people whom nobody annotated", person.where)
    facts: dict[str, Any] = {"annotators": list(person.said)} if person.said else {}
    box = _clipped(person.bbox, person.size)
    if box is None:
        release.note("boxes with nothing in the picture, left out", person.where)
        facts["bbox"] = list(person.bbox)
    elif (box[0], box[1], box[0] + box[2], box[1] + box[3]) != person.bbox:
        release.note("boxes clipped to the picture", person.where)
        facts["bbox"] = list(person.bbox)
    if file is None:
        return None
    return Clip(
        video=path.rpartition(".")[0],
        track=str(number),
        frames=(0,),
        media=Pictures(files=(file,)),
        labels=_labels(person),
        splits={"all": person.split},
        boxes=[box] if box is not None else None,
        facts=facts,
    )


def _clipped(bbox: tuple[float, ...], size: tuple[float, float]) -> list[float] | None:
    """x, y, w, h of the part of a box that lies in the picture; None where there is none."""
    x1, x2 = (min(max(x, 0.0), size[0]) for x in bbox[0::2])
    y1, y2 = (min(max(y, 0.0), size[1]) for y in bbox[1::2])
    return [x1, y1, x2 - x1, y2 - y1] if x2 > x1 and y2 > y1 else None


def _labels(person: Person) -> dict[str, Label]:
    given = None if person.categories is None else {_category(name, person.where) for name in person.categories}
    labels = {f"emotic_{name}": one("au_occ", None if given is None else int(name in given)) for name in CATEGORIES}
    for name, value in zip(AFFECTS, person.affects, strict=True):
        if value is not None and not 1 <= value <= 10:
            raise ReleaseError(f"{person.where}: {name} {value:g}; expected 1 to 10")
        labels[name] = one("vad10", value)
    labels["gender"] = _agreed(person.gender, "female_male", person.where)
    labels["age_group"] = _agreed(person.age, "emotic_age3", person.where)
    return labels


def _category(text: str, where: str) -> str:
    name = class_name(text)
    if name not in CATEGORIES:
        raise ReleaseError(f"{where}: category {text!r}; expected one of EMOTIC's 26: {', '.join(CATEGORIES)}")
    return name


def _agreed(words: tuple[str, ...], space: str, where: str) -> Label:
    names = {class_name(word) for word in words}
    if unknown := sorted(names - set(classes_of(space))):
        raise ReleaseError(f"{where}: {unknown[0]!r}; expected {' or '.join(classes_of(space))}")
    if len(names) > 1:
        return one(space, None, "rule_gave_none", raw=", ".join(words))
    return one(space, names.pop() if names else None)


# -- Annotations.mat -------------------------------------------------------------------------------------------------


def _read_mat(release: Release, path: Path) -> Iterator[Person]:
    content = load_mat(path.read_bytes(), release.relative(path))
    if lacking := [split for split in SPLITS if split not in content]:
        found = ", ".join(sorted(name for name in content if not name.startswith("__"))) or "nothing"
        raise ReleaseError(f"{release.relative(path)} has no variable {', '.join(lacking)}; found {found}")
    for split in SPLITS:
        for number, image in enumerate(_items(content[split])):
            where = f"{path.name} {split}[{number}]"
            filename, folder = _field(image, "filename", where), _field(image, "folder", where)
            size = _field(image, "image_size", where)
            width, height = (_number(_field(size, name, where), name, where) for name in ("n_col", "n_row"))
            for place, person in enumerate(_items(_field(image, "person", where))):
                yield _person_of_mat(
                    person, str(folder), str(filename), split, (width, height), f"{where} person {place}"
                )


def _person_of_mat(
    person: Any, folder: str, filename: str, split: str, size: tuple[float, float], where: str
) -> Person:
    kind = "annotations" if split == "train" else "combined"
    said: list[dict[str, Any]] = []
    if split != "train":
        words = _items(getattr(person, "annotations_categories", None))
        affects = _items(getattr(person, "annotations_continuous", None))
        said = [{"categories": list(_words(one)), "vad": None} for one in words]
        if len(affects) == len(words):
            said = [{**one, "vad": list(_affects(a, where))} for one, a in zip(said, affects, strict=True)]
    bbox = [float(number) for number in np.ravel(_field(person, "bbox", where))]
    return Person(
        folder=_plain(folder),
        filename=filename,
        split=split,
        size=size,
        bbox=_box(bbox, where),
        categories=_words(getattr(person, f"{kind}_categories", None)) or None,
        affects=_affects(getattr(person, f"{kind}_continuous", None), where),
        gender=_words(getattr(person, "gender", None)),
        age=_words(getattr(person, "age", None)),
        where=where,
        said=tuple(said),
    )


def _field(struct: Any, name: str, where: str) -> Any:
    if not hasattr(struct, name):
        found = ", ".join(getattr(struct, "_fieldnames", ())) or type(struct).__name__
        raise ReleaseError(f"{where} has no field {name}; found {found}")
    return getattr(struct, name)


def _items(value: Any) -> list[Any]:
    """A struct array or cell as a list: one element is squeezed to itself, none to an empty array."""
    if value is None:
        return []
    return list(np.ravel(value)) if isinstance(value, np.ndarray) else [value]


def _words(value: Any) -> tuple[str, ...]:
    """All words in a cell of words, or in a struct with one."""
    if isinstance(value, str):
        return (value.strip(),) if value.strip() else ()
    if hasattr(value, "_fieldnames"):
        return tuple(word for name in value._fieldnames for word in _words(getattr(value, name)))
    if isinstance(value, np.ndarray):
        return tuple(word for item in value.ravel() for word in _words(item))
    return ()


def _affects(value: Any, where: str) -> tuple[float | None, ...]:
    """Valence, arousal, dominance of a struct; None where it is empty or not a number."""
    structs = _items(value)
    if not structs or all(isinstance(one, float) and np.isnan(one) for one in structs):
        return (None,) * len(AFFECTS)
    if len(structs) > 1:
        raise ReleaseError(f"{where} has {len(structs)} values of each of {', '.join(AFFECTS)}; expected one")
    found = []
    for name in AFFECTS:
        numbers = np.ravel(_field(structs[0], name, where))
        found.append(None if not numbers.size or np.isnan(float(numbers[0])) else float(numbers[0]))
    return tuple(found)


def _number(value: Any, name: str, where: str) -> float:
    numbers = np.ravel(value)
    if numbers.size != 1:
        raise ReleaseError(f"{where}: {name} holds {numbers.size} numbers; expected one")
    return float(numbers[0])


# -- csv -------------------------------------------------------------------------------------------------------------


def _read_csv(release: Release) -> Iterator[Person]:
    for split, path in _tables(release).items():
        for line, cells in release.records(path, COLUMNS):
            yield _person_of_row(release, path, line, cells, split)


def _tables(release: Release) -> dict[str, Path]:
    """The one table of each split, all in one folder; `train.csv` or a longer name such as `emotic_train.csv`."""
    found: dict[Path, dict[str, list[Path]]] = {}
    tops = [path for path in (release.root, release.find("emotic")) if path is not None]
    folders = dict.fromkeys(path for top in tops for path in (top, *release.listing(top)) if path.is_dir())
    for folder in folders:
        for path in release.listing(folder, "*.csv"):
            words = set(re.split(r"[^a-z]+", path.stem.lower().replace("validation", "val")))
            for split in words & set(SPLITS):
                found.setdefault(folder, {}).setdefault(split, []).append(path)
    if len(found) != 1:
        names = ", ".join(release.relative(folder) for folder in found) or "none"
        raise release.not_here(
            f"emotic: train.csv, val.csv and test.csv in one place (folders with such tables: {names})"
        )
    folder, tables = next(iter(found.items()))
    for split in SPLITS:
        if len(tables.get(split, ())) != 1:
            names = ", ".join(path.name for path in release.listing(folder, "*.csv"))
            raise ReleaseError(f"expected one table {split}.csv in {release.relative(folder)}; found {names}")
    return {split: tables[split][0] for split in SPLITS}


def _person_of_row(release: Release, path: Path, line: int, cells: dict[str, str], split: str) -> Person:
    where = f"{release.relative(path)} line {line}"
    size = [_finite(number, where) for number in _listed(cells["Image Size"], where)]
    if len(size) != 2:
        raise ReleaseError(f"{where}: Image Size {cells['Image Size']!r}; expected [width, height]")
    affects = _listed(cells["Continuous_Labels"], where) or [None] * len(AFFECTS)
    if len(affects) != len(AFFECTS) or not all(isinstance(value, int | float | None) for value in affects):
        raise ReleaseError(f"{where}: {cells['Continuous_Labels']!r}; expected [{', '.join(AFFECTS)}]")
    return Person(
        folder=_plain(cells["Folder"]),
        filename=cells["Filename"],
        split=split,
        size=(size[0], size[1]),
        bbox=_box([_finite(number, where) for number in _listed(cells["BBox"], where)], where),
        categories=tuple(map(str, _listed(cells["Categorical_Labels"], where))) or None,
        affects=tuple(None if value is None else float(value) for value in affects),
        gender=_word(cells["Gender"]),
        age=_word(cells["Age"]),
        where=where,
    )


def _listed(text: str, where: str) -> list[Any]:
    """A Python list as these tables spell one; nan becomes None. Literals alone are read, never code."""
    if not text:
        return []
    try:
        value = ast.literal_eval(_NAN.sub("None", text))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, list | tuple):
        raise ReleaseError(f"{where}: {text[:60]!r}; expected a list such as [1, 2]")
    return list(value)


def _finite(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ReleaseError(f"{where}: {value!r}; expected a number")
    return float(value)


def _word(text: str) -> tuple[str, ...]:
    return () if text.lower() in ("", "nan", "none") else (text,)


def _plain(folder: str) -> str:
    """A picture's folder below the pictures' top, as `mscoco/images`."""
    plain = folder.strip().replace("\\", "/").strip("/")
    return plain.removeprefix("emotic/")


def _box(numbers: list[float], where: str) -> tuple[float, ...]:
    if len(numbers) != 4 or not all(np.isfinite(numbers)):
        raise ReleaseError(f"{where}: bbox {numbers}; expected x1, y1, x2, y2")
    return tuple(numbers)
