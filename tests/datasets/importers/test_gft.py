"""Agrees with the documented form (reference A11; the release's own format is unconfirmed); not run on the release."""

import pytest

from checks import assert_golden, check_importer, chunks_of, frame_rows, run_import
from fake.others import GFT, PARTITION, write_gft
from fake.printed import picture
from reactionnet_datasets.release import MissingMediaError, ReleaseError


def row(subject, frame, au1, au2, au12, au14, **others):
    return {
        "video_id": subject, "subject_id": subject, "frame": frame, "t_s": round((frame - 1) / 30, 5),
        "au_occ_1": au1, "au_occ_2": au2, "au_occ_12": au12, "au_occ_14": au14, **others,
    }  # fmt: skip


GOLDEN = [
    row("001A", 1, 0, 1, 1, None, au_occ_14_mask="uncodable"),
    row("001A", 2, 0, 0, None, 1, au_occ_12_mask="uncodable"),
    row("001A", 3, 1, None, 0, 0, au_occ_2_mask="not_annotated"),
    row("014B", 1, 0, 0, 1, 0),
    row("014B", 2, None, 0, 1, 0, au_occ_1_mask="uncodable"),
]


def printed(row):
    return f"{row['subject_id']} {row['frame']}"


def test_conforms(tmp_path):
    partition = tmp_path / "partition.csv"
    partition.write_text(PARTITION)
    out = check_importer("gft", write_gft(tmp_path / "gft"), tmp_path, GOLDEN, printed, partition=str(partition))
    assert [row["split_all"] for row in frame_rows(out)] == ["train"] * 3 + ["test"] * 2
    assert {c.labels["au_occ_1"].raw[1] for c, _ in chunks_of(out) if c.labels["au_occ_1"].raw} == {"999"}
    assert str(tmp_path) not in (out / "dataset.json").read_text()


def test_tables_beside_their_partition_and_folders_of_another_name(tmp_path):
    release = write_gft(tmp_path / "gft")
    (release / "annotations/occurrence.csv").rename(release / "AU codes.csv")
    (release / "annotations").rmdir()
    (release / "images").rename(release / "faces")
    (release / "partition.csv").write_text("id,partition\n001A,train\n014B,test\n")
    planned = run_import("gft", release, tmp_path / "none")
    assert "partitions that were not used (--partition)" in planned.facts["notes"]
    assert_golden(frame_rows(tmp_path / "none"), GOLDEN)
    run_import("gft", release, tmp_path / "out", partition="partition.csv")
    assert [row["split_all"] for row in frame_rows(tmp_path / "out")] == ["train"] * 3 + ["test"] * 2


def test_without_a_partition_there_are_no_splits(tmp_path):
    run_import("gft", write_gft(tmp_path / "gft"), tmp_path / "out")
    assert not any(name.startswith("split_") for name in frame_rows(tmp_path / "out")[0])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("subject,frame,'AU 1'", "001A,0,0", "columns of GFT are not guessed"),
        (",frame,", ",number,", "columns of GFT are not guessed"),
        ("001A,1,0,1", "001A,1,5,1", "AU 1 is '5'; expected 0, 1"),
        ("001A,2,", "001A,1,", "frame 1 of 001A twice"),
    ],
)
def test_nothing_is_guessed(tmp_path, old, new, message):
    release = write_gft(tmp_path / "gft")
    (release / "annotations/occurrence.csv").write_text(GFT.replace(old, new, 1))
    with pytest.raises(ReleaseError, match=message):
        run_import("gft", release, tmp_path / "out")


def test_other_missing_codes(tmp_path):
    with pytest.raises(ReleaseError, match="AU 12 is '-1'"):
        run_import("gft", write_gft(tmp_path / "gft"), tmp_path / "out", missing_codes="9,999")


def test_a_subject_in_two_splits_and_one_nobody_coded(tmp_path):
    release, partition = write_gft(tmp_path / "gft"), tmp_path / "partition.csv"
    partition.write_text(PARTITION + "001A,test\n")
    with pytest.raises(ReleaseError, match="line 4: 001A is in two splits"):
        run_import("gft", release, tmp_path / "out", partition=str(partition))
    (release / "images/077C").mkdir()
    (release / "images/077C/1.jpg").write_bytes(picture("x"))
    with pytest.raises(MissingMediaError, match="codes of 077C"):
        run_import("gft", release, tmp_path / "out")


def test_labels_shifted_by_one_are_seen(tmp_path):
    release = write_gft(tmp_path / "gft")
    (release / "annotations/occurrence.csv").write_text(GFT.replace("001A,3", "001A,4").replace("001A,2", "001A,3"))
    run_import("gft", release, tmp_path / "out")
    with pytest.raises(AssertionError):
        assert_golden(frame_rows(tmp_path / "out"), GOLDEN)
