"""ERI against literal loops from its equations, against librosa, and in its parts."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from model_checks import assert_close, check_model, num_parameters
from reactionnet_datasets.sound_features import mfcc_tokens
from reactionnet_models import cage, eri
from reactionnet_models.pretrained import save_pretrained
from reactionnet_models.temporal import AttentionPool, CausalConv, TemporalEncoder, outside_span, sinusoids

TINY = eri.PRESETS["tiny"]


@pytest.mark.parametrize("preset", ["tiny_fused", "tiny_audio", "tiny_video", "tiny_lstm", "tiny_resnet18"])
def test_conforms(preset, tmp_path):
    config = replace(eri.PRESETS[preset], p_both=1.0)  # overfitting asks the same question each time
    check_model(eri, config, tmp_path, learning_rate=0.01)


@pytest.mark.parametrize(("preset", "count"), [("fused", 7_546_841), ("audio", 1_500_552), ("video", 6_011_849)])
def test_parameters(preset, count):
    assert num_parameters(eri, eri.PRESETS[preset]) == count


def test_parts_have_the_parameters_that_the_reference_counts():
    with torch.device("meta"):
        model = eri.build(eri.Config())
    counts = {
        "stem": model.video.stem, "spatial": model.video.spatial, "temporal": model.video.temporal,
        "tcn": model.video.temporal.tcn, "head": model.video.head, "fusion": model.fusion,
    }  # fmt: skip
    assert {name: sum(p.numel() for p in part.parameters()) for name, part in counts.items()} == {
        "stem": 2_782_784, "spatial": 2_108_928, "temporal": 1_106_304, "tcn": 576_128, "head": 1_032, "fusion": 34_440,
    }  # fmt: skip


def test_causal_convolution_is_eq_6_literally():
    torch.manual_seed(0)
    conv, x_BCT = CausalConv(2, 3, kernel=3, dilation=2), torch.randn(1, 2, 9)
    weight, bias = conv.conv.weight, conv.conv.bias
    expected = torch.zeros(1, 3, 9)
    for p in range(9):
        for t in range(9):
            for i in range(3):
                if 2 * (2 - i) + t == p:  # ker(i) lies d (2 - i) frames back
                    expected[0, :, p] += weight[:, :, i] @ x_BCT[0, :, t]
    torch.testing.assert_close(conv(x_BCT), expected + bias[:, None])


def test_the_net_over_time_never_looks_ahead():
    torch.manual_seed(0)
    encoder = TemporalEncoder(
        6, 8, levels=3, kernel=3, layers=1, heads=2, ffn=8, dropout=0.0, base=1000.0, span=None
    ).eval()  # fmt: skip
    x = torch.randn(1, 6, 20)
    changed = x.clone()
    changed[:, :, 12:] += 1
    before, after = encoder.tcn(x), encoder.tcn(changed)
    torch.testing.assert_close(before[..., :12], after[..., :12])
    assert (before[..., 12] != after[..., 12]).any()


def test_span_hides_what_lies_outside():
    hidden = outside_span(6, (2, 1), torch.device("cpu"))
    for t in range(6):
        assert [s for s in range(6) if not hidden[t, s]] == [s for s in range(6) if t - 2 <= s <= t + 1]


def test_positions_have_the_base_of_the_code():
    table = sinusoids(5, 4, 1000.0, torch.device("cpu"))
    assert table[3].tolist() == pytest.approx(
        [math.sin(3), math.cos(3), math.sin(3 / math.sqrt(1000)), math.cos(3 / math.sqrt(1000))], rel=1e-5
    )


def test_attention_pooling_literally():
    torch.manual_seed(0)
    pool, z = AttentionPool(4), torch.randn(2, 5, 4)
    mask = torch.tensor([[True] * 5, [True, True, False, True, False]])
    for b in range(2):
        places = [n for n in range(5) if mask[b, n]]
        score = [math.exp((pool.score.weight[0] @ z[b, n] + pool.score.bias).item()) for n in places]
        expected = sum(s / sum(score) * z[b, n] for s, n in zip(score, places, strict=True))
        torch.testing.assert_close(pool(z, mask)[b], expected)


def test_modalities_are_dropped_as_often_as_eq_7_says():
    draws = torch.rand(100_000, 2, generator=torch.Generator().manual_seed(0))
    hears, sees = eri.choose_modalities(draws, eri.Config())
    shares = [float(kept.float().mean()) for kept in (hears & sees, ~hears & sees, hears & ~sees)]
    assert shares == pytest.approx([0.9, 0.05, 0.05], abs=0.005)
    hears, sees = eri.choose_modalities(draws, eri.Config(p_both=1.0))
    assert bool((hears & sees).all())


def test_dropped_modalities_are_zeros_and_only_in_training():
    torch.manual_seed(0)
    config = replace(TINY, p_both=0.0, p_video=1.0)  # always the face alone
    fusion, batch = eri.Fusion(config), eri.example(config, 3)
    given = {**batch, "video_BTC": torch.randn(3, 4, 16), "audio_BTC": torch.randn(3, 4, 16)}
    other = {**given, "audio_BTC": torch.randn(3, 4, 16)}
    assert_close(fusion.train()(given), fusion(other))
    assert (fusion.eval()(given)["intensity_BK"] != fusion(other)["intensity_BK"]).any()
    silent = {**given, "heard_B": torch.zeros(3, dtype=torch.bool)}
    assert_close(fusion.eval()(silent), fusion.train()(given))


@pytest.mark.parametrize("preset", ["tiny", "tiny_resnet18"])
def test_padding_changes_nothing(preset):
    model, batch = eri.build(eri.PRESETS[preset]).eval(), eri.example(eri.PRESETS[preset], 2)
    batch["frame_mask_BT"][:, 3] = False
    short = {
        name: value[:, :3] if value.ndim > 2 or name == "frame_mask_BT" else value for name, value in batch.items()
    }
    with torch.no_grad():
        assert_close(model(batch), model(short))


def test_a_masked_label_changes_neither_loss_nor_metric():
    batch = eri.example(TINY, 5)
    out = {"intensity_BK": torch.rand(5, 3)}
    batch["intensity_mask_BK"][0, 1] = False
    worse = {**batch, "intensity_BK": batch["intensity_BK"].clone()}
    worse["intensity_BK"][0, 1] = 1e6
    assert eri.loss(out, batch, TINY)["loss"] == eri.loss(out, worse, TINY)["loss"]
    found = []
    for given in (batch, worse):
        (metric,) = eri.metrics(TINY)
        metric.update(out, given)
        found.append(metric.compute())
    assert found[0] == found[1]


def test_the_printed_loss_sums_over_emotions():
    batch = eri.example(TINY, 4)
    out = {"intensity_BK": torch.rand(4, 3)}
    expected = sum(
        float((out["intensity_BK"][b, k] - batch["intensity_BK"][b, k]) ** 2) for b in range(4) for k in range(3)
    )
    printed = eri.loss(out, batch, replace(TINY, reduction="sum"))["loss"]
    assert float(printed) == pytest.approx(expected / 4, rel=1e-5)


def test_correlations_are_those_of_numpy():
    (metric,) = eri.metrics(TINY)
    batch, found = eri.example(TINY, 30), torch.rand(30, 3)
    for part in (slice(0, 11), slice(11, 30)):
        metric.update({"intensity_BK": found[part]}, {name: value[part] for name, value in batch.items()})
    expected = [np.corrcoef(found[:, k], batch["intensity_BK"][:, k])[0, 1] for k in range(3)]
    assert metric.compute()["pearson"] == pytest.approx(np.mean(expected), abs=1e-5)
    (same,) = eri.metrics(TINY)
    for _ in range(2):  # a third is not exact in binary: a plain formula finds rounding to correlate with
        same.update(eri.prior(TINY, dict.fromkeys(TINY.targets, 1 / 3), batch), batch)
    assert set(same.compute().values()) == {0.0}


def test_correlations_stand_alone():
    """Where no picture's net was imported before, as in the evaluation of sound."""
    code = "from reactionnet_models.correlation import Correlations; Correlations(['a']).compute()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_tokens_are_librosas_coefficients_around_each_frame():
    librosa = pytest.importorskip("librosa")
    sound = np.random.default_rng(0).normal(size=16_000).astype(np.float32) * 0.1
    coefficients = librosa.feature.mfcc(y=sound, sr=16_000, n_mfcc=128)  # (128, F)
    tokens = mfcc_tokens(torch.from_numpy(sound)[None], torch.tensor([[0.5]]))[0, 0]
    first = round(0.5 * 16_000 / 512 - 3.5)
    assert np.abs(tokens.numpy() - coefficients[:, first : first + 8].T.ravel()).max() < 2e-2


def test_prepare_takes_items_and_refuses_silence():
    items = {
        "key": ["a", "b"], "frames": torch.randint(256, (2, 4, 3, 32, 32), dtype=torch.uint8),
        "frame_mask": torch.tensor([[True] * 4, [True, True, True, False]]),
        "t_s": torch.tensor([[2.0, 2.1, 2.2, 2.3], [0.0, 0.1, 0.2, float("nan")]]),
        "audio": torch.randn(2, 6400), "audio_length": torch.tensor([6400, 4800]),
        "labels": {
            **{name: torch.rand(2) for name in TINY.targets},
            **{f"{name}_mask": torch.ones(2, dtype=torch.bool) for name in TINY.targets},
        },
    }  # fmt: skip
    batch = eri.prepare(items, TINY)
    assert batch["mfcc_BTF"].shape == (2, 4, 1024) and bool(batch["mfcc_BTF"].isfinite().all())
    assert bool(eri.loss(eri.build(TINY)(batch), batch, TINY)["loss"].isfinite())
    silent = {**items, "audio_length": torch.tensor([6400, 0])}
    assert eri.prepare(silent, TINY)["heard_B"].tolist() == [True, False]
    with pytest.raises(ValueError, match="no sound in b"):
        eri.prepare(silent, replace(TINY, branch="audio"))


def test_labels_of_frames_stand_for_their_greatest():
    config = replace(TINY, branch="audio", targets=("au_int_12",))
    labels = {"au_int_12": torch.tensor([[0.2, 0.9, 0.4]]), "au_int_12_mask": torch.tensor([[True, False, True]])}
    items = {
        "key": ["a"], "frame_mask": torch.ones(1, 3, dtype=torch.bool), "t_s": torch.zeros(1, 3),
        "audio": torch.randn(1, 4000), "audio_length": torch.tensor([4000]), "labels": labels,
    }  # fmt: skip
    assert eri.prepare(items, config)["intensity_BK"].tolist() == [[pytest.approx(0.4)]]


@pytest.mark.parametrize(
    ("preset", "changed", "said"),
    [
        ("fused", {"heads": 3}, "width 128 and heads 3: expected an even width that heads divide"),
        ("audio", {"width": 15, "heads": 1}, "width 15 and heads 1"),
        ("video", {"spatial_heads": 3}, "spatial_heads 3: expected a divisor of the stem's width, 256"),
        ("tiny_video", {"spatial_heads": 32}, "spatial_heads 32: expected a divisor of the stem's width, 16"),
        ("audio", {"tcn_kernel": 0}, "tcn_kernel 0: expected 1 or more"),
        ("audio", {"tcn_levels": 0}, "tcn_levels 0: expected 1 or more"),
        ("audio", {"layers": 0}, "layers 0: expected 1 or more"),
        ("video", {"spatial_layers": 0}, "spatial_layers 0: expected 1 or more"),
        ("video", {"image_size": 0}, "image_size 0: expected a multiple of 16"),
        ("audio", {"dropout": 1.5}, "dropout 1.5: expected 0 to 1"),
        ("audio", {"position_base": 0.0}, "position_base 0.0: expected more than 0"),
        ("audio", {"span": (49,)}, r"span \(49,\): expected two numbers"),
        ("audio", {"targets": ()}, "expected one or more"),
        ("tiny_video", {"weights": "dan.pth"}, "weights dan.pth: encoder tiny loads none"),
        ("audio", {"weights": "dan.pth"}, "weights dan.pth: branch audio loads none"),
    ],
)
def test_settings_that_no_network_has_are_refused(preset, changed, said):
    with pytest.raises(ValueError, match=said):
        replace(eri.PRESETS[preset], **changed)


def test_notes_say_what_a_preset_needs_and_whose_the_submission_was():
    notes = {name: eri.RECIPES[name].note for name in eri.PRESETS if eri.RECIPES[name].published}
    assert {name for name, note in notes.items() if "--set weights=FILE" in note} == {
        "fused", "fused_pm10", "fused_pm08", "fused_5fold", "video",
    }  # fmt: skip
    assert [name for name, note in notes.items() if "0.4380" in note] == ["fused"]


def test_the_challenges_baseline_reads_its_whole_stream():
    for name, config in eri.PRESETS.items():
        (stage, *_) = eri.RECIPES[name].stages
        assert (stage.window, stage.num_frames is None) == (0, config.branch == "lstm"), name
    config = eri.PRESETS["tiny_lstm"]
    items = {"frame_mask": torch.tensor([[True] * 9, [True] * 5 + [False] * 4]), "egemaps": torch.randn(2, 9, 5)}
    items["egemaps"][1, 5:] = torch.nan  # a stream that ended
    model, batch = eri.build(config), eri.prepare(items, config)
    short = {name: value[1:, :5] for name, value in batch.items()}
    torch.testing.assert_close(model(batch)["intensity_BK"][1:], model(short)["intensity_BK"])


def test_dans_names_are_torchvisions():
    state = {"features.0.weight": torch.zeros(1), "features.6.1.bn2.weight": torch.ones(1), "fc.weight": torch.zeros(1)}
    assert list(eri.dan_weights(state)) == ["conv1.weight", "layer3.1.bn2.weight"]
    with pytest.raises(ValueError, match=r"no conv1\.weight"):
        eri.dan_weights({"backbone.weight": torch.zeros(1)})


@pytest.mark.parametrize("branch", ["video", "resnet18"])
def test_the_stem_starts_from_a_run_of_cage(branch, tmp_path):
    config = cage.PRESETS["small_resnet18"]
    trained = cage.build(config)
    save_pretrained(trained, cage, config, tmp_path, preset="small_resnet18", details={})
    model = eri.build(replace(eri.PRESETS[f"small_{branch}"], weights=str(tmp_path / "model.safetensors")))
    last = model.video.stem[-1][1] if branch == "video" else model.encoder.layer3[1]
    assert torch.equal(last.conv2.weight, trained.encoder.layer3[1].conv2.weight)


def test_a_start_gives_the_branches_that_both_have():
    torch.manual_seed(0)
    fused, audio = (eri.build(eri.PRESETS[name]) for name in ("tiny", "tiny_audio"))
    given = eri.transfer(audio.state_dict(), audio.config, fused.config)
    assert given.keys() == audio.state_dict().keys() and {name.split(".")[0] for name in given} == {"audio"}
    assert not fused.load_state_dict(given, strict=False).unexpected_keys
    other = replace(fused.config, targets=eri.TARGETS[3:6])
    assert given.keys() - eri.transfer(audio.state_dict(), audio.config, other).keys() == {
        "audio.head.last.weight", "audio.head.last.bias",
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"there and .* here"):
        eri.transfer(audio.state_dict(), audio.config, replace(fused.config, width=32))
    with pytest.raises(ValueError, match="branch audio has nothing that branch video could start from"):
        eri.transfer(audio.state_dict(), audio.config, eri.PRESETS["tiny_video"])
