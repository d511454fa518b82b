"""What is being watched: the eight scene types of ReactioNet and their sub-scenes, from the versioned `scenes.json`.

A scene type is one of eight, in any of its spellings, or a word that says none of them (`other`). Sub-scenes are open:
the paper names 59 but does not publish them, so any text is one, and the file lists those that were met before.
"""

import difflib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from reactionnet_datasets.labels import class_name
from reactionnet_datasets.sample import Label


@cache
def scene_file() -> Mapping[str, Any]:
    """The content of `scenes.json`."""
    return json.loads(files("reactionnet_datasets").joinpath("scenes.json").read_bytes())


@cache
def _spellings() -> dict[str, str | None]:
    """Every accepted spelling, with the type that it means; None where it says that it is none of them."""
    spellings: dict[str, str | None] = {class_name(word): None for word in scene_file()["none_of_these"]}
    for name, entry in scene_file()["types"].items():
        spellings |= {class_name(text): name for text in (name, entry["title"], *entry["also"])}
    return spellings


def scene_of(text: str) -> str | None:
    """The scene type that a manifest's text names, None where it says "other". ValueError, with the nearest, else."""
    plain = class_name(text)
    try:
        return _spellings()[plain]
    except KeyError:
        types = scene_file()["types"]
        near = difflib.get_close_matches(plain, _spellings(), n=1, cutoff=0.5)
        titles = ", ".join(entry["title"] for entry in types.values())
        meant = near and (_spellings()[near[0]] or near[0])
        hint = f"did you mean {types.get(meant, {}).get('title', meant)!r}?" if meant else f"expected one of {titles}"
        raise ValueError(
            f"stimulus_scene {text[:80]!r} does not exist (scenes version {scene_file()['version']}); {hint}"
        ) from None


def known_sub_scene(scene: str | None, sub_scene: str) -> bool:
    """Whether the file lists a sub-scene under its type (under any type where the type is not known)."""
    types = scene_file()["types"]
    listed = types[scene]["sub_scenes"] if scene else [name for entry in types.values() for name in entry["sub_scenes"]]
    return class_name(sub_scene) in listed


def scene_labels(scene: str | None, sub_scene: str | None) -> dict[str, Label]:
    """The labels of a manifest's two texts. "other" was looked at and is none of the eight: `uncodable`."""
    rule = f"scenes-{scene_file()['version']}"
    name = scene_of(scene) if scene else None
    mask = "not_annotated" if not scene else "valid" if name else "uncodable"
    return {
        "scene": Label(space=scene_file()["space"], value=name, mask=mask, raw=scene, rule=rule if scene else None),
        "sub_scene": Label(
            space="sub_scene",
            value=class_name(sub_scene) if sub_scene else None,
            mask="valid" if sub_scene else "not_annotated",
            raw=sub_scene,
            rule=rule if sub_scene else None,
        ),
    }
