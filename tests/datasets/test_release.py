"""Reading what releases hold, and refusing what they should not."""

import pickle
import zipfile

import numpy as np
import pytest

from reactionnet_datasets.release import MissingMediaError, Release, ReleaseError, missing_media


@pytest.fixture
def release(tmp_path):
    (tmp_path / "Folder").mkdir()
    (tmp_path / "Folder/Name.JPG").write_bytes(b"x")
    (tmp_path / "Folder/.DS_Store").write_bytes(b"x")
    (tmp_path / "Folder/Thumbs.db").write_bytes(b"x")
    (tmp_path / "Folder/._Name.JPG").write_bytes(b"x")
    return Release(tmp_path)


def test_names_are_found_whatever_their_case_and_junk_is_passed_over(release):
    assert release.find("folder/name.jpg").name == "Name.JPG"
    assert [path.name for path in release.listing("FOLDER", "*.jpg")] == ["Name.JPG"]
    assert [path.name for path in release.listing("Folder")] == ["Name.JPG"]
    (release.root / "Folder/name.jpg").write_bytes(b"y")
    assert release.find("Folder/name.jpg").read_bytes() == b"y"
    with pytest.raises(ReleaseError, match=r"Name.JPG and name.jpg: which one"):
        release.find("Folder/NAME.jpg")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "..\\x"])
def test_no_path_leaves_the_release(release, path):
    with pytest.raises(ReleaseError, match="leads out of the release"):
        release.file(path)


def test_what_is_not_there_or_empty_is_remembered(release):
    (release.root / "empty.jpg").touch()
    assert release.file("Folder/name.jpg").size == 1
    assert release.file("nowhere.jpg") is None
    assert release.file("empty.jpg") is None
    assert release.file("Folder") is None
    assert release.missing == ["nowhere.jpg", "empty.jpg (has no bytes)", "Folder"]


def test_the_message_lists_twenty_and_the_total():
    error = missing_media([f"{number}.jpg" for number in range(34)])
    assert isinstance(error, MissingMediaError)
    assert "34 files" in str(error) and "19.jpg" in str(error) and "and 14 more" in str(error)
    assert "20.jpg" not in str(error)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_rows_do_not_depend_on_line_ends_or_marks(release, ending):
    path = release.root / "table.csv"
    path.write_bytes(("﻿" + f'a, b {ending}1,"two, three"{ending}{ending},{ending}4,5').encode())
    assert list(release.rows(path)) == [(1, ["a", "b"]), (2, ["1", "two, three"]), (5, ["4", "5"])]
    assert [cells for _, cells in release.records(path, ("a",))] == [
        {"a": "1", "b": "two, three"},
        {"a": "4", "b": "5"},
    ]
    with pytest.raises(ReleaseError, match="no column c; its header is a, b"):
        list(release.records(path, ("c",)))


def test_ragged_rows_and_words_for_numbers_are_refused(release):
    path = release.root / "table.csv"
    path.write_text("a,b\n1\n")
    with pytest.raises(ReleaseError, match=r"table.csv line 2: 1 cells; the header has 2"):
        list(release.records(path, ("a",)))
    assert release.whole(path, 1, "3.0000000e+00", "x") == 3
    for text in ("three", "nan", "inf", "1.5", ""):
        with pytest.raises(ReleaseError, match="line 1: x is"):
            release.whole(path, 1, text, "x")


def test_pickles_are_refused_by_name(release):
    path = release.root / "labels.pkl"
    path.write_bytes(pickle.dumps([1]))
    with pytest.raises(ReleaseError, match=r"labels.pkl is a pickle"):
        release.text(path)
    np.save(release.root / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ReleaseError, match=r"a.npy holds a pickle"):
        release.array(release.root / "a.npy")
    (release.root / "b.npy").write_bytes(b"")
    with pytest.raises(ReleaseError, match=r"b.npy is cut off"):
        release.array(release.root / "b.npy")


def test_a_zip_is_listed_without_junk_and_refused_when_cut_off(release):
    path = release.root / "F001.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("F001/T1/0000.jpg", b"abc")
        archive.writestr("__MACOSX/F001/._x", b"abc")
    (name, member), = release.members(path).items()  # fmt: skip
    assert (name, member.size, member.name) == ("F001/T1/0000.jpg", 3, "F001.zip!F001/T1/0000.jpg")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ReleaseError, match=r"F001.zip cannot be read .*fetch it again"):
        release.members(path)


def test_a_root_that_is_no_folder_is_named(tmp_path):
    (tmp_path / "release.zip").write_bytes(b"PK")
    with pytest.raises(ReleaseError, match="is a file: unpack it first"):
        Release(tmp_path / "release.zip")
    (tmp_path / "manifest.csv").write_text("clip_id\n")
    with pytest.raises(ReleaseError, match=f"is a table: give the folder that holds it, {tmp_path};"):
        Release(tmp_path / "manifest.csv")
    (tmp_path / "manifest.csv").unlink()
    with pytest.raises(ReleaseError, match=r"expected this in .*; found release.zip; unpack release.zip first"):
        Release(tmp_path).first("this")
