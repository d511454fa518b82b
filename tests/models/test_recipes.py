"""Every published preset of CAGE and AAR from the release of its data set to the paper's row, by the commands.

Real importer, real recipe (labels, rules, protocol, fold, fields, stages); the network alone is tiny.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from checks import run_import
from fake import trainable
from fake.affwild2 import write_abaw6
from fake.printed import draw
from fake.rafdb import write_rafdb
from reactionnet_datasets import import_cli
from reactionnet_datasets.doctor import published_frames
from reactionnet_models import aar, cage, evaluate, predict, pretrained
from reactionnet_models.data import Data, open_split
from reactionnet_models.train import judging_split
from recipe_checks import call, judged, run, untrained


def imported(name: str, folder: Path, shared: Path | None = None) -> Path:
    """Shards of a release, made by the command. Where faces are shown, landmarks are found in them."""
    write = getattr(trainable, f"write_{name}")
    root = write(folder / "release", *([] if shared is None else [shared]))
    given = ["--landmarks", "dlib"] if shared is not None else []
    given += ["--partition", root / "partition.csv"] if name == "gft" else []
    call(import_cli.app, name, root, folder / "shards", "--workers", 1, "-q", *given)
    return folder / "shards"


@pytest.fixture(scope="module")
def affectnet(tmp_path_factory) -> Path:
    return imported("affectnet", tmp_path_factory.mktemp("affectnet"))


@pytest.fixture(scope="module")
def emotic(tmp_path_factory) -> Path:
    return imported("emotic", tmp_path_factory.mktemp("emotic"))


@pytest.fixture(scope="module")
def disfa(tmp_path_factory) -> Path:
    return imported("disfa", tmp_path_factory.mktemp("disfa"))


def test_disfa_from_its_release_to_the_papers_row(disfa, tmp_path):
    """AAR's both stages, from a model of BP4D; landmarks are the release's 66."""
    start = untrained("aar", "bp4d", tmp_path / "bp4d")
    out = run("aar", "disfa", disfa, tmp_path / "run", "--init", start)
    content = judged("aar", "disfa", out, disfa)
    assert content["each"][0]["frames"] == 8  # SN003, the part that fold 1 tests
    # occurrence is intensity >= 2: what never looks answers "always", whose F1 follows from the rates
    rates = [sum(trainable.code(2, frame, au) for frame in range(8)) / 8 for au in aar.DISFA_AUS]
    expected = [2 * rate / (1 + rate) for rate in rates]
    found = [content["prior"][f"f1_au{au}"] for au in aar.DISFA_AUS]
    assert found == pytest.approx(expected)


def test_runs_of_several_folds_are_averaged(disfa, tmp_path):
    runs = [str(untrained("aar", "disfa", tmp_path / f"fold{fold}", fold=fold, rates={})) for fold in (1, 2, 3)]
    text = call(evaluate.app, *runs, "--data", disfa, "--out", tmp_path / "mean")
    assert "mean of 3 folds" in text.replace("\n", " ")
    content = json.loads((tmp_path / "mean" / "evaluation.json").read_text())
    alone = [call(evaluate.app, run, "--data", disfa) and run for run in runs]
    each = [json.loads((Path(run) / "evaluation" / "evaluation.json").read_text())["scores"] for run in alone]
    assert each[0] != each[1], "another fold tests another subject"
    for name, value in content["scores"].items():
        assert value == pytest.approx(sum(scores[name] for scores in each) / 3)
    result = CliRunner().invoke(evaluate.app, [runs[0], "--data", str(disfa), "--fold", "4"])
    assert result.exit_code == 2 and "disfa-3fold has no fold 4; it has 1, 2, 3" in result.output


def test_affectnet_from_its_release_to_the_papers_row(affectnet, tmp_path):
    """CAGE's two stages: the second starts from the first, on as many of each class."""
    combined = run("cage", "affectnet7_maxvit_combined", affectnet, tmp_path / "combined")
    content = judged("cage", "affectnet7_maxvit_combined", combined, affectnet)
    assert content["each"][0]["frames"] == 16
    out = run("cage", "affectnet7_maxvit_va", affectnet, tmp_path / "va", "--init", combined)
    judged("cage", "affectnet7_maxvit_va", out, affectnet)


def by_key(shards: Path, split: str, column: str) -> dict:
    rows = published_frames(shards).to_pylist()
    return {row["key"]: row[column] for row in rows if row["split_all"] == split and row[f"{column}_mask"] == "valid"}


def test_a_model_is_judged_on_other_data_sets_by_name_and_scale(affectnet, emotic, tmp_path):
    """AffectNet to EMOTIC, as CAGE's authors tried (valence of 1 to 10, nobody's expression), and to RAF-DB (no valence)."""
    out = run("cage", "affectnet7_maxvit_combined", affectnet, tmp_path / "run")
    text = call(evaluate.app, out, "--data", emotic, "--split", "test", "--set", "box=true", "--out", tmp_path / "on")
    assert "not measured: expression" in text.replace("\n", " ")
    content = json.loads((tmp_path / "on" / "evaluation.json").read_text())
    loaded = pretrained.from_pretrained(out)
    table = predict.predict(replace(loaded, config=replace(loaded.config, box=True)), str(emotic), "test")
    found = dict(zip(table["key"].to_pylist(), table["valence"].to_pylist(), strict=True))
    true = by_key(emotic, "test", "valence")
    errors = [found[key] - (value - 5.5) / 4.5 for key, value in true.items()]
    assert len(errors) == 8
    assert content["scores"]["mse_valence"] == pytest.approx(sum(e * e for e in errors) / 8, rel=1e-4)
    assert content["scores"]["f1"] is None

    shards = tmp_path / "rafdb"
    call(import_cli.app, "rafdb", write_rafdb(tmp_path / "release"), shards, "--workers", 1, "-q")
    call(evaluate.app, out, "--data", shards, "--split", "test", "--out", tmp_path / "on2")
    content = json.loads((tmp_path / "on2" / "evaluation.json").read_text())
    assert set(content["labels_not_there"]) == {"valence", "arousal"} and content["scores"]["rmse"] is None
    true = by_key(shards, "test", "expression")
    rows = [row for row in predict.predict(loaded, str(shards), "test").to_pylist() if row["key"] in true]
    names = cage.classes_of("affectnet7")
    hits = [max(names, key=lambda name: row[f"p_{name}"]) == true[row["key"]] for row in rows]
    assert len(hits) == 3 and content["scores"]["accuracy"] == pytest.approx(sum(hits) / 3)

    for settings, message in (
        ("c=3", "no setting is called 'c'"),
        ("encoder=swin_v2_t", "another network"),
        ("all.epochs=2", "of training"),
    ):
        result = CliRunner().invoke(evaluate.app, [str(out), "--data", str(affectnet), "--set", settings])
        assert result.exit_code == 2 and message in result.output
    result = CliRunner().invoke(evaluate.app, [str(out), "--data", str(affectnet), "--split", "test"])
    assert result.exit_code == 2 and "has no split 'test'; it has" in result.output


CAGE_TABLES = [name for name in cage.PRESETS if name.startswith("affectnet") and cage.RECIPES[name].published]
SWIN = [name for name in cage.PRESETS if "swin" in name]


@pytest.mark.slow
@pytest.mark.parametrize("preset", [*CAGE_TABLES, *SWIN])
def test_every_preset_of_affectnet(preset, affectnet, tmp_path):
    start = cage.RECIPES[preset].start
    more = ["--init", str(untrained("cage", start, tmp_path / "start"))] if start else []
    judged("cage", preset, run("cage", preset, affectnet, tmp_path / "run", *more), affectnet)


@pytest.mark.slow
def test_emotic_sees_one_persons_box_at_a_time(emotic, tmp_path):
    preset = "emotic_maxvit_combined"
    start = untrained("cage", "affectnet8_maxvit_combined", tmp_path / "start")
    out = run("cage", preset, emotic, tmp_path / "run", "--init", str(start))
    content = judged("cage", preset, out, emotic)
    assert content["each"][0]["frames"] == 8 and content["scores"]["top3_any"] is not None
    config = pretrained.from_pretrained(out).config
    # positives weigh the inverse of how often each category is true among the 30 who were trained on
    first = [trainable.CATEGORIES[index % 26] for index in range(30)]
    second = [trainable.CATEGORIES[(index * 7 + 3) % 26] for index in range(30)]
    times = sum("Affection" in pair for pair in zip(first, second, strict=True))
    assert config.class_weights[0] == pytest.approx(30 / times)
    dataset = open_split(
        cage, config, cage.RECIPES[preset], cage.RECIPES[preset].stages[0], Data(root=str(emotic)), "test"
    )
    batch = next(iter(dataset))
    whole = draw("test_0.jpg", 64, 48)
    for person, left in enumerate((8, 32)):  # both are of one picture
        place = next(n for n, key in enumerate(batch["key"]) if key.endswith(f"test_5f0-{person}-000000"))
        picture = batch["frames"][place, 0].float().mean(0).numpy()
        box = Image.fromarray(whole[4:44, left : left + 20]).resize((32, 32), Image.Resampling.BILINEAR)
        assert np.abs(picture - np.asarray(box, float)).mean() < 12


@pytest.fixture(scope="module")
def bp4d(tmp_path_factory, shared) -> Path:
    return imported("bp4d", tmp_path_factory.mktemp("bp4d"), shared)


@pytest.mark.slow
def test_disfa_starts_from_a_run_on_bp4d(bp4d, disfa, tmp_path):
    start = run("aar", "bp4d", bp4d, tmp_path / "bp4d")
    judged("aar", "bp4d", start, bp4d)
    judged("aar", "disfa", run("aar", "disfa", disfa, tmp_path / "disfa", "--init", str(start)), disfa)


@pytest.mark.slow
@pytest.mark.parametrize("preset", [name for name in aar.PRESETS if name.startswith("bp4d_")])
def test_every_ablation_on_bp4d(preset, bp4d, tmp_path):
    judged("aar", preset, run("aar", preset, bp4d, tmp_path / "run"), bp4d)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "frames"), [("gft", 6), ("affwild2", 5)])
def test_gft_and_affwild2_on_their_official_splits(name, frames, tmp_path, shared):
    shards = imported(name, tmp_path, shared)
    content = judged("aar", name, run("aar", name, shards, tmp_path / "run"), shards)
    assert content["each"][0]["frames"] == frames
    chosen = json.loads((tmp_path / "run" / "summary.json").read_text())["chosen_by"]
    assert chosen == ("best f1 on val" if name == "affwild2" else "the last epoch")


def test_a_tasks_own_validation_set_chooses_the_epoch(affectnet, disfa, tmp_path):
    run_import("affwild2", write_abaw6(tmp_path / "release"), tmp_path / "shards")
    root = str(tmp_path / "shards")
    assert judging_split(Data(root=root, task="au")) == judging_split(Data(root=root, task="va")) == "val"
    assert judging_split(Data(root=str(affectnet))) == "val"
    assert judging_split(Data(root=str(disfa), protocol="disfa-3fold", fold=1)) == ""
    assert judging_split(Data(root=str(disfa))) == "" and judging_split(Data(root=root, task="emi")) == ""
