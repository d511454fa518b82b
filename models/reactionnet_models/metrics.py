"""What the papers report, streamed with torchmetrics, with every convention spelled out in words.

A metric takes the model's outputs and the batch, skips masked labels, and is computed over all samples pooled. Folds are
averaged by `reactionnet-evaluate`, not here. Letters: N samples, M action units, K classes, D dimensions.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from reactionnet_datasets.torchvision_on_cpu import ensure

Batch = Mapping[str, Tensor]
WHOLE: Any = {"sync_on_compute": False}  # each process judges all of a split: there is nothing to be added up


class Metric(Protocol):
    """What a metric offers. `definition` says what its numbers are; `details` holds what pictures are drawn from."""

    definition: str

    def update(self, out: Batch, batch: Batch) -> None: ...
    def compute(self) -> dict[str, float]: ...
    def details(self) -> dict[str, Any]: ...


class ActionUnits:
    """F1 of each action unit and their mean, and the mean average precision, from outputs `logit_key` and labels `au_BTM`,
    `au_mask_BTM`."""

    def __init__(self, aus: Sequence[int], threshold: float = 0.5, logit_key: str = "logit_BTM"):
        ensure()  # torchmetrics imports torchvision
        from torchmetrics.classification import BinaryAveragePrecision, BinaryF1Score

        self.names = tuple(f"au{au}" for au in aus)
        self._key, self._threshold = logit_key, threshold
        # one a unit: torchmetrics' of many labels want two at least, and one that is labelled
        self._f1s = [BinaryF1Score(ignore_index=-1, zero_division=0.0, **WHOLE) for _ in aus]
        self._precisions = [BinaryAveragePrecision(ignore_index=-1, **WHOLE) for _ in aus]
        self.definition = (
            f"F1-frame: an action unit is predicted where its probability is >= {threshold} (a tie counts as predicted); "
            "frames whose label is masked are skipped; an action unit without a true or predicted frame scores 0 (zero "
            "division), one without a labelled frame is not measured; f1 is the mean over those measured; all frames of a "
            "fold are pooled, folds are averaged; average_precision, which hangs on no threshold, is the mean over the units "
            "that occur of the precision at each recall that is reached (scikit-learn's)"
        )
        self._labelled_M, self._true_M = torch.zeros(2, len(aus), dtype=torch.long)

    def update(self, out: Batch, batch: Batch) -> None:
        share_NM = out[self._key].float().sigmoid().flatten(0, -2).cpu()
        mask_NM = batch["au_mask_BTM"].flatten(0, -2).cpu()
        true_NM = torch.where(mask_NM, batch["au_BTM"].flatten(0, -2).cpu(), -1).long()
        for place, (share_N, true_N) in enumerate(zip(share_NM.unbind(-1), true_NM.unbind(-1), strict=True)):
            self._f1s[place].update((share_N >= self._threshold).long(), true_N)
            self._precisions[place].update(share_N, true_N)
        self._labelled_M += mask_NM.sum(0)
        self._true_M += (true_NM == 1).sum(0)

    def compute(self) -> dict[str, float]:
        labelled = zip(self._f1s, self._labelled_M.tolist(), strict=True)
        each_M = [float(f1.compute()) if num else math.nan for f1, num in labelled]
        measured = [value for value in each_M if not math.isnan(value)]
        mean = sum(measured) / len(measured) if measured else float("nan")
        of_each = {f"f1_{name}": value for name, value in zip(self.names, each_M, strict=True)}
        return {"f1": mean, "average_precision": self._mean_precision(), **of_each}

    def _mean_precision(self) -> float:
        """Over the units that occur; of none nan."""
        occurring = (one for one, num in zip(self._precisions, self._true_M.tolist(), strict=True) if num)
        each = [float(precision.compute()) for precision in occurring]
        return sum(each) / len(each) if each else math.nan

    def details(self) -> dict[str, Any]:
        found = self.compute()
        return {"bars": {name: found[f"f1_{name}"] for name in self.names}}


class Expressions:
    """Precision, recall and F1 of classes, averaged by how often a class is true, with accuracy and macro F1."""

    def __init__(self, classes: Sequence[str]):
        ensure()  # torchmetrics imports torchvision
        from torchmetrics.classification import (
            MulticlassAccuracy,
            MulticlassConfusionMatrix,
            MulticlassF1Score,
            MulticlassPrecision,
            MulticlassRecall,
        )

        self.names, num = tuple(classes), len(classes)
        self._metrics: dict[str, Any] = {
            "precision": MulticlassPrecision(num, average="weighted", ignore_index=-100, **WHOLE),
            "recall": MulticlassRecall(num, average="weighted", ignore_index=-100, **WHOLE),
            "f1": MulticlassF1Score(num, average="weighted", ignore_index=-100, **WHOLE),
            "f1_macro": MulticlassF1Score(num, average="macro", ignore_index=-100, **WHOLE),
            "accuracy": MulticlassAccuracy(num, average="micro", ignore_index=-100, **WHOLE),
        }
        self._confusion = MulticlassConfusionMatrix(num, ignore_index=-100, **WHOLE)
        self.definition = (
            "the class of the largest logit, the first of equals; precision, recall and f1 are means over classes weighted "
            "by how often each is true (scikit-learn's weighted avg), f1_macro is the plain mean, an empty class scores 0; "
            "masked labels are skipped; all pictures pooled"
        )
        self._labelled = 0

    def update(self, out: Batch, batch: Batch) -> None:
        logits, true = out["expression_BK"].float().cpu(), batch["expression_B"].cpu()
        self._labelled += int((true >= 0).sum())
        for metric in (*self._metrics.values(), self._confusion):
            metric.update(logits.argmax(-1), true)

    def compute(self) -> dict[str, float]:
        if not self._labelled:  # of another data set
            return dict.fromkeys(self._metrics, float("nan"))
        return {name: float(metric.compute()) for name, metric in self._metrics.items()}

    def details(self) -> dict[str, Any]:
        return {"confusion": (self.names, self._confusion.compute().tolist())} if self._labelled else {}


class OfWhatVaries:
    """A correlation of torchmetrics but of what does not vary: theirs is nan or nearly 0 then, as rounding has it."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self._first: list[Tensor] = []
        self._varies = [False, False]  # answers, labels

    def update(self, pred_N: Tensor, true_N: Tensor) -> None:
        self._metric.update(pred_N, true_N)
        self._first = self._first or [pred_N[0], true_N[0]]
        for place, (values_N, first) in enumerate(zip((pred_N, true_N), self._first, strict=True)):
            self._varies[place] |= bool(values_N.ne(first).any())

    def compute(self) -> float:
        """nan where labels do not vary, one alone among them; 0 where answers do not."""
        answers_vary, labels_vary = self._varies
        if not labels_vary:
            return math.nan
        if not answers_vary:
            return 0.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # answers that hardly vary: their score says so
            return float(self._metric.compute())


class Circumplex:
    """MSE, MAE, RMSE and CCC of valence, arousal (and dominance), each alone and with all values in one list."""

    def __init__(self, dimensions: Sequence[str]):
        ensure()  # torchmetrics imports torchvision
        from torchmetrics import ConcordanceCorrCoef, MeanAbsoluteError, MeanSquaredError

        def made() -> dict[str, Any]:
            ccc = OfWhatVaries(ConcordanceCorrCoef(**WHOLE))
            return {"mse": MeanSquaredError(**WHOLE), "mae": MeanAbsoluteError(**WHOLE), "ccc": ccc}

        self.names = tuple(dimensions)
        self._each = {name: made() for name in ("", *dimensions)}
        self.definition = (
            "mse, mae, rmse and ccc without a name are over one list of all dimensions' values, as CAGE's code computes "
            "them; with a name, over that dimension; ccc is Lin's with unbiased variances: answers that do not vary score 0; "
            "labels that do not vary, or fewer than two, have none (nan); masked labels are skipped; all pictures pooled"
        )

    def update(self, out: Batch, batch: Batch) -> None:
        pred_ND, true_ND, mask_ND = (
            value.cpu() for value in (out["affect_BD"].float(), batch["affect_BD"], batch["affect_mask_BD"])
        )
        for place, name in enumerate(("", *self.names)):
            chosen = (..., place - 1) if name else ...
            mask = mask_ND[chosen]
            if mask.any():
                for metric in self._each[name].values():
                    metric.update(pred_ND[chosen][mask], true_ND[chosen][mask])

    def compute(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, metrics in self._each.items():
            suffix = f"_{name}" if name else ""
            seen = metrics["mse"].update_count > 0
            values = {kind: float(metric.compute()) if seen else float("nan") for kind, metric in metrics.items()}
            found |= {f"{kind}{suffix}": value for kind, value in values.items()}
            found[f"rmse{suffix}"] = values["mse"] ** 0.5
        return found

    def details(self) -> dict[str, Any]:
        return {}


class TopLabels:
    """Top-3 accuracy where several labels hold, in both readings, since CAGE's Table 8 does not say which."""

    def __init__(self, classes: Sequence[str], k: int = 3):
        self.names, self._k = tuple(classes), k
        self._hits = self._samples = self._found = self._labels = 0
        self.definition = (
            f"top{k} is the share of all (picture, true label) pairs whose label is among the {k} largest logits, the "
            f"reading that fits the paper's 14.7 %; top{k}_any is the share of pictures with at least one such label; "
            "pictures without a true label, and masked labels, are skipped"
        )

    def update(self, out: Batch, batch: Batch) -> None:
        logit_NK, mask_NK = out["expression_BK"].float().cpu(), batch["labels_mask_BK"].cpu()
        true_NK = mask_NK & (torch.where(mask_NK, batch["labels_BK"].cpu(), 0) > 0.5)
        top_NK = torch.zeros_like(true_NK).scatter(1, logit_NK.topk(self._k, dim=1).indices, True)
        hit_N, has_N = (true_NK & top_NK).any(1), true_NK.any(1)
        self._hits, self._samples = self._hits + int(hit_N.sum()), self._samples + int(has_N.sum())
        self._found, self._labels = self._found + int((true_NK & top_NK).sum()), self._labels + int(true_NK.sum())

    def compute(self) -> dict[str, float]:
        return {
            f"top{self._k}": self._found / self._labels if self._labels else float("nan"),
            f"top{self._k}_any": self._hits / self._samples if self._samples else float("nan"),
        }

    def details(self) -> dict[str, Any]:
        return {}
