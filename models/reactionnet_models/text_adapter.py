"""CLIP's text tower with low-rank adapters (LoRA), by peft: the tower stays as it is, the adapters learn."""

import warnings

import torch

from reactionnet_datasets.torchvision_on_cpu import ensure
from reactionnet_models.captions import text_tower

TARGETS = ("q_proj", "v_proj")  # as LoRA's paper


def adapted_tower(source: str, rank: int, *, load: bool = True) -> tuple[torch.nn.Module, int]:
    """The tower of `source` with adapters of a rank, and how many features a text has. Without `load` no weights."""
    ensure()
    from peft import LoraConfig, get_peft_model

    tower = text_tower(source, load=load)
    adapters = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(TARGETS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that is to go
        return get_peft_model(tower, adapters), tower.config.projection_dim
