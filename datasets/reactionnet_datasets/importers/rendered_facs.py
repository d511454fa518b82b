"""RenderedFACS: face clips rendered with known action units, and the drawn stimulus clips that caused them.

Made by this project from fixed seeds; no real person is in it. The heads are draws from the ICT Face Model Light (USC
ICT-FaceKit, MIT). Read, as its README describes:

    labels.parquet      a row a frame: AU01 ... AU45 (0 to 5), expression, valence, arousal, pose, gaze, scene, caption
    landmarks.npz       68 points a frame, in the order of the rows
    videos.csv          a row a clip: its video and its stimulus video, event, delay, ...
    videos/S000_0.mp4, stimuli/S000_0_stim.mp4

Frames count from 0. Captions are what the stimulus was drawn from (decoding `human`: no model wrote them). Subjects never
share identity, so they are split by number: of each eight the seventh is val and the eighth test; the held-out part is
test. The release is silent; where a copy's video has sound, it is taken. Labels are rules on the action units, not ratings:
not for results on people. `reaction_videos` is for the pipeline.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reactionnet_datasets.about import CONFIRMED, About, Known
from reactionnet_datasets.clip import Clip, Numbers, Video, one, per_frame
from reactionnet_datasets.labels import class_name
from reactionnet_datasets.release import Release, ReleaseError
from reactionnet_datasets.release_videos import facts_of

AUS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 24, 25, 26, 45)
POSE, GAZE = ("yaw", "pitch", "roll"), ("gaze_yaw", "gaze_pitch")

ABOUT = About(
    name="rendered_facs",
    title="RenderedFACS: rendered faces with known action units, and what they watch",
    markers=("labels.parquet", "videos.csv", "landmarks.npz", "videos/*.mp4", "stimuli/*.mp4"),
    terms="this project's; keep the MIT notice of ICT-FaceKit with copies of the pictures",
    ask="nobody: tools/render_facs.py renders more",
    license="MIT",
    papers=(),
    status=CONFIRMED,
    known=(
        Known(what="frames", count=13_824),
        Known(what="clips", count=288, of="videos"),
        Known(what="subjects", count=48, of="subjects"),
    ),
    synthetic=True,
)


@dataclass(frozen=True, kw_only=True)
class Options:
    pass


def read(release: Release, options: Options) -> Iterator[Clip]:
    """One clip a video, its stimulus beside it."""
    table = _labels_table(release)
    landmarks_N682 = _landmarks(release, table)
    videos = {
        cells["video_id"]: cells for _, cells in release.records(release.first("videos.csv"), ("video_id", "video"))
    }
    column = table["video_id"].to_pylist()
    starts = [0] + [n for n in range(1, len(column)) if column[n] != column[n - 1]] + [len(column)]
    if sorted({column[start] for start in starts[:-1]}) != sorted(videos) or len(starts) - 1 != len(videos):
        raise ReleaseError("labels.parquet and videos.csv do not list the same videos: is the release complete?")
    for start, stop in itertools.pairwise(starts):
        facts = videos[column[start]]
        clip = _clip(release, facts, table.slice(start, stop - start), landmarks_N682[start:stop])
        if clip is not None:
            yield clip


def _labels_table(release: Release) -> pa.Table:
    path = release.first("labels.parquet")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ReleaseError(f"labels.parquet cannot be read: {error}") from error
    expected = ["video_id", "subject_id", "frame", *(f"AU{au:02d}" for au in AUS), "expression", "valence", "arousal"]
    expected += [*POSE, *GAZE, "stimulus_id", "scene", "sub_scene", "caption"]
    if lacking := sorted(set(expected) - set(table.column_names)):
        raise ReleaseError(f"labels.parquet has no column {', '.join(lacking)}")
    return table


def _landmarks(release: Release, table: pa.Table) -> np.ndarray:
    """(N, 68, 2), checked against the rows of the labels."""
    path: Path = release.first("landmarks.npz")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            points, video_ids, frames = arrays["landmarks"], arrays["video_id"], arrays["frame"]
    except (ValueError, KeyError, OSError) as error:
        raise ReleaseError(f"landmarks.npz cannot be read: {error}") from error
    same = len(points) == table.num_rows and (video_ids == np.asarray(table["video_id"].to_pylist())).all()
    if not same or not (frames == table["frame"].to_numpy()).all():
        raise ReleaseError("the rows of landmarks.npz are not those of labels.parquet")
    return points


def _clip(release: Release, facts: dict[str, str], rows: pa.Table, landmarks_T682: np.ndarray) -> Clip | None:
    file, stimulus = release.file(facts["video"]), release.file(facts["stimulus"])
    video = facts_of(release, file) if file is not None else None
    if file is None or stimulus is None or video is None:
        return None
    frames = rows["frame"].to_pylist()
    subject = rows["subject_id"][0].as_py()
    labels = {f"au_int_{au}": per_frame("au_int", _rounded(rows, f"AU{au:02d}")) for au in AUS}
    labels["expression"] = per_frame("affectnet8", [class_name(name) for name in rows["expression"].to_pylist()])
    labels |= {name: per_frame("va", _rounded(rows, name)) for name in ("valence", "arousal")}
    labels["scene"] = one("scene8", class_name(rows["scene"][0].as_py()))
    labels["sub_scene"] = one("sub_scene", class_name(rows["sub_scene"][0].as_py()))
    return Clip(
        video=facts["video_id"],
        subject=subject,
        frames=frames,
        media=Video(file=file, places=frames),
        stimulus=Video(file=stimulus, places=frames),
        stimulus_facts={
            "stimulus_id": facts["stimulus_id"], "scene": class_name(facts["scene"]), "event": facts["event"],
            "event_frame": int(facts["event_frame"]), "expected_reaction": facts["expected_reaction"],
            "shown_reaction": facts["shown_reaction"], "delay_s": float(facts["delay_s"]),
        },
        fps=float(facts["fps"]),
        labels=labels,
        splits={"all": _split(subject, facts["split"])},
        captions=[{"decoding": "human", "text": rows["caption"][0].as_py()}],
        sound=file if video.has_sound else None,
        streams={
            "landmarks": Numbers(values=np.round(landmarks_T682.astype(float), 4).tolist()),
            "pose": Numbers(values=_stacked(rows, POSE)),
            "gaze": Numbers(values=_stacked(rows, GAZE)),
        },
    )  # fmt: skip


def _rounded(rows: pa.Table, name: str) -> list[float]:
    return [round(float(value), 4) for value in rows[name].to_pylist()]


def _stacked(rows: pa.Table, names: tuple[str, ...]) -> list[list[float]]:
    return [list(values) for values in zip(*(_rounded(rows, name) for name in names), strict=True)]


def _split(subject: str, part: str) -> str:
    if part != "public":
        return "test"
    return {6: "val", 7: "test"}.get(int(subject[1:]) % 8, "train")
