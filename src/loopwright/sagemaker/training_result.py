"""What a training job leaves, put into S3 once it has ended."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import threading
from pathlib import Path
from typing import Any

from loopwright.compute import Job, JobState
from loopwright.core.errors import NotFoundError, WrongStateError
from loopwright.sagemaker import checkpoint
from loopwright.sagemaker.desk import Desk
from loopwright.sagemaker.error import ApiError, StoreAwayError
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
    folder = staging_folder(desk, record.body["arn"])
    checkpoint.forget(folder)
    shutil.rmtree(folder, ignore_errors=True)
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
            ends["artifact"] = _uploaded(desk, record, job, result)
        except StoreAwayError:
            raise  # it is tried again
        except (ApiError, OSError) as error:
            ends["failure"] = f"ClientError: The results cannot be put into S3: {error}"
    folder = staging_folder(desk, record.body["arn"])
    try:
        # also of a job whose process was killed
        checkpoint.keep(desk, record.body["request"], folder, while_running=False)
    except StoreAwayError:
        raise  # it is tried again
    except (ApiError, OSError) as error:
        ends["failure"] = f"ClientError: The checkpoints cannot be put into S3: {error}"
    return ends


def _failure(job: Job, result: ScriptResult | None) -> str:
    reason = (result.failure if result else "") or job.reason
    code = result.exit_code if result and result.exit_code is not None else job.exit_code
    said = reason.removeprefix("The script says why it failed: ")
    return f"AlgorithmError: {said}, exit code: {code}"[:_LONGEST_REASON]


def _uploaded(desk: Desk, record: Record, job: Job, result: ScriptResult) -> str:
    request = record.body["request"]
    path = request["OutputDataConfig"].get("S3OutputPath")
    if not path:
        return ""
    bucket, prefix = split_uri(path)
    place = "/".join(part for part in (prefix.strip("/"), record.body["name"], "output") if part)
    if request["OutputDataConfig"].get("CompressionType") == "NONE":
        return _uploaded_unpacked(desk, job, result, bucket=bucket, place=place)
    artifact = ""
    if result.model is not None:
        desk.objects.put_file(bucket, f"{place}/model.tar.gz", result.model)
        artifact = f"s3://{bucket}/{place}/model.tar.gz"
    if result.output is not None:
        desk.objects.put_file(bucket, f"{place}/output.tar.gz", result.output)
    return artifact


def _uploaded_unpacked(
    desk: Desk, job: Job, result: ScriptResult, *, bucket: str, place: str
) -> str:
    """Put each file of the model into S3; return the prefix."""
    for name, archive in (("model", result.model), ("data", result.output)):
        if archive is None:
            continue
        # what the archive holds, of all hosts, and no link that leads out of the folder
        with tempfile.TemporaryDirectory(dir=job.out) as folder, tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
            for path in sorted(each for each in Path(folder).rglob("*") if each.is_file()):
                inner = path.relative_to(folder).as_posix()
                desk.objects.put_file(bucket, f"{place}/{name}/{inner}", path)
    return f"s3://{bucket}/{place}/model/" if result.model is not None else ""
