"""Agrees with the owners' two forms as documented (reference A15, confirmed by code); not run on the real tables."""

import pytest

from checks import assert_golden, check_importer, frame_rows, read_member, run_import
from fake.ferplus import write_folders, write_tables
from fake.printed import says
from reactionnet_datasets import ShardDataset
from reactionnet_datasets.about import load_importer
from reactionnet_datasets.doctor import examine, published_frames
from reactionnet_datasets.release import MissingMediaError, ReleaseError

NAMES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "nf")


@pytest.fixture
def tables(tmp_path):
    return write_tables(tmp_path / "tables")


@pytest.fixture
def folders(tmp_path):
    return write_folders(tmp_path / "folders")


def row(video, split, votes, emotion):
    return {
        "video_id": video, "subject_id": None, "split_all": split, "expression_fer2013": emotion,
        **{f"votes_{name}": count for name, count in zip(NAMES, votes, strict=True)},
    }  # fmt: skip


GOLDEN = [
    row("fer0000000", "train", (4, 0, 0, 1, 3, 2, 0, 0, 0, 0), "anger"),
    row("fer0000001", "train", (0, 9, 1, 0, 0, 0, 0, 0, 0, 0), "happiness"),
    row("fer0000002", "train", (5, 5, 0, 0, 0, 0, 0, 0, 0, 0), "neutral"),
    row("fer0000004", "train", (1, 0, 0, 0, 0, 0, 0, 8, 0, 0), "disgust"),
    row("fer0000005", "val", (0, 0, 0, 0, 2, 1, 0, 7, 0, 0), "anger"),
    row("fer0000006", "val", (0, 0, 2, 0, 0, 0, 2, 0, 6, 0), "surprise"),
    row("fer0000007", "test", (0, 0, 0, 8, 0, 0, 2, 0, 0, 0), "sadness"),
]
WITHOUT_FER2013 = [{name: v for name, v in row.items() if name != "expression_fer2013"} for row in GOLDEN]


def printed(row):
    return row["video_id"]


def test_the_tables_conform(tables, tmp_path):
    check_importer("ferplus", tables, tmp_path, GOLDEN, printed)
    planned = run_import("ferplus", tables, tmp_path / "out")
    assert planned.facts["notes"]["rows of Training without an image name"]["count"] == 1


def test_the_folders_conform(folders, tmp_path):
    golden = [{**row, "face_x": 0, "face_y": 0, "face_w": 48, "face_h": 48} for row in WITHOUT_FER2013]
    check_importer("ferplus", folders, tmp_path, golden, printed)
    folders.rename(tmp_path / "data")
    run_import("ferplus", tmp_path, tmp_path.with_name("outside"))
    assert_golden(frame_rows(tmp_path.with_name("outside")), WITHOUT_FER2013)


def test_the_owners_table_stands_for_the_folders_lists(folders, tables, tmp_path):
    for path in folders.glob("*/label.csv"):
        path.unlink()
    (tables / "fer2013new.csv").rename(folders / "fer2013new.csv")
    planned = run_import("ferplus", folders, tmp_path / "out")
    assert_golden(frame_rows(tmp_path / "out"), WITHOUT_FER2013)
    assert planned.facts["notes"]["rows of Training without an image name"]["count"] == 1


def test_rows_without_a_name_may_be_asked_for(tables, tmp_path):
    run_import("ferplus", tables, tmp_path / "out", unnamed="yes")
    rows = frame_rows(tmp_path / "out")
    assert len(rows) == 8
    assert (rows[-1]["video_id"], rows[-1]["votes_nf"]) == ("row-0000003", 10)
    assert says(read_member(tmp_path / "out", rows[-1]), "fer0000003")


def test_the_majority_is_a_rule_of_the_reader(tables, tmp_path):
    run_import("ferplus", tables, tmp_path / "out")
    data = ShardDataset(tmp_path / "out", split="train", window=1, labels={"expression": "ferplus:majority"})
    found = {str(item["key"])[:10]: int(item["labels"]["expression"].ravel()[0]) for item in data}
    assert found == {"fer0000000": -100, "fer0000001": 1, "fer0000002": -100, "fer0000004": 7}


def lines(path, change):
    path.write_text("\n".join(change(path.read_text(encoding="utf-8-sig").split("\n"))))


def test_shards_are_counted_by_what_a_picture_is_not_by_the_table_it_comes_from(tables, tmp_path):
    for name in ("fer2013.csv", "fer2013new.csv"):
        lines(
            tables / name,
            lambda rows: [*rows[:2], *(rows[2].replace("0001", f"1{n:03d}") for n in range(100)), *rows[3:]],
        )
    planned = run_import("ferplus", tables, tmp_path / "out")
    assert planned.num_clips == 106
    assert [job.group for job in planned.jobs] == ["train", "val", "test"]


def test_votes_shifted_by_a_row_are_seen(tables, tmp_path):
    lines(tables / "fer2013new.csv", lambda rows: [rows[0], rows[2], rows[1], *rows[3:]])
    with pytest.raises(AssertionError):
        check_importer("ferplus", tables, tmp_path, GOLDEN, printed)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("fer2013new.csv", lambda rows: [*rows[:5], *rows[6:]], r"fer2013.csv line 6: usage Training, but PublicTest"),
        ("fer2013.csv", lambda rows: rows[:-2], "differ in their number of rows"),
        ("fer2013.csv", lambda rows: [rows[0], rows[1].replace(" ", " 256 ", 1), *rows[2:]], "expected 2304 pixels"),
        ("fer2013new.csv", lambda rows: [rows[0].replace("NF", "nobody"), *rows[1:]], "has no column NF"),
        (
            "fer2013new.csv",
            lambda rows: [rows[0], rows[1].replace("4", "11"), *rows[2:]],
            "line 2: 11 votes for neutral",
        ),
        ("fer2013new.csv", lambda rows: [rows[0], rows[1].replace(",4,", ",,"), *rows[2:]], "votes for neutral is ''"),
        ("fer2013new.csv", lambda rows: [*rows[:2], rows[1], *rows[3:]], "line 3: fer0000000 is listed before"),
    ],
)
def test_tables_that_do_not_belong_together_are_refused(tables, tmp_path, name, change, message):
    lines(tables / name, change)
    with pytest.raises(ReleaseError, match=message):
        run_import("ferplus", tables, tmp_path / "out")


def test_what_lacks_on_either_side_is_missing(folders, tmp_path):
    (folders / "FER2013Train/fer0000001.png").rename(folders / "FER2013Train/fer0000009.png")
    with pytest.raises(MissingMediaError, match=r"(?s)2 files.*fer0000001\.png.*votes for .*fer0000009\.png"):
        run_import("ferplus", folders, tmp_path / "out")


def test_half_a_release_is_refused(folders, tables, tmp_path):
    (tables / "fer2013.csv").unlink()
    with pytest.raises(ReleaseError, match=r"expected fer2013\.csv in .*found fer2013new\.csv"):
        run_import("ferplus", tables, tmp_path / "out")
    (folders / "FER2013Test").rename(tmp_path / "elsewhere")
    with pytest.raises(ReleaseError, match="expected FER2013Test beside FER2013Train and FER2013Valid"):
        run_import("ferplus", folders, tmp_path / "out")
    with pytest.raises(ReleaseError, match=r"expected ferplus: .*is that the ROOT you mean"):
        run_import("ferplus", folders / "FER2013Train", tmp_path / "out")


def test_the_doctor_counts_by_every_rule(tables, tmp_path):
    run_import("ferplus", tables, tmp_path / "out")
    module = load_importer("ferplus")
    found = {finding.what: finding.found for finding in examine(published_frames(tmp_path / "out"), module)}
    assert (found["train"], found["train, ferplus:majority"], found["train, ferplus:argmax8"]) == ("4", "2", "4")
    assert (found["val, ferplus:argmax10"], found["val, majority for contempt"]) == ("1", "1")
    assert all(
        sum(module.MAJORITY[split]) == count
        for split, count in zip(module.MAJORITY, module.COUNTS["majority"], strict=True)
    )
