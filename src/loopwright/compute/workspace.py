"""The folder of a job: what is put in before it starts, and what is read out of it."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loopwright.compute.job import JobSpec, JobState
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.files import read_json

N_REASON_LINES = 15
LOG_LIMIT_BYTES = 64 << 20
_FORMAT = 1
_TAIL_BYTES = 64 << 10
# what any program needs; whatever else is in our environment may be a secret
_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "LD_LIBRARY_PATH")
# so that a job does not use more CPUs than it declared
_THREAD_COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a job ended, as its supervisor wrote it down."""

    state: JobState
    exit_code: int | None
    reason: str
    peak_memory_mib: float | None
    cpu_s: float | None
    ended_at: datetime


def create_folder(folder: Path, spec: JobSpec, *, job_id: str) -> None:
    """Make the folder of a job with everything its supervisor and its command need.

    Raises
    ------
    InvalidInputError
        If a file to copy cannot be read; the folder is gone again.
    BackendError
        If the folder cannot be written; it is gone again.
    """
    try:
        # the environment may hold secrets of the job
        folder.mkdir(parents=True, mode=0o700)
        (folder / "out").mkdir()
        for name, content in spec.files.items():
            _place(content, folder / name)
        order = {"format": _FORMAT, "command": list(spec.command)}
        (folder / "job.json").write_text(json.dumps(order, indent=1))
        (folder / "env.json").write_text(json.dumps(job_environment(spec, job_id=job_id)))
    except OSError as cause:
        shutil.rmtree(folder, ignore_errors=True)
        raise BackendError(
            f"The folder {folder} of job {spec.name!r} cannot be written: "
            f"{cause.strerror or cause}.",
            hint="Check the permissions of the home folder and the space left on its disk.",
            folder=str(folder),
        ) from cause
    except InvalidInputError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _place(content: bytes | Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        target.write_bytes(content)
        return
    try:
        if content.stat().st_mode & 0o222 == 0:
            _link_or_copy(content, target)
        else:
            shutil.copyfile(content, target)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as cause:
        raise InvalidInputError(
            f"The file {content} cannot be given to the job: {cause.strerror}.",
            hint="Check the path and its permissions.",
            field="files",
            value=str(content),
        ) from cause


def _link_or_copy(source: Path, target: Path) -> None:
    """Share a read-only file, such as one of the artifact store, instead of copying it."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def job_environment(
    spec: JobSpec, *, job_id: str, around: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the whole environment of a job: a few of our own variables, and what it asks for."""
    environment = {name: around[name] for name in _PASSED_ON if name in around}
    if "PYTHONPATH" in environment:
        # relative entries would be looked up in the job's folder
        entries = environment["PYTHONPATH"].split(os.pathsep)
        absolute = [os.path.abspath(entry) for entry in entries]  # noqa: PTH100 keeps symlinks
        environment["PYTHONPATH"] = os.pathsep.join(absolute)
    threads = str(math.ceil(spec.resources.cpus))
    return {
        **environment,
        **dict.fromkeys(_THREAD_COUNTS, threads),
        # spinning threads would take the CPUs of the other jobs
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONUNBUFFERED": "1",
        **spec.env,
        "LOOPWRIGHT_JOB_ID": job_id,
    }


def read_order(folder: Path) -> tuple[list[str], dict[str, str]] | None:
    """Return a job's command and environment, or None once a supervisor has taken it."""
    order, environment = _readable(folder / "job.json"), _readable(folder / "env.json")
    return (order["command"], environment) if order and environment else None


def request_stop(folder: Path, *, grace_s: float) -> None:
    """Leave word for the supervisor that the job is to end."""
    temporary = folder / f".stop.{os.getpid()}"
    temporary.write_text(json.dumps({"grace_s": grace_s}))
    temporary.replace(folder / "stop.json")


def read_exit(folder: Path) -> Exit | None:
    """Return how a job ended, or None while no supervisor has said so."""
    found = _readable(folder / "exit.json")
    if found is None:
        return None
    return Exit(
        state=JobState(found["outcome"]),
        exit_code=found["exit_code"],
        reason=found["reason"],
        peak_memory_mib=found["peak_memory_mib"],
        cpu_s=found["cpu_s"],
        ended_at=datetime.fromtimestamp(found["ended_at"], UTC),
    )


def read_supervisor(folder: Path) -> dict[str, Any] | None:
    """Return which process supervises a job, or None while none has taken it."""
    return _readable(folder / "shim.json")


def _readable(path: Path) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] | None = read_json(path)
    except ValueError:
        # what a power failure left of it says nothing
        return None
    return value


def read_log(folder: Path, *, tail_bytes: int | None = None) -> str:
    """Return the log of a job, or its last bytes; empty while there is none."""
    try:
        with (folder / "log.txt").open("rb") as file:
            if tail_bytes is not None:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - tail_bytes))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def with_last_lines(reason: str, folder: Path) -> str:
    """Return a reason followed by the last lines of the log, where there are any."""
    lines = read_log(folder, tail_bytes=_TAIL_BYTES).splitlines()
    last = [line.rstrip() for line in lines if line.strip()][-N_REASON_LINES:]
    if not last:
        return f"{reason} It printed nothing."
    return "\n".join([f"{reason} The last lines of its log:", *(f"  {line}" for line in last)])


def delete_folder(folder: Path) -> None:
    """Remove the folder of a job that was not submitted after all."""
    shutil.rmtree(folder, ignore_errors=True)
