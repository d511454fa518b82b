"""AAR: sizes, every layer against its loop, landmarks to maps, and that maps reach planted centres."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import literal_aar as literal
from drawn_landmarks import face
from model_checks import assert_close, check_model, num_parameters
from reactionnet_models import aar, alignment, pretrained
from reactionnet_models.attention_maps import CENTRES, attention_maps, au_centres
from reactionnet_models.au_graph import SharedGraph, SpatialGraph, TemporalGraph, adjacency
from reactionnet_models.regions import PatchConv, RegionLayer
from reactionnet_models.training import learning_rate_factor, make_optimiser

COUNTS = {
    "bp4d": 7_175_364, "affwild2": 7_175_364, "disfa": 5_616_952, "gft": 6_396_158, "bp4d_b_net": 6_278_700,
    "bp4d_bw_net": 6_278_700, "bp4d_aa": 6_289_080, "bp4d_aa_gsh": 6_289_080 + 19_788,
    "bp4d_aa_gsp": 6_289_080 + 149_004, "bp4d_aa_gsp_tavg": 6_289_080 + 149_004,
}  # fmt: skip
TINY = aar.PRESETS["tiny"]


@pytest.mark.parametrize("preset", COUNTS)
def test_sizes_are_the_papers(preset):
    assert num_parameters(aar, aar.PRESETS[preset]) == COUNTS[preset]


def test_every_published_preset_has_a_size_to_be_checked():
    assert set(COUNTS) == {name for name in aar.PRESETS if not name.startswith(("small", "tiny"))}


def test_of_the_small_presets_only_bw_net_weighs_rare_units():
    weigh = {name for name, config in aar.PRESETS.items() if name.startswith("small") and config.weighted}
    assert weigh == {"small_bw_net"}
    assert {name for name, config in aar.PRESETS.items() if name.startswith("bp4d") and not config.weighted} == {
        "bp4d_b_net"
    }


def test_without_weights_answers_start_at_the_units_shares():
    shares = pytest.approx(TINY.rates, rel=1e-4)
    net = aar.build(replace(TINY, weighted=False))
    assert net.attention.bias_M.sigmoid().tolist() == shares and net.relation.bias_M.sigmoid().tolist() == shares
    for other in (TINY, replace(TINY, weighted=False, start_at_rates=False)):
        net = aar.build(other)
        assert net.attention.bias_M.sigmoid().tolist() != shares and not net.relation.bias_M.any()


def test_parts_have_the_papers_sizes():
    with torch.device("meta"):
        region1, region2, net = RegionLayer(3, 32), RegionLayer(32, 64), aar.AttentionNetwork(aar.Config(bn5=False))
    count = [sum(p.numel() for p in layer.parameters()) for layer in (region1, region2)]
    assert count == [322_464, 1_292_928]
    assert sum(p.numel() for p in net.parameters()) == 1_615_392 + 12 * 389_282


@pytest.mark.parametrize("preset", ["tiny", "tiny_b_net", "tiny_aa_gsh", "tiny_aa_gsp_tavg"])
def test_conforms(preset, tmp_path):
    check_model(aar, aar.PRESETS[preset], tmp_path, learning_rate=0.02, steps=80)


def scramble(model: nn.Module) -> nn.Module:
    """Running means and gains that differ by channel, so that a mix-up of channels shows."""
    torch.manual_seed(5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_()
    return model


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("side", [8, 4, 2])
def test_a_patch_layer_is_a_loop_over_patches(side, training):
    torch.manual_seed(0)
    layer = scramble(PatchConv(4, 2, side)).train(training)
    image = torch.randn(3, 4, 16, 32)
    torch.testing.assert_close(layer(image), literal.patch_conv(layer, image), atol=1e-5, rtol=1e-4)


def test_the_whole_network_is_its_loops_with_gradients():
    torch.manual_seed(0)
    model = scramble(aar.build(TINY)).eval()
    image = torch.rand(2, 3, 3, 32, 32)
    found = model.attention({"image_BTCHW": image})
    assert_close(found, literal.attention(model.attention, image))
    ours, theirs = model({"image_BTCHW": image})["logit_BTM"], literal.whole(model, image)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    parameters = [
        p for p in model.parameters() if p is not model.attention.weight_MC and p is not model.attention.bias_M
    ]
    for mine, loop in zip(
        torch.autograd.grad(ours.square().sum(), parameters),
        torch.autograd.grad(theirs.square().sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(mine, loop, atol=1e-4, rtol=1e-3)


def test_a_unit_that_is_seen_nowhere_has_a_gradient_all_the_same():
    """Where the attention has come to 0 in floating point, what it was multiplied with cannot be had back from the product."""
    torch.manual_seed(0)
    model = scramble(aar.build(TINY))
    with torch.no_grad():
        model.attention.attend.bias[0] = -1e4
    image = torch.rand(2, 3, 3, 32, 32)
    ours, theirs = model.attention({"image_BTCHW": image}), literal.attention(model.attention, image)
    assert not ours["attention_BTMHW"][:, :, 0].any()
    for mine, loop in zip(
        torch.autograd.grad(ours["logit_BTM"].square().sum(), model.attention.parameters()),
        torch.autograd.grad(theirs["logit_BTM"].square().sum(), model.attention.parameters()),
        strict=True,
    ):
        torch.testing.assert_close(mine, loop, atol=1e-4, rtol=1e-3)


def test_inference_a_picture_at_a_time_is_the_same_loops():
    torch.manual_seed(1)
    model = scramble(aar.build(TINY)).eval()
    image, shapes = torch.rand(2, 3, 3, 32, 32), []
    model.attention.conv2.register_forward_hook(lambda conv, given, out: shapes.append(len(out)))
    with torch.no_grad():
        assert_close(model.attention({"image_BTCHW": image}), literal.attention(model.attention, image))
    assert shapes == [1] * 6, "peak memory is that of one picture"


@pytest.mark.parametrize("norm", ["global", "row"])
def test_the_graph_gru_is_eq_13(norm):
    torch.manual_seed(1)
    layer = TemporalGraph(5, 6, 3, norm).double()
    feature = torch.randn(2, 19, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(layer(feature), literal.temporal_graph(layer, feature))


def test_inference_a_sequence_at_a_time_is_the_same_loop():
    torch.manual_seed(1)
    net, feature, shapes = aar.build(TINY).relation.eval(), torch.randn(3, 5, 3, 12), []
    net.graphs[0].register_forward_hook(lambda graph, given, out: shapes.append(len(out)))
    with torch.no_grad():
        torch.testing.assert_close(net({"feature_BTMC": feature})["logit_BTM"], literal.relation(net, feature))
    assert shapes == [1] * 3, "peak memory is that of one sequence"


def test_the_graph_gru_sees_no_later_frame():
    layer, feature = TemporalGraph(4, 6, 3), torch.randn(1, 6, 4, 6)
    changed = feature.clone()
    changed[:, 4:] += 1
    before, after = layer(feature), layer(changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4], after[:, 4])


@pytest.mark.parametrize("preset", ["tiny", "tiny_aa_gsh", "tiny_aa_gsp"])
def test_the_second_stage_answers_alike_under_mixed_precision(preset):
    torch.manual_seed(0)
    net = aar.build(aar.PRESETS[preset]).relation
    given = {"feature_BTMC": torch.randn(2, 4, 3, 12).bfloat16()}
    with torch.autocast("cpu", torch.bfloat16):
        mixed = net(given)["logit_BTM"]
    assert torch.equal(mixed, net({"feature_BTMC": given["feature_BTMC"].float()})["logit_BTM"])


def test_spatial_graphs_are_eq_11_and_15():
    torch.manual_seed(2)
    own, shared, feature = SpatialGraph(4, 6, 3), SharedGraph(4, 6, 3), torch.randn(2, 3, 4, 6)
    for b in range(2):
        for t in range(3):
            for layer in (own, shared):
                related = torch.relu(layer.relation_ME @ layer.relation_ME.T)
                mixed = (torch.eye(4) + related / related.sum()) @ feature[b, t]
                for i in range(4):
                    theta = shared.weight_CC
                    if layer is own:
                        theta = sum(own.unit_ME[i, e] * own.pool_ECC[e] for e in range(3))
                    torch.testing.assert_close(
                        layer(feature)[b, t, i], torch.relu(mixed[i] @ theta), atol=1e-6, rtol=1e-4
                    )


def test_the_printed_normalisation_shares_one_unit_over_the_whole_matrix():
    relation = torch.rand(5, 3)
    assert float((adjacency(relation) - torch.eye(5)).sum()) == pytest.approx(1, rel=1e-5)
    assert (adjacency(relation, "row") - torch.eye(5)).sum(1).tolist() == pytest.approx([1] * 5, rel=1e-5)


def test_maps_are_the_gaussians_of_eq_1_and_2_for_every_unit_of_the_four_data_sets():
    aus = tuple(sorted({*aar.BP4D_AUS, *aar.DISFA_AUS, *aar.GFT_AUS, *aar.AFFWILD2_AUS}))
    assert aus == tuple(sorted(CENTRES))
    points = face()
    maps = attention_maps(au_centres(points[None], aus), image_size=176, map_size=44, delta=3.0)[0]
    ruler = 32.0
    for place, (first, second, down) in ((aus.index(au), CENTRES[au]) for au in (1, 6, 17, 24)):
        centres = [(float(points[i, 0]), float(points[i, 1]) + down * ruler) for i in (first, second)]
        torch.testing.assert_close(maps[place], literal.attention_map(centres, 176, 44, 3.0), atol=1e-6, rtol=1e-5)


# first and second landmark of 0 to 48 and the shift downwards in distances of the inner eye corners, of JAA-Net's code
PUBLISHED_CENTRES = {
    1: (4, 5, -1 / 2), 2: (1, 8, -1 / 3), 4: (2, 7, 1 / 3), 6: (24, 29, 1), 7: (21, 26, 0), 9: (15, 17, -1 / 2),
    10: (43, 45, 0), 12: (31, 37, 0), 14: (31, 37, 0), 15: (31, 37, 0), 17: (39, 41, 1 / 2), 23: (34, 40, 0),
    24: (34, 40, 0), 25: (34, 40, 0), 26: (39, 41, 1 / 2),
}  # fmt: skip


def test_every_unit_lies_where_jaa_nets_code_puts_it():
    torch.manual_seed(0)
    points = torch.rand(2, 49, 2) * 176  # no two alike
    aus = tuple(sorted({*aar.BP4D_AUS, *aar.DISFA_AUS, *aar.GFT_AUS, *aar.AFFWILD2_AUS}))
    assert aus == tuple(PUBLISHED_CENTRES)
    for picture, centres in zip(points, au_centres(points, aus), strict=True):
        ruler = abs(float(picture[22, 0]) - float(picture[25, 0]))
        for (first, second, down), found in zip(PUBLISHED_CENTRES.values(), centres, strict=True):
            wanted = [(float(picture[i, 0]), float(picture[i, 1]) + down * ruler) for i in (first, second)]
            torch.testing.assert_close(found, torch.tensor(wanted))


def test_units_of_the_four_data_sets_are_in_the_published_order():
    assert aar.PRESETS["bp4d"].aus == (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)
    assert aar.PRESETS["disfa"].aus == (1, 2, 4, 6, 9, 12, 25, 26)
    assert aar.PRESETS["gft"].aus == (1, 2, 4, 6, 10, 12, 14, 15, 23, 24)
    assert aar.PRESETS["affwild2"].aus == (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26)


@pytest.mark.parametrize("preset", COUNTS)
def test_the_first_stage_trains_with_sgd_whose_rate_falls_every_second_epoch(preset):
    """Section IV-A2: Nesterov's momentum 0.9, decay 0.0005, a rate of 0.006 times 0.3 every 2 epochs, up to 12 epochs."""
    stage = aar.RECIPES[preset].stages[0]
    (group,) = make_optimiser(stage, nn.Linear(1, 1)).param_groups
    assert (stage.part, stage.epochs, stage.batch_size) == ("attention", 12, 16)
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 0.0005)
    factor = learning_rate_factor(stage, steps_per_epoch=10)
    rates = [group["lr"] * factor(step) for epoch in range(12) for step in (10 * epoch, 10 * epoch + 9)]
    assert rates == pytest.approx([0.006 * 0.3**k for k in range(6) for _ in range(4)])


def test_the_second_stage_trains_with_adam_at_one_rate():
    """Section IV-A2: betas 0.9 and 0.999, a rate of 0.006 that stays, up to 12 epochs, sequences of 48 frames."""
    stage = aar.RECIPES["bp4d"].stages[1]
    optimiser = make_optimiser(stage, nn.Linear(1, 1))
    (group,) = optimiser.param_groups
    assert type(optimiser) is torch.optim.Adam and group["betas"] == (0.9, 0.999) and group["weight_decay"] == 0
    assert (stage.part, stage.epochs, stage.batch_size, stage.window) == ("relation", 12, 8, 48)
    factor = learning_rate_factor(stage, steps_per_epoch=10)
    assert {group["lr"] * factor(step) for step in range(120)} == {0.006}


def test_alignment_levels_the_eyes_and_fills_the_square():
    angle, points = torch.tensor(0.3), face()
    turn = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
    tilted = (points @ turn.T * 1.7 + 12)[None]
    aligned = alignment.move(tilted, alignment.similarity(tilted, 200))[0]
    straight = alignment.move(points[None], alignment.similarity(points[None], 200))[0]
    torch.testing.assert_close(aligned, straight, atol=1e-3, rtol=1e-4)
    left, right = aligned[19:25].mean(0), aligned[25:31].mean(0)
    assert float(left[1]) == pytest.approx(float(right[1]), abs=1e-3)
    used = torch.stack([left, right, aligned[13], aligned[31], aligned[37]])
    assert float((used.amax(0) - used.amin(0)).max()) == pytest.approx(200 / 2.9, rel=1e-4)
    assert ((used.amax(0) + used.amin(0)) / 2).tolist() == pytest.approx([99.5, 99.5], abs=1e-2)


def test_a_mirrored_crop_is_the_crop_mirrored():
    image, points = torch.rand(1, 3, 200, 220), face()[None]
    plain = alignment.cropped(alignment.similarity(points, 200), torch.tensor([[5.0, 9.0]]))
    other = alignment.mirrored(plain, torch.tensor([True]), 176)
    shown = alignment.show(image, plain, 176)
    torch.testing.assert_close(alignment.show(image, other, 176), shown.flip(-1), atol=1e-4, rtol=0)
    whole = alignment.show(image, alignment.similarity(points, 200), 200)
    torch.testing.assert_close(shown, whole[:, :, 9:185, 5:181], atol=1e-4, rtol=0)


def test_picture_landmarks_and_maps_move_together():
    """A bright dot at a mouth corner stays under its landmark, through turning, crop and mirror."""
    points = face()
    frames = torch.zeros(4, 1, 3, 200, 220, dtype=torch.uint8)
    frames[..., 138:143, 78:83] = 255
    labels = {f"au_occ_{au}": torch.ones(4, 1) for au in TINY.aus}
    labels |= {f"{name}_mask": torch.ones(4, 1, dtype=torch.bool) for name in list(labels)}
    given = {
        "frames": frames, "landmarks49": points.expand(4, 1, 49, 2).clone(),
        "frame_mask": torch.ones(4, 1, dtype=torch.bool), "labels": labels,
    }  # fmt: skip
    given["landmarks49"][3] = float("nan")
    config = replace(TINY, aus=(12,), rates=(0.5,), aligned=192, crop=176, delta=3.0)
    given["labels"] = {name: value for name, value in labels.items() if "au_occ_12" in name}
    sides = set()
    for seed in range(6):
        batch = aar.prepare(given, config, torch.Generator().manual_seed(seed))
        assert batch["au_mask_BTM"][:, 0, 0].tolist() == [True, True, True, False]  # no landmarks, no label
        for sample in range(3):
            bright = batch["image_BTCHW"][sample, 0, 0]
            y, x = divmod(int(bright.argmax()), 176)
            sides.add(x > 88)
            assert float(batch["map_BTMHW"][sample, 0, 0, round(y / 4), round(x / 4)]) > 0.9
    assert sides == {True, False}, "mirrored and not"


def test_large_pictures_are_cut_out_a_few_at_a_time(monkeypatch):
    torch.manual_seed(0)
    given = {
        "frames": torch.randint(256, (2, 3, 3, 200, 220), dtype=torch.uint8), "frame_mask": torch.ones(2, 3, dtype=torch.bool),
        "landmarks49": face().expand(2, 3, 49, 2) + torch.randn(2, 3, 1, 1),
    }  # fmt: skip
    config = replace(TINY, aligned=192, crop=176)
    whole = aar.prepare(given, config, torch.Generator().manual_seed(0))["image_BTCHW"]
    sizes, show = [], aar.alignment.show
    monkeypatch.setattr(aar.alignment, "FLOAT_BYTES", 2 * 4 * 3 * 200 * 220)
    monkeypatch.setattr(aar.alignment, "show", lambda image, *rest: sizes.append(len(image)) or show(image, *rest))
    torch.testing.assert_close(aar.prepare(given, config, torch.Generator().manual_seed(0))["image_BTCHW"], whole)
    assert sizes == [2, 2, 2]


def test_a_mirror_renames_landmarks_as_the_published_table_does():
    table = (
        "10 9 8 7 6 5 4 3 2 1 11 12 13 14 19 18 17 16 15 29 28 27 26 31 30 23 22 21 20 25 24 38 37 36 35 34 33 32 43 42 41 "
        "40 39 46 45 44 49 48 47"
    )
    assert [int(point) + 1 for point in alignment.mirror_49()] == [int(word) for word in table.split()]


def test_attention_maps_reach_planted_centres():
    torch.manual_seed(0)
    config = replace(TINY, c=2, aligned=32, crop=32, delta=1.0)
    net = aar.AttentionNetwork(config)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    centres = torch.tensor([[[8.0, 8], [24, 8]], [[8, 24], [24, 24]], [[16, 20], [16, 20]]])
    maps = attention_maps(centres[None], image_size=32, map_size=8, delta=1.0)[:, None]
    image = torch.rand(8, 1, 3, 32, 32)
    batch = {
        "map_BTMHW": maps.expand(8, -1, -1, -1, -1), "aligned_BT": torch.ones(8, 1, dtype=torch.bool),
        "au_BTM": torch.randint(2, (8, 1, 3)), "au_mask_BTM": torch.ones(8, 1, 3, dtype=torch.bool),
    }  # fmt: skip
    for _ in range(250):
        optimiser.zero_grad()
        out = net({"image_BTCHW": image})
        terms = aar.loss(out, batch, config)
        terms["loss"].backward()
        optimiser.step()
    assert float(terms["attention"].detach()) < 1e-3
    found = out["attention_BTMHW"].detach()[0, 0].flatten(1).topk(2).indices
    wanted = [{2 * 8 + 2, 2 * 8 + 6}, {6 * 8 + 2, 6 * 8 + 6}]
    assert [set(row.tolist()) for row in found[:2]] == wanted
    assert 5 * 8 + 4 in found[2].tolist()


def test_eq_6_adds_twice_the_maps_error():
    torch.manual_seed(0)
    model, batch = aar.build(aar.PRESETS["tiny_aa"]), aar.example(TINY, 2)
    batch["aligned_BT"][0, 1] = False
    batch["au_mask_BTM"][0, 1] = False
    out = model(batch)
    terms = aar.loss(out, batch, TINY)
    total, num = 0.0, 0
    for b, t in ((0, 0), (1, 0), (1, 1)):
        error = (out["attention_BTMHW"][b, t] - batch["map_BTMHW"][b, t]) ** 2
        total, num = total + float(error.sum().detach()), num + error.numel()
    assert float(terms["attention"]) == pytest.approx(total / num, rel=1e-5)
    assert float(terms["loss"]) == pytest.approx(float(terms["au"]) + 2 * total / num, rel=1e-5)


def test_disfa_starts_from_bp4ds_branches(tmp_path):
    torch.manual_seed(0)
    source = replace(TINY, aus=aar.BP4D_AUS, rates=aar.BP4D_RATES)
    config = replace(TINY, aus=aar.DISFA_AUS, rates=aar.DISFA_RATES)
    trained, model = scramble(aar.build(source)), aar.build(config)
    model.load_state_dict(aar.transfer(trained.state_dict(), source, config), strict=False)
    width = source.width
    # branch of DISFA from branch of BP4D, as JAA-Net's code pairs them; AU 9 has none
    for to, origin in {0: 0, 1: 1, 2: 2, 3: 3, 5: 6, 6: 10, 7: 9}.items():
        mine, theirs = (slice(k * width, (k + 1) * width) for k in (to, origin))
        torch.testing.assert_close(model.attention.conv3.weight[mine], trained.attention.conv3.weight[theirs])
        torch.testing.assert_close(model.attention.bn4.running_mean[mine], trained.attention.bn4.running_mean[theirs])
        torch.testing.assert_close(model.attention.weight_MC[to], trained.attention.weight_MC[origin])
    assert not (model.attention.conv3.weight[4 * width] == trained.attention.conv3.weight[4 * width]).all()
    torch.testing.assert_close(model.attention.region2.conv.weight, trained.attention.region2.conv.weight)


def test_t_avg_gives_every_frame_the_mean_of_the_frames_that_count():
    model = aar.build(aar.PRESETS["tiny_aa_gsp_tavg"]).eval()
    plain = aar.build(aar.PRESETS["tiny_aa_gsp"]).eval()
    plain.load_state_dict(model.state_dict())
    batch = aar.example(TINY, 2, 4)
    batch["frame_mask_BT"][1, 2:] = False
    with torch.no_grad():
        averaged, each = (net(batch)["logit_BTM"].sigmoid() for net in (model, plain))
    torch.testing.assert_close(averaged[0, 3], each[0].mean(0))
    torch.testing.assert_close(averaged[1, 0], each[1, :2].mean(0))


@pytest.mark.parametrize("part", ["attention", "relation"])
def test_compiles_as_one_graph(part):
    """Traced whole: no part falls back to Python. (The benchmark compiles to machine code and measures.)"""
    model = aar.build(TINY).eval()
    given = {"image_BTCHW": torch.rand(1, 2, 3, 32, 32), "feature_BTMC": torch.rand(1, 3, 3, 12)}
    torch._dynamo.reset()
    traced = torch.compile(getattr(model, part), fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(traced(given)["logit_BTM"], getattr(model, part)(given)["logit_BTM"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"c": 0}, "c=0; expected 1 or more"),
        ({"crop": -16}, "crop=-16; expected 1 or more"),
        ({"embedding": 0}, "embedding=0; expected 1 or more"),
        ({"num_graphs": 0}, "num_graphs=0; expected 1 or more"),
        ({"delta": 0.0}, "delta=0.0; expected more than 0"),
        ({"delta": float("nan")}, "delta=nan; expected more than 0"),
        ({"attention_weight": -2.0}, "attention_weight=-2.0; expected 0 or more"),
        ({"threshold": 50.0}, "threshold=50.0; expected 0 to 1"),
        ({"aus": (), "rates": None}, "expected one action unit or more"),
    ],
)
def test_a_number_out_of_range_is_an_error(setting, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **setting)


def test_a_setting_that_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match="crop 100 of 112"):
        replace(TINY, aligned=112, crop=100)
    with pytest.raises(ValueError, match="no attention centre is defined for action units \\[5\\]"):
        au_centres(face()[None], (5,))
    with pytest.raises(ValueError, match="no field is called 'delat'; did you mean delta"):
        pretrained.make_config(aar.Config, {"delat": 3})
