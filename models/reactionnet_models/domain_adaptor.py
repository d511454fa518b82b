"""Universal domain adaptors (Wang et al., CVPR 2019) and the image encoders of DRR, as maps of features.

An adaptor holds K squeeze-and-excitation nets of a layer, mixes them with weights that hang on the picture, and scales the
layer's channels by a sigmoid of the mix: which domain a picture is from is never told. It stands in every residual block
after the second batch norm, before the sum, as in the authors' code. DRR's text calls it spatial; it acts on channels.

Letters: N pictures, C channels, H, W, K adapters, R = C / 16.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from reactionnet_datasets.torchvision_on_cpu import ensure
from reactionnet_models.encoders import image_encoder

REDUCTION = 16
ENCODERS = ("resnet18", "resnet50", "vit_b_16", "resnet10", "tiny")


class DomainAdaptor(nn.Module):
    """K adapters in three einsums, (N, C, H, W) to the same. The picture is pooled once.

    With `diversify`, `similarity` holds the mean cosine between the adapters' outputs of the last call, for a loss.
    """

    def __init__(self, width: int, num_adapters: int, *, diversify: bool = False):
        super().__init__()
        inner = max(width // REDUCTION, 4)  # 4 is what ResNet's narrowest layer has
        self.diversify, self.similarity = diversify, torch.zeros(())
        self.weight1_KCR, self.bias1_KR = _linear(num_adapters, width, inner)
        self.weight2_KRC, self.bias2_KC = _linear(num_adapters, inner, width)
        self.choose = nn.Linear(width, num_adapters)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        pooled_NC = x_NCHW.mean((2, 3))
        hidden_NKR = torch.relu(torch.einsum("nc,kcr->nkr", pooled_NC, self.weight1_KCR) + self.bias1_KR)
        adapted_NKC = torch.einsum("nkr,krc->nkc", hidden_NKR, self.weight2_KRC) + self.bias2_KC
        share_NK = self.choose(pooled_NC).softmax(-1)
        scale_NC = torch.einsum("nk,nkc->nc", share_NK, adapted_NKC).sigmoid()
        if self.diversify:
            self.similarity = mean_similarity(adapted_NKC)
        return x_NCHW * scale_NC[:, :, None, None]


def mean_similarity(adapted_NKC: Tensor) -> Tensor:
    """Mean cosine between the outputs of different adapters. Scalar."""
    unit = nn.functional.normalize(adapted_NKC, dim=-1)
    cosine_NKK = unit @ unit.transpose(1, 2)
    num = cosine_NKK.shape[-1]
    return (cosine_NKK.sum((1, 2)) - num).mean() / max(num * (num - 1), 1)


def _linear(num: int, num_in: int, num_out: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Weights and biases of `num` linear layers, started as nn.Linear starts."""
    limit = num_in**-0.5
    weight = nn.Parameter(torch.empty(num, num_in, num_out).uniform_(-limit, limit))
    return weight, nn.Parameter(torch.empty(num, num_out).uniform_(-limit, limit))


def map_encoder(
    name: str, *, num_adapters: int = 0, weights: str | None = None, diversify: bool = False
) -> tuple[nn.Module, int]:
    """An encoder of pictures (N, 3, H, W) to maps (N, C, h, w), and C; ViT's map is its class token, h = w = 1.

    `weights` as in `image_encoder`; adapters always start afresh. ValueError for an encoder that is not known or cannot
    have adapters.
    """
    if name not in ENCODERS:
        raise ValueError(f"no encoder is called {name!r}; known: {', '.join(ENCODERS)}")
    if num_adapters and name not in ("resnet18", "resnet10", "tiny"):
        raise ValueError(f"{name} takes no domain adaptors; set adapters=0")
    if name == "tiny":
        return _Tiny(num_adapters, diversify), 16
    if name == "vit_b_16":
        return _AsMap(image_encoder(name, weights=weights)[0]), 768
    if name == "resnet50":
        return _trunk(image_encoder(name, weights=weights)[0]), 2048
    whole = _resnet(2 if name == "resnet18" else 1, num_adapters, diversify)
    if weights not in (None, "random"):
        if name != "resnet18":
            raise ValueError(f"{name} has no published weights; set weights=random")
        given = image_encoder("resnet18", weights=weights)[0].state_dict()
        missing, unexpected = whole.load_state_dict(given, strict=False)
        assert not unexpected and all(".adaptor." in key or key.startswith("fc.") for key in missing)
    return _trunk(whole), 512


def similarity_of(encoder: nn.Module) -> Tensor:
    """Mean over the adaptors of an encoder of how alike their adapters' last outputs were."""
    found = [module.similarity for module in encoder.modules() if isinstance(module, DomainAdaptor)]
    return torch.stack(found).mean()


def _resnet(blocks: int, num_adapters: int, diversify: bool) -> nn.Module:
    ensure()
    from torchvision.models.resnet import BasicBlock, ResNet

    class Adapted(BasicBlock):
        """torchvision's block with an adaptor on its branch."""

        def __init__(self, *arguments: Any, **named: Any):
            super().__init__(*arguments, **named)
            self.adaptor = DomainAdaptor(self.bn2.num_features, num_adapters, diversify=diversify)

        def forward(self, x: Tensor) -> Tensor:
            branch = self.relu(self.bn1(self.conv1(x)))
            branch = self.adaptor(self.bn2(self.conv2(branch)))
            return self.relu(branch + (x if self.downsample is None else self.downsample(x)))

    return ResNet(Adapted if num_adapters else BasicBlock, [blocks] * 4)


def _trunk(whole: nn.Module) -> nn.Sequential:
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    return nn.Sequential(*(cast(nn.Module, getattr(whole, name)) for name in names))


class _AsMap(nn.Module):
    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, image_NCHW: Tensor) -> Tensor:
        return self.encoder(image_NCHW)[:, :, None, None]


class _Tiny(nn.Module):
    """Two convolutions with an adaptor between them, for tests."""

    def __init__(self, num_adapters: int, diversify: bool):
        super().__init__()
        adaptor = DomainAdaptor(16, num_adapters, diversify=diversify) if num_adapters else nn.Identity()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 4, stride=4),
            nn.BatchNorm2d(16),
            adaptor,
            nn.ReLU(),
            nn.Conv2d(16, 16, 2, stride=2),
            nn.ReLU(),
        )

    def forward(self, image_NCHW: Tensor) -> Tensor:
        return self.layers(image_NCHW)
