"""`--set key=value`: fields of a preset's configuration, and `stage.field=value` for its training, checked by type."""

import json
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, Union, get_args, get_origin, get_type_hints

from reactionnet_models.catalogue import nearest
from reactionnet_models.recipe import Recipe


def apply_settings(
    config: Any, recipe: Recipe, settings: Sequence[str], labels: Callable[[Any], Mapping[str, str | None]]
) -> tuple[Any, Recipe]:
    """The configuration with `key=value` applied, and the recipe with its stages changed and the labels that now belong.

    ValueError, with the nearest name, for a slip.
    """
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"--set {setting}: expected key=value")
        stage_name, dot, field = key.partition(".")
        if not dot:
            config = replace(config, **{key: _value(config, key, text)})
            continue
        names = [stage.name for stage in recipe.stages]
        if stage_name not in names:
            raise ValueError(f"--set {setting}: no stage is called {stage_name!r}; this preset has {', '.join(names)}")
        stages = tuple(
            replace(stage, **{field: _value(stage, field, text)}) if stage.name == stage_name else stage
            for stage in recipe.stages
        )
        recipe = replace(recipe, stages=stages)
    return config, replace(recipe, labels=labels(config))


def _value(target: Any, name: str, text: str) -> Any:
    assert is_dataclass(target)
    known = [field.name for field in fields(target)]
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
