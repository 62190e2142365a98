"""Batch transform jobs: created, described, listed, stopped; the job of compute says how they are."""

from __future__ import annotations

import shutil
import threading
from datetime import datetime, timedelta
from typing import Any

from loopwright.compute import Job, JobState
from loopwright.core.errors import NotFoundError, WrongStateError
from loopwright.core.files import read_json
from loopwright.sagemaker.chore import chore
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError, StoreAwayError, validation
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.s3.store import split_uri
from loopwright.sagemaker.shelf import NOTHING_TO_STOP, Shelf, page_of_jobs
from loopwright.sagemaker.tag import keep_tags
from loopwright.sagemaker.training_job import tell_to_end
from loopwright.sagemaker.training_order import job_key, staging_folder
from loopwright.sagemaker.transform_order import checked_transform, transform_spec
from loopwright.sagemaker.transform_worker import RESULT_FILE, RESULTS
from loopwright.store import Record

TRANSFORMS = Shelf(
    kind="transform-job",
    missing="Could not find requested job with name: {name}",
    taken="Job name must be unique within an AWS account and region, and a job with this name "
    "already exists ({arn})",
    taken_code="ResourceInUse",
)
_SUBMITTING = timedelta(minutes=5)
_KEPT = timedelta(days=30)
_one_at_a_time = threading.Lock()
_ECHOED = (
    "BatchStrategy",
    "DataCaptureConfig",
    "DataProcessing",
    "Environment",
    "ExperimentConfig",
    "MaxConcurrentTransforms",
    "MaxPayloadInMB",
    "ModelClientConfig",
    "ModelName",
    "TransformInput",
    "TransformOutput",
    "TransformResources",
)
_END = {
    JobState.SUCCEEDED: "Completed",
    JobState.FAILED: "Failed",
    JobState.STOPPED: "Stopped",
}


@serves(
    "sagemaker",
    "CreateTransformJob",
    note="Instances divide the files among them. Data capture and encryption settings are kept and not "
    "applied; augmented manifests are refused.",
)
def create_transform_job(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Start a batch transform."""
    from loopwright.sagemaker.experiment import check_experiment, enter_job

    check_experiment(desk, caller, given.get("ExperimentConfig"))
    note = checked_transform(desk, caller, given)
    record = TRANSFORMS.create(desk, caller, given["TransformJobName"], given, note=note)
    arn = record.body["arn"]
    try:
        job = desk.workspace.compute.submit(transform_spec(desk, caller, given, arn=arn))
    except BaseException:
        TRANSFORMS.delete(desk, record)
        raise
    enter_job(desk, caller, given.get("ExperimentConfig"), job.id)
    keep_tags(desk, arn, given.get("Tags", []))
    return {"TransformJobArn": arn}


def job_of(desk: Desk, record: Record) -> Job | None:
    """Return the job behind a record, as compute has it."""
    return desk.workspace.compute.find(job_key(record.body["arn"]))


def status_of(desk: Desk, job: Job | None, record: Record) -> str:
    """Return the status of a transform job."""
    if job is None:
        # it is submitted in this moment, unless the server ended just then
        return "InProgress" if desk.now() - record.created_at < _SUBMITTING else "Failed"
    ends = record.body.get("settled")
    if ends is None:
        is_stopping = job.state in (JobState.STOPPING, JobState.STOPPED)
        return "Stopping" if is_stopping else "InProgress"
    return "Failed" if ends["failure"] else _END[job.state]


@serves("sagemaker", "DescribeTransformJob")
def describe_transform_job(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Tell how a transform job is."""
    return described(desk, TRANSFORMS.get(desk, caller, given["TransformJobName"]))


def described(desk: Desk, record: Record) -> dict[str, Any]:
    """Return the description of a transform job."""
    job = job_of(desk, record)
    record = settled(desk, record, job)
    request, ends = record.body["request"], record.body.get("settled") or {}
    failure = ends.get("failure") or None
    if job is None and status_of(desk, job, record) == "Failed":
        failure = "InternalServerError: The server ended before the job could be submitted."
    return {
        "TransformJobName": record.body["name"],
        "TransformJobArn": record.body["arn"],
        "TransformJobStatus": status_of(desk, job, record),
        "FailureReason": failure,
        "CreationTime": record.created_at,
        "TransformStartTime": job.started_at if job else None,
        "TransformEndTime": job.ended_at if job and ends else None,
        **{key: request[key] for key in _ECHOED if key in request},
    }


@serves("sagemaker", "ListTransformJobs")
def list_transform_jobs(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List transform jobs."""

    def summary(record: Record) -> dict[str, Any]:
        job, ends = job_of(desk, record), record.body.get("settled") or {}
        return {
            "TransformJobName": record.body["name"],
            "TransformJobArn": record.body["arn"],
            "CreationTime": record.created_at,
            "TransformEndTime": job.ended_at if job and ends else None,
            "LastModifiedTime": datetime.fromisoformat(record.body["modified_at"]),
            "TransformJobStatus": status_of(desk, job, record),
            "FailureReason": ends.get("failure") or None,
        }

    page, token = page_of_jobs(
        TRANSFORMS.all(desk, caller),
        given,
        summary=summary,
        name="TransformJobName",
        status="TransformJobStatus",
    )
    return {"TransformJobSummaries": page, "NextToken": token}


@serves("sagemaker", "StopTransformJob")
def stop_transform_job(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Tell a transform job to end; the files that are done are in S3."""
    record = TRANSFORMS.get(desk, caller, given["TransformJobName"], missing=NOTHING_TO_STOP)
    job = job_of(desk, record)
    status = status_of(desk, job, record)
    if job is None or status != "InProgress" or job.state.has_ended:
        raise validation(
            f"The request was rejected because the transform job is in status {status}."
        )
    tell_to_end(desk, job)
    return {}


def settled(desk: Desk, record: Record, job: Job | None) -> Record:
    """Return the record of a job, with its outputs in S3 if the job has ended.

    Whatever the process dies in between, the next call does it again.
    """
    if record.body.get("settled") is not None or job is None or not job.state.has_ended:
        return record
    with _one_at_a_time:
        found = desk.workspace.metadata.find(record.kind, record.key)
        if found is None or found.body.get("settled") is not None:
            return found or record
        try:
            record = TRANSFORMS.change(desk, found, settled=_ends(desk, found, job))
        except (WrongStateError, NotFoundError):
            # another process did it, or the job was deleted
            return desk.workspace.metadata.find(record.kind, record.key) or record
    shutil.rmtree(staging_folder(desk, record.body["arn"]), ignore_errors=True)
    if job.checkpoints is not None:
        shutil.rmtree(job.checkpoints / RESULTS, ignore_errors=True)
    return record


def _ends(desk: Desk, record: Record, job: Job) -> dict[str, Any]:
    failure = ""
    if job.state is JobState.FAILED:
        told = read_json(job.out / RESULT_FILE) or {}
        # what the worker did not foresee, such as memory, compute has words for
        failure = f"{told['failed']}: See job logs for more information" if told else job.reason
        failure = failure if told else f"AlgorithmError: {failure}"
    try:
        n_files = _upload(desk, record.body["request"], job)
    except StoreAwayError:
        raise  # it is tried again
    except (ApiError, OSError) as error:
        return {"failure": f"ClientError: The outputs cannot be put into S3: {error}"[:1024]}
    return {"failure": failure[:1024], "n_files": n_files}


def _upload(desk: Desk, request: dict[str, Any], job: Job) -> int:
    """Put the outputs of the files that are done into S3; return how many there are."""
    bucket, prefix = split_uri(request["TransformOutput"]["S3OutputPath"])
    folder = (job.checkpoints or job.out) / RESULTS
    n_files = 0
    for path in sorted(folder.rglob("*.out")):
        if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
            name = path.relative_to(folder).as_posix()
            desk.objects.put_file(bucket, f"{prefix.rstrip('/')}/{name}".lstrip("/"), path)
            n_files += 1
    return n_files


@chore(0.2)
def settle_transforms(desk: Desk) -> None:
    """Put the outputs of the jobs that have ended into S3."""
    since = desk.now() - _KEPT
    for record in TRANSFORMS.all(desk):
        if record.body.get("settled") is None and record.created_at > since:
            settled(desk, record, job_of(desk, record))
