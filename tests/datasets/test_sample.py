import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactionnet_datasets.sample import (
    MAX_KEY,
    Chunk,
    Label,
    canonical_json,
    chunk_spans,
    escape,
    is_key,
    make_key,
    picture_suffix,
    unescape,
)


def chunk(**changed):
    fields = {"key": "v-0-000000", "dataset": "d", "video_id": "v", "clip_id": "v-0-000000", "subject_id": None}
    frames = {"frames": [0, 1], "t_s": [0.0, 0.04], "clip_first_frame": 0, "clip_num_frames": 2}
    return Chunk(**{**fields, "track": "0", **frames, **changed})


@given(st.text())
def test_escaping_goes_there_and_back_in_clean_letters(text):
    escaped = escape(text)
    assert unescape(escaped) == text
    assert is_key(escaped) == (1 <= len(escaped) <= MAX_KEY)


@given(st.text(), st.text())
def test_two_names_never_escape_to_one(one, other):
    assert (escape(one) == escape(other)) == (one == other)


@pytest.mark.parametrize("text", ["a.b", "_", "_5", "_5F", "_41", "_zz", "ü", "_ff", "a b"])
def test_what_escape_did_not_make_is_not_unescaped(text):
    with pytest.raises(ValueError, match="not an escaped name"):
        unescape(text)


def test_a_key_fits_a_tar_header_with_its_longest_member():
    key = make_key("x" * (MAX_KEY - 9), "0", 7)
    assert len(key) == MAX_KEY
    assert len(f"{key}.{picture_suffix(127, 'reaction', 'jpeg')}") <= 100
    with pytest.raises(ValueError, match="81 characters; at most 80"):
        make_key("x" * (MAX_KEY - 8), "0", 7)


def test_a_key_holds_no_dot_whatever_the_video_is_called():
    assert make_key("a.b/c", "0", 5) == "a_2eb_2fc-0-000005"


def test_a_chunk_survives_its_json_and_equal_chunks_have_equal_bytes():
    scene = Label(space="scene", value="game", raw="Game", rule="lower")
    au = Label(space="au_occ", value=[1, None], mask=["valid", "uncodable"], raw=[1, 9])
    one = chunk(labels={"scene": scene, "au": au}, fps=25.0, face_sources=["detected", "tracked"], license="CC0-1.0")
    other = chunk(license="CC0-1.0", face_sources=["detected", "tracked"], fps=25.0, labels={"au": au, "scene": scene})
    assert Chunk.from_json(one.to_json()) == one
    assert one.to_json() == other.to_json() == canonical_json(json.loads(one.to_json()))


def test_another_schema_is_refused():
    with pytest.raises(ValueError, match="'reactionnet-9'"):
        Chunk.from_json(chunk().to_json().replace(b"reactionnet-1", b"reactionnet-9"))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_holds_no_number_that_json_has_not(number):
    with pytest.raises(ValueError, match="not JSON compliant"):
        chunk(fps=number).to_json()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"key": "a.b"}, "is no key"),
        ({"frames": []}, "0 frames; a chunk holds 1 to 128"),
        ({"frames": list(range(129))}, "129 frames"),
        ({"t_s": [0.0]}, "1 t_s for 2 frames"),
        ({"face_boxes": [[0, 0, 1, 1]] * 3}, "3 face_boxes for 2 frames"),
    ],
)
def test_an_impossible_chunk_says_what_is_wrong(changed, reason):
    with pytest.raises(ValueError, match=reason):
        chunk(**changed)


@pytest.mark.parametrize(
    ("value", "mask"), [(0, "uncodable"), (None, "valid"), (1, "maybe"), ([1], ["valid"] * 2), ([0], ["withheld"])]
)
def test_a_masked_value_is_null_and_a_mask_is_a_known_word(value, mask):
    with pytest.raises(ValueError, match="label in au"):
        Label(space="au", value=value, mask=mask)


@pytest.mark.parametrize(
    ("num_frames", "spans"),
    [(0, []), (1, [(0, 1)]), (127, [(0, 127)]), (128, [(0, 128)]), (129, [(0, 128), (128, 129)]),
     (257, [(0, 128), (128, 256), (256, 257)])],
)  # fmt: skip
def test_chunks_cover_a_clip_once(num_frames, spans):
    assert list(chunk_spans(num_frames)) == spans
