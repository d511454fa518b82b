"""Agrees with the layout as documented (reference A9, confirmed by code); not run on the real release."""

import zipfile

import pytest

from checks import assert_golden, check_importer, frame_rows, run_import
from fake.bp4d import PLUS_AUS, write_bp4d, write_bp4d_plus
from reactionnet_datasets.release import MissingMediaError, ReleaseError


def row(video, frame, part, **labels):
    return {
        "video_id": video, "subject_id": video[:4], "frame": frame, "t_s": round((frame - 1) / 25, 5),
        "folds": {"bp4dplus-4fold": part}, **labels,
    }  # fmt: skip


GOLDEN = [
    row("F001_T1", 1, 3, au_occ_6=1, au_occ_7=1, au_occ_9=0, au_occ_10=1, au_occ_11=0, au_occ_12=1, au_occ_16=None,
        au_occ_16_mask="uncodable", au_occ_39=0, au_int_6=4),
    row("F001_T1", 2, 3, au_occ_10=1, au_occ_12=0, au_occ_15=1, au_occ_14=0, au_int_6=None, au_int_6_mask="uncodable"),
    row("F001_T6", 1, 3, au_occ_1=1, au_occ_9=None, au_occ_10=0, au_int_6=2),
    row("M002_T8", 1, 4, au_occ_1=0, au_occ_4=1, au_occ_38=0, au_occ_39=1, au_int_6=2),
]  # fmt: skip


def printed(row):
    return f"{row['video_id'].replace('_', ' ')} {row['frame']}"


@pytest.mark.parametrize("header", ["0," + PLUS_AUS, "frame," + ",".join(f"AU{n}" for n in PLUS_AUS.split(","))])
def test_conforms(tmp_path, header):
    out = check_importer("bp4d_plus", write_bp4d_plus(tmp_path / "release", header), tmp_path, GOLDEN, printed)
    assert "2D+3D/M002.zip!M002/T8/0000.jpg" in frame_rows(out)[-1]["source_path"]


def test_a_header_of_words_is_read_by_position(tmp_path):
    release = write_bp4d_plus(tmp_path / "release", "frame," + ",".join(f"unit{n}x" for n in range(34)))
    check_importer("bp4d_plus", release, tmp_path, GOLDEN, printed)


def test_columns_in_another_order_follow_the_header(tmp_path):
    header = "0," + PLUS_AUS.replace("1,2,4", "2,1,4")
    run_import("bp4d_plus", write_bp4d_plus(tmp_path / "release", header), tmp_path / "out")
    assert frame_rows(tmp_path / "out")[2]["au_occ_2"] == 1
    with pytest.raises(AssertionError):
        assert_golden(frame_rows(tmp_path / "out"), GOLDEN)


def test_a_narrow_header_of_words_and_bp4d_are_refused(tmp_path):
    release = write_bp4d_plus(tmp_path / "release", "frame," + ",".join("abc"))
    with pytest.raises(ReleaseError, match="cells; the header has 4"):
        run_import("bp4d_plus", release, tmp_path / "out")
    contiguous = write_bp4d_plus(tmp_path / "other", ",".join(map(str, range(35))))
    with pytest.raises(ReleaseError, match=r"AU \[3, 8, 21, 25, 26\], which BP4D\+ does not code"):
        run_import("bp4d_plus", contiguous, tmp_path / "out")
    with pytest.raises(ReleaseError, match="it looks like bp4d"):
        run_import("bp4d_plus", write_bp4d(tmp_path / "bp4d"), tmp_path / "out")


def test_the_known_bad_sequence_is_noted(tmp_path):
    planned = run_import("bp4d_plus", write_bp4d_plus(tmp_path / "release"), tmp_path / "out")
    note = planned.facts["notes"]["sequences left out as known to be bad"]
    assert note["count"] == 1 and "F041_T7" in note["examples"][0]


def test_a_zip_that_is_cut_off_and_one_that_lacks_a_picture(tmp_path):
    release = write_bp4d_plus(tmp_path / "release")
    path = release / "RawData/2D+3D/M002.zip"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ReleaseError, match=r"M002.zip cannot be read"):
        run_import("bp4d_plus", release, tmp_path / "out")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("M002/T8/0007.jpg", b"x")
    with pytest.raises(MissingMediaError, match=r"M002/T8/0.jpg \(frame 1\)"):
        run_import("bp4d_plus", release, tmp_path / "out")
