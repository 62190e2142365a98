"""A script that runs: started in its view of `/opt/ml`, watched until it has ended."""

from __future__ import annotations

import os
import select
import shutil
import signal
import time
from collections.abc import Callable, Sequence
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
from loopwright.train.script_host import HOST, host_folder
from loopwright.train.script_metric import MetricFinder
from loopwright.train.script_mount import bubblewrap_command, enter_private_view, leave_network

_TAIL_BYTES = 4 << 10
# what hosts have to end when another has failed
_OTHERS_GRACE_S = 10.0
# what the report of a failed start begins with once the view of the folders stands
_STARTED = b"\0"


class _View(NamedTuple):
    """One way to show a script its `/opt/ml`: where it is, what stands before the command."""

    base: str
    prefix: tuple[str, ...] = ()
    enter: Callable[[], None] | None = None


class ScriptRun:
    """A script that runs on a host: its process, where its output is read, and how it ended."""

    def __init__(self, pid: int, output: int, base: str) -> None:
        self.pid = pid
        self.output = output
        self.base = base
        self.host = HOST
        self.folder = Path()
        self.finder: MetricFinder | None = None
        self.keep: Callable[[bytes], None] = _print
        self.exit_code: int | None = None
        self.timed_out = False
        # since another host of its job failed
        self.was_ended = False
        self.tail = b""
        self.kill_at = float("inf")
        self.broken = ""

    def end_for(self, reason: str) -> None:
        """End the script since its data are no good."""
        self.broken = reason
        _signal(self, signal.SIGKILL)


def started_scripts(folder: Path, order: ScriptOrder, python: str) -> list[ScriptRun]:
    """Start the script on each host of the job in a folder; return the first one's run first.

    Raises
    ------
    BackendError
        If one of them cannot be started; none runs then.
    """
    has_left = order.is_isolated and _has_left_network(order)
    runs: list[ScriptRun] = []
    try:
        for each in order.of_hosts():
            place = host_folder(folder, each.host)
            run = started_script(place, each, python, has_left_network=has_left)
            run.host, run.folder = each.host, place
            runs.append(run)
    except BaseException:
        for run in runs:
            _signal(run, signal.SIGKILL)
        raise
    for each, run in zip(order.of_hosts(), runs, strict=True):
        if each.pipes:
            from loopwright.train.script_pipe import feed

            feed(run.folder / ML_FOLDER / "input" / "data", each.pipes, fail=run.end_for)
    return runs


def _has_left_network(order: ScriptOrder) -> bool:
    try:
        leave_network()
    except OSError as error:
        if order.hosts or not shutil.which("bwrap"):
            raise BackendError(
                "The job is to run without a network, and this machine gives a process no network "
                f"of its own ({error.strerror}).",
                hint="Install bubblewrap for jobs of one host, let users have namespaces, or "
                "switch EnableNetworkIsolation off.",
            ) from error
        return False
    return True


def started_script(
    folder: Path, order: ScriptOrder, python: str, *, has_left_network: bool = False
) -> ScriptRun:
    """Start the script in the first view of `/opt/ml` that this machine allows; return it.

    Parameters
    ----------
    folder
        Of the host that the order is for.
    has_left_network
        Whether this process has no network any more.

    Raises
    ------
    BackendError
        If it cannot be started, or has a path written into it that would not be the job's own.
    """
    must_leave = order.is_isolated and not has_left_network
    reasons = []
    for view in _views(folder, order, must_leave=must_leave):
        if view.prefix and not _works(view.prefix):
            reasons.append("bubblewrap may not do it either")
            continue
        run, reason = _tried(folder, order, python, view)
        if run:
            return run
        reasons.append(reason)
    if must_leave or order.hosts:
        wanted = "to run without a network" if must_leave else "to know its hosts by their names"
        raise BackendError(
            f"The job is {wanted}, which this machine does not allow ({'; '.join(reasons)}).",
            hint="Install bubblewrap, or let users have namespaces.",
        )
    _refuse_absolute_paths(folder, order, "; ".join(reasons))
    for name, source in order.channels.items():
        _mirror(Path(source), folder / ML_FOLDER / "input" / "data" / name)
    run, reason = _tried(folder, order, python, _View(base=str(folder / ML_FOLDER)))
    if run is None:
        raise BackendError(f"The script cannot be started: {reason}.")
    return run


def _views(folder: Path, order: ScriptOrder, *, must_leave: bool) -> list[_View]:
    """Return the ways to show `/opt/ml`, the best first."""
    ml, hosts = str(folder / ML_FOLDER), str(folder / "hosts")
    name = order.host if order.hosts else ""
    enter = partial(
        enter_private_view,
        ml,
        channels=order.channels,
        scratch=str(folder / "scratch"),
        hosts=hosts,
        folders=order.folders,
        host=name,
    )
    found = [] if must_leave else [_View(base=BASE, enter=enter)]
    program = shutil.which("bwrap")
    if program:
        words = bubblewrap_command(
            program,
            ml,
            channels=order.channels,
            hosts=hosts,
            folders=order.folders,
            host=name,
            is_isolated=must_leave,
        )
        found.append(_View(base=BASE, prefix=tuple(words)))
    return found


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
    visible = own.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if order.hosts and len(visible) > order.gpus:
        mine = visible[order.first_gpu : order.first_gpu + order.gpus]
        found["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
    if order.requirements is not None:
        found["VIRTUAL_ENV"] = os.path.dirname(os.path.dirname(python))  # noqa: PTH120
    # what a person gave with the job wins; more folders of modules are added to those of the code
    given = {name: own[name] for name in order.variables if name in own and name != "PYTHONPATH"}
    return found | given


def _search_path(python: str) -> str:
    own = os.environ.get("PATH", os.defpath)
    return os.pathsep.join([os.path.dirname(python), own])  # noqa: PTH120


def watch_scripts(runs: Sequence[ScriptRun], *, until: float, grace_s: float) -> ScriptRun:
    """Pass on what scripts print, and end them at their time limit, until all have ended.

    When one has failed, the others are ended: they may wait for it for ever.

    Returns
    -------
    ScriptRun
        The first that failed, or the first host's.
    """
    stops: list[int] = []
    wakes = _wakes(stops)
    readable = {run.output: run for run in runs}
    poll = select.poll()
    poll.register(wakes, select.POLLIN)
    for output in readable:
        os.set_blocking(output, False)
        poll.register(output, select.POLLIN)
    failed: ScriptRun | None = None
    while live := [run for run in runs if run.exit_code is None]:
        ends = min(run.kill_at for run in live)
        left = min(until if not live[0].timed_out else ends, ends) - time.monotonic()
        for descriptor, _ in poll.poll(None if left == float("inf") else max(0.0, left) * 1000):
            if descriptor == wakes:
                os.read(wakes, 4096)
            elif _relayed(readable[descriptor]) == b"":
                poll.unregister(descriptor)
        for run in live:
            _reap(run)
            if run.exit_code and not run.was_ended and not failed:
                failed = run
        live = [run for run in live if run.exit_code is None]
        now = time.monotonic()
        if live and now >= until and not live[0].timed_out:
            print(f"Its time is over; it has {grace_s:g} s to end.", flush=True)
            for run in live:
                run.timed_out, run.kill_at = True, now + grace_s
                _signal(run, signal.SIGTERM)
        if failed and not stops:
            _end_others(failed, live, grace_s=min(grace_s, _OTHERS_GRACE_S))
        for run in live:
            if now >= run.kill_at:
                _signal(run, signal.SIGKILL)
                run.kill_at = now + 1.0
    for run in runs:
        # a process that a script left behind may hold its end of the pipe for ever
        while _relayed(run):
            pass
        if run.finder:
            run.finder.close()
    return failed or next((run for run in runs if run.timed_out), runs[0])


def _end_others(failed: ScriptRun, live: Sequence[ScriptRun], *, grace_s: float) -> None:
    for run in live:
        if not run.was_ended and not run.timed_out:
            print(f"{failed.host} has failed; {run.host} is ended.", flush=True)
            run.was_ended, run.kill_at = True, time.monotonic() + grace_s
            _signal(run, signal.SIGTERM)


def _wakes(stops: list[int]) -> int:
    """Return a descriptor that can be read when a script has ended or the job is to stop.

    Parameters
    ----------
    stops
        Gets the signals by which the job was told to stop.
    """
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def note(number: int, _frame: FrameType | None) -> None:
        """Wake; who stops the job tells the script itself, and this process packs what it leaves."""
        if number != signal.SIGCHLD:
            stops.append(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, note)
    return reading


def _relayed(run: ScriptRun) -> bytes | None:
    try:
        data = os.read(run.output, 1 << 16)
    except BlockingIOError:
        return None
    run.keep(data)
    run.tail = (run.tail + data)[-_TAIL_BYTES:]
    if run.finder:
        run.finder.see(data)
    return data


def _print(data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(1, left) :]


def _reap(run: ScriptRun) -> None:
    pid, status = os.waitpid(run.pid, os.WNOHANG)
    if pid:
        run.exit_code = os.waitstatus_to_exitcode(status)


def _signal(run: ScriptRun, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(run.pid, number)
