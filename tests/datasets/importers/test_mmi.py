"""Agrees with the layout as public readers show it (reference A16, confirmed by code); not run on the real release."""

import shutil

import pytest

from checks import assert_golden, check_importer, chunks_of, frame_rows, run_import
from fake.mmi import UNITS, emotion, write_dual, write_mmi
from fake.printed import video, write
from reactionnet_datasets.protocols import load_protocol
from reactionnet_datasets.release import MissingMediaError, ReleaseError


def row(session, subject, frame, fps, expression, mask="valid", **others):
    part = {"mmi-10fold-ours-v1": load_protocol("mmi-10fold-ours-v1").part_of(subject)}
    return {
        "video_id": session, "subject_id": subject, "frame": frame, "t_s": round((frame - 1) / fps, 5), "folds": part,
        "expression": expression, "expression_mask": mask, **others,
    }  # fmt: skip


def unit(au, phase, mask="valid"):
    occurs = None if phase is None else int(phase != "neutral")
    return {f"au_phase_{au}": phase, f"au_occ_{au}": occurs, f"au_phase_{au}_mask": mask, f"au_occ_{au}_mask": mask}


N = None
ONE = [  # AU 12, AU 6 (of which nothing is known in frame 1), whether any is at its apex
    ("neutral", N, False), ("neutral", "neutral", False), ("onset", "neutral", False), ("apex", "neutral", True),
    ("apex", "apex", True), ("offset", "apex", True), ("neutral", "apex", True), ("neutral", "apex", True),
]  # fmt: skip
GOLDEN = [
    *(
        row("1", "S001", n, 25, "happiness" if apex else None, "valid" if apex else "rule_gave_none", person="0")
        | unit(12, twelve) | unit(6, six, "valid" if six else "not_annotated") | unit(4, N, "not_annotated")
        for n, (twelve, six, apex) in enumerate(ONE, 1)
    ),
    row("2", "S001", 1, 24, N, "invalid_code") | unit(46, N, "not_annotated") | unit(4, "neutral"),
    row("2", "S001", 2, 24, N, "invalid_code") | unit(46, N, "invalid_code") | unit(4, "neutral"),
    row("2", "S001", 3, 24, N, "invalid_code") | unit(46, N, "invalid_code") | unit(4, "neutral"),
    row("30", "S054", 1, 25, "surprise"),
    row("30", "S054", 2, 25, "surprise"),
    row("40", "S060", 1, 1, "anger", source_path="Sessions/40/still.jpg"),
]  # fmt: skip
DUAL = [one for one in GOLDEN if one["video_id"] == "30"]


@pytest.fixture
def release(tmp_path):
    return write_mmi(tmp_path / "release")


def printed(row):
    side = f" {row['person']}" if row["person"] != "0" else ""
    return None if row["video_id"] == "30" and not side else f"{row['video_id']} {row['frame']}{side}"


def test_conforms(release, tmp_path):
    out = check_importer("mmi", release, tmp_path, GOLDEN, printed)
    facts = {chunk.video_id: chunk for chunk, _ in chunks_of(out)}
    assert {name: chunk.provenance.get("view") for name, chunk in facts.items()} == {
        "1": "frontal", "2": "unknown", "30": "dual", "40": None,
    }  # fmt: skip
    assert facts["2"].provenance["other_codes"] == ["4B", "R"]
    assert facts["2"].labels["au_occ_46"].raw == [None, "46L", "46L"]
    assert facts["2"].labels["expression"].raw == "8"
    assert facts["1"].labels["expression"].raw[:4] == ["4", "4", "4", None]
    assert (facts["1"].labels["expression"].rule, facts["1"].labels["au_phase_12"].rule) == ("apex", None)


def test_a_dual_view_can_be_cut(release, tmp_path):
    halves = [{**one, "person": side} for side in ("left", "right") for one in DUAL]
    golden = sorted([*(one for one in GOLDEN if one not in DUAL), *halves], key=lambda one: one["video_id"])
    check_importer("mmi", release, tmp_path, golden, printed, dual="halves")


def test_the_emotion_of_a_session_and_a_turned_one(release, tmp_path):
    planned = run_import("mmi", release, tmp_path / "out", expression="session", turn="30=90")
    rows = frame_rows(tmp_path / "out")
    assert [row["expression"] for row in rows if row["video_id"] == "1"] == ["happiness"] * 8
    assert planned.facts["notes"]["markers behind the video's end"]["count"] == 1
    with pytest.raises(ReleaseError, match=r"expected session=degrees"):
        run_import("mmi", release, tmp_path / "out", turn="30=45")
    with pytest.raises(ReleaseError, match="there is no session 31"):
        run_import("mmi", release, tmp_path / "out", turn="31=90")


def test_a_standing_video_is_counted(release, tmp_path):
    video(release / "Sessions/30/S054-003.avi", ["30 1", "30 2"], width=64, height=96)
    planned = run_import("mmi", release, tmp_path / "out")
    assert planned.facts["notes"]["videos higher than wide, perhaps turned (--turn SESSION=90)"]["count"] == 1


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("1/S001-001-oao_aucs.xml", 'Frame="4" Type="2"', 'Frame="5" Type="2"'),  # shifted by one
        ("1/S001-001-oao_aucs.xml", 'Frame="1" Type="0"', 'Frame="2" Type="0"'),  # unknown, read as neutral
        ("1/S001-001.xml", 'Value="4"', 'Value="3"'),  # permuted classes
        ("2/S001-002.xml", 'Value="8"', 'Value="1"'),  # another state
    ],
)
def test_mutations_are_seen(release, tmp_path, name, old, new):
    path = release / "Sessions" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    run_import("mmi", release, tmp_path / "out")
    with pytest.raises(AssertionError):
        assert_golden(frame_rows(tmp_path / "out"), GOLDEN)


def test_swapped_sides_are_seen(release, tmp_path):
    write_dual(release / "Sessions/30/S054-003.avi", ["30 2", "30 1"])
    golden = sorted(
        [*(o for o in GOLDEN if o not in DUAL), *({**o, "person": s} for s in ("left", "right") for o in DUAL)],
        key=lambda one: one["video_id"],
    )
    with pytest.raises(AssertionError, match="does not show 30 1 left"):
        check_importer("mmi", release, tmp_path, golden, printed, dual="halves")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("1/S001-001.xml", "<Session>", "S001-001.xml is no whole XML"),
        ("1/more.xml", emotion(2), "Sessions/1 has the emotions 2 and 4: which is it"),
        ("1/S001-001-oao_aucs.xml", UNITS.replace('Frame="3"', 'Frame="three"'), "expected Frame and Type"),
    ],
)
def test_codes_that_cannot_be_are_refused(release, tmp_path, name, text, message):
    write(release / "Sessions" / name, text)
    with pytest.raises(ReleaseError, match=message):
        run_import("mmi", release, tmp_path / "out")


def test_a_missing_video_and_one_that_is_cut_off(release, tmp_path):
    (release / "Sessions/1/S001-001.avi").unlink()
    path = release / "Sessions/2/s001-002.avi"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(MissingMediaError, match=r"(?s)2 files.*Sessions/1/\*\.avi.*Sessions/2/s001-002\.avi"):
        run_import("mmi", release, tmp_path / "out")
    run_import("mmi", release, tmp_path / "out", allow_missing=True)
    assert {row["video_id"] for row in frame_rows(tmp_path / "out")} == {"30", "40"}


@pytest.mark.parametrize("place", ["..", "Sessions"])
def test_a_wrong_root_is_named_with_the_right_one(release, tmp_path, place):
    shutil.rmtree(release / "Sessions/40")
    with pytest.raises(ReleaseError, match=r"expected mmi: Sessions/\*/\* in .*found .*is that the ROOT you mean"):
        run_import("mmi", release / place, tmp_path / "out")
