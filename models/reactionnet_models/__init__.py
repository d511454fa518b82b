"""Models of five papers on facial behaviour, trained from one shard format."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reactionnet_models.pretrained import from_pretrained, save_pretrained

__all__ = ["from_pretrained", "save_pretrained"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from reactionnet_models import pretrained

    return getattr(pretrained, name)
