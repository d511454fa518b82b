"""Stage 3 and barrier 1 on real frames: what a segment leaves on file, and that its length does not matter."""

import json
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from reactionnet_pipeline import clips, decode
from reactionnet_pipeline.config import Config
from reactionnet_pipeline.ingest import ingest
from reactionnet_pipeline.layout_files import lay_out
from reactionnet_pipeline.manifest import parse_panes
from reactionnet_pipeline.records import LaidOut, Source
from reactionnet_pipeline.segment import plan_segments
from reactionnet_pipeline.sound import resample_sound


def prepared(video: Path, panes: list[dict], work: Path, **source) -> LaidOut:
    layout = parse_panes(panes, "manifest")
    row = Source(video_id="v", line=1, uri=str(video), split="train", layout=layout, **source)
    ingested = ingest(row, work)
    layout_file = lay_out(ingested, Config().layout, work)
    return LaidOut(ingested=ingested, layout=layout_file, sound=resample_sound(ingested, work))


def rows_of(laid_out: LaidOut, work: Path, length_s: float, config: decode.Config | None = None) -> list[dict]:
    """All frames of all clips, as the frames table will have them."""
    parts = [decode.decode_segment(s, config or decode.Config(), work) for s in plan_segments(laid_out, length_s)]
    rows = []
    for part in clips.assemble("v", parts, clips.Config(), work).parts:
        facts = json.loads((work / part.index).with_suffix(".facts.json").read_bytes())
        for chunk in facts["chunks"].values():
            for place, frame in enumerate(chunk["frames"]):
                row = {"frame": frame, "t_s": chunk["t_s"][place], "track": facts["clip"]["track"]}
                rows.append({**row, "box": chunk["face_boxes"][place], "source": chunk["face_sources"][place]})
    return rows


def pane(role: str, x: int, y: int, w: int, h: int, end_s: float) -> dict:
    return {"role": role, "x": x, "y": y, "w": w, "h": h, "start_s": 0, "end_s": end_s}


@pytest.fixture
def laid_out(drawn, tmp_path) -> LaidOut:
    row = drawn.rows()[1]
    return prepared(Path(row["uri"]), row["layout"], tmp_path / "work")


def test_every_frame_has_its_pictures_and_the_crop_shows_the_face(laid_out, tmp_path):
    work = tmp_path / "work"
    (segment,) = plan_segments(laid_out, 60)
    part = decode.decode_segment(segment, decode.Config(stimulus_px=100), work)
    faces = decode.read_rows(work / part.table).to_pylist()
    stimuli = decode.read_rows((work / part.table).with_suffix(".stimuli")).to_pylist()
    assert [row["frame"] for row in faces] == [row["frame"] for row in stimuli] == list(range(segment.stop))
    blob = (work / part.blob).read_bytes()
    picture = simplejpeg.decode_jpeg(blob[stimuli[3]["offset"] : stimuli[3]["offset"] + stimuli[3]["size"]])
    assert max(picture.shape) == 100
    face = faces[10]
    crop = simplejpeg.decode_jpeg(blob[face["offset"] : face["offset"] + face["size"]])
    assert crop.shape == (256, 256, 3)
    landmarks = np.array(face["landmarks"]).reshape(68, 2)
    assert (landmarks > 0).all() and (landmarks < 256).all()
    eyes, mouth = landmarks[36:48].mean(axis=0), landmarks[48:].mean(axis=0)
    assert eyes[1] < mouth[1]


def test_a_lower_rate_keeps_the_first_frame_of_each_tick(laid_out, tmp_path):
    config = decode.Config(fps=5)
    rows = rows_of(laid_out, tmp_path / "work", 60, config)
    assert np.diff([row["t_s"] for row in rows]) == pytest.approx(0.2)


def test_a_second_look_reads_the_work_folder(laid_out, tmp_path, monkeypatch):
    (segment,) = plan_segments(laid_out, 60)
    first = decode.decode_segment(segment, decode.Config(), tmp_path / "work")
    monkeypatch.setattr(decode, "read_frames", None)  # decoding again would fail
    assert decode.decode_segment(segment, decode.Config(), tmp_path / "work") == first


def test_what_cannot_be_decoded_is_named_and_cuts_the_clip(drawn, tmp_path):
    row = drawn.rows()[1]
    data = bytearray(Path(row["uri"]).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data)
    laid_out = prepared(broken, row["layout"], tmp_path / "work")
    (segment,) = plan_segments(laid_out, 60)
    part = decode.decode_segment(segment, decode.Config(), tmp_path / "work")
    assert part.lost
    found = clips.assemble("v", [part], clips.Config(min_clip_s=0.1), tmp_path / "work")
    assert {letter.code for letter in found.letters} == {"DAMAGED"}
    assert all(letter.kept and letter.lost_start_s < letter.lost_end_s for letter in found.letters)
    facts = [json.loads((tmp_path / "work" / p.index).with_suffix(".facts.json").read_bytes()) for p in found.parts]
    for clip in facts:
        frames = [frame for chunk in clip["chunks"].values() for frame in chunk["frames"]]
        assert frames == list(range(frames[0], frames[0] + len(frames)))


@pytest.mark.slow
def test_segments_of_20_and_of_60_seconds_give_the_same_frames(shared, tmp_path):
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    from ingest_speed import join

    long = tmp_path / "long.mp4"
    join(shared / "reaction_videos" / "pub03_pip_top_left.mp4", 1.6, long)
    panes = [pane("stimulus", 0, 0, 640, 360, 90), pane("reaction", 10, 10, 180, 136, 90)]
    laid_out = prepared(long, panes, tmp_path / "work")
    short, whole = (rows_of(laid_out, tmp_path / "work", length_s) for length_s in (20, 60))
    assert len(plan_segments(laid_out, 20)) > len(plan_segments(laid_out, 60))
    assert [(r["frame"], r["t_s"], r["track"]) for r in short] == [(r["frame"], r["t_s"], r["track"]) for r in whole]
    boxes = np.array([r["box"] for r in short]) - np.array([r["box"] for r in whole])
    edges = [segment.first for segment in plan_segments(laid_out, 20)]
    frames = np.array([r["frame"] for r in short])
    near = np.abs(frames[:, None] - np.array(edges)[None]).min(axis=1) <= 30
    assert np.abs(boxes).max() <= 2
    assert not boxes[~near].any()
