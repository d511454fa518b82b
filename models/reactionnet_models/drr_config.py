"""Settings of DRR, its ablations, and the models that its Table 1 compares it with."""

import math
from dataclasses import dataclass

from torch import Tensor

from reactionnet_datasets.labels import classes_of
from reactionnet_models.alignment import check_sides
from reactionnet_models.captions import CLIP
from reactionnet_models.domain_adaptor import ENCODERS
from reactionnet_models.relations import pair_of, relation_matrix

TASKS = ("aud", "fer", "sc")
DOMAINS = ("reaction", "stimulus", "text")
NETS = ("drr", "linear", "fusion", "sev_net")
# The paper uses 12 of its 17 and does not say which; BP4D's twelve cannot be meant, since AU 24 is not among the 17.
AUS = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 25)
# The paper's 24 are not listed either; these are the 24 of the rendered faces.
SCENES = (
    "balance_beam", "block_puzzle", "boss_fight", "bouncing_ball", "cartoon_monster", "celebrity", "cooking", "dance_group",
    "dark_corridor", "football", "friendly_shapes", "gift_box", "insect_jar", "magic_trick", "pet", "platform_jump", "prank",
    "race", "rainy_street", "sad_story", "slime", "speech", "street_fight", "vlog",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Config:
    """`net` is DRR or a baseline (see `drr_baselines`); DRR without its parts is other rows of the table: `graph=none`
    gives UDA, `graph=attention` DA-GCN, one domain without homophily and contrast the GCN.

    `relations` are pairs (`6-12`) counted in a fold's training labels; None: still to be counted. `delay_s` takes the
    stimulus that much earlier. `hidden` domains are treated as missing. ValueError where fields do not fit together.
    """

    net: str = "drr"
    tasks: tuple[str, ...] = ("aud",)
    domains: tuple[str, ...] = DOMAINS
    encoder: str = "resnet18"
    weights: str | None = "IMAGENET1K_V1"
    adapters: int = 8  # K; UODB trains with 11 and tests with 8, the paper does not say
    text: str = CLIP  # a name or folder; "words": learned from the captions alone
    text_width: int = 512
    image_size: int = 224
    resize: int = 256
    aligned: int | None = None  # faces brought to this side by their landmarks, for pictures that are no crops of faces
    aus: tuple[int, ...] = AUS
    rule: str | None = None
    classes: str = "affectnet7"
    scenes: tuple[str, ...] = SCENES
    per_scene: bool = False  # Table 3: F1 of each of the eight scene types
    node_width: int = 12  # C, Section 4.1
    head_width: int = 128  # not stated
    temporal: bool = False  # dynamic
    graph: str = "dyadic"
    homophily: bool = True  # Eq. 3 and 5
    heterophily: bool = True  # Eq. 4 and 6
    normalize: bool = True  # rows of both matrices sum to 1; as printed they do not
    contrastive: bool = True  # Eq. 2
    include_positive: bool = True  # as printed the positive is not in the denominator
    temperature: float = 0.1  # not stated
    graph_weight: float = 1.0  # lambda_1, Eq. 8
    contrastive_weight: float = 1.0  # lambda_2
    diversity_weight: float = 0.0  # "self-diversified" has no formula; this weighs the adapters' mean cosine
    weighted: bool = True  # by how rarely a label occurs, as JAA-Net
    balanced: tuple[str, ...] = ()  # tasks where what occurs also weighs (1 - r) / r, as in AAR; not DRR's
    start_at_rates: bool = False  # answers start at the labels' shares, of balanced tasks at even odds; not stated
    rates_aud: tuple[float, ...] | None = None
    rates_fer: tuple[float, ...] | None = None
    rates_sc: tuple[float, ...] | None = None
    relations: tuple[str, ...] | None = None
    facs: bool = True  # FACS's pairs beside the counted ones
    delay_s: float = 0.0
    hidden: tuple[str, ...] = ()
    threshold: float = 0.5

    def __post_init__(self) -> None:
        for name, known in (
            ("net", NETS), ("encoder", ENCODERS), ("graph", ("dyadic", "attention", "none")),
        ):  # fmt: skip
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r}; expected {', '.join(known)}")
        if not set(self.balanced) <= set(TASKS):
            raise ValueError(f"balanced {self.balanced}: expected some of {', '.join(TASKS)}")
        for name, given, known in (("tasks", self.tasks, TASKS), ("domains", self.domains, DOMAINS)):
            if not given or not set(given) <= set(known) or len(set(given)) != len(given):
                raise ValueError(f"{name} {given}: expected some of {', '.join(known)}")
        for name in ("adapters", "graph_weight", "contrastive_weight", "diversity_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}; expected 0 or more")
        for name in ("text_width", "image_size", "resize", "node_width", "head_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; expected 1 or more")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature={self.temperature}; expected more than 0")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold={self.threshold}; expected 0 to 1")
        for pair in self.relations or ():
            pair_of(pair)
        check_sides(self.aligned, self.image_size)
        if not set(self.hidden) < set(self.domains):
            raise ValueError(f"hidden {self.hidden}: expected some of {', '.join(self.domains)}, not all")
        if self.net == "drr" and self.graph == "dyadic" and not (self.homophily or self.heterophily):
            raise ValueError("a dyadic graph needs homophily, heterophily, or both; graph=none has none")
        if self.net == "linear" and (len(self.domains) > 1 or len(self.tasks) > 1):
            raise ValueError(f"net linear takes one domain and one task, not {self.domains}, {self.tasks}")
        if self.net in ("fusion", "sev_net") and self.domains != DOMAINS:
            raise ValueError(f"net {self.net} takes the domains {', '.join(DOMAINS)}")
        if self.balanced and not self.weighted:
            raise ValueError("balanced needs weighted: both follow from how often labels occur")
        if self.domains == ("text",):
            raise ValueError("text alone is none of the paper's models: add reaction or stimulus")

    @property
    def visual(self) -> tuple[str, ...]:
        """Domains that are pictures."""
        return tuple(domain for domain in self.domains if domain != "text")

    def names(self, task: str) -> tuple[str, ...]:
        """What a task's outputs stand for."""
        return {"aud": tuple(f"au{au}" for au in self.aus), "fer": classes_of(self.classes), "sc": self.scenes}[task]

    def rates(self, task: str) -> tuple[float, ...] | None:
        """Shares of a task's labels in training."""
        return {"aud": self.rates_aud, "fer": self.rates_fer, "sc": self.rates_sc}[task]


def related(config: Config, task: str) -> Tensor:
    """A of a task (N, N): action units by counts and FACS, classes to themselves alone."""
    if task == "aud":
        return relation_matrix(config.aus, config.relations or (), config.facs)
    return relation_matrix(tuple(range(len(config.names(task)))), facs=False)
