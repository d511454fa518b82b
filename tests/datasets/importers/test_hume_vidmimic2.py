"""Agrees with the layout as public readers show it (reference A5; folder names unconfirmed); not run on the release."""

import json
import shutil

import pytest

from checks import assert_golden, check_importer, chunks_of, frame_rows, run_import
from fake.hume import TRAIN_SPLIT, sound, write_vidmimic2
from fake.printed import picture
from reactionnet_datasets.release import MissingMediaError, ReleaseError

NAMES = ("admiration", "amusement", "determination", "empathic_pain", "excitement", "joy")


def row(name, frame, t_s, split, values):
    cells = {f"emi_{n}": v for n, v in zip(NAMES, values or [None] * 6, strict=True)}
    masks = {f"emi_{n}_mask": "valid" if values else "withheld" for n in NAMES}
    return {"video_id": name, "subject_id": None, "frame": frame, "t_s": t_s, "split_all": split, **cells, **masks}


SEVEN = (0.0, 0.33333, 0.0, 0.0, 0.66667, 0.33333)
TWO = (0.25, 0.0, 0.5, 0.0, 0.0, 0.0)
ELEVEN = (0.0, 0.0, 1.0, 0.125, 0.0, 0.0)
FACES = [
    *(row("00002", n, (n - 1) / 20, "train", TWO) for n in (1, 2, 3)),
    *(row("00003", n, (n - 1) / 20, "test", None) for n in (1, 2)),
    *(row("00007", n, (n - 1) / 20, "train", SEVEN) for n in (1, 2, 4)),
    *(row("00011", n, (n - 1) / 20, "val", ELEVEN) for n in (1, 2)),
]


@pytest.fixture
def release(tmp_path):
    return write_vidmimic2(tmp_path / "release")


def test_face_crops_conform(release, tmp_path):
    out = check_importer(
        "hume_vidmimic2",
        release,
        tmp_path,
        FACES,
        lambda row: f"face {row['video_id']} {row['frame']}",
        pictures="faces",
    )
    report = json.loads((out / "import_report.json").read_bytes())
    assert len(report["refused"]) == 8
    assert "wav2vec2/00007.pkl" in report["refused"]
    assert report["notes"]["frames without a face crop"] == {"count": 1, "examples": ["face_images/00007"]}
    assert {chunk.video_id: chunk.clip_num_frames for chunk, _ in chunks_of(out)}["00007"] == 3  # not cut at the gap


def test_videos_conform(release, tmp_path):
    golden = [
        row(name, n, n / 20, split, values)
        for name, split, values in (
            ("00002", "train", TWO), ("00003", "test", None), ("00007", "train", SEVEN), ("00011", "val", ELEVEN),
        )
        for n in range(4)
    ]  # fmt: skip
    out = check_importer(
        "hume_vidmimic2", release, tmp_path, golden, lambda row: f"raw {row['video_id']} {row['frame']}"
    )
    assert "face crops left out" in (out / "import_report.json").read_text()


def test_folders_may_have_other_names(release, tmp_path):
    (release / "face_images").rename(release / "crops")
    run_import("hume_vidmimic2", release, tmp_path / "out", faces="crops", pictures="faces")
    assert_golden(frame_rows(tmp_path / "out"), FACES)
    with pytest.raises(ReleaseError, match=r"expected --faces face in .*; found crops"):
        run_import("hume_vidmimic2", release, tmp_path / "out", faces="face", pictures="faces")


def test_crops_without_videos_have_the_times_of_a_rate(release, tmp_path):
    shutil.rmtree(release / "raw")
    run_import("hume_vidmimic2", release, tmp_path / "out", fps="10")
    assert [r["t_s"] for r in frame_rows(tmp_path / "out") if r["video_id"] == "00007"] == [0.0, 0.1, 0.3]


def test_sound_is_joined_by_number(release, tmp_path):
    for name in ("00002", "00003", "00007", "00011"):
        sound(release / f"audio/{name}.wav", 0.3, int(name) * 100)
    run_import("hume_vidmimic2", release, tmp_path / "out")
    assert all(chunk.audio == {"start_s": 0.0, "rate": 16000} for chunk, _ in chunks_of(tmp_path / "out"))
    (release / "audio/00003.wav").unlink()  # of test, the videos alone are promised
    notes = run_import("hume_vidmimic2", release, tmp_path / "out").facts["notes"]
    assert notes["test videos without a file in audio, whose sound is the video's"]["examples"] == ["00003"]
    (release / "audio/00007.wav").unlink()
    with pytest.raises(MissingMediaError, match=r"audio/00007\.mp3"):
        run_import("hume_vidmimic2", release, tmp_path / "out")


def test_rows_looked_up_by_their_index_would_be_seen(release, tmp_path):
    text = TRAIN_SPLIT.replace("\n7,", "\n2,", 1).replace("\n2,0.25", "\n7,0.25")
    (release / "train_split.csv").write_text(text)
    run_import("hume_vidmimic2", release, tmp_path / "out", pictures="faces")
    with pytest.raises(AssertionError):
        assert_golden(frame_rows(tmp_path / "out"), FACES)


def test_a_test_video_of_which_the_crops_alone_are_left_is_missing(release, tmp_path):
    (release / "raw/00003.mp4").unlink()
    with pytest.raises(MissingMediaError, match=r"1 files(.|\n)*raw/00003.mp4"):
        run_import("hume_vidmimic2", release, tmp_path / "out")


@pytest.mark.parametrize("lost", ["raw/00007.mp4", "face_images/00007"])
def test_what_lacks_is_an_error_and_no_black_picture(release, tmp_path, lost):
    shutil.rmtree(release / lost) if (release / lost).is_dir() else (release / lost).unlink()
    with pytest.raises(MissingMediaError, match=rf"1 files(.|\n)*{lost}"):
        run_import("hume_vidmimic2", release, tmp_path / "out", pictures="faces")
    run_import("hume_vidmimic2", release, tmp_path / "out", allow_missing=True, pictures="faces")
    left = [r for r in FACES if r["video_id"] != "00007" or lost.startswith("raw")]
    assert [r["video_id"] for r in frame_rows(tmp_path / "out")] == [r["video_id"] for r in left]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("valid_split.csv", TRAIN_SPLIT, "line 2: 7 is in train_split.csv too"),
        ("test_split.csv", "Filename\n3\n7\n", "00007 is in test_split.csv and in another split"),
        ("test_split.csv", "Filename\n4\n", "00003 is in no list"),
        ("train_split.csv", TRAIN_SPLIT.replace("0.25", "-1"), "admiration is -1; expected 0 to 1"),
        ("train_split.csv", TRAIN_SPLIT.replace("Empathic Pain", "Pain"), "one column each of empathic_pain"),
    ],
)
def test_lists_that_contradict_each_other_are_refused(release, tmp_path, name, text, message):
    (release / name).write_text(text)
    with pytest.raises(ReleaseError, match=message):
        run_import("hume_vidmimic2", release, tmp_path / "out")


def test_two_crops_of_one_number_are_refused(release, tmp_path):
    (release / "face_images/00002/2.jpg").write_bytes(picture("x"))
    with pytest.raises(ReleaseError, match=r"00002/2.jpg: expected|00002/00002.jpg: expected"):
        run_import("hume_vidmimic2", release, tmp_path / "out", pictures="faces")
