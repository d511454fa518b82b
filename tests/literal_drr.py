"""DRR's adaptors and heads as one Python loop over what the paper indexes, every body a library call, on the same weights.

Weights are cut into their parts once a call, so that a loop's gradients are no dearer than if each part had a module of its
own.
"""

import torch
from torch import Tensor
from torch.nn.functional import linear

from reactionnet_models.domain_adaptor import DomainAdaptor
from reactionnet_models.reasoner import Reasoner


def adaptor(net: DomainAdaptor, x_NCHW: Tensor) -> Tensor:
    """One squeeze-and-excitation net after another, each pooling for itself, as public code does."""
    share_NK = net.choose(x_NCHW.mean((2, 3))).softmax(-1)
    found = []
    for first, bias1, last, bias2 in zip(
        net.weight1_KRC.unbind(), net.bias1_KR.unbind(), net.weight2_KRC.unbind(), net.bias2_KC.unbind(), strict=True
    ):
        hidden = torch.relu(linear(x_NCHW.mean((2, 3)), first, bias1))
        found.append(linear(hidden, last.T, bias2))
    mixed = torch.zeros_like(found[0])
    for share_N, adapted in zip(share_NK.unbind(1), found, strict=True):
        mixed = mixed + share_N[:, None] * adapted
    return x_NCHW * mixed.sigmoid()[:, :, None, None]


def heads(net: Reasoner, feature_NDF: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes (N, D, K, C) and each one's logit (N, D, K): a small MLP and a linear layer a domain and label."""
    nodes, logits = [], []
    first, last, classify = net.heads.first, net.heads.last, net.classify
    parts = (
        first.weight.unflatten(1, net.heads.places).unbind(), first.bias.unflatten(1, net.heads.places).unbind(),
        last.weight.unbind(), last.bias.unbind(), classify.weight.unbind(), classify.bias.unbind(),
    )  # fmt: skip
    for feature_NF, *of_domain in zip(feature_NDF.unbind(1), *parts, strict=True):
        for first_HF, bias_H, last_CH, bias_C, answer_1C, bias_1 in zip(
            *(part.unbind() for part in of_domain), strict=True
        ):
            hidden = torch.relu(linear(feature_NF, first_HF, bias_H))
            node = linear(hidden, last_CH, bias_C)
            nodes.append(node)
            logits.append(linear(node, answer_1C, bias_1)[:, 0])
    shape = (feature_NDF.shape[1], net.heads.places[0])
    return torch.stack(nodes, 1).unflatten(1, shape), torch.stack(logits, 1).unflatten(1, shape)
