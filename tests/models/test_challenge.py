"""Several tiny models answer drawn shards together, through the command."""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from drawn_shards import write_dataset
from reactionnet_datasets.sample import Label
from reactionnet_models import abaw6, cage, challenge
from reactionnet_models.pretrained import from_pretrained, save_pretrained

AUS = abaw6.PRESETS["tiny"].aus


def labels(clip: int, frames: range) -> dict[str, Label]:
    valid = ["valid"] * len(frames)
    values = {au: [(frame // 4 + au) % 2 for frame in frames] for au in AUS}
    return {f"au_occ_{au}": Label(space="au_occ", value=values[au], mask=valid) for au in AUS}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_dataset(
        tmp_path_factory.mktemp("shards"), [10, 8, 8], labels=labels, label_names=[f"au_occ_{au}" for au in AUS], sound=True,
        split_of=lambda clip: ("test", "val", "val")[clip],
    )  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folders = []
    for seed in range(3):
        torch.manual_seed(seed)
        config = abaw6.PRESETS["tiny"]
        folder = tmp_path_factory.mktemp(f"model{seed}")
        save_pretrained(abaw6.build(config), abaw6, config, folder, preset="tiny", details={})
        folders.append(str(folder))
    return folders


def test_models_vote_and_the_file_has_a_line_a_frame(shards, models, tmp_path):
    out = tmp_path / "predictions.txt"
    done = CliRunner().invoke(challenge.app, [*models, "--data", str(shards), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "<- chosen" in done.output and "10 lines of 3 models" in done.output
    lines = out.read_text().splitlines()
    assert lines[0].startswith("image_location,AU1,AU2,AU4") and len(lines) == 11
    each = [challenge.answer(from_pretrained(one), str(shards), "test")["video000"].values_TK for one in models]
    plain = ["--tune", "none", "--data", str(shards), "--out", str(out), "-q"]
    assert CliRunner().invoke(challenge.app, [*models, *plain]).exit_code == 0
    for t, line in enumerate(out.read_text().splitlines()[1:]):
        name, *found = line.split(",")
        assert name == f"video000/{t + 1:05d}.jpg"
        assert [int(value) for value in found] == [int(sum(one[t, k] >= 0.5 for one in each) >= 2) for k in range(12)]


def test_sigma_is_chosen_by_the_challenges_score(shards, models):
    loaded = [from_pretrained(models[0])]
    best, scores = challenge.choose_sigma(loaded, str(shards), "val", "cpu")
    truth = challenge.answer(loaded[0], str(shards), "val", labelled=True)
    values = {video: one.values_TK for video, one in truth.items()}
    assert scores[best] == max(scores.values()) and scores[0.0] == challenge.score_of(loaded[0].config, values, truth)
    right = {video: one.labels["au_BTM"].astype(np.float32) for video, one in truth.items()}
    assert challenge.score_of(loaded[0].config, right, truth) == 1.0


def test_lines_without_a_face_are_filled_from_the_nearest(shards, models, tmp_path):
    template = tmp_path / "sample.txt"
    template.write_text("image_location,AU1\n" + "".join(f"video000/{n:05d}.jpg,0\n" for n in (12, 10, 1)))
    out = tmp_path / "predictions.txt"
    given = ["--data", str(shards), "--out", str(out), "--tune", "none", "--template", str(template), "-q"]
    done = CliRunner().invoke(challenge.app, [models[0], *given])
    assert done.exit_code == 0, done.output
    rows = [line.split(",") for line in out.read_text().splitlines()[1:]]
    assert [row[0] for row in rows] == [f"video000/{n:05d}.jpg" for n in (12, 10, 1)]
    assert rows[0][1:] == rows[1][1:]  # frame 10 is the last with a face


def test_a_model_of_another_paper_is_refused(shards, tmp_path):
    config = cage.PRESETS["tiny"]
    save_pretrained(cage.build(config), cage, config, tmp_path / "cage", preset="tiny", details={})
    done = CliRunner().invoke(challenge.app, [str(tmp_path / "cage"), "--data", str(shards)])
    assert done.exit_code != 0 and "ABAW6" in done.output and "Traceback" not in done.output
