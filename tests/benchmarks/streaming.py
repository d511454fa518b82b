"""How fast pictures come out of `ShardDataset`, against other streaming libraries and against bare JPEG decoding.

    python tests/benchmarks/streaming.py [--quick] [--envs DIR] [--cores 1 2] [--tasks frames windows spread]

Everybody reads the same drawn JPEGs (224 px, about 15 kB) on the same cores, in processes of their own that take turns: in
each round every contestant reads one epoch, five of the short ones of `spread`. Three tasks: (frames) shuffled single
frames, (windows) windows of 48 frames, (spread) 32 frames spread over a clip. Peers get data written for each task alone,
so that a sample is one value; ours is one data set for all three. Each peer reads in the training process and through
worker processes (as many as cores), with Pillow and with our decoder; what is faster in two epochs of warming up takes
part. Rates count whole epochs, with workers that are there already.

The processor time of what reads in the training process is shown too: on a machine that others use it is the steadier
figure, and with one core it is what the rate would be on a quiet one.

`bare` decodes JPEGs that lie in memory into memory that is used again, in as many threads as cores. Peers live in virtual
environments below `--envs`, made once (about 1 GB each).
"""

import argparse
import json
import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "peers")]

from exchange import EPOCHS, SIDE, TASKS

from drawn_shards import npy
from reactionnet_datasets.sample import Chunk, chunk_spans, make_key, picture_suffix
from reactionnet_datasets.shards import Record, write_manifest, write_shard
from reactionnet_datasets.tabulate import tabulate

TORCH = "torch==2.13.0"
PEERS = {
    "webdataset": ("webdataset==1.0.2", "pillow", "simplejpeg"),
    "litdata": ("litdata==0.2.76", "torchvision==0.28.0", "pillow", "simplejpeg"),
    "mosaicml": ("mosaicml-streaming==0.13.0", "pillow", "simplejpeg"),
    "huggingface": ("datasets==5.2.0", "pillow", "simplejpeg"),
}
OURS, BARE = "reactionnet", "bare"
SHARDS = 8
NO_PEER_FASTER, OF_BARE, FIRST_S, RESUME_S = 1.03, 0.9, 0.5, 1.0


@dataclass(kw_only=True)
class Way:
    """One contestant's way of reading; a round each, its rates in pictures a second and processor time a picture."""

    name: str
    settings: dict[str, Any]
    number: int
    warm: dict[str, float] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)

    @property
    def label(self) -> str:
        if self.name == BARE:
            return BARE
        where = "workers" if self.settings["workers"] else "in process"
        return f"{self.name}, {where}" + (", Pillow" if self.settings["decoder"] == "pillow" else "")


class Contestant:
    """A process that answers one line of JSON with another."""

    def __init__(self, name: str, python: Path):
        self.name = name
        file = HERE / "peers" / (f"{name}.py" if name in (OURS, BARE) else f"{name}_peer.py")
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - read when the process ends early
        self.process = subprocess.Popen(
            [python, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        )  # fmt: skip

    def ask(self, **command: Any) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.log.seek(0)
            sys.exit(f"{self.name} ended at {command}:\n{self.log.read()[-3000:]}")
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()  # its workers end with it


def environment(envs: Path, name: str) -> Path:
    """The interpreter of a peer; its environment is made where it is not there yet."""
    folder, wanted = envs / name, [TORCH, *PEERS[name]]
    marker = folder / "installed.json"
    if not marker.exists() or json.loads(marker.read_text()) != wanted:
        print(f"making an environment for {name} in {folder} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run(
            [folder / "bin" / "pip", "install", "-q", "--disable-pip-version-check", *wanted], check=True
        )  # fmt: skip
        marker.write_text(json.dumps(wanted))
    return folder / "bin" / "python"


def draw_clips(num: int) -> list[list[bytes]]:
    """Clips of 96 to 240 frames: a window that moves over a field of clouds with grain, coded as pictures of faces are."""
    random = np.random.default_rng(0)
    waves = np.hypot(*np.meshgrid(np.fft.fftfreq(512), np.fft.fftfreq(512)))
    waves[0, 0] = 1
    clips = []
    for _ in range(num):
        noise = np.fft.fft2(random.standard_normal((512, 512, 3)), axes=(0, 1)) / waves[..., None] ** 1.4
        field_HWC = np.fft.ifft2(noise, axes=(0, 1)).real
        field_HWC = 128 + 50 * field_HWC / field_HWC.std() + random.normal(0, 3, field_HWC.shape)
        pixels = np.clip(field_HWC, 0, 255).astype(np.uint8)
        clip = []
        for frame in range(int(random.integers(96, 241))):
            y, x = (frame * 2) % 280, (frame * 3) % 280
            picture = np.ascontiguousarray(pixels[y : y + SIDE, x : x + SIDE])
            clip.append(simplejpeg.encode_jpeg(picture, quality=90, colorsubsampling="420"))
        clips.append(clip)
    return clips


def write_pack(clips: list[list[bytes]], folder: Path) -> None:
    """The pictures as peers take them up."""
    folder.mkdir()
    (folder / "pictures.bin").write_bytes(b"".join(b"".join(clip) for clip in clips))
    (folder / "sizes.json").write_text(json.dumps([[len(picture) for picture in clip] for clip in clips]))


def write_shards(clips: list[list[bytes]], root: Path) -> None:
    """The same pictures as our data set."""
    entry: dict[str, Any] = {"shards": [], "tables": {"frames": [], "windows": []}}
    for shard in range(SHARDS):
        records = [record for clip in range(shard, len(clips), SHARDS) for record in _records(clip, clips[clip])]
        info = write_shard(root, f"train-{shard:05d}", records)
        parts = tabulate(root, info, ())
        entry["shards"].append(asdict(info))
        entry["tables"]["frames"].append(parts.frames)
        entry["tables"]["windows"].append(parts.windows)
    write_manifest(root, {"dataset": "clouds", "splits": {"train": entry}})


def _records(clip: int, pictures: list[bytes]) -> list[Record]:
    video, records = f"video{clip:03d}", []
    for first, last in chunk_spans(len(pictures)):
        frames = range(first, last)
        chunk = Chunk(
            key=make_key(video, "0", first), dataset="clouds", video_id=video, clip_id=f"{video}-0", subject_id=video,
            track="0", frames=list(frames), t_s=[frame / 25 for frame in frames], clip_first_frame=0,
            clip_num_frames=len(pictures), fps=25.0, splits={"all": "train"},
        )  # fmt: skip
        members = [
            ("json", chunk.to_json()),
            ("landmarks.npy", npy(np.zeros((len(frames), 68, 2), np.float32))),
            *((picture_suffix(place, "reaction"), pictures[frame]) for place, frame in enumerate(frames)),
        ]
        records.append(Record(key=chunk.key, members=tuple(members)))
    return records


def ways_of(name: str, task: str, cores: int) -> list[dict[str, Any]]:
    plain = {"task": task, "cores": cores}
    if name == BARE:
        return [{**plain, "workers": 0, "decoder": "simplejpeg"}]
    decoders = ["simplejpeg"] if name == OURS else ["simplejpeg", "pillow"]
    return [{**plain, "workers": workers, "decoder": decoder} for workers in (0, cores) for decoder in decoders]


def race(work: Path, pythons: dict[str, Path], task: str, cores: int, rounds: int) -> dict[str, Any]:
    """All contestants at one task on so many cores: rates of their ways, and what ours takes to begin and to resume."""
    contestants = {name: Contestant(name, python) for name, python in pythons.items()}
    ways: list[Way] = []
    try:
        for name, contestant in contestants.items():
            folder = str(work / name / task)
            contestant.ask(do="prepare", pack=str(work / "pack"), folder=folder, task=task)
            tried = []
            for settings in ways_of(name, task, cores):
                way = Way(name=name, settings=settings, number=len(ways) * 10 + len(tried))
                way.warm = contestant.ask(do="open", way=way.number, folder=folder, settings=settings)
                again = contestant.ask(do="epoch", way=way.number, epochs=1)
                way.warm["best_s"] = min(way.warm["seconds"], again["seconds"])
                tried.append(way)
            for workers in {bool(way.settings["workers"]) for way in tried}:
                same = [way for way in tried if bool(way.settings["workers"]) == workers]
                best = min(same, key=lambda way: way.warm["best_s"])
                ways.append(best)
                for way in same:
                    if way is not best:
                        contestant.ask(do="close", way=way.number)
        expected = {EPOCHS[task] * way.warm["pictures"] for way in ways if way.name == BARE}
        memory = 0.0
        for turn in range(rounds):
            for way in ways[turn % len(ways) :] + ways[: turn % len(ways)]:
                answer = contestants[way.name].ask(do="epoch", way=way.number, epochs=EPOCHS[task])
                if {answer["pictures"]} != expected or answer["side"] != SIDE:
                    sys.exit(
                        f"{way.label} gave {answer['pictures']} pictures of {answer['side']} px, expected {expected}"
                    )
                way.rates.append(answer["pictures"] / answer["seconds"])
                way.cpu_us.append(answer["cpu_s"] / answer["pictures"] * 1e6)
                if way.name == OURS and not way.settings["workers"]:
                    memory = max(memory, answer["memory_late"] - answer["memory_early"])
        ours = next(way for way in ways if way.name == OURS)
        asked = {"folder": str(work / OURS / task), "settings": ours.settings}
        begin = contestants[OURS].ask(do="begin", **asked)
    finally:
        for contestant in contestants.values():
            contestant.close()
    return {
        "task": task, "cores": cores, "memory_growth_mb": memory / 1e6, **begin,
        "ways": {way.label: {"name": way.name, "rates": way.rates, "cpu_us": None if way.settings["workers"] else way.cpu_us}
                 for way in ways},
    }  # fmt: skip


def ratio(these: list[float], those: list[float]) -> float:
    """Median over the rounds: neighbours in time share the machine's mood."""
    return statistics.median(a / b for a, b in zip(these, those, strict=True))


def best_of(ways: dict[str, Any], name: str) -> tuple[str, list[float]]:
    mine = {label: way["rates"] for label, way in ways.items() if way["name"] == name}
    label = max(mine, key=lambda one: statistics.median(mine[one]))
    return label, mine[label]


def report(results: list[dict[str, Any]]) -> str:
    """Tables in Markdown, and for each goal whether it is met."""
    lines = []
    for found in results:
        ways = found["ways"]
        _, ours = best_of(ways, OURS)
        _, bare = best_of(ways, BARE)
        lines += ["", f"**{found['task']}, {found['cores']} core{'s' * (found['cores'] > 1)}**", ""]
        lines += [
            "| | pictures/s | of bare decoding | to our best | processor time a picture |",
            "|---|---|---|---|---|",
        ]
        for label, way in sorted(ways.items(), key=lambda item: -statistics.median(item[1]["rates"])):
            lines.append(
                f"| {label} | {statistics.median(way['rates']):,.0f} | {ratio(way['rates'], bare):.2f} |"
                f" {ratio(way['rates'], ours):.2f} |"
                + (f" {statistics.median(way['cpu_us']):.0f} us |" if way["cpu_us"] else " |")
            )
        peers = {way["name"] for way in ways.values()} - {OURS, BARE}
        against = {peer: ratio(best_of(ways, peer)[1], ours) for peer in sorted(peers)}
        goals = [
            (f"of bare decoding {ratio(ours, bare):.2f}", ratio(ours, bare) >= OF_BARE),
            (f"first batch {found['first_s']:.2f} s", found["first_s"] < FIRST_S),
            (f"resume from the middle {found['resume_s']:.2f} s", found["resume_s"] < RESUME_S),
            (f"memory grows by {found['memory_growth_mb']:.0f} MB", found["memory_growth_mb"] < 64),
        ]
        if against:
            fastest = max(against, key=lambda peer: against[peer])
            goals.insert(
                0, (f"fastest peer {fastest} {against[fastest]:.2f} of ours", against[fastest] <= NO_PEER_FASTER)
            )
            mean = statistics.fmean(against.values())
            goals.insert(1, (f"peers on average {mean:.2f} of ours", mean < 1))
        lines += ["", "; ".join(f"{what}: {'met' if met else 'MISSED'}" for what, met in goals)]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--envs", type=Path, default=cache / "reactionnet" / "benchmark-envs")
    parser.add_argument("--quick", action="store_true", help="3 rounds of fewer pictures")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--json", type=Path, help="write all rates to this file")
    args = parser.parse_args()
    rounds, num_clips = args.rounds or (3 if args.quick else 7), 12 if args.quick else 40
    pythons = {OURS: Path(sys.executable), BARE: Path(sys.executable)}
    pythons |= {name: environment(args.envs, name) for name in args.peers}
    results = []
    with tempfile.TemporaryDirectory(prefix="streaming-") as temporary:
        work = Path(temporary)
        clips = draw_clips(num_clips)
        write_pack(clips, work / "pack")
        write_shards(clips, work / "dataset")
        pictures = [picture for clip in clips for picture in clip]
        print(
            f"{len(pictures):,} pictures of {np.mean(list(map(len, pictures))):,.0f} bytes, {rounds} rounds", flush=True
        )
        for cores in args.cores:
            for task in args.tasks:
                results.append(race(work, pythons, task, cores, rounds))
                print(report(results[-1:]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
