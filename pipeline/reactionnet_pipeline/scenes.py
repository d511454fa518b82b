"""How well a data set covers the eight scene types: counts from `tables/sources`, and the report's section on them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from reactionnet_datasets.labels import class_name
from reactionnet_datasets.scenes import known_sub_scene, scene_file, scene_of

NONE_OF_THEM, NOT_GIVEN = "none of the eight", "not given"


@dataclass(frozen=True, kw_only=True)
class SceneCount:
    """What was built of one scene type. `sub_scenes` counts sources; `new` are those that the scene file lacks."""

    title: str
    sources: int
    clips: int
    frames: int
    sub_scenes: Mapping[str, int]
    new: tuple[str, ...]


def coverage(sources: Iterable[Mapping[str, Any]]) -> list[SceneCount]:
    """One count a scene type in the file's order, those without a source too; then what is of no type, if there is any.

    `sources` are rows of `tables/sources` with stimulus_scene, sub_scene, clips and frames.
    """
    types = scene_file()["types"]
    counts: dict[str, Counter[str]] = {name: Counter() for name in (*types, NONE_OF_THEM, NOT_GIVEN)}
    subs: dict[str, Counter[str]] = {name: Counter() for name in counts}
    for row in sources:
        scene = scene_of(row["stimulus_scene"]) if row["stimulus_scene"] else None
        name = scene or (NONE_OF_THEM if row["stimulus_scene"] else NOT_GIVEN)
        counts[name].update(sources=1, clips=row["clips"] or 0, frames=row["frames"] or 0)
        if row["sub_scene"]:
            subs[name][class_name(row["sub_scene"])] += 1
    return [
        SceneCount(
            title=types[name]["title"] if name in types else name,
            sources=count["sources"],
            clips=count["clips"],
            frames=count["frames"],
            sub_scenes=dict(sorted(subs[name].items())),
            new=tuple(s for s in sorted(subs[name]) if not known_sub_scene(name if name in types else None, s)),
        )
        for name, count in counts.items()
        if name in types or count
    ]


def coverage_section(sources: Iterable[Mapping[str, Any]]) -> str:
    """The report's section: a table, and the types that nothing was built of."""
    counts = coverage(sources)
    rows = "".join(
        f"<tr><td>{escape(count.title)}</td>"
        + "".join(f"<td class=n>{number:,}</td>" for number in (count.sources, count.clips, count.frames))
        + f"<td>{escape(', '.join(f'{name} ({n})' for name, n in count.sub_scenes.items()))}</td></tr>"
        for count in counts
    )
    missing = [count.title for count in counts if not count.sources]
    new = [name for count in counts for name in count.new]
    notes = ""
    if missing:
        notes += f"<p class=dim>Nothing was built of: {escape(', '.join(missing))}.</p>"
    if new:
        notes += f"<p class=dim>Sub-scenes that the scene file does not list yet: {escape(', '.join(new))}.</p>"
    return (
        f"<h2>Scenes</h2><p class=dim>Scene file version {scene_file()['version']}.</p>"
        "<table><tr><th>scene</th><th class=n>sources</th><th class=n>clips</th><th class=n>frames</th>"
        f"<th>sub-scenes (sources)</th></tr>{rows}</table>{notes}"
    )
