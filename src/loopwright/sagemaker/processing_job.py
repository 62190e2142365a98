"""Processing jobs: created, described, listed, stopped; the job of compute says how they are."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from loopwright.compute import Job, JobState
from loopwright.core.errors import LoopwrightError
from loopwright.sagemaker.chore import chore
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.processing_order import checked_processing, processing_spec
from loopwright.sagemaker.processing_result import settled, upload_continuously
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.shelf import NOTHING_TO_STOP, Shelf, page_of_jobs
from loopwright.sagemaker.tag import keep_tags
from loopwright.sagemaker.training_job import tell_to_end
from loopwright.sagemaker.training_order import job_key
from loopwright.store import Record

PROCESSING = Shelf(
    kind="processing-job",
    missing="Could not find requested job with name: {name}",
    taken="Job name must be unique within an AWS account and region, and a job with this name "
    "already exists ({arn})",
    taken_code="ResourceInUse",
)
_log = logging.getLogger(__name__)
_SUBMITTING = timedelta(minutes=5)
_KEPT = timedelta(days=30)
_ECHOED = (
    "AppSpecification",
    "Environment",
    "ExperimentConfig",
    "NetworkConfig",
    "ProcessingInputs",
    "ProcessingOutputConfig",
    "ProcessingResources",
    "RoleArn",
)


@serves(
    "sagemaker",
    "CreateProcessingJob",
    note="Instances are processes on one machine. VPC and encryption settings are kept and not applied; "
    "dataset definitions, feature groups and Spark are refused.",
)
def create_processing_job(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Start a processing job."""
    return {"ProcessingJobArn": begin_processing(desk, caller, given).body["arn"]}


def begin_processing(
    desk: Desk,
    caller: Caller,
    given: Mapping[str, Any],
    *,
    monitoring: Mapping[str, Any] | None = None,
) -> Record:
    """Start a processing job and return its record.

    Parameters
    ----------
    monitoring
        What a monitoring schedule keeps with one of its own.
    """
    from loopwright.sagemaker.experiment import check_experiment, enter_job

    check_experiment(desk, caller, given.get("ExperimentConfig"))
    note = checked_processing(desk, given)
    name = given["ProcessingJobName"]
    more = {} if monitoring is None else {"monitoring": monitoring}
    record = PROCESSING.create(desk, caller, name, given, note=note, **more)
    arn, request = record.body["arn"], record.body["request"]
    try:
        spec = processing_spec(desk, caller, given, arn=arn, request=request)
        job = desk.workspace.compute.submit(spec)
    except BaseException:
        PROCESSING.delete(desk, record)
        raise
    enter_job(desk, caller, given.get("ExperimentConfig"), job.id)
    keep_tags(desk, arn, given.get("Tags", []))
    return record


def job_of(desk: Desk, record: Record) -> Job | None:
    """Return the job behind a record, as compute has it."""
    return desk.workspace.compute.find(job_key(record.body["arn"]))


_END = {
    JobState.SUCCEEDED: "Completed",
    JobState.FAILED: "Failed",
    JobState.STOPPED: "Stopped",
}


def status_of(desk: Desk, job: Job | None, record: Record) -> str:
    """Return the status of a processing job."""
    if job is None:
        # it is submitted in this moment, unless the server ended just then
        is_young = desk.now() - record.created_at < _SUBMITTING
        return "InProgress" if is_young else "Failed"
    ends = record.body.get("settled")
    if ends is None:
        is_stopping = job.state in (JobState.STOPPING, JobState.STOPPED)
        return "Stopping" if is_stopping else "InProgress"
    if ends["timed_out"]:
        return "Stopped"
    return "Failed" if ends["failure"] else _END[job.state]


@serves("sagemaker", "DescribeProcessingJob")
def describe_processing_job(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Tell how a processing job is."""
    return described(desk, PROCESSING.get(desk, caller, given["ProcessingJobName"]))


def described(desk: Desk, record: Record) -> dict[str, Any]:
    """Return the description of a processing job."""
    job = job_of(desk, record)
    record = settled(desk, PROCESSING, record, job)
    request, ends = record.body["request"], record.body.get("settled") or {}
    status = status_of(desk, job, record)
    failure = ends.get("failure") or None
    if ends.get("timed_out"):
        failure = "ClientError: The job was ended at its MaxRuntimeInSeconds."
    if job is None and status == "Failed":
        failure = "InternalServerError: The server ended before the job could be submitted."
    return {
        "ProcessingJobName": record.body["name"],
        "ProcessingJobArn": record.body["arn"],
        "ProcessingJobStatus": status,
        "ExitMessage": ends.get("message") or None,
        "FailureReason": failure,
        "CreationTime": record.created_at,
        "LastModifiedTime": record.body["modified_at"],
        "ProcessingStartTime": job.started_at if job else None,
        "ProcessingEndTime": job.ended_at if job and ends else None,
        "StoppingCondition": request.get("StoppingCondition", {"MaxRuntimeInSeconds": 86_400}),
        "MonitoringScheduleArn": record.body.get("monitoring", {}).get("schedule"),
        **{key: request[key] for key in _ECHOED if key in request},
    }


@serves("sagemaker", "ListProcessingJobs")
def list_processing_jobs(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List processing jobs."""
    page, token = page_of_jobs(
        PROCESSING.all(desk, caller),
        given,
        summary=lambda record: _summary(desk, record),
        name="ProcessingJobName",
        status="ProcessingJobStatus",
    )
    return {"ProcessingJobSummaries": page, "NextToken": token}


def _summary(desk: Desk, record: Record) -> dict[str, Any]:
    job, ends = job_of(desk, record), record.body.get("settled") or {}
    return {
        "ProcessingJobName": record.body["name"],
        "ProcessingJobArn": record.body["arn"],
        "CreationTime": record.created_at,
        "ProcessingEndTime": job.ended_at if job and ends else None,
        "LastModifiedTime": datetime.fromisoformat(record.body["modified_at"]),
        "ProcessingJobStatus": status_of(desk, job, record),
        "FailureReason": ends.get("failure") or None,
        "ExitMessage": ends.get("message") or None,
    }


@serves("sagemaker", "StopProcessingJob")
def stop_processing_job(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Tell a processing job to end; it has 120 seconds, and its outputs are kept."""
    record = PROCESSING.get(desk, caller, given["ProcessingJobName"], missing=NOTHING_TO_STOP)
    job = job_of(desk, record)
    status = status_of(desk, job, record)
    if job is None or status not in ("InProgress", "Stopping") or job.state.has_ended:
        raise validation(
            f"The request was rejected because the processing job is in status {status}."
        )
    tell_to_end(desk, job)
    return {}


@serves("sagemaker", "DeleteProcessingJob")
def delete_processing_job(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Forget a processing job that has ended; its outputs stay in S3."""
    record = PROCESSING.get(desk, caller, given["ProcessingJobName"])
    job = job_of(desk, record)
    if job is not None and not job.state.has_ended:
        raise ApiError("ResourceInUse", "The processing job has not ended.")
    PROCESSING.delete(desk, record)
    return {}


@chore()
def settle_processing(desk: Desk) -> None:
    """Put into S3 what jobs have left, and what running ones want there at once."""
    since = desk.now() - _KEPT
    for record in PROCESSING.all(desk):
        if record.body.get("settled") is not None or record.created_at <= since:
            continue
        try:
            job = job_of(desk, record)
            if job is not None and job.started_at and not job.state.has_ended:
                upload_continuously(desk, record, job)
            settled(desk, PROCESSING, record, job)
        except (ApiError, LoopwrightError, OSError) as error:
            # one job whose bucket is gone, say, holds up no other
            _log.warning("Outputs of %s are not in S3 yet: %s", record.body["name"], error)
