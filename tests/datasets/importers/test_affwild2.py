"""Agrees with the layouts as documented (reference A3; MTL's is recalled); not run on the real release."""

import json
import shutil

import pytest

from checks import assert_golden, check_importer, chunks_of, frame_rows, run_import
from fake.affwild2 import ANNOTATIONS, AU, EXPR, VA, write_abaw1, write_abaw6, write_mtl, write_raw
from fake.printed import picture
from reactionnet_datasets import ShardDataset
from reactionnet_datasets.about import load_importer
from reactionnet_datasets.doctor import examine, published_frames
from reactionnet_datasets.protocols import load_protocol
from reactionnet_datasets.release import MissingMediaError, ReleaseError

AUS = (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26)


def row(video, frame, splits, au="not_annotated", expression="not_annotated", va="not_annotated", **others):
    """`au` are the units that occur, or the mask of all; `expression` a class or a mask; `va` two numbers or a mask."""
    plain = isinstance(au, tuple)
    cells = {f"au_occ_{n}": int(n in au) if plain else None for n in AUS}
    cells |= {f"au_occ_{n}_mask": "valid" if plain else au for n in AUS}
    words = ("not_annotated", "invalid_code", "withheld")
    cells |= {"expression": None if expression in words else expression}
    cells |= {"expression_mask": expression if expression in words else "valid"}
    values = va if isinstance(va, tuple) else (None, None)
    mask = "valid" if isinstance(va, tuple) else va
    cells |= {"valence": values[0], "arousal": values[1], "valence_mask": mask, "arousal_mask": mask}
    person = video.rpartition("_")[2] if video.endswith(("_left", "_right")) else "0"
    split = dict(zip(("split_au", "split_expr", "split_va"), splits, strict=True))
    return {"video_id": video, "person": person, "subject_id": None, "frame": frame, **cells, **split, **others}


LEFT, RIGHT, BETA, GAMMA = (
    ("train", "val", "train"),
    ("val", None, None),
    ("test", "train", "val"),
    ("test", "test", None),
)
SIX = row("alpha_left", 6, LEFT, (1, 12, 26), "not_annotated", t_s=0.16667)
FIVE = row("alpha_left", 5, LEFT, (4, 26), "sadness") | {"au_occ_12": None, "au_occ_12_mask": "invalid_code"}
GOLDEN = [
    row(
        "alpha_left", 1, LEFT, (12, 25), "neutral", (0.234, -0.118), source_path="cropped_aligned/alpha_left/00001.jpg"
    ),
    row("alpha_left", 2, LEFT, "invalid_code", "happiness", "invalid_code", t_s=0.03333),
    FIVE,
    SIX,
    row("alpha_right", 1, RIGHT, (26,)),
    row("alpha_right", 2, RIGHT, (12,)),
    row("beta", 1, BETA, "withheld", "neutral", (0.234, -0.118)),
    row("beta", 2, BETA, "withheld", "happiness", "invalid_code", source_path="cropped_aligned/beta/00002.JPG"),
    row("beta", 3, BETA, "withheld", "invalid_code", (-1.0, 1.0)),
    row("gamma", 1, GAMMA, "withheld", "withheld"),
    row("gamma", 3, GAMMA, "withheld", "withheld"),
    row("gamma", 4, GAMMA, "withheld", "not_annotated"),
]


def printed(row):
    return f"{row['video_id']} {row['frame']}"


@pytest.fixture
def release(tmp_path):
    return write_abaw6(tmp_path / "release")


def replaced(path, old, new):
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


def test_conforms(release, tmp_path):
    out = check_importer("affwild2", release, tmp_path, GOLDEN, printed)
    notes = json.loads((out / "import_report.json").read_bytes())["notes"]
    assert notes["labelled frames without a crop"]["count"] == 6  # alpha_left 3, 4, 7; beta 4, 5; gamma 2
    assert notes["crops of videos that no list names (lists of test videos: d.kollias@qmul.ac.uk)"]["examples"] == [
        "delta"
    ]
    assert notes["stray files beside crops"]["count"] == 1
    assert notes["lists of another task"]["count"] == 1
    clips = sorted((c.clip_id, list(c.frames)) for c, _ in chunks_of(out) if c.track == "left")
    assert clips == [("alpha_5fleft-left-000001", [1, 2]), ("alpha_5fleft-left-000005", [5, 6])]
    raw = next(c.labels["au_occ_12"].raw for c, _ in chunks_of(out) if c.clip_id == clips[1][0])
    assert raw == ["-1", None]


def test_splits_are_of_a_task_and_rows_with_an_invalid_unit_can_be_left_out(release, tmp_path):
    run_import("affwild2", release, tmp_path / "out")
    out = tmp_path / "out"
    items = list(
        ShardDataset(out, split="val", task="expr", labels={"expression": "classes:abaw8"}, window=2, stride=2)
    )
    assert [item["labels"]["expression"].tolist() for item in items] == [[0, 4], [5, -100]]
    labels = {"au_occ_26": "abaw:row"}
    items = list(ShardDataset(out, split="train", task="au", labels=labels, window=2, stride=2))
    assert [item["labels"]["au_occ_26_mask"].tolist() for item in items] == [[True, False], [False, True]]
    assert items[1]["labels"]["au_occ_26"][1] == 1


def test_both_people_of_a_video_are_in_one_fold(release, tmp_path):
    run_import("affwild2", release, tmp_path / "out")
    folds = {row["video_id"]: dict(row["folds"]) for row in frame_rows(tmp_path / "out")}
    part = load_protocol("affwild2-5fold-ours-v1").part_of("alpha")
    assert folds["alpha_left"] == folds["alpha_right"] == {"affwild2-5fold-ours-v1": part}
    assert folds["gamma"] == {}  # tested by every task


def test_the_video_gives_times_and_its_name_has_no_side(release, tmp_path):
    write_raw(release)
    run_import("affwild2", release, tmp_path / "out")
    times = {(row["video_id"], row["frame"]): row["t_s"] for row in frame_rows(tmp_path / "out")}
    assert times["alpha_left", 5] == pytest.approx(0.4)  # ten a second
    assert times["alpha_right", 2] == pytest.approx(0.1)
    assert times["beta", 2] == pytest.approx(1 / 30, abs=1e-5)  # whose video is not there
    (release / "batch1/alpha.mp4").write_bytes(b"no video")
    planned = run_import("affwild2", release, tmp_path / "other")
    assert "videos that cannot be read, so that their clips have no sound" in planned.facts["notes"]


def test_abaw1_has_eight_units_and_seven_expressions(tmp_path):
    release = write_abaw1(tmp_path / "release")
    wanted = (
        ("beta", 1, "train", (1, 20), "surprise"), ("beta", 2, "train", (25,), "sadness"),
        ("gamma", 1, "val", (), "anger"), ("gamma", 2, "val", (12,), None),
    )  # fmt: skip
    golden = [
        {"video_id": video, "frame": frame, "split_au": split, "split_expr": split, "expression": name}
        | {f"au_occ_{n}": int(n in found) for n in (1, 2, 4, 6, 12, 15, 20, 25)}
        for video, frame, split, found, name in wanted
    ]
    out = check_importer("affwild2", release, tmp_path, golden, printed)
    assert "au_occ_26" not in frame_rows(out)[0]
    assert {chunk.labels["expression"].space for chunk, _ in chunks_of(out)} == {"abaw7"}


def test_mtl_names_its_pictures(tmp_path):
    release = write_mtl(tmp_path / "release")
    golden = [
        {"video_id": "beta", "frame": 1, "valence": None, "expression": None, "au_occ_12": None, "split_mtl": "train"},
        {"video_id": "beta", "frame": 3, "valence": 0.5, "expression": "other", "au_occ_12": 1, "split_mtl": "train"},
        {"video_id": "gamma", "frame": 4, "valence": 0, "expression": "neutral", "au_occ_1": 1, "split_mtl": "val"},
    ]
    check_importer("affwild2", release, tmp_path, golden, printed)
    (release / "cropped_aligned/beta/00003.jpg").unlink()
    with pytest.raises(MissingMediaError, match=r"beta/00003.jpg \(4th ABAW"):
        run_import("affwild2", release, tmp_path / "other")


def test_mtl_beside_the_tasks_is_asked_for(release, tmp_path):
    (write_mtl(tmp_path / "mtl") / "4th ABAW Annotations/MTL_Challenge").rename(release / ANNOTATIONS / "MTL_Challenge")
    planned = run_import("affwild2", release, tmp_path / "out")
    assert_golden(frame_rows(tmp_path / "out"), GOLDEN)
    assert "labels left out: MTL's are read by --tasks mtl" in planned.facts["notes"]
    run_import("affwild2", release, tmp_path / "mtl-out", tasks="mtl")
    assert len(frame_rows(tmp_path / "mtl-out")) == 3
    with pytest.raises(ReleaseError, match="import it alone"):
        run_import("affwild2", release, tmp_path / "both", tasks="au,mtl")


@pytest.mark.parametrize("spelling", ["EXPR_Classification_Challenge", "expr_recognition_challenge"])
def test_spellings_of_a_task_s_folder(release, tmp_path, spelling):
    (release / ANNOTATIONS / "EXPR_Recognition_Challenge").rename(release / ANNOTATIONS / spelling)
    run_import("affwild2", release, tmp_path / "out")
    assert_golden(frame_rows(tmp_path / "out"), GOLDEN)


def test_without_lists_the_rest_is_imported_and_whom_to_ask_is_said(release, tmp_path):
    shutil.rmtree(release / "names_of_videos_in_each_test_set")
    for path in release.glob("*.txt"):
        path.unlink()
    planned = run_import("affwild2", release, tmp_path / "out")
    assert {row["video_id"] for row in frame_rows(tmp_path / "out")} == {"alpha_left", "alpha_right", "beta"}
    assert "no lists of test videos; ask d.kollias@qmul.ac.uk" in planned.facts["notes"]


@pytest.mark.parametrize("mutation", ["shifted", "left for right", "permuted", "invalid read as 0", "last dropped"])
def test_mutations_are_seen(release, tmp_path, mutation):
    folder = release / ANNOTATIONS / "AU_Detection_Challenge"
    crops = release / "cropped_aligned"
    if mutation == "shifted":
        lines = AU.splitlines()
        (folder / "Train_Set/alpha_left.txt").write_text("\n".join(lines[:1] + lines[2:]))
    elif mutation == "left for right":
        for old, new in (("alpha_left", "swap"), ("alpha_right", "alpha_left"), ("swap", "alpha_right")):
            (crops / old).rename(crops / new)
    elif mutation == "permuted":
        replaced(release / ANNOTATIONS / "EXPR_Recognition_Challenge/Train_Set/beta.txt", "\n4\n", "\n3\n")
    elif mutation == "invalid read as 0":
        replaced(folder / "Train_Set/alpha_left.txt", "0,0,1,0,0,0,-1,", "0,0,1,0,0,0,0,")
    else:
        (crops / "beta/00003.jpg").unlink()
    with pytest.raises(AssertionError):
        check_importer("affwild2", release, tmp_path, GOLDEN, printed)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("AU_Detection_Challenge/Train_Set/alpha_left.txt", AU.split("\n", 1)[1], "expected a header, so that line 2"),
        ("AU_Detection_Challenge/Train_Set/alpha_left.txt", AU.replace("AU26", "AU 25"), "'AU 25'; expected action"),
        ("AU_Detection_Challenge/Train_Set/alpha_left.txt", AU.replace("1,1,0", "1,2,0"), "line 5: AU 2 is 2"),
        ("AU_Detection_Challenge/Train_Set/alpha_left.txt", AU.replace("1,1,0", "1,1"), "line 5: 11 cells"),
        ("AU_Detection_Challenge/Train_Set/alpha_left.txt", AU.replace("\n-1", "\n\n-1"), "line 3: is empty"),
        ("AU_Detection_Challenge/Validation_Set/alpha_left.txt", AU, "alpha_left is in two sets of one task"),
        ("AU_Detection_Challenge/Train_Set/gamma.txt", AU, "gamma is a test video of the task au"),
        ("EXPR_Recognition_Challenge/Train_Set/beta.txt", EXPR.replace("Anger,Disgust", "Disgust,Anger"), "along this"),
        ("EXPR_Recognition_Challenge/Train_Set/beta.txt", EXPR.replace("\n7", "\n8"), "code 8; expected -1 to 7"),
        ("EXPR_Recognition_Challenge/Train_Set/beta.txt", EXPR.replace("\n7", "\n7,1"), "expected one class code"),
        ("VA_Estimation_Challenge/Train_Set/alpha_left.txt", VA.replace("0.234", "5"), "valence is 5; expected -1"),
        ("VA_Estimation_Challenge/Train_Set/alpha_left.txt", VA.replace("valence", "v"), "expected valence,arousal"),
    ],
)
def test_labels_out_of_place_are_refused(release, tmp_path, name, text, message):
    (release / ANNOTATIONS / name).write_text(text)
    with pytest.raises(ReleaseError, match=message):
        run_import("affwild2", release, tmp_path / "out")


def test_a_video_without_any_crop_and_a_crop_that_is_cut_off(release, tmp_path):
    shutil.rmtree(release / "cropped_aligned/alpha_right")
    with pytest.raises(MissingMediaError, match=r"(?s)1 files.*cropped_aligned/alpha_right/\*.jpg"):
        run_import("affwild2", release, tmp_path / "out")
    path = release / "cropped_aligned/beta/00001.jpg"
    path.write_bytes(path.read_bytes()[:300])
    run_import("affwild2", release, tmp_path / "out", allow_missing=True)
    lost = {("alpha_right", 1), ("alpha_right", 2), ("beta", 1)}
    left = [row for row in GOLDEN if (row["video_id"], row["frame"]) not in lost]
    assert_golden(frame_rows(tmp_path / "out"), left)
    (release / "cropped_aligned/beta/1.jpg").write_bytes(picture("x"))
    with pytest.raises(ReleaseError, match="frame 1 is also"):
        run_import("affwild2", release, tmp_path / "out")


@pytest.mark.parametrize("lost", ["VA_Estimation_Challenge", "VA_Estimation_Challenge/Train_Set"])
def test_annotations_that_are_not_unpacked_are_named(release, tmp_path, lost):
    folder = release / ANNOTATIONS / lost
    shutil.move(folder, tmp_path / "packed")
    folder.with_suffix(".zip").write_bytes(b"PK")
    with pytest.raises(ReleaseError, match=rf"{lost}\.zip: not unpacked"):
        run_import("affwild2", release, tmp_path / "out")


def test_a_half_unpacked_release_and_one_with_two_sets_of_annotations(release, tmp_path):
    shutil.rmtree(release / ANNOTATIONS / "AU_Detection_Challenge/Validation_Set")
    with pytest.raises(ReleaseError, match=r"expected Validation_Set in .*AU_Detection_Challenge; found Train_Set"):
        run_import("affwild2", release, tmp_path / "out")
    shutil.copytree(release / ANNOTATIONS, release / "3rd ABAW Annotations")
    with pytest.raises(ReleaseError, match="choose one with --annotations"):
        run_import("affwild2", release, tmp_path / "out")


def test_the_doctor_counts_both_people_of_a_video_once(release, tmp_path):
    run_import("affwild2", release, tmp_path / "out")
    module = load_importer("affwild2")
    found = {finding.what: finding for finding in examine(published_frames(tmp_path / "out"), module)}
    assert (found["videos of au in ABAW6"].found, found["videos of au in ABAW6"].verdict) == ("3", "UNKNOWN")
    assert found["videos of au in ABAW2, train"].found == "1"
    assert found["videos of va in ABAW6"].found == "2"
