"""The process that goes on with a queue of jobs when whoever submitted them is gone."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loopwright.compute.supervisor.process import COOKIE
from loopwright.compute.supervisor.successor import QUEUE

# what a pipe takes without a reader
_MOST_BYTES = 60_000
_STALE_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Successor:
    """How the process is started that admits queued jobs of a home.

    Parameters
    ----------
    command
        The program, by its path, and its arguments, which every user of the machine can read.
    environment
        Its whole environment, which may hold secrets: it is handed over in memory.
    folder
        Its working folder.
    """

    command: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str] = field(repr=False)

    def order(self) -> bytes:
        """Return what a supervisor is told; nothing within a job, whose tree ends with it."""
        if COOKIE in os.environ:
            return b""
        told = {
            "command": list(self.command),
            "folder": str(self.folder),
            "environment": dict(self.environment),
        }
        text = json.dumps(told).encode()
        return text if len(text) <= _MOST_BYTES else b""


def mark_queued(jobs: Path, job_id: str) -> None:
    """Let supervisors know, at the price of a look into a folder, that a job waits."""
    folder = jobs / QUEUE
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / job_id).touch()


def unmark_queued(jobs: Path, job_id: str) -> None:
    """Take the mark of a job away, which does not wait any more."""
    (jobs / QUEUE / job_id).unlink(missing_ok=True)


def stale_marks(jobs: Path) -> Iterator[str]:
    """Yield the jobs that were marked an hour ago or more."""
    before = time.time() - _STALE_S
    for path in (jobs / QUEUE).glob("[!.]*"):
        try:
            if path.stat().st_mtime < before:
                yield path.name
        except FileNotFoundError:
            continue


@contextmanager
def sleeping_place(jobs: Path) -> Iterator[bool]:
    """Yield whether this process is the one that waits for jobs which are tried again later."""
    with (jobs / ".sleeper").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
