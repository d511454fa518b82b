"""Agrees with the layout as documented (reference A10, confirmed by code); not run on the real release."""

import io

import numpy as np
import pytest

from checks import assert_golden, check_importer, chunks_of, frame_rows, read_member, run_import
from fake.disfa import points, write_disfa
from fake.printed import picture, says, video, write
from reactionnet_datasets.doctor import published_frames
from reactionnet_datasets.importers import disfa
from reactionnet_datasets.release import MissingMediaError, ReleaseError


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return write_disfa(tmp_path_factory.mktemp("disfa"))


@pytest.fixture
def own(tmp_path):
    return write_disfa(tmp_path / "release")


def row(subject, frame, au12, **others):
    scores = {"au_int_4": 0, "au_int_1": 0, "au_int_26": 0, **others}
    return {
        "video_id": subject, "subject_id": subject, "frame": frame, "t_s": round((frame - 1) / 20, 5),
        "au_int_12": au12, "au_int_12_mask": "valid", "folds": {"disfa-3fold": 1}, **scores,
    }  # fmt: skip


GOLDEN = [
    row("SN001", 1, 0, au_int_4=5), row("SN001", 2, 1), row("SN001", 3, 2), row("SN001", 4, 3, au_int_26=2),
    row("SN001", 5, 4), row("SN001", 6, 5), row("SN001", 7, 0, au_int_4=1),
    row("SN010", 1, 2), row("SN010", 2, 0), row("SN010", 3, 0, au_int_1=4), row("SN010", 4, 0), row("SN010", 5, 0),
    row("SN010", 6, 3),
]  # fmt: skip


def printed(row):
    return f"{row['subject_id']} {row['frame']}"


def test_conforms(release, tmp_path):
    out = check_importer("disfa", release, tmp_path, GOLDEN, printed)
    chunk, arrays = next((c, a) for c, a in chunks_of(out) if c.video_id == "SN010")
    assert len(chunk.labels) == 12
    landmarks = np.load(io.BytesIO(arrays["landmarks66.npy"]))
    np.testing.assert_allclose(landmarks[2], points("SN010", 3))
    assert np.isnan(landmarks[3]).all()
    arrays = next(a for c, a in chunks_of(out) if c.video_id == "SN001")  # whose files count from 0
    np.testing.assert_allclose(np.load(io.BytesIO(arrays["landmarks66.npy"]))[0], points("SN001", 1))


def test_the_right_camera_is_another_video(release, tmp_path):
    check_importer("disfa", release, tmp_path, GOLDEN, lambda row: printed(row) + " right", camera="right")


@pytest.mark.parametrize(("folder", "first"), [("SN{}", 0), ("LeftVideoSN{}", 1)])
def test_pictures_that_users_extracted_count_as_their_folders_say(own, tmp_path, folder, first):
    for videos in ("Videos_LeftCamera", "Video_RightCamera"):
        (own / videos).rename(tmp_path / videos)
    for subject, num in (("001", 7), ("010", 6)):
        for frame in range(1, num + 1):
            path = own / f"extracted/{folder.format(subject)}/{frame - 1 + first}.png"
            write(path, picture(f"SN{subject} {frame}", "PNG"))
    check_importer("disfa", own, tmp_path, GOLDEN, printed, images="extracted")
    (own / "extracted" / folder.format("010") / f"{first}.png").rename(path.with_name(f"{6 if first == 0 else 0}.png"))
    with pytest.raises(ReleaseError, match=f"SN010 counts from {1 - first}; expected pictures from {first} on"):
        run_import("disfa", own, tmp_path / "out", images="extracted")


def test_the_doctor_counts_the_frames_of_each_part(own, tmp_path):
    run_import("disfa", own, tmp_path / "out")
    findings = {finding.what: finding for finding in disfa.doctor(published_frames(tmp_path / "out"))}
    first = findings["frames of disfa-3fold, part 1"]
    assert (first.expected, first.found, first.verdict) == ("43,604", "13", "DIFFERS by -43,591")


def lines(path):
    return path.read_text().splitlines()


def test_labels_shifted_by_one_are_seen(own, tmp_path):
    path = own / "ActionUnit_Labels/SN010/SN010_au12.txt"
    scores = [line.split(",")[1] for line in lines(path)]
    path.write_text("".join(f"{n},{score}\n" for n, score in enumerate(scores[1:] + scores[:1], 1)))
    run_import("disfa", own, tmp_path / "out")
    with pytest.raises(AssertionError):
        assert_golden(frame_rows(tmp_path / "out"), GOLDEN)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("SN010_au12.txt", "0,2\n1,0\n", r"au12.txt line 1: frame 0; expected 1"),
        ("SN010_au12.txt", "1,2\n3,0\n", "line 2: frame 3; expected 2"),
        ("SN010_au12.txt", "1,9\n", "score 9; expected 0 to 5"),
        ("SN010_au12.txt", "1,2\n", "1 frames of AU 12, but 6 of others"),
    ],
)
def test_scores_out_of_place_are_refused(own, tmp_path, name, text, message):
    path = own / "ActionUnit_Labels/SN010" / name
    path.write_text(text)
    with pytest.raises(ReleaseError, match=message):
        run_import("disfa", own, tmp_path / "out")


def test_a_lost_table_of_scores_is_an_error_or_not_annotated(own, tmp_path):
    (own / "ActionUnit_Labels/SN010/SN010_au2.txt").unlink()
    with pytest.raises(MissingMediaError, match=r"(?s)1 files .*SN010/SN010_au2.txt"):
        run_import("disfa", own, tmp_path / "out")
    run_import("disfa", own, tmp_path / "out", allow_missing=True)
    rows = frame_rows(tmp_path / "out")
    assert_golden(rows, GOLDEN)
    assert {row["subject_id"]: row["au_int_2_mask"] for row in rows} == {"SN001": "valid", "SN010": "not_annotated"}


def test_a_video_that_ends_early_is_an_error_or_a_recorded_gap(own, tmp_path):
    texts = [f"SN010 {frame}" for frame in range(1, 6)]
    video(own / "Videos_LeftCamera/LeftVideoSN010_comp.avi", texts, fps=20, width=128, height=96)
    with pytest.raises(MissingMediaError, match=r"(?s)1 files .*picture 5"):
        run_import("disfa", own, tmp_path / "out")
    run_import("disfa", own, tmp_path / "out", allow_missing=True)
    assert_golden(frame_rows(tmp_path / "out"), GOLDEN[:-1])


def test_a_video_that_cannot_be_opened_is_missing(own, tmp_path):
    (own / "Videos_LeftCamera/LeftVideoSN001_comp.avi").write_bytes(b"RIFF")
    with pytest.raises(MissingMediaError, match=r"(?s)1 files .*LeftVideoSN001_comp.avi \(NOT_A_VIDEO"):
        run_import("disfa", own, tmp_path / "out")
    run_import("disfa", own, tmp_path / "out", allow_missing=True)
    assert_golden(frame_rows(tmp_path / "out"), GOLDEN[7:])


def test_damaged_landmarks_are_errors_or_nan_and_cost_no_picture(own, tmp_path):
    from scipy.io import savemat

    folder = own / "Landmark_Points/SN001/tmp_frame_lm"
    (folder / "SN001_0001_lm.mat").write_bytes((folder / "SN001_0001_lm.mat").read_bytes()[:200])
    savemat(folder / "SN001_0002_lm.mat", {"points": points("SN001", 3)})
    savemat(folder / "SN001_0004_lm.mat", {"pts": points("SN001", 5)[:49]})
    message = r"(?s)3 files .*0001_lm.mat is no MATLAB.*0002_lm.mat holds points; expected pts.*0004_lm.mat has shape"
    with pytest.raises(MissingMediaError, match=message):
        run_import("disfa", own, tmp_path / "out")
    run_import("disfa", own, tmp_path / "out", allow_missing=True)
    assert_golden(frame_rows(tmp_path / "out"), GOLDEN)
    arrays = next(arrays for chunk, arrays in chunks_of(tmp_path / "out") if chunk.video_id == "SN001")
    blank = np.isnan(np.load(io.BytesIO(arrays["landmarks66.npy"]))).all(axis=(1, 2))
    assert blank.tolist() == [False, True, True, False, True, False, False]


def test_a_damaged_picture_in_mid_video_shifts_no_other(own, tmp_path):
    path = own / "Videos_LeftCamera/LeftVideoSN010_comp.avi"
    video(path, [f"SN010 {frame}" for frame in range(1, 7)], fps=20, width=128, height=96, codec="mjpeg")
    data = bytearray(path.read_bytes())
    third = [place for place in range(len(data)) if data[place : place + 3] == b"\xff\xd8\xff"][2]
    data[third + 2 : third + 400] = bytes(398)
    path.write_bytes(data)
    with pytest.raises(MissingMediaError, match=r"(?s)1 files .*picture 2 \(from 0\) cannot be decoded"):
        run_import("disfa", own, tmp_path / "out")
    run_import("disfa", own, tmp_path / "out", allow_missing=True)
    rows = frame_rows(tmp_path / "out")
    assert_golden(rows, [row for row in GOLDEN if (row["subject_id"], row["frame"]) != ("SN010", 3)])
    for row in rows:
        assert says(read_member(tmp_path / "out", row), printed(row))


def test_a_video_without_labels_is_an_error(own, tmp_path):
    video(own / "Videos_LeftCamera/LeftVideoSN002_comp.avi", ["x"], fps=20)
    with pytest.raises(MissingMediaError, match=r"SN002_comp\.avi has no labels"):
        run_import("disfa", own, tmp_path / "out")
    run_import("disfa", own, tmp_path / "out", allow_missing=True)
    assert_golden(frame_rows(tmp_path / "out"), GOLDEN)


@pytest.mark.parametrize("place", ["..", "ActionUnit_Labels"])
def test_a_wrong_root_is_named_with_the_right_one(own, tmp_path, place):
    with pytest.raises(ReleaseError, match=r"expected disfa: ActionUnit_Labels.*found .*is that the ROOT you mean"):
        run_import("disfa", own / place, tmp_path / "out")
