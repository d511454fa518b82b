"""Agrees with the lists as documented (reference A12, confirmed by code); not run on the real ones."""

import shutil
import zipfile

import pytest

from checks import assert_golden, check_importer, chunks_of, frame_rows, run_import
from fake.emotionet import write_automatic, write_manual
from fake.printed import picture
from reactionnet_datasets.release import MissingMediaError, ReleaseError


@pytest.fixture
def automatic(tmp_path):
    return write_automatic(tmp_path / "automatic")


def row(video, part, **codes):
    found = {"video_id": video, "subject_id": None, "folds": {"emotionet-ours-v1": part}}
    for name, code in codes.items():
        found |= {f"au_occ_{name[2:]}": code, f"au_occ_{name[2:]}_mask": "not_annotated" if code is None else "valid"}
    return found


AUTOMATIC = [
    row("N_0000000001_00001", 1, au1=0, au2=1, au3=None, au12=1, au60=None),
    row("N_0000000001_00002", 3, au1=1, au2=0, au3=None, au12=None, au60=0),
    row("N_0000000003_00007", 1, au1=1, au2=1, au3=None, au12=0, au60=None),
]
MANUAL = [
    row("N_0000000101_00001", 1, au1=0, au2=1, au4=0, au60=None),
    row("N_0000000102_00001", 1, au1=1, au2=0, au4=None, au60=None),
]


def printed(row):
    return f"{row['video_id']}.jpg"


def test_automatic_lists_conform(automatic, tmp_path):
    out = check_importer("emotionet", automatic, tmp_path, AUTOMATIC, printed)
    chunk = next(chunk for chunk, _ in chunks_of(out) if chunk.video_id == "N_0000000001_00001")
    assert (chunk.labels["au_occ_60"].raw, chunk.labels["au_occ_1"].raw, len(chunk.labels)) == ("999", None, 60)
    notes = run_import("emotionet", automatic, tmp_path / "out").facts["notes"]
    assert notes["listed pictures without a file (dead addresses)"] == {
        "count": 1, "examples": ["N_0000000002_00001.jpg"],
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_lists_by_hand_conform(tmp_path, kind):
    root = write_manual(tmp_path / "manual", kind)
    check_importer("emotionet", root, tmp_path, MANUAL, printed)


def test_of_both_kinds_either_may_be_asked_for_and_those_by_hand_win(automatic, tmp_path):
    write_manual(automatic)
    change(automatic / "dataFile_0002.txt", "N_0000000002_00001", "N_0000000101_00001")
    run_import("emotionet", automatic, tmp_path / "hand", annotations="manual")
    assert_golden(frame_rows(tmp_path / "hand"), MANUAL)
    run_import("emotionet", automatic, tmp_path / "both")
    common = [
        {n: v for n, v in row.items() if not n.startswith(("au_occ_4", "au_occ_3"))} for row in AUTOMATIC + MANUAL
    ]
    assert_golden(frame_rows(tmp_path / "both"), common)


def change(path, old, new):
    text = path.read_text(encoding="utf-8-sig")
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("URL,URL orig", "0000,URL orig", "line 1: begins with 0000.*expected URL,URL orig,'AU 1'"),
        ("'AU 2'", "'AU 1'", "names an action unit twice"),
        (",0,1,0,999", ",0,9,0,999", "line 2: AU 2 is '9'; expected 0, 1 or 999"),
        (",0,1,0,999", ",0,-1,0,999", "AU 2 is '-1'"),
        (",0,1,0,999", ",0,1,0", "5 cells; the header has 6"),
        (
            "N_0000000102_00001.jpg",
            "N_0000000101_00001.jpg",
            "line 3: N_0000000101_00001.jpg is listed before with other",
        ),
        ("http://example.org/emotionet/m/N_0000000101_00001.jpg", "nowhere/", "address 'nowhere/' names no picture"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, old, new, message):
    root = write_manual(tmp_path / "manual")
    change(root / "EmotioNet_FACS.csv", old, new)
    with pytest.raises(ReleaseError, match=message):
        run_import("emotionet", root, tmp_path / "out")


def test_lists_may_lie_in_a_folder_that_is_named(automatic, tmp_path):
    (automatic / "lists").mkdir()
    for path in automatic.glob("dataFile_*.txt"):
        path.rename(automatic / "lists" / path.name)
    with pytest.raises(ReleaseError, match="expected emotionet: dataFile"):
        run_import("emotionet", automatic, tmp_path / "out")
    run_import("emotionet", automatic, tmp_path / "out", lists="lists")
    assert_golden(frame_rows(tmp_path / "out"), AUTOMATIC)


def test_a_tab_at_the_end_and_a_comma_in_an_address_are_read(automatic, tmp_path):
    path = automatic / "dataFile_0001.txt"
    path.write_text(path.read_text(encoding="utf-8-sig").replace("\n", "\t\n"))
    run_import("emotionet", automatic, tmp_path / "automatic")
    assert_golden(frame_rows(tmp_path / "automatic"), AUTOMATIC)
    root = write_manual(tmp_path / "manual")
    change(root / "EmotioNet_FACS.csv", "N_0000000101_00001.jpg',", "N_0000000101_00001.jpg?size=1,2',")
    run_import("emotionet", root, tmp_path / "out")
    assert_golden(frame_rows(tmp_path / "out"), MANUAL)


def test_a_sheet_that_is_damaged_within_is_refused(tmp_path):
    path = write_manual(tmp_path / "manual", "xlsx") / "EmotioNet_FACS_aws_2020_24600.xlsx"
    data = path.read_bytes()
    with zipfile.ZipFile(path) as book:
        sheet = book.getinfo("xl/worksheets/sheet1.xml")
    place = sheet.header_offset + 30 + len(sheet.filename) + 5
    path.write_bytes(data[:place] + bytes(100) + data[place + 100 :])
    with pytest.raises(ReleaseError, match=r"24600\.xlsx is no whole Excel file"):
        run_import("emotionet", path.parent, tmp_path / "out")


def test_a_column_too_few_is_refused_not_shifted(automatic, tmp_path):
    change(automatic / "dataFile_0002.txt", "\t999\t", "\t")
    with pytest.raises(ReleaseError, match=r"dataFile_0002\.txt line 1: 61 cells; expected two addresses and 60 codes"):
        run_import("emotionet", automatic, tmp_path / "out")


def test_999_is_never_absent_and_columns_are_not_shifted(automatic, tmp_path):
    change(automatic / "dataFile_0001.txt", "\t0\t1\t999", "\t999\t0\t1")
    run_import("emotionet", automatic, tmp_path / "out")
    with pytest.raises(AssertionError):
        assert_golden(frame_rows(tmp_path / "out"), AUTOMATIC)


def test_an_automatic_list_that_lacks_is_missing(automatic, tmp_path):
    (automatic / "dataFile_0001.txt").write_text("")
    with pytest.raises(ReleaseError, match=r"dataFile_0001\.txt has no bytes"):
        run_import("emotionet", automatic, tmp_path / "out")
    (automatic / "dataFile_0001.txt").unlink()
    with pytest.raises(MissingMediaError, match=r"(?s)1 files.*dataFile_0001\.txt"):
        run_import("emotionet", automatic, tmp_path / "out")
    run_import("emotionet", automatic, tmp_path / "out", allow_missing=True)
    assert_golden(frame_rows(tmp_path / "out"), AUTOMATIC[2:])


def test_two_pictures_of_one_name_are_refused(automatic, tmp_path):
    shutil.copytree(automatic / "images", automatic / "copies")
    with pytest.raises(ReleaseError, match="which one is meant"):
        run_import("emotionet", automatic, tmp_path / "out")
    run_import("emotionet", automatic, tmp_path / "out", images="copies")
    assert_golden(frame_rows(tmp_path / "out"), AUTOMATIC)


def test_a_damaged_picture_and_none_at_all_are_errors(automatic, tmp_path):
    (automatic / "images/N_0000000001/N_0000000001_00001.jpg").write_bytes(picture("x")[:-300])
    with pytest.raises(MissingMediaError, match=r"(?s)1 files.*N_0000000001_00001\.jpg"):
        run_import("emotionet", automatic, tmp_path / "out")
    shutil.rmtree(automatic / "images")
    with pytest.raises(ReleaseError, match="expected emotionet: pictures of the lists, such as"):
        run_import("emotionet", automatic, tmp_path / "out")


def test_a_wrong_root_is_named_with_the_right_one(automatic, tmp_path):
    for place in ("..", "images"):
        with pytest.raises(ReleaseError, match=r"expected emotionet: dataFile.*is that the ROOT you mean"):
            run_import("emotionet", automatic / place, tmp_path / "out")
