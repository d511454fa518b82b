"""Universal domain adaptors (Wang et al., CVPR 2019) and the image encoders of DRR, as maps of features.

An adaptor holds K squeeze-and-excitation nets of a layer, mixes them with weights that hang on the picture, and scales the
layer's channels by a sigmoid of the mix: which domain a picture is from is never told. It stands in every residual block
after the second batch norm, before the sum, as in the authors' code. DRR's text calls it spatial; it acts on channels.

Letters: N pictures, C channels, H, W, K adapters, R = C / 16.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from reactionnet_datasets.torchvision_on_cpu import ensure
from reactionnet_models.encoders import image_encoder

REDUCTION = 16
ENCODERS = ("resnet18", "resnet50", "vit_b_16", "resnet10", "tiny")


class DomainAdaptor(nn.Module):
    """K adapters in two products, (N, C, H, W) to the same. The picture is pooled once, and what the adapters have inside is
    mixed before their second layer: a sum of products is one product with the weights one below the other.

    With `diversify`, `similarity` holds the mean cosine between the adapters' outputs of the last call, for a loss.
    """

    def __init__(self, width: int, num_adapters: int, *, diversify: bool = False):
        super().__init__()
        inner = max(width // REDUCTION, 4)  # 4 is what ResNet's narrowest layer has
        self.diversify, self.similarity = diversify, torch.zeros(())
        self.weight1_KRC = _uniform(num_adapters, inner, width, num_in=width)
        self.bias1_KR = _uniform(num_adapters, inner, num_in=width)
        self.weight2_KRC = _uniform(num_adapters, inner, width, num_in=inner)
        self.bias2_KC = _uniform(num_adapters, width, num_in=inner)
        self.choose = nn.Linear(width, num_adapters)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        # a sum's gradient is a view, a mean's a map of its own; half precision could not hold the sum
        pooled_NC = x_NCHW.sum((2, 3), dtype=self.choose.weight.dtype) / (x_NCHW.shape[2] * x_NCHW.shape[3])
        # weights are many more than pooled features: to turn them into half precision costs more than it saves
        with torch.autocast(x_NCHW.device.type, enabled=False):
            share_NK = self.choose(pooled_NC).softmax(-1)
            hidden = linear(pooled_NC, self.weight1_KRC.flatten(0, 1), self.bias1_KR.flatten())
            hidden_NKR = torch.relu(hidden).unflatten(1, self.bias1_KR.shape)
            mixed_NX = (hidden_NKR * share_NK[..., None]).flatten(1)
            scale_NC = torch.addmm(share_NK @ self.bias2_KC, mixed_NX, self.weight2_KRC.flatten(0, 1)).sigmoid()
            if self.diversify:
                adapted_NKC = torch.einsum("nkr,krc->nkc", hidden_NKR, self.weight2_KRC) + self.bias2_KC
                self.similarity = mean_similarity(adapted_NKC)
        return x_NCHW * scale_NC.to(x_NCHW)[:, :, None, None]


def mean_similarity(adapted_NKC: Tensor) -> Tensor:
    """Mean cosine between the outputs of different adapters. Scalar."""
    unit = nn.functional.normalize(adapted_NKC, dim=-1)
    cosine_NKK = unit @ unit.transpose(1, 2)
    num = cosine_NKK.shape[-1]
    return (cosine_NKK.sum((1, 2)) - num).mean() / max(num * (num - 1), 1)


def _uniform(*shape: int, num_in: int) -> nn.Parameter:
    """Numbers of linear layers with `num_in` inputs, started as nn.Linear starts."""
    return nn.Parameter(torch.empty(shape).uniform_(-(num_in**-0.5), num_in**-0.5))


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

    net = ResNet(Adapted if num_adapters else BasicBlock, [blocks] * 4)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


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
