"""What a build will cost, before it is begun: ratios by hand, and the command on drawn videos."""

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from builds import RATIO, write_rows
from faulty_store import BUCKET, s3_server
from reactionnet_datasets import stores
from reactionnet_pipeline.cli import app
from reactionnet_pipeline.errors import Code, SourceError
from reactionnet_pipeline.estimate import Header, Models, StartUp, extrapolate, read_header, sample
from reactionnet_pipeline.manifest import Row
from reactionnet_pipeline.prices import read_prices
from reactionnet_pipeline.records import Ingested, LaidOut, Segment, Source
from reactionnet_pipeline.trial import Trial, planned_frames, snippet_of
from reactionnet_pipeline.video import VideoInfo

START_UP = StartUp(imports_s=5.0, models_s=3.0)
ON_CPU = Models(devices={"captions": "cpu", "embeddings": "cpu"}, left_out={"demographics": "no weights"})
CROPS = {"demographics": 32.0, "embeddings": 6.0}


def header(name: str, frames: int = 1000, pixels: int = 100, **more) -> Header:
    known = {"num_bytes": 10_000, "remote": False, "duration_s": frames / 25, "heard_s": frames / 25, "codec": "h264"}
    return Header(video_id=name, frames=frames, pixels=frames * pixels, sources=1, **{**known, **more})


def trial(name: str, seconds=None, **more) -> Trial:
    return Trial(video_id=name, code=None, seconds=seconds or {"faces": 10.0, "pictures": 2.0}, **more)


def estimate(headers, trials, sources: int, models=ON_CPU, workers: int = 2, **more):
    return extrapolate(headers, trials, sources, len(headers), START_UP, models, CROPS, read_prices(), workers, **more)


def test_frames_that_were_not_tried_cost_as_much_as_those_that_were():
    found = estimate([header("a"), header("b", frames=3000)], [trial("a", written=900.0, published=2e9)], 4)
    assert found.frames == 8000
    assert found.core_seconds["faces"] == pytest.approx(10.0 * 8)
    assert found.core_seconds["pictures"] == pytest.approx(2.0 * 8)
    assert found.core_seconds["start-up"] == 5 + 2 * (2 * 5 + 3)
    assert found.written_frames == pytest.approx(7200)
    assert found.published_gb == pytest.approx(16)


def test_decoding_grows_with_pixels_and_faces_with_frames():
    found = estimate([header("a"), header("b", pixels=400)], [trial("a")], 2)
    assert found.core_seconds["pictures"] == pytest.approx(2 + 8)
    assert found.core_seconds["faces"] == pytest.approx(20)


def test_a_source_that_would_be_lost_costs_what_it_took_and_gives_nothing():
    lost = Trial(video_id="b", code="NO_LAYOUT", seconds={"layout": 4.0})
    headers = [header("a"), header("b")]
    found = estimate(headers, [trial("a", {"layout": 2.0, "faces": 10.0}, written=1000.0), lost], 20)
    assert found.core_seconds["layout"] == pytest.approx(20 * 3)
    assert found.core_seconds["faces"] == pytest.approx(20 * 5)
    assert found.written_frames == pytest.approx(10_000)
    assert found.lost == pytest.approx(0.5)


def test_the_error_is_the_jackknifes_and_none_where_everything_was_tried():
    headers = [header(name) for name in "abcd"]
    trials = [trial("a", {"faces": 8.0}), trial("b", {"faces": 12.0})]
    # leaving one out gives 48 and 32 s of 40: standard error sqrt(1/2 * (8^2 + 8^2)), less what was seen of four
    assert estimate(headers, trials, 4).error == pytest.approx((0.5 * 0.5 * 128) ** 0.5 / 40)
    assert estimate(headers[:2], trials, 2).error == 0
    assert estimate(headers, trials[:1], 4).error is None
    assert estimate(headers, trials, 4).spread_ms == (8.0, 12.0)


def test_a_model_costs_core_hours_on_a_processor_and_gpu_hours_on_a_gpu():
    prices, headers, trials = read_prices(), [header("a")], [trial("a", key_frames=8.0, clips=2.0)]
    here = estimate(headers, trials, 100)
    there = estimate(headers, trials, 100, replace(ON_CPU, devices={"captions": "cuda"}))
    rate = prices.rates["captions"]
    assert here.models["captions"].units == pytest.approx(800)
    assert here.gpu_hours == 0
    assert there.gpu_hours == pytest.approx(800 * rate.gpu_s / 3600)
    assert here.core_hours - there.core_hours == pytest.approx(800 * rate.core_s / 3600)
    assert there.money["GPU"] == pytest.approx(there.gpu_hours * prices.per_gpu_hour)
    demographics = here.models["demographics"]
    assert (demographics.device, demographics.left_out) == (None, "no weights")


def test_only_what_is_not_here_is_fetched():
    headers = [header("a", remote=True, num_bytes=3_000_000_000), header("b")]
    found = estimate(headers, [trial("a", fetch_s=60.0)], 4)
    assert found.fetched_gb == pytest.approx(6)
    busy_s = sum(found.core_seconds.values()) - START_UP.total_s(2) + 2 * 60
    assert found.wall_hours * 3600 == pytest.approx(START_UP.clock_s + busy_s / 2)


def test_a_sample_does_not_hang_on_the_order_of_rows():
    rows = [Row(line=n, video_id=str(n), uri="", location="", license="CC0-1.0") for n in range(50)]
    assert [row.video_id for row in sample(rows, 5, 0)] == [row.video_id for row in sample(rows[::-1], 5, 0)]
    assert {row.video_id for row in sample(rows, 5, 0)} != {row.video_id for row in sample(rows, 5, 1)}


def segments(*edges: int) -> list[Segment]:
    source = Source(video_id="a", line=1, uri="a", split="train")
    laid_out = LaidOut(ingested=Ingested(source=source, path="a", sha256="0", probe="p"), layout="l", sound=None)
    return [Segment(laid_out=laid_out, span=0, number=n, first=a, stop=b) for n, (a, b) in enumerate(pairwise(edges))]


def info(frames: int) -> VideoInfo:
    return VideoInfo(
        width=64, height=64, rotation=0, times_s=np.arange(frames) / 25, keyframes=np.array([0]), duration_s=frames / 25,
        has_audio=False, start_s=0.0, codec="h264",
    )  # fmt: skip


def test_a_short_source_is_tried_as_a_whole_and_a_long_one_for_seconds():
    short, long = segments(0, 100, 180), segments(0, 1500, 3000)
    assert snippet_of(short, info(180), "a") == short
    (piece,) = snippet_of(long, info(3000), "a")
    assert piece.stop - piece.first == 200
    assert any(one.first <= piece.first and piece.stop <= one.stop for one in long)
    assert snippet_of([], info(10), "a") == []


def test_where_segments_meet_both_decode_a_second_of_the_other():
    assert planned_frames(segments(0, 1500, 3000), info(3000)) == pytest.approx(3000 + 50)
    assert planned_frames(segments(0, 1500), info(1500)) == 1500


def test_a_header_tells_frames_and_what_the_row_asks_for(drawn):
    row = Row(line=1, video_id="a", uri="", location=drawn.rows()[0]["uri"], license="CC0-1.0")
    whole = read_header(row)
    assert whole.frames == round(drawn.records[0]["fps"] * 2.4)
    assert whole.pixels == whole.frames * 640 * 360
    assert whole.codec == "h264"
    assert whole.heard_s > 0
    assert read_header(replace(row, start_s=0.6, end_s=1.8)).frames == round(whole.frames / 2)
    with pytest.raises(SourceError) as error:
        read_header(replace(row, location=str(drawn.manifest)))
    assert error.value.code == Code.NOT_A_VIDEO


def test_a_header_in_a_store_is_read_by_ranges(drawn, monkeypatch):
    path = Path(drawn.rows()[0]["uri"])
    row = Row(line=1, video_id="a", uri="", location=str(path), license="CC0-1.0")
    stores._systems.clear()  # they know another server
    with s3_server(monkeypatch.setenv):
        url = f"s3://{BUCKET}/videos/a.mp4"
        stores.as_place(url).put(path)
        found = read_header(replace(row, location=url))
        with pytest.raises(SourceError, match="FETCH_FAILED"):
            read_header(replace(row, location=url + "x"))
    stores._systems.clear()
    assert found == replace(read_header(row), remote=True)
    assert found.remote_bytes == path.stat().st_size


def test_the_command_estimates_and_writes_nothing(drawn, tmp_path):
    rows = [*drawn.rows(), {"video_id": "gone", "uri": "gone.mp4", "license": "CC0-1.0", "subject_ids": ["nobody"]}]
    manifest, out = write_rows(tmp_path / "sources.jsonl", rows), tmp_path / "dataset"
    command = [sys.executable, "-m", "reactionnet_pipeline.cli", "--sources", str(manifest), "--out", str(out)]
    options = ("--estimate", "--json", "--workers", "1", "--split-ratio", RATIO)
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [path.name for path in tmp_path.iterdir()] == ["sources.jsonl"]
    said = json.loads(done.stdout)
    assert (said["sources"], said["sampled"], said["tried"]) == (4, 4, 3)
    assert "FETCH_FAILED" in said["letters"]["gone"]
    frames = sum(round(record["fps"] * 2.4) for record in drawn.records)
    assert said["written_frames"] == pytest.approx(frames, rel=0.02)
    assert said["core_seconds"].keys() >= {
        "start-up",
        "layout",
        "pictures",
        "faces",
        "clips",
        "preview",
        "write",
        "tables",
    }
    assert said["core_hours"] * 3600 == pytest.approx(sum(said["core_seconds"].values()))
    assert 0.001 < said["published_gb"] < 0.02
    assert said["staged_gb"]["decode"] > 0.001
    assert said["prices"]["date"]


def test_what_cannot_be_estimated_is_said(tmp_path):
    manifest = write_rows(tmp_path / "s.jsonl", [{"video_id": "a", "uri": "a.mp4", "license": "CC0-1.0"}])
    command = ["--sources", str(manifest), "--out", str(tmp_path / "d")]
    refused = CliRunner().invoke(app, [*command, "--json"])
    assert refused.exit_code == 2
    assert "--json and --prices go with --estimate" in refused.stderr
    refused = CliRunner().invoke(app, [*command, "--estimate", "--prices", str(tmp_path / "none.json")])
    assert refused.exit_code == 2
    assert "none.json" in refused.stderr
    refused = CliRunner().invoke(app, [*command, "--estimate"])
    assert refused.exit_code == 2
    assert "none of 1 sources can be opened (a: FETCH_FAILED" in refused.stderr
    assert not (tmp_path / "d").exists()
