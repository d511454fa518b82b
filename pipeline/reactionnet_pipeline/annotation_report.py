"""What became of a file of annotations: rows that match nothing, and how far the coders agree."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

from reactionnet_datasets.shards import read_manifest
from reactionnet_datasets.stores import Place
from reactionnet_datasets.tables import read_table
from reactionnet_pipeline.agreement import agreement
from reactionnet_pipeline.annotations import Annotation, unmatched
from reactionnet_pipeline.plan import Plan

MAX_ROWS = 200


def annotation_facts(rows: Sequence[Annotation], made: Plan, out: Place) -> dict[str, Any]:
    """`rows`, `coders`, `unmatched` and `agreement`, as they go into `run_report.json`; frames are those published."""
    content = read_manifest(out)
    parts: dict[str, list[str]] = {"frames": [], "sources": []}
    for entry in content["splits"].values():
        for name in parts:
            parts[name] += entry["tables"][name]
    sources = read_table(out, "sources", parts["sources"]).select(["video_id", "fps", "sha256"]).to_pylist()
    wanted = {row.video_id for row in rows}
    frames: dict[str, list[tuple[float, str | None]]] = {}
    table = read_table(out, "frames", parts["frames"]).select(["video_id", "t_s", "subject_id"])
    for video_id, t_s, subject in zip(*(table[name].to_pylist() for name in table.column_names), strict=True):
        if video_id in wanted:
            frames.setdefault(video_id, []).append((t_s, subject))
    lost = unmatched(
        rows,
        frames,
        {row["video_id"]: row["fps"] for row in sources},
        {row["video_id"]: row["sha256"] for row in sources},
        _not_built(made),
    )
    gone = {row.line for row in lost}
    return {
        "rows": len(rows),
        "coders": len({row.coder for row in rows}),
        "unmatched": [asdict(row) for row in lost],
        "agreement": [asdict(one) for one in agreement(row for row in rows if row.line not in gone)],
    }


def _not_built(made: Plan) -> dict[str, str]:
    """Why a video of the manifest may have no frames."""
    refused = {letter.video_id: f"the video was not admitted: {letter.code}" for letter in made.letters}
    return {row.video_id: "no frame of the video is published; see dead_letters.jsonl" for row in made.rows} | refused


def annotation_section(facts: Mapping[str, Any] | None) -> str:
    """The page's section; empty where there were no annotations."""
    if not facts:
        return ""
    lost = "".join(
        f"<tr><td class=n>{row['line']}</td><td>{escape(row['video_id'])}</td><td class=n>{row['t_s']:g}</td>"
        f"<td>{escape(row['reason'])}</td></tr>"
        for row in facts["unmatched"][:MAX_ROWS]
    )
    figures = "".join(
        f"<tr><td>{escape(one['label'])}</td><td class=n>{one['coders']}</td><td class=n>{one['moments']}</td>"
        + "".join(
            f"<td class=n>{'' if one[name] is None else format(one[name], '.3f')}</td>"
            for name in ("kappa", "f1", "icc")
        )
        + "</tr>"
        for one in facts["agreement"]
    )
    head = "<tr><th>label</th><th class=n>coders</th><th class=n>moments</th><th class=n>kappa</th><th class=n>F1</th>"
    return (
        f"<h2>Annotations</h2><p>{facts['rows']:,} rows by {facts['coders']} coders;"
        f" {len(facts['unmatched']):,} match nothing.</p>"
        + (f"<table><tr><th>line</th><th>video</th><th>s</th><th>why</th></tr>{lost}</table>" if lost else "")
        + (f"<table>{head}<th class=n>ICC(3,1)</th></tr>{figures}</table>" if figures else "<p>One coder only.</p>")
        + "<p class='dim'>Kappa (quadratic weights for intensities) and F1: means over the pairs of coders."
        " Empty: not defined, for instance where nobody saw the unit.</p>"
    )
