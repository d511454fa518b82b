"""Agrees with the names as documented (reference A17, codes of race unconfirmed); not run on the real release."""

import shutil

import pytest

from checks import assert_golden, check_importer, chunks_of, frame_rows, run_import
from fake.bu3dfe import write_bu3dfe
from fake.printed import picture
from reactionnet_datasets.about import load_importer
from reactionnet_datasets.doctor import examine, published_frames
from reactionnet_datasets.release import MissingMediaError, ReleaseError


@pytest.fixture
def release(tmp_path):
    return write_bu3dfe(tmp_path / "release/BU_3DFE")


def row(video, expression, level, gender, race, part):
    return {
        "video_id": video, "subject_id": video[:5], "frame": 0, "expression": expression, "expression_level": level,
        "gender": gender, "ethnicity": race, "folds": {"bu3dfe-10fold-ours-v1": part},
    }  # fmt: skip


GOLDEN = [
    row("F0001_AN01WH", "anger", 1, "female", "wh", 1),
    row("F0001_DI04WH", "disgust", 4, "female", "wh", 1),
    row("F0001_NE00WH", "neutral", 0, "female", "wh", 1),
    row("F0001_SU02WH", "surprise", 2, "female", "wh", 1),
    row("M0044_FE03AE", "fear", 3, "male", "ae", 10),
    row("M0044_HA04AE", "happiness", 4, "male", "ae", 10),
    row("M0044_SA01AE", "sadness", 1, "male", "ae", 10),
]


@pytest.mark.parametrize("place", [".", ".."])
def test_conforms(release, tmp_path, place):
    out = check_importer("bu3dfe", (release / place).resolve(), tmp_path, GOLDEN, lambda row: row["video_id"])
    chunk = next(chunk for chunk, _ in chunks_of(out) if chunk.video_id == "F0001_AN01WH")
    assert [name.rpartition("/")[2] for name in chunk.provenance["scans"]] == [
        "F0001_AN01WH_F3D.bmp", "F0001_AN01WH_F3D.wrl", "F0001_AN01WH_RAW.wrl",
    ]  # fmt: skip
    assert chunk.labels["expression"].raw == "AN"


def test_a_renamed_picture_is_seen(release, tmp_path):
    (release / "F0001/F0001_SU02WH_F2D.bmp").rename(release / "F0001/F0001_SA02WH_F2D.bmp")
    run_import("bu3dfe", release, tmp_path / "out")
    with pytest.raises(AssertionError):
        assert_golden(frame_rows(tmp_path / "out"), GOLDEN)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("F0001/F0001_XX01WH_F2D.bmp", "XX01; expected SUBJECT_EXPRESSION"),
        ("F0001/F0001_NE01WH_F2D.bmp", "NE01; expected"),
        ("F0001/F0001_AN05WH_F2D.bmp", "AN05; expected"),
        ("F0001/F0002_AN01WH_F2D.bmp", "another subject"),
        ("F0001/anger.bmp", r"F0001/anger\.bmp: expected"),
        ("F0001/F0001_AN01WH_F2D.png", "which one is meant"),
        ("F0002.rar", r"1 archives are not unpacked \(F0002\.rar\)"),
    ],
)
def test_what_does_not_fit_is_refused(release, tmp_path, name, message):
    (release / name).write_bytes(picture("x"))
    with pytest.raises(ReleaseError, match=message):
        run_import("bu3dfe", release, tmp_path / "out")


def test_a_scan_without_its_picture_is_missing(release, tmp_path):
    (release / "F0001/F0001_AN01WH_F2D.bmp").unlink()
    with pytest.raises(MissingMediaError, match=r"(?s)1 files.*F0001/F0001_AN01WH_F2D\.bmp"):
        run_import("bu3dfe", release, tmp_path / "out")
    run_import("bu3dfe", release, tmp_path / "out", allow_missing=True)
    assert_golden(frame_rows(tmp_path / "out"), GOLDEN[1:])


def test_wrong_roots_are_named(release, tmp_path):
    with pytest.raises(ReleaseError, match=r"found F0001_AN01WH_F2D\.bmp.*is that the ROOT you mean"):
        run_import("bu3dfe", release / "F0001", tmp_path / "out")
    for subject in ("F0001", "M0044"):
        shutil.rmtree(release / subject)
    with pytest.raises(ReleaseError, match=r"unpack F0001\.rar first"):
        run_import("bu3dfe", release, tmp_path / "out")


def test_the_doctor_counts(release, tmp_path):
    run_import("bu3dfe", release, tmp_path / "out")
    findings = examine(published_frames(tmp_path / "out"), load_importer("bu3dfe"))
    verdicts = {finding.what: finding.verdict for finding in findings}
    assert verdicts["scans"] == "DIFFERS by -2,493"
    assert verdicts["neutral faces"] == "DIFFERS by -99"
