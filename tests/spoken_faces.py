"""Rendered faces with a drawn voice: a copy of a `rendered_facs` release whose face videos have sound.

    python tests/spoken_faces.py RELEASE OUT [--seed 0]

The release is silent, and models of sound and face (ERI, ABAW6) need both. Each clip gets a tone of harmonics at the
subject's own pitch, in syllables and with silences, over a babble of noise. Some time after the face (0.05 to 0.25 s),
its pitch follows arousal, its loudness how far the mouth is open (AU 25 and 26), its brightness smile and valence (AU 12).
Nothing else of the face is heard, so that sound says something of a clip's intensities, and the picture more. What was
never said is not in it: it is no speech. The pictures are the release's own packets. The same seed gives the same sound.

Letters: T frames, S samples.
"""

import csv
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import typer

RATE = 16_000
HARMONICS = 24
COLUMNS = ("arousal", "valence", "AU12", "AU25", "AU26")


def voice(face_T: Mapping[str, np.ndarray], fps: float, pitch_hz: float, random: np.random.Generator) -> np.ndarray:
    """A clip's sound, (S,) float32 in -1 to 1, from the columns of its frames and the subject's pitch at rest."""
    num = round(len(face_T["arousal"]) / fps * RATE)
    t_s = np.arange(num) / RATE
    delay_s = random.uniform(0.05, 0.25)
    frames_s = np.arange(len(face_T["arousal"])) / fps + delay_s
    arousal, valence, smile, lips, jaw = (np.interp(t_s, frames_s, face_T[name]) for name in COLUMNS)
    octaves = 0.6 * arousal + 0.1 * smile / 5 + 0.03 * np.sin(2 * np.pi * random.uniform(4, 6) * t_s)
    phase = 2 * np.pi * np.cumsum(pitch_hz * 2.0**octaves) / RATE
    # a voice's harmonics fall by about 12 dB an octave; a smile and high spirits make it brighter
    fall = 2.0 - 0.7 * smile / 5 - 0.4 * valence
    tone = np.zeros(num)
    for h in range(1, HARMONICS + 1):
        heard = h * pitch_hz * 2.0**octaves < RATE / 2
        tone += heard * h**-fall * np.sin(h * phase)
    opened = np.maximum(lips, jaw) / 5
    loud = (0.1 + 0.5 * opened + 0.15 * (arousal + 1)) * _syllables(t_s, random)
    babble = _smoothed(random.normal(size=num), 6) * (1 + 0.5 * np.sin(2 * np.pi * random.uniform(1, 3) * t_s))
    whole = 0.25 * loud * tone + random.uniform(0.01, 0.05) * babble
    return np.clip(whole, -1, 1).astype(np.float32)


def _syllables(t_s: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """How loud each sample of a steady voice would be, 0 to 1: syllables, and a silence or two."""
    heard = 0.5 - 0.5 * np.cos(2 * np.pi * random.uniform(2.5, 4.5) * t_s + random.uniform(0, 2 * np.pi))
    for _ in range(random.integers(1, 3)):
        start_s = random.uniform(0, t_s[-1])
        heard[(t_s >= start_s) & (t_s < start_s + random.uniform(0.1, 0.5))] = 0
    return _smoothed(heard, 160)


def _smoothed(values_S: np.ndarray, width: int) -> np.ndarray:
    return np.convolve(values_S, np.full(width, 1 / width), mode="same")


def with_sound(video: Path, sound_S: np.ndarray, out: Path) -> None:
    """A copy of a video whose packets of pictures are its own, with this sound at 16 kHz as AAC."""
    with av.open(str(video)) as given, av.open(str(out), "w", format="mp4") as container:
        pictures = given.streams.video[0]
        copied = container.add_stream_from_template(pictures)
        sound = container.add_stream("aac", rate=RATE, layout="mono")
        sound.bit_rate = 64_000  # type: ignore[attr-defined]
        for packet in given.demux(pictures):
            if packet.dts is not None:
                packet.stream = copied
                container.mux(packet)
        for frame in _audio_frames(sound_S):
            container.mux(sound.encode(frame))  # type: ignore[attr-defined]
        container.mux(sound.encode(None))  # type: ignore[attr-defined]


def _audio_frames(sound_S: np.ndarray, size: int = 1024) -> Iterator[av.AudioFrame]:
    for start in range(0, len(sound_S), size):
        frame = av.AudioFrame.from_ndarray(sound_S[None, start : start + size], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        yield frame


def drawn(seed: int, name: str) -> np.random.Generator:
    """Draws of one video or subject, whichever others there are."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big"))


def speak(release: Path, out: Path, seed: int = 0) -> int:
    """Copy a release, its face videos with sound; how many. FileExistsError where `out` is there."""
    out.mkdir(parents=True)
    for name in ("labels.parquet", "landmarks.npz", "videos.csv", "subjects.csv"):
        if (release / name).is_file():
            shutil.copy(release / name, out)
    shutil.copytree(release / "stimuli", out / "stimuli")
    table = pq.read_table(release / "labels.parquet", columns=["video_id", *COLUMNS])
    of_row = np.asarray(table["video_id"].to_pylist())
    columns = {name: table[name].to_numpy().astype(float) for name in COLUMNS}
    with (release / "videos.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        mine = of_row == row["video_id"]
        pitch_hz = 110 * 2 ** drawn(seed, row["subject_id"]).uniform(0, 1.2)
        random = drawn(seed, row["video_id"])
        sound_S = voice({name: column[mine] for name, column in columns.items()}, float(row["fps"]), pitch_hz, random)
        (out / row["video"]).parent.mkdir(exist_ok=True)
        with_sound(release / row["video"], sound_S, out / row["video"])
    return len(rows)


def main(release: Path, out: Path, seed: int = 0) -> None:
    """Copy RELEASE to OUT, its face videos with sound."""
    print(f"{out}: {speak(release, out, seed)} videos with sound")


if __name__ == "__main__":
    typer.run(main)
