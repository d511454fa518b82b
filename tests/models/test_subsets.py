"""Training videos divided by their pictures, and a model trained on one of the subsets."""

from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from drawn_shards import write_dataset
from reactionnet_datasets.sample import Label
from reactionnet_models import data as data_of
from reactionnet_models import eri, subsets
from reactionnet_models.data import Data
from reactionnet_models.subsets import colours
from reactionnet_models.training import Job, train


def labels(clip: int, frames: range) -> dict[str, Label]:
    return {name: Label(space="unit", value=clip / 40, mask="valid") for name in eri.TARGETS[:3]}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    # a clip's number is its blue: clips 0 to 2 are dark, 28 to 30 light
    return write_dataset(
        tmp_path_factory.mktemp("shards"), [4 if clip < 3 or clip > 27 else 1 for clip in range(31)], labels=labels,
        label_names=eri.TARGETS[:3], sound=True, split_of=lambda clip: "train" if clip < 3 or clip > 27 else "val",
    )  # fmt: skip


def test_colours_are_counted_literally():
    frames = torch.randint(256, (2, 3, 5, 4), dtype=torch.uint8)
    found = colours(frames)
    for t in range(2):
        counts = torch.zeros(64)
        for y in range(5):
            for x in range(4):
                r, g, b = (int(value) * 4 // 256 for value in frames[t, :, y, x])
                counts[r * 16 + g * 4 + b] += 1 / 20
        torch.testing.assert_close(found[t], counts)


def test_videos_of_one_look_come_into_one_subset_which_alone_is_trained_on(shards, tmp_path):
    given = [str(shards), str(tmp_path / "subsets"), "--num", "2", "--encoder", "colours"]
    done = CliRunner().invoke(subsets.app, given)
    assert done.exit_code == 0, done.output
    files = [(tmp_path / "subsets" / f"subset{n}.txt").read_text().split() for n in (1, 2)]
    dark, light = (f"video{n:03d}" for n in range(3)), (f"video{n:03d}" for n in range(28, 31))
    assert sorted(files) == sorted([[*dark], [*light]])
    config, recipe = eri.PRESETS["tiny_audio"], eri.RECIPES["tiny_audio"]
    stage = replace(recipe.stages[0], epochs=1, schedule="constant", batch_size=1)
    job = Job(
        module=eri, preset="tiny_audio", config=config, recipe=replace(recipe, stages=(stage,)),
        data=Data(root=str(shards)), out=tmp_path / "run", quiet=True, videos=tuple(files[0]),
    )  # fmt: skip
    train(job)
    state = torch.load(tmp_path / "run" / "audio" / "end.ckpt", weights_only=True)
    assert state["global_step"] == 3  # of six clips
    # of a model in stages what comes before the last is the same for every subset
    config, recipe = eri.PRESETS["tiny"], eri.RECIPES["tiny"]
    stages = tuple(replace(one, epochs=1, schedule="constant", batch_size=1) for one in recipe.stages)
    job = replace(job, preset="tiny", config=config, recipe=replace(recipe, stages=stages), out=tmp_path / "staged")
    train(job)
    steps = {one.name: torch.load(job.out / one.name / "end.ckpt", weights_only=True)["global_step"] for one in stages}
    assert steps == {"audio": 6, "video": 6, "fusion": 3}
    with pytest.raises(ValueError, match="none of the 1 videos"):
        data_of.places_of_videos(eri, config, recipe, stage, Data(root=str(shards)), "train", {"video099"})


def test_weights_that_cannot_be_had_are_an_error_in_words(shards, tmp_path):
    done = CliRunner().invoke(subsets.app, [str(shards), str(tmp_path), "--encoder", str(tmp_path / "none")])
    assert done.exit_code != 0 and "cannot be had" in done.output and "Traceback" not in done.output
