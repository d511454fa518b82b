"""DRR: ReactioNet, Learning High-order Facial Behavior from Universal Stimulus-Reaction by Dyadic Relation Reasoning.
Li et al., ICCV 2023; no public code, and its supplement could not be had.

Three domains say what a face does: the face, what it watches, and a caption of that. One ResNet-18 with domain adaptors
sees both pictures, CLIP's text tower reads the caption; each label gets a node in each domain, nodes of a label are drawn
together over domains (contrastive loss), and two graphs over all nodes answer. Tasks: action units (aud), expressions
(fer), scene classification (sc). `static` sees one frame, `dynamic` 8 with a GRU over each node, `dyadic` does all three
tasks; UM has the face alone, MM another picture of the face in the stimulus's place, PR starts from dyadic's encoder.

What the paper leaves open is a field of `Config`. A domain that is missing (no stimulus at that time, no caption, or
hidden) has nodes of zero, no edges and no part in any loss. Letters: B clips, T frames, N = B T, D domains, K labels, F
features, C features of a node, H, W pixels, L words.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from reactionnet_datasets import Augment
from reactionnet_models import alignment, losses
from reactionnet_models.augmentation import normalise
from reactionnet_models.captions import MAX_WORDS, NUM_WORDS, embed, word_ids
from reactionnet_models.domain_adaptor import map_encoder, similarity_of
from reactionnet_models.drr_baselines import FusionHead, LinearHead, SemanticHead
from reactionnet_models.drr_config import Config, related
from reactionnet_models.drr_metrics import metrics
from reactionnet_models.drr_presets import PRESETS, RECIPES, fields, labels, windows
from reactionnet_models.reasoner import Reasoner
from reactionnet_models.relations import contrastive, count_relations, name_pairs

__all__ = [
    "PAPER", "PRESETS", "RECIPES", "Config", "build", "example", "fields", "labels", "loss", "metrics", "predictions", "prepare",
    "prior", "stream", "transfer", "view", "windows", "with_labels", "with_rates",
]  # fmt: skip

Batch = Mapping[str, Tensor]
PAPER = "ReactioNet: Learning High-order Facial Behavior by Dyadic Relation Reasoning (Li et al., 2023)"
DECIDES = ("tasks",)
IMAGES = {"reaction": "image_BTCHW", "stimulus": "image_stimulus_BTCHW"}
LABELS = {"aud": "au_BTM", "fer": "expression_BT", "sc": "sub_scene_BT"}


class DRR(nn.Module):
    """Pictures and text to logits of each task, `TASK_logit_BTK`, and what the losses need of nodes and domains."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.encoder, width = map_encoder(
            config.encoder, num_adapters=config.adapters, weights=config.weights, diversify=config.diversity_weight > 0
        )
        self.words: nn.Module | None = None
        if "text" in config.domains:
            if config.text == "words":
                self.words = nn.EmbeddingBag(NUM_WORDS, width, mode="mean", padding_idx=0)
            elif config.text_width != width:
                self.words = nn.Linear(config.text_width, width)
        self.tasks = nn.ModuleDict({task: _head(config, width, task) for task in config.tasks})

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        mask_BTD = batch["domain_mask_BTD"]
        map_BTDFHW = self._maps(batch)
        text_BTF = self._text(batch, mask_BTD.shape[1])
        pictures_BTDF = map_BTDFHW.mean((-2, -1))
        feature_BTDF = pictures_BTDF if text_BTF is None else torch.cat([pictures_BTDF, text_BTF[:, :, None]], 2)
        found: dict[str, Tensor] = {}
        for task, head in self.tasks.items():
            if isinstance(head, Reasoner):
                logit, domain, node = head(feature_BTDF, mask_BTD)
                found |= {f"{task}_logit_BTK": logit, f"{task}_domain_BTDK": domain, f"{task}_node_BTDKC": node}
            elif isinstance(head, LinearHead):
                found[f"{task}_logit_BTK"] = head(pictures_BTDF[:, :, 0])
            else:
                assert text_BTF is not None
                given = (value.flatten(0, 1) for value in (map_BTDFHW, text_BTF, mask_BTD))
                found[f"{task}_logit_BTK"] = head(*given).unflatten(0, mask_BTD.shape[:2])
        if self.config.diversity_weight:
            found["similarity_B"] = similarity_of(self.encoder).expand(len(mask_BTD))
        return found

    def _maps(self, batch: Batch) -> Tensor:
        """All pictures through the one encoder in one call: (B, T, D, F, h, w)."""
        image = torch.stack([batch[IMAGES[domain]] for domain in self.config.visual], 2)
        return self.encoder(image.flatten(0, 2)).unflatten(0, image.shape[:3])

    def _text(self, batch: Batch, length: int) -> Tensor | None:
        if "text" not in self.config.domains:
            return None
        given = batch["text_BL"] if self.config.text == "words" else batch["text_BF"]
        text_BF = given if self.words is None else self.words(given)
        return text_BF[:, None].expand(-1, length, -1)


def _head(config: Config, width: int, task: str) -> nn.Module:
    num = len(config.names(task))
    if config.net == "linear":
        return LinearHead(width, num)
    if config.net == "fusion":
        return FusionHead(width, num)
    if config.net == "sev_net":
        return SemanticHead(width, num)
    return Reasoner(config, width, task)


def loss(out: Batch, batch: Batch, config: Config) -> dict[str, Tensor]:
    """Eq. 8, summed over tasks: each domain's answer (Eq. 1), the graph's (Eq. 7), the contrast (Eq. 2).

    The printed Eq. 1 and 7 lack their minus sign. A net without nodes has the last answer's loss alone.
    """
    terms: dict[str, Tensor] = {}
    total = torch.zeros((), device=batch["domain_mask_BTD"].device)
    for task in config.tasks:
        true_BTK, mask_BTK = targets(batch, config, task)
        weights_2K = _weights(config, task, true_BTK)
        found = _task_terms(out, batch, config, task, true_BTK, mask_BTK, weights_2K)
        total = total + found.pop("weighed")
        terms |= {f"{task}_{name}": value for name, value in found.items()}
    if "similarity_B" in out:
        terms["similarity"] = out["similarity_B"].mean()
        total = total + config.diversity_weight * terms["similarity"]
    return {"loss": total, **terms}


def _task_terms(
    out: Batch, batch: Batch, config: Config, task: str, true_BTK: Tensor, mask_BTK: Tensor, weights_2K: Tensor
) -> dict[str, Tensor]:
    def detection(logit: Tensor, true: Tensor, mask: Tensor) -> Tensor:
        logit, true, mask = (value.flatten(0, -2) for value in (logit, true, mask))
        return losses.weighted_bce(logit, true, mask, *weights_2K)

    has_nodes = f"{task}_node_BTDKC" in out
    terms: dict[str, Tensor] = {}
    weighed = torch.zeros((), device=true_BTK.device)
    if not has_nodes or config.graph != "none":
        terms["graph"] = detection(out[f"{task}_logit_BTK"], true_BTK, mask_BTK)
        weighed = (config.graph_weight if has_nodes else 1.0) * terms["graph"]
    if has_nodes:
        present_BTD = batch["domain_mask_BTD"]
        domain_BTDK = out[f"{task}_domain_BTDK"]
        mask_BTDK = mask_BTK[:, :, None] & present_BTD[..., None]
        each = detection(domain_BTDK, true_BTK[:, :, None].expand_as(domain_BTDK), mask_BTDK)
        terms["domains"] = each * len(config.domains)  # the mean over domains that are there, as a sum over all
        weighed = weighed + terms["domains"]
        if config.contrastive and len(config.domains) > 1:
            terms["contrast"] = contrastive(
                out[f"{task}_node_BTDKC"].flatten(0, 1), related(config, task), temperature=config.temperature,
                include_positive=config.include_positive, mask_BD=present_BTD.flatten(0, 1),
            )  # fmt: skip
            weighed = weighed + config.contrastive_weight * terms["contrast"]
    return {**terms, "weighed": weighed}


def targets(batch: Batch, config: Config, task: str) -> tuple[Tensor, Tensor]:
    """0 or 1 of each label, (B, T, K), and which are valid. A class is one label against the others."""
    if task == "aud":
        return batch["au_BTM"], batch["au_mask_BTM"]
    index_BT = batch[LABELS[task]]
    num = len(config.names(task))
    true_BTK = nn.functional.one_hot(index_BT.clamp(min=0), num).float()
    return true_BTK, (index_BT >= 0)[..., None].expand_as(true_BTK)


def _weights(config: Config, task: str, like: Tensor) -> Tensor:
    """(2, K): the weight of each label, and that of its occurrence."""
    num = len(config.names(task))
    if task == "aud" and config.relations is None and config.net == "drr" and _uses_relations(config):
        raise ValueError("relations are still to be counted in the training labels: call with_labels")
    rates = config.rates(task)
    if not config.weighted:
        return torch.tensor([[1 / num] * num, [1.0] * num], device=like.device)
    if rates is None:
        raise ValueError(f"the rates of {task} are still to be counted in the training labels: call with_rates")
    label_K, occurrence_K = losses.occurrence_weights(rates)
    return torch.stack([label_K, occurrence_K if task in config.balanced else torch.ones_like(label_K)]).to(like.device)


def _uses_relations(config: Config) -> bool:
    contrasts = config.contrastive and len(config.domains) > 1
    return contrasts or config.graph == "attention" or (config.graph == "dyadic" and config.heterophily)


def with_rates(config: Config, rates: Mapping[str, float]) -> Config:
    """The configuration with the labels' shares of the training frames filled in, where it lacks them. ValueError where
    they cannot be weighed by how rare they are."""
    columns = {
        "aud": [f"au_occ_{au}" for au in config.aus],
        "fer": [f"expression={name}" for name in config.names("fer")],
        "sc": [f"sub_scene={name}" for name in config.scenes],
    }
    found: dict[str, Any] = {
        f"rates_{task}": tuple(rates.get(column, 0.0) for column in columns[task])
        for task in config.tasks
        if (config.weighted or config.start_at_rates) and config.rates(task) is None
    }
    same = [
        column
        for name, shares in found.items()
        if config.weighted
        for column, share in zip(columns[name.removeprefix("rates_")], shares, strict=True)
        if not 0 < share < 1
    ]
    if same:
        raise ValueError(
            f"in training {', '.join(same)} never or always occurs: set weighted=false, or leave it out (aus, classes, scenes)"
        )
    return replace(config, **found)


def with_labels(config: Config, labels: Mapping[str, Any]) -> Config:
    """The configuration with the relations of a fold's training labels: `au_occ_N` and its mask as scanned, each (S, T)."""
    if config.relations is not None or "aud" not in config.tasks:
        return config
    au_SN, mask_SN = (
        torch.stack([torch.as_tensor(labels[f"au_occ_{au}{suffix}"]).flatten() for au in config.aus], -1)
        for suffix in ("", "_mask")
    )
    return replace(config, relations=name_pairs(count_relations(au_SN, mask_SN), config.aus))


def view(config: Config, train: bool) -> Augment | None:
    """What of a stored face the network sees; all of it where `prepare` aligns it."""
    if config.aligned is not None:
        return None
    return Augment(resize=config.resize, crop=config.image_size, random=train, flip=0.5 if train else 0.0)


def stream(config: Config, train: bool) -> dict[str, Any]:
    """What else `ShardDataset` is told: the stimulus's view, which is not mirrored, and how much earlier it is taken."""
    if "stimulus" not in config.domains:
        return {}
    seen = Augment(resize=config.resize, crop=config.image_size, random=train)
    return {"augment_stimulus": seen, "delay_s": config.delay_s}


def prepare(items: Mapping[str, Any], config: Config, random: torch.Generator | None = None) -> dict[str, Tensor]:
    """A batch from items of `ShardDataset`, whose readers cropped and mirrored. Missing and hidden domains are masked.

    ValueError where pictures are not of `image_size`.
    """
    frame_BT = items["frame_mask"]
    masks: list[Tensor] = []
    batch: dict[str, Tensor] = {}
    for domain in config.domains:
        if domain == "text":
            said_B = torch.tensor([bool(text) for text in items["caption"]], device=frame_BT.device)
            present_BT = frame_BT & said_B[:, None]
            batch |= _text_of(items["caption"], config, frame_BT.device)
        else:
            if domain == "stimulus":
                present_BT = frame_BT & items["stimulus_mask"]
                colours_BTCHW = _colours(items["stimulus"], "stimulus", config, present_BT)
            elif config.aligned is not None:
                shown = alignment.faces(items, config.aligned, config.image_size, random)
                colours_BTCHW, present_BT = shown.colours(), shown.found_BT
                batch["aligned_BT"] = present_BT
            else:
                colours_BTCHW, present_BT = _colours(items["frames"], "frames", config, frame_BT), frame_BT
            image_BTCHW = normalise(colours_BTCHW.flatten(0, 1)).unflatten(0, present_BT.shape)
            batch[IMAGES[domain]] = image_BTCHW * present_BT[..., None, None, None]
        masks.append(present_BT & (domain not in config.hidden))
    batch["domain_mask_BTD"] = torch.stack(masks, -1)
    return batch | _labels(items.get("labels", {}), config, batch["domain_mask_BTD"].any(-1))


def _colours(frames_BTCHW: Tensor, name: str, config: Config, present_BT: Tensor) -> Tensor:
    side = config.image_size
    if not bool(present_BT.any()):  # nothing was seen in the whole batch, whatever its size
        return torch.zeros(*present_BT.shape, 3, side, side, device=present_BT.device)
    if frames_BTCHW.shape[-2:] != (side, side):
        raise ValueError(f"{name} of {tuple(frames_BTCHW.shape[-2:])} pixels; expected {side} on each side: see `view`")
    return frames_BTCHW.float() / 255


def _text_of(captions: list[str], config: Config, device: torch.device) -> dict[str, Tensor]:
    if config.text == "words":
        return {"text_BL": word_ids(captions).to(device)}
    return {"text_BF": embed(captions, config.text, config.text_width).to(device)}


def _labels(labels: Mapping[str, Tensor], config: Config, seen_BT: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    names = [f"au_occ_{au}" for au in config.aus]
    if "aud" in config.tasks and names[0] in labels:
        mask_BTM = torch.stack([labels[f"{name}_mask"] for name in names], -1) & seen_BT[..., None]
        found["au_BTM"] = torch.where(mask_BTM, torch.stack([labels[name] for name in names], -1), 0).float()
        found["au_mask_BTM"] = mask_BTM
    if "fer" in config.tasks and "expression" in labels:
        found["expression_BT"] = torch.where(seen_BT, labels["expression"], -100)
    if "sc" in config.tasks and "sub_scene" in labels:  # of a clip: each of its frames has it
        found["sub_scene_BT"] = torch.where(seen_BT, labels["sub_scene"][:, None], -100)
    if config.per_scene and "scene" in labels:
        found["scene_B"] = labels["scene"]
    return found


def prior(config: Config, rates: Mapping[str, float], batch: Batch) -> dict[str, Tensor]:
    """What knows only how often each label is true in training: every action unit always, the likeliest class."""
    shape = batch["domain_mask_BTD"].shape[:2]
    found = {}
    for task in config.tasks:
        if task == "aud":
            share_K = torch.full((len(config.aus),), 0.9)
        else:
            column = {"fer": "expression", "sc": "sub_scene"}[task]
            share_K = torch.tensor([rates.get(f"{column}={name}", 0.0) for name in config.names(task)])
        found[f"{task}_logit_BTK"] = torch.logit(share_K, eps=1e-6).expand(*shape, -1)
    return found


def predictions(out: Batch, config: Config) -> dict[str, Tensor]:
    """A probability of each label, (B, T): of classes the graph's answers scaled to a sum of 1."""
    columns: dict[str, Tensor] = {}
    for task in config.tasks:
        share_BTK = out[f"{task}_logit_BTK"].float().sigmoid()
        if task != "aud":
            share_BTK = share_BTK / share_BTK.sum(-1, keepdim=True)
        prefix = {"aud": "p_au_occ_", "fer": "p_", "sc": "p_scene_"}[task]
        names = [name.removeprefix("au") if task == "aud" else name for name in config.names(task)]
        columns |= {f"{prefix}{name}": share for name, share in zip(names, share_BTK.unbind(-1), strict=True)}
    return columns


def example(config: Config, batch_size: int, num_frames: int | None = None) -> dict[str, Tensor]:
    """A random batch of the right shapes, for tests, profiling and the README."""
    length = num_frames or (8 if config.temporal else 1)
    side = config.image_size
    batch = {IMAGES[domain]: torch.randn(batch_size, length, 3, side, side) for domain in config.visual}
    if "text" in config.domains:
        if config.text == "words":
            batch["text_BL"] = torch.randint(NUM_WORDS, (batch_size, MAX_WORDS))
        else:
            batch["text_BF"] = torch.randn(batch_size, config.text_width)
    present = torch.tensor([domain not in config.hidden for domain in config.domains])
    batch["domain_mask_BTD"] = present.expand(batch_size, length, -1).clone()
    if "aud" in config.tasks:
        num = len(config.aus)
        batch["au_BTM"] = torch.randint(2, (batch_size, length, num)).float()
        batch["au_mask_BTM"] = torch.ones(batch_size, length, num, dtype=torch.bool)
    for task in set(config.tasks) - {"aud"}:
        batch[LABELS[task]] = torch.randint(len(config.names(task)), (batch_size, length))
    if config.per_scene:
        batch["scene_B"] = torch.randint(8, (batch_size,))
    return batch


def build(config: Config) -> DRR:
    """The network, its encoder with the weights that `config` names."""
    net = DRR(config)
    for task, head in net.tasks.items():
        rates = config.rates(task)
        if config.start_at_rates and task not in config.balanced and rates is not None:
            losses.start_at(cast(Any, head).biases(), rates)
    return net


def transfer(state: Mapping[str, Tensor], source: Config, config: Config) -> dict[str, Tensor]:
    """DRR PR: the visual encoder of another DRR, all else afresh. Dynamic from the same net without time: all but its GRU.

    ValueError where the encoders differ.
    """
    if (source.encoder, source.adapters) != (config.encoder, config.adapters):
        raise ValueError(
            f"an encoder {source.encoder} with {source.adapters} adapters cannot start {config.encoder} with "
            f"{config.adapters}"
        )
    counted = {name: getattr(source, name) for name in ("rates_aud", "rates_fer", "rates_sc", "relations")}
    if config.temporal and replace(config, temporal=False, **counted) == source:
        return dict(state)
    return {name: value for name, value in state.items() if name.startswith("encoder.")}
