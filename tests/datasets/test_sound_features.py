import numpy as np
import pytest
import torch

from reactionnet_datasets.sound_features import RATE, logmel, logmel_examples, mfcc, mfcc_tokens


def sound(seconds, seed=0):
    """A chirp that comes and goes in noise, float32 in -1 to 1."""
    t = np.arange(round(seconds * RATE)) / RATE
    wave = 0.3 * np.sin(2 * np.pi * (200 + 900 * t) * t) * (np.sin(2 * t) > 0)
    return (wave + np.random.default_rng(seed).normal(0, 0.003, len(t))).astype(np.float32)


@pytest.mark.parametrize("seconds", [3.0, 0.777])
def test_mfcc_is_librosas(seconds):
    feature = pytest.importorskip("librosa").feature
    wave = sound(seconds)
    ours = mfcc(torch.from_numpy(wave)[None])[0].numpy()
    theirs = feature.mfcc(y=wave, sr=RATE, n_mfcc=128).T
    assert ours.shape == theirs.shape == (1 + len(wave) // 512, 128)
    np.testing.assert_allclose(ours, theirs, atol=2e-3)  # the largest coefficient is about 600


def test_logmel_is_written_out_as_vggish_defines_it():
    wave = sound(1.0)
    mel = lambda hertz: 1127 * np.log(1 + hertz / 700)  # noqa: E731
    edges = np.linspace(mel(125), mel(7500), 66)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    places = mel(np.arange(257) * RATE / 512)
    for frame in (0, 7, 97):
        magnitude = np.abs(np.fft.rfft(wave[frame * 160 : frame * 160 + 400] * hann, 512))
        for band in (0, 20, 63):
            low, middle, high = edges[band : band + 3]
            weight = np.clip(np.minimum((places - low) / (middle - low), (high - places) / (high - middle)), 0, None)
            expected = np.log(weight @ magnitude + 0.01)
            assert logmel(torch.from_numpy(wave)[None])[0, frame, band].item() == pytest.approx(expected, abs=1e-4)


def test_a_windows_features_do_not_hang_on_its_neighbours_in_the_batch():
    waves = torch.from_numpy(np.stack([sound(1.5), 30 * sound(1.5, seed=1) / 40]))
    for of in (mfcc, logmel, logmel_examples):
        torch.testing.assert_close(of(waves)[:1], of(waves[:1]), atol=1e-4, rtol=1e-5)


def test_tokens_are_the_eight_frames_around_each_video_frame():
    wave = torch.from_numpy(sound(2.0))[None]
    tokens = mfcc_tokens(wave, torch.tensor([[0.0, 1.0, 9.0]]))
    frames = mfcc(wave)[0]
    assert tokens.shape == (1, 3, 1024)
    torch.testing.assert_close(
        tokens[0, 1], frames[28:36].flatten()
    )  # 1 s is frame 31.25; the middle of 28..35 is 31.5
    torch.testing.assert_close(tokens[0, 0, :128], frames[0])
    torch.testing.assert_close(tokens[0, 2], frames[-1].repeat(8))


@pytest.mark.parametrize("length", [0, 300, 512 * 9, 512 * 9 + 400, 512 * 10 - 1])
def test_tokens_of_padded_sound_are_those_of_the_clip_alone(length):
    clip, longer = torch.from_numpy(sound(0.5))[:length].clone(), torch.from_numpy(sound(1.0, seed=1))
    clip[-50:] *= 300  # the loudest at the end, which a frame behind it would hear better
    t_s = torch.tensor([[0.0, 0.1, 0.28, 5.0]])
    both = torch.nn.utils.rnn.pad_sequence([clip, longer], batch_first=True)
    found = mfcc_tokens(both, t_s.expand(2, -1), torch.tensor([length, len(longer)]))
    torch.testing.assert_close(found[:1], mfcc_tokens(clip[None], t_s), atol=2e-3, rtol=1e-4)
    torch.testing.assert_close(found[1:], mfcc_tokens(longer[None], t_s), atol=2e-3, rtol=1e-4)


def test_examples_are_whole_and_short_sound_gives_one():
    assert logmel_examples(torch.zeros(2, RATE * 3)).shape == (2, 3, 96, 64)
    assert logmel_examples(torch.zeros(1, 100)).shape == (1, 1, 96, 64)
    assert logmel(torch.zeros(1, 399)).shape == (1, 0, 64)
