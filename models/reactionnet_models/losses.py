"""Losses of the papers over labels of which some are masked. A masked label changes no value and gets no gradient.

All are computed in float32, also under mixed precision. Letters: N samples, M labels, D dimensions, K classes.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional


def occurrence_weights(rates: Sequence[float]) -> tuple[Tensor, Tensor]:
    """AAR Eq. 5: the weight w of each label, which sums to 1, and v of its occurrence, from shares in 0 to 1.

    ValueError where a label never or always occurs in training: its weight would be infinite or zero.
    """
    if bad := [rate for rate in rates if not 0 < rate < 1]:
        raise ValueError(f"occurrence rates {bad} have no weight: every label must occur at times, and not always")
    rate_M = torch.tensor(rates, dtype=torch.float64)
    w_M = (1 / rate_M) / (1 / rate_M).sum()
    return w_M.float(), ((1 - rate_M) / rate_M).float()


def log_odds(rates: Sequence[float]) -> Tensor:
    """Logits (M,) of shares in 0 to 1, taken as 0.001 to 0.999: where answers start that need not learn first what is rare."""
    return torch.tensor(rates, dtype=torch.float64).clamp(1e-3, 1 - 1e-3).logit().float()


@torch.no_grad()
def start_at(biases: Iterable[Tensor], rates: Sequence[float]) -> None:
    """Let the biases of answers, (..., M), start at the log odds of shares.

    On its way there from even odds a rare label's bias would take most of a short training with it.
    """
    for bias in biases:
        bias.copy_(log_odds(rates))


def weighted_bce(logit_NM: Tensor, true_NM: Tensor, mask_NM: Tensor, w_M: Tensor, v_M: Tensor) -> Tensor:
    """AAR Eq. 4: summed over labels, averaged over the samples that have a valid one. Scalar."""
    true_NM = torch.where(mask_NM, true_NM, 0).float()
    each_NM = functional.binary_cross_entropy_with_logits(logit_NM.float(), true_NM, pos_weight=v_M, reduction="none")
    num = mask_NM.any(dim=-1).sum().clamp(min=1)
    return (each_NM * w_M * mask_NM).sum() / num


def masked_mse(pred: Tensor, true: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error over the valid entries; all three of one shape. 0 where none is valid."""
    error = torch.where(mask, pred.float() - torch.where(mask, true, 0).float(), 0)
    return error.square().sum() / mask.sum().clamp(min=1)


def concordance(pred_ND: Tensor, true_ND: Tensor, mask_ND: Tensor) -> Tensor:
    """Lin's concordance of each dimension over its valid samples, variances unbiased: (D,). 0 with fewer than two.

    As torchmetrics' without its NaN where a batch's targets are all alike: there it is 0.
    """
    num_D = mask_ND.sum(0)

    def centred(values_ND: Tensor) -> tuple[Tensor, Tensor]:
        values_ND = torch.where(mask_ND, values_ND, 0).float()
        mean_D = values_ND.sum(0) / num_D.clamp(min=1)
        return mean_D, torch.where(mask_ND, values_ND - mean_D, 0)

    (pred_D, pred_ND), (true_D, true_ND) = centred(pred_ND), centred(true_ND)
    degrees_D = (num_D - 1).clamp(min=1)
    spread_D = (pred_ND.square() + true_ND.square()).sum(0) / degrees_D + (pred_D - true_D).square()
    return torch.where(num_D < 2, 0, 2 * (pred_ND * true_ND).sum(0) / degrees_D / spread_D.clamp(min=1e-12))


def cross_entropy(logit_NK: Tensor, true_N: Tensor, weight: Sequence[float] | None) -> Tensor:
    """Mean over the valid samples (index -100 is masked), each counted with its class's weight. 0 where none is valid."""
    if not bool((true_N >= 0).any()):
        return logit_NK.float().sum() * 0
    given = None if weight is None else logit_NK.new_tensor(weight, dtype=torch.float32)
    return functional.cross_entropy(logit_NK.float(), true_N, weight=given)
