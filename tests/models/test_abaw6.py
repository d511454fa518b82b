"""ABAW6: its encoders against the libraries that it takes them from, its losses against their equations, its parts."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from model_checks import assert_close, check_model, num_parameters
from reactionnet_datasets.sound_features import logmel, logmel_examples
from reactionnet_datasets.torchvision_on_cpu import ensure
from reactionnet_models import abaw6, abaw6_losses
from reactionnet_models.vggish import VGGish, examples_of, mean_of_examples
from reactionnet_models.vit import masked_autoencoder, patches, reconstruction_loss, sines, vit_encoder

TINY = abaw6.PRESETS["tiny"]


@pytest.mark.parametrize("task", ["au", "expr", "va", "ce", "emi", "words"])
def test_conforms(task, tmp_path):
    check_model(abaw6, abaw6.PRESETS[f"tiny_{task}"], tmp_path, learning_rate=0.01, steps=80)


def test_pretraining_conforms(tmp_path):
    config = abaw6.PRESETS["tiny_pretrain"]
    torch.manual_seed(0)
    model, batch = abaw6.build(config).eval(), abaw6.example(config, 3)
    with torch.no_grad():
        whole = model(batch)
        alone = model({name: value[1:2] for name, value in batch.items()})
    assert_close(alone, {name: value[1:2] for name, value in whole.items()})
    abaw6.loss(model.train()(batch), batch, config)["loss"].backward()
    silent = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not [name for name in silent if not name.endswith("k_proj.bias")]  # softmax does not see a key's bias
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    batch["image_BTCHW"] = torch.linspace(-1, 1, 32).expand(3, 1, 3, 32, 32).clone()
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        losses.append(abaw6.loss(model(batch), batch, config)["loss"])
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.35 * losses[0]


def test_parameters():
    assert num_parameters(abaw6, abaw6.PRESETS["pretrain"]) == 111_907_840
    assert num_parameters(abaw6, abaw6.PRESETS["pretrain_large"]) == 329_541_888
    with torch.device("meta"):
        model = abaw6.build(replace(abaw6.PRESETS["au"], weights=None))
        large, _ = vit_encoder("large", 224, 16)
    parts = {
        "image": model.encoders.image, "vggish": model.encoders.sound, "fusion": model.fusion.encoder,
        "sound": model.fusion.sound, "last": model.fusion.last, "large": large,
    }  # fmt: skip
    assert {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()} == {
        "image": 85_798_656, "vggish": 72_141_184, "fusion": 22_055_936, "sound": 99_072, "last": 9_228,
        "large": 303_301_632,
    }  # fmt: skip
    whole = sum(p.numel() for p in model.fusion.parameters())
    assert whole - model.fusion.position_LC.numel() == 22_164_236  # the reference counts no positions


def test_the_autoencoders_loss_is_that_of_transformers():
    torch.manual_seed(0)
    net = masked_autoencoder("tiny", 32, 8, 0.75).eval()
    image, noise = torch.randn(2, 3, 32, 32), torch.rand(2, 16)
    for normalize in (False, True):
        net.config.norm_pix_loss = normalize
        with torch.no_grad():
            found = net(image, noise=noise)
        ours = reconstruction_loss(found.logits, image, found.mask, 8, normalize)
        torch.testing.assert_close(ours, found.loss)
    assert found.mask.sum(1).tolist() == [12, 12]
    torch.testing.assert_close(patches(image, 8), net.patchify(image))


def test_pretraining_is_judged_beside_grey_patches():
    config = abaw6.PRESETS["tiny_pretrain"]
    batches = [abaw6.example(config, num) for num in (1, 3)]
    (metric,) = abaw6.metrics(config)
    for batch in batches:
        metric.update(abaw6.prior(config, {}, batch), batch)
    every = torch.cat([batch["image_BTCHW"] for batch in batches])
    assert metric.compute()["l2"] == pytest.approx(float(every.square().mean()), rel=1e-5)


def test_the_encoder_is_the_autoencoders(tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    net = masked_autoencoder("tiny", 32, 8, 0.75).eval()
    save_file({f"autoencoder.{name}": value for name, value in net.state_dict().items()}, tmp_path / "mae.safetensors")
    net.save_pretrained(tmp_path / "folder")
    image = torch.randn(2, 3, 32, 32)
    net.config.mask_ratio = net.vit.config.mask_ratio = net.vit.embeddings.config.mask_ratio = 0.0
    with torch.no_grad():
        order = torch.arange(16.0).expand(2, -1)
        expected = net.vit(image, noise=order).last_hidden_state
        for source in ("mae.safetensors", "folder"):
            encoder, width = vit_encoder("tiny", 32, 8, str(tmp_path / source))
            torch.testing.assert_close(encoder.eval()(image).last_hidden_state, expected)
    assert width == 16
    with pytest.raises(ValueError, match="not those of a ViT of size small"):
        vit_encoder("small", 32, 8, str(tmp_path / "mae.safetensors"))


def test_positions_differ_and_are_maes():
    table = sines(3, 8)[0]
    assert table.shape == (10, 8) and not table[0].any() and len({tuple(row) for row in table.tolist()}) == 10
    expected = [math.sin(2), math.sin(2 / 100), math.cos(2), math.cos(2 / 100)]  # column 2, row 1
    assert table[1 + 5].tolist() == pytest.approx([*expected, math.sin(1), math.sin(0.01), math.cos(1), math.cos(0.01)])
    for net in (masked_autoencoder("tiny", 32, 8, 0.75).vit, vit_encoder("tiny", 32, 8)[0]):
        torch.testing.assert_close(net.embeddings.position_embeddings.detach(), sines(4, 16))


def test_networks_start_as_maes_do_whatever_their_width():
    for net in (masked_autoencoder("small", 96, 16, 0.75), vit_encoder("small", 96, 16)[0]):
        layers = [
            layer.weight.flatten(1) for layer in net.modules() if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)
        ]
        assert len(layers) > 30
        for weight_OI in layers:
            limit = (6 / sum(weight_OI.shape)) ** 0.5
            assert 0.9 * limit < float(weight_OI.detach().abs().max()) <= limit


def test_pretraining_starts_a_task():
    source = abaw6.PRESETS["tiny_pretrain"]
    given = abaw6.transfer(abaw6.build(source).state_dict(), source, TINY)
    model = abaw6.build(TINY)
    assert set(given) == {name for name in model.state_dict() if name.startswith("encoders.image.")}
    model.load_state_dict(given, strict=False)


def literal_logmel(sound):
    """VGGish's log-mel of one frame after another, from its description."""
    window = np.hanning(401)[:-1]
    mel = 1127 * np.log(1 + np.array([125, 7500]) / 700)
    edges = np.linspace(*mel, 66)
    frames = []
    for start in range(0, len(sound) - 399, 160):
        magnitude = np.abs(np.fft.rfft(sound[start : start + 400] * window, 512))
        bands = np.zeros(64)
        for k in range(1, 257):
            place = 1127 * np.log(1 + k * 16_000 / 512 / 700)
            for b in range(64):
                low, mid, high = edges[b : b + 3]
                bands[b] += magnitude[k] * max(0, min((place - low) / (mid - low), (high - place) / (high - mid)))
        frames.append(np.log(bands + 0.01))
    return np.array(frames)


def test_logmel_is_vggishs_literally():
    sound = np.random.default_rng(0).normal(size=1200) * 0.1
    found = logmel(torch.from_numpy(sound).float()[None])[0].numpy()
    assert found.shape == (6, 64) and np.abs(found - literal_logmel(sound)).max() < 2e-4


def test_vggish_flattens_as_tensorflow_does():
    torch.manual_seed(0)
    net = VGGish(32).eval()
    logmel_NHW = torch.randn(2, 96, 64)
    maps = net.features(logmel_NHW[:, None])
    one_by_one = [maps[n, c, h, w] for n in range(2) for h in range(6) for w in range(4) for c in range(maps.shape[1])]
    torch.testing.assert_close(net(logmel_NHW), net.embeddings(torch.stack(one_by_one).view(2, -1)))


def test_sound_is_the_mean_of_a_clips_own_examples():
    found, mask = torch.randn(3, 4, 2), examples_of([61_680, 20_000, 0], 4)
    assert mask.sum(1).tolist() == [4, 1, 0]
    mean = mean_of_examples(found, mask)
    torch.testing.assert_close(mean, torch.stack([found[0].mean(0), found[1, 0], torch.zeros(2)]))
    for length in (1, 399, 400, *(15_360 * k + more for k in range(1, 4) for more in (0, 239, 240, 241, 600))):
        alone = logmel_examples(torch.zeros(1, length)).shape[1]
        assert examples_of([length, 90_000], 5).sum(1).tolist() == [alone, 5], length


def test_losses_are_the_equations_literally():
    torch.manual_seed(0)
    rates, num = (0.1, 0.2, 0.4), 5
    weights = abaw6_losses.inverse_weights(rates)
    inverse = [1 / rate for rate in rates]
    assert weights.tolist() == pytest.approx([value * 3 / sum(inverse) for value in inverse], rel=1e-6)
    logit = torch.randn(num, 1, 3)
    batch = {"au_BTM": torch.randint(2, (num, 1, 3)).float(), "au_mask_BTM": torch.ones(num, 1, 3, dtype=torch.bool)}
    expected = 0.0
    for s in range(num):
        for j in range(3):  # Eq. 1
            p, y = logit[s, 0, j].sigmoid().item(), batch["au_BTM"][s, 0, j].item()
            expected -= weights[j].item() * (y * math.log(p) + (1 - y) * math.log(1 - p)) / 3 / num
    assert abaw6_losses.of_task("au", {"score_BTK": logit}, batch, "", weights).item() == pytest.approx(
        expected, rel=1e-5
    )
    balanced = replace(TINY, aus=(1, 2, 4), weighted=True, balanced=True, rates=rates)
    expected = 0.0
    for s in range(num):
        for j, r in enumerate(rates):
            p, y = logit[s, 0, j].sigmoid().item(), batch["au_BTM"][s, 0, j].item()
            both = (1 - r) / r * y * math.log(p) + (1 - y) * math.log(1 - p)
            expected -= weights[j].item() * both / 3 / num
    found = abaw6.loss({"score_BTK": logit}, batch, balanced)["loss"]
    assert found.item() == pytest.approx(expected, rel=1e-5)
    index = torch.tensor([[0], [2], [-100], [1], [2]])
    expected = 0.0
    for s in range(num):
        if index[s, 0] >= 0:  # Eq. 2
            j = int(index[s, 0])
            expected -= weights[j].item() * math.log(logit[s, 0].softmax(0)[j].item()) / 3 / 4
    found = abaw6_losses.of_task("expr", {"score_BTK": logit}, {"class_BT": index}, "", weights)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    true, guess = torch.randn(num, 1, 2), torch.randn(num, 1, 2)
    expected = 0.0
    for d in range(2):  # Eq. 3 and 4
        x, y = true[:, 0, d].double().numpy(), guess[:, 0, d].double().numpy()
        ccc = 2 * np.cov(x, y)[0, 1] / (np.var(x, ddof=1) + np.var(y, ddof=1) + (x.mean() - y.mean()) ** 2)
        expected += 1 - ccc
    batch = {"affect_BTD": true, "affect_mask_BTD": torch.ones(num, 1, 2, dtype=torch.bool)}
    found = abaw6_losses.of_task("va", {"score_BTK": guess}, batch, "", torch.ones(2))
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_correlation_is_numpys_over_valid_rows():
    torch.manual_seed(0)
    found, true, mask = torch.rand(20, 3), torch.rand(20, 3), torch.rand(20, 3) < 0.7
    expected = [np.corrcoef(found[mask[:, k], k], true[mask[:, k], k])[0, 1] for k in range(3)]
    assert abaw6_losses.correlation(found, true, mask).tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("task", ["au", "expr", "va", "emi"])
def test_a_masked_label_changes_neither_loss_nor_metric(task):
    config = abaw6.PRESETS[f"tiny_{task}"]
    torch.manual_seed(0)
    batch = abaw6.example(config, 6)
    out = {name: value.detach() for name, value in abaw6.build(config).eval()(batch).items()}
    worse = {name: value.clone() for name, value in batch.items()}
    if task == "expr":
        batch["class_BT"][0, 0] = worse["class_BT"][0, 0] = -100
        changed = {**out, "score_BTK": out["score_BTK"].clone(), "score0_BTK": out["score0_BTK"].clone()}
        changed["score_BTK"][0, 0] += torch.randn(8)
        changed["score0_BTK"][0, 0] += torch.randn(8)
    else:
        changed = out
        label, mask = {
            "au": ("au_BTM", "au_mask_BTM"), "va": ("affect_BTD", "affect_mask_BTD"),
            "emi": ("intensity_BK", "intensity_mask_BK"),
        }[task]  # fmt: skip
        batch[mask][(0,) * batch[mask].ndim] = worse[mask][(0,) * batch[mask].ndim] = False
        worse[label][(0,) * batch[label].ndim] = 100.0
    assert abaw6.loss(out, batch, config)["loss"] == abaw6.loss(changed, worse, config)["loss"]
    scores = []
    for found, given in ((out, batch), (changed, worse)):
        (metric,) = abaw6.metrics(config)
        metric.update(found, given)
        scores.append(metric.compute())
    assert scores[0] == scores[1]
    monitor = abaw6.RECIPES[f"tiny_{task}"].monitor
    assert monitor in scores[0] and abaw6.RECIPES[task].published.keys() <= scores[0].keys()


def items(captions=("a cat", "")):
    names = [f"au_occ_{au}" for au in TINY.aus]
    return {
        "key": ["a", "b"], "caption": list(captions), "audio": torch.randn(2, 20_000) * 0.1,
        "audio_length": torch.tensor([20_000, 0]),
        "frames": torch.randint(256, (2, 4, 3, 32, 32), dtype=torch.uint8),
        "frame_mask": torch.tensor([[True] * 4, [True, True, False, False]]),
        "labels": {
            **{name: torch.ones(2, 4) for name in names},
            **{f"{name}_mask": torch.ones(2, 4, dtype=torch.bool) for name in names},
        },
    }  # fmt: skip


def test_prepare_masks_silence_and_padding():
    config = replace(TINY, text="words")
    batch = abaw6.prepare(items(), config)
    assert batch["logmel_mask_BN"].any(1).tolist() == [True, False] and batch["said_B"].tolist() == [True, False]
    assert batch["au_mask_BTM"].sum((1, 2)).tolist() == [48, 24]
    model = abaw6.build(config).eval()
    with torch.no_grad():
        first = model(batch)["score_BTK"]
        louder = {**batch, "logmel_BNHW": batch["logmel_BNHW"].clone()}
        louder["logmel_BNHW"][1] += 1
        assert torch.equal(model(louder)["score_BTK"], first)
        padded = {**batch, "image_BTCHW": batch["image_BTCHW"].clone()}
        padded["image_BTCHW"][1, 2:] += 1
        torch.testing.assert_close(model(padded)["score_BTK"][1, :2], first[1, :2])
    single = {name: value[:, :1] for name, value in items().items() if name in ("frames", "frame_mask")}
    assert set(abaw6.prepare(single, config)) == {"image_BTCHW", "frame_mask_BT"}
    with pytest.raises(ValueError, match="expected 64"):
        abaw6.prepare(items(), replace(config, image_size=64))


def test_pretraining_hides_the_same_patches_for_a_seed():
    config = abaw6.PRESETS["tiny_pretrain"]
    drawn = [abaw6.prepare(items(), config, torch.Generator().manual_seed(n))["noise_BTL"] for n in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_lora_adapts_a_frozen_tower(tmp_path):
    ensure()
    pytest.importorskip("peft")
    from tiny_models import tiny_clip_text

    folder = str(tiny_clip_text(tmp_path / "clip"))
    config = replace(abaw6.PRESETS["tiny_emi"], text=folder, text_width=32, lora_rank=2, weights="random", sound="none")
    model = abaw6.build(config)
    trained = [name for name, p in model.fusion.reader.named_parameters() if p.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    given = {**items(), "labels": {}}
    batch = abaw6.prepare(given, config) | {
        "intensity_BK": torch.rand(2, 6), "intensity_mask_BK": torch.ones(2, 6, dtype=torch.bool),
    }  # fmt: skip
    abaw6.loss(model(batch), batch, config)["loss"].backward()
    assert any(p.grad is not None and p.grad.any() for n, p in model.fusion.reader.named_parameters() if "lora_B" in n)


def test_rates_are_needed_where_labels_are_weighed():
    config = replace(TINY, weighted=True)
    batch = abaw6.example(config, 2)
    with pytest.raises(ValueError, match="still to be counted"):
        abaw6.loss(abaw6.build(config)(batch), batch, config)
    filled = abaw6.with_rates(config, {f"au_occ_{au}": 0.1 for au in TINY.aus})
    assert filled.rates == (0.1,) * 12
    with pytest.raises(ValueError, match="au_occ_26"):
        abaw6.with_rates(config, {f"au_occ_{au}": 0.1 for au in TINY.aus[:-1]})


def test_valence_and_arousal_start_where_tanh_has_a_gradient():
    config = abaw6.PRESETS["small_va"]
    torch.manual_seed(0)
    batch = {"feature_BTC": torch.randn(16, 48, 192), "frame_mask_BT": torch.ones(16, 48, dtype=torch.bool)}
    found = abaw6.Fusion(config).eval()(batch)["score_BTK"]
    assert 0 < float(found.abs().max()) < 0.5  # a linear layer's own start: 0.96


def test_vggish_is_not_used_without_its_weights():
    config = replace(abaw6.PRESETS["tiny_au"], sound="vggish")
    with pytest.raises(ValueError, match="VGGish without its weights hears noise: --set sound_weights=FILE"):
        abaw6.build(config)
    assert abaw6.build(replace(config, sound_weights="random")).encoders.sound is not None
    assert abaw6.build(replace(config, weights=None)).encoders.sound is not None  # a saved model brings its own


def test_a_window_longer_than_there_are_places_for_is_named():
    config = replace(TINY, clip_frames=2)
    with pytest.raises(ValueError, match="a window of 4 frames, and clip_frames=2: set"):
        abaw6.build(config)(abaw6.example(config, 2, num_frames=4))


@pytest.mark.parametrize("preset", ["tiny_au", "tiny_words"])
def test_a_clip_of_which_nothing_is_known_is_answered_by_numbers(preset):
    config = abaw6.PRESETS[preset]
    model = abaw6.build(config).eval()
    batch = abaw6.example(config, 3)
    for name in ("frame_mask_BT", "heard_B", "said_B"):
        if name in batch:
            batch[name][1] = False
    with torch.no_grad():
        found = model(batch)["score_BTK"]
        others = model({name: value[[0, 2]] for name, value in batch.items()})["score_BTK"]
    assert bool(found.isfinite().all())
    torch.testing.assert_close(found[[0, 2]], others)


def test_a_text_tower_that_has_moved_is_named(tmp_path):
    ensure()
    pytest.importorskip("peft")
    from reactionnet_models.pretrained import from_pretrained, save_pretrained
    from tiny_models import tiny_clip_text

    folder = tiny_clip_text(tmp_path / "clip")
    config = replace(abaw6.PRESETS["tiny_emi"], text=str(folder), text_width=32, lora_rank=2, sound="none")
    save_pretrained(abaw6.build(config), abaw6, config, tmp_path / "model", preset="tiny_emi", details={})
    from_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="gives 32 numbers a text; set text_width=32"):
        abaw6.build(replace(config, text_width=512))
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"the text encoder .*clip' cannot be had"):
        from_pretrained(tmp_path / "model")
