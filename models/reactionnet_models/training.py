"""Training a preset, stage by stage, on Lightning: run folder, exact resumption, curves and summary.

    RUN/run.json            what was asked for: model, preset, configuration, recipe, data and its digest, seed, versions
    RUN/STAGE/last.ckpt     where training goes on; STAGE/best.ckpt where validation judged best; STAGE/done.json
    RUN/STAGE/logs/         Lightning's CSV and TensorBoard logs
    RUN/history.jsonl       one line an epoch; RUN/curves.png draws it
    RUN/model/              the result: safetensors, configuration, card
    RUN/summary.json        scores, seconds, the share of time spent waiting for data

Draws of step n (augmentation, dropout) come from seed, stage, step and rank alone, so that a resumed run gives the same
weights as one that was never stopped.

On several GPUs Lightning starts a process each. They share what is trained on, a batch of `batch_size` each at a step; every
one judges all of validation, so that scores are those of one GPU; the first alone writes the run folder.
"""

import hashlib
import json
import math
import os
import platform
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.utils.benchmark import Timer

from reactionnet_datasets.command import alone
from reactionnet_datasets.rules import make_rules
from reactionnet_datasets.shards import write_atomic
from reactionnet_datasets.torchvision_on_cpu import ensure
from reactionnet_models import data as data_of
from reactionnet_models import figures
from reactionnet_models.checkpoints import latest, load_part, make_checkpoints
from reactionnet_models.data import Data, Loader
from reactionnet_models.features import FeatureLoader, await_features, cache_features, to_device
from reactionnet_models.pretrained import from_pretrained, save_pretrained
from reactionnet_models.recipe import Recipe, Stage

ensure()
import lightning.pytorch as lightning  # noqa: E402
from lightning.pytorch.callbacks import Callback  # noqa: E402
from lightning.pytorch.utilities.exceptions import SIGTERMException  # noqa: E402

RUN, SUMMARY, HISTORY = "run.json", "summary.json", "history.jsonl"
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
LIBRARIES = ("reactionnet", "torch", "torchvision", "lightning", "torchmetrics", "safetensors", "numpy")


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that a run is made from. `val` names the split that chooses the best epoch, or is watched where the recipe
    keeps the last; empty: nothing is validated and the last is kept."""

    module: ModuleType
    preset: str
    config: Any
    recipe: Recipe
    data: Data
    out: Path
    seed: int = 0
    val: str = ""
    start: str = ""
    precision: str = "auto"
    devices: int = 1
    checkpoint_steps: int = 200
    max_steps: int = -1
    quiet: bool = False
    videos: tuple[str, ...] = ()  # the last stage trains on these alone: one subset of an ensemble

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r}; expected {', '.join(PRECISIONS)}")
        if not self.start and (idle := [stage.name for stage in self.recipe.stages if not stage.epochs]):
            raise ValueError(f"stage {idle[0]} has 0 epochs: name the run that has its weights with --init")

    @property
    def model_name(self) -> str:
        return self.module.__name__.rpartition(".")[2]

    @property
    def lightning_precision(self) -> str:
        """`auto` is that of the run in the folder, where one was begun; else bf16-mixed on a GPU, or a processor that is faster
        in it."""
        if self.precision != "auto":
            return self.precision
        if (self.out / RUN).is_file():
            return str(json.loads((self.out / RUN).read_bytes())["precision"])
        return "bf16-mixed" if torch.cuda.is_available() or is_faster_in_bf16() else "32-true"

    @property
    def chooses(self) -> bool:
        return bool(self.val) and not self.recipe.keep_last

    def described(self) -> dict[str, Any]:
        """What has to be the same for a run to go on."""
        return json.loads(
            json.dumps(
                {
                    "model": self.model_name, "preset": self.preset, "config": asdict(self.config),
                    "recipe": asdict(self.recipe), "data": asdict(self.data), "seed": self.seed, "val": self.val,
                    "start": self.start, "videos": self.videos, "precision": self.lightning_precision,
                }
            )
        )  # fmt: skip


@lru_cache(maxsize=1)
def is_faster_in_bf16() -> bool:
    """Whether this processor multiplies matrices faster in bfloat16 than in float32. Tried, for a few hundredths of a second,
    where it has instructions for that: they take half the time of float32's on some processors, and twice on others.

    False where this torch cannot say what the processor has (before 2.12).
    """
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if not (known.get("avx512_bf16") or known.get("amx_bf16")):
        return False
    return seconds_of_product(torch.bfloat16) < 0.8 * seconds_of_product(torch.float32)


def seconds_of_product(dtype: torch.dtype) -> float:
    """What one thread takes to multiply two matrices of 768 x 768."""
    matrix = torch.ones(768, 768, dtype=dtype)
    return Timer("matrix @ matrix", globals={"matrix": matrix}).blocked_autorange(min_run_time=0.02).median


class Step(lightning.LightningModule):
    """One stage's optimisation of one part."""

    def __init__(self, net: nn.Module, job: Job, config: Any, stage: Stage, loader: Any):
        super().__init__()
        self.net, self._job, self._config, self._stage = net, job, config, stage
        self._loader, self._prepared, self._steps_per_epoch = loader, loader.prepared, len(loader)
        self._judge = getattr(job.module, "validation_loss", job.module.loss)
        self._plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        self._plateau_state: dict[str, Any] | None = None
        self._metrics: list[Any] = []
        self._train_loss = torch.zeros(2, dtype=torch.float64)
        self._val_loss = torch.zeros(2, dtype=torch.float64)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return to_device(batch, device)

    def training_step(self, items: Any, batch_idx: int) -> torch.Tensor:
        number = step_seed(self._job.seed, self._stage.name, self.global_step, self.global_rank)
        torch.manual_seed(number)
        batch = items
        if not self._prepared:
            batch = self._job.module.prepare(items, self._config, torch.Generator().manual_seed(number))
        terms = self._job.module.loss(self.net(batch), batch, self._config)
        found = float(terms["loss"].detach())
        if not math.isfinite(found):
            raise ValueError(
                f"stage {self._stage.name}, step {self.global_step}: the loss is {found}. Look at the settings and the data, or "
                f"lower {self._stage.name}.learning_rate ({self._stage.learning_rate:g})"
            )
        self._train_loss += torch.tensor([found, 1.0])
        self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()}, prog_bar=False)
        self.log("loss", terms["loss"].detach(), prog_bar=True, logger=False)
        return terms["loss"]

    def on_validation_epoch_start(self) -> None:
        self._metrics = self._job.module.metrics(self._config)
        self._val_loss.zero_()

    def validation_step(self, items: Any, batch_idx: int) -> None:
        batch = items if self._prepared else self._job.module.prepare(items, self._config)
        out = self.net(batch)
        self._val_loss += torch.tensor([float(self._judge(out, batch, self._config)["loss"]), 1.0])
        for metric in self._metrics:
            metric.update(out, batch)

    def on_validation_epoch_end(self) -> None:
        found = {name: value for metric in self._metrics for name, value in metric.compute().items()}
        found["loss"] = float(self._val_loss[0] / self._val_loss[1])
        self.log_dict({f"val/{name}": value for name, value in found.items()})

    def on_train_epoch_end(self) -> None:
        if self._plateau is not None:
            self._plateau.step(float(self.trainer.callback_metrics[f"val/{self._job.recipe.monitor}"]))

    def epoch_loss(self) -> float:
        """The mean training loss since it was asked last."""
        mean = float(self._train_loss[0] / self._train_loss[1].clamp(min=1))
        self._train_loss.zero_()
        return mean

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["epoch_loss"] = self._train_loss.clone()
        checkpoint["loader"] = self._loader.state_dict()
        if self._plateau is not None:
            checkpoint["plateau"] = self._plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._train_loss.copy_(checkpoint["epoch_loss"])
        # Lightning hands loaders their state in mid-epoch alone: after an epoch's end the order would begin anew
        self._loader.load_state_dict(checkpoint["loader"])
        self._plateau_state = checkpoint.get("plateau")

    def _make_plateau(self, optimiser: torch.optim.Optimizer) -> torch.optim.lr_scheduler.ReduceLROnPlateau:
        """Times `decay` after `decay_epochs` epochs without a better score. ValueError without validation.

        It is stepped and stored here, since Lightning steps it after the epoch's checkpoint is written.
        """
        if not self._job.val:
            raise ValueError(
                f"stage {self._stage.name}: schedule plateau needs a split that judges: name one with --val"
            )
        mode: Literal["min", "max"] = "max" if self._job.recipe.higher_is_better else "min"
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimiser, mode, factor=self._stage.decay, patience=self._stage.decay_epochs
        )
        if self._plateau_state is not None:
            plateau.load_state_dict(self._plateau_state)
        return plateau

    def configure_optimizers(self) -> Any:
        optimiser = make_optimiser(self._stage, self.net)
        if self._stage.schedule == "plateau":
            self._plateau = self._make_plateau(optimiser)
            return optimiser
        factor = learning_rate_factor(self._stage, self._steps_per_epoch)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def step_seed(seed: int, stage: str, step: int, rank: int) -> int:
    """A number for all draws of one step of one rank."""
    return int.from_bytes(hashlib.sha256(f"{seed} {stage} {step} {rank}".encode()).digest()[:7], "big")


def make_optimiser(stage: Stage, net: nn.Module) -> torch.optim.Optimizer:
    """The stage's optimiser over all parameters of its part, one pass over each (`fused`): on a processor 2 to 11 times as
    fast."""
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    if stage.optimiser == "sgd":
        return torch.optim.SGD(
            parameters, lr=stage.learning_rate, momentum=stage.momentum, nesterov=stage.momentum > 0,
            weight_decay=stage.weight_decay, fused=True,
        )  # fmt: skip
    kind = torch.optim.AdamW if stage.optimiser == "adamw" else torch.optim.Adam
    return kind(parameters, lr=stage.learning_rate, betas=stage.betas, weight_decay=stage.weight_decay, fused=True)


def learning_rate_factor(stage: Stage, steps_per_epoch: int) -> Any:
    """What the learning rate is times at each step. `cosine_wave` is CAGE's scheduler as its code runs."""

    warmup = stage.warmup_epochs * steps_per_epoch

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        step, whole = step - warmup, max(stage.epochs * steps_per_epoch - warmup, 1)
        if stage.schedule == "step":
            return stage.decay ** (step // steps_per_epoch // stage.decay_epochs)
        if stage.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(step / whole, 1)))
        if stage.schedule == "cosine_wave":
            return 0.5 * (1 + math.cos(math.pi * step / (stage.batch_size * stage.epochs)))
        return 1.0

    return factor


class History(Callback):
    """A line an epoch in `history.jsonl`; lines of epochs that a resumed run does again are dropped."""

    def __init__(self, job: Job, stage: Stage):
        self._job, self._stage = job, stage
        self._began = time.perf_counter()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero:
            done = trainer.current_epoch
            rows = [r for r in read_history(self._job.out) if r["stage"] != self._stage.name or r["epoch"] < done]
            _write_history(self._job.out, rows)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        found = {k.replace("/", "_"): float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        row = {
            "stage": self._stage.name, "epoch": trainer.current_epoch, "step": trainer.global_step,
            "train_loss": pl_module.epoch_loss(), "seconds": round(time.perf_counter() - self._began, 1), **found,
        }  # fmt: skip
        self._began = time.perf_counter()
        if trainer.is_global_zero:
            _write_history(self._job.out, [*read_history(self._job.out), row])


class StoppedEarlyError(Exception):
    """A run that was asked to stop after so many steps; the same command without that goes on."""


class SignalledError(Exception):
    """A run that Ctrl-C or a cluster (SIGTERM) stopped; the same command goes on."""

    def __init__(self, number: signal.Signals):
        super().__init__(f"stopped by {number.name}")
        self.number = number


class StopAt(Callback):
    """Ends a run before a step as a power cut would: what was written until then is all that is left."""

    def __init__(self, step: int):
        self._step = step

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if 0 <= self._step <= trainer.global_step:
            raise StoppedEarlyError(f"stopped after {trainer.global_step} steps, as asked")


def read_history(out: Path) -> list[dict[str, Any]]:
    """Lines of `history.jsonl`."""
    path = out / HISTORY
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _write_history(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    write_atomic(out / HISTORY, "".join(json.dumps(row) + "\n" for row in rows).encode())


def train(job: Job) -> dict[str, Any]:
    """Train, or go on with, a run; returns its summary. ValueError where the folder holds another run, or one that another
    process trains."""
    with alone(job.out, "training") if is_first() else nullcontext():
        return _train(job)


def is_first() -> bool:
    """Whether this process is the first of those that Lightning starts, one a GPU: it alone writes the run folder."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _train(job: Job) -> dict[str, Any]:
    started = time.perf_counter()
    config, rates, subset, digest = _look_at_labels(job)
    config = job.module.with_rates(config, rates)
    if is_first():
        _begin(job, digest)
    if (job.out / SUMMARY).is_file():
        return json.loads((job.out / SUMMARY).read_bytes())
    torch.manual_seed(job.seed)
    model = job.module.build(config)
    if job.start:
        origin = from_pretrained(job.start)
        if origin.module is not job.module:
            raise ValueError(f"--init {job.start} is a model of {origin.module.__name__}, not of {job.model_name}")
        model.load_state_dict(job.module.transfer(origin.model.state_dict(), origin.config, config), strict=False)
        for stage in job.recipe.stages:
            if not stage.epochs:
                _take_over(_part(model, stage, job.preset), origin.model, stage, job.start)
    waited = {}
    for stage in job.recipe.stages:
        waited[stage.name] = _train_stage(job, config, model, stage, subset if stage.balanced else None)
    rows = read_history(job.out)
    if rows and is_first():
        figures.draw_curves(rows, job.recipe.monitor, job.out / "curves.png")
    scores = {key: value for key, value in (rows[-1] if rows else {}).items() if key.startswith("val_")}
    windows = {name: getattr(job.recipe.stages[-1], name) for name in ("window", "stride", "num_frames")}
    facts = {
        "data": job.data.root, "data digest": digest, "fold": job.data.fold, "seed": job.seed, "windows": windows,
    }  # fmt: skip
    if is_first():
        details = {**facts, "rates": rates}
        save_pretrained(model, job.module, config, job.out / "model", preset=job.preset, details=details)
    summary = {
        **job.described(), "data_digest": digest, "rates": rates, "waiting_for_data": waited,
        "last_epoch": scores, "chosen_by": f"best {job.recipe.monitor} on {job.val}" if job.chooses else "the last epoch",
        "epochs": len(rows), "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip
    if is_first():
        write_atomic(job.out / SUMMARY, (json.dumps(summary, indent=1, sort_keys=True) + "\n").encode())
    return summary


def _look_at_labels(job: Job) -> tuple[Any, dict[str, float], np.ndarray | None, str]:
    """The configuration with what its model counts in training labels, how often they are true, the balanced subset if a
    stage wants one, and the data's digest."""
    if "stimulus" in job.recipe.fields and not data_of.has_stimulus(job.data.root):
        raise ValueError(
            f"{job.preset} looks at what is watched, and {job.data.root} holds no picture of it: train a preset of the face "
            "alone, or add the pictures"
        )
    stage = job.recipe.stages[0]
    dataset = data_of.open_split(
        job.module, job.config, job.recipe, stage, job.data, "train", fields=("labels",), augment=None, num_frames=None
    )
    digest = dataset.state_dict()["settings"]["content"]
    labels = data_of.scan_labels(job.module, job.config, job.recipe, stage, job.data, "train")
    classes = {rule.target: rule.classes for rule in make_rules(job.recipe.labels) if rule.classes}
    subset = None
    if stage.balanced:
        index = labels["expression"].reshape(len(labels["expression"]), -1).max(axis=1)
        mask = index >= 0
        subset = data_of.balanced_subset(index, mask, job.seed)
    config = job.module.with_labels(job.config, labels) if hasattr(job.module, "with_labels") else job.config
    return config, data_of.rates_of(labels, classes), subset, digest


def _begin(job: Job, digest: str) -> None:
    """Write `run.json`, or find that what it says is what is asked for. One of a run that never came to a step counts for
    nothing."""
    asked = {**job.described(), "data_digest": digest}
    path = job.out / RUN
    if path.is_file() and _has_begun(job.out):
        known = json.loads(path.read_bytes())
        if other := [name for name, value in asked.items() if known.get(name) != value]:
            before = [f"{name} ({known.get(name)})" if isinstance(asked[name], str | int) else name for name in other]
            raise ValueError(
                f"{job.out} holds another run, which differs in {', '.join(before)}. Name another --out, or delete it"
            )
        return
    versions = {name: version(name) for name in LIBRARIES} | {"python": platform.python_version()}
    write_atomic(path, (json.dumps({**asked, "versions": versions}, indent=1, sort_keys=True) + "\n").encode())


def _part(model: nn.Module, stage: Stage, preset: str) -> nn.Module:
    """What a stage trains. ValueError where settings have left it out of the network."""
    net = getattr(model, stage.part) if stage.part else model
    if net is None:
        raise ValueError(f"stage {stage.name} of {preset} trains what these settings leave out: take another preset")
    return net


def _take_over(net: nn.Module, origin: nn.Module, stage: Stage, start: str) -> None:
    """All of a part as another model has it. ValueError where that has no such part."""
    given = getattr(origin, stage.part, None) if stage.part else origin
    try:
        net.load_state_dict(given.state_dict() if given is not None else {})
    except RuntimeError as error:
        raise ValueError(f"stage {stage.name} has 0 epochs, and {start} has no weights for all of it") from error


def _has_begun(out: Path) -> bool:
    return (out / SUMMARY).is_file() or any(True for kind in ("*/*.ckpt", "*/done.json") for _ in out.glob(kind))


def _train_stage(job: Job, config: Any, model: nn.Module, stage: Stage, subset: np.ndarray | None) -> float:
    """Optimise one part of the model; it holds the chosen weights after. Returns the share of time spent waiting."""
    net = _part(model, stage, job.preset)
    folder = job.out / stage.name
    if not stage.epochs:
        return 0.0
    if (folder / "done.json").is_file():
        done = json.loads((folder / "done.json").read_bytes())
        load_part(net, folder / done["chosen"])
        return float(done["waiting"])
    checkpoints = make_checkpoints(
        folder, every=job.checkpoint_steps, best=f"val/{job.recipe.monitor}" if job.chooses else "",
        higher_is_better=job.recipe.higher_is_better,
    )  # fmt: skip
    resume = latest(folder)
    trainer = _trainer(job, stage, folder, [*checkpoints, History(job, stage), StopAt(job.max_steps)])
    ranks = {"rank": trainer.global_rank, "num_ranks": trainer.world_size}
    train_loader, val_loader = _loaders(job, config, model, stage, subset, folder, ranks)
    step = Step(net, job, config, stage, train_loader)
    began = time.perf_counter()
    try:
        trainer.fit(step, train_loader, val_loader, ckpt_path=resume, weights_only=True if resume else None)
    except SystemExit as left:  # so Lightning ends a process, on SIGTERM as if nothing had gone wrong
        terminated = isinstance(left, SIGTERMException)
        raise SignalledError(signal.SIGTERM if terminated else signal.SIGINT) from None
    waiting = train_loader.waited_s / max(time.perf_counter() - began, 1e-9)
    chosen = "best.ckpt" if job.chooses else "end.ckpt"
    load_part(net, folder / chosen)
    if is_first():
        write_atomic(folder / "done.json", json.dumps({"chosen": chosen, "waiting": round(waiting, 4)}).encode())
    return round(waiting, 4)


def _trainer(job: Job, stage: Stage, folder: Path, callbacks: list[Any]) -> Any:
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    precision: Any = job.lightning_precision
    return lightning.Trainer(
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=job.devices,
        precision=precision,
        max_epochs=stage.epochs,
        logger=[CSVLogger(folder, name="logs"), TensorBoardLogger(folder, name="logs")],
        callbacks=callbacks,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        enable_model_summary=False,
        enable_progress_bar=not job.quiet,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )


def _loaders(
    job: Job, config: Any, model: nn.Module, stage: Stage, subset: np.ndarray | None, folder: Path, ranks: Mapping[str, int]
) -> tuple[Any, Any]:  # fmt: skip
    whole = {"rank": 0, "num_ranks": 1}

    def split(name: str, train: bool, of: Mapping[str, int], **changed: Any) -> Any:
        changed |= of
        return data_of.open_split(
            job.module, config, job.recipe, stage, job.data, name, train=train, seed=job.seed, **changed
        )

    if job.videos and stage is job.recipe.stages[-1]:  # what comes before is the same for all subsets
        named = data_of.places_of_videos(job.module, config, job.recipe, stage, job.data, "train", set(job.videos))
        subset = named if subset is None else np.intersect1d(named, subset)
    if not stage.cached:
        val = Loader(split(job.val, False, whole)) if job.val else None
        return Loader(split("train", True, ranks, subset=subset)), val
    earlier = job.recipe.stages[: job.recipe.stages.index(stage)]
    before = nn.ModuleList(model.get_submodule(one.part) for one in earlier)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaders = []
    for name in ("train", job.val) if job.val else ("train",):
        kept = folder / "features" / name
        train = name == "train"
        dataset = split(name, False, whole, subset=subset if train else None)
        views = stage.views if train else 0
        made_from = {
            "weights": _digest(before), "views": views, "precision": job.lightning_precision,
            "content": dataset.state_dict()["settings"]["content"],
        }  # fmt: skip
        if ranks["rank"] == 0:
            cache_features(
                before, job.module, config, dataset, kept, views=views, seed=job.seed, device=device,
                precision=job.lightning_precision, made_from=made_from,
            )  # fmt: skip
        else:
            await_features(kept, made_from)
        loaders.append(
            FeatureLoader(
                kept, job.module, batch_size=stage.batch_size, views=views, train=train, seed=job.seed,
                **(ranks if train else whole),
            )
        )  # fmt: skip
    return loaders[0], (loaders[1] if len(loaders) > 1 else None)


def _digest(net: nn.Module) -> str:
    state = hashlib.sha256()
    for name, value in net.state_dict().items():
        state.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()[:16]
