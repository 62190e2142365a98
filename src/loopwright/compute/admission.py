"""Decides which queued jobs may start now: a pure function over jobs and capacity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from loopwright.compute.job import Job, JobState
from loopwright.compute.resource import Capacity


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A job that may start, with the GPUs it gets."""

    job: Job
    gpu_ids: tuple[str, ...]


def admissions(live: Iterable[Job], capacity: Capacity) -> list[Admission]:
    """Return the queued jobs that may start beside what runs, in the order of submission.

    A job that does not fit yet keeps all later ones waiting, so that a large one is not starved
    by small ones. Services that are not counted and ask for no GPU never wait.

    Parameters
    ----------
    live
        Jobs that have not ended, the first submitted first.
    """
    jobs = list(live)
    running = [job for job in jobs if job.state is not JobState.QUEUED]
    # thousandths, since sums of fractions of a CPU must come out exactly
    free_cpus = _thousandths(capacity.cpus) - sum(_cpus(job) for job in running)
    free_mib = capacity.memory_mib - sum(_memory_mib(job) for job in running)
    taken = {gpu for job in running for gpu in job.gpu_ids}
    free_gpus = [gpu for gpu in capacity.gpu_ids if gpu not in taken]
    admitted: list[Admission] = []
    is_blocked = False
    for job in jobs:
        if job.state is not JobState.QUEUED:
            continue
        cpus, memory_mib, n_gpus = _cpus(job), _memory_mib(job), job.resources.gpus
        asks_for_nothing = not (cpus or memory_mib or n_gpus)
        fits = cpus <= free_cpus and memory_mib <= free_mib and n_gpus <= len(free_gpus)
        if asks_for_nothing or (fits and not is_blocked):
            given, free_gpus = free_gpus[:n_gpus], free_gpus[n_gpus:]
            admitted.append(Admission(job=job, gpu_ids=tuple(given)))
            free_cpus, free_mib = free_cpus - cpus, free_mib - memory_mib
        else:
            is_blocked = True
    return admitted


def _thousandths(cpus: float) -> int:
    return round(cpus * 1000)


def _cpus(job: Job) -> int:
    return max(1, _thousandths(job.resources.cpus)) if job.counted else 0


def _memory_mib(job: Job) -> int:
    return job.resources.memory_mib if job.counted else 0
