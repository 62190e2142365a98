"""A script that runs: started in its view of `/opt/ml`, watched until it has ended."""

from __future__ import annotations

import os
import select
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from loopwright.core.errors import BackendError
from loopwright.train.script_contract import (
    BASE,
    CODE_FOLDER,
    INSTALLER_PREFIXES,
    ML_FOLDER,
    ScriptOrder,
    arguments,
    contract_variables,
)
from loopwright.train.script_metric import MetricFinder
from loopwright.train.script_mount import bubblewrap_command, enter_private_view

_TAIL_BYTES = 4 << 10
# what the report of a failed start begins with once the view of the folders stands
_STARTED = b"\0"


class _View(NamedTuple):
    """One way to show a script its `/opt/ml`: where it is, what stands before the command."""

    base: str
    prefix: tuple[str, ...] = ()
    enter: Callable[[], None] | None = None


class ScriptRun:
    """A script that runs: its process, where its output is read, and how it ended."""

    def __init__(self, pid: int, output: int, base: str) -> None:
        self.pid = pid
        self.output = output
        self.base = base
        self.exit_code: int | None = None
        self.timed_out = False
        self.tail = b""
        self.kill_at = float("inf")


def started_script(folder: Path, order: ScriptOrder, python: str) -> ScriptRun:
    """Start the script in the first view of `/opt/ml` that this machine allows; return it.

    Raises
    ------
    BackendError
        If it cannot be started, or has a path written into it that would not be the job's own.
    """
    ml, hosts = str(folder / ML_FOLDER), str(folder / "hosts")
    enter = partial(
        enter_private_view,
        ml,
        channels=order.channels,
        scratch=str(folder / "scratch"),
        hosts=hosts,
        folders=order.folders,
    )
    views = [_View(base=BASE, enter=enter)]
    program = shutil.which("bwrap")
    if program:
        words = bubblewrap_command(
            program, ml, channels=order.channels, hosts=hosts, folders=order.folders
        )
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
    _refuse_absolute_paths(folder, order, "; ".join(reasons))
    for name, source in order.channels.items():
        _mirror(Path(source), folder / ML_FOLDER / "input" / "data" / name)
    run, reason = _tried(folder, order, python, _View(base=ml))
    if run is None:
        raise BackendError(f"The script cannot be started: {reason}.")
    return run


def _works(prefix: tuple[str, ...]) -> bool:
    import subprocess

    return subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0


def _refuse_absolute_paths(folder: Path, order: ScriptOrder, reason: str) -> None:
    """Refuse a script that would write to the machine's own `/opt/ml`."""
    named = ["The command"] if order.folders or BASE in " ".join(order.command) else []
    for path in sorted((folder / CODE_FOLDER).rglob("*")):
        if path.is_file() and BASE.encode() in path.read_bytes():
            named.append(repr(path.name))
            break
    if named:
        raise BackendError(
            f"{named[-1]} has the path {BASE} written into it, and this machine gives a "
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


def _tried(
    folder: Path, order: ScriptOrder, python: str, view: _View
) -> tuple[ScriptRun | None, str]:
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
    return ScriptRun(pid, output, view.base), ""


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
    if order.command:
        found = shutil.which(order.command[0], path=_search_path(python))
        return [found or order.command[0], *order.command[1:]]
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
        "PATH": _search_path(python),
    }
    if order.requirements is not None:
        found["VIRTUAL_ENV"] = os.path.dirname(os.path.dirname(python))  # noqa: PTH120
    # what a person gave with the job wins
    return found | {name: own[name] for name in order.variables if name in own}


def _search_path(python: str) -> str:
    own = os.environ.get("PATH", os.defpath)
    return os.pathsep.join([os.path.dirname(python), own])  # noqa: PTH120


def watch_script(run: ScriptRun, finder: MetricFinder, *, until: float, grace_s: float) -> None:
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


def _relayed(run: ScriptRun, finder: MetricFinder) -> bytes | None:
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


def _reap(run: ScriptRun) -> None:
    pid, status = os.waitpid(run.pid, os.WNOHANG)
    if pid:
        run.exit_code = os.waitstatus_to_exitcode(status)


def _signal(run: ScriptRun, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(run.pid, number)
