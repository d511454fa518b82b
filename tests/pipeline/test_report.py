import json
from dataclasses import asdict, replace
from html.parser import HTMLParser

import pytest

from reactionnet_datasets.sample import canonical_json, escape
from reactionnet_datasets.shards import write_manifest
from reactionnet_datasets.tables import make_table, schema_of, write_part
from reactionnet_pipeline.errors import Code, DeadLetter
from reactionnet_pipeline.report import MAX_LETTERS, write_report

EVIL = "<script>alert('x')</script>\"><img src=x onerror=y>&[/red]"
LETTER = DeadLetter(video_id=EVIL, line=3, stage="layout", code=Code.NO_LAYOUT, message=EVIL, retryable=False)
COUNTS = {"admitted": 5, "built": 4, "lost": 1}
FACTS = {
    "published": True, "counts": COUNTS, "lost": 0.2, "frames_read": 1234, "pipeline_seconds": 2.0, "frames_per_s": 617.0,
    "seconds": 3.5,
}  # fmt: skip


class Page(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def summary(video_id, key="0" * 16, **changed):
    pane = {"role": "reaction", "x": 1, "y": 2, "w": 30, "h": 40, "start_s": 0.0, "end_s": 2.0, "confidence": 0.5}
    clip = {"frames": 50, "sources": {"detected": 20, "tracked": 30}}
    common = {
        "width": 64,
        "height": 48,
        "fps": 25.0,
        "duration_s": 2.0,
        "num_frames": 50,
        "origin": "detected",
        "preview": None,
    }
    content = {"video_id": video_id, "panes": [pane], "clips": [clip], "people": {EVIL: 50}, **common, **changed}
    return f"{escape(video_id)}-{key}.summary.json", canonical_json(content)


def reported(tmp_path, letters=(LETTER,), videos=(EVIL,), facts=FACTS):
    out, work = tmp_path / "out", tmp_path / "work"
    (work / "clips").mkdir(parents=True)
    for video_id in videos:
        name, data = summary(video_id)
        (work / "clips" / name).write_bytes(data)
    rows = [{"video_id": video_id, "title": EVIL} for video_id in videos]
    tables = {"sources": [write_part(out, "sources", "train", make_table(rows, schema_of("sources")))]}
    entry = {
        "sources": 4,
        "clips": 4,
        "records": 6,
        "frames": 200,
        "lost": {"NO_LAYOUT": 1},
        "shards": [{"num_bytes": 5_000_000}],
    }
    write_manifest(out, {"splits": {"train": {**entry, "tables": tables}}})
    for folder in (out, work):
        (folder / "dead_letters.jsonl").write_bytes(b"".join(canonical_json(asdict(one)) + b"\n" for one in letters))
    write_report(out, work, ["train"], facts, refused=2, title=EVIL)
    return Page((out / "report.html").read_text()), json.loads((out / "run_report.json").read_bytes())


def test_hostile_text_is_shown_and_never_run(tmp_path):
    page, _ = reported(tmp_path)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img"})
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.text.count(EVIL) >= 6  # title twice, letter twice, card three times


def test_counts_balance_and_losses_have_their_reasons(tmp_path):
    kept = replace(LETTER, code=Code.TRUNCATED, kept=True, lost_start_s=1.0, lost_end_s=2.5, message="cut off")
    page, report = reported(tmp_path, [LETTER, kept])
    assert "5 admitted = 4 built + 1 lost; 2 rows were not admitted" in page.text
    assert report["counts"]["admitted"] == report["counts"]["built"] + report["counts"]["lost"]
    assert report["letters_by_code"] == {"NO_LAYOUT": 1, "TRUNCATED": 1}
    assert report["totals"]["train"] == {
        "sources": 4, "clips": 4, "records": 6, "frames": 200, "lost": {"NO_LAYOUT": 1}, "shards": 1, "bytes": 5_000_000,
    }  # fmt: skip
    for part in ("cut off", "1.00 to 2.50 s", "1,234 frames in 2.0 s = 617 frames/s", "20 detected, 30 tracked"):
        assert part in page.text


def test_a_video_is_shown_with_its_own_summary_and_not_with_that_of_a_longer_name(tmp_path):
    page, _ = reported(tmp_path, [], ["a", "a-b"])
    shown = page.text[page.text.index("Panes and faces") :]
    assert [shown.count(f"{name}{EVIL}") for name in ("a", "a-b")] == [1, 1]


def test_a_build_that_was_not_published_says_so(tmp_path):
    page, report = reported(tmp_path, facts={**FACTS, "published": False})
    assert "Not published: too many sources were lost." in page.text
    assert report["published"] is False


def test_a_flood_of_letters_is_cut_and_counted(tmp_path):
    page, report = reported(tmp_path, [LETTER] * (MAX_LETTERS + 7))
    assert "and 7 more" in page.text
    assert report["letters_by_code"] == {"NO_LAYOUT": MAX_LETTERS + 7}


@pytest.mark.parametrize("line", [None, 0])
def test_a_letter_without_a_line_is_shown_too(tmp_path, line):
    page, _ = reported(tmp_path, [replace(LETTER, line=line)])
    assert "NO_LAYOUT" in page.text
