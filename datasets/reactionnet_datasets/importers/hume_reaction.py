"""Hume-Reaction: people alone before a webcam watch a clip, and say how strongly they felt seven emotions.

Christ et al., MuSe 2022; ABAW5's emotional reaction intensity (ERI) challenge. EULA via competitions@hume.ai, research
only; nothing is downloaded. Two layouts; ROOT holds one of them:

    data_info.csv                             ABAW5: File_ID,Split,Country,Adoration,... in any order, read by header
    {train,val,test}/00001.mp4  wav/00001.wav the videos; the sound is theirs where there is no wav folder

    c2_muse_reaction/labels.csv               MuSe 2022: File_ID,Adoration,Amusement,... ; ids are `[00001]`
    c2_muse_reaction/partition.csv            id and partition, read by position: the header's words are unconfirmed
    c2_muse_reaction/feats/<feature>/00001.csv    timestamp, segment_id, then numbers

Values are self-reports divided by their maximum, 0 to 1, and no distribution: they are stored as they are. `devel` is
`val`. An empty cell, or no row, of a test video is masked `withheld`; anywhere else it is an error. Nobody's identity is
in the release, so there are no subjects, and no other splits than the official one and `hume_reaction-5fold-ours-v1`.

Where the reference leaves something open: videos are stored whole, frame by frame from 0 at the times that the file says,
as their rate varies; the country is kept in the records' provenance as it is spelled. MuSe's tree has no videos: where
ROOT holds them nevertheless (`--videos FOLDER`; looked for in raw, raw_data, video, videos), they are imported and the
features, whose times are not the frames', are left out and counted. Else records have no pictures: the frames are the
times that occur in any feature's file, each feature is a stream of its name, NaN at times that it lacks, and
`--timestamps ms|s` says in what times are; `auto` takes whole numbers for MuSe's ms and others for seconds. `--features
a,b` chooses some; a feature that is not a csv, such as a pickle, is refused. ROOT may be the folder c2_muse_reaction or the
one above it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from reactionnet_datasets.about import CONFIRMED, About, Known, folds_of, one_of
from reactionnet_datasets.clip import Clip, NoPictures, Numbers, Video
from reactionnet_datasets.hume import SPLITS, Row, intensities, rows_of, withheld
from reactionnet_datasets.labels import classes_of
from reactionnet_datasets.release import PICKLES, Release, ReleaseError
from reactionnet_datasets.release_videos import SOUNDS, VIDEOS, by_name, facts_of, plain_name, sound_of
from reactionnet_datasets.sample import Label

SPACE, PREFIX = "eri7", "eri"
MUSE = "c2_muse_reaction"
FOLDERS = {"train": ("train",), "val": ("val", "valid", "devel"), "test": ("test",)}

ABOUT = About(
    name="hume_reaction",
    title="Hume-Reaction: webcam videos of people who watch something, with the felt strength of seven emotions",
    markers=(
        f"data_info.csv|{MUSE}/labels.csv|labels.csv",
        f"data_info.csv|{MUSE}/partition.csv|partition.csv",
    ),
    terms="EULA of Hume AI; research only; no redistribution",
    ask="competitions@hume.ai",
    license="LicenseRef-Hume-Reaction",
    papers=("ERI",),
    status=CONFIRMED,
    known=(
        Known(what="videos in train", count=15_806, of="videos", where={"split_all": "train"}, recalled=True),
        Known(what="videos in val", count=4_657, of="videos", where={"split_all": "val"}, recalled=True),
        Known(what="videos in test", count=4_604, of="videos", where={"split_all": "test"}, recalled=True),
        Known(what="subjects (the release names none)", count=2_222, of="subjects", recalled=True),
    ),
)
LENGTHS = {"shortest": 50, "longest": 1_561}  # frames of a video, as ERI (paper) gives them


@dataclass(frozen=True, kw_only=True)
class Options:
    videos: str = "auto"
    features: str = "all"
    timestamps: str = "auto"
    sound: bool = True


def doctor(frames):
    """Frames of the shortest and the longest video; a release of features has none."""
    import pyarrow.compute as pc

    from reactionnet_datasets.doctor import compare

    if pc.all(pc.ends_with(frames["source_path"], ".csv")).as_py():
        return []
    num = frames.group_by("video_id").aggregate([("frame", "count")])["frame_count"]
    found = pc.min_max(num).as_py()
    ends = {"shortest": found["min"], "longest": found["max"]}
    return [compare(f"frames of the {what} video", count, ends[what]) for what, count in LENGTHS.items()]


def read(release: Release, options: Options) -> Iterator[Clip]:
    """One clip a video. ReleaseError for rows, files and splits that contradict each other."""
    one_of("timestamps", options.timestamps, ("auto", "ms", "s"))
    info = release.find("data_info.csv")
    if info is not None:
        yield from _read_abaw(release, info, options)
        return
    base = release.find(MUSE) or release.root
    splits = _partition(release, release.first(f"{MUSE}/partition.csv", "partition.csv"))
    yield from _read_muse(release, base, splits, options)


# -- ABAW5 -----------------------------------------------------------------------------------------------------------


def _folds(name: str, split: str) -> dict[str, int]:
    return {} if split == "test" else folds_of("hume_reaction", name)


def _read_abaw(release: Release, info: Path, options: Options) -> Iterator[Clip]:
    rows = list(rows_of(release, info, "File_ID", ("split", *classes_of(SPACE))))
    videos = {split: by_name(release, _folders(release, names)) for split, names in FOLDERS.items()}
    sounds = by_name(release, _folders(release, ("wav", "audio")), SOUNDS) if options.sound else {}
    listed = {row.name: _split(release, info, row.line, row.cells["split"]) for row in rows}
    _check_folders(release, videos, listed)
    for row in rows:
        split = listed[row.name]
        path = videos[split].get(row.name)
        clip = _clip(release, row.written, path or f"{split}/{row.written}.mp4", sounds, options)
        labels = intensities(release, info, row, SPACE, PREFIX, split)
        if clip is not None:
            facts = {"country": row.cells["country"]} if row.cells.get("country") else {}
            yield Clip(**clip, labels=labels, splits={"all": split}, folds=_folds(row.name, split), facts=facts)


def _folders(release: Release, names: tuple[str, ...]) -> list[Path]:
    found = (release.find(name) for name in names)
    return [path for path in found if path is not None and path.is_dir()]


def _split(release: Release, path: Path, line: int, text: str) -> str:
    if text.lower() not in SPLITS:
        raise release.fault(path, line, f"split {text!r}; expected train, val (devel) or test")
    return SPLITS[text.lower()]


def _check_folders(release: Release, videos: Mapping[str, Mapping[str, Path]], listed: Mapping[str, str]) -> None:
    """Every video that lies there is listed, and for the split whose folder it lies in."""
    for split, of_name in videos.items():
        for name, path in of_name.items():
            if name not in listed:
                raise ReleaseError(f"{release.relative(path)} is not in data_info.csv: is the release complete?")
            if listed[name] != split:
                raise ReleaseError(f"{release.relative(path)} lies in {split}, but data_info.csv says {listed[name]}")


def _clip(release: Release, name: str, path: Path | str, sounds: Mapping[str, Path], options: Options) -> dict | None:
    """What the clips of both layouts have of their video; None where it is missing."""
    file = release.file(path)
    facts = facts_of(release, file) if file is not None else None
    if file is None or facts is None:
        return None
    sound = None
    if options.sound:
        if sounds:
            sound = sound_of(release, sounds.get(plain_name(name)) or f"wav/{name}.wav")
        elif facts.has_sound:
            sound = file
    places = range(facts.num_frames)
    return {"video": name, "frames": places, "media": Video(file=file, places=places), "fps": facts.fps, "sound": sound}


# -- MuSe 2022 -------------------------------------------------------------------------------------------------------


def _partition(release: Release, path: Path) -> dict[str, tuple[str, str]]:
    """Plain name -> (name as written, split)."""
    splits: dict[str, tuple[str, str]] = {}
    for number, (line, cells) in enumerate(release.rows(path)):
        if len(cells) < 2:
            raise release.fault(path, line, f"{','.join(cells)}; expected an id and train, devel or test")
        if number == 0 and cells[1].lower() not in SPLITS:
            continue  # the header
        name = plain_name(cells[0])
        if name in splits:
            raise release.fault(path, line, f"{cells[0]} is listed before")
        splits[name] = (cells[0].strip("[]'\" "), _split(release, path, line, cells[1]))
    return splits


def _read_muse(release: Release, base: Path, splits: Mapping[str, tuple[str, str]], options: Options) -> Iterator[Clip]:
    table = release.first(f"{MUSE}/labels.csv", "labels.csv")
    rows = {row.name: row for row in rows_of(release, table, "File_ID", classes_of(SPACE))}
    if unknown := sorted(set(rows) - set(splits)):
        raise ReleaseError(f"{rows[unknown[0]].written} is in labels.csv, but not in partition.csv")
    videos = by_name(release, _video_folders(release, base, options))
    inside = f"{MUSE}/" if base != release.root else ""
    sounds = by_name(release, _folders(release, (f"{inside}wav", f"{inside}audio")), SOUNDS) if options.sound else {}
    features = _features(release, base, options)
    if videos and features:
        release.note("features left out, as their times are not the frames'", ", ".join(features))
    if not videos and not features:
        raise ReleaseError(
            f"{release.root} has neither videos nor feats/<feature>/*.csv; found {_entries(release, base)}"
        )
    scale = 1.0 if videos else _scale(release, features, options)
    for name, (written, split) in sorted(splits.items(), key=lambda item: (len(item[0]), item[0])):
        labels = _labels(release, table, rows.get(name), written, split)
        if videos:
            clip = _clip(release, written, videos.get(name) or f"{written}.mp4", sounds, options)
        else:
            clip = _feature_clip(release, name, written, features, scale)
        if clip is not None:
            yield Clip(**clip, labels=labels, splits={"all": split}, folds=_folds(name, split))


def _entries(release: Release, base: Path) -> str:
    return ", ".join(path.name for path in release.listing(base)) or "an empty folder"


def _labels(release: Release, table: Path, row: Row | None, written: str, split: str) -> dict[str, Label]:
    if row is not None:
        return intensities(release, table, row, SPACE, PREFIX, split)
    if split != "test":
        raise ReleaseError(f"{written} is in {split}, but not in labels.csv: only test videos may lack a row")
    return withheld(SPACE, PREFIX)


def _video_folders(release: Release, base: Path, options: Options) -> list[Path]:
    if options.videos != "auto":
        tops = [release.first(options.videos)]
    else:
        inside = f"{MUSE}/" if base != release.root else ""
        tops = _folders(release, tuple(inside + name for name in ("raw", "raw_data", "video", "videos")))
    below = [path for top in tops if top.is_dir() for path in (top, *release.listing(top)) if path.is_dir()]
    return [path for path in below if any(p.suffix.lower() in VIDEOS for p in release.listing(path))]


def _features(release: Release, base: Path, options: Options) -> dict[str, dict[str, Path]]:
    """Name of a feature -> its file of each video."""
    folder = next((path for path in release.listing(base, "feat*") if path.is_dir()), None)
    if folder is None:
        return {}
    found = {path.name: path for path in release.listing(folder) if path.is_dir()}
    if options.features != "all":
        names = [name.strip() for name in options.features.split(",") if name.strip()]
        if unknown := [name for name in names if name not in found]:
            raise ReleaseError(f"--features {unknown[0]}: there is {', '.join(found) or 'none'}")
        found = {name: found[name] for name in names}
    if packed := release.packed(below=folder):
        raise ReleaseError(f"{', '.join(packed[:3])}: not unpacked; unpack the features first")
    for path in found.values():
        for entry in release.listing(path):
            if entry.suffix.lower() in PICKLES:
                release.refuse(entry)
    files = {name: by_name(release, [path], (".csv",)) for name, path in found.items()}
    return {name: of_video for name, of_video in files.items() if of_video}


def _scale(release: Release, features: Mapping[str, Mapping[str, Path]], options: Options) -> float:
    """Timestamps in a second: 1000, or 1 where those of the first file are no whole numbers."""
    if options.timestamps != "auto":
        return 1000.0 if options.timestamps == "ms" else 1.0
    of_video = next(iter(features.values()))
    seconds = any(time != int(time) for time in _feature_rows(release, of_video[min(of_video)]))
    release.note("unit of the features' timestamps (--timestamps)", "s" if seconds else "ms")
    return 1.0 if seconds else 1000.0


def _feature_clip(
    release: Release, name: str, written: str, features: Mapping[str, Mapping[str, Path]], scale: float
) -> dict | None:
    """Frames are the times of all features together; a feature is NaN at times that it lacks."""
    tables, first = {}, None
    for feature, paths in features.items():
        file = release.file(paths.get(name) or f"{_feature_folder(release, paths)}/{written}.csv")
        if file is not None:
            first = first or file
            tables[feature] = _feature_rows(release, release.root / file.path)
    times = sorted({time for rows in tables.values() for time in rows})
    if first is None or not times:
        return None
    part = next((time for time in times if time != int(time)), None)
    if part is not None and scale > 1:
        raise ReleaseError(
            f"{first.path}: the timestamp {part:g} is no whole number of ms; --timestamps s reads seconds"
        )
    return {
        "video": written,
        "frames": range(len(times)),
        "media": NoPictures(file=first, num=len(times)),
        "t_s": [time / scale for time in times],
        "streams": {feature: Numbers(values=[rows.get(time) for time in times]) for feature, rows in tables.items()},
    }


def _feature_folder(release: Release, paths: Mapping[str, Path]) -> str:
    return release.relative(next(iter(paths.values())).parent)


def _number(release: Release, path: Path, line: int, text: str) -> float | None:
    """A feature; None, which is NaN in the stream, where a frame had no face."""
    return None if text.lower() in ("", "nan") else release.number(path, line, text, "feature")


def _feature_rows(release: Release, path: Path) -> dict[float, list[float | None]]:
    """Time -> numbers. The first two columns are the time and the segment's id."""
    rows = release.rows(path)
    line, header = next(rows, (1, []))
    if len(header) < 3 or header[0].strip("'\"").lower() not in ("timestamp", "timestamps", "time"):
        shown = ",".join(header[:4]) or "nothing"
        raise release.fault(path, line, f"expected timestamp,segment_id and features; the header begins with {shown}")
    found: dict[float, list[float | None]] = {}
    for line, cells in rows:
        if len(cells) != len(header):
            raise release.fault(path, line, f"{len(cells)} cells; the header has {len(header)}")
        time = release.number(path, line, cells[0], "timestamp")
        if time in found:
            raise release.fault(path, line, f"timestamp {cells[0]} comes twice")
        found[time] = [_number(release, path, line, cell) for cell in cells[2:]]
    if not found:
        raise release.fault(path, line, "no row below the header")
    return found
