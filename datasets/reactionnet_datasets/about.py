"""What an importer module declares of its data set: where it comes from, how sure its format is, what is known of it.

An importer is a module `importers/<name>.py`, found by its name. It has:

    ABOUT: About
    Options                 frozen dataclass; every field has a default and is a flag of the command (`--camera right`)
    read(release, options)  yields `Clip`s; raises ReleaseError where the release is not as it should be
    doctor(frames)          optional: further `Finding`s from the frames table
    markers(options)        optional: what must be there below ROOT with these options, instead of `ABOUT.markers`
    unread(release)         optional: a known form of the data set that lies there and is not read, in words, or None
"""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from reactionnet_datasets.protocols import Protocol, load_protocol, protocol_names

CONFIRMED, PARTLY, UNCONFIRMED = "confirmed", "partly confirmed", "unconfirmed"


@dataclass(frozen=True, kw_only=True)
class Known:
    """A count that is known of the whole data set: of `frames`, `clips`, `videos` or `subjects` with these values.

    `where` maps a column of the frames table to its value. What is only `recalled` is reported, never as DIFFERS.
    """

    what: str
    count: int
    of: str = "frames"
    where: Mapping[str, Any] = field(default_factory=dict)
    recalled: bool = False


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of `--doctor`: OK, DIFFERS or UNKNOWN."""

    what: str
    expected: str
    found: str
    verdict: str


@dataclass(frozen=True, kw_only=True)
class About:
    """Facts of a data set. `markers` must all be there below ROOT ("a|b": either); `license` is a LicenseRef of ours.

    `listed`: the release says what must be there. Where it does not, an archive that nobody unpacked is an error.
    """

    name: str
    title: str
    markers: tuple[str, ...]
    terms: str
    ask: str
    license: str
    papers: tuple[str, ...]
    status: str
    spaces: tuple[str, ...] = ()
    known: tuple[Known, ...] = ()
    synthetic: bool = False
    listed: bool = True


def importer_names() -> tuple[str, ...]:
    """Names of all data sets that can be imported."""
    from reactionnet_datasets import importers

    return tuple(sorted(module.name for module in pkgutil.iter_modules(importers.__path__)))


def load_importer(name: str) -> ModuleType:
    """The module of a data set. ValueError, with the nearest name, for one that nobody wrote."""
    import difflib

    plain = name.lower().replace("-", "_")
    if plain not in importer_names():
        near = difflib.get_close_matches(plain, importer_names(), n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(importer_names())}"
        raise ValueError(f"no importer is called {name!r}; {hint}")
    return importlib.import_module(f"reactionnet_datasets.importers.{plain}")


def make_options(module: ModuleType, given: Mapping[str, str]) -> Any:
    """The importer's `Options` from words of a command line. ValueError for an unknown name or a value of another type."""
    kinds = get_type_hints(module.Options)
    names = {option.name for option in fields(module.Options)}
    values = {}
    for name, text in given.items():
        plain = name.replace("-", "_")
        if plain not in names:
            known = ", ".join(f"--{option.replace('_', '-')}" for option in sorted(names)) or "none"
            raise ValueError(f"{module.ABOUT.name} has no option --{name}; its options: {known}")
        values[plain] = _value(kinds[plain], text, name)
    return module.Options(**values)


def _value(kind: Any, text: str, name: str) -> Any:
    if kind is bool:
        words = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
        if text.lower() not in words:
            raise ValueError(f"--{name} {text}: expected yes or no")
        return words[text.lower()]
    for accepted in (int, float):
        if kind is accepted:
            try:
                return accepted(text)
            except ValueError:
                raise ValueError(f"--{name} {text}: expected a number") from None
    if kind in (Path, Path | None):
        return Path(text)
    return text


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """An option's value, checked. ValueError where it is none of those allowed."""
    if value not in allowed:
        raise ValueError(f"--{name.replace('_', '-')} {value}: expected {' or '.join(allowed)}")
    return value


def folds_of(dataset: str, subject: str) -> dict[str, int]:
    """The part of each published protocol of a data set that a subject belongs to."""
    return {p.name: part for p in _protocols(dataset) if (part := p.part_of(subject)) is not None}


@cache
def _protocols(dataset: str) -> tuple[Protocol, ...]:
    return tuple(load_protocol(name) for name in protocol_names(dataset))


def class_at(classes: tuple[str, ...], code: int) -> str | None:
    """The name of a native code that counts from 0; None where it is none."""
    return classes[code] if 0 <= code < len(classes) else None


def all_about() -> Iterator[About]:
    """Facts of every data set, by name."""
    for name in importer_names():
        yield load_importer(name).ABOUT


__all__ = [
    "CONFIRMED", "PARTLY", "UNCONFIRMED", "About", "Finding", "Known", "all_about", "class_at", "folds_of",
    "importer_names", "load_importer", "make_options", "one_of",
]  # fmt: skip
