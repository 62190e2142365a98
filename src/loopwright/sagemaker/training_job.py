"""Training jobs: created, described, listed, stopped; the job record of compute says how they are."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from loopwright.compute import Job, JobState
from loopwright.sagemaker import checkpoint
from loopwright.sagemaker.checking import check_given
from loopwright.sagemaker.chore import chore
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.shelf import Shelf, page_of_jobs
from loopwright.sagemaker.tag import keep_tags
from loopwright.sagemaker.training_order import (
    GRACE_S,
    checked_training,
    job_key,
    metric_definitions_of,
    staging_folder,
    training_spec,
)
from loopwright.sagemaker.training_result import settled
from loopwright.store import Record
from loopwright.train.script_metric import read_metrics
from loopwright.train.script_worker import METRICS_FILE

JOBS = Shelf(
    kind="training-job",
    missing="Requested resource not found.",
    taken="Training job names must be unique within an AWS account and region, and a training job "
    "with this name already exists ({arn})",
    taken_code="ResourceInUse",
)
_log = logging.getLogger(__name__)
_SUBMITTING = timedelta(minutes=5)
_ECHOED = (
    "AlgorithmSpecification",
    "CheckpointConfig",
    "DebugHookConfig",
    "DebugRuleConfigurations",
    "EnableInterContainerTrafficEncryption",
    "EnableManagedSpotTraining",
    "EnableNetworkIsolation",
    "Environment",
    "ExperimentConfig",
    "HyperParameters",
    "InputDataConfig",
    "OutputDataConfig",
    "ProfilerConfig",
    "ProfilerRuleConfigurations",
    "RemoteDebugConfig",
    "ResourceConfig",
    "RetryStrategy",
    "RoleArn",
    "StoppingCondition",
    "TensorBoardOutputConfig",
    "VpcConfig",
)


@serves(
    "sagemaker",
    "CreateTrainingJob",
    note="Instances are processes on one machine; an algorithm trains as one. Debugger, profiler, VPC "
    "and encryption settings are kept and not applied; spot settings and warm pools are accepted.",
)
def create_training_job(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Start a training job."""
    return {"TrainingJobArn": begin_training(desk, caller, given).body["arn"]}


def begin_training(
    desk: Desk, caller: Caller, given: Mapping[str, Any], *, tuning: Mapping[str, Any] | None = None
) -> Record:
    """Start a training job and return its record.

    Parameters
    ----------
    tuning
        What a tuning job keeps with one of its own.
    """
    from loopwright.sagemaker.experiment import check_experiment, enter_job

    check_given(given, "AlgorithmSpecification", "ResourceConfig")
    check_experiment(desk, caller, given.get("ExperimentConfig"))
    image, note = checked_training(desk, caller, given)
    name = given["TrainingJobName"]
    more = {"note": note} if tuning is None else {"note": note, "tuning": tuning}
    record = JOBS.create(desk, caller, name, given, **more)
    arn = record.body["arn"]
    try:
        spec = training_spec(desk, caller, given, arn=arn, image=image)
        job = desk.workspace.compute.submit(spec)
    except BaseException:
        JOBS.delete(desk, record)
        raise
    enter_job(desk, caller, given.get("ExperimentConfig"), job.id)
    keep_tags(desk, arn, given.get("Tags", []))
    return record


def job_of(desk: Desk, record: Record) -> Job | None:
    """Return the job behind a record, as compute has it."""
    return desk.workspace.compute.find(job_key(record.body["arn"]))


def status_of(job: Job | None, record: Record) -> tuple[str, str]:
    """Return the status and the secondary status of a training job."""
    if job is None:
        # it is submitted in this moment, unless the server ended just then
        is_young = datetime.now(UTC) - record.created_at < _SUBMITTING
        return ("InProgress", "Starting") if is_young else ("Failed", "Failed")
    is_settled = record.body.get("settled") is not None
    if not job.state.has_ended:
        if job.state is JobState.STOPPING:
            return "Stopping", "Stopping"
        return "InProgress", "Training" if job.started_at else "Starting"
    if not is_settled:
        return "InProgress", "Uploading"
    return (
        _END[job.state]
        if not record.body["settled"]["timed_out"]
        else (
            "Stopped",
            "MaxRuntimeExceeded",
        )
    )


_END = {
    JobState.SUCCEEDED: ("Completed", "Completed"),
    JobState.FAILED: ("Failed", "Failed"),
    JobState.STOPPED: ("Stopped", "Stopped"),
}


_ENDED = ("Completed", "Failed", "Stopped")
_UPDATED = ("ProfilerRuleConfigurations",)


@serves("sagemaker", "DescribeTrainingJob")
def describe_training_job(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Tell how a training job is."""
    return described(desk, JOBS.get(desk, caller, given["TrainingJobName"]))


def described(desk: Desk, record: Record) -> dict[str, Any]:
    """Return the description of a training job."""
    job = job_of(desk, record)
    record = settled(desk, JOBS, record, job)
    request, ends = record.body["request"], record.body.get("settled") or {}
    status, secondary = status_of(job, record)
    artifact = ends.get("artifact") or _artifact(request)
    started, ended = (job.started_at, job.ended_at) if job else (None, None)
    # a second that has begun is told as one, as it is at AWS
    seconds = max(1, math.ceil((ended - started).total_seconds())) if started and ended else None
    return {
        "TrainingJobName": record.body["name"],
        "TrainingJobArn": record.body["arn"],
        "TuningJobArn": record.body.get("tuning", {}).get("arn"),
        "ModelArtifacts": {"S3ModelArtifacts": artifact},
        "TrainingJobStatus": status,
        "SecondaryStatus": secondary,
        "FailureReason": _reason(job, ends) if status == "Failed" else None,
        "CreationTime": record.created_at,
        "LastModifiedTime": record.body["modified_at"],
        "TrainingStartTime": started,
        "TrainingEndTime": ended,
        "TrainingTimeInSeconds": seconds,
        "BillableTimeInSeconds": seconds,
        "SecondaryStatusTransitions": _transitions(record, job, status, secondary),
        "WarmPoolStatus": warm_pool(record, job, status, now=desk.now()),
        "FinalMetricDataList": final_metrics(job) or None,
        "EnableNetworkIsolation": False,
        "EnableInterContainerTrafficEncryption": False,
        "EnableManagedSpotTraining": False,
        **{key: request[key] for key in _ECHOED if key in request},
        # those of the algorithm as well, which the second SDK looks for
        "AlgorithmSpecification": {
            **request["AlgorithmSpecification"],
            "MetricDefinitions": metric_definitions_of(request) or None,
        },
        # the second SDK reads this one without asking whether it is there
        "OutputDataConfig": {"KmsKeyId": "", **request["OutputDataConfig"]},
    }


def _reason(job: Job | None, ends: Mapping[str, Any]) -> str | None:
    if job is None:
        return (
            "InternalServerError: The server ended before the job could be submitted. Please retry."
        )
    return ends.get("failure") or None


def _artifact(request: Mapping[str, Any]) -> str:
    about = request["OutputDataConfig"]
    name = "model/" if about.get("CompressionType") == "NONE" else "model.tar.gz"
    path = about.get("S3OutputPath", "").rstrip("/")
    return f"{path}/{request['TrainingJobName']}/output/{name}"


def final_metrics(job: Job | None) -> list[dict[str, Any]]:
    """Return the last value of each metric a job has printed."""
    last = {}
    for each in metrics_of(job):
        if each["value"] is not None:
            last[each["name"]] = each
    return [
        {"MetricName": name, "Value": each["value"], "Timestamp": each["at"]}
        for name, each in last.items()
    ]


def metrics_of(job: Job | None) -> list[dict[str, Any]]:
    """Return every metric a job has printed, in order."""
    return read_metrics(job.out / METRICS_FILE) if job else []


def _transitions(
    record: Record, job: Job | None, status: str, secondary: str
) -> list[dict[str, Any]]:
    note = record.body.get("note", "")
    found: list[tuple[str, datetime, str]] = [
        ("Starting", record.created_at, f"Preparing the instances for training. {note}".strip())
    ]
    if job and job.started_at:
        found.append(("Downloading", job.started_at, "Downloading input data"))
        found.append(
            ("Training", job.started_at, "Training image download completed. Training in progress.")
        )
    if job and job.ended_at:
        found.append(("Uploading", job.ended_at, "Uploading generated training model"))
    if status in ("Completed", "Failed", "Stopped"):
        at = datetime.fromisoformat(record.body["modified_at"])
        text = {"Completed": "Training job completed", "Failed": "Training job failed"}
        found.append((secondary, at, text.get(status, "Training job stopped")))
    ends = [each[1] for each in found[1:]] + [
        None if status in ("InProgress", "Stopping") else found[-1][1]
    ]
    return [
        {"Status": name, "StartTime": at, "EndTime": end, "StatusMessage": text}
        for (name, at, text), end in zip(found, ends, strict=True)
    ]


@serves("sagemaker", "ListTrainingJobs")
def list_training_jobs(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List training jobs."""
    page, token = page_of_jobs(
        JOBS.all(desk, caller),
        given,
        summary=lambda record: _summary(desk, record),
        name="TrainingJobName",
        status="TrainingJobStatus",
    )
    return {"TrainingJobSummaries": page, "NextToken": token}


def _summary(desk: Desk, record: Record) -> dict[str, Any]:
    job = job_of(desk, record)
    status, secondary = status_of(job, record)
    return {
        "TrainingJobName": record.body["name"],
        "TrainingJobArn": record.body["arn"],
        "CreationTime": record.created_at,
        "LastModifiedTime": datetime.fromisoformat(record.body["modified_at"]),
        "TrainingEndTime": job.ended_at if job else None,
        "TrainingJobStatus": status,
        "SecondaryStatus": secondary,
    }


@serves("sagemaker", "StopTrainingJob")
def stop_training_job(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Tell a training job to end; it has 120 seconds, and its model is kept."""
    record = JOBS.get(desk, caller, given["TrainingJobName"])
    job = job_of(desk, record)
    status, _ = status_of(job, record)
    if job is None or status not in ("InProgress", "Stopping") or job.state.has_ended:
        raise validation(
            f"The request was rejected because the training job is in status {status}."
        )
    tell_to_end(desk, job)
    return {}


def tell_to_end(desk: Desk, job: Job) -> None:
    """Tell a job to end, and return before it has; it has 120 seconds."""
    thread = threading.Thread(
        target=desk.workspace.compute.stop, args=(job.id,), kwargs={"grace_s": GRACE_S}, daemon=True
    )
    thread.start()
    # until the request to stop is known, which takes a moment
    thread.join(0.3)


def warm_pool(
    record: Record, job: Job | None, status: str, *, now: datetime
) -> dict[str, Any] | None:
    """Return how the instances of a job are that it wants to keep; a machine is always warm."""
    seconds = record.body["request"]["ResourceConfig"].get("KeepAlivePeriodInSeconds")
    if not seconds:
        return None
    if status not in _ENDED or job is None or job.ended_at is None:
        return {"Status": "InUse"}
    passed = (now - job.ended_at).total_seconds()
    return {
        "Status": "Available" if passed < seconds else "Terminated",
        "ResourceRetainedBillableTimeInSeconds": int(max(0.0, min(passed, seconds))),
    }


@serves("sagemaker", "UpdateTrainingJob", note="The period of a warm pool, and what is kept.")
def update_training_job(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Change how long the instances of a job are kept, or settings of its debugging."""
    record = JOBS.get(desk, caller, given["TrainingJobName"])
    request = record.body["request"]
    job = job_of(desk, record)
    status, _ = status_of(job, record)
    resources = request["ResourceConfig"]
    if "ResourceConfig" in given:
        pool = warm_pool(record, job, status, now=desk.now())
        if pool is None or pool["Status"] == "Terminated":
            raise validation(
                f"The training job {record.body['name']} has no warm pool that could be updated."
            )
        resources = {**resources, **given["ResourceConfig"]}
    elif status in _ENDED:
        raise validation(
            f"The request was rejected because the training job is in status {status}."
        )
    kept = {key: given[key] for key in _UPDATED if key in given}
    debugging = {**request.get("RemoteDebugConfig", {}), **given.get("RemoteDebugConfig", {})}
    if debugging:
        kept["RemoteDebugConfig"] = debugging
    profiler = {**request.get("ProfilerConfig", {}), **given.get("ProfilerConfig", {})}
    if profiler:
        kept["ProfilerConfig"] = profiler
    JOBS.change(desk, record, request={**request, **kept, "ResourceConfig": resources})
    return {"TrainingJobArn": record.body["arn"]}


@serves("sagemaker", "DeleteTrainingJob")
def delete_training_job(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Forget a training job that has ended."""
    record = JOBS.get(desk, caller, given["TrainingJobName"])
    job = job_of(desk, record)
    if job is not None and not job.state.has_ended:
        raise ApiError("ResourceInUse", "The training job has not ended.")
    tuner = record.body.get("tuning", {}).get("arn", "").rpartition("/")[2]
    key = f"{record.key.rpartition('/')[0]}/{tuner}"
    busy = desk.workspace.metadata.find("sagemaker/hyper-parameter-tuning-job", key)
    if busy is not None and not busy.body.get("ends"):
        raise ApiError("ResourceInUse", f"The hyperparameter tuning job {tuner} has not ended.")
    JOBS.delete(desk, record)
    return {}


def unsettled(desk: Desk, *, within: timedelta = timedelta(days=30)) -> list[Record]:
    """Return the training jobs whose results are not in S3 yet."""
    since = desk.now() - within
    return [
        record
        for record in JOBS.all(desk)
        if record.body.get("settled") is None and record.created_at > since
    ]


@chore()
def settle_all(desk: Desk) -> None:
    """Put the results of the jobs that have ended into S3; the server does it now and then."""
    for record in unsettled(desk):
        settled(desk, JOBS, record, job_of(desk, record))


@chore(2.0)
def keep_checkpoints(desk: Desk) -> None:
    """Put into S3 what running jobs have left among their checkpoints."""
    for record in unsettled(desk):
        request = record.body["request"]
        job = job_of(desk, record) if "CheckpointConfig" in request else None
        if job is None or not job.started_at or job.state.has_ended:
            continue
        folder = staging_folder(desk, record.body["arn"])
        try:
            checkpoint.keep(desk, request, folder, while_running=True)
        except (ApiError, OSError) as error:
            # the end of the job tells it
            _log.warning("Checkpoints of %s are not in S3 yet: %s", record.body["name"], error)
