"""Around a user's own code: a process that holds it to its limits, and one that becomes it.

`guard` watches the whole process tree of the code as a job's supervisor does, passes on what it
prints, and ends it with the endpoint. `start` unpacks the archive, finds the environment of its
requirements, shows `/opt/ml` and becomes the interpreter of the user's code. Standard library only.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from loopwright.compute.supervisor.child import adopt_orphans, block_endings, start_command
from loopwright.compute.supervisor.supervision import Supervision
from loopwright.compute.supervisor.watchdog import Watchdog
from loopwright.core.errors import LoopwrightError
from loopwright.deploy.code_archive import CODE_FOLDER, unpack_archive
from loopwright.deploy.code_frame import EXIT_FILE, send_message

_PR_SET_PDEATHSIG = 1
_TAIL_BYTES = 4 << 10
_BURST_BYTES, _BYTES_PER_S = 1 << 20, 32 << 10
_HARMLESS = bytes(each if each >= 32 or each in (9, 10) else ord("?") for each in range(256))
# what code may see of the endpoint's environment: nothing that could hold a secret
_PASSED_ON = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_ML = "/opt/ml"


class RecentLog:
    """What the code prints: passed on at a bounded pace, and its end kept."""

    def __init__(self, target: int = 2) -> None:
        self._target = target
        self._room = float(_BURST_BYTES)
        self._at = time.monotonic()
        self._n_left_out = 0
        self.tail = b""
        self.is_full = False
        self.left_out_bytes = 0

    def write(self, data: bytes) -> None:
        """Take what was printed; what comes too fast is counted and left out."""
        data = data.translate(_HARMLESS)
        self.tail = (self.tail + data)[-_TAIL_BYTES:]
        now = time.monotonic()
        self._room = min(self._room + (now - self._at) * _BYTES_PER_S, float(_BURST_BYTES))
        self._at = now
        if len(data) > self._room:
            self._n_left_out += len(data)
            self.left_out_bytes += len(data)
            return
        if self._n_left_out:
            note = f"\n[loopwright: {self._n_left_out:,} bytes are left out here]\n"
            data, self._n_left_out = note.encode() + data, 0
        self._room -= len(data)
        self._append(data)

    def close(self) -> None:
        """Say how much was left out at the end."""
        if self._n_left_out:
            note = f"\n[loopwright: {self._n_left_out:,} bytes are left out here]\n"
            self._append(note.encode() + self.tail)

    def _append(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._target, data) :]
        except OSError:
            return


def guard(arguments: list[str]) -> int:
    """Watch the code described by ORDER until it has ended: ORDER, SOCKET, PARENT."""
    path, line, parent = arguments[0], int(arguments[1]), int(arguments[2])
    # whoever kills the endpoint ends its code
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        return 1
    order = json.loads(Path(path).read_bytes())
    os.chdir(order["run"])
    adopt_orphans()
    block_endings()
    boot = str(Path(__file__).with_name("code_boot.py"))
    output, child = start_command([sys.executable, "-I", "-S", boot, "start", path, str(line)])
    # the endpoint sees that the code has ended when nobody holds the line any more
    os.close(line)
    log = RecentLog()
    supervision = Supervision(
        output=output,
        child=child,
        number=0,
        time_limit_s=0.0,
        log=log,  # type: ignore[arg-type] # it is used in the same way
        fail_when_log_full=False,
        watchdog=Watchdog(
            memory_mib=order["memory_mib"],
            processes=order["processes"],
            disk_mib=order["disk_mib"],
        ),
    )
    record = supervision.run()
    record["tail"] = log.tail.decode(errors="replace")
    temporary = Path(f".{EXIT_FILE}")
    temporary.write_text(json.dumps(record))
    temporary.rename(EXIT_FILE)
    return 0


def start(arguments: list[str]) -> int:
    """Become the interpreter of the code, or tell the endpoint why not: ORDER, SOCKET."""
    from loopwright.train.own_environment import own_environment

    order = json.loads(Path(arguments[0]).read_bytes())
    line = int(arguments[1])
    try:
        model = _unpacked(order)
        # code that installs what it imports must not change what other models find
        python = own_environment(
            Path(order["run"]) / "environment",
            _interpreter(order, model),
            packages=order["packages"],
        )
        model_dir = _shown(order, model)
        _become(order, line, python, model_dir)
    except (LoopwrightError, OSError) as error:
        hint = error.hint if isinstance(error, LoopwrightError) else ""
        told = error.message if isinstance(error, LoopwrightError) else f"{error}."
        with socket.socket(fileno=line) as channel:
            send_message(channel, {"failed": told, "hint": hint}, until=time.monotonic() + 5.0)
    return 1


def _unpacked(order: dict[str, Any]) -> Path:
    """Return the folder of the archive's files; several processes unpack it once."""
    target = Path(order["unpacked"])
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            unpack_archive(Path(order["archive"]), target, most_bytes=order["most_bytes"])
    return target


def _interpreter(order: dict[str, Any], model: Path) -> str:
    requirements = model / CODE_FOLDER / "requirements.txt"
    python: str = order["python"]
    has_some = requirements.is_file() and requirements.read_text(errors="replace").strip()
    if not has_some and not order["framework"]:
        return python
    from loopwright.train.environment import framework_python

    return framework_python(
        requirements if has_some else None,
        framework=order["framework"],
        root=Path(order["environments"]),
        python=python,
        packages=order["packages"],
        beside=requirements.parent if has_some else model,
    )


def _shown(order: dict[str, Any], model: Path) -> str:
    """Show the files as `/opt/ml/model`, to this process alone; return where the code finds them."""
    from loopwright.train.script_mount import enter_private_view

    run = Path(order["run"])
    ml, scratch, hosts = run / "ml", run / "scratch", run / "hosts"
    for folder in (ml / "model", ml / "input" / "data", scratch):
        folder.mkdir(parents=True, exist_ok=True)
    known = Path("/etc/hosts")
    hosts.write_text(
        known.read_text(errors="replace") if known.exists() else "127.0.0.1 localhost\n"
    )
    pid = os.fork()
    if pid == 0:
        # a view that fails half-made is left by ending; this process only tries
        try:
            enter_private_view(
                str(ml), channels={}, scratch=str(scratch), hosts=str(hosts), model=str(model)
            )
        except BaseException:
            os._exit(1)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        enter_private_view(
            str(ml), channels={}, scratch=str(scratch), hosts=str(hosts), model=str(model)
        )
        return f"{_ML}/model"
    print(f"{_ML} cannot be shown to the code here; model_fn is told {model}.", flush=True)
    return str(model)


def _become(order: dict[str, Any], line: int, python: str, model_dir: str) -> None:
    # no core files; more than twice what it may hold is not even promised to it
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = 2 * order["memory_mib"] << 20
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    code = f"{model_dir}/{CODE_FOLDER}"
    host = str(Path(__file__).with_name("code_host.py"))
    words = [python, "-P", host, str(line), model_dir, order["program"], str(order["most_answer"])]
    os.set_inheritable(line, True)
    os.chdir(code)
    os.execve(python, words, _variables(order, python, model_dir))  # noqa: S606 no shell is wanted


def _variables(order: dict[str, Any], python: str, model_dir: str) -> dict[str, str]:
    """Return the whole environment of the code."""
    own = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    own |= {name: value for name, value in os.environ.items() if name.startswith("LC_")}
    code = f"{model_dir}/{CODE_FOLDER}"
    folder = str(Path(python).parent)
    variables = dict(order["variables"])
    return {
        **own,
        **dict.fromkeys(_THREADS, "1"),
        "PATH": os.pathsep.join([folder, own.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join(filter(None, [code, variables.pop("PYTHONPATH", "")])),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "SAGEMAKER_PROGRAM": order["program"],
        "SAGEMAKER_SUBMIT_DIRECTORY": code,
        "SAGEMAKER_BASE_DIR": model_dir.rpartition("/")[0],
        "SM_MODEL_DIR": model_dir,
        **variables,
    }
