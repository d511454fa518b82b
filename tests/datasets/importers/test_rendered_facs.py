"""Run on the real thing: six clips of the shared RenderedFACS, held against its own tables."""

import io
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from checks import check_importer, chunks_of, digests, frame_rows, read_member, run_import
from fake.every import write_rendered_facs
from reactionnet_datasets import ShardDataset
from reactionnet_datasets.release import MissingMediaError, ReleaseError
from spoken_faces import drawn, speak, voice

VIDEOS = ("S000_0", "S006_3", "S047_5")


@pytest.fixture(scope="module")
def release(shared, tmp_path_factory):
    """Three clips of the 288."""
    root = tmp_path_factory.mktemp("rendered") / "release"
    return write_rendered_facs(root, VIDEOS, shared / "rendered_facs")


def test_conforms_to_its_own_tables(release, tmp_path):
    table = pq.read_table(release / "labels.parquet").to_pylist()
    golden = [
        {
            "video_id": row["video_id"], "frame": row["frame"], "t_s": round(row["frame"] / 25, 5),
            "au_int_12": round(round(row["AU12"], 4), 5), "expression": row["expression"], "scene_mask": "valid",
            "split_all": {"S000": "train", "S006": "val", "S047": "test"}[row["subject_id"]],
        }
        for row in table
    ]  # fmt: skip
    out = check_importer("rendered_facs", release, tmp_path, _as_stored(golden), lambda row: None)
    rows = frame_rows(out)
    assert Image.open(io.BytesIO(read_member(out, rows[0]))).size == (256, 256)
    assert Image.open(io.BytesIO(read_member(out, rows[0], "stimulus"))).size == (160, 160)
    chunk, arrays = next((c, a) for c, a in chunks_of(out) if c.video_id == "S006_3")
    first = next(n for n, row in enumerate(table) if row["video_id"] == "S006_3")
    with np.load(release / "landmarks.npz") as points:
        np.testing.assert_allclose(
            np.load(io.BytesIO(arrays["landmarks.npy"])), points["landmarks"][first : first + 48], atol=1e-3
        )
    np.testing.assert_allclose(np.load(io.BytesIO(arrays["pose.npy"]))[5, 0], table[first + 5]["yaw"], atol=1e-3)
    assert chunk.captions[0]["text"] == table[first]["caption"]
    assert chunk.stimulus["stimulus_id"] == table[first]["stimulus_id"]


def _as_stored(golden):
    return [{**row, "au_int_12": round(float(np.float32(row["au_int_12"])), 5)} for row in golden]


def test_pictures_belong_to_their_frames(release, tmp_path):
    """The decoded frame is nearer to its picture than the frames a few steps away are."""
    import av

    run_import("rendered_facs", release, tmp_path / "out")
    rows = [row for row in frame_rows(tmp_path / "out") if row["video_id"] == "S047_5"]
    with av.open(str(release / "videos/S047_5.mp4")) as container:
        truth = [frame.to_ndarray(format="gray").astype(float) for frame in container.decode(video=0)]
    for place in (0, 20, 47):
        picture = np.asarray(Image.open(io.BytesIO(read_member(tmp_path / "out", rows[place]))).convert("L"), float)
        errors = [np.abs(picture - frame).mean() for frame in truth]
        assert int(np.argmin(errors)) == place


def test_a_release_that_lacks_a_video_or_a_row_is_refused(release, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(release, own)
    (own / "stimuli/S006_3_stim.mp4").unlink()
    with pytest.raises(MissingMediaError, match=r"stimuli/S006_3_stim.mp4"):
        run_import("rendered_facs", own, tmp_path / "out")
    table = pq.read_table(own / "labels.parquet")
    pq.write_table(table.slice(1), own / "labels.parquet")
    with pytest.raises(ReleaseError, match=r"rows of landmarks.npz are not those"):
        run_import("rendered_facs", own, tmp_path / "out")


def test_a_copy_with_voices_has_sound_that_tells_of_the_face(release, tmp_path):
    speak(release, tmp_path / "spoken")
    speak(release, tmp_path / "again")
    assert digests(tmp_path / "spoken") == digests(tmp_path / "again")
    for name, root in (("silent", release), ("out", tmp_path / "spoken")):
        run_import("rendered_facs", root, tmp_path / name)
    fields = ("frames", "audio", "mfcc", "labels")
    given = {"fields": fields, "labels": ("arousal",), "split": "test"}
    (item,) = ShardDataset(tmp_path / "out", **given)
    (silent,) = ShardDataset(tmp_path / "silent", **given)
    assert len(item["audio"]) == 48 * 640 and item["mfcc"].shape == (61, 128) and not len(silent["audio"])
    assert (item["frames"] == silent["frames"]).all()  # the pictures' packets are the release's own
    loud = item["audio"].unfold(0, 640, 640).square().mean(1).sqrt()
    assert loud.max() > 4 * loud.min() > 0


def test_a_drawn_voice_follows_the_face():
    def heard(**changed: float) -> np.ndarray:
        face = {**dict.fromkeys(("arousal", "valence", "AU12", "AU25", "AU26"), np.zeros(48)), **{
            name: np.full(48, value) for name, value in changed.items()
        }}  # fmt: skip
        return voice(face, 25.0, 150.0, drawn(0, "same"))

    def pitch(sound: np.ndarray) -> float:
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
        return float(spectrum.argmax() / len(sound) * 16_000)

    def brightness(sound: np.ndarray) -> float:
        spectrum = np.abs(np.fft.rfft(sound)) ** 2
        return float(spectrum[len(spectrum) // 8 :].sum() / spectrum.sum())

    rest = heard()
    assert len(rest) == 30_720 and np.abs(rest).max() < 1
    assert np.square(heard(AU26=5.0)).mean() > 3 * np.square(rest).mean()
    assert pitch(heard(arousal=0.5)) > 1.15 * pitch(rest)
    assert brightness(heard(AU12=5.0)) > 1.5 * brightness(rest)
    assert np.array_equal(heard(), rest)
