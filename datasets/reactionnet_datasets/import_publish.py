"""The last step of an import: list what was written in `dataset.json`, and report what was left out."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from reactionnet_datasets.about import About, Finding
from reactionnet_datasets.import_plan import GROUPS, Plan
from reactionnet_datasets.importing import Written
from reactionnet_datasets.listing import digests_of, listed_now, remove_unlisted
from reactionnet_datasets.release import ReleaseError, missing_media
from reactionnet_datasets.shards import write_atomic, write_manifest
from reactionnet_datasets.tables import make_table, schema_of, write_part

REPORT = "import_report.json"


def publish(
    out: Path, about: About, planned: Plan, written: Sequence[Written], findings: Sequence[Finding] = ()
) -> None:
    """List what was written in `dataset.json`, last of all. MissingMediaError where pictures did not decode."""
    faults = sorted(fault for one in written for fault in one.faults)
    if faults:
        raise missing_media(faults)
    done = sorted((one for one in written if one.shard), key=lambda one: (GROUPS.index(one.group), one.number))
    if not done:
        raise ReleaseError(f"{about.name}: every picture was missing or damaged, so nothing was written")
    splits = {group: entry for group in GROUPS if (entry := _entry(out, about, group, done))}
    jobs = planned.jobs[0]
    skipped = sorted(fault for one in written for fault in one.skipped)
    content = {
        "dataset": about.name,
        "splits": splits,
        "labels": _label_totals(done),
        "tasks": list(jobs.tasks),
        "importer": {
            "name": jobs.importer, "options": planned.facts["options"], "format": about.status,
            "landmarks": jobs.landmarks, "reactionnet": version("reactionnet"),
        },
        "license": about.license,
        "terms": about.terms,
        "synthetic": about.synthetic,
    }  # fmt: skip
    report = {
        "dataset": about.name,
        "format": about.status,
        "importer": content["importer"],
        "clips": sum(entry["clips"] for entry in splits.values()),
        "frames": sum(entry["frames"] for entry in splits.values()),
        "skipped": {
            "count": len(planned.facts["missing"]) + len(skipped),
            "missing": planned.facts["missing"],
            "damaged": skipped,
        },
        "notes": planned.facts["notes"],
        "refused": planned.facts["refused"],
        "frames_without_landmarks": sum(one.without_landmarks for one in done),
        "doctor": [asdict(finding) for finding in findings],
    }
    write_atomic(out / REPORT, (json.dumps(report, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())
    before = listed_now(out)
    write_manifest(out, content)
    remove_unlisted(out, before | digests_of(content).keys())


def _entry(out: Path, about: About, group: str, done: Sequence[Written]) -> dict[str, Any] | None:
    here = [one for one in done if one.group == group]
    shards: list[dict[str, Any]] = []
    tables: dict[str, list[str]] = {"frames": [], "windows": [], "sources": [], "captions": []}
    for one in here:
        if one.shard is None or one.tables is None:
            continue
        shards.append({**asdict(one.shard), "frames": one.tables.num_frames, "clips": one.tables.num_clips})
        tables["frames"].append(one.tables.frames)
        tables["windows"].append(one.tables.windows)
        for name, part in one.other_tables.items():
            tables[name].append(part)
    if not shards:
        return None
    split = None if group == "all" else group
    people: dict[str, np.ndarray] = {}
    for one in here:
        for subject, counts in one.subjects.items():
            people[subject] = people.get(subject, np.zeros(3, int)) + np.asarray(counts)
    rows = [
        {
            "subject_id": subject, "dataset": about.name, "split": split, "id_origin": "release",
            "num_videos": int(counts[0]), "num_clips": int(counts[1]), "num_frames": int(counts[2]),
        }
        for subject, counts in sorted(people.items())
    ]  # fmt: skip
    subjects = write_part(out, "subjects", group, make_table(rows, schema_of("subjects")))
    return {
        "shards": shards,
        "tables": {**tables, "subjects": [subjects], "layouts": []},
        "sources": sum(pq.read_metadata(out / part).num_rows for part in tables["sources"]),
        "clips": sum(shard["clips"] for shard in shards),
        "frames": sum(shard["frames"] for shard in shards),
        "records": sum(shard["records"] for shard in shards),
        "subjects": len(rows),
    }


def _label_totals(done: Sequence[Written]) -> dict[str, Any]:
    totals: dict[str, dict[str, Counter[str]]] = {}
    for one in done:
        for label, kinds in one.label_counts.items():
            for kind, counts in kinds.items():
                totals.setdefault(label, {}).setdefault(kind, Counter()).update(counts)
    return {label: {kind: dict(sorted(c.items())) for kind, c in kinds.items()} for label, kinds in totals.items()}
