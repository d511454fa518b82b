"""Everything that is understood of real people: captions, demographics, identity, gaze, voice, highlights, codes."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from builds import run_build, write_rows

VIDEOS = ("pub01_side_by_side", "pub03_pip_top_left", "pub06_two_reactors", "pub12_vfr_no_audio")
RATIO = "0.34,0.33,0.33"


@pytest.fixture(scope="module")
def real(shared, blip, deepface_home, tmp_path_factory):
    """Four real videos of four people (one is in two of them), whose manifest names nobody; tables by name."""
    folder = tmp_path_factory.mktemp("real")
    rows = [json.loads(line) for line in (shared / "reaction_videos" / "manifest.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["video_id"] in VIDEOS]
    for row in rows:
        row.pop("subject_ids")
        row["uri"] = str(shared / "reaction_videos" / row["uri"])
    codes = [{"video_id": VIDEOS[0], "t_s": t_s, "coder": "ann", "au_occ_12": t_s > 1} for t_s in (0.5, 1.5, 2.5)]
    run_build(
        write_rows(folder / "sources.jsonl", rows), folder / "out", "--split-ratio", RATIO, "--caption-model", str(blip),
        "--demographics-model", str(deepface_home), "--annotations",
        str(write_rows(folder / "codes.jsonl", [{**row, "au_occ_12": int(row["au_occ_12"])} for row in codes])),
        "--key-frames", "12",
    )  # fmt: skip
    names = ("frames", "windows", "captions", "subjects", "key_frames", "sources")
    return {name: pq.read_table(folder / "out" / "tables" / f"{name}.parquet").to_pylist() for name in names}


@pytest.mark.slow
def test_the_person_of_two_videos_is_one_subject_in_one_split(real):
    subject = {row["video_id"]: row["subject_id"] for row in real["frames"]}
    assert subject["pub03_pip_top_left"] == subject["pub12_vfr_no_audio"]
    assert len(set(subject.values())) == 3
    split = {row["video_id"]: row["split"] for row in real["sources"]}
    assert split["pub03_pip_top_left"] == split["pub12_vfr_no_audio"]


@pytest.mark.slow
def test_every_stimulus_is_described_in_both_ways(real):
    said = {(row["video_id"], row["decoding"]) for row in real["captions"] if row["text"]}
    assert said == {(video, decoding) for video in VIDEOS for decoding in ("beam", "nucleus")}


@pytest.mark.slow
def test_subjects_have_distributions_that_sum_to_one(real):
    assert len(real["subjects"]) == 3
    for row in real["subjects"]:
        for what in ("gender", "ethnicity", "emotion"):
            assert sum(dict(row[f"{what}_distribution"]).values()) == pytest.approx(1, abs=0.01)


@pytest.mark.slow
def test_gaze_voice_and_score_stand_on_the_frames(real):
    frames = real["frames"]
    seen = [row for row in frames if row["gaze_yaw"] is not None]
    assert len(seen) > 0.8 * len(frames)
    assert np.abs([row["gaze_yaw"] for row in seen]).max() < 60
    silent = [row for row in frames if row["video_id"] == "pub12_vfr_no_audio"]
    assert {row["speaking_mask"] for row in silent} == {"not_annotated"}
    heard = {row["speaking"] for row in frames if row["video_id"] == "pub01_side_by_side"}
    assert heard == {0.0, 1.0}
    assert all(row["highlight"] is not None for row in frames)
    assert len(real["key_frames"]) == 12


@pytest.mark.slow
def test_codes_stand_at_their_frames(real):
    coded = {row["t_s"]: row["au_occ_12"] for row in real["frames"] if row["au_occ_12_mask"] == "valid"}
    assert [coded[t_s] for t_s in sorted(coded)] == [0, 1, 1]
    assert sorted(coded) == pytest.approx([0.5, 1.5, 2.5], abs=0.0201)
