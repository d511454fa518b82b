import json
import warnings

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reactionnet_pipeline.agreement import agreement
from reactionnet_pipeline.annotation_report import annotation_section
from reactionnet_pipeline.annotations import (
    Annotation,
    agreed,
    annotations_of,
    human_captions,
    label_columns,
    labels_of,
    nearest,
    on_clip,
    read_annotations,
    unmatched,
    write_annotations,
)
from reactionnet_pipeline.manifest import ManifestError

FPS = 25.0
TIMES = [n / FPS for n in range(10)]


def written(folder, *rows, name="codes.jsonl"):
    path = folder / name
    if name.endswith(".csv"):
        columns = list(dict.fromkeys(column for row in rows for column in row))
        lines = [",".join(columns), *(",".join(str(row.get(column, "")) for column in columns) for row in rows)]
        path.write_text("\n".join(lines))
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path, videos=("v",)):
    return read_annotations(path, "reactionnet", videos)


ROW = {"video_id": "v", "t_s": 0.2, "coder": "ann"}


@pytest.mark.parametrize("name", ["codes.jsonl", "codes.csv", "codes.parquet"])
def test_codes_are_read_the_same_from_every_format(tmp_path, name):
    first = ROW | {"au_occ_12": 1, "au_int_12": 3, "expression": "happy", "caption": "a cat jumps"}
    second = ROW | {"coder": "bob", "au_occ_12": 0}
    rows = read(written(tmp_path, first, second, name=name))
    assert [(row.coder, dict(row.values)) for row in rows] == [
        ("ann", {"expression": "happiness", "au_occ_12": 1, "au_int_12": 3}),
        ("bob", {"au_occ_12": 0}),
    ]
    assert (rows[0].caption, rows[1].caption) == ("a cat jumps", None)
    assert label_columns(rows) == ("au_int_12", "au_occ_12", "expression")


def test_letters_are_intensities_and_what_cannot_be_coded_is_none(tmp_path):
    (row,) = read(written(tmp_path, ROW | {"au_int_4": "B", "au_int_6": "E", "au_occ_4": "uncodable"}))
    assert dict(row.values) == {"au_occ_4": None, "au_int_4": 2, "au_int_6": 5}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"au_occ_3": 1}, "no action unit 3 here; coded are 1, 2, 4, 5"),
        ({"au_int_99": 1}, "no action unit 99"),
        ({"AU12": 1}, "write au_occ_12 for occurrence, au_int_12 for intensity"),
        ({"expresion": "anger"}, "did you mean expression"),
        ({"au_occ_12": 2}, "au_occ_12 is 2; expected a whole number from 0 to 1"),
        ({"au_int_12": 2.5}, "whole number from 0 to 5, or uncodable"),
        ({"au_int_12": 6}, "from 0 to 5"),
        ({"expression": "hungry"}, "'hungry' is none of neutral, happiness"),
        ({"t_s": "soon"}, "'soon' is not a number of seconds"),
        ({"t_s": -1}, "a time from 0 on"),
        ({"video_id": ""}, "video_id is missing"),
        ({"caption": "two\nlines"}, "no text of 1 to 1000 characters on one line"),
        ({"dataset": "disfa"}, "annotates the data set 'disfa', this build makes 'reactionnet'"),
    ],
)
def test_a_slip_is_named_with_its_line(tmp_path, wrong, said):
    with pytest.raises(ManifestError, match="line 2") as error:
        read(written(tmp_path, ROW, ROW | {"t_s": 0.4} | wrong))
    assert said in str(error.value)
    assert "has 1 bad rows" in str(error.value)


def test_one_coder_codes_a_moment_once(tmp_path):
    with pytest.raises(ManifestError, match="line 3: line 1 is by the same coder on the same moment of v"):
        read(written(tmp_path, ROW, ROW | {"coder": "bob"}, ROW))


def test_a_file_for_another_build_is_refused_and_a_missing_column_named(tmp_path):
    with pytest.raises(ManifestError, match=r"not one of its 1 rows names a video of this manifest \(the first: 'v'\)"):
        read(written(tmp_path, ROW), videos=("other",))
    with pytest.raises(ManifestError, match="needs video_id, t_s"):
        read(written(tmp_path, {"video": "v", "t_s": 1}, name="codes.csv"))


def test_a_time_means_the_frame_within_half_a_frame():
    assert nearest(0.2, TIMES, FPS) == 5
    assert nearest(0.2 + 0.49 / FPS, TIMES, FPS) == 5
    assert nearest(0.2 + 0.51 / FPS, TIMES, FPS) == 6
    assert nearest(9.6 / FPS, TIMES, FPS) is None
    assert nearest(0.0, [], FPS) is None


def coded(*values, t_s=0.2, **fields):
    """Rows of coders a, b, ... on one moment."""
    return [
        Annotation(line=n, video_id="v", t_s=t_s, coder="abcdef"[n], values=value, **fields)
        for n, value in enumerate(values)
    ]


def test_labels_stand_at_their_frame_and_all_else_is_not_annotated():
    rows = on_clip(coded({"au_occ_12": 1}, t_s=0.21), TIMES, FPS, "ann", "ab")
    label = labels_of(rows, TIMES)["au_occ_12"]
    assert label.value == [None] * 5 + [1] + [None] * 4
    assert label.mask == ["not_annotated"] * 5 + ["valid"] + ["not_annotated"] * 4
    assert (label.space, label.rule, label.raw) == ("au_occ", None, None)
    assert labels_of(rows, TIMES[:5]) == {}  # another chunk of the clip


def test_coders_are_settled_by_a_named_rule_and_all_are_kept():
    rows = coded({"au_occ_12": 1, "au_int_12": 4}, {"au_occ_12": 1, "au_int_12": 1}, {"au_occ_12": 0, "au_int_12": 2})
    labels = labels_of(on_clip(rows, TIMES, FPS, None, ""), TIMES)
    assert (labels["au_occ_12"].value[5], labels["au_occ_12"].rule) == (1, "coders:majority")
    assert (labels["au_int_12"].value[5], labels["au_int_12"].rule) == (2, "coders:median")
    assert labels["au_int_12"].raw[5] == {"a": 4, "b": 1, "c": 2}


@pytest.mark.parametrize(
    ("name", "codes", "expected"),
    [
        ("au_occ_1", [1, 0], (None, "rule_gave_none")),
        ("au_occ_1", [1, None, None], (1, "valid")),
        ("au_occ_1", [None, None], (None, "uncodable")),
        ("au_int_1", [2, 3], (2.5, "valid")),
        ("expression", ["anger", "anger", "fear"], ("anger", "valid")),
        ("expression", ["anger", "sadness", "fear"], (None, "rule_gave_none")),
    ],
)
def test_what_coders_agree_on(name, codes, expected):
    assert agreed(name, codes) == expected


def test_rows_for_another_file_or_face_are_not_joined():
    rows = coded({"au_occ_1": 1}, sha256="ab") + coded({"au_occ_2": 1}, subject_id="bob")
    assert [row.values for row in on_clip(rows, TIMES, FPS, "bob", "cd")] == [{"au_occ_2": 1}]
    assert [row.values for row in on_clip(rows, TIMES, FPS, "ann", "ab")] == [{"au_occ_1": 1}]


def test_a_row_that_matches_nothing_is_named_with_its_reason():
    rows = [
        Annotation(line=1, video_id="v", t_s=0.2),
        Annotation(line=2, video_id="v", t_s=5.0),
        Annotation(line=3, video_id="w", t_s=0.0),
        Annotation(line=4, video_id="x", t_s=0.0),
        Annotation(line=5, video_id="v", t_s=0.2, sha256="cd" * 32),
        Annotation(line=6, video_id="v", t_s=0.2, subject_id="bob"),
    ]
    frames = {"v": [(t_s, "ann") for t_s in TIMES]}
    lost = unmatched(rows, frames, {"v": FPS}, {"v": "ab" * 32}, {"w": "the video was not admitted: TAKEN_DOWN"})
    assert {row.line: row.reason for row in lost} == {
        2: "no frame within half a frame of 5 s was written",
        3: "the video was not admitted: TAKEN_DOWN",
        4: "the manifest has no such video",
        5: "made for a file with sha256 cdcdcdcdcdcd..., this one has abababababab...",
        6: "no frame of bob within half a frame of 0.2 s was written",
    }


def test_a_persons_caption_is_a_caption_of_its_own_kind():
    rows = [
        Annotation(line=n, video_id="v", t_s=t, caption=text) for n, t, text in ((1, 0.4, "late"), (2, 0.1, "early"))
    ]
    assert [(row["text"], row["decoding"], row["model"]) for row in human_captions([*rows, *coded({})])] == [
        ("early", "human", None),
        ("late", "human", None),
    ]


def test_rows_come_back_from_file_by_video(tmp_path):
    rows = [*coded({"au_occ_1": 1, "expression": "fear"}), Annotation(line=9, video_id="w", t_s=1.5, caption="x")]
    write_annotations(tmp_path, rows)
    assert annotations_of(tmp_path, "v") == rows[:1]
    assert annotations_of(tmp_path, "w") == rows[1:]
    assert annotations_of(tmp_path, "nobody") == []


def moments(name, *codes):
    """One row a coder and moment; `codes` are lists, one a coder."""
    return [
        Annotation(line=1, video_id="v", t_s=float(t), coder=coder, values={name: value})
        for coder, values in zip("abcd", codes, strict=False)
        for t, value in enumerate(values)
    ]


def test_agreement_on_occurrence_is_that_of_a_hand_count():
    # 4 both, 2 and 1 one of them, 3 neither: observed 0.7, by chance 0.5; F1 = 8 / (8 + 3)
    (found,) = agreement(moments("au_occ_12", [1] * 4 + [1, 1, 0] + [0] * 3, [1] * 4 + [0, 0, 1] + [0] * 3))
    assert (found.label, found.coders, found.moments) == ("au_occ_12", 2, 10)
    assert found.kappa == pytest.approx((0.7 - 0.5) / (1 - 0.5))
    assert found.f1 == pytest.approx(8 / 11, abs=1e-4)
    assert found.icc is None


def test_agreement_on_intensity_is_that_of_shrout_and_fleiss_1979():
    """Their Table 2, six targets and four judges; Table 4 gives ICC(3,1) = 0.71."""
    judges = [[9, 6, 8, 7, 10, 6], [2, 1, 4, 1, 5, 2], [5, 3, 6, 2, 6, 4], [8, 2, 8, 6, 9, 7]]
    (found,) = agreement(moments("au_int_6", *judges))
    assert (found.coders, found.moments) == (4, 6)
    assert found.icc == pytest.approx(0.71, abs=0.005)


def test_a_figure_that_is_not_defined_is_none_and_one_coder_has_none():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing of it is for the user's screen
        (never,) = agreement(moments("au_occ_1", [0] * 9, [0] * 9))
    assert (never.kappa, never.f1) == (None, None)
    (still,) = agreement(moments("au_int_1", [2] * 9, [2] * 9))
    assert still.icc is None
    (few,) = agreement(moments("au_occ_1", [0, 1, 1], [0, 1, 1]))
    assert (few.moments, few.kappa) == (3, None)
    assert agreement(moments("au_occ_1", [0, 1, 1])) == []


def test_the_report_names_lost_rows_and_escapes_them():
    lost = [{"line": 7, "video_id": "<b>", "t_s": 1.5, "reason": "gone"}]
    figures = [{"label": "au_occ_1", "coders": 2, "moments": 9, "kappa": 0.5, "f1": None, "icc": None}]
    page = annotation_section({"rows": 9, "coders": 2, "unmatched": lost, "agreement": figures})
    assert "<td class=n>7</td><td>&lt;b&gt;</td><td class=n>1.5</td><td>gone</td>" in page
    assert "<td class=n>0.500</td><td class=n></td>" in page
    assert annotation_section(None) == ""
