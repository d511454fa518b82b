"""ERI's clips that lack a face or sound, and that share a batch with others."""

from dataclasses import replace

import pytest
import torch

from drawn_landmarks import face
from model_checks import assert_close, take
from reactionnet_models import eri

TINY = eri.PRESETS["tiny"]
LENGTHS = (4000, 9000, 6400)


def items(lengths=LENGTHS, faceless=()):
    """A clip of four frames each, of so many samples; some without landmarks."""
    torch.manual_seed(0)
    num = len(lengths)
    landmarks = (face() * 0.5).expand(num, 4, 49, 2).clone()
    landmarks[[*faceless]] = torch.nan
    sound = [torch.randn(length) * 0.1 for length in lengths]
    return {
        "key": [f"clip{n}" for n in range(num)],
        "frames": torch.randint(256, (num, 4, 3, 130, 130), dtype=torch.uint8), "landmarks49": landmarks,
        "frame_mask": torch.ones(num, 4, dtype=torch.bool), "t_s": torch.arange(4) * torch.full((num, 1), 0.15),
        "audio": torch.nn.utils.rnn.pad_sequence(sound, batch_first=True), "audio_length": torch.tensor(lengths),
        "labels": {
            **{name: torch.rand(num) for name in TINY.targets},
            **{f"{name}_mask": torch.ones(num, dtype=torch.bool) for name in TINY.targets},
        },
    }  # fmt: skip


def of_clips(given, places):
    """Some clips alone, of which the sound is no longer than the longest."""
    one = {name: value[places] for name, value in given.items() if name != "labels"}
    one["audio"] = one["audio"][:, : int(one["audio_length"].max())]
    return {**one, "labels": take(given["labels"], places)}


def answered(config, batch):
    """Answers in evaluation, the loss, and all gradients in training."""
    torch.manual_seed(0)
    model = eri.build(config)
    with torch.no_grad():
        out = model.eval()(batch)
    found = eri.loss(model.train()(batch), batch, config)["loss"]
    found.backward()
    return out, found.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("span", [None, (1, 1)])
@pytest.mark.parametrize("preset", ["tiny_fused", "tiny_video"])
def test_a_clip_without_any_face_changes_nothing_for_the_others(preset, span):
    config = replace(eri.PRESETS[preset], aligned=36, span=span, p_both=1.0)
    given = items((6400,) * 3, faceless=[2])
    given["landmarks49"][1, 2:] = torch.nan  # with a span of 1 the last frame sees no face
    batch = eri.prepare(given, config)
    assert batch["intensity_mask_BK"].tolist() == [[True] * 3, [True] * 3, [False] * 3]
    out, loss, gradient = answered(config, batch)
    alone, loss_alone, gradient_alone = answered(config, take(batch, slice(2)))
    assert all(bool(value.isfinite().all()) for value in out.values())
    assert_close(take(out, slice(2)), alone)
    torch.testing.assert_close(loss, loss_alone)
    torch.testing.assert_close(gradient, gradient_alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("lengths", [LENGTHS, (0, 9000, 0)])
def test_what_is_heard_of_a_clip_does_not_hang_on_its_batch(lengths):
    config = replace(TINY, aligned=36)
    given = items(lengths)
    whole = eri.prepare(given, config)
    for place in range(3):
        one = slice(place, place + 1)
        assert_close(take(whole, one), eri.prepare(of_clips(given, one), config), atol=1e-3)  # numbers up to 600


@pytest.mark.parametrize("part", ["audio", ""])
def test_labels_of_silent_clips_do_not_reach_the_sounds_branch(part):
    config = replace(TINY, aligned=36, p_both=1.0)
    batch = eri.prepare(items((4000, 0, 6400)), config)
    other = {**batch, "intensity_BK": batch["intensity_BK"].clone()}
    other["intensity_BK"][1] = 1 - other["intensity_BK"][1]
    found = []
    for given in (batch, other):
        torch.manual_seed(0)
        model = eri.build(config)
        net = model.get_submodule(part)
        out = net(given)
        terms = eri.loss(out, given, config)
        terms["loss"].backward()
        (metric,) = eri.metrics(config)
        metric.update(out, given)
        gradient = torch.cat([p.grad.flatten() for p in model.audio.parameters() if p.grad is not None])
        found.append((terms["audio" if part == "" else "loss"].detach(), gradient, metric.compute()))
    (loss, gradient, scores), (loss_other, gradient_other, scores_other) = found
    assert loss > 0 and bool(gradient.abs().sum() > 0)
    assert loss == loss_other and torch.equal(gradient, gradient_other)
    # what hears and sees answers all
    assert (scores == scores_other) == (part == "audio")
