"""What a data set's manifest lists, and tidying away what none lists any more."""

import re
from collections.abc import Mapping
from typing import Any

from reactionnet_datasets.shards import read_manifest
from reactionnet_datasets.storage import inside
from reactionnet_datasets.stores import Place, files_below

_DIGEST = re.compile(r"-([0-9a-f]{12})\.[a-z]+")


def digests_of(content: Mapping[str, Any]) -> dict[str, str]:
    """Every file that a manifest lists, with its sha256 or, of a table's part, the first digits of it that its name holds.

    ShardError for a name that leads out of the data set.
    """
    found: dict[str, str] = {}
    for entry in content.get("splits", {}).values():
        for shard in entry["shards"]:
            found |= {inside(shard["path"]): shard["sha256"], inside(shard["index"]): shard["index_sha256"]}
        for parts in entry["tables"].values():
            for part in parts:
                digits = _DIGEST.search(part)
                found[inside(part)] = digits[1] if digits else ""
    return found


def listed_now(root: Place) -> set[str]:
    """The files that the manifest in a folder lists; none where there is no manifest of ours."""
    try:
        return set(digests_of(read_manifest(root)))
    except (FileNotFoundError, ValueError):
        return set()


def remove_unlisted(root: Place, listed: set[str]) -> None:
    """Delete shards and tables that are not listed. Keep what the manifest just replaced lists: it may have readers."""
    for folder in ("shards", "tables"):
        for name in files_below(root / folder):
            if f"{folder}/{name}" not in listed:
                (root / folder / name).unlink(missing_ok=True)
