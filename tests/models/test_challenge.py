"""Several tiny models answer drawn shards together, through the command."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from drawn_shards import clip_records, npy, write_dataset
from reactionnet_datasets.protocols import load_protocol
from reactionnet_datasets.sample import Label
from reactionnet_datasets.shards import write_manifest, write_shard
from reactionnet_datasets.tabulate import tabulate
from reactionnet_models import abaw6, cage, challenge
from reactionnet_models.pretrained import from_pretrained, save_pretrained

AUS = abaw6.PRESETS["tiny"].aus
FOLDS = abaw6.RECIPES["au_5fold"].protocol


def labels(clip: int, frames: range) -> dict[str, Label]:
    valid = ["valid"] * len(frames)
    values = {au: [(frame // 4 + au) % 2 for frame in frames] for au in AUS}
    return {f"au_occ_{au}": Label(space="au_occ", value=values[au], mask=valid) for au in AUS}


def affect(clip: int, frames: range) -> dict[str, Label]:
    valid = ["valid"] * len(frames)
    return {
        name: Label(space=name, value=[math.sin(frame) for frame in frames], mask=valid)
        for name in ("valence", "arousal")
    }


def write_records(root, records, names):
    """A data set of one split, val."""
    info = write_shard(root, "val-00000", records)
    parts = tabulate(root, info, names, ("all",))
    tables = {"frames": [parts.frames], "windows": [parts.windows]}
    write_manifest(root, {"dataset": "drawn", "splits": {"val": {"shards": [asdict(info)], "tables": tables}}})
    return root


def save(folder, config, *, preset="tiny", share=None, weight=1.0, **details):
    """A model whose last layer answers `share` of everything, to which `weight` times what it sees is added."""
    model = abaw6.build(config)
    if share is not None:
        torch.nn.init.constant_(model.fusion.last.bias, math.log(share / (1 - share)))
        model.fusion.last.weight.data *= weight
    save_pretrained(model, abaw6, config, folder, preset=preset, details=details)
    return str(folder)


def f1_of(lines, truth):
    """The mean F1 of a written file, by counts; `truth` says the units of a line by its name."""
    pairs = [(list(map(int, line.split(",")[1:])), truth(line.split(",")[0])) for line in lines[1:]]
    each = []
    for k in range(len(AUS)):
        hit = sum(found[k] and true[k] for found, true in pairs)
        each.append(2 * hit / max(1, sum(found[k] + true[k] for found, true in pairs)))
    return sum(each) / len(each)


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


def test_sigma_is_scored_on_votes_over_filled_gaps():
    frames = np.array([*range(10), *range(20, 30)])
    first = frames < 15
    shares = (
        np.full(20, 0.9),
        np.where(first, 0.9, 0.45),
        np.where(first, 0.1, 0.45),
    )  # the mean is above .5 throughout
    labels = {
        "au_BTM": np.tile(first[:, None], (1, 12)).astype(np.float32),
        "au_mask_BTM": np.ones((20, 12), bool),
    }
    given = [
        challenge.Answers(
            video="v", frames_T=frames, answered_T=np.ones(20, bool), labels=labels,
            values_TK=np.tile(share[:, None], (1, 12)),
        )
        for share in shares
    ]  # fmt: skip
    _, scores = challenge.tuned(abaw6.PRESETS["tiny"], {"v": given})
    assert scores[0.0] == scores[3.0] == 1.0 > scores[8.0]  # 3 reaches over no half of the gap
    unlabelled = [replace(one, labels=labels | {"au_mask_BTM": np.zeros((20, 12), bool)}) for one in given]
    with pytest.raises(ValueError, match="no frame is labelled"):
        challenge.tuned(abaw6.PRESETS["tiny"], {"v": unlabelled})


def test_the_score_printed_is_that_of_the_file(tmp_path):
    names = [f"au_occ_{au}" for au in AUS]

    def some(clip, frames):
        there = [frame < 20 for frame in frames]  # of the last window nothing is labelled
        mask = ["valid" if one else "not_annotated" for one in there]
        return {
            name: Label(
                space="au_occ", mask=mask, value=[v if one else None for v, one in zip(label.value, there, strict=True)]
            )
            for name, label in labels(clip, frames).items()
        }

    records = [
        record
        for first, num in ((0, 7), (15, 9))
        for record in clip_records(1, num, first=first, labels=some, sound=True)
    ]
    root = write_records(tmp_path / "shards", records, names)
    runs = []
    for seed, share in enumerate((0.9, 0.45, 0.45)):
        torch.manual_seed(seed)
        runs.append(save(tmp_path / f"run{seed}", abaw6.PRESETS["tiny"], share=share, weight=2.0))
    out = tmp_path / "p.txt"
    done = CliRunner().invoke(challenge.app, [*runs, "--data", str(root), "--split", "val", "--out", str(out)])
    assert done.exit_code == 0, done.output
    printed = {
        float(line.split()[1].rstrip(":")): line.split()[2] for line in done.output.splitlines() if " on val" in line
    }

    def truth(name):
        frame = int(name.split("/")[1].split(".")[0]) - 1
        return [(frame // 4 + au) % 2 for au in AUS]

    assert len(set(printed.values())) > 1
    for sigma, score in printed.items():
        plain = [
            "--tune",
            "none",
            "--sigma",
            str(sigma),
            "--data",
            str(root),
            "--split",
            "val",
            "--out",
            str(out),
            "-q",
        ]
        assert CliRunner().invoke(challenge.app, [*runs, *plain]).exit_code == 0
        lines = out.read_text().splitlines()
        assert len(lines) == 17
        scored = [line for line in lines if line.startswith("image") or int(line[9:14]) <= 20]
        assert f"{f1_of(scored, truth):.4f}" == score


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    """Videos of parts 1 and 2, where everything or nothing is shown, and one to answer; runs of folds 1 and 2, and of none."""

    def shown(clip, frames):
        valid = ["valid"] * len(frames)
        return {f"au_occ_{au}": Label(space="au_occ", value=[int(clip == 0)] * len(frames), mask=valid) for au in AUS}

    def of_clip(clip):
        return {
            "splits": {"au": ("train", "val", "test")[clip]},
            "folds": {FOLDS: clip + 1} if clip < 2 else {},
        }

    root = write_dataset(
        tmp_path_factory.mktemp("folds"), [8, 8, 6], labels=shown, label_names=[f"au_occ_{au}" for au in AUS], sound=True,
        split_of=lambda clip: "all", tasks=("au",), of_clip=of_clip,
    )  # fmt: skip
    runs = [
        save(tmp_path_factory.mktemp("run") / "model", abaw6.PRESETS["tiny"], preset=preset, share=share, weight=0.0,
             fold=fold, windows={"window": 4, "stride": 4})
        for preset, share, fold in (("au_5fold", 0.9, 1), ("au_5fold", 0.1, 2), ("au", 0.1, None))
    ]  # fmt: skip
    return str(root), runs


def test_runs_of_folds_are_tuned_on_what_they_held_out(folds, tmp_path):
    root, runs = folds
    out = tmp_path / "p.txt"
    for some, words in ((runs[:2], "on what folds 1, 2 held out"), (runs, "on val and what folds 1, 2 held out")):
        done = CliRunner().invoke(challenge.app, [*some, "--data", root, "--out", str(out)])
        assert done.exit_code == 0, done.output
        # each answers its own fold's video rightly, and the other's wrongly
        assert f"sigma 0: 1.0000 {words}  <- chosen" in done.output
        assert [line.split("/")[0] for line in out.read_text().splitlines()[1:]] == ["video002"] * 6


def test_shards_without_what_a_fold_held_out_are_named(shards, folds, tmp_path):
    parts = {load_protocol(FOLDS).part_of(f"subject{clip}") for clip in range(3)}
    fold = min(set(range(1, 6)) - parts)
    config, windows = abaw6.PRESETS["tiny"], {"window": 4, "stride": 4}
    run = save(tmp_path / "run", config, preset="au_5fold", fold=fold, windows=windows)
    done = CliRunner().invoke(challenge.app, [run, "--data", str(shards), "--out", str(tmp_path / "p.txt")])
    assert done.exit_code == 2 and f"what fold {fold} of {FOLDS} held out cannot be answered" in done.output
    assert "--tune none" in done.output
    run = save(tmp_path / "silent", config, preset="au_5fold", fold=None, windows=windows)
    done = CliRunner().invoke(challenge.app, [run, "--data", folds[0], "--out", str(tmp_path / "p.txt")])
    assert done.exit_code == 2 and "does not say which fold" in done.output


@pytest.mark.parametrize(
    ("preset", "changed", "message"),
    [
        ("tiny_expr", {"classes": "affectnet8"}, "surprise, fear, disgust, anger, contempt; a file of expr wants neutral, anger"),
        ("tiny_emi", {"emotions": tuple(f"au_int_{au}" for au in (1, 4, 6, 9, 12, 25))}, "a file of emi wants emi_admiration"),
        ("tiny_au", {"aus": (1, 2, 4)}, "the outputs are au1, au2, au4; a file of au wants au1, au2, au4, au6"),
    ],
)  # fmt: skip
def test_outputs_that_the_file_does_not_list_are_refused_unanswered(preset, changed, message, tmp_path):
    config = abaw6.PRESETS[preset]
    right = save(tmp_path / "right", config, preset=preset)
    wrong = save(tmp_path / "wrong", replace(config, **changed), preset=preset)
    done = CliRunner().invoke(challenge.app, [right, wrong, "--data", str(tmp_path / "nowhere")])
    assert done.exit_code == 2 and message in done.output and f"{wrong}: " in done.output
    done = CliRunner().invoke(challenge.app, [right, "--data", str(tmp_path / "nowhere")])
    assert "is no data set" in done.output


def test_outputs_in_another_order_come_to_their_own_columns(shards, models, tmp_path):
    plain = from_pretrained(models[0])
    config = replace(plain.config, aus=AUS[::-1])
    model = abaw6.build(config)
    state = plain.model.state_dict()
    model.load_state_dict({name: value.flip(0) if ".last." in name else value for name, value in state.items()})
    save_pretrained(model, abaw6, config, tmp_path / "reversed", preset="tiny", details={})
    other = from_pretrained(tmp_path / "reversed")
    expected, found = (challenge.answer(one, str(shards), "val", labelled=True)["video001"] for one in (plain, other))
    np.testing.assert_allclose(found.values_TK, expected.values_TK, atol=1e-6)
    assert (found.labels["au_BTM"] == expected.labels["au_BTM"]).all()
    labels_of = {"expression": torch.arange(8)[None], "expression_mask": torch.ones(1, 8, dtype=torch.bool)}
    turned = challenge._labels(labels_of, abaw6.PRESETS["tiny_expr"], [7, 0, 1, 2, 3, 4, 5, 6])
    assert turned["class_BT"].tolist() == [[1, 2, 3, 4, 5, 6, 7, 0]]  # the model's first output is the file's second


def test_frames_without_landmarks_are_filled_and_count(tmp_path):
    def without(record, places):
        spoilt = np.array([[[frame + 0.25 * n, 0.5 * n] for n in range(68)] for frame in range(10)], np.float32)
        spoilt[places] = np.nan
        members = [(name, npy(spoilt) if name == "landmarks.npy" else value) for name, value in record.members]
        return replace(record, members=tuple(members))

    both = [record for clip in (0, 1) for record in clip_records(clip, 10, labels=affect, sound=True)]
    seen = write_records(tmp_path / "seen", [without(both[0], [3, 4, 9])], ("valence", "arousal"))
    config = replace(abaw6.PRESETS["tiny_va"], aligned=36)
    torch.manual_seed(0)
    loaded = from_pretrained(save(tmp_path / "run", config, preset="tiny_va"))
    one = challenge.answer(loaded, str(seen), "val", labelled=True)["video000"]
    assert np.flatnonzero(~one.answered_T).tolist() == [3, 4, 9] and one.frames_T.tolist() == list(range(10))
    assert one.labels["affect_mask_BTD"].all()  # their lines are scored
    found = challenge.combine("va", [one], 0.0, 0, 0.5)
    assert (found == one.values_TK[[0, 1, 2, 2, 5, 5, 6, 7, 8, 8]]).all() and len(np.unique(found[:, 0])) == 7
    blind = write_records(tmp_path / "blind", [both[0], without(both[1], range(10))], ("valence", "arousal"))
    given = [str(tmp_path / "run"), "--data", str(blind), "--split", "val", "--out", str(tmp_path / "p.txt")]
    done = CliRunner().invoke(challenge.app, given)
    assert done.exit_code == 2 and "video001: no frame can be answered" in done.output


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
