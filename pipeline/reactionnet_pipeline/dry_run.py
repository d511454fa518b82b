"""A dry run of a build on Dataflow: the job is made and read, and sent to nobody.

`reactionnet-build ... --runner DataflowRunner --dry-run` builds the graph, translates it as Beam's DataflowRunner does,
and reads what would be sent: the resource hints of every stage, every pickled function, and every file of code. It needs
no credentials. With `reactionnet[gcp]` installed Beam's own job description is made too. What only the service can
answer (quotas, images, permissions) is not checked.
"""

import base64
import bz2
import io
import pickle
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reactionnet_datasets.stores import SCRATCH_BYTES
from reactionnet_pipeline.build import Build, build_graph
from reactionnet_pipeline.dataflow import Machine, machine

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions
    from rich.console import Console

IMAGE_GB = 12
# What Beam's pickler makes is base64 of bz2, wherever in a payload it stands
PICKLE = re.compile(rb"QlpoO[A-Za-z0-9+/]+=*")
STAGED = ("requirements.txt", "submission_environment_dependencies.txt", "extra_packages.txt")
MAX_PICKLE = 64 << 10  # bytes of one function with its settings; a model or a table in it would be far more
# What may not be in a pickle: weights are loaded by the worker that needs them
MODEL_LIBRARIES = frozenset({"torch", "transformers", "onnxruntime", "dlib", "cv2", "facenet_pytorch", "deepface"})


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stage as it would be sent: its resource hints, and the bytes of its largest pickle."""

    stage: str
    hints: Mapping[str, str]
    pickle_bytes: int


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a job would be. `problems` is empty where nothing is wrong; `job_bytes` is the size of Beam's own description
    of the job, None where `reactionnet[gcp]` is not installed. `disk_gb` is a worker's.
    """

    steps: tuple[Step, ...]
    image: str
    shipped: tuple[str, ...]
    graph_bytes: int
    job_bytes: int | None
    machine: Machine
    disk_gb: int
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def dry_run(build: Build, options: "PipelineOptions") -> DryRun:
    """Build the graph and read what would be sent. The options are as `dataflow.slips` lets them pass and
    `dataflow.set_defaults` completes them.
    """
    from apache_beam.options.pipeline_options import WorkerOptions

    proto, job_bytes = _translated(build, options)
    steps, problems = read_steps(proto)
    image, shipped, more = read_code(proto)
    workers = options.view_as(WorkerOptions)
    chosen = machine(workers.machine_type)
    assert chosen  # see `dataflow.slips`
    models = {"captions": build.captions, "demographics": build.demographics, "embeddings": build.embeddings}
    return DryRun(
        steps=tuple(steps),
        image=image,
        shipped=tuple(shipped),
        graph_bytes=proto.ByteSize(),
        job_bytes=job_bytes,
        machine=chosen,
        disk_gb=workers.disk_size_gb,
        notes=tuple(
            f"the image must hold the weights for {stage} at {weights.path}"
            for stage, weights in models.items()
            if weights and "://" not in weights.path
        ),
        problems=(*problems, *more, *_too_small(steps, chosen)),
    )


def _translated(build: Build, options: "PipelineOptions") -> tuple[Any, int | None]:
    """The graph as Dataflow would be sent it (a proto), and the size of Beam's description of the job.

    The pipeline is made for another runner and then handed over: made for DataflowRunner, Beam would ask the buckets for
    their settings. The translation asks nobody.
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import SetupOptions, TestOptions
    from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    options.view_as(SetupOptions).requirements_cache = "skip"  # else the named packages are downloaded to be staged
    pipeline = beam.Pipeline(runner=FnApiRunner(), options=options)
    build_graph(pipeline, build)
    runner = DataflowRunner()
    try:
        from apache_beam.runners.dataflow.internal import apiclient
    except ImportError:
        return _graph(pipeline, runner, options), None
    options.view_as(TestOptions).dry_run = True
    job = runner.run_pipeline(pipeline, options).job
    job.proto.environment = apiclient.Environment(
        packages=[],
        options=options,
        environment_version=apiclient._FNAPI_ENVIRONMENT_MAJOR_VERSION,
        proto_pipeline_staged_url=f"{job.google_cloud_options.staging_location}/pipeline.pb",
        proto_pipeline=job.proto_pipeline,
    ).proto
    return job.proto_pipeline, len(job.json())


def _graph(pipeline: Any, runner: Any, options: "PipelineOptions") -> Any:
    """What `DataflowRunner.run_pipeline` makes of a graph before it needs Google's libraries."""
    from apache_beam.options.pipeline_options import WorkerOptions
    from apache_beam.transforms.environments import (
        DockerEnvironment,
        python_sdk_dependencies,
        resource_hints_from_options,
    )

    pipeline.visit(runner.combinefn_visitor())
    pipeline.visit(runner.side_input_visitor())
    pipeline.replace_all(runner._PTRANSFORM_OVERRIDES)
    runner._adjust_pipeline_for_dataflow_v2(pipeline)
    image = options.view_as(WorkerOptions).sdk_container_image or DockerEnvironment.default_docker_image()
    environment = DockerEnvironment.from_container_image(
        image, artifacts=python_sdk_dependencies(options), resource_hints=resource_hints_from_options(options)
    )
    return pipeline.to_runner_api(default_environment=environment)


def read_steps(proto: Any) -> tuple[list[Step], list[str]]:
    """The stages of a graph in its order, and what is wrong with their pickles."""
    largest: dict[str, int] = {}
    hints_of: dict[str, dict[str, str]] = {}
    problems = []
    for name, transform in _in_order(proto, proto.root_transform_ids):
        stage = transform.unique_name.partition("/")[0]
        if stage in ("", name):  # the graph as a whole
            continue
        largest.setdefault(stage, 0)
        hints_of.setdefault(stage, {}).update(_hints_of(proto, transform.environment_id))
        for encoded in PICKLE.findall(transform.spec.payload):
            largest[stage] = max(largest[stage], len(encoded))
            problems += [f"{transform.unique_name}: {fault}" for fault in faults_of(encoded)]
    for name, coder in proto.components.coders.items():
        problems += [
            f"coder {name}: {fault}" for data in PICKLE.findall(coder.spec.payload) for fault in faults_of(data)
        ]
    return [Step(stage=stage, hints=hints_of[stage], pickle_bytes=size) for stage, size in largest.items()], problems


def _in_order(proto: Any, ids: Iterable[str]) -> Iterator[tuple[str, Any]]:
    for name in ids:
        transform = proto.components.transforms[name]
        yield name, transform
        yield from _in_order(proto, transform.subtransforms)


def _hints_of(proto: Any, environment_id: str) -> dict[str, str]:
    found = {}
    for urn, value in proto.components.environments[environment_id].resource_hints.items() if environment_id else ():
        name = urn.split(":")[2]  # beam:resources:NAME:v1
        found[name] = f"{int(value) / 1e9:g} GB" if name == "min_ram_bytes" else value.decode()
    return found


def faults_of(encoded: bytes) -> list[str]:
    """What is wrong with something that Beam has pickled."""
    found = Contents(bz2.decompress(base64.b64decode(encoded)))
    faults = [f"{name} is pickled by value; only what the workers can import may travel" for name in found.by_value]
    if models := sorted(found.libraries & MODEL_LIBRARIES):
        faults.append(f"an object of {', '.join(models)} is in the pickle; a model is loaded by the worker")
    if len(encoded) > MAX_PICKLE:
        faults.append(f"the pickle has {len(encoded):,} bytes; at most {MAX_PICKLE:,}")
    return faults


class Contents(pickle.Unpickler):
    """What stands in a pickle of ours: `by_value` names functions and classes that are in it with their code (Beam's own
    are left aside, as the workers run the same Beam), `libraries` are the packages of all that it names.
    """

    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data))
        self.by_value: list[str] = []
        self.libraries: set[str] = set()
        self.load()

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        self.libraries.add(module.partition(".")[0])
        if not module.endswith("cloudpickle"):
            return found
        readers: dict[str, Callable[..., str]] = {
            "_make_function": lambda code, names, *_: f"{names.get('__name__')}.{code.co_qualname}",
            "_make_skeleton_class": lambda kind, name, bases, kwargs, *_: f"{kwargs.get('__module__')}.{name}",
            "_make_skeleton_enum": lambda bases, name, qualname, members, module, *_: f"{module}.{qualname}",
            "dynamic_subimport": lambda name, _: f"module {name}",
        }
        if name == "subimport":
            return self._noted(found, lambda name: self.libraries.add(name.partition(".")[0]))
        return self._noted(found, readers[name]) if name in readers else found

    def _noted(self, make: Callable[..., Any], read: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any) -> Any:
            name = read(*arguments)
            if name and not name.startswith("apache_beam."):
                self.by_value.append(name)
            return make(*arguments)

        return made


def read_code(proto: Any) -> tuple[str, list[str], list[str]]:
    """The workers' image, the files that are staged for them, and those of these that should not be."""
    from apache_beam.portability.api import beam_runner_api_pb2 as api

    images, shipped = set(), set()
    for environment in proto.components.environments.values():
        images.add(api.DockerPayload.FromString(environment.payload).container_image)
        for file in environment.dependencies:
            shipped.add(api.ArtifactStagingToRolePayload.FromString(file.role_payload).staged_name)
    odd = sorted(name for name in shipped if not name.endswith(STAGED) and not name.startswith("reactionnet-"))
    return ", ".join(sorted(images)), sorted(shipped), [f"{name} would be shipped beside the wheel" for name in odd]


def _too_small(steps: Sequence[Step], workers: Machine) -> list[str]:
    asked = [(float(step.hints["min_ram_bytes"].split()[0]), step.stage) for step in steps if _on_cpu(step)]
    found = [
        f"{stage} needs {gb:g} GB on a worker with {workers.vcpus} processes; {workers.name} has {workers.ram_gb:g} GB"
        for gb, stage in asked
        if gb > workers.ram_gb
    ]
    return found


def _on_cpu(step: Step) -> bool:
    return "min_ram_bytes" in step.hints and "accelerator" not in step.hints


def room_gb(disk_gb: int) -> float:
    """What a worker's disk leaves for copies of what lies in the store (see `stores.local`)."""
    return max(0.0, min(SCRATCH_BYTES / 1e9, (disk_gb - IMAGE_GB) / 2))


def show(found: DryRun, console: "Console") -> None:
    """Print a dry run."""
    from rich.table import Table

    table = Table(title="the job's stages")
    for name in ("stage", "resource hints", "largest pickle"):
        table.add_column(name, justify="right" if name == "largest pickle" else "left", overflow="fold")
    for step in found.steps:
        said = "; ".join(f"{name.removesuffix('_bytes')} {value}" for name, value in step.hints.items())
        table.add_row(step.stage, said, f"{step.pickle_bytes:,} B" if step.pickle_bytes else "")
    console.print(table)
    job = "not made, `pip install reactionnet[gcp]`" if found.job_bytes is None else f"{found.job_bytes:,} bytes"
    facts = {
        "workers": f"{found.machine.name}: {found.machine.vcpus} processes, {found.machine.ram_gb:g} GB of memory,"
        f" {found.disk_gb} GB of disk",
        "room on disk": f"about {room_gb(found.disk_gb):.0f} GB for copies of sources and staged files; more by --disk_size_gb",
        "image": found.image,
        "shipped beside it": ", ".join(found.shipped) or "nothing",
        "graph": f"{found.graph_bytes:,} bytes; Beam's description of the job: {job}",
    }
    for name, fact in facts.items():
        console.print(f"{name}: {fact}", soft_wrap=True)
    for note in found.notes:
        console.print(note, style="yellow", soft_wrap=True)
