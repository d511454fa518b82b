"""DRR's part of one task: a node of each label in each domain, their graph, and the answer.

Letters: N samples (pictures), B clips, T frames, D domains, K labels, F features of a domain, C features of a node.
"""

import torch
from torch import Tensor, nn

from reactionnet_models.drr_config import Config, related
from reactionnet_models.relations import RelationGraph


class Stacked(nn.Module):
    """A linear layer of each of several places, P in all, in one product: (N, *places, in) to (N, *places, out).

    In float32 also under mixed precision: weights are many more than what passes through them, so that turning them into
    half precision costs more than it saves.
    """

    def __init__(self, places: tuple[int, ...], num_in: int, num_out: int):
        super().__init__()
        limit = num_in**-0.5  # as nn.Linear starts
        self.weight = nn.Parameter(torch.empty(*places, num_out, num_in).uniform_(-limit, limit))
        self.bias = nn.Parameter(torch.empty(*places, num_out).uniform_(-limit, limit))

    def forward(self, x: Tensor) -> Tensor:
        out_PON = self.samples_last(x.flatten(1, -2).permute(1, 2, 0))
        return out_PON.permute(2, 0, 1).unflatten(1, self.bias.shape[:-1])

    def samples_last(self, x_PIN: Tensor) -> Tensor:
        """(P, in, N) to (P, out, N): so a product reads the weights as they lie, and the next one what this one writes."""
        with torch.autocast(x_PIN.device.type, enabled=False):
            bias_PO1, weight_POI = self.bias.flatten(0, -2)[..., None], self.weight.flatten(0, -3)
            return torch.baddbmm(bias_PO1, weight_POI, x_PIN.to(weight_POI.dtype))


class NodeHeads(nn.Module):
    """A small MLP for each label in each domain: features (N, D, F) to nodes (N, D, K, C)."""

    def __init__(self, config: Config, width: int, num_labels: int):
        super().__init__()
        num_domains, self.places = len(config.domains), (num_labels, config.head_width)
        self.first = Stacked((num_domains,), width, num_labels * config.head_width)  # all labels see the same features
        self.last = Stacked((num_domains, num_labels), config.head_width, config.node_width)

    def forward(self, feature_NDF: Tensor) -> Tensor:
        hidden_DXN = torch.relu_(self.first.samples_last(feature_NDF.permute(1, 2, 0)))
        node_PCN = self.last.samples_last(hidden_DXN.unflatten(1, self.places).flatten(0, 1))
        return node_PCN.unflatten(0, self.last.bias.shape[:2]).permute(3, 0, 1, 2)


class Attention(nn.Module):
    """DA-GCN, our reading (its paper is about recommendation and says nothing of faces): one graph layer over A whose edges
    are weighed by attention with a bias for each pair of domains."""

    def __init__(self, related_KK: Tensor, num_domains: int, width: int):
        super().__init__()
        self.num_labels = len(related_KK)
        self.register_buffer("edge_VV", related_KK.repeat(num_domains, num_domains) > 0)
        self.edge_VV: Tensor
        self.project = nn.Linear(width, width, bias=False)
        self.receives, self.sends = nn.Linear(width, 1, bias=False), nn.Linear(width, 1, bias=False)
        self.domain_DD = nn.Parameter(torch.zeros(num_domains, num_domains))

    def forward(self, node_NVC: Tensor, mask_NV: Tensor | None = None) -> Tensor:
        z_NVC = self.project(node_NVC)
        bias_VV = self.domain_DD.repeat_interleave(self.num_labels, 0).repeat_interleave(self.num_labels, 1)
        score_NVV = nn.functional.leaky_relu(self.receives(z_NVC) + self.sends(z_NVC).transpose(1, 2) + bias_VV, 0.2)
        open_NVV = self.edge_VV.expand_as(score_NVV)
        if mask_NV is not None:
            open_NVV = open_NVV & mask_NV[:, None, :]
        share_NVV = score_NVV.masked_fill(~open_NVV, -1e4).softmax(-1)
        return torch.relu(share_NVV @ z_NVC)


class Reasoner(nn.Module):
    """Nodes, an answer of each domain from its own (Eq. 1), and the graph's answer from all (Eq. 7).

    The three nodes of a label are joined for its last layer. With `temporal` a GRU that all nodes share follows each
    picture node over the clip and adds to it; the paper has no design. Without a graph the domains' mean logit answers.
    """

    def __init__(self, config: Config, width: int, task: str):
        super().__init__()
        matrix = related(config, task)
        num, num_domains, node = len(matrix), len(config.domains), config.node_width
        self.num_visual = len(config.visual)
        self.heads = NodeHeads(config, width, num)
        self.classify = Stacked((num_domains, num), node, 1)
        self.over_time = nn.GRUCell(node, node) if config.temporal else None
        self.graph: nn.Module | None = None
        if config.graph == "attention":
            self.graph = Attention(matrix, num_domains, node)
        elif config.graph == "dyadic":
            self.graph = RelationGraph(
                matrix, num_domains, node, similar=config.homophily, different=config.heterophily,
                normalize=config.normalize,
            )  # fmt: skip
        self.answer = Stacked((num,), num_domains * node, 1) if self.graph is not None else None

    def biases(self) -> list[Tensor]:
        """What a label's answers, its domains' and the graph's, add at the end, (..., K)."""
        return [layer.bias[..., 0] for layer in (self.classify, self.answer) if layer is not None]

    def forward(self, feature_BTDF: Tensor, mask_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, T, K), those of each domain (B, T, D, K), and nodes (B, T, D, K, C), 0 where a domain is missing."""
        shape = feature_BTDF.shape[:2]
        node_BTDKC = self.heads(feature_BTDF.flatten(0, 1)).unflatten(0, shape)
        if self.over_time is not None:
            node_BTDKC = self._follow(node_BTDKC)
        node_BTDKC = node_BTDKC * mask_BTD[..., None, None]
        domain_BTDK = self.classify(node_BTDKC.flatten(0, 1))[..., 0].unflatten(0, shape)
        if self.graph is None or self.answer is None:
            share_BTD1 = mask_BTD[..., None] / mask_BTD.sum(-1)[..., None, None].clamp(min=1)
            return (domain_BTDK * share_BTD1).sum(2), domain_BTDK, node_BTDKC
        node_NDKC = node_BTDKC.flatten(0, 1)
        mask_NV = mask_BTD.flatten(0, 1).repeat_interleave(node_NDKC.shape[2], 1)
        joined_NDKC = self.graph(node_NDKC.flatten(1, 2), mask_NV).unflatten(1, node_NDKC.shape[1:3])
        logit_NK = self.answer(joined_NDKC.transpose(1, 2).flatten(2))[..., 0]
        return logit_NK.unflatten(0, shape), domain_BTDK, node_BTDKC

    def _follow(self, node_BTDKC: Tensor) -> Tensor:
        assert self.over_time is not None
        seen, rest = node_BTDKC[:, :, : self.num_visual], node_BTDKC[:, :, self.num_visual :]
        shape = seen[:, 0].shape
        states, state = [], torch.zeros_like(seen[:, 0]).flatten(0, 2)
        for node_BDKC in seen.unbind(1):  # a step a frame, which torch.compile can trace, as it cannot nn.GRU
            state = self.over_time(node_BDKC.flatten(0, 2), state)
            states.append(state.view(shape))
        return torch.cat([seen + torch.stack(states, 1), rest], 2)
