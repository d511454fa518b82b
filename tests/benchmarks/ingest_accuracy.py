"""How accurate is the build? On a folder of videos with ground truth, and on drawn variants of many layouts.

    python tests/benchmarks/ingest_accuracy.py --videos FOLDER [--built DATASET] [--variants]

FOLDER holds ground_truth.json and manifest.jsonl or sources.jsonl. Without --videos, or with --variants, every layout
of LAYOUTS is composed with drawn and with rendered faces, from the seeds printed in the table, and built.
"""

import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from reactionnet_pipeline import accuracy, video
from reactionnet_pipeline.demo import build
from reactionnet_pipeline.drawing import arrangements, composing
from reactionnet_pipeline.drawing.composition import FACE, STIMULUS, Caption, Clip, Composition, Placed
from reactionnet_pipeline.drawing.faces import LOOKS, draw_pair, draw_reactor
from reactionnet_pipeline.drawing.known_faces import with_detected_faces
from reactionnet_pipeline.drawing.stimuli import STIMULI

RENDERED = Path(__file__).resolve().parents[3] / "shared" / "rendered_facs" / "videos"
FIRST_SEED = 5000  # the demo's seeds are below 200
SIZES = [(640, 360), (640, 360), (854, 480), (960, 540)]
NOISE, QUALITY = (0.0, 0.0, 3.0, 6.0), (20, 24, 30, 35)
console = Console(highlight=False, width=None if sys.stdout.isatty() else 170)


@dataclass(frozen=True)
class Variant:
    """One video: which layout, drawn or rendered faces, and the seed that decides all the rest."""

    layout: str
    faces: str
    seed: int

    @property
    def video_id(self) -> str:
        return f"{self.layout}_{self.faces}_{self.seed}"


@cache
def drawn_face(name: str) -> Clip:
    clip = draw_reactor(f"drawn_{name}", LOOKS[name], size=(400, 320), seed=FIRST_SEED + sorted(LOOKS).index(name))
    return with_detected_faces(clip, [clip.name], every=5)


@cache
def rendered_face(subject: int) -> Clip:
    """A rendered clip, its room made wider, its faces found by MTCNN before composition."""
    path = RENDERED / f"S{subject:03d}_{subject % 6}.mp4"
    info = video.probe(path)
    read = video.read_frames(path, info, 0, info.num_frames, lambda _: [video.whole(info)])
    frames = [cv2.copyMakeBorder(picture, 0, 0, 80, 80, cv2.BORDER_REPLICATE) for _, (picture,) in read]
    clip = Clip(name=f"rendered_S{subject:03d}", frames=frames, fps=info.fps)
    return with_detected_faces(clip, [clip.name], every=5)


@cache
def pair(first: str, second: str, seed: int) -> Clip:
    clip = draw_pair("pair", (LOOKS[first], LOOKS[second]), seed=seed)
    return with_detected_faces(clip, [f"drawn_{first}", f"drawn_{second}"], every=5)


class Ingredients:
    """What a layout takes for one variant: people, stimuli and a look, all from its seed."""

    def __init__(self, variant: Variant):
        self.faces, self.rng = variant.faces, np.random.default_rng(variant.seed)
        names = sorted(LOOKS) if variant.faces == "drawn" else list(range(0, 48, 3))
        self.people = [names[n] for n in self.rng.permutation(len(names))]
        self.size = SIZES[self.rng.integers(len(SIZES))]

    def face(self, number: int = 0) -> Clip:
        person = self.people[number]
        return drawn_face(person) if self.faces == "drawn" else rendered_face(person)

    def stimulus(self) -> Clip:
        kind = ("shapes", "landscape", "cartoon", "cuts")[self.rng.integers(4)]
        return STIMULI[kind](int(self.rng.integers(1000)), (640, 360))

    def border(self) -> dict:
        colour = tuple(int(level) for level in self.rng.choice([20, 60, 200, 255], 3))
        return {"border": int(self.rng.integers(2, 6)), "border_rgb": colour}


def side_by_side(of: Ingredients, **look) -> dict:
    stimulus = of.stimulus()
    if look.get("stimulus") == "right":
        return {"placed": arrangements.side_by_side(of.face(), stimulus, of.size, **look)}
    return {"placed": arrangements.side_by_side(stimulus, of.face(), of.size, **look)}


def captioned(of: Ingredients) -> dict:
    width, height = of.size
    logo = Caption(text="CHANNEL", x=width - 150, y=30, height=20, rgb=(255, 220, 50))
    line = Caption(text="a line of subtitles runs here", x=width // 4, y=height - 14, plate_rgb=(0, 0, 0))
    return {**side_by_side(of, share=0.55), "captions": [logo, line]}


def pip(of: Ingredients, corner: str, bordered: bool = False, **look) -> dict:
    look = {**look, **(of.border() if bordered else {})}
    return {"placed": arrangements.pip(of.face(), of.stimulus(), of.size, corner=corner, **look)}


def cutout(of: Ingredients, right: bool) -> dict:
    return {"placed": arrangements.cutout(of.face(), of.stimulus(), of.size, share=0.5, right=right)}


def inset(of: Ingredients, people: int, right: bool = True) -> dict:
    faces = [of.face(n) for n in range(people)]
    placed = arrangements.inset(faces, of.stimulus(), of.size, right=right, **of.border())
    title = Caption(text="FIRST TIME WATCHING", x=of.size[0] // 4, y=of.size[1] // 9, height=of.size[1] // 14)
    return {"placed": placed, "background": arrangements.decorated(of.size, of.rng.integers(99)), "captions": [title]}


def top_bottom(of: Ingredients, face_on_top: bool, rotation: int = 0) -> dict:
    size = (of.size[1] // 4 * 4, of.size[0])
    face, stimulus = of.face(), of.stimulus()
    panes = (face, stimulus) if face_on_top else (stimulus, face)
    placed = arrangements.top_bottom(*panes, size, stimulus="bottom" if face_on_top else "top")
    return {"placed": placed, "size": size, "rotation": rotation}


def grid(of: Ingredients, people: int, **look) -> dict:
    return {"placed": arrangements.grid([of.face(n) for n in range(people)], of.stimulus(), of.size, **look)}


def two_in_one_pane(of: Ingredients) -> dict:
    both = pair(of.people[0], of.people[1], int(of.rng.integers(1000)))
    return {"placed": arrangements.side_by_side(of.stimulus(), both, of.size, share=0.45)}


def overlapping(of: Ingredients) -> dict:
    width, height = of.size
    screen = Placed(clip=of.stimulus(), role=STIMULUS, x=20, y=20, w=width * 7 // 10, h=height * 8 // 10)
    place = {"x": width * 6 // 10, "y": height * 4 // 10, "w": width * 36 // 100, "h": height * 55 // 100}
    placed = [screen, Placed(clip=of.face(), role=FACE, **place, **of.border())]
    return {"placed": placed, "background": arrangements.decorated(of.size, of.rng.integers(99))}


def changing(of: Ingredients) -> dict:
    face = of.face()
    split = arrangements.side_by_side(of.stimulus(), face, of.size, share=0.58)
    placed = arrangements.layout_change(face, split, of.size, start_s=1.6, end_s=5.0)
    timeline = [(0, 1.6, "full_face"), (1.6, 5.0, "side_by_side"), (5.0, 6.4, "full_face")]
    return {"placed": placed, "timeline": timeline, "duration_s": 6.4}


def jumping(of: Ingredients) -> dict:
    face, stimulus = of.face(), of.stimulus()
    before = arrangements.pip(face, stimulus, of.size, corner="bottom right", share=0.3)
    after = arrangements.pip(face, stimulus, of.size, corner="top left", share=0.3)
    placed = [before[0], replace(before[1], end_s=3.0), replace(after[1], start_s=3.0)]
    return {"placed": placed, "duration_s": 6.0, "timeline": [(0, 3.0, "pip"), (3.0, 6.0, "pip")]}


def face_in_stimulus(of: Ingredients, corner: str) -> dict:
    actor = replace(of.face(1), name="talking_head", scene="interview/public speech")
    actor = replace(actor, faces=[[replace(face, subject_id="actor") for face in faces] for faces in actor.faces])
    return {"placed": arrangements.pip(of.face(), actor, of.size, corner=corner, share=0.3, **of.border())}


def full_face(of: Ingredients) -> dict:
    placed = [Placed(clip=of.face(), role=FACE, x=0, y=0, w=of.size[0], h=of.size[1])]
    return {"placed": placed, "expected": "no_stimulus"}


def two_stimuli(of: Ingredients) -> dict:
    placed = arrangements.side_by_side(of.stimulus(), of.stimulus(), of.size)
    return {"placed": [replace(pane, role=STIMULUS) for pane in placed], "expected": "no_face"}


def frozen(of: Ingredients) -> dict:
    return {**pip(of, "bottom left", bordered=True), "frozen": True, "expected": "static_video"}


LAYOUTS: dict[str, Callable[[Ingredients], dict]] = {
    "halves": side_by_side,
    "reactor-left": partial(side_by_side, stimulus="right", share=0.36),
    "gap-on-black": partial(side_by_side, share=0.62, gap=12, margin=16, top=30),
    "captioned": captioned,
    "pip-bottom-right": partial(pip, corner="bottom right", bordered=True),
    "pip-bottom-left": partial(pip, corner="bottom left", share=0.24),
    "pip-top-left": partial(pip, corner="top left", share=0.32, margin=0),
    "pip-top-right": partial(pip, corner="top right", shape="rounded", shadow=6),
    "round-bottom-right": partial(pip, corner="bottom right", shape="round", aspect=1, bordered=True, share=0.26),
    "round-top-left": partial(pip, corner="top left", shape="round", aspect=1, share=0.24),
    "no-sound": partial(pip, corner="top right", share=0.26, bordered=True),
    "cutout-right": partial(cutout, right=True),
    "cutout-left": partial(cutout, right=False),
    "inset": partial(inset, people=1),
    "inset-left": partial(inset, people=1, right=False),
    "two-reactors": partial(inset, people=2),
    "grid": partial(grid, people=3),
    "grid-with-gaps": partial(grid, people=3, gap=8),
    "pair-in-a-pane": two_in_one_pane,
    "top-bottom": partial(top_bottom, face_on_top=False),
    "face-on-top": partial(top_bottom, face_on_top=True),
    "rotated": partial(top_bottom, face_on_top=True, rotation=90),
    "overlapping": overlapping,
    "layout-change": changing,
    "jumping-corner": jumping,
    "face-in-stimulus": partial(face_in_stimulus, corner="bottom left"),
    "face-in-stimulus-top": partial(face_in_stimulus, corner="top right"),
    "only-a-face": full_face,
    "no-face": two_stimuli,
    "still-picture": frozen,
}
ONLY_DRAWN = {"cutout-right", "cutout-left", "pair-in-a-pane", "no-face"}


def variants(faces: Sequence[str], first_seed: int = FIRST_SEED) -> list[Variant]:
    """Every layout with every kind of faces that it can have; the seed counts on, whatever is left out."""
    every = [(layout, kind) for layout in LAYOUTS for kind in ("drawn", "rendered")]
    return [
        Variant(layout, kind, first_seed + n)
        for n, (layout, kind) in enumerate(every)
        if kind in faces and not (kind == "rendered" and layout in ONLY_DRAWN)
    ]


def compose(variant: Variant, folder: Path) -> dict:
    cv2.setNumThreads(1)
    of = Ingredients(variant)
    rough = {"noise": NOISE[of.rng.integers(4)], "crf": QUALITY[of.rng.integers(4)]}
    quiet = {"sound": None, "variable_rate": True} if variant.layout == "no-sound" else {}
    facts = {"size": of.size, "seed": variant.seed, **rough, **quiet, **LAYOUTS[variant.layout](of)}
    return composing.compose(Composition(video_id=variant.video_id, layout=variant.layout, **facts), folder)


def compose_all(chosen: Sequence[Variant], folder: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=spawn) as pool:
        drawn = pool.map(partial(compose, folder=folder), chosen)
        records = list(track(drawn, "composing variants", total=len(chosen), console=console))
    composing.write_truth(records, folder)


def measured(videos: Path, dataset: Path) -> list[accuracy.VideoAccuracy]:
    """Build, unless that was done, and compare."""
    if not (dataset / "dataset.json").exists():
        manifests = [videos / name for name in ("manifest.jsonl", composing.MANIFEST) if (videos / name).exists()]
        seconds = build(manifests[0], dataset, "--max-loss", "1")
        console.print(f"built in {seconds:.0f} s")
    return accuracy.measure(accuracy.read_truth(videos), accuracy.read_built(dataset))


def layout_table(results: Sequence[accuracy.VideoAccuracy]) -> Table:
    """The totals of each kind of layout, a line each."""
    groups = {kind: accuracy.summary(videos) for kind, videos in accuracy.by_layout(results).items()}
    table = Table(title="By layout")
    table.add_column("layout", no_wrap=True)
    for total in accuracy.summary(results):
        table.add_column(total.name, justify="right", max_width=8)
    for kind, totals in groups.items():
        table.add_row(kind, *(accuracy.cell(total) for total in totals))
    return table


@contextlib.contextmanager
def folder_for(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)
    else:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep


def main(
    videos: Annotated[Path | None, typer.Option(help="Folder with videos and their ground truth.")] = None,
    built: Annotated[Path | None, typer.Option(help="Data set that was built from it already.")] = None,
    variants_: Annotated[bool, typer.Option("--variants", help="Also the drawn variants.")] = False,
    only: Annotated[str, typer.Option(help="Only layouts whose name contains this.")] = "",
    first_seed: Annotated[int, typer.Option(help="Of the variants: other ones make other videos.")] = FIRST_SEED,
    keep: Annotated[Path | None, typer.Option(help="Keep variants and data sets here; they are used again.")] = None,
) -> None:
    """Print the accuracy of the build, a line a video, with totals and targets."""
    try:
        with folder_for(keep) as folder:
            if videos is not None:
                report(measured(videos, built or folder / "dataset"), str(videos))
            if videos is None or variants_:
                faces = ["drawn", "rendered"] if RENDERED.is_dir() else ["drawn"]
                if "rendered" not in faces:
                    console.print(f"[yellow]rendered faces are skipped: there is no {RENDERED}[/]")
                chosen = [variant for variant in variants(faces, first_seed) if only in variant.layout]
                drawn = folder / "variants"
                drawn.mkdir(exist_ok=True)
                if not (drawn / composing.TRUTH).exists():
                    compose_all(chosen, drawn)
                report(measured(drawn, folder / "variants_dataset"), f"{len(chosen)} variants from seed {first_seed}")
    except subprocess.CalledProcessError as error:
        raise typer.Exit(error.returncode) from None


def report(results: Sequence[accuracy.VideoAccuracy], title: str) -> None:
    console.print(accuracy.video_table(results, title))
    console.print(layout_table(results))
    console.print(accuracy.summary_table(accuracy.summary(results), f"Totals: {title}"))


if __name__ == "__main__":
    typer.run(main)
