"""Agrees with the layouts as documented (reference A7, confirmed by code); not run on the real release."""

import pytest

from checks import assert_golden, check_importer, chunks_of, frame_rows, run_import
from fake.emotic import write_csv, write_mat
from fake.printed import picture
from reactionnet_datasets.about import load_importer
from reactionnet_datasets.doctor import published_frames
from reactionnet_datasets.importers.emotic import CATEGORIES
from reactionnet_datasets.release import MissingMediaError, ReleaseError

WRITE = {"mat": write_mat, "csv": write_csv}


def row(video, person, split, box, words, vad, gender, age):
    mask = "valid" if words else "not_annotated"
    return {
        "video_id": video, "person": person, "split_all": split, "gender": gender, "age_group": age,
        **dict(zip(("face_x", "face_y", "face_w", "face_h"), box, strict=True)),
        **dict(zip(("valence", "arousal", "dominance"), vad or (None,) * 3, strict=True)), "valence_mask": mask,
        **{f"emotic_{name}": int(name in words) if words else None for name in CATEGORIES}, "emotic_pain_mask": mask,
    }  # fmt: skip


GOLDEN = [
    row("ade20k/images/ade_1", "0", "test", (2, 2, 28, 28), ["yearning"], (1, 10, 2), "male", "adult"),
    row("ade20k/images/ade_1", "1", "test", (3, 3, 27, 27), [], None, "male", "adult"),
    row("emodb_small/images/img_1", "0", "val", (0, 0, 10, 10), ["fear", "peace"], (5.5, 4.5, 5), "female", "adult"),
    row("framesdb/images/frame_abc", "0", "train", (1, 2, 2, 2), ["anticipation"], (6, 4, 7), "male", "teenager"),
    row("framesdb/images/frame_def", "0", "train", (9, 9, 11, 11), [], None, "male", "adult"),
    row("mscoco/images/COCO_val2014_000000000001", "0", "train", (6, 8, 38, 32),
        ["disconnection", "doubt_confusion"], (5, 3, 9), "male", "adult"),
    row("mscoco/images/COCO_val2014_000000000001", "1", "train", (0, 2, 64, 45), ["happiness"], (8, 7, 6), "female", "kid"),
]  # fmt: skip


def printed(row):
    return row["source_path"].removeprefix("emotic/")


@pytest.mark.parametrize("kind", WRITE)
def test_conforms(tmp_path, kind):
    root = WRITE[kind](tmp_path / "release")
    out = check_importer("emotic", root, tmp_path, GOLDEN, printed)
    facts = {(c.video_id.rpartition("/")[2], c.track): c.provenance for c, _ in chunks_of(out)}
    assert facts["COCO_val2014_000000000001", "1"]["bbox"] == [-4, 2, 80, 47]
    notes = run_import("emotic", root, tmp_path / "notes").facts["notes"]
    assert {what: noted["count"] for what, noted in notes.items()} == {
        "boxes clipped to the picture": 1, "people whom nobody annotated": 2,
    }  # fmt: skip
    if kind == "mat":
        assert facts["img_1", "0"]["annotators"] == [
            {"categories": ["Peace"], "vad": [5, 5, 5]}, {"categories": ["Peace", "Fear"], "vad": [6, 4, 5]},
        ]  # fmt: skip


def test_pictures_may_lie_at_the_top(tmp_path):
    root = write_mat(tmp_path / "release")
    for folder in (root / "emotic").iterdir():
        folder.rename(root / folder.name)
    (root / "emotic").rmdir()
    run_import("emotic", root, tmp_path / "out")
    assert_golden(frame_rows(tmp_path / "out"), GOLDEN)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("'Anticipation'", "'Antizipation'", r"train.csv line 4: category 'Antizipation'"),
        ("[5, 3, 9]", "[0, 3, 9]", "line 2: valence 0; expected 1 to 10"),
        ("[5, 3, 9]", "[5, 3]", r"line 2: '\[5, 3\]'; expected \[valence"),
        ("[6, 8, 44, 40]", "__import__('os')", "line 2: .*expected a list"),
        ("[6, 8, 44, 40]", "[6, 8, 44]", "expected x1, y1, x2, y2"),
        ("[64, 48]", "[64]", "expected .width, height."),
        ("Teenager", "Teen", "'teen'; expected kid or teenager or adult"),
        ("Continuous_Labels", "VAD", "has no column Continuous_Labels"),
        ("framesdb/images", "../framesdb", "leads out of the release"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, old, new, message):
    root = write_csv(tmp_path / "release")
    path = root / "emotic_pre/train.csv"
    text = path.read_text(encoding="utf-8-sig")
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ReleaseError, match=message):
        run_import("emotic", root, tmp_path / "out")


def test_a_picture_in_two_splits_is_refused(tmp_path):
    root = write_csv(tmp_path / "release")
    path = root / "emotic_pre/test.csv"
    path.write_text(path.read_text(encoding="utf-8-sig").replace("ade20k/images,ade_1", "framesdb/images,frame_abc"))
    with pytest.raises(ReleaseError, match=r"test.csv line 2: framesdb/images/frame_abc.jpg is in train and in test"):
        run_import("emotic", root, tmp_path / "out")


def test_permuted_categories_and_swapped_pictures_are_seen(tmp_path):
    root = write_csv(tmp_path / "release")
    (root / "emotic/framesdb/images/frame_abc.jpg").write_bytes(picture("framesdb/images/frame_def.jpg"))
    with pytest.raises(AssertionError, match="does not show framesdb/images/frame_abc"):
        check_importer("emotic", root, tmp_path, GOLDEN, printed)
    path = root / "emotic_pre/train.csv"
    path.write_text(path.read_text().replace("'Happiness'", "'Pain'"))
    run_import("emotic", root, tmp_path / "permuted")
    with pytest.raises(AssertionError):
        assert_golden(frame_rows(tmp_path / "permuted"), GOLDEN)


def test_a_missing_picture_costs_its_people(tmp_path):
    root = write_mat(tmp_path / "release")
    (root / "emotic/mscoco/images/COCO_val2014_000000000001.jpg").unlink()
    with pytest.raises(MissingMediaError, match=r"(?s)emotic/mscoco/images/COCO_val2014_000000000001\.jpg"):
        run_import("emotic", root, tmp_path / "out")
    run_import("emotic", root, tmp_path / "out", allow_missing=True)
    assert_golden(frame_rows(tmp_path / "out"), GOLDEN[:5])


def test_wrong_roots_and_halves_are_named(tmp_path):
    root = write_mat(tmp_path / "release/EMOTIC")
    with pytest.raises(ReleaseError, match=r"expected emotic: .*is that the ROOT you mean"):
        run_import("emotic", root.parent, tmp_path / "out")
    with pytest.raises(ReleaseError, match=r"expected emotic: .*is that the ROOT you mean"):
        run_import("emotic", root / "emotic", tmp_path / "out")
    (root / "Annotations/Annotations.mat").write_bytes(b"no matrix at all" * 20)
    with pytest.raises(ReleaseError, match=r"Annotations\.mat is no MATLAB file"):
        run_import("emotic", root, tmp_path / "out")
    (tmp_path / "csv").mkdir()
    half = write_csv(tmp_path / "csv/release")
    (half / "emotic_pre/val.csv").unlink()
    with pytest.raises(ReleaseError, match=r"expected one table val\.csv in emotic_pre; found test\.csv, train\.csv"):
        run_import("emotic", half, tmp_path / "out")


def test_the_doctor_counts_annotated_people(tmp_path):
    run_import("emotic", write_mat(tmp_path / "release"), tmp_path / "out")
    findings = load_importer("emotic").doctor(published_frames(tmp_path / "out"))
    assert [(finding.expected, finding.found) for finding in findings] == [
        ("23,266", "3"),
        ("3,315", "1"),
        ("7,203", "1"),
    ]


def test_tables_may_lie_beside_the_pictures_and_arrays_are_not_read(tmp_path):
    root = write_csv(tmp_path / "release")
    (root / "emotic_pre").rename(root / "emotic/emotic_pre")
    run_import("emotic", root, tmp_path / "out")
    assert_golden(frame_rows(tmp_path / "out"), GOLDEN)
    for path in (root / "emotic/emotic_pre").iterdir():
        path.unlink()
    (root / "arrays").mkdir()
    (root / "arrays/train_context_arr.npy").write_bytes(b"")
    with pytest.raises(
        ReleaseError, match=r"arrays/train_context_arr.npy is of the conversion to arrays, which is unconf"
    ):
        run_import("emotic", root, tmp_path / "other")
