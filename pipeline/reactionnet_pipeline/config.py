"""All settings of a build in one place, and `--set stage.field=value` checked against them."""

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import UnionType
from typing import Any

from reactionnet_pipeline import clips, cuts, decode, follow, gaze, highlights, ingest, layout, sound, voice
from reactionnet_pipeline.captions import Config as CaptionsConfig
from reactionnet_pipeline.clips import Config as ClipsConfig
from reactionnet_pipeline.dataflow import Config as DataflowConfig
from reactionnet_pipeline.decode import Config as DecodeConfig
from reactionnet_pipeline.demographics import Config as DemographicsConfig
from reactionnet_pipeline.embeddings import Config as EmbeddingsConfig
from reactionnet_pipeline.identity import Config as IdentityConfig
from reactionnet_pipeline.layout import Config as LayoutConfig


@dataclass(frozen=True, kw_only=True)
class SegmentConfig:
    """Segments are cut near every `length_s` seconds."""

    length_s: float = 60.0

    def __post_init__(self) -> None:
        if not self.length_s >= 1:
            raise ValueError(f"length_s {self.length_s}: a segment has at least 1 s")


@dataclass(frozen=True, kw_only=True)
class KeyFramesConfig:
    """How many frames are chosen over the data set for annotation by hand (`--key-frames`); the paper chose 50,000."""

    num: int = 0

    def __post_init__(self) -> None:
        if self.num < 0:
            raise ValueError(f"key frames {self.num}: 0 or more")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds after which a stage counts as hung, for one element."""

    ingest_s: float = 1800.0
    layout_s: float = 900.0
    decode_s: float = 1800.0
    clips_s: float = 900.0

    def __post_init__(self) -> None:
        for name, limit_s in vars(self).items():
            if not limit_s > 0:
                raise ValueError(f"{name} {limit_s}: a limit is more than 0 s")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of all stages."""

    layout: LayoutConfig = field(default_factory=LayoutConfig)
    segment: SegmentConfig = field(default_factory=SegmentConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    embeddings: EmbeddingsConfig = field(default_factory=EmbeddingsConfig)
    identity: IdentityConfig = field(default_factory=IdentityConfig)
    clips: ClipsConfig = field(default_factory=ClipsConfig)
    captions: CaptionsConfig = field(default_factory=CaptionsConfig)
    demographics: DemographicsConfig = field(default_factory=DemographicsConfig)
    key_frames: KeyFramesConfig = field(default_factory=KeyFramesConfig)
    limits: Limits = field(default_factory=Limits)
    dataflow: DataflowConfig = field(default_factory=DataflowConfig)


def stage_versions() -> dict[str, int]:
    """The version of every stage: another one makes another output, whatever the settings."""
    stages = (ingest, sound, layout, follow, cuts, decode, clips, highlights, voice, gaze)
    return {stage.__name__.rpartition(".")[2]: stage.VERSION for stage in stages}


def with_settings(config: Config, settings: Iterable[str]) -> Config:
    """Apply `stage.field=value` texts. ValueError names what is wrong and what is near it."""
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"--set {setting}: expected stage.field=value")
        config = _replaced(config, path.strip().split("."), value.strip(), setting)
    return config


def _replaced(part: Any, path: list[str], value: str, setting: str) -> Any:
    names = [f.name for f in dataclasses.fields(part)]
    if path[0] not in names:
        near = difflib.get_close_matches(path[0], names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"
        raise ValueError(f"--set {setting}: no setting {path[0]!r} in {type(part).__module__}; {hint}")
    old = getattr(part, path[0])
    if dataclasses.is_dataclass(old):
        if len(path) == 1:
            raise ValueError(f"--set {setting}: {path[0]} is a group of settings; name one of its fields")
        return dataclasses.replace(part, **{path[0]: _replaced(old, path[1:], value, setting)})
    if len(path) > 1:
        raise ValueError(f"--set {setting}: {path[0]} is one value and has no field {path[1]!r}")
    kind = typing.get_type_hints(type(part))[path[0]]
    try:
        return dataclasses.replace(part, **{path[0]: _parsed(kind, value)})
    except ValueError as error:
        raise ValueError(f"--set {setting}: {error}") from None


def _parsed(kind: Any, value: str) -> Any:
    if isinstance(kind, UnionType):
        if value.lower() in ("none", "null"):
            return None
        kind = next(option for option in typing.get_args(kind) if option is not type(None))
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        return tuple(_parsed(inner, item) for item in value.split(",") if item)
    if kind is bool:
        if value.lower() not in ("true", "false"):
            raise ValueError(f"{value!r} is neither true nor false")
        return value.lower() == "true"
    if kind is float and not math.isfinite(float(value)):
        raise ValueError(f"{value!r} is not a finite number")
    return kind(value)
