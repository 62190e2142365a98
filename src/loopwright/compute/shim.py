"""The supervising process of one job: starts it, holds it to its limits, says how it ended.

Run by path as `python -I -S shim.py FOLDER TIME_LIMIT_S MEMORY_MIB LOG_BYTES COMMAND...`, with the
job's environment as its own; a time limit of 0 is none. It uses a few modules of the standard
library and imports nothing of loopwright, so that it starts in milliseconds and cannot fail with
it; that is also why it is one file. Linux only: it reads `/proc` and becomes the parent of orphans.

In the folder, `shim.json` is claimed by the first supervisor to come; a second one leaves at once,
so starting one twice runs the job once. `stop.json` asks for the end; `exit.json` says how it
ended.
"""
# pathlib, contextlib and json would double the time to start, so they are not used before it:
# ruff: noqa: PTH105, PTH108, PTH110, PTH123, PTH208, S606, SIM105

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import FrameType
    from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SAMPLE_EVERY_S = 0.2
# where thousands of processes make a sample dear, it is taken less often
_MOST_TIME_SAMPLING = 0.02
_GRACE_S = 10.0
_KILLING_S = 10.0
_LOG_TAIL_BYTES = 64 << 10
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_COOKIE = "LOOPWRIGHT_JOB_ID"
_ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def process_identity(pid: int) -> dict[str, Any] | None:
    """Return what tells a living process from any other one ever, or None if it does not live."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = _stat_fields(file.read())
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot_id = file.read().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in (b"Z", b"X"):
        return None
    return {"pid": pid, "start_ticks": int(fields[19]), "boot_id": boot_id}


def is_alive(identity: dict[str, Any]) -> bool:
    """Tell whether the process with an identity still lives."""
    return process_identity(identity["pid"]) == identity


def claim(folder: str) -> bool:
    """Take a job, in its folder, as this process's to supervise, unless another one has it."""
    identity = process_identity(os.getpid()) or {"boot_id": ""}
    # whole at once, since others read it: written aside, then linked to its name
    temporary = f"{folder}/shim.{os.getpid()}"
    with open(temporary, "w") as file:
        file.write(_flat_json(identity))
    try:
        os.link(temporary, f"{folder}/shim.json")
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    return True


def kill_marked(job_id: str) -> int:
    """Kill every process that carries a job's mark in its environment; return how many.

    Only for a job whose supervisor was killed: what it started lives on without a parent.
    """
    mark = f"{_COOKIE}={job_id}".encode()
    killed: set[int] = set()
    deadline = time.monotonic() + _KILLING_S
    while time.monotonic() < deadline:
        marked = [pid for pid in process_table() if mark in _environment(pid)]
        if not marked:
            break
        for pid in marked:
            _send(pid, signal.SIGKILL)
        killed.update(marked)
        time.sleep(0.005)
    return len(killed)


def process_table() -> dict[int, tuple[int, int]]:
    """Return the parent and the resident bytes of every process by its id."""
    table = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = _stat_fields(file.read())
        except (FileNotFoundError, ProcessLookupError):
            continue
        table[int(name)] = (int(fields[1]), int(fields[21]) * _PAGE_BYTES)
    return table


def descendants(root: int, table: dict[int, tuple[int, int]]) -> list[int]:
    """Return the processes below `root`, parents before children."""
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in table.items():
        children.setdefault(parent, []).append(pid)
    found, at = list(children.get(root, [])), 0
    while at < len(found):
        found += children.get(found[at], [])
        at += 1
    return found


def _stat_fields(stat: bytes) -> list[bytes]:
    # the name in parentheses may itself hold spaces and parentheses
    return stat[stat.rindex(b")") + 2 :].split()


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def _own_share_bytes(pids: Iterable[int]) -> int:
    """Return the memory of processes with every shared page counted once among them."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                shares = [line for line in file if line.startswith(b"Pss:")]
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in shares)
    return total


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


class Log:
    """`log.txt`, kept whole up to a limit, and after that only its end."""

    def __init__(self, *, limit_bytes: int) -> None:
        self._file = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._limit = limit_bytes
        self._room = limit_bytes
        self._tail = b""
        self._n_beyond = 0

    def write(self, data: bytes) -> None:
        """Add what the job has printed."""
        head, rest = data[: self._room], data[self._room :]
        self._room -= len(head)
        self._append(head)
        self._n_beyond += len(rest)
        self._tail = (self._tail + rest)[-_LOG_TAIL_BYTES:]

    def close(self) -> None:
        """Write the end of what went beyond the limit."""
        if self._n_beyond:
            left_out = self._n_beyond - len(self._tail)
            note = (
                f"\n[loopwright: the log went beyond {self._limit:,} bytes; "
                f"{left_out:,} bytes are left out here]\n"
            )
            self._append(note.encode() + self._tail)
        os.close(self._file)

    def _append(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError:
            # a full disk must not end the job: it has its own way of meeting one
            pass


class Supervision:
    """A running job and what has been decided about it."""

    def __init__(
        self, command: list[str], *, time_limit_s: float, memory_mib: int, log_bytes: int
    ) -> None:
        self._time_limit_s = time_limit_s
        self._memory_mib = memory_mib
        self._log = Log(limit_bytes=log_bytes)
        self._signals: set[int] = set()
        self._wakes = self._catch_signals()
        self._outcome = ""
        self._reason = ""
        self._status: int | None = None
        self._kill_at = float("inf")
        self._peak_bytes = 0
        self._started = time.monotonic()
        self._next_sample = self._started + _SAMPLE_EVERY_S / 2
        self._output, self._child = _start(command)

    def run(self) -> dict[str, Any]:
        """Watch the job until nothing of it is left; return how it ended."""
        poll = select.poll()
        poll.register(self._output, select.POLLIN)
        poll.register(self._wakes, select.POLLIN)
        while self._status is None:
            for descriptor, _ in poll.poll(self._pause_s() * 1000):
                if descriptor == self._wakes:
                    os.read(self._wakes, 4096)
                elif self._relay() == b"":
                    poll.unregister(self._output)
            self._reap()
            self._heed_stop()
            self._check_time()
            self._check_memory()
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

        for number in (*_ENDINGS, signal.SIGCHLD):
            signal.signal(number, note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDINGS)
        return reading

    def _pause_s(self) -> float:
        until = min(self._next_sample, self._kill_at)
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
        asked = self._signals.intersection(_ENDINGS)
        if not asked and (self._outcome or not os.path.exists("stop.json")):
            if time.monotonic() >= self._kill_at:
                self._kill_all()
            return
        self._signals -= asked
        request = _stop_request()
        grace_s = request["grace_s"] if request else _GRACE_S
        # a second request may shorten the first one's grace
        self._kill_at = min(self._kill_at, time.monotonic() + grace_s)
        self._decide("stopped", _stop_reason(request))
        self._signal_all(signal.SIGTERM)

    def _check_time(self) -> None:
        limit = self._time_limit_s
        if limit and not self._outcome and time.monotonic() - self._started >= limit:
            self._decide("failed", f"It was ended at its time limit of {limit:g} s.")
            self._kill_all()

    def _check_memory(self) -> None:
        now = time.monotonic()
        if now < self._next_sample or self._status is not None:
            return
        table = process_table()
        tree = descendants(os.getpid(), table)
        used = sum(table[pid][1] for pid in tree)
        limit_mib = self._memory_mib
        if used > limit_mib << 20:
            # pages that forked processes share were counted for each
            used = min(used, _own_share_bytes(tree) or used)
        self._peak_bytes = max(self._peak_bytes, used)
        took = time.monotonic() - now
        self._next_sample = now + max(_SAMPLE_EVERY_S, took / _MOST_TIME_SAMPLING)
        if used > limit_mib << 20:
            self._decide(
                "failed",
                f"It was ended because it used {used >> 20:,} MiB of memory; "
                f"its limit is {limit_mib:,} MiB (`resources.memory`).",
            )
            self._kill_all()

    def _decide(self, outcome: str, reason: str) -> None:
        """Fix how the job is said to have ended; what was decided first stays."""
        if not self._outcome:
            self._outcome, self._reason = outcome, reason

    def _signal_all(self, number: int) -> None:
        for pid in descendants(os.getpid(), process_table()):
            _send(pid, number)

    def _kill_all(self) -> None:
        """Kill the whole tree; orphans become our children, so none can slip away."""
        deadline = time.monotonic() + _KILLING_S
        while self._reap() and time.monotonic() < deadline:
            self._signal_all(signal.SIGKILL)
            time.sleep(0.002)

    def _exit(self, code: int) -> dict[str, Any]:
        self._decide("succeeded" if code == 0 else "failed", _exit_reason(code))
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        peak_bytes = max(self._peak_bytes, used.ru_maxrss * 1024)
        return _exit_record(
            outcome=self._outcome,
            reason=self._reason,
            exit_code=code,
            peak_memory_mib=round(peak_bytes / 2**20, 1),
            cpu_s=round(used.ru_utime + used.ru_stime, 3),
        )


def _start(command: list[str]) -> tuple[int, int]:
    """Start the job's command; return where its output is read, and its process id."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reading, False)
    shim, pid = os.getpid(), os.fork()
    if pid:
        os.close(writing)
        return reading, pid
    try:
        _become_the_job(shim, writing)
        os.execvp(command[0], command)
    except OSError as error:
        text = f"The command {command[0]!r} cannot be started: {error.strerror}.\n"
        os.write(2, text.encode(errors="replace"))
    finally:
        os._exit(127)


def _become_the_job(shim: int, output: int) -> None:
    # whoever kills the supervisor kills the job
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != shim:
        os._exit(127)
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (*_ENDINGS, signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, target)
    # when memory runs out all the same, the kernel should take the job before anything else
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
    except OSError:
        pass


def _exit_record(**values: Any) -> dict[str, Any]:
    return {"format": 1, **values, "ended_at": time.time()}


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


def _flat_json(values: Mapping[str, Any]) -> str:
    """Return JSON of numbers, None and our own plain texts, which need no escapes."""
    texts = {None: "null"}
    written = [
        f'"{name}": ' + (f'"{value}"' if isinstance(value, str) else texts.get(value, f"{value}"))
        for name, value in values.items()
    ]
    return "{" + ", ".join(written) + "}"


def _write_exit(record: Mapping[str, Any]) -> None:
    with open(".exit.json", "w") as file:
        file.write(_flat_json(record))
        file.flush()
        os.fsync(file.fileno())
    os.replace(".exit.json", "exit.json")


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def _close_inherited() -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:
                # it was the one that listed them
                pass


def supervise(
    folder: str, command: list[str], *, time_limit_s: float, memory_mib: int, log_bytes: int
) -> None:
    """Run the job in a folder to its end, unless another supervisor has it."""
    os.chdir(folder)
    _close_inherited()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    # who finds the claim may send a signal, which waits until it is heeded
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    if not claim("."):
        return
    # only whoever starts the supervisor needs it, and it may hold secrets
    os.unlink("env.json")
    if os.path.exists("stop.json"):
        reason = "It was stopped before it started."
        record = _exit_record(
            outcome="stopped", reason=reason, exit_code=None, peak_memory_mib=None, cpu_s=None
        )
    else:
        supervision = Supervision(
            command, time_limit_s=time_limit_s, memory_mib=memory_mib, log_bytes=log_bytes
        )
        record = supervision.run()
    _write_exit(record)


if __name__ == "__main__":
    supervise(
        sys.argv[1],
        sys.argv[5:],
        time_limit_s=float(sys.argv[2]),
        memory_mib=int(sys.argv[3]),
        log_bytes=int(sys.argv[4]),
    )
