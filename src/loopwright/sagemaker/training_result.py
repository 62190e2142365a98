"""What a training job leaves, put into S3 once it has ended."""

from __future__ import annotations

import shutil
import threading
from typing import Any

from loopwright.compute import Job, JobState
from loopwright.core.errors import NotFoundError, WrongStateError
from loopwright.sagemaker.desk import Desk
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.s3.store import split_uri
from loopwright.sagemaker.shelf import Shelf
from loopwright.sagemaker.training_order import staging_folder
from loopwright.store import Record
from loopwright.train.script_result import ScriptResult, read_script_result
from loopwright.train.script_worker import TIMED_OUT

_LONGEST_REASON = 1024
_one_at_a_time = threading.Lock()


def settled(desk: Desk, shelf: Shelf, record: Record, job: Job | None) -> Record:
    """Return the record of a job, with its results in S3 if the job has ended.

    Whatever the process dies in between, the next call does it again; the same files lead to the
    same objects.
    """
    if record.body.get("settled") is not None or job is None or not job.state.has_ended:
        return record
    with _one_at_a_time:
        found = desk.workspace.metadata.find(record.kind, record.key)
        if found is None or found.body.get("settled") is not None:
            return found or record
        ends = _ends(desk, found, job)
        try:
            record = shelf.change(desk, found, settled=ends)
        except (WrongStateError, NotFoundError):
            # another process did it, or the job was deleted
            return desk.workspace.metadata.find(record.kind, record.key) or record
    shutil.rmtree(staging_folder(desk, record.body["arn"]), ignore_errors=True)
    return record


def _ends(desk: Desk, record: Record, job: Job) -> dict[str, Any]:
    result = read_script_result(job.folder)
    failure = _failure(job, result) if job.state is JobState.FAILED else ""
    ends: dict[str, Any] = {
        "timed_out": job.exit_code == TIMED_OUT,
        "artifact": "",
        "failure": failure,
    }
    if result is not None:
        try:
            ends["artifact"] = _uploaded(desk, record, result)
            _keep_checkpoints(desk, record)
        except (ApiError, OSError) as error:
            ends["failure"] = f"ClientError: The results cannot be put into S3: {error}"
    return ends


def _failure(job: Job, result: ScriptResult | None) -> str:
    reason = (result.failure if result else "") or job.reason
    code = result.exit_code if result and result.exit_code is not None else job.exit_code
    said = reason.removeprefix("The script says why it failed: ")
    return f"AlgorithmError: {said}, exit code: {code}"[:_LONGEST_REASON]


def _uploaded(desk: Desk, record: Record, result: ScriptResult) -> str:
    request = record.body["request"]
    path = request["OutputDataConfig"].get("S3OutputPath")
    if not path:
        return ""
    bucket, prefix = split_uri(path)
    place = "/".join(part for part in (prefix.strip("/"), record.body["name"], "output") if part)
    artifact = ""
    if result.model is not None:
        desk.objects.put_file(bucket, f"{place}/model.tar.gz", result.model)
        artifact = f"s3://{bucket}/{place}/model.tar.gz"
    if result.output is not None:
        desk.objects.put_file(bucket, f"{place}/output.tar.gz", result.output)
    return artifact


def _keep_checkpoints(desk: Desk, record: Record) -> None:
    about = record.body["request"].get("CheckpointConfig")
    folder = staging_folder(desk, record.body["arn"]) / "checkpoints"
    if about is None or not folder.is_dir():
        return
    bucket, prefix = split_uri(about["S3Uri"])
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            name = path.relative_to(folder).as_posix()
            desk.objects.put_file(bucket, f"{prefix.rstrip('/')}/{name}".lstrip("/"), path)
