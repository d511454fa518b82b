"""Published protocols: which subjects make which part of a data set, and which parts a fold trains and tests on.

One versioned file a protocol, `protocols/<name>.json`:

    name, version, dataset, source (the document that the lists come from), note
    parts   {"1": [subject, ...], ...}                      every subject is in one part
    folds   {"1": {"train": [parts], "test": [parts]}, ...}  roles are train, val and test
    shares  {"1": 8, "2": 1, ...}, optional                 whoever is in no list goes to a part by a hash of the name

Where nobody published lists, `shares` make some that hold for any copy of the data set: `..-ours-v1`.

A record holds the part of each protocol that it belongs to (`folds: {"bp4d-3fold": 1}`); its role follows from the fold
at read time, so three folds need one set of shards. A fixed list of splits is a protocol of one fold.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

ROLES = ("train", "val", "test")
_FOLDER = "protocols"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Subject lists of one protocol. ValueError where parts overlap or a fold uses a part twice or not known."""

    name: str
    version: int
    dataset: str
    source: str
    parts: Mapping[int, tuple[str, ...]]
    folds: Mapping[int, Mapping[str, tuple[int, ...]]]
    note: str = ""
    shares: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        subjects = [subject for part in self.parts.values() for subject in part]
        if len(subjects) != len(set(subjects)):
            twice = sorted({subject for subject in subjects if subjects.count(subject) > 1})
            raise ValueError(f"protocol {self.name}: {', '.join(twice)} in more than one place")
        if not set(self.shares) <= set(self.parts) or any(share <= 0 for share in self.shares.values()):
            raise ValueError(
                f"protocol {self.name}: shares {dict(self.shares)} do not fit its parts {list(self.parts)}"
            )
        for fold, roles in self.folds.items():
            used = [part for parts in roles.values() for part in parts]
            if not set(roles) <= set(ROLES) or not set(used) <= set(self.parts) or len(used) != len(set(used)):
                raise ValueError(f"protocol {self.name}, fold {fold}: {dict(roles)} does not fit its parts and roles")

    def part_of(self, subject: str) -> int | None:
        """The part that holds a subject; None where the protocol leaves the subject out."""
        listed = next((part for part, subjects in self.parts.items() if subject in subjects), None)
        return _hashed(self.name, subject, self.shares) if listed is None and self.shares else listed

    def role_of(self, part: int, fold: int) -> str | None:
        """What a fold does with a part: train, val or test; None where it leaves it out."""
        return next((role for role, parts in self._fold(fold).items() if part in parts), None)

    def parts_of(self, fold: int, role: str) -> tuple[int, ...]:
        """The parts that a fold uses in a role. ValueError where it has no such role."""
        roles = self._fold(fold)
        if role not in roles:
            raise ValueError(f"fold {fold} of {self.name} has no {role!r}; it has {', '.join(roles)}")
        return roles[role]

    def subjects_of(self, fold: int, role: str) -> tuple[str, ...]:
        """The subjects that a fold uses in a role, sorted."""
        return tuple(sorted(subject for part in self.parts_of(fold, role) for subject in self.parts[part]))

    def _fold(self, fold: int) -> Mapping[str, tuple[int, ...]]:
        if fold not in self.folds:
            raise ValueError(f"{self.name} has no fold {fold}; it has {', '.join(map(str, self.folds))}")
        return self.folds[fold]


def _hashed(protocol: str, subject: str, shares: Mapping[int, float]) -> int:
    """The part into whose share of 0 to 1 the hash of a name falls."""
    place = int(hashlib.sha256(f"{protocol}:{subject}".encode()).hexdigest()[:13], 16) / 16**13 * sum(shares.values())
    for part, share in shares.items():
        place -= share
        if place < 0:
            return part
    return list(shares)[-1]  # rounding


def protocol_names(dataset: str | None = None) -> tuple[str, ...]:
    """Names of all protocols, or of those of one data set."""
    names = sorted(
        entry.name.removesuffix(".json") for entry in _folder().iterdir() if entry.name.endswith(".json")
    )  # fmt: skip
    return tuple(name for name in names if dataset is None or load_protocol(name).dataset == dataset)


def load_protocol(name: str | Path) -> Protocol:
    """A protocol by name, or from a json file of one's own. ValueError for an unknown name or a damaged file."""
    if isinstance(name, Path) or name.endswith(".json"):
        return parse_protocol(Path(name).read_text(encoding="utf-8"), str(name))
    entry = _folder() / f"{name}.json"
    if not entry.is_file():
        raise ValueError(f"no protocol is called {name!r}; known: {', '.join(protocol_names())}")
    protocol = parse_protocol(entry.read_text(encoding="utf-8"), entry.name)
    if protocol.name != name:
        raise ValueError(f"{entry.name} calls itself {protocol.name!r}")
    return protocol


def parse_protocol(text: str, where: str) -> Protocol:
    """Read the json of a protocol. ValueError, with `where`, for anything else."""
    try:
        content: dict[str, Any] = json.loads(text)
        content["parts"] = {int(part): tuple(subjects) for part, subjects in content["parts"].items()}
        content["folds"] = {
            int(fold): {role: tuple(parts) for role, parts in roles.items()} for fold, roles in content["folds"].items()
        }
        content["shares"] = {int(part): float(share) for part, share in content.get("shares", {}).items()}
        return Protocol(**content)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{where} is no protocol: {error}") from error


def _folder() -> Any:
    return files(__package__) / _FOLDER
