"""The DAG loads in a real Airflow and runs the local build to published shards; Dataflow is a small server of ours.

Airflow lives in an environment of its own: the one that REACTIONNET_AIRFLOW_ENV names, or ~/.cache/reactionnet/airflow-env,
which is made once (2.2 GB, some minutes).
"""

import ast
import json
import os
import re
import subprocess
import sys
import time
import venv
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest

from builds import published, run_build
from reactionnet_datasets.stores import files_below

ROOT = Path(__file__).resolve().parents[2]
DAG = ROOT / "dags" / "reactionnet_ingest.py"
METADATA = json.loads((ROOT / "pipeline" / "flex_template" / "metadata.json").read_bytes())
REQUIREMENTS = (ROOT / "dags" / "requirements.txt").read_text().split()
VIDEOS = ("05_two_halves", "07_corner_with_border")


def imports_of(tree: ast.AST) -> set[str]:
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return modules | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("path", sorted((ROOT / "dags").glob("*.py")), ids=lambda path: path.name)
def test_a_dag_imports_neither_beam_nor_our_packages(path):
    modules = imports_of(ast.parse(path.read_text()))
    assert {name.partition(".")[0] for name in modules} <= {"airflow", *sys.stdlib_module_names}
    assert not [name for name in modules if "beam" in name]


def test_what_the_dag_hands_on_is_what_the_flex_template_takes():
    tree = ast.parse(DAG.read_text())
    (options,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "OPTIONS"
    ]
    assert {*options, "sources", "out", "work"} == {each["name"] for each in METADATA["parameters"]} - {"log_level"}


@pytest.fixture(scope="session")
def airflow_bin() -> Path:
    """The folder of Airflow's commands."""
    folder = Path(os.environ.get("REACTIONNET_AIRFLOW_ENV") or Path.home() / ".cache" / "reactionnet" / "airflow-env")
    if not (folder / "bin" / "airflow").exists():
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", *REQUIREMENTS], check=True)
    return folder / "bin"


@pytest.fixture
def airflow(airflow_bin, tmp_path):
    """Run a program of Airflow's environment with a home of its own; its output."""
    commands = Path(sys.executable).parent
    environment = os.environ | {
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": json.dumps({"conn_type": "google_cloud_platform"}),
        "PATH": f"{commands}:{os.environ['PATH']}",
    }

    def start(program: str, *arguments: object, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [airflow_bin / program, *map(str, arguments)], text=True, env=environment | variables, cwd=tmp_path,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def run(program: str, *arguments: object, code: int = 0, **variables: str) -> str:
        process = start(program, *arguments, **variables)
        output, _ = process.communicate(timeout=3600)
        assert process.returncode == code, output[-5000:]
        return output

    run("airflow", "db", "migrate")
    run.start = start
    return run


LOADS = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
tasks = {task.task_id: sorted(task.downstream_task_ids) for task in bag.dags["reactionnet_ingest"].tasks}
heavy = [name for name in sys.modules if name.partition(".")[0] == "apache_beam" or name.startswith("reactionnet_p")]
print("RESULT", json.dumps([bag.import_errors, sorted(bag.dags), tasks, heavy]))
"""


def result_of(output: str):
    return json.loads(output.split("RESULT ", 1)[1].splitlines()[0])


@pytest.mark.slow
def test_the_dagbag_loads(airflow):
    errors, dags, tasks, heavy = result_of(airflow("python", "-c", LOADS, ROOT / "dags"))
    assert (errors, dags, heavy) == ({}, ["reactionnet_ingest"], [])
    steps = {name: set(after) - {"notify_failure"} for name, after in tasks.items()}
    assert steps == {
        "estimate": {"where"},
        "where": {"build_here", "build_on_dataflow"},
        "build_here": {"validate"},
        "build_on_dataflow": {"finish"},
        "finish": {"validate"},
        "validate": {"publish"},
        "publish": {"notify_success"},
        "notify_success": set(),
        "notify_failure": set(),
    }


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """Two small drawn videos with their manifest."""
    from reactionnet_pipeline.demo import draw_all

    folder = tmp_path_factory.mktemp("drawn")
    draw_all(folder, VIDEOS)
    return folder / "sources.jsonl"


@pytest.fixture
def webhook():
    """What was posted to a server, path and message, and the connection that names it."""
    posted: list[tuple[str, dict]] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    Thread(target=server.serve_forever, daemon=True).start()
    host = f"http://127.0.0.1:{server.server_port}/services"
    yield posted, json.dumps({"conn_type": "http", "host": host, "password": "T0/s3cr3t"})
    server.shutdown()


@pytest.mark.slow
def test_a_local_run_publishes_and_a_killed_or_repeated_one_changes_nothing(airflow, drawn, webhook, tmp_path):
    posted, connection = webhook
    run_build(drawn, tmp_path / "direct", "--split-ratio", "0.4,0.3,0.3")
    expected = published(tmp_path / "direct")
    out = tmp_path / "set"
    conf = {"sources": str(drawn), "out": str(out), "split_ratio": "0.4,0.3,0.3", "notify_conn_id": "chat"}
    command = ("dags", "test", "reactionnet_ingest", "--conf", json.dumps(conf))

    killed = airflow.start("airflow", *command, AIRFLOW_CONN_CHAT=connection)
    deadline = time.monotonic() + 1800
    while not files_below(tmp_path / "set.work" / "decode") and time.monotonic() < deadline:
        assert killed.poll() is None, killed.communicate()[0][-5000:]
        time.sleep(0.2)
    for process in [*psutil.Process(killed.pid).children(recursive=True), killed]:
        process.kill()
    killed.wait()
    assert not out.exists()

    output = airflow("airflow", *command, AIRFLOW_CONN_CHAT=connection)
    assert published(out) == expected
    assert posted[0][0] == "/services/T0/s3cr3t"
    assert re.fullmatch(rf"reactionnet_ingest manual__\S+ published {out}", posted[0][1]["text"])
    assert "s3cr3t" not in output

    before = {name: (out / name).stat().st_mtime_ns for name in expected}
    again = airflow("airflow", *command, AIRFLOW_CONN_CHAT=connection)
    assert "nothing to do" in again
    assert {name: (out / name).stat().st_mtime_ns for name in expected} == before
    assert published(out) == expected
    assert files_below(out).keys() == expected.keys() | {"run_report.json", "report.html"}
    assert len(posted) == 2


# no retries: the test would wait five minutes for each
RUNS = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
dag = DagBag(sys.argv[1]).dags["reactionnet_ingest"]
for task in dag.tasks:
    task.retries = 0
run = dag.test(run_conf=json.loads(sys.argv[2]))
print("RESULT", json.dumps([run.state, {ti.task_id: ti.state for ti in run.get_task_instances()}]))
"""


@pytest.mark.slow
def test_a_failure_is_told_and_nothing_is_published(airflow, drawn, webhook, tmp_path):
    posted, connection = webhook
    rows = [json.loads(line) for line in drawn.read_text().splitlines()]
    broken = tmp_path / "sources.jsonl"
    broken.write_text("".join(json.dumps({**row, "uri": "/no/such.mp4"}) + "\n" for row in rows))
    conf = {"sources": str(broken), "out": str(tmp_path / "o'ut $(date)"), "notify_conn_id": "chat"}
    state, tasks = result_of(
        airflow("python", "-c", RUNS, ROOT / "dags", json.dumps(conf), AIRFLOW_CONN_CHAT=connection)
    )
    assert state == "failed"
    assert (tasks["publish"], tasks["notify_success"], tasks["notify_failure"]) == (
        "upstream_failed", "upstream_failed", "success",
    )  # fmt: skip
    assert [message["text"].endswith(f"FAILED: {conf['out']}") for _, message in posted] == [True]
    assert not (tmp_path / "o'ut $(date)").exists()


@pytest.mark.slow
def test_dataflow_gets_what_the_template_takes_and_a_job_that_runs_is_waited_for(airflow):
    found = result_of(airflow("python", ROOT / "tests" / "dags" / "on_dataflow.py", ROOT / "dags"))
    parameters = {each["name"]: each for each in METADATA["parameters"]}
    launched, refused = found["launched"], found["refused"]
    (launch,) = launched
    assert re.fullmatch(r"reactionnet-ingest-20260102t030405-[0-9a-f]{8}", launch["jobName"])
    for name, value in launch["parameters"].items():
        assert all(re.fullmatch(regex, value) for regex in parameters[name]["regexes"]), (name, value)
    assert launch["parameters"]["out"] == "gs://bucket/set.candidate"
    assert launch["parameters"]["allow_license"] == "CC-BY-SA-4.0;LicenseRef-a"
    assert launch["environment"] == {
        "sdkContainerImage": "region/p/r/i:0.1.0", "tempLocation": "gs://bucket/tmp", "maxWorkers": "7",
    }  # fmt: skip
    assert found["states"] == ["success", "success", "failed"]
    assert found["finish"] == ["success", "success", "upstream_failed"]
    assert refused == []
