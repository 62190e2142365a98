"""Workers as copies of the process that sees to them: ready in an instant, their memory shared."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Collection
from pathlib import Path
from typing import Protocol


class Fork(Protocol):
    """Starts workers by a copy of the supervisor's process, which has loaded all they need."""

    def load(self) -> None:
        """Load what workers need, and the models that are to be served; no thread may be started."""
        ...

    def serve(self, *, number: int, listener: int, line: int) -> int:
        """Be a worker, in the copy, and return its exit code."""
        ...


class Copy:
    """A worker that was started as a copy of this process, with the ways of a `Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code; None while it lives."""
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self._code = 1
            else:
                self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when it has ended, or raise `subprocess.TimeoutExpired`."""
        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        while (code := self.poll()) is None:
            if time.monotonic() >= end:
                raise subprocess.TimeoutExpired("worker", timeout or 0.0)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, if it lives."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to leave."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def copied(fork: Fork, *, number: int, listener: int, line: int) -> Copy:
    """Return a worker that is a copy of this process; in the copy itself this does not return."""
    pid = os.fork()
    if pid:
        return Copy(pid)
    code = 1
    try:
        # the supervisor's lock, its end of the line and the others' sockets must be gone when it is
        _close_all(but={0, 1, 2, listener, line})
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(each, signal.SIG_DFL)
        code = fork.serve(number=number, listener=listener, line=line)
    finally:
        logging.shutdown()
        os._exit(code)


def _close_all(*, but: Collection[int]) -> None:
    # of this process on Linux and on macOS; read whole before the first is closed
    for number in [int(each.name) for each in Path("/dev/fd").iterdir()]:
        if number not in but:
            with contextlib.suppress(OSError):
                os.close(number)
