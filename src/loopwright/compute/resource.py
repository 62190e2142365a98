"""What a job asks of a machine, what the machine has, and whether one can ever give the other."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.quantity import mebibytes

_CGROUP = Path("/sys/fs/cgroup")


class Resources(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a job may use: `cpus` (a share of one is allowed), `memory`, whole `gpus`.

    The memory is a limit: a job whose processes together hold more is ended. The CPUs are a
    promise that decides when the job may start and how many threads its libraries use.
    """

    cpus: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    memory: str = "2 GiB"
    gpus: Annotated[int, msgspec.Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        """Refuse what is not an amount."""
        mebibytes(self.memory, field="memory")
        if not (0 < self.cpus < math.inf):
            raise InvalidInputError(
                f"cpus is {self.cpus}.",
                hint="Ask for more than 0, such as 2 or 0.5.",
                field="cpus",
                value=self.cpus,
            )
        if self.gpus < 0:
            raise InvalidInputError(
                f"gpus is {self.gpus}.", hint="Ask for 0 or more.", field="gpus", value=self.gpus
            )

    @property
    def memory_mib(self) -> int:
        """Return the memory in MiB, at least 1."""
        return mebibytes(self.memory, field="memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What there is to give: CPUs, memory, and the names of GPUs as CUDA_VISIBLE_DEVICES has them.

    `where` says who gives it, for messages. `nodes` are the machines of a cluster; the amounts are
    then the most that one of them has.
    """

    cpus: float
    memory_mib: int
    gpu_ids: tuple[str, ...] = ()
    where: str = "this machine"
    nodes: tuple[Capacity, ...] = ()

    def at_once(self, resources: Resources) -> int:
        """Return how many jobs of these resources can run side by side when nothing else does."""
        return sum(_room(node, resources) for node in self.nodes or (self,))


def _room(machine: Capacity, resources: Resources) -> int:
    rooms = [machine.cpus / resources.cpus, machine.memory_mib / resources.memory_mib]
    if resources.gpus:
        rooms.append(len(machine.gpu_ids) / resources.gpus)
    # three tenths of a CPU fit three times into nine tenths
    return max(0, math.floor(min(rooms) + 1e-9))


def refuse_impossible(resources: Resources, capacity: Capacity) -> None:
    """Refuse what the machine can never give, even when nothing else runs.

    Raises
    ------
    InvalidInputError
        Naming every resource that falls short, with what was asked and what there is; the facts
        are about the first.
    """
    amounts = (
        ("cpus", resources.cpus, capacity.cpus, "{:g} CPUs"),
        ("memory", resources.memory_mib, capacity.memory_mib, "{:,} MiB of memory"),
        ("gpus", resources.gpus, len(capacity.gpu_ids), "{:g} GPUs"),
    )
    short = [amount for amount in amounts if amount[1] > amount[2]]
    if not short:
        return
    asked = " and ".join(unit.format(wanted) for _, wanted, _, unit in short)
    there = " and ".join(unit.format(found) for _, _, found, unit in short)
    raise InvalidInputError(
        f"The job asks for {asked}; {capacity.where} has {there}.",
        hint="Ask for at most that in `resources`, or run it on a larger machine.",
        field=f"resources.{short[0][0]}",
        value=short[0][1],
        available=short[0][2],
    )


def refuse_crowd(resources: Resources, capacity: Capacity, *, n_jobs: int) -> None:
    """Refuse so many jobs at once as there can never be room for, even when nothing else runs.

    Raises
    ------
    InvalidInputError
        With how many there is room for.
    """
    room = capacity.at_once(resources)
    if n_jobs <= 1 or n_jobs <= room:
        return
    where = f"the {len(capacity.nodes)} nodes" if capacity.nodes else capacity.where
    gpus = f" and {resources.gpus} GPUs" if resources.gpus else ""
    raise InvalidInputError(
        f"{n_jobs} jobs of {resources.cpus:g} CPUs and {resources.memory_mib:,} MiB{gpus} each must "
        f"run at once; {where} can run {room}.",
        hint=f"Use at most {max(1, room)}, or give each less in `resources`.",
        field="workers",
        value=n_jobs,
        available=room,
    )


def machine_capacity() -> Capacity:
    """Return what this process's machine, or the container it runs in, has to give."""
    total_mib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    return Capacity(
        cpus=min([float(len(os.sched_getaffinity(0))), *_cgroup_cpus()]),
        memory_mib=min([total_mib, *_cgroup_memory_mib()]),
        gpu_ids=_gpu_ids(),
    )


def _cgroup_cpus() -> list[float]:
    found = []
    for folder in _cgroup_folders():
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        quota = quota or _text(folder / "cpu.cfs_quota_us")
        period = period or _text(folder / "cpu.cfs_period_us")
        # `max` and -1 mean no limit
        if quota.isdigit() and period.isdigit():
            found.append(int(quota) / int(period))
    return found


def _cgroup_memory_mib() -> list[int]:
    texts = [
        _text(folder / name)
        for folder in _cgroup_folders()
        for name in ("memory.max", "memory.limit_in_bytes")
    ]
    return [int(text) // 2**20 for text in texts if text.isdigit()]


def _cgroup_folders() -> list[Path]:
    """Return the folders that may hold a limit of this process, in both versions of cgroups."""
    folders = [_CGROUP, _CGROUP / "cpu", _CGROUP / "memory"]
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        start = _CGROUP / controllers if controllers else _CGROUP
        own = start / path.lstrip("/")
        folders += [own, *(parent for parent in own.parents if start in parent.parents)]
    return folders


def _gpu_ids() -> tuple[str, ...]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip())
    try:
        names = os.listdir("/dev")  # noqa: PTH208 names are all that is needed
    except OSError:
        return ()
    found = [match[1] for name in names if (match := re.fullmatch(r"nvidia(\d+)", name))]
    return tuple(sorted(found, key=int))


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
