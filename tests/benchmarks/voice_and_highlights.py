"""Voices against the stated speech of the real videos, and highlight scores against coded reactions.

    python tests/benchmarks/voice_and_highlights.py

Voice: frames of 40 ms called `speaking` against `reactor_voice_segments`; a stated span of recorded speech is a whole
recording of 3 s with its pauses, so that recall there cannot reach 1. Highlights: whether frames with an action unit of
RenderedFACS at intensity 3 or more score above those with none of 1 or more (area under the curve, 0.5 is chance), from
true landmarks, the mean over the subjects.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from reactionnet_pipeline import highlights, sound, voice
from reactionnet_pipeline.ingest import ingest
from reactionnet_pipeline.landmarks import align, crop_matrix
from reactionnet_pipeline.records import Source

SHARED = Path(__file__).resolve().parents[3] / "shared"
AUS = [f"AU{number:02d}" for number in (1, 2, 4, 5, 6, 9, 10, 12, 15, 20, 26)]
FRAME_S = 0.04


def voices(folder: Path, work: Path) -> tuple[list[tuple[str, np.ndarray, np.ndarray]], float]:
    """(video, called speaking, stated) of each video with sound, and milliseconds a second of sound."""
    found, seconds, took = [], 0.0, 0.0
    for video in json.loads((folder / "ground_truth.json").read_text())["videos"]:
        if not video.get("audio"):
            continue
        uri = str(folder / f"{video['video_id']}.mp4")
        ingested = ingest(Source(video_id=video["video_id"], line=1, uri=uri, split="train"), work)
        file = sound.resample_sound(ingested, work)
        if file is None:
            raise ValueError(f"{uri} has no sound, though its ground truth names some")
        samples = np.fromfile(file, "<i2")
        started = time.perf_counter()
        spans = np.array(voice.voice_spans(voice.voice_probability(samples))).reshape(-1, 2)
        took += time.perf_counter() - started
        end_s = len(samples) / sound.RATE
        seconds += end_s
        t_s = np.arange(0, end_s - FRAME_S, FRAME_S)
        stated = np.zeros(len(t_s), bool)
        for segments in video["audio"]["reactor_voice_segments"].values():
            for start, end, _ in segments:
                stated |= (t_s >= start) & (t_s < end)
        called = np.array(voice.speaking_label(t_s, FRAME_S, spans, end_s)["value"], float) > 0
        found.append((video["video_id"], called, stated))
    return found, took * 1000 / seconds


def ranked(folder: Path) -> float:
    """Area under the curve of the score, mean over subjects."""
    table = pq.read_table(folder / "labels.parquet", columns=["subject_id", *AUS])
    points = np.load(folder / "landmarks.npz")["landmarks"].astype(np.float32)
    strength = np.max([table[name].to_numpy() for name in AUS], axis=0)
    subjects, areas = np.array(table["subject_id"].to_pylist()), []
    for subject in sorted(set(subjects)):
        mine = np.nonzero(subjects == subject)[0]
        matrices = [crop_matrix(align(points[row]), 256) for row in mine]
        crop = np.array([points[row] @ m[:, :2].T + m[:, 2] for row, m in zip(mine, matrices, strict=True)])
        frames = np.arange(len(mine)) + np.arange(len(mine)) // 48  # a gap between clips
        score = highlights.score_frames(crop, frames * FRAME_S, frames, 160.0)
        strong, calm = score[strength[mine] >= 3][:, None], score[strength[mine] < 1]
        areas.append(float((strong > calm).mean() + (strong == calm).mean() / 2))
    return float(np.mean(areas))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder of reaction_videos and rendered_facs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        found, ms = voices(options.shared / "reaction_videos", Path(work))
    for video_id, called, stated in found:
        both = (called & stated).sum()
        print(f"{video_id:34} precision {both / max(called.sum(), 1):.2f} recall {both / max(stated.sum(), 1):.2f}")
    called, stated = (np.concatenate([row[n] for row in found]) for n in (1, 2))
    both = (called & stated).sum()
    print(
        f"voice, {len(found)} videos: precision {both / called.sum():.3f}, recall {both / stated.sum():.3f}; {ms:.1f} ms/s"
    )
    print(f"highlight score: area under the curve {ranked(options.shared / 'rendered_facs'):.3f}")


if __name__ == "__main__":
    main()
