"""Barrier 1 over all videos: face vectors in, subjects and splits out, on file for the stages that follow.

Runs where a manifest does not name every subject. What it decides lies in WORK/plan/settled.arrow, one row a video, and in
the split lock; its path is what the graph waits for.
"""

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from reactionnet_datasets.shards import write_atomic
from reactionnet_datasets.splits import LOCK, Member, assign, write_lock
from reactionnet_datasets.stores import Place, as_place
from reactionnet_pipeline import admitted
from reactionnet_pipeline.embeddings import Embedded
from reactionnet_pipeline.identity import CUTS, Config, Curated, Face, Known, identify, read_curated


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What the barrier decided about a video: its split, or why it is in none; and its people."""

    split: str
    conflict: str | None
    known: Known


def settle(embedded: Iterable[Embedded], work: Place, config: Config, engine: str) -> str:
    """Cluster, split anew with what the clusters tie together, and put both on file. Returns the file's path."""
    files = {one.video_id: one.file for one in embedded if one.file}
    faces = [face for video_id in sorted(files) for face in read_faces(work, video_id, files[video_id])]
    curated = read_curated(as_place(config.curated)) if config.curated else Curated()
    known = identify(faces, curated, config.cut if config.cut is not None else CUTS[engine]) if faces else {}
    plan = json.loads((work / admitted.MEMBERS).read_bytes())
    members = [
        Member(
            video_id=member["video_id"],
            ties=(*member["ties"], *_subject_ties(known.get(member["video_id"]), member["ties"])),
        )
        for member in plan["members"]
    ]
    assignment = assign(members, tuple(plan["ratio"]), plan["lock"])
    write_atomic(work / "plan" / LOCK, write_lock(assignment.lock))
    rows = {
        member.video_id: {
            "split": assignment.split_of.get(member.video_id, ""),
            "conflict": assignment.conflicts.get(member.video_id),
            "known": asdict(known.get(member.video_id, Known())),
        }
        for member in members
    }
    return str(admitted.write_settled(work, rows))


def _subject_ties(known: Known | None, ties: Sequence[str]) -> Iterator[str]:
    for subject in dict.fromkeys(known.subjects if known else ()):
        if f"subject:{subject}" not in ties:
            yield f"subject:{subject}"


def settled_of(work: Place, video_id: str) -> Settled:
    """What was decided about a video."""
    row: Any = admitted.settled_row(work, video_id)
    chains = tuple(tuple(names) for names in row["known"]["chains"])
    known = Known(chains=chains, subjects=tuple(row["known"]["subjects"]))
    return Settled(split=row["split"], conflict=row["conflict"], known=known)


def read_faces(work: Place, video_id: str, file: str) -> Iterator[Face]:
    """The tracks of one video as `EmbedFaces` left them."""
    with np.load(io.BytesIO((work / file).read_bytes()), allow_pickle=False) as saved:
        content = {name: saved[name] for name in saved.files}
    for place, chain in enumerate(content["chain"].tolist()):
        crops = int(content["crops"][place])
        first, last = content["frames"][place].tolist()
        yield Face(
            video_id=video_id,
            chain=chain,
            person=int(content["person"][place]),
            frames=(first, last),
            vector=content["vector"][place].astype(np.float64) if crops else None,
            crops=crops,
            subject=content["subject"][place].item() or None,
        )
