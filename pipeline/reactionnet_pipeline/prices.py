"""Prices and rates of models, from a dated file that everybody should replace by their own (`prices.json` is an example).

A machine has `cores` that cost `per_hour` together, each `speed` times as fast as one of the machine that estimates; a
GPU is `speed` times as fast as the one that the rates speak of. Rates are seconds a unit on one core and on a GPU.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

EXAMPLE = "prices.json"
STAGES = ("captions", "demographics", "embeddings")


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Seconds a unit (a key frame, a crop) of a model stage, on one core and on a GPU, and where they come from."""

    unit: str
    core_s: float
    gpu_s: float
    core_origin: str
    gpu_origin: str


@dataclass(frozen=True, kw_only=True)
class Prices:
    """The chosen region, machine and GPU of a file of prices."""

    date: str
    source: str
    currency: str
    region: str
    machine: str
    gpu: str
    cores: int
    per_core_hour: float
    core_speed: float
    per_gpu_hour: float
    gpu_speed: float
    fetched_gb: float
    staged_gb_month: float
    published_gb_month: float
    rates: Mapping[str, Rate]


def read_prices(path: Path | None = None) -> Prices:
    """Read a file of prices, or the example that comes with the package. ValueError names file, place and remedy."""
    name = str(path or EXAMPLE)
    try:
        text = (path or files("reactionnet_pipeline").joinpath(EXAMPLE)).read_bytes()
        content = json.loads(text)
    except OSError as error:
        raise ValueError(f"--prices {name}: {error.strerror or error}; give a file like {EXAMPLE}") from None
    except ValueError as error:
        raise ValueError(f"--prices {name} is not JSON: {error}") from None
    try:
        return _prices(content)
    except ValueError as error:
        raise ValueError(f"--prices {name}: {error}") from None


def _prices(content: Any) -> Prices:
    region_name, region = _chosen(content, "region", _group(content, "regions", "the file"), "the file")
    place = f"region {region_name!r}"
    machine_name, machine = _chosen(content, "machine", _group(region, "machines", place), place)
    gpu_name, gpu = _chosen(content, "gpu", _group(region, "gpus", place), place)
    on = f"machine {machine_name!r} of {place}"
    cores, speed = _number(machine, "cores", on, least=1), _number(machine, "speed", on, least=1e-3)
    if cores != int(cores):
        raise ValueError(f"{on} has {cores} cores: expected a whole number")
    rates = _group(content, "rates", "the file")
    return Prices(
        date=_text(content, "date", "the file"),
        source=_text(content, "source", "the file"),
        currency=_text(content, "currency", "the file"),
        region=region_name,
        machine=machine_name,
        gpu=gpu_name,
        cores=int(cores),
        per_core_hour=_number(machine, "per_hour", on) / cores,
        core_speed=speed,
        per_gpu_hour=_number(gpu, "per_hour", f"gpu {gpu_name!r} of {place}"),
        gpu_speed=_number(gpu, "speed", f"gpu {gpu_name!r} of {place}", least=1e-3),
        fetched_gb=_number(region, "fetched_gb", place),
        staged_gb_month=_number(region, "staged_gb_month", place),
        published_gb_month=_number(region, "published_gb_month", place),
        rates={stage: _rate(_group(rates, stage, "rates"), f"rates of {stage}") for stage in STAGES},
    )


def _rate(fields: Any, place: str) -> Rate:
    return Rate(
        unit=_text(fields, "unit", place),
        core_s=_number(fields, "core_s", place),
        gpu_s=_number(fields, "gpu_s", place),
        core_origin=_text(fields, "core_origin", place),
        gpu_origin=_text(fields, "gpu_origin", place),
    )


def _chosen(content: Any, kind: str, known: Mapping[str, Any], place: str) -> tuple[str, Any]:
    name = _text(content, kind, "the file")
    if name not in known:
        raise ValueError(f"{kind} {name!r} is not in {place}; known are {', '.join(map(repr, known))}")
    return name, known[name]


def _group(content: Any, name: str, place: str) -> Mapping[str, Any]:
    found = content.get(name) if isinstance(content, dict) else None
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{place} has no {name!r}, which is an object")
    return found


def _text(content: Any, name: str, place: str) -> str:
    found = content.get(name) if isinstance(content, dict) else None
    if not isinstance(found, str) or not found:
        raise ValueError(f"{place} has no {name!r}, which is a text")
    return found


def _number(content: Any, name: str, place: str, least: float = 0.0) -> float:
    found = content.get(name) if isinstance(content, dict) else None
    number = float(found) if isinstance(found, int | float) and not isinstance(found, bool) else math.nan
    if not least <= number < math.inf:
        raise ValueError(f"{name} of {place} is {found!r}: expected a number, {least:g} or more")
    return number
