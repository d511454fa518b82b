"""`reactionnet-build --estimate`: what a build will cost, before it is begun.

Headers of a drawn sample of the admitted sources tell how much there is; a short real run of the stages on some of them
(see `trial`), on this machine, tells what it costs. Both are taken to the whole manifest by ratio: fetching by bytes,
sound by seconds, decoding by frames times pixels, faces and shards by frames, layout by sources. What does not depend on
the sources (start-up) is measured beside. Nothing is written but to a temporary folder.

Letters: N admitted sources, S of them in the sample, P of these tried.
"""

import hashlib
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av
from rich.console import Console
from rich.table import Table

from reactionnet_datasets.stores import as_place, faults, system_options
from reactionnet_pipeline.config import Config
from reactionnet_pipeline.errors import Code, SourceError
from reactionnet_pipeline.isolated import call_isolated
from reactionnet_pipeline.manifest import Row, redacted
from reactionnet_pipeline.model_options import Found, LeftOut, Weights, with_digest
from reactionnet_pipeline.prices import Prices
from reactionnet_pipeline.trial import Trial, load_models, try_source
from reactionnet_pipeline.video import FORMATS, open_video, video_stream

SAMPLE = 256  # headers that are read
TRIALS = 12  # sources that are tried at most
LEAST_TRIALS = 2
BUDGET_S = 45.0  # of processor, and of waiting for a store: no further trial begins later
TRIAL_LIMIT_S = 900.0  # on the clock: a trial takes seconds, unless the machine is busy with other work
IMPORTS = "import reactionnet_pipeline.build, apache_beam.runners.worker.sdk_worker_main"
HOUR, GB, MONTH_H = 3600.0, 1e9, 730.0

# What a stage's cost, and what comes of it, grows with.
UNITS = {
    "fetch": "num_bytes",
    "layout": "sources",
    "sound": "heard_s",
    "voice": "heard_s",
    "pictures": "pixels",
    "faces": "frames",
    "embeddings": "sources",
    "clips": "frames",
    "preview": "sources",
    "write": "frames",
    "tables": "frames",
    "publish": "sources",
}


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the header of a source says. `frames` and `pixels` (of all frames) are of the part that the row asks for."""

    video_id: str
    num_bytes: int
    remote: bool
    frames: int = 0
    pixels: int = 0
    duration_s: float = 0.0
    heard_s: float = 0.0
    codec: str = ""
    sources: int = 0  # 1 where it can be opened

    @property
    def remote_bytes(self) -> int:
        return self.num_bytes if self.remote else 0


@dataclass(frozen=True, kw_only=True)
class StartUp:
    """Processor seconds before the first frame: a process's imports, and the models of one that works."""

    imports_s: float
    models_s: float

    def total_s(self, workers: int) -> float:
        """The launcher; and for each worker itself, the server that its child is forked from, and the child's models."""
        return self.imports_s + workers * (2 * self.imports_s + self.models_s)

    @property
    def clock_s(self) -> float:
        """Launcher, worker, server and models follow one another."""
        return 3 * self.imports_s + self.models_s


@dataclass(frozen=True, kw_only=True)
class Models:
    """Which model stages will run, on which device; why others will not."""

    devices: Mapping[str, str]
    left_out: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """A model stage: how many units it would see, the hours on cores of this machine, or on the chosen GPU instead.

    `device` is where it will run; None where it is left out, for the reason `left_out`.
    """

    units: float
    unit: str
    device: str | None
    left_out: str | None
    core_hours: float
    gpu_hours: float
    origin: str


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a build will cost. `core_seconds` by stage are of this machine's cores; money is in `prices.currency`.

    `error` is the standard error of the core-hours as a share, from leaving each tried source out in turn; None where it
    cannot be known. `spread_ms` are the least and the most core-milliseconds a frame of the sources tried.
    """

    sources: int
    sampled: int
    tried: int
    unreadable: float
    lost: float
    frames: float
    video_hours: float
    codecs: Mapping[str, int]
    decoded_frames: float
    written_frames: float
    workers: int
    core_seconds: Mapping[str, float]
    models: Mapping[str, ModelCost]
    core_hours: float
    gpu_hours: float
    wall_hours: float
    error: float | None
    spread_ms: tuple[float, float]
    fetched_gb: float
    staged_gb: Mapping[str, float]
    published_gb: float
    money: Mapping[str, float]
    prices: Prices
    letters: Mapping[str, str]


def estimate_build(
    rows: Sequence[Row], config: Config, models: Sequence[Found | LeftOut], prices: Prices, workers: int, seed: int = 0
) -> Estimate:
    """Read headers, try some sources, and take both to all rows. ValueError where not one source can be opened, or tried."""
    chosen = sample(rows, SAMPLE, seed)
    headers, letters = [], {}
    for row in chosen:
        try:
            headers.append(read_header(row))
        except SourceError as error:
            letters[row.video_id] = str(error)
    if not headers:
        raise ValueError(_nothing(len(chosen), letters))
    # as in a build: a child forked from this process would inherit the threads that read a store
    multiprocessing.set_start_method("forkserver", force=True)
    multiprocessing.set_forkserver_preload(["reactionnet_pipeline.build"])
    embedding = next((one for one in models if isinstance(one, Found) and one.stage == "embeddings"), None)
    weights = with_digest(embedding) if embedding else None
    start_up = StartUp(imports_s=_imports_s(), models_s=call_isolated(load_models, (), TRIAL_LIMIT_S))
    readable = {header.video_id for header in headers}
    trials: list[Trial] = []
    used_s = 0.0
    with tempfile.TemporaryDirectory(prefix="reactionnet-estimate-") as folder:
        for number, row in enumerate(row for row in chosen if row.video_id in readable):
            if number >= TRIALS or (used_s > BUDGET_S and number >= LEAST_TRIALS):
                break
            where = Path(folder) / str(number)
            try:
                trial, seconds = call_isolated(_timed_trial, (row, config, where, weights), TRIAL_LIMIT_S)
                used_s += seconds + trial.fetch_s
            except SourceError as error:
                letters[row.video_id] = str(error)
                if error.code == Code.TIMEOUT:  # says nothing of what it costs
                    used_s += TRIAL_LIMIT_S
                    continue
                trial = Trial(video_id=row.video_id, code=str(error.code))
            trials.append(trial)
            if trial.code:
                letters.setdefault(row.video_id, trial.code)
    if not any(trial.seconds for trial in trials):
        raise ValueError(_nothing(len(readable), letters, f"run through the stages within {TRIAL_LIMIT_S:g} s"))
    found = Models(
        devices={one.stage: getattr(config, one.stage).device for one in models if isinstance(one, Found)},
        left_out={one.stage: one.reason for one in models if isinstance(one, LeftOut)},
    )
    people = len({name for row in rows for name in row.subject_ids}) + sum(not row.subject_ids for row in rows)
    crops = {"demographics": people * config.demographics.crops, "embeddings": config.embeddings.crops}
    return extrapolate(headers, trials, len(rows), len(chosen), start_up, found, crops, prices, workers, letters)


def _nothing(sampled: int, letters: Mapping[str, str], lacking: str = "be opened") -> str:
    first = "; ".join(f"{name}: {why}" for name, why in list(letters.items())[-3:])
    return f"nothing to estimate from: none of {sampled} sources can {lacking} ({first})"


def _timed_trial(row: Row, config: Config, where: Path, weights: Weights | None) -> tuple[Trial, float]:
    started = time.process_time()
    return try_source(row, config, where, weights), time.process_time() - started


def sample(rows: Sequence[Row], most: int, seed: int) -> list[Row]:
    """At most so many rows, drawn by a hash of their ids, whatever order they stand in."""

    def place(row: Row) -> bytes:
        return hashlib.sha256(f"{seed}:{row.video_id}".encode()).digest()

    return sorted(rows, key=place)[:most]


def read_header(row: Row) -> Header:
    """Size, frames and codec, without reading the packets. Raises SourceError for what cannot be opened."""
    with _opened(row.location) as (num_bytes, container):
        stream = video_stream(container)
        context = stream.codec_context
        length_s = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        length_s = length_s or (container.duration or 0) / av.time_base
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        frames = stream.frames or round(length_s * rate)
        length_s = length_s or frames / rate
        low, high = min(row.start_s or 0.0, length_s), min(row.end_s or length_s, length_s)
        share = (high - low) / length_s if length_s else 1.0
        return Header(
            video_id=row.video_id,
            num_bytes=num_bytes,
            remote="://" in row.location,
            frames=round(frames * share),
            pixels=round(frames * share) * context.width * context.height,
            duration_s=length_s,
            heard_s=length_s if container.streams.audio else 0.0,
            codec=context.name,
            sources=1,
        )


@contextmanager
def _opened(location: str) -> Iterator[tuple[int, av.container.InputContainer]]:
    if "://" not in location:
        with open_video(Path(location)) as container:
            yield Path(location).stat().st_size, container
        return
    import fsspec

    scheme = location.partition("://")[0]
    try:
        num_bytes = as_place(location).stat().st_size
        file: BinaryIO = fsspec.filesystem(scheme, skip_instance_cache=True, **system_options(scheme)).open(location)
    except faults() as error:
        raise SourceError(Code.FETCH_FAILED, redacted(str(error))) from error
    options = {"protocol_whitelist": "", "format_whitelist": FORMATS, "enable_drefs": "0", "use_absolute_path": "0"}
    unreadable: tuple[type[Exception], ...] = (av.error.FFmpegError, *faults())
    with file:
        try:
            container = av.open(file, "r", options=options, metadata_errors="replace")
        except unreadable as error:
            raise SourceError(Code.UNREADABLE, f"{redacted(location)}: {error}") from error
        with container:
            if not container.streams.video or video_stream(container).codec_context is None:
                raise SourceError(Code.NO_VIDEO, f"{redacted(location)} has no video stream")
            yield num_bytes, container


def _imports_s() -> float:
    """Processor seconds that a process takes to import Beam and the stages."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-P", "-c", IMPORTS], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def extrapolate(
    headers: Sequence[Header],
    trials: Sequence[Trial],
    sources: int,
    sampled: int,
    start_up: StartUp,
    models: Models,
    crops: Mapping[str, float],
    prices: Prices,
    workers: int,
    letters: Mapping[str, str] = {},
) -> Estimate:
    """From `headers` of `sampled` rows and `trials` of some of them to all `sources` rows.

    `crops`: faces that the model stages see, of demographics in all, of embeddings a clip.
    """
    scale = sources / sampled
    of_trial = {header.video_id: header for header in headers}
    tried = [of_trial[trial.video_id] for trial in trials]

    def whole(unit: str, amounts: Sequence[float], among: Sequence[int]) -> float:
        """A ratio estimate: amounts a unit of the trials `among`, times all units."""
        units = sum(getattr(tried[n], unit) for n in among)
        return sum(amounts[n] for n in among) / units * sum(getattr(h, unit) for h in headers) * scale if units else 0.0

    everyone = range(len(trials))

    def of_stage(stage: str, among: Sequence[int]) -> float:
        return whole(UNITS[stage], [trial.seconds.get(stage, 0.0) for trial in trials], among)

    def amount(name: str, unit: str = "frames") -> float:
        return whole(unit, [getattr(trial, name) for trial in trials], everyone)

    stages = {stage: of_stage(stage, everyone) for stage in UNITS}
    if models.devices.get("embeddings", "cpu") != "cpu":
        stages["embeddings"] = 0.0
    total_s = sum(stages.values())
    without = [sum(of_stage(stage, [n for n in everyone if n != out]) for stage in UNITS) for out in everyone]
    clips = amount("clips", "sources")
    units = {
        "captions": amount("key_frames", "sources"),
        "demographics": crops["demographics"],
        "embeddings": clips * crops["embeddings"],
    }
    costs = {stage: _model_cost(stage, units[stage], models, prices) for stage in units}
    on_cores = sum(c.core_hours for stage, c in costs.items() if c.device == "cpu" and stage != "embeddings")
    core_seconds = {"start-up": start_up.total_s(workers), **{stage: s for stage, s in stages.items() if s}}
    core_hours = sum(core_seconds.values()) / HOUR + on_cores
    gpu_hours = sum(c.gpu_hours for c in costs.values() if c.device not in (None, "cpu"))
    fetch_s = whole("remote_bytes", [trial.fetch_s for trial in trials], everyone)
    busy_h = (total_s + fetch_s) / HOUR + on_cores
    wall_hours = start_up.clock_s / HOUR + busy_h / workers + gpu_hours
    staged = {
        name: whole("heard_s" if name == "sound" else "frames", [t.staged.get(name, 0.0) for t in trials], everyone)
        / GB
        for name in ("sound", "decode", "clips")
    }
    fetched_gb = sum(header.remote_bytes for header in headers) * scale / GB
    published_gb = amount("published") / GB
    a_frame = [1e3 * sum(t.seconds.values()) / h.frames for t, h in zip(trials, tried, strict=True) if h.frames]
    codecs = sorted({header.codec for header in headers})
    return Estimate(
        sources=sources,
        sampled=sampled,
        tried=len(trials),
        unreadable=1 - len(headers) / sampled,
        lost=1 - len(headers) / sampled * sum(trial.code is None for trial in trials) / len(trials),
        frames=sum(header.frames for header in headers) * scale,
        video_hours=sum(header.duration_s for header in headers) * scale / HOUR,
        codecs={codec: sum(header.codec == codec for header in headers) for codec in codecs},
        decoded_frames=amount("decoded"),
        written_frames=amount("written"),
        workers=workers,
        core_seconds=core_seconds,
        models=costs,
        core_hours=core_hours,
        gpu_hours=gpu_hours,
        wall_hours=wall_hours,
        error=_jackknife(without, total_s, 1 - len(trials) / sources) if total_s else None,
        spread_ms=(min(a_frame, default=0.0), max(a_frame, default=0.0)),
        fetched_gb=fetched_gb,
        staged_gb=staged,
        published_gb=published_gb,
        money=_money(prices, core_hours, gpu_hours, wall_hours, fetched_gb, sum(staged.values()), published_gb),
        prices=prices,
        letters=letters,
    )


def _jackknife(without: Sequence[float], whole: float, unseen: float) -> float | None:
    """Relative standard error of a ratio estimate from the estimates without one trial each; `unseen` is the share of all
    sources that was not tried.
    """
    if len(without) < 2:
        return 0.0 if unseen <= 0 else None
    mean = sum(without) / len(without)
    variance = (len(without) - 1) / len(without) * sum((value - mean) ** 2 for value in without)
    return float((max(unseen, 0.0) * variance) ** 0.5 / whole)


def _model_cost(stage: str, units: float, models: Models, prices: Prices) -> ModelCost:
    rate = prices.rates[stage]
    device = models.devices.get(stage)
    return ModelCost(
        units=units,
        unit=rate.unit,
        device=device,
        left_out=models.left_out.get(stage, "everybody is named in the manifest") if device is None else None,
        core_hours=units * rate.core_s / HOUR,
        gpu_hours=units * rate.gpu_s / prices.gpu_speed / HOUR,
        origin=rate.core_origin if device in (None, "cpu") else rate.gpu_origin,
    )


def _money(
    prices: Prices,
    core_hours: float,
    gpu_hours: float,
    wall_hours: float,
    fetched: float,
    staged: float,
    published: float,
) -> dict[str, float]:
    found = {
        "cores": core_hours / prices.core_speed * prices.per_core_hour,
        "GPU": gpu_hours * prices.per_gpu_hour,
        "fetching": fetched * prices.fetched_gb,
        "work folder": staged * prices.staged_gb_month * wall_hours / MONTH_H,
    }
    return {**found, "once": sum(found.values()), "a month, to keep it": published * prices.published_gb_month}


def as_json(estimate: Estimate) -> dict[str, Any]:
    """Plain values for programs."""
    return asdict(estimate)


def show(estimate: Estimate, console: Console) -> None:
    """Print an estimate for people."""
    one, prices = estimate, estimate.prices
    table = Table(
        title=f"estimate for {one.sources:,} sources, {one.video_hours:,.2f} h of video, {one.workers} workers"
    )
    table.add_column("what")
    table.add_column("amount", justify="right")
    table.add_column("how it is known")

    def row(what: str, amount: str, how: str = "") -> None:
        table.add_row(what, amount, how)

    row("frames in the sources", f"{one.frames:,.0f}", f"headers of {one.sampled}: {_listed(one.codecs)}")
    row(
        "frames written",
        f"{one.written_frames:,.0f}",
        f"short runs on {one.tried}; about {one.lost:.0%} of sources lost",
    )
    table.add_section()
    for stage, seconds in one.core_seconds.items():
        row(f"core-hours: {stage}", _hours(seconds / HOUR), "")
    for stage, cost in one.models.items():
        if stage != "embeddings" or cost.device != "cpu":
            _model_row(row, stage, cost)
    known = "two trials at least are needed" if one.error is None else f"± {one.error:.0%} (standard error)"
    low, high = one.spread_ms
    row("core-hours in all", _hours(one.core_hours), f"{known}; {low:.1f} to {high:.1f} ms a frame over sources")
    row("GPU-hours in all", _hours(one.gpu_hours), f"GPU {prices.gpu!r}")
    row("hours on the clock", _hours(one.wall_hours), f"with {one.workers} workers as fast as this machine's cores")
    table.add_section()
    row("GB fetched", f"{one.fetched_gb:,.3f}", "what is not on this machine, once for each that works on it")
    row("GB in the work folder", f"{sum(one.staged_gb.values()):,.3f}", _listed(one.staged_gb, ".3f"))
    row("GB published", f"{one.published_gb:,.3f}", "shards, indexes and tables")
    table.add_section()
    for what, money in one.money.items():
        row(f"{prices.currency}: {what}", f"{money:,.2f}", "")
    console.print(table)
    console.print(f"prices of {prices.date}, region {prices.region!r}, machine {prices.machine!r}: {prices.source}")
    for name, why in list(one.letters.items())[:5]:
        console.print(f"not built in the trial: {name}: {why}")


def _model_row(row: Callable[[str, str, str], None], stage: str, cost: ModelCost) -> None:
    seen = f"at most {cost.units:,.0f} times a {cost.unit}; {cost.origin}"
    if cost.device is None:
        would = f"{_hours(cost.core_hours)} core-hours, or {_hours(cost.gpu_hours)} GPU-hours (a guess)"
        row(f"left out: {stage}", "0", f"{cost.left_out}; it would be {would}")
    elif cost.device == "cpu":
        row(f"core-hours: {stage}", _hours(cost.core_hours), f"{seen}; or {_hours(cost.gpu_hours)} GPU-hours")
    else:
        row(f"GPU-hours: {stage}", _hours(cost.gpu_hours), seen)


def _hours(hours: float) -> str:
    return f"{hours:,.4f}" if hours < 1 else f"{hours:,.1f}"


def _listed(amounts: Mapping[str, float], form: str = "d") -> str:
    return ", ".join(f"{amount:{form}} {name}" for name, amount in amounts.items())
