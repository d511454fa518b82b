"""What every contestant of the streaming benchmark shares: the pictures, the decoders, and the talk with the benchmark.

A contestant is a file of this folder, run by an interpreter of its own, with two functions:

    prepare(samples, folder)      write the samples of one task (each a list of JPEGs) in its own format
    batches(folder, settings)     an object that can be iterated once an epoch, giving uint8 arrays or tensors (B, T, H, W, 3)

It answers lines of JSON on standard input with lines of JSON on standard output. This file needs NumPy alone; the decoder
is imported where it is used.
"""

import json
import os
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 224
TASKS = {"frames": 1, "windows": 48, "spread": 32}  # pictures of a sample
BATCH = {"frames": 64, "windows": 4, "spread": 4}  # samples of a batch
EPOCHS = {"frames": 1, "windows": 1, "spread": 5}  # of a turn, which then has about as many pictures in each task
MEMORY_EVERY = 8  # batches from one look at the memory to the next


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One way to read: `workers` 0 means in the training process. `cores` are for whoever has threads of its own."""

    task: str
    workers: int
    cores: int
    decoder: str
    seed: int = 0

    @property
    def batch_size(self) -> int:
        return BATCH[self.task]


def read_clips(pack: Path) -> list[list[bytes]]:
    """The JPEGs of each clip, in order, as the benchmark packed them."""
    data = (pack / "pictures.bin").read_bytes()
    at, clips = 0, []
    for sizes in json.loads((pack / "sizes.json").read_text()):
        clip = []
        for size in sizes:
            clip.append(data[at : at + size])
            at += size
        clips.append(clip)
    return clips


def samples_of(clips: list[list[bytes]], task: str) -> Iterator[list[bytes]]:
    """Samples made for one task alone: that is the best that a format without windows can get."""
    for clip in clips:
        if task == "frames":
            yield from ([picture] for picture in clip)
        elif task == "windows":
            yield from (clip[first : first + 48] for first in range(0, len(clip) - 47, 48))
        else:
            yield [clip[int((part + 0.5) * len(clip) / 32)] for part in range(32)]


def join(pictures: list[bytes]) -> bytes:
    """Several JPEGs as one value, for formats whose values are bytes."""
    return struct.pack(f"<{len(pictures) + 1}I", len(pictures), *map(len, pictures)) + b"".join(pictures)


def split(data: bytes) -> list[bytes]:
    """The inverse of `join`."""
    (num,) = struct.unpack_from("<I", data)
    at, pictures = 4 + 4 * num, []
    for size in struct.unpack_from(f"<{num}I", data, 4):
        pictures.append(data[at : at + size])
        at += size
    return pictures


def decode(pictures: list[bytes], decoder: str) -> np.ndarray:
    """(T, H, W, 3) uint8."""
    out = np.empty((len(pictures), SIDE, SIDE, 3), np.uint8)
    for place, data in enumerate(pictures):
        if decoder == "simplejpeg":
            import simplejpeg

            simplejpeg.decode_jpeg(data, "RGB", buffer=out[place])
        else:
            import io

            from PIL import Image

            out[place] = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    return out


def mend_torchvision() -> None:
    """torchvision's wheel cannot be loaded beside a CPU build of torch; some peers import it."""
    sys.path.append(str(Path(__file__).resolve().parents[3] / "datasets"))
    from reactionnet_datasets.torchvision_on_cpu import ensure

    ensure()


def serve(
    prepare: Callable[[Iterable[list[bytes]], Path], Any],
    batches: Callable[[Path, Settings], Any],
    begin: Callable[[Path, Settings], dict[str, float]] | None = None,
) -> None:
    """Answer the benchmark until it closes the line. `begin` says how long beginnings take."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to standard error
    ways: dict[int, Any] = {}
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "prepare":
            folder = Path(command["folder"])
            if not folder.exists():
                folder.mkdir(parents=True)
                prepare(samples_of(read_clips(Path(command["pack"])), command["task"]), folder)
            answer: dict[str, Any] = {}
        elif command["do"] == "open":
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: command["settings"]["cores"]])
            start = time.perf_counter()
            settings = Settings(**command["settings"])
            ways[command["way"]] = batches(Path(command["folder"]), settings)
            answer = {**read(ways[command["way"]], start, 1)}
        elif command["do"] == "begin" and begin is not None:
            answer = {**begin(Path(command["folder"]), Settings(**command["settings"]))}
        elif command["do"] == "close":
            ways.pop(command["way"], None)
            answer = {}
        else:
            answer = read(ways[command["way"]], time.perf_counter(), command["epochs"])
        print(json.dumps(answer), file=answers, flush=True)


def read(loader: Any, start: float, epochs: int) -> dict[str, float]:
    """Iterate over so many epochs. Processor time and memory are this process's own; memory, in bytes, after a tenth of the
    batches, and the most after that."""
    pictures, first_s, tallest, sum_of = 0, 0.0, 0, 0
    memory, cpu_s = [], time.process_time()
    for number, batch in enumerate(chain.from_iterable(loader for _ in range(epochs))):
        if not pictures:
            first_s = time.perf_counter() - start
        shape = batch.shape
        pictures += int(np.prod(shape[:-3]))
        tallest = max(tallest, int(shape[-3]))
        sum_of += int(batch.reshape(-1)[:: 224 * 224 * 3].sum())  # touches each picture
        if number % MEMORY_EVERY == 0:  # looking costs as much as a picture
            memory.append(_resident())
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds, "cpu_s": time.process_time() - cpu_s, "pictures": pictures, "first_s": first_s,
        "side": tallest, "sum": sum_of,
        "memory_early": memory[len(memory) // 10], "memory_late": max(memory[len(memory) // 10 :]),
    }  # fmt: skip


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
