"""Are people told apart by their faces? `python tests/benchmarks/identity.py [--model facenet|FILE]`.

Builds the shared reaction videos twice over, without the names in their manifest: every track of every video gets a
vector, and all are clustered. Against the names: the distances within and between people, precision and recall over
pairs of tracks of different videos and over all pairs at the built-in cut, and the range of cuts that would do as well.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from reactionnet_pipeline.identity import CUTS, Curated, identify, pair_scores
from reactionnet_pipeline.settle import read_faces

SHARED = Path(__file__).resolve().parents[3] / "shared" / "reaction_videos"
console = Console(width=110)


def main(
    videos: Annotated[Path, typer.Option(help="Folder with manifest.jsonl that names subjects.")] = SHARED,
    model: Annotated[str, typer.Option(help="As --embedding-model.")] = "dlib",
    keep: Annotated[Path | None, typer.Option(help="Build here, and use what is there.")] = None,
) -> None:
    """Measure and print."""
    manifest = videos / "manifest.jsonl"
    if not manifest.exists():
        console.print(f"skipped: no manifest at {manifest}")
        raise typer.Exit(0)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    true = {row["video_id"]: row.pop("subject_ids", None) or [] for row in rows}
    with tempfile.TemporaryDirectory() as scratch:
        here = keep or Path(scratch)
        here.mkdir(parents=True, exist_ok=True)
        for row in rows:
            row["uri"] = str((videos / row["uri"]).resolve())
        nameless = here / "nameless.jsonl"
        nameless.write_text("".join(json.dumps(row) + "\n" for row in rows))
        command = [
            sys.executable,
            "-m",
            "reactionnet_pipeline.cli",
            "--sources",
            str(nameless),
            "--out",
            str(here / "out"),
        ]
        # the folder holds files that are meant to be refused
        subprocess.run([*command, "--embedding-model", model, "--max-loss", "1", "-q"], check=True)
        work = here / "out.work"
        markers = {path.name: json.loads(path.read_bytes()) for path in (work / "embeddings").glob("*.json")}
        faces = [
            face
            for row in rows
            for marker in sorted(markers)
            if marker.startswith(row["video_id"].replace("_", "_5f") + "-")
            for face in read_faces(work, row["video_id"], f"embeddings/{markers[marker]['file']}")
        ]
    engine = "dlib" if model in ("dlib", "auto") or model.endswith(".dat") else "facenet"
    # people are named in reading order, and so are they in the manifest
    seen = [face for face in faces if face.vector is not None and face.person < len(true[face.video_id])]
    truth = {f"{face.video_id}/{face.chain}": true[face.video_id][face.person] for face in seen}
    report(seen, list(truth.values()), truth, CUTS[engine])


def found_at(faces, cut: float) -> dict[str, str]:
    """Subject of each track when clustered at a cut."""
    known = identify(faces, Curated(), cut)
    return {
        f"{video_id}/{chain}": subject
        for video_id, people in known.items()
        for chains, subject in zip(people.chains, people.subjects, strict=True)
        for chain in chains
    }


def report(faces, names: list[str], truth: dict[str, str], cut: float) -> None:
    """Print distances and scores."""
    vectors = np.array([face.vector for face in faces])
    distance = np.sqrt(((vectors[:, None] - vectors[None]) ** 2).sum(-1))
    a, b = np.triu_indices(len(faces), 1)
    same = np.array([names[i] == names[k] for i, k in zip(a, b, strict=True)])
    across = np.array([faces[i].video_id != faces[k].video_id for i, k in zip(a, b, strict=True)])
    table = Table(title=f"{len(faces)} tracks, {len(set(names))} people, {len({f.video_id for f in faces})} videos")
    for column in ("distance between tracks", "pairs", "least", "median", "greatest"):
        table.add_column(column)
    for what, chosen in (("one person, one video", same & ~across), ("one person, two videos", same & across),
                         ("two people", ~same)):  # fmt: skip
        values = distance[a[chosen], b[chosen]]
        if len(values):
            numbers = (values.min(), np.median(values), values.max())
            table.add_row(what, str(len(values)), *(f"{number:.3f}" for number in numbers))
    console.print(table)
    precision, recall = pair_scores(truth, found_at(faces, cut))
    line = f"at the cut of {cut}: pair precision {precision:.3f} (goal 0.99), recall {recall:.3f} (goal 0.90)"
    console.print(line, style="bold")
    good = [
        c for c in np.arange(0.1, 1.5, 0.01)
        if min(p - 0.99 for p in pair_scores(truth, found_at(faces, float(c)))[:1]) >= 0
        and pair_scores(truth, found_at(faces, float(c)))[1] >= 0.90
    ]  # fmt: skip
    console.print(f"cuts that reach both: {min(good):.2f} to {max(good):.2f}" if good else "no cut reaches both")


if __name__ == "__main__":
    typer.run(main)
