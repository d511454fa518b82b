"""Wheel and sdist: what is in them, and that each, installed in a clean environment, builds a data set."""

import os
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCE = {"datasets": "reactionnet_datasets", "models": "reactionnet_models", "pipeline": "reactionnet_pipeline"}
VIDEOS = ("05_two_halves", "07_corner_with_border")
DRAW = f"""
from pathlib import Path
from reactionnet_pipeline import demo
if __name__ == "__main__":
    print(demo.__file__)
    demo.draw_all(Path("videos"), {VIDEOS!r})
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    """Both kinds, made from the files that git knows."""
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    source.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x"], cwd=source, input=archive, check=True)
    command = [sys.executable, "-P", "-m", "build", "--outdir", str(folder), str(source)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist, "source": source}


def package_files(source: Path) -> set[str]:
    """Every module and every file that a module reads, as they are named once installed."""
    found = set()
    for folder, package in SOURCE.items():
        for path in (source / folder / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found.add(path.relative_to(source / folder).as_posix())
    return found


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(built):
    names = set(zipfile.ZipFile(built["wheel"]).namelist())
    metadata = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    assert names - metadata == package_files(built["source"])
    assert {name.split("/", 1)[1] for name in metadata} >= {"licenses/LICENSE", "entry_points.txt", "METADATA"}


@pytest.mark.slow
def test_the_sdist_holds_the_packages_the_licence_and_the_tests(built):
    with tarfile.open(built["sdist"]) as tar:
        names = {member.name.split("/", 1)[1] for member in tar if member.isfile()}
    packages = {f"{folder}/{name}" for folder, package in SOURCE.items() for name in package_files(built["source"])
                if name.startswith(package)}  # fmt: skip
    assert packages <= names
    assert {"LICENSE", "README.md", "CHANGELOG.md", "MODELS.md", "pyproject.toml"} <= names
    assert {"tests/test_distribution.py", "dags/reactionnet_ingest.py", "pipeline/Dockerfile"} <= names


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_installed_in_a_clean_environment_it_builds_a_data_set(built, kind, tmp_path):
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}

    def run(program: str, *arguments: object) -> str:
        command = [environment / "bin" / program, *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{program}: {done.stdout[-2000:]}{done.stderr[-3000:]}"
        return done.stdout

    run("pip", "install", "--quiet", "--no-cache-dir", f"{built[kind]}[pipeline]")
    run("pip", "check")
    assert {path.name for path in (environment / "bin").glob("reactionnet-*")} == set(PROJECT["project"]["scripts"])
    for command in sorted(PROJECT["project"]["scripts"]):
        if not PROJECT["project"]["scripts"][command].startswith("reactionnet_models"):  # those need [train]
            assert PROJECT["project"]["version"] in run(command, "--version")
    (tmp_path / "draw.py").write_text(DRAW)
    assert str(environment) in run("python", "draw.py")
    run("reactionnet-build", "--sources", "videos/sources.jsonl", "--out", "set", "--split-ratio", "1,0,0", "-q")
    assert "no faults" in run("reactionnet-validate", "set")
    report = run("python", "-c", "import json; print(json.load(open('set/run_report.json'))['counts'])")
    assert report.strip() == str({"admitted": len(VIDEOS), "built": len(VIDEOS), "lost": 0})
