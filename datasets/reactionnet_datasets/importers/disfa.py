"""DISFA: 27 subjects, 4,845 frames each (SN010: 4,844), 12 action units scored 0-5 on every frame.

Mavadati et al., IEEE TAC 4(2), 2013. Access by signed agreement; nothing is downloaded. Reads the release as shipped:

    ActionUnit_Labels/SN001/SN001_au1.txt                     "frame,score" lines, frames count from 1
    Videos_LeftCamera/LeftVideoSN001_comp.avi                 1024x768, 20 fps; or Video_RightCamera/RightVideo...
    Landmark_Points/SN001/tmp_frame_lm/SN001_0000_lm.mat      66 AAM points of frame 1 (or l00001_lm.mat); may lack

Frame n of the labels is decoded picture n - 1; frames are stored as the labels count them. Scores are stored as
released: `intensity>=2` is a rule of the loader. Where the reference leaves something open: pictures behind the last
label are counted, not imported; a label without a picture is an error; a video without labels is one too. Landmarks are
the stream `landmarks66`, NaN where a frame has none; `--drop-bad-landmarks known` blanks SN029's frames 4089-4542, which
users found wrong. The list of frames that JAA-Net dropped was never published as a whole, so it is not offered.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reactionnet_datasets.about import CONFIRMED, About, Known, folds_of, one_of
from reactionnet_datasets.clip import ArrayFiles, Clip, File, Video, per_frame
from reactionnet_datasets.media import video_facts
from reactionnet_datasets.release import Release, ReleaseError

AUS = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)  # all that is annotated; protocols choose, shards keep everything
FPS = 20.0
BAD_LANDMARKS = {"SN029": range(4089, 4543)}

ABOUT = About(
    name="disfa",
    title="DISFA, Denver Intensity of Spontaneous Facial Action: 27 subjects watching a video",
    markers=("ActionUnit_Labels/SN*", "Videos_LeftCamera|Video_LeftCamera|Video_RightCamera|Videos_RightCamera"),
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
    landmarks: bool = True
    drop_bad_landmarks: str = "none"


def read(release: Release, options: Options) -> Iterator[Clip]:
    """One clip a subject. ReleaseError for a score or frame number out of place."""
    one_of("camera", options.camera, ("left", "right"))
    one_of("drop-bad-landmarks", options.drop_bad_landmarks, ("none", "known"))
    side = options.camera.capitalize()
    videos = release.first(f"Videos_{side}Camera", f"Video_{side}Camera")
    folders = {folder.name.upper(): folder for folder in release.listing("ActionUnit_Labels", "SN*") if folder.is_dir()}
    for video in release.listing(videos, "*.avi"):
        match = re.search(r"SN\d{3}", video.name.upper())
        if match is None or match[0] not in folders:
            release.missing.append(f"{release.relative(video)} has no labels in ActionUnit_Labels")
    for subject, folder in sorted(folders.items()):
        scores = {au: _scores(release, folder / f"{subject}_au{au}.txt") for au in AUS}
        frames = range(1, len(scores[1]) + 1)
        for au, of_au in scores.items():
            if len(of_au) != len(frames):
                raise ReleaseError(f"{subject}: {len(of_au)} frames of AU {au}, but {len(frames)} of AU 1")
        file = release.file(f"{release.relative(videos)}/{side}Video{subject}_comp.avi")
        if file is None:
            continue
        facts = video_facts(release.root, file)
        if facts.num_frames > len(frames):
            release.note(
                "pictures without labels", f"{file.name} from {len(frames) + 1}", facts.num_frames - len(frames)
            )
        yield Clip(
            video=subject,
            subject=subject,
            frames=frames,
            media=Video(file=file, places=range(len(frames))),
            fps=FPS,
            first_frame_number=1,
            t_s=[(frame - 1) / FPS for frame in frames],
            labels={f"au_int_{au}": per_frame("au_int", scores[au]) for au in AUS},
            folds=folds_of("disfa", subject),
            streams=_landmarks(release, subject, len(frames), options) if options.landmarks else {},
            facts={"camera": options.camera, "frame_base": 1},
        )


def _scores(release: Release, path: Path) -> list[int]:
    found = release.find(release.relative(path))
    scores: list[int] = []
    for line, cells in release.rows(found or path):
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
