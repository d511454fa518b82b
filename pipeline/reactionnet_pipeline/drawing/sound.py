"""Sound for composed videos: tones, noise, or a voice of made-up syllables."""

import numpy as np

SAMPLE_RATE = 44_100


def sound(kind: str, duration_s: float, seed: int) -> np.ndarray:
    """Stereo float32 (2, samples), -1 to 1: "tones", "noise", or "speech" (a voice of made-up syllables over tones)."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
    notes = 220 * 2 ** (rng.integers(0, 24, int(duration_s * 2) + 2) / 12)
    pitch = notes[(t * 2).astype(int)]
    music = 0.12 * np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE) * np.exp(-3 * (t * 2 % 1))
    if kind == "tones":
        return np.stack([music, music]).astype(np.float32)
    hiss = rng.normal(0, 0.05, len(t))
    if kind == "noise":
        return np.stack([hiss, np.roll(hiss, 7)]).astype(np.float32)
    if kind != "speech":
        raise ValueError(f'sound "{kind}": known are speech, tones and noise')
    voice_hz = rng.uniform(95, 210) * (1 + 0.08 * np.sin(2 * np.pi * 0.7 * t))
    phase = 2 * np.pi * np.cumsum(voice_hz) / SAMPLE_RATE
    syllable = (t * 4.5).astype(int)  # syllables a second
    vowels = rng.uniform([300, 900], [800, 2300], (syllable[-1] + 1, 2))[syllable]
    speaking = (rng.random(syllable[-1] + 1) < 0.7)[syllable] * np.sin(np.pi * (t * 4.5 % 1)) ** 2
    voice = np.zeros_like(t)
    for harmonic in range(1, 22):
        hz = harmonic * voice_hz
        voice += np.exp(-(((hz[:, None] - vowels) / 160) ** 2)).sum(axis=1) * np.sin(harmonic * phase)
    voice = 0.18 * speaking * voice + 0.01 * speaking * hiss
    return np.clip(np.stack([music * 0.5 + voice, music * 0.6 + voice]), -1, 1).astype(np.float32)
