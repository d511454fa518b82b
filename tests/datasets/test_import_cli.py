"""The import command as a user runs it: resumed, in any number of processes, on Beam, and told wrong things."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from checks import chunks_of, digests
from fake.affectnet import write_later
from fake.disfa import write_disfa
from fake.every import SHARED, WRITERS
from fake.printed import picture, write
from reactionnet_datasets.about import load_importer
from reactionnet_datasets.import_plan import plan
from reactionnet_datasets.import_publish import publish
from reactionnet_datasets.importing import read_results, write_job, write_jobs
from reactionnet_datasets.release import Release

SMALL = ("--target-shard-bytes", "16000")


def start(*arguments, **options):
    command = [sys.executable, "-m", "reactionnet_datasets.import_cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def run(*arguments, code=0):
    process = start(*arguments)
    out, err = process.communicate(timeout=600)
    assert process.returncode == code, err
    return out, err


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    root = tmp_path_factory.mktemp("faces")
    for number in range(150):
        write(root / f"{number % 7}/{number}.jpg", picture(str(number)))
    return root


def test_any_number_of_processes_writes_the_same_bytes(faces, tmp_path):
    for workers in (1, 2):
        run("image_folder", faces, tmp_path / f"out{workers}", "--workers", workers, *SMALL, "-q")
    assert digests(tmp_path / "out1") == digests(tmp_path / "out2")
    content = json.loads((tmp_path / "out1/dataset.json").read_bytes())
    assert len(content["splits"]["train"]["shards"]) >= 8
    assert content["splits"]["train"]["frames"] == 150


def test_a_killed_import_goes_on_and_ends_alike(faces, tmp_path):
    run("image_folder", faces, tmp_path / "undisturbed", *SMALL, "-q", "--workers", 1)
    process = start("image_folder", faces, tmp_path / "out", *SMALL, "-q", "--workers", 1, start_new_session=True)
    done = tmp_path / "out.work/done"
    while process.poll() is None and len(list(done.glob("*.json"))) < 3:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = {path.name: path.stat().st_mtime_ns for path in done.glob("*.json")}
    assert before and not (tmp_path / "out/dataset.json").exists()
    run("image_folder", faces, tmp_path / "out", *SMALL, "-q", "--workers", 1)
    assert digests(tmp_path / "out") == digests(tmp_path / "undisturbed")
    after = {path.name: path.stat().st_mtime_ns for path in done.glob("*.json")}
    assert before.items() <= after.items(), "what was finished was written again"


def test_a_picture_that_changed_is_imported_anew(tmp_path):
    release = write_later(tmp_path / "later")
    run("affectnet", release, tmp_path / "out", "-q", "--workers", 1)
    before = digests(tmp_path / "out")
    changed = picture("another", width=72)
    (release / "train_set/images/2.jpg").write_bytes(changed)
    run("affectnet", release, tmp_path / "out", "-q", "--workers", 1)
    assert digests(tmp_path / "out") != before
    tars = b"".join(path.read_bytes() for path in (tmp_path / "out/shards").glob("train-*.tar"))
    assert changed in tars


@pytest.mark.slow
def test_the_beam_job_writes_the_same_bytes(tmp_path):
    release = write_disfa(tmp_path / "disfa")
    run("disfa", release, tmp_path / "local", "-q", "--workers", 1)
    run("disfa", release, tmp_path / "beam", "-q", "--runner", "FnApiRunner", "--direct_num_workers", "1")
    assert digests(tmp_path / "local") == digests(tmp_path / "beam")


@pytest.mark.slow
def test_every_data_set_is_the_same_on_beam_and_gets_landmarks(tmp_path):
    """The shards of all data sets as one Beam job, as starting Beam for each would take long."""
    planned = {}
    for name in sorted(WRITERS) if SHARED.is_dir() else sorted(set(WRITERS) - {"rendered_facs"}):
        root, module = WRITERS[name](tmp_path / name / "release"), load_importer(name)
        for how in ("local", "beam"):
            planned[name, how] = plan(
                Release(root), module, module.Options(), tmp_path / name / how, tmp_path / name / f"{how}.work",
                target_bytes=16_000, landmarks="dlib",
            )  # fmt: skip
    jobs = [job for (_, how), made in planned.items() if how == "beam" for job in made.jobs]
    write_jobs(tmp_path, jobs)
    command = [sys.executable, "-m", "reactionnet_pipeline.import_job", str(tmp_path), "--runner", "FnApiRunner"]
    subprocess.run(command, check=True, timeout=900)
    results = iter(read_results(tmp_path, len(jobs)))
    for (name, how), made in planned.items():
        written = [next(results) if how == "beam" else write_job(job) for job in made.jobs]
        publish(tmp_path / name / how, load_importer(name).ABOUT, made, written)
    for name in {name for name, _ in planned}:
        assert digests(tmp_path / name / "local") == digests(tmp_path / name / "beam"), name
        assert all("landmarks.npy" in arrays for _, arrays in chunks_of(tmp_path / name / "beam")), name


def test_list_names_terms_status_and_papers():
    out, _ = run("--list")
    for word in ("disfa:", "LicenseRef-DISFA", "mohammadmahoor.com", "format: confirmed", "format: unconfirmed", "AAR"):
        assert word in out


def test_the_doctor_answers_after_an_import_and_alone(tmp_path):
    release = write_disfa(tmp_path / "disfa")
    out, err = run("disfa", release, tmp_path / "out", "--doctor", "--workers", 1)
    assert "subjects expected 27, found 2: DIFFERS by -25" in " ".join(out.split())
    alone, _ = run("disfa", tmp_path / "out", "--doctor")
    assert alone == out
    report = json.loads((tmp_path / "out/import_report.json").read_bytes())
    assert report["doctor"][1]["verdict"] == "DIFFERS by -25"
    assert report["notes"]["frames without landmarks"]["count"] == 1
    assert "frames without landmarks" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("disffa", "R", "OUT"), "no importer is called 'disffa'; did you mean disfa?"),
        (("disfa", "R/none", "OUT"), "does not exist"),
        (("disfa", "R", "OUT", "--camra", "left"), "disfa has no option --camra; its options: --camera"),
        (("disfa", "R", "OUT", "--camera", "top"), "--camera top: expected left or right"),
        (("disfa", "R", "OUT", "--set", "camera"), "expected name=value"),
        (("disfa", "R", "R/inside"), "lies inside the release"),
        (("disfa", "R", "OUT", "more"), "one argument too many"),
        (("disfa", "R"), "OUT is missing"),
        (("disfa", "R", "OUT", "--landmarks", "best"), "expected none or dlib"),
        (("bp4d", "R", "OUT"), "it looks like disfa"),
        (
            ("disfa", "R", "OUT", "--camra", "left", "--runner", "FnApiRunner"),
            "no such option, of the data set or of Beam",
        ),
    ],
)
def test_a_slip_gets_one_message(tmp_path, arguments, message):
    root = write_disfa(tmp_path / "disfa")
    given = [str(word).replace("OUT", str(tmp_path / "out")) for word in arguments]
    given = [str(root) + word[1:] if word == "R" or word.startswith("R/") else word for word in given]
    _, err = run(*given, "-q", code=2)
    assert message in " ".join(err.split()).replace("- ", "-")
    assert "Traceback" not in err
