"""Models and presets by name, and what is known of each: counted from the built module, never from a table."""

from collections.abc import Iterator
from dataclasses import fields, replace
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import nn

MODELS = ("aar", "abaw6", "cage", "drr", "eri")


def load_model_module(name: str) -> ModuleType:
    """The module of a model. ValueError, with the nearest name, where there is none."""
    if name not in MODELS:
        raise ValueError(f"no model is called {name!r}{nearest(name, MODELS)}; known: {', '.join(MODELS)}")
    return import_module(f"reactionnet_models.{name}")


def preset_of(module: ModuleType, name: str) -> Any:
    """The configuration of a preset. ValueError, with the nearest name, where there is none."""
    if name not in module.PRESETS:
        known = ", ".join(module.PRESETS)
        raise ValueError(f"no preset is called {name!r}{nearest(name, module.PRESETS)}; known: {known}")
    return module.PRESETS[name]


def nearest(name: str, known: Any) -> str:
    """`; did you mean ...` where something known is near."""
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}" if close else ""


def build_empty(module: ModuleType, config: Any) -> nn.Module:
    """The network without memory for its weights, on the meta device."""
    with torch.device("meta"):
        return module.build(without_weights(config))


def without_weights(config: Any) -> Any:
    """The configuration without weights of others."""
    named = {field.name for field in fields(config)}
    return replace(config, weights=None) if "weights" in named else config


def describe(module: ModuleType, preset: str) -> dict[str, Any]:
    """A preset as `reactionnet-train --list --json` shows it."""
    config, recipe = module.PRESETS[preset], module.RECIPES[preset]
    model = build_empty(module, config)
    with torch.device("meta"):
        batch = module.example(config, 1)
    images = [value.shape[-3:] for name, value in batch.items() if name.startswith("image")]
    shape = images[0] if images else next(iter(batch.values())).shape[1:]  # where no picture goes in, the sound's
    return {
        "model": module.__name__.rpartition(".")[2],
        "preset": preset,
        "paper": module.PAPER,
        "table_row": recipe.table_row,
        "published": dict(recipe.published),
        "task": recipe.task,
        "dataset": recipe.dataset,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "input_shape": list(shape),
    }


def all_presets() -> Iterator[tuple[ModuleType, str]]:
    """Every model's module with every preset's name."""
    for name in MODELS:
        module = load_model_module(name)
        for preset in module.PRESETS:
            yield module, preset
