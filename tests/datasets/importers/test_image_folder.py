import pytest

from checks import chunks_of, digests, frame_rows, read_member, run_import
from fake.others import write_image_folder
from fake.printed import picture, says
from reactionnet_datasets.release import MissingMediaError, ReleaseError
from reactionnet_datasets.sample import is_key


def test_every_picture_is_a_clip_and_nothing_else_is(tmp_path):
    release = write_image_folder(tmp_path / "faces")
    (release / "circle").symlink_to(release)
    planned = run_import("image_folder", release, tmp_path / "out", subjects="folder")
    rows = frame_rows(tmp_path / "out")
    names = ["0000045/001.jpg", "0000045/001.png", "0000045/a b.c", "0000099/" + "long" * 40]
    assert [row["video_id"] for row in rows] == names
    assert [row["subject_id"] for row in rows] == ["0000045"] * 3 + ["0000099"]
    for row, text in zip(rows, ("0000045/001.jpg", "0000045/001.png", "0000045/a b.c.JPEG", "long"), strict=True):
        assert says(read_member(tmp_path / "out", row), text)
    assert all(is_key(chunk.key) for chunk, _ in chunks_of(tmp_path / "out"))
    assert planned.facts["notes"]["files that are no pictures"]["examples"] == ["0000099/notes.txt"]
    assert planned.facts["notes"]["linked folders, left out"]["examples"] == ["circle"]


def test_original_bytes_are_copied(tmp_path):
    release = write_image_folder(tmp_path / "faces")
    run_import("image_folder", release, tmp_path / "out")
    for row in frame_rows(tmp_path / "out"):
        assert read_member(tmp_path / "out", row) == (release / row["source_path"]).read_bytes()
    run_import("image_folder", release, tmp_path / "again")
    assert digests(tmp_path / "out") == digests(tmp_path / "again")


def test_empty_folders_and_broken_pictures_are_errors(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReleaseError, match="found an empty folder"):
        run_import("image_folder", tmp_path / "empty", tmp_path / "out")
    release = write_image_folder(tmp_path / "faces")
    (release / "0000045/more").mkdir()
    (release / "0000045/more/rest.tar.gz").write_bytes(b"x")
    with pytest.raises(ReleaseError, match=r"0000045/more/rest\.tar\.gz: not unpacked"):
        run_import("image_folder", release, tmp_path / "out")
    (release / "0000045/more/rest.tar.gz").unlink()
    (release / "0000045/002.jpg").write_bytes(picture("x")[:300])
    with pytest.raises(MissingMediaError, match=r"0000045/002.jpg does not decode"):
        run_import("image_folder", release, tmp_path / "out")
