"""Demographics by DeepFace's real clients on tiny nets, and what the report makes of them."""

import io
import json

import apache_beam as beam
import numpy as np
import onnx
import onnx.numpy_helper
import pyarrow as pa
import pytest
import simplejpeg
from apache_beam.ml.inference.base import RunInference
from apache_beam.testing.util import assert_that

from reactionnet_datasets.sample import canonical_json
from reactionnet_datasets.shards import Record
from reactionnet_datasets.tables import make_table, schema_of
from reactionnet_pipeline.demographic_report import demographic_facts, demographic_section, subject_counts, withheld
from reactionnet_pipeline.demographics import (
    CLASSES,
    UNKNOWN,
    AttributeNets,
    Config,
    EstimateDemographics,
    best_crops,
    by_subject,
    columns,
    worth,
)
from reactionnet_pipeline.inference import OneByOne
from reactionnet_pipeline.model_options import DEEPFACE_FOLDER, Weights
from reactionnet_pipeline.parts import stage_part


@pytest.fixture(scope="module")
def nets(deepface_home):
    return AttributeNets(deepface_home / DEEPFACE_FOLDER, "onnx")


def faces(count):
    colours = np.random.default_rng(0).integers(0, 255, (count, 1, 1, 3), np.uint8)
    return list(np.tile(colours, (1, 60, 60, 1)))


def test_a_batch_says_what_its_faces_say_one_by_one(nets):
    together = nets.predict(faces(5))
    assert together["age"].shape == (5,)
    for what, classes in CLASSES.items():
        assert together[what].shape == (5, len(classes))
        assert together[what].sum(axis=1) == pytest.approx(1, abs=0.01)
    for number, face in enumerate(faces(5)):
        alone = nets.predict([face])
        # float32 sums in another order: hundredths of a year, thousandths of a share
        assert alone["age"][0] == pytest.approx(together["age"][number], abs=0.1)
        assert all(alone[what][0] == pytest.approx(together[what][number], abs=0.003) for what in CLASSES)


def test_a_colour_reaches_the_nets_blue_first_and_from_0_to_1(nets, deepface_home):
    """By hand: the tiny net is the softmax of a linear map of the mean colour."""
    graph = onnx.load(deepface_home / DEEPFACE_FOLDER / "race_model_single_batch.onnx").graph
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    crop = np.zeros((60, 60, 3), np.uint8)
    crop[:] = (255, 51, 0)  # blue, green, red
    logits = np.array([1, 0.2, 0]) / constants["scale"] @ constants["W"] + constants["b"]
    expected = np.exp(logits) / np.exp(logits).sum()
    assert nets.predict([crop])["ethnicity"][0] == pytest.approx(expected, abs=0.001)


def answers(ages=(31, 33, 29), **shares):
    found = {"age": np.array(ages, float)}
    for what, classes in CLASSES.items():
        row = np.array(shares.get(what, [1 / len(classes)] * len(classes)))
        found[what] = np.tile(row, (len(ages), 1))
    return found


def test_sure_answers_are_given_and_unsure_ones_unknown():
    row = columns(answers(gender=(0.9, 0.1), ethnicity=(0, 0.6, 0.4, 0, 0, 0)), Config())
    assert (row["age"], row["age_group"], row["age_confidence"]) == (31.0, "30-39", 1.0)
    assert row["age_distribution"] == {"20-29": 0.333, "30-39": 0.667}
    assert (row["gender"], row["gender_confidence"]) == ("woman", 0.9)
    assert row["ethnicity"] == "indian"
    assert row["ethnicity_distribution"]["black"] == 0.4
    assert row["emotion"] == UNKNOWN
    unsure = columns(answers(ages=(20, 40, 60), gender=(0.7, 0.3)), Config())
    assert (unsure["age"], unsure["age_group"], unsure["gender"]) == (None, UNKNOWN, UNKNOWN)
    assert columns(answers(ages=(31, 31), gender=(0.9, 0.1)), Config())["gender"] == UNKNOWN  # too few crops


def test_a_frontal_large_detected_face_is_worth_most():
    best = worth("detected", (0, 0, 0), 120)
    assert best == 1
    assert worth("detected", (30, 0, 0), 120) < worth("tracked", (5, 0, 0), 120) < best
    assert worth("detected", (0, 0, 0), 48) == 0.5


def staged_clip(work, clip_id, subject, greys, yaws, box=(10, 10, 40, 40)):
    """A clip whose pictures are of one blue each, so that a crop tells where it came from."""
    count = len(greys)
    pose = io.BytesIO()
    np.save(pose, np.array([[yaw, 0, 0] for yaw in yaws], np.float32))
    members = [("pose.npy", pose.getvalue())]
    for number, grey in enumerate(greys):
        picture = np.zeros((64, 64, 3), np.uint8)
        picture[..., 2] = grey  # RGB
        members.append((f"{number:03d}.reaction.jpg", simplejpeg.encode_jpeg(picture, quality=95)))
    part = stage_part(work, f"clips/{clip_id}", clip_id, "train", [Record(key=clip_id, members=tuple(members))])
    chunk = {
        "face_boxes": [list(box)] * count,
        "face_sources": ["detected"] * count,
        "crop": [[1, 0, 0, 0, 1, 0]] * count,
    }
    facts = {"clip": {"video_id": "v1", "subject_id": subject}, "chunks": {clip_id: chunk}}
    (work / "clips" / f"{clip_id}.facts.json").write_bytes(canonical_json(facts))
    return part


@pytest.fixture
def work(tmp_path):
    (tmp_path / "clips").mkdir()
    return tmp_path


def test_the_best_crop_of_each_stretch_is_taken_and_cut_to_the_face(work):
    first = staged_clip(work, "a-0-000000", "ann", [20, 40, 60], [40, 0, 40])
    second = staged_clip(work, "b-0-000000", "ann", [160, 190, 220], [0, 30, 60])
    crops = best_crops([second, first], 2)
    assert [float(crop[..., 0].mean()) for crop in crops] == pytest.approx([40, 160], abs=4)  # BGR
    assert crops[0].shape == (40, 40, 3)
    assert len(best_crops([first], 16)) == 3


def test_a_face_that_reaches_out_of_its_picture_is_cut_at_the_edge(work):
    part = staged_clip(work, "a-0-000000", "ann", [10], [0], box=(-30, 40, 60, 90))
    assert best_crops([part], 1)[0].shape == (24, 30, 3)


def test_subjects_are_estimated_once_over_all_their_clips(deepface_home, work):
    weights = Weights(name="tiny", path=str(deepface_home / DEEPFACE_FOLDER), digest="ab" * 32, engine="onnx")
    stage = EstimateDemographics(weights=weights, config=Config(), work=str(work))
    parts = [
        staged_clip(work, "a-0-000000", "ann", [10, 20], [0, 0]),
        staged_clip(work, "b-0-000000", "ann", [30, 40], [0, 0]),
        staged_clip(work, "c-0-000000", "bob", [50, 60], [0, 0]),
    ]

    def check(found):
        rows = {one.subject_id: json.loads((work / one.file).read_bytes()) for one in found}
        assert {name: row["crops"] for name, row in rows.items()} == {"ann": 4, "bob": 2}
        assert rows["bob"]["gender"] == UNKNOWN  # two crops are too few
        assert rows["ann"]["demographics_model"] == "tiny@abababababab"

    with beam.Pipeline() as pipeline:
        grouped = pipeline | beam.Create(parts) | beam.Map(by_subject) | beam.GroupByKey()
        assert_that(grouped | RunInference(OneByOne(stage)), check)

    def no_load():
        raise AssertionError("loaded")

    again = stage.run(("ann", [parts[1], parts[0], parts[1]]), no_load)  # any order, any bundle
    assert again.file is not None


def test_weights_that_are_missing_are_never_fetched(tmp_path):
    with pytest.raises(ValueError, match="lacks age_model_weights"):
        AttributeNets(tmp_path / DEEPFACE_FOLDER, "onnx")


def subjects(**counts):
    """Rows of the table, with so many subjects of each gender."""
    rows = [
        {
            "subject_id": f"{name}{n}",
            "crops": 9,
            "gender": name,
            "age_group": "20-29",
            "ethnicity": "white",
            "emotion": UNKNOWN,
        }
        for name, count in counts.items()
        for n in range(count)
    ]
    return make_table([*rows, {"subject_id": "unseen"}], schema_of("subjects")).to_pylist()


def test_the_reports_counts_are_those_of_the_table_with_small_cells_withheld():
    rows = subjects(woman=9, man=7, unknown=2)
    facts = demographic_facts(rows)
    counted = (
        pa.Table.from_pylist(rows)
        .filter(pa.compute.field("crops") > 0)
        .group_by("gender")
        .aggregate([([], "count_all")])
    )
    recomputed = {row["gender"]: row["count_all"] for row in counted.to_pylist()}
    assert subject_counts(rows)["gender"] == recomputed == {"woman": 9, "man": 7, "unknown": 2}
    # 2 alone would follow from 18 - 9 - 7
    assert facts["counts"]["gender"] == {"woman": 9, "man": None, "unknown": None}
    assert facts["counts"]["ethnicity"] == {"white": 18}
    assert (facts["subjects"], facts["estimated"]) == (19, 18)
    page = demographic_section(facts)
    assert "18 of 19 subjects" in page
    assert "<td>woman</td><td class=n>9</td>" in page
    assert "<td>man</td><td class=n>withheld</td>" in page
    assert "apparent age" in page


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ({"a": 9, "b": 8}, {"a": 9, "b": 8}),
        ({"a": 9, "b": 1, "c": 1}, {"a": None, "b": None, "c": None}),
        ({"a": 30, "b": 20, "c": 3, "d": 4}, {"a": 30, "b": 20, "c": None, "d": None}),
        ({"a": 3}, {"a": None}),
        ({"a": 9, "b": 0}, {"a": 9, "b": 0}),
    ],
)
def test_what_would_point_to_few_people_is_withheld(counts, shown):
    assert withheld(counts) == shown


def test_without_estimates_the_report_is_silent():
    assert demographic_facts(subjects()) is None
    assert demographic_section(None) == ""
