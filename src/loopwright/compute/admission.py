"""Decides which queued jobs may start now, and says what the others wait for: pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from loopwright.compute.job import Job
from loopwright.compute.resource import Capacity


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A job that may start, with the GPUs it gets."""

    job: Job
    gpu_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A job that may not start yet, and why: `waits for 2 CPUs; ...`."""

    job: Job
    reason: str


def admissions(
    running: Iterable[Job], queued: Iterable[Job], capacity: Capacity, *, now: datetime
) -> list[Admission]:
    """Return the queued jobs that may start beside what runs.

    Jobs start in the order of submission. One that does not fit yet is owed what it asks for:
    a later job starts before it only with what is left beside that, so that a large job is never
    starved by small ones, and one that waits for a GPU keeps nobody from the CPUs.

    Parameters
    ----------
    running
        Jobs that have what they asked for, here.
    queued
        Jobs that wait, the first submitted first; read no further than something may be free.
    now
        A job that is to be tried again later is passed over until then.
    """
    found = _decisions(running, queued, capacity, now=now, only_while_free=True)
    return [each for each in found if isinstance(each, Admission)]


def waiting_reasons(
    running: Iterable[Job], queued: Iterable[Job], capacity: Capacity, *, now: datetime
) -> dict[str, str]:
    """Return what each queued job waits for, by its id; those that may start wait for nothing."""
    found = _decisions(running, queued, capacity, now=now, only_while_free=False)
    return {each.job.id: each.reason for each in found if isinstance(each, Waiting)}


def joined(job: Job, running: Iterable[Job], capacity: Capacity) -> Admission | None:
    """Return a job admitted to the room that a running one keeps for it; None if none does."""
    room = _Room(list(running), capacity)
    return Admission(job=job, gpu_ids=room.take(job)) if room.is_kept_for(job) else None


def never_waits(job: Job) -> bool:
    """Tell whether a job asks for nothing that is counted."""
    return not (job.counted or job.resources.gpus)


class _Room:
    """What is free, less what jobs that wait are owed."""

    def __init__(self, running: list[Job], capacity: Capacity) -> None:
        self.capacity = capacity
        # thousandths, since sums of fractions of a CPU must come out exactly
        self.cpus, self.memory_mib = _thousandths(capacity.cpus), capacity.memory_mib
        taken = {gpu for job in running for gpu in job.gpu_ids}
        self.gpu_ids = [gpu for gpu in capacity.gpu_ids if gpu not in taken]
        self.owed_gpus = 0
        # how many more may join each job, in room that is taken already
        self._kept = {job.id: 0 for job in running}
        for job in sorted(running, key=lambda job: bool(job.joins)):
            self._count(job)

    def is_kept_for(self, job: Job) -> bool:
        """Tell whether a job that runs keeps room for this one."""
        return self._kept.get(job.joins, 0) > 0

    def short(self, job: Job) -> list[str]:
        """Return what a job asks for and does not find, in words."""
        if self.is_kept_for(job):
            return []
        cpus, memory_mib, gpus = _cpus(job), _memory_mib(job), _gpus(job)
        found = []
        if cpus and cpus > self.cpus:
            found.append(f"{cpus / 1000:g} {'CPU' if cpus == 1000 else 'CPUs'}")
        if memory_mib and memory_mib > self.memory_mib:
            found.append(f"{memory_mib:,} MiB of memory")
        if gpus and gpus > len(self.gpu_ids) - self.owed_gpus:
            found.append(f"{gpus} {'GPU' if gpus == 1 else 'GPUs'}")
        return found

    def take(self, job: Job) -> tuple[str, ...]:
        """Give a job what it asks for; return its GPUs."""
        given = tuple(self.gpu_ids[: job.resources.gpus])
        self.gpu_ids = self.gpu_ids[job.resources.gpus :]
        self._count(job)
        return given

    def _count(self, job: Job) -> None:
        """Take account of a job that has its GPUs, and of those that it keeps room for."""
        if self.is_kept_for(job):
            self._kept[job.joins] -= 1
            self.owed_gpus -= job.resources.gpus
            return
        self.cpus -= _cpus(job)
        self.memory_mib -= _memory_mib(job)
        self.owed_gpus += _gpus(job) - job.resources.gpus
        self._kept[job.id] = job.keeps_room_for

    def owe(self, job: Job) -> None:
        """Keep for a job what it asks for."""
        self.cpus -= _cpus(job)
        self.memory_mib -= _memory_mib(job)
        self.owed_gpus += _gpus(job)

    @property
    def has_nothing(self) -> bool:
        """Tell whether no job that asks for something can start any more."""
        no_gpus = len(self.gpu_ids) <= self.owed_gpus
        return (self.cpus <= 0 or self.memory_mib <= 0) and no_gpus


def _decisions(
    running: Iterable[Job],
    queued: Iterable[Job],
    capacity: Capacity,
    *,
    now: datetime,
    only_while_free: bool,
) -> Iterator[Admission | Waiting]:
    """Yield for every queued job whether it may start; stop where none can any more, if asked."""
    holders = list(running)
    room = _Room(holders, capacity)
    first: Job | None = None
    for job in queued:
        if job.not_before is not None and job.not_before > now:
            seconds = (job.not_before - now).total_seconds()
            yield Waiting(job=job, reason=f"starts again in {seconds:.0f} s")
            continue
        short = [] if never_waits(job) else room.short(job)
        if not short:
            given = room.take(job)
            holders.append(job)
            yield Admission(job=job, gpu_ids=given)
        else:
            yield Waiting(job=job, reason=_reason(job, short, holders, first))
            first = first or job
            room.owe(job)
        # beside a service without a GPU, which is started when it comes, all ask for something
        if only_while_free and room.has_nothing:
            return


def _reason(job: Job, short: list[str], holders: list[Job], first: Job | None) -> str:
    together = f" for {job.keeps_room_for + 1} jobs at once" if job.keeps_room_for else ""
    wanted = f"waits for {' and '.join(short)}{together}"
    if first is not None:
        return f"{wanted}; {first.name} ({first.id[-6:]}), submitted before it, waits too"
    kinds = {word for each in short for word in ("CPU", "GPU", "memory") if word in each}
    keeping = {job.id for job in holders if job.keeps_room_for}
    held = [
        f"{job.name} ({job.id[-6:]}) {said}"
        for job in holders
        if job.joins not in keeping and (said := _holds(job, kinds))
    ]
    shown = ", ".join(held[:3]) + (f" and {len(held) - 3} more" if len(held) > 3 else "")
    return f"{wanted}; {shown}" if shown else wanted


def _holds(job: Job, kinds: set[str]) -> str:
    said = []
    if "CPU" in kinds and _cpus(job):
        said.append(f"{_cpus(job) / 1000:g} CPU")
    if "memory" in kinds and _memory_mib(job):
        said.append(f"{_memory_mib(job):,} MiB")
    if "GPU" in kinds and job.resources.gpus:
        said.append(f"{_gpus(job)} GPU")
    return f"holds {' and '.join(said)}" if said else ""


def _thousandths(cpus: float) -> int:
    return round(cpus * 1000)


def _cpus(job: Job) -> int:
    return max(1, _thousandths(job.resources.cpus)) * _places(job) if job.counted else 0


def _memory_mib(job: Job) -> int:
    return job.resources.memory_mib * _places(job) if job.counted else 0


def _gpus(job: Job) -> int:
    return job.resources.gpus * _places(job)


def _places(job: Job) -> int:
    """Return for how many jobs this one needs room before it may start."""
    return 1 + job.keeps_room_for
