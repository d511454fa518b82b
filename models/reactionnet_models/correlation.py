"""Pearson's correlation of intensities, as the ERI and EMI challenges report it, streamed with torchmetrics."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from reactionnet_datasets.torchvision_on_cpu import ensure
from reactionnet_models.metrics import WHOLE, OfWhatVaries

Batch = Mapping[str, Tensor]


class Correlations:
    """Pearson's correlation of each target over all clips, and their mean, from `intensity_BK` and its labels.

    Clips that the answers' `answered_B` leaves out do not count.
    """

    def __init__(self, targets: Sequence[str]):
        ensure()  # torchmetrics imports torchvision
        from torchmetrics import PearsonCorrCoef

        self.names = tuple(targets)
        self._each = [OfWhatVaries(PearsonCorrCoef(**WHOLE)) for _ in targets]
        self.definition = (
            "Pearson's correlation of each emotion over all clips pooled, pearson is their mean; a clip whose label is "
            "masked, or that cannot be answered, is skipped; answers that do not vary score 0; an emotion whose labels do "
            "not vary, or that has fewer than two clips, has none (nan)"
        )

    def update(self, out: Batch, batch: Batch) -> None:
        found_BK, true_BK, mask_BK = (
            value.cpu() for value in (out["intensity_BK"].float(), batch["intensity_BK"], counted(out, batch))
        )
        for place, metric in enumerate(self._each):
            mask_B = mask_BK[:, place]
            if mask_B.any():
                metric.update(found_BK[mask_B, place], true_BK[mask_B, place].float())

    def compute(self) -> dict[str, float]:
        each = [metric.compute() for metric in self._each]
        return {
            "pearson": sum(each) / len(each),
            **{f"pearson_{name}": value for name, value in zip(self.names, each, strict=True)},
        }

    def details(self) -> dict[str, Any]:
        return {}


def counted(out: Batch, batch: Batch, part: str = "") -> Tensor:
    """(B, K), true for valid labels of the clips that the answer, or that of a `part` (`audio_`), is about: those that its
    `answered_B` says, else all."""
    mask_BK = batch["intensity_mask_BK"]
    answered_B = out.get(f"{part}answered_B")
    return mask_BK if answered_B is None else mask_BK & answered_B[:, None]


def clip_targets(labels: Mapping[str, Tensor], names: Sequence[str], frame_mask_BT: Tensor) -> tuple[Tensor, Tensor]:
    """(B, K) targets of whole clips and whether each is valid: none is of a clip of which no frame counts.

    A column of frames stands for its greatest valid value, so that intensities of frames can be targets too.
    """
    values, masks = [], []
    for name in names:
        value, mask = labels[name].float(), labels[f"{name}_mask"]
        if value.ndim == 2:
            mask = mask & frame_mask_BT
            value = torch.where(mask, value, -torch.inf).amax(1)
            mask = mask.any(1)
        mask = mask & frame_mask_BT.any(1)
        values.append(torch.where(mask, value, 0.0))
        masks.append(mask)
    return torch.stack(values, -1), torch.stack(masks, -1)
