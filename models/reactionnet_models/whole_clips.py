"""A model over windows that follow one another, as tests and predictions see clips: whole, however long.

What a model carries from frame to frame, such as the state of a GRU, goes from each window of a clip to the next. A module
whose models do so has `carries(config)`; its outputs `carried_...` go back in.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from reactionnet_models.recipe import Stage


def carries(module: ModuleType, config: Any) -> bool:
    """Whether a model has a state that goes from window to window."""
    return hasattr(module, "carries") and bool(module.carries(config))


def end_to_end(stage: Stage, module: ModuleType, config: Any) -> Stage:
    """A stage's windows one after another, every frame in one of them; one at a time where a model carries a state."""
    stage = replace(stage, balanced=False, stride=stage.window or 1)
    return replace(stage, batch_size=1) if carries(module, config) else stage


class Onward:
    """Runs a model over batches of windows in the order of their clips."""

    def __init__(self, model: nn.Module, module: ModuleType, config: Any):
        self._model, self._carries = model, carries(module, config)
        self._clip = ""
        self._carried: dict[str, Tensor] = {}

    def __call__(self, items: Mapping[str, Any], batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The model's outputs. `items` are the data set's, with `meta`."""
        if not self._carries:
            return self._model(batch)
        clip = items["meta"][0]["clip_id"]
        if clip != self._clip:
            self._clip, self._carried = clip, {}
        out = self._model({**batch, **self._carried})
        self._carried = {name: value for name, value in out.items() if name.startswith("carried_")}
        return out
