import json
from fractions import Fraction

import av
import numpy as np
import pytest

from reactionnet_pipeline.ingest import ingest
from reactionnet_pipeline.records import Source
from reactionnet_pipeline.sound import RATE, read_sound, resample_sound

RATE_IN = 44_100


def tone(hertz, start_s, stop_s):
    t = np.arange(round(start_s * RATE_IN), round(stop_s * RATE_IN)) / RATE_IN
    return 0.5 * np.sin(2 * np.pi * hertz * t)


def draw(path, pieces, layout="mono"):
    """A second of video, and pieces of sound: (time of the first sample, samples)."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=RATE_IN, layout=layout) if pieces else None
        frames = (av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24") for _ in range(25))
        container.mux([packet for frame in [*frames, None] for packet in video.encode(frame)])
        for time_s, samples in pieces:
            channels = 2 if layout == "stereo" else 1
            data = np.repeat((samples * 32767).astype(np.int16), channels)[None]
            frame = av.AudioFrame.from_ndarray(data, format="s16", layout=layout)
            frame.sample_rate, frame.time_base, frame.pts = RATE_IN, Fraction(1, RATE_IN), round(time_s * RATE_IN)
            container.mux(sound.encode(frame))
    return path


def resampled(path, work):
    file = resample_sound(ingest(Source(video_id="v", line=1, uri=str(path), split="train"), work), work)
    marker = json.loads(next((work / "sound").glob("*.json")).read_bytes()) if file else None
    return file, marker


def pitch(samples):
    return np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax() * RATE / len(samples)


@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_a_tone_is_heard_at_its_pitch_and_time(tmp_path, layout):
    pieces = [(0, tone(0, 0, 0.5)), (0.5, tone(440, 0.5, 1.0))]
    file, marker = resampled(draw(tmp_path / "a.mkv", pieces, layout), tmp_path)
    heard = read_sound(file, 0, 1).astype(float)
    assert abs(len(heard) - RATE) < 40
    assert abs(pitch(heard[9000:15000]) - 440) < 4
    loud = np.nonzero(np.abs(heard) > 2000)[0]
    assert abs(loud[0] / RATE - 0.5) < 0.003
    assert marker["gaps"] == []


def test_a_hole_is_filled_with_silence_and_recorded(tmp_path):
    pieces = [(0, tone(440, 0, 0.25)), (0.75, tone(440, 0.75, 1.0))]
    file, marker = resampled(draw(tmp_path / "a.mkv", pieces), tmp_path)
    heard = np.abs(read_sound(file, 0, 1).astype(float))
    np.testing.assert_allclose(marker["gaps"], [[0.25, 0.75]], atol=0.005)
    assert heard[4200:11800].max() == 0
    assert heard[12200:15800].max() > 10_000
    assert heard[100:3900].max() > 10_000


def test_sound_that_starts_a_little_late_is_heard_a_little_late(tmp_path):
    file, _ = resampled(draw(tmp_path / "a.mkv", [(0.06, tone(440, 0, 0.5))]), tmp_path)
    loud = np.nonzero(np.abs(read_sound(file, 0, 1).astype(float)) > 2000)[0]
    assert abs(loud[0] / RATE - 0.06) < 0.003


def test_a_source_without_sound_has_none(tmp_path):
    assert resampled(draw(tmp_path / "a.mkv", []), tmp_path) == (None, None)


def test_sound_that_changes_from_mono_to_stereo_on_the_way_goes_on(tmp_path):
    def transport(layout, start_s):
        path = tmp_path / f"{layout}.ts"
        with av.open(str(path), "w", format="mpegts") as container:
            video = container.add_stream("mpeg4", rate=25)
            video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
            sound = container.add_stream("mp2", rate=RATE_IN, layout=layout)
            for n in range(25):
                frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
                frame.pts, frame.time_base = n + round(start_s * 25), Fraction(1, 25)
                container.mux(video.encode(frame))
            data = np.repeat((tone(440, 0, 1) * 32767).astype(np.int16), 2 if layout == "stereo" else 1)[None]
            frame = av.AudioFrame.from_ndarray(data, format="s16", layout=layout)
            frame.sample_rate, frame.time_base, frame.pts = RATE_IN, Fraction(1, RATE_IN), round(start_s * RATE_IN)
            container.mux([*sound.encode(frame), *sound.encode(None), *video.encode(None)])
        return path.read_bytes()

    path = tmp_path / "both.ts"
    path.write_bytes(transport("mono", 0) + transport("stereo", 1))
    file, _ = resampled(path, tmp_path)
    heard = read_sound(file, 0, 2).astype(float)
    assert abs(pitch(heard[3000:13000]) - 440) < 4
    assert abs(pitch(heard[19000:29000]) - 440) < 4


def test_a_damaged_time_stamp_does_not_fill_the_disk_with_silence(tmp_path):
    pieces = [(0, tone(440, 0, 0.5)), (50_000, tone(440, 0.5, 1.0))]
    file, marker = resampled(draw(tmp_path / "a.mkv", pieces), tmp_path)
    assert marker["gaps"] == []
    assert abs(marker["samples"] - RATE) < 40
    assert abs(pitch(read_sound(file, 0, 1).astype(float)) - 440) < 4


def test_what_lies_beyond_the_end_is_not_invented(tmp_path):
    file, _ = resampled(draw(tmp_path / "a.mkv", [(0, tone(440, 0, 0.5))]), tmp_path)
    assert len(read_sound(file, 0.25, 9)) < 0.26 * RATE
    assert len(read_sound(file, 5, 6)) == len(read_sound(file, 0.4, 0.4)) == 0
