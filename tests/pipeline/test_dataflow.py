"""A job for Dataflow, checked without it: what its options lack, what would be sent, how large its elements are."""

import hashlib
import importlib
import json
import os
import re
import shutil
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.coders import registry
from apache_beam.internal import pickler
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions
from apache_beam.pipeline import PipelineVisitor
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from reactionnet_datasets.shards import read_manifest
from reactionnet_datasets.splits import SPLITS
from reactionnet_pipeline import cli, dataflow, dry_run
from reactionnet_pipeline.build import Build, build_graph
from reactionnet_pipeline.config import Config, with_settings
from reactionnet_pipeline.launch import check_reach, check_runner, hinted, open_pipeline, read_options
from reactionnet_pipeline.model_options import Weights, find_blip, find_deepface, with_digest
from reactionnet_pipeline.records import Source

ENOUGH = (
    "--runner=DataflowRunner", "--project=my-project", "--region=europe-west1", "--temp_location=gs://bucket/temp",
    "--sdk_container_image=europe-docker.pkg.dev/my-project/images/reactionnet:1",
)  # fmt: skip
PLACES = {"out": "gs://bucket/set", "work": "gs://bucket/set.work"}


def job(*settings, work="gs://bucket/set.work", root="gs://bucket/set", **more) -> Build:
    return Build(
        root=root,
        work=work,
        splits=SPLITS,
        config=with_settings(Config(), settings),
        target_shard_bytes=256 << 20,
        max_loss=0.2,
        versions=(),
        facts=json.dumps({"versions": {}, "config": {}, "models": {}, "stages_left_out": []}),
        **more,
    )


def dry(build: Build, *options: str) -> dry_run.DryRun:
    read = read_options([*ENOUGH, *options])
    return dry_run.dry_run(hinted(build, read), read)


WEIGHTS = {
    "captions": Weights(name="blip", path="/weights/blip", digest="0" * 64),
    "demographics": Weights(name="deepface", path="/weights/deepface", digest="0" * 64, engine="onnx"),
    "embeddings": Weights(name="dlib", path="/weights/dlib.dat", digest="0" * 64, engine="dlib"),
}


def test_all_that_is_missing_is_said_at_once():
    with pytest.raises(ValueError, match="DataflowRunner") as said:
        check_runner(["--runner", "dataflow"], 2, "/data/set", "/data/set.work")
    for line in (
        "--workers 2 is for builds on this machine",
        "--project is missing: the project's id, such as --project my-project",
        "--region is missing: such as --region europe-west1",
        "--temp_location is missing: such as --temp_location gs://BUCKET/temp",
        "--out is /data/set, which workers cannot reach: such as --out gs://BUCKET/set",
        "--work is /data/set.work",
        "the workers' code is missing: --sdk_container_image IMAGE",
    ):
        assert line in str(said.value)
    check_runner(ENOUGH, **PLACES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--project=My Project",), "--project My Project: expected"),
        (("--region=Europe",), "--region Europe: expected such as --region europe-west1"),
        (("--temp_location=/tmp",), "--temp_location /tmp: expected"),
        (("--staging_location=s3://b/x",), "--staging_location s3://b/x: expected"),
        (("--machine_type=large",), "--machine_type large: expected one such as n2-standard-4"),
        (("--streaming",), "a build is a batch job"),
        (("--flexrs_goal=COST_OPTIMIZED",), "takes no resource hints with it"),
        (("--dataflow_service_options=worker_accelerator=type:nvidia-l4",), "use --set captions.device=cuda"),
        (("--save_main_session",), "the launcher's session is no part of a build"),
        (("--setup_file=setup.py",), "give --extra_package WHEEL"),
        (("--extra_package=mine.tar.gz",), "only reactionnet's own wheel is shipped"),
        (("--extra_package=reactionnet-9-py3-none-any.whl",), "there is no such file"),
    ],
)
def test_what_is_wrong_is_named(options, message):
    with pytest.raises(ValueError, match="DataflowRunner") as said:
        check_runner([*ENOUGH, *options], **PLACES)
    assert message in str(said.value)


def test_a_wheel_needs_a_file_that_names_what_it_needs(tmp_path):
    wheel, needs = tmp_path / "reactionnet-0.1.0-py3-none-any.whl", tmp_path / "requirements.txt"
    wheel.write_bytes(b"")
    needs.write_text("av==18\nopencv-contrib-python-headless\n")
    options = [*ENOUGH[:4], f"--extra_package={wheel}", f"--requirements_file={needs}"]
    with pytest.raises(ValueError, match="does not name apache-beam, deepface"):
        check_runner(options, **PLACES)


def test_sources_and_models_that_workers_cannot_open_are_named():
    check_reach(ENOUGH, ["gs://bucket/a.mp4"], {"captions": "/weights/blip"})
    with pytest.raises(ValueError, match="1 sources lie on this machine, such as /data/a"):
        check_reach(ENOUGH, ["gs://bucket/a.mp4", "/data/a.mp4"], {})
    with pytest.raises(ValueError, match="the weights for captions lie on this machine, at /weights/blip"):
        check_reach(ENOUGH[:4], ["gs://bucket/a.mp4"], {"captions": "/weights/blip"})


def test_the_launchers_own_session_is_not_shipped():
    """Which is Beam's default for a service, where nobody says otherwise."""
    assert read_options(ENOUGH).view_as(SetupOptions).save_main_session is False


def test_the_job_ships_no_code_and_its_stages_ask_for_what_they_need():
    found = dry(job(**WEIGHTS))
    assert found.problems == ()
    steps = {step.stage: step for step in found.steps}
    assert {stage: dict(step.hints) for stage, step in steps.items() if step.hints} == {
        "LayOut": {"min_ram_bytes": "8 GB"},
        "Decode": {"min_ram_bytes": "8 GB"},
        "Embed": {"min_ram_bytes": "28 GB"},  # two large models in each of four processes
        "Caption": {"min_ram_bytes": "28 GB"},
        "Demographics": {"min_ram_bytes": "28 GB"},
    }
    assert 0 < max(step.pickle_bytes for step in steps.values()) < 8192
    assert set(found.shipped) <= {"submission_environment_dependencies.txt"}
    assert found.image == ENOUGH[-1].partition("=")[2]
    assert (found.machine.name, found.machine.vcpus, found.machine.ram_gb, found.disk_gb) == (
        "n2-highmem-4",
        4,
        32,
        100,
    )
    assert dry(job()).machine.name == "n2-standard-4"
    assert found.notes[0] == "the image must hold the weights for captions at /weights/blip"


def test_a_gpu_is_asked_for_where_a_model_is_to_run_on_one():
    found = {step.stage: step.hints for step in dry(job("captions.device=cuda", **WEIGHTS)).steps}
    assert found["Caption"]["accelerator"].startswith("type:nvidia-tesla-t4;count:1")
    assert [stage for stage, hints in found.items() if "accelerator" in hints] == ["Caption"]


def test_a_machine_that_is_too_small_is_a_problem():
    found = dry(job(), "--machine_type=n2-highcpu-8")
    assert "Decode needs 16 GB on a worker with 8 processes; n2-highcpu-8 has 8 GB" in found.problems


def test_a_table_in_a_pickle_is_a_problem():
    build = job(key_frames=tuple((hashlib.sha256(b"%d" % n).hexdigest(), n) for n in range(3000)))
    assert any("Publish" in problem and "bytes; at most 65,536" in problem for problem in dry(build).problems)


def faults(thing) -> list[str]:
    return dry_run.faults_of(pickler.dumps(thing))


def test_what_travels_with_its_code_or_holds_a_model_is_named():
    import torch

    here = type("Here", (), {"__module__": "__main__"})
    assert faults(Source(video_id="a", line=1, uri="", split="train")) == []
    assert faults(beam.Map(dataflow.machine).fn) == []  # Beam's own wrapper is there by value
    assert "<lambda> is pickled by value" in faults(lambda: 1)[0]
    assert "__main__.Here is pickled by value" in faults(here)[0]
    assert "an object of torch is in the pickle" in faults({"model": torch.nn.Linear(2, 2)})[0]
    assert "the pickle has" in faults([f"{n * n:x}" for n in range(60_000)])[0]


def test_the_command_says_what_would_be_sent_and_starts_nothing(tmp_path, capsys):
    manifest = tmp_path / "sources.jsonl"
    row = {"video_id": "a", "uri": "gs://bucket/a.mp4", "license": "CC-BY-4.0", "subject_ids": ["s"]}
    manifest.write_text(json.dumps(row))
    command = ["--sources", str(manifest), "--out", PLACES["out"], *ENOUGH, "--dry-run"]
    with pytest.raises(SystemExit) as end:
        cli.app(command)
    said = capsys.readouterr().err
    assert end.value.code == 0, said
    assert "nothing was started" in said
    assert list(tmp_path.iterdir()) == [manifest]
    with pytest.raises(SystemExit) as end:
        cli.app([*command, "--machine_type=n2-highcpu-8"])
    assert end.value.code == 2
    assert "this job would not do" in capsys.readouterr().err


def test_a_job_needs_googles_libraries_and_says_so(tmp_path):
    with suppress(ImportError):  # google.auth alone comes with gcsfs
        importlib.import_module("google.cloud.dataflow")
        pytest.skip("reactionnet[gcp] is installed")
    with pytest.raises(ValueError, match=re.escape('needs pip install "reactionnet[gcp]"')):
        open_pipeline(read_options(ENOUGH), 1, tmp_path)


def test_beams_own_description_of_the_job_names_image_machine_and_disk():
    pytest.importorskip("google.cloud.dataflow", reason="reactionnet[gcp] is not installed")
    found = dry(job(**WEIGHTS), "--machine_type=n2-highmem-4", "--disk_size_gb=250")
    assert found.problems == ()
    assert found.job_bytes > 1000


class Outputs(PipelineVisitor):
    """The collections that transforms without parts give out, but for groups, which are streamed."""

    def __init__(self):
        self.found = []

    def visit_transform(self, transform_node):
        if not isinstance(transform_node.transform, beam.GroupByKey):
            self.found += [(transform_node.full_label, out) for out in transform_node.outputs.values()]


class Measure(beam.DoFn):
    """Notes the encoded size of every element."""

    def __init__(self, label: str, coder, file: Path):
        self._label, self._coder, self._file = label, coder, file

    def process(self, element):
        with self._file.open("a") as file:
            file.write(f"{self._label}\t{len(self._coder.encode(element))}\n")


def element_sizes(build: Build, file: Path) -> dict[str, list[int]]:
    """Bytes of each element of each collection of a build that is run here."""
    pipeline = beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([]))
    build_graph(pipeline, build)
    outputs = Outputs()
    pipeline.visit(outputs)
    for number, (label, collection) in enumerate(outputs.found):
        coder = registry.get_coder(collection.element_type)
        _ = collection | f"Measure{number}" >> beam.ParDo(Measure(label, coder, file))
    pipeline.run()
    sizes = defaultdict(list)
    for line in file.read_text().splitlines():
        label, size = line.split("\t")
        sizes[label].append(int(size))
    return sizes


def test_no_element_is_large(built, blip, deepface_home, tmp_path, monkeypatch):
    """Over a whole build whose decoding is on file: references of less than 4 KB each, in lists of a video's or a
    subject's at most.
    """
    monkeypatch.setenv(
        "DEEPFACE_HOME", os.devnull
    )  # the stage sets it, in this process: builds of other tests inherit it
    work = shutil.copytree(built.out.with_name("dataset.work"), tmp_path / "work")
    weights = {
        "captions": with_digest(find_blip(str(blip))),
        "demographics": with_digest(find_deepface(str(deepface_home))),
    }
    build = job(work=str(work), root=str(tmp_path / "set"), **weights)
    sizes = element_sizes(build, tmp_path / "sizes")
    assert read_manifest(tmp_path / "set")["splits"]
    for stage in (
        "SpreadSources",
        "Decode",
        "Assemble",
        "Caption",
        "Demographics",
        "WriteShards",
        "Tabulate",
        "Publish",
    ):
        assert any(label.startswith(stage) for label in sizes), stage
    largest = {label: max(found) for label, found in sizes.items()}
    assert max(largest.values()) < 1_000_000
    assert {label: size for label, size in largest.items() if size > 4096} == {}
