"""The card of a data set: what it holds, from whom, under which terms and with which gaps, in Markdown.

Everything in it is counted from `dataset.json` and the tables. Text that comes from manifests (titles, creators, names,
licences) is escaped, so that it cannot turn into markup, links or HTML. Counts of people are withheld below 5.
"""

import hashlib
import html
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reactionnet_datasets.shards import MANIFEST
from reactionnet_datasets.storage import Storage
from reactionnet_datasets.subject_counts import LEAST, subject_counts, withheld
from reactionnet_datasets.tables import TABLES

MAX_CREDITS = 200
_SPLITS = ("train", "val", "test")
# What means something to Markdown anywhere in a line; and what does at its beginning, or makes a link of bare text.
_MARKUP = re.compile(r"([\\`*_{}\[\]()#!|~$:@]|^[-+]|(?<=^\d)[.]|(?<=www)\.)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class SplitCount:
    """What one split holds."""

    split: str
    sources: int
    clips: int
    records: int
    frames: int
    subjects: int


@dataclass(frozen=True, kw_only=True)
class LabelCount:
    """How many frames of all splits have a label, and why the others lack it (mask word -> frames)."""

    label: str
    valid: int
    masked: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What card and metadata say of a data set. `licenses` counts sources; `credits` are (title, creator, licence).

    `shared_subjects` are in more than one split; `digest` is the sha256 of `dataset.json`.
    """

    name: str
    splits: tuple[SplitCount, ...]
    labels: tuple[LabelCount, ...]
    licenses: Mapping[str, int]
    credits: tuple[tuple[str, str, str], ...]
    captions: Mapping[str, int]
    people: Mapping[str, Mapping[str, int | None]]
    models: Mapping[str, str]
    lost: Mapping[str, int]
    left_out: tuple[str, ...]
    terms: str | None
    synthetic: bool
    shared_subjects: int
    consents: int
    digest: str
    version: str
    schema: str


def gather(storage: Storage, manifest: Mapping[str, Any]) -> Facts:
    """Count it all. `manifest` is the content of `dataset.json`."""
    entries: Mapping[str, Any] = manifest["splits"]
    sources = _rows(storage, entries, "sources", ["title", "creator", "license", "consent", "video_id"])
    captions = Counter(row["decoding"] or "unknown" for row in _rows(storage, entries, "captions", ["decoding"]))
    subjects = _rows(storage, entries, "subjects", ["crops", "age_group", "gender", "ethnicity", "emotion"])
    counts, lost, splits_of = [], Counter[str](), Counter[str]()
    for split, entry in sorted(entries.items(), key=lambda item: (*_SPLITS, item[0]).index(item[0])):
        windows = _table(storage, entry["tables"]["windows"], ["subject_id", "clip_id", "num_frames"])
        lost.update(entry.get("lost", {}))
        subjects_here = set(windows["subject_id"].to_pylist()) - {None}
        splits_of.update(subjects_here)
        counts.append(
            SplitCount(
                split=split,
                sources=sum(pq.ParquetFile(io.BytesIO(storage.whole(path))).metadata.num_rows
                            for path in entry["tables"].get("sources", ())),
                clips=len(set(windows["clip_id"].to_pylist())),
                records=windows.num_rows,
                frames=sum(windows["num_frames"].to_pylist()),
                subjects=len(subjects_here),
            )
        )  # fmt: skip
    stated = manifest.get("license")
    return Facts(
        name=str(manifest.get("dataset", "dataset")),
        splits=tuple(counts),
        labels=tuple(_labels(storage, entries)),
        licenses=dict(Counter(row["license"] or stated or "not stated" for row in sources).most_common())
        or {stated or "not stated": 0},
        credits=tuple(
            sorted(
                {
                    (row["title"] or row["video_id"], row["creator"], row["license"] or stated or "not stated")
                    for row in sources
                    if row["creator"]
                }
            )
        ),
        captions=dict(captions),
        people={name: withheld(classes) for name, classes in subject_counts(subjects).items()},
        models={str(name): str(digest) for name, digest in manifest.get("models", {}).items()},
        lost=dict(lost),
        left_out=tuple(str(stage.get("stage")) for stage in manifest.get("stages_left_out", ())),
        terms=manifest.get("terms"),
        synthetic=bool(manifest.get("synthetic", False)),
        shared_subjects=sum(number > 1 for number in splits_of.values()),
        consents=sum(row["consent"] is not None for row in sources),
        digest=hashlib.sha256(storage.whole(MANIFEST)).hexdigest(),
        version=str(manifest.get("versions", manifest.get("importer", {})).get("reactionnet", "unknown")),
        schema=str(manifest["schema"]),
    )


def _table(storage: Storage, paths: Iterable[str], columns: Sequence[str]) -> pa.Table:
    parts = []
    for path in paths:
        file = pq.ParquetFile(io.BytesIO(storage.whole(path)))
        parts.append(file.read(columns=[name for name in columns if name in file.schema_arrow.names]))
    plain = [
        pa.table({n: _decoded(part[n]) if n in part.column_names else pa.nulls(part.num_rows) for n in columns})
        for part in parts
    ]
    return pa.concat_tables(plain, promote_options="permissive") if plain else pa.table({name: [] for name in columns})


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _rows(storage: Storage, entries: Mapping[str, Any], table: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    paths = [path for entry in entries.values() for path in entry["tables"].get(table, ())]
    return _table(storage, paths, columns).to_pylist()


def _labels(storage: Storage, entries: Mapping[str, Any]) -> Iterable[LabelCount]:
    counts: dict[str, Counter[str]] = {}
    for entry in entries.values():
        for path in entry["tables"]["frames"]:
            file = pq.ParquetFile(io.BytesIO(storage.whole(path)))
            masks = [name for name in file.schema_arrow.names if name.endswith("_mask")]
            for name, column in zip(masks, file.read(columns=masks).columns, strict=True):
                found = counts.setdefault(name.removesuffix("_mask"), Counter())
                for row in column.value_counts().to_pylist():
                    found[row["values"] or "not_annotated"] += row["counts"]
    for label, found in counts.items():
        masked = {word: number for word, number in sorted(found.items()) if word != "valid"}
        yield LabelCount(label=label, valid=found["valid"], masked=masked)


def plain(text: object) -> str:
    """Any text as Markdown that shows it and does nothing else: one line, no markup, no HTML, at most 300 characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    line = line if len(line) <= 300 else line[:299] + "…"
    # Markup first: the entities of HTML hold a # of their own.
    escaped = _MARKUP.sub(lambda found: f"\\{found[0]}", line.replace("&", "\0"))
    return html.escape(escaped, quote=False).replace("\0", "&amp;")


def card(facts: Facts, configs: Mapping[str, Sequence[str]]) -> str:
    """The README of an export. `configs` maps each table of the export to its splits."""
    total = {name: sum(getattr(s, name) for s in facts.splits) for name in ("sources", "clips", "frames")}
    lines = [
        *_front_matter(facts, configs),
        f"# {plain(facts.name)}",
        "",
        f"{total['frames']:,} frames of faces in {total['clips']:,} clips from {total['sources']:,} sources"
        f"{' (synthetic: no people)' if facts.synthetic else ''}, with what each frame is labelled with. Shard schema"
        f" {plain(facts.schema)}, written by reactionnet {plain(facts.version)}.",
        "",
        "| split | sources | clips | records | frames | subjects |",
        "|---|---|---|---|---|---|",
        *(
            f"| {plain(s.split)} | {s.sources:,} | {s.clips:,} | {s.records:,} | {s.frames:,} | {s.subjects:,} |"
            for s in facts.splits
        ),
        "",
        f"{_shared(facts)} `frames` has a row a frame with its pictures; `records` a row for each run of at most"
        " 128 frames, with the original json and every member that is no picture (sound, arrays) as bytes.",
        "",
        *_label_lines(facts),
        *_people_lines(facts),
        *_provenance_lines(facts),
        *_terms_lines(facts),
        "## Columns",
        "",
        "| column of `frames` | meaning |",
        "|---|---|",
        *(f"| `{name}` | {meaning} |" for name, (_, meaning) in TABLES["frames"].items() if name != "shard"),
        "| `reaction`, `stimulus` | the aligned face, and what is being watched: JPEG as stored; null where there is none |",
        "| `landmarks` | 68 points x, y in pixels of `reaction` |",
        "",
    ]
    return "\n".join(lines)


def _shared(facts: Facts) -> str:
    if facts.shared_subjects:
        return f"**{facts.shared_subjects:,} subjects are in more than one split**, as released."
    return "No subject is in two splits." if any(s.subjects for s in facts.splits) else "Nobody is told apart by an id."


def _front_matter(facts: Facts, configs: Mapping[str, Sequence[str]]) -> list[str]:
    """YAML that says which files are which; every value is JSON, which is YAML too."""
    listed = [
        {
            "config_name": config,
            "data_files": [{"split": split, "path": f"data/{config}/{split}-*.parquet"} for split in splits],
            **({"default": True} if config == "frames" else {}),
        }
        for config, splits in configs.items()
    ]
    values: dict[str, Any] = {"pretty_name": facts.name, "license": "other", "license_name": " / ".join(facts.licenses)}
    stated = {**values, **({"configs": listed} if listed else {})}
    return ["---", *(f"{key}: {json.dumps(value)}" for key, value in stated.items()), "---", ""]


def _label_lines(facts: Facts) -> list[str]:
    if not facts.labels:
        return ["## Labels", "", "None.", ""]
    return [
        "## Labels",
        "",
        "Each is a column, and `NAME_mask` says for every frame whether it is `valid` or why it is null.",
        "",
        "| label | frames with it | without, and why |",
        "|---|---|---|",
        *(
            f"| `{one.label}` | {one.valid:,} | {', '.join(f'{n:,} {word}' for word, n in one.masked.items()) or '0'} |"
            for one in facts.labels
        ),
        "",
    ]


def _people_lines(facts: Facts) -> list[str]:
    if not facts.people:
        return ["## People", "", "Nobody's age, gender or ethnicity was estimated, so bias towards any is unknown.", ""]
    rows = [
        f"| {name} | {plain(value)} | {'withheld' if count is None else f'{count:,}'} |"
        for name, classes in facts.people.items()
        for value, count in classes.items()
    ]
    return [
        "## People",
        "",
        "As a model labels how faces look, not how anybody identifies; good for judging how one-sided the data are, not for"
        f" deciding about anybody. Counts below {LEAST}, and what would tell them, are withheld.",
        "",
        "| | class | subjects |",
        "|---|---|---|",
        *rows,
        "",
    ]


def _provenance_lines(facts: Facts) -> list[str]:
    lines = ["## How it was made", ""]
    if facts.models:
        lines += ["Models, by digest:", ""]
        lines += [
            f"- {plain(name)}: `{re.sub('[^0-9a-zA-Z]', '', digest)[:16]}`" for name, digest in facts.models.items()
        ]
        lines += [""]
    if facts.captions:
        told = ", ".join(f"{number:,} by {plain(decoding)}" for decoding, number in sorted(facts.captions.items()))
        lines += [f"Captions of the stimulus: {told}.", ""]
    if facts.left_out:
        lines += [f"Left out for want of weights: {', '.join(map(plain, facts.left_out))}.", ""]
    told = ", ".join(f"{number:,} {plain(code)}" for code, number in sorted(facts.lost.items()))
    return [*lines, f"Sources lost: {told}." if facts.lost else "No source was lost.", ""]


def _terms_lines(facts: Facts) -> list[str]:
    lines = ["## Terms and credits", ""]
    if facts.terms:
        lines += [plain(facts.terms), ""]
    lines += ["| licence | sources |", "|---|---|"]
    lines += [f"| {plain(name)} | {number:,} |" for name, number in facts.licenses.items()]
    lines += ["", f"Sources with a reference to consent: {facts.consents:,}.", ""]
    shown = [f"- {plain(title)}, by {plain(creator)}, {plain(terms)}" for title, creator, terms in facts.credits]
    lines += shown[:MAX_CREDITS]
    if len(shown) > MAX_CREDITS:
        lines += [f"- and {len(shown) - MAX_CREDITS:,} more: see the table `sources`"]
    return [*lines, ""] if shown else lines
