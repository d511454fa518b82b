"""Hume-Vidmimic2: people before a webcam mimic what a video shows, and say how strongly six emotions were in it.

ABAW6's emotional mimicry intensity (EMI) challenge, Kollias et al., 2024. EULA of Hume AI, research only; nothing is
downloaded. Read as public readers show it; every folder's name is an option, as it may be those readers' own:

    train_split.csv  valid_split.csv     Filename,Admiration,Amusement,...; `1` is video 00001
    raw/00001.mp4                        --raw; test videos are those in any folder that neither csv lists
    audio/00001.mp3                      --audio; without the folder, the sound is the video's
    face_images/00001/*.jpg              --faces
    wav2vec2/00001.pkl  vit/00001.pkl    features in pickles: never opened, named in the report

Values are 0 to 1, as reported. Test labels are masked `withheld`. Where the reference leaves something open: pictures are
the videos where there is a folder of them, else the face crops (`--pictures faces` takes these); a crop's number is the
number that its name ends with, counted from 0 where there is a 0 and else from 1, and its time is that of the video's
frame, or by `--fps` where there is no video; numbers without a crop (no face was found) are left out and counted, and a
clip is not cut there, as its labels are of the whole. A folder that holds some of the listed videos must
hold them all, but test videos, of which the reference promises the videos alone, may lack their sound file: theirs is then
the video's, and they are counted. `test_split.csv` (Filename alone), where there is one, says what the test videos are.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from reactionnet_datasets.about import PARTLY, About, Known, folds_of, one_of
from reactionnet_datasets.clip import Clip, Pictures, Video
from reactionnet_datasets.hume import intensities, rows_of, withheld
from reactionnet_datasets.labels import classes_of
from reactionnet_datasets.media import VideoFacts
from reactionnet_datasets.release import PICKLES, Release, ReleaseError
from reactionnet_datasets.release_videos import SOUNDS, by_name, facts_of, plain_name, sound_of
from reactionnet_datasets.sample import Label

SPACE, PREFIX = "emi6", "emi"
TABLES = {"train": "train_split.csv", "val": "valid_split.csv"}

ABOUT = About(
    name="hume_vidmimic2",
    title="Hume-Vidmimic2: webcam videos of people who mimic emotions, with the felt strength of six",
    markers=(TABLES["train"], TABLES["val"]),
    terms="EULA of Hume AI; research only; no redistribution",
    ask="competitions@hume.ai",
    license="LicenseRef-Hume-Vidmimic2",
    papers=("ABAW6",),
    status=PARTLY,
    known=(
        Known(what="videos in train", count=8_072, of="videos", where={"split_all": "train"}, recalled=True),
        Known(what="videos in val", count=4_588, of="videos", where={"split_all": "val"}, recalled=True),
        Known(what="videos in test", count=4_586, of="videos", where={"split_all": "test"}, recalled=True),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Options:
    raw: str = "raw"
    audio: str = "audio"
    faces: str = "face_images"
    pictures: str = "auto"
    sound: bool = True
    fps: float = 30.0


@dataclass(frozen=True, kw_only=True)
class Found:
    """What lies in the folders, by the plain number of the video; None where there is no such folder."""

    videos: Mapping[str, Path] | None
    sounds: Mapping[str, Path] | None
    faces: Mapping[str, Path] | None
    names: frozenset[str]  # in any folder, imported or not


def read(release: Release, options: Options) -> Iterator[Clip]:
    """One clip a video. ReleaseError for rows, files and splits that contradict each other."""
    one_of("pictures", options.pictures, ("auto", "faces", "videos"))
    _refuse_pickles(release)
    found = _found(release, options)
    rows: dict[str, tuple[str, dict[str, Label]]] = {}
    for split, name in TABLES.items():
        path = release.first(name)
        for row in rows_of(release, path, "Filename", classes_of(SPACE)):
            if row.name in rows:
                raise release.fault(path, row.line, f"{row.written} is in {TABLES[rows[row.name][0]]} too")
            rows[row.name] = (split, intensities(release, path, row, SPACE, PREFIX, split))
    for name in _test_videos(release, found, rows):
        rows[name] = ("test", withheld(SPACE, PREFIX))
    for name, (split, labels) in sorted(rows.items(), key=lambda item: (len(item[0]), item[0])):
        clip = _clip(release, name, split, found, options)
        if clip is not None:
            folds = {} if split == "test" else folds_of("hume_vidmimic2", name)
            yield Clip(**clip, labels=labels, splits={"all": split}, folds=folds, cut_at_gaps=False)


def _refuse_pickles(release: Release) -> None:
    for folder in release.listing(release.root):
        for path in release.listing(folder) if folder.is_dir() else [folder]:
            if path.suffix.lower() in PICKLES:
                release.refuse(path)


def _found(release: Release, options: Options) -> Found:
    def folder(name: str, option: str, default: str, packed: bool = False) -> Path | None:
        path = release.find(name, packed=packed)
        if path is None and name != default:
            raise release.not_here(f"--{option} {name}")
        return path if path is not None and path.is_dir() else None

    raw = folder(options.raw, "raw", "raw")
    audio = folder(options.audio, "audio", "audio") if options.sound else None
    from_videos = options.pictures == "videos" or (options.pictures == "auto" and raw is not None)
    crops = folder(options.faces, "faces", "face_images", packed=from_videos)
    videos = by_name(release, [raw]) if raw else None
    sounds = by_name(release, [audio], SOUNDS) if audio else None
    cropped = [plain_name(path.name) for path in release.listing(crops) if path.is_dir()] if crops else []
    names = frozenset((*(videos or ()), *(sounds or ()), *cropped))
    if from_videos:
        if crops is not None:
            release.note("face crops left out (--pictures faces takes them)", release.relative(crops))
        crops = None
    wanted = f"{options.raw}/*.mp4" if options.pictures == "videos" else f"{options.faces}/00001/*.jpg"
    if (raw is None and crops is None) or (options.pictures == "faces" and crops is None):
        raise release.not_here(wanted + (f" or {options.raw}/*.mp4" if options.pictures == "auto" else ""))
    faces: dict[str, Path] = {}
    for path in (path for path in release.listing(crops) if path.is_dir()) if crops else ():
        if plain_name(path.name) in faces:
            raise ReleaseError(f"{release.relative(path)}: two folders have this number")
        faces[plain_name(path.name)] = path
    return Found(videos=videos, sounds=sounds, faces=faces if crops else None, names=names)


def _test_videos(release: Release, found: Found, rows: Mapping[str, object]) -> list[str]:
    others = sorted(found.names - set(rows))
    table = release.find("test_split.csv")
    if table is None:
        for name in others:
            release.note("videos that no list names, taken for test videos", name.zfill(5))
        return others
    listed = [row.name for row in rows_of(release, table, "Filename", ())]
    if twice := sorted(set(listed) & set(rows)):
        raise ReleaseError(f"{twice[0].zfill(5)} is in test_split.csv and in another split")
    if unlisted := sorted(set(others) - set(listed)):
        raise ReleaseError(f"{unlisted[0].zfill(5)} is in no list: train_split.csv, valid_split.csv, test_split.csv")
    return listed


def _clip(release: Release, name: str, split: str, found: Found, options: Options) -> dict | None:
    number = name.zfill(5) if name.isdecimal() else name
    file = release.file(found.videos.get(name) or f"{options.raw}/{number}.mp4") if found.videos is not None else None
    facts = facts_of(release, file) if file is not None else None
    clip: dict = {"video": number, "fps": facts.fps if facts else options.fps}
    promised = found.sounds is not None and (split != "test" or name in found.sounds)
    if found.sounds is not None and not promised:
        release.note(f"test videos without a file in {options.audio}, whose sound is the video's", number)
    if found.sounds is not None and promised:
        clip["sound"] = sound_of(release, found.sounds.get(name) or f"{options.audio}/{number}.mp3")
    elif options.sound and facts is not None and facts.has_sound:
        clip["sound"] = file
    if found.faces is None:
        if file is None or facts is None:
            return None
        places = range(facts.num_frames)
        return {**clip, "frames": places, "media": Video(file=file, places=places)}
    folder = found.faces.get(name)
    crops = _crops(release, folder) if folder is not None else {}
    if folder is None or not crops:
        release.missing.append(f"{options.faces}/{number}/*.jpg")
        return None
    if lacking := set(range(min(crops), max(crops) + 1)) - set(crops):
        release.note("frames without a face crop", release.relative(folder), len(lacking))
    base = 0 if 0 in crops else 1
    return {
        **clip,
        "frames": sorted(crops),
        "media": Pictures(files=[release.file(crops[frame]) for frame in sorted(crops)]),
        "first_frame_number": base,
        "t_s": _times([frame - base for frame in sorted(crops)], facts),
    }


def _crops(release: Release, folder: Path) -> dict[int, Path]:
    crops: dict[int, Path] = {}
    for path in release.pictures(folder):
        match = re.search(r"([0-9]+)$", path.stem)
        if match is None or int(match[1]) in crops:
            raise ReleaseError(
                f"{release.relative(path)}: expected pictures whose names end with a number, each number once"
            )
        crops[int(match[1])] = path
    return crops


def _times(places: list[int], facts: VideoFacts | None) -> list[float] | None:
    """When the video shows these frames; None where no video says so."""
    if facts is None or places[-1] >= facts.num_frames:
        return None
    return [facts.t_s[place] for place in places]
