"""How a preset is trained and judged: data, stages, protocol, metric, and what the paper printed.

A model is a module of this package, found by its name: `PAPER`, `Config`, `PRESETS`, `RECIPES` (one `Recipe` a preset),
`build`, `loss`, `example`, `labels` (targets and rules), `fields` (what is read of the shards), `view` (what `ShardDataset`
shows of a picture), `prepare` (its items to a batch), `with_rates` (a configuration completed from the training labels),
`prior` (an answer that does not look), `predictions` (columns of a table), `metrics` and `transfer` (weights of one preset
to start another). Some have more: `windows` (where the configuration decides what of a clip a stage sees), `stream` (what else
`ShardDataset` is told), `with_labels` (what else is counted in training labels), `validation_loss` (where it is another than
`loss`), `carries` (whether a state goes from window to window), `DECIDES` (settings that are for another preset),
`attention_on_faces` (what can be drawn of it).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One optimisation. `part` names the submodule that is trained; empty means the whole model. 0 `epochs` leave it as the
    model that training starts from has it.

    `schedule`: `constant`; `step` (times `decay` every `decay_epochs`); `plateau` (times `decay` when the recipe's monitor
    has not improved for `decay_epochs`); `cosine` (to zero at the last step); or
    `cosine_wave` (a full cosine wave with a half period of batch size times epochs steps).
    Over the first `warmup_epochs` the rate rises linearly from 0.
    `window` 0 is the whole clip, of which `num_frames` are taken.
    `cached` stages train on what the stages before computed once, over the middle view and `views` drawn ones.
    """

    name: str = "all"
    part: str = ""
    epochs: int = 20
    batch_size: int = 32
    optimiser: str = "adamw"
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: str = "constant"
    decay: float = 0.3
    decay_epochs: int = 2
    warmup_epochs: int = 0
    window: int = 1
    stride: int = 1
    num_frames: int | None = None
    balanced: bool = False  # train on a subset with as many of each class as the rarest has
    cached: bool = False
    views: int = 0

    def __post_init__(self) -> None:
        if self.window < 0 or self.warmup_epochs < 0:
            raise ValueError(
                f"stage {self.name}: window {self.window} or warmup_epochs {self.warmup_epochs} is negative"
            )
        if self.epochs < 0:
            raise ValueError(f"stage {self.name}: epochs is {self.epochs}; expected 0 or more")
        if len(self.betas) != 2:
            raise ValueError(f"stage {self.name}: betas are {self.betas}; expected two")
        for name in ("batch_size", "stride", "decay_epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"stage {self.name}: {name} is {getattr(self, name)}; expected 1 or more")
        if self.optimiser not in ("adam", "adamw", "sgd"):
            raise ValueError(f"stage {self.name}: optimiser {self.optimiser!r}; expected adam, adamw or sgd")
        if self.schedule not in ("constant", "step", "plateau", "cosine", "cosine_wave"):
            raise ValueError(
                f"stage {self.name}: schedule {self.schedule!r}; expected constant, step, plateau, cosine "
                "or cosine_wave"
            )
        if not self.learning_rate > 0:
            raise ValueError(f"stage {self.name}: learning_rate is {self.learning_rate}; expected more than 0")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything about a preset that is not the network.

    `labels` are targets and their rules as `ShardDataset` takes them; `published` are the paper's numbers by the names
    that `metrics` gives ours; `table_row` says where they stand. `start` names a preset that training starts from,
    `needs` settings without which it is not the paper's model, `KEY=WHAT`.
    `test_split` is what the paper reports: some report the official validation set. With `keep_last` validation is watched
    and chooses no epoch, unless a user names a split for it.
    """

    task: str
    dataset: str
    labels: Mapping[str, str | None]
    stages: tuple[Stage, ...]
    monitor: str
    higher_is_better: bool
    keep_last: bool = False
    protocol: str = ""
    test_split: str = "test"
    split_task: str = ""
    folds: tuple[int, ...] = ()
    fields: tuple[str, ...] = ("frames", "labels")
    table_row: str = ""
    published: Mapping[str, float] = field(default_factory=dict)
    start: str = ""
    needs: tuple[str, ...] = ()
    note: str = ""

    @property
    def judge(self) -> str:
        """The split to name as `--val`: folds have no third part, so that a rate lowered by what is held out, as ERI's, looks
        at the fold that is tested."""
        return "test" if self.folds and any(stage.schedule == "plateau" for stage in self.stages) else ""


def fitted(recipe: Recipe, module: ModuleType, config: Any) -> Recipe:
    """The recipe with the labels and fields that belong to a configuration of its model."""
    return replace(recipe, labels=module.labels(config), fields=module.fields(config))
