"""Smoothing, faceless frames, votes, partition and submission files, against loops and by hand."""

import math

import numpy as np
import pytest

from reactionnet_datasets.labels import classes_of
from reactionnet_models.smoothing import fill_faceless, partition_by_scene, smooth, tune_sigma, vote
from reactionnet_models.submission import COLUMNS, OUTPUTS, frame_name, places_of, read_template, write_submission


def test_smoothing_is_a_gaussian_over_time_literally():
    values = np.random.default_rng(0).random((30, 2))
    found = smooth(values, 2.0)
    weights = np.array([math.exp(-(d**2) / 8) for d in range(-8, 9)])  # scipy cuts at 4 sigma
    weights /= weights.sum()
    mirrored = [*range(29, -1, -1), *range(30), *range(29, -1, -1)]
    for t in range(30):
        for k in range(2):
            expected = sum(w * values[mirrored[30 + t + d], k] for w, d in zip(weights, range(-8, 9), strict=True))
            assert found[t, k] == pytest.approx(expected, abs=1e-9)
    assert smooth(values, 0.0) is values


def test_frames_without_a_face_take_the_nearest_with_one():
    values = np.arange(7.0)[:, None]
    face = np.array([False, True, False, False, False, True, False])
    assert fill_faceless(values, face)[:, 0].tolist() == [1, 1, 1, 1, 5, 5, 5]
    with pytest.raises(ValueError, match="no frame"):
        fill_faceless(values, np.zeros(7, bool))


def test_sigma_is_the_one_that_scores_best():
    truth = np.sin(np.linspace(0, 6, 200))[:, None]
    noisy = truth + np.random.default_rng(0).normal(size=(200, 1))

    def score(sigma):
        return -float(np.square(smooth(noisy, sigma) - truth).mean())

    best, scores = tune_sigma(score, (0.0, 8.0, 200.0))
    assert best == 8.0 and scores[8.0] > scores[0.0] > scores[200.0] - 1
    assert tune_sigma(lambda _: 1.0, (5.0, 0.0))[0] == 0.0
    assert tune_sigma(lambda sigma: sigma if sigma else math.nan, (0.0, 5.0))[0] == 5.0


def test_votes_by_hand():
    units = np.array([[[0.9, 0.4]], [[0.1, 0.4]], [[0.8, 0.9]]])
    assert vote("au", units).tolist() == [[1, 0]]
    assert vote("au", units[:2]).tolist() == [[1, 0]]  # one each: the mean of .9 and .1 is .5
    classes = np.array([[[0.6, 0.4, 0]], [[0.6, 0.4, 0]], [[0.0, 0.1, 0.9]]])
    assert vote("expr", classes).tolist() == [0]
    assert vote("expr", classes[1:]).tolist() == [2]  # one vote each: .45 is the higher mean
    assert vote("va", np.array([[[0.2, 0.0]], [[0.4, -1.0]]])).tolist() == [[pytest.approx(0.3), -0.5]]


@pytest.mark.parametrize("task", ["au", "ce"])
def test_votes_are_their_loop(task):
    answers = np.random.default_rng(1).random((5, 20, 7))
    for s in range(20):
        if task == "au":
            expected = [int(sum(answers[e, s, k] >= 0.5 for e in range(5)) > 2.5) for k in range(7)]
            assert vote(task, answers)[s].tolist() == expected
        else:
            votes = [sum(answers[e, s].argmax() == k for e in range(5)) for k in range(7)]
            expected = max(range(7), key=lambda k: (votes[k], answers[:, s, k].mean()))
            assert vote(task, answers)[s] == expected


def test_videos_are_divided_by_their_scenes():
    random = np.random.default_rng(0)
    centres = np.eye(8)[:4]
    scene = np.concatenate([centre + 0.01 * random.normal(size=(5, 8)) for centre in centres])
    found = partition_by_scene(scene, 4)
    assert [len(set(found[n : n + 5])) for n in range(0, 20, 5)] == [1, 1, 1, 1] and len(set(found)) == 4
    assert (found == partition_by_scene(scene, 4)).all()
    with pytest.raises(ValueError, match="3 videos"):
        partition_by_scene(scene[:3], 4)


def test_submission_files(tmp_path):
    path = tmp_path / "predictions.txt"
    answers = {frame_name("v", 1): np.array([0.5, -2.0]), frame_name("v", 0): np.array([0.25, 0.0])}
    assert write_submission(path, "va", answers) == 2
    assert (
        path.read_text()
        == "image_location,valence,arousal\nv/00001.jpg,0.250000,0.000000\nv/00002.jpg,0.500000,-1.000000\n"
    )
    assert read_template(path) == ["v/00001.jpg", "v/00002.jpg"]
    write_submission(path, "expr", {"v/00001.jpg": np.array(7)})
    assert path.read_text().splitlines()[1] == "v/00001.jpg,7" and "Other" in path.read_text()
    write_submission(path, "au", {"v/00001.jpg": np.ones(12)})
    assert path.read_text().splitlines()[1] == "v/00001.jpg" + ",1" * 12
    assert COLUMNS["emi"][3] == "Empathic Pain" and COLUMNS["ce"][0] == "Fearfully_Surprised"


@pytest.mark.parametrize(
    ("task", "answer", "message"),
    [
        ("expr", 8, "class 8"),
        ("au", np.full(12, 0.5), "0 or 1"),
        ("emi", np.ones(5), "6 numbers"),
        ("x", 0, "task 'x'"),
    ],
)
def test_answers_that_a_task_does_not_allow_are_refused(tmp_path, task, answer, message):
    with pytest.raises(ValueError, match=message):
        write_submission(tmp_path / "p.txt", task, {"v/00001.jpg": np.asarray(answer)})
    assert not (tmp_path / "p.txt").exists()


def test_outputs_go_to_the_columns_of_their_names():
    assert [[name.lower() for name in COLUMNS[task]] for task in ("au", "expr", "va", "ce")] == [
        list(OUTPUTS[task]) for task in ("au", "expr", "va", "ce")
    ]
    assert [f"emi_{name.lower().replace(' ', '_')}" for name in COLUMNS["emi"]] == list(OUTPUTS["emi"])
    assert places_of("va", ("arousal", "valence")) == [1, 0]
    with pytest.raises(ValueError, match="contempt; a file of expr wants neutral, anger"):
        places_of("expr", classes_of("affectnet8"))


def test_a_template_decides_lines_and_order(tmp_path):
    answers = {f"v/0000{n}.jpg": np.array(n) for n in (1, 2, 3)}
    write_submission(tmp_path / "p.txt", "ce", answers, ["v/00003.jpg", "v/00001.jpg"])
    assert [line.split(",")[0] for line in (tmp_path / "p.txt").read_text().splitlines()[1:]] == [
        "v/00003.jpg",
        "v/00001.jpg",
    ]
    with pytest.raises(ValueError, match="no answer, the first is v/00009"):
        write_submission(tmp_path / "p.txt", "ce", answers, ["v/00009.jpg"])
