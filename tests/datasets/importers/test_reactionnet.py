"""Agrees with the neutral manifest (reference A1; the release's own layout is unconfirmed); not run on the release."""

import pytest

from checks import check_importer, chunks_of, frame_rows, read_member, run_import
from fake.others import MANIFEST, write_reactionnet
from fake.printed import says
from reactionnet_datasets.release import MissingMediaError, ReleaseError


def row(video, frame, split, expression, au1, au12, au12_int, **others):
    mask = "valid" if au12 is not None else "not_annotated"
    return {
        "video_id": video, "frame": frame, "split_all": split, "expression": expression, "au_occ_1": au1, "au_occ_12": au12,
        "au_occ_12_mask": mask, "au_int_12": au12_int, **others,
    }  # fmt: skip


GOLDEN = [
    row("c000001", 15, "train", "fear", 1, 0, 3, scene="film", sub_scene="film_horror", subject_id="s0001"),
    row("c000001", 16, "train", None, None, None, None, expression_mask="not_annotated", t_s=round(16 / 30, 5)),
    row("c000001", 18, "train", "happiness", 0, 1, 5, clip_id="c000001-0-000018"),
    row("c000002", 1, "val", "surprise", None, 1, 0, scene="self_made_video", sub_scene=None, subject_id="s0002"),
]


def test_conforms(tmp_path):
    release = write_reactionnet(tmp_path / "release")
    out = check_importer("reactionnet", release, tmp_path, GOLDEN, lambda r: f"react {r['video_id']} {r['frame']}")
    for row in frame_rows(out)[:3]:
        assert says(read_member(out, row, "stimulus"), f"stim c000001 {row['frame']}")
    captions = {c.video_id: c.captions for c, _ in chunks_of(out)}
    assert captions == {"c000001": [{"decoding": "human", "text": "a man, falling", "t_s": 0.5}], "c000002": []}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("au12_int", "au12_intensity", "unknown columns: au12_intensity"),
        ("au1_occ", "au3_occ", "unknown columns: au3_occ"),
        ("fear,1,0,3", "fear,2,0,3", r"line 2: au1_occ 2; expected 0 to 1"),
        ("fear,1,0,3", "fear,1,0,6", r"line 2: au12_int 6; expected 0 to 5"),
        (",s0002,", ",s0001,", "subject s0001 is in val and in train"),
        ("stim/c000001/000016.jpg", "", "for some of its frames only"),
        ("c000001,16", "c000001,15", "line 3: frame 15 of c000001 twice"),
        ("react/c000001/000016.jpg", "../elsewhere.jpg", "leads out of the release"),
        ("devel", "exam", "split 'exam'; expected train, val or test"),
    ],
)
def test_what_is_no_value_is_refused(tmp_path, old, new, message):
    release = write_reactionnet(tmp_path / "release")
    assert old in MANIFEST
    (release / "manifest.csv").write_text(MANIFEST.replace(old, new, 1))
    with pytest.raises(ReleaseError, match=message):
        run_import("reactionnet", release, tmp_path / "out")


def test_a_missing_stimulus_is_an_error(tmp_path):
    release = write_reactionnet(tmp_path / "release")
    (release / "stim/c000001/000016.jpg").unlink()
    with pytest.raises(MissingMediaError, match=r"stim/c000001/000016.jpg"):
        run_import("reactionnet", release, tmp_path / "out")
    run_import("reactionnet", release, tmp_path / "out", allow_missing=True)
    assert [row["frame"] for row in frame_rows(tmp_path / "out")] == [15, 18, 1]
