"""Stage 8: count, write the small tables, and replace `dataset.json` last of all."""

import hashlib
import json
import platform
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reactionnet_datasets.listing import digests_of, listed_now, remove_unlisted
from reactionnet_datasets.sample import canonical_json
from reactionnet_datasets.shards import read_manifest, write_atomic, write_manifest
from reactionnet_datasets.splits import LOCK, SPLITS
from reactionnet_datasets.stores import Place, as_place, files_below, local
from reactionnet_datasets.tables import make_table, read_part, schema_of, write_part
from reactionnet_datasets.tabulate import TableParts
from reactionnet_pipeline import admitted
from reactionnet_pipeline.demographics import Estimated
from reactionnet_pipeline.errors import Code, DeadLetter
from reactionnet_pipeline.highlights import key_frame_candidates, pick_key_frames
from reactionnet_pipeline.parts import ShardRef
from reactionnet_pipeline.records import VideoDone

DEAD_LETTERS = "dead_letters.jsonl"
RESULT = "result.json"


@dataclass(frozen=True, kw_only=True)
class Tabulated:
    """A shard with its table parts."""

    shard: ShardRef
    parts: TableParts
    captions: str | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What publishing needs to know; `facts` go into `dataset.json` as they are."""

    root: str
    work: str
    dataset: str
    splits: tuple[str, ...]
    max_loss: float
    facts: str
    key_frames: tuple[tuple[str, int], ...] = ()
    replacing: str | None = None  # in a store: the version of `dataset.json` when the build began


Arrival = Tabulated | VideoDone | Estimated | DeadLetter


def publish(arrivals: Iterable[Arrival], settings: Settings) -> dict[str, Any]:
    """Publish what was built, or say in WORK/result.json that too much was lost. Raises where counts do not balance."""
    root, work = as_place(settings.root), as_place(settings.work)
    everything = list(arrivals)
    shards = [arrival for arrival in everything if isinstance(arrival, Tabulated)]
    videos = [arrival for arrival in everything if isinstance(arrival, VideoDone)]
    estimated = {arrival.subject_id: arrival for arrival in everything if isinstance(arrival, Estimated)}
    letters = [arrival for arrival in everything if isinstance(arrival, DeadLetter)]
    shards.sort(key=lambda s: (SPLITS.index(s.shard.split), s.shard.number))
    videos.sort(key=lambda video: video.video_id)
    letters.sort(key=_letter_order)
    # where faces decide the splits, more was looked at than is written
    expected = {video_id for video_id, split in admitted.splits_of(work).items() if split in settings.splits}
    letters = [letter for letter in letters if letter.video_id in expected]
    counts = _balance(expected, videos, letters)
    lost = counts["lost"] / counts["admitted"] if counts["admitted"] else 0.0
    result: dict[str, Any] = {"counts": counts, "lost": lost, "published": lost <= settings.max_loss}
    all_letters = _merged_letters(root, work, settings, letters)
    if lost > settings.max_loss:
        write_atomic(work / DEAD_LETTERS, all_letters)
    else:
        content = _content(root, work, settings, shards, videos, estimated, letters)
        write_atomic(root / LOCK, (work / "plan" / LOCK).read_bytes())
        write_atomic(root / DEAD_LETTERS, all_letters)
        content["dead_letters"] = {"sha256": hashlib.sha256(all_letters).hexdigest(), "lines": all_letters.count(b"\n")}
        before = listed_now(root)
        result["dataset_sha256"] = write_manifest(root, content, settings.replacing)
        remove_unlisted(root, before | digests_of(content).keys())
    write_atomic(work / RESULT, canonical_json(result))
    return result


def _letter_order(letter: DeadLetter) -> tuple:
    return (letter.line or 0, letter.video_id, letter.stage, letter.code, letter.lost_start_s or 0.0)


def _balance(expected: set[str], videos: list[VideoDone], letters: list[DeadLetter]) -> dict[str, int]:
    """Every admitted source of the built splits is either built or dead, none is both."""
    built = [video.video_id for video in videos]
    dead = [letter.video_id for letter in letters if not letter.kept]
    if Counter(built + dead) != Counter(expected):
        wrong = sorted((Counter(expected) - Counter(built + dead)) + (Counter(built + dead) - Counter(expected)))
        raise RuntimeError(f"sources in and out do not balance, {len(wrong)} are missing or doubled: {wrong[:20]}")
    return {"admitted": len(expected), "built": len(built), "lost": len(dead)}


def check_written(split: str, sources: pa.Table, shards: Sequence[Tabulated]) -> None:
    """RuntimeError where the shards do not hold just the clips and frames of the sources: not every runner delivers all
    that it was given, and it says nothing of what it dropped.
    """
    assembled = [sum(sources[name].to_pylist()) for name in ("clips", "frames")]
    written = [sum(shard.parts.num_clips for shard in shards), sum(shard.parts.num_frames for shard in shards)]
    if assembled != written:
        raise RuntimeError(
            f"{split}: {assembled[0]:,} clips of {assembled[1]:,} frames were assembled, and {written[0]:,} of"
            f" {written[1]:,} came in shards: the runner lost or doubled some; nothing was published"
        )


def _merged_letters(root: Place, work: Place, settings: Settings, letters: list[DeadLetter]) -> bytes:
    """The letters of this run, those of the manifest and the gate, and of other splits those that were published."""
    others = []
    gate = [json.loads(line) for line in (work / "plan" / DEAD_LETTERS).read_bytes().splitlines()]
    if (root / DEAD_LETTERS).exists() and set(settings.splits) != set(SPLITS):
        for line in (root / DEAD_LETTERS).read_bytes().splitlines():
            letter = json.loads(line)
            try:
                row = admitted.find_row(work, letter["video_id"])
            except KeyError:
                continue  # refused now, or gone from the manifest: the gate has its say below
            if row["split"] not in settings.splits:
                others.append({**letter, "line": row["line"]})
    found = [DeadLetter(**{**letter, "code": Code(letter["code"])}) for letter in [*gate, *others]]
    everything = sorted([*letters, *found], key=_letter_order)
    return b"".join(canonical_json(asdict(letter)) + b"\n" for letter in everything)


def _content(
    root: Place,
    work: Place,
    settings: Settings,
    shards: list[Tabulated],
    videos: list[VideoDone],
    estimated: Mapping[str, Estimated],
    letters: list[DeadLetter],
) -> dict[str, Any]:
    """What `dataset.json` will say; writes the tables of videos and people."""
    splits = {}
    for split in settings.splits:
        here = [s for s in shards if s.shard.split == split]
        mine = [video for video in videos if video.split == split]
        contents = _video_tables(work, settings, split, mine, estimated)
        check_written(split, contents["sources"], here)
        tables = {name: [write_part(root, name, split, content)] for name, content in contents.items()}
        tables["frames"] = [s.parts.frames for s in here]
        tables["windows"] = [s.parts.windows for s in here]
        if any(s.captions for s in here):
            tables["captions"] = [s.captions for s in here if s.captions]
        tables["key_frames"] = [_key_frames(root, split, tables["frames"], dict(settings.key_frames).get(split, 0))]
        splits[split] = {
            "shards": [
                {**asdict(s.shard.info), "frames": s.parts.num_frames, "clips": s.parts.num_clips} for s in here
            ],
            "tables": tables,
            "sources": len(mine),
            "clips": sum(s.parts.num_clips for s in here),
            "frames": sum(s.parts.num_frames for s in here),
            "records": sum(s.shard.info.records for s in here),
            "lost": _lost(work, split, letters),
            "key_frames": _num_rows(root / tables["key_frames"][0]),
        }
    old = _old_splits(root)
    merged = {split: splits.get(split) or old.get(split) for split in SPLITS if split in splits or split in old}
    return {
        "dataset": settings.dataset,
        "splits": merged,
        "instruction_set": instruction_set(),
        **json.loads(settings.facts),
    }


def _num_rows(part: Place) -> int:
    with local(part) as file:
        return pq.read_metadata(file).num_rows


def _key_frames(root: Place, split: str, parts: list[str], num: int) -> str:
    """The table of the split's key frames; its candidates are read one part of `frames` after another."""
    columns = schema_of("key_frames").names

    def candidates() -> Iterator[dict[str, Any]]:
        for part in parts if num else ():
            rows = read_part(root, part, columns).to_pylist()
            for clip_id, of_clip in groupby(sorted(rows, key=_clip_of), key=_clip_of):
                yield from key_frame_candidates(clip_id, list(of_clip))

    content = make_table(pick_key_frames(candidates(), num), schema_of("key_frames"))
    return write_part(root, "key_frames", split, content)


def _clip_of(row: Mapping[str, Any]) -> str:
    return row["clip_id"]


def _lost(work: Place, split: str, letters: list[DeadLetter]) -> dict[str, int]:
    codes = [x.code for x in letters if not x.kept and admitted.find_row(work, x.video_id)["split"] == split]
    return dict(sorted(Counter(str(code) for code in codes).items()))


def _old_splits(root: Place) -> dict[str, Any]:
    try:
        return read_manifest(root)["splits"]
    except (FileNotFoundError, ValueError):
        return {}


class _Growing:
    """A table that grows by rows; it holds them as Arrow's columns, a fifth of what they take as Python's objects."""

    BATCH = 4096

    def __init__(self, name: str):
        self._schema, self._rows = schema_of(name), []  # type: tuple[Any, list[dict]]
        self._batches: list[Any] = []

    def add(self, row: dict) -> None:
        self._rows.append(row)
        if len(self._rows) == self.BATCH:
            self._flush()

    def _flush(self) -> None:
        self._batches.append(make_table(self._rows, self._schema))
        self._rows.clear()

    def table(self) -> pa.Table:
        self._flush()
        return pa.concat_tables(self._batches).unify_dictionaries().combine_chunks()


@dataclass
class _Seen:
    """What a split shows of one subject."""

    videos: int = 0
    last_video: str = ""
    frames: int = 0
    face_px: array = field(default_factory=partial(array, "d"))  # of each clip

    def add(self, video_id: str, clip: Mapping[str, Any]) -> None:
        self.videos += video_id != self.last_video  # a video's clips come together
        self.last_video = video_id
        self.frames += clip["frames"]
        self.face_px.append(clip["face_px"])


def _video_tables(
    work: Place, settings: Settings, split: str, videos: list[VideoDone], estimated: Mapping[str, Estimated]
) -> dict[str, pa.Table]:
    """The tables of a split's videos and people, from one summary after another."""
    tables = {name: _Growing(name) for name in ("layouts", "sources", "subjects", "captions")}
    people: dict[tuple[str, str], _Seen] = defaultdict(_Seen)
    otherwise = "face" if (work / admitted.SETTLED).exists() else "video"
    for video in videos:
        summary = json.loads((work / video.summary).read_bytes())
        row = admitted.find_row(work, video.video_id)
        for pane in summary["panes"]:
            tables["layouts"].add({"video_id": video.video_id, "origin": summary["origin"], **pane})
        tables["sources"].add(_source_row(summary, row, settings.dataset, split))
        for clip in summary["clips"]:
            known = clip["subject_id"] in row["subject_ids"]
            people[clip["subject_id"], "manifest" if known else otherwise].add(video.video_id, clip)
    for (subject, origin), seen in sorted(people.items()):
        tables["subjects"].add(
            {
                "subject_id": subject,
                "dataset": settings.dataset,
                "split": split,
                "id_origin": origin,
                "num_videos": seen.videos,
                "num_clips": len(seen.face_px),
                "num_frames": seen.frames,
                "face_px": _median(seen.face_px),
                **_estimates(work, estimated.get(subject)),
            }
        )
    return {name: growing.table() for name, growing in tables.items()}


def _source_row(summary: Mapping[str, Any], row: Mapping[str, Any], dataset: str, split: str) -> dict[str, Any]:
    taken = ("width", "height", "fps", "num_frames", "duration_s", "has_audio", "sha256")
    given = (
        "uri",
        "license",
        "creator",
        "title",
        "consent",
        "stimulus_id",
        "stimulus_scene",
        "sub_scene",
        "subject_ids",
    )
    return {
        "video_id": summary["video_id"],
        "dataset": dataset,
        "split": split,
        **{name: summary[name] for name in taken},
        **{name: row.get(name) for name in given},
        "clips": len(summary["clips"]),
        "frames": sum(clip["frames"] for clip in summary["clips"]),
        "extra": row["extra"],
    }


def _estimates(work: Place, estimated: Estimated | None) -> dict[str, Any]:
    """Columns of a subject's demographics; none where the stage was left out or failed."""
    if estimated is None or estimated.file is None:
        return {}
    row = json.loads((work / estimated.file).read_bytes())
    # a map column takes pairs
    return {name: list(value.items()) if isinstance(value, dict) else value for name, value in row.items()}


def _median(values: Iterable[float]) -> float:
    values = sorted(values)
    return values[len(values) // 2]


def instruction_set() -> str:
    """The processor's kind, as far as it can change a bit of a result: machine and widest vector unit."""
    from numpy._core._multiarray_umath import __cpu_features__ as features

    widest = [name for name in ("AVX512_SKX", "AVX512F", "AVX2", "AVX", "SSE42", "ASIMD") if features.get(name)]
    return f"{platform.machine()} {widest[0] if widest else 'baseline'}"


def published_files_exist(root: Place) -> bool:
    """Whether everything that `dataset.json` lists is there, by name and, for shards, by size."""
    try:
        content = read_manifest(root)
    except (FileNotFoundError, ValueError):
        return False
    found = {
        f"{folder}/{name}": size for folder in ("shards", "tables") for name, size in files_below(root / folder).items()
    }
    shards = [shard for split in content["splits"].values() for shard in split["shards"]]
    return digests_of(content).keys() <= found.keys() and all(
        found[shard["path"]] == shard["num_bytes"] for shard in shards
    )
