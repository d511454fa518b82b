"""Do the models learn? Every `small` preset on rendered faces, three seeds, beside the class prior and a ResNet-18.

    python tests/benchmarks/learning.py [--tables cage aar ...] [--seeds 0 1 2] [--out FOLDER] [--precision bf16-mixed]
        [--record models/results.json]

Imports the faces once, and for models of sound a copy of them with drawn voices (`spoken_faces`), trains and evaluates each
row of a table by the commands that a user has (`reactionnet-train`, `reactionnet-evaluate`), and prints tables in Markdown:
the mean over seeds, the lowest and the highest, on subjects never seen in training. What was trained before in FOLDER is
not trained again, so the command may be stopped and goes on. A row beats another where its worst seed is above the other's
best.

Rendered faces, 36 subjects in training and 6 in testing: the tables say that the models learn, and which parts help here,
and nothing about the papers' numbers. Of ABAW6's tasks compound expressions are left out: a rendered face shows one reaction
at a time, so that what two units of two expressions give together would be an accident and not a compound one.

`--record` writes what stands in the tables to a file, from which `tests/models_page.py` fills the models' page.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress

SHARED = Path(__file__).resolve().parents[3] / "shared" / "rendered_facs"
BIN = Path(sys.executable).parent
TESTS = Path(__file__).resolve().parents[1]
DONE = "evaluation/evaluation.json"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table: a preset with settings. `shares` names a row whose first stage this one takes over: it is the
    same to the bit (same seed, same settings), and so are its features. `start` names a row whose weights start this one;
    `weights` a row whose file of weights is this one's setting of that name. A `spoken` row takes the copy with voices; a
    `hidden` one is trained for others and not shown."""

    title: str
    model: str
    preset: str
    settings: tuple[str, ...] = ()
    shares: str = ""
    start: str = ""
    weights: str = ""
    baseline: bool = False
    spoken: bool = False
    hidden: bool = False


@dataclass(frozen=True, kw_only=True)
class Results:
    """A table: its rows, the scores to show, of which the first counts (larger is better)."""

    title: str
    scores: tuple[str, ...]
    rows: tuple[Row, ...]


def _drr(title: str, preset: str, *settings: str, start: str = "", baseline: bool = False) -> Row:
    return Row(title=title, model="drr", preset=f"small_{preset}", settings=settings, start=start, baseline=baseline)


# The paper's stem has learned expressions of other faces; here it is CAGE's plain net, of the same training faces.
_FACES = Row(title="expressions, for the stem", model="cage", preset="small_resnet18", hidden=True)


def _eri(title: str, preset: str, *settings: str, baseline: bool = False, spoken: bool = True) -> Row:
    return Row(
        title=title, model="eri", preset=f"small_{preset}", settings=settings, baseline=baseline, spoken=spoken,
        weights="" if preset == "audio" else _FACES.title,
    )  # fmt: skip


def _abaw6(task: str, baseline: Row) -> tuple[Row, ...]:
    """The plain net, and the task from the pre-training; of action units from nothing, too."""
    first = Row(title="pre-training", model="abaw6", preset="small_pretrain", hidden=True)
    before = (first, _FACES) if baseline.weights else (first,)
    afresh = Row(title="ABAW6, not pre-trained", model="abaw6", preset=f"small_{task}")
    started = Row(title="ABAW6", model="abaw6", preset=f"small_{task}", start="pre-training")
    return (*before, baseline, *([afresh] if task == "au" else []), started)


_RESNET18 = "encoder=resnet18"
_PLAIN = "balanced="  # no weights of what is rare
_PLAIN_LONGER = (_PLAIN, "all.epochs=16")
_AS_AAR = (_PLAIN, "weighted=false", "start_at_rates=true")  # AAR's loss, and where its answers start
_96_PX = ("aligned=112", "image_size=96")  # what AAR's and ABAW6's small presets see
_WHOLE = ("aligned=none", "resize=112")  # head and shoulders, as pictures are stored
_12_AUS = "aus=1,2,4,6,7,10,12,14,15,17,23,24"  # BP4D's, as AAR's
TABLES: dict[str, Results] = {
    "cage": Results(
        title="CAGE: 8 expressions, valence and arousal of single frames",
        scores=("f1", "f1_macro", "ccc_valence", "ccc_arousal"),  # f1: Table 6's, classes weighted by their share
        rows=(
            Row(title="ResNet-18 of whole pictures", model="cage", preset="small_resnet18", settings=_WHOLE, baseline=True),
            Row(title="ResNet-18", model="cage", preset="small_resnet18", baseline=True),
            Row(title="discrete", model="cage", preset="small_discrete"),
            Row(title="combined", model="cage", preset="small_combined"),
        ),
    ),
    "aar": Results(
        title="AAR: 12 action units, intensity >= 2",
        scores=("f1", "average_precision"),
        rows=(
            _drr(
                "ResNet-18 of whole pictures", "resnet18_aud", _RESNET18, *_WHOLE, "image_size=96", _12_AUS, *_AS_AAR,
                baseline=True,
            ),
            _drr("ResNet-18, rare units weighed", "resnet18_aud", _RESNET18, *_96_PX, _12_AUS, _PLAIN, baseline=True),
            _drr("ResNet-18", "resnet18_aud", _RESNET18, *_96_PX, _12_AUS, *_AS_AAR, baseline=True),
            Row(title="B-Net", model="aar", preset="small_b_net"),
            Row(title="BW-Net", model="aar", preset="small_bw_net"),
            Row(title="AAR", model="aar", preset="small"),
            Row(title="AA", model="aar", preset="small_aa", shares="AAR"),
            Row(title="AA+Gsh", model="aar", preset="small_aa_gsh", shares="AAR"),
            Row(title="AA+Gsp", model="aar", preset="small_aa_gsp", shares="AAR"),
            Row(title="AA+Gsp+Tavg", model="aar", preset="small_aa_gsp_tavg", shares="AAR"),
        ),
    ),
    "drr": Results(
        title="DRR: 12 action units, intensity >= 2",
        scores=("f1",),
        rows=(
            _drr("weighted ResNet-18", "resnet18_aud", _RESNET18, baseline=True),
            _drr("ResNet-18", "resnet18_aud", _RESNET18, _PLAIN, baseline=True),
            _drr("UDA", "uda_aud"),
            _drr("GCN", "gcn_aud"),
            _drr("face alone", "um"),
            _drr("static", "static_aud"),
            _drr("without CDC", "without_cdc_aud"),
            _drr("without HO", "without_ho_aud"),
            _drr("without HE", "without_he_aud"),
            _drr("dynamic", "dynamic_aud", start="static"),
            _drr("dyadic", "dyadic"),
        ),
    ),
    "drr_plain": Results(
        title="DRR: the same without weights, twice the epochs",
        scores=("f1",),
        rows=(
            _drr("ResNet-18", "resnet18_aud", _RESNET18, *_PLAIN_LONGER, baseline=True),
            _drr("static", "static_aud", *_PLAIN_LONGER),
        ),
    ),
    "drr_hidden": Results(
        title="DRR with the face hidden, by how much earlier the stimulus is taken",
        scores=("f1",),
        rows=tuple(
            _drr(f"{delay:g} s", "stimulus_aud", f"delay_s={delay}") for delay in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
        ),
    ),
    "drr_fer": Results(
        title="DRR: 8 expressions",
        scores=("fer_accuracy",),
        rows=(
            _drr("ResNet-18", "resnet18_fer", _RESNET18, baseline=True),
            _drr("static", "static_fer"),
            _drr("dyadic", "dyadic"),
        ),
    ),
    "drr_sc": Results(
        title="DRR: 24 kinds of scenes, the baseline from the stimulus",
        scores=("sc_accuracy",),
        rows=(
            _drr("ResNet-18", "resnet18_sc", _RESNET18, baseline=True),
            _drr("static", "static_sc"),
            _drr("dyadic", "dyadic"),
        ),
    ),
    "eri": Results(
        title="ERI: a clip's greatest intensities of 7 action units, faces with drawn voices",
        scores=("pearson",),
        rows=(
            _FACES,
            _eri("ResNet-18", "resnet18", baseline=True),
            _eri("audio", "audio"),
            _eri("video", "video"),
            _eri("fused", "fused"),
        ),
    ),
    "abaw6_au": Results(
        title="ABAW6: 12 action units, intensity >= 2",
        scores=("f1",),
        rows=_abaw6(
            "au",
            _drr(
                "weighted ResNet-18", "resnet18_aud", _RESNET18, *_96_PX, "aus=1,2,4,6,7,10,12,15,23,24,25,26",
                baseline=True,
            ),
        ),
    ),
    "abaw6_expr": Results(
        title="ABAW6: 8 expressions",
        scores=("f1_macro",),
        rows=_abaw6("expr", Row(title="ResNet-18", model="cage", preset="small_resnet18", baseline=True)),
    ),
    "abaw6_va": Results(
        title="ABAW6: valence and arousal",
        scores=("ccc_arousal", "ccc_valence"),
        rows=_abaw6("va", Row(title="ResNet-18", model="cage", preset="small_resnet18", baseline=True)),
    ),
    "abaw6_emi": Results(
        title="ABAW6: a clip's greatest intensities of 6 action units, in place of emotions",
        scores=("pearson",),
        rows=_abaw6(
            "emi",
            _eri(
                "ResNet-18, 64 px", "resnet18", "targets=au_int_1,au_int_4,au_int_6,au_int_9,au_int_12,au_int_25",
                baseline=True, spoken=False,
            ),
        ),
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Work:
    """Where runs lie, what they train on, and how."""

    out: Path
    precision: str

    def run_of(self, row: Row, seed: int) -> Path:
        parts = [row.model, row.preset, *row.settings, *(["spoken"] if row.spoken else [])]
        parts += ["started"] if row.start else []
        return self.out / "runs" / f"{'-'.join(parts)}-seed{seed}".replace("/", "_")

    def data_of(self, row: Row) -> Path:
        return self.out / ("spoken" if row.spoken else "faces")


def train(work: Work, row: Row, rows: Mapping[str, Row], seed: int) -> Path:
    """Train and evaluate one row with one seed, unless that was done before. RuntimeError with the command's last words."""
    folder = work.run_of(row, seed)
    if (folder / DONE).is_file():
        return folder
    data = work.data_of(row)
    if row.shares:
        _take_over(work.run_of(rows[row.shares], seed), folder)
    command = [
        BIN / "reactionnet-train", row.model, row.preset, "--data", data, "--out", folder, "--seed", str(seed),
        "--precision", work.precision, "--init", work.run_of(rows[row.start], seed) if row.start else "none", "--quiet",
    ]  # fmt: skip
    command += [part for setting in row.settings for part in ("--set", setting)]
    if row.weights:
        command += [
            "--set",
            f"weights={work.run_of(rows[row.weights], seed).resolve() / 'model' / 'model.safetensors'}",
        ]
    began = time.monotonic()
    for step in (command, [BIN / "reactionnet-evaluate", folder, "--data", data, "--quiet"]):
        done = subprocess.run(
            step, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{row.title}, seed {seed}: {(done.stderr or done.stdout).strip()[-800:]}")
    (folder / "minutes.txt").write_text(f"{(time.monotonic() - began) / 60:.1f}")
    return folder


def _take_over(other: Path, folder: Path) -> None:
    for part in ("attention", "relation/features"):
        if (other / part).is_dir() and not (folder / part).exists():
            shutil.copytree(other / part, folder / part, copy_function=os.link)


def scores_of(work: Work, row: Row, seeds: Sequence[int]) -> list[dict[str, Any]] | None:
    """What `reactionnet-evaluate` found, a seed each; None where one is missing."""
    files = [work.run_of(row, seed) / DONE for seed in seeds]
    return [json.loads(file.read_bytes()) for file in files] if all(file.is_file() for file in files) else None


def summary(work: Work, results: Results, seeds: Sequence[int]) -> dict[str, Any] | None:
    """A table as far as its rows are trained, each score as mean, lowest and highest of the seeds; None where none is."""
    found = {row.title: scores_of(work, row, seeds) for row in results.rows if not row.hidden}
    every = [one for each in found.values() for one in each or ()]
    if not every:
        return None
    rows = [
        {
            "title": row.title, "model": row.model, "preset": row.preset, "settings": list(row.settings),
            "start": row.start, "baseline": row.baseline,
            "scores": {score: _rounded(_values(found[row.title], score)) for score in results.scores},
        }
        for row in results.rows
        if found.get(row.title)
    ]  # fmt: skip
    prior = {score: _rounded(_values(every, score, "prior")) for score in results.scores}
    return {"title": results.title, "scores": list(results.scores), "seeds": list(seeds), "prior": prior, "rows": rows}


def table(found: Mapping[str, Any]) -> str:
    """A table of `summary` in Markdown: the scores, and by the first of them what a row beats, its worst seed the other's
    best."""
    names = found["scores"]
    first = names[0]
    rivals = [("prior", found["prior"])] + [(row["title"], row["scores"]) for row in found["rows"] if row["baseline"]]
    lines = [f"| {found['title']} | {' | '.join(names)} | beats |", "|---|" + "---|" * (len(names) + 1)]
    lines.append(f"| prior | {' | '.join(shown(found['prior'][name]) for name in names)} | |")
    for row in found["rows"]:
        ours = row["scores"]
        beaten = [
            title for title, theirs in rivals if ours[first] and theirs[first] and ours[first][1] > theirs[first][2]
        ]
        beats = "" if row["baseline"] else ", ".join(beaten) or "none"
        lines.append(f"| {row['title']} | {' | '.join(shown(ours[name]) for name in names)} | {beats} |")
    return "\n".join(lines) + "\n"


def record(found: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """The tables of `summary` into a JSON file; what that holds of other tables stays."""
    whole = json.loads(path.read_bytes()) if path.is_file() else {}
    path.write_text(json.dumps(whole | found, indent=1, sort_keys=True) + "\n")


def _rounded(values: Sequence[float]) -> list[float]:
    """Mean, lowest and highest."""
    return [round(part, 4) for part in (statistics.fmean(values), min(values), max(values))] if values else []


def _values(each: Sequence[Mapping[str, Any]] | None, name: str, part: str = "scores") -> list[float]:
    return [one[part][name] for one in each or () if one[part].get(name) is not None]


def shown(score: Sequence[float]) -> str:
    """The mean, and the lowest and highest where they differ; a dash where nothing was measured."""
    if not score:
        return "-"
    mean, lowest, highest = (round(value, 3) + 0.0 for value in score)  # + 0.0: no minus before a zero
    return f"{mean:.3f}" if lowest == highest else f"{mean:.3f} ({lowest:.3f} to {highest:.3f})"


def main() -> None:
    """Import, train what is missing, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, default=SHARED, help="release of the rendered faces")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/learning"))
    parser.add_argument("--precision", default="32-true", help="bf16-mixed is faster where the processor has it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at once, one thread each")
    parser.add_argument("--show", action="store_true", help="print what there is and train nothing")
    parser.add_argument("--record", type=Path, help="JSON file to write the tables to as well")
    given = parser.parse_args()
    work, tables = Work(out=given.out, precision=given.precision), {name: TABLES[name] for name in given.tables}
    if not given.show:
        if not given.faces.is_dir():
            sys.exit(f"no rendered faces at {given.faces}: name their folder with --faces")
        for spoken in sorted({row.spoken for results in tables.values() for row in results.rows}):
            _import(given.faces, given.out, spoken)
        _train_all(work, [*tables.values()], given.seeds, given.jobs)
    found = {name: summary(work, results, given.seeds) for name, results in tables.items()}
    for name, one in found.items():
        print(table(one) if one else f"{name}: nothing trained yet\n")
    if given.record:
        record({name: one for name, one in found.items() if one}, given.record)


def _import(faces: Path, out: Path, spoken: bool) -> None:
    """The faces as shards, as they are or with voices, unless that was done before."""
    data, release = out / ("spoken" if spoken else "faces"), faces
    if (data / "dataset.json").is_file():
        return
    if spoken:
        release = out / "spoken_release"
        shutil.rmtree(release, ignore_errors=True)  # what an interrupted copy left
        subprocess.run([sys.executable, TESTS / "spoken_faces.py", faces, release], check=True)
    subprocess.run([BIN / "reactionnet-import", "rendered_facs", release, data], check=True)


def _train_all(work: Work, tables: Sequence[Results], seeds: Sequence[int], jobs: int) -> None:
    """All runs of one seed before the next; a row that takes over another's stage, or starts from it, waits for it."""
    every = [
        (row, {r.title: r for r in results.rows}, seed) for seed in seeds for results in tables for row in results.rows
    ]
    todo = [
        *{work.run_of(row, seed): (row, rows, seed) for row, rows, seed in every}.values()
    ]  # some are in two tables
    with Progress() as progress, ThreadPoolExecutor(jobs) as pool:
        bar = progress.add_task("runs", total=len(todo))
        for wave in (False, True):
            runs = [
                pool.submit(train, work, row, rows, seed)
                for row, rows, seed in todo
                if bool(row.shares or row.start or row.weights) is wave
            ]
            for run in as_completed(runs):
                try:
                    run.result()
                except RuntimeError as error:
                    progress.console.print(str(error), style="red", markup=False)
                progress.advance(bar)


if __name__ == "__main__":
    main()
