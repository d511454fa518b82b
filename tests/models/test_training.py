"""Training on drawn shards, the real loop: exact resumption, both stages of AAR, warm starts, scores and predictions."""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from itertools import chain

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from drawn_shards import write_dataset
from reactionnet_datasets import ShardDataset
from reactionnet_datasets.command import alone
from reactionnet_datasets.sample import Label
from reactionnet_models import aar, cage, catalogue, eri, evaluate, figures, from_pretrained, predict, train, training
from reactionnet_models import data as data_of
from reactionnet_models.features import FeatureLoader
from reactionnet_models.recipe import Stage
from reactionnet_models.training import Data, Job, StoppedEarlyError, learning_rate_factor, read_history
from reactionnet_models.training import train as run_job

COLUMNS = {"model", "preset", "paper", "table_row", "published", "task", "dataset", "num_parameters", "input_shape"}
CLASSES = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")


def labels(clip: int, frames: range) -> dict[str, Label]:
    """Class by frame, so that colours tell it; some frames are not annotated."""
    named = [CLASSES[frame % 8] if frame % 5 else None for frame in frames]
    valid = ["valid"] * len(frames)
    return {
        "expression": Label(
            space="affectnet8", value=named, mask=["not_annotated" if name is None else "valid" for name in named]
        ),
        "valence": Label(space="va", value=[frame % 8 / 8 for frame in frames], mask=valid),
        "arousal": Label(space="va", value=[-(frame % 8) / 8 for frame in frames], mask=valid),
        **{
            f"au_occ_{au}": Label(space="au_occ", value=[(f // au) % 2 for f in frames], mask=valid)
            for au in (1, 12, 25)
        },
    }


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    names = ("expression", "valence", "arousal", "au_occ_1", "au_occ_12", "au_occ_25")
    return write_dataset(
        tmp_path_factory.mktemp("shards"), [16] * 5, labels=labels, label_names=names, side=36,
        split_of=lambda clip: ("train", "train", "train", "val", "test")[clip],
    )  # fmt: skip


@pytest.fixture(scope="module")
def sounding(tmp_path_factory):
    targets = eri.PRESETS["tiny"].targets
    return write_dataset(
        tmp_path_factory.mktemp("sounding"), [8] * 6, side=32, sound=True, label_names=targets,
        labels=lambda clip, _: {name: Label(space="unit", value=clip / 6, mask="valid") for name in targets},
        split_of=lambda clip: "train" if clip < 4 else "val",
    )  # fmt: skip


def job(module, preset, shards, out, **changed) -> Job:
    given = {
        "val": "val",
        "checkpoint_steps": 1,
        "quiet": True,
        "precision": "32-true",
        "config": module.PRESETS[preset],
        **changed,
    }
    recipe = replace(module.RECIPES[preset], labels=module.labels(given["config"]))
    return Job(module=module, preset=preset, recipe=recipe, data=Data(root=str(shards)), out=out, **given)


def weights(out) -> dict[str, torch.Tensor]:
    return from_pretrained(out).model.state_dict()


@pytest.fixture(scope="module")
def straight(shards, tmp_path_factory):
    """Both stages of AAR, never stopped."""
    out = tmp_path_factory.mktemp("runs") / "straight"
    run_job(job(aar, "tiny", shards, out))
    return out


def test_a_run_stopped_in_mid_epoch_ends_as_one_that_was_not(straight, shards, tmp_path):
    out = tmp_path / "stopped"
    for steps in (5, 15):  # 12 batches an epoch in the first stage, 6 in the second: in the middle of either
        with pytest.raises(StoppedEarlyError, match=f"after {steps} steps"):
            run_job(job(aar, "tiny", shards, out, max_steps=steps))
    summary = run_job(job(aar, "tiny", shards, out))
    ours, theirs = weights(out), weights(straight)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    drop = ("seconds",)
    rows, expected = (
        [{k: v for k, v in row.items() if k not in drop} for row in read_history(o)] for o in (out, straight)
    )
    assert rows == expected and [row["stage"] for row in rows] == ["attention"] + ["relation"] * 3
    assert summary["epochs"] == 4 and set(summary["waiting_for_data"]) == {"attention", "relation"}


@pytest.mark.parametrize(
    ("model", "preset", "schedule", "stops"),
    # 9 steps an epoch; of eri's 1 in each stage, whose rate falls when validation does not improve
    [("cage", "tiny_discrete", "cosine", (9, 20)), ("aar", "tiny_b_net", "plateau", (13, 40))],
)
def test_a_run_stopped_after_an_epoch_goes_on_with_the_next(shards, tmp_path, model, preset, schedule, stops):
    """With no checkpoint since the epoch's own, as where epochs are short."""
    module = catalogue.load_model_module(model)
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    stage = replace(module.RECIPES[preset].stages[0], epochs=5, schedule=schedule, decay=0.5, decay_epochs=1)
    recipe = replace(module.RECIPES[preset], stages=(stage,), monitor="loss", higher_is_better=True)
    given = {"recipe": recipe, "checkpoint_steps": 1000}
    run_job(replace(job(module, preset, shards, whole), **given))
    for steps in stops:
        with pytest.raises(StoppedEarlyError):
            run_job(replace(job(module, preset, shards, parted, max_steps=steps), **given))
    run_job(replace(job(module, preset, shards, parted), **given))
    ours, theirs = weights(parted), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    of_both = [[{**row, "seconds": 0} for row in read_history(out)] for out in (parted, whole)]
    assert of_both[0] == of_both[1] and [row["epoch"] for row in of_both[0]] == [*range(5)]


@pytest.mark.parametrize(("preset", "val"), [("tiny", "val"), ("tiny_audio", "val"), ("tiny_va", "")])
def test_a_run_stopped_behind_a_checkpoint_at_an_epochs_last_step_goes_on(shards, sounding, tmp_path, preset, val):
    """A checkpoint there would hold neither the epoch's validation nor its rate."""
    module, root = (eri, sounding) if preset == "tiny_audio" else (cage if preset == "tiny_va" else aar, shards)
    given = {"recipe": replace(module.RECIPES[preset], start=""), "data": Data(root=str(root))}
    whole = replace(job(module, preset, root, tmp_path / "whole", val=val), **given)
    run_job(whole)
    steps = [row["step"] for row in read_history(whole.out)]
    parted = replace(whole, out=tmp_path / "parted")
    for stop in sorted({*steps, *(step + 1 for step in steps)}):
        with suppress(StoppedEarlyError):
            run_job(replace(parted, max_steps=stop))
    run_job(parted)
    ours, theirs = weights(parted.out), weights(whole.out)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    of_both = [[{**row, "seconds": 0} for row in read_history(one.out)] for one in (parted, whole)]
    assert of_both[0] == of_both[1]


@pytest.mark.parametrize("preset", ["tiny_va", "tiny_discrete"])
def test_a_run_killed_while_it_validates_does_that_again(shards, tmp_path, preset, monkeypatch):
    recipe = cage.RECIPES[preset]
    recipe = replace(recipe, start="", stages=(replace(recipe.stages[0], epochs=2),), keep_last=preset == "tiny_va")
    whole = replace(job(cage, preset, shards, tmp_path / "whole"), recipe=recipe)
    run_job(whole)
    parted = replace(whole, out=tmp_path / "parted")

    def killed(self):
        raise KeyboardInterrupt

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(training.Step, "on_validation_epoch_end", killed)
            with pytest.raises((KeyboardInterrupt, training.SignalledError)):
                run_job(parted)
    run_job(parted)
    ours, theirs = weights(parted.out), weights(whole.out)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert [row["epoch"] for row in read_history(parted.out)] == [0, 1]


def test_a_run_folder_that_was_copied_goes_on_with_what_was_best(shards, tmp_path):
    recipe = cage.RECIPES["tiny_discrete"]
    stage = replace(recipe.stages[0], epochs=4, learning_rate=3e-2)  # of which the first are best
    recipe = replace(recipe, stages=(stage,), monitor="loss", higher_is_better=True)  # so that it is the first for sure
    whole = replace(job(cage, "tiny_discrete", shards, tmp_path / "whole"), recipe=recipe)
    run_job(whole)
    begun = replace(whole, out=tmp_path / "begun")
    with pytest.raises(StoppedEarlyError):
        run_job(replace(begun, max_steps=30))
    shutil.copytree(begun.out, tmp_path / "copy")
    before = (begun.out / "all" / "best.ckpt").read_bytes()
    run_job(replace(begun, out=tmp_path / "copy"))
    ours, theirs = weights(tmp_path / "copy"), weights(whole.out)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (begun.out / "all" / "best.ckpt").read_bytes() == before  # the other folder is left alone


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_a_signal_stops_says_so_and_goes_on(shards, tmp_path, monkeypatch, number):
    """A cluster's SIGTERM is no success."""
    command = ["aar", "tiny_b_net", "--data", str(shards), "--out", str(tmp_path / "run"), "--checkpoint-steps", "1"]

    def told(self, trainer, *_):
        if trainer.global_step == 3:
            os.kill(os.getpid(), number)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background does not hear it
    with monkeypatch.context() as patch:
        patch.setattr(training.StopAt, "on_train_batch_start", told)
        done = CliRunner().invoke(train.app, command)
    signal.signal(signal.SIGINT, before)
    assert done.exit_code == 128 + number
    assert f"stopped by {number.name}; the same command goes on" in done.output
    assert (tmp_path / "run" / "attention" / "last.ckpt").is_file()
    assert CliRunner().invoke(train.app, command).exit_code == 0


def test_a_run_folder_says_what_it_was_made_from(straight, shards):
    run = json.loads((straight / "run.json").read_text())
    assert run["config"]["delta"] == 0.5 and run["versions"]["torch"] == torch.__version__
    assert run["data_digest"] == ShardDataset(shards, split="train").state_dict()["settings"]["content"]
    assert (straight / "curves.png").read_bytes()[:4] == b"\x89PNG"
    card = (straight / "model" / "README.md").read_text()
    assert "library_name: reactionnet" in card and "Adaptive Attention" in card
    assert list(straight.glob("attention/logs/**/metrics.csv")) and list(straight.glob("attention/logs/**/events*"))


def test_another_job_does_not_go_on_with_a_run(straight, shards):
    with pytest.raises(ValueError, match=r"holds another run, which differs in seed \(0\)\."):
        run_job(job(aar, "tiny", shards, straight, seed=1))
    with pytest.raises(ValueError, match=r"which differs in precision \(32-true\)\."):
        run_job(job(aar, "tiny", shards, straight, precision="bf16-mixed"))


def test_a_run_that_never_came_to_a_step_is_replaced(shards, tmp_path):
    """A failed start recommends a setting; the same folder takes it."""
    out = tmp_path / "run"
    recipe = replace(
        aar.RECIPES["tiny_b_net"], stages=(replace(aar.RECIPES["tiny_b_net"].stages[0], schedule="plateau"),)
    )
    for val in ("", "val"):
        given = replace(job(aar, "tiny_b_net", shards, out, val=val), recipe=recipe)
        if not val:
            with pytest.raises(ValueError, match="needs a split that judges"):
                run_job(given)
            assert (out / "run.json").is_file()
    assert run_job(given)["val"] == "val" == json.loads((out / "run.json").read_text())["val"]


def test_a_loss_that_is_no_number_ends_a_run(shards, tmp_path):
    given = job(cage, "tiny_va", shards, tmp_path / "run")
    stage = replace(given.recipe.stages[0], learning_rate=1e30, optimiser="sgd", momentum=0.0)
    with pytest.raises(ValueError, match=r"the loss is (nan|inf).*lower all\.learning_rate \(1e\+30\)"):
        run_job(replace(given, recipe=replace(given.recipe, stages=(stage,), start="")))
    assert not (tmp_path / "run" / "model").exists()


def test_a_stage_of_no_epochs_stays_as_its_start_has_it(straight, shards, tmp_path):
    recipe = aar.RECIPES["tiny"]
    stages = (replace(recipe.stages[0], epochs=0), recipe.stages[1])
    given = replace(
        job(aar, "tiny", shards, tmp_path / "run", start=str(straight), seed=1), recipe=replace(recipe, stages=stages)
    )
    run_job(given)
    ours, theirs = weights(tmp_path / "run"), weights(straight)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if name.startswith("attention"))
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours if name.startswith("relation"))
    with pytest.raises(ValueError, match="attention has 0 epochs: name the run that has its weights with --init"):
        replace(given, start="")
    # relation, which a start otherwise leaves afresh, too
    stages = (recipe.stages[0], replace(recipe.stages[1], epochs=0))
    run_job(replace(given, recipe=replace(recipe, stages=stages), out=tmp_path / "other"))
    ours = weights(tmp_path / "other")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if name.startswith("relation"))


def test_a_stage_of_no_epochs_needs_all_of_its_part(straight, shards, tmp_path):
    run_job(job(aar, "tiny_aa", shards, tmp_path / "first"))
    recipe = aar.RECIPES["tiny"]
    stages = (recipe.stages[0], replace(recipe.stages[1], epochs=0))
    given = job(aar, "tiny", shards, tmp_path / "run", start=str(tmp_path / "first"))
    with pytest.raises(ValueError, match=r"relation has 0 epochs, and .*first has no weights for all of it"):
        run_job(replace(given, recipe=replace(recipe, stages=stages)))


def test_settings_that_leave_out_what_a_stage_trains_are_refused(shards, tmp_path):
    config = replace(aar.PRESETS["tiny"], graph=None)
    with pytest.raises(ValueError, match="stage relation of tiny trains what these settings leave out"):
        run_job(job(aar, "tiny", shards, tmp_path / "run", config=config))


def test_a_checkpoint_that_cannot_be_read_is_named(shards, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(StoppedEarlyError):
        run_job(job(aar, "tiny_b_net", shards, out, max_steps=2))
    (out / "attention" / "last.ckpt").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"last\.ckpt is no checkpoint of a run: delete it"):
        run_job(job(aar, "tiny_b_net", shards, out))


def test_processes_share_what_was_kept_evenly(straight):
    folder = straight / "relation" / "features" / "train"

    def seen(rank: int, num_ranks: int) -> list[bytes]:
        given = {"batch_size": 2, "views": 0, "train": True, "seed": 0, "rank": rank, "num_ranks": num_ranks}
        batches = [*FeatureLoader(folder, aar, **given)]
        assert len(batches) == len(FeatureLoader(folder, aar, **given))
        return [one.numpy().tobytes() for batch in batches for one in batch["feature_BTMC"]]

    whole = seen(0, 1)
    assert len(whole) == 12 and sorted(seen(0, 2) + seen(1, 2)) == sorted(whole)
    of_five = [seen(rank, 5) for rank in range(5)]
    assert [len(one) for one in of_five] == [2] * 5 and len({*chain(*of_five)}) == 10
    with pytest.raises(ValueError, match="12 sequences cannot be shared by 13 processes"):
        seen(0, 13)


def test_nobody_waits_for_a_process_that_has_ended(tmp_path):
    begun, told = tmp_path / "begun", tmp_path / "told"
    (tmp_path / "child.py").write_text(f"""
import pathlib
from reactionnet_models.features import await_features
pathlib.Path({str(begun)!r}).touch()
try:
    await_features(pathlib.Path({str(tmp_path)!r}), {{}})
except RuntimeError as error:
    pathlib.Path({str(told)!r}).write_text(str(error))
""")
    (tmp_path / "parent.py").write_text(f"""
import pathlib, subprocess, sys, time
subprocess.Popen([sys.executable, {str(tmp_path / "child.py")!r}])
while not pathlib.Path({str(begun)!r}).exists():
    time.sleep(0.1)
""")
    subprocess.run([sys.executable, str(tmp_path / "parent.py")], check=True, timeout=120)
    until = time.monotonic() + 60
    while not told.is_file() and time.monotonic() < until:
        time.sleep(0.1)
    assert "has ended" in told.read_text()


@pytest.mark.slow
def test_two_processes_share_training_and_each_judges_all(shards, straight, tmp_path):
    out = tmp_path / "run"
    command = ["aar", "tiny", "--data", str(shards), "--out", str(out), "--devices", "2", "--precision", "32-true"]
    code = "import sys; from reactionnet_models.train import app; app(sys.argv[1:])"
    for steps in (["--max-steps", "4"], []):  # of 6 an epoch in the first stage
        # a file, not -c: Lightning starts it again
        (tmp_path / "main.py").write_text(code)
        done = subprocess.run(
            [sys.executable, str(tmp_path / "main.py"), *command, *steps], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
    rows = read_history(out)
    assert [(row["stage"], row["step"]) for row in rows] == [("attention", 6), *(("relation", n) for n in (3, 6, 9))]
    for name in ("train", "val"):
        kept, expected = (np.load(o / "relation" / "features" / name / "feature_BTMC_0.npy") for o in (out, straight))
        assert kept.shape == expected.shape
    assert json.loads((out / "summary.json").read_text())["epochs"] == 4
    found = evaluate.evaluate(
        from_pretrained(out).model, aar, aar.PRESETS["tiny"], aar.RECIPES["tiny"], Data(root=str(shards)), "val", {}
    )
    assert found["frames"] == 16


def test_two_processes_do_not_train_one_run(straight, shards):
    with alone(straight, "training"), pytest.raises(ValueError, match=f"another training is writing to {straight}"):
        run_job(job(aar, "tiny", shards, straight))
    run_job(job(aar, "tiny", shards, straight))


def test_kept_features_are_what_the_first_stage_computes(straight, shards):
    loaded = from_pretrained(straight)
    kept = np.load(straight / "relation" / "features" / "train" / "feature_BTMC_0.npy")
    stage = aar.RECIPES["tiny"].stages[1]
    dataset = data_of.open_split(aar, loaded.config, aar.RECIPES["tiny"], stage, Data(root=str(shards)), "train")
    items = next(iter(dataset))
    with torch.no_grad():
        found = loaded.model.attention(aar.prepare(items, loaded.config))["feature_BTMC"]
    np.testing.assert_allclose(kept[: len(found)], found.numpy(), atol=1e-5)
    drawn = np.load(straight / "relation" / "features" / "train" / "feature_BTMC_1.npy")
    assert drawn.shape == kept.shape and not np.allclose(drawn, kept)


def test_an_evaluation_does_not_rename_outputs(straight, shards):
    """In another order they fit, and would be scored under each other's names."""
    done = CliRunner().invoke(evaluate.app, [str(straight), "--data", str(shards), "--set", "aus=12,1,25"])
    assert done.exit_code == 2 and "--set aus=12,1,25: the model's outputs stand for something else" in done.output


def test_a_clip_is_judged_and_answered_whole_though_it_is_read_in_windows(straight, shards):
    """Four windows a clip; what the graphs remember goes from each to the next."""
    loaded = from_pretrained(straight)
    stage = replace(aar.RECIPES["tiny"].stages[1], window=0, num_frames=None, batch_size=1)
    (items,) = data_of.open_split(aar, loaded.config, aar.RECIPES["tiny"], stage, Data(root=str(shards)), "test")
    with torch.no_grad():
        whole_TM = loaded.model(aar.prepare(items, loaded.config))["logit_BTM"][0].sigmoid()
        parts = [
            loaded.model(
                aar.prepare(
                    {**items, **{name: items[name][:, k : k + 4] for name in TIMED}, "labels": {}}, loaded.config
                )
            )["logit_BTM"][0].sigmoid()
            for k in range(0, 16, 4)
        ]
    assert not torch.allclose(torch.cat(parts), whole_TM, atol=1e-3)
    table = predict.predict(loaded, str(shards), "test")
    ours_TM = np.stack([table[f"p_au_occ_{au}"].to_numpy() for au in (1, 12, 25)], -1)
    np.testing.assert_allclose(ours_TM, whole_TM.numpy(), atol=1e-5)


TIMED = ("frames", "landmarks49", "frame_mask")


def test_evaluation_prints_both_tables_and_says_how_it_measured(straight, shards, tmp_path):
    result = CliRunner().invoke(evaluate.app, [str(straight), "--data", str(shards), "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "a tie counts as predicted" in result.output and "prior" in result.output
    content = json.loads((tmp_path / "evaluation.json").read_text())
    true, found = [], []
    loaded = from_pretrained(straight)
    recipe = aar.RECIPES["tiny"]
    stage = replace(recipe.stages[1], window=0)
    for items in data_of.open_split(aar, loaded.config, recipe, stage, Data(root=str(shards)), "test"):
        batch = aar.prepare(items, loaded.config)
        with torch.no_grad():
            found.append(loaded.model(batch)["logit_BTM"].flatten(0, 1) >= 0)
        true.append(batch["au_BTM"].flatten(0, 1) > 0.5)
    found, true = torch.cat(found), torch.cat(true)
    both = (found & true).sum(0)
    f1 = (2 * both / (found.sum(0) + true.sum(0)).clamp(min=1)).tolist()
    assert len(true) == 16
    assert [content["scores"][f"f1_au{au}"] for au in (1, 12, 25)] == pytest.approx(f1)
    share = true.float().mean(0)
    assert content["prior"]["f1"] == pytest.approx(float((2 * share / (1 + share)).mean()))
    assert (tmp_path / "action_units.png").is_file()


def test_prediction_has_a_row_a_frame_and_the_models_numbers(straight, shards, tmp_path):
    result = CliRunner().invoke(predict.app, [str(straight), str(shards), "--split", "test", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    table = pq.read_table(tmp_path / "predictions.parquet")
    assert table["frame"].to_pylist() == list(range(16))
    loaded = from_pretrained(straight)
    dataset = ShardDataset(shards, split="test", fields=("frames", "landmarks49"), window=4, stride=4, batch_size=1)
    with torch.no_grad():
        batch = aar.prepare(next(iter(dataset)), loaded.config)
        expected = loaded.model(batch)["logit_BTM"][0, :, 1].sigmoid()
    assert table["p_au_occ_12"].to_pylist()[:4] == pytest.approx(expected.tolist(), abs=1e-5)
    assert list(tmp_path.glob("*.png"))


def test_prediction_draws_what_the_model_looks_at(straight, shards, tmp_path):
    call = [str(straight), str(shards), "--split", "test", "--out", str(tmp_path), "--attention-s", "0.3"]
    result = CliRunner().invoke(predict.app, call)
    assert result.exit_code == 0 and "2 faces with attention" in result.output.replace("\n", " "), result.output
    # 16 frames of 0.04 s: the first, and the first that is 0.3 s later
    assert sorted(path.name[-10:] for path in tmp_path.glob("*-attention-*.png")) == ["000000.png", "000008.png"]
    result = CliRunner().invoke(predict.app, [*call[:-3], str(tmp_path / "none"), "--attention-s", "0"])
    assert result.exit_code == 0 and not list((tmp_path / "none").glob("*-attention-*"))


def test_attention_is_drawn_where_the_map_is_high(tmp_path):
    face, maps = np.full((40, 40, 3), 0.2), np.zeros((2, 10, 10))
    maps[0, 7:, :3] = 1  # bottom left
    figures.draw_attention(face, maps, ["AU1 0.25", "AU2 0.75"], "clip, frame 3", tmp_path / "drawn.png")
    picture = np.asarray(Image.open(tmp_path / "drawn.png").convert("RGB")).astype(int)
    height, width = picture.shape[:2]
    third = width // 3
    bright = (picture[..., 0] > 200) & (picture[..., 2] < 190)  # the colour of 1
    rows, columns = np.nonzero(bright)
    assert len(rows) > 200 and third < columns.min() and columns.max() < 1.5 * third and rows.min() > height / 2


def test_prediction_takes_a_folder_of_pictures_of_any_size(straight, shards, tmp_path):
    faces = tmp_path / "faces"
    faces.mkdir()
    for name, side in (("ann", 40), ("bob", 56)):
        Image.new("RGB", (side, side + 8), (side, 90, 120)).save(faces / f"{name}.png")
    run_job(job(cage, "tiny_discrete", shards, tmp_path / "run", val="", checkpoint_steps=100))
    result = CliRunner().invoke(predict.app, [str(tmp_path / "run"), str(faces), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    table = pq.read_table(tmp_path / "out" / "predictions.parquet")
    assert sorted(table["clip"].to_pylist())[0].startswith("ann") and table.num_rows == 2
    total = sum(np.asarray(table[f"p_{name}"]) for name in CLASSES)
    np.testing.assert_allclose(total, 1, atol=1e-5)
    assert len(list((tmp_path / "out").glob("*.png"))) == 2


def test_a_recipe_may_keep_the_last_epoch_and_only_watch_the_others(shards, tmp_path):
    watched = job(cage, "tiny_discrete", shards, tmp_path / "watched", checkpoint_steps=100)
    watched = replace(watched, recipe=replace(watched.recipe, keep_last=True))
    assert run_job(watched)["chosen_by"] == "the last epoch"
    assert all("val_f1" in row for row in read_history(watched.out))
    assert not list(watched.out.rglob("best.ckpt"))
    blind = run_job(job(cage, "tiny_discrete", shards, tmp_path / "blind", val="", checkpoint_steps=100))
    assert blind["chosen_by"] == "the last epoch"
    assert all(torch.equal(value, weights(watched.out)[name]) for name, value in weights(tmp_path / "blind").items())


@pytest.mark.parametrize(("given", "told"), [([], "the last epoch"), (["--val", "val"], "best f1 on val")])
def test_a_split_that_is_named_chooses(shards, tmp_path, monkeypatch, given, told):
    monkeypatch.setitem(
        cage.RECIPES, "tiny", replace(cage.RECIPES["tiny"], keep_last=True, monitor="f1", higher_is_better=True)
    )
    command = [
        "cage",
        "tiny",
        "--data",
        str(shards),
        "--out",
        str(tmp_path / "run"),
        "--set",
        "all.epochs=1",
        "-q",
        *given,
    ]
    result = CliRunner().invoke(train.app, command)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "run" / "summary.json").read_bytes())["chosen_by"] == told


@pytest.mark.slow
def test_prediction_takes_a_video(straight, shared, tmp_path):
    video = shared / "reaction_videos" / "pub02_pip_bottom_right.mp4"
    result = CliRunner().invoke(predict.app, [str(straight), str(video), "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    table = pq.read_table(tmp_path / "predictions.parquet")
    assert table.num_rows > 100 and table["p_au_occ_12"].null_count < table.num_rows
    assert len(list(tmp_path.glob("*-attention-*.png"))) >= table["t_s"].to_numpy().max() / 2.0 / 2  # where a face is


def test_models_need_no_trainer_to_be_imported():
    code = (
        "import sys; import reactionnet_models, reactionnet_models.aar, reactionnet_models.cage; "
        "print([name for name in ('lightning', 'torchmetrics', 'transformers', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_valence_arousal_starts_from_the_combined_run_on_a_balanced_subset(shards, tmp_path):
    command = ["cage", "tiny", "--data", str(shards), "-q", "--set", "all.epochs=1", "--set", "class_weights=inverse"]
    result = CliRunner().invoke(train.app, [*command, "--out", str(tmp_path / "combined")])
    assert result.exit_code == 0, result.output
    start = weights(tmp_path / "combined")
    changed = job(cage, "tiny_va", shards, tmp_path / "va", start=str(tmp_path / "combined"), val="", seed=3)
    stage = replace(changed.recipe.stages[0], balanced=True, epochs=1, learning_rate=1e-12, weight_decay=0.0)
    run_job(replace(changed, recipe=replace(changed.recipe, stages=(stage,))))
    ended = weights(tmp_path / "va")
    for name in ("head.0.weight", "head.1.weight", "encoder.layers.0.weight"):
        torch.testing.assert_close(ended[name], start[name], atol=1e-6, rtol=0)
    # 48 training frames: each class 6 times, less every fifth frame; the rarest decides
    counts = [sum(1 for f in range(16) if f % 8 == k and f % 5) * 3 for k in range(8)]
    assert read_history(tmp_path / "va")[-1]["step"] == -(-min(counts) * 8 // 4)
    result = CliRunner().invoke(evaluate.app, [str(tmp_path / "combined"), "--data", str(shards)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "combined" / "evaluation" / "confusion.png").is_file() and "weighted avg" in result.output


def test_a_balanced_subset_has_as_many_of_each_and_is_the_same_for_a_seed():
    index = np.array([0] * 10 + [1] * 4 + [2] * 7 + [1])
    mask = np.arange(22) != 21
    chosen = data_of.balanced_subset(index, mask, seed=0)
    assert np.bincount(index[chosen]).tolist() == [4, 4, 4] and 21 not in chosen
    assert (chosen == data_of.balanced_subset(index, mask, seed=0)).all()
    assert (chosen != data_of.balanced_subset(index, mask, seed=1)).any()


def test_both_readings_of_cages_schedule():
    words = Stage(batch_size=128, epochs=20, schedule="cosine")
    code = Stage(batch_size=128, epochs=20, schedule="cosine_wave")
    wave, fall = (learning_rate_factor(stage, 2248) for stage in (code, words))
    assert [wave(step) for step in (0, 1280, 2560, 5120)] == pytest.approx([1, 0.5, 0, 1])
    assert [fall(step) for step in (0, 10 * 2248, 20 * 2248)] == pytest.approx([1, 0.5, 0])
    stepped = learning_rate_factor(Stage(schedule="step"), 100)
    assert [stepped(step) for step in (199, 200, 400)] == pytest.approx([1, 0.3, 0.09])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cagee", "tiny", "--data", "x"], "no model is called 'cagee'; did you mean cage"),
        (["aar", "smal", "--data", "x"], "did you mean small"),
        (["aar", "tiny", "--data", "nowhere"], "nowhere"),
        (["aar", "tiny", "--data", "x", "--set", "delat=3"], "did you mean delta"),
        (["aar", "tiny", "--data", "x", "--set", "attention.epochs=-1"], "epochs is -1"),
        (["aar", "tiny", "--data", "x", "--set", "attention.betas=0.9"], "betas are (0.9,); expected two"),
        (["aar", "tiny", "--data", "x", "--set", "attention.part=relation"], "no setting is called 'part'"),
        (["cage", "small_va", "--data", "x"], "name its run with --init, or --init none"),
        (["aar", "bp4d", "--data", "x"], "name one with --fold"),
        (["aar", "tiny", "--data", "x", "--set", "delta=wide"], "delta=wide: expected float"),
        (["aar", "tiny", "--data", "x", "--set", "delta"], "expected key=value"),
        (["aar", "tiny", "--data", "x", "--set", "attentoin.epochs=2"], "no stage is called 'attentoin'"),
        (["cage", "tiny"], "name the shards with --data"),
        (["cage", "tiny", "--data", "x", "--fold", "3"], "this preset has no folds: leave --fold 3 out"),
        (["cage", "tiny", "--data", "x", "--sweep", "alpha=1,2", "--val", "none"], "needs a split that judges"),
        (
            ["cage", "tiny", "--data", "x", "--val", "none", "--precision", "bf16-true"],
            "precision 'bf16-true'; expected auto",
        ),
    ],
)
def test_a_slip_is_one_line_and_exit_code_2(arguments, message):
    result = CliRunner().invoke(train.app, arguments)
    assert result.exit_code == 2 and message in result.output and "Traceback" not in result.output


def test_a_preset_is_described_by_what_is_built():
    row = catalogue.describe(aar, "disfa")
    assert (row["num_parameters"], row["input_shape"], row["published"]["f1"]) == (5_616_952, [3, 176, 176], 0.642)
    assert (row["model"], row["table_row"], row["dataset"]) == ("aar", "Table III, AAR", "disfa")
    assert set(row) == COLUMNS


@pytest.mark.slow
def test_the_list_has_every_preset_of_every_model():
    rows = json.loads(CliRunner().invoke(train.app, ["--list", "--json"]).output)
    assert all(set(row) == COLUMNS for row in rows)
    found = {(row["model"], row["preset"]): row for row in rows}
    assert len(found) == len(list(catalogue.all_presets()))
    assert found["cage", "affectnet8_maxvit_combined"]["input_shape"] == [3, 224, 224]


def test_a_model_is_had_by_its_name_on_the_hub(straight, tmp_path, monkeypatch):
    """As the hub's own library keeps what was fetched; asking a hub that does not answer is an error with the name."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(ValueError, match="someone/faces is neither a folder nor a model that the hub gives us"):
        from_pretrained("someone/faces")
    kept, commit = tmp_path / "models--someone--faces", "0" * 40
    shutil.copytree(straight / "model", kept / "snapshots" / commit)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(commit)
    found, ours = from_pretrained("someone/faces").model.state_dict(), weights(straight)
    assert all(torch.equal(found[name], ours[name]) for name in ours)


def test_half_precision_trains_and_keeps_whole_weights(shards, tmp_path):
    out = tmp_path / "run"
    run_job(job(cage, "tiny_discrete", shards, out, val="", checkpoint_steps=100, precision="bf16-mixed"))
    plain = tmp_path / "plain"
    run_job(job(cage, "tiny_discrete", shards, plain, val="", checkpoint_steps=100))
    ours, theirs = weights(out), weights(plain)
    assert all(value.dtype == theirs[name].dtype and value.isfinite().all() for name, value in ours.items())
    moved = ours["head.1.weight"] - theirs["head.1.weight"]
    assert moved.any() and float(moved.abs().max()) < 0.05


def test_features_are_made_in_the_precision_of_the_run(shards, tmp_path):
    out = tmp_path / "run"
    made = []
    for precision in ("32-true", "bf16-mixed"):
        run_job(job(aar, "tiny", shards, out / precision, precision=precision))
        made.append(np.load(out / precision / "relation" / "features" / "val" / "feature_BTMC_0.npy"))
    assert made[1].dtype == np.float32 and not np.array_equal(made[0], made[1])
    assert np.array_equal(made[1], torch.from_numpy(made[1]).bfloat16().float().numpy())


@pytest.mark.parametrize(
    ("known", "bf16_s", "found"),
    [
        ({"avx512_bf16": True}, 0.5, "bf16-mixed"),
        ({"amx_bf16": True}, 0.1, "bf16-mixed"),
        ({"avx512_bf16": True}, 2.0, "32-true"),  # instructions for it that are no gain
        ({}, 0.5, "32-true"),
    ],
)
def test_auto_precision_is_what_the_processor_multiplies_faster(known, bf16_s, found, shards, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    monkeypatch.setattr(training, "seconds_of_product", lambda dtype: bf16_s if dtype == torch.bfloat16 else 1.0)
    training.is_faster_in_bf16.cache_clear()
    asked = job(cage, "tiny_discrete", shards, tmp_path, precision="auto")
    assert asked.lightning_precision == found
    assert replace(asked, precision="32-true").lightning_precision == "32-true"
    training.is_faster_in_bf16.cache_clear()


def test_a_product_takes_some_time_in_either_precision():
    assert all(0 < training.seconds_of_product(dtype) < 1 for dtype in (torch.float32, torch.bfloat16))


def test_a_run_goes_on_in_the_precision_that_it_began_with(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "is_faster_in_bf16", lambda: True)
    first = job(cage, "tiny_discrete", shards, tmp_path / "run", precision="auto", max_steps=1)
    with pytest.raises(StoppedEarlyError):
        run_job(first)
    monkeypatch.setattr(training, "is_faster_in_bf16", lambda: False)  # as on another machine
    assert run_job(replace(first, max_steps=-1))["precision"] == "bf16-mixed"


def test_a_checkpoint_that_could_run_code_is_refused(straight, tmp_path):
    with pytest.raises(ValueError, match="refused: such checkpoints can run code"):
        from_pretrained(straight / "attention" / "end.ckpt")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_bytes((straight / "model" / "config.json").read_bytes())
    torch.save({"weight": torch.zeros(1)}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin is refused"):
        from_pretrained(folder)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_the_command_keeps_the_memory_that_a_step_frees():
    steps = """
import resource, sys, torch
from reactionnet_models.train import keep_freed_memory
if sys.argv[1:]:
    keep_freed_memory()
def step():
    kept = [torch.ones(1 << 20) for _ in range(8)]  # 4 MiB each
for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    mapped = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # or glibc, too, keeps some, by where they lie
    given_back, kept = (
        int(subprocess.run([sys.executable, "-c", steps, *word], env=mapped, capture_output=True, check=True).stdout)
        for word in ([], ["keep"])
    )
    assert kept * 10 < given_back, (kept, given_back)
