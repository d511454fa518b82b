"""Builds on Dataflow: what is asked of its workers, and what a command line lacks. See `dry_run` for a job's check."""

import importlib.metadata
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

RUNNERS = ("DataflowRunner", "TestDataflowRunner")
MACHINES = {"n2-standard-4": 4.0, "n2-highmem-4": 8.0}  # GB for each of four processes
DISK_GB = 100  # the image, and as many copies of what lies in the store as are ever kept
GB_PER_VCPU = {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0}
GB_PER_VCPU_N1 = {"standard": 3.75, "highmem": 6.5, "highcpu": 0.9}

LARGE = ("Caption", "Demographics")  # stages whose models share processes


@dataclass(frozen=True, kw_only=True)
class Config:
    """What workers on Dataflow need. Memory is for a process, of which there is one for each vCPU."""

    decode_ram_gb: float = 2.0  # a stage's child peaked at 1.1 GB, BLIP at 2.7 GB, DeepFace's nets at 2.8 GB
    model_ram_gb: float = 3.5
    accelerator: str = "type:nvidia-tesla-t4;count:1;machine_type:n1-standard-4;install-nvidia-driver"

    def __post_init__(self) -> None:
        for name in ("decode_ram_gb", "model_ram_gb"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} {getattr(self, name)}: a process needs more than 0 GB")
        beside = re.search(r";machine_type:([a-z0-9-]+)", self.accelerator)
        if not re.match(r"type:[a-z0-9-]+;count:\d+;", self.accelerator) or (beside and not machine(beside[1])):
            raise ValueError(
                f"accelerator {self.accelerator!r}: expected type:TYPE;count:NUMBER[;machine_type:TYPE]"
                ";install-nvidia-driver"
            )


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine type of Compute Engine: its processors and memory."""

    name: str
    vcpus: int
    ram_gb: float


def machine(name: str) -> Machine | None:
    """What a machine type is called says what it has; None where it does not."""
    if custom := re.fullmatch(r"(?:[a-z]\d[a-z]?-)?custom-(\d+)-(\d+)(?:-ext)?", name):
        return Machine(name=name, vcpus=int(custom[1]), ram_gb=int(custom[2]) / 1024)
    if named := re.fullmatch(r"([a-z]\d[a-z]?)-(standard|highmem|highcpu)-(\d+)", name):
        per_vcpu = GB_PER_VCPU_N1 if named[1] == "n1" else GB_PER_VCPU
        return Machine(name=name, vcpus=int(named[3]), ram_gb=int(named[3]) * per_vcpu[named[2]])
    return None


def set_defaults(options: "PipelineOptions") -> None:
    """What the user did not say: disk, and one thread a process, as everywhere in this pipeline."""
    from apache_beam.options.pipeline_options import DebugOptions, WorkerOptions

    workers = options.view_as(WorkerOptions)
    workers.disk_size_gb = workers.disk_size_gb or DISK_GB
    debug = options.view_as(DebugOptions)
    if not debug.number_of_worker_harness_threads:
        debug.number_of_worker_harness_threads = 1


def hints(config: Config, devices: Mapping[str, str | None], options: "PipelineOptions") -> dict[str, dict[str, str]]:
    """Beam's resource hints for the stages that need more than most; chooses a machine where the options name none.

    `devices` says on what each model stage of the graph runs, None where it is left out. `min_ram` is a worker's, not a
    process's, and models that ask for the same share processes. A GPU is asked for only where a model's device is one
    (`--set captions.device=cuda`).
    """
    from apache_beam.options.pipeline_options import WorkerOptions

    asked = options.view_as(WorkerOptions)
    num_large = sum(devices.get(stage) == "cpu" for stage in LARGE)
    models_gb = config.model_ram_gb * max(1, num_large)
    most_gb = max(config.decode_ram_gb, models_gb if "cpu" in devices.values() else 0)
    if not asked.machine_type:
        asked.machine_type = next((name for name, gb in MACHINES.items() if gb >= most_gb), next(reversed(MACHINES)))
    workers = machine(asked.machine_type)
    beside = re.search(r"machine_type:([a-z0-9-]+)", config.accelerator)
    with_gpu = machine(beside[1]) if beside else workers
    assert workers and with_gpu  # `slips` and `Config` refuse what is not known

    def needs(gb: float, on: Machine) -> dict[str, str]:
        return {"min_ram": f"{gb * on.vcpus:g}GB"}

    found = {stage: needs(config.decode_ram_gb, workers) for stage in ("LayOut", "Decode")}
    for stage, device in devices.items():
        if device == "cpu":
            found[stage] = needs(models_gb, workers)
        elif device:
            found[stage] = needs(config.model_ram_gb, with_gpu) | {"accelerator": config.accelerator}
    return found


# -- what is missing or wrong ------------------------------------------------------------------------------------------


def slips(options: "PipelineOptions", out: str | None, work: str | None) -> list[str]:
    """What the options lack or have wrong, each with an example. Asks nobody. `out` and `work` are a build's."""
    from apache_beam.options.pipeline_options import GoogleCloudOptions, SetupOptions, StandardOptions, WorkerOptions

    cloud, workers = options.view_as(GoogleCloudOptions), options.view_as(WorkerOptions)
    found = []
    if not cloud.project or not re.fullmatch(r"[a-z][-a-z0-9:.]+[a-z0-9]", cloud.project):
        found.append(_slip("--project", cloud.project, "the project's id, such as --project my-project"))
    if not cloud.region or not re.fullmatch(r"[a-z]+-[a-z]+\d+", cloud.region):
        found.append(_slip("--region", cloud.region, "such as --region europe-west1"))
    for name in ("temp_location", "staging_location"):
        place = getattr(cloud, name)
        if not (place or "").startswith("gs://") and (place or name == "temp_location"):
            found.append(_slip(f"--{name}", place, f"such as --{name} gs://BUCKET/{name.partition('_')[0]}"))
    for name, place in (("--out", out), ("--work", work)):
        if place is not None and not place.startswith("gs://"):
            found.append(
                f"{name} is {place}, which workers cannot reach: such as {name} gs://BUCKET/{Path(place).name}"
            )
    found += _code_slips(options.view_as(SetupOptions), bool(workers.sdk_container_image))
    if options.view_as(StandardOptions).streaming:
        found.append("--streaming: a build is a batch job, leave it out")
    if cloud.flexrs_goal:
        found.append(f"--flexrs_goal {cloud.flexrs_goal}: Dataflow takes no resource hints with it, leave it out")
    if any(option.startswith("worker_accelerator") for option in cloud.dataflow_service_options or ()):
        found.append(
            "--dataflow_service_options worker_accelerator would give every worker a GPU: use"
            " --set captions.device=cuda and --set dataflow.accelerator=..."
        )
    if workers.machine_type and machine(workers.machine_type) is None:
        found.append(f"--machine_type {workers.machine_type}: expected one such as n2-standard-4 or n2-custom-4-16384")
    return found


def _slip(option: str, value: str | None, example: str) -> str:
    return f"{option} {value}: expected {example}" if value else f"{option} is missing: {example}"


def _code_slips(setup: Any, has_image: bool) -> list[str]:
    """The workers' code is an image, or our wheel and what it needs; nothing else travels."""
    found = []
    if setup.save_main_session:
        found.append("--save_main_session: the launcher's session is no part of a build, leave it out")
    if setup.setup_file:
        found.append(f"--setup_file {setup.setup_file}: the code is the wheel, give --extra_package WHEEL")
    packages = setup.extra_packages or []
    for package in packages:
        if not re.fullmatch(r"reactionnet-.+\.whl", Path(package).name):
            found.append(f"--extra_package {package}: only reactionnet's own wheel is shipped")
        elif not package.startswith("gs://") and not Path(package).is_file():
            found.append(f"--extra_package {package}: there is no such file; `pip wheel --no-deps .` makes it")
    if not has_image and not (packages and setup.requirements_file):
        found.append(
            "the workers' code is missing: --sdk_container_image IMAGE with reactionnet[pipeline] in it, or"
            " --extra_package dist/reactionnet-VERSION-py3-none-any.whl together with --requirements_file FILE that"
            " names what it needs"
        )
    elif not has_image:
        found += _unnamed(Path(setup.requirements_file))
    return found


def _unnamed(file: Path) -> list[str]:
    """What the pipeline needs and a file of requirements does not name."""
    from packaging.requirements import Requirement

    if not file.is_file():
        return [f"--requirements_file {file}: there is no such file"]
    words = (re.match(r"[A-Za-z0-9._-]+", line.strip()) for line in file.read_text().splitlines())
    named = {_plain(word[0]) for word in words if word}
    needed = [Requirement(text) for text in importlib.metadata.requires("reactionnet") or ()]
    wanted = {_plain(one.name) for one in needed if one.marker is None or one.marker.evaluate({"extra": "pipeline"})}
    missing = sorted(wanted - named)
    return [f"--requirements_file {file} does not name {', '.join(missing)}"] if missing else []


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def out_of_reach(locations: Iterable[str], weights: Mapping[str, str], has_image: bool) -> list[str]:
    """Sources and models that lie where workers cannot open them. `weights` are folders or files by stage."""
    found = []
    local = [place for place in locations if "://" not in place]
    if local:
        found.append(f"{len(local)} sources lie on this machine, such as {local[0]}: put them on gs://")
    if not has_image:
        found += [
            f"the weights for {stage} lie on this machine, at {path}: put them into an image at the same place and give"
            f" --sdk_container_image, or leave the stage out"
            for stage, path in weights.items()
            if not path.startswith("gs://")
        ]
    return found
