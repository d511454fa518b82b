"""Agrees with the layout as documented (reference A8, confirmed by code); not run on the real release."""

import shutil

import pytest

from checks import assert_golden, check_importer, chunks_of, frame_rows, run_import
from fake.bp4d import BP4D, INTENSITY, occurrences, write_bp4d, write_bp4d_plus, write_bp4d_videos
from fake.printed import picture
from reactionnet_datasets.bp4d_segments import SEGMENTS
from reactionnet_datasets.importers import bp4d
from reactionnet_datasets.release import MissingMediaError, ReleaseError


def row(video, frame, codes, au12_int, part, **others):
    au1, au2, au4, au6, au12, au17 = codes
    return {
        "video_id": video, "subject_id": video[:4], "frame": frame, "t_s": round((frame - 1) / 25, 5),
        "au_occ_1": au1, "au_occ_2": au2, "au_occ_4": au4, "au_occ_6": au6, "au_occ_12": au12, "au_occ_17": au17,
        "au_occ_24": None, "au_occ_24_mask": "uncodable", "au_int_12": au12_int, **others,
    } | ({"folds": part} if part else {})  # fmt: skip


F001 = {"bp4d-3fold": 1, "bp4d-fera2015": 1}
GOLDEN = [
    row("F001_T1", 98, (1, 0, 0, 0, 1, 0), 3, F001, au_occ_2_mask="valid"),
    row("F001_T1", 99, (0, None, 0, 0, 1, 0), None, F001, au_occ_2_mask="uncodable", au_int_12_mask="uncodable"),
    row("F001_T1", 100, (0, 0, 0, 0, 0, None), 0, F001, au_occ_17_mask="uncodable", au_int_12_mask="valid"),
    row("F001_T3", 1, (0, 0, 0, 0, 0, 0), 0, F001),
    row("F001_T3", 2, (0, 0, 0, 1, 0, 0), 5, F001),
    row("M001_T1", 7, (0, 0, 1, 0, 0, 0), 1, F001),
    row("M001_T1", 8, (0, 0, 1, 0, 0, 0), 2, F001),
]


def printed(row):
    return f"{row['video_id'].replace('_', ' ')} {row['frame']}"


@pytest.fixture
def own(tmp_path):
    return write_bp4d(tmp_path / "release")


@pytest.mark.parametrize("spelling", ["first", "second"])
def test_both_spellings_conform(tmp_path, spelling):
    out = check_importer("bp4d", write_bp4d(tmp_path / "release", spelling), tmp_path, GOLDEN, printed)
    raw = {c.key: c.labels["au_occ_2"].raw for c, _ in chunks_of(out)}
    assert raw["F001_5fT1-0-000098"] == [None, "9", None]
    assert "au_occ_5" not in frame_rows(out)[0]  # nobody coded it


def test_the_video_release_conforms(tmp_path):
    check_importer("bp4d", write_bp4d_videos(tmp_path / "release"), tmp_path, GOLDEN, printed)


def test_a_narrow_table_whose_last_column_is_a_flag(own, tmp_path):
    for name, codes in BP4D.items():
        rows = [
            line.split(",") for line in occurrences(codes, "frame," + ",".join(map(str, range(1, 99))) + ",99").split()
        ]
        text = "".join(",".join(cells[:30] + cells[-1:]) + "\n" for cells in rows)
        (own / f"AUCoding/AU_OCC/{name}.csv").write_text(text)
    check_importer("bp4d", own, tmp_path, GOLDEN, printed)


def test_an_offset_shifts_the_pictures(own, tmp_path):
    check_importer(
        "bp4d",
        own,
        tmp_path,
        GOLDEN,
        lambda r: f"{r['video_id'].replace('_', ' ')} {r['frame'] - 1}",
        frame_offset="-1",
    )


def test_an_unknown_code_read_as_absent_is_seen(own, tmp_path):
    path = own / "AUCoding/AU_OCC/F001_T1.csv"
    text = occurrences({**BP4D["F001_T1"], 99: {2: 0, 12: 1}}, ",".join(map(str, range(100))))
    path.write_text(text)
    run_import("bp4d", own, tmp_path / "out")
    with pytest.raises(AssertionError, match="F001_T1 frame 99"):
        assert_golden(frame_rows(tmp_path / "out"), GOLDEN)


def test_the_archive_of_a_subject_is_read_in_place(own, tmp_path):
    pictures = own / "Sequences(2D+3D)"
    shutil.make_archive(str(pictures / "F001"), "zip", pictures, "F001")
    shutil.rmtree(pictures / "F001")
    shutil.make_archive(str(pictures / "M099"), "zip", pictures, "M001")
    with pytest.raises(MissingMediaError, match=r"(?s)1 files.*codes of M099"):
        run_import("bp4d", own, tmp_path / "out")
    (pictures / "M099.zip").rename(pictures / "notes.zip")
    planned = run_import("bp4d", own, tmp_path / "out")
    assert_golden(frame_rows(tmp_path / "out"), GOLDEN)
    assert planned.facts["notes"]["archives that were not unpacked"]["examples"] == ["Sequences(2D+3D)/notes.zip"]


def test_a_missing_picture_is_an_error_or_a_gap(own, tmp_path):
    (own / "Sequences(2D+3D)/F001/T1/0099.jpg").unlink()
    with pytest.raises(MissingMediaError, match=r"(?s)1 files.*F001/T1/99.jpg \(frame 99\)"):
        run_import("bp4d", own, tmp_path / "out")
    run_import("bp4d", own, tmp_path / "out", allow_missing=True)
    rows = frame_rows(tmp_path / "out")
    assert_golden(rows, GOLDEN[:1] + GOLDEN[2:])
    assert [row["clip_id"] for row in rows[:2]] == ["F001_5fT1-0-000098", "F001_5fT1-0-000100"]


def test_two_pictures_of_one_number_are_refused(own, tmp_path):
    (own / "Sequences(2D+3D)/F001/T1/099.jpg").write_bytes(picture("x"))
    with pytest.raises(ReleaseError, match="both picture 99"):
        run_import("bp4d", own, tmp_path / "out")


@pytest.mark.parametrize("gone", ["AUCoding/AU_OCC/F001_T3.csv", "Sequences(2D+3D)/M001/T1"])
def test_half_a_release_is_an_error(own, tmp_path, gone):
    path = own / gone
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(MissingMediaError, match=r"F001_T3|M001/T1"):
        run_import("bp4d", own, tmp_path / "out")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("98,1,0,9", "98,2,0,9", "line 2: code 2; expected 0, 1 or 9"),
        ("0,1,2,3,", "0,1,2,4,", "column k is AU k"),
        ("99,0,9", "98,0,9", "line 3: frame 98 after 98"),
        ("100,0,0,9", "100,0,9", "line 4: 99 cells; the header has 100"),
    ],
)
def test_tables_out_of_order_are_refused(own, tmp_path, old, new, message):
    path = own / "AUCoding/AU_OCC/F001_T1.csv"
    text = path.read_text(encoding="utf-8-sig")
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ReleaseError, match=message):
        run_import("bp4d", own, tmp_path / "out")


def test_bp4d_plus_is_not_taken_for_bp4d(tmp_path):
    release = write_bp4d_plus(tmp_path / "release")
    with pytest.raises(ReleaseError, match=r"it looks like bp4d_plus|is that the ROOT you mean"):
        run_import("bp4d", release, tmp_path / "out")
    (release / "RawData/2D+3D/F001/T2/0000.jpg").unlink()
    with pytest.raises(ReleaseError, match=r"that is how BP4D\+ codes"):
        run_import("bp4d", release / "RawData", tmp_path / "out")


def test_the_doctor_knows_every_segment(own, tmp_path):
    assert sum(last - first + 1 for first, last in SEGMENTS.values()) == 146_847
    run_import("bp4d", own, tmp_path / "out")
    from reactionnet_datasets.doctor import published_frames

    frames = published_frames(tmp_path / "out")
    finding, part, *_ = bp4d.doctor(frames)
    assert (finding.found, finding.verdict.split(" (")[0]) == ("0", "DIFFERS by -328")
    assert (part.expected, part.found) == ("50,631", "7")
    import pyarrow as pa

    rows = [(name, frame) for name, (first, last) in SEGMENTS.items() for frame in range(first, last + 1)]
    names, numbers = [name for name, _ in rows], [frame for _, frame in rows]
    whole = pa.table({"video_id": names, "frame": numbers, "subject_id": [name[:4] for name in names]})
    assert {finding.verdict for finding in bp4d.doctor(whole)} == {"OK"}


def test_intensities_alone_are_counted(own, tmp_path):
    path = own / "AU-Intensity-Codes3.0/AU12/F001_T3_12.csv"
    path.write_text(INTENSITY["F001_T3"] + "3,1\n")
    planned = run_import("bp4d", own, tmp_path / "out")
    assert planned.facts["notes"]["frames with an intensity but no occurrences"]["count"] == 1


def test_intensities_that_lack_are_counted_and_none_at_all_in_their_place_is_an_error(own, tmp_path):
    path = own / "AU-Intensity-Codes3.0/AU12/F001_T3_12.csv"
    path.write_text("1,0\n")
    notes = run_import("bp4d", own, tmp_path / "out").facts["notes"]
    assert notes["coded frames without an intensity"]["examples"] == ["F001_T3 AU 12 frame 2"]
    assert notes["action units without intensities"]["count"] == 4
    path.write_text("")
    with pytest.raises(ReleaseError, match=r"F001_T3_12\.csv has no rows"):
        run_import("bp4d", own, tmp_path / "out")
    path.parent.rename(tmp_path / "AU12")
    with pytest.raises(ReleaseError, match=r"AU-Intensity-Codes3\.0 holds no folder such as AU06"):
        run_import("bp4d", own, tmp_path / "out")
