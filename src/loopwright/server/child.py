"""The process that attends a loop: started with a log, ended with all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

_LARGEST_LOG = 1 << 20


class Child(Protocol):
    """A process that attends a loop."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit code, or None while it lives."""
        ...

    def terminate(self) -> None:
        """Ask it to end."""
        ...

    def kill(self) -> None:
        """End it."""
        ...


class Starter(Protocol):
    """Starts the process that attends a loop, or notes how the one before died."""

    def __call__(self, name: str, crashed: str = "") -> Child:
        """Return the process."""
        ...


class GroupChild:
    """A process in a session of its own, which ends together with all that is left of its group.

    Jobs and endpoints that it started have sessions of their own, and limits: they go on, and the
    next turn finds them.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    def poll(self) -> int | None:
        """Return the exit code, or None while it lives."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask the group to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the group, also where its first process is gone but not waited for."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        # once it was waited for, the number may be another's
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)


class ProcessStarter:
    """Starts processes of `loopwright.server.attending`, each with a log in the home.

    Parameters
    ----------
    home
        The folder of the store.
    environ
        The environment of the server, with the secrets of sources and sinks.
    """

    def __init__(self, home: Path, environ: Mapping[str, str]) -> None:
        self._folder = home / "server"
        self._environ = {**environ, "LOOPWRIGHT_HOME": str(home)}

    def __call__(self, name: str, crashed: str = "") -> Child:
        """Return the process."""
        words = [sys.executable, "-m", "loopwright.server.attending", name]
        path = log_path(self._folder, name)
        with path.open("ab") as log:
            return GroupChild(
                subprocess.Popen(
                    [*words, crashed] if crashed else words,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environ,
                    # a Ctrl-C at the server is the server's to answer
                    start_new_session=True,
                )
            )


def log_path(folder: Path, name: str) -> Path:
    """Return the log of a loop's processes; a long one makes room for a new one."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{name}.log"
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > _LARGEST_LOG:
            path.replace(folder / f"{name}.log.1")
    return path


def end_children(
    children: Sequence[Child], *, grace_s: float, wait: threading.Event, stop_s: float = 3.0
) -> int:
    """Wait for processes to end, then end them; return how many had to be ended.

    Ending one is safe: its steps are kept as they are done, and the next turn goes on.
    """
    waited_s = 0.0
    while waited_s < grace_s and any(child.poll() is None for child in children):
        if wait.wait(0.1):
            break
        waited_s += 0.1
    late = [child for child in children if child.poll() is None]
    for child in late:
        child.terminate()
    for child in late:
        _ended(child, stop_s)
    return len(late)


def _ended(child: Child, limit_s: float) -> None:
    pause = threading.Event()
    for _ in range(int(limit_s / 0.05)):
        if child.poll() is not None:
            return
        pause.wait(0.05)
    child.kill()
