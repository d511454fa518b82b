"""ABAW6's image encoder: a ViT that a masked autoencoder pre-trained on faces (He et al., CVPR 2022), by transformers.

Pre-training needs no code of ours but its loss, since transformers averages it over a batch whose patches it draws itself.
The fine-tuned encoder is transformers' ViT, whose weights have the same names. Letters: N pictures, L patches, P numbers of a
patch, C width.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reactionnet_datasets.torchvision_on_cpu import ensure
from reactionnet_models.encoders import load, read_weights

# width, layers, heads, inner width of the encoder; the same of the decoder
SIZES = {
    "base": ((768, 12, 12, 3072), (512, 8, 16, 2048)),
    "large": ((1024, 24, 16, 4096), (512, 8, 16, 2048)),
    "small": ((192, 6, 3, 768), (96, 2, 3, 384)),
    "tiny": ((16, 1, 2, 32), (16, 1, 2, 32)),
}


def masked_autoencoder(size: str, image_size: int, patch: int, mask_ratio: float) -> nn.Module:
    """transformers' ViTMAE with MAE's layer norms."""
    ensure()
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    (width, layers, heads, ffn), (decoder_width, decoder_layers, decoder_heads, decoder_ffn) = SIZES[size]
    net = ViTMAEForPreTraining(
        ViTMAEConfig(
            hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=ffn,
            decoder_hidden_size=decoder_width, decoder_num_hidden_layers=decoder_layers,
            decoder_num_attention_heads=decoder_heads, decoder_intermediate_size=decoder_ffn, image_size=image_size,
            patch_size=patch, mask_ratio=mask_ratio, layer_norm_eps=1e-6,
        )
    )  # fmt: skip
    _start(net)
    side = image_size // patch
    with torch.no_grad():  # transformers 5.23 leaves all of these at zero where no weights are loaded
        net.vit.embeddings.position_embeddings.copy_(sines(side, width))
        net.decoder.decoder_pos_embed.copy_(sines(side, decoder_width))
        net.vit.embeddings.cls_token.normal_(std=0.02)
        net.decoder.mask_token.normal_(std=0.02)
    return net


def vit_encoder(size: str, image_size: int, patch: int, weights: str | None = None) -> tuple[nn.Module, int]:
    """The encoder alone and its width. `weights`: None, `random`, a folder or name that transformers opens, or a file of
    MAE's or ours. ValueError where they cannot be had or do not fit."""
    ensure()
    from transformers import ViTConfig, ViTModel

    width, layers, heads, ffn = SIZES[size][0]
    config = ViTConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=ffn, image_size=image_size,
        patch_size=patch, layer_norm_eps=1e-6,
    )  # fmt: skip
    encoder = ViTModel(config, add_pooling_layer=False)
    positions = encoder.embeddings.position_embeddings.requires_grad_(False)  # MAE's are sines, and stay
    positions.copy_(sines(image_size // patch, width))
    if weights in (None, "random"):
        _start(encoder)
        return encoder, width
    load(encoder, _weights(str(weights)), f"a ViT of size {size}", str(weights))
    return encoder, width


def _start(net: nn.Module) -> None:
    """MAE's start: Xavier's uniform, of the patches' projection too. That of transformers, a deviation of 0.02 whatever the
    width, is less than half of it in a narrow network, which then learns more slowly."""
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight.flatten(1))  # a view


def _weights(source: str) -> dict[str, Tensor]:
    if Path(source).is_file():
        state = read_weights(Path(source))
        prefixes = ("autoencoder.vit.", "encoders.image.", "vit.")
        prefix = next((p for p in prefixes if any(name.startswith(p) for name in state)), "")
        return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    from transformers import ViTMAEForPreTraining

    try:
        whole: Any = ViTMAEForPreTraining.from_pretrained(source)
    except OSError as error:
        raise ValueError(
            f"the weights {source!r} are neither a file, a folder nor a name that the hub gives us: {error}. "
            "Set weights=random, or start from a pre-training of ours with --init"
        ) from error
    return whole.vit.state_dict()


def sines(side: int, width: int) -> Tensor:
    """MAE's positions of a class token (zeros) and side x side patches, (1, 1 + L, C): sines and cosines of the column in
    the first half, of the row in the second."""
    rate = 10_000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    angle = torch.arange(side, dtype=torch.float64)[:, None] * rate
    place = torch.cat([angle.sin(), angle.cos()], -1)
    column, row = place.repeat(side, 1), place.repeat_interleave(side, 0)
    return torch.cat([torch.zeros(1, width), torch.cat([column, row], -1).float()])[None]


def patches(image_NCHW: Tensor, patch: int) -> Tensor:
    """(N, L, P): each patch's numbers, row by row of pixels, the three colours of a pixel together."""
    num, channels, height, width = image_NCHW.shape
    cut = image_NCHW.reshape(num, channels, height // patch, patch, width // patch, patch)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(num, (height // patch) * (width // patch), patch * patch * channels)


def reconstruction_loss(
    predicted_NLP: Tensor, image_NCHW: Tensor, mask_NL: Tensor, patch: int, normalize: bool
) -> Tensor:
    """Mean squared error over the hidden patches (mask 1). `normalize`: of numbers brought to a patch's own mean and
    deviation, MAE's default; the paper says "pixel-wise"."""
    true_NLP = patches(image_NCHW, patch)
    if normalize:
        true_NLP = (true_NLP - true_NLP.mean(-1, keepdim=True)) / (true_NLP.var(-1, keepdim=True) + 1e-6).sqrt()
    error_NL = (predicted_NLP.float() - true_NLP).square().mean(-1)
    return (error_NL * mask_NL).sum() / mask_NL.sum()


class Reconstruction:
    """How far hidden patches are from what was made of them: mean squared error, pictures pooled."""

    def __init__(self, patch: int, normalize: bool):
        self._patch, self._normalize, self._sum, self._num = patch, normalize, 0.0, 0
        self.definition = (
            "l2 is the mean squared error of the hidden patches' normalised pixels; the prior's patches are grey"
        )

    def update(self, out: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        image_NCHW, hidden_NL = batch["image_BTCHW"].flatten(0, 1), out["hidden_BTL"].flatten(0, 1)
        found = reconstruction_loss(
            out["patch_BTLP"].flatten(0, 1), image_NCHW, hidden_NL, self._patch, self._normalize
        )
        self._sum, self._num = self._sum + float(found) * len(image_NCHW), self._num + len(image_NCHW)

    def compute(self) -> dict[str, float]:
        return {"l2": self._sum / max(self._num, 1)}

    def details(self) -> dict[str, Any]:
        return {}


class Autoencoder(nn.Module):
    """Pictures with which patches to hide (by the order of `noise_BTL`) to the picture that it makes of the rest."""

    def __init__(self, size: str, image_size: int, patch: int, mask_ratio: float):
        super().__init__()
        self.autoencoder = masked_autoencoder(size, image_size, patch, mask_ratio)

    def forward(self, batch: Any) -> dict[str, Tensor]:
        shape = batch["noise_BTL"].shape[:2]
        found = self.autoencoder(batch["image_BTCHW"].flatten(0, 1), noise=batch["noise_BTL"].flatten(0, 1))
        return {"patch_BTLP": found.logits.unflatten(0, shape), "hidden_BTL": found.mask.unflatten(0, shape)}


def num_patches(image_size: int, patch: int) -> int:
    """L. ValueError where the picture is not a whole number of patches."""
    if image_size % patch:
        raise ValueError(f"image_size {image_size} is no multiple of the patch's {patch}")
    return (image_size // patch) ** 2


def draw_noise(shape: tuple[int, ...], random: torch.Generator | None) -> Tensor:
    """Numbers whose order says which patches are hidden; without `random` always the same."""
    return torch.rand(shape, generator=random or torch.Generator().manual_seed(0))
