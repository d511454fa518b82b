"""DISFA: 27 subjects, 4,845 frames each (SN010: 4,844), 12 action units scored 0-5 on every frame.

Mavadati et al., IEEE TAC 4(2), 2013. Access by signed agreement; nothing is downloaded. Reads the release as shipped:

    ActionUnit_Labels/SN001/SN001_au1.txt                     "frame,score" lines, frames count from 1
    Videos_LeftCamera/LeftVideoSN001_comp.avi                 1024x768, 20 fps; or Video_RightCamera/RightVideo...
    Landmark_Points/SN001/tmp_frame_lm/SN001_0000_lm.mat      66 AAM points of frame 1 (or l00001_lm.mat); may lack
    LeftVideoSN001/00001.jpg, or SN001/0.png                  instead of the videos: pictures that users extract

Frame n of the labels is decoded picture n - 1; frames are stored as the labels count them. Where there are no videos
(`--frames auto|video|images`), pictures are taken from ROOT or `--images FOLDER`: folders called after a video count from
1, those called after a subject, of the left camera, from 0, as public lists do; one that counts otherwise is refused.
Scores are stored as released: `intensity>=2` is a rule of the loader. Where the reference leaves something open: pictures
behind the last label are counted, not imported; a label without a picture is an error; a video without labels is one too.
Landmarks are the stream `landmarks66`, NaN where a frame has none; `--drop-bad-landmarks known` blanks the frames
4089-4542 of SN029 that JAA-Net left out (users found 4330-4536 wrong). Which others it left out was never published as a
whole, so that `jaanet` is not offered.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from reactionnet_datasets.about import CONFIRMED, About, Finding, Known, folds_of, one_of
from reactionnet_datasets.clip import ArrayFiles, Clip, File, Pictures, Video, per_frame
from reactionnet_datasets.protocols import load_protocol
from reactionnet_datasets.release import Release, ReleaseError
from reactionnet_datasets.release_videos import facts_of

AUS = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)  # all that is annotated; protocols choose, shards keep everything
FPS = 20.0
BAD_LANDMARKS = {"SN029": range(4089, 4543)}
FRAMES_OF_PART = {1: 43_605 - 1, 2: 43_605, 3: 43_605}  # 9 subjects each; SN010, in part 1, has a frame less
VIDEO_FOLDERS = {side: (f"Videos_{side}Camera", f"Video_{side}Camera") for side in ("Left", "Right")}

ABOUT = About(
    name="disfa",
    title="DISFA, Denver Intensity of Spontaneous Facial Action: 27 subjects watching a video",
    markers=("ActionUnit_Labels/SN*", "Video*_*Camera|*VideoSN[0-9]*|SN[0-9]*"),
    terms="signed agreement of a principal investigator; research only; no redistribution",
    ask="mohammadmahoor.com",
    license="LicenseRef-DISFA",
    papers=("ReactioNet (DRR)", "AAR"),
    status=CONFIRMED,
    known=(
        Known(what="frames", count=130_814),
        Known(what="subjects", count=27, of="subjects"),
        Known(what="frames of SN010", count=4_844, where={"subject_id": "SN010"}),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Options:
    camera: str = "left"
    frames: str = "auto"
    images: str = ""
    landmarks: bool = True
    drop_bad_landmarks: str = "none"


def markers(options: Options) -> tuple[str, ...]:
    """Labels, and videos or what `--images` names."""
    return (ABOUT.markers[0], options.images) if options.images else ABOUT.markers


def doctor(frames: pa.Table) -> list[Finding]:
    """Frames of each part of the folds."""
    from reactionnet_datasets.doctor import by_part

    return by_part(frames, load_protocol("disfa-3fold"), FRAMES_OF_PART)


def read(release: Release, options: Options) -> Iterator[Clip]:
    """One clip a subject. ReleaseError for a score or frame number out of place."""
    one_of("frames", options.frames, ("auto", "video", "images"))
    one_of("camera", options.camera, ("left", "right"))
    one_of("drop-bad-landmarks", options.drop_bad_landmarks, ("none", "known"))
    side = options.camera.capitalize()
    folders = {folder.name.upper(): folder for folder in release.listing("ActionUnit_Labels", "SN*") if folder.is_dir()}
    places = _media_of_subjects(release, side, options)
    for subject in sorted(places.keys() - folders.keys()):
        release.missing.append(f"{release.relative(places[subject])} has no labels in ActionUnit_Labels")
    for subject, folder in sorted(folders.items()):
        if subject not in places:
            release.missing.append(f"{side}Video{subject}_comp.avi, or pictures of {subject}")
            continue
        found = {au: release.file(f"ActionUnit_Labels/{folder.name}/{subject}_au{au}.txt") for au in AUS}
        scores = {au: _scores(release, release.root / file.path) for au, file in found.items() if file}
        if not scores:
            continue
        frames = range(1, max(len(of_au) for of_au in scores.values()) + 1)
        for au, of_au in scores.items():
            if len(of_au) != len(frames):
                raise ReleaseError(f"{subject}: {len(of_au)} frames of AU {au}, but {len(frames)} of others")
        media = _media(release, places[subject], subject, len(frames))
        if media is None:
            continue
        yield Clip(
            video=subject,
            subject=subject,
            frames=frames,
            media=media,
            fps=FPS,
            first_frame_number=1,
            t_s=[(frame - 1) / FPS for frame in frames],
            labels={f"au_int_{au}": per_frame("au_int", of_au) for au, of_au in scores.items()},
            folds=folds_of("disfa", subject),
            streams=_landmarks(release, subject, len(frames), options) if options.landmarks else {},
            facts={"camera": options.camera, "frame_base": 1},
        )


def _media_of_subjects(release: Release, side: str, options: Options) -> dict[str, Path]:
    """A video or a folder of pictures by subject."""
    videos = next((folder for name in VIDEO_FOLDERS[side] if (folder := release.find(name)) is not None), None)
    if options.frames == "video" or (options.frames == "auto" and videos is not None):
        found = release.listing(videos or release.first(*VIDEO_FOLDERS[side]), "*.avi")
    else:
        top = release.first(options.images) if options.images else release.root
        found = [path for path in release.listing(top, f"{side}VideoSN*") if path.is_dir()]
        if not found and side == "Left":
            found = [path for path in release.listing(top, "SN*") if path.is_dir()]
        if not found:
            expected = f"{VIDEO_FOLDERS[side][0]}, or pictures in {side}VideoSN001/00001.jpg (--camera {side.lower()})"
            raise release.not_here(f"disfa: {expected}")
    places: dict[str, Path] = {}
    for path in found:
        match = re.search(r"SN\d{3}", path.name.upper())
        if match is None or match[0] in places:
            raise ReleaseError(f"{release.relative(path)}: expected a name such as {side}VideoSN001, each once")
        places[match[0]] = path
    return places


def _media(release: Release, place: Path, subject: str, num_frames: int) -> Video | Pictures | None:
    """Pictures of frames 1 to `num_frames`; None, and a line in `missing`, where there are none."""
    if place.is_dir():
        numbers = _numbered(release, place)
        first = 0 if place.name.upper() == subject else 1
        if 0 in numbers if first == 1 else 0 not in numbers and num_frames in numbers:
            raise ReleaseError(f"{release.relative(place)} counts from {1 - first}; expected pictures from {first} on")
        count = max(numbers, default=0) + 1 - first
        wanted = range(first, first + num_frames)
        where = release.relative(place)
        media: Video | Pictures = Pictures(files=[release.file(numbers.get(n) or f"{where}/{n}.png") for n in wanted])
    else:
        file = release.file(place)
        if file is None:
            return None
        facts = facts_of(release, file)
        if facts is None:
            return None
        count = facts.num_frames
        media = Video(file=file, places=range(num_frames))
    if count > num_frames:
        release.note("pictures without labels", f"{release.relative(place)} from {num_frames + 1}", count - num_frames)
    return media


def _numbered(release: Release, folder: Path) -> dict[int, Path]:
    numbers: dict[int, Path] = {}
    for path in release.pictures(folder):
        if not path.stem.isdecimal() or int(path.stem) in numbers:
            raise ReleaseError(f"{release.relative(path)}: expected a number as its name, each once")
        numbers[int(path.stem)] = path
    return numbers


def _scores(release: Release, path: Path) -> list[int]:
    scores: list[int] = []
    for line, cells in release.rows(path):
        if len(cells) != 2:
            raise release.fault(path, line, f"{len(cells)} cells; expected frame,score")
        frame, score = (release.whole(path, line, cell, "cell") for cell in cells)
        if frame != len(scores) + 1:
            raise release.fault(
                path, line, f"frame {frame}; expected {len(scores) + 1}: frames count from 1 without a gap"
            )
        if not 0 <= score <= 5:
            raise release.fault(path, line, f"score {score}; expected 0 to 5")
        scores.append(score)
    if not scores:
        raise ReleaseError(f"{release.relative(path)} is empty")
    return scores


def _landmarks(release: Release, subject: str, num_frames: int, options: Options) -> dict[str, ArrayFiles]:
    """66 points a frame by the number in a file's name: `SN001_0000_lm` counts from 0, `l00001_lm` from 1."""
    folder = release.find(f"Landmark_Points/{subject}/tmp_frame_lm")
    if folder is None:
        release.note("subjects without landmarks", subject)
        return {}
    of_frame: dict[int, File] = {}
    for path in release.listing(folder, "*.mat"):
        match = re.fullmatch(r"(?:SN\d+_(?P<from_0>\d+)|l(?P<from_1>\d+))_lm\.mat", path.name, re.IGNORECASE)
        if match is None:
            raise ReleaseError(
                f"{release.relative(path)}: expected a name such as {subject}_0000_lm.mat or l00001_lm.mat"
            )
        file = release.file(path)
        frame = int(match["from_0"]) + 1 if match["from_0"] else int(match["from_1"])
        if file is not None:
            of_frame[frame] = file
    bad = BAD_LANDMARKS.get(subject, ()) if options.drop_bad_landmarks == "known" else ()
    files = [None if frame in bad else of_frame.get(frame) for frame in range(1, num_frames + 1)]
    if lacking := files.count(None):
        release.note("frames without landmarks", subject, lacking)
    return {"landmarks66": ArrayFiles(files=files, variable="pts", shape=(66, 2))}
