import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reactionnet_pipeline.errors import Code, SourceError
from reactionnet_pipeline.gate import DEFAULT_LICENCES, Gate, licence_allows, read_tombstones
from reactionnet_pipeline.manifest import ManifestError, Row

SHA = "ab" * 32


def row(**changed):
    return Row(
        **{"line": 1, "video_id": "v", "uri": "v.mp4", "location": "/nowhere/v.mp4", "license": "CC0-1.0", **changed}
    )


def refusal(gate, **changed):
    with pytest.raises(SourceError) as caught:
        gate.check(row(**changed))
    return caught.value.code


@pytest.mark.parametrize(
    ("expression", "extra", "allowed"),
    [
        *((name, (), True) for name in DEFAULT_LICENCES),
        ("cc-by-4.0", (), True),
        ("CC-BY-NC-4.0", (), False),
        ("CC-BY-4.0 AND CC0-1.0", (), True),
        ("CC-BY-4.0 AND MIT", (), False),
        ("CC-BY-4.0 OR MIT", (), True),
        ("CC-BY-4.0 AND (MIT OR CC0-1.0)", (), True),
        ("(CC-BY-4.0 AND MIT) OR GPL-3.0-only", (), False),
        ("LicenseRef-agreement", (), False),
        ("LicenseRef-agreement", ("LicenseRef-agreement",), True),
        ("LicenseRef-agreement AND CC0-1.0", ("LicenseRef-other",), False),
        ("GPL-2.0-only WITH Classpath-exception-2.0", ("GPL-2.0-only",), False),
        ("GPL-2.0-only WITH Classpath-exception-2.0", ("GPL-2.0-only WITH Classpath-exception-2.0",), True),
    ],
)
def test_and_needs_all_and_or_needs_one(expression, extra, allowed):
    assert licence_allows(expression, (*DEFAULT_LICENCES, *extra)) is allowed


@pytest.mark.parametrize(
    "expression",
    [
        "proprietary", "CC BY 4.0", "CC0-1.0 AND", "AND", "()", "(CC0-1.0", "(AND CC0-1.0", "CC0-1.0 MIT",
        "MIT WITH nonsense", "CC0-1.0/MIT", "?",
    ],
)  # fmt: skip
def test_what_does_not_parse_is_unreadable_and_shown(expression):
    with pytest.raises(SourceError, match="LICENCE_UNREADABLE") as caught:
        licence_allows(expression, DEFAULT_LICENCES)
    assert repr(expression) in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["CC0-1.0", "MIT", "AND", "OR", "WITH", "(", ")", "LicenseRef-x", "\x00", "ü", "+"]),
        max_size=12,
    )
)
def test_no_expression_stops_the_job(words):
    try:
        assert licence_allows(" ".join(words), DEFAULT_LICENCES) in (True, False)
    except SourceError as error:
        assert error.code == Code.LICENCE_UNREADABLE


def test_consent_is_asked_for_only_where_required():
    Gate().check(row())
    Gate(require_consent=True).check(row(consent="form 12"))
    assert refusal(Gate(require_consent=True)) == Code.CONSENT_MISSING


def test_what_was_taken_down_is_found_by_id_and_by_content_before_all_else():
    assert refusal(Gate(tombstones=frozenset({"v"})), license="nonsense") == Code.TAKEN_DOWN
    assert refusal(Gate(tombstones=frozenset({SHA})), sha256=SHA) == Code.TAKEN_DOWN
    Gate(tombstones=frozenset({"w", SHA})).check(row(sha256="cd" * 32))


def test_a_refusal_names_what_is_allowed_and_how_to_allow_more():
    with pytest.raises(SourceError, match=r"MIT is not covered by .*CC0-1\.0; --allow-license adds one"):
        Gate().check(row(license="MIT"))


def test_tombstones_are_lines_or_json(tmp_path):
    path = tmp_path / "tombstones"
    entries = [json.dumps({"video_id": "#b", "sha256": SHA.upper()}), json.dumps({"video_id": "c"})]
    path.write_text("\ufeff# taken down\na \r\n\n" + "\n".join(entries))
    assert read_tombstones(path) == {"a", "#b", "c", SHA, SHA.upper()}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"a\n{", "line 2: not JSON"),
        (b'{"id": "a"}', "line 1: neither video_id nor sha256"),
        (b"\xff\xfe", "no text in UTF-8"),
    ],
)
def test_a_damaged_list_of_tombstones_stops_the_build(tmp_path, text, reason):
    (tmp_path / "tombstones").write_bytes(text)
    with pytest.raises(ManifestError, match=reason):
        read_tombstones(tmp_path / "tombstones")


def test_a_missing_list_of_tombstones_stops_the_build(tmp_path):
    with pytest.raises(ManifestError, match="no tombstones at"):
        read_tombstones(tmp_path / "none")
