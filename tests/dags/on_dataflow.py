"""Run the DAG in mode dataflow against a small server that speaks the part of Dataflow's API which the DAG uses.

Started by Airflow's own interpreter: the operator, its hook and Google's client are the real ones; only the address and the
credentials are others. The tasks that need the cloud's files are marked as done. Prints what arrived.
"""

import json
import re
import sys
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import parse_qs, urlsplit

from airflow.dag_processing.dagbag import DagBag
from airflow.providers.google.cloud.hooks.dataflow import DataflowHook
from google.auth.credentials import AnonymousCredentials
from googleapiclient.discovery import build

CONF = {
    "sources": "gs://bucket/sources.jsonl", "out": "gs://bucket/set", "mode": "dataflow", "max_workers": 7,
    "allow_license": ["CC-BY-SA-4.0", "LicenseRef-a"], "set": ["decode.fps=10"], "require_consent": True,
    "project": "a-project", "region": "europe-west4", "template": "gs://bucket/template.json",
    "image": "region/p/r/i:0.1.0", "temp_location": "gs://bucket/tmp",
}  # fmt: skip
POLLS = 2  # how often a job is asked for before it ends


class Service:
    """Jobs by id. A name has at most one active job, as Dataflow has it."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict] = {}
        self.launched: list[dict] = []
        self.refused: list[str] = []
        self.end = "JOB_STATE_DONE"
        self.lock = Lock()

    def active(self, name: str | None) -> list[dict]:
        return [job for job in self.jobs.values() if job["name"] == name and job["currentState"] == "JOB_STATE_RUNNING"]

    def launch(self, parameter: dict) -> tuple[int, dict]:
        if self.active(parameter["jobName"]):
            self.refused.append(parameter["jobName"])
            return 409, {"error": {"code": 409, "message": "There is already an active job of this name"}}
        self.launched.append(parameter)
        return 200, {"job": self.start(parameter["jobName"])}

    def start(self, name: str) -> dict:
        job = {
            "id": f"job-{len(self.jobs)}", "name": name, "projectId": "a-project", "location": "europe-west4",
            "currentState": "JOB_STATE_RUNNING", "type": "JOB_TYPE_BATCH", "asked": 0,
        }  # fmt: skip
        self.jobs[job["id"]] = job
        return job

    def get(self, job_id: str) -> tuple[int, dict]:
        job = self.jobs[job_id]
        job["asked"] += 1
        if job["asked"] > POLLS:
            job["currentState"] = self.end
        return 200, job


def handler(service: Service) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert urlsplit(self.path).path.endswith("/locations/europe-west4/flexTemplates:launch"), self.path
            with service.lock:
                self.answer(*service.launch(body["launchParameter"]))

        def do_GET(self):
            url = urlsplit(self.path)
            one = re.search("/jobs/([^/]+)$", url.path)
            with service.lock:
                if one:
                    self.answer(*service.get(one[1]))
                else:
                    query = parse_qs(url.query)
                    assert query["filter"] == ["ACTIVE"], self.path
                    self.answer(200, {"jobs": service.active(query["name"][0])})

        def answer(self, status: int, content: dict):
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    return Handler


def main() -> None:
    service = Service()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(service))
    Thread(target=server.serve_forever, daemon=True).start()
    options = {"api_endpoint": f"http://127.0.0.1:{server.server_port}"}

    def local_service(hook):
        return build(
            "dataflow", "v1b3", credentials=AnonymousCredentials(), client_options=options, cache_discovery=False
        )

    DataflowHook.get_conn = local_service
    dag = DagBag(sys.argv[1]).dags["reactionnet_ingest"]
    for task in dag.tasks:
        task.retries = 0
        task.poll_sleep = 0.1  # of the one that polls
    elsewhere = re.compile("estimate|finish|validate|publish")

    def states(day: int, conf: dict = CONF) -> dict:
        when = datetime(2026, 1, day, 3, 4, 5, tzinfo=UTC)
        run = dag.test(run_conf=conf, logical_date=when, mark_success_pattern=elsewhere)
        return {instance.task_id: instance.state for instance in run.get_task_instances()}

    first = states(2)
    ran = {**service.jobs}
    # a job of that name runs: one whose task was lost
    left = service.start(service.launched[0]["jobName"])
    second = states(2)
    waited = left["currentState"] == "JOB_STATE_DONE"
    num_launched = len(service.launched)
    service.end = "JOB_STATE_FAILED"
    failed = states(3)
    service.launched = service.launched[:num_launched]
    assert waited and len(ran) == 1, (waited, ran)
    runs = (first, second, failed)
    found = {
        "launched": service.launched,
        "refused": service.refused,
        "states": [run["build_on_dataflow"] for run in runs],
        "finish": [run["finish"] for run in runs],
    }
    print("RESULT", json.dumps(found))


if __name__ == "__main__":
    main()
