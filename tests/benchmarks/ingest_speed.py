"""Frames per second of an ingestion against bare decoding, in one run: `python tests/benchmarks/ingest_speed.py`.

Takes a video of five minutes or more at 720p with one reactor (copies of a shared one joined without re-encoding, or any
file given with --video) and prints, one thread each:

- stages 0-3, 7 and 8 (fetch, layout, faces, crops, sound, shards, tables) against bare PyAV decoding to RGB; goal 0.30;
- the same through `reactionnet-build` with one and two workers, and how both scale; goal 0.9 of bare decoding's scaling;
- what start-up costs, and a rerun with nothing to do; goal 3 s + 2 ms a source;
- with --minutes 60, the peak memory of a worker; goal 1.2 GB.
"""

import cProfile
import json
import multiprocessing
import os
import pstats
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Annotated

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import av
import psutil
import typer
from rich.console import Console
from rich.table import Table

SHARED = Path(__file__).resolve().parents[3] / "shared" / "reaction_videos" / "pub01_side_by_side.mp4"
console = Console(width=110)


def join(source: Path, minutes: float, target: Path) -> int:
    """Copies of a video one after another, packets copied; the number of frames."""
    frames = 0
    with av.open(str(target), "w") as out:
        streams, offset = {}, 0.0
        while offset < minutes * 60:
            with av.open(str(source)) as file:
                for stream in (*file.streams.video, *file.streams.audio):
                    if stream.index not in streams:
                        streams[stream.index] = out.add_stream_from_template(stream)
                for packet in file.demux(*file.streams.video, *file.streams.audio):
                    if packet.dts is None:
                        continue
                    shift = round(offset / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    frames += packet.stream.type == "video"
                    packet.stream = streams[packet.stream.index]
                    out.mux(packet)
                offset += file.duration / av.time_base + 0.04  # the longer of picture and sound, and a little
    return frames


def bare_decoding(video: Path) -> float:
    """Seconds to decode every frame to an RGB array with one thread."""
    started = time.perf_counter()
    with av.open(str(video)) as file:
        stream = file.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in file.decode(stream):
            frame.to_ndarray(format="rgb24")
    return time.perf_counter() - started


def bare_decoding_of_two(video: Path) -> float:
    """The same in two processes at once."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(abs, [1, 2], chunksize=1)  # both have started
        started = time.perf_counter()
        pool.map(bare_decoding, [video, video], chunksize=1)
        return time.perf_counter() - started


def stages(video: Path, work: Path, root: Path, profile: bool) -> dict[str, float]:
    """Seconds of each stage in this process, models loaded before."""
    from reactionnet_datasets.splits import LOCK, write_lock
    from reactionnet_datasets.tabulate import tabulate
    from reactionnet_pipeline import admitted, clips, isolated
    from reactionnet_pipeline.annotations import write_annotations
    from reactionnet_pipeline.build import LABELS
    from reactionnet_pipeline.cli import all_versions
    from reactionnet_pipeline.config import Config
    from reactionnet_pipeline.decode import decode_segment
    from reactionnet_pipeline.ingest import ingest
    from reactionnet_pipeline.layout_files import lay_out
    from reactionnet_pipeline.manifest import Row
    from reactionnet_pipeline.publish import DEAD_LETTERS, Settings, Tabulated, publish
    from reactionnet_pipeline.records import LaidOut
    from reactionnet_pipeline.segment import plan_segments
    from reactionnet_pipeline.sink import write_parts
    from reactionnet_pipeline.sound import resample_sound

    isolated.one_thread()
    config = Config()
    row = Row(line=1, video_id="speed", uri=video.name, location=str(video), license="CC0-1.0", subject_ids=("one",))
    admitted.write_rows(work, [row], {"speed": "train"})
    (work / "plan" / LOCK).write_bytes(write_lock({}))
    (work / "plan" / DEAD_LETTERS).write_bytes(b"")
    write_annotations(work, ())
    (source,) = admitted.read_sources(str(work), ("train",))
    seconds: dict[str, float] = {}
    profiler = cProfile.Profile() if profile else None

    def timed(name, call):
        if profiler:
            profiler.enable()
        started = time.perf_counter()
        result = call()
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started
        if profiler:
            profiler.disable()
        return result

    ingested = timed("0 ingest", lambda: ingest(source, work))
    layout = timed("1 layout", lambda: lay_out(ingested, config.layout, work))
    laid_out = LaidOut(ingested=ingested, layout=layout, sound=timed("sound", lambda: resample_sound(ingested, work)))
    segments = timed("2 segment", lambda: plan_segments(laid_out, config.segment.length_s))
    parts = timed("3 decode", lambda: [decode_segment(segment, config.decode, work) for segment in segments])
    video_done = timed("= clips", lambda: clips.assemble("speed", parts, config.clips, work))
    late = clips.ChunkJson(str(work), config.clips.dataset, tuple(all_versions().items()))
    shard = timed("7 write", lambda: write_parts((("train", 0), video_done.parts), root, late, work / "shards"))
    tables = timed("7 tables", lambda: tabulate(root, shard.info, LABELS))
    settings = Settings(
        root=str(root), work=str(work), dataset="speed", splits=("train",), max_loss=0.0, facts=json.dumps({})
    )
    arrivals = [Tabulated(shard=shard, parts=tables), video_done.done, *video_done.letters]
    timed("8 publish", lambda: publish(arrivals, settings))
    if profiler:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
    return seconds


def build(manifest: Path, out: Path, workers: int) -> tuple[float, dict, float]:
    """Whole seconds of the command, its report, and the largest memory (bytes) of one of its processes."""
    command = [sys.executable, "-m", "reactionnet_pipeline.cli", "--sources", str(manifest), "--out", str(out)]
    started = time.perf_counter()
    process = subprocess.Popen([*command, "--workers", str(workers), "-q", "--split-ratio", "1,0,0"])
    peak = [0]

    def watch() -> None:
        parent = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                for child in parent.children(recursive=True):
                    peak[0] = max(peak[0], child.memory_info().rss)
            except psutil.NoSuchProcess:
                pass
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    if process.wait():
        raise SystemExit(f"reactionnet-build failed: exit code {process.returncode}")
    watcher.join()
    report = out / "run_report.json"
    return time.perf_counter() - started, json.loads(report.read_bytes()), peak[0]


def write_manifest(path: Path, videos: list[Path]) -> Path:
    lines = [
        {"video_id": f"copy{number}", "uri": str(video), "license": "CC0-1.0", "subject_ids": [f"s{number}"]}
        for number, video in enumerate(videos)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def main(
    video: Annotated[Path, typer.Option(help="A video with one reactor.")] = SHARED,
    minutes: Annotated[float, typer.Option(help="Copies are joined until it is as long as this.")] = 5.0,
    profile: Annotated[bool, typer.Option("--profile", help="Also print where the time of the stages goes.")] = False,
    num_rounds: Annotated[int, typer.Option("--rounds", help="Bare decoding and stages, in turn.")] = 3,
    stages_only: Annotated[bool, typer.Option("--stages-only", help="Leave out the runs with workers.")] = False,
) -> None:
    """Measure and print; nothing is kept."""
    if not video.exists():
        console.print(f"skipped: no video at {video}; give one with --video")
        raise typer.Exit(0)
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        long = here / "long.mp4"
        frames = join(video, minutes, long)
        join(video, 0.01, here / "short.mp4")
        stages(here / "short.mp4", here / "warm.work", here / "warm", False)  # loads the models
        rounds = []
        for number in range(num_rounds):  # in turn, since a shared machine's speed drifts
            bare_s = bare_decoding(long)
            seconds = stages(long, here / f"{number}.work", here / f"{number}", profile)
            rounds.append((bare_s, seconds))
        rounds.sort(key=lambda pair: pair[0] / sum(pair[1].values()))
        bare_s, seconds = rounds[len(rounds) // 2]
        total = sum(seconds.values())
        table = Table(title=f"{video.name} joined to {frames} frames, one thread, median of {num_rounds} rounds")
        for column in ("what", "seconds", "ms a frame", "frames/s", "share"):
            table.add_column(column, justify="left" if column == "what" else "right")
        for what, s in (("bare PyAV decoding to RGB", bare_s), *seconds.items(), ("all stages", total)):
            share = f"{s / total:.1%}" if what in seconds else ""
            table.add_row(what, f"{s:.2f}", f"{1e3 * s / frames:.2f}", f"{frames / s:.0f}", share)
        console.print(table)
        ratios = [bare / sum(each.values()) for bare, each in rounds]
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        console.print(f"all stages / bare decoding: {bare_s / total:.3f} ({spread}; goal 0.30)", style="bold")
        if stages_only:
            return
        copies = [here / f"copy{number}.mp4" for number in range(2)]
        for number, copy in enumerate(copies):
            copy.write_bytes(long.read_bytes() + bytes(8 * number))  # another content, so that nothing is shared
        two = write_manifest(here / "two.jsonl", copies)
        tiny = write_manifest(here / "tiny.jsonl", [here / "short.mp4"])
        start_s, start_report, _ = build(tiny, here / "tiny", 1)
        _, one, peak1 = build(two, here / "one", 1)
        _, both, peak2 = build(two, here / "both", 2)
        rerun_s, _, _ = build(two, here / "both", 2)
        bare_two_s = bare_decoding_of_two(long)
        base = start_report["pipeline_seconds"]
        scaling = (one["pipeline_seconds"] - base) / (both["pipeline_seconds"] - base)
        bare_scaling = 2 * bare_decoding(long) / bare_two_s
        table = Table(title="reactionnet-build on two copies")
        for column in ("what", "value", "goal"):
            table.add_column(column, justify="left" if column == "what" else "right")
        table.add_row("start-up (a 10 s video, whole command)", f"{start_s:.1f} s", "")
        table.add_row("frames/s, 1 worker, start-up apart", f"{2 * frames / (one['pipeline_seconds'] - base):.0f}", "")
        table.add_row(
            "frames/s, 2 workers, start-up apart", f"{2 * frames / (both['pipeline_seconds'] - base):.0f}", ""
        )
        table.add_row("scaling, 2 workers over 1", f"{scaling:.2f}", "")
        table.add_row("scaling of bare decoding", f"{bare_scaling:.2f}", "")
        table.add_row("ratio of the two", f"{scaling / bare_scaling:.2f}", "0.90")
        table.add_row("rerun with nothing to do", f"{rerun_s:.2f} s", "3.0 s")
        table.add_row("peak memory of a worker process", f"{max(peak1, peak2) / 1e9:.2f} GB", "1.20 GB")
        console.print(table)


if __name__ == "__main__":
    typer.run(main)
