"""Every published preset of ERI, ABAW6 and DRR from the release of its data set to the paper's row, by the commands.

As `test_recipes` does for CAGE and AAR: real importer, real recipe, a tiny network.
"""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fake import trainable, trainable_dyads
from reactionnet_datasets import import_cli
from reactionnet_models import abaw6, catalogue, challenge, drr, eri, train
from recipe_checks import call, judged, run, untrained


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Shards of a data set, imported once."""
    made: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            write = getattr(trainable_dyads, f"write_{name}", None) or getattr(trainable, f"write_{name}")
            importer = "hume_reaction" if name == "muse" else name
            more = ["--annotations", "annotations"] if name == "c_expr_db" else []
            call(import_cli.app, importer, write(folder / "release"), folder / "shards", "--workers", 1, "-q", *more)
            made[name] = folder / "shards"
        return made[name]

    return of


def check(model: str, preset: str, root: Path, tmp_path: Path) -> Path:
    """From shards to the paper's row. Returns the run."""
    recipe = catalogue.load_model_module(model).RECIPES[preset]
    more = ["--init", untrained(model, recipe.start, tmp_path / "start")] if recipe.start else []
    more += ["--val", recipe.judge] if recipe.judge else []
    out = run(model, preset, root, tmp_path / "run", *map(str, more))
    judged(model, preset, out, root)
    return out


def test_eri_from_its_release_to_the_papers_row(shards, tmp_path):
    check("eri", "fused", shards("hume_reaction"), tmp_path)


def test_drr_from_its_release_to_the_papers_row(shards, tmp_path):
    check("drr", "um_bu3dfe", shards("bu3dfe"), tmp_path)


def test_data_without_a_stimulus_are_refused_where_it_is_looked_at(shards, tmp_path):
    given = ["drr", "mm_bu3dfe", "--data", str(shards("bu3dfe")), "--fold", "1", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(train.app, given)
    assert result.exit_code == 2 and "holds no picture of it" in result.output


@pytest.mark.slow
@pytest.mark.parametrize("preset", [name for name in eri.PRESETS if eri.RECIPES[name].published])
def test_every_preset_of_eri(preset, shards, tmp_path):
    check("eri", preset, shards("muse" if preset.startswith("baseline") else "hume_reaction"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset", [name for name in abaw6.PRESETS if abaw6.RECIPES[name].table_row and name not in ("pretrain_large", "emi_lora")]
)  # fmt: skip
def test_every_preset_of_abaw6(preset, shards, tmp_path):
    check("abaw6", preset, shards(abaw6.RECIPES[preset].dataset), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("preset", [name for name in drr.PRESETS if drr.RECIPES[name].dataset == "reactionnet"])
def test_every_preset_of_drr_on_reactionnet(preset, shards, tmp_path):
    check("drr", preset, shards("reactionnet"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset", [name for name in drr.PRESETS if drr.RECIPES[name].table_row.startswith("Table 2") and name[:2] != "mm"]
)  # fmt: skip
def test_every_preset_of_drr_on_other_data(preset, shards, tmp_path):
    check("drr", preset, shards(drr.RECIPES[preset].dataset), tmp_path)


@pytest.mark.slow
def test_a_run_on_compound_expressions_gives_the_challenges_file(shards, tmp_path):
    root = shards("c_expr_db")
    out = check("abaw6", "ce", root, tmp_path)
    template = root.parent / "release" / "CVPR_6th_ABAW_CE_test_set_sample.txt"
    call(challenge.app, out, "--data", root, "--out", tmp_path / "p.txt", "--template", template, "-q")
    lines, asked = ((tmp_path / "p.txt").read_text().splitlines(), template.read_text().splitlines())
    assert [line.split(",")[0] for line in lines] == [line.split(",")[0] for line in asked]
    assert all(line.split(",")[1] in "0123456" for line in lines[1:])
