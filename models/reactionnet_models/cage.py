"""CAGE: Circumplex Affect Guided Expression Inference. Wagner et al., CVPR Workshops 2024; code by the authors.

One image encoder and one head: expressions alone (`discrete`), expressions with valence and arousal (`combined`), or
valence and arousal alone (`va`), on AffectNet with 7 or 8 classes, and 26 categories with three dimensions on EMOTIC.
Outputs of the head are linear. Letters: B pictures, C channels, H, W pixels, K classes, D dimensions.

Where paper and code differ: the learning rate is 5e-5 in the paper's Table 5 and 4e-5 in all scripts (ours: the paper's;
`--set all.learning_rate=4e-5`); "cosine annealing" is a wave with a half period of 2,560 iterations in the scripts, which
is `schedule=cosine_wave`, and one fall to zero as the words say, `schedule=cosine` (the default).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from reactionnet_datasets import Augment
from reactionnet_datasets.labels import classes_of
from reactionnet_models import alignment, augmentation, losses
from reactionnet_models.encoders import image_encoder
from reactionnet_models.metrics import Circumplex, Expressions, Metric, TopLabels
from reactionnet_models.recipe import Recipe, Stage

Batch = Mapping[str, Tensor]
PAPER = "CAGE: Circumplex Affect Guided Expression Inference (Wagner et al., 2024)"
TASKS = ("discrete", "combined", "va")
# Table 4. They are normalised inverse frequencies, although the text says frequencies.
WEIGHTS_8 = (0.015605, 0.008709, 0.046078, 0.083078, 0.185434, 0.305953, 0.046934, 0.308210)
WEIGHTS_7 = (0.022600, 0.012589, 0.066464, 0.120094, 0.265305, 0.444943, 0.068006)
ENCODERS = {"maxvit": "maxvit_t", "efficientnet": "efficientnet_v2_s", "swin": "swin_v2_t"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """`classes` is a space of labels; `class_weights` are of the cross-entropy, or of positives where several labels hold.

    `class_weights="inverse"` takes them from the training labels: the inverse of how often each is true, normalised to a
    sum of 1 where only one may hold (that is what Table 4 prints; of EMOTIC the paper counts the val labels too).
    ValueError where fields do not fit together.
    """

    encoder: str = "maxvit_t"
    weights: str | None = "IMAGENET1K_V1"
    image_size: int = 224
    resize: int | None = None  # the shorter side is brought to this before a crop of image_size is drawn
    box: bool = False  # of a picture what lies in its box, stretched to image_size; without a box all of it
    aligned: int | None = None  # faces brought to this side by their landmarks, for pictures that are no crops of faces
    task: str = "combined"
    classes: str = "affectnet8"
    multi_label: bool = False
    dimensions: tuple[str, ...] = ("valence", "arousal")
    class_weights: tuple[float, ...] | str | None = None
    alpha: float = 5.0  # Eq. 1 and Table 5: weight of the MSE beside the cross-entropy
    beta: float = 3.0  # Eq. 2 and Table 5: weight of the MSE beside the CCC
    dropout: float = 0.3  # before the last layer, valence-arousal model only (code)
    augment: bool = True  # Section 4.2's list; aligned faces are cropped and mirrored by chance without it, too
    hue: float = augmentation.HUE  # how far the list turns it at most, a share of its circle
    p_perspective: float = augmentation.P_PERSPECTIVE
    p_erase: float = augmentation.P_ERASE

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"task {self.task!r}; expected {', '.join(TASKS)}")
        num = len(classes_of(self.classes))
        if isinstance(self.class_weights, str) and self.class_weights != "inverse":
            raise ValueError(f"class_weights {self.class_weights!r}; expected numbers, inverse or none")
        if isinstance(self.class_weights, tuple) and len(self.class_weights) != num:
            raise ValueError(f"{len(self.class_weights)} class weights for {num} classes of {self.classes}")
        if self.task == "va" and not self.dimensions:
            raise ValueError("dimensions=(); expected one or more for task va")
        if self.image_size < 1:
            raise ValueError(f"image_size={self.image_size}; expected 1 or more")
        for name in ("alpha", "beta"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}; expected 0 or more")
        for name in ("dropout", "hue", "p_perspective", "p_erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}; expected 0 to 1")
        if self.aligned is not None and self.box:
            raise ValueError("box and aligned are two ways to a face: set box=false or aligned=none")
        alignment.check_sides(self.aligned, self.image_size)

    @property
    def num_classes(self) -> int:
        return 0 if self.task == "va" else len(classes_of(self.classes))

    @property
    def num_dimensions(self) -> int:
        return 0 if self.task == "discrete" else len(self.dimensions)


class CAGE(nn.Module):
    """Picture to logits of expressions (B, K) and dimensions (B, D), whichever the task has."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.encoder, width = image_encoder(config.encoder, weights=config.weights, image_size=config.image_size)
        self.head = _head(config, width, config.num_classes + config.num_dimensions)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        out = self.head(self.encoder(batch["image_BCHW"]))
        num = self.config.num_classes
        found = {}
        if num:
            found["expression_BK"] = out[:, :num]
        if self.config.num_dimensions:
            found["affect_BD"] = out[:, num:]
        return found


def _head(config: Config, width: int, num_out: int) -> nn.Sequential:
    if config.encoder == "efficientnet_v2_s":
        return nn.Sequential(nn.Dropout(0.2), nn.Linear(width, num_out))
    if config.encoder in ("swin_v2_t", "resnet18"):
        return nn.Sequential(nn.Linear(width, num_out))
    dropout = [nn.Dropout(config.dropout)] if config.task == "va" else []
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, width), nn.Tanh(), *dropout, nn.Linear(width, num_out, bias=False)
    )


def loss(out: Batch, batch: Batch, config: Config) -> dict[str, Tensor]:
    """Eq. 1 with classes, Eq. 2 without. `expression_B` is -100 where masked, `affect_mask_BD` false.

    Eq. 2 as the code has it: beta times the MSE of each dimension, summed, less the CCC of each (not 1 - CCC).
    """
    terms: dict[str, Tensor] = {}
    if config.num_dimensions:
        terms["mse"] = losses.masked_mse(out["affect_BD"], batch["affect_BD"], batch["affect_mask_BD"])
    if config.task == "va":
        ccc_D = losses.concordance(out["affect_BD"], batch["affect_BD"], batch["affect_mask_BD"])
        each_D = torch.stack(
            [
                losses.masked_mse(out["affect_BD"][:, d], batch["affect_BD"][:, d], batch["affect_mask_BD"][:, d])
                for d in range(config.num_dimensions)
            ]
        )
        return {"loss": (config.beta * each_D - ccc_D).sum(), "ccc": ccc_D.mean(), **terms}
    if config.multi_label:
        terms["ce"] = _multi_label(out["expression_BK"], batch, config)
    else:
        terms["ce"] = losses.cross_entropy(out["expression_BK"], batch["expression_B"], _given(config))
    total = terms["ce"] + config.alpha * terms["mse"] if config.num_dimensions else terms["ce"]
    return {"loss": total, **terms}


def validation_loss(out: Batch, batch: Batch, config: Config) -> dict[str, Tensor]:
    """`loss` without class weights, as the authors' scripts choose the epoch. Those for EMOTIC are not published; it is
    judged alike."""
    return loss(out, batch, replace(config, class_weights=None))


def _multi_label(logit_BK: Tensor, batch: Batch, config: Config) -> Tensor:
    """Section 4.3: mean binary cross-entropy, positives weighted with the inverse of their occurrence."""
    weights = _given(config)
    weight_K = None if weights is None else logit_BK.new_tensor(weights, dtype=torch.float32)
    mask_BK = batch["labels_mask_BK"]
    true_BK = torch.where(mask_BK, batch["labels_BK"], 0).float()
    each_BK = functional.binary_cross_entropy_with_logits(
        logit_BK.float(), true_BK, pos_weight=weight_K, reduction="none"
    )
    return (each_BK * mask_BK).sum() / mask_BK.sum().clamp(min=1)


def _given(config: Config) -> tuple[float, ...] | None:
    if isinstance(config.class_weights, str):
        raise ValueError("class_weights are still to be taken from the training labels: call with_rates first")
    return config.class_weights


def with_rates(config: Config, rates: Mapping[str, float]) -> Config:
    """The configuration with `inverse` class weights filled in from shares of the training labels.

    `rates` has one entry a label, or `expression=NAME` a class. ValueError where a class never occurs.
    """
    if config.class_weights != "inverse":
        return config
    prefix = "emotic_" if config.multi_label else "expression="
    found = {name: rates.get(f"{prefix}{name}", 0.0) for name in classes_of(config.classes)}
    if missing := [name for name, rate in found.items() if not rate]:
        raise ValueError(f"no training label is {', '.join(missing)}: inverse class weights need every class")
    inverse = [1 / rate for rate in found.values()]
    scale = 1 if config.multi_label else sum(inverse)
    return replace(config, class_weights=tuple(value / scale for value in inverse))


def view(config: Config, train: bool) -> Augment | None:
    """What of a stored picture the network sees: AffectNet's crops as they are, others brought to `resize`, or the box.

    All of it where `prepare` aligns faces."""
    if config.aligned is not None:
        return None
    if config.box:
        return Augment(box=True, crop=config.image_size, random=train)
    return Augment(resize=config.resize or config.image_size, crop=config.image_size, random=train)


def prior(config: Config, rates: Mapping[str, float], batch: Batch) -> dict[str, Tensor]:
    """What knows only how often each label is true in training: the classes' shares, the dimensions' means."""
    num = len(batch["image_BCHW"])
    found = {}
    if config.num_classes:
        prefix = "emotic_" if config.multi_label else "expression="
        shares = [rates.get(f"{prefix}{name}", 0.0) for name in classes_of(config.classes)]
        found["expression_BK"] = torch.tensor(shares).clamp(min=1e-9).log().expand(num, -1)
    if config.num_dimensions:
        found["affect_BD"] = torch.tensor([rates[name] for name in config.dimensions]).expand(num, -1)
    return found


def labels(config: Config) -> dict[str, str | None]:
    """Targets and their rules, as `ShardDataset` takes them: dimensions in -1 to 1 whatever scale a data set has."""
    named: dict[str, str | None] = {}
    if config.multi_label:
        named |= dict.fromkeys(_label_names(config))
    else:
        # without classes too: for the subset with as many of each, and for what AffectNet-7 leaves out
        named["expression"] = f"classes:{config.classes}"
    return named | (dict.fromkeys(config.dimensions, "scale:va") if config.num_dimensions else {})


def prepare(items: Mapping[str, Any], config: Config, random: torch.Generator | None = None) -> dict[str, Tensor]:
    """A batch from items of `ShardDataset`: every frame is a sample. With `random` the paper's list is drawn.

    AffectNet-7 leaves contempt out: pictures whose class the space lacks lose their valence and arousal too. `lacking`
    names labels that nobody could annotate, since they are no columns of the data set.
    """
    present_BT = items["frame_mask"]
    batch = {}
    if config.aligned is None:
        colours_BTCHW = items["frames"].float() / 255
    else:
        shown = alignment.faces(items, config.aligned, config.image_size, random)
        colours_BTCHW, present_BT = shown.colours(), shown.found_BT
        batch["aligned_BT"] = present_BT
    image_BCHW = augmentation.prepare(
        colours_BTCHW.flatten(0, 1), random if config.augment else None, hue=config.hue,
        p_perspective=config.p_perspective, p_erase=config.p_erase,
    )  # fmt: skip
    batch["image_BCHW"] = image_BCHW
    given = items.get("labels", {})
    if not given:
        return batch
    present_B = present_BT.flatten().to(image_BCHW.device)
    if config.multi_label and config.num_classes:
        names = _label_names(config)
        batch["labels_BK"] = _stack(given, names)
        batch["labels_mask_BK"] = _stack(given, [f"{name}_mask" for name in names]) & present_B[:, None]
    elif config.num_classes:
        batch["expression_B"] = torch.where(present_B, given["expression"].flatten(), -100)
    if config.num_dimensions:
        mask_BD = _stack(given, [f"{name}_mask" for name in config.dimensions]) & present_B[:, None]
        if config.classes == "affectnet7" and "expression" not in items.get("lacking", ()):
            mask_BD = mask_BD & given["expression_mask"].flatten()[:, None]
        batch["affect_BD"] = torch.where(mask_BD, _stack(given, config.dimensions), 0).float()
        batch["affect_mask_BD"] = mask_BD
    return batch


def _stack(given: Mapping[str, Tensor], names: Any) -> Tensor:
    return torch.stack([given[name].flatten() for name in names], dim=-1)


def _label_names(config: Config) -> list[str]:
    return [f"emotic_{name}" for name in classes_of(config.classes)]


def metrics(config: Config) -> list[Metric]:
    """Table 6's, or Table 8's."""
    found: list[Metric] = []
    if config.num_classes and config.multi_label:
        found.append(TopLabels(classes_of(config.classes)))
    elif config.num_classes:
        found.append(Expressions(classes_of(config.classes)))
    if config.num_dimensions:
        found.append(Circumplex(config.dimensions))
    return found


def predictions(out: Batch, config: Config) -> dict[str, Tensor]:
    """Columns of a table of predictions, one entry a sample: a probability of each class, and each dimension."""
    columns: dict[str, Tensor] = {}
    if config.num_classes:
        logit_BK = out["expression_BK"].float()
        share_BK = logit_BK.sigmoid() if config.multi_label else logit_BK.softmax(-1)
        columns |= {f"p_{name}": share_B for name, share_B in zip(classes_of(config.classes), share_BK.T, strict=True)}
    if config.num_dimensions:
        columns |= dict(zip(config.dimensions, out["affect_BD"].float().T, strict=True))
    return columns


def example(config: Config, batch_size: int) -> dict[str, Tensor]:
    """A random batch of the right shapes, for tests, profiling and the README."""
    batch = {"image_BCHW": torch.randn(batch_size, 3, config.image_size, config.image_size)}
    if config.num_classes and config.multi_label:
        batch["labels_BK"] = torch.randint(2, (batch_size, config.num_classes)).float()
        batch["labels_mask_BK"] = torch.ones(batch_size, config.num_classes, dtype=torch.bool)
    elif config.num_classes:
        batch["expression_B"] = torch.randint(config.num_classes, (batch_size,))
    if config.num_dimensions:
        batch["affect_BD"] = torch.rand(batch_size, config.num_dimensions) * 2 - 1
        batch["affect_mask_BD"] = torch.ones(batch_size, config.num_dimensions, dtype=torch.bool)
    return batch


def build(config: Config) -> CAGE:
    """The network, with its weights."""
    return CAGE(config)


def transfer(state: Mapping[str, Tensor], source: Config, config: Config) -> dict[str, Tensor]:
    """Weights of one preset as the start of another: all but the head's last layer, which is new.

    This is how the valence-arousal stage starts from the combined model. ValueError where the encoders differ.
    """
    if (source.encoder, source.image_size) != (config.encoder, config.image_size):
        raise ValueError(
            f"weights of {source.encoder} at {source.image_size} px cannot start {config.encoder} at {config.image_size}"
        )
    last = max(int(name.split(".")[1]) for name in state if name.startswith("head."))
    return {name: value for name, value in state.items() if not name.startswith(f"head.{last}.")}


# Table 6, by data set, encoder and task: precision, recall, F1, MSE, MAE, RMSE, CCC.
_TABLE_6: dict[tuple[int, str, str], tuple[float | None, ...]] = {
    (7, "efficientnet", "discrete"): (0.634, 0.631, 0.631, None, None, None, None),
    (7, "maxvit", "discrete"): (0.640, 0.639, 0.638, None, None, None, None),
    (7, "efficientnet", "combined"): (0.650, 0.646, 0.646, 0.0956, 0.2298, 0.3092, 0.7636),
    (7, "maxvit", "combined"): (0.666, 0.664, 0.664, 0.0947, 0.2251, 0.3077, 0.7640),
    (7, "efficientnet", "va"): (None, None, None, 0.0833, 0.2098, 0.2887, 0.8206),
    (7, "maxvit", "va"): (None, None, None, 0.0841, 0.2121, 0.2901, 0.8196),
    (8, "efficientnet", "discrete"): (0.605, 0.599, 0.599, None, None, None, None),
    (8, "maxvit", "discrete"): (0.602, 0.598, 0.599, None, None, None, None),
    (8, "efficientnet", "combined"): (0.612, 0.606, 0.607, 0.1420, 0.2781, 0.3769, 0.6413),
    (8, "maxvit", "combined"): (0.623, 0.621, 0.621, 0.1370, 0.2715, 0.3701, 0.6592),
    (8, "efficientnet", "va"): (None, None, None, 0.1028, 0.2387, 0.3206, 0.7816),
    (8, "maxvit", "va"): (None, None, None, 0.1021, 0.2351, 0.3196, 0.7840),
}
_COLUMNS = ("precision", "recall", "f1", "mse", "mae", "rmse", "ccc")
# Table 7 names the combined model; its numbers are those of the valence-arousal model (see the RMSE of Table 6).
_TABLE_7 = {"rmse_valence": 0.331, "rmse_arousal": 0.305, "ccc_valence": 0.716, "ccc_arousal": 0.642}
_TABLE_8 = {
    "top3": 0.1473, "rmse_valence": 0.256, "rmse_arousal": 0.269, "rmse_dominance": 0.260,
    "ccc_valence": 0.316, "ccc_arousal": 0.594, "ccc_dominance": 0.300,
}  # fmt: skip


def _affectnet(num: int, encoder: str, task: str) -> Config:
    weights = (WEIGHTS_8 if num == 8 else WEIGHTS_7) if task != "va" else None
    return Config(encoder=ENCODERS[encoder], task=task, classes=f"affectnet{num}", class_weights=weights)


def _stage(config: Config, **changed: Any) -> Stage:
    """Table 5; 20 epochs as in the scripts, of which the one for AffectNet-7, MaxViT, combined alone has 25."""
    longer = (config.classes, config.encoder, config.task) == ("affectnet7", "maxvit_t", "combined")
    settings: dict[str, Any] = {
        "epochs": 25 if longer else 20, "batch_size": 128, "learning_rate": 5e-5, "weight_decay": 0.01, "schedule": "cosine",
        "balanced": config.task == "va",
    }  # fmt: skip
    return Stage(**{**settings, **changed})


def fields(config: Config) -> tuple[str, ...]:
    """What is read of the shards."""
    return (*alignment.fields(config.aligned), "labels")


def _recipe(config: Config, stage: Stage, **given: Any) -> Recipe:
    return Recipe(
        task={"discrete": "expressions", "combined": "expressions, valence, arousal", "va": "valence, arousal"}[
            config.task
        ],
        labels=labels(config),
        stages=(stage,),
        fields=fields(config),
        **{"monitor": "loss", "higher_is_better": False, **given},
    )


def _published(num: int, encoder: str, task: str) -> dict[str, float]:
    row = dict(zip(_COLUMNS, _TABLE_6.get((num, encoder, task), ()), strict=False))
    found = {name: value for name, value in row.items() if value is not None}
    return found | (_TABLE_7 if (num, encoder, task) == (8, "maxvit", "va") else {})


_AFFECTNET = [(num, encoder, task) for num in (8, 7) for encoder in ENCODERS for task in TASKS]
_EMOTIC = Config(
    classes="emotic26", multi_label=True, class_weights="inverse", dimensions=("valence", "arousal", "dominance"), box=True
)  # fmt: skip
# 96 px from 112, for two cores, where of the encoders that start from nothing ResNet-18 learned most in a few minutes, with a
# gentler list than the paper's. `small_resnet18` is the plain net that the others are compared with: the same without a list.
_SMALL = {
    f"small_{name}": Config(
        encoder="resnet18", weights=None, image_size=96, resize=112, aligned=112, task=task, augment=augment, hue=0.0,
        p_perspective=0.0, p_erase=0.25,
    )
    for name, task, augment in (
        ("discrete", "discrete", True), ("combined", "combined", True), ("va", "va", True),
        ("resnet18", "combined", False),
    )
}  # fmt: skip
_TINY = {
    "tiny": Config(encoder="tiny", weights=None, image_size=32),
    "tiny_discrete": Config(encoder="tiny", weights=None, image_size=32, task="discrete", class_weights=WEIGHTS_8),
    "tiny_va": Config(encoder="tiny", weights=None, image_size=32, task="va", dropout=0.0),
    "tiny_emotic": Config(
        encoder="tiny", weights=None, image_size=32, classes="emotic26", multi_label=True,
        dimensions=("valence", "arousal", "dominance"),
    ),
}  # fmt: skip

PRESETS: dict[str, Config] = {
    **{f"affectnet{num}_{encoder}_{task}": _affectnet(num, encoder, task) for num, encoder, task in _AFFECTNET},
    "emotic_maxvit_combined": _EMOTIC,
    **_SMALL,
    **_TINY,
}
RECIPES: dict[str, Recipe] = {
    **{
        f"affectnet{num}_{encoder}_{task}": _recipe(
            _affectnet(num, encoder, task),
            _stage(_affectnet(num, encoder, task)),
            dataset="affectnet",
            table_row=f"Table 6, AffectNet-{num}, {encoder} {task}" if encoder != "swin" else "Section 5.1, Swin",
            published=_published(num, encoder, task),
            start=f"affectnet{num}_{encoder}_combined" if task == "va" else "",
            test_split="val",
            note="the official val set is the test set" + ("; the paper: precision below 0.35" * (encoder == "swin")),
        )
        for num, encoder, task in _AFFECTNET
    },
    "emotic_maxvit_combined": _recipe(
        _EMOTIC, _stage(_EMOTIC), dataset="emotic", table_row="Table 8", published=_TABLE_8,
        start="affectnet8_maxvit_combined", note="input: the person's box, stretched to 224 px; epochs not stated, 20",
    ),
    **{
        name: _recipe(
            config,
            _stage(config, batch_size=32, epochs=12, learning_rate=1e-3, stride=4),
            dataset="rendered_facs",
            start="small_combined" if config.task == "va" else "",
            # Of so few faces the loss grows again, of too sure answers, while more and more are right; and the best epoch on
            # six people is chance, where the last one, its rate at zero, is not.
            monitor="ccc" if config.task == "va" else "f1",
            higher_is_better=True,
            keep_last=True,
        )
        for name, config in _SMALL.items()
    },
    **{
        name: _recipe(config, _stage(config, batch_size=4, epochs=2, learning_rate=1e-3), dataset="any")
        for name, config in _TINY.items()
    },
}  # fmt: skip
