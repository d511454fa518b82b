"""DRR's adaptors and heads as one Python loop over what the paper indexes, every body a library call, on the same weights."""

import torch
from torch import Tensor
from torch.nn.functional import linear

from reactionnet_models.domain_adaptor import DomainAdaptor
from reactionnet_models.reasoner import Reasoner


def adaptor(net: DomainAdaptor, x_NCHW: Tensor) -> Tensor:
    """One squeeze-and-excitation net after another, each pooling for itself, as public code does."""
    share_NK = net.choose(x_NCHW.mean((2, 3))).softmax(-1)
    found = []
    for k in range(len(net.weight1_KRC)):
        hidden = torch.relu(linear(x_NCHW.mean((2, 3)), net.weight1_KRC[k], net.bias1_KR[k]))
        found.append(linear(hidden, net.weight2_KRC[k].T, net.bias2_KC[k]))
    mixed = torch.zeros_like(found[0])
    for k, adapted in enumerate(found):
        mixed = mixed + share_NK[:, k, None] * adapted
    return x_NCHW * mixed.sigmoid()[:, :, None, None]


def heads(net: Reasoner, feature_NDF: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes (N, D, K, C) and each one's logit (N, D, K): a small MLP and a linear layer a domain and label."""
    nodes, logits = [], []
    for d in range(feature_NDF.shape[1]):
        for k in range(net.heads.num_labels):
            last = net.heads.last
            hidden = torch.relu(linear(feature_NDF[:, d], net.heads.weight_DFKH[d, :, k].T, net.heads.bias_DKH[d, k]))
            node = linear(hidden, last.weight[d, k].T, last.bias[d, k])
            nodes.append(node)
            logits.append(linear(node, net.classify.weight[d, k].T, net.classify.bias[d, k])[:, 0])
    shape = (feature_NDF.shape[1], net.heads.num_labels)
    return torch.stack(nodes, 1).unflatten(1, shape), torch.stack(logits, 1).unflatten(1, shape)
