"""`--set key=value`: fields of a preset's configuration, and `stage.field=value` for its training, checked by type."""

import json
import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from types import ModuleType
from typing import Any, Union, get_args, get_origin, get_type_hints

from reactionnet_models.catalogue import nearest
from reactionnet_models.recipe import Recipe, fitted


def apply_settings(config: Any, recipe: Recipe, settings: Sequence[str], module: ModuleType) -> tuple[Any, Recipe]:
    """The configuration with `key=value` applied, and the recipe with the labels, fields and windows that now belong, and
    its stages changed.

    ValueError, with the nearest name, for a slip.
    """
    of_model: dict[str, Any] = {}
    of_stages: list[tuple[str, str, str]] = []
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"--set {setting}: expected key=value")
        stage_name, dot, field = key.partition(".")
        if dot:
            of_stages.append((stage_name, field, text))
        else:
            of_model[key] = _value(config, key, text)
    for name in getattr(module, "DECIDES", ()):
        if name in of_model and of_model[name] != getattr(config, name):
            raise ValueError(f"--set {name}: that is for another preset, which `reactionnet-train --list` shows")
    given, config = config, replace(config, **of_model)  # all at once: they may only fit together
    recipe = fitted(recipe, module, config)
    if hasattr(module, "windows") and module.windows(config) != module.windows(given):
        for name, values in module.windows(config).items():
            recipe = _with_stage(recipe, name, values)
    for name, field, text in of_stages:
        names = [stage.name for stage in recipe.stages]
        if name not in names:
            raise ValueError(
                f"--set {name}.{field}={text}: no stage is called {name!r}; this preset has {', '.join(names)}"
            )
        recipe = _with_stage(recipe, name, {field: _value(recipe.stages[names.index(name)], field, text)})
    return config, recipe


def _with_stage(recipe: Recipe, name: str, values: Mapping[str, Any]) -> Recipe:
    stages = tuple(replace(stage, **values) if stage.name == name else stage for stage in recipe.stages)
    return replace(recipe, stages=stages)


def _value(target: Any, name: str, text: str) -> Any:
    assert is_dataclass(target)
    known = [field.name for field in fields(target) if field.name not in ("name", "part")]  # which stage it is
    if name not in known:
        raise ValueError(f"no setting is called {name!r}{nearest(name, known)}; known: {', '.join(known)}")
    kind = get_type_hints(type(target))[name]
    try:
        return _parsed(kind, text)
    except ValueError:
        raise ValueError(f"{name}={text}: expected {getattr(kind, '__name__', kind)}") from None


def _parsed(kind: Any, text: str) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        if text.lower() in ("none", "null"):
            return None
        for one in get_args(kind):
            if one is not type(None):
                try:
                    return _parsed(one, text)
                except ValueError:
                    continue
        raise ValueError(text)
    if get_origin(kind) is tuple:
        of = get_args(kind)[0]
        return tuple(_parsed(of, part.strip()) for part in text.strip("[]()").split(",") if part.strip())
    if kind is bool:
        found = json.loads(text.lower())
        if not isinstance(found, bool):
            raise ValueError(text)
        return found
    if kind is str:
        return text
    return kind(text)
