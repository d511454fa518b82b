"""`WriteToWebDataset`: a Beam sink for sharded tars that is deterministic, atomic and safe under retries.

Usable by itself. Pictures never travel through a PCollection: a worker stages the members of a clip with `stage_part`
(bytes into a file, an index beside it), and what is shuffled are `Part`s, a few strings each. Which shard a clip falls
into, and where in it, follows from a salted hash of its id; how many shards there are, from the bytes. So the same parts
give the same bytes for any runner, number of workers, order of input, or retry of a bundle.

    parts | WriteToWebDataset(root="out", target_bytes=256 << 20)      # -> ShardRef
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import apache_beam as beam

from reactionnet_datasets.sample import canonical_json
from reactionnet_datasets.shards import (
    ShardInfo,
    bucket_of,
    file_sha256,
    place_of,
    shards_for,
    write_atomic,
    write_shard,
)
from reactionnet_datasets.stores import Place, StorePath, as_place
from reactionnet_pipeline.parts import Late, Part, ShardRef, read_records


def write_parts(
    keyed: tuple[tuple[str, int], Iterable[Part]], root: Place, late: Late | None, done: Place | None
) -> ShardRef:
    """Write one shard from its parts, or find it written: `done` is a folder of markers of what has been."""
    (split, number), unordered = keyed
    parts = sorted(set(unordered), key=lambda part: (place_of(part.clip_id), part.clip_id))
    plan = _plan(parts, late)
    marker = done / f"{split}-{number:05d}-{plan[:16]}.json" if done else None
    if marker and marker.exists():
        info = ShardInfo(**json.loads(marker.read_bytes()))
        if _is_whole(root, info):
            return ShardRef(split=split, number=number, info=info)
    info = write_shard(root, f"{split}-{number:05d}", read_records(parts, late))
    if marker:
        write_atomic(marker, canonical_json(asdict(info)))
    return ShardRef(split=split, number=number, info=info)


def _is_whole(root: Place, info: ShardInfo) -> bool:
    """Whether a shard lies there as it was written. A store keeps what it took, so there its name and size are enough."""
    tar, index = root / info.path, root / info.index
    whole = tar.exists() and tar.stat().st_size == info.num_bytes and index.exists()
    return whole and (isinstance(tar, StorePath) or file_sha256(tar) == info.sha256)


def _plan(parts: Sequence[Part], late: Late | None) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(file_sha256(as_place(part.folder) / part.index).encode())
        for key, members in (late(part) if late else {}).items():
            digest.update(key.encode())
            for suffix, data in members:
                digest.update(suffix.encode() + hashlib.sha256(data).digest())
    return digest.hexdigest()


def _size(part: Part) -> tuple[str, int]:
    return part.split, part.num_bytes


def _to_bucket(part: Part, num_bytes: dict[str, int], target_bytes: int) -> tuple[tuple[str, int], Part]:
    num_shards = shards_for(num_bytes[part.split], target_bytes)
    return (part.split, bucket_of(part.clip_id, num_shards)), part


@dataclass(eq=False)
class WriteToWebDataset(beam.PTransform):
    """`Part`s -> `ShardRef`s: one tar and index each under `root/shards`, about `target_bytes` long.

    `late(part)` gives members to put first into each record, by key: what may change without a picture changing. `done`
    is a folder of markers that lets a rerun skip shards whose plan is unchanged. Publishing, that is listing the shards in
    a manifest, is the caller's: until then no reader sees them.
    """

    root: str
    target_bytes: int = 256 << 20
    late: Late | None = None
    done: str | None = None

    def expand(self, parts):
        num_bytes = parts | "Size" >> beam.Map(_size) | "Sum" >> beam.CombinePerKey(sum)
        return (
            parts
            | "ToBucket" >> beam.Map(_to_bucket, beam.pvalue.AsDict(num_bytes), self.target_bytes)
            | "Group" >> beam.GroupByKey()
            | "Write"
            >> beam.Map(write_parts, as_place(self.root), self.late, as_place(self.done) if self.done else None)
        )
