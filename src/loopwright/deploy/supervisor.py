"""Several processes behind one port: started, watched, started again, and ended together."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec

from loopwright.core.files import write_json_atomically
from loopwright.deploy.address import bound_socket, shared_socket
from loopwright.deploy.counts import forget_counts, retire_counts
from loopwright.deploy.endpoint import ActualState, DesiredState, Endpoint
from loopwright.deploy.last_served import forget_last_served
from loopwright.deploy.scale import most_workers
from loopwright.deploy.worker_copy import Fork, copied

_log = logging.getLogger(__name__)

_LOOK_S = 0.05
_FIRST_BACKOFF_S, _LAST_BACKOFF_S = 0.2, 10.0
# one that stayed so long has not failed at its start
_STEADY_S = 30.0
# callers wait so long for a worker that is being started again
_HELD_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """What a worker is handed by its supervisor: its number, its socket, and a line to it.

    The line is a pipe that ends when the supervisor does; the worker then leaves, too.
    """

    number: int
    listener: int
    line: int

    def __str__(self) -> str:
        return f"{self.number}:{self.listener}:{self.line}"

    @classmethod
    def parse(cls, text: str) -> Seat:
        """Return the seat that `str` wrote."""
        number, listener, line = (int(part) for part in text.split(":"))
        return cls(number=number, listener=listener, line=line)

    def actual_path(self, folder: Path) -> Path:
        """Return where the worker says what it serves."""
        return workers_folder(folder) / f"{self.number}.json"


def workers_folder(folder: Path) -> Path:
    """Return where the workers of an endpoint say what they serve."""
    return folder / "workers"


class Launched(Protocol):
    """What a supervisor needs of a process it has started; a `Popen` is one."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit code; None while it lives."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when it has ended, or raise `subprocess.TimeoutExpired`."""
        ...

    def send_signal(self, number: int, /) -> None:
        """Send a signal."""
        ...

    def terminate(self) -> None:
        """Ask it to leave."""
        ...

    def kill(self) -> None:
        """End it."""
        ...


@dataclass(slots=True, kw_only=True)
class Worker:
    """A place for a worker: its process, its socket, how often it failed."""

    number: int
    process: Launched | None = None
    listener: socket.socket | None = None
    started_at: float = 0.0
    starts_at: float = 0.0
    n_failures: int = 0
    stamp: tuple[int, int] = (0, 0)
    actual: ActualState | None = None
    # told to leave for good
    is_leaving: bool = False

    def is_alive(self) -> bool:
        """Return whether it has a process that lives."""
        return self.process is not None and self.process.poll() is None


def _newest_failure(said: Sequence[ActualState], *, after: int) -> ActualState | None:
    """Return the newest failure; one about what has been replaced meanwhile is over.

    A worker that could not start says what failed then until it is started again.
    """
    failures = [
        (math.inf if state.error_generation is None else state.error_generation, state)
        for state in said
        if state.error is not None
    ]
    newest = max(failures, key=lambda each: each[0], default=None)
    return newest[1] if newest is not None and newest[0] >= after else None


@dataclass(slots=True)
class Supervisor:
    """Keep as many workers as `desired.json` asked for at the start, until SIGTERM or SIGINT.

    Every worker listens on a socket of its own on the same port (SO_REUSEPORT), which the system
    shares connections out over. The supervisor holds all of them open, so that connections made
    while a worker is being started again wait for it instead of being refused. `actual.json` says
    that a generation is served when every worker that lives serves it.

    Parameters
    ----------
    folder
        Of the endpoint.
    command
        Starts a worker; the seat is added as the last argument.
    leave_s
        How long the workers may take to leave, in seconds.
    look_s
        Seconds between two looks at them.
    fork
        Makes workers of copies of this process, in place of the command.
    """

    folder: Path
    command: Sequence[str]
    leave_s: float = 12.0
    look_s: float = _LOOK_S
    fork: Fork | None = None
    _workers: list[Worker] = field(default_factory=list)
    _told: ActualState | None = None
    _is_over: bool = False
    _was_ready: bool = False

    def run(self, desired: DesiredState) -> int:
        """Serve until told to stop; return 0, or the code of a worker that cannot start at all."""
        with bound_socket(desired.host, desired.port) as probe:
            port = int(probe.getsockname()[1])
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._pass_on)
        forget_counts(Endpoint("", self.folder).counts_folder)
        workers_folder(self.folder).mkdir(exist_ok=True)
        forget_last_served(workers_folder(self.folder))
        n_workers = most_workers(desired.workers)
        self._workers = [Worker(number=number) for number in range(n_workers)]
        base = ActualState(pid=os.getpid(), host=desired.host, port=port)
        line, held = os.pipe()
        self._load_for_copies()
        try:
            for worker in self._workers:
                worker.listener = shared_socket(desired.host, port)
            while not self._is_over:
                for worker in self._workers:
                    code = self._see_to(worker, base, line)
                    if code is not None and not self._was_ready:
                        self._tell(self._together(base))
                        return code if code > 0 else 1
                self._tell(self._together(base))
                time.sleep(self.look_s)
        finally:
            self._end()
            os.close(line)
            os.close(held)
        return 0

    # --- signals ---

    def _stop(self, _number: int, _frame: object) -> None:
        self._is_over = True

    def _pass_on(self, number: int, _frame: object) -> None:
        for worker in self._workers:
            if worker.process is not None and worker.is_alive():
                worker.process.send_signal(number)

    # --- one worker ---

    def _see_to(self, worker: Worker, base: ActualState, line: int) -> int | None:
        """Start a worker if it is time, read what it says, and return its code if it has ended."""
        now = time.monotonic()
        if worker.process is None:
            if now >= worker.starts_at:
                self._start(worker, base, line)
            elif worker.listener is not None and now > worker.started_at + _HELD_S:
                self._let_go(worker)
            return None
        self._read(worker)
        code = worker.process.poll()
        if code is None:
            return None
        n_failures = 0 if now - worker.started_at > _STEADY_S else worker.n_failures + 1
        wait_s = min(_FIRST_BACKOFF_S * 2 ** (n_failures - 1), _LAST_BACKOFF_S)
        # the first time at once: its callers wait
        worker.starts_at = now + (wait_s if n_failures > 1 else 0.0)
        worker.n_failures = n_failures
        retire_counts(Endpoint("", self.folder).counts_folder, worker.process.pid)
        worker.process = None
        level = logging.INFO if worker.is_leaving else logging.WARNING
        _log.log(level, "Worker %d ended with code %d.", worker.number, code)
        return code

    def _start(self, worker: Worker, base: ActualState, line: int) -> None:
        if worker.listener is None:
            worker.listener = self._held_by(base)
        seat = Seat(number=worker.number, listener=worker.listener.fileno(), line=line)
        seat.actual_path(self.folder).unlink(missing_ok=True)
        worker.actual, worker.stamp = None, (0, 0)
        worker.started_at = time.monotonic()
        worker.process = self._launched(seat)
        _log.info("Worker %d is process %d.", worker.number, worker.process.pid)

    def _load_for_copies(self) -> None:
        if self.fork is not None:
            self.fork.load()

    def _launched(self, seat: Seat) -> Launched:
        """Start a worker; a copy of this process saves it the time of loading everything."""
        if self.fork is not None:
            return copied(self.fork, number=seat.number, listener=seat.listener, line=seat.line)
        return subprocess.Popen(
            [*self.command, str(seat)],
            stdin=subprocess.DEVNULL,
            pass_fds=(seat.listener, seat.line),
        )

    def _held_by(self, base: ActualState) -> socket.socket:
        """Return a socket for a worker to listen on."""
        return shared_socket(base.host, base.port or 0)

    def _let_go(self, worker: Worker) -> None:
        """Close the socket of a worker that fails again and again: others answer its callers."""
        if worker.listener is not None:
            worker.listener.close()
            worker.listener = None

    def _read(self, worker: Worker) -> None:
        path = workers_folder(self.folder) / f"{worker.number}.json"
        try:
            seen = path.stat()
            stamp = (seen.st_mtime_ns, seen.st_ino)
            if stamp != worker.stamp:
                worker.actual = msgspec.json.decode(path.read_bytes(), type=ActualState)
                worker.stamp = stamp
        except (OSError, msgspec.DecodeError):
            return  # not written yet

    # --- all of them ---

    def _together(self, base: ActualState) -> ActualState:
        """Return what the endpoint serves: what the slowest of the living workers does."""
        # one that leaves follows no change any more
        staying = [worker for worker in self._workers if not worker.is_leaving]
        states = [worker.actual for worker in staying if worker.process is not None]
        pids = [worker.process.pid for worker in staying if worker.process is not None]
        told = msgspec.structs.replace(self._told or base, workers=pids)
        ready = [state for state in states if state is not None and state.generation is not None]
        if ready and len(ready) == len(states):
            self._was_ready = True
            slowest = min(ready, key=lambda state: state.generation or 0)
            if slowest.generation != told.generation:
                _log.info("All workers serve generation %s.", slowest.generation)
                told = msgspec.structs.replace(
                    told,
                    version=slowest.version,
                    variants=slowest.variants,
                    generation=slowest.generation,
                    ready_at=datetime.now(UTC).isoformat(),
                )
        said = [worker.actual for worker in staying if worker.actual is not None]
        failed = _newest_failure(said, after=told.generation or 0)
        return msgspec.structs.replace(
            told,
            error=failed.error if failed else None,
            error_generation=failed.error_generation if failed else None,
        )

    def _tell(self, actual: ActualState) -> None:
        if actual == self._told:
            return
        before, self._told = self._told, actual
        try:
            write_json_atomically(
                Endpoint("", self.folder).actual_path, msgspec.to_builtins(actual)
            )
        except OSError as error:
            _log.error("actual.json could not be written: %s", error)
        if before is not None and actual.generation != before.generation:
            # the next copies are to have it, too
            self._load_for_copies()

    def _end(self) -> None:
        """Close the port, have the workers finish what is under way, and end those that do not."""
        for worker in self._workers:
            if worker.listener is not None:
                worker.listener.close()
            if worker.process is not None and worker.is_alive():
                worker.process.terminate()
        end = time.monotonic() + self.leave_s
        for worker in self._workers:
            if worker.process is None:
                continue
            try:
                worker.process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                _log.warning("Worker %d was cut off.", worker.number)
                worker.process.kill()
                worker.process.wait()
