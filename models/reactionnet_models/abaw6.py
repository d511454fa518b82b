"""ABAW6: Affective Behaviour Analysis via Integrating Multi-Modal Knowledge. Zhang et al., 2024; no public code.

First a masked autoencoder learns faces (`pretrain`). Then, for each of five tasks, stage `encoders` fine-tunes its encoder
with one layer on single pictures, and stage `fusion` trains a transformer over the frames of clips of 100, with one token
for the sound (VGGish, frozen) and one for the text (CLIP; EMI only), over features that are computed once. Tasks: action
units (au), expressions (expr), valence and arousal (va), compound expressions (ce), emotional mimicry intensity (emi).
Smoothing, votes and submission files are in `smoothing` and `submission`.

What the paper leaves open is a field of `Config`; stochastic depth, of MAE's fine-tuning recipe, is left out. "LoRA" is no
text encoder (the paper cites a radio standard): here CLIP's is frozen, and `lora_rank` adds adapters. Letters: B clips, T
frames, K outputs, C width, L patches, N examples of sound, W words.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from reactionnet_datasets import Augment
from reactionnet_datasets.sound_features import EXAMPLE_FRAMES, MEL, logmel_examples
from reactionnet_models import abaw6_losses, alignment, losses
from reactionnet_models.abaw6_config import Config
from reactionnet_models.abaw6_presets import PRESETS, RECIPES, fields, labels, windows
from reactionnet_models.augmentation import normalise
from reactionnet_models.captions import MAX_WORDS, NUM_WORDS, check_width, embed, tokenise, word_ids
from reactionnet_models.correlation import Correlations, clip_targets
from reactionnet_models.frame_metrics import FrameCircumplex, FrameClasses
from reactionnet_models.metrics import ActionUnits, Metric
from reactionnet_models.temporal import or_all
from reactionnet_models.text_adapter import adapted_tower
from reactionnet_models.vggish import WIDTH, examples_of, mean_of_examples, vggish
from reactionnet_models.vit import SIZES, Autoencoder, Reconstruction, draw_noise, num_patches, vit_encoder

Batch = Mapping[str, Tensor]
__all__ = [
    "PAPER", "PRESETS", "RECIPES", "Config", "build", "example", "fields", "labels", "loss", "metrics", "predictions", "prepare",
    "prior", "transfer", "view", "windows", "with_rates",
]  # fmt: skip
# What of the encoders, and of a batch, the fusion reads.
FEATURES = ("feature_BTC", "sound_BC")
DECIDES = ("task",)
KEPT = (
    "frame_mask_BT", "heard_B", "said_B", "text_BC", "word_BW", "word_mask_BW", "au_BTM", "au_mask_BTM", "class_BT",
    "affect_BTD", "affect_mask_BTD", "intensity_BK", "intensity_mask_BK",
)  # fmt: skip
PAPER = "Affective Behaviour Analysis via Integrating Multi-Modal Knowledge (Zhang et al., 2024)"


class Encoders(nn.Module):
    """The image encoder with the layer that it is fine-tuned with, and VGGish, which stays as it is.

    Pictures (B, T, 3, H, W) to features of frames and answers; the sound's examples, where a clip has them, to one
    embedding.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.image, width = vit_encoder(config.size, config.image_size, config.patch, config.weights)
        self.last = nn.Linear(width, len(config.names))
        self.sound: nn.Module | None = None
        if config.sound == "vggish" and config.weights is not None and config.sound_weights is None:
            raise ValueError(
                "VGGish without its weights hears noise: --set sound_weights=FILE (vggish-10086976.pth of torchvggish), "
                "sound_weights=random, or sound=none"
            )
        if config.sound != "none":
            given = config.sound_weights if config.weights is not None else None
            self.sound = vggish(given, scale=32 if config.sound == "tiny" else 1)

    def train(self, mode: bool = True) -> "Encoders":
        super().train(mode)
        if self.sound is not None:
            self.sound.eval()
        return self

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        image_BTCHW = batch["image_BTCHW"]
        tokens_NLC = self.image(image_BTCHW.flatten(0, 1)).last_hidden_state
        chosen_NC = tokens_NLC[:, 0] if self.config.pool == "cls" else tokens_NLC[:, 1:].mean(1)
        feature_BTC = chosen_NC.unflatten(0, image_BTCHW.shape[:2])
        found = {"feature_BTC": feature_BTC, **answers(self.last(feature_BTC), batch, self.config)}
        if self.sound is not None and "logmel_BNHW" in batch:
            examples_BNHW, mask_BN = batch["logmel_BNHW"], batch["logmel_mask_BN"]
            with torch.no_grad():
                each_BNC = self.sound(examples_BNHW.flatten(0, 1)).unflatten(0, mask_BN.shape)
            found["sound_BC"] = mean_of_examples(each_BNC, mask_BN)
        return found


class Fusion(nn.Module):
    """Tokens of frames, sound and text through a transformer (Section 3.2); the first T of them answer.

    A clip without sound or text has that token masked.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        width = SIZES[config.size][0][0]
        layer = nn.TransformerEncoderLayer(width, config.heads, config.ffn, config.dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.sound = nn.Linear(WIDTH, width) if config.sound != "none" else None
        self.reader: nn.Module | None = None
        self.text: nn.Module | None = None
        if config.text == "words":
            self.text = nn.EmbeddingBag(NUM_WORDS, width, mode="mean", padding_idx=0)
        elif config.text != "none":
            self.text = nn.Linear(config.text_width, width)
            if config.lora_rank:
                self.reader, given = adapted_tower(config.text, config.lora_rank, load=config.weights is not None)
                check_width(config.text, given, config.text_width)
        num_tokens = config.clip_frames + (self.sound is not None) + (self.text is not None)
        self.position_LC: Tensor | None = None
        if config.positions:
            self.position_LC = nn.Parameter(nn.init.trunc_normal_(torch.empty(num_tokens, width), std=0.02))
        self.last = nn.Linear(width, len(config.names))
        if config.task == "va":  # answers that start far out go on to where tanh has no gradient
            nn.init.trunc_normal_(self.last.weight, std=0.004)
            nn.init.zeros_(self.last.bias)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        frame_BT = batch["frame_mask_BT"]
        length = frame_BT.shape[1]
        if length > self.config.clip_frames:
            raise ValueError(
                f"a window of {length} frames, and clip_frames={self.config.clip_frames}: set fusion.window to that, or less"
            )
        tokens, masks = [batch["feature_BTC"]], [frame_BT]
        if self.sound is not None:
            tokens.append(self.sound(batch["sound_BC"])[:, None])
            masks.append(batch["heard_B"][:, None])
        if self.text is not None:
            tokens.append(self._read(batch)[:, None])
            masks.append(batch["said_B"][:, None])
        x_BLC = torch.cat(tokens, 1)
        if self.position_LC is not None:
            # a short clip's sound and text keep their own places
            places = [*range(length), *range(self.config.clip_frames, self.config.clip_frames + len(tokens) - 1)]
            x_BLC = x_BLC + self.position_LC[places]
        y_BLC = self.encoder(x_BLC, src_key_padding_mask=~or_all(torch.cat(masks, 1)))
        return answers(self.last(y_BLC[:, :length]), batch, self.config)

    def _read(self, batch: Batch) -> Tensor:
        assert self.text is not None
        if self.config.text == "words":
            return self.text(batch["word_BW"])
        if self.reader is None:
            return self.text(batch["text_BC"])
        found = self.reader(input_ids=batch["word_BW"], attention_mask=batch["word_mask_BW"].long())
        return self.text(found.text_embeds)


class ABAW6(nn.Module):
    """Both stages' networks. `score_BTK` is the fusion's answer, `score0_BTK` the image encoder's alone."""

    def __init__(self, config: Config):
        super().__init__()
        self.encoders, self.fusion = Encoders(config), Fusion(config)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        seen = self.encoders(batch)
        given = {**batch, **{name: seen[name].detach() for name in ("feature_BTC", "sound_BC") if name in seen}}
        alone = {f"{name.split('_')[0]}0_{name.split('_')[1]}": seen[name] for name in seen if name in ANSWERS}
        return {**alone, **self.fusion(given)}


ANSWERS = ("score_BTK", "intensity_BK")


def answers(score_BTK: Tensor, batch: Batch, config: Config) -> dict[str, Tensor]:
    """Raw numbers of frames to what the task asks: values in -1 to 1 (va), a clip's mean intensity (emi), logits."""
    if config.task == "va":
        return {"score_BTK": score_BTK.tanh()}
    if config.task == "emi":
        weight_BT1 = batch["frame_mask_BT"][..., None].to(score_BTK)
        mean_BK = (score_BTK * weight_BT1).sum(1) / weight_BT1.sum(1).clamp(min=1)
        return {"score_BTK": score_BTK, "intensity_BK": mean_BK.sigmoid()}
    return {"score_BTK": score_BTK}


def loss(out: Batch, batch: Batch, config: Config) -> dict[str, Tensor]:
    """The task's loss (Eq. 1, 2, 4) of the last answer, and of the image encoder's where that is there too."""
    if config.task == "pretrain":
        found = abaw6_losses.reconstruction(out, batch, config.patch, config.normalize_patches)
        return {"loss": found, "l2": found}
    weights = (_weights(config, out["score_BTK"]), _occurrence(config, out["score_BTK"]))
    terms = {"fused" if "score0_BTK" in out else "last": abaw6_losses.of_task(config.task, out, batch, "", *weights)}
    if "score0_BTK" in out:
        terms["image"] = abaw6_losses.of_task(config.task, out, batch, "0", *weights)
    return {"loss": torch.stack([*terms.values()]).sum(), **terms}


def _weights(config: Config, like: Tensor) -> Tensor:
    num = len(config.names)
    if config.task in ("va", "emi") or not config.weighted:
        return torch.ones(num, device=like.device)
    if config.rates is None:
        raise ValueError("the rates of the labels are still to be counted in training: call with_rates")
    return abaw6_losses.inverse_weights(config.rates).to(like.device)


def _occurrence(config: Config, like: Tensor) -> Tensor | None:
    if config.task != "au" or not config.balanced or config.rates is None:
        return None
    return losses.occurrence_weights(config.rates)[1].to(like.device)


def with_rates(config: Config, rates: Mapping[str, float]) -> Config:
    """The configuration with the shares of its labels filled in, where its task weighs them. ValueError where one is 0."""
    if config.rates is not None or not config.weighted or config.task not in ("au", "expr", "ce"):
        return config
    columns = (
        [f"au_occ_{au}" for au in config.aus]
        if config.task == "au"
        else [f"{config.column}={name}" for name in config.names]
    )
    if missing := [column for column in columns if not rates.get(column)]:
        raise ValueError(f"no training label is {', '.join(missing)}: set weighted=false, or leave it out")
    return replace(config, rates=tuple(rates[column] for column in columns))


def view(config: Config, train: bool) -> Augment | None:
    """What of a stored face the network sees: MAE's cut for pre-training, else all of it, mirrored by chance; all of it as it
    is where `prepare` aligns it."""
    if config.aligned is not None:
        return None
    if config.task == "pretrain" and train:
        return Augment(crop=config.image_size, scale=(0.2, 1.0), aspect=(3 / 4, 4 / 3), flip=0.5)
    resize = config.resize or config.image_size
    return Augment(resize=resize, crop=config.image_size, random=train, flip=0.5 if train else 0.0)


def prepare(items: Mapping[str, Any], config: Config, random: torch.Generator | None = None) -> dict[str, Tensor]:
    """A batch from items of `ShardDataset`. A single picture has no sound or text; a clip without has it masked."""
    frame_BT, frames = items["frame_mask"], items["frames"]
    batch = {}
    if config.aligned is not None:
        shown = alignment.faces(items, config.aligned, config.image_size, random)
        colours_BTCHW, frame_BT = shown.colours(), shown.found_BT
        batch["aligned_BT"] = frame_BT
    elif frames.shape[-2:] != (config.image_size, config.image_size):
        raise ValueError(f"pictures of {tuple(frames.shape[-2:])} pixels; expected {config.image_size} on each side")
    else:
        colours_BTCHW = frames.float() / 255
    batch["image_BTCHW"] = normalise(colours_BTCHW.flatten(0, 1)).unflatten(0, frame_BT.shape)
    batch["frame_mask_BT"] = frame_BT
    if config.task == "pretrain":
        patches = num_patches(config.image_size, config.patch)
        batch["noise_BTL"] = draw_noise((*frame_BT.shape, patches), random).to(frame_BT.device)
        return batch
    if frame_BT.shape[1] > 1:
        batch |= _sound(items, config) | _text(items, config)
    found = items.get("labels", {})
    return batch | (_targets(found, config, frame_BT) if found else {})


def _sound(items: Mapping[str, Any], config: Config) -> dict[str, Tensor]:
    if config.sound == "none":
        return {}
    examples_BNHW = logmel_examples(items["audio"])
    mask_BN = examples_of(items["audio_length"].tolist(), examples_BNHW.shape[1])
    mask_BN = mask_BN.to(examples_BNHW.device)
    return {"logmel_BNHW": examples_BNHW, "logmel_mask_BN": mask_BN, "heard_B": mask_BN.any(1)}


def _text(items: Mapping[str, Any], config: Config) -> dict[str, Tensor]:
    if config.text == "none":
        return {}
    texts, device = list(items["caption"]), items["frame_mask"].device
    said = {"said_B": torch.tensor([bool(text) for text in texts], device=device)}
    if config.text == "words":
        return said | {"word_BW": word_ids(texts).to(device)}
    if config.lora_rank:
        ids_BW, mask_BW = tokenise(texts, config.text)
        return said | {"word_BW": ids_BW.to(device), "word_mask_BW": mask_BW.to(device)}
    return said | {"text_BC": embed(texts, config.text, config.text_width).to(device)}


def _targets(found: Mapping[str, Tensor], config: Config, frame_BT: Tensor) -> dict[str, Tensor]:
    if config.task in ("expr", "ce"):
        return {"class_BT": torch.where(frame_BT, found[config.column], -100)}
    if config.task == "emi":
        values, mask = clip_targets(found, config.emotions, frame_BT)
        return {"intensity_BK": values, "intensity_mask_BK": mask}
    names = [f"au_occ_{au}" for au in config.aus] if config.task == "au" else list(config.names)
    mask = torch.stack([found[f"{name}_mask"] for name in names], -1) & frame_BT[..., None]
    values = torch.where(mask, torch.stack([found[name] for name in names], -1), 0).float()
    stem, letter = ("au", "M") if config.task == "au" else ("affect", "D")
    return {f"{stem}_BT{letter}": values, f"{stem}_mask_BT{letter}": mask}


def metrics(config: Config) -> list[Metric]:
    """The challenge's, Eq. 6 to 11; of pre-training how far the hidden patches are."""
    if config.task == "pretrain":
        return [Reconstruction(config.patch, config.normalize_patches)]
    if config.task == "au":
        return [ActionUnits(config.aus, config.threshold, "score_BTK")]
    if config.task in ("expr", "ce"):
        return [FrameClasses(config.names, "score_BTK", "class_BT")]
    if config.task == "va":
        return [FrameCircumplex(config.names, "score_BTK")]
    return [Correlations([name.removeprefix("emi_") for name in config.emotions])]


def prior(config: Config, rates: Mapping[str, float], batch: Batch) -> dict[str, Tensor]:
    """What knows only how often each label is true in training, or its mean; of pre-training grey patches."""
    shape = batch["frame_mask_BT"].shape
    if config.task == "pretrain":
        hidden_BTL = torch.ones_like(batch["noise_BTL"])
        return {
            "patch_BTLP": hidden_BTL[..., None].new_zeros(*hidden_BTL.shape, 3 * config.patch**2),
            "hidden_BTL": hidden_BTL,
        }
    if config.task == "au":
        return {"score_BTK": torch.ones_like(batch["au_BTM"])}
    prefix = f"{config.column}=" if config.task in ("expr", "ce") else ""
    share_K = torch.tensor([rates.get(f"{prefix}{name}", 0.0) for name in config.names])
    if config.task == "emi":
        return {"intensity_BK": share_K.expand(shape[0], -1)}
    return {"score_BTK": (share_K if config.task == "va" else share_K.clamp(min=1e-9).log()).expand(*shape, -1)}


def predictions(out: Batch, config: Config) -> dict[str, Tensor]:
    """A probability of each label (B, T), valence and arousal, or a clip's intensities (B)."""
    if config.task == "pretrain":
        return {}
    if config.task == "emi":
        return dict(zip(config.emotions, out["intensity_BK"].float().unbind(-1), strict=True))
    score = out["score_BTK"].float()
    if config.task == "va":
        return dict(zip(config.names, score.unbind(-1), strict=True))
    share = score.sigmoid() if config.task == "au" else score.softmax(-1)
    prefix = "p_au_occ_" if config.task == "au" else "p_"
    names = [name.removeprefix("au") if config.task == "au" else name for name in config.names]
    return {f"{prefix}{name}": column for name, column in zip(names, share.unbind(-1), strict=True)}


def example(config: Config, batch_size: int, num_frames: int | None = None) -> dict[str, Tensor]:
    """A random batch of the right shapes, for tests, profiling and the README."""
    length = num_frames or (1 if config.task == "pretrain" else min(config.clip_frames, 4))
    side = config.image_size
    batch = {
        "image_BTCHW": torch.randn(batch_size, length, 3, side, side),
        "frame_mask_BT": torch.ones(batch_size, length, dtype=torch.bool),
    }
    if config.task == "pretrain":
        return {**batch, "noise_BTL": torch.rand(batch_size, length, num_patches(side, config.patch))}
    if config.sound != "none":
        batch["logmel_BNHW"] = torch.randn(batch_size, 2, EXAMPLE_FRAMES, MEL)
        batch["logmel_mask_BN"] = torch.ones(batch_size, 2, dtype=torch.bool)
        batch["heard_B"] = torch.ones(batch_size, dtype=torch.bool)
    if config.text != "none":
        batch["said_B"] = torch.ones(batch_size, dtype=torch.bool)
        if config.text == "words" or config.lora_rank:
            batch["word_BW"] = torch.randint(5, 20, (batch_size, MAX_WORDS))
            batch["word_mask_BW"] = torch.ones(batch_size, MAX_WORDS, dtype=torch.bool)
        else:
            batch["text_BC"] = torch.randn(batch_size, config.text_width)
    num = len(config.names)
    if config.task in ("expr", "ce"):
        batch["class_BT"] = torch.randint(num, (batch_size, length))
    elif config.task == "emi":
        batch["intensity_BK"] = torch.rand(batch_size, num)
        batch["intensity_mask_BK"] = torch.ones(batch_size, num, dtype=torch.bool)
    else:
        stem, letter = ("au", "M") if config.task == "au" else ("affect", "D")
        values = torch.randint(2, (batch_size, length, num)).float()
        batch[f"{stem}_BT{letter}"] = values if config.task == "au" else torch.rand(batch_size, length, num) * 2 - 1
        batch[f"{stem}_mask_BT{letter}"] = torch.ones(batch_size, length, num, dtype=torch.bool)
    return batch


def build(config: Config) -> nn.Module:
    """The autoencoder, or both stages' networks."""
    if config.task == "pretrain":
        return Autoencoder(config.size, config.image_size, config.patch, config.mask_ratio)
    return ABAW6(config)


def transfer(state: Mapping[str, Tensor], source: Config, config: Config) -> dict[str, Tensor]:
    """The image encoder of a pre-training, or of another task, all else afresh. ValueError where the sizes differ."""
    if (source.size, source.image_size, source.patch) != (config.size, config.image_size, config.patch):
        raise ValueError(
            f"an encoder {source.size} of {source.image_size} px cannot start {config.size} of {config.image_size}"
        )
    prefix = "autoencoder.vit." if source.task == "pretrain" else "encoders.image."
    return {
        f"encoders.image.{name.removeprefix(prefix)}": value for name, value in state.items() if name.startswith(prefix)
    }
