"""The node's side of a job on a Ray cluster: fetches it, has it supervised, sends what it leaves.

`python -m loopwright.compute.ray_node LOCATION JOB NUMBER`, started by Ray with the resources of
the job. The command runs under the same supervising process as on a single machine, so its limits,
its record of the end and the killing of its whole tree are the same code. It ends when this
process does, and this process ends when Ray on this node does: nothing goes on where nobody knows
of it.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from loopwright.compute.job import Job, job_of_body
from loopwright.compute.launch import spawned, supervisor_command
from loopwright.compute.origin import code_versions
from loopwright.compute.ray_exchange import RayExchange
from loopwright.compute.supervisor.process import is_alive, kill_marked, process_identity
from loopwright.compute.workspace import CHECKPOINT_DIR, request_stop
from loopwright.core.errors import BackendError, InvalidInputError, LoopwrightError

ORDER_FORMAT = 1
TRY_AGAIN = 75
"""The exit code, as in sysexits.h, for what may go better another time."""
_GLANCE_S = 0.1
# asking an object store costs money, asking a folder does not
_ASK_FOLDER_S, _ASK_STORE_S = 0.3, 2.0
_LONGEST_LOG_PAUSE_S = 15.0
_CHECKPOINT_EVERY_S = 5.0
_ORPHAN_GRACE_S = 2.0
_CACHED_FOR_S = 7 * 86_400.0
# set here and not by the submitter, whose machine is another one, unless the job asks for its own
_OF_THE_NODE = ("PATH", "HOME", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
# the supervisor's own parent is a program that tells the kernel to end it with this one
_TIED = (
    "import ctypes, os, sys\n"
    "ctypes.CDLL(None).prctl(1, ctypes.c_ulong(15), 0, 0, 0)\n"
    "if os.getppid() != int(sys.argv[1]): sys.exit(1)\n"
    "os.execv(sys.argv[2], sys.argv[2:])"
)


class RayNodeRun:
    """One run of a job on this node.

    Parameters
    ----------
    exchange
        Where its orders are and its results go.
    job_id, number
        Which job, and which run of it.
    folder
        A folder of this node's disk for it, removed by the caller.
    """

    def __init__(self, exchange: RayExchange, job_id: str, number: int, folder: Path) -> None:
        self._exchange = exchange
        self._job_id = job_id
        self._scope = f"{job_id}/{number}"
        self._job: Job
        self._folder = folder / job_id
        self._parents = _parents()
        self._sent_bytes = 0
        self._n_segments = 0
        self._n_checkpoints = 0
        self._heeded: dict[str, Any] | None = None
        self._checkpoints_seen: Any = None
        self._checkpoints_sent: Any = None

    def run(self) -> int:
        """Run it to its end; return 0 once how it ended is known to the submitter."""
        order = self._exchange.find(self._scope, "order.json")
        if order is None:
            # it was given up before it came to start
            return 0
        try:
            command, environment = self._prepare(order)
        except LoopwrightError as error:
            is_lost = isinstance(error, BackendError) and error.retryable
            return self._send_exit(
                {"outcome": "failed", "reason": _text(error), "is_lost": is_lost}
            )
        if self._exchange.find(self._scope, "stop.json") is not None:
            return self._send_exit(
                {"outcome": "stopped", "reason": "It was stopped before it started."}
            )
        self._exchange.put(
            self._scope, "start.json", {"host": _host_name(), "at": time.time(), "pid": os.getpid()}
        )
        record = self._supervise(command, environment)
        if record is None:
            return 1
        return self._send_exit(record)

    def _prepare(self, order: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
        """Fetch the job's files; return its command and environment as they are on this node."""
        version = own_version()
        if order["format"] != ORDER_FORMAT or order["version"] != version:
            raise InvalidInputError(
                f"The node {_host_name()} has loopwright {version}, the submitter has "
                f"{order['version']}.",
                hint="Install the same version on every machine.",
                field="version",
                value=version,
            )
        given = self._exchange.find(self._scope, "env.json")
        if given is None:
            raise InvalidInputError(
                "The environment of the job is not there.", hint="Submit it again."
            )
        self._exchange.delete(self._scope, "env.json")
        job = job_of_body(order["job"], folder=self._folder.parent)
        self._job = replace(job, folder=self._folder, retries=0, retried=0)
        self._folder.mkdir(mode=0o700, parents=True)
        (self._folder / "out").mkdir()
        self._exchange.get_tree(self._job_id, "in", order["files"], self._folder)
        environment = _environment(given, own=order["own_variables"])
        if self._job.resources.gpus == 0:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        elif "CUDA_VISIBLE_DEVICES" in os.environ:
            environment["CUDA_VISIBLE_DEVICES"] = os.environ["CUDA_VISIBLE_DEVICES"]
        # where workers that train one model together can reach each other
        environment["LOOPWRIGHT_NODE_IP"] = order["node_ip"]
        if self._job.checkpoints:
            self._job.checkpoints.mkdir(parents=True)
            environment[CHECKPOINT_DIR] = str(self._job.checkpoints)
            came = order["checkpoints"]
            if came:
                self._exchange.get_tree(
                    came["scope"], "checkpoints", came["files"], self._job.checkpoints
                )
        command = [sys.executable if part == order["python"] else part for part in order["command"]]
        # the supervisor takes the environment's file away, as it does on one machine
        (self._folder / "env.json").touch(mode=0o600)
        return command, environment

    def _supervise(
        self, command: list[str], environment: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """Run the command; return how it ended, or None if this node is to give it up."""
        tied = [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid())]
        whole = [*tied, *supervisor_command(self._job, command)]
        pid = spawned(whole, environment, log=self._job.log_path)
        started = asked = logged = kept = time.monotonic()
        ask_every_s = _ASK_FOLDER_S if self._exchange.is_folder else _ASK_STORE_S
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            now = time.monotonic()
            if not all(map(is_alive, self._parents)):
                self._end_orphan(pid)
                return None
            if now - asked > ask_every_s:
                asked = now
                self._heed_stop(pid)
            if now - logged > _log_pause_s(now - started, ask_every_s):
                logged = now
                self._send_log()
            if self._job.checkpoints and now - kept > _CHECKPOINT_EVERY_S:
                kept = now
                self._send_checkpoints()
            time.sleep(_GLANCE_S)
        self._send_log()
        self._send_checkpoints(at_rest=True)
        return self._record()

    def _heed_stop(self, supervisor: int) -> None:
        """Pass on a request to stop, and a later one that may shorten its grace."""
        # what cannot be asked now is asked again
        with suppress(LoopwrightError):
            asked = self._exchange.find(self._scope, "stop.json")
            if asked is None or asked == self._heeded:
                return
            self._heeded = asked
            request_stop(self._folder, grace_s=float(asked["grace_s"]))
            with suppress(ProcessLookupError):
                os.kill(supervisor, signal.SIGTERM)

    def _send_log(self) -> None:
        """Send what the job has printed since the last time; what fails is sent the next time."""
        with suppress(LoopwrightError, OSError):
            with self._job.log_path.open("rb") as file:
                file.seek(self._sent_bytes)
                data = file.read()
            if data:
                name = f"log/{self._n_segments:06d}"
                self._exchange.put_bytes(self._scope, name, data)
                self._n_segments += 1
                self._sent_bytes += len(data)

    def _send_checkpoints(self, *, at_rest: bool = False) -> None:
        """Send the checkpoints where they have changed and are not being written just now."""
        folder = self._job.checkpoints
        if folder is None:
            return
        seen = _appearance(folder)
        is_at_rest = at_rest or seen == self._checkpoints_seen
        self._checkpoints_seen = seen
        if not is_at_rest or seen == self._checkpoints_sent:
            return
        with suppress(LoopwrightError, OSError):
            # each set under a name of its own, so that the one before it stays whole meanwhile
            self._n_checkpoints += 1
            scope = f"{self._scope}/set-{self._n_checkpoints}"
            files = self._exchange.put_tree(scope, "checkpoints", folder)
            self._exchange.put(self._scope, "checkpoints.json", {"scope": scope, "files": files})
            self._checkpoints_sent = seen
            if self._n_checkpoints > 2:
                self._exchange.delete_all(f"{self._scope}/set-{self._n_checkpoints - 2}")

    def _record(self) -> dict[str, Any] | None:
        import json

        with suppress(OSError, ValueError):
            record: dict[str, Any] = json.loads((self._folder / "exit.json").read_bytes())
            return record
        # the supervisor was killed, and what it watched over may live on
        kill_marked(self._job_id)
        return {
            "outcome": "failed",
            "reason": "The supervising process was killed.",
            "is_lost": True,
        }

    def _end_orphan(self, supervisor: int) -> None:
        """End the job since Ray on this node is gone: it runs elsewhere by now, or will."""
        with suppress(ProcessLookupError):
            os.kill(supervisor, signal.SIGTERM)
        deadline = time.monotonic() + _ORPHAN_GRACE_S
        while os.waitpid(supervisor, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                with suppress(ProcessLookupError):
                    os.kill(supervisor, signal.SIGKILL)
                break
            time.sleep(_GLANCE_S)
        kill_marked(self._job_id)

    def _send_exit(self, record: Mapping[str, Any]) -> int:
        """Tell how it ended, after everything it leaves has been sent."""
        out = self._folder / "out"
        nothing: dict[str, Any] = dict.fromkeys(("exit_code", "peak_memory_mib", "cpu_s"))
        whole = {
            "format": 1,
            "ended_at": time.time(),
            "is_lost": False,
            "log_left_out_bytes": 0,
            **nothing,
            **record,
        }
        files = self._exchange.put_tree(self._scope, "out", out) if out.is_dir() else {}
        folders = [p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_dir()]
        sent = {"record": whole, "out": files, "folders": folders, "n_segments": self._n_segments}
        self._exchange.put(self._scope, "exit.json", sent)
        return 0


def own_version() -> str:
    """Return the version of loopwright that runs here."""
    return code_versions(Path("/"))["loopwright"]


def _log_pause_s(since_start_s: float, least_s: float) -> float:
    """Return how long to wait between two pieces of the log: longer for long jobs, so that a job
    of a day leaves some thousand pieces and not ten times as many."""
    return min(max(least_s, since_start_s / 100), _LONGEST_LOG_PAUSE_S)


def _environment(given: Mapping[str, str], *, own: list[str]) -> dict[str, str]:
    """Return a job's environment with what belongs to a machine taken from this one."""
    kept = {name: value for name, value in given.items() if name in own or name not in _OF_THE_NODE}
    here = {name: os.environ[name] for name in _OF_THE_NODE if name in os.environ}
    return {**here, **kept}


def _appearance(folder: Path) -> list[tuple[str, int, int]]:
    """Return what tells whether files have changed."""
    seen = []
    for path in sorted(folder.rglob("*")):
        with suppress(OSError):
            if path.is_file():
                about = path.stat()
                seen.append((path.as_posix(), about.st_size, about.st_mtime_ns))
    return seen


def _parents() -> list[dict[str, Any]]:
    """Return who Ray is on this node: the process that started this one, and the one above it."""
    found, pid = [], os.getppid()
    for _ in range(2):
        identity = process_identity(pid)
        if identity is None or pid <= 1:
            break
        found.append(identity)
        fields = Path(f"/proc/{pid}/stat").read_bytes()
        pid = int(fields[fields.rindex(b")") + 2 :].split()[1])
    return found


def _host_name() -> str:
    return os.uname().nodename


def _text(error: LoopwrightError) -> str:
    return " ".join(str(error).split())


def main(arguments: list[str]) -> int:
    """Run a job: LOCATION JOB NUMBER."""
    location, job_id, number = arguments
    scratch = Path(tempfile.mkdtemp(prefix="loopwright-"))
    try:
        exchange = RayExchange(location, _cache(scratch))
        return RayNodeRun(exchange, job_id, int(number), scratch).run()
    except BackendError as error:
        print(_text(error), file=sys.stderr)
        return TRY_AGAIN if error.retryable else 1
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _cache(scratch: Path) -> Path:
    """Return where this node keeps artifacts it has fetched, so that the next job finds them."""
    cache = Path(tempfile.gettempdir()) / f"loopwright-cache-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    about = cache.lstat()
    # anyone could have made a folder of that name before us
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o077:
        return scratch / "cache"
    for path in cache.rglob("*"):
        with suppress(OSError):
            if path.is_file() and time.time() - path.stat().st_mtime > _CACHED_FOR_S:
                path.unlink()
    return cache


if __name__ == "__main__":
    # Ray's own stop ends the job as a stop of ours would, and is no reason to leave anything behind
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(sys.argv[1:]))
