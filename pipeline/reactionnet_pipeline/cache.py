"""The work folder: what a stage has done once for an input is not done again.

An object's name is a hash of what went in: the content of the source, the stage's version and the settings and models
it used. A stage writes its files first and a JSON marker last; only what has a marker counts, so a killed run resumes
where it was and a rerun finds everything done.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from functools import cache
from typing import Any

from reactionnet_datasets.sample import canonical_json, escape
from reactionnet_datasets.shards import write_atomic
from reactionnet_datasets.stores import Place
from reactionnet_pipeline.errors import RETRYABLE, Code, SourceError

# Libraries that decide what comes out; another version is another input.
LIBRARIES = (
    "av",
    "dlib-bin",
    "face-recognition-models",
    "facenet-pytorch",
    "numpy",
    "opencv-contrib-python-headless",
    "scipy",
    "simplejpeg",
    "soundfile",
    "torch",
)


def fingerprint(**inputs: Any) -> str:
    """sha256 of named inputs: plain values, or dataclasses of them."""
    plain = {name: asdict(value) if is_dataclass(value) else value for name, value in inputs.items()}  # type: ignore[arg-type]
    return hashlib.sha256(canonical_json(plain)).hexdigest()


@cache
def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that a stage's output depends on."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def cached(work: Place, stage: str, name: str, key: str, compute: Callable[[Any], Mapping[str, Any]]) -> dict[str, Any]:
    """The stage's result for (name, key): from its marker, or from `compute(stem)`, which may write `{stem}.*` files;
    `stem` is a `Place`.

    A SourceError is a result too, unless trying again may help.
    """
    stem = work / stage / f"{escape(name)}-{key[:16]}"
    marker = stem.with_name(stem.name + ".json")
    try:
        result = json.loads(marker.read_bytes())
    except FileNotFoundError:
        try:
            result = dict(compute(stem))
        except SourceError as error:
            if error.code in RETRYABLE:
                raise
            result = {"error": [error.code, error.message]}
        write_atomic(marker, canonical_json(result))
    if "error" in result:
        code, message = result["error"]
        raise SourceError(Code(code), message)
    return result
