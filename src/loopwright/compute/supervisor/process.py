"""Processes of this machine: which one it is, who descends from whom, what they hold."""
# pathlib and contextlib would double the time to start:
# ruff: noqa: PTH123, PTH208, SIM105

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

COOKIE = "LOOPWRIGHT_JOB_ID"
_KILLING_S = 10.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_IDENTITY = ("pid", "start_ticks", "boot_id")


def machine_name() -> str:
    """Return what tells this machine from others: its host name, with its id where it has one."""
    name = os.uname().nodename
    try:
        with open("/etc/machine-id") as file:
            identity = file.read().strip()
    except OSError:
        return name
    return f"{name}-{identity[:8]}" if identity else name


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


def is_alive(identity: Mapping[str, Any]) -> bool:
    """Tell whether the process with an identity still lives on this machine."""
    found = process_identity(identity["pid"])
    return found is not None and all(found[name] == identity.get(name) for name in _IDENTITY)


def kill_marked(job_id: str) -> int:
    """Kill every process that carries a job's mark in its environment; return how many.

    Only for a job whose supervisor was killed: what it started lives on without a parent.
    """
    # a supervisor, which never comes here, starts faster without it
    from signal import SIGKILL

    mark = f"{COOKIE}={job_id}".encode()
    killed: set[int] = set()
    deadline = time.monotonic() + _KILLING_S
    while time.monotonic() < deadline:
        marked = [pid for pid in process_table() if mark in _environment(pid)]
        if not marked:
            break
        for pid in marked:
            send(pid, SIGKILL)
        killed.update(marked)
        time.sleep(0.005)
    return len(killed)


class Process:
    """A process: its parent, its group, and the bytes of memory it holds."""

    __slots__ = ("group", "parent", "resident_bytes")

    def __init__(self, parent: int, group: int, resident_bytes: int) -> None:
        self.parent = parent
        self.group = group
        self.resident_bytes = resident_bytes


def process_table() -> dict[int, Process]:
    """Return every process by its id."""
    found = ((int(name), _process(name)) for name in os.listdir("/proc") if name.isdigit())
    return {pid: process for pid, process in found if process is not None}


def process_tree(root: int) -> dict[int, Process] | None:
    """Return the processes below `root`, parents before children; None where the kernel does not tell.

    Costs what the tree has, not what the machine has. Of a process that ends meanwhile a sibling may
    be left out.
    """
    tree: dict[int, Process] = {}
    waiting = _children(root)
    if waiting is None:
        return None
    while waiting:
        pid = waiting.pop(0)
        process = _process(pid)
        if process is not None and int(pid) not in tree:
            tree[int(pid)] = process
            waiting += _children(int(pid)) or ()
    return tree


def _process(pid: str) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = _stat_fields(file.read())
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Process(int(fields[1]), int(fields[2]), int(fields[21]) * _PAGE_BYTES)


def _children(pid: int) -> list[str] | None:
    """Return the children of all threads of a process; None if it is gone, or the kernel mute."""
    found: list[str] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += file.read().split()
    except (FileNotFoundError, ProcessLookupError):
        return found or None
    return found


def descendants(root: int, table: Mapping[int, Process]) -> list[int]:
    """Return the processes below `root`, parents before children."""
    children: dict[int, list[int]] = {}
    for pid, process in table.items():
        children.setdefault(process.parent, []).append(pid)
    found, at = list(children.get(root, [])), 0
    while at < len(found):
        found += children.get(found[at], [])
        at += 1
    return found


def own_share_bytes(pids: Iterable[int]) -> int:
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


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def send_group(group: int, number: int) -> None:
    """Send a signal to a process group that may be gone."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass


def _stat_fields(stat: bytes) -> list[bytes]:
    # the name in parentheses may itself hold spaces and parentheses
    return stat[stat.rindex(b")") + 2 :].split()


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []
