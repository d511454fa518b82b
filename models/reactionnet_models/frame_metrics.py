"""Metrics of frames in clips, and valence and arousal as the ABAW challenges report them."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from reactionnet_models.metrics import Circumplex, Expressions

Batch = Mapping[str, Tensor]


class FrameClasses:
    """`Expressions` over frames: logits (B, T, K) and indexes (B, T). Its numbers are called `PREFIXaccuracy` and so on."""

    def __init__(self, classes: Sequence[str], logit_key: str, label_key: str, prefix: str = ""):
        self._metric = Expressions(classes)
        self._logit_key, self._label_key, self._prefix = logit_key, label_key, prefix
        self.definition = f"{prefix.rstrip('_') + ': ' if prefix else ''}{self._metric.definition}"

    def update(self, out: Batch, batch: Batch) -> None:
        logit_NK, true_N = out[self._logit_key].flatten(0, 1), batch[self._label_key].flatten()
        self._metric.update({"expression_BK": logit_NK}, {"expression_B": true_N})

    def compute(self) -> dict[str, float]:
        return {f"{self._prefix}{name}": value for name, value in self._metric.compute().items()}

    def details(self) -> dict[str, Any]:
        return self._metric.details()


class FrameCircumplex:
    """`Circumplex` over frames, (B, T, D), with `ccc_mean`, the mean over the dimensions, which ABAW ranks by."""

    def __init__(self, dimensions: Sequence[str], value_key: str):
        self._metric, self._key, self._names = Circumplex(dimensions), value_key, tuple(dimensions)
        self.definition = (
            f"ccc_mean is the plain mean of each dimension's ccc, nan where one has none; {self._metric.definition}"
        )

    def update(self, out: Batch, batch: Batch) -> None:
        self._metric.update(
            {"affect_BD": out[self._key].flatten(0, 1)},
            {
                "affect_BD": batch["affect_BTD"].flatten(0, 1),
                "affect_mask_BD": batch["affect_mask_BTD"].flatten(0, 1),
            },
        )

    def compute(self) -> dict[str, float]:
        found = self._metric.compute()
        return {**found, "ccc_mean": sum(found[f"ccc_{name}"] for name in self._names) / len(self._names)}

    def details(self) -> dict[str, Any]:
        return self._metric.details()
