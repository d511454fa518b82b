"""AAR's graph layers over action units: spatial with shared weights (Eq. 15), spatial with weights of each unit's own
(Eq. 11), and spatio-temporal, a GRU whose gates are such layers (Eq. 13).

The adjacency I + N(ReLU(U U^T)) and the parameter pools are learned. As printed, N divides by the sum over the *whole*
matrix, so that all edges together weigh 1; `norm="row"` divides each row by its sum, which is what D^-1/2 A D^-1/2 in the
text suggests. Letters: B sequences, T frames, M action units, C features, E embedding.
"""

import torch
from torch import Tensor, nn

NORMS = ("global", "row")


def adjacency(embedding_ME: Tensor, norm: str = "global") -> Tensor:
    """I + N(ReLU(U U^T)), Eq. 10 and 11: (M, M)."""
    related_MM = torch.relu(embedding_ME @ embedding_ME.T)
    total = related_MM.sum() if norm == "global" else related_MM.sum(1, keepdim=True)
    identity = torch.eye(len(embedding_ME), device=embedding_ME.device, dtype=embedding_ME.dtype)
    return identity + related_MM / total.clamp(min=1e-12)


class SharedGraph(nn.Module):
    """G^sh, Eq. 15, then ReLU (the paper names no activation; without one two layers are one)."""

    def __init__(self, num_units: int, width: int, embedding: int, norm: str = "global"):
        super().__init__()
        self.norm = norm
        self.relation_ME = _parameter(num_units, embedding)
        self.weight_CC = _parameter(width, width)

    def forward(self, feature_BTMC: Tensor) -> Tensor:
        return torch.relu(adjacency(self.relation_ME, self.norm) @ feature_BTMC @ self.weight_CC)


class SpatialGraph(nn.Module):
    """G^sp, Eq. 11, then ReLU: unit i has the weights Q_i W."""

    def __init__(self, num_units: int, width: int, embedding: int, norm: str = "global"):
        super().__init__()
        self.norm = norm
        self.relation_ME = _parameter(num_units, embedding)
        self.unit_ME = _parameter(num_units, embedding)
        self.pool_ECC = _parameter(embedding, width, width)

    def forward(self, feature_BTMC: Tensor) -> Tensor:
        theta_MCD = torch.einsum("me,ecd->mcd", self.unit_ME, self.pool_ECC)
        mixed_BTMC = adjacency(self.relation_ME, self.norm) @ feature_BTMC
        return torch.relu(_per_unit(mixed_BTMC, theta_MCD))


class TemporalGraph(nn.Module):
    """G^st, Eq. 13, a GRU; h before the first frame is 0, or `state_BMC`, the last h of the frames before. Output h of every
    frame, which depends on no later one.

    The pool is (E, 2C, gate, C) with gates z, r, candidate; the first C rows act on h, the others on the input, in the
    order of the printed concatenation. What does not depend on h is computed for all frames at once.
    """

    def __init__(self, num_units: int, width: int, embedding: int, norm: str = "global"):
        super().__init__()
        self.norm, self.width = norm, width
        self.relation_ME = _parameter(num_units, embedding)
        self.unit_ME = _parameter(num_units, embedding)
        # gates lie side by side: one product each instead of three, and none is moved before it
        self.pool_ECGC = nn.Parameter(torch.stack([_parameter(embedding, 2 * width, width).data for _ in range(3)], 2))

    def forward(self, feature_BTMC: Tensor, state_BMC: Tensor | None = None) -> Tensor:
        width, (num, length, units) = self.width, feature_BTMC.shape[:3]
        related_MM = adjacency(self.relation_ME, self.norm)
        of_state_ECGC, of_input_ECGC = self.pool_ECGC.split(width, dim=1)
        flat_MNC = (related_MM @ feature_BTMC).permute(2, 1, 0, 3).flatten(1, 2)
        given_MTBD = torch.bmm(flat_MNC, self._weights(of_input_ECGC)).unflatten(1, (length, num))
        gates_MCD, candidate_MCC = self._weights(of_state_ECGC).split([2 * width, width], dim=-1)
        state_MBC = feature_BTMC.new_zeros(units, num, width) if state_BMC is None else state_BMC.transpose(0, 1)
        states = []
        of_gates, of_candidate = given_MTBD.split([2 * width, width], dim=-1)
        for gates_MBD, given_MBC in zip(of_gates.unbind(1), of_candidate.unbind(1), strict=True):
            mixed_MBC = (related_MM @ state_MBC.flatten(1)).view(state_MBC.shape)
            z, r = torch.baddbmm(gates_MBD, mixed_MBC, gates_MCD).sigmoid_().chunk(2, dim=-1)
            mixed_MBC = (related_MM @ (r * state_MBC).flatten(1)).view(state_MBC.shape)
            candidate_MBC = torch.baddbmm(given_MBC, mixed_MBC, candidate_MCC).tanh_()
            state_MBC = torch.lerp(candidate_MBC, state_MBC, z)  # Eq. 13d
            states.append(state_MBC)
        return torch.stack(states).permute(2, 0, 1, 3)

    def _weights(self, pool_ECGC: Tensor) -> Tensor:
        """Q_i W of each unit for one half of the concatenation, gates side by side: (M, C, 3C)."""
        return (self.unit_ME @ pool_ECGC.flatten(1)).unflatten(1, (self.width, -1))


def _per_unit(feature_BTMC: Tensor, theta_MCD: Tensor) -> Tensor:
    flat_MNC = feature_BTMC.permute(2, 0, 1, 3).flatten(1, 2)
    return torch.bmm(flat_MNC, theta_MCD).unflatten(1, feature_BTMC.shape[:2]).permute(1, 2, 0, 3)


def _parameter(*shape: int) -> nn.Parameter:
    """Xavier's uniform start, as AGCRN, on which the layer is built."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(*shape)))
