"""Agrees with the release's README as documented (reference A13); not run on the real release."""

import io
import shutil

import numpy as np
import pytest

from checks import assert_golden, check_importer, chunks_of, frame_rows, run_import
from fake.ck_plus import write_ck_plus
from fake.printed import picture
from reactionnet_datasets.about import load_importer
from reactionnet_datasets.doctor import examine, published_frames
from reactionnet_datasets.release import MissingMediaError, ReleaseError


@pytest.fixture
def release(tmp_path):
    return write_ck_plus(tmp_path / "release")


def row(video, frame, expression=None, au1=None, au4=None, au7=None, int1=None, int4=None, int7=None):
    return {
        "video_id": video, "subject_id": video[:4], "frame": frame, "expression": expression,
        "expression_mask": "valid" if expression else "not_annotated", "au_occ_1": au1, "au_occ_4": au4, "au_occ_7": au7,
        "au_int_1": int1, "au_int_4": int4, "au_int_7": int7,
    }  # fmt: skip


GOLDEN = [
    row("S005_001", 1), row("S005_001", 2), row("S005_001", 3), row("S005_001", 4),
    {**row("S005_001", 5, "disgust", 1, 1, 1, 2, None, 3), "au_occ_12": 0, "au_int_12": 0, "t_s": 0.13333,
     "au_int_4_mask": "not_annotated", "au_occ_4_mask": "valid"},
    row("S005_002", 1),
    {**row("S005_002", 2, None, 0, 0, 0, 0, 0, 0), "au_occ_12": 1, "au_int_12": 5},
    row("S138_004", 1), row("S138_004", 2),
    {**row("S138_004", 3, "surprise"), "au_occ_12": None, "au_occ_12_mask": "not_annotated"},
]  # fmt: skip


def printed(row):
    return f"{row['video_id']} {row['frame']}"


def test_conforms(release, tmp_path):
    out = check_importer("ck_plus", release, tmp_path, GOLDEN, printed)
    first, second, third = sorted(chunks_of(out), key=lambda found: found[0].video_id)
    assert first[0].labels["expression"].raw == [None] * 4 + ["3"]
    assert first[0].labels["au_int_4"].raw == [None] * 4 + ["0"]
    assert np.load(io.BytesIO(first[1]["landmarks.npy"]))[4, 67].tolist() == [72, 2.5]
    assert "landmarks.npy" not in third[1]
    assert first[0].folds == second[0].folds == {"ckplus-10fold-ours-v1": 10}


def test_last_three_frames_and_neutral_are_a_named_rule(release, tmp_path):
    run_import("ck_plus", release, tmp_path / "out", expression="last3")
    found = {(r["video_id"], r["frame"]): r["expression"] for r in frame_rows(tmp_path / "out")}
    assert [found["S005_001", n] for n in range(1, 6)] == ["neutral", None, "disgust", "disgust", "disgust"]
    assert [found["S005_002", n] for n in (1, 2)] == [None, None]
    assert [found["S138_004", n] for n in (1, 2, 3)] == ["surprise"] * 3
    rules = {chunk.video_id: chunk.labels["expression"].rule for chunk, _ in chunks_of(tmp_path / "out")}
    assert rules == {"S005_001": "ckplus:last3", "S005_002": None, "S138_004": "ckplus:last3"}


def test_shifted_pictures_and_permuted_classes_are_seen(release, tmp_path):
    path = release / "cohn-kanade-images/S005/001/S005_001_00000005.png"
    path.write_bytes(picture("S005_001 4", "PNG"))
    with pytest.raises(AssertionError, match="does not show S005_001 5"):
        check_importer("ck_plus", release, tmp_path, GOLDEN, printed)
    (release / "Emotion/S138/004/S138_004_00000003_emotion.txt").write_text("6.0")
    run_import("ck_plus", release, tmp_path / "permuted")
    with pytest.raises(AssertionError):
        assert_golden(frame_rows(tmp_path / "permuted"), GOLDEN)


def test_the_archives_own_folders_conform(release, tmp_path):
    for name, inner in (("extended-cohn-kanade-images", "cohn-kanade-images"), ("Emotion_labels", "Emotion"),
                        ("FACS_labels", "FACS"), ("Landmarks_", "Landmarks")):  # fmt: skip
        (release / name).mkdir()
        (release / inner).rename(release / name / inner)
    (release / "Landmarks_").rename(release / "Landmarks")
    planned = run_import("ck_plus", release, tmp_path / "out")
    assert_golden(frame_rows(tmp_path / "out"), GOLDEN)
    assert not {"folders that lack", "folders without a sequence's files"} & planned.facts["notes"].keys()
    assert any("landmarks.npy" in arrays for _, arrays in chunks_of(tmp_path / "out"))


def test_a_peak_that_is_gone_is_missing_with_its_labels(release, tmp_path):
    (release / "cohn-kanade-images/S138/004/S138_004_00000003.png").unlink()
    (release / "cohn-kanade-images/S005/001/S005_001_00000002.png").unlink()  # its landmarks are still there
    with pytest.raises(MissingMediaError, match=r"(?s)2 files.*S005_001_00000002\.png.*S138_004_00000003\.png"):
        run_import("ck_plus", release, tmp_path / "out")
    run_import("ck_plus", release, tmp_path / "out", allow_missing=True)
    gone = [("S138_004", 3), ("S005_001", 2)]
    assert_golden(
        frame_rows(tmp_path / "out"),
        [row for row in GOLDEN if (row["video_id"], row["frame"]) not in gone],
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("Emotion/S005/001/S005_001_00000005_emotion.txt", "8.0", "8.0; expected one emotion, 0 to 7"),
        ("Emotion/S005/001/S005_001_00000005_emotion.txt", "", "nothing; expected one emotion"),
        ("Emotion/S005/001/S005_001_00000004_emotion.txt", "3.0", "expected one of them, of the peak"),
        ("Emotion/S005/001/S005_002_00000005_emotion.txt", "3.0", "expected a name such as S005_001_00000011_emotion"),
        ("FACS/S005/001/S005_001_00000005_facs.txt", "1 6", "expected a new action unit, intensity 0 to 5"),
        ("FACS/S005/001/S005_001_00000005_facs.txt", "1 2\n1 3", "line 2"),
        ("FACS/S005/001/S005_001_00000005_facs.txt", "1", "expected an action unit and its intensity"),
        ("Landmarks/S005/001/S005_001_00000001_landmarks.txt", "1 2\n", "expected 68 lines"),
    ],
)
def test_files_that_do_not_fit_are_refused(release, tmp_path, name, text, message):
    (release / name).write_text(text)
    with pytest.raises(ReleaseError, match=message):
        run_import("ck_plus", release, tmp_path / "out")


def test_an_empty_list_of_action_units_is_counted_not_read_as_absence(release, tmp_path):
    (release / "FACS/S005/001/S005_001_00000005_facs.txt").write_text("")
    planned = run_import("ck_plus", release, tmp_path / "out")
    assert planned.facts["notes"]["FACS files without an action unit, taken for none"]["count"] == 1
    assert planned.facts["notes"]["sequences without action units"]["count"] == 2
    peak = next(row for row in frame_rows(tmp_path / "out") if (row["video_id"], row["frame"]) == ("S005_001", 5))
    assert (peak["au_occ_1"], peak["au_occ_1_mask"]) == (None, "not_annotated")


@pytest.mark.parametrize("place", ["..", "cohn-kanade-images"])
def test_a_wrong_root_is_named_with_the_right_one(release, tmp_path, place):
    with pytest.raises(ReleaseError, match=r"expected ck_plus: cohn-kanade-images.*is that the ROOT you mean"):
        run_import("ck_plus", release / place, tmp_path / "out")


def test_a_half_unpacked_release_is_refused(release, tmp_path):
    shutil.rmtree(release / "Landmarks")
    (release / "Landmarks.zip").write_bytes(b"PK")
    with pytest.raises(ReleaseError, match=r"Landmarks\.zip is not unpacked"):
        run_import("ck_plus", release, tmp_path / "out")
    shutil.rmtree(release / "Emotion")
    (release / "Emotion_labels.zip").write_bytes(b"PK")
    with pytest.raises(ReleaseError, match=r"expected ck_plus: .*unpack Emotion_labels\.zip"):
        run_import("ck_plus", release, tmp_path / "out")


def test_the_doctor_counts_sequences_with_an_emotion(release, tmp_path):
    run_import("ck_plus", release, tmp_path / "out")
    findings = examine(published_frames(tmp_path / "out"), load_importer("ck_plus"))
    assert [finding.found for finding in findings] == ["3", "2", "2"]
