"""VGGish (Hershey et al., ICASSP 2017): 0.96 s of log-mel to 128 numbers, by the names of torchvggish's weights.

`reactionnet_datasets.sound_features.logmel_examples` gives its input. The embedding is the one before PCA and
quantisation. ABAW6 says that it was trained on VGGSound; it was trained on videos of YouTube-8M. Letters: N examples, 96
frames of 64 bands.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from reactionnet_datasets.sound_features import num_examples
from reactionnet_models.encoders import load, read_weights

WIDTH = 128
_LAYERS: tuple[int | None, ...] = (64, None, 128, None, 256, 256, None, 512, 512, None)  # None halves both axes


class VGGish(nn.Module):
    """(N, 96, 64) to (N, 128). `channels` and `hidden` are the network's; smaller ones are for tests."""

    def __init__(self, scale: int = 1):
        super().__init__()
        layers: list[nn.Module] = []
        num = 1
        for width in _LAYERS:
            if width is None:
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(num, width // scale, 3, padding=1), nn.ReLU()]
                num = width // scale
        self.features = nn.Sequential(*layers)
        hidden = 4096 // scale
        self.embeddings = nn.Sequential(
            nn.Linear(num * 6 * 4, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, WIDTH), nn.ReLU()
        )  # fmt: skip

    def forward(self, logmel_NHW: Tensor) -> Tensor:
        maps_NCHW = self.features(logmel_NHW[:, None])
        return self.embeddings(maps_NCHW.permute(0, 2, 3, 1).flatten(1))  # TensorFlow's order: channels last


def vggish(weights: str | None = None, scale: int = 1) -> VGGish:
    """The net with the weights of a file, or without any. ValueError where they do not fit."""
    net = VGGish(scale)
    if weights not in (None, "random"):
        if not Path(str(weights)).is_file():
            raise ValueError(f"no file {weights}: fetch vggish-10086976.pth of torchvggish, or set sound=none")
        load(net, read_weights(Path(str(weights))), "VGGish", str(weights))
    return net.eval().requires_grad_(False)


def mean_of_examples(found_BNC: Tensor, mask_BN: Tensor) -> Tensor:
    """One embedding a clip: the mean over its examples, 0 where it has none."""
    weight = mask_BN[..., None].to(found_BNC)
    return (found_BNC * weight).sum(1) / weight.sum(1).clamp(min=1)


def examples_of(lengths: Sequence[int], num: int) -> Tensor:
    """(B, N), true for as many examples as each clip's own samples give; a clip with any sound has at least one."""
    whole_B = torch.tensor([num_examples(length) for length in lengths])
    return torch.arange(num) < whole_B[:, None]
