"""DRR against literal loops from its equations, and in its parts."""

import math
from dataclasses import replace

import pytest
import torch

from model_checks import assert_close, check_model, num_parameters
from reactionnet_datasets.labels import classes_of
from reactionnet_models import drr
from reactionnet_models.drr_config import related
from reactionnet_models.relations import relation_matrix

TINY = drr.PRESETS["tiny"]


def cosine(u, v):
    return sum(float(a) * float(b) for a, b in zip(u, v, strict=True)) / (
        math.sqrt(sum(float(a) ** 2 for a in u)) * math.sqrt(sum(float(b) ** 2 for b in v))
    )


@pytest.mark.parametrize(
    "preset",
    [
        "tiny_static_aud", "tiny_dynamic_aud", "tiny_dyadic", "tiny_um", "tiny_mm", "tiny_without_he_fer", "tiny_gcn_sc",
        "tiny_resnet18_aud", "tiny_fusion_aud", "tiny_uda_fer", "tiny_da_gcn_aud", "tiny_sev_net_sc",
    ],
)  # fmt: skip
def test_conforms(preset, tmp_path):
    # the contrast pulls labels' nodes together whatever the labels are: it cannot be overfitted
    config = replace(drr.PRESETS[preset], contrastive=False)
    check_model(drr, config, tmp_path, learning_rate=0.01, steps=80)


@pytest.mark.parametrize(
    ("preset", "count"),
    [
        ("static_aud", 14_325_408),  # the reference's count, without CLIP
        ("without_cdc_aud", 14_325_408),
        ("resnet18_aud", 11_176_512 + 12 * 513),
        ("resnet50_aud", 25_557_032 - 1000 * 2049 + 12 * 2049),
        ("vit_aud", 86_567_656 - 1000 * 769 + 12 * 769),
        ("gcn_aud", 11_176_512 + (2_419_632 + 468) // 3 + 288 + 12 * 13),
        ("um_bp4d", 11_904_576 + (2_419_632 + 468) // 3 + 288 + 12 * 13),
        ("uda_aud", 14_325_408 - 288 - 444),
    ],
)
def test_parameters(preset, count):
    assert num_parameters(drr, drr.PRESETS[preset]) == count


def test_every_row_of_the_tables_has_a_preset():
    baselines = ("resnet18", "resnet50", "vit", "gcn", "fusion", "uda", "da_gcn", "sev_net")
    variants = (*baselines, "without_cdc", "without_ho", "without_he", "static", "dynamic")
    assert {f"{v}_{task}" for v in variants for task in ("aud", "fer", "sc")} <= drr.PRESETS.keys()
    assert drr.RECIPES["static_sc"].published == {"sc_accuracy": 0.587}
    assert drr.RECIPES["scenes_static"].published["f1_game"] == 0.486
    assert drr.RECIPES["pr_disfa"].start == "dyadic_aud_sc"
    assert drr.PRESETS.keys() == drr.RECIPES.keys()


def test_the_answers_come_from_a_label_of_each_domain_literally():
    torch.manual_seed(0)
    config = replace(TINY, temporal=False)
    head = drr.build(config).tasks["aud"]
    feature, mask = torch.randn(1, 1, 3, 16), torch.ones(1, 1, 3, dtype=torch.bool)
    _, domain, node = head(feature, mask)
    for d in range(3):
        for n in range(3):
            first, own = head.heads.first, slice(n * config.head_width, (n + 1) * config.head_width)
            hidden = first.weight[d, own] @ feature[0, 0, d] + first.bias[d, own]
            found = head.heads.last.weight[d, n] @ hidden.relu() + head.heads.last.bias[d, n]
            torch.testing.assert_close(node[0, 0, d, n], found)
            logit = head.classify.weight[d, n] @ found + head.classify.bias[d, n]
            torch.testing.assert_close(domain[0, 0, d, n], logit[0])


def test_a_hidden_domain_changes_nothing_and_learns_nothing():
    torch.manual_seed(0)
    config = replace(TINY, hidden=("reaction",))
    model, batch = drr.build(config).eval(), drr.example(config, 3)
    other = {**batch, "image_BTCHW": torch.randn_like(batch["image_BTCHW"])}
    with torch.no_grad():
        first, second = model(batch), model(other)
    assert_close(first, second)
    assert drr.loss(first, batch, config)["loss"] == drr.loss(second, other, config)["loss"]
    assert (first["aud_logit_BTK"] != model({**batch, "text_BF": batch["text_BF"] + 1})["aud_logit_BTK"]).any()


def test_a_missing_domain_is_left_out_of_the_loss_literally():
    torch.manual_seed(0)
    config = replace(TINY, contrastive=False, graph="none")
    batch = drr.example(config, 2)
    batch["domain_mask_BTD"][0, 0, 2] = False
    out = drr.build(config).eval()(batch)
    total, count = 0.0, 0
    for b in range(2):
        for d in range(3):
            if batch["domain_mask_BTD"][b, 0, d]:
                count += 1
                for n in range(3):
                    p = out["aud_domain_BTDK"][b, 0, d, n].sigmoid()
                    y = batch["au_BTM"][b, 0, n]
                    total -= (y * p.log() + (1 - y) * (1 - p).log()).item() / 3
    assert float(drr.loss(out, batch, config)["aud_domains"]) == pytest.approx(3 * total / count, rel=1e-5)


def test_what_occurs_may_weigh_as_much_as_what_does_not():
    rates = (0.1, 0.2, 0.5)
    config = replace(TINY, contrastive=False, graph="none", weighted=True, rates_aud=rates, balanced=("aud",))
    batch = drr.example(config, 4)
    out = drr.build(config).eval()(batch)
    total, inverse = 0.0, sum(1 / r for r in rates)
    for b in range(4):
        for d in range(3):
            for n, r in enumerate(rates):
                p, y = out["aud_domain_BTDK"][b, 0, d, n].sigmoid().item(), batch["au_BTM"][b, 0, n].item()
                total -= ((1 - r) / r * y * math.log(p) + (1 - y) * math.log(1 - p)) / r / inverse / 4
    assert float(drr.loss(out, batch, config)["aud_domains"]) == pytest.approx(total, rel=1e-5)
    others = drr.loss(out, batch, replace(config, balanced=("fer",)))["aud_domains"]
    assert others < 0.9 * drr.loss(out, batch, config)["aud_domains"]
    with pytest.raises(ValueError, match="balanced needs weighted"):
        replace(config, weighted=False)
    with pytest.raises(ValueError, match=r"balanced \('au',\): expected some of aud, fer, sc"):
        replace(config, balanced=("au",))


@pytest.mark.parametrize("preset", ["static_aud", "resnet18_aud", "fusion_aud", "sev_net_aud", "uda_fer", "dyadic"])
def test_answers_start_at_the_labels_shares_but_of_balanced_tasks(preset):
    config = drr.PRESETS[f"tiny_{preset}"]
    shares = {task: tuple(0.1 + 0.02 * k for k in range(len(config.names(task)))) for task in config.tasks}
    config = replace(config, start_at_rates=True, **{f"rates_{task}": share for task, share in shares.items()})

    def starts(changed):
        heads = drr.build(changed).tasks
        width = {task: len(changed.names(task)) for task in changed.tasks}
        return {
            task: torch.cat([bias.sigmoid().reshape(-1, width[task]) for bias in heads[task].biases()])
            for task in changed.tasks
        }

    for task, found in starts(config).items():
        assert torch.allclose(found, torch.tensor(shares[task]).expand_as(found), atol=1e-4)
    balanced = replace(config, weighted=True, balanced=config.tasks)
    for other in (balanced, replace(config, start_at_rates=False)):
        for task, found in starts(other).items():
            assert not torch.allclose(found, torch.tensor(shares[task]).expand_as(found), atol=0.05)


def test_a_frame_of_which_nothing_is_known_has_the_labels_shares():
    config = replace(TINY, rates_aud=(0.1, 0.2, 0.3), start_at_rates=True)
    batch = drr.example(config, 2)
    batch["domain_mask_BTD"] = torch.zeros_like(batch["domain_mask_BTD"])
    answer = drr.build(config).eval()(batch)["aud_logit_BTK"].sigmoid()
    assert torch.allclose(answer, torch.tensor([0.1, 0.2, 0.3]).expand_as(answer), atol=1e-4)


def test_a_masked_label_changes_neither_loss_nor_metric():
    config = replace(drr.PRESETS["tiny_dyadic"], per_scene=True)
    batch = drr.example(config, 5)
    batch["au_mask_BTM"][0, 0, 1] = False
    batch["expression_BT"][1, 0] = -100
    worse = {**batch, "au_BTM": batch["au_BTM"].clone()}
    worse["au_BTM"][0, 0, 1] = 7.0
    out = {name: value.detach() for name, value in drr.build(config).eval()(batch).items()}
    assert drr.loss(out, batch, config)["loss"] == drr.loss(out, worse, config)["loss"]
    changed = {**out, "fer_logit_BTK": out["fer_logit_BTK"].clone()}
    changed["fer_logit_BTK"][1] += torch.randn(7)
    assert drr.loss(out, batch, config)["fer_graph"] == drr.loss(changed, batch, config)["fer_graph"]
    scores = []
    for found, given in ((out, batch), (changed, worse)):
        metrics = drr.metrics(config)
        for metric in metrics:
            metric.update(found, given)
        scores.append([metric.compute() for metric in metrics])
    assert scores[0] == scores[1]
    assert {"f1", "fer_accuracy", "sc_accuracy", "f1_scenes"} <= {name for found in scores[0] for name in found}


def test_scenes_are_judged_apart():
    config = replace(TINY, per_scene=True)
    metric = drr.metrics(config)[-1]
    truth = torch.tensor([1.0, 0.0, 1.0]).expand(4, 1, 3)
    logit = torch.where(torch.tensor([True, True, False, False])[:, None, None], truth * 10 - 5, 5 - truth * 10)
    batch = {
        "au_BTM": truth, "au_mask_BTM": torch.ones(4, 1, 3, dtype=torch.bool), "scene_B": torch.tensor([2, 2, 4, -100]),
    }  # fmt: skip
    metric.update({"aud_logit_BTK": logit}, batch)
    game, show = classes_of("scene8")[2], classes_of("scene8")[4]
    found = metric.compute()
    assert found[f"f1_{show}"] == 0 and found[f"f1_{game}"] > 0 and len(found) == 3


def items(config, captions=("a cat", "")):
    length, side = 2, config.image_size
    names = [f"au_occ_{au}" for au in config.aus]
    return {
        "key": ["a", "b"], "caption": list(captions),
        "frames": torch.randint(256, (2, length, 3, side, side), dtype=torch.uint8),
        "stimulus": torch.randint(256, (2, length, 3, side, side), dtype=torch.uint8),
        "frame_mask": torch.tensor([[True, True], [True, False]]),
        "stimulus_mask": torch.tensor([[False, True], [True, True]]),
        "labels": {
            **{name: torch.ones(2, length) for name in names},
            **{f"{name}_mask": torch.ones(2, length, dtype=torch.bool) for name in names},
        },
    }  # fmt: skip


def test_prepare_masks_what_is_missing():
    config = replace(TINY, text="words")
    batch = drr.prepare(items(config), config)
    assert batch["domain_mask_BTD"].tolist() == [
        [[True, False, True], [True, True, True]],
        [[True, True, False], [False, False, False]],
    ]
    assert batch["au_mask_BTM"].all(-1).tolist() == [[True, True], [True, False]]
    assert bool(drr.loss(drr.build(config)(batch), batch, config)["loss"].isfinite())
    with pytest.raises(ValueError, match="expected 24"):
        drr.prepare(items(config), replace(config, image_size=24))


def test_captions_are_read_by_a_real_text_tower(tmp_path):
    from reactionnet_models.captions import embed, word_ids
    from tiny_models import tiny_clip_text

    folder = str(tiny_clip_text(tmp_path / "clip"))
    first, second = embed(["a cat", "a red ball"], folder, 32), embed(["a red ball"], folder, 32)
    torch.testing.assert_close(first[1:], second)
    assert (first[0] != first[1]).any()
    assert word_ids(["A cat!", "a  cat"])[0].tolist() == word_ids(["A cat!", "a  cat"])[1].tolist()
    with pytest.raises(ValueError, match="cannot be had"):
        embed(["a cat"], str(tmp_path / "nothing"), 16)
    config = replace(TINY, text=folder)
    with pytest.raises(ValueError, match="text_width=32"):
        drr.prepare(items(config), config)


def test_labels_give_rates_and_relations():
    config = replace(TINY, relations=None, weighted=True)
    with pytest.raises(ValueError, match="still to be counted"):
        drr.loss(drr.build(config)(drr.example(config, 2)), drr.example(config, 2), config)
    config = drr.with_rates(config, {"au_occ_1": 0.5, "au_occ_6": 0.25, "au_occ_12": 0.25})
    assert config.rates_aud == (0.5, 0.25, 0.25)
    with pytest.raises(ValueError, match="au_occ_12 never or always occurs"):
        drr.with_rates(replace(config, rates_aud=None), {"au_occ_1": 0.5, "au_occ_6": 0.25})
    labels = {
        "au_occ_1": torch.tensor([[1.0, 0, 0, 0, 1]]), "au_occ_6": torch.tensor([[0.0, 1, 1, 0, 0]]),
        "au_occ_12": torch.tensor([[0.0, 1, 1, 1, 0]]),
    }  # fmt: skip
    masks = {f"{name}_mask": torch.ones(1, 5, dtype=torch.bool) for name in labels}
    counted = drr.with_labels(config, labels | masks)
    assert counted.relations == ("6-12",)
    assert related(counted, "aud").tolist() == [[1, 0, 0], [0, 1, 1], [0, 1, 1]]
    assert related(counted, "fer").tolist() == torch.eye(7).tolist()
    loss = drr.loss(drr.build(counted)(drr.example(counted, 2)), drr.example(counted, 2), counted)["loss"]
    assert bool(loss.isfinite())


def test_pr_takes_the_encoder_alone():
    source, config = drr.PRESETS["tiny_dyadic"], drr.PRESETS["tiny_um"]
    given = drr.transfer(drr.build(source).state_dict(), source, config)
    model = drr.build(config)
    assert set(given) == {name for name in model.state_dict() if name.startswith("encoder.")}
    model.load_state_dict(given, strict=False)
    with pytest.raises(ValueError, match="cannot start"):
        drr.transfer(given, source, replace(config, adapters=3))


def test_dynamic_takes_all_of_static_but_its_gru():
    source = replace(TINY, rates_aud=(0.2, 0.3, 0.4))  # counted in training
    config = replace(TINY, temporal=True)
    given = drr.transfer(drr.build(source).state_dict(), source, config)
    fresh = drr.build(config)
    missing, unexpected = fresh.load_state_dict(given, strict=False)
    assert missing and all("over_time" in name for name in missing) and not unexpected
    for other in (replace(config, aus=(1, 2, 4)), replace(config, tasks=("fer",)), replace(config, delay_s=0.2)):
        assert all(name.startswith("encoder.") for name in drr.transfer(given, source, other))


def test_the_stimulus_is_taken_earlier_and_not_mirrored():
    told = drr.stream(replace(TINY, delay_s=0.4), train=True)
    assert told["delay_s"] == 0.4 and told["augment_stimulus"].flip == 0
    assert drr.stream(drr.PRESETS["tiny_um"], train=True) == {}


def test_only_dynamic_looks_at_other_frames():
    for preset, moved in (("tiny_static_aud", False), ("tiny_dynamic_aud", True)):
        torch.manual_seed(0)
        config = drr.PRESETS[preset]
        model, batch = drr.build(config).eval(), drr.example(config, 1, num_frames=3)
        other = {**batch, "image_BTCHW": batch["image_BTCHW"].clone()}
        other["image_BTCHW"][:, 0] += 1
        with torch.no_grad():
            first, second = model(batch)["aud_logit_BTK"], model(other)["aud_logit_BTK"]
        assert bool((first[:, 1:] != second[:, 1:]).any()) is moved


def test_facs_relations_are_those_that_the_paper_names():
    matrix = relation_matrix((4, 6, 7, 12))
    assert matrix[1, 2] == 1 and matrix[1, 3] == 1 and matrix[3, 0] == 0
    assert torch.equal(matrix, matrix.T)
    assert relation_matrix((4, 12), ("4-12",)).tolist() == [[1, 0], [0, 1]]  # FACS's exclusion wins over a count


def test_dynamic_follows_each_node_with_a_gru():
    torch.manual_seed(0)
    config = drr.PRESETS["tiny_dynamic_aud"]
    head = drr.build(config).tasks["aud"]
    gru = torch.nn.GRU(6, 6, batch_first=True)
    gru.load_state_dict({f"{name}_l0": value for name, value in head.over_time.state_dict().items()})
    feature, mask = torch.randn(2, 5, 3, 16), torch.ones(2, 5, 3, dtype=torch.bool)
    _, _, found = head(feature, mask)
    still = head.heads(feature.flatten(0, 1)).unflatten(0, (2, 5))
    for d in range(2):
        for k in range(3):
            expected = still[:, :, d, k] + gru(still[:, :, d, k])[0]
            torch.testing.assert_close(found[:, :, d, k], expected)
    torch.testing.assert_close(found[:, :, 2], still[:, :, 2])  # a caption does not move


@pytest.mark.parametrize("preset", ["tiny_dyadic", "tiny_dynamic_aud"])
def test_compiles_into_one_graph(preset):
    config = drr.PRESETS[preset]
    model, batch = drr.build(config).eval(), drr.example(config, 2)
    torch._dynamo.reset()
    with torch.no_grad():
        assert_close(torch.compile(model, backend="eager", fullgraph=True)(batch), model(batch))


def test_a_batch_of_one_picture_can_train_feature_fusion():
    """Whatever is left of the last batch of an epoch; its mean over places is one number a channel."""
    torch.manual_seed(0)
    config = drr.PRESETS["tiny_fusion_aud"]
    model = drr.build(config)
    for num in (4, 1):
        batch = drr.example(config, num)
        drr.loss(model(batch), batch, config)["loss"].backward()
        assert all(bool(value.isfinite().all()) for value in model.state_dict().values())
