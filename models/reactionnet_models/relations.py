"""What DRR knows of how labels relate: the relation matrix A, the contrastive loss that it prunes, and both graphs.

A is 1 where two action units are related: by how often they occur together in a fold's training labels (both P(i|j) and
P(j|i) at least 0.4, the threshold of ML-GCN's public code, since AU-GCN has none), or by FACS. Classes have no relation
but to themselves. Letters: B samples, D domains, N labels, C features, S frames; a node is (domain, label), domain first.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

THRESHOLD = 0.4
# Pairs whose muscles or meaning go together (Zhang et al., CVPR 2018, and DRR's text), and pairs that exclude each other.
FACS_TOGETHER = ((1, 2), (4, 7), (4, 9), (7, 9), (6, 12), (9, 17), (15, 17), (15, 24), (17, 24), (23, 24), (6, 7))
FACS_APART = ((2, 6), (2, 7), (12, 15), (12, 17), (4, 12))
NOTHING = -1e4  # a score that takes no part in a sum of exponentials, without the NaN of minus infinity


def count_relations(au_SN: Tensor, mask_SN: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """(N, N), true where each occurs in at least `threshold` of the other's frames; true on the diagonal.

    Only frames in which both are labelled are counted.
    """
    valid_SN = mask_SN.float()
    occurs_SN = torch.where(mask_SN, au_SN, 0).float()
    together_NN = occurs_SN.T @ occurs_SN
    of_first_NN = occurs_SN.T @ valid_SN  # frames with i in which j is labelled too
    given_NN = together_NN / of_first_NN.clamp(min=1)  # P(j | i)
    related = (given_NN >= threshold) & (threshold <= given_NN.T)
    return related | torch.eye(len(related), dtype=torch.bool, device=related.device)


def name_pairs(related_NN: Tensor, aus: Sequence[int]) -> tuple[str, ...]:
    """Related pairs as a configuration holds them, `6-12`."""
    return tuple(f"{aus[i]}-{aus[j]}" for i, j in related_NN.triu(1).nonzero().tolist())


def pair_of(text: str) -> tuple[int, int]:
    """The two labels of a pair as `name_pairs` writes it. ValueError for anything else."""
    first, _, second = text.partition("-")
    if not (first.isdecimal() and second.isdecimal()):
        raise ValueError(f"relations {text!r}; expected pairs of action units, as 6-12")
    return int(first), int(second)


def relation_matrix(aus: Sequence[int], pairs: Iterable[str] = (), facs: bool = True) -> Tensor:
    """A, (N, N) of 0 and 1: the named pairs, with `facs` also FACS's and without those that exclude each other."""
    chosen = {pair_of(pair) for pair in pairs}
    if facs:
        chosen = (chosen | set(FACS_TOGETHER)) - set(FACS_APART) - {(j, i) for i, j in FACS_APART}
    matrix = torch.eye(len(aus))
    for first, second in chosen:
        if first in aus and second in aus:
            i, j = aus.index(first), aus.index(second)
            matrix[i, j] = matrix[j, i] = 1
    return matrix


def contrastive(
    node_BDNC: Tensor, related_NN: Tensor, *, temperature: float, include_positive: bool, mask_BD: Tensor | None = None
) -> Tensor:
    """Eq. 2, averaged over samples, anchors and their positives: the same label in another domain. Scalar.

    Negatives are all nodes of labels that are not related to the anchor's (the printed "or" of the indicator would ignore
    A; the sentence below it means "and"). As printed, the positive is not in the denominator; `include_positive` adds it.
    An anchor without negatives has no printed loss and is left out there. Nodes of masked domains take no part.
    """
    num_domains, num = node_BDNC.shape[1:3]
    unit_BVC = nn.functional.normalize(node_BDNC.float(), dim=-1).flatten(1, 2)
    score_BVV = unit_BVC @ unit_BVC.transpose(1, 2) / temperature
    across_DD = ~torch.eye(num_domains, dtype=torch.bool, device=node_BDNC.device)
    same_NN = torch.eye(num, dtype=torch.bool, device=node_BDNC.device)
    positive_VV = torch.kron(across_DD, same_NN)
    negative_VV = ((related_NN.to(node_BDNC.device) == 0) & ~same_NN).repeat(num_domains, num_domains)
    valid_BVV = torch.ones_like(score_BVV, dtype=torch.bool)
    if mask_BD is not None:
        valid_BV = mask_BD.repeat_interleave(num, 1)
        valid_BVV = valid_BV[:, :, None] & valid_BV[:, None, :]
    is_negative_BVV = negative_VV & valid_BVV
    others_BV1 = torch.where(is_negative_BVV, score_BVV, NOTHING).logsumexp(-1, keepdim=True)
    counted_BVV = positive_VV & valid_BVV
    if include_positive:
        below_BVV = torch.logaddexp(others_BV1, score_BVV)
    else:
        below_BVV = others_BV1
        counted_BVV = counted_BVV & is_negative_BVV.any(-1, keepdim=True)
    each_BVV = torch.where(counted_BVV, below_BVV - score_BVV, 0)
    return each_BVV.sum() / counted_BVV.sum().clamp(min=1)


def homophily(node_BVC: Tensor, mask_BV: Tensor | None = None) -> Tensor:
    """Eq. 3: (cosine + 1) / 2 between all nodes of a sample, (B, V, V); 0 where a node is masked."""
    unit = nn.functional.normalize(node_BVC, dim=-1)
    weight_BVV = (unit @ unit.transpose(1, 2) + 1) / 2
    return weight_BVV if mask_BV is None else weight_BVV * (mask_BV[:, :, None] & mask_BV[:, None, :])


def heterophily(related_NN: Tensor, num_domains: int) -> Tensor:
    """Eq. 4: the relation of two labels, whichever domains they are in, (V, V)."""
    return related_NN.repeat(num_domains, num_domains)


class RelationGraph(nn.Module):
    """Two layers of both graphs with one set of weights, Eq. 5 and 6; the mean of both: (B, V, C) to (B, V, C).

    The homophily matrix is taken anew from each layer's features. `normalize` divides rows by their sums: as printed, 36
    positive weights multiply what they add up by about 18 a layer.
    """

    def __init__(
        self, related_NN: Tensor, num_domains: int, width: int, *, similar: bool, different: bool, normalize: bool
    ):
        super().__init__()
        if not similar and not different:
            raise ValueError("a graph needs the homophily branch, the heterophily branch, or both")
        self.similar, self.different, self.normalize = similar, different, normalize
        self.register_buffer("adjacency_VV", heterophily(related_NN, num_domains))
        self.adjacency_VV: Tensor
        start = torch.stack([nn.init.xavier_uniform_(torch.empty(width, width)) for _ in range(2)])
        self.weight_LCC = nn.Parameter(start)

    def forward(self, node_BVC: Tensor, mask_BV: Tensor | None = None) -> Tensor:
        found = []
        if self.similar:
            z_BVC = node_BVC
            for weight_CC in self.weight_LCC.unbind():
                z_BVC = torch.relu(self._rows(homophily(z_BVC, mask_BV)) @ z_BVC @ weight_CC)
            found.append(z_BVC)
        if self.different:
            weight_BVV = self.adjacency_VV.expand(len(node_BVC), -1, -1)
            if mask_BV is not None:
                weight_BVV = weight_BVV * (mask_BV[:, :, None] & mask_BV[:, None, :])
            rows_BVV, z_BVC = self._rows(weight_BVV), node_BVC
            for weight_CC in self.weight_LCC.unbind():
                z_BVC = torch.relu(rows_BVV @ z_BVC @ weight_CC)
            found.append(z_BVC)
        return torch.stack(found).mean(0)

    def _rows(self, weight_BVV: Tensor) -> Tensor:
        return weight_BVV / weight_BVV.sum(-1, keepdim=True).clamp(min=1e-6) if self.normalize else weight_BVV
