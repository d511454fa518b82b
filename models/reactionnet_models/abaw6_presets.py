"""Presets and recipes of ABAW6: rows of its Tables 1 to 4, and sizes for two cores and for tests.

Pre-training's missing settings are MAE's own (its published recipe); fine-tuning's too, without layer-wise rates.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from reactionnet_datasets.labels import classes_of
from reactionnet_models import alignment
from reactionnet_models.abaw6_config import Config
from reactionnet_models.captions import CLIP
from reactionnet_models.recipe import Recipe, Stage
from reactionnet_models.submission import AUS

TITLES = {
    "pretrain": "pre-training", "au": "action units", "expr": "expressions", "va": "valence, arousal",
    "ce": "compound expressions", "emi": "emotional mimicry intensities",
}  # fmt: skip
MONITORS = {
    "pretrain": "loss", "au": "f1", "expr": "f1_macro", "va": "ccc_mean", "ce": "f1_macro", "emi": "pearson",
}  # fmt: skip
DATA = {"au": "affwild2", "expr": "affwild2", "va": "affwild2", "ce": "c_expr_db", "emi": "hume_vidmimic2"}
_EMI = tuple(f"pearson_{name}" for name in classes_of("emi6"))
_OFFICIAL: dict[str, tuple[str, dict[str, float]]] = {
    "au": ("Table 1, official", dict(zip(
        (*(f"f1_au{au}" for au in AUS), "f1"),
        (0.5529, 0.5140, 0.6581, 0.6861, 0.7608, 0.7500, 0.7524, 0.3765, 0.1889, 0.3089, 0.8341, 0.4498, 0.5694),
        strict=True,
    ))),
    "expr": ("Table 2, official", {"f1_macro": 0.5555}),
    "va": ("Table 4, official", {"ccc_valence": 0.5523, "ccc_arousal": 0.6531, "ccc_mean": 0.6027}),
    "ce": ("Section 4, no number given", {}),
    "emi": ("Table 3, official", dict(zip(
        (*_EMI, "pearson"), (0.5942, 0.4982, 0.5090, 0.2275, 0.4961, 0.4580, 0.4638), strict=True
    ))),
}  # fmt: skip
# Means of the five rows; fold 5 of valence and arousal is .6805 by its own row, .6801 is printed.
_FOLDS: dict[str, tuple[str, tuple[float, ...]]] = {
    "au": ("Table 1, mean of the folds", (0.5661, 0.5937, 0.5613, 0.5472, 0.5422)),
    "expr": ("Table 2, mean of the folds", (0.4983, 0.5283, 0.5632, 0.5465, 0.5551)),
    "va": ("Table 4, mean of the folds", (0.6302, 0.6395, 0.6867, 0.6619, 0.6801)),
    "ce": ("Section 4, no numbers given", ()),
    "emi": ("Table 3, mean of the folds", (0.4486, 0.4129, 0.4422, 0.4696, 0.4132)),
}
_EXTRA = {
    "au": "the paper adds BP4D; sigma of the smoothing by `smoothing.tune_sigma`",
    "expr": "the paper adds anger, disgust and fear of RAF-DB and AffectNet",
    "ce": "the paper trains on private videos; C-EXPR-DB's 56 are for testing",
}


def fields(config: Config) -> tuple[str, ...]:
    """What is read of the shards."""
    sound = ("audio",) if config.sound != "none" else ()
    text = ("caption",) if config.text != "none" else ()
    return (*alignment.fields(config.aligned), *sound, *text, *(("labels",) if config.task != "pretrain" else ()))


def windows(config: Config) -> dict[str, dict[str, int]]:
    """What of a clip each stage sees that the configuration decides, by the names of its fields."""
    if config.task == "pretrain":
        return {}
    length = config.clip_frames
    return {"fusion": {"num_frames": length} if config.task == "emi" else {"window": length, "stride": length}}


def labels(config: Config) -> dict[str, str | None]:
    """Targets and their rules, as `ShardDataset` takes them."""
    if config.task == "pretrain":
        return {}
    if config.task == "au":
        return {f"au_occ_{au}": config.rule for au in config.aus}
    if config.task in ("expr", "ce"):
        return {config.column: f"classes:{config.space}"}
    return dict.fromkeys(config.names, config.rule)


def _recipe(config: Config, stages: tuple[Stage, ...], **given: Any) -> Recipe:
    return Recipe(
        needs=("sound_weights=FILE",) if config.sound == "vggish" and config.task != "pretrain" else (),
        task=TITLES[config.task],
        labels=labels(config),
        stages=stages,
        monitor=MONITORS[config.task],
        higher_is_better=config.task != "pretrain",
        fields=fields(config),
        **given,
    )


def _pretraining(**changed: Any) -> Stage:
    """800 epochs of 4,096 (paper); the rest is MAE's recipe: 1.5e-4 for each 256 of the batch."""
    return Stage(
        **{
            "epochs": 800, "batch_size": 4096, "optimiser": "adamw", "learning_rate": 1.5e-4 * 4096 / 256,
            "weight_decay": 0.05, "betas": (0.9, 0.95), "schedule": "cosine", "warmup_epochs": 40, **changed,
        }
    )  # fmt: skip


def _stages(
    config: Config, encoders: dict[str, Any] | None = None, fusion: dict[str, Any] | None = None
) -> tuple[Stage, ...]:
    """Fine-tuning by MAE's recipe (5e-4 for each 256), fusion by Section 4.3; epochs and batch sizes are not stated.

    EMI's labels are of clips: its encoder is fine-tuned on 8 frames spread over one.
    """
    first: dict[str, Any] = {
        "name": "encoders", "part": "encoders", "epochs": 20, "batch_size": 64, "learning_rate": 5e-4 * 64 / 256,
        "weight_decay": 0.05, "schedule": "cosine", "warmup_epochs": 2,
    }  # fmt: skip
    if config.task == "emi":
        first |= {"window": 0, "num_frames": 8, "batch_size": 8}
    second: dict[str, Any] = {
        "name": "fusion", "part": "fusion", "epochs": 20, "batch_size": 32, "learning_rate": 1e-4, "cached": True,
        "warmup_epochs": 2,  # ours
        **({"window": 0} if config.task == "emi" else {}), **windows(config)["fusion"],
    }  # fmt: skip
    return Stage(**{**first, **(encoders or {})}), Stage(**{**second, **(fusion or {})})


def _published() -> Iterator[tuple[str, Config, Recipe]]:
    for size in ("base", "large"):
        config = Config(task="pretrain", size=size)
        name = "pretrain" if size == "base" else "pretrain_large"
        note = "262 million faces of five sets; the ViT's size is not stated"
        yield name, config, _recipe(
            config, (_pretraining(),), dataset="affectnet", test_split="val", table_row="Section 4.3", note=note
        )  # fmt: skip
    for task, (row, values) in _OFFICIAL.items():
        config = Config(task=task, text=CLIP if task == "emi" else "none")
        split = {"au": "au", "expr": "expr", "va": "va"}.get(task, "")
        given: dict[str, Any] = {"dataset": DATA[task], "start": "pretrain", "note": _EXTRA.get(task, "")}
        yield task, config, _recipe(
            config, _stages(config), table_row=row, published=values, split_task=split, test_split="val", **given
        )  # fmt: skip
        if task in _FOLDS:
            folds_row, percents = _FOLDS[task]
            protocol = "affwild2-5fold-ours-v1" if DATA[task] == "affwild2" else f"{DATA[task]}-5fold-ours-v1"
            mean = {MONITORS[task]: round(sum(percents) / 5, 4)} if percents else {}
            yield f"{task}_5fold", config, _recipe(
                config, _stages(config), table_row=folds_row, published=mean, protocol=protocol, folds=(1, 2, 3, 4, 5), **given,
            )  # fmt: skip
    adapted = Config(task="emi", text=CLIP, lora_rank=8)
    yield "emi_lora", adapted, _recipe(
        adapted, _stages(adapted), dataset=DATA["emi"], start="pretrain", test_split="val",
        table_row="Section 3.1, LoRA as adapters", note="the paper's LoRA is no text encoder; rank 8 is ours",
    )  # fmt: skip


# Rendered faces, silent: 96 px, clips of all their 48 frames (emi: 16 of them); greatest intensities of units stand for emotions.
_SMALL: dict[str, Any] = {
    "size": "small", "image_size": 96, "aligned": 112, "sound": "none", "clip_frames": 48, "layers": 2, "heads": 4,
    "ffn": 384, "rule": None, "dropout": 0.1,
}  # fmt: skip
_TINY: dict[str, Any] = {
    "size": "tiny", "image_size": 32, "patch": 8, "sound": "tiny", "clip_frames": 4, "layers": 1, "heads": 2, "ffn": 32,
    "dropout": 0.0, "weighted": False,
}  # fmt: skip
_SMALL_TASKS: dict[str, dict[str, Any]] = {
    "pretrain": {},
    "au": {"rule": "intensity>=2", "balanced": True, "aus": (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26)},
    "expr": {"classes": "affectnet8"},
    "va": {},
    "emi": {
        "clip_frames": 16,
        "emotions": tuple(f"au_int_{au}" for au in (1, 4, 6, 9, 12, 25)),
        "rule": "x/5",
        "text": "words",
    },
}
_SMALLER: dict[str, Config] = {
    **{f"small_{task}": Config(**{**_SMALL, **changed, "task": task}) for task, changed in _SMALL_TASKS.items()},
    **{f"tiny_{task}": Config(**{**_TINY, "task": task}) for task in TITLES},
    "tiny_words": Config(**{**_TINY, "task": "emi", "text": "words"}),
}
_SMALLER["tiny"] = replace(_SMALLER["tiny_au"])


def _smaller_recipe(name: str, config: Config) -> Recipe:
    small = name.startswith("small")
    dataset = "rendered_facs" if small else "any"
    if config.task == "pretrain":
        changed: dict[str, Any] = (
            {"epochs": 12, "stride": 4, "warmup_epochs": 2} if small else {"epochs": 2, "warmup_epochs": 1}
        )
        stage = _pretraining(batch_size=64 if small else 4, learning_rate=1e-3, **changed)
        return _recipe(config, (stage,), dataset=dataset)
    if small:
        stride = {} if config.task == "emi" else {"stride": 4}
        stages = _stages(
            config,
            {"epochs": 6, **stride, "learning_rate": 5e-4},
            {"epochs": 15, "batch_size": 8, "learning_rate": 5e-4},
        )
        return _recipe(config, stages, dataset=dataset, start="small_pretrain")
    first: dict[str, Any] = {"epochs": 2, "batch_size": 4, "warmup_epochs": 1}
    return _recipe(config, _stages(config, first, {"epochs": 2, "batch_size": 2, "warmup_epochs": 1}), dataset=dataset)


_PUBLISHED = tuple(_published())
PRESETS: dict[str, Config] = {**{name: config for name, config, _ in _PUBLISHED}, **_SMALLER}
RECIPES: dict[str, Recipe] = {
    **{name: recipe for name, _, recipe in _PUBLISHED},
    **{name: _smaller_recipe(name, config) for name, config in _SMALLER.items()},
}
