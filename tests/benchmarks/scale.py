"""What the pipeline needs as the data grow: `python tests/benchmarks/scale.py videos`, `... windows`, `... manifest`.

- `videos`: 10, 100 and 1,000 drawn videos of two seconds, each with its own id, subject and bytes, built with one and two
  workers: processor seconds and peak memory of every stage; goal: linear in frames, flat memory.
- `windows`: the barriers, publishing and the tables on 10 million synthetic windows: the functions that a build runs, on
  made-up references; goal: less than 4 GB each.
- `manifest`: 100,000 rows parsed, gated and planned; goal 60 s and 500 MB.

Processor seconds, not those on the clock: a machine that does other work as well is slower, but not by these.
"""

import io
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import av
import numpy as np
import psutil
import typer
from rich.console import Console
from rich.table import Table

console = Console(width=120)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


# Videos -------------------------------------------------------------------------------------------------------------

# The folders of the work folder in which a stage leaves a marker a piece of work, in the order of the stages. The local
# runner finishes one stage before it begins the next.
MARKERS = {"fetch, layout, sound": ("hash", "probe", "layout", "sound"), "decode": ("decode",), "clips": ("voice", "clips"),
           "write, tables": ("shards",)}  # fmt: skip
SECONDS = 2.0


def draw(folder: Path, num: int, given: bool) -> Path:
    """A manifest of `num` copies of one drawn video: same packets, other metadata, so that their bytes differ.

    `given`: with the layout, as if drawn by hand.
    """
    from reactionnet_pipeline import demo
    from reactionnet_pipeline.drawing.composing import compose

    original = folder / "original.mp4"
    if not original.exists():
        compose(replace(demo.two_halves("original"), duration_s=SECONDS), folder)
    lines, half = [], {"y": 0, "w": 320, "h": 360, "start_s": 0.0, "end_s": SECONDS}
    layout = [{"role": "stimulus", "x": 0, **half}, {"role": "reaction", "x": 320, **half}]
    for number in range(num):
        copy = folder / f"copy{number:06d}.mp4"
        if not copy.exists():
            _remux(original, copy, f"copy {number}")
        line = {"video_id": copy.stem, "uri": copy.name, "license": "CC0-1.0", "subject_ids": [f"s{number}"]}
        lines.append({**line, "layout": layout} if given else line)
    manifest = folder / f"sources{num}{'-given' if given else ''}.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return manifest


def _remux(source: Path, target: Path, title: str) -> None:
    with av.open(str(source)) as file, av.open(str(target), "w") as out:
        out.metadata["title"] = title
        streams = {stream.index: out.add_stream_from_template(stream) for stream in file.streams}
        for packet in file.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)


@dataclass
class Watch:
    """Looks at a process and all below it four times a second: seconds of processor and memory, by role."""

    pid: int
    seconds: dict[int, float] = field(default_factory=dict)  # of each process, as last seen
    samples: list[tuple[float, float, dict[str, int]]] = field(default_factory=list)  # time, seconds so far, most bytes

    def run(self, done: threading.Event) -> None:
        root = psutil.Process(self.pid)
        while not done.wait(0.25):
            try:
                processes = [root, *root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            most: dict[str, int] = {}
            for process in processes:
                try:
                    with process.oneshot():
                        times, rss, command = (
                            process.cpu_times(),
                            process.memory_info().rss,
                            " ".join(process.cmdline()),
                        )
                except psutil.Error:
                    continue
                self.seconds[process.pid] = times.user + times.system
                role = "launcher" if process.pid == self.pid else "worker" if "pipeline.worker" in command else "child"
                most[role] = max(most.get(role, 0), rss)
            self.samples.append((time.time(), sum(self.seconds.values()), most))

    def between(self, low: float, high: float) -> tuple[float, dict[str, int]]:
        """Processor seconds from one time to another, and the most memory that a process of each role had."""
        before = max((total for at, total, _ in self.samples if at <= low), default=0.0)
        after = max((total for at, total, _ in self.samples if at <= high), default=0.0)
        most: dict[str, int] = {}
        for at, _, seen in self.samples:
            if low <= at <= high + 0.3:
                most |= {role: max(most.get(role, 0), rss) for role, rss in seen.items()}
        return after - before, most


def watched_build(manifest: Path, out: Path, *options: str) -> Watch:
    """Run `reactionnet-build` and watch it."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "reactionnet_pipeline.cli",
        "--sources",
        str(manifest),
        "--out",
        str(out),
        "-q",
    ]
    process = subprocess.Popen([*command, *options])
    watch, done = Watch(process.pid), threading.Event()
    watcher = threading.Thread(target=watch.run, args=(done,))
    watcher.start()
    code = process.wait()
    done.set()
    watcher.join()
    if code:
        raise SystemExit(f"reactionnet-build failed: exit code {code}")
    return watch


def by_stage(watch: Watch, work: Path) -> dict[str, tuple[float, dict[str, int]]]:
    """Processor seconds and memory by stage, told apart by when the last marker of each was written."""
    low, found = watch.samples[0][0] - 1, {}
    first = min(path.stat().st_mtime for path in (work / "hash").glob("*.json"))
    found["start-up"] = watch.between(low, first)
    low = first
    for stage, folders in MARKERS.items():
        high = max(path.stat().st_mtime for name in folders for path in (work / name).glob("*.json"))
        found[stage] = watch.between(low, high)
        low = high
    found["publish, report"] = watch.between(low, time.time())
    return found


@app.command()
def videos(
    num: Annotated[list[int] | None, typer.Option(help="How many videos. [default: 10, 100, 1000]")] = None,
    workers: Annotated[list[int] | None, typer.Option(help="How many workers. [default: 1, 2]")] = None,
    given_layouts: Annotated[
        bool,
        typer.Option(
            "--given-layouts", help="With layouts in the manifest: detection is most of so short a video's cost."
        ),
    ] = False,
    folder: Annotated[Path | None, typer.Option(help="Keep the videos here.")] = None,
) -> None:
    """Build many short videos."""
    with tempfile.TemporaryDirectory() as temporary:
        here = folder or Path(temporary)
        here.mkdir(parents=True, exist_ok=True)
        for many in workers or (1, 2):
            for count in num or (10, 100, 1000):
                manifest = draw(here, count, given_layouts)
                with tempfile.TemporaryDirectory(dir=here) as place:
                    out = Path(place) / "dataset"
                    watch = watched_build(manifest, out, "--workers", str(many), "--split-ratio", "1,0,0")
                    report = json.loads((out / "run_report.json").read_bytes())
                    frames = sum(total["frames"] for total in report["totals"].values())
                    if report["counts"]["built"] != count:
                        raise SystemExit(f"{report['counts']}: not all were built")
                    stages = by_stage(watch, out.with_name("dataset.work"))
                title = f"{count} videos, {frames} frames, {many} workers{', layouts given' if given_layouts else ''}"
                _print_stages(title, stages, frames)


def _print_stages(title: str, stages: dict[str, tuple[float, dict[str, int]]], frames: int) -> None:
    table = Table(title=title)
    for column in ("stage", "core-seconds", "ms a frame", "launcher MB", "worker MB", "child MB"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage, (seconds, most) in stages.items():
        memory = (f"{most[role] / 1e6:.0f}" if role in most else "" for role in ("launcher", "worker", "child"))
        table.add_row(stage, f"{seconds:.1f}", f"{1e3 * seconds / frames:.2f}", *memory)
    everything = sum(seconds for seconds, _ in stages.values())
    table.add_row("all", f"{everything:.1f}", f"{1e3 * everything / frames:.2f}")
    console.print(table)


# Windows ------------------------------------------------------------------------------------------------------------

WINDOWS_A_VIDEO, CLIPS_A_VIDEO, VIDEOS_A_PERSON = 400, 20, 5  # a video of the paper has 410 windows of 128 frames
WINDOW_BYTES = 3_000_000  # of pictures, sound and arrays
SHARD_BYTES = 256 << 20
BYTES_4_GB = 4e9


def measured(call: Callable[..., Any], *arguments: Any) -> tuple[float, float, Any]:
    """Processor seconds and the most bytes of a process of its own that makes a call, and what came of it."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return pool.apply(_measured, (call, arguments))


def _measured(call: Callable[..., Any], arguments: tuple) -> tuple[float, float, Any]:
    started = time.process_time()
    result = call(*arguments)
    return time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0, result


def video_name(number: int) -> str:
    return f"video{number:07d}"


def write_plan(work: Path, videos: int) -> None:
    """The admitted rows of so many videos, none of which names its subjects."""
    from reactionnet_datasets.splits import LOCK, Member, assign, write_lock
    from reactionnet_pipeline import admitted
    from reactionnet_pipeline.manifest import Row
    from reactionnet_pipeline.publish import DEAD_LETTERS

    ratio = (0.8, 0.1, 0.1)
    members = [Member(video_id=video_name(number)) for number in range(videos)]
    assignment = assign(members, ratio, {})
    rows = (
        Row(line=n + 1, video_id=member.video_id, uri=f"{member.video_id}.mp4", location=f"/videos/{member.video_id}.mp4",
            license="CC-BY-4.0", creator="somebody", title=f"somebody watches something, part {n}")
        for n, member in enumerate(members)
    )  # fmt: skip
    admitted.write_rows(work, rows, assignment.split_of)
    admitted.write_members(work, members, ratio, {})
    (work / "plan" / LOCK).write_bytes(write_lock(assignment.lock))
    (work / "plan" / DEAD_LETTERS).write_bytes(b"")


def write_faces(work: Path, videos: int, tracks: int) -> None:
    """Face vectors of `tracks` tracks a video: people 0.85 apart, tracks of one person 0.1, five videos a person."""
    rng = np.random.default_rng(0)
    (work / "embeddings").mkdir()
    people = rng.normal(size=(max(1, videos // VIDEOS_A_PERSON), 128))
    people *= 0.6 / np.linalg.norm(people, axis=1, keepdims=True)
    for number in range(videos):
        vectors = people[number % len(people)] + rng.normal(scale=0.07 / 128**0.5, size=(tracks, 128))
        np.savez(
            work / "embeddings" / f"{video_name(number)}.npz",
            chain=np.array([f"0-0-{track * 1000}-7" for track in range(tracks)]),
            person=np.zeros(tracks, np.int32),
            subject=np.array([""] * tracks),
            frames=np.array([[track * 1000, track * 1000 + 900] for track in range(tracks)]),
            crops=np.full(tracks, 6, np.int32),
            vector=vectors.round(3).astype(np.float32),
        )


def settle_all(work: Path, videos: int) -> int:
    """Barrier 1; the number of subjects."""
    from reactionnet_pipeline.embeddings import Embedded
    from reactionnet_pipeline.identity import Config
    from reactionnet_pipeline.settle import settle, settled_of

    names = map(video_name, range(videos))
    settle((Embedded(video_id=name, file=f"embeddings/{name}.npz") for name in names), work, Config(), "dlib")
    return len({subject for n in range(videos) for subject in settled_of(work, video_name(n)).known.subjects})


def parts_of(number: int) -> Iterator[Any]:
    """References to the clips of a video, as the sink gets them."""
    from reactionnet_pipeline.parts import Part

    for clip in range(CLIPS_A_VIDEO):
        clip_id = f"{video_name(number)}-0-{clip * 2560:06d}"
        num_bytes = WINDOWS_A_VIDEO // CLIPS_A_VIDEO * WINDOW_BYTES
        index = f"clips/{clip_id}-0123456789abcdef.part"
        yield Part(clip_id=clip_id, split="train", folder="/work", index=index, num_bytes=num_bytes)


def count_parts(keyed: tuple[tuple[str, int], Any]) -> int:
    return sum(1 for _ in keyed[1])


def group_all(videos: int) -> None:
    """Barrier 2 in the local runner: bytes a split, shard of each clip, clips by shard; all but the writing."""
    import apache_beam as beam
    from apache_beam.testing.util import assert_that, equal_to

    from reactionnet_pipeline.sink import _to_bucket

    with beam.Pipeline("FnApiRunner") as pipeline:
        parts = pipeline | beam.Create(range(videos)) | beam.FlatMap(parts_of)
        num_bytes = parts | beam.Map(lambda part: (part.split, part.num_bytes)) | beam.CombinePerKey(sum)
        counted = (
            parts
            | "ToBucket" >> beam.Map(_to_bucket, beam.pvalue.AsDict(num_bytes), SHARD_BYTES)
            | beam.GroupByKey()
            | beam.Map(count_parts)
            | beam.CombineGlobally(sum)
        )
        assert_that(counted, equal_to([videos * CLIPS_A_VIDEO]))


def write_summaries(work: Path, videos: int) -> None:
    """What `clips` leaves of every video for the small tables."""
    (work / "clips").mkdir()
    pane = {"role": "reaction", "x": 640, "y": 0, "w": 640, "h": 720, "start_s": 0.0, "end_s": 2100.0, "confidence": 0.9,
            "shape": "rect", "z": 0}  # fmt: skip
    frames = WINDOWS_A_VIDEO // CLIPS_A_VIDEO * 128
    for number in range(videos):
        name = video_name(number)
        clips = [
            {"clip_id": f"{name}-0-{clip * 2560:06d}", "subject_id": f"{name}#1", "chunks": 20, "frames": frames,
             "start_s": clip * 102.4, "end_s": clip * 102.4 + 100, "face_px": 181.25 + clip, "num_bytes": 60_000_000,
             "sources": {"detected": 500, "tracked": frames - 500}}
            for clip in range(CLIPS_A_VIDEO)
        ]  # fmt: skip
        summary = {
            "video_id": name, "sha256": f"{number:064x}", "width": 1280, "height": 720, "fps": 25.0,
            "num_frames": WINDOWS_A_VIDEO * 128, "duration_s": 2048.0, "has_audio": True, "origin": "detected",
            "panes": [pane, {**pane, "role": "stimulus", "x": 0}], "clips": clips,
            "people": {f"{name}#1": WINDOWS_A_VIDEO * 128}, "frames_in_short_clips": 0, "frames_outside_highlights": 0,
            "preview": None,
        }  # fmt: skip
        (work / "clips" / f"{name}.summary.json").write_text(json.dumps(summary))


def publish_all(work: Path, root: Path, videos: int) -> dict[str, Any]:
    """Stage 8 on references to all videos and shards."""
    from reactionnet_datasets.shards import ShardInfo, shards_for
    from reactionnet_datasets.tabulate import TableParts
    from reactionnet_pipeline import admitted
    from reactionnet_pipeline.parts import ShardRef
    from reactionnet_pipeline.publish import Settings, Tabulated, publish
    from reactionnet_pipeline.records import VideoDone

    split_of = admitted.splits_of(work)
    windows = {
        split: WINDOWS_A_VIDEO * sum(s == split for s in split_of.values()) for split in ("train", "val", "test")
    }

    def arrivals() -> Iterator[Any]:
        for name, split in split_of.items():
            yield VideoDone(video_id=name, split=split, summary=f"clips/{name}.summary.json")
        for split, count in windows.items():
            shards = shards_for(count * WINDOW_BYTES, SHARD_BYTES)
            for number in range(shards):
                stem, records = f"{split}-{number:05d}-{number:012x}", count // shards
                info = ShardInfo(
                    path=f"shards/{stem}.tar", sha256=f"{number:064x}", num_bytes=records * WINDOW_BYTES,
                    index=f"shards/{stem}.idx", index_sha256=f"{number:064x}", records=records,
                )  # fmt: skip
                tables = TableParts(
                    frames=f"tables/frames.parquet/{stem}.parquet", windows=f"tables/windows.parquet/{stem}.parquet",
                    num_frames=records * 128, num_clips=max(1, records // 20),
                )  # fmt: skip
                yield Tabulated(shard=ShardRef(split=split, number=number, info=info), parts=tables)

    settings = Settings(
        root=str(root), work=str(work), dataset="scale", splits=("train", "val", "test"), max_loss=0.0, facts="{}"
    )
    return publish(arrivals(), settings)["counts"]


def window_rows(shard: int, low: int, high: int) -> Iterator[dict[str, Any]]:
    """Rows of the table of windows."""
    for number in range(low, high):
        name = video_name(number // WINDOWS_A_VIDEO)
        first = number % WINDOWS_A_VIDEO * 128
        clip_first = first // 2560 * 2560
        yield {
            "key": f"{name}-0-{first:06d}", "dataset": "scale", "video_id": name, "subject_id": f"{name}#1",
            "clip_id": f"{name}-0-{clip_first:06d}", "person": "0", "first_frame": first, "num_frames": 128,
            "clip_first_frame": clip_first, "clip_num_frames": 2560, "start_s": first / 25, "end_s": (first + 127) / 25,
            "fps": 25.0, "highlight": 0.5, "has_stimulus": True, "has_audio": True,
            "shard": f"shards/train-{shard:05d}-{shard:012x}.tar", "num_bytes": WINDOW_BYTES,
        }  # fmt: skip


def write_windows(root: Path, windows: int, parts: int) -> list[str]:
    """The table of windows, a part after another."""
    from reactionnet_datasets.tables import make_table, schema_of, write_part

    schema, edges = schema_of("windows"), np.linspace(0, windows, parts + 1).round().astype(int).tolist()
    return [
        write_part(root, "windows", f"train-{part:05d}", make_table(window_rows(part, low, high), schema))
        for part, (low, high) in enumerate(pairwise(edges))
    ]


def read_windows(root: Path, parts: list[str]) -> int:
    """The table of windows as a whole, as who trains reads it; its rows."""
    from reactionnet_datasets.tables import read_table

    return read_table(root, "windows", parts).num_rows


def write_one_shard(root: Path, windows: int) -> Any:
    """A shard of so many whole windows, with pictures of a few bytes: the tables never look at them."""
    from reactionnet_datasets.sample import Chunk, Label, make_key, picture_suffix
    from reactionnet_datasets.shards import Record, write_shard

    def npy(array: np.ndarray) -> bytes:
        file = io.BytesIO()
        np.save(file, array)
        return file.getvalue()

    def record(number: int) -> Record:
        first = number * 128
        frames = list(range(first, first + 128))
        clip_first = first // 2560 * 2560
        chunk = Chunk(
            key=make_key("video", "0", first), dataset="scale", video_id="video", subject_id="video#1", track="0",
            clip_id=make_key("video", "0", clip_first), frames=frames, t_s=[f / 25 for f in frames],
            clip_first_frame=clip_first, clip_num_frames=2560, splits={"all": "train"}, fps=25.0,
            face_boxes=[[700.25 + f % 7, 100.5, 180.0, 240.0] for f in frames], face_sources=["tracked"] * 128,
            crop=[[1.41, 0.0, -900.12345, 0.0, 1.41, -80.54321]] * 128, license="CC-BY-4.0",
            labels={"speaking": Label(space="speaking", value=[0] * 128, mask=["valid"] * 128)},
        )  # fmt: skip
        arrays = {"landmarks": (128, 68, 2), "pose": (128, 3), "gaze": (128, 2), "highlight": (128,)}
        members = [("json", chunk.to_json())]
        members += [(f"{name}.npy", npy(np.zeros(shape, np.float32))) for name, shape in arrays.items()]
        for role in ("reaction", "stimulus"):
            members += [(picture_suffix(place, role), b"picture") for place in range(128)]
        return Record(key=chunk.key, members=tuple(members))

    return write_shard(root, "train-00000", map(record, range(windows)))


def tabulate_one(root: Path, info: Any) -> int:
    """Both tables of one shard; its frames."""
    from reactionnet_datasets.tabulate import tabulate
    from reactionnet_pipeline.build import LABELS

    return tabulate(root, info, LABELS).num_frames


@app.command()
def windows(
    num: Annotated[int, typer.Option(help="Windows of 128 frames.")] = 10_000_000,
    tracks: Annotated[int, typer.Option(help="Tracks a video at barrier 1.")] = 4,
    parts: Annotated[int, typer.Option(help="Parts of the table of windows.")] = 4096,
    only: Annotated[list[str] | None, typer.Option(help="settle, group, publish, tables. [default: all]")] = None,
) -> None:
    """Run the barriers, publishing and the tables on made-up references."""
    videos, asked = num // WINDOWS_A_VIDEO, only or ["settle", "group", "publish", "tables"]
    table = Table(title=f"{num:,} windows of {videos:,} videos")
    for column in ("what", "of", "core-seconds", "peak MB", "below 4 GB"):
        table.add_column(column, justify="left" if column == "what" else "right")

    def measure(what: str, of: str, call: Callable[..., Any], *arguments: Any) -> Any:
        seconds, most, result = measured(call, *arguments)
        table.add_row(what, of, f"{seconds:.1f}", f"{most / 1e6:.0f}", "yes" if most < BYTES_4_GB else "NO")
        console.print(f"{what}, {of}: {seconds:.1f} core-seconds, {most / 1e6:.0f} MB")
        return result

    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        for some in sorted({videos // 4, videos // 2, videos}) if "settle" in asked else ():
            work = here / f"settle{some}"
            write_plan(work, some)
            write_faces(work, some, tracks)
            measure("barrier 1: who is who, splits", f"{some * tracks:,} tracks", settle_all, work, some)
        if "group" in asked:
            for some in (videos // 10, videos):
                measure("barrier 2: clips to shards, local runner", f"{some * CLIPS_A_VIDEO:,} clips", group_all, some)
        if "publish" in asked:
            work = here / "publish"
            write_plan(work, videos)
            write_summaries(work, videos)
            measure("publish", f"{videos:,} videos", publish_all, work, here / "published", videos)
        if "tables" in asked:
            shard = SHARD_BYTES // WINDOW_BYTES
            for some in (shard, 4 * shard):
                root = here / f"shard{some}"
                info = write_one_shard(root, some)
                measure("tables of one shard", f"{some} windows", tabulate_one, root, info)
            names = measure("write the table of windows", f"{num:,} windows", write_windows, here / "t", num, parts)
            measure("read the table of windows", f"{num:,} windows", read_windows, here / "t", names)
    console.print(table)


# Manifest -----------------------------------------------------------------------------------------------------------


def plan_all(manifest: Path, work: Path) -> dict[str, int]:
    """What the command does before it opens a source."""
    from reactionnet_pipeline.config import Config
    from reactionnet_pipeline.gate import Gate
    from reactionnet_pipeline.plan import inputs_digest, make_plan, write_plan

    made = make_plan(manifest, Gate(), None, (0.8, 0.1, 0.1), "both", {})
    inputs_digest(made, ("train", "val", "test"), Config(), SHARD_BYTES, 0.2)
    write_plan(made, work)
    return {"rows": len(made.rows), "letters": len(made.letters)}


@app.command()
def manifest(rows: Annotated[int, typer.Option(help="Rows of the manifest.")] = 100_000) -> None:
    """Parse, gate and plan a long manifest; one row in fifty is refused or bad."""
    table = Table(title="manifest")
    for column in ("rows", "core-seconds", "peak MB"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        for count in (rows // 10, rows):
            path = Path(folder) / f"sources{count}.jsonl"
            with path.open("w") as file:
                for n in range(count):
                    license_ = "LicenseRef-unknown" if n % 50 == 7 else "CC-BY-4.0"
                    line = {
                        "video_id": f"video_{n}" if n % 50 != 9 else "", "uri": f"gs://bucket/videos/{n:09d}.mp4",
                        "license": license_, "creator": f"channel {n % 977}", "title": f"somebody watches episode {n}",
                        "subject_ids": [f"person{n // 3}"], "stimulus_id": f"stimulus{n // 20}", "views": n,
                    }  # fmt: skip
                    file.write(json.dumps(line) + "\n")
            seconds, most, found = measured(plan_all, path, Path(folder) / f"work{count}")
            if sum(found.values()) != count:
                raise SystemExit(f"{found} of {count} rows")
            table.add_row(f"{count:,}", f"{seconds:.1f}", f"{most / 1e6:.0f}")
    console.print(table)


if __name__ == "__main__":
    app()
