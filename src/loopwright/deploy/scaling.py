"""Workers by load behind one port: more when they are busy, none when nobody asks."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loopwright.deploy.address import bound_socket
from loopwright.deploy.counts import added_up, forget_counts, kept_counts
from loopwright.deploy.endpoint import ActualState, DesiredState, Endpoint
from loopwright.deploy.invocation_queue import InvocationQueue
from loopwright.deploy.scale import Load, Scale, Scaler
from loopwright.deploy.supervisor import Supervisor, Worker, workers_folder
from loopwright.deploy.worker_copy import Fork

_log = logging.getLogger(__name__)

_BACKLOG = 1024
_DECIDE_S = 0.5
# without a worker there is only the port and desired.json to look at
_ASLEEP_S = 0.2
_NOT_ASKED = frozenset({"/ping", "/metrics", "none"})
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# a model that fails so often is not waited for any more
_MOST_FAILURES = 2
_UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n"
    b"retry-after: 5\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"
)
_BODY = (
    b'{"error":{"message":"The model of this endpoint cannot be opened now; its log says why."}}'
)


@dataclass(slots=True)
class ScalingSupervisor(Supervisor):
    """Keep between `least` and `most` workers on one listening socket that all of them share.

    The supervisor holds the socket, so a connection made while there is no worker waits in its
    queue, 1,024 at most, for the one that is started for it. Connections that are kept open stay with
    their worker; so when one is added the busiest is exchanged. A worker that is not needed any more
    takes no new connections, ends those it has with its last answers, and leaves.
    """

    scale: Scale = field(default_factory=Scale)
    _listener: socket.socket | None = None
    _scaler: Scaler = field(default_factory=lambda: Scaler(Scale(), 1))
    _busy_s: dict[int, float] = field(default_factory=dict)
    _decided_at: float = 0.0
    _stamp: tuple[int, ...] = ()
    # own code may take long to load; its workers are not exchanged for better shares
    _renews: bool = True
    _crowded: Worker | None = None

    def run(self, desired: DesiredState) -> int:
        """Serve until told to stop; return 0, or the code of a worker that cannot start at all."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._pass_on)
        forget_counts(Endpoint("", self.folder).counts_folder)
        workers_folder(self.folder).mkdir(exist_ok=True)
        # one to begin with in any case: it shows that the model can be opened
        self._scaler = Scaler(self.scale, max(self.scale.least, 1))
        self._renews = all(variant.code is None for variant in desired.all_variants)
        # one more than wanted while one is exchanged
        self._workers = [Worker(number=number) for number in range(self.scale.most + 1)]
        line, held = os.pipe()
        self._load_for_copies()
        try:
            with bound_socket(desired.host, desired.port) as listener:
                listener.listen(_BACKLOG)
                self._listener = listener
                port = int(listener.getsockname()[1])
                base = ActualState(pid=os.getpid(), host=desired.host, port=port)
                self._stamp = self._seen()
                while not self._is_over:
                    code = self._look(base, line)
                    if code is not None:
                        return code
        finally:
            self._end()
            os.close(line)
            os.close(held)
        return 0

    def _look(self, base: ActualState, line: int) -> int | None:
        living = [worker for worker in self._workers if worker.process is not None]
        for worker in self._called_for(living):
            code = self._see_to(worker, base, line)
            if code is not None and worker.is_leaving:
                worker.is_leaving, worker.n_failures, worker.starts_at = False, 0, 0.0
                worker.actual = None
            elif code is not None and not self._was_ready:
                self._tell(self._together(base))
                return code if code > 0 else 1
        self._tell(self._together(base))
        self._pause()
        self._decide()
        return None

    def _called_for(self, living: Sequence[Worker]) -> list[Worker]:
        """Return the workers to see to: those that live, and free places for those that lack."""
        staying = [worker for worker in living if not worker.is_leaving]
        n_lacking = self._scaler.wanted - len(staying)
        free = [worker for worker in self._workers if worker.process is None]
        # where one has failed it is tried again, after its pause
        free.sort(key=lambda worker: -worker.n_failures)
        return [*living, *free[: max(0, n_lacking)]]

    def _pause(self) -> None:
        assert self._listener is not None  # noqa: S101 `run` has made it
        living = [worker for worker in self._workers if worker.process is not None]
        if living:
            time.sleep(self.look_s)
            return
        if not select.select([self._listener], [], [], _ASLEEP_S)[0]:
            if self._seen() != self._stamp:
                # a worker carries the change out, or says why it cannot be
                self._scaler.woken(time.monotonic())
            return
        self._scaler.woken(time.monotonic())
        if max(worker.n_failures for worker in self._workers) >= _MOST_FAILURES:
            _turn_away(self._listener)
            time.sleep(self.look_s)

    def _decide(self) -> None:
        now = time.monotonic()
        if now - self._decided_at < _DECIDE_S:
            return
        took_s, self._decided_at = now - self._decided_at, now
        staying = [
            worker
            for worker in self._workers
            if worker.process is not None and not worker.is_leaving
        ]
        before = self._scaler.wanted
        load = self._load(staying, now, took_s)
        wanted = self._scaler.decide(load)
        self._stamp = self._seen() if staying else self._stamp
        if wanted != before:
            _log.info("%d workers are wanted now, %d were before.", wanted, before)
        if wanted > before and self._renews:
            self._crowded = max(staying, key=lambda worker: self._busy_s.get(_pid(worker), 0.0))
        elif self._crowded is not None and load.n_ready >= wanted:
            # its callers connect anew, and to all of them
            if self._crowded in staying:
                _take_leave(self._crowded)
            self._crowded = None
        for worker in staying[wanted:]:
            _take_leave(worker)

    def _load(self, staying: Sequence[Worker], now: float, took_s: float) -> Load:
        busy = 0.0
        used: dict[int, float] = {}
        for worker in staying:
            pid = _pid(worker)
            used[pid] = _cpu_s(pid)
            busy += max(0.0, used[pid] - self._busy_s.get(pid, used[pid])) / took_s
        self._busy_s = used
        whole = added_up(kept_counts(Endpoint("", self.folder).counts_folder))
        postponed = InvocationQueue(self.folder / "async").backlog()[0]
        return Load(
            at=now,
            n_ready=sum(worker.actual is not None and _serves(worker.actual) for worker in staying),
            busy=busy,
            n_waiting=whole.gauges.get("waiting_requests", 0.0) + postponed,
            n_asked=sum(n for route, _, n in whole.requests if route not in _NOT_ASKED),
        )

    def _seen(self) -> tuple[int, ...]:
        try:
            seen = Endpoint("", self.folder).desired_path.stat()
        except OSError:
            return ()
        return (seen.st_mtime_ns, seen.st_ino, seen.st_size)

    def _held_by(self, base: ActualState) -> socket.socket:
        assert self._listener is not None  # noqa: S101 `run` has made it
        return self._listener

    def _let_go(self, worker: Worker) -> None:
        """Keep the socket: the others answer what waits in it."""


def supervisor_of(
    desired: DesiredState,
    folder: Path,
    command: Sequence[str],
    leave_s: float,
    fork: Fork | None = None,
) -> Supervisor:
    """Return what sees to the workers that are asked for."""
    if isinstance(desired.workers, Scale):
        return ScalingSupervisor(folder, command, leave_s, fork=fork, scale=desired.workers)
    return Supervisor(folder, command, leave_s, fork=fork)


def _pid(worker: Worker) -> int:
    return worker.process.pid if worker.process is not None else 0


def _take_leave(worker: Worker) -> None:
    worker.is_leaving = True
    if worker.process is not None:
        worker.process.terminate()


def _serves(actual: ActualState) -> bool:
    return actual.generation is not None


def _cpu_s(pid: int) -> float:
    """Return the seconds that a process has computed."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _turn_away(listener: socket.socket) -> None:
    """Answer all who wait that there is nobody to ask."""
    listener.setblocking(False)
    for _ in range(_BACKLOG):
        try:
            line, _ = listener.accept()
        except OSError:
            return
        with line:
            line.settimeout(0.02)
            try:
                line.recv(1 << 16)
                line.sendall(_UNAVAILABLE % (len(_BODY), _BODY))
            except OSError:
                continue
