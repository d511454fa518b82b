import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reactionnet_pipeline.accuracy import (
    Built,
    FaceRow,
    compare_faces,
    compare_panes,
    fitting,
    measure,
    read_built,
    summary,
)
from reactionnet_pipeline.errors import Code
from reactionnet_pipeline.records import Box, Pane


def true_pane(role, box, times=(0, 10)):
    return {"role": role, **dict(zip("xywh", box, strict=True)), "start": times[0], "end": times[1]}


def pane(role, box, times=(0.0, 10.0)):
    place = dict(zip("xywh", box, strict=True))
    return Pane(role=role, **place, start_s=times[0], end_s=times[1], confidence=1.0)


def true_face(subject_id, x, role="reactor", visible=1.0):
    return {"subject_id": subject_id, "role": role, "box": [x, 100, 50, 50], "visible_fraction": visible}


def row(x, t_s, subject_id="s1", clip_id="c1"):
    return FaceRow(subject_id=subject_id, clip_id=clip_id, t_s=t_s, box=Box(x=x, y=100, w=50, h=50))


def truth(panes=(), samples=(), **changed):
    halves = [true_pane("stimulus", (0, 0, 320, 360)), true_pane("face", (320, 0, 320, 360))]
    facts = {"video_id": "v", "layout_class": "side_by_side", "expected": "ok", "fps": 25, "major_subject_id": "ann"}
    boxes = [{"t": 0.2 * n, "faces": faces} for n, faces in enumerate(samples)]
    return {**facts, "panes": list(panes) or halves, "face_boxes": boxes, **changed}


def test_panes_are_matched_one_to_one_whatever_their_order():
    found = [pane("reaction", (320, 0, 320, 360)), pane("stimulus", (0, 0, 160, 360))]
    panes = compare_panes(truth(), found)
    assert sorted(panes.ious) == [0.5, 1.0]
    assert (panes.roles_right, panes.missing, panes.spare) == (2, 0, 0)


def test_a_swapped_role_is_wrong_though_the_rectangles_are_right():
    panes = compare_panes(truth(), [pane("stimulus", (320, 0, 320, 360)), pane("reaction", (0, 0, 320, 360))])
    assert panes.ious == (1.0, 1.0)
    assert panes.roles_right == 0


def test_missing_and_spare_panes_are_counted():
    panes = compare_panes(truth(), [pane("stimulus", (0, 0, 320, 360)), pane("reaction", (330, 0, 20, 20))])
    assert (panes.missing, panes.spare) == (1, 1)
    assert sorted(panes.ious) == [0.0, 1.0]


@pytest.mark.parametrize(("change_s", "error_s", "spare"), [(4.2, 0.2, 0), (4.5, 0.5, 1)])
def test_a_layout_change_has_a_time_error(change_s, error_s, spare):
    intro, split = true_pane("face", (0, 0, 640, 360), (0, 4)), true_pane("stimulus", (0, 0, 640, 360), (4, 10))
    found = [pane("reaction", (0, 0, 640, 360), (0, change_s)), pane("stimulus", (0, 0, 640, 360), (change_s, 10))]
    panes = compare_panes(truth([intro, split]), found)
    assert panes.change_errors_s == (pytest.approx(error_s),)
    assert panes.spare_changes == spare
    assert panes.ious == (1.0, 1.0)


def test_a_change_that_nobody_found_is_infinitely_late():
    two = [true_pane("face", (0, 0, 640, 360), (0, 4)), true_pane("stimulus", (0, 0, 640, 360), (4, 10))]
    assert compare_panes(truth(two), [pane("stimulus", (0, 0, 640, 360))]).change_errors_s == (math.inf,)


def test_coverage_counts_samples_with_a_good_row_beside_them():
    samples = [[true_face("ann", 400)]] * 4
    rows = [row(400, 0.0), row(400, 0.219), row(400, 0.43), row(470, 0.6)]  # in time, in time, too late, elsewhere
    faces = compare_faces(truth(samples=samples), rows)
    assert (faces.required, faces.covered, faces.rows, faces.rows_on_nobody) == (4, 2, 3, 1)


@pytest.mark.parametrize(("shift", "covered"), [(16, 1), (17, 0)])  # IoU 34/66 and 33/67
def test_a_face_is_covered_from_half_overlap_on(shift, covered):
    assert compare_faces(truth(samples=[[true_face("ann", 400)]]), [row(400 + shift, 0.0)]).covered == covered


def test_hidden_faces_are_not_asked_for():
    samples = [[true_face("ann", 400)], [true_face("ann", 400, visible=0.49)]]
    assert compare_faces(truth(samples=samples), []).required == 1


def test_a_row_on_a_face_of_the_stimulus_is_on_nobody():
    sample = [true_face("ann", 400), true_face("actor", 430, role="stimulus")]
    assert compare_faces(truth(samples=[sample]), [row(428, 0.0)]).rows_on_nobody == 1
    assert compare_faces(truth(samples=[sample]), [row(402, 0.0)]).rows_on_nobody == 0


def test_one_of_two_reactors_is_enough_but_not_half_of_each():
    both = [[true_face("ann", 100), true_face("bob", 400)]] * 4
    steady = compare_faces(truth(samples=both), [row(400, 0.2 * n) for n in range(4)])
    assert (steady.required, steady.covered, steady.switches) == (4, 4, 0)
    jumping = compare_faces(truth(samples=both), [row((100, 400, 400, 400)[n], 0.2 * n) for n in range(4)])
    assert (jumping.required, jumping.covered, jumping.switches) == (4, 3, 2)  # the subject and the clip


def test_a_person_has_one_id_in_all_videos():
    ann, bob = ([[true_face(name, 400)]] for name in ("ann", "bob"))
    records = [truth(samples=ann, video_id="v"), truth(samples=bob, video_id="w"), truth(samples=ann, video_id="x")]
    rows = {"v": [row(400, 0.0, "s1")], "w": [row(400, 0.0, "s1")], "x": [row(400, 0.0, "s2")]}
    totals = {total.name: total.value for total in summary(measure(records, Built(panes={}, faces=rows, refusals={})))}
    assert (totals["ids of several persons"], totals["persons of several ids"], totals["subject switches"]) == (1, 1, 0)


def test_times_without_a_stimulus_are_counted_apart():
    panes = [true_pane("face", (0, 0, 640, 360), (0, 0.3)), true_pane("stimulus", (0, 0, 640, 360), (0.3, 1))]
    faces = compare_faces(truth(panes, [[true_face("ann", 400)]] * 4), [row(400, 0.0), row(400, 0.4)])
    assert (faces.required, faces.covered) == (4, 2)
    assert (faces.required_with_stimulus, faces.covered_with_stimulus) == (2, 1)


@pytest.mark.parametrize(
    ("reason", "codes", "right"),
    [
        ("no_stimulus", [Code.NO_LAYOUT], True),
        ("no_stimulus", [Code.NO_FACE], False),
        ("corrupt_or_truncated", [Code.DAMAGED], True),
        ("empty_file", [], False),
        ("too_short", [Code.TOO_SHORT], True),
    ],
)
def test_a_refusal_must_say_why(reason, codes, right):
    record = truth(expected="reject", expected_failure_reason=reason)
    (video,) = measure([record], Built(panes={}, faces={}, refusals={"v": codes}))
    assert video.right is right


def test_an_unknown_reason_is_an_error():
    with pytest.raises(ValueError, match="moonlight"):
        fitting("moonlight")


def test_reads_what_was_built(tmp_path):
    (tmp_path / "dataset.json").write_text("{}")
    lost = {"video_id": "w", "code": "NO_FACE", "kept": False}
    damaged = {"video_id": "v", "code": "DAMAGED", "kept": True}
    (tmp_path / "dead_letters.jsonl").write_text(json.dumps(lost) + "\n" + json.dumps(damaged) + "\n")
    halves = [pane("stimulus", (0, 0, 320, 360)), pane("reaction", (320, 0, 320, 360))]
    write(tmp_path, "layouts", [{"video_id": "v", "origin": "detected", **vars(each)} for each in halves])
    box = {"face_x": 400.0, "face_y": 100.0, "face_w": 50.0, "face_h": 50.0}
    write(tmp_path, "frames", [{"video_id": "v", "subject_id": "s1", "clip_id": "c1", "t_s": 0.0, **box}])
    records = [
        truth(samples=[[true_face("ann", 400)]]),
        truth(video_id="w", expected="reject", expected_failure_reason="no_face"),
    ]
    videos = measure(records, read_built(tmp_path))
    assert [video.outcome for video in videos] == ["built", "NO_FACE"]
    assert all(total.met for total in summary(videos))


def write(root, name, rows):
    folder = root / "tables" / f"{name}.parquet"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "part-0.parquet")
