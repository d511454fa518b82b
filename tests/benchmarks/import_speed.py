"""How fast an import copies pictures and decodes videos, each against the least that has to be done.

    python tests/benchmarks/import_speed.py [--pictures 4000]

Pictures: frames of rendered faces at 512 px, in processor time of one thread. Limits measured in the same run: reading every
file and decoding it once at an eighth of its size, which shows that it can be decoded; that, plus `tarfile.add` of every
file; and reading and decoding it in full, as whoever looks at all pictures must. Videos, in elapsed time, as another process
decodes them: bare PyAV decoding to RGB and JPEG encoding of the same frames. Three rounds in turn; the median of the ratios
counts.
"""

import argparse
import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import simplejpeg

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from reactionnet_datasets.about import load_importer, make_options
from reactionnet_datasets.import_plan import plan
from reactionnet_datasets.import_publish import publish
from reactionnet_datasets.importing import write_job
from reactionnet_datasets.release import Release

SHARED = Path(__file__).resolve().parents[3] / "shared" / "rendered_facs"


def timed(what: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    start = clock()
    what()
    return clock() - start


def run_import(name: str, root: Path, out: Path) -> None:
    module = load_importer(name)
    made = plan(Release(root), module, make_options(module, {}), out, out.with_suffix(".work"), target_bytes=256 << 20)
    publish(out, module.ABOUT, made, [write_job(job) for job in made.jobs])


def frames(videos: list[Path]):
    for path in videos:
        with av.open(str(path)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            yield from container.decode(video=0)


def draw_pictures(folder: Path, num: int) -> list[Path]:
    paths = []
    for number, frame in zip(range(num), frames(sorted((SHARED / "videos").glob("*.mp4"))), strict=False):
        rgb_HWC = frame.reformat(512, 512, format="rgb24").to_ndarray()
        path = folder / str(number // 500) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(rgb_HWC), quality=95))
        paths.append(path)
    return paths


def read_and_decode(paths: list[Path]) -> None:
    for path in paths:
        simplejpeg.decode_jpeg(path.read_bytes(), min_height=1, min_width=1, min_factor=1)


def read_and_decode_in_full(paths: list[Path]) -> None:
    for path in paths:
        simplejpeg.decode_jpeg(path.read_bytes())


def add_all(paths: list[Path], tar: Path) -> None:
    with tarfile.open(tar, "w") as file:
        for path in paths:
            file.add(path)


def decode_and_encode(videos: list[Path]) -> None:
    for frame in frames(videos):
        rgb_HWC = np.ascontiguousarray(frame.to_ndarray(format="rgb24"))
        simplejpeg.encode_jpeg(rgb_HWC, quality=92, colorspace="RGB", colorsubsampling="420", fastdct=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        paths = draw_pictures(work / "faces", arguments.pictures)
        megabytes = sum(path.stat().st_size for path in paths) / 1e6
        videos = sorted((SHARED / "videos").glob("*.mp4")) + sorted((SHARED / "stimuli").glob("*.mp4"))
        ratios: dict[str, list[float]] = {"pictures": [], "pictures, tar": [], "pictures, in full": [], "videos": []}
        for number in range(arguments.rounds):
            pictures_out, videos_out = work / f"pictures{number}", work / f"videos{number}"
            read = timed(lambda: read_and_decode(paths))
            full = timed(lambda: read_and_decode_in_full(paths))
            tar = timed(lambda: add_all(paths, work / "all.tar"))
            copied = timed(lambda out=pictures_out: run_import("image_folder", work / "faces", out))
            bare = timed(lambda: decode_and_encode(videos), time.perf_counter)
            decoded = timed(lambda out=videos_out: run_import("rendered_facs", SHARED, out), time.perf_counter)
            ratios["pictures"].append(read / copied)
            ratios["pictures, tar"].append((read + tar) / copied)
            ratios["pictures, in full"].append(full / copied)
            ratios["videos"].append(bare / decoded)
            print(
                f"{megabytes / copied:.0f} MB/s copied, {len(paths) / copied:.0f} pictures/s; limit {megabytes / read:.0f} MB/s"
            )
            print(f"{13824 * 2 / decoded:.0f} pictures/s out of videos; bare {13824 * 2 / bare:.0f}")
        for what, values in ratios.items():
            print(f"{what}: {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
