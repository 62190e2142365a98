"""A running job and what has been decided about it, from its start until nothing of it is left."""
# ruff: noqa: PTH110, PTH123, SIM105

from __future__ import annotations

import os
import resource
import select
import signal
import time

from .child import ENDINGS
from .log import Log
from .process import descendants, process_table, send, send_group
from .record import claim_name, exit_record
from .watchdog import Watchdog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

_GRACE_S = 10.0
_KILLING_S = 30.0
_HEARTBEAT_S = 10.0


class Supervision:
    """A running job and what has been decided about it.

    Parameters
    ----------
    output, child
        See `start_command`; signals in `ENDINGS` are blocked until they can be heeded here.
    number
        Which try at the job, from 0.
    time_limit_s
        0 for none.
    """

    def __init__(
        self,
        *,
        output: int,
        child: int,
        number: int,
        time_limit_s: float,
        log: Log,
        fail_when_log_full: bool,
        watchdog: Watchdog,
    ) -> None:
        self._claim = claim_name(number)
        self._time_limit_s = time_limit_s
        self._log = log
        self._fail_when_log_full = fail_when_log_full
        self._watchdog = watchdog
        self._signals: set[int] = set()
        self._wakes = self._catch_signals()
        self._outcome = ""
        self._reason = ""
        self._is_lost = False
        self._status: int | None = None
        self._kill_at = float("inf")
        self._started = time.monotonic()
        self._next_heartbeat = self._started + _HEARTBEAT_S
        self._output, self._child = output, child

    def run(self) -> dict[str, Any]:
        """Watch the job until nothing of it is left; return how it ended."""
        poll = select.poll()
        poll.register(self._output, select.POLLIN)
        poll.register(self._wakes, select.POLLIN)
        # what ended before its signal could be heeded
        self._reap()
        while self._status is None:
            for descriptor, _ in poll.poll(self._pause_s() * 1000):
                if descriptor == self._wakes:
                    os.read(self._wakes, 4096)
                elif self._relay() == b"":
                    poll.unregister(self._output)
            self._reap()
            self._heed_stop()
            self._hold_to_limits()
            self._beat()
        self._kill_all()
        while self._relay():
            pass
        self._log.close()
        return self._exit(os.waitstatus_to_exitcode(self._status))

    def _catch_signals(self) -> int:
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

        def note(number: int, _: FrameType | None) -> None:
            self._signals.add(number)

        for number in (*ENDINGS, signal.SIGCHLD):
            signal.signal(number, note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)
        return reading

    def _pause_s(self) -> float:
        until = min(self._watchdog.next_look, self._kill_at)
        if self._time_limit_s and not self._outcome:
            until = min(until, self._started + self._time_limit_s)
        return max(0.0, until - time.monotonic())

    def _relay(self) -> bytes | None:
        """Pass on what the job has printed: empty at its end, None while there is nothing new."""
        try:
            data = os.read(self._output, 1 << 16)
        except BlockingIOError:
            return None
        self._log.write(data)
        return data

    def _reap(self) -> bool:
        """Take in the processes that have ended; tell whether any is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._child:
                self._status = status

    def _heed_stop(self) -> None:
        asked = self._signals.intersection(ENDINGS)
        if not asked and (self._outcome or not os.path.exists("stop.json")):
            if time.monotonic() >= self._kill_at:
                self._kill_all()
            return
        self._signals -= asked
        request = _stop_request()
        grace_s = request["grace_s"] if request else _GRACE_S
        # a second request may shorten the first one's grace
        self._kill_at = min(self._kill_at, time.monotonic() + grace_s)
        self._decide("stopped", _stop_reason(request), is_lost=request is None)
        self._signal_all(signal.SIGTERM)

    def _hold_to_limits(self) -> None:
        if self._status is not None:
            return
        said = self._watchdog.look()
        if not self._outcome:
            said = said or self._beyond_time_or_log()
        if said:
            self._decide("failed", said)
            self._kill_all()

    def _beyond_time_or_log(self) -> str:
        limit = self._time_limit_s
        if limit and time.monotonic() - self._started >= limit:
            return f"It was ended at its time limit of {limit:g} s."
        if self._fail_when_log_full and self._log.is_full:
            return "It was ended because its log went beyond its limit (`limits.log`)."
        return ""

    def _beat(self) -> None:
        """Show others on the same disk, perhaps of another machine, that this process lives."""
        now = time.monotonic()
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + _HEARTBEAT_S
            try:
                os.utime(self._claim)
            except OSError:
                pass

    def _decide(self, outcome: str, reason: str, *, is_lost: bool = False) -> None:
        """Fix how the job is said to have ended; what was decided first stays."""
        if not self._outcome:
            self._outcome, self._reason, self._is_lost = outcome, reason, is_lost

    def _signal_all(self, number: int) -> None:
        for pid in descendants(os.getpid(), process_table()):
            send(pid, number)

    def _kill_all(self) -> None:
        """Kill the whole tree; orphans become our children, so none can slip away.

        By groups: the kernel takes a whole one at once, and no fork of it gets away, however fast
        it multiplies.
        """
        if self._status is None:
            send_group(self._child, signal.SIGKILL)
        deadline = time.monotonic() + _KILLING_S
        while self._reap() and time.monotonic() < deadline:
            table = process_table()
            tree = descendants(os.getpid(), table)
            for group in {table[pid].group for pid in tree} - {os.getpgid(0)}:
                send_group(group, signal.SIGKILL)
            time.sleep(0.002)

    def _exit(self, code: int) -> dict[str, Any]:
        killed_from_outside = code in (-signal.SIGKILL, -signal.SIGTERM)
        self._decide(
            "succeeded" if code == 0 else "failed",
            _exit_reason(code),
            is_lost=killed_from_outside,
        )
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        peak_bytes = max(self._watchdog.peak_bytes, used.ru_maxrss * 1024)
        return exit_record(
            outcome=self._outcome,
            reason=self._reason,
            is_lost=self._is_lost,
            exit_code=code,
            peak_memory_mib=round(peak_bytes / 2**20, 1),
            cpu_s=round(used.ru_utime + used.ru_stime, 3),
            log_left_out_bytes=self._log.left_out_bytes,
        )


def _exit_reason(code: int) -> str:
    if code == 0:
        return ""
    if code > 0:
        return f"It exited with code {code}."
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    by_kernel = ", perhaps by the kernel because memory ran out" if name == "SIGKILL" else ""
    return f"It was ended by {name}{by_kernel}."


def _stop_reason(request: dict[str, Any] | None) -> str:
    return "It was stopped on request." if request else "Its supervisor was told to end."


def _stop_request() -> dict[str, Any] | None:
    import json

    try:
        with open("stop.json") as file:
            request: dict[str, Any] = json.load(file)
    except (FileNotFoundError, ValueError):
        return None
    return request
