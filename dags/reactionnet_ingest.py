"""The ingestion DAG: estimate -> build (here or on Dataflow) -> validate -> publish -> notify.

Operators and parameters only: the work is done by the commands of `reactionnet`, in whatever environment they are
installed, so that this file imports neither them nor Beam. See dags/README.md.
"""

import hashlib
import json
import logging
import shlex
import urllib.request
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.google.cloud.operators.dataflow import DataflowStartFlexTemplateOperator
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Asset, BaseHook, Param, TriggerRule, task
from airflow.sdk.exceptions import AirflowFailException

LOG = logging.getLogger(__name__)
# what is handed on to reactionnet-build, where it is given
OPTIONS = (
    "split", "allow_license", "require_consent", "tombstones", "layouts", "annotations", "caption_model",
    "embedding_model", "demographics_model", "clips", "key_frames", "split_ratio", "disjoint", "target_shard_bytes",
    "max_loss", "set",
)  # fmt: skip
DATAFLOW_NEEDS = ("project", "region", "template", "image", "temp_location")


def text(maximum: int = 1024, pattern: str = r"^\S.*$", **schema: Any) -> dict[str, Any]:
    return {"type": "string", "maxLength": maximum, "pattern": pattern, **schema}


def optional(**schema: Any) -> dict[str, Any]:
    return {**schema, "type": ["null", schema["type"]]}


FOLDER = r"^\S.*[^/\s]$"  # no slash at the end: .candidate and .work are appended
GCS = r"^gs://[a-z0-9][a-z0-9._-]{1,221}(/[^\n\r]*)?$"
WORDS = {"type": "array", "items": {"type": "string", "pattern": r"^[^;\n\r]+$"}}
PARAMS = {
    "sources": Param(description="Manifest: JSONL, CSV or Parquet; a path or gs://", **text()),
    "out": Param(description="Where the data set is published; a folder or gs://", **text(pattern=FOLDER)),
    "work": Param(None, description="Work folder, kept between runs [OUT.work]", **optional(**text(pattern=FOLDER))),
    "mode": Param("local", enum=["local", "dataflow"], description="Build on this worker, or on Dataflow"),
    "workers": Param(0, type="integer", minimum=0, description="Local: worker processes; 0 takes one a core"),
    "split": Param("all", enum=["all", "train", "val", "test"]),
    "max_loss": Param(0.2, type="number", minimum=0, maximum=1, description="Publish nothing where more is lost"),
    "allow_license": Param([], description="Further SPDX or LicenseRef- identifiers", **WORDS),
    "require_consent": Param(False, type="boolean"),
    "tombstones": Param(None, description="File of takedowns", **optional(**text())),
    "layouts": Param(None, description="Layouts drawn by hand", **optional(**text())),
    "annotations": Param(None, description="FACS codes and corrected captions", **optional(**text())),
    "caption_model": Param(None, **optional(**text())),
    "embedding_model": Param(None, **optional(**text())),
    "demographics_model": Param(None, **optional(**text())),
    "clips": Param(None, type=["null", "string"], enum=[None, "all", "highlights"]),
    "key_frames": Param(None, type=["null", "integer"], minimum=0),
    "split_ratio": Param(None, **optional(**text(pattern=r"^[0-9.]+,[0-9.]+,[0-9.]+$"))),
    "disjoint": Param(None, type=["null", "string"], enum=[None, "subject", "both"]),
    "target_shard_bytes": Param(None, type=["null", "integer"], minimum=4096),
    "set": Param([], description="Further settings: stage.field=value", **WORDS),
    "project": Param(None, description="Dataflow: project", **optional(**text(64, r"^[a-z][a-z0-9.:-]+$"))),
    "region": Param(None, description="Dataflow: region", **optional(**text(64, r"^[a-z]+-[a-z]+[0-9]+$"))),
    "template": Param(None, description="Dataflow: gs:// file of the flex template", **optional(**text(pattern=GCS))),
    "image": Param(None, description="Dataflow: the image that the template was built from", **optional(**text())),
    "temp_location": Param(
        None, description="Dataflow: gs:// folder for its own files", **optional(**text(pattern=GCS))
    ),
    "max_workers": Param(None, type=["null", "integer"], minimum=1, description="Dataflow: at most so many machines"),
    "machine_type": Param(None, description="Dataflow: machine type", **optional(**text(64))),
    "service_account": Param(None, description="Dataflow: e-mail of the workers' account", **optional(**text(256))),
    "build_command": Param("reactionnet-build", description="On PATH of the worker, or a path", **text()),
    "validate_command": Param("reactionnet-validate", **text()),
    "publish_command": Param("reactionnet-publish", **text()),
    "notify_conn_id": Param(None, description="Connection of a webhook, such as Slack's", **optional(**text(250))),
}


def command_line(params: Mapping[str, Any]) -> str:
    """Sources, folders and OPTIONS for bash, each value quoted."""
    folders = {"sources": params["sources"], "out": candidate(params), "work": work(params)}
    given = {**folders, **{name: params[name] for name in OPTIONS}}
    words: list[str] = []
    for name, value in given.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words += [flag] if value else []
        elif value is not None:
            words += [f"{flag}={each}" for each in (value if isinstance(value, list) else [value])]
    return shlex.join(words)


def template_value(value: Any) -> str:
    """A value as the flex template takes it; empty where it is to be left out."""
    if isinstance(value, bool):
        return "true" if value else ""
    if isinstance(value, list):
        return ";".join(value)
    return "" if value is None else str(value)


def candidate(params: Mapping[str, Any]) -> str:
    """Where the build publishes what is not validated yet. The same for every run, so that nothing is built twice."""
    return f"{params['out']}.candidate"


def work(params: Mapping[str, Any]) -> str:
    return params["work"] or f"{params['out']}.work"


def job_name(dag_id: str, when: datetime, params: Mapping[str, Any]) -> str:
    """The same for every try of a run: DAG, logical date and a digest of all parameters."""
    inputs = json.dumps(dict(params), sort_keys=True).encode()
    return f"{dag_id}-{when:%Y%m%dt%H%M%S}-{hashlib.sha256(inputs).hexdigest()[:8]}".replace("_", "-").lower()


class StartOrFindFlexTemplate(DataflowStartFlexTemplateOperator):
    """Start the job, or wait for the running one of its name, which a lost try of this task left behind.

    Dataflow refuses a second active job of a name; the operator alone would take that for a failure.
    """

    def execute(self, context):
        launch = self.body["launchParameter"]
        for part in ("parameters", "environment"):
            launch[part] = {name: value for name, value in launch[part].items() if value not in ("", "None")}
        where = {"projectId": self.project_id, "location": self.location}
        jobs = self.hook.get_conn().projects().locations().jobs()
        active = jobs.list(**where, name=launch["jobName"], filter="ACTIVE").execute().get("jobs", [])
        for job in active:
            self.log.info("job %s (%s) is running already: waiting for it", job["name"], job["id"])
            self.hook.wait_for_done(
                job_name=job["name"], job_id=job["id"], project_id=self.project_id, location=self.location
            )
        return active[0] if active else super().execute(context)


with DAG(
    dag_id="reactionnet_ingest",
    description="Reaction videos in, validated and published shards out",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    tags=["reactionnet"],
    params=PARAMS,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5), "retry_exponential_backoff": True},
    user_defined_macros={
        "candidate": candidate,
        "command_line": command_line,
        "job_name": job_name,
        "template_value": template_value,
        "work": work,
    },
    user_defined_filters={"quote": shlex.quote},
) as dag:
    estimate = BashOperator(
        task_id="estimate",
        bash_command="{{ params.build_command | quote }} --estimate --json {{ command_line(params) }}",
        execution_timeout=timedelta(minutes=30),
        do_xcom_push=False,
    )

    @task.branch
    def where(params: Mapping[str, Any]) -> str:
        missing = [name for name in DATAFLOW_NEEDS if not params[name]]
        if params["mode"] == "dataflow" and missing:
            raise AirflowFailException(f"mode dataflow needs the parameters {', '.join(missing)}")
        return {"local": "build_here", "dataflow": "build_on_dataflow"}[params["mode"]]

    build_here = BashOperator(
        task_id="build_here",
        bash_command="{{ params.build_command | quote }} {{ command_line(params) }} --workers {{ params.workers }}",
        execution_timeout=timedelta(days=3),
        do_xcom_push=False,
    )

    build_on_dataflow = StartOrFindFlexTemplate(
        task_id="build_on_dataflow",
        project_id="{{ params.project }}",
        location="{{ params.region }}",
        body={
            "launchParameter": {
                "jobName": "{{ job_name(dag.dag_id, dag_run.logical_date or dag_run.run_after, params) }}",
                "containerSpecGcsPath": "{{ params.template }}",
                "parameters": {
                    "sources": "{{ params.sources }}",
                    "out": "{{ candidate(params) }}",
                    "work": "{{ work(params) }}",
                    **{name: f"{{{{ template_value(params.{name}) }}}}" for name in OPTIONS},
                },
                "environment": {
                    "sdkContainerImage": "{{ params.image }}",
                    "tempLocation": "{{ params.temp_location }}",
                    "maxWorkers": "{{ params.max_workers }}",
                    "machineType": "{{ params.machine_type }}",
                    "serviceAccountEmail": "{{ params.service_account }}",
                },
            }
        },
        append_job_name=False,
        wait_until_finished=True,
        poll_sleep=30,
        execution_timeout=timedelta(days=7),
    )

    # the job publishes by itself; its launcher is gone by then and could neither write the report nor fail the run
    finish = BashOperator(
        task_id="finish",
        bash_command="{{ params.build_command | quote }} --finish {{ command_line(params) }}",
        execution_timeout=timedelta(hours=1),
        do_xcom_push=False,
    )

    validate = BashOperator(
        task_id="validate",
        bash_command="{{ params.validate_command | quote }} {{ candidate(params) | quote }}",
        trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,  # one of the two builds is skipped
        execution_timeout=timedelta(hours=12),
    )

    publish = BashOperator(
        task_id="publish",
        bash_command="{{ params.publish_command | quote }} {{ candidate(params) | quote }} {{ params.out | quote }}",
        execution_timeout=timedelta(hours=12),
        outlets=[Asset("reactionnet_dataset")],  # schedule training on it
    )

    @task(execution_timeout=timedelta(minutes=5))
    def notify(outcome: str, params: Mapping[str, Any], dag_run) -> None:
        """A line in the log and, where a connection is named, a message to its webhook: URL in host, secret in password."""
        message = f"{dag_run.dag_id} {dag_run.run_id}: {outcome} {params['out']}"
        LOG.info(message)
        if params["notify_conn_id"]:
            connection = BaseHook.get_connection(params["notify_conn_id"])
            url = "/".join(filter(None, (connection.host, connection.password)))
            body = json.dumps({"text": message}).encode()
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            urllib.request.urlopen(request, timeout=30).close()

    chosen = where()
    estimate >> chosen >> [build_here, build_on_dataflow]
    build_on_dataflow >> finish
    [build_here, finish] >> validate >> publish
    publish >> notify.override(task_id="notify_success")("published")
    everything = [estimate, chosen, build_here, build_on_dataflow, finish, validate, publish]
    everything >> notify.override(task_id="notify_failure", trigger_rule=TriggerRule.ONE_FAILED)("FAILED:")
