"""Agrees with both layouts as documented (reference A2, confirmed by code); not run on the real release."""

import io
import json

import numpy as np
import pytest

from checks import assert_golden, check_importer, chunks_of, frame_rows, run_import
from fake.hume import DATA_INFO, MUSE_LABELS, MUSE_PARTITION, write_abaw5, write_muse
from fake.printed import video
from reactionnet_datasets import ShardDataset
from reactionnet_datasets.doctor import examine, published_frames
from reactionnet_datasets.importers import hume_reaction
from reactionnet_datasets.release import MissingMediaError, ReleaseError

NAMES = ("adoration", "amusement", "anxiety", "disgust", "empathic_pain", "fear", "surprise")


def row(name, frame, t_s, split, values, **others):
    mask = "valid" if values else "withheld"
    cells = {f"eri_{n}": v for n, v in zip(NAMES, values or [None] * 7, strict=True)}
    masks = {f"eri_{n}_mask": mask for n in NAMES}
    return {
        "video_id": name, "subject_id": None, "person": "0", "frame": frame, "t_s": round(t_s, 5), "split_all": split,
        **cells, **masks, **others,
    }  # fmt: skip


ONE = (0.12, 0.71, 0.0, 0.0, 0.03, 0.0, 0.55)
TWO = (0.0, 0.0, 0.44, 0.83, 0.2, 0.31, 0.1)
FOUR = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
ABAW5 = [
    *(row("00001", n, n / 30, "train", ONE, source_path="train/00001.mp4") for n in range(5)),
    *(row("00002", n, n / 15, "val", TWO, source_path="val/00002.MP4") for n in range(3)),
    *(row("00003", n, n / 30, "test", None) for n in range(4)),
    *(row("00004", n, n / 25, "train", FOUR) for n in range(6)),
]
MUSE = [
    row(name, n, t_s, split, values, member=None, source_path=f"c2_muse_reaction/feats/egemaps/{name}.csv")
    for name, split, values in (("00001", "train", ONE), ("00002", "val", TWO), ("00003", "test", None))
    for n, t_s in enumerate((0.0, 0.25, 0.5, 0.75, 1.0))
]


def printed(row):
    return f"{row['video_id']} {row['frame']}"


@pytest.fixture
def abaw5(tmp_path):
    return write_abaw5(tmp_path / "release")


@pytest.fixture
def muse(tmp_path):
    return write_muse(tmp_path / "release")


def test_the_layout_of_abaw5_conforms(abaw5, tmp_path):
    out = check_importer("hume_reaction", abaw5, tmp_path, ABAW5, printed)
    chunks = {chunk.video_id: chunk for chunk, _ in chunks_of(out)}
    assert chunks["00001"].provenance["country"] == "South Africa"
    assert all(chunk.audio["start_s"] == 0 for chunk in chunks.values())
    batch = next(iter(ShardDataset(out, split="val", fields=("labels", "audio"), batch_size=1, labels=["eri_disgust"])))
    assert batch["labels"]["eri_disgust"].tolist() == [pytest.approx(0.83)]
    assert abs(float(batch["audio"][0, 100]) - 2000 / 32768) < 1e-4  # of 00002, not of its neighbour


def test_the_layout_of_muse_conforms(muse, tmp_path):
    out = check_importer("hume_reaction", muse, tmp_path, MUSE, lambda row: None)
    arrays = {chunk.video_id: found for chunk, found in chunks_of(out)}
    faces = np.load(io.BytesIO(arrays["00002"]["vggface2.npy"]))
    assert faces[:, 0].tolist()[:4] == pytest.approx([2.0, 2.1, 2.2, 2.3])
    assert np.isnan(faces[4]).all()
    lacking = np.isnan(np.load(io.BytesIO(arrays["00001"]["vggface2.npy"]))[:, 1])
    assert lacking.tolist() == [False, False, False, True, True]
    voice = np.load(io.BytesIO(arrays["00003"]["egemaps.npy"]))
    assert voice.shape == (5, 1)
    assert voice[[0, 2, 4], 0].tolist() == pytest.approx([0.30, 0.31, 0.32])
    assert np.isnan(voice[[1, 3], 0]).all()
    item = next(iter(ShardDataset(out, split="train", fields=("labels", "vggface2"), labels=["eri_amusement"])))
    assert item["vggface2"].shape == (5, 2)


def test_the_folder_itself_is_a_root_of_muse(muse, tmp_path):
    run_import("hume_reaction", muse / "c2_muse_reaction", tmp_path / "out", features="vggface2")
    rows = frame_rows(tmp_path / "out")
    assert [row["source_path"] for row in rows[:1]] == ["feats/vggface2/00001.csv"]
    assert len(rows) == 12


def test_timestamps_in_seconds_are_told_by_their_fractions(muse, tmp_path):
    folder = muse / "c2_muse_reaction/feats/vggface2"
    for path in folder.iterdir():
        path.write_text("timestamp,segment_id,0\n0.0,1,1\n0.25,1,2\n")
    run_import("hume_reaction", muse, tmp_path / "out", features="vggface2")
    assert [row["t_s"] for row in frame_rows(tmp_path / "out")] == [0.0, 0.25] * 3
    with pytest.raises(ReleaseError, match=r"00001\.csv: the timestamp 0\.25 is no whole number of ms"):
        run_import("hume_reaction", muse, tmp_path / "other", features="vggface2", timestamps="ms")


def test_videos_beside_muse_s_labels_are_imported(muse, tmp_path):
    for name in ("00001", "00002", "00003"):
        video(muse / f"c2_muse_reaction/raw/{name}.mp4", [f"{name} {n}" for n in range(3)], fps=10)
    golden = [
        row(name, n, n / 10, split, values)
        for name, split, values in (("00001", "train", ONE), ("00002", "val", TWO), ("00003", "test", None))
        for n in range(3)
    ]
    out = check_importer("hume_reaction", muse, tmp_path, golden, printed)
    assert "features left out" in (out / "import_report.json").read_text()


def test_without_a_wav_folder_the_sound_is_the_video_s(tmp_path):
    release = write_abaw5(tmp_path / "release", wav=False)
    run_import("hume_reaction", release, tmp_path / "out")
    assert all(chunk.audio is None for chunk, _ in chunks_of(tmp_path / "out"))  # the videos are silent


def test_a_wav_that_lacks_is_an_error(abaw5, tmp_path):
    (abaw5 / "wav/00002.wav").unlink()
    with pytest.raises(MissingMediaError, match=r"wav/00002\.wav"):
        run_import("hume_reaction", abaw5, tmp_path / "out")


def test_sound_that_is_cut_off_or_no_sound_is_an_error(abaw5, tmp_path):
    whole = (abaw5 / "wav/00001.wav").read_bytes()
    (abaw5 / "wav/00002.wav").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MissingMediaError, match=r"00002\.wav \(has 8022 bytes; its header says 16044\)"):
        run_import("hume_reaction", abaw5, tmp_path / "out")
    (abaw5 / "wav/00002.wav").write_bytes(b"no sound")
    with pytest.raises(MissingMediaError, match=r"00002\.wav"):
        run_import("hume_reaction", abaw5, tmp_path / "out")
    run_import("hume_reaction", abaw5, tmp_path / "out", allow_missing=True)
    assert "the sound of 00002" in (tmp_path / "out/import_report.json").read_text()
    assert len(frame_rows(tmp_path / "out")) == len(ABAW5)  # the pictures are good without it


def test_a_missing_video_and_one_that_is_none_are_listed_or_recorded(abaw5, tmp_path):
    (abaw5 / "train/00001.mp4").unlink()
    (abaw5 / "test/00003.mp4").write_bytes(b"<html>")
    with pytest.raises(MissingMediaError, match=r"(?s)2 files.*test/00003.mp4.*train/00001.mp4"):
        run_import("hume_reaction", abaw5, tmp_path / "out")
    run_import("hume_reaction", abaw5, tmp_path / "out", allow_missing=True)
    assert_golden(frame_rows(tmp_path / "out"), [r for r in ABAW5 if r["video_id"] in ("00002", "00004")])
    assert json.loads((tmp_path / "out/import_report.json").read_bytes())["skipped"]["count"] == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[00002],United States,val,0.00", "[00002],United States,val,", "line 3: 00002 has no adoration"),
        ("0.44", "1.44", "anxiety is 1.44; expected 0 to 1"),
        ("States,val", "States,vali", "split 'vali'; expected train, val"),
        ("[00004]", "[00001]", "stands in line 2 already"),
        ("[00004],South Africa,train", "[00004],South Africa,val", "lies in train, but data_info.csv says val"),
        ("[00004],South Africa,train,1.00", "[00004],South Africa,train", "9 cells; the header has 10"),
        (",Fear,", ",Terror,", "expected one column each of fear"),
    ],
)
def test_rows_that_cannot_be_are_refused(abaw5, tmp_path, old, new, message):
    assert old in DATA_INFO
    (abaw5 / "data_info.csv").write_text(DATA_INFO.replace(old, new))
    with pytest.raises(ReleaseError, match=message):
        run_import("hume_reaction", abaw5, tmp_path / "out")


def test_a_video_that_is_not_listed_is_an_error(abaw5, tmp_path):
    video(abaw5 / "val/00009.mp4", ["x"])
    with pytest.raises(ReleaseError, match=r"val/00009\.mp4 is not in data_info\.csv"):
        run_import("hume_reaction", abaw5, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("partition.csv", MUSE_PARTITION.replace("[00002],devel\n", ""), "00002 is in labels.csv, but not in part"),
        ("partition.csv", MUSE_PARTITION.replace("[00003],test", "[00003],train"), "00003 is in train, but not in lab"),
        ("partition.csv", MUSE_PARTITION + "[00001],test\n", r"line 5: \[00001\] is listed before"),
        ("labels.csv", MUSE_LABELS.replace("Empathic-Pain,", ""), "expected one column each of empathic_pain"),
        ("feats/vggface2/00002.csv", "0,2,1\n", "the header begins with 0,2,1"),
        ("feats/vggface2/00002.csv", "timestamp,segment_id,0\n0,2,1\n0,2,1\n", "line 3: timestamp 0 comes twice"),
    ],
)
def test_tables_of_muse_that_contradict_each_other_are_refused(muse, tmp_path, name, text, message):
    (muse / "c2_muse_reaction" / name).write_text(text)
    with pytest.raises(ReleaseError, match=message):
        run_import("hume_reaction", muse, tmp_path / "out")


def test_a_feature_file_that_lacks_is_an_error(muse, tmp_path):
    (muse / "c2_muse_reaction/feats/egemaps/00003.csv").unlink()
    with pytest.raises(MissingMediaError, match=r"feats/egemaps/00003\.csv"):
        run_import("hume_reaction", muse, tmp_path / "out")


def test_permuted_classes_and_shifted_rows_are_seen(abaw5, tmp_path):
    for old, new in (("Disgust,Empathic-Pain", "Empathic-Pain,Disgust"), ("[00001]", "[00004]")):
        text = DATA_INFO.replace(old, new)
        text = (
            text.replace("[00004],South Africa,train,1.00", "[00001],South Africa,train,1.00") if "4" in new else text
        )
        (abaw5 / "data_info.csv").write_text(text)
        run_import("hume_reaction", abaw5, tmp_path / "out")
        with pytest.raises(AssertionError):
            assert_golden(frame_rows(tmp_path / "out"), ABAW5)


def test_what_is_only_recalled_is_unknown(abaw5, tmp_path):
    run_import("hume_reaction", abaw5, tmp_path / "out")
    found = {finding.what: finding for finding in examine(published_frames(tmp_path / "out"), hume_reaction)}
    assert (found["videos in train"].found, found["videos in train"].verdict) == ("2", "UNKNOWN")
