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

from loopwright.compute.job import Job, JobSpec, JobState, checkpoint_folder
from loopwright.compute.supervisor.process import is_alive, machine_name
from loopwright.compute.supervisor.record import claim_name
from loopwright.compute.supervisor.watchdog import folder_bytes
from loopwright.core.errors import BackendError, InvalidInputError, WrongStateError
from loopwright.core.files import read_json

N_REASON_LINES = 15
_FORMAT = 1
CHECKPOINT_DIR = "LOOPWRIGHT_CHECKPOINT_DIR"
"""The variable that tells a job its folder of checkpoints."""
_TAIL_BYTES = 64 << 10
_MOST_CHARACTERS = 400
# several of the pauses in which a supervisor shows that it lives
_SILENT_S = 60.0
# what any program needs; whatever else is in our environment may be a secret
_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "LD_LIBRARY_PATH")
# so that a job does not use more CPUs than it declared
_THREAD_COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a try at a job ended, as its supervisor wrote it down.

    `is_lost` tells whether it was through no fault of the job's own.
    """

    state: JobState
    exit_code: int | None
    reason: str
    is_lost: bool
    peak_memory_mib: float | None
    cpu_s: float | None
    log_left_out_bytes: int
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
        order = {"format": _FORMAT, "command": list(spec.command), "files": list(spec.files)}
        (folder / "job.json").write_text(json.dumps(order, indent=1))
        if spec.checkpoint:
            checkpoints = checkpoint_folder(folder.parent, spec.key)
            checkpoints.mkdir(parents=True, exist_ok=True, mode=0o700)
        environment = job_environment(spec, job_id=job_id, folder=folder)
        _write_environment(folder / "env.json", environment)
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


def _write_environment(path: Path, environment: Mapping[str, str]) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(environment, file)


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
    spec: JobSpec, *, job_id: str, folder: Path, around: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the whole environment of a job: a few of our own variables, and what it asks for."""
    environment = {name: around[name] for name in _PASSED_ON if name in around}
    if "PYTHONPATH" in environment:
        # relative entries would be looked up in the job's folder
        entries = environment["PYTHONPATH"].split(os.pathsep)
        absolute = [os.path.abspath(entry) for entry in entries]  # noqa: PTH100 keeps symlinks
        environment["PYTHONPATH"] = os.pathsep.join(absolute)
    if spec.checkpoint:
        environment[CHECKPOINT_DIR] = str(checkpoint_folder(folder.parent, spec.key))
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
        # what this version writes and an older one, still running, does not
        is_lost=found.get("is_lost", False),
        log_left_out_bytes=found.get("log_left_out_bytes", 0),
        peak_memory_mib=found["peak_memory_mib"],
        cpu_s=found["cpu_s"],
        ended_at=datetime.fromtimestamp(found["ended_at"], UTC),
    )


def read_supervisor(folder: Path, *, number: int = 0) -> dict[str, Any] | None:
    """Return which process supervises a try at a job, or None while none has taken it."""
    return _readable(folder / claim_name(number))


def is_supervised(folder: Path, *, number: int = 0) -> bool:
    """Tell whether the supervisor that took a try at a job lives.

    One on another machine that shares the folder is known by the sign of life it gives.
    """
    supervisor = read_supervisor(folder, number=number)
    if supervisor is None:
        return False
    if supervisor.get("host", machine_name()) == machine_name():
        return is_alive(supervisor)
    try:
        # by the clock of the disk, since those of two machines differ
        probe = folder / f".now.{os.getpid()}"
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
        return now - (folder / claim_name(number)).stat().st_mtime < _SILENT_S
    except OSError:
        return True


def prepare_next_try(folder: Path, *, note: str) -> None:
    """Make the folder of a lost job ready to be started again.

    The files it was given stay as they are, what it made is removed, and its log goes on.
    """
    order = _readable(folder / "job.json") or {}
    given = {name.split("/")[0] for name in order.get("files", [])}
    for path in folder.iterdir():
        is_kept = path.name in {*given, "job.json", "env.json", "log.txt"}
        if is_kept or path.name.startswith("shim"):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    (folder / "out").mkdir(exist_ok=True)
    with (folder / "log.txt").open("a") as log:
        log.write(f"\n[loopwright: {note}]\n")


def forget_environment(folder: Path) -> None:
    """Remove the environment that was kept for further tries."""
    (folder / "env.json").unlink(missing_ok=True)


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
    last = [_shortened(line.rstrip()) for line in lines if line.strip()][-N_REASON_LINES:]
    if not last:
        return f"{reason} It printed nothing."
    return "\n".join([f"{reason} The last lines of its log:", *(f"  {line}" for line in last)])


def _shortened(line: str) -> str:
    """Return a line no longer than a person reads, and a record should hold."""
    more = len(line) - _MOST_CHARACTERS
    return f"{line[:_MOST_CHARACTERS]}… ({more:,} more characters)" if more > 0 else line


def delete_folder(folder: Path) -> None:
    """Remove the folder of a job that was not submitted after all."""
    shutil.rmtree(folder, ignore_errors=True)


def delete_files(job: Job, *, with_checkpoints: bool) -> int:
    """Remove the folder of a job, and its checkpoints if so asked; return the bytes that came free."""
    folders = [job.folder]
    if with_checkpoints and job.checkpoints:
        folders.append(job.checkpoints)
    freed = sum(folder_bytes(str(folder)) for folder in folders)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return freed


def not_ended(job: Job) -> WrongStateError:
    """Return the error for what may be done only after a job has ended."""
    return WrongStateError(
        f"The job {job.id} ({job.name}) is {job.state.value}; its files are in use.",
        hint=f"Stop it first: loopwright stop {job.id}",
        job=job.id,
    )
