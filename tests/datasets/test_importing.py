"""The steps of an import, with plain values: clips on their way, counts, landmarks, and the way into a training batch."""

import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from checks import chunks_of, digests, frame_rows, run_import
from fake.disfa import NUM_FRAMES, SCORES, write_disfa
from fake.printed import picture, says, write
from reactionnet_datasets import ShardDataset
from reactionnet_datasets.about import About, Known, importer_names, load_importer, make_options
from reactionnet_datasets.clip import (
    ArrayFiles,
    Clip,
    File,
    Numbers,
    Pictures,
    Video,
    from_line,
    one,
    per_frame,
    present,
    to_line,
)
from reactionnet_datasets.doctor import examine
from reactionnet_datasets.import_plan import plan
from reactionnet_datasets.import_publish import publish
from reactionnet_datasets.import_records import key_of
from reactionnet_datasets.importing import count_labels, write_job
from reactionnet_datasets.media import MediaError, check_picture
from reactionnet_datasets.release import Release, ReleaseError
from reactionnet_datasets.sample import is_key

README = Path(__file__).resolve().parents[2] / "README.md"


def clip(**changed):
    files = [File(path=f"{n}.jpg", size=1, mtime_ns=n) for n in range(4)]
    labels = {
        "au_occ_1": per_frame(
            "au_occ", [0, None, 1, 0], ["valid", "uncodable", "valid", "valid"], ["0", "9", "1", "0"]
        ),
        "scene": one("scene8", "film"),
    }
    facts = {"video": "v", "frames": [1, 2, 3, 4], "media": Pictures(files=files), "labels": labels, "fps": 25.0}
    return Clip(**{**facts, **changed})


def test_a_clip_survives_its_line():
    whole = clip(
        stimulus=Video(file=File(path="s.mp4", size=9), places=[0, 1, 2, 3], turn=90),
        streams={"landmarks": Numbers(values=[[[1, 2]]] * 4), "x": ArrayFiles(files=[None] * 4, shape=[2])},
        splits={"all": "val"},
        folds={"p": 2},
        sound=File(path="s.wav", size=4),
    )
    assert from_line(to_line(whole)) == from_line(to_line(from_line(to_line(whole))))
    assert to_line(from_line(to_line(whole))) == to_line(whole)
    assert from_line(to_line(whole)).labels == whole.labels


def test_a_frame_without_a_picture_takes_its_labels_with_it():
    files = [None if n == 1 else File(path=f"{n}.jpg", size=1) for n in range(4)]
    rest = present(clip(media=Pictures(files=files), t_s=[0, 1, 2, 3], boxes=[[n] * 4 for n in range(4)]))
    assert (rest.frames, rest.t_s, rest.boxes[1]) == ([1, 3, 4], [0, 2, 3], [2] * 4)
    assert rest.labels["au_occ_1"].value == [0, 1, 0]
    assert rest.labels["au_occ_1"].raw is None
    assert rest.labels["scene"].value == "film"
    assert present(clip(media=Pictures(files=[None] * 4))) is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"frames": [1, 2, 2, 4]}, "not ascending"),
        ({"frames": [1, 2, 3]}, "4 values of au_occ_1 for 3 frames"),
        ({"media": Pictures(files=[None])}, "1 pictures for 4 frames"),
        ({"splits": {"all": "devel"}}, "split 'devel'"),
    ],
)
def test_a_clip_whose_parts_do_not_fit_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        clip(**changed)


@given(st.text(min_size=1, max_size=300), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_every_name_has_a_key(video, frame):
    key = key_of(video, "0", frame)
    assert is_key(key)
    assert key != key_of(video + "x", "0", frame)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP"])
def test_a_picture_cut_off_anywhere_does_not_pass(kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 60, 3), np.uint8))
    file = io.BytesIO()
    noise.save(file, kind)
    data = file.getvalue()
    assert check_picture(data, "p") == {"JPEG": "jpg", "TIFF": "tif"}.get(kind, kind.lower())
    for share in (0.3, 0.6, 0.9):
        with pytest.raises(MediaError, match="p "):
            check_picture(data[: int(len(data) * share)], "p")


def test_a_jpeg_that_is_damaged_within_does_not_pass_and_one_of_four_colours_does():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 60, 3), np.uint8))
    file = io.BytesIO()
    noise.save(file, "JPEG")
    data = bytearray(file.getvalue())
    data[3000:3100] = bytes(100)
    with pytest.raises(MediaError, match="p does not decode: Corrupt JPEG data"):
        check_picture(bytes(data), "p")
    assert check_picture(file.getvalue()[:-2] + bytes(6) + b"\xff\xd9", "p") == "jpg"  # padding before the end marker
    with pytest.raises(MediaError, match="extraneous"):
        check_picture(file.getvalue()[:-2] + bytes(9) + b"\xff\xd9", "p")
    file = io.BytesIO()
    noise.convert("CMYK").save(file, "JPEG")
    assert check_picture(file.getvalue(), "p") == "jpg"


def test_the_doctor_counts_and_a_changed_count_changes_its_answer():
    about = SimpleNamespace(
        ABOUT=About(
            name="x", title="", markers=(), terms="", ask="", license="", papers=(), status="",
            known=(
                Known(what="frames", count=3), Known(what="train", count=2, where={"split_all": "train"}),
                Known(what="subjects", count=2, of="subjects"), Known(what="videos", count=9, of="videos", recalled=True),
            ),
        )
    )  # fmt: skip
    columns = {"split_all": ["train", "train", "val"], "subject_id": ["a", "b", None], "video_id": ["v"] * 3}
    table = pa.table({name: pa.array(values).dictionary_encode() for name, values in columns.items()})
    assert [finding.verdict for finding in examine(table, about)] == ["OK", "OK", "OK", "UNKNOWN"]
    assert [finding.verdict for finding in examine(table.slice(1), about)] == [
        "DIFFERS by -1", "DIFFERS by -1", "DIFFERS by -1", "UNKNOWN",
    ]  # fmt: skip
    without = examine(table.drop_columns(["split_all"]), about)[1]
    assert (without.found, without.verdict) == ("no column split_all", "UNKNOWN")
    nothing = SimpleNamespace(ABOUT=About(**{**vars(about.ABOUT), "known": ()}))
    assert [finding.verdict for finding in examine(table, nothing)] == ["UNKNOWN"]


def test_labels_are_counted_by_mask_and_value():
    table = pa.table(
        {
            "au_int_1": pa.array([0, 2, 2, None], pa.float32()),
            "au_int_1_mask": ["valid", "valid", "valid", "uncodable"],
            "valence": pa.array([0.5, None, None, None], pa.float32()),
            "valence_mask": ["valid", "withheld", "withheld", "withheld"],
        }
    )
    assert count_labels(table, ["au_int_1", "valence"]) == {
        "au_int_1": {"masks": {"uncodable": 1, "valid": 3}, "values": {"0": 1, "2": 2}},
        "valence": {"masks": {"valid": 1, "withheld": 3}, "values": {}},
    }


def test_every_importer_declares_what_the_command_shows():
    for name in importer_names():
        module = load_importer(name)
        about = module.ABOUT
        assert about.name == name
        assert all((about.title, about.terms, about.ask, about.license, about.status)), name
        assert make_options(module, {}) == module.Options()
        assert module.__doc__ and len(module.__doc__) > 200


def test_a_release_becomes_a_training_batch(tmp_path, monkeypatch, capsys):
    """Fold 1 of DISFA trains on part 1 where both fake subjects are; windows of three frames, occurrence at 2."""
    run_import("disfa", write_disfa(tmp_path / "disfa"), tmp_path / "disfa-shards")
    section = README.read_text().split("## Import a data set")[1].split("\n## ")[0]
    monkeypatch.chdir(tmp_path)
    exec(compile(re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0], "README.md", "exec"), {})
    assert "torch.Size([5, 3, 3, 96, 128])" in capsys.readouterr().out
    dataset = ShardDataset(
        tmp_path / "disfa-shards", protocol="disfa-3fold", fold=1, split="train", window=3, stride=3, batch_size=8,
        labels={"au_occ_12": "intensity>=2"},
    )  # fmt: skip
    (batch,) = list(dataset)
    found = {}
    for place, key in enumerate(batch["key"]):
        for t in np.flatnonzero(batch["frame_mask"][place]):
            subject, frame = str(key).split("-")[0], int(batch["frame"][place, t])
            grey = Image.fromarray(batch["frames"][place, t].permute(1, 2, 0).numpy())
            file = io.BytesIO()
            grey.save(file, "PNG")
            assert says(file.getvalue(), f"{subject} {frame}")
            found[subject, frame] = float(batch["labels"]["au_occ_12"][place, t])
    assert found == {
        (subject, frame): float(SCORES[subject][12][frame - 1] >= 2)
        for subject, num in NUM_FRAMES.items()
        for frame in range(1, num + 1)
    }


@given(st.sets(st.integers(0, 59), max_size=3), st.booleans())
@settings(max_examples=12, deadline=None)
def test_missing_members_are_an_error_and_never_a_part(tmp_path_factory, gone, allow):
    """Whatever pictures lack: the exact rest is imported if that was asked for, else a named error."""
    tmp_path = tmp_path_factory.mktemp("gone")
    rows = ["clip_id,frame,reaction_path,au1_occ"]
    for number in range(60):
        path = f"p/{number // 20}/{number}.png"
        rows.append(f"c{number // 20},{number},{path},{number % 2}")
        if number not in gone:
            write(tmp_path / "release" / path, picture(str(number), "PNG", 16, 16))
    write(tmp_path / "release/manifest.csv", "\n".join(rows))
    if gone and not allow:
        with pytest.raises(ReleaseError, match=f"{len(gone)} files"):
            run_import("reactionnet", tmp_path / "release", tmp_path / "out")
        assert not (tmp_path / "out/dataset.json").exists()
    else:
        run_import("reactionnet", tmp_path / "release", tmp_path / "out", allow_missing=allow)
        found = [(row["frame"], row["au_occ_1"]) for row in frame_rows(tmp_path / "out")]
        assert found == [(number, number % 2) for number in range(60) if number not in gone]


@pytest.mark.slow
def test_landmarks_are_found_by_the_pipeline(shared, tmp_path):
    import av

    with np.load(shared / "rendered_facs/landmarks.npz") as arrays:
        truth = arrays["landmarks"][arrays["video_id"] == "S010_2"][0].astype(float)
    with av.open(str(shared / "rendered_facs/videos/S010_2.mp4")) as container:
        next(container.decode(video=0)).to_image().save(tmp_path / "face.png")
    (tmp_path / "faces").mkdir()
    (tmp_path / "face.png").rename(tmp_path / "faces/face.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "faces/none.png")
    module = load_importer("image_folder")
    planned = plan(
        Release(tmp_path / "faces"), module, module.Options(), tmp_path / "out", tmp_path / "work", target_bytes=1 << 20,
        landmarks="dlib",
    )  # fmt: skip
    publish(tmp_path / "out", module.ABOUT, planned, [write_job(job) for job in planned.jobs])
    found = {c.video_id: np.load(io.BytesIO(arrays["landmarks.npy"]))[0] for c, arrays in chunks_of(tmp_path / "out")}
    assert np.abs(found["face"] - truth)[17:].mean() < 3
    assert np.isnan(found["none"]).all()
    assert '"frames_without_landmarks": 1' in (tmp_path / "out/import_report.json").read_text()


def test_sound_is_resampled_and_cut_with_the_pictures(tmp_path):
    """A tone that begins at 6 s, under 200 frames at 25 a second: the second chunk begins at 5.12 s."""
    rate = 44_100
    t_s = np.arange(8 * rate) / rate
    tone = np.where(t_s >= 6, 0.5 * np.sin(2 * np.pi * 440 * t_s), 0)
    soundfile.write(tmp_path / "tone.wav", np.stack([tone, tone], axis=1), rate)
    write(tmp_path / "p.jpg", picture("p"))

    def read(release, options):
        files = [release.file("p.jpg")] * 200
        yield Clip(video="v", frames=range(200), media=Pictures(files=files), fps=25.0, sound=release.file("tone.wav"))

    module = SimpleNamespace(ABOUT=load_importer("image_folder").ABOUT, read=read)
    options = load_importer("image_folder").Options()
    planned = plan(Release(tmp_path), module, options, tmp_path / "out", tmp_path / "work", target_bytes=1 << 20)
    publish(tmp_path / "out", module.ABOUT, planned, [write_job(job) for job in planned.jobs])
    dataset = ShardDataset(tmp_path / "out", fields=("frames", "audio"), window=72, stride=128)
    second = [item for item in dataset if int(item["frame"][0]) == 128]
    sound = second[0]["audio"].numpy().astype(float)
    begins = np.flatnonzero(np.abs(sound) > 0.05 * np.abs(sound).max())[0] / 16_000
    assert begins == pytest.approx(6 - 128 / 25, abs=0.01)
    assert len(sound) == pytest.approx(72 / 25 * 16_000, abs=2)


def test_what_an_earlier_import_left_is_removed_in_time(tmp_path):
    write(tmp_path / "faces/a.jpg", picture("a"))
    run_import("image_folder", tmp_path / "faces", tmp_path / "out")
    write(tmp_path / "faces/b.jpg", picture("b"))
    run_import("image_folder", tmp_path / "faces", tmp_path / "out")  # the one before may still have readers
    run_import("image_folder", tmp_path / "faces", tmp_path / "out")
    run_import("image_folder", tmp_path / "faces", tmp_path / "new")
    assert digests(tmp_path / "out") == digests(tmp_path / "new")


def test_the_readme_lists_every_data_set():
    text = README.read_text()
    assert [name for name in importer_names() if f"| `{name}` |" not in text] == []
