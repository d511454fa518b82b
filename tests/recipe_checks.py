"""From a data set's shards to the paper's row, by the commands, with a network made tiny: what tests of recipes share."""

import json
import math
import re
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from reactionnet_models import catalogue, evaluate, pretrained, train
from reactionnet_models.settings import apply_settings

TINY = {
    "aar": ("crop=32", "aligned=36", "c=1", "delta=0.5", "embedding=2", "attention.epochs=1", "attention.batch_size=4"),
    "cage": ("encoder=tiny", "weights=none", "image_size=32", "all.epochs=1", "all.batch_size=8"),
}
RELATION = ("relation.epochs=1", "relation.batch_size=2", "relation.window=4", "relation.stride=4", "relation.views=1")


def call(app: typer.Typer, *arguments: Any) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, f"{arguments}: {result.output}\n{result.exception!r}"
    return result.output


def run(model: str, preset: str, shards: Path, out: Path, *more: str) -> Path:
    recipe = catalogue.load_model_module(model).RECIPES[preset]
    given = [word for setting in tiny_settings(model, preset) for word in ("--set", setting)]
    given += ["--fold", "1"] if recipe.protocol else []
    call(train.app, model, preset, "--data", shards, "--out", out, "-q", *given, *more)
    return out


def judged(model: str, preset: str, run_folder: Path, shards: Path) -> dict:
    """What evaluation says, after it was seen that the paper's numbers stand beside ours."""
    text = call(evaluate.app, run_folder, "--data", shards)
    content = json.loads((run_folder / "evaluation" / "evaluation.json").read_text())
    recipe = catalogue.load_model_module(model).RECIPES[preset]
    assert content["published"] == dict(recipe.published) and not content["labels_not_there"]
    assert set(recipe.published) <= set(content["scores"]), "a published number has nothing of ours beside it"
    assert recipe.table_row in text.replace("\n", " ") or recipe.table_row.split(",")[0] in text
    for name, paper in recipe.published.items():
        row = next(line for line in text.splitlines() if re.match(rf"│ {name} ", line))
        ours = content["scores"][name]
        assert f"{paper:.4f}" in row and (f"{ours:.4f}" if ours is not None else "-") in row
    assert all(value is not None and math.isfinite(value) for value in content["scores"].values())
    assert content["split"] == recipe.test_split
    return content


def tiny_settings(model: str, preset: str) -> list[str]:
    """What makes a preset's network tiny and its training one epoch. No weights of others are asked for: words stand for
    CLIP's text tower."""
    module = catalogue.load_model_module(model)
    config, recipe = module.PRESETS[preset], module.RECIPES[preset]
    if model in TINY:
        return [*TINY[model], *(RELATION if len(recipe.stages) > 1 else ())]
    given = [f"{stage.name}.{change}" for stage in recipe.stages for change in ("epochs=1", "batch_size=4")]
    if model == "drr":
        given += ["encoder=tiny", "weights=none", "image_size=32", "resize=36", "head_width=8", "node_width=4"]
        given += ["text=words"] if "text" in config.domains else []
        return [*given, *(["adapters=2"] if config.adapters else [])]
    if model == "eri":
        given += ["width=16", "heads=2", "ffn=32", "layers=1", "tcn_levels=2"]
        return [*given, "encoder=tiny", "image_size=32", "spatial_layers=1", "spatial_ffn=32"]
    given += [f"{stage.name}.warmup_epochs=0" for stage in recipe.stages]
    given += ["size=tiny", "image_size=32", "patch=8"]
    if config.task != "pretrain":
        given += ["sound=tiny", "layers=1", "heads=2", "ffn=32", *(["text=words"] if config.text != "none" else [])]
    return given


def untrained(model: str, preset: str, folder: Path, **details: Any) -> Path:
    """A model of a preset as a run leaves it, but for training."""
    module = catalogue.load_model_module(model)
    config, _ = apply_settings(module.PRESETS[preset], module.RECIPES[preset], tiny_settings(model, preset), module)
    pretrained.save_pretrained(module.build(config), module, config, folder, preset=preset, details=details)
    return folder
