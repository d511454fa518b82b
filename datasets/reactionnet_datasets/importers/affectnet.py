"""AffectNet: stills from the web with one of eight expressions (three further codes mean none), valence and arousal.

Mollahosseini et al., IEEE TAC 10(1), 2019. Access by request of a principal investigator; nothing is downloaded. Two
releases, whose picture numbers have nothing to do with each other; ROOT holds one of them:

    Manually_Annotated_file_lists/{training,validation}.csv           original: subDirectory_filePath, face_x, ...,
    Manually_Annotated_Images/12/<hash>.jpg                           facial_landmarks, expression, valence, arousal
    Automatically_Annotated_file_lists/automatically_annotated.csv    with --automatic yes

    train_set/images/0.jpg, train_set/annotations/0_{exp,val,aro,lnd}.npy      later release, 224x224; val_set/...
    {train,val}_set_annotation_without_lnd.csv                        CAGE's lists of it: number,exp,val,aro

Codes: 0 neutral 1 happiness 2 sadness 3 surprise 4 fear 5 disgust 6 anger 7 contempt; 8 none, 9 uncertain and 10 no
face are masked `invalid_code`, and so are their valence and arousal of -2. `--classes 7` leaves contempt out. Where the
reference leaves something open: a list without a header is read in the original's order of columns; a file that is listed
twice alike is imported once and counted, twice with other labels is an error; two files that differ in their extension
alone, or one file in two lists, are two pictures, the second of which keeps its extension in its name; pictures that no list
names are counted; a box or landmarks of NULL are none; numbers of the later release are sparse, so its pictures are joined
by number, from annotations (or CAGE's list with `--annotations csv`; `auto` takes npy if there); automatic annotations are
imported only if asked for, as training data, and noted where they are not. Landmarks are in pixels of the stored picture.
One validation picture of the original does not decode: `--allow-missing` records it, and `--doctor` then finds 5,499.

Not read: re-partitions such as Fair-Consistent's (`name,expression,age,gender,race`). Its codes count along another,
alphabetical order, and where its pictures lie is **unconfirmed**; a ROOT with such lists is refused with a message that
says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from reactionnet_datasets.about import CONFIRMED, About, Known, class_at, one_of
from reactionnet_datasets.clip import Clip, File, Numbers, Pictures, one
from reactionnet_datasets.labels import classes_of
from reactionnet_datasets.release import Release, ReleaseError
from reactionnet_datasets.sample import Label

CLASSES = classes_of("affectnet8")
NO_CLASS = {8: "none", 9: "uncertain", 10: "no face"}
COLUMNS = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression",
    "valence", "arousal",
)  # fmt: skip
LISTS = "Manually_Annotated_file_lists"

ABOUT = About(
    name="affectnet",
    title="AffectNet: web pictures with expression, valence and arousal",
    markers=(f"{LISTS}/*.csv|Automatically_Annotated_file_lists/*.csv|train_set|val_set",),
    terms="request of a principal investigator; research only; no redistribution",
    ask="mohammadmahoor.com",
    license="LicenseRef-AffectNet",
    papers=("ReactioNet (DRR)", "ABAW6", "CAGE"),
    status=CONFIRMED,
)
FAIR = ("name", "expression", "age", "gender", "race")


def _val_classes(release: str, num_contempt: int) -> Iterator[Known]:
    """500 validation pictures a class; of contempt as many as a release has, or none."""
    for name in CLASSES:
        if count := num_contempt if name == "contempt" else 500:
            yield Known(what=f"{release}, val, {name}", count=count, where={"split_all": "val", "expression": name})


KNOWN_LATER = (
    Known(what="later release, train", count=287_651, where={"split_all": "train"}),
    Known(what="later release, val", count=3_999, where={"split_all": "val"}),
    *_val_classes("later release", 499),
)
KNOWN_ORIGINAL = (
    Known(what="original, train", count=414_799, where={"split_all": "train"}, recalled=True),
    Known(what="original, val", count=5_500, where={"split_all": "val"}),
    *_val_classes("original", 500),
)
KNOWN_ORIGINAL_7 = (
    Known(what="original without contempt, val", count=5_000, where={"split_all": "val"}),
    *_val_classes("original without contempt", 0),
)
KNOWN_LATER_7 = (
    Known(what="later release without contempt, train", count=283_901, where={"split_all": "train"}, recalled=True),
    Known(what="later release without contempt, val", count=3_500, where={"split_all": "val"}),
    *_val_classes("later release without contempt", 0),
)


@dataclass(frozen=True, kw_only=True)
class Options:
    classes: int = 8
    automatic: bool = False
    annotations: str = "auto"


def doctor(frames):
    """The counts of the release that was imported, which its paths tell."""
    from reactionnet_datasets.doctor import compare, count

    paths = frames["source_path"]
    later = bool(len(paths)) and "_set/" in paths[0].as_py()
    contempt = count(frames, Known(what="contempt", count=0, where={"expression": "contempt"}))
    eight, seven = (KNOWN_LATER, KNOWN_LATER_7) if later else (KNOWN_ORIGINAL, KNOWN_ORIGINAL_7)
    expected = eight if contempt else seven
    return [compare(known.what, known.count, count(frames, known), known.recalled) for known in expected]


def unread(release: Release) -> str | None:
    """Fair-Consistent's lists, by their header."""
    for path in release.listing(release.root, "*.csv"):
        _, header = next(release.rows(path), (0, []))
        if [cell.lower() for cell in header[:5]] == list(FAIR):
            return f"{path.name} is a list of another partition ({','.join(FAIR)}), whose layout is unconfirmed and not read"
    return None


def read(release: Release, options: Options) -> Iterator[Clip]:
    """One clip a picture."""
    one_of("classes", str(options.classes), ("7", "8"))
    one_of("annotations", options.annotations, ("auto", "npy", "csv"))
    later = [name for name in ("train_set", "val_set") if release.find(name)]
    original = release.find(LISTS) or release.find("Automatically_Annotated_file_lists")
    if later and original:
        raise ReleaseError(f"ROOT holds both releases ({', '.join(later)} and {original.name}); import one at a time")
    clips = _read_later(release, options) if later else _read_original(release, options)
    for clip in clips:
        if options.classes == 7 and clip.labels["expression"].value == "contempt":
            release.note("pictures of contempt left out (--classes 7)", clip.video)
            continue
        yield clip


def _read_original(release: Release, options: Options) -> Iterator[Clip]:
    lists = []
    if release.find(LISTS):
        lists = [(f"{LISTS}/training.csv", "Manually", "train"), (f"{LISTS}/validation.csv", "Manually", "val")]
    if options.automatic or not lists:
        name = "Automatically_Annotated_file_lists/automatically_annotated.csv"
        lists.append((name, "Automatically", "train"))
    elif release.find("Automatically_Annotated_file_lists"):
        release.note("automatic lists not read (--automatic yes)", "Automatically_Annotated_file_lists")
    stems_of: dict[str, set[str]] = {}
    listed_of: dict[str, set[str]] = {}
    for name, how, split in lists:
        path = release.first(name)
        pictures = release.relative(release.first(f"{how}_Annotated_Images"))
        seen: dict[str, int] = {}  # hash of the labels, so that a million names stay small
        stems = stems_of.setdefault(pictures, set())
        for line, cells in _original_rows(release, path):
            listed = cells["subDirectory_filePath"]
            facts = hash(tuple(cells.values()))
            if listed in seen:
                if seen[listed] != facts:
                    raise release.fault(path, line, f"{listed} is listed before with other labels")
                release.note("pictures listed twice", f"{name} line {line}")
                continue
            seen[listed] = facts
            if listed in listed_of.setdefault(pictures, set()):
                release.note("pictures that two lists name", f"{name} line {line}")
            listed_of[pictures].add(listed)
            stem = listed.rsplit(".", 1)[0]
            video = listed if stem in stems else stem
            stems.add(stem)
            file = _picture(release, f"{pictures}/{listed}")
            if file is not None:
                yield replace(_original_clip(release, path, line, cells, file, how, split), video=video)
    for pictures, stems in stems_of.items():
        _note_unlisted(release, pictures, {stem.lower() for stem in stems})


def _note_unlisted(release: Release, pictures: str, stems: set[str]) -> None:
    """Pictures that no list names are counted: if there are many, a list is cut off."""
    for folder in release.listing(pictures):
        for path in release.pictures(folder) if folder.is_dir() else ():
            if f"{folder.name}/{path.stem}".lower() not in stems:
                release.note("pictures that no list names", release.relative(path))


def _original_rows(release: Release, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows by column name; some copies of validation.csv have no header."""
    header: tuple[str, ...] | None = None
    for line, cells in release.rows(path):
        if header is None:
            plain = {name.lower(): name for name in COLUMNS}
            if COLUMNS[0].lower() in map(str.lower, cells):
                header = tuple(plain.get(cell.lower(), cell) for cell in cells)
                if lacking := [name for name in COLUMNS if name not in header]:
                    raise release.fault(path, line, f"no column {', '.join(lacking)}")
                continue
            header = COLUMNS
        if len(cells) != len(header):
            raise release.fault(path, line, f"{len(cells)} cells; expected {len(header)}: {', '.join(header)}")
        yield line, dict(zip(header, cells, strict=True))


def _original_clip(
    release: Release, path: Path, line: int, cells: dict[str, str], file: File, how: str, split: str
) -> Clip:
    points = [
        release.number(path, line, cell, "landmark") for cell in cells["facial_landmarks"].split(";") if not _null(cell)
    ]
    if points and len(points) != 136:
        raise release.fault(path, line, f"{len(points)} landmark numbers; expected 136, x and y of 68")
    box = [release.number(path, line, cells[name], name) for name in COLUMNS[1:5] if not _null(cells[name])]
    code = release.whole(path, line, cells["expression"], "expression")
    va = {name: release.number(path, line, cells[name], name) for name in ("valence", "arousal")}
    return Clip(
        video=cells["subDirectory_filePath"].rsplit(".", 1)[0],
        frames=(0,),
        media=Pictures(files=(file,)),
        labels=_labels(code, va, f"{release.relative(path)} line {line}"),
        splits={"all": split},
        boxes=[box] if len(box) == 4 else None,
        streams={"landmarks": Numbers(values=[_pairs(points)])} if points else {},
        facts={"annotated": how.lower()},
    )


def _null(cell: str) -> bool:
    return cell.strip().upper() in ("", "NULL")


def _picture(release: Release, path: str) -> File | None:
    """A listed picture; some TIFFs, BMPs and GIFs have a sibling that ends in .jpg."""
    sibling = path.rsplit(".", 1)[0] + ".jpg"
    if release.find(path) is None and release.find(sibling) is not None:
        release.note("pictures read from a .jpg sibling", path)
        return release.file(sibling)
    return release.file(path)


def _read_later(release: Release, options: Options) -> Iterator[Clip]:
    for split in ("train", "val"):
        folder = release.find(f"{split}_set")
        if folder is None:
            raise release.not_here(f"affectnet: {split}_set beside its sibling")
        pictures: dict[str, Path] = {}
        for path in release.pictures(release.first(f"{folder.name}/images")):
            if (other := pictures.setdefault(path.stem, path)) != path:
                raise ReleaseError(f"{release.relative(path)} and {other.name}: which one is meant?")
        numbers = set()
        for number, code, va, points, where in _later_rows(release, folder, split, options):
            numbers.add(number)
            file = release.file(pictures.get(number) or f"{split}_set/images/{number}.jpg")
            if file is not None:
                yield Clip(
                    video=f"{split}/{number}",
                    frames=(0,),
                    media=Pictures(files=(file,)),
                    labels=_labels(code, va, where),
                    splits={"all": split},
                    streams={"landmarks": Numbers(values=[_pairs(points)])} if points else {},
                    facts={"annotated": "manually"},
                )
        if unlabelled := sorted(set(pictures) - numbers):
            raise ReleaseError(
                f"{len(unlabelled)} pictures in {split}_set/images have no annotation, such as"
                f" {', '.join(unlabelled[:5])}: is the release complete?"
            )


def _later_rows(release: Release, folder: Path, split: str, options: Options):
    """(number, code, valence and arousal, landmarks, where) of each picture, in the order of the numbers."""
    annotations = release.find(f"{folder.name}/annotations")
    if annotations is not None and options.annotations != "csv":
        of_number: dict[str, dict[str, Path]] = {}
        for path in release.listing(annotations, "*.npy"):
            number, _, kind = path.stem.rpartition("_")
            of_number.setdefault(number, {})[kind.lower()] = path
        for number, paths in sorted(of_number.items(), key=lambda item: (len(item[0]), item[0])):
            where = f"{release.relative(annotations)}/{number}_*.npy"
            if lacking := [kind for kind in ("exp", "val", "aro") if kind not in paths]:
                raise ReleaseError(f"{where}: no {', '.join(lacking)}")
            exp, val, aro = (_scalar(release, paths[kind]) for kind in ("exp", "val", "aro"))
            points = [float(x) for x in release.array(paths["lnd"]).ravel()] if "lnd" in paths else []
            if not points:
                release.note("pictures without landmarks", where)
            elif len(points) != 136:
                raise ReleaseError(f"{release.relative(paths['lnd'])}: {len(points)} numbers; expected 136")
            yield number, _code(exp, where), {"valence": val, "arousal": aro}, points, where
        return
    name = f"{split}_set_annotation_without_lnd.csv"
    path = release.first(name, f"affectnet_annotations/{name}", f"{folder.name}/{name}")
    for line, cells in release.records(path, ("number", "exp", "val", "aro")):
        number = str(release.whole(path, line, cells["number"], "number"))
        va = {word: release.number(path, line, cells[word[:3]], word) for word in ("valence", "arousal")}
        yield number, release.whole(path, line, cells["exp"], "exp"), va, [], f"{release.relative(path)} line {line}"


def _scalar(release: Release, path: Path) -> float:
    """A 0-d array, which may hold a number or its spelling."""
    array = release.array(path)
    try:
        value = array.reshape(()).item()
        return float(value.decode() if isinstance(value, bytes) else str(value))
    except ValueError as error:
        raise ReleaseError(f"{release.relative(path)} holds {array!r}; expected one number") from error


def _code(value: float, where: str) -> int:
    if value != int(value):
        raise ReleaseError(f"{where}: expression {value}; expected a whole number")
    return int(value)


def _pairs(points: list[float]) -> list[list[float]]:
    return [points[n : n + 2] for n in range(0, len(points), 2)]


def _labels(code: int, va: dict[str, float], where: str) -> dict[str, Label]:
    name = class_at(CLASSES, code)
    if name is None and code not in NO_CLASS:
        raise ReleaseError(f"{where}: expression {code}; expected 0 to 10")
    labels = {"expression": one("affectnet8", name, None if name else "invalid_code", raw=None if name else str(code))}
    for word, value in va.items():
        invalid = value == -2
        if not invalid and not -1 <= value <= 1:
            raise ReleaseError(f"{where}: {word} {value}; expected -1 to 1, or -2")
        labels[word] = one(
            "va", None if invalid else value, "invalid_code" if invalid else None, "-2" if invalid else None
        )
    return labels
