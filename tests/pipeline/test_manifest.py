import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reactionnet_datasets.sample import canonical_json, escape
from reactionnet_pipeline.errors import Code, DeadLetter
from reactionnet_pipeline.manifest import MAX_LINE, ManifestError, Row, read_manifest, read_overrides, redacted

GOOD = {"video_id": "a", "uri": "a.mp4", "license": "CC0-1.0"}
PANE = {"role": "reaction", "x": 0, "y": 0, "w": 64, "h": 64, "start_s": 0, "end_s": 9}


def lines_of(path, *rows):
    path.write_bytes(b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows))
    return list(read_manifest(path))


def test_jsonl_csv_and_parquet_say_the_same(tmp_path):
    plain = {**GOOD, "title": "Ünï – “t”", "start_s": 1.5, "sha256": "A" * 64, "channel": "x", "creator": ""}
    (jsonl,) = lines_of(tmp_path / "m.jsonl", {**plain, "subject_ids": ["ann", "bob"], "layout": [PANE]})
    spelled = {**plain, "subject_ids": "ann; bob", "layout": json.dumps([PANE])}
    with (tmp_path / "m.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(spelled))
        writer.writeheader()
        writer.writerow(spelled)
    pq.write_table(
        pa.Table.from_pylist([{**plain, "subject_ids": ["ann", "bob"], "layout": [PANE]}]), tmp_path / "m.parquet"
    )
    (from_csv,) = read_manifest(tmp_path / "m.csv")
    (from_parquet,) = read_manifest(tmp_path / "m.parquet")
    assert (from_csv.line, from_parquet.line) == (2, 1)
    assert vars(jsonl) == vars(from_parquet) == {**vars(from_csv), "line": 1}
    assert (jsonl.subject_ids, jsonl.start_s, jsonl.creator) == (("ann", "bob"), 1.5, None)
    assert jsonl.extra == '{"channel":"x"}'
    assert jsonl.layout.panes[0].w == 64
    assert jsonl.location == str(tmp_path / "a.mp4")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"video_id": None}, "video_id is missing"),
        ({"video_id": 7}, "video_id 7 is not a text"),
        ({"video_id": " "}, "not a text"),
        ({"video_id": "x" * 65}, "65 characters once escaped"),
        ({"video_id": "a\nb"}, "control characters"),
        ({"video_id": "\ud800"}, "control characters"),
        ({"video_id": [[[]]]}, "not a text"),
        ({"uri": "x" * 5000}, "too long"),
        ({"stimulus_scene": "animatoin"}, "'animatoin' does not exist (scenes version 1); did you mean 'animation'"),
        ({"uri": "zip://a.mp4::b.zip"}, "'::' chains are refused"),
        ({"uri": "http://example.org/a.mp4"}, "scheme 'http' is not read"),
        ({"uri": "HTTPS://u:secret@example.org/a.mp4?token=secret"}, "scheme 'https'"),
        ({"uri": "s3://key:secret@bucket/a.mp4"}, "holds credentials"),
        ({"uri": "http://["}, "Invalid IPv6"),
        ({"uri": "n" * 300 + ".mp4"}, "name that no file can have"),
        ({"uri": "file:///tmp/%00.mp4"}, "name that no file can have"),
        ({"license": ""}, "license is missing"),
        ({"license": ["CC0-1.0"]}, "license ['CC0-1.0'] is not a text"),
        ({"sha256": "abc"}, "not 64 hexadecimal digits"),
        ({"start_s": "soon"}, "start_s 'soon' is not a number"),
        ({"start_s": -1}, "not a time from 0 on"),
        ({"start_s": True}, "not a time"),
        ({"end_s": 10**400}, "not a time"),
        ({"start_s": 5, "end_s": 5}, "end_s 5.0 is not after start_s 5.0"),
        ({"subject_ids": "[broken"}, "neither a JSON list"),
        ({"subject_ids": ["ann", 3]}, "not a list of names"),
        ({"subject_ids": ["ann", "ann"]}, "each once"),
        ({"subject_ids": ["a\x00b"]}, "not a list of names"),
        ({"subject_ids": [str(n) for n in range(33)]}, "33 entries"),
        ({"layout": "{"}, "layout is not JSON"),
        ({"layout": []}, "a list of 1 to 256 panes"),
        ({"layout": [{**PANE, "role": "face"}]}, "pane 0: role 'face'"),
        ({"layout": [{**PANE, "w": "1e999"}]}, "pane 0"),
        ({"layout": [{**PANE, "x": -1}]}, "no rectangle"),
        ({"layout": [{**PANE, "shape": []}]}, "shape []"),
        ({"layout": [{"role": "reaction"}]}, "pane 0 lacks 'x'"),
        ({"views": "\udfff"}, "further fields cannot be kept"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_and_the_good_ones_go_on(tmp_path, changed, reason):
    letter, row = lines_of(tmp_path / "m.jsonl", {**GOOD, **changed}, {**GOOD, "video_id": "b"})
    assert (letter.code, letter.line, row.line) == (Code.BAD_ROW, 1, 2)
    assert reason in letter.message
    assert "secret" not in letter.message
    assert len(letter.message) <= 400
    canonical_json(vars(letter))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{", "not JSON"),
        (b'{"video_id":"a","uri":"a","license":"MIT","views":1e999}', "further fields cannot be kept"),
        (b"[1]", "a JSON list"),
        (b"\xff\xfe{}", "not JSON"),
        (b'{"video_id": "a", "start_s": NaN}', "NaN is no JSON number"),
        (b'{"views": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"views": ' + b"[" * 100_000, "not JSON"),
        (b'{"license":"x","uri":"x","video_id":"v","layout":"' + b"[" * 100_000 + b'"}', "nested too deeply"),
        (b'{"title": "' + b"x" * 2 * MAX_LINE + b'"}', "longer than 1,048,576 bytes"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path, text, reason):
    letter, row = lines_of(tmp_path / "m.jsonl", text, GOOD)
    assert (letter.code, letter.line, row.line) == (Code.BAD_ROW, 1, 2)
    assert reason in letter.message


def test_a_byte_order_mark_windows_line_ends_and_empty_lines_do_no_harm(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\r\n" + json.dumps({**GOOD, "video_id": "b"}).encode()
    )
    assert [(row.video_id, row.line) for row in read_manifest(path)] == [("a", 1), ("b", 3)]


def test_csv_rows_of_the_wrong_width_or_with_huge_cells_are_named(tmp_path):
    path = tmp_path / "m.csv"
    path.write_bytes(
        b"video_id,uri,license\r\na,a.mp4,CC0-1.0,spare\r\nb,b.mp4\r\nc," + b"x" * 200_000 + b",MIT\r\nd,d,MIT"
    )
    *letters, row = read_manifest(path)
    assert [letter.message.split(" ")[0] for letter in letters] == ["more", "license", "not"]
    assert [letter.line for letter in letters] == [2, 3, 4]
    assert row.video_id == "d"


def test_parquet_keeps_dates_and_takes_nan_for_missing(tmp_path):
    import datetime

    row = {**GOOD, "start_s": float("nan"), "day": datetime.date(2024, 5, 1), "raw": b"\xff"}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "m.parquet")
    (found,) = read_manifest(tmp_path / "m.parquet")
    assert found.start_s is None
    assert json.loads(found.extra)["day"] == "2024-05-01"


def test_a_second_row_with_the_same_id_is_refused_and_names_the_first(tmp_path):
    first, letter = lines_of(tmp_path / "m.jsonl", GOOD, {**GOOD, "uri": "other.mp4"})
    assert first.uri == "a.mp4"
    assert (letter.code, letter.line) == (Code.DUPLICATE_ID, 2)
    assert "line 1" in letter.message


def test_ids_stay_apart_and_inside_their_folder_once_escaped(tmp_path):
    ids = ["../x", "__2e_2e_2fx", "_2e_2e_2fx", "x.", "x", "X", "x ", "/etc", "ü", "u\u0308"]
    rows = lines_of(tmp_path / "m.jsonl", *({**GOOD, "video_id": video_id} for video_id in ids))
    names = {escape(row.video_id) for row in rows}
    assert len(names) == len(ids)
    assert not any("/" in name or "." in name for name in names)


def test_a_title_may_hold_any_letter_and_emoji(tmp_path):
    (row,) = lines_of(tmp_path / "m.jsonl", {**GOOD, "title": "family 👩\u200d👧 watches\u00a0it"})
    assert row.title == "family 👩\u200d👧 watches\u00a0it"


def test_credentials_and_queries_do_not_show():
    assert redacted("https://ann:p@ss:word@host/a?sig=1") == "https://host/a?..."
    assert redacted("a@b.mp4") == "a@b.mp4"


def test_a_file_address_is_read_as_one(tmp_path):
    (row,) = lines_of(tmp_path / "m.jsonl", {**GOOD, "uri": "file:///data/my%20video.mp4"})
    assert row.location == "/data/my video.mp4"


@pytest.mark.parametrize("name", ["none.jsonl", "m.txt", "m.csv", "m.parquet"])
def test_what_is_no_table_at_all_is_one_error(tmp_path, name):
    for made in ("m.txt", "m.csv", "m.parquet"):
        (tmp_path / made).write_text("PAR1 nothing,here\n")
    with pytest.raises(ManifestError, match=name.replace(".", r"\.")):
        list(read_manifest(tmp_path / name))


def test_overrides_name_the_line_that_is_wrong(tmp_path):
    path = tmp_path / "layouts.jsonl"
    path.write_text(json.dumps({"video_id": "a", "panes": [PANE]}) + "\n" + json.dumps({"video_id": "b"}))
    with pytest.raises(ManifestError, match="line 2: layout needs a list"):
        read_overrides(path)


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=300), suffix=st.sampled_from(["jsonl", "csv", "tsv", "parquet"]))
def test_random_bytes_give_letters_and_never_a_crash(tmp_path_factory, data, suffix):
    path = tmp_path_factory.mktemp("random") / f"m.{suffix}"
    path.write_bytes((b"video_id,uri,license\n" if suffix == "csv" else b"") + data)
    try:
        found = list(read_manifest(path))
    except ManifestError:
        assert suffix != "jsonl"
    else:
        assert all(isinstance(one, Row | DeadLetter) for one in found)


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
NESTED = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from([*GOOD, "sha256", "subject_ids", "start_s", "layout", "x"]), NESTED))
def test_nested_nonsense_in_any_field_gives_a_row_or_a_letter(tmp_path_factory, fields):
    (found,) = lines_of(tmp_path_factory.mktemp("nested") / "m.jsonl", {**GOOD, **fields})
    canonical_json({n: str(v) if n == "layout" else v for n, v in vars(found).items()})
