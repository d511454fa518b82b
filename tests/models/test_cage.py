"""CAGE: sizes, equations, and what AffectNet-7 leaves out."""

import math
from dataclasses import replace

import pytest
import torch

from model_checks import assert_close, check_model, num_parameters
from reactionnet_models import cage

# by encoder, then by outputs: 8 or 7 classes, with or without valence and arousal, or these alone
OUTPUTS = {"discrete": (8, 7), "combined": (10, 9), "va": (2, 2)}
SIZES = {
    "maxvit": {7: 30_411_208, 8: 30_411_720, 9: 30_412_232, 10: 30_412_744, 2: 30_408_648},
    "efficientnet": {7: 20_186_455, 8: 20_187_736, 9: 20_189_017, 10: 20_190_298, 2: 20_180_050},
    "swin": {num: 27_590_260 - (10 - num) * 769 for num in (7, 8, 9, 10, 2)},  # a linear layer on 768 features
}
COUNTS = {
    f"affectnet{classes}_{encoder}_{task}": SIZES[encoder][OUTPUTS[task][classes == 7]]
    for encoder in SIZES
    for task in OUTPUTS
    for classes in (8, 7)
} | {"emotic_maxvit_combined": 30_422_472}


def test_every_published_preset_has_a_size_to_be_checked():
    assert set(COUNTS) == {name for name in cage.PRESETS if not name.startswith(("small", "tiny"))}


@pytest.mark.parametrize("preset", COUNTS)
def test_sizes_are_the_papers(preset):
    assert num_parameters(cage, cage.PRESETS[preset]) == COUNTS[preset]


@pytest.mark.parametrize("preset", ["tiny", "tiny_discrete", "tiny_va", "tiny_emotic"])
def test_conforms(preset, tmp_path):
    config = cage.PRESETS[preset]
    if config.class_weights == "inverse":
        config = cage.with_rates(config, {f"emotic_{name}": 0.5 for name in cage.classes_of("emotic26")})
    check_model(cage, config, tmp_path)


# as the scripts print them: classes 0 neutral, 1 happy, 2 sad, 3 surprise, 4 fear, 5 disgust, 6 anger, 7 contempt
CLASS_WEIGHTS = {
    "affectnet8": {
        "neutral": 0.015605, "happiness": 0.008709, "sadness": 0.046078, "surprise": 0.083078, "fear": 0.185434,
        "disgust": 0.305953, "anger": 0.046934, "contempt": 0.308210,
    },
    "affectnet7": {
        "neutral": 0.022600, "happiness": 0.012589, "sadness": 0.066464, "surprise": 0.120094, "fear": 0.265305,
        "disgust": 0.444943, "anger": 0.068006,
    },
}  # fmt: skip


@pytest.mark.parametrize("preset", [name for name in COUNTS if name.startswith("affectnet")])
def test_classes_have_the_scripts_weights_and_valence_arousal_none(preset):
    config = cage.PRESETS[preset]
    if config.task == "va":
        assert config.class_weights is None
    else:
        named = dict(zip(cage.classes_of(config.classes), config.class_weights, strict=True))
        assert named == CLASS_WEIGHTS[config.classes]


def test_the_scripts_train_20_epochs_but_affectnet7s_combined_maxvit_25():
    epochs = {preset: cage.RECIPES[preset].stages[0].epochs for preset in COUNTS}
    assert epochs == dict.fromkeys(COUNTS, 20) | {"affectnet7_maxvit_combined": 25}
    assert {cage.RECIPES[preset].stages[0].batch_size for preset in COUNTS} == {128}


@pytest.mark.parametrize("task", ["discrete", "combined"])
def test_training_weighs_classes_and_validation_does_not(task):
    torch.manual_seed(0)
    weights = tuple(CLASS_WEIGHTS["affectnet7"].values())
    config = cage.Config(encoder="tiny", weights=None, classes="affectnet7", task=task, class_weights=weights)
    out = {"expression_BK": torch.randn(6, 7), "affect_BD": torch.randn(6, 2)}
    true = [0, 5, -100, 1, 1, 6]
    batch = {
        "expression_B": torch.tensor(true), "affect_BD": torch.rand(6, 2), "affect_mask_BD": torch.ones(6, 2) > 0
    }  # fmt: skip
    surprise = {
        n: -math.log(float(out["expression_BK"][n].double().softmax(0)[k])) for n, k in enumerate(true) if k >= 0
    }
    plain = sum(surprise.values()) / 5
    weighted = sum(weights[true[n]] * one for n, one in surprise.items()) / sum(weights[true[n]] for n in surprise)
    squares = float((out["affect_BD"] - batch["affect_BD"]).square().mean()) if task == "combined" else 0.0
    judged, trained = cage.validation_loss(out, batch, config), cage.loss(out, batch, config)
    assert float(judged["ce"]) == pytest.approx(plain, rel=1e-5)
    assert float(judged["loss"]) == pytest.approx(plain + 5 * squares, rel=1e-5)
    assert float(trained["loss"]) == pytest.approx(weighted + 5 * squares, rel=1e-5)
    assert abs(plain - weighted) > 0.1


def test_validation_weighs_no_positives_either_and_leaves_valence_and_arousal_as_they_are():
    torch.manual_seed(0)
    emotic = replace(cage.PRESETS["tiny_emotic"], class_weights=tuple(float(k + 2) for k in range(26)))
    batch = cage.example(emotic, 4)
    out = {"expression_BK": torch.randn(4, 26), "affect_BD": torch.randn(4, 3)}
    p, y = out["expression_BK"].double().sigmoid(), batch["labels_BK"]
    expected = -float((y * p.log() + (1 - y) * (1 - p).log()).mean())
    assert float(cage.validation_loss(out, batch, emotic)["ce"]) == pytest.approx(expected, rel=1e-5)
    assert float(cage.loss(out, batch, emotic)["ce"]) > 2 * expected
    va = cage.PRESETS["tiny_va"]
    out, batch = {"affect_BD": torch.randn(8, 2)}, cage.example(va, 8)
    assert cage.validation_loss(out, batch, va) == cage.loss(out, batch, va)


def test_loss_matches_eq_1_by_hand():
    out = {"expression_BK": torch.zeros(2, 8), "affect_BD": torch.zeros(2, 2)}
    batch = {
        "expression_B": torch.tensor([0, 1]), "affect_BD": torch.full((2, 2), 0.5), "affect_mask_BD": torch.ones(2, 2) > 0
    }  # fmt: skip
    terms = cage.loss(out, batch, cage.Config())
    torch.testing.assert_close(terms["loss"], torch.tensor(8.0).log() + 5.0 * 0.25)


def test_loss_matches_eq_2_by_hand():
    torch.manual_seed(0)
    pred, true = torch.randn(30, 2), torch.randn(30, 2)
    total = 0.0
    for d in range(2):
        x, y = pred[:, d].double(), true[:, d].double()
        ccc = 2 * torch.cov(torch.stack([x, y]))[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
        total += 3.0 * float(((x - y) ** 2).mean()) - float(ccc)
    batch = {"affect_BD": true, "affect_mask_BD": torch.ones(30, 2, dtype=torch.bool)}
    terms = cage.loss({"affect_BD": pred}, batch, cage.Config(task="va"))
    assert float(terms["loss"]) == pytest.approx(total, rel=1e-5)


def test_emotic_weights_positives_by_their_inverse_occurrence():
    names = cage.classes_of("emotic26")
    config = cage.with_rates(
        cage.Config(classes="emotic26", multi_label=True, class_weights="inverse", weights=None),
        {f"emotic_{name}": 1 / (k + 2) for k, name in enumerate(names)},
    )
    assert config.class_weights == pytest.approx([k + 2 for k in range(26)])
    logit, true = torch.randn(3, 26), torch.randint(2, (3, 26)).float()
    total = 0.0
    for i in range(3):
        for k in range(26):
            p = torch.sigmoid(logit[i, k].double())
            total -= float((k + 2) * true[i, k] * p.log() + (1 - true[i, k]) * (1 - p).log())
    batch = {
        "labels_BK": true, "labels_mask_BK": torch.ones(3, 26, dtype=torch.bool), "affect_BD": torch.zeros(3, 2),
        "affect_mask_BD": torch.zeros(3, 2, dtype=torch.bool),
    }  # fmt: skip
    terms = cage.loss({"expression_BK": logit, "affect_BD": torch.zeros(3, 2)}, batch, config)
    assert float(terms["loss"]) == pytest.approx(total / 78, rel=1e-5)


def items(num: int = 4, side: int = 32) -> dict:
    torch.manual_seed(3)
    return {
        "frames": torch.randint(256, (num, 1, 3, side, side), dtype=torch.uint8),
        "frame_mask": torch.ones(num, 1, dtype=torch.bool),
        "labels": {
            "expression": torch.tensor([[0], [6], [-100], [3]]),
            "expression_mask": torch.tensor([[True], [True], [False], [True]]),
            **{name: torch.full((num, 1), 0.5) for name in ("valence", "arousal")},
            **{f"{name}_mask": torch.ones(num, 1, dtype=torch.bool) for name in ("valence", "arousal")},
        },
    }


def test_affectnet7_leaves_out_all_of_a_picture_with_contempt():
    config = cage.Config(encoder="tiny", weights=None, classes="affectnet7")
    batch = cage.prepare(items(), config)
    assert batch["expression_B"].tolist() == [0, 6, -100, 3]
    assert batch["affect_mask_BD"].tolist() == [[True, True], [True, True], [False, False], [True, True]]


@pytest.mark.parametrize("setting", [{"hue": 0.0}, {"p_perspective": 0.0}, {"p_erase": 0.0}])
def test_the_list_is_drawn_as_set(setting):
    config, given = cage.PRESETS["tiny"], items()
    given["frames"] = torch.randint(256, given["frames"].shape, dtype=torch.uint8)
    drawn = [
        cage.prepare(given, one, torch.Generator().manual_seed(1))["image_BCHW"]
        for one in (config, config, replace(config, **setting))
    ]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_prepare_normalises_as_imagenet_does():
    given = items()
    image = cage.prepare(given, cage.PRESETS["tiny"])["image_BCHW"]
    pixel = float(given["frames"][1, 0, 2, 5, 7])
    assert float(image[1, 2, 5, 7]) == pytest.approx((pixel / 255 - 0.406) / 0.225, abs=1e-5)


def test_valence_arousal_starts_from_the_combined_model_but_for_the_last_layer():
    torch.manual_seed(0)
    combined, config = cage.build(cage.PRESETS["tiny"]), cage.PRESETS["tiny_va"]
    state = cage.transfer(combined.state_dict(), combined.config, config)
    model = cage.build(config)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert missing == ["head.4.weight"] and not unexpected
    with pytest.raises(ValueError, match="cannot start"):
        cage.transfer(combined.state_dict(), combined.config, cage.Config(weights=None))


def test_our_head_is_a_literal_sequence_on_the_same_encoder():
    torch.manual_seed(0)
    config = cage.PRESETS["tiny"]
    model = cage.build(config).eval()
    width = 16
    literal = torch.nn.Sequential(
        torch.nn.LayerNorm(width), torch.nn.Linear(width, width), torch.nn.Tanh(), torch.nn.Linear(width, 10, bias=False)
    )  # fmt: skip
    literal.load_state_dict(model.head.state_dict())
    batch = cage.example(config, 1)
    with torch.no_grad():
        whole = literal(model.encoder(batch["image_BCHW"]))
        assert_close(model(batch), {"expression_BK": whole[:, :8], "affect_BD": whole[:, 8:]}, atol=0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"dropout": 1.5}, "dropout=1.5; expected 0 to 1"),
        ({"alpha": -1.0}, "alpha=-1.0; expected 0 or more"),
        ({"beta": math.nan}, "beta=nan; expected 0 or more"),
        ({"image_size": 0}, "image_size=0; expected 1 or more"),
        ({"task": "va", "dimensions": ()}, r"dimensions=\(\); expected one or more for task va"),
    ],
)
def test_a_number_out_of_range_is_an_error(setting, message):
    with pytest.raises(ValueError, match=message):
        cage.Config(**setting)


def test_a_setting_that_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match="task 'both'"):
        cage.Config(task="both")
    with pytest.raises(ValueError, match="2 class weights for 8"):
        cage.Config(class_weights=(1.0, 2.0))
    with pytest.raises(ValueError, match="no encoder"):
        cage.build(cage.Config(encoder="resnet", weights=None))
    with pytest.raises(ValueError, match=r"p_erase=1.5; expected 0 to 1"):
        cage.Config(p_erase=1.5)
    with pytest.raises(ValueError, match="maxvit_t takes pictures of 224 px, not 96"):
        cage.build(cage.Config(image_size=96, weights=None))
