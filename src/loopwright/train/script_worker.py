"""The process of a script job: lays out `/opt/ml`, starts the script, packs what it leaves behind.

Started by `script_start`. It loads the standard library and a few modules beside it, and what it
needs after the start only then, so that a script starts soon. It ends with the script's own exit
code, or with 1 and the reason as its last line.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from loopwright.core.errors import BackendError, InvalidInputError, LoopwrightError
from loopwright.train.script_contract import (
    BASE,
    CODE_FOLDER,
    HOST,
    INSTALLER_PREFIXES,
    ML_FOLDER,
    ORDER_FILE,
    ScriptOrder,
    arguments,
    config_files,
    contract_variables,
)
from loopwright.train.script_metric import MetricFinder
from loopwright.train.script_mount import bubblewrap_command, enter_private_view

METRICS_FILE = "metrics.jsonl"
RESULT_FILE = "script.json"
MODEL_ARCHIVE = "model.tar.gz"
OUTPUT_ARCHIVE = "output.tar.gz"
TIMED_OUT = 124
# as much of `output/failure` as SageMaker shows
_FAILURE_CHARACTERS = 1024
_MISSING = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")
_TAIL_BYTES = 4 << 10
# what the report of a failed start begins with once the view of the folders stands
_STARTED = b"\0"


class _View(NamedTuple):
    """One way to show a script its `/opt/ml`: where it is, what stands before the command."""

    base: str
    prefix: tuple[str, ...] = ()
    enter: Callable[[], None] | None = None


class _Run:
    """A script that runs: its process, where its output is read, and how it ended."""

    def __init__(self, pid: int, output: int, base: str) -> None:
        self.pid = pid
        self.output = output
        self.base = base
        self.exit_code: int | None = None
        self.timed_out = False
        self.tail = b""
        self.kill_at = float("inf")


def main() -> int:
    """Do the job in the present folder and return the exit code."""
    started = time.monotonic()
    folder = Path.cwd()
    try:
        order = ScriptOrder.from_json(json.loads((folder / ORDER_FILE).read_bytes()))
        _lay_out(folder, order)
        python = _interpreter(folder, order)
        prepared = time.monotonic()
        with (folder / "out" / METRICS_FILE).open("w", buffering=1) as file:
            finder = MetricFinder(order.metrics, file)
            run = _started(folder, order, python)
            until = started + order.time_limit_s if order.time_limit_s else float("inf")
            _watched(run, finder, until=until, grace_s=order.grace_s)
            finder.close()
        ended = time.monotonic()
        times = {"prepare_s": prepared - started, "script_s": ended - prepared}
        return _finished(folder, order, run, finder.latest, times)
    except LoopwrightError as error:
        return _failed(folder, str(error))
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return _failed(folder, f"The job could not go on: {error.strerror or error}{where}.")
    except Exception as error:
        # whatever it is, a result says why there is no model
        return _failed(folder, f"The job could not go on: {type(error).__name__}: {error}.")


def _failed(folder: Path, reason: str) -> int:
    with suppress(OSError):
        _write_result(folder, {"exit_code": None, "failure": reason, "warnings": []})
    print(reason, file=sys.stderr, flush=True)
    return 1


def _write_result(folder: Path, result: Mapping[str, Any]) -> None:
    from loopwright.core.files import write_atomically

    write_atomically(folder / "out" / RESULT_FILE, json.dumps({"format": 1, **result}).encode())


def _lay_out(folder: Path, order: ScriptOrder) -> None:
    """Make the folders and files of the contract below `ml`."""
    ml = folder / ML_FOLDER
    # of an earlier try, which was lost
    for path in (ml, folder / "scratch"):
        shutil.rmtree(path, ignore_errors=True)
    for name in ("input/config", "input/data", "model", "output/data", "output/intermediate"):
        (ml / name).mkdir(parents=True, exist_ok=True)
    for name, content in config_files(order).items():
        (ml / "input" / "config" / name).write_bytes(content)
    shutil.copytree(folder / CODE_FOLDER, ml / "code", dirs_exist_ok=True)
    for name in order.executables:
        (ml / "code" / name).chmod(0o755)
    kept = order.checkpoints or os.environ.get("LOOPWRIGHT_CHECKPOINT_DIR")
    if kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
        (ml / "checkpoints").symlink_to(kept, target_is_directory=True)
    else:
        (ml / "checkpoints").mkdir()
    for name, source in order.channels.items():
        if not os.path.exists(source):  # noqa: PTH110
            raise InvalidInputError(
                f"The channel {name!r} is gone: there is no {source!r} any more.",
                field="channels",
                value=source,
            )
        place = ml / "input" / "data" / name
        place.mkdir(exist_ok=True)
        if not Path(source).is_dir():
            (place / Path(source).name).touch()
    hosts = Path("/etc/hosts")
    known = hosts.read_text(errors="replace") if hosts.exists() else "127.0.0.1 localhost\n"
    (folder / "hosts").write_text(f"{known.rstrip()}\n127.0.0.1 {HOST}\n")


def _interpreter(folder: Path, order: ScriptOrder) -> str:
    if order.requirements is None:
        return order.python
    from loopwright.train.environment import environment_python

    python = environment_python(
        folder / order.requirements,
        root=Path(order.environments),
        python=order.python,
        packages=order.packages,
        beside=folder / CODE_FOLDER,
    )
    return str(python)


def _started(folder: Path, order: ScriptOrder, python: str) -> _Run:
    """Start the script in the first view of `/opt/ml` that this machine allows."""
    ml, hosts = str(folder / ML_FOLDER), str(folder / "hosts")
    enter = partial(
        enter_private_view,
        ml,
        channels=order.channels,
        scratch=str(folder / "scratch"),
        hosts=hosts,
    )
    views = [_View(base=BASE, enter=enter)]
    program = shutil.which("bwrap")
    if program:
        words = bubblewrap_command(program, ml, channels=order.channels, hosts=hosts)
        views.append(_View(base=BASE, prefix=tuple(words)))
    reasons = []
    for view in views:
        if view.prefix and not _works(view.prefix):
            reasons.append("bubblewrap may not do it either")
            continue
        run, reason = _tried(folder, order, python, view)
        if run:
            return run
        reasons.append(reason)
    _refuse_absolute_paths(folder, "; ".join(reasons))
    for name, source in order.channels.items():
        _mirror(Path(source), folder / ML_FOLDER / "input" / "data" / name)
    run, reason = _tried(folder, order, python, _View(base=ml))
    if run is None:
        raise BackendError(f"The script cannot be started: {reason}.")
    return run


def _works(prefix: tuple[str, ...]) -> bool:
    import subprocess

    return subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0


def _refuse_absolute_paths(folder: Path, reason: str) -> None:
    """Refuse a script that would write to the machine's own `/opt/ml`."""
    for path in sorted((folder / CODE_FOLDER).rglob("*")):
        if path.is_file() and BASE.encode() in path.read_bytes():
            raise BackendError(
                f"{path.name!r} has the path {BASE} written into it, and this machine gives a "
                f"process no view of its own in which that is the job's folder ({reason}).",
                hint="Install bubblewrap, or let users have namespaces "
                "(sysctl kernel.unprivileged_userns_clone=1, and "
                "kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu), "
                "or let the script take its paths from SM_MODEL_DIR and SM_CHANNEL_*.",
            )
    print(f"{BASE} cannot be shown to the script ({reason}); SM_MODEL_DIR and the rest say where.")


def _mirror(source: Path, target: Path) -> None:
    """Show the files of a channel as links in folders of the job's own."""
    if source.is_file():
        (target / source.name).unlink(missing_ok=True)
        (target / source.name).symlink_to(source)
        return
    for root, folders, files in os.walk(source):
        place = target / Path(root).relative_to(source)
        for name in folders:
            (place / name).mkdir(exist_ok=True)
        for name in files:
            (place / name).symlink_to(Path(root) / name)


def _tried(folder: Path, order: ScriptOrder, python: str, view: _View) -> tuple[_Run | None, str]:
    """Start the script in a view of `/opt/ml`; return None and the reason if that is not allowed."""
    command = [*view.prefix, *_command(folder, order, python)]
    environment = _variables(order, python, view.base)
    output, writing = os.pipe2(os.O_CLOEXEC)
    report, reporting = os.pipe2(os.O_CLOEXEC)
    # a bubblewrapped or a plain start does not need `/opt/ml` to be there
    code = f"{view.base}/code" if view.enter else str(folder / ML_FOLDER / "code")
    pid = os.fork()
    if pid == 0:
        _become_the_script(command, environment, code, writing, reporting, view.enter)
    os.close(writing)
    os.close(reporting)
    with open(report, "rb") as file:  # noqa: PTH123 a pipe
        told = file.read()
    if told:
        os.waitpid(pid, 0)
        os.close(output)
        reason = told.removeprefix(_STARTED).decode(errors="replace")
        if told.startswith(_STARTED):
            # another view of the folders would not help
            raise BackendError(f"{command[0]!r} cannot be started: {reason}.")
        return None, reason
    return _Run(pid, output, view.base), ""


def _become_the_script(
    command: list[str],
    environment: dict[str, str],
    code: str,
    output: int,
    report: int,
    enter: Callable[[], None] | None,
) -> None:
    started = b""
    try:
        os.setpgid(0, 0)
        if enter:
            enter()
        os.chdir(code)
        started = _STARTED
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.execve(command[0], command, environment)  # noqa: S606 there is no shell to want
    except BaseException as error:
        where = getattr(error, "filename", None)
        text = f"{getattr(error, 'strerror', None) or error}" + (f": {where}" if where else "")
        os.write(report, started + text.encode(errors="replace"))
    finally:
        os._exit(127)


def _command(folder: Path, order: ScriptOrder, python: str) -> list[str]:
    """Return the program and its arguments, as the toolkit makes them from the entry point."""
    args = arguments(order.user_hyperparameters)
    entry = order.entry_point
    if not entry.endswith(".py"):
        return ["/bin/sh", "-c", 'entry="./$1"; shift; exec "$entry" "$@"', "sh", entry, *args]
    if (folder / CODE_FOLDER / "setup.py").exists():
        return [python, "-m", entry.removesuffix(".py").replace("/", "."), *args]
    return [python, entry, *args]


def _variables(order: ScriptOrder, python: str, base: str) -> dict[str, str]:
    """Return the whole environment of the script."""
    own = {
        name: value
        for name, value in os.environ.items()
        # addresses of package indexes may hold credentials, and are no business of the script
        if not name.startswith(INSTALLER_PREFIXES) or name in order.variables
    }
    paths = [f"{base}/code", *own.get("PYTHONPATH", "").split(os.pathsep)]
    found = {
        **own,
        **contract_variables(order, base),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PATH": os.pathsep.join([os.path.dirname(python), own.get("PATH", os.defpath)]),  # noqa: PTH120
    }
    if order.requirements is not None:
        found["VIRTUAL_ENV"] = os.path.dirname(os.path.dirname(python))  # noqa: PTH120
    # what a person gave with the job wins
    return found | {name: own[name] for name in order.variables if name in own}


def _watched(run: _Run, finder: MetricFinder, *, until: float, grace_s: float) -> None:
    """Pass on what the script prints, and end it at its time limit, until it has ended."""
    wakes = _wakes()
    os.set_blocking(run.output, False)
    poll = select.poll()
    poll.register(run.output, select.POLLIN)
    poll.register(wakes, select.POLLIN)
    while run.exit_code is None:
        left = min(until if not run.timed_out else run.kill_at, run.kill_at) - time.monotonic()
        for descriptor, _ in poll.poll(None if left == float("inf") else max(0.0, left) * 1000):
            if descriptor == wakes:
                os.read(wakes, 4096)
            elif _relayed(run, finder) == b"":
                poll.unregister(run.output)
        _reap(run)
        now = time.monotonic()
        if run.exit_code is None and not run.timed_out and now >= until:
            run.timed_out, run.kill_at = True, now + grace_s
            print(f"Its time is over; it has {grace_s:g} s to end.", flush=True)
            _signal(run, signal.SIGTERM)
        if run.exit_code is None and now >= run.kill_at:
            _signal(run, signal.SIGKILL)
            run.kill_at = now + 1.0
    # a process that the script left behind may hold its end of the pipe for ever
    while _relayed(run, finder):
        pass


def _wakes() -> int:
    """Return a descriptor that can be read when the script has ended or the job is to stop."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def note(number: int, frame: FrameType | None) -> None:
        """Wake; who stops the job tells the script itself, and this process packs what it leaves."""

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, note)
    return reading


def _relayed(run: _Run, finder: MetricFinder) -> bytes | None:
    try:
        data = os.read(run.output, 1 << 16)
    except BlockingIOError:
        return None
    left = memoryview(data)
    while left:
        left = left[os.write(1, left) :]
    run.tail = (run.tail + data)[-_TAIL_BYTES:]
    finder.see(data)
    return data


def _reap(run: _Run) -> None:
    pid, status = os.waitpid(run.pid, os.WNOHANG)
    if pid:
        run.exit_code = os.waitstatus_to_exitcode(status)


def _signal(run: _Run, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(run.pid, number)


def _finished(
    folder: Path,
    order: ScriptOrder,
    run: _Run,
    metrics: Mapping[str, float | None],
    times: Mapping[str, float],
) -> int:
    """Pack what the script left, write down how it ended, and return the exit code of the job."""
    from loopwright.train.script_archive import pack_folder

    ml, out = folder / ML_FOLDER, folder / "out"
    model = pack_folder(ml / "model", out / MODEL_ARCHIVE)
    output = pack_folder(ml / "output" / "data", out / OUTPUT_ARCHIVE)
    code = run.exit_code or 0
    if output.n_files == 0:
        (out / OUTPUT_ARCHIVE).unlink()
    if model.n_files == 0 and (code or run.timed_out):
        (out / MODEL_ARCHIVE).unlink()
    for path in (folder / "scratch").glob("*/kernel/work"):
        with suppress(OSError):
            path.rmdir()  # the kernel's, which its owner may remove and not look into
    shutil.rmtree(folder / "scratch", ignore_errors=True)
    failure = _failure(ml, order, run)
    warnings = [f"left out of {MODEL_ARCHIVE}: {each}" for each in model.left_out]
    if code == 0 and not failure and model.n_files == 0:
        warnings.append(
            f"The script ended well but left no file in SM_MODEL_DIR: {MODEL_ARCHIVE} is empty."
        )
    result = {
        "exit_code": code,
        "failure": failure,
        "warnings": warnings,
        "base": run.base,
        "model": model.to_json(),
        "output": output.to_json() if output.n_files else None,
        "metrics": dict(metrics),
        **{name: round(value, 3) for name, value in times.items()},
    }
    _write_result(folder, result)
    for each in warnings:
        print(f"Warning: {each}", flush=True)
    if failure:
        print(failure.splitlines()[0], file=sys.stderr, flush=True)
    if run.timed_out:
        return TIMED_OUT
    return code if code >= 0 else 128 - code


def _failure(ml: Path, order: ScriptOrder, run: _Run) -> str:
    """Return why the script did not end well, in its own words where it left some."""
    from loopwright.train.script_archive import open_regular

    if run.timed_out:
        return f"It was ended at its time limit of {order.time_limit_s:g} s."
    if run.exit_code == 0:
        return ""
    code = run.exit_code or 0
    ended = f"exited with code {code}" if code > 0 else f"was ended by {_name_of(-code)}"
    try:
        with open_regular(ml / "output" / "failure") as file:
            # a character takes four bytes at most
            text = file.read(4 * _FAILURE_CHARACTERS).decode(errors="replace")
        said = text[:_FAILURE_CHARACTERS].strip()
    except OSError:
        said = ""
    if said:
        return f"The script says why it failed: {said}"
    missing = _MISSING.findall(run.tail.decode(errors="replace"))
    if missing:
        return (
            f"The script needs a package that is not there: {missing[-1]!r}. "
            "Name it in a file of requirements."
        )
    last = [line for line in run.tail.decode(errors="replace").splitlines() if line.strip()]
    return f"The script {order.entry_point} {ended}" + (f": {last[-1].strip()}" if last else ".")


def _name_of(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
