"""`reactionnet-demo DIR`: draw reaction videos, build them, and say how well the result agrees with what was drawn.

DIR/videos holds the videos, `sources.jsonl` and `ground_truth.json`; DIR/dataset the data set. Nothing is downloaded,
and drawn files whose sha256 still matches are kept.
"""

import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from reactionnet_pipeline import accuracy
from reactionnet_pipeline.drawing import arrangements
from reactionnet_pipeline.drawing.composing import MANIFEST, compose, write_truth
from reactionnet_pipeline.drawing.composition import FACE, Caption, Clip, Composition, Placed
from reactionnet_pipeline.drawing.faces import LOOKS, draw_reactor
from reactionnet_pipeline.drawing.known_faces import with_detected_faces
from reactionnet_pipeline.drawing.stimuli import STIMULI

WIDE, HD, TALL = (640, 360), (1280, 720), (360, 640)
YELLOW, CYAN = (250, 215, 60), (70, 220, 230)
console = Console(highlight=False)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


# The videos ---------------------------------------------------------------------------------------------------------


def reactor(subject_id: str, seed: int, **drawing) -> Clip:
    """A drawn person with the face boxes that MTCNN finds."""
    clip = draw_reactor(f"drawn_{subject_id}", LOOKS[subject_id], seed=seed, duration_s=2.4, **drawing)
    return with_detected_faces(clip, [clip.name], every=5)


def stimulus(kind: str, seed: int, size: tuple[int, int] = WIDE) -> Clip:
    """A drawn clip; the talking head's face is known too."""
    clip = STIMULI[kind](seed, size)
    if kind == "talking_head":
        clip = replace(with_detected_faces(clip, [f"speaker_{clip.name}"], every=5), name=f"talking_head_{seed}")
    return clip


def two_halves(video_id: str) -> Composition:
    placed = arrangements.side_by_side(stimulus("landscape", 10), reactor("ada", 12, size=(320, 360), face=0.36), WIDE)
    text = "Stimulus left, reactor right, two equal halves."
    return Composition(video_id=video_id, layout="side_by_side", description=text, placed=placed, seed=1)


def unequal_with_gap(video_id: str) -> Composition:
    panes = reactor("bo", 22), stimulus("cartoon", 21)
    placed = arrangements.side_by_side(*panes, WIDE, stimulus="right", share=0.38, gap=12, margin=14, top=36)
    logo = Caption(text="BO REACTS", x=24, y=32, height=20, rgb=YELLOW)
    subtitle = Caption(text="and then it hopped", x=300, y=342)
    text = "Unequal panes with a gap on black, reactor left, logo and subtitles."
    return Composition(
        video_id=video_id, layout="side_by_side", description=text, placed=placed, captions=[logo, subtitle], seed=2
    )


def corner_with_border(video_id: str) -> Composition:
    placed = arrangements.pip(reactor("cy", 32), stimulus("cuts", 31), WIDE, corner="bottom right", share=0.3, border=3)
    text = "Full-screen stimulus with cuts, face camera bottom right with a white border."
    return Composition(video_id=video_id, layout="pip", description=text, placed=placed, seed=3)


def corner_without_border(video_id: str) -> Composition:
    placed = arrangements.pip(reactor("dot", 42), stimulus("landscape", 44), WIDE, corner="top left", share=0.32)
    text = "Full-screen stimulus, face camera top left without a border, sensor noise."
    return Composition(video_id=video_id, layout="pip", description=text, placed=placed, noise=3, sound="tones", seed=4)


def round_pane(video_id: str) -> Composition:
    face = reactor("ed", 52, size=(300, 300), eyes=(0.5, 0.45))
    look = {"shape": "round", "aspect": 1, "border": 4, "border_rgb": CYAN, "shadow": 5}
    placed = arrangements.pip(face, stimulus("cartoon", 51), WIDE, corner="top right", share=0.28, **look)
    text = "Full-screen stimulus, round face camera top right with a rim and a shadow."
    return Composition(video_id=video_id, layout="pip", description=text, placed=placed, seed=5)


def cut_out(video_id: str) -> Composition:
    placed = arrangements.cutout(reactor("fay", 62, size=(360, 360)), stimulus("landscape", 63), WIDE, share=0.55)
    text = "The reactor without her room over the stimulus."
    return Composition(video_id=video_id, layout="pip", description=text, placed=placed, flags=["cutout"], seed=6)


def inset_on_background(video_id: str) -> Composition:
    face, screen = reactor("gus", 72, size=(440, 330)), stimulus("cuts", 71, (800, 450))
    placed = arrangements.inset([face], screen, HD, border=6, border_rgb=YELLOW)
    title = Caption(text="GUS SEES IT FOR THE FIRST TIME", x=240, y=90, height=40, rgb=YELLOW)
    return Composition(
        video_id=video_id,
        layout="inset_background",
        description="A decorated background with a title, stimulus and face camera inset with frames.",
        placed=placed,
        size=HD,
        duration_s=4,
        background=arrangements.decorated(HD, 7),
        captions=[title],
        seed=7,
    )


def portrait(video_id: str) -> Composition:
    face, screen = reactor("hui", 82, size=(360, 320)), stimulus("cartoon", 81, (400, 360))
    placed = arrangements.top_bottom(screen, face, TALL)
    text = "Portrait, stimulus on top, reactor below."
    return Composition(video_id=video_id, layout="top_bottom", description=text, placed=placed, size=TALL, seed=8)


def two_reactors(video_id: str) -> Composition:
    faces = [reactor("ike", 92), reactor("joy", 93)]
    placed = arrangements.inset(faces, stimulus("landscape", 92), WIDE, border=2)
    background = arrangements.decorated(WIDE, 9)
    text = "A stimulus and two reactors on a background."
    return Composition(
        video_id=video_id, layout="multi_reactor", description=text, placed=placed, background=background, seed=9
    )


def changing(video_id: str) -> Composition:
    face = reactor("kit", 102, size=WIDE, face=0.42)
    split = arrangements.side_by_side(stimulus("landscape", 104), face, WIDE, share=0.58, top=40)
    placed = arrangements.layout_change(face, split, WIDE, start_s=1.6, end_s=4.8)
    timeline = [(0, 1.6, "full_face"), (1.6, 4.8, "side_by_side"), (4.8, 6, "full_face")]
    text = "The reactor alone, then split screen, then alone again."
    return Composition(
        video_id=video_id,
        layout="layout_change",
        description=text,
        placed=placed,
        timeline=timeline,
        duration_s=6,
        seed=10,
    )


def face_in_stimulus(video_id: str) -> Composition:
    placed = arrangements.pip(reactor("lou", 112), stimulus("talking_head", 116), WIDE, corner="bottom left", share=0.3)
    return Composition(
        video_id=video_id,
        layout="pip",
        description="The stimulus shows a face larger than that of the reactor, bottom left.",
        placed=placed,
        flags=["faces_in_stimulus"],
        seed=11,
    )


def no_sound(video_id: str) -> Composition:
    placed = arrangements.pip(
        reactor("ada", 122), stimulus("shapes", 121), WIDE, corner="top right", share=0.3, border=2
    )
    return Composition(
        video_id=video_id,
        layout="pip",
        description="Face camera top right, variable frame rate, no sound.",
        placed=placed,
        sound=None,
        variable_rate=True,
        flags=["vfr", "no_audio"],
        seed=12,
    )


def no_stimulus(video_id: str) -> Composition:
    face = reactor("bo", 132, size=WIDE, face=0.5)
    placed = [Placed(clip=face, role=FACE, x=0, y=0, w=640, h=360)]
    return Composition(
        video_id=video_id,
        layout="full_face",
        description="One face that fills the picture and nothing to watch: to be refused.",
        placed=placed,
        expected="no_stimulus",
        flags=["negative"],
        duration_s=4,
        seed=13,
    )


KINDS = [inset_on_background, two_reactors, changing, face_in_stimulus, two_halves, unequal_with_gap,
         corner_with_border, corner_without_border, round_pane, cut_out, portrait, no_sound, no_stimulus]  # fmt: skip
VIDEOS: dict[str, Callable[[str], Composition]] = {f"{n:02d}_{kind.__name__}": kind for n, kind in enumerate(KINDS, 1)}


def draw(video_id: str, folder: Path) -> dict:
    """Draw one of VIDEOS into a folder; its ground truth record."""
    import cv2

    cv2.setNumThreads(1)
    return compose(VIDEOS[video_id](video_id), folder)


def draw_all(folder: Path, video_ids: Sequence[str] = tuple(VIDEOS)) -> list[dict]:
    """Draw what is not there yet, one process a core, and write manifest and ground truth."""
    folder.mkdir(parents=True, exist_ok=True)
    records = {record["video_id"]: record for record in still_good(folder) if record["video_id"] in video_ids}
    missing = [video_id for video_id in video_ids if video_id not in records]
    if missing:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(len(missing), os.cpu_count() or 1), mp_context=spawn) as pool:
            drawn = as_completed([pool.submit(draw, video_id, folder) for video_id in missing])
            for done in track(drawn, "drawing videos", total=len(missing), console=console):
                records[done.result()["video_id"]] = done.result()
    ordered = [records[video_id] for video_id in video_ids]
    write_truth(ordered, folder)
    return ordered


def still_good(folder: Path) -> list[dict]:
    """Records of the videos that lie in the folder as they were drawn."""
    if not (folder / "ground_truth.json").exists():
        return []
    good = []
    for record in accuracy.read_truth(folder):
        path = folder / record["file"]
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == record["sha256"]:
            good.append(record)
    return good


# Building and measuring ---------------------------------------------------------------------------------------------


def build(manifest: Path, dataset: Path, *options: str) -> float:
    """Run `reactionnet-build` on a manifest; seconds it took. Raises CalledProcessError where it fails."""
    started = time.monotonic()
    command = [sys.executable, "-m", "reactionnet_pipeline.cli", "--sources", str(manifest), "--out", str(dataset)]
    # the demo needs no network: models that lie in a cache are used, nothing is asked of the hub
    environment = {"HF_HUB_OFFLINE": "1", **os.environ}
    subprocess.run([*command, "--split", "all", *options], check=True, env=environment)
    return time.monotonic() - started


def totals(records: Sequence[dict], dataset: Path, seconds: float) -> Table:
    """What went in, what came out, how fast, and how true it is."""
    frames = pq.read_table(dataset / "tables" / "frames.parquet", columns=["video_id", "clip_id", "key", "shard"])
    letters = [json.loads(line) for line in (dataset / "dead_letters.jsonl").read_text().splitlines()]
    losses = Counter(letter["code"] for letter in letters if not letter["kept"])
    table = Table(title="Demo", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("sources", str(len(records)))
    for column, name in (("clip_id", "clips"), ("key", "chunks"), ("shard", "shards")):
        table.add_row(name, str(len(frames[column].unique())))
    table.add_row("frames", f"{len(frames):,}")
    table.add_row("frames/s, whole build", f"{len(frames) / seconds:.0f}")
    table.add_row("losses", ", ".join(f"{count} {code}" for code, count in sorted(losses.items())) or "none")
    return table


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where videos and data set go.")] = Path("demo"),
    log_level: Annotated[str, typer.Option(help="Of the build: debug, info, warning or error.")] = "warning",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress bars.")] = False,
    version_: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Draw reaction videos, build a data set from them, and measure it against what was drawn."""
    if version_:
        console.print(f"reactionnet {version('reactionnet')}")
        return
    console.quiet = quiet
    videos, dataset = folder / "videos", folder / "dataset"
    records = draw_all(videos)
    console.print(f"{len(records)} videos with ground truth in {videos}")
    try:
        # one video is there to be refused; whatever else is lost is shown by the table, not by a build that stops
        options = ["--max-loss", "0.5", "--log-level", log_level, *(["--quiet"] if quiet else [])]
        seconds = build(videos / MANIFEST, dataset, *options)
    except subprocess.CalledProcessError as error:
        raise typer.Exit(error.returncode) from None
    console.quiet = False
    measured = accuracy.measure(records, accuracy.read_built(dataset))
    console.print(totals(records, dataset, seconds))
    console.print(accuracy.summary_table(accuracy.summary(measured), "Accuracy against the drawn truth"))
    for video in measured:
        if not video.right:
            console.print(f"[red]{video.video_id}: {video.outcome}, expected {video.expected}[/]")
    console.print(f"report: {dataset / 'report.html'}")


def main() -> None:
    app()


if __name__ == "__main__":
    main()
