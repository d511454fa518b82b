"""Presets and recipes of DRR: rows of its Tables 1 to 3, and sizes for two cores and for tests.

The paper prints no training settings but the loss weights: Adam at 1e-4, batches of 32, 20 epochs, a cosine to zero are
ours. Its split is not published: the built data's own, exclusive by subject, stands in (`note`).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from reactionnet_models import alignment
from reactionnet_models.drr_config import TASKS, Config
from reactionnet_models.recipe import Recipe, Stage

METRICS = {"aud": "f1", "fer": "fer_accuracy", "sc": "sc_accuracy"}
TITLES = {"aud": "action units", "fer": "expressions", "sc": "scenes"}

# One domain: the face for action units and expressions, the stimulus for scenes ("R or S").
_ONE: dict[str, Any] = {"domains": ("reaction",), "adapters": 0, "contrastive": False}
_GCN: dict[str, Any] = {**_ONE, "homophily": False}
_ROWS_1: dict[str, tuple[str, dict[str, Any], tuple[float, float, float]]] = {
    "resnet18": ("ResNet18", {**_ONE, "net": "linear"}, (54.8, 69.6, 51.6)),
    "resnet50": ("ResNet50", {**_ONE, "net": "linear", "encoder": "resnet50"}, (55.3, 70.3, 52.8)),
    "vit": ("ViT", {**_ONE, "net": "linear", "encoder": "vit_b_16"}, (53.7, 68.5, 50.5)),
    "gcn": ("GCN", _GCN, (55.9, 71.7, 52.1)),
    "fusion": ("Feature fusion", {"net": "fusion", "adapters": 0}, (54.6, 67.8, 50.7)),
    "uda": ("UDA", {"graph": "none", "contrastive": False}, (56.5, 70.6, 52.9)),
    "da_gcn": ("DA-GCN", {"graph": "attention", "adapters": 0, "contrastive": False}, (57.1, 71.2, 53.6)),
    "sev_net": ("SEV-Net", {"net": "sev_net", "adapters": 0}, (57.7, 74.1, 53.0)),
    "without_cdc": ("without CDC", {"contrastive": False}, (58.9, 73.9, 54.5)),
    "without_ho": ("without HO", {"homophily": False}, (59.1, 74.3, 53.2)),
    "without_he": ("without HE", {"heterophily": False}, (59.3, 73.5, 56.1)),
    "static": ("DRR static", {}, (60.6, 76.2, 58.7)),
    "dynamic": ("DRR dynamic", {"temporal": True}, (61.3, 78.5, 60.2)),
}
_DYADIC = (61.1, 77.9, 60.9)
OUR_READING = {
    "gcn": "our reading: ResNet-18, heads, a GCN over A",
    "fusion": "our reading: AFF is for two inputs; the text is fused after the pictures",
    "uda": "our reading: the domains' mean answer, no graph",
    "da_gcn": "our reading: attention over A with a bias a pair of domains",
    "sev_net": "our reading: learned label embeddings attend to both pictures and the text",
}
# Table 2; F1 of action units and accuracy of expressions by data set.
_ROWS_2: dict[str, dict[str, dict[str, float]]] = {
    "aud": {
        "um": {"emotionet": 48.9, "ck_plus": 64.4, "disfa": 62.3, "bp4d": 64.5, "bp4d_plus": 62.9},
        "mm": {"bp4d": 66.5, "bp4d_plus": 64.7},
        "pr": {"emotionet": 48.5, "ck_plus": 64.7, "disfa": 62.9, "bp4d": 64.9, "bp4d_plus": 63.1},
        "gcn": {"emotionet": 42.7, "ck_plus": 57.0, "disfa": 56.8, "bp4d": 59.2, "bp4d_plus": 58.5},
    },
    "fer": {
        "um": {"ferplus": 87.5, "rafdb": 88.4, "affectnet": 65.7, "mmi": 83.1, "bu3dfe": 85.3},
        "mm": {"bu3dfe": 87.4},
        "pr": {"ferplus": 88.1, "rafdb": 89.6, "affectnet": 65.9, "mmi": 82.9, "bu3dfe": 85.8},
        "gcn": {"ferplus": 85.7, "rafdb": 79.1, "affectnet": 56.6, "mmi": 78.5, "bu3dfe": 78.4},
    },
}
_VARIANTS_2: dict[str, dict[str, Any]] = {
    "um": {"domains": ("reaction",)},
    "mm": {"domains": ("reaction", "stimulus")},
    "pr": {"domains": ("reaction",)},
    "gcn": _GCN,
}
_NOTES_2 = {
    "mm": "the stimulus of the shards is the other picture of the face (thermal, depth); no text",
    "gcn": OUR_READING["gcn"],
}
_BP4D = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)
_DATA_2: dict[str, dict[str, Any]] = {
    "emotionet": {"aus": (1, 2, 4, 5, 6, 9, 12, 17, 20, 25, 26, 43)},
    "ck_plus": {"aus": (1, 2, 4, 5, 6, 7, 9, 12, 17, 23, 24, 25)},
    "disfa": {"aus": (1, 2, 4, 6, 9, 12, 25, 26), "rule": "intensity>=2"},
    "bp4d": {"aus": _BP4D},
    "bp4d_plus": {"aus": _BP4D},
    "ferplus": {"classes": "ferplus8"},
    "rafdb": {"classes": "rafdb7"},
    "affectnet": {"classes": "affectnet7"},
    "mmi": {"classes": "mmi6"},
    "bu3dfe": {"classes": "bu3dfe7"},
}
_PROTOCOLS: dict[str, dict[str, Any]] = {
    "emotionet": {"protocol": "emotionet-ours-v1", "folds": (1,)},
    "ck_plus": {"protocol": "ckplus-10fold-ours-v1", "folds": tuple(range(1, 11))},
    "disfa": {"protocol": "disfa-3fold", "folds": (1, 2, 3)},
    "bp4d": {"protocol": "bp4d-3fold", "folds": (1, 2, 3)},
    "bp4d_plus": {"protocol": "bp4dplus-4fold", "folds": (1, 2, 3, 4)},
    "mmi": {"protocol": "mmi-10fold-ours-v1", "folds": tuple(range(1, 11))},
    "bu3dfe": {"protocol": "bu3dfe-10fold-ours-v1", "folds": tuple(range(1, 11))},
    "affectnet": {"test_split": "val"},  # its test set was never given away
}
_ROWS_3: dict[str, tuple[str, tuple[float, ...]]] = {
    "resnet18": ("ResNet-18", (59.8, 53.9, 47.2, 53.3, 57.4, 52.2, 56.5, 57.2, 54.7)),
    "vit": ("ViT", (59.1, 44.0, 50.5, 53.8, 57.0, 50.6, 56.7, 57.7, 53.7)),
    "static": ("DRR Static", (61.6, 50.4, 48.6, 56.6, 58.8, 52.4, 59.4, 59.4, 55.9)),
}
# S1 to S8 in the table's order.
_SCENES_3 = ("animation", "film", "game", "object", "show", "sports", "interview", "self_made_video")


def config_of(variant: str, task: str, **changed: Any) -> Config:
    """A row of Table 1 for one task."""
    fields = dict(_ROWS_1[variant][1])
    if task == "sc" and fields.get("domains") == ("reaction",):
        fields["domains"] = ("stimulus",)
    return Config(**{**fields, "tasks": (task,), **changed})


def labels(config: Config) -> dict[str, str | None]:
    """Targets and their rules, as `ShardDataset` takes them."""
    found: dict[str, str | None] = {}
    if "aud" in config.tasks:
        found |= {f"au_occ_{au}": config.rule for au in config.aus}
    if "fer" in config.tasks:
        found["expression"] = "ferplus:majority" if config.classes == "ferplus8" else f"classes:{config.classes}"
    if "sc" in config.tasks:
        found["sub_scene"] = f"classes:{','.join(config.scenes)}"
    return found | ({"scene": "classes:scene8"} if config.per_scene else {})


def fields(config: Config) -> tuple[str, ...]:
    """What is read of the shards."""
    of_domain = {"reaction": alignment.fields(config.aligned), "stimulus": ("stimulus",), "text": ("caption",)}
    return (*(field for domain in config.domains for field in of_domain[domain]), "labels")


def windows(config: Config) -> dict[str, dict[str, int]]:
    """What of a clip each stage sees that the configuration decides, by the names of its fields."""
    length = 8 if config.temporal else 1
    return {"all": {"window": length, "stride": length}}


def _recipe(config: Config, stage: dict[str, Any] | None = None, **given: Any) -> Recipe:
    settings: dict[str, Any] = {
        "epochs": 20, "batch_size": 4 if config.temporal else 32, "optimiser": "adam", "learning_rate": 1e-4,
        "weight_decay": 0.0, "schedule": "cosine", **windows(config)["all"], **(stage or {}),
    }  # fmt: skip
    return Recipe(
        task=", ".join(TITLES[task] for task in config.tasks),
        labels=labels(config),
        stages=(Stage(**settings),),
        fields=fields(config),
        monitor=METRICS[config.tasks[0]],
        higher_is_better=True,
        **given,
    )


def _published_presets() -> Iterator[tuple[str, Config, Recipe]]:
    split = "the paper's split is not published"
    for variant, (title, _, row) in _ROWS_1.items():
        for task, percent in zip(TASKS, row, strict=True):
            config = config_of(variant, task)
            note = "; ".join(filter(None, (OUR_READING.get(variant, ""), split)))
            yield f"{variant}_{task}", config, _recipe(
                config, dataset="reactionnet", table_row=f"Table 1, {title}, {task.upper()}",
                published={METRICS[task]: round(percent / 100, 3)}, note=note,
            )  # fmt: skip
    dyadic = Config(tasks=TASKS)
    published = {METRICS[task]: round(percent / 100, 3) for task, percent in zip(TASKS, _DYADIC, strict=True)}
    yield "dyadic", dyadic, _recipe(
        dyadic, dataset="reactionnet", table_row="Table 1, DRR dyadic", published=published, note=split
    )  # fmt: skip
    yield "dyadic_aud_sc", Config(tasks=("aud", "sc")), _recipe(
        Config(tasks=("aud", "sc")), dataset="reactionnet", table_row="Section 5.1, start of DRR PR",
        note='trained on all data "for AUD and SC"',
    )  # fmt: skip
    for variant, (title, percents) in _ROWS_3.items():
        config = config_of(variant, "aud", per_scene=True)
        names = [*(f"f1_{scene}" for scene in _SCENES_3), "f1_scenes"]
        yield f"scenes_{variant}", config, _recipe(
            config, dataset="reactionnet", table_row=f"Table 3, {title}",
            published={name: round(p / 100, 3) for name, p in zip(names, percents, strict=True)},
            note="66 % of the data train, the rest test; which is not published",
        )  # fmt: skip
    for task, variants in _ROWS_2.items():
        for variant, of_data in variants.items():
            for dataset, percent in of_data.items():
                config = Config(**{**_VARIANTS_2[variant], **_DATA_2[dataset], "tasks": (task,)})
                yield f"{variant}_{dataset}", config, _recipe(
                    config, dataset=dataset, table_row=f"Table 2, {variant.upper()}, {dataset}",
                    published={METRICS[task]: round(percent / 100, 3)}, note=_NOTES_2.get(variant, ""),
                    start="dyadic_aud_sc" if variant == "pr" else "", **_PROTOCOLS.get(dataset, {}),
                )  # fmt: skip


# Two cores: half of ResNet-18's depth from nothing, 64 px, captions' words learned, every fourth frame. What is rare is weighed
# up, but not of expressions, which are judged by accuracy: more than half of all frames are neutral. DRR answers nothing
# else for five epochs, so expressions, alone or among all tasks, take twenty.
_SMALL: dict[str, Any] = {
    "encoder": "resnet10", "weights": None, "adapters": 4, "text": "words", "image_size": 64, "resize": 72, "aligned": 72,
    "rule": "intensity>=2", "classes": "affectnet8", "balanced": ("aud", "sc"),
}  # fmt: skip
_TINY: dict[str, Any] = {
    "encoder": "tiny", "weights": None, "adapters": 2, "text_width": 16, "image_size": 32, "resize": 36, "aus": (1, 6, 12),
    "scenes": ("pet", "race", "slime"), "head_width": 8, "node_width": 6, "weighted": False, "relations": ("6-12",),
    "facs": False,
}  # fmt: skip


def _smaller(prefix: str, size: dict[str, Any]) -> Iterator[tuple[str, Config]]:
    for variant in _ROWS_1:
        shrunk = {**size, "adapters": 0} if config_of(variant, "aud").adapters == 0 else size
        for task in TASKS:
            config = config_of(variant, task, **shrunk)
            if prefix == "small":
                encoder = {"resnet18": "resnet10", "resnet50": "resnet18", "vit": "resnet10"}.get(variant, "resnet10")
                if variant == "vit":
                    continue  # without weights of others it learns nothing from so few faces
                config = replace(config, encoder=encoder)
            yield f"{prefix}_{variant}_{task}", config
    yield f"{prefix}_dyadic", Config(**{**size, "tasks": TASKS})
    yield f"{prefix}_um", Config(**{**size, "domains": ("reaction",)})
    yield f"{prefix}_mm", Config(**{**size, "domains": ("reaction", "stimulus")})
    if prefix == "small":
        yield "small_stimulus_aud", Config(**{**size, "domains": ("stimulus", "text")})
    else:
        yield "tiny", Config(**size)


# A batch shows but six people, and neighbouring frames are alike: every fourth one, from what a static one has learned.
# Two windows make up a clip of 48 frames, so that none of its parts counts twice where it is judged.
_TEMPORAL: dict[str, dict[str, Any]] = {
    "small": {"window": 24, "num_frames": 6, "stride": 12, "batch_size": 6, "epochs": 3, "learning_rate": 2e-4},
    "tiny": {"stride": 8, "batch_size": 4},
}
_PUBLISHED = tuple(_published_presets())
_OTHERS = {
    **{
        name: (config, {"stride": 4, "epochs": 20 if "fer" in config.tasks else 8, "learning_rate": 1e-3})
        for name, config in _smaller("small", _SMALL)
    },
    **{name: (config, {"epochs": 2, "batch_size": 2, "learning_rate": 1e-3}) for name, config in _smaller("tiny", _TINY)},
}  # fmt: skip
PRESETS: dict[str, Config] = {
    **{name: config for name, config, _ in _PUBLISHED},
    **{name: config for name, (config, _) in _OTHERS.items()},
}
RECIPES: dict[str, Recipe] = {
    **{name: recipe for name, _, recipe in _PUBLISHED},
    **{
        name: _recipe(
            config,
            {**stage, **(_TEMPORAL[name.split("_")[0]] if config.temporal else {})},
            dataset="rendered_facs" if name.startswith("small") else "any",
            start=name.replace("dynamic", "static") if config.temporal and name.startswith("small") else "",
        )
        for name, (config, stage) in _OTHERS.items()
    },
}
