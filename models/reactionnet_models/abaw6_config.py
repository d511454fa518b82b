"""Settings of ABAW6's models: pre-training, and the two stages of each of its five tasks."""

from dataclasses import dataclass

from reactionnet_datasets.labels import classes_of
from reactionnet_models.alignment import check_sides
from reactionnet_models.submission import AUS
from reactionnet_models.vit import SIZES, num_patches

TASKS = ("pretrain", "au", "expr", "va", "ce", "emi")
EMOTIONS = tuple(f"emi_{name}" for name in classes_of("emi6"))


@dataclass(frozen=True, kw_only=True)
class Config:
    """`weights` are those of the image encoder, `sound_weights` VGGish's file; with `weights=None` neither is opened.

    `rates` are shares of the training labels, for the weights of Eq. 1 and 2; None: still to be counted. ValueError where
    fields do not fit together.
    """

    task: str = "au"
    size: str = "base"  # not stated
    image_size: int = 224
    resize: int | None = None
    aligned: int | None = None  # faces brought to this side by their landmarks, for pictures that are no crops of faces
    patch: int = 16
    weights: str | None = "random"  # the paper's face MAE is not public: start from `pretrain` with --init
    mask_ratio: float = 0.75
    normalize_patches: bool = False  # "pixel-wise L2"; MAE's own default is True
    pool: str = "cls"  # or "mean" over patches
    sound: str = "vggish"
    sound_weights: str | None = None
    text: str = "none"
    text_width: int = 512
    lora_rank: int = 0
    clip_frames: int = 100
    layers: int = 4
    heads: int = 8  # not stated, as the next
    ffn: int = 2048
    dropout: float = 0.3
    positions: bool = True
    aus: tuple[int, ...] = AUS
    rule: str | None = None
    classes: str = ""  # the task's own where empty
    emotions: tuple[str, ...] = EMOTIONS
    weighted: bool = True
    balanced: bool = False  # au: what occurs also weighs (1 - r) / r, as in AAR's Eq. 5; not the paper's, for few faces
    rates: tuple[float, ...] | None = None
    threshold: float = 0.5

    def __post_init__(self) -> None:
        check_sides(self.aligned, self.image_size)
        for name, known in (
            ("task", TASKS), ("size", tuple(SIZES)), ("pool", ("cls", "mean")), ("sound", ("vggish", "none", "tiny")),
        ):  # fmt: skip
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r}; expected {', '.join(known)}")
        num_patches(self.image_size, self.patch)
        if SIZES[self.size][0][0] % self.heads:
            raise ValueError(
                f"heads {self.heads} do not divide the {SIZES[self.size][0][0]} features of size {self.size}"
            )
        if not 0 < self.mask_ratio < 1:
            raise ValueError(f"mask_ratio {self.mask_ratio}; expected more than 0 and less than 1")
        if min(self.clip_frames, self.layers, self.ffn) < 1:
            raise ValueError(
                f"clip_frames {self.clip_frames}, layers {self.layers}, ffn {self.ffn}: expected 1 or more each"
            )
        if self.lora_rank and self.text in ("none", "words"):
            raise ValueError(f"lora_rank {self.lora_rank} adapts a text tower; name one with text=")
        if self.balanced and not self.weighted:
            raise ValueError("balanced needs weighted: both follow from how often labels occur")
        if self.sound_weights is not None and self.sound == "none":
            raise ValueError("sound_weights are named, but sound=none")

    @property
    def names(self) -> tuple[str, ...]:
        """What the task's outputs stand for."""
        if self.task == "au":
            return tuple(f"au{au}" for au in self.aus)
        if self.task in ("expr", "ce"):
            return classes_of(self.space)
        return {"va": ("valence", "arousal"), "emi": self.emotions}[self.task]

    @property
    def space(self) -> str:
        """The space of a task of classes."""
        return self.classes or ("cexpr7" if self.task == "ce" else "abaw8")

    @property
    def column(self) -> str:
        """The label column of a task of classes."""
        return "compound" if self.task == "ce" else "expression"
