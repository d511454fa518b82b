"""Image encoders by name: torchvision's backbones without their classifiers, and where their weights come from.

Every encoder maps (B, 3, H, W) to pooled features (B, width).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reactionnet_datasets.torchvision_on_cpu import ensure

_PUBLISHED = ("maxvit_t", "efficientnet_v2_s", "swin_v2_t", "resnet18", "resnet50", "vit_b_16")
_FIXED_SIZE = ("maxvit_t", "vit_b_16")  # 224 px
WIDTHS = {
    "maxvit_t": 512,
    "efficientnet_v2_s": 1280,
    "swin_v2_t": 768,
    "resnet18": 512,
    "resnet50": 2048,
    "vit_b_16": 768,
    "tiny": 16,
}


def image_encoder(name: str, *, weights: str | None = None, image_size: int = 224) -> tuple[nn.Module, int]:
    """An encoder and the width of its features.

    `weights` is None or `random`, a file (safetensors, or a torch file without code), or a name that torchvision knows
    (`IMAGENET1K_V1`), which is fetched unless it lies in torch's cache. ValueError where the encoder is not known, does not
    take pictures of `image_size`, or the weights cannot be had.
    """
    if name not in WIDTHS:
        raise ValueError(f"no encoder is called {name!r}; known: {', '.join(WIDTHS)}")
    if name in _FIXED_SIZE and image_size != 224:
        raise ValueError(f"{name} takes pictures of 224 px, not {image_size}: set image_size=224, or another encoder")
    if name == "tiny":
        encoder: nn.Module = _Tiny()
        whole = encoder
    else:
        ensure()
        from torchvision.models import get_model

        whole = get_model(name, weights=None)
    if weights not in (None, "random"):
        load(whole, _weights(name, str(weights)), name, str(weights))
    if name != "tiny":
        encoder = _without_classifier(whole)
    # Convolutions are faster so: a ResNet-18's training step takes 0.85 of the time on a CPU.
    return encoder.to(memory_format=torch.channels_last), WIDTHS[name]  # type: ignore[call-overload]


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from a safetensors or torch file. ValueError for a file that holds anything but tensors."""
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is no safetensors file: {error}") from error
    import pickle

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{path} is refused: it is damaged, or runs code when it is opened. Save it as safetensors where you trust it"
        ) from error
    state = content
    if isinstance(content, dict):
        state = content.get("state_dict", content.get("model_state_dict", content.get("model", content)))
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no state dict of tensors")
    return state


def load(net: nn.Module, state: Mapping[str, Tensor], name: str, source: str) -> None:
    """Weights from `source` into a network called `name`. ValueError, with the first that differs, where they are of
    another network."""
    try:
        net.load_state_dict(state)
    except RuntimeError as error:  # torch's message lists all that differ
        raise ValueError(
            f"weights={source} holds weights of another network, not those of {name}: {_difference(net, state) or error}"
        ) from error


def _difference(net: nn.Module, state: Mapping[str, Tensor]) -> str:
    """The first, or nothing where names and shapes agree."""
    own = net.state_dict()
    for key, value in own.items():
        if key not in state:
            return f"{key} is missing"
        if state[key].shape != value.shape:
            return f"{key} is {tuple(state[key].shape)}; expected {tuple(value.shape)}"
    return next((f"{key} is none of its weights" for key in state if key not in own), "")


def _weights(name: str, weights: str) -> dict[str, Tensor]:
    if Path(weights).is_file():
        return read_weights(Path(weights))
    from torchvision.models import get_model_weights

    if name not in _PUBLISHED:
        raise ValueError(f"{name} has no published weights; {weights!r} is no file either. Set weights=random")
    known = get_model_weights(name)
    if weights not in [*known.__members__, "DEFAULT"]:
        raise ValueError(f"weights {weights!r} is neither a file nor one of {', '.join(known.__members__)} of {name}")
    try:
        return dict(known[weights].get_state_dict(progress=False, check_hash=True))
    except OSError as error:
        raise ValueError(
            f"weights {weights} of {name} cannot be fetched ({error}). Put them into torch's cache "
            f"({torch.hub.get_dir()}/checkpoints), name a file with --set weights=FILE, or --set weights=random"
        ) from error


def _without_classifier(whole: Any) -> nn.Module:
    if hasattr(whole, "fc"):
        whole.fc = nn.Identity()
    elif hasattr(whole, "heads"):
        whole.heads = nn.Identity()
    elif hasattr(whole, "head"):
        whole.head = nn.Identity()
    elif type(whole).__name__ == "MaxVit":
        whole.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    else:
        whole.classifier = nn.Identity()
    return whole


class _Tiny(nn.Module):
    """Two convolutions, for tests."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.layers(image_BCHW)
