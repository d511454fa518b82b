"""ERI's encoders over time and space: a causal convolutional net, a transformer behind it, and attention pooling.

The temporal encoder is that of TEMMA (Chen et al., IEEE TMM 2021), as its public code has it without the regressor.
Letters: B clips, T frames, C channels, L tokens.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.parametrizations import weight_norm


class CausalConv(nn.Module):
    """Weight-normed convolution over time (B, C, T) that sees the present and the past alone, Eq. 6."""

    def __init__(self, num_in: int, num_out: int, kernel: int, dilation: int):
        super().__init__()
        self.past = (kernel - 1) * dilation
        self.conv = weight_norm(nn.Conv1d(num_in, num_out, kernel, dilation=dilation))

    def forward(self, x_BCT: Tensor) -> Tensor:
        return self.conv(pad(x_BCT, (self.past, 0)))


class TemporalBlock(nn.Module):
    """Two causal convolutions of one dilation with a residual, (B, C, T)."""

    def __init__(self, num_in: int, num_out: int, kernel: int, dilation: int, dropout: float):
        super().__init__()
        self.conv1 = CausalConv(num_in, num_out, kernel, dilation)
        self.conv2 = CausalConv(num_out, num_out, kernel, dilation)
        self.dropout = nn.Dropout(dropout)
        self.shortcut = nn.Conv1d(num_in, num_out, 1) if num_in != num_out else None

    def forward(self, x_BCT: Tensor) -> Tensor:
        inner = self.dropout(torch.relu(self.conv1(x_BCT)))
        inner = self.dropout(torch.relu(self.conv2(inner)))
        return torch.relu(inner + (x_BCT if self.shortcut is None else self.shortcut(x_BCT)))


class TemporalEncoder(nn.Module):
    """Features of frames (B, T, num_in) to (B, T, width): `levels` temporal blocks of dilation 1, 2, 4 ..., positions,
    then a pre-norm transformer.

    `span` is how many frames each sees before and behind itself in the transformer; None: all (ERI: "global information").
    TEMMA's code has (49, 9), and sinusoids whose base is 1000, not the usual 10,000. A masked frame is seen by no other; of
    a clip of which all are masked, all are seen, so that its answer is one of numbers.
    """

    def __init__(
        self, num_in: int, width: int, *, levels: int, kernel: int, layers: int, heads: int, ffn: int, dropout: float,
        base: float, span: tuple[int, int] | None,
    ):  # fmt: skip
        super().__init__()
        self.width, self.heads, self.base, self.span = width, heads, base, span
        self.tcn = nn.Sequential(
            *(TemporalBlock(width if n else num_in, width, kernel, 2**n, dropout) for n in range(levels))
        )
        self.dropout_position, self.dropout_input = nn.Dropout(dropout), nn.Dropout(dropout)  # both, as in the code
        layer = nn.TransformerEncoderLayer(
            width, heads, ffn, dropout, batch_first=True, norm_first=True, layer_norm_eps=1e-6
        )
        self.encoder = nn.TransformerEncoder(
            layer, layers, norm=nn.LayerNorm(width, eps=1e-6), enable_nested_tensor=False
        )

    def forward(self, x_BTC: Tensor, frame_mask_BT: Tensor) -> Tensor:
        x = self.tcn(x_BTC.transpose(1, 2)).transpose(1, 2) * math.sqrt(self.width)
        x = self.dropout_position(x + sinusoids(x.shape[1], self.width, self.base, x.device))
        x, seen_BT = self.dropout_input(x), or_all(frame_mask_BT)
        if self.span is None:
            return self.encoder(x, src_key_padding_mask=~seen_BT)
        hidden_TT = outside_span(x.shape[1], self.span, x.device)
        # a masked frame whose neighbours are masked too would see nothing, which is NaN: each sees itself
        own_TT = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        hidden_BTT = (hidden_TT | ~seen_BT[:, None]) & ~own_TT
        return self.encoder(x, mask=hidden_BTT.repeat_interleave(self.heads, 0))


class AttentionPool(nn.Module):
    """softmax(Linear(z)) as weights of a sum over the tokens that `mask_BL` shows, VTP's: (B, L, C) to (B, C).

    Where it shows none, over all of them.
    """

    def __init__(self, width: int):
        super().__init__()
        self.score = nn.Linear(width, 1)
        self.score.bias.requires_grad_(
            False
        )  # adds the same to all scores, which changes nothing: VTP has it nevertheless

    def forward(self, z_BLC: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        score_BL1 = self.score(z_BLC)
        if mask_BL is not None:
            score_BL1 = score_BL1.masked_fill(~or_all(mask_BL)[..., None], -torch.inf)
        return (score_BL1.softmax(1) * z_BLC).sum(1)


def or_all(mask_BL: Tensor) -> Tensor:
    """The mask, all true where a row has nothing true: a softmax over nothing is NaN."""
    return mask_BL | ~mask_BL.any(1, keepdim=True)


def sinusoids(length: int, width: int, base: float, device: torch.device) -> Tensor:
    """(T, C): sines in even channels, cosines in odd ones."""
    place_T1 = torch.arange(length, device=device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(base) / width))
    return torch.stack([(place_T1 * rate).sin(), (place_T1 * rate).cos()], -1).flatten(1)


def outside_span(length: int, span: tuple[int, int], device: torch.device) -> Tensor:
    """(T, T), true where row t may not see column s: more than span[0] before it or span[1] behind it."""
    place = torch.arange(length, device=device)
    ahead_TT = place[None, :] - place[:, None]
    return (ahead_TT < -span[0]) | (ahead_TT > span[1])
