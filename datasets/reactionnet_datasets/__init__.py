"""Shards of facial behaviour: the contract, and what reads and writes it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reactionnet_datasets.augment import Augment
    from reactionnet_datasets.catalog import Source
    from reactionnet_datasets.storage import ShardError
    from reactionnet_datasets.stream import ShardDataset

__all__ = ["Augment", "ShardDataset", "ShardError", "Source"]
_HOME = {"Augment": "augment", "ShardDataset": "stream", "ShardError": "storage", "Source": "catalog"}


def __getattr__(name: str) -> Any:
    # On first use: the pipeline's workers import this package's tar code and have no need of torch.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
