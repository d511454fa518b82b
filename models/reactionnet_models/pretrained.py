"""Models as folders: `model.safetensors`, `config.json` and a model card, `README.md`, from disk or from the hub.

Nothing is unpickled: a folder without safetensors is refused.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from reactionnet_datasets.shards import write_atomic
from reactionnet_models.catalogue import load_model_module, nearest, preset_of, without_weights
from reactionnet_models.recipe import Recipe, fitted

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
SCHEMA = "reactionnet-model-1"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model with the module that defines it and the configuration that it was built with."""

    model: nn.Module
    module: ModuleType
    config: Any
    preset: str
    details: Mapping[str, Any]


def recipe_of(loaded: Loaded) -> Recipe:
    """Its preset's recipe for its configuration, with the windows that it was trained on, which settings may have changed."""
    recipe = fitted(loaded.module.RECIPES[loaded.preset], loaded.module, loaded.config)
    last = replace(recipe.stages[-1], **loaded.details.get("windows", {}))
    return replace(recipe, stages=(*recipe.stages[:-1], last))


def save_pretrained(
    model: nn.Module, module: ModuleType, config: Any, folder: Path, *, preset: str, details: Mapping[str, Any]
) -> None:
    """Write the three files. `details` are facts for the card (data, scores, licence of the data)."""
    from safetensors.torch import save

    name = module.__name__.rpartition(".")[2]
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    write_atomic(folder / WEIGHTS, save(state, metadata={"format": "pt"}))
    content = {
        "schema": SCHEMA, "model": name, "preset": preset, "config": asdict(config), "details": dict(details),
        "reactionnet": version("reactionnet"),
    }  # fmt: skip
    write_atomic(folder / CONFIG, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
    write_atomic(folder / CARD, _card(module, name, preset, state, details).encode())


def from_pretrained(source: str | Path) -> Loaded:
    """A model from a folder, a run folder, or the hub (`owner/name`), in evaluation mode.

    ValueError where there is no such folder or repository, or its weights are not safetensors.
    """
    folder = find_folder(source)
    state = read_state(folder)
    try:
        content = json.loads((folder / CONFIG).read_bytes())
        if content.get("schema") != SCHEMA:
            raise ValueError(f"schema {content.get('schema')!r}; expected {SCHEMA!r}")
        module = load_model_module(content["model"])
        preset_of(module, content["preset"])
        config = make_config(module.Config, content["config"])
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError, OSError) as error:
        raise ValueError(f"{folder / CONFIG} describes no model of this package: {error}") from error
    model = module.build(without_weights(config))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"the weights in {folder} do not fit their configuration: {error}") from error
    return Loaded(
        model=model.eval(), module=module, config=config, preset=content["preset"], details=content["details"]
    )


def make_config(kind: type, values: Mapping[str, Any]) -> Any:
    """A configuration from json: lists become tuples. ValueError for a field that it lacks."""
    known = [field.name for field in fields(kind)]
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"no field is called {unknown[0]!r}{nearest(unknown[0], known)}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def find_folder(source: str | Path) -> Path:
    """The folder of a model: itself, `model/` of a run, or a snapshot from the hub."""
    path = Path(source)
    for folder in (path, path / "model"):
        if (folder / CONFIG).is_file() and (folder / CONFIG).read_bytes().find(SCHEMA.encode()) >= 0:
            return folder
    if path.is_file() and path.suffix in (".ckpt", ".pt", ".pth", ".bin", ".pkl"):
        raise ValueError(
            f"{path} is refused: such checkpoints can run code. Name the run's folder, or a safetensors model"
        )
    if path.exists() or str(source).count("/") != 1 or str(source).startswith((".", "/", "~")):
        raise ValueError(f"{source} holds no model: expected {CONFIG} and {WEIGHTS}, or a run folder that has them")
    return _from_hub(str(source))


def read_state(folder: Path) -> dict[str, Tensor]:
    """The weights of a folder. ValueError where they are not safetensors."""
    from reactionnet_models.encoders import read_weights

    if not (folder / WEIGHTS).is_file():
        other = sorted(
            path.name for path in folder.iterdir() if path.suffix in (".ckpt", ".pt", ".pth", ".bin", ".pkl")
        )
        found = f"; {', '.join(other)} is refused: such checkpoints can run code" if other else ""
        raise ValueError(f"{folder} has no {WEIGHTS}{found}")
    return read_weights(folder / WEIGHTS)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=[WEIGHTS, CONFIG, CARD]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(f"{name} is neither a folder nor a model that the hub gives us: {error}") from error


def _card(module: ModuleType, name: str, preset: str, state: Mapping[str, Tensor], details: Mapping[str, Any]) -> str:
    recipe = module.RECIPES.get(preset)
    count = sum(value.numel() for value in state.values() if value.dtype != torch.int64)
    lines = [
        "---", "library_name: reactionnet", "license: apache-2.0", "---", "", f"# {name} {preset}", "",
        f"{module.PAPER}. {count:,} numbers in `{WEIGHTS}`.", "",
        "```python", "from reactionnet_models import from_pretrained", "", 'model = from_pretrained("FOLDER").model', "```", "",
        "The code is under Apache-2.0. Weights follow the terms of the data that they were trained on, which are often for "
        "research only. Predictions are of what faces show, not of what people feel; do not decide about people with them.",
        "",
    ]  # fmt: skip
    if recipe is not None and recipe.table_row:
        lines += [f"The paper's row: {recipe.table_row}.", ""]
    lines += [f"- {key}: {value}" for key, value in sorted(details.items())]
    return "\n".join(lines) + "\n"
