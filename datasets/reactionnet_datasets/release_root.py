"""Whether ROOT is the folder that an importer expects, and where not, what it is instead.

The folder one or two levels up or down, another data set, a release that was not unpacked or whose folders are empty: each
gets a message that shows what was expected and what was found. Nothing is imported of a ROOT that does not fit.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from reactionnet_datasets.about import all_about
from reactionnet_datasets.release import Release, ReleaseError

_LOOKED_AT = 300  # folders, in search of the right ROOT


def markers_of(module: ModuleType, options: Any) -> tuple[str, ...]:
    """What must be there below ROOT: those of `ABOUT`, unless the module's `markers(options)` says otherwise."""
    return module.markers(options) if hasattr(module, "markers") else module.ABOUT.markers


def check_root(release: Release, module: ModuleType, options: Any) -> None:
    """ReleaseError where ROOT does not look like the data set, or its archives are not unpacked and no list tells of them."""
    name, markers = module.ABOUT.name, markers_of(module, options)
    if lacking := [marker for marker in markers if not _has(release, marker)]:
        names = " and ".join(marker.replace("|", " or ") for marker in markers)
        message = str(release.not_here(f"{name}: {names}"))
        if empty := sorted({folder for marker in lacking for folder in _empty(release, marker)}):
            message += f"; {', '.join(empty[:3])} is empty: is the release unpacked?"
        if hasattr(module, "unread") and (form := module.unread(release)):
            message += f"; {form}"
        raise ReleaseError(message + _elsewhere(release, markers) + what_else(release, name))
    packed, empty = release.packed(), release.empty()
    if (packed or empty) and not module.ABOUT.listed:
        what = " and ".join(
            text for names, text in (
                (packed, f"{len(packed)} archives are not unpacked ({', '.join(packed[:3])})"),
                (empty, f"{len(empty)} folders are empty ({', '.join(empty[:3])})"),
            ) if names
        )  # fmt: skip
        raise ReleaseError(
            f"in {release.root} {what}; no list of the release says what they should hold: unpack them, or move away what is"
            " not needed"
        )
    for folder in empty:
        release.note("folders with nothing in them", folder)


def what_else(release: Release, name: str) -> str:
    """The end of a message: which other data sets ROOT looks like, if any."""
    fits = looks_like(release, name)
    return f"; it looks like {' or '.join(fits)}" if fits else ""


def looks_like(release: Release, name: str) -> list[str]:
    """Data sets other than `name` whose markers are all there."""
    return [
        other.name
        for other in all_about()
        if other.markers and other.name != name and all(_has(release, marker) for marker in other.markers)
    ]


def _has(release: Release, marker: str) -> bool:
    return any(_matches(release, release.root, pattern.split("/")) for pattern in marker.split("|"))


def _matches(release: Release, place: Path, patterns: Sequence[str]) -> bool:
    """Whether there is something that matches: a file, or a folder with something in it."""
    entries = release.listing(place, patterns[0])
    if len(patterns) == 1:
        return any(not entry.is_dir() or release.listing(entry) for entry in entries)
    return any(_matches(release, entry, patterns[1:]) for entry in entries if entry.is_dir())


def _empty(release: Release, marker: str) -> Iterator[str]:
    """Empty folders on the way to what a marker names."""
    for pattern in marker.split("|"):
        places = [release.root]
        for part in pattern.split("/"):
            places = [path for place in places for path in release.listing(place, part) if path.is_dir()]
            yield from (release.relative(path) for path in places if not release.listing(path))


def _elsewhere(release: Release, markers: Sequence[str]) -> str:
    """The end of a message: the folder near ROOT that has what is expected, if there is one."""
    for place in islice(_near(release), _LOOKED_AT):
        with suppress(OSError, ReleaseError):
            near = Release(place)
            if all(_has(near, marker) for marker in markers):
                return f"; {place} has them: is that the ROOT you mean?"
    return ""


def _near(release: Release) -> Iterator[Path]:
    root = release.root.resolve()
    yield from root.parents[:2]
    below = [path for path in release.listing(release.root) if path.is_dir()]
    yield from below
    for folder in below:
        with suppress(OSError):
            yield from (path for path in release.listing(folder) if path.is_dir())
