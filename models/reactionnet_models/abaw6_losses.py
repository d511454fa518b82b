"""ABAW6's losses (Section 3.4), over valid labels alone. Letters: B clips, T frames, S samples, K outputs, N patches."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from reactionnet_models import losses
from reactionnet_models.vit import reconstruction_loss

Batch = Mapping[str, Tensor]


def inverse_weights(rates: Sequence[float]) -> Tensor:
    """W of Eq. 1 and 2, (K): inverse shares, brought to a mean of 1. The paper gives neither formula nor numbers."""
    inverse = 1 / torch.tensor(rates, dtype=torch.float64)
    return (inverse / inverse.mean()).float()


def of_task(
    task: str, out: Batch, batch: Batch, suffix: str, weight_K: Tensor, occurrence_K: Tensor | None = None
) -> Tensor:
    """The loss of one answer, `score{suffix}_BTK` (emi: `intensity{suffix}_BK`); au: `occurrence_K` weighs what occurs.
    Scalar."""
    if task == "emi":
        return intensities(out[f"intensity{suffix}_BK"], batch["intensity_BK"], batch["intensity_mask_BK"])
    score_SK = out[f"score{suffix}_BTK"].flatten(0, 1)
    if task == "au":
        true_SK, mask_SK = batch["au_BTM"].flatten(0, 1), batch["au_mask_BTM"].flatten(0, 1)
        occurrence_K = torch.ones_like(weight_K) if occurrence_K is None else occurrence_K
        return losses.weighted_bce(score_SK, true_SK, mask_SK, weight_K / len(weight_K), occurrence_K)
    if task == "va":
        true_SK, mask_SK = batch["affect_BTD"].flatten(0, 1), batch["affect_mask_BTD"].flatten(0, 1)
        return (1 - losses.concordance(score_SK, true_SK, mask_SK)).sum()  # Eq. 4
    return classes(score_SK, batch["class_BT"].flatten(), weight_K)


def classes(logit_SK: Tensor, true_S: Tensor, weight_K: Tensor) -> Tensor:
    """Eq. 2, averaged over the valid samples: -W_j log p_j / K of the true class j. 0 where none is valid."""
    each_S = cross_entropy(logit_SK.float(), true_S, weight=weight_K, reduction="none", ignore_index=-100)
    return each_S.sum() / (true_S >= 0).sum().clamp(min=1) / logit_SK.shape[1]


def intensities(found_BK: Tensor, true_BK: Tensor, mask_BK: Tensor) -> Tensor:
    """Mean of 1 - Pearson's correlation over the batch, plus the mean squared error; the paper gives no loss for EMI."""
    return (1 - correlation(found_BK, true_BK, mask_BK)).mean() + losses.masked_mse(found_BK, true_BK, mask_BK)


def correlation(found_BK: Tensor, true_BK: Tensor, mask_BK: Tensor) -> Tensor:
    """Pearson's correlation of each column over its valid rows, (K); 0 where fewer than two are valid."""
    weight = mask_BK.float()
    num_K = weight.sum(0).clamp(min=1)
    found, true = found_BK.float() * weight, torch.where(mask_BK, true_BK, 0).float()
    found, true = (found - found.sum(0) / num_K) * weight, (true - true.sum(0) / num_K) * weight
    scale_K = (found.square().sum(0) * true.square().sum(0)).clamp(min=1e-12).sqrt()
    return (found * true).sum(0) / scale_K


def reconstruction(out: Batch, batch: Batch, patch: int, normalize: bool) -> Tensor:
    """MAE's: over the hidden patches of the batch."""
    image_NCHW, hidden_NL = batch["image_BTCHW"].flatten(0, 1), out["hidden_BTL"].flatten(0, 1)
    return reconstruction_loss(out["patch_BTLP"].flatten(0, 1), image_NCHW, hidden_NL, patch, normalize)
