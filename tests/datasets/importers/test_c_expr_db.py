"""Agrees with the sample file as documented (reference A4); labels are unconfirmed; not run on the real release."""

import pytest

from checks import assert_golden, check_importer, chunks_of, frame_rows, run_import
from fake.c_expr_db import LABELS, SAMPLE, TWELVE, write_c_expr_db, write_crops
from fake.printed import video, write
from reactionnet_datasets.about import load_importer
from reactionnet_datasets.doctor import examine, published_frames
from reactionnet_datasets.release import MissingMediaError, ReleaseError


def row(name, frame, compound=None, mask="withheld", split="test"):
    return {
        "video_id": name, "frame": frame, "t_s": (frame - 1) / 20, "split_all": split, "compound": compound,
        "compound_mask": mask,
    }  # fmt: skip


GOLDEN = [row("1", 1), row("1", 2), row("1", 3), row("12", 1), row("12", 2)]


@pytest.fixture
def release(tmp_path):
    return write_c_expr_db(tmp_path / "release")


def printed(row):
    return f"{row['video_id']} {row['frame']}"


def test_videos_and_sample_conform(release, tmp_path):
    out = check_importer("c_expr_db", release, tmp_path, GOLDEN, printed)
    finding = examine(published_frames(out), load_importer("c_expr_db"))[0]
    assert (finding.what, finding.verdict) == ("videos in test", "DIFFERS by -54")


def test_crops_are_taken_where_they_are(release, tmp_path):
    write_crops(release)
    golden = [one for one in GOLDEN if (one["video_id"], one["frame"]) != ("1", 2)]
    check_importer("c_expr_db", release, tmp_path, golden, lambda row: "crop " + printed(row))
    run_import("c_expr_db", release, tmp_path / "videos", pictures="videos")
    assert_golden(frame_rows(tmp_path / "videos"), GOLDEN)


def test_annotations_are_read_and_called_unconfirmed(release, tmp_path):
    write(release / "annotations/Train_Set/30.txt", LABELS)
    write(release / "annotations/Validation_Set/31.txt", TWELVE)
    for name in ("30", "31"):
        video(release / f"videos/{name}.mp4", [f"{name} {frame}" for frame in (1, 2, 3)], fps=20)
    golden = [
        *GOLDEN,
        row("30", 1, "angrily_surprised", "valid", "train"), row("30", 2, None, "invalid_code", "train"),
        row("30", 3, "sadly_angry", "valid", "train"),
        row("31", 1, "angrily_surprised", "valid", "val"), row("31", 2, None, "invalid_code", "val"),
        row("31", 3, "other", "valid", "val"),
    ]  # fmt: skip
    out = check_importer("c_expr_db", release, tmp_path, golden, printed, annotations="annotations")
    with pytest.raises(ReleaseError, match=r"30.mp4 is in no list.*read by --annotations"):
        run_import("c_expr_db", release, tmp_path / "out")
    (release / "CVPR_6th_ABAW_CE_test_set_sample.txt").rename(tmp_path / "sample")
    with pytest.raises(ReleaseError, match=r"labels in annotations, .*, are read by --annotations 'annotations'"):
        run_import("c_expr_db", release, tmp_path / "out")
    facts = {chunk.video_id: chunk.provenance.get("format") for chunk, _ in chunks_of(out)}
    assert facts == {"1": None, "12": None, "30": "unconfirmed", "31": "unconfirmed"}
    with pytest.raises(AssertionError):  # permuted classes
        assert_golden(
            frame_rows(out), [{**one, "compound": "sadly_fearful"} if one["frame"] == 1 else one for one in golden]
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SAMPLE.replace("1/00003.jpg", "1-00003"), "line 4: '1-00003'; expected a place such as video/00001.jpg"),
        (
            SAMPLE.removesuffix("2.jpg,0\n"),
            "line 6: '12/0000'; expected a place such as video/00001.jpg, frames from 1",
        ),
        (SAMPLE.replace("12/", "13/"), "videos/12.avi is in no list"),
        ("image_location\n", "or annotations named by --annotations"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused(release, tmp_path, text, message):
    (release / "CVPR_6th_ABAW_CE_test_set_sample.txt").write_text(text)
    with pytest.raises(ReleaseError, match=message):
        run_import("c_expr_db", release, tmp_path / "out")


def test_a_video_that_lacks_or_ends_early_is_an_error_or_recorded(release, tmp_path):
    (release / "videos/1.mp4").unlink()
    video(release / "videos/12.avi", ["12 1"], fps=20)
    with pytest.raises(MissingMediaError, match=r"(?s)2 files.*1\.mp4.*12\.avi \(has 1 pictures; 2 are listed\)"):
        run_import("c_expr_db", release, tmp_path / "out")
    run_import("c_expr_db", release, tmp_path / "out", allow_missing=True)
    assert_golden(frame_rows(tmp_path / "out"), [GOLDEN[3]])


def test_frames_counted_from_0_would_be_seen(release, tmp_path):
    for name, frames in (("1", (0, 1, 2, 3)), ("12", (0, 1))):
        path = next((release / "videos").glob(f"{name}.*"))
        video(path, [f"{name} {frame}" for frame in frames], fps=20)
    with pytest.raises(AssertionError, match="does not show"):
        check_importer("c_expr_db", release, tmp_path, GOLDEN, printed)
