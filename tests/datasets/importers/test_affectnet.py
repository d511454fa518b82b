"""Agrees with the layouts as documented (reference A6, confirmed by code); not run on the real releases."""

import io
import shutil

import numpy as np
import pytest

from checks import assert_golden, check_importer, chunks_of, frame_rows, run_import
from fake.affectnet import write_cage_lists, write_later, write_original
from fake.printed import picture, write
from reactionnet_datasets.about import load_importer
from reactionnet_datasets.doctor import published_frames
from reactionnet_datasets.release import MissingMediaError, ReleaseError


def row(video, split, expression, valence, arousal, **others):
    mask = "valid" if expression else "invalid_code"
    return {
        "video_id": video, "subject_id": None, "frame": 0, "split_all": split, "expression": expression,
        "expression_mask": mask, "valence": valence, "valence_mask": mask, "arousal": arousal, **others,
    }  # fmt: skip


ORIGINAL = [
    row("12/aaaa0001", "train", "happiness", 0.78571, -0.05556, face_x=134, face_y=130, face_w=899, face_h=890),
    row("12/aaaa0002", "train", "neutral", -0.01725, 0.00431),
    row("13/aaaa0003", "train", None, None, None),
    row("13/aaaa0004", "train", "contempt", -0.5, 0.25),
    row("13/aaaa0005", "train", None, None, None),
    row("13/aaaa0006", "train", "sadness", -0.75, -0.5, face_x=1),
    row("13/aaaa0006.jpg", "train", "disgust", -0.25, 0.5, face_x=None),
    row("7/bbbb0001", "val", "fear", -0.25, 0.75),
    row("7/bbbb0002", "val", None, None, None, member="7_2fbbbb0002-0-000000.000.reaction.png"),
]
LATER = [
    row("train/0", "train", "neutral", -0.17685, -0.07764),
    row("train/17", "train", "contempt", -0.63, 0.43),
    row("train/2", "train", "anger", -0.4, 0.6),
    row("val/1", "val", "surprise", 0.1, 0.9),
    row("val/5495", "val", "contempt", -0.2, 0.3),
]


@pytest.fixture
def original(tmp_path):
    return write_original(tmp_path / "original")


@pytest.fixture
def later(tmp_path):
    return write_later(tmp_path / "later")


def printed_original(row):
    name = row["source_path"].removeprefix("Manually_Annotated_Images/")
    return name.replace("aaaa0004.jpg", "aaaa0004.tif")


def test_the_original_release_conforms(original, tmp_path):
    out = check_importer("affectnet", original, tmp_path, ORIGINAL, printed_original)
    of_code = {c.video_id: c.labels["expression"].raw for c, _ in chunks_of(out)}
    assert (of_code["13/aaaa0003"], of_code["13/aaaa0005"], of_code["12/aaaa0001"]) == ("8", "10", None)
    landmarks = np.load(io.BytesIO(chunks_of(out)[0][1]["landmarks.npy"]))
    assert landmarks.shape == (1, 68, 2)
    assert landmarks[0, 1].tolist() == [2.5, 3.5]


def test_the_later_release_conforms(later, tmp_path):
    out = check_importer("affectnet", later, tmp_path, LATER, lambda row: row["video_id"].replace("/", " "))
    landmarks = {c.video_id: np.load(io.BytesIO(arrays["landmarks.npy"])) for c, arrays in chunks_of(out)}
    assert landmarks["train/17"][0, 0].tolist() == [17, 18]
    (later / "train_set/annotations/17_lnd.npy").unlink()
    notes = run_import("affectnet", later, tmp_path / "fewer").facts["notes"]
    assert notes["pictures without landmarks"]["count"] == 1


def test_cage_lists_say_the_same_as_the_arrays(later, tmp_path):
    write_cage_lists(later)
    for split in ("train", "val"):
        shutil.rmtree(later / f"{split}_set/annotations")
    check_importer("affectnet", later, tmp_path, LATER, lambda row: row["video_id"].replace("/", " "))


def test_seven_classes_leave_contempt_out(later, tmp_path):
    planned = run_import("affectnet", later, tmp_path / "out", classes="7")
    assert_golden(frame_rows(tmp_path / "out"), [row for row in LATER if row["expression"] != "contempt"])
    assert planned.facts["notes"]["pictures of contempt left out (--classes 7)"]["count"] == 2


def test_permuted_classes_are_seen(later, tmp_path):
    np.save(later / "train_set/annotations/2_exp.npy", np.array("5"))
    run_import("affectnet", later, tmp_path / "out")
    with pytest.raises(AssertionError):
        assert_golden(frame_rows(tmp_path / "out"), LATER)


def test_a_swapped_picture_is_seen(later, tmp_path):
    (later / "train_set/images/2.jpg").write_bytes(picture("train 3"))
    with pytest.raises(AssertionError, match="does not show train 2"):
        check_importer("affectnet", later, tmp_path, LATER, lambda row: row["video_id"].replace("/", " "))


@pytest.mark.parametrize("damage", ["gone", "empty", "cut off", "no picture"])
def test_a_missing_or_damaged_picture_is_an_error_or_a_recorded_skip(later, tmp_path, damage):
    path = later / "train_set/images/2.jpg"
    data = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes({"empty": b"", "cut off": data[: len(data) * 2 // 3], "no picture": b"<html>"}[damage])
    with pytest.raises(MissingMediaError, match=r"(?s)1 files.*2\.jpg"):
        run_import("affectnet", later, tmp_path / "out")
    assert not (tmp_path / "out/dataset.json").exists()
    run_import("affectnet", later, tmp_path / "out", allow_missing=True)
    assert_golden(frame_rows(tmp_path / "out"), [row for row in LATER if row["video_id"] != "train/2"])
    assert "2.jpg" in (tmp_path / "out/import_report.json").read_text()


def test_a_pickle_is_refused_by_name(later, tmp_path):
    np.save(later / "val_set/annotations/1_exp.npy", np.array({"a": 1}, dtype=object), allow_pickle=True)
    with pytest.raises(ReleaseError, match=r"val_set/annotations/1_exp.npy holds a pickle"):
        run_import("affectnet", later, tmp_path / "out")


def test_other_labels_for_a_listed_picture_are_refused(original, tmp_path):
    path = original / "Manually_Annotated_file_lists/validation.csv"
    path.write_text(path.read_text() + path.read_text().replace(",4,-0.25", ",5,-0.25"))
    with pytest.raises(ReleaseError, match=r"line 3: 7/bbbb0001.jpg is listed before with other labels"):
        run_import("affectnet", original, tmp_path / "out")


def test_pictures_that_a_list_which_is_cut_off_does_not_name_are_counted(original, tmp_path):
    path = original / "Manually_Annotated_file_lists/validation.csv"
    path.write_text(path.read_text().splitlines()[0])
    notes = run_import("affectnet", original, tmp_path / "out").facts["notes"]
    assert notes["pictures that no list names"]["examples"] == ["Manually_Annotated_Images/7/bbbb0002.JPG"]


def test_a_path_out_of_the_release_is_refused(original, tmp_path):
    path = original / "Manually_Annotated_file_lists/validation.csv"
    path.write_text(path.read_text().replace("7/bbbb0001.jpg", "../../../secret.jpg"))
    with pytest.raises(ReleaseError, match="leads out of the release"):
        run_import("affectnet", original, tmp_path / "out")


def test_two_pictures_of_one_number_are_refused(later, tmp_path):
    (later / "val_set/images/1.png").write_bytes(picture("val 1", "PNG"))
    with pytest.raises(ReleaseError, match=r"val_set/images/1\.png and 1\.jpg: which one is meant"):
        run_import("affectnet", later, tmp_path / "out")


def test_headers_may_be_spelled_otherwise(original, tmp_path):
    path = original / "Manually_Annotated_file_lists/training.csv"
    text = path.read_text(encoding="utf-8-sig")
    path.write_text(text.replace("subDirectory_filePath", "subdirectory_filepath").replace("expression", "Expression"))
    run_import("affectnet", original, tmp_path / "out")
    assert_golden(frame_rows(tmp_path / "out"), ORIGINAL)


def test_the_doctor_tells_the_releases_apart(later, original, tmp_path):
    module = load_importer("affectnet")
    for release, what in ((later, "later release, val"), (original, "original, val")):
        run_import("affectnet", release, tmp_path / what)
        findings = {finding.what: finding for finding in module.doctor(published_frames(tmp_path / what))}
        assert findings[what].verdict.startswith("DIFFERS by -")
    assert findings["original, train"].verdict == "UNKNOWN"
    run_import("affectnet", later, tmp_path / "seven", classes="7")
    found = module.doctor(published_frames(tmp_path / "seven"))
    assert [(one.expected, one.verdict) for one in found][1] == ("3,500", "DIFFERS by -3,499")
    assert (findings["original, val, fear"].found, findings["original, val, fear"].verdict) == ("1", "DIFFERS by -499")


def test_another_partition_is_refused_by_its_header(tmp_path):
    write(tmp_path / "fair/train.csv", "name,expression,age,gender,race\n0.jpg,5,2,0,1\n")
    with pytest.raises(ReleaseError, match=r"train.csv is a list of another partition .*unconfirmed and not read"):
        run_import("affectnet", tmp_path / "fair", tmp_path / "out")
