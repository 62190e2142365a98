"""What a processing job leaves in its outputs, put into S3: while it runs, or once it has ended."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from loopwright.compute import Job, JobState
from loopwright.core.errors import NotFoundError, WrongStateError
from loopwright.core.files import read_json
from loopwright.sagemaker.desk import Desk
from loopwright.sagemaker.error import ApiError, StoreAwayError
from loopwright.sagemaker.processing_order import output_places
from loopwright.sagemaker.processing_worker import RESULT_FILE
from loopwright.sagemaker.s3.store import split_uri
from loopwright.sagemaker.shelf import Shelf
from loopwright.sagemaker.training_order import staging_folder
from loopwright.store import Record
from loopwright.train.script_archive import open_regular
from loopwright.train.script_contract import ML_FOLDER
from loopwright.train.script_host import host_folders
from loopwright.train.script_worker import TIMED_OUT

_LONGEST_REASON = 1024
# a file that is being written is left for the next look
_QUIET_S = 1.0
_one_at_a_time = threading.Lock()
_seen: dict[tuple[str, str], tuple[int, int]] = {}


def settled(desk: Desk, shelf: Shelf, record: Record, job: Job | None) -> Record:
    """Return the record of a job, with its outputs in S3 if the job has ended.

    Whatever the process dies in between, the next call does it again. While another thread does it,
    the record is returned as it is.
    """
    if record.body.get("settled") is not None or job is None or not job.state.has_ended:
        return record
    if not _one_at_a_time.acquire(blocking=False):
        return record
    try:
        found = desk.workspace.metadata.find(record.kind, record.key)
        if found is None or found.body.get("settled") is not None:
            return found or record
        try:
            record = shelf.change(desk, found, settled=_ends(desk, found, job))
        except (WrongStateError, NotFoundError):
            # another process did it, or the job was deleted
            return desk.workspace.metadata.find(record.kind, record.key) or record
    finally:
        _one_at_a_time.release()
    shutil.rmtree(staging_folder(desk, record.body["arn"]), ignore_errors=True)
    for key in [each for each in _seen if each[0] == record.body["arn"]]:
        _seen.pop(key, None)
    return record


def _ends(desk: Desk, record: Record, job: Job) -> dict[str, Any]:
    result = _result(job.folder)
    ends: dict[str, Any] = {
        "timed_out": job.exit_code == TIMED_OUT,
        "exit_code": result.get("exit_code", job.exit_code),
        "message": result.get("message", ""),
        "failure": _failure(job, result) if job.state is JobState.FAILED else "",
    }
    if job.state is not JobState.FAILED or ends["timed_out"]:
        try:
            _upload(desk, record.body["request"], job, record.body["arn"])
        except StoreAwayError:
            raise  # it is tried again
        except (ApiError, OSError) as error:
            ends["failure"] = f"ClientError: The outputs cannot be put into S3: {error}"
    return ends


def _result(folder: Path) -> Mapping[str, Any]:
    try:
        return read_json(folder / "out" / RESULT_FILE) or {}
    except ValueError:
        return {}


def _failure(job: Job, result: Mapping[str, Any]) -> str:
    said = result.get("message") or result.get("failure") or job.reason
    if result.get("exit_code") is None:
        return f"InternalServerError: {said}"[:_LONGEST_REASON]
    code = result["exit_code"]
    if str(said).startswith("ClientError: "):
        # Clarify says itself whose fault it is
        return f"{said}, exit code: {code}"[:_LONGEST_REASON]
    return f"AlgorithmError: {said or 'See job logs for more information'}, exit code: {code}"[
        :_LONGEST_REASON
    ]


def upload_continuously(desk: Desk, record: Record, job: Job) -> None:
    """Put into S3 what a running job has written to the outputs that want it so."""
    request = record.body["request"]
    outputs = request.get("ProcessingOutputConfig", {}).get("Outputs", ())
    names = {
        each["OutputName"] for each in outputs if each["S3Output"]["S3UploadMode"] == "Continuous"
    }
    if names:
        _upload(desk, request, job, record.body["arn"], names=names, before=desk.objects.now())


def _upload(
    desk: Desk,
    request: Mapping[str, Any],
    job: Job,
    arn: str,
    *,
    names: set[str] | None = None,
    before: float | None = None,
) -> None:
    """Put the files of outputs into S3 that are not there as they are now.

    Parameters
    ----------
    names
        Of outputs; all when absent.
    before
        The time, in seconds since 1970, while files may still be written.
    """
    places = output_places(request)
    for each in request.get("ProcessingOutputConfig", {}).get("Outputs", ()):
        name = each["OutputName"]
        if names is not None and name not in names:
            continue
        bucket, prefix = split_uri(each["S3Output"]["S3Uri"])
        for path, inner in _files_of_hosts(job, places[name]):
            about = path.lstat()
            state = about.st_size, about.st_mtime_ns
            key = "/".join(part for part in (prefix.strip("/"), inner) if part)
            if before is not None and before - about.st_mtime < _QUIET_S:
                continue
            if _seen.get((arn, f"{bucket}/{key}")) == state:
                continue
            with open_regular(path) as file:
                desk.objects.put(bucket, key, iter(lambda: file.read(1 << 20), b""))
            _seen[arn, f"{bucket}/{key}"] = state


def _files_of_hosts(job: Job, place: PurePosixPath) -> Iterator[tuple[Path, str]]:
    """Yield the files of an output of all hosts; of several with one path, the first host's."""
    seen: set[str] = set()
    for folder in host_folders(job.folder):
        for path, inner in _files(folder / ML_FOLDER, place):
            if inner not in seen:
                seen.add(inner)
                yield path, inner


def _files(ml: Path, place: PurePosixPath) -> Iterator[tuple[Path, str]]:
    """Yield the regular files below an output, each with its path there; links lead nowhere."""
    folder = ml / place
    if folder.resolve() != ml.resolve() / place:
        return
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = Path(root) / name
            if path.is_file() and not path.is_symlink():
                yield path, path.relative_to(folder).as_posix()
