"""What DRR's tables report: F1 of action units, accuracy of expressions and scenes, F1 of each scene type."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from reactionnet_datasets.labels import classes_of
from reactionnet_models.drr_config import Config
from reactionnet_models.frame_metrics import FrameClasses
from reactionnet_models.metrics import ActionUnits, Metric

Batch = Mapping[str, Tensor]


def metrics(config: Config) -> list[Metric]:
    """Those of the configuration's tasks."""
    found: list[Metric] = []
    if "aud" in config.tasks:
        found.append(ActionUnits(config.aus, config.threshold, "aud_logit_BTK"))
    if "fer" in config.tasks:
        found.append(FrameClasses(config.names("fer"), "fer_logit_BTK", "expression_BT", "fer_"))
    if "sc" in config.tasks:
        found.append(FrameClasses(config.names("sc"), "sc_logit_BTK", "sub_scene_BT", "sc_"))
    if config.per_scene:
        found.append(SceneActionUnits(config.aus, config.threshold))
    return found


class SceneActionUnits:
    """Table 3: the mean F1 of the action units in clips of each scene type, and the mean of those."""

    def __init__(self, aus: Sequence[int], threshold: float):
        self.names = classes_of("scene8")
        self._each = [ActionUnits(aus, threshold, "aud_logit_BTK") for _ in self.names]
        self._seen = [False] * len(self.names)
        self.definition = (
            "f1_SCENE is f1 over the frames of clips whose stimulus is of that type; f1_scenes is the plain mean over the "
            "types that occur; clips without a type are skipped"
        )

    def update(self, out: Batch, batch: Batch) -> None:
        for place, metric in enumerate(self._each):
            chosen_B = batch["scene_B"].cpu() == place
            if chosen_B.any():
                self._seen[place] = True
                keys = ("au_BTM", "au_mask_BTM")
                logit = out["aud_logit_BTK"].cpu()[chosen_B]
                metric.update({"aud_logit_BTK": logit}, {key: batch[key].cpu()[chosen_B] for key in keys})

    def compute(self) -> dict[str, float]:
        each = {
            f"f1_{name}": metric.compute()["f1"]
            for name, metric, seen in zip(self.names, self._each, self._seen, strict=True)
            if seen
        }
        return {**each, "f1_scenes": sum(each.values()) / len(each) if each else float("nan")}

    def details(self) -> dict[str, Any]:
        return {}
