"""Checkpoints of a stage, from which training goes on as if it had not been stopped: in mid-epoch, at an epoch's end, and the
best by a validation score."""

import pickle
import struct
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reactionnet_datasets.torchvision_on_cpu import ensure

ensure()
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402


class Checkpoint(ModelCheckpoint):
    """Lightning's, in a run folder that may be moved or copied: by itself it forgets what was best where the folder's name
    is another."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        moved = {**state_dict, "dirpath": self.dirpath}
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            moved[name] = here(state_dict[name])
        moved["best_k_models"] = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(moved)


class InMidEpoch(Checkpoint):
    """Every so many steps, but not at the last of an epoch: its validation, rate and best score would still be to come, and
    Lightning does not make good for them where it goes on from there."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx + 1 < trainer.num_training_batches:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


def make_checkpoints(folder: Path, *, every: int, best: str, higher_is_better: bool) -> list[Checkpoint]:
    """Callbacks that write `last.ckpt` after `every` steps, `end.ckpt` after each epoch and, where `best` names a score, that
    of the best epoch."""
    found: list[Checkpoint] = []
    if best:  # before the others, which keep what it has found
        mode = "max" if higher_is_better else "min"
        found.append(
            Checkpoint(
                folder, filename="best", monitor=best, mode=mode, enable_version_counter=False, save_on_train_epoch_end=True
            )
        )  # fmt: skip
    return [
        *found,
        InMidEpoch(folder, filename="last", every_n_train_steps=every, enable_version_counter=False),
        Checkpoint(folder, filename="end", enable_version_counter=False, save_on_train_epoch_end=True),
    ]


def latest(folder: Path) -> Path | None:
    """The checkpoint of the most steps. ValueError where one cannot be read."""
    found = [path for path in (folder / "last.ckpt", folder / "end.ckpt") if path.is_file()]
    return max(found, key=_steps_of, default=None)


def _steps_of(path: Path) -> int:
    try:
        return int(torch.load(path, map_location="cpu", weights_only=True)["global_step"])
    except (pickle.UnpicklingError, struct.error, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise ValueError(f"{path} is no checkpoint of a run: delete it to go on without it") from error


def load_part(net: nn.Module, path: Path) -> None:
    """The weights of a stage's checkpoint into what it trained."""
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    net.load_state_dict({name.removeprefix("net."): value for name, value in state.items()})
