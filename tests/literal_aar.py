"""AAR's equations as loops over what they index, every body a library call: the yardstick of tests and benchmarks.

Weights are taken from our layers, so that both compute the same numbers; each is cut into its parts once a call, so that a
loop's gradients are no dearer than if every patch and action unit had a module of its own.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from reactionnet_models.aar import AAR, AttentionNetwork, RelationNetwork
from reactionnet_models.au_graph import TemporalGraph
from reactionnet_models.regions import PatchConv, RegionLayer


def patch_conv(layer: PatchConv, image: Tensor) -> Tensor:
    """One batch normalisation, ReLU and convolution for each patch."""
    side, num = layer.side, image.shape[1]
    rows, columns = image.shape[2] // side, image.shape[3] // side
    out = layer.conv.out_channels // side**2
    weights, biases = layer.conv.weight.split(out), layer.conv.bias.split(out)
    means, variances = layer.bn.running_mean.split(num), layer.bn.running_var.split(num)
    gains, shifts = layer.bn.weight.split(num), layer.bn.bias.split(num)
    strips = []
    for i in range(side):
        strip = []
        for j in range(side):
            p = i * side + j
            patch = image[:, :, i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
            patch = functional.batch_norm(
                patch, means[p], variances[p], gains[p], shifts[p], layer.training, 0.1, layer.bn.eps
            )
            strip.append(functional.conv2d(functional.relu(patch), weights[p], biases[p], padding=1))
        strips.append(torch.cat(strip, dim=3))
    return torch.cat(strips, dim=2)


def region(layer: RegionLayer, image: Tensor) -> Tensor:
    whole = layer.conv(image)
    b1 = patch_conv(layer.patches8, whole)
    b2 = patch_conv(layer.patches4, b1)
    b3 = patch_conv(layer.patches2, b2)
    return functional.relu(layer.bn(whole + torch.cat([b1, b2, b3], dim=1)))


def attention(net: AttentionNetwork, image_BTCHW: Tensor) -> dict[str, Tensor]:
    """A loop over action units."""
    x = net.pool(region(net.region2, net.pool(region(net.region1, image_BTCHW.flatten(0, 1)))))
    parts = {name: _parts(layer, net.num) for name, layer in net.named_children() if name[:2] in ("co", "bn", "at")}

    def conv(name: str, value: Tensor, j: int) -> Tensor:
        return functional.conv2d(value, parts[name]["weight"][j], parts[name]["bias"][j], padding=1)

    def norm(name: str, value: Tensor, j: int) -> Tensor:
        mine = {key: values[j] for key, values in parts[name].items()}
        layer = getattr(net, name)
        return functional.relu(functional.batch_norm(value, training=layer.training, eps=layer.eps, **mine))

    weights, biases = net.weight_MC.split(1), net.bias_M.split(1)
    maps, logits, features = [], [], []
    for j in range(net.num):
        y = norm("bn3", conv("conv3", norm("bn2", conv("conv2", norm("bn1", conv("conv1", x, j), j), j), j), j), j)
        map_N1HW = torch.sigmoid(conv("attend", y, j))
        y = norm("bn5", conv("conv5", norm("bn4", conv("conv4", y, j) * map_N1HW, j), j), j)
        feature = y.mean((2, 3))
        maps.append(map_N1HW[:, 0])
        features.append(feature)
        logits.append(functional.linear(feature, weights[j], biases[j])[:, 0])
    shape = image_BTCHW.shape[:2]
    return {
        "attention_BTMHW": torch.stack(maps, 1).unflatten(0, shape),
        "feature_BTMC": torch.stack(features, 1).unflatten(0, shape),
        "logit_BTM": torch.stack(logits, 1).unflatten(0, shape),
    }


def _parts(layer: nn.Module, num: int) -> dict[str, tuple[Tensor, ...]]:
    """Weights, and running means and variances, of each action unit."""
    state = [*layer.named_parameters(), *layer.named_buffers()]
    return {name: value.chunk(num) for name, value in state if name != "num_batches_tracked"}


def temporal_graph(layer: TemporalGraph, feature_BTMC: Tensor) -> Tensor:
    """Eq. 13, a loop over frames and action units; sequences go together."""
    units, width = len(layer.relation_ME), layer.width
    related = functional.relu(layer.relation_ME @ layer.relation_ME.T)
    total = related.sum() if layer.norm == "global" else related.sum(1, keepdim=True)
    related = torch.eye(units, dtype=feature_BTMC.dtype) + related / total

    own = layer.unit_ME.unbind(0)
    pools = layer.pool_ECGC.movedim(2, 0).contiguous().unbind()  # each as a module of its own would have it

    def gconv(gate: int, x: Tensor) -> Tensor:
        mixed = related @ x
        rows = []
        for i in range(units):
            theta = torch.tensordot(own[i], pools[gate], dims=1)  # Q_i W
            rows.append(mixed[:, i] @ theta)
        return torch.stack(rows, dim=1)

    h, states = feature_BTMC.new_zeros(len(feature_BTMC), units, width), []
    for x in feature_BTMC.unbind(1):
        z = torch.sigmoid(gconv(0, torch.cat([h, x], dim=2)))
        r = torch.sigmoid(gconv(1, torch.cat([h, x], dim=2)))
        candidate = torch.tanh(gconv(2, torch.cat([r * h, x], dim=2)))
        h = z * h + (1 - z) * candidate
        states.append(h)
    return torch.stack(states, dim=1)


def relation(net: RelationNetwork, feature_BTMC: Tensor) -> Tensor:
    """Logits (B, T, M)."""
    for layer in net.graphs:
        feature_BTMC = temporal_graph(layer, feature_BTMC)
    return torch.stack(
        [functional.linear(feature_BTMC[:, :, j], net.weight_MC[j], net.bias_M[j]) for j in range(len(net.bias_M))],
        dim=-1,
    )


def whole(model: AAR, image_BTCHW: Tensor) -> Tensor:
    return relation(model.relation, attention(model.attention, image_BTCHW)["feature_BTMC"])


def attention_map(centres: list[tuple[float, float]], image_size: int, map_size: int, delta: float) -> Tensor:
    """Eq. 1 and 2, pixel by pixel."""
    found = torch.zeros(map_size, map_size)
    for y in range(map_size):
        for x in range(map_size):
            for cx, cy in centres:
                a = math.floor(cx / image_size * map_size + 0.5)
                b = math.floor(cy / image_size * map_size + 0.5)
                value = math.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * delta**2))
                found[y, x] = max(float(found[y, x]), value)
    return found
