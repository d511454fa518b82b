"""ERI: A Dual Branch Network for Emotional Reaction Intensity Estimation. Yu et al., CVPR Workshops 2023; no public code.

How strongly a person who watches something feels seven emotions, 0 to 1, from the face and the sound of a clip. Three
trainings: `video` (ResNet-18 stem, a transformer over each frame's tokens, a temporal encoder), `audio` (MFCC, a temporal
encoder), and `fusion`, a few layers over both branches' features, which stay as they are. `branch` chooses one branch
alone or all.

What the paper leaves open is a field of `Config`: the sound is cut to the 32 video frames so that both branches have one
length; the spatial transformer is pre-norm with twice its width inside; modality dropout is drawn for each sample. Its
"modality dropout set to 0.1" is 1 - p_m. Letters: B clips, T frames, H, W pixels, L tokens of a frame, C channels, F sound
features, K emotions, S samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reactionnet_datasets import Augment
from reactionnet_datasets.labels import classes_of
from reactionnet_datasets.sound_features import TOKEN_WIDTH, mfcc_tokens
from reactionnet_models import alignment, losses
from reactionnet_models.augmentation import normalise
from reactionnet_models.correlation import Correlations, clip_targets, counted
from reactionnet_models.encoders import image_encoder, read_weights
from reactionnet_models.metrics import Metric
from reactionnet_models.recipe import Recipe, Stage
from reactionnet_models.temporal import AttentionPool, TemporalEncoder

Batch = Mapping[str, Tensor]
PAPER = "A Dual Branch Network for Emotional Reaction Intensity Estimation (Yu et al., 2023)"
TARGETS = tuple(f"eri_{name}" for name in classes_of("eri7"))
# What of the branches, and of a batch, the fusion reads.
FEATURES = ("audio_BTC", "video_BTC")
KEPT = ("frame_mask_BT", "heard_B", "intensity_BK", "intensity_mask_BK")
DECIDES = ("branch",)
BRANCHES = ("fused", "audio", "video", "lstm", "resnet18")
SEEING = ("fused", "video", "resnet18")
STEM_WIDTHS = {"resnet18": 256, "tiny": 16}
# Where DAN keeps the parts of its ResNet-18 (a Sequential of the network's children).
DAN = {
    "features.0": "conv1",
    "features.1": "bn1",
    "features.4": "layer1",
    "features.5": "layer2",
    "features.6": "layer3",
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """`weights` are None, a name torchvision knows, or a file: DAN's, or a ResNet-18's, such as a run's of CAGE. `targets`
    of frames stand for a clip's greatest value. `branch="lstm"` is the challenge's baseline over a feature stream of the
    shards; "resnet18" is a plain net to compare with, not the paper's.

    ValueError where fields do not fit together.
    """

    branch: str = "fused"
    targets: tuple[str, ...] = TARGETS
    rule: str | None = None
    encoder: str = "resnet18"
    weights: str | None = None  # the paper: DAN's, trained on AffectNet
    image_size: int = 112
    aligned: int | None = None  # faces brought to this side by their landmarks, for pictures that are no crops of faces
    spatial_layers: int = 4
    spatial_heads: int = 4
    spatial_ffn: int = 512  # not stated; twice the width, as TEMMA's
    spatial_dropout: float = 0.1  # not stated
    width: int = 128
    tcn_levels: int = 5
    tcn_kernel: int = 3
    layers: int = 4  # this and the next three: TEMMA's code
    heads: int = 4
    ffn: int = 256
    dropout: float = 0.2
    position_base: float = 1000.0
    span: tuple[int, int] | None = None  # (49, 9) in TEMMA's code
    p_both: float = 0.9  # p_m, Eq. 7 and Table 2
    p_video: float = 0.5  # p_v
    dropout_per: str = "sample"  # "batch" as AV-HuBERT draws it
    reduction: str = "mean"  # "sum" over emotions is Eq. 9 as printed
    stream: str = ""  # lstm: the feature stream
    stream_width: int = 0

    def __post_init__(self) -> None:
        alignment.check_sides(self.aligned, self.image_size)
        for name, known in (
            ("branch", BRANCHES), ("encoder", ("resnet18", "tiny")), ("dropout_per", ("sample", "batch")),
            ("reduction", ("mean", "sum")),
        ):  # fmt: skip
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r}; expected {', '.join(known)}")
        if not (0 <= self.p_both <= 1 and 0 <= self.p_video <= 1):
            raise ValueError(f"p_both {self.p_both} and p_video {self.p_video} are chances: 0 to 1")
        if self.image_size % 16 or self.image_size < 16:
            raise ValueError(f"image_size {self.image_size}: expected a multiple of 16")
        if self.branch == "lstm" and not (self.stream and self.stream_width > 0):
            raise ValueError("branch lstm needs the name and the width of a feature stream")
        if self.weights not in (None, "random") and (self.encoder == "tiny" or self.branch not in SEEING):
            what = f"branch {self.branch}" if self.branch not in SEEING else "encoder tiny"
            raise ValueError(f"weights {self.weights}: {what} loads none; expected none")
        self._check_sizes()

    def _check_sizes(self) -> None:
        """ValueError for what PyTorch's layers would stumble over."""
        if not self.targets:
            raise ValueError("targets (): expected one or more")
        for name in (
            "spatial_layers", "spatial_heads", "spatial_ffn", "width", "tcn_levels", "tcn_kernel", "layers", "heads", "ffn",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected 1 or more")
        for name in ("dropout", "spatial_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected 0 to 1")
        if not self.position_base > 0:
            raise ValueError(f"position_base {self.position_base}: expected more than 0")
        if self.span is not None and (len(self.span) != 2 or min(self.span) < 0):
            raise ValueError(f"span {self.span}: expected two numbers of frames, before and behind, or none")
        stem = STEM_WIDTHS[self.encoder]
        if self.branch in ("fused", "video") and stem % self.spatial_heads:
            raise ValueError(f"spatial_heads {self.spatial_heads}: expected a divisor of the stem's width, {stem}")
        if self.branch in ("fused", "audio", "video") and (self.width % self.heads or self.width % 2):
            raise ValueError(f"width {self.width} and heads {self.heads}: expected an even width that heads divide")


class Head(nn.Module):
    """Attention pooling over time, then a sigmoid of each emotion: (B, T, C) to (B, K)."""

    def __init__(self, width: int, num: int):
        super().__init__()
        self.pool = AttentionPool(width)
        self.last = nn.Linear(width, num)

    def forward(self, feature_BTC: Tensor, frame_mask_BT: Tensor) -> Tensor:
        return self.last(self.pool(feature_BTC, frame_mask_BT)).sigmoid()


class VideoBranch(nn.Module):
    """Pictures (B, T, 3, H, W) to features of frames and intensities (Section 3.2)."""

    def __init__(self, config: Config):
        super().__init__()
        self.stem, width, stride = _stem(config)
        self.position_LC = nn.Parameter(torch.zeros((config.image_size // stride) ** 2, width))
        nn.init.trunc_normal_(self.position_LC, std=0.02)
        layer = nn.TransformerEncoderLayer(
            width, config.spatial_heads, config.spatial_ffn, config.spatial_dropout, batch_first=True, norm_first=True
        )
        self.spatial = nn.TransformerEncoder(
            layer, config.spatial_layers, norm=nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.pool = AttentionPool(width)
        self.temporal = _temporal(config, width)
        self.head = Head(config.width, len(config.targets))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        image_BTCHW, mask_BT = batch["image_BTCHW"], batch["frame_mask_BT"]
        tokens_NLC = self.stem(image_BTCHW.flatten(0, 1)).flatten(2).transpose(1, 2)
        frame_NC = self.pool(self.spatial(tokens_NLC + self.position_LC))
        video_BTC = self.temporal(frame_NC.unflatten(0, mask_BT.shape), mask_BT)
        return {"video_BTC": video_BTC, "intensity_BK": self.head(video_BTC, mask_BT)}


class AudioBranch(nn.Module):
    """MFCC tokens (B, T, F) to features of frames and intensities (Section 3.3). A clip without sound is not answered."""

    def __init__(self, config: Config):
        super().__init__()
        self.temporal = _temporal(config, TOKEN_WIDTH)
        self.head = Head(config.width, len(config.targets))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        mask_BT = batch["frame_mask_BT"]
        audio_BTC = self.temporal(batch["mfcc_BTF"], mask_BT)
        intensity_BK = self.head(audio_BTC, mask_BT)
        return {"audio_BTC": audio_BTC, "intensity_BK": intensity_BK, "answered_B": batch["heard_B"]}


class Fusion(nn.Module):
    """Both branches' features, one of them dropped at times in training (Section 3.5): layer norm, Eq. 8, the head.

    A clip without sound (`heard_B` false) is used as if its sound was dropped, in training and after it.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(2 * config.width)
        self.mix = nn.Linear(2 * config.width, config.width)
        self.head = Head(config.width, len(config.targets))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        audio_BTC, video_BTC = batch["audio_BTC"], batch["video_BTC"]
        heard_B = batch["heard_B"]
        sees_B = torch.ones_like(heard_B)
        if self.training:
            num = len(heard_B) if self.config.dropout_per == "sample" else 1
            hears_B, sees_B = choose_modalities(torch.rand(num, 2, device=heard_B.device), self.config)
            sees_B = sees_B | ~heard_B  # without sound the face is all there is
            heard_B = heard_B & hears_B
        both = torch.cat([audio_BTC * heard_B[:, None, None], video_BTC * sees_B[:, None, None]], -1)
        return {"intensity_BK": self.head(self.mix(self.norm(both)), batch["frame_mask_BT"])}


def choose_modalities(draw_B2: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """Eq. 7: whether sound and picture are kept, (B) each, from two uniform draws."""
    both_B, video_B = draw_B2[:, 0] < config.p_both, draw_B2[:, 1] < config.p_video
    return both_B | ~video_B, both_B | video_B


class ERI(nn.Module):
    """All three parts, or the branch that `branch` names."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.audio = AudioBranch(config) if config.branch in ("fused", "audio") else None
        self.video = VideoBranch(config) if config.branch in ("fused", "video") else None
        self.fusion = Fusion(config) if config.branch == "fused" else None

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        if self.fusion is None:
            branch = self.audio if self.audio is not None else self.video
            assert branch is not None
            return branch(batch)
        assert self.audio is not None and self.video is not None
        heard, seen = self.audio(batch), self.video(batch)
        # the branches keep their own targets; nothing of the fused loss reaches them
        given = {**batch, "audio_BTC": heard["audio_BTC"].detach(), "video_BTC": seen["video_BTC"].detach()}
        return {
            "audio_intensity_BK": heard["intensity_BK"],
            "audio_answered_B": heard["answered_B"],
            "video_intensity_BK": seen["intensity_BK"],
            **self.fusion(given),
        }


class Baseline(nn.Module):
    """The challenge's LSTM over one feature stream (MuSe 2022): the last state, 64 numbers, sigmoids."""

    def __init__(self, config: Config):
        super().__init__()
        self.project = nn.Linear(config.stream_width, config.width)
        self.lstm = nn.LSTM(config.width, config.width, num_layers=3, batch_first=True)
        self.head = nn.Sequential(
            nn.Linear(config.width, 64), nn.ReLU(), nn.Linear(64, len(config.targets)), nn.Sigmoid()
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        state_BTC, _ = self.lstm(self.project(batch["feature_BTF"]))
        last_B = (batch["frame_mask_BT"].sum(1) - 1).clamp(min=0)
        return {"intensity_BK": self.head(state_BTC[torch.arange(len(last_B), device=last_B.device), last_B])}


class PlainNet(nn.Module):
    """Not the paper's: a ResNet-18's features of the frames, their mean over the clip, a sigmoid of each emotion."""

    def __init__(self, config: Config):
        super().__init__()
        tiny = config.encoder == "tiny"
        encoder, width = image_encoder("tiny") if tiny else _resnet18(config.weights)
        self.encoder: nn.Module = encoder
        self.last = nn.Linear(width, len(config.targets))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        image_BTCHW, mask_BT1 = batch["image_BTCHW"], batch["frame_mask_BT"][..., None]
        frame_BTC = self.encoder(image_BTCHW.flatten(0, 1)).unflatten(0, mask_BT1.shape[:2])
        mean_BC = (frame_BTC * mask_BT1).sum(1) / mask_BT1.sum(1).clamp(min=1)
        return {"intensity_BK": self.last(mean_BC).sigmoid()}


def _resnet18(weights: str | None) -> tuple[Any, int]:
    """torchvision's ResNet-18 and its width, with the weights that it knows by name, or a file's."""
    known = None if weights and Path(weights).is_file() else weights
    whole, width = image_encoder("resnet18", weights=known)
    if known is None and weights not in (None, "random"):
        whole.load_state_dict(dan_weights(read_weights(Path(weights))), strict=False)
    return whole, width


def _stem(config: Config) -> tuple[nn.Module, int, int]:
    """The layers of ResNet-18 up to the third group, their channels and stride."""
    width = STEM_WIDTHS[config.encoder]
    if config.encoder == "tiny":
        return nn.Sequential(nn.Conv2d(3, width, 8, stride=8), nn.ReLU()), width, 8
    whole, _ = _resnet18(config.weights)
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
    return nn.Sequential(*(getattr(whole, name) for name in names)), width, 16


def dan_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of DAN by torchvision's names, those of a ResNet-18, such as CAGE's of ours, as they are called there.
    ValueError where the stem's are not there."""
    found = {}
    for name, value in state.items():
        plain = name.removeprefix("encoder.")
        part = ".".join(plain.split(".")[:2])
        found[plain.replace(part, DAN[part]) if part in DAN else plain] = value
    if missing := [name for name in ("conv1.weight", "layer3.1.bn2.weight") if name not in found]:
        raise ValueError(
            f"the weights have no {missing[0]}: neither DAN's nor a ResNet-18's. They begin with {next(iter(state))}"
        )
    return {name: value for name, value in found.items() if name.split(".")[0] in (*DAN.values(), "layer4")}


def _temporal(config: Config, num_in: int) -> TemporalEncoder:
    return TemporalEncoder(
        num_in, config.width, levels=config.tcn_levels, kernel=config.tcn_kernel, layers=config.layers, heads=config.heads,
        ffn=config.ffn, dropout=config.dropout, base=config.position_base, span=config.span,
    )  # fmt: skip


def loss(out: Batch, batch: Batch, config: Config) -> dict[str, Tensor]:
    """Eq. 9 over the valid labels of clips that a part can answer; where all three parts answer, the sum of their errors."""
    scale = len(config.targets) if config.reduction == "sum" else 1
    terms = {
        term: scale * losses.masked_mse(out[f"{part}intensity_BK"], batch["intensity_BK"], counted(out, batch, part))
        for term, part in (("mse", ""), ("audio", "audio_"), ("video", "video_"))
        if f"{part}intensity_BK" in out
    }
    return {"loss": torch.stack([*terms.values()]).sum(), **terms}


def labels(config: Config) -> dict[str, str | None]:
    """Targets and their rules, as `ShardDataset` takes them."""
    return dict.fromkeys(config.targets, config.rule)


def view(config: Config, train: bool) -> Augment | None:
    """What of a stored face the network sees: all of it, as it is where `prepare` aligns it."""
    if config.aligned is not None:
        return None
    return Augment(resize=config.image_size, crop=config.image_size, random=train)


def with_rates(config: Config, rates: Mapping[str, float]) -> Config:
    """The configuration as it is: nothing is weighed."""
    return config


def prior(config: Config, rates: Mapping[str, float], batch: Batch) -> dict[str, Tensor]:
    """The means of the training labels."""
    mean_K = torch.tensor([rates.get(name, 0.0) for name in config.targets])
    return {"intensity_BK": mean_K.expand(len(batch["frame_mask_BT"]), -1)}


def prepare(items: Mapping[str, Any], config: Config, random: torch.Generator | None = None) -> dict[str, Tensor]:
    """A batch from items of `ShardDataset`; with `random` clips are mirrored by chance, which the paper does not say.

    ValueError where the branch needs sound and a clip has none, or pictures are not of `image_size`.
    """
    mask_BT = items["frame_mask"]
    batch = {}
    if config.branch in SEEING and config.aligned is not None:
        shown = alignment.faces(items, config.aligned, config.image_size, random)
        mask_BT = batch["aligned_BT"] = shown.found_BT
        batch["image_BTCHW"] = normalise(shown.colours().flatten(0, 1)).unflatten(0, mask_BT.shape)
    elif config.branch in SEEING:
        frames = items["frames"]
        if frames.shape[-2:] != (config.image_size, config.image_size):
            raise ValueError(
                f"pictures of {tuple(frames.shape[-2:])} pixels; expected {config.image_size} on each side"
            )
        if random is not None:
            mirror_B = (torch.rand(len(frames), generator=random) < 0.5).to(frames.device)
            frames = torch.where(mirror_B[:, None, None, None, None], frames.flip(-1), frames)
        batch["image_BTCHW"] = normalise(frames.flatten(0, 1).float() / 255).unflatten(0, mask_BT.shape)
    batch["frame_mask_BT"] = mask_BT
    if config.branch in ("fused", "audio"):
        heard_B = items["audio_length"] > 0
        if config.branch == "audio" and not bool(heard_B.all()):
            silent = [key for key, heard in zip(items["key"], heard_B.tolist(), strict=True) if not heard]
            raise ValueError(f"no sound in {', '.join(silent[:5])}: leave such clips out, or train branch=video")
        batch["heard_B"], batch["mfcc_BTF"] = heard_B, _mfcc(items, mask_BT)
    if config.branch == "lstm":
        batch["feature_BTF"] = items[config.stream].float().nan_to_num()
    found = items.get("labels", {})
    if found:
        batch["intensity_BK"], batch["intensity_mask_BK"] = clip_targets(found, config.targets, mask_BT)
    return batch


def _mfcc(items: Mapping[str, Any], mask_BT: Tensor) -> Tensor:
    audio_BS = items["audio"]
    if not audio_BS.shape[1]:  # nobody in the batch was heard
        return torch.zeros(*mask_BT.shape, TOKEN_WIDTH, device=mask_BT.device)
    t_s = items["t_s"] - items["t_s"][:, :1]  # a window's sound begins with its first frame
    length_B = items["audio_length"]
    # silence has coefficients too: a clip without sound gets none, whatever its batch holds
    return mfcc_tokens(audio_BS, t_s.nan_to_num().float(), length_B) * (length_B > 0)[:, None, None]


def metrics(config: Config) -> list[Metric]:
    """Eq. 10 and 11."""
    return [Correlations([target.removeprefix("eri_") for target in config.targets])]


def predictions(out: Batch, config: Config) -> dict[str, Tensor]:
    """An intensity of each emotion, (B)."""
    return dict(zip(config.targets, out["intensity_BK"].float().unbind(-1), strict=True))


def example(config: Config, batch_size: int, num_frames: int | None = None) -> dict[str, Tensor]:
    """A random batch of the right shapes, for tests, profiling and the README."""
    length, num = num_frames or (4 if config.encoder == "tiny" else 32), len(config.targets)
    batch = {}
    if config.branch in SEEING:
        batch["image_BTCHW"] = torch.randn(batch_size, length, 3, config.image_size, config.image_size)
    if config.branch in ("fused", "audio"):
        batch["mfcc_BTF"] = torch.randn(batch_size, length, TOKEN_WIDTH)
        batch["heard_B"] = torch.ones(batch_size, dtype=torch.bool)
    if config.branch == "lstm":
        batch["feature_BTF"] = torch.randn(batch_size, length, config.stream_width)
    return {
        **batch,
        "frame_mask_BT": torch.ones(batch_size, length, dtype=torch.bool),
        "intensity_BK": torch.rand(batch_size, num),
        "intensity_mask_BK": torch.ones(batch_size, num, dtype=torch.bool),
    }


def transfer(state: Mapping[str, Tensor], source: Config, config: Config) -> dict[str, Tensor]:
    """The branches that both have; their last layers where they have the same targets. ValueError where sizes differ."""
    own = build(replace(config, weights=None)).state_dict()
    last = () if source.targets == config.targets else ("head.last.", "last.")
    given = {
        name: value for name, value in state.items() if name in own and not any(part in name for part in last)
    }  # fmt: skip
    if other := [name for name, value in given.items() if value.shape != own[name].shape]:
        raise ValueError(f"{other[0]} is {tuple(state[other[0]].shape)} there and {tuple(own[other[0]].shape)} here")
    if not given:
        raise ValueError(f"branch {source.branch} has nothing that branch {config.branch} could start from")
    return given


def build(config: Config) -> nn.Module:
    """The network, its stem with the weights that `config` names."""
    return {"lstm": Baseline, "resnet18": PlainNet}.get(config.branch, ERI)(config)


def _stage(name: str, **changed: Any) -> Stage:
    """Section 4.2. How many epochs is not stated: 100."""
    return Stage(
        **{
            "name": name, "part": name, "epochs": 100, "batch_size": 64, "optimiser": "adam", "learning_rate": 1e-4,
            "weight_decay": 0.0, "schedule": "plateau", "decay": 0.5, "decay_epochs": 10, "window": 0, "num_frames": 32,
            "cached": name == "fusion", **changed,
        }
    )  # fmt: skip


def fields(config: Config) -> tuple[str, ...]:
    """What is read of the shards."""
    faces = alignment.fields(config.aligned)
    of_branch = {"fused": (*faces, "audio"), "audio": ("audio",), "lstm": (config.stream,)}
    return (*of_branch.get(config.branch, faces), "labels")


def _recipe(
    config: Config,
    changed: Mapping[str, Any] | None = None,
    of: Mapping[str, Mapping[str, Any]] | None = None,
    **given: Any,
) -> Recipe:
    """With what is `changed` in all stages, and `of` some."""
    changed, of = dict(changed or {}), of or {}
    if config.branch == "lstm":
        changed["num_frames"] = None  # MuSe 2022's reads every step of its stream
    stages = {"fused": ("audio", "video", "fusion"), "audio": ("audio",), "video": ("video",)}.get(
        config.branch, ("all",)
    )
    return Recipe(
        task="reaction intensities",
        labels=labels(config),
        stages=tuple(
            _stage(name, **{**({"part": ""} if name == "all" else {}), **changed, **of.get(name, {})})
            for name in stages
        ),
        fields=fields(config),
        monitor="pearson",
        higher_is_better=True,
        **given,
    )


_VARIANTS: dict[str, Config] = {
    "fused": Config(),
    "fused_pm10": Config(p_both=1.0),
    "fused_pm08": Config(p_both=0.8),
    "audio": Config(branch="audio"),
    "video": Config(branch="video"),
    "baseline_egemaps": Config(branch="lstm", stream="egemaps", stream_width=88),
    "baseline_deepspectrum": Config(branch="lstm", stream="deepspectrum", stream_width=1024),
    "baseline_fau": Config(branch="lstm", stream="faus", stream_width=20),
    "baseline_vggface2": Config(branch="lstm", stream="vggface2", stream_width=512),
}
# Table 1 and Table 2: the mean of the seven correlations on the validation set.
_ROWS: dict[str, tuple[str, float]] = {
    "fused": ("Tables 1 and 2, ours, p_m 0.9", 0.4439),
    "fused_pm10": ("Table 2, p_m 1.0", 0.4423),
    "fused_pm08": ("Table 2, p_m 0.8", 0.4435),
    "audio": ("Table 1, MFCC", 0.2972),
    "video": ("Table 1, spatial transformer", 0.3517),
    "baseline_egemaps": ("Table 1, baseline eGeMAPS", 0.0583),
    "baseline_deepspectrum": ("Table 1, baseline DeepSpectrum", 0.1087),
    "baseline_fau": ("Table 1, baseline FAU", 0.2840),
    "baseline_vggface2": ("Table 1, baseline VGGFace2", 0.2488),
}
# Table 3; train and validation set merged, divided into five by clip.
_FOLDS = (0.5103, 0.5186, 0.5300, 0.5310, 0.5168)
# Rendered faces: 64 px, a third as many frames; intensities of action units (a clip's greatest, of 5) stand for emotions.
_SMALL = Config(
    targets=tuple(f"au_int_{au}" for au in (1, 4, 6, 9, 12, 15, 25)), rule="x/5", image_size=64, aligned=72, spatial_layers=1,
    layers=2, tcn_levels=3,
)  # fmt: skip
_TINY = Config(
    encoder="tiny", image_size=32, spatial_layers=1, spatial_ffn=32, width=16, tcn_levels=2, layers=1, heads=2, ffn=32,
    dropout=0.0, spatial_dropout=0.0, targets=TARGETS[:3],
)  # fmt: skip
_BRANCHED = ("fused", "audio", "video", "resnet18")

PRESETS: dict[str, Config] = {
    **_VARIANTS,
    "fused_5fold": Config(),
    **{f"small_{name}": replace(_SMALL, branch=name) for name in _BRANCHED},
    **{f"tiny_{name}": replace(_TINY, branch=name) for name in _BRANCHED},
    "tiny": _TINY,
    "tiny_lstm": replace(_TINY, branch="lstm", stream="egemaps", stream_width=5),
}
_STEM = "stem from DAN's AffectNet weights: --set weights=FILE"
_NOTE = {
    "fused": _STEM,
    "video": _STEM,
    "lstm": "the challenge's feature streams are imported beside the videos",
}
RECIPES: dict[str, Recipe] = {
    **{
        name: _recipe(
            _VARIANTS[name], dataset="hume_reaction", table_row=row, published={"pearson": value}, test_split="val",
            # what was submitted to the challenge is p_m 0.9's alone
            note=_NOTE.get(_VARIANTS[name].branch, "") + ("; test set, Table 4: mean 0.4380" if name == "fused" else ""),
        )
        for name, (row, value) in _ROWS.items()
    },
    "fused_5fold": _recipe(
        Config(), dataset="hume_reaction", protocol="hume_reaction-5fold-ours-v1", folds=(1, 2, 3, 4, 5),
        table_row="Table 3, mean of the folds", published={"pearson": round(sum(_FOLDS) / 5, 4)},
        note=f"{_STEM}; the folds' lists are not published; by clip, since nobody's identity is in the release",
    ),
    **{
        f"small_{name}": _recipe(
            PRESETS[f"small_{name}"], dataset="rendered_facs",
            changed={"epochs": 12, "batch_size": 8, "num_frames": 16, "learning_rate": 5e-4},
            of={"audio": {"epochs": 30}, "fusion": {"epochs": 20}},  # both cost little
            note="a plain net to compare with, not the paper's" if name == "resnet18" else "",
        )
        for name in _BRANCHED
    },
    **{
        name: _recipe(PRESETS[name], dataset="any", changed={"epochs": 2, "batch_size": 2, "num_frames": 4})
        for name in PRESETS
        if name.startswith("tiny")
    },
}  # fmt: skip
