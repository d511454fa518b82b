"""Training of ERI, ABAW6 and DRR on drawn shards with stimuli, sound and captions: the real loop, stage by stage."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from drawn_shards import write_dataset
from reactionnet_datasets import Augment, ShardDataset
from reactionnet_datasets.sample import Label
from reactionnet_models import abaw6, drr, eri, evaluate, from_pretrained, predict, train
from reactionnet_models import data as data_of
from reactionnet_models.data import Data
from reactionnet_models.recipe import Stage
from reactionnet_models.training import Job, learning_rate_factor, read_history
from reactionnet_models.training import train as run_job

SPLITS = ("train", "train", "train", "train", "val", "test")
AUS = abaw6.PRESETS["tiny"].aus
EXPRESSIONS = ("neutral", "happiness", "sadness")
SCENES = ("pet", "race", "slime")


def labels(clip: int, frames: range) -> dict[str, Label]:
    valid = ["valid"] * len(frames)
    return {
        **{f"au_occ_{au}": Label(space="au_occ", value=[(f // 3 + au) % 2 for f in frames], mask=valid) for au in AUS},
        "expression": Label(space="affectnet8", value=[EXPRESSIONS[f % 3] for f in frames], mask=valid),
        "sub_scene": Label(space="sub_scene", value=SCENES[clip % 3], mask="valid"),
        **{name: Label(space="unit", value=(clip + n) % 5 / 5, mask="valid") for n, name in enumerate(eri.TARGETS[:3])},
    }


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    names = (*(f"au_occ_{au}" for au in AUS), "expression", "sub_scene", *eri.TARGETS[:3])
    return write_dataset(
        tmp_path_factory.mktemp("dyads"), [8] * 6, labels=labels, label_names=names, side=32, stimulus=True, sound=True,
        split_of=lambda clip: SPLITS[clip],
        of_clip=lambda clip: {"captions": [{"decoding": "human", "text": f"a {SCENES[clip % 3]}"}]},
    )  # fmt: skip


def run(module, preset, shards, out, config=None, **changed) -> dict:
    config = config or module.PRESETS[preset]
    recipe = replace(module.RECIPES[preset], labels=module.labels(config))
    given = {"val": "val", "checkpoint_steps": 50, "quiet": True, "precision": "32-true", **changed}
    data = Data(root=str(shards))
    return run_job(Job(module=module, preset=preset, config=config, recipe=recipe, data=data, out=out, **given))


def judge(out, shards, **changed) -> dict:
    loaded = from_pretrained(out)
    recipe = replace(loaded.module.RECIPES[loaded.preset], labels=loaded.module.labels(loaded.config), **changed)
    rates = loaded.details["rates"]
    return evaluate.evaluate(loaded.model, loaded.module, loaded.config, recipe, Data(root=str(shards)), "test", rates)


def test_eri_trains_both_branches_and_their_fusion(shards, tmp_path):
    run(eri, "tiny", shards, tmp_path / "eri")
    assert [row["stage"] for row in read_history(tmp_path / "eri")] == ["audio"] * 2 + ["video"] * 2 + ["fusion"] * 2
    kept = tmp_path / "eri" / "fusion" / "features" / "train"
    model = from_pretrained(tmp_path / "eri").model
    loaded = from_pretrained(tmp_path / "eri")
    dataset = data_of.open_split(
        eri, loaded.config, eri.RECIPES["tiny"], eri.RECIPES["tiny"].stages[2], Data(root=str(shards)), "train"
    )
    items = next(iter(dataset))
    batch = eri.prepare(items, loaded.config)
    with torch.no_grad():
        audio, video = model.audio(batch)["audio_BTC"], model.video(batch)["video_BTC"]
    np.testing.assert_allclose(np.load(kept / "audio_BTC_0.npy")[: len(audio)], audio, atol=1e-5)
    np.testing.assert_allclose(np.load(kept / "video_BTC_0.npy")[: len(video)], video, atol=1e-5)
    assert np.load(kept / "heard_B.npy").all() and np.load(kept / "frame_mask_BT.npy").shape == (4, 4)
    table = predict.predict(loaded, str(shards), "test")
    assert table.num_rows == 4 and len(set(table["eri_adoration"].to_pylist())) == 1  # one answer a clip
    assert loaded.details["windows"] == {"window": 0, "stride": 1, "num_frames": 4}
    fewer = replace(loaded, details={**loaded.details, "windows": {"num_frames": 3}})
    assert predict.predict(fewer, str(shards), "test").num_rows == 3  # as it was trained, whatever the preset says


def test_abaw6_starts_from_its_pretraining(shards, tmp_path):
    run(abaw6, "tiny_pretrain", shards, tmp_path / "mae")
    found = read_history(tmp_path / "mae")
    assert len(found) == 2 and all(np.isfinite(row["val_loss"]) for row in found)
    restored = judge(tmp_path / "mae", shards)
    assert restored["frames"] == 8 and restored["scores"]["l2"] > 0
    config = replace(abaw6.PRESETS["tiny_au"], weighted=False)
    run(abaw6, "tiny_au", shards, tmp_path / "au", config, start=str(tmp_path / "mae"))
    assert [row["stage"] for row in read_history(tmp_path / "au")] == ["encoders"] * 2 + ["fusion"] * 2
    assert (tmp_path / "au" / "fusion" / "features" / "train" / "sound_BC_0.npy").is_file()
    scores = judge(tmp_path / "au", shards)
    assert set(scores["scores"]) == {"f1", "average_precision", *(f"f1_au{au}" for au in AUS)} and scores["frames"] == 8


def test_drr_counts_relations_and_rates_and_does_three_tasks(shards, tmp_path):
    config = replace(
        drr.PRESETS["tiny_dyadic"], text="words", relations=None, weighted=True, classes="affectnet8", scenes=SCENES,
        aus=AUS[:4], rates_fer=(1 / 8,) * 8,
    )  # fmt: skip
    run(drr, "tiny_dyadic", shards, tmp_path / "drr", config)
    loaded = from_pretrained(tmp_path / "drr")
    # units 1 and 7 are always together, 2, 4 and 6 too
    assert loaded.config.relations == ("2-4", "2-6", "4-6")
    assert loaded.config.rates_aud == pytest.approx((5 / 8, 3 / 8, 3 / 8, 3 / 8))
    assert loaded.config.rates_sc == pytest.approx((2 / 4, 1 / 4, 1 / 4))
    stages = (replace(drr.RECIPES["tiny_dyadic"].stages[0], stride=3),)  # frames that training skips are judged too
    found = judge(tmp_path / "drr", shards, stages=stages)
    assert {"f1", "fer_accuracy", "sc_accuracy"} <= found["scores"].keys() and found["frames"] == 8
    assert predict.predict(loaded, str(shards), "test").num_rows == 8


def test_a_delay_takes_the_stimulus_earlier(shards):
    config, recipe = replace(drr.PRESETS["tiny"], text="words", delay_s=0.08), drr.RECIPES["tiny"]
    stage = replace(recipe.stages[0], window=8, stride=8)
    dataset = data_of.open_split(drr, config, recipe, stage, Data(root=str(shards)), "test", labelled=False, labels=())
    late = next(iter(dataset))
    plain = data_of.open_split(
        drr, replace(config, delay_s=0.0), recipe, stage, Data(root=str(shards)), "test", labelled=False, labels=()
    )
    now = next(iter(plain))
    assert late["stimulus_mask"][0].tolist() == [False, False, *[True] * 6]  # 2 frames of 25 a second
    assert torch.equal(late["stimulus"][0, 2:], now["stimulus"][0, :6])
    mask = drr.prepare(late, config)["domain_mask_BTD"][0]
    assert mask[:, config.domains.index("stimulus")].tolist() == late["stimulus_mask"][0].tolist()


def test_a_plateau_lowers_the_rate_and_needs_a_judge(shards, tmp_path):
    recipe = eri.RECIPES["tiny_audio"]
    stage = replace(recipe.stages[0], epochs=4, decay_epochs=1, learning_rate=1e-6)  # one clip judges: no score
    job = Job(
        module=eri, preset="tiny_audio", config=eri.PRESETS["tiny_audio"], recipe=replace(recipe, stages=(stage,)),
        data=Data(root=str(shards)), out=tmp_path / "eri", quiet=True, val="val",
    )  # fmt: skip
    run_job(job)
    state = torch.load(tmp_path / "eri" / "audio" / "end.ckpt", weights_only=True)
    assert state["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(2.5e-7)
    with pytest.raises(ValueError, match="needs a split that judges"):
        run_job(replace(job, out=tmp_path / "none", val=""))


def test_the_rate_warms_up():
    factor = learning_rate_factor(Stage(schedule="cosine", epochs=10, warmup_epochs=2), 5)
    assert [factor(step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert factor(10) == 1.0 and factor(50) == pytest.approx(0.0) and factor(30) == pytest.approx(0.5)


def test_stimuli_are_cropped_like_faces(shards):
    seen = ShardDataset(
        shards, fields=("frames", "stimulus"), window=1, augment=Augment(resize=36, crop=32, random=False),
        batch_size=2, **drr.stream(drr.PRESETS["tiny"], train=False),
    )  # fmt: skip
    assert next(iter(seen))["stimulus"].shape == (2, 1, 3, 32, 32)


def test_delays_are_swept_by_command(shards, tmp_path):
    given = ["drr", "tiny_static_aud", "--data", str(shards), "--out", str(tmp_path), "-q", "--set", "text=words"]
    given += ["--set", f"aus={','.join(map(str, AUS[:3]))}", "--set", "all.epochs=1", "--sweep", "delay_s=0,0.08"]
    done = CliRunner().invoke(train.app, given)
    assert done.exit_code == 0, done.output
    delays = [from_pretrained(tmp_path / f"delay_s={value}").config.delay_s for value in ("0", "0.08")]
    assert delays == [0.0, 0.08] and "best val f1" in done.output
    wrong = CliRunner().invoke(train.app, [*given[:4], "--sweep", "delay_s"])
    assert wrong.exit_code == 2 and "KEY=A,B,C" in wrong.output
