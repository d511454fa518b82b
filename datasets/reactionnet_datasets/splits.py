"""Which group of sources goes to train, val or test, and the lock that keeps it so.

The unit is the connected component of sources that share a subject (or, if asked, a stimulus): no subject is ever in
two splits. Groups are ordered by a salted hash. From 30 groups on, a group's split depends on its own hash alone; with
fewer, the ordered list is cut at the ratio, so that a small data set has all three. `splits.lock` holds hashes of ids,
never ids: nothing locked moves, whatever is added later.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SPLITS = ("train", "val", "test")
SALT = "reactionnet-splits-1"
LOCK = "splits.lock"
FEW_GROUPS = 30


@dataclass(frozen=True, kw_only=True)
class Member:
    """What the splitter must know of one source: its id, and what ties it to others, such as `subject:ann`."""

    video_id: str
    ties: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """`split_of` a video; `conflicts`, why a video was refused; `lock`, hash of a name to its split."""

    split_of: Mapping[str, str]
    conflicts: Mapping[str, str] = field(default_factory=dict)
    lock: Mapping[str, str] = field(default_factory=dict)


def hash_of(name: str) -> str:
    """What the lock stores instead of a name."""
    return hashlib.sha256(f"{SALT}:{name}".encode()).hexdigest()


def assign(members: Sequence[Member], ratio: tuple[float, float, float], lock: Mapping[str, str]) -> Assignment:
    """Give every source a split. Does not depend on the order of `members`.

    A source that would join groups locked in different splits is refused (it stands in `conflicts`); sources already in
    the lock never are. ValueError where the lock itself puts one group into two splits.
    """
    known = sorted((m for m in members if hash_of(f"video:{m.video_id}") in lock), key=_by_id)
    new = sorted((m for m in members if hash_of(f"video:{m.video_id}") not in lock), key=_by_id)
    groups = _Groups(lock)
    for member in known:
        if clash := groups.add(member):
            raise ValueError(f"{LOCK} puts {member.video_id} and what it is tied to into {clash}: remove one by hand")
    conflicts = {}
    for member in new:
        if clash := groups.add(member):
            conflicts[member.video_id] = f"would join groups locked in {clash}"
    split_of_group = _cut(groups.names(), ratio, groups.locked())
    split_of, new_lock = {}, dict(lock)
    for member in [*known, *new]:
        if member.video_id not in conflicts:
            split = split_of_group[groups.find(f"video:{member.video_id}")]
            split_of[member.video_id] = split
            new_lock.update({hash_of(name): split for name in (f"video:{member.video_id}", *member.ties)})
    return Assignment(split_of=split_of, conflicts=conflicts, lock=new_lock)


def _by_id(member: Member) -> str:
    return member.video_id


class _Groups:
    """Union-find over names; a group remembers the split that the lock gave any of its names."""

    def __init__(self, lock: Mapping[str, str]):
        self._parent: dict[str, str] = {}
        self._split: dict[str, str] = {}
        self._lock = lock

    def find(self, name: str) -> str:
        root = name
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[name] != root:
            self._parent[name], name = root, self._parent[name]
        return root

    def add(self, member: Member) -> str | None:
        """Join the member's names to one group; or, where that would join two splits, name these and change nothing."""
        names = [f"video:{member.video_id}", *member.ties]
        splits = {self._split.get(self.find(n)) if n in self._parent else self._lock.get(hash_of(n)) for n in names}
        splits.discard(None)
        if len(splits) > 1:
            return " and ".join(sorted(filter(None, splits)))
        for name in names:
            self._parent.setdefault(name, name)
        roots = sorted({self.find(name) for name in names}, key=hash_of)
        for root in roots[1:]:
            self._parent[root] = roots[0]
        if splits:
            self._split[roots[0]] = next(filter(None, splits))
        return None

    def names(self) -> list[str]:
        """The groups' representatives, in hash order: the least hash of a group's names stands for it."""
        return sorted({self.find(name) for name in self._parent}, key=hash_of)

    def locked(self) -> dict[str, str]:
        return {root: self._split[root] for root in self.names() if root in self._split}


def _cut(groups: Sequence[str], ratio: tuple[float, float, float], locked: Mapping[str, str]) -> dict[str, str]:
    edges = [sum(ratio[: i + 1]) / sum(ratio) for i in range(3)]
    split_of = {}
    for rank, group in enumerate(groups):
        few = len(groups) < FEW_GROUPS
        place = (rank + 0.5) / len(groups) if few else int(hash_of(group)[:13], 16) / 16**13
        split_of[group] = locked.get(group) or next(s for s, edge in zip(SPLITS, edges, strict=True) if place < edge)
    return split_of


def write_lock(lock: Mapping[str, str]) -> bytes:
    """The lock's file: one JSON object, sorted."""
    return (json.dumps({"salt": SALT, "splits": dict(sorted(lock.items()))}, indent=0) + "\n").encode()


def read_lock(data: bytes) -> dict[str, str]:
    """Read what `write_lock` wrote. ValueError, with the reason, for anything else."""
    try:
        content = json.loads(data)
        splits = dict(content["splits"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{LOCK} is damaged ({error}); restore it from a copy, or remove it to split anew") from error
    if content.get("salt") != SALT or not set(splits.values()) <= set(SPLITS):
        raise ValueError(f"{LOCK} was written by another version (salt {content.get('salt')!r}, expected {SALT!r})")
    return splits


def groups_by_split(assignment: Assignment) -> dict[str, int]:
    """How many sources each split has, for reports."""
    counts: dict[str, int] = defaultdict(int)
    for split in assignment.split_of.values():
        counts[split] += 1
    return {split: counts[split] for split in SPLITS}
