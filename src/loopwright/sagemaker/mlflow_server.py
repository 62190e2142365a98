"""MLflow tracking servers: `mlflow server`, run as a job of compute and bound to this machine."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import sys
import threading
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import Any

from loopwright.compute import Job, JobSpec, Resources
from loopwright.core.digest import digest_value
from loopwright.core.errors import InvalidInputError, LoopwrightError, NotFoundError
from loopwright.core.names import new_id
from loopwright.deploy import free_port
from loopwright.deploy.address import LOOPBACK, bound_socket
from loopwright.sagemaker.chore import chore
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.experiment import by_whom
from loopwright.sagemaker.pipeline.pipeline_record import in_time
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.shelf import Shelf, page_of
from loopwright.sagemaker.staging import refuse_missing_output
from loopwright.sagemaker.tag import drop_tags, keep_tags
from loopwright.store import Record

SERVERS = Shelf(
    kind="mlflow-tracking-server",
    missing="Tracking server with ARN {arn} does not exist.",
    missing_code="ResourceNotFound",
    taken="Tracking server with name {name} already exists: {arn}",
)
_log = logging.getLogger(__name__)
_RUNNING = ("Created", "Started", "Updated")
_COMING = {"Creating": "Created", "Starting": "Started", "Updating": "Updated"}
_NOT_COMING = {"Creating": "CreateFailed", "Starting": "StartFailed", "Updating": "UpdateFailed"}
_STOPPED = ("Stopped", "StopFailed", "CreateFailed", "StartFailed", "UpdateFailed")
_MOST_STARTS = 3
_GRACE_S = 10.0
_LOOK_S = 0.5
_PATIENCE = timedelta(minutes=5)
_STARTING = timedelta(minutes=1)
_QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


def mlflow_command() -> tuple[str, ...]:
    """Return how MLflow's own command line is run here.

    Raises
    ------
    ApiError
        If MLflow is not installed, or only the part of it that has no server.
    """
    if importlib.util.find_spec("mlflow") and importlib.util.find_spec("flask"):
        return (sys.executable, "-m", "mlflow")
    found = shutil.which("mlflow")
    if found:
        return (found,)
    raise validation(
        "MLflow is not installed on this machine. Install it (pip install mlflow) beside "
        "loopwright, or so that its command `mlflow` is on the PATH of the server."
    )


@serves(
    "sagemaker",
    "CreateMlflowTrackingServer",
    note="Runs `mlflow server` of the MLflow that is installed, on 127.0.0.1; size and maintenance "
    "window are kept and not applied.",
)
def create_server(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Start a tracking server; its data lies in the home, its artifacts in S3."""
    mlflow_command()
    refuse_missing_output(desk, given["ArtifactStoreUri"])
    record = SERVERS.create(
        desk,
        caller,
        given["TrackingServerName"],
        given,
        status="Creating",
        job="",
        port=0,
        starts=0,
    )
    keep_tags(desk, record.body["arn"], given.get("Tags", []))
    _start(desk, record, "Creating")
    return {"TrackingServerArn": record.body["arn"]}


def _folder(desk: Desk, record: Record) -> Path:
    # a server that is created again under a name begins with nothing
    seed = [record.body["arn"], record.created_at.isoformat()]
    name = digest_value(seed).removeprefix("sha256:")[:24]
    return desk.workspace.home / "sagemaker" / "mlflow" / name


def _start(desk: Desk, record: Record, status: str) -> Record:
    """Return the record of a server whose process has been started."""
    folder = _folder(desk, record)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    port = _port(record.body["port"])
    _, region, _ = record.key.split("/", 2)
    key, secret = desk.job_key
    store = f"sqlite:///{folder / 'mlflow.db'}"
    command = (
        *mlflow_command(),
        "server",
        *("--host", LOOPBACK, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", store, "--registry-store-uri", store),
        *("--default-artifact-root", record.body["request"]["ArtifactStoreUri"]),
        "--no-serve-artifacts",
    )
    job = desk.workspace.compute.submit(
        JobSpec(
            key=f"sagemaker/{record.body['arn']}/{new_id()}",
            name=f"mlflow-{record.body['name'].lower()[:40]}",
            kind="mlflow-server",
            command=command,
            env={
                **_QUIET,
                "AWS_ENDPOINT_URL": desk.url,
                "MLFLOW_S3_ENDPOINT_URL": desk.url,
                "AWS_REGION": region,
                "AWS_DEFAULT_REGION": region,
                "AWS_ACCESS_KEY_ID": key,
                "AWS_SECRET_ACCESS_KEY": secret,
                "AWS_EC2_METADATA_DISABLED": "true",
            },
            resources=Resources(cpus=1, memory="2 GiB"),
            counted=False,
            labels={"arn": record.body["arn"]},
        )
    )
    starts = record.body["starts"] + 1
    return SERVERS.change(desk, record, status=status, job=job.id, port=port, starts=starts)


def _port(known: int) -> int:
    """Return the port that a server had, if nobody else has it now, or a free one."""
    if known:
        try:
            bound_socket(LOOPBACK, known).close()
        except (LoopwrightError, OSError):
            return free_port()
    return known or free_port()


def _job(desk: Desk, record: Record) -> Job | None:
    try:
        return desk.workspace.compute.get(record.body["job"])
    except (NotFoundError, InvalidInputError):
        return None


def url_of(record: Record) -> str:
    """Return where a tracking server listens."""
    return f"http://{LOOPBACK}:{record.body['port']}"


@chore()
def look_after(desk: Desk) -> None:
    """Note which servers answer by now, which have ended, and start again what should run."""
    for record in SERVERS.all(desk):
        status = record.body["status"]
        if status not in (*_RUNNING, *_COMING, "Stopping", "Deleting"):
            continue
        if status in _COMING and not record.body["job"]:
            # somebody starts it in this moment, unless the server ended just then
            if desk.now() - record.updated_at > _STARTING:
                _start(desk, record, status)
            continue
        job = _job(desk, record)
        has_ended = job is None or job.state.has_ended
        if status in ("Stopping", "Deleting"):
            if has_ended:
                _gone(desk, record)
            elif desk.now() - record.updated_at > timedelta(seconds=3 * _GRACE_S):
                # told to end by a server that has ended itself
                _tell_to_end(desk, record)
        elif has_ended:
            _fallen(desk, record, job)
        elif status in _COMING and _answers(record):
            SERVERS.change(desk, record, status=_COMING[status], starts=0, version=_version(record))
        elif status in _COMING and desk.now() - record.updated_at > _PATIENCE:
            _tell_to_end(desk, record)
            SERVERS.change(desk, record, status=_NOT_COMING[status])


def _gone(desk: Desk, record: Record) -> None:
    if record.body["status"] == "Stopping":
        SERVERS.change(desk, record, status="Stopped")
        return
    shutil.rmtree(_folder(desk, record), ignore_errors=True)
    SERVERS.delete(desk, record)
    drop_tags(desk, record.body["arn"])


def _fallen(desk: Desk, record: Record, job: Job | None) -> None:
    status, name = record.body["status"], record.body["name"]
    last = desk.workspace.compute.log(job.id, tail_bytes=2000).strip()[-500:] if job else ""
    if status in _RUNNING and record.body["starts"] < _MOST_STARTS:
        _log.warning("The tracking server %s has ended; it is started again. %s", name, last)
        _start(desk, record, "Starting")
        return
    _log.warning("The tracking server %s could not be started. %s", name, last)
    SERVERS.change(desk, record, status=_NOT_COMING.get(status, "StartFailed"), starts=0)


def _answers(record: Record) -> bool:
    return _got(record, "/health") is not None


def _version(record: Record) -> str:
    return (_got(record, "/version") or "").strip()[:16]


def _got(record: Record, path: str) -> str | None:
    try:
        url = f"http://127.0.0.1:{record.body['port']}{path}"
        with urllib.request.urlopen(url, timeout=_LOOK_S) as answer:
            text: str = answer.read(1024).decode(errors="replace")
            return text
    except (urllib.error.URLError, OSError, ValueError):
        return None


def _tell_to_end(desk: Desk, record: Record) -> None:
    job = record.body["job"]
    if job:
        threading.Thread(
            target=desk.workspace.compute.stop,
            args=(job,),
            kwargs={"grace_s": _GRACE_S},
            daemon=True,
        ).start()


def _described(desk: Desk, record: Record) -> dict[str, Any]:
    body, request = record.body, record.body["request"]
    is_active = body["status"] in _RUNNING
    return {
        "TrackingServerArn": body["arn"],
        "TrackingServerName": body["name"],
        "ArtifactStoreUri": request["ArtifactStoreUri"],
        "TrackingServerSize": request.get("TrackingServerSize", "Small"),
        "MlflowVersion": body.get("version") or request.get("MlflowVersion"),
        "RoleArn": request["RoleArn"],
        "TrackingServerStatus": body["status"],
        "IsActive": "Active" if is_active else "Inactive",
        "TrackingServerUrl": url_of(record) if body["port"] else None,
        "WeeklyMaintenanceWindowStart": request.get("WeeklyMaintenanceWindowStart"),
        "AutomaticModelRegistration": request.get("AutomaticModelRegistration", False),
        **by_whom(desk, record),
    }


@serves("sagemaker", "DescribeMlflowTrackingServer")
def describe_server(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Tell how a tracking server is, and where."""
    return _described(desk, SERVERS.get(desk, caller, given["TrackingServerName"]))


@serves("sagemaker", "ListMlflowTrackingServers")
def list_servers(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List tracking servers."""
    wanted = {**in_time(given), "StatusEquals": given.get("TrackingServerStatus")}
    page, token = page_of(
        SERVERS.all(desk, caller),
        wanted,
        summary=lambda record: _described(desk, record),
        name="TrackingServerName",
        status="TrackingServerStatus",
    )
    return {"TrackingServerSummaries": page, "NextToken": token}


def _in_status(desk: Desk, caller: Caller, name: str, allowed: tuple[str, ...]) -> Record:
    record = SERVERS.get(desk, caller, name)
    if record.body["status"] not in allowed:
        raise ApiError(
            "ConflictException",
            f"Tracking server {record.body['arn']} is in status {record.body['status']}; this can "
            f"be done in status {', '.join(allowed)}.",
        )
    return record


@serves("sagemaker", "StartMlflowTrackingServer")
def start_server(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Start a tracking server that was stopped; what it knew is there again."""
    record = _in_status(desk, caller, given["TrackingServerName"], _STOPPED)
    _start(desk, record, "Starting")
    return {"TrackingServerArn": record.body["arn"]}


@serves("sagemaker", "StopMlflowTrackingServer")
def stop_server(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """End the process of a tracking server; its data stays."""
    record = _in_status(desk, caller, given["TrackingServerName"], _RUNNING)
    _tell_to_end(desk, SERVERS.change(desk, record, status="Stopping"))
    return {"TrackingServerArn": record.body["arn"]}


@serves("sagemaker", "UpdateMlflowTrackingServer", note="While it is stopped, or with a restart.")
def update_server(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Change a tracking server; one that runs is started anew if its artifacts go elsewhere."""
    record = _in_status(desk, caller, given["TrackingServerName"], (*_RUNNING, *_STOPPED))
    before = record.body["request"]
    if "ArtifactStoreUri" in given:
        refuse_missing_output(desk, given["ArtifactStoreUri"])
    moves = given.get("ArtifactStoreUri", before["ArtifactStoreUri"]) != before["ArtifactStoreUri"]
    request, job = {**before, **given}, record.body["job"]
    if moves and record.body["status"] in _RUNNING:
        record = SERVERS.change(desk, record, request=request, status="Updating", job="")
        desk.workspace.compute.stop(job, grace_s=_GRACE_S)
        _start(desk, record, "Updating")
    else:
        SERVERS.change(desk, record, request=request)
    return {"TrackingServerArn": record.body["arn"]}


@serves("sagemaker", "DeleteMlflowTrackingServer")
def delete_server(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """End a tracking server and forget its data; artifacts in S3 stay."""
    record = SERVERS.get(desk, caller, given["TrackingServerName"])
    _tell_to_end(desk, SERVERS.change(desk, record, status="Deleting"))
    return {"TrackingServerArn": record.body["arn"]}


@serves(
    "sagemaker",
    "CreatePresignedMlflowTrackingServerUrl",
    note="The address of the server, which only this machine can reach; it does not expire.",
)
def presigned_url(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return where a browser finds the pages of a tracking server."""
    record = _in_status(desk, caller, given["TrackingServerName"], _RUNNING)
    return {"AuthorizedUrl": f"{url_of(record)}/"}
