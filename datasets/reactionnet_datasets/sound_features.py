"""Sound features of the papers, computed from a window's sound when it is loaded: MFCC (ERI) and log-mel (ABAW6).

They are computed, not stored: together they are nearly twice the FLAC that they come from (16 and 26 kB a second, FLAC
22), take less than a millisecond a second of sound, and hang on where a window begins, as the papers' do on their clips.

- `mfcc`: 128 coefficients with librosa's defaults (n_fft 2048, hop 512, 128 Slaney bands, 80 dB below the loudest,
  orthonormal DCT-II), at the shards' 16 kHz. ERI (section 3.1) names librosa and 128, nothing else; `mfcc_tokens` joins 8
  adjacent frames to 1024 numbers, as it does, centred on each video frame so that both branches have one length.
- `logmel`: VGGish's input (Hershey et al., ICASSP 2017, as ABAW6 uses it): 25 ms Hann windows every 10 ms, 64 bands from
  125 to 7500 Hz that are triangles in mel, log(x + 0.01); `logmel_examples` cuts it into 0.96 s.

A window's sound is everything that was heard then, the stimulus and others included, not the subject's alone.

Letters: B batch, S samples, F feature frames, N examples.
"""

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import pad

RATE = 16_000
MFCC, MFCC_FFT, MFCC_HOP, TOP_DB = 128, 2048, 512, 80.0
TOKEN_FRAMES = 8
TOKEN_WIDTH = TOKEN_FRAMES * MFCC
MEL, MEL_WINDOW, MEL_HOP, MEL_FFT, MEL_LOW, MEL_HIGH, MEL_OFFSET = 64, 400, 160, 512, 125.0, 7500.0, 0.01
EXAMPLE_FRAMES = 96


def mfcc(audio_BS: Tensor, length_B: Tensor | None = None) -> Tensor:
    """(B, F, 128) with F = 1 + S // 512; frame k is centred on sample 512 k. Sound is float32 in -1 to 1.

    The floor of 80 dB hangs on the loudest of each window, as librosa's on the whole file: of its own first `length_B`
    samples where windows were padded, else of all.
    """
    window = torch.hann_window(MFCC_FFT, device=audio_BS.device)
    spectrum = torch.stft(
        audio_BS, MFCC_FFT, MFCC_HOP, window=window, center=True, pad_mode="constant", return_complex=True
    )
    power_BMF = _slaney_bands().to(audio_BS) @ spectrum.abs().square()
    decibel = 10 * power_BMF.clamp(min=1e-10).log10()
    heard = decibel
    if length_B is not None:  # frames behind a window's end still hear its last samples
        behind_BF = torch.arange(decibel.shape[2], device=decibel.device) > _last(length_B)
        heard = decibel.masked_fill(behind_BF[:, None], -torch.inf)
    floor = heard.amax(dim=(1, 2), keepdim=True) - TOP_DB
    return (_dct().to(audio_BS) @ torch.maximum(decibel, floor)).transpose(1, 2)


def mfcc_tokens(audio_BS: Tensor, t_s_BT: Tensor, length_B: Tensor | None = None) -> Tensor:
    """(B, T, 1024): the 8 MFCC frames around each video frame, whose times count from the first sample, seconds.

    Times outside the sound take the frames at its end. `length_B` are the samples of each clip where clips were padded;
    without it all of `audio_BS` is sound.
    """
    found_BFM = mfcc(audio_BS, length_B)
    if length_B is None:
        length_B = torch.full((len(audio_BS),), audio_BS.shape[1], device=audio_BS.device)
    centre = t_s_BT * (RATE / MFCC_HOP)
    first = torch.round(centre - (TOKEN_FRAMES - 1) / 2).long()
    places = (first[..., None] + torch.arange(TOKEN_FRAMES, device=first.device)).clamp(min=0)
    places = torch.minimum(places, _last(length_B)[..., None])
    batch = torch.arange(len(found_BFM), device=first.device)[:, None, None]
    return found_BFM[batch, places].flatten(2)


def _last(length_B: Tensor) -> Tensor:
    """(B, 1): the last MFCC frame that is centred within each clip."""
    return (length_B // MFCC_HOP)[:, None]


def logmel(audio_BS: Tensor) -> Tensor:
    """(B, F, 64) with F = 1 + (S - 400) // 160; frame k begins at sample 160 k. Empty where the sound is too short."""
    if audio_BS.shape[1] < MEL_WINDOW:
        return audio_BS.new_zeros(len(audio_BS), 0, MEL)
    frames = audio_BS.unfold(1, MEL_WINDOW, MEL_HOP) * torch.hann_window(MEL_WINDOW, device=audio_BS.device)
    magnitude = torch.fft.rfft(frames, MEL_FFT).abs()
    return (magnitude @ _vggish_bands().to(audio_BS) + MEL_OFFSET).log()


def logmel_examples(audio_BS: Tensor) -> Tensor:
    """(B, N, 96, 64): VGGish's inputs of 0.96 s, one after another; shorter sound is padded with silence to one."""
    least = MEL_WINDOW + (EXAMPLE_FRAMES - 1) * MEL_HOP
    num = max(num_examples(audio_BS.shape[1]), 1)
    found_BFM = logmel(pad(audio_BS, (0, max(least - audio_BS.shape[1], 0))))
    return found_BFM[:, : num * EXAMPLE_FRAMES].unflatten(1, (num, EXAMPLE_FRAMES))


def num_examples(length: int) -> int:
    """How many of VGGish's inputs so many samples give: one where there is too little for one, none where there is nothing."""
    frames = 1 + (length - MEL_WINDOW) // MEL_HOP
    return max(frames // EXAMPLE_FRAMES, 1) if length else 0


@cache
def _slaney_bands() -> Tensor:
    """(128, 1025): librosa's default filters, of equal area; linear in pitch below 1 kHz, logarithmic above."""
    step, knee_hz, log_step = 200 / 3, 1000.0, math.log(6.4) / 27
    knee = knee_hz / step
    top = knee + math.log(RATE / 2 / knee_hz) / log_step
    mel = torch.linspace(0, top, MFCC + 2, dtype=torch.float64)
    edges = torch.where(mel < knee, mel * step, knee_hz * torch.exp(log_step * (mel - knee)))
    bins = torch.linspace(0, RATE / 2, MFCC_FFT // 2 + 1, dtype=torch.float64)
    return (_triangles(edges, bins) * (2 / (edges[2:] - edges[:-2]))[:, None]).float()


@cache
def _vggish_bands() -> Tensor:
    """(257, 64): VGGish's filters, triangles on the mel axis rather than in hertz; nothing of 0 Hz."""

    def mel_of(hertz: Tensor) -> Tensor:
        return 1127 * torch.log1p(hertz / 700)

    low, high = mel_of(torch.tensor([MEL_LOW, MEL_HIGH], dtype=torch.float64)).tolist()
    edges = torch.linspace(low, high, MEL + 2, dtype=torch.float64)
    bands = _triangles(edges, mel_of(torch.linspace(0, RATE / 2, MEL_FFT // 2 + 1, dtype=torch.float64)))
    bands[:, 0] = 0
    return bands.T.float()


def _triangles(edges: Tensor, places: Tensor) -> Tensor:
    """Rows that rise from 0 at one edge to 1 at the next and fall to 0 at the one after."""
    rising = (places - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - places) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0)


@cache
def _dct() -> Tensor:
    """(128, 128): the orthonormal DCT-II."""
    k, n = torch.meshgrid(*(torch.arange(MFCC, dtype=torch.float64),) * 2, indexing="ij")
    basis = torch.cos(math.pi / MFCC * (n + 0.5) * k) * math.sqrt(2 / MFCC)
    basis[0] /= math.sqrt(2)
    return basis.float()
