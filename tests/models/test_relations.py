"""DRR's contrastive loss, relation matrix, graphs and adaptors, each against a loop written from its equation."""

import math

import pytest
import torch

import literal_drr
from reactionnet_models.domain_adaptor import DomainAdaptor, map_encoder, mean_similarity, similarity_of
from reactionnet_models.drr_baselines import AttentionalFusion
from reactionnet_models.drr_presets import PRESETS
from reactionnet_models.reasoner import Attention, Reasoner
from reactionnet_models.relations import (
    RelationGraph,
    contrastive,
    count_relations,
    heterophily,
    homophily,
    name_pairs,
)

RELATED = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def cosine(u, v):
    return float(torch.dot(u, v) / (u.norm() * v.norm()))


def literal_contrast(node_BDNC, temperature, include_positive, mask_BD=None):
    """Eq. 2 with "and" in the indicator."""
    batch, domains, num, _ = node_BDNC.shape
    terms = []
    for b in range(batch):
        there = [d for d in range(domains) if mask_BD is None or mask_BD[b, d]]
        for i in there:
            for m in range(num):
                below = sum(
                    math.exp(cosine(node_BDNC[b, i, m], node_BDNC[b, k, n]) / temperature)
                    for n in range(num)
                    for k in there
                    if n != m and RELATED[n, m] == 0
                )
                for j in there:
                    if j != i:
                        above = math.exp(cosine(node_BDNC[b, i, m], node_BDNC[b, j, m]) / temperature)
                        terms.append(-math.log(above / (below + (above if include_positive else 0))))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("include_positive", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_contrast_is_eq_2_literally(include_positive, masked):
    torch.manual_seed(0)
    node = torch.randn(2, 3, 4, 5)
    mask = torch.tensor([[True, True, False], [True, True, True]]) if masked else None
    found = contrastive(node, RELATED, temperature=0.5, include_positive=include_positive, mask_BD=mask)
    assert float(found) == pytest.approx(literal_contrast(node, 0.5, include_positive, mask), rel=1e-5)


def test_an_anchor_without_negatives_has_a_loss_only_with_its_positive():
    node = torch.randn(1, 2, 3, 4, requires_grad=True)
    everything = torch.ones(3, 3)
    assert float(contrastive(node, everything, temperature=0.1, include_positive=False)) == 0
    with_positive = contrastive(node, everything, temperature=0.1, include_positive=True)
    assert float(with_positive) == pytest.approx(0, abs=1e-5)
    with_positive.backward()
    assert bool(node.grad.isfinite().all())


def test_contrast_draws_a_label_together_and_leaves_related_ones_alone():
    torch.manual_seed(0)
    node = torch.randn(4, 3, 4, 6, requires_grad=True)
    optimiser = torch.optim.Adam([node], lr=0.05)
    for _ in range(60):
        optimiser.zero_grad()
        contrastive(node, RELATED, temperature=0.1, include_positive=True).backward()
        optimiser.step()
    unit = torch.nn.functional.normalize(node.detach(), dim=-1)
    same = (unit[:, 0] * unit[:, 1]).sum(-1).mean()
    unrelated = (unit[:, 0, 0] * unit[:, 1, 2]).sum(-1).mean()
    assert same > 0.8 and unrelated < 0.2
    # nothing pushes labels 0 and 1, which are related, apart
    node = torch.randn(1, 2, 4, 6, requires_grad=True)
    contrastive(node[:, :, :2], RELATED[:2, :2], temperature=0.1, include_positive=True).backward()
    assert float(node.grad.abs().max()) == pytest.approx(0, abs=1e-4)


def test_relations_are_counted_literally():
    torch.manual_seed(0)
    au, mask = (torch.rand(60, 4) < 0.5).float(), torch.rand(60, 4) < 0.8
    au[:, 1] = au[:, 0]
    found = count_relations(au, mask, 0.6)
    for i in range(4):
        for j in range(4):
            both = [s for s in range(60) if mask[s, i] and mask[s, j]]
            together = sum(int(au[s, i] and au[s, j]) for s in both)
            with_i, with_j = (sum(int(au[s, k]) for s in both) for k in (i, j))
            expected = i == j or (together / max(with_i, 1) >= 0.6 and together / max(with_j, 1) >= 0.6)
            assert bool(found[i, j]) is bool(expected)
    assert "1-2" in name_pairs(found, (1, 2, 4, 6))


def literal_graph(node_VC, related_NN, weights, domains, kind, normalize):
    """Eq. 3 to 6, one edge at a time."""
    num = len(related_NN)
    z = node_VC
    for weight in weights:
        rows = torch.zeros(domains * num, domains * num)
        for i in range(domains):
            for j in range(domains):
                for m in range(num):
                    for n in range(num):
                        edge = (cosine(z[i * num + m], z[j * num + n]) + 1) / 2 if kind == "ho" else related_NN[m, n]
                        rows[i * num + m, j * num + n] = edge
        if normalize:
            rows = rows / rows.sum(1, keepdim=True)
        z = torch.relu(rows @ z @ weight)
    return z


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("similar", "different"), [(True, True), (True, False), (False, True)])
def test_both_graphs_are_eq_3_to_6_literally(similar, different, normalize):
    torch.manual_seed(0)
    graph = RelationGraph(RELATED, 3, 5, similar=similar, different=different, normalize=normalize)
    node = torch.rand(2, 12, 5)
    weights = graph.weight_LCC.detach().abs()  # no node becomes zero, whose cosine would not be defined
    graph.weight_LCC.data = weights
    kinds = ["ho"] * similar + ["he"] * different
    for b in range(2):
        expected = [literal_graph(node[b], RELATED, weights, 3, kind, normalize) for kind in kinds]
        torch.testing.assert_close(graph(node)[b], torch.stack(expected).mean(0), rtol=1e-4, atol=1e-5)


def test_a_masked_node_has_no_edges():
    node, mask = torch.randn(1, 6, 4), torch.tensor([[True, True, False, True, True, True]])
    edges = homophily(node, mask)[0]
    assert not edges[2].any() and not edges[:, 2].any() and edges[0, 1] > 0
    assert torch.equal(heterophily(RELATED, 2)[:4, 4:], RELATED)


def literal_adaptor(adaptor, x_CHW):
    """UDA: K squeeze-and-excitation nets, one after another."""
    pooled = x_CHW.mean((1, 2))
    share = torch.softmax(adaptor.choose(pooled), 0)
    mixed = torch.zeros_like(pooled)
    for k in range(len(share)):
        hidden = torch.relu(pooled @ adaptor.weight1_KRC[k].T + adaptor.bias1_KR[k])
        mixed = mixed + share[k] * (hidden @ adaptor.weight2_KRC[k] + adaptor.bias2_KC[k])
    return x_CHW * torch.sigmoid(mixed)[:, None, None]


def test_the_adaptor_is_its_loop():
    torch.manual_seed(0)
    adaptor, x = DomainAdaptor(32, 5), torch.randn(3, 32, 4, 4)
    expected = torch.stack([literal_adaptor(adaptor, one) for one in x])
    torch.testing.assert_close(adaptor(x), expected)


@pytest.mark.parametrize(
    ("num_adapters", "count"), [(3, 273_024), (4, 364_032), (6, 546_048), (8, 728_064), (11, 1_001_088)]
)
def test_adaptors_add_as_many_parameters_as_the_reference_counts(num_adapters, count):
    with torch.device("meta"):
        plain, adapted = map_encoder("resnet18")[0], map_encoder("resnet18", num_adapters=num_adapters)[0]
    numbers = [sum(p.numel() for p in net.parameters()) for net in (plain, adapted)]
    assert numbers == [11_176_512, 11_176_512 + count]
    assert sum(p.numel() for p in DomainAdaptor(64, 11).parameters()) == 7_095


def test_adapters_may_be_asked_to_differ():
    torch.manual_seed(0)
    adapted = torch.randn(2, 3, 4)
    pairs = [cosine(adapted[n, i], adapted[n, j]) for n in range(2) for i in range(3) for j in range(3) if i != j]
    assert float(mean_similarity(adapted)) == pytest.approx(sum(pairs) / len(pairs), abs=1e-6)
    encoder, _ = map_encoder("tiny", num_adapters=3, diversify=True)
    encoder(torch.randn(2, 3, 32, 32))
    similarity_of(encoder).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_weights_of_a_resnet_fit_below_the_adaptors(tmp_path):
    from reactionnet_datasets.torchvision_on_cpu import ensure

    ensure()
    import torchvision
    from safetensors.torch import save_file

    plain, _ = map_encoder("resnet18")
    whole = torchvision.models.resnet18()
    save_file({name: value.contiguous() for name, value in whole.state_dict().items()}, tmp_path / "r18.safetensors")
    adapted, _ = map_encoder("resnet18", num_adapters=2, weights=str(tmp_path / "r18.safetensors"))
    assert torch.equal(adapted[0].weight, whole.conv1.weight) and not torch.equal(plain[0].weight, whole.conv1.weight)
    with pytest.raises(ValueError, match="no domain adaptors"):
        map_encoder("resnet50", num_adapters=2)


def test_heads_and_adaptors_answer_alike_under_mixed_precision():
    torch.manual_seed(0)
    adaptor, reasoner = DomainAdaptor(32, 3), Reasoner(PRESETS["tiny"], 16, "aud")
    x, feature = torch.randn(2, 32, 4, 4), torch.randn(2, 3, 16)

    def answers() -> list[torch.Tensor]:
        node = reasoner.heads(feature)
        return [adaptor(x), node, reasoner.classify(node)]

    plain = answers()
    with torch.autocast("cpu", torch.bfloat16):
        mixed, of_half = answers(), adaptor(x.bfloat16())
    assert all(torch.equal(one, other) for one, other in zip(plain, mixed, strict=True))
    assert of_half.dtype == torch.bfloat16  # maps stay what they are


def test_attentional_fusion_weighs_two_maps():
    torch.manual_seed(0)
    fusion = AttentionalFusion(8).eval()
    x = torch.randn(2, 8, 3, 3)
    torch.testing.assert_close(fusion(x, x), 2 * x)
    y = torch.randn(2, 8, 3, 3)
    weight = ((fusion(x, y) - 2 * y) / (2 * (x - y)))[0]
    assert bool((weight > 0).all()) and bool((weight < 1).all())


def test_attention_follows_the_relations():
    torch.manual_seed(0)
    layer = Attention(RELATED, 2, 5)
    node = torch.randn(1, 8, 5)
    moved = node.clone()
    moved[0, 2] += 1  # label 2 is related to itself alone, in both domains
    changed = (layer(node) != layer(moved)).any(-1)[0]
    assert changed.tolist()[0] is False and {n for n in range(8) if changed[n]} <= {2, 6}


def test_the_loops_of_the_benchmark_are_ours():
    torch.manual_seed(0)
    adaptor, x = DomainAdaptor(32, 3), torch.randn(2, 32, 4, 4)
    torch.testing.assert_close(literal_drr.adaptor(adaptor, x), adaptor(x))
    net = Reasoner(PRESETS["tiny"], 16, "aud")
    feature = torch.randn(4, 3, 16)
    nodes, logits = literal_drr.heads(net, feature)
    torch.testing.assert_close(nodes, net.heads(feature))
    torch.testing.assert_close(logits, net.classify(nodes)[..., 0])
