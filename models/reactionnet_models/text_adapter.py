"""CLIP's text tower with low-rank adapters (LoRA), by peft: the tower stays as it is, the adapters learn."""

import torch

from reactionnet_datasets.torchvision_on_cpu import ensure
from reactionnet_models.captions import text_tower

TARGETS = ("q_proj", "v_proj")  # as LoRA's paper


def adapted_tower(source: str, rank: int, *, load: bool = True) -> torch.nn.Module:
    """The tower of `source` with adapters of a rank. Without `load` it has ViT-B/32's sizes and no weights."""
    ensure()
    from peft import LoraConfig, get_peft_model

    return get_peft_model(
        text_tower(source, load=load), LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(TARGETS))
    )
