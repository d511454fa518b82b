"""The whole job, as a user starts it: the same bytes whatever happens on the way, and nothing lost or invented."""

import contextlib
import faulthandler
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import webdataset as wds

from builds import RATIO, published, run_build, write_rows
from reactionnet_datasets.sample import Chunk
from reactionnet_datasets.shards import TEMPORARY, read_index, read_manifest, scan_tar


def no_temporaries(*folders: Path) -> bool:
    return not [path for folder in folders for path in folder.rglob(f"{TEMPORARY}*")]


def test_every_source_is_built_and_the_counts_balance(built, drawn):
    content = read_manifest(built.out)
    assert sum(entry["sources"] for entry in content["splits"].values()) == len(drawn.records)
    report = json.loads((built.out / "run_report.json").read_bytes())
    assert report["counts"] == {"admitted": 3, "built": 3, "lost": 0}
    frames = sum(entry["frames"] for entry in content["splits"].values())
    assert frames == sum(round(record["fps"] * 2.4) for record in drawn.records)


def test_the_index_agrees_with_a_scan_of_every_tar(built):
    shards = [shard for entry in read_manifest(built.out)["splits"].values() for shard in entry["shards"]]
    assert shards
    for shard in shards:
        assert read_index(built.out / shard["index"]).equals(scan_tar(built.out / shard["path"]))


def test_plain_webdataset_reads_every_record(built):
    content = read_manifest(built.out)
    urls = [str(built.out / shard["path"]) for entry in content["splits"].values() for shard in entry["shards"]]
    samples = list(wds.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    assert len(samples) == sum(entry["records"] for entry in content["splits"].values())
    for sample in samples:
        num_frames = len(sample["json"]["frames"])
        assert sample["000.reaction.jpg"].shape == (256, 256, 3)
        assert f"{num_frames - 1:03d}.stimulus.jpg" in sample
        assert sample["landmarks.npy"].shape == (num_frames, 68, 2)
        assert Chunk.from_json(json.dumps(sample["json"]).encode()).key == sample["__key__"]


def test_tar_reads_every_shard_and_headers_hold_no_clock(built):
    for path in (built.out / "shards").glob("*.tar"):
        with tarfile.open(path) as tar:
            assert {(member.mtime, member.uid, member.uname) for member in tar} == {(0, 0, "")}


def test_the_tables_speak_of_the_shards(built):
    frames = pq.read_table(built.out / "tables" / "frames.parquet").to_pylist()
    assert len({(row["video_id"], row["subject_id"], row["frame"]) for row in frames}) == len(frames)
    with tarfile.open(built.out / frames[0]["shard"]) as tar:
        assert tar.extractfile(frames[0]["member"]).read(2) == b"\xff\xd8"
        pose = np.load(io.BytesIO(tar.extractfile(f"{frames[0]['key']}.pose.npy").read()))
    assert pose[0] == pytest.approx([frames[0]["yaw"], frames[0]["pitch"], frames[0]["roll"]])


def test_faces_lie_where_they_were_drawn(built, drawn):
    from reactionnet_pipeline.accuracy import measure, read_built

    for video in measure(list(drawn.records), read_built(built.out)):
        assert video.right, video
        assert video.faces.covered == video.faces.required


def test_two_workers_another_folder_and_shuffled_rows_give_the_same_bytes(built, drawn, tmp_path):
    rows = drawn.rows()
    manifest = write_rows(tmp_path / "shuffled.jsonl", [rows[2], rows[0], rows[1]])
    run_build(manifest, tmp_path / "elsewhere" / "d", "--workers", "2", "--split-ratio", RATIO)
    assert published(tmp_path / "elsewhere" / "d") == built.files


def test_repeated_bundles_give_the_same_bytes(built, drawn, tmp_path):
    options = ("--workers", "1", "--split-ratio", RATIO, "--direct_runner_bundle_repeat", "1")
    run_build(drawn.manifest, tmp_path / "d", *options)
    assert published(tmp_path / "d") == built.files


def test_one_split_alone_equals_its_part_of_a_full_build(built, drawn, tmp_path):
    out = tmp_path / "d"
    run_build(drawn.manifest, out, "--split", "train", "--workers", "1", "--split-ratio", RATIO)
    assert list(read_manifest(out)["splits"]) == ["train"]
    assert published(out, "train") == published(built.out, "train")
    opened = {path.name.split("-")[0] for path in (tmp_path / "d.work" / "hash").iterdir()}
    assert len(opened) == read_manifest(out)["splits"]["train"]["sources"]
    for split in ("val", "test"):
        run_build(drawn.manifest, out, "--split", split, "--workers", "1", "--split-ratio", RATIO)
    assert published(out) == built.files


def test_a_rerun_does_nothing_and_loads_nothing_heavy(built, drawn):
    script = (
        "import sys; from reactionnet_pipeline import cli\n"
        f"sys.argv = ['reactionnet-build', '--sources', {str(drawn.manifest)!r}, '--out', {str(built.out)!r},"
        f" '--split-ratio', {RATIO!r}]\n"
        "try: cli.main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'dlib', 'apache_beam', 'facenet_pytorch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stderr
    assert published(built.out) == built.files


def killed_build(manifest: Path, out: Path, after_s: float) -> None:
    """Start a build and kill its launcher without a word; its workers end by themselves."""
    command = [sys.executable, "-m", "reactionnet_pipeline.cli", "--sources", str(manifest), "--out", str(out), "-q"]
    process = subprocess.Popen([*command, "--workers", "2", "--split-ratio", RATIO], start_new_session=True)
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def processes_of(out: Path) -> list[psutil.Process]:
    """Everything that still runs for a build: launcher, workers, their children."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(f.path.startswith(f"{out}.work/logs") for f in process.open_files()):
                found.append(process)
    return found


def kill_and_rerun(drawn, built, folder: Path, seed: int) -> None:
    out = folder / f"killed{seed}"
    draw = random.Random(seed)
    for _ in range(draw.randint(1, 2)):
        killed_build(drawn.manifest, out, draw.uniform(0.5, 14))
        deadline = time.monotonic() + 30
        while processes_of(out) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert not processes_of(out), "workers outlive their launcher"
    run_build(drawn.manifest, out, "--workers", "2", "--split-ratio", RATIO)
    assert published(out) == built.files
    assert no_temporaries(out, out.with_name(out.name + ".work"))


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_build_goes_on_to_the_same_bytes(drawn, built, tmp_path, seed):
    kill_and_rerun(drawn, built, tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 23))
def test_builds_killed_twenty_times_go_on_to_the_same_bytes(drawn, built, tmp_path, seed):
    kill_and_rerun(drawn, built, tmp_path, seed)


def test_ctrl_c_stops_cleanly(drawn, tmp_path):
    out = tmp_path / "d"
    command = [sys.executable, "-m", "reactionnet_pipeline.cli", "--sources", str(drawn.manifest), "--out", str(out)]
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell that runs tests in the background lets children ignore it
    process = subprocess.Popen([*command, "--workers", "2"], stderr=subprocess.PIPE, text=True, start_new_session=True)
    time.sleep(9)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)  # a busy machine ends slowly
    assert process.returncode == 130, said
    assert "goes on where this one was" in said
    assert "Traceback" not in said
    assert not (out / ".lease").exists()


def hostile_videos(monkeypatch) -> None:
    """Make the decoder abort on one name and hang on another, as broken files have been seen to do."""
    from reactionnet_pipeline import video

    really_open = video.open_video

    def open_video(path):
        if path.name == "abort.mp4":
            faulthandler.disable()  # its page of stacks would be the parent's
            os.abort()
        if path.name == "hang.mp4":
            time.sleep(600)
        return really_open(path)

    monkeypatch.setattr(video, "open_video", open_video)


def test_a_source_that_aborts_the_decoder_and_one_that_hangs_it_cost_only_themselves(drawn, tmp_path, monkeypatch):
    from reactionnet_pipeline import cli, isolated, launch

    hostile_videos(monkeypatch)
    # the stages' child processes are forked from this one here, so that they meet the same decoder
    monkeypatch.setattr(launch, "local_runner", lambda logs: "FnApiRunner")
    monkeypatch.setattr(isolated, "START_METHOD", "fork")
    rows = drawn.rows()
    for number, name in enumerate(("abort", "hang")):
        copy = tmp_path / f"{name}.mp4"
        copy.write_bytes(Path(rows[number]["uri"]).read_bytes())
        rows.append({**rows[number], "video_id": name, "uri": str(copy)})
    manifest = write_rows(tmp_path / "sources.jsonl", rows)
    out = tmp_path / "d"
    options = ["--workers", "1", "--max-loss", "0.5", "-q", "--set", "limits.ingest_s=4"]
    with pytest.raises(SystemExit) as end:
        cli.app(["--sources", str(manifest), "--out", str(out), *options])
    assert end.value.code == 0
    letters = [json.loads(line) for line in (out / "dead_letters.jsonl").read_text().splitlines()]
    assert {letter["video_id"]: letter["code"] for letter in letters} == {"abort": "WORKER_CRASHED", "hang": "TIMEOUT"}
    assert sum(entry["sources"] for entry in read_manifest(out)["splits"].values()) == 3


def test_a_second_build_in_the_same_folder_is_refused_and_the_first_named(drawn, tmp_path):
    from reactionnet_pipeline.lease import Lease

    with Lease(tmp_path / "d"):
        done = run_build(drawn.manifest, tmp_path / "d", check=False)
    assert done.returncode == 2
    assert f"process {os.getpid()}" in done.stderr


def test_too_many_losses_publish_nothing(drawn, tmp_path):
    rows = drawn.rows()
    (tmp_path / "empty.mp4").write_bytes(b"")
    rows[0] = {**rows[0], "uri": str(tmp_path / "empty.mp4"), "sha256": None}
    done = run_build(write_rows(tmp_path / "s.jsonl", rows), tmp_path / "d", check=False)
    assert done.returncode == 1
    assert "1 of 3 admitted sources were lost" in done.stderr
    assert not (tmp_path / "d" / "dataset.json").exists()
    letters = (tmp_path / "d.work" / "dead_letters.jsonl").read_text()
    assert json.loads(letters)["code"] == "EMPTY_FILE"


def test_slips_in_the_command_get_a_message_and_no_traceback(drawn, tmp_path):
    for options, expected in [
        (("--split", "dev"), "expected train, val, test or all"),
        (("--set", "decode.qualty=3"), "did you mean quality"),
        (("--spilt", "train"), "did you mean --split"),
        (("--split-ratio", "1,2"), "three numbers"),
        (("--tombstones", str(tmp_path / "none")), "no tombstones at"),
    ]:
        done = run_build(drawn.manifest, tmp_path / "d", *options, check=False)
        assert done.returncode == 2, done.stderr
        assert expected in done.stderr.replace("\n", " "), done.stderr
        assert "Traceback" not in done.stderr
