"""`run_report.json` for programs and `report.html` for people: what went in, what came out, what was lost and why."""

import base64
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from reactionnet_datasets.sample import canonical_json
from reactionnet_datasets.sample import escape as escape_name
from reactionnet_datasets.shards import MANIFEST, read_manifest, write_atomic
from reactionnet_datasets.stores import Place
from reactionnet_datasets.subject_counts import ATTRIBUTES
from reactionnet_datasets.tables import read_part, read_table
from reactionnet_pipeline.annotation_report import annotation_section
from reactionnet_pipeline.demographic_report import (
    demographic_facts,
    demographic_section,
    left_out_section,
)
from reactionnet_pipeline.errors import REFUSALS
from reactionnet_pipeline.publish import DEAD_LETTERS
from reactionnet_pipeline.scenes import coverage_section

MAX_CARDS = 60
MAX_LETTERS = 500
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #1c2430; }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse; margin: .5rem 0 } td, th { padding: .25rem .8rem .25rem 0; text-align: left }
th { border-bottom: 2px solid #ccd3dc } td { border-bottom: 1px solid #e6eaef } td.n, th.n { text-align: right }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(22rem, 1fr)); gap: 1rem }
.card { border: 1px solid #dde3ea; border-radius: 6px; padding: .7rem } .card img { max-width: 100%; display: block }
.card td, .card th { padding-right: .5rem }
.card h3 { font-size: 1rem; margin: .4rem 0; overflow-wrap: anywhere } .dim { color: #6a7686 } .bad { color: #b3261e }
.key span { padding: 0 .5rem; border-left: .8rem solid; margin-right: .6rem }
"""


def write_report(
    out: Place,
    work: Place,
    splits: Sequence[str],
    facts: Mapping[str, Any],
    refused: int,
    title: str = "reactionnet build",
) -> None:
    """Write both files into `out`. `facts` is what the launcher measured; the rest is read from what was published."""
    where = out if facts["published"] else work
    letters = [json.loads(line) for line in (where / DEAD_LETTERS).read_bytes().splitlines()]
    content = read_manifest(out) if (out / MANIFEST).exists() else {"splits": {}}
    report = {
        **facts,
        "splits": list(splits),
        "rows_not_admitted": refused,
        "demographics": demographic_facts(_subjects(out, content)),
        "letters_by_code": dict(sorted(Counter(letter["code"] for letter in letters).items())),
        "totals": {
            split: {name: entry[name] for name in ("sources", "clips", "records", "frames", "lost")}
            | {"shards": len(entry["shards"]), "bytes": sum(shard["num_bytes"] for shard in entry["shards"])}
            for split, entry in content["splits"].items()
        },
    }
    write_atomic(out / "run_report.json", canonical_json(report))
    page = _page(
        title,
        report,
        letters,
        list(_summaries(work, out, content)) if facts["published"] else [],
        coverage_section(_sources(out, content)),
    )
    write_atomic(out / "report.html", page.encode())


def _sources(out: Place, content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The published sources of all splits."""
    parts = [part for entry in content["splits"].values() for part in entry["tables"]["sources"]]
    return read_table(out, "sources", parts).select(["stimulus_scene", "sub_scene", "clips", "frames"]).to_pylist()


def _subjects(out: Place, content: Mapping[str, Any]) -> list[dict[str, Any]]:
    parts = [part for entry in content["splits"].values() for part in entry["tables"].get("subjects", ())]
    return read_table(out, "subjects", parts).select(["crops", *ATTRIBUTES]).to_pylist()


def _summaries(work: Place, out: Place, content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The work folder's summaries of the first published videos, each with its preview as a data address."""
    shown = 0
    for split, entry in content["splits"].items():
        for part in entry["tables"]["sources"]:
            for row in read_part(out, part, ["video_id", "title"]).to_pylist():
                if shown >= MAX_CARDS:
                    return
                name = f"{escape_name(row['video_id'])}-{'[0-9a-f]' * 16}.summary.json"
                for path in sorted((work / "clips").glob(name), key=_changed)[-1:]:
                    summary = json.loads(path.read_bytes())
                    if summary["preview"]:
                        picture = base64.b64encode((path.parent / summary["preview"]).read_bytes()).decode()
                        summary["picture"] = f"data:image/jpeg;base64,{picture}"
                    shown += 1
                    yield {**summary, "split": split, "title": row["title"]}


def _changed(path: Place) -> int:
    return path.stat().st_mtime_ns


def _page(title: str, report: Mapping[str, Any], letters: list[dict], videos: list[dict], scenes: str) -> str:
    counts = report["counts"]
    balance = (
        f"{counts['admitted']} admitted = {counts['built']} built + {counts['lost']} lost;"
        f" {report['rows_not_admitted']} rows were not admitted"
    )
    state = "" if report["published"] else '<p class="bad">Not published: too many sources were lost.</p>'
    speed = (
        f"{report['frames_read']:,} frames in {report['pipeline_seconds']:.1f} s ="
        f" {report['frames_per_s']:.0f} frames/s; {report['seconds']:.1f} s from start to end"
    )
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>',
            f"<h1>{escape(title)}</h1>{state}<p>{balance}.<br>{speed}.</p>",
            "<h2>What came out</h2>" if report["published"] else "<h2>What was published before, and still is</h2>",
            _table(
                ("split", "sources", "clips", "chunks", "frames", "shards", "MB", "lost"),
                [
                    (split, *(t[n] for n in ("sources", "clips", "records", "frames", "shards")), f"{t['bytes'] / 1e6:.1f}",
                     ", ".join(f"{n} {code}" for code, n in t["lost"].items()) or "none")
                    for split, t in report["totals"].items()
                ],
            ),
            left_out_section(report.get("stages_left_out", ())),
            scenes,
            demographic_section(report["demographics"]),
            annotation_section(report.get("annotations")),
            "<h2>What was lost, and why</h2>",
            _letters(letters),
            f"<h2>Panes and faces</h2><p class='dim'>The middle of the longest clip of each video, up to {MAX_CARDS} videos."
            " <span class='key'><span style='border-color:#50a0ff'>stimulus</span>"
            "<span style='border-color:#ffbe3c'>reaction</span><span style='border-color:#5ae678'>faces</span></span></p>",
            '<div class="cards">' + "\n".join(map(_card, videos)) + "</div></html>",
        ]
    )  # fmt: skip


def _letters(letters: list[dict]) -> str:
    if not letters:
        return "<p>Nothing.</p>"
    rows = [
        (
            letter["line"] if letter["line"] is not None else "",
            letter["video_id"],
            letter["stage"],
            letter["code"],
            letter["message"],
            "refused" if letter["code"] in REFUSALS else "part" if letter["kept"] else "whole",
            "" if letter["lost_start_s"] is None else f"{letter['lost_start_s']:.2f} to {letter['lost_end_s']:.2f} s",
        )
        for letter in letters[:MAX_LETTERS]
    ]
    more = f"<p>... and {len(letters) - MAX_LETTERS:,} more.</p>" if len(letters) > MAX_LETTERS else ""
    return _table(("line", "video", "stage", "code", "reason", "lost", "span"), rows) + more


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    def cell(value: Any, tag: str) -> str:
        number = isinstance(value, int | float)
        text = f"{value:,}" if number else escape(str(value))
        return f"<{tag}{' class=n' if number else ''}>{text}</{tag}>"

    head = "".join(cell(name, "th") for name in header)
    body = "".join("<tr>" + "".join(cell(value, "td") for value in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _card(video: Mapping[str, Any]) -> str:
    panes = _table(
        ("role", "x", "y", "w", "h", "from", "to", "conf."),
        [
            (
                p["role"],
                p["x"],
                p["y"],
                p["w"],
                p["h"],
                f"{p['start_s']:.2f}",
                f"{p['end_s']:.2f}",
                f"{p['confidence']:.2f}",
            )
            for p in video["panes"]
        ],
    )
    frames = sum(clip["frames"] for clip in video["clips"])
    kinds: Counter[str] = Counter()
    for clip in video["clips"]:
        kinds.update(clip["sources"])
    faces = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
    people = ", ".join(escape(name) for name in video["people"])
    picture = f'<img src="{video["picture"]}" alt="panes and faces">' if "picture" in video else ""
    return (
        f'<div class="card">{picture}<h3>{escape(video["video_id"])}</h3>'
        f'<div class="dim">{escape(video["title"] or "")}</div>'
        f"<div>{escape(video['split'])}; {video['width']}x{video['height']}, {video['fps']:.4g} fps,"
        f" {video['duration_s']:.1f} s; layout {escape(video['origin'])}</div>"
        f"<div>{len(video['clips'])} clips, {frames:,} of {video['num_frames']:,} frames: {faces}; people: {people}</div>"
        f"{panes}</div>"
    )
