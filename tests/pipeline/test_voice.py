import json

import numpy as np
import pytest

from reactionnet_pipeline import sound, voice
from reactionnet_pipeline.ingest import ingest
from reactionnet_pipeline.records import Source

STEP_S = voice.STEP / sound.RATE


def probabilities(*pieces):
    return np.concatenate([np.full(round(seconds / STEP_S), value, np.float32) for value, seconds in pieces])


def test_a_voice_begins_loud_and_ends_low():
    (span,) = voice.voice_spans(probabilities((0.1, 0.5), (0.9, 0.5), (0.4, 0.5), (0.1, 0.5)))
    assert span == pytest.approx((0.5, 1.5), abs=2 * STEP_S)
    assert voice.voice_spans(probabilities((0.1, 0.5), (0.45, 1.0))) == []


def test_short_gaps_are_bridged_and_short_bursts_are_none():
    bridged = voice.voice_spans(probabilities((0.9, 0.5), (0.0, 0.2), (0.9, 0.5), (0.0, 0.6), (0.9, 0.5)))
    assert np.round(bridged, 1).tolist() == [[0.0, 1.2], [1.8, 2.3]]
    assert voice.voice_spans(probabilities((0.0, 0.5), (0.9, 0.1), (0.0, 0.5))) == []


def test_a_frame_speaks_when_a_voice_is_heard_for_half_of_it():
    label = voice.speaking_label([0.0, 0.1, 0.2, 0.3], 0.1, np.array([[0.14, 0.26]]), end_s=0.32)
    assert label["value"] == [0.0, 1.0, 1.0, None]
    assert label["mask"] == ["valid", "valid", "valid", "not_annotated"]
    assert voice.unheard().mask == "not_annotated"


def test_neither_silence_nor_noise_nor_a_tone_is_a_voice():
    t = np.arange(2 * sound.RATE) / sound.RATE
    for wave in (0 * t, np.random.default_rng(0).normal(0, 0.1, len(t)), 0.5 * np.sin(2 * np.pi * 440 * t)):
        assert voice.voice_spans(voice.voice_probability((wave * 32767).astype(np.int16))) == []


def test_recorded_speech_is_heard_where_it_is(shared, tmp_path):
    """pub07: a man's recorded speech three times, a cartoon's sound in between. The stated spans hold pauses too."""
    folder = shared / "reaction_videos"
    truth = json.loads((folder / "ground_truth.json").read_text())
    (video,) = [v for v in truth["videos"] if v["video_id"] == "pub07_layout_change"]
    source = Source(video_id="v", line=1, uri=str(folder / "pub07_layout_change.mp4"), split="train")
    file = sound.resample_sound(ingest(source, tmp_path), tmp_path)
    spans = voice.find_voice("v", file, tmp_path)
    t_s = np.arange(0, 18, 0.04)
    speaking = np.array(voice.speaking_label(t_s, 0.04, spans, 18.0)["value"])
    (segments,) = video["audio"]["reactor_voice_segments"].values()
    spoken = np.any([(t_s >= start) & (t_s < end) for start, end, _ in segments], axis=0)
    assert speaking[spoken].mean() > 0.5
    assert speaking[~spoken].mean() < 0.05
    np.testing.assert_array_equal(voice.find_voice("v", file, tmp_path), spans)
