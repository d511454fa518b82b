"""Agrees with the layout as documented (reference A14; basic confirmed by code, compound recalled); not run on the release."""

import io
import shutil

import numpy as np
import pytest

from checks import assert_golden, check_importer, chunks_of, frame_rows, run_import
from fake.printed import picture
from fake.rafdb import BASIC, write_rafdb
from reactionnet_datasets.about import load_importer
from reactionnet_datasets.doctor import examine, published_frames
from reactionnet_datasets.release import MissingMediaError, ReleaseError


@pytest.fixture
def release(tmp_path):
    return write_rafdb(tmp_path / "release")


def row(name, expression=None, compound=None, gender="male", ethnicity="caucasian", age="4_19"):
    return {
        "video_id": name, "subject_id": None, "frame": 0, "split_all": name.split("/")[1].split("_")[0],
        "expression": expression, "compound": compound, "gender": gender, "ethnicity": ethnicity, "age_group": age,
        "expression_mask": "valid" if expression else "not_annotated",
    }  # fmt: skip


GOLDEN = [
    row("basic/test_0001", "happiness", None, "unsure", "african_american", "0_3"),
    row("basic/test_0002", "disgust"),
    row("basic/test_0003", "anger"),
    row("basic/train_00001", "sadness", None, "female", "caucasian", "20_39"),
    row("basic/train_00002", "surprise", None, "male", "asian", "70_up"),
    row("basic/train_00003", "fear"),
    row("basic/train_00010", "neutral"),
    row("compound/test_0001", None, "fearfully_surprised", "unsure", "african_american", "0_3"),
    row("compound/train_0001", None, "happily_surprised"),
    row("compound/train_0002", None, "disgustedly_surprised"),
]


BASIC_ROWS = [{name: value for name, value in row.items() if name != "compound"} for row in GOLDEN[:7]]


def aligned(row):
    return row["video_id"].replace("/", " ") + " aligned"


def test_conforms(release, tmp_path):
    out = check_importer("rafdb", release, tmp_path, GOLDEN, aligned)
    chunk, arrays = next((c, a) for c, a in chunks_of(out) if c.video_id == "basic/train_00002")
    assert chunk.labels["expression"].raw == "1"
    assert chunk.provenance["bounding_box"] == [1, 2, 60.5, 1]
    assert chunk.face_boxes is None
    assert np.load(io.BytesIO(arrays["original_landmarks5.npy"]))[0, 4].tolist() == [50.5, 51.25]
    assert np.load(io.BytesIO(arrays["original_landmarks37.npy"]))[0, 36].tolist() == [36, 1]


def test_originals_and_one_subset_may_be_asked_for(release, tmp_path):
    out = check_importer(
        "rafdb", release, tmp_path, BASIC_ROWS, lambda row: row["video_id"].replace("/", " "),
        pictures="original", subset="basic",
    )  # fmt: skip
    assert "landmarks37.npy" in chunks_of(out)[0][1]


def test_originals_alone_without_attributes_are_a_release_too(release, tmp_path):
    shutil.rmtree(release / "compound")
    shutil.rmtree(release / "basic/Annotation")
    shutil.rmtree(release / "basic/Image/aligned")
    with pytest.raises(ReleaseError, match=r"basic/Image/aligned\.zip is not unpacked"):
        run_import("rafdb", release, tmp_path / "out")
    (release / "basic/Image/aligned.zip").unlink()
    planned = run_import("rafdb", release, tmp_path / "out")
    labels = ("video_id", "expression", "split_all")
    assert_golden(frame_rows(tmp_path / "out"), [{n: row[n] for n in labels} for row in GOLDEN[:7]])
    assert planned.facts["notes"]["folders of annotations that lack"]["count"] == 3


def test_permuted_classes_and_swapped_pictures_are_seen(release, tmp_path):
    path = release / "basic/EmoLabel/list_patition_label.txt"
    path.write_text(BASIC.replace("00001.jpg 5", "00001.jpg 4"))
    run_import("rafdb", release, tmp_path / "out")
    with pytest.raises(AssertionError):
        assert_golden(frame_rows(tmp_path / "out"), GOLDEN)
    path.write_text(BASIC)
    (release / "basic/Image/aligned/test_0001_aligned.jpg").write_bytes(picture("basic test_0002 aligned"))
    with pytest.raises(AssertionError, match="does not show basic test_0001 aligned"):
        check_importer("rafdb", release, tmp_path / "other", GOLDEN, aligned)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train_00001.jpg\ttrain\t5\n", "line 1: .* third party's list"),
        ("train_00001.jpg 8\n", "line 1: class 8; expected 1 to 7"),
        ("train_00001.jpg 0\n", "class 0; expected 1 to 7"),
        (BASIC + "train_00001.jpg 4\n", "line 8: train_00001.jpg is listed before with another class"),
        ("val_00001.jpg 4\n", "expected a picture and its class"),
        ("train_00001.jpg\n", "expected a picture and its class"),
    ],
)
def test_lists_that_are_not_the_release_s_are_refused(release, tmp_path, text, message):
    (release / "basic/EmoLabel/list_patition_label.txt").write_text(text)
    with pytest.raises(ReleaseError, match=message):
        run_import("rafdb", release, tmp_path / "out")


def test_what_lacks_on_either_side_is_missing(release, tmp_path):
    (release / "basic/Image/aligned/train_00001_aligned.jpg").unlink()
    (release / "basic/Annotation/auto/test_0001_auto_attri.txt").unlink()
    (release / "basic/Image/aligned/train_09999_aligned.jpg").write_bytes(picture("nobody"))
    with pytest.raises(MissingMediaError, match=r"(?s)3 files.*auto/test_0001_auto.*train_00001_aligned.*train_09999"):
        run_import("rafdb", release, tmp_path / "out")
    run_import("rafdb", release, tmp_path / "out", allow_missing=True)
    assert_golden(frame_rows(tmp_path / "out"), [row for row in GOLDEN if row["video_id"] != "basic/train_00001"])


def test_wrong_attributes_are_refused(release, tmp_path):
    path = release / "basic/Annotation/manual/test_0001_manu_attri.txt"
    path.write_text(path.read_text().replace("\n2\n", "\n3\n"))
    with pytest.raises(ReleaseError, match="line 6: gender 3; expected 0 to 2"):
        run_import("rafdb", release, tmp_path / "out")


@pytest.mark.parametrize("place", ["..", "basic"])
def test_a_wrong_root_is_named_with_the_right_one(release, tmp_path, place):
    with pytest.raises(ReleaseError, match=r"expected rafdb: basic/EmoLabel.*is that the ROOT you mean"):
        run_import("rafdb", release / place, tmp_path / "out")


def test_the_doctor_counts_what_was_imported(release, tmp_path):
    run_import("rafdb", release, tmp_path / "out", subset="basic")
    findings = examine(published_frames(tmp_path / "out"), load_importer("rafdb"))
    assert [(finding.what, finding.verdict) for finding in findings] == [
        ("basic, train", "DIFFERS by -12,267"), ("basic, test", "DIFFERS by -3,065"),
    ]  # fmt: skip
