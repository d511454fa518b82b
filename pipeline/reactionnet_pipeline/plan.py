"""The plan of a build: what the manifest comes to before anything that it names is opened."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reactionnet_datasets.sample import canonical_json
from reactionnet_datasets.shards import MANIFEST, file_sha256, write_atomic
from reactionnet_datasets.splits import LOCK, SPLITS, Assignment, Member, assign, hash_of, write_lock
from reactionnet_datasets.stores import Place
from reactionnet_pipeline import admitted
from reactionnet_pipeline.cache import fingerprint, library_versions
from reactionnet_pipeline.config import Config, stage_versions
from reactionnet_pipeline.errors import RETRYABLE, Code, DeadLetter, SourceError
from reactionnet_pipeline.gate import Gate
from reactionnet_pipeline.manifest import ManifestError, Row, read_manifest, read_overrides
from reactionnet_pipeline.publish import DEAD_LETTERS, RESULT, published_files_exist

BUILT = "built.json"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the manifest comes to before anything is opened."""

    rows: tuple[Row, ...]
    letters: tuple[DeadLetter, ...]
    assignment: Assignment
    members: tuple[Member, ...] = ()
    ratio: tuple[float, float, float] = (0.8, 0.1, 0.1)
    lock_before: Mapping[str, str] = field(default_factory=dict)
    tombstones: frozenset[str] = frozenset()  # the content of a file may be listed, which only ingest will see


def make_plan(
    sources: Place,
    gate: Gate,
    layouts: Place | None,
    ratio: tuple[float, float, float],
    disjoint: str,
    lock: dict[str, str],
) -> Plan:
    """Parse, gate and split the manifest; opens nothing that it names."""
    if disjoint not in ("subject", "both"):
        raise ManifestError(f"--disjoint {disjoint}: expected subject or both")
    overrides = read_overrides(layouts) if layouts else {}
    rows, letters = [], []
    for row in read_manifest(sources):
        if isinstance(row, DeadLetter):
            letters.append(row)
            continue
        try:
            gate.check(row)
        except SourceError as error:
            letters.append(_letter(row, "gate", error.code, error.message))
            continue
        rows.append(replace(row, layout=overrides.pop(row.video_id)) if row.video_id in overrides else row)
    if strangers := set(overrides) - {letter.video_id for letter in letters}:
        raise ManifestError(f"{layouts} names videos that the manifest lacks: {', '.join(sorted(strangers)[:20])}")
    members = _members(rows, disjoint)
    assignment = assign(members, ratio, lock)
    for row in rows:
        if (why := assignment.conflicts.get(row.video_id)) is not None:
            letters.append(_letter(row, "split", Code.SPLIT_CONFLICT, why))
    kept = tuple(row for row in rows if row.video_id in assignment.split_of)
    return Plan(
        rows=kept, letters=tuple(letters), assignment=assignment, tombstones=gate.tombstones, ratio=ratio, lock_before=lock,
        members=tuple(member for member in members if member.video_id in assignment.split_of),
    )  # fmt: skip


def names_all_subjects(made: Plan) -> bool:
    """Whether there is nobody whom only a face could tell."""
    return all(row.subject_ids for row in made.rows)


def to_look_at(made: Plan, splits: Sequence[str]) -> tuple[str, ...]:
    """Where faces decide the splits, all sources have to be seen, but for those that the lock has placed."""
    placed = all(hash_of(f"video:{row.video_id}") in made.lock_before for row in made.rows)
    return tuple(splits) if placed else SPLITS


def _letter(row: Row, stage: str, code: Code, message: str) -> DeadLetter:
    return DeadLetter(
        video_id=row.video_id, line=row.line, stage=stage, code=code, message=message, retryable=code in RETRYABLE
    )


def _members(rows: Sequence[Row], disjoint: str) -> list[Member]:
    """Rows of one file, or of one content, stay together: they are tied to the first of them."""
    first: dict[str, str] = {}
    for row in sorted(rows, key=_by_id):
        for file in filter(None, (row.location, row.sha256)):
            first.setdefault(file, row.video_id)
    members = []
    for row in rows:
        ties = [f"subject:{subject}" for subject in row.subject_ids]
        if disjoint == "both" and row.stimulus_id:
            ties.append(f"stimulus:{row.stimulus_id}")
        same = {first[file] for file in (row.location, row.sha256) if file} - {row.video_id}
        members.append(Member(video_id=row.video_id, ties=(*ties, *(f"video:{other}" for other in sorted(same)))))
    return members


def _by_id(row: Row) -> str:
    return row.video_id


def nothing_left(made: Plan) -> str:
    """Why not one source is left."""
    counts = Counter(str(letter.code) for letter in made.letters)
    if not counts:
        return "the manifest has no row"
    first = made.letters[0]
    reasons = ", ".join(f"{count} {code}" for code, count in sorted(counts.items()))
    return f"no source is left to build ({reasons}); the first: line {first.line}, {first.message}"


def notices(made: Plan, splits: Sequence[str], disjoint: str, by_face: bool = False) -> Iterable[str]:
    """What the user should know before the work begins."""
    counts = Counter(made.assignment.split_of.values())
    yield "sources: " + ", ".join(f"{counts[split]} {split}" for split in SPLITS)
    refused = Counter(str(letter.code) for letter in made.letters)
    if refused:
        yield "not admitted: " + ", ".join(f"{count} {code}" for code, count in sorted(refused.items()))
    taken_down = {letter.video_id for letter in made.letters if letter.code == Code.TAKEN_DOWN}
    # a content hash is compared when a file is read
    if strangers := sorted(name for name in made.tombstones - taken_down if not re.fullmatch("[0-9a-fA-F]{64}", name)):
        yield f"tombstones that match no video_id: {', '.join(strangers[:20])} ({len(strangers)} in all)"
    nameless = sum(not row.subject_ids for row in made.rows)
    if nameless and by_face:
        yield f"{nameless} sources name no subject_ids: who is seen in them is told by faces"
        if set(to_look_at(made, splits)) != set(splits):
            yield "the splits follow from who is seen where, so all sources have to be looked at"
    elif nameless:
        yield (
            f"{nameless} sources name no subject_ids: each counts as a subject of its own, so a person seen in several of"
            " them may end up in several splits"
        )
    for split in splits:
        if not counts[split] and not by_face:
            yield f"the {split} split will be empty"
    if disjoint == "both" and len(made.rows) > 1 and max(counts.values()) == len(made.rows):
        yield "shared subjects and stimuli tie all sources into one group: only one split has any"


def inputs_digest(
    made: Plan, splits: Sequence[str], config: Config, target_shard_bytes: int, max_loss: float, further: Any = None
) -> str:
    """A digest of all that decides the output; local files count by size and time of change. `further` is plain JSON."""
    digest = hashlib.sha256()
    settings = {
        "splits": splits,
        "target": target_shard_bytes,
        "max_loss": max_loss,
        "lock": dict(made.assignment.lock),
        "tombstones": sorted(made.tombstones),
        "further": further,
    }
    digest.update(fingerprint(config=config, versions=all_versions(), stages=stage_versions(), **settings).encode())
    for letter in made.letters:
        digest.update(canonical_json(asdict(letter)))
    for row in made.rows:
        split = made.assignment.split_of[row.video_id]
        content = asdict(row)
        if split in splits and "://" not in row.location:
            try:
                stat = Path(row.location).stat()
                content["file"] = [stat.st_size, stat.st_mtime_ns]
            except OSError:
                content["file"] = None
        digest.update(canonical_json(content))
    return digest.hexdigest()


def nothing_to_do(out: Place, work: Place, digest: str) -> bool:
    """Whether what is published was made from just these inputs, and is all there."""
    try:
        built = json.loads((work / BUILT).read_bytes())
        return (
            built["inputs"] == digest and built["dataset"] == file_sha256(out / MANIFEST) and published_files_exist(out)
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False


def all_versions() -> dict[str, str]:
    """What goes into every record: our version and those of the libraries that decide pixels."""
    return {"reactionnet": version("reactionnet"), **library_versions()}


def note_built(out: Place, work: Place, digest: str) -> None:
    """Remember what the published data set was made from."""
    write_atomic(work / BUILT, canonical_json({"inputs": digest, "dataset": file_sha256(out / MANIFEST)}))


def write_plan(made: Plan, work: Place) -> None:
    """Put on file what the workers and the publisher need of the plan."""
    admitted.write_rows(work, made.rows, made.assignment.split_of)
    write_atomic(work / "plan" / LOCK, write_lock(made.assignment.lock))
    letters = b"".join(canonical_json(asdict(letter)) + b"\n" for letter in made.letters)
    write_atomic(work / "plan" / DEAD_LETTERS, letters)
    admitted.write_tombstones(work, made.tombstones)
    admitted.write_members(work, made.members, made.ratio, made.lock_before)
    (work / admitted.SETTLED).unlink(missing_ok=True)
    (work / RESULT).unlink(missing_ok=True)
