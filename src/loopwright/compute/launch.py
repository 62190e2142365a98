"""Starts the supervising process of a job on this machine."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from loopwright.compute import supervisor
from loopwright.compute.job import Job

# the supervisor must be found without site-packages, and nothing of the standard library be hidden
_BOOT = "import sys; sys.path.append({!r}); from supervisor.main import main; main()"


def supervisor_command(job: Job, command: Sequence[str]) -> list[str]:
    """Return how the supervisor of a job's present try is started."""
    order = {
        "number": job.retried,
        "time_limit_s": job.time_limit_s or 0.0,
        "memory_mib": job.resources.memory_mib,
        "processes": job.limits.processes,
        "disk_mib": job.limits.disk_mib or 0,
        "log_bytes": job.limits.log_bytes,
        "fail_when_log_full": int(job.limits.when_log_full == "fail"),
        "keep_env": int(job.retries > 0),
    }
    boot = _BOOT.format(str(Path(supervisor.__file__).parents[1]))
    # isolated and without site-packages, since it needs neither and starts faster
    interpreter = [sys.executable, "-I", "-S", "-c", boot]
    given = [f"{name}={value}" for name, value in order.items()]
    return [*interpreter, str(job.folder), *given, "--", *command]


def spawned(
    command: list[str], environment: Mapping[str, str], *, log: Path, told: bytes = b""
) -> int:
    """Start a process in a session of its own, its output going to a file; return its id.

    What it is `told`, at most 60,000 bytes, waits on its standard input, and never on a disk.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        os.write(writing, told)
        return _spawned(command, environment, log=log, reading=reading)
    finally:
        os.close(reading)
        os.close(writing)


def _spawned(command: list[str], environment: Mapping[str, str], *, log: Path, reading: int) -> int:
    appending = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        command[0],
        command,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, reading, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), appending, 0o600),
            (os.POSIX_SPAWN_OPEN, 2, str(log), appending, 0o600),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE),
    )
