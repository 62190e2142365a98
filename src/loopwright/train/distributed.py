"""Data-parallel boosting: one model, trained by several jobs that each hold a part of the rows."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from loopwright.compute import Compute, Job, JobSpec, JobState, rerun_spec
from loopwright.core.digest import digest_value
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.train.distributed_worker import ANNOUNCEMENT, MEETING, RANK, SECRET, WORKERS
from loopwright.train.plan import DATA_PARALLEL

_OWN_LABELS = ("workers", "rank")
_TIMEOUT = "LOOPWRIGHT_MEETING_TIMEOUT_S"
_LOOK_EVERY_S = 0.2


def check_workers(algorithm: str, workers: int) -> None:
    """Refuse what cannot be trained by so many workers.

    Raises
    ------
    InvalidInputError
        If the number is below 1, or the algorithm trains in one process only.
    """
    if workers < 1:
        raise InvalidInputError(
            f"{workers} workers cannot train.",
            hint="Ask for 1 or more.",
            field="workers",
            value=workers,
        )
    if workers > 1 and algorithm not in DATA_PARALLEL:
        raise InvalidInputError(
            f"{algorithm} trains in one process; it was to use {workers} workers.",
            hint=f"Use {' or '.join(DATA_PARALLEL)}, or one worker.",
            field="workers",
            value=workers,
        )


def train_in_parallel(
    compute: Compute,
    spec: JobSpec,
    *,
    workers: int,
    start_timeout_s: float = 180.0,
    on_change: Callable[[Job], None] | None = None,
) -> Job:
    """Train one model with several jobs at once; return the job that holds it, ended.

    Every worker gets every n-th row for training and all rows for validation. The sums over rows
    that decide each split are added up among the workers by the library's own collective, so the
    trees are those of all rows but for the order in which numbers are added and the candidates
    for thresholds; with the same number of workers they are the same every time.

    Parameters
    ----------
    spec
        What `training_job` returns for xgboost or lightgbm; its resources are those of each worker.
    start_timeout_s
        How long the workers may take to find each other once there is room, for all at once or
        for none: no group of workers waits for another that waits for it.
    on_change
        Called with each worker as it was submitted, and once all have succeeded.

    Raises
    ------
    InvalidInputError
        If the algorithm cannot be trained so.
    BackendError
        If a worker failed; the others are stopped.
    """
    check_workers(spec.labels.get("algorithm", spec.name), workers)
    if workers == 1:
        return compute.wait([compute.submit(spec).id], on_change=on_change)[0]
    tell = on_change or _tell_nobody
    key = f"{spec.key}/{workers}-workers"
    known = compute.find(f"{key}/0")
    if known is not None and known.state is JobState.SUCCEEDED and known.out.is_dir():
        return known
    if known is not None and not known.state.has_ended:
        # whoever led it was killed, and its secret with it
        compute.stop(known.id, grace_s=0.0)
    # a new one for each attempt: a worker left over from another must not come to this meeting
    secret = secrets.token_hex(32)
    fields = {"secret": secret, "workers": workers, "timeout_s": start_timeout_s}
    leader = _worker(spec, key, rank=0, meeting="", **fields)  # type: ignore[arg-type]
    first = compute.submit(replace(leader, keeps_room_for=workers - 1))
    jobs = [first]
    try:
        tell(first)
        meeting = _announced(compute, first, timeout_s=start_timeout_s)
        for rank in range(1, workers):
            other = _worker(spec, key, rank=rank, meeting=meeting, **fields)  # type: ignore[arg-type]
            jobs.append(compute.submit(replace(other, joins=first.id)))
            tell(jobs[-1])
        ended = _ended(compute, jobs)
        tell(ended)
        return ended
    finally:
        for job in jobs:
            with suppress(BackendError):
                compute.stop(job.id, grace_s=0.0)


def rerun_in_parallel(
    compute: Compute,
    job: Job,
    *,
    environment: Mapping[str, str],
    on_change: Callable[[Job], None] | None = None,
) -> Job:
    """Train once more what several workers trained, with as many; return the job that holds it.

    Raises
    ------
    InvalidInputError
        If it is not the first worker, which alone keeps the model; see also `rerun_spec`.
    BackendError
        See `train_in_parallel`.
    """
    if job.labels.get("rank") != "0":
        raise InvalidInputError(
            f"The job {job.id} ({job.name}) is one of {job.labels['workers']} workers; the first "
            "of them holds the model.",
            hint="Run the job again whose name ends with (1 of ...).",
            field="job",
            value=job.id,
        )
    # the secret was of that meeting, and there is a new one
    again = rerun_spec(compute, job.id, environment={**environment, SECRET: ""})
    own = (RANK, WORKERS, SECRET, MEETING, _TIMEOUT)
    spec = replace(
        again,
        name=job.name.rpartition(" (")[0],
        env={name: value for name, value in again.env.items() if name not in own},
        labels={name: value for name, value in job.labels.items() if name not in _OWN_LABELS},
    )
    workers = int(job.labels["workers"])
    return train_in_parallel(compute, spec, workers=workers, on_change=on_change)


def _tell_nobody(job: Job) -> None:
    """Do nothing with a job that nobody asked for."""


def _worker(
    spec: JobSpec,
    key: str,
    *,
    rank: int,
    meeting: str,
    secret: str,
    workers: int,
    timeout_s: float,
) -> JobSpec:
    attempt = digest_value(secret).removeprefix("sha256:")[:12]
    own: Mapping[str, str] = {
        RANK: str(rank),
        WORKERS: str(workers),
        SECRET: secret,
        MEETING: meeting,
        _TIMEOUT: f"{timeout_s:g}",
    }
    return replace(
        spec,
        # only the first one's results are kept, and found again
        key=f"{key}/0" if rank == 0 else f"{key}/{rank}/{attempt}",
        name=f"{spec.name} ({rank + 1} of {workers})",
        command=(sys.executable, "-P", "-m", "loopwright.train.distributed_worker"),
        env={**spec.env, **own},
        labels={**spec.labels, **dict(zip(_OWN_LABELS, map(str, (workers, rank)), strict=True))},
        # a worker cannot come back into a ring that goes on
        retries=0,
        # it is the first one's results that are compared
        rerun_of=spec.rerun_of if rank == 0 else "",
    )


def _announced(compute: Compute, first: Job, *, timeout_s: float) -> str:
    """Return the address that the first worker has printed; the wait for room has no limit."""
    deadline = float("inf")
    while time.monotonic() < deadline:
        job = compute.get(first.id)
        if job.state is not JobState.QUEUED:
            deadline = min(deadline, time.monotonic() + timeout_s)
            for line in compute.log(first.id).splitlines():
                if line.startswith(ANNOUNCEMENT):
                    return line.removeprefix(ANNOUNCEMENT).strip()
        if job.state.has_ended:
            raise _failed(job)
        time.sleep(_LOOK_EVERY_S)
    raise BackendError(
        f"The first worker did not open the meeting within {timeout_s:g} s of its start.",
        hint="Look at its log.",
        retryable=True,
        job=first.id,
    )


def _ended(compute: Compute, jobs: list[Job]) -> Job:
    """Wait until all have succeeded; raise as soon as one has failed, since the others hang then."""
    while True:
        now = [compute.get(job.id) for job in jobs]
        failed = [job for job in now if job.state.has_ended and job.state is not JobState.SUCCEEDED]
        if failed:
            raise _failed(failed[0])
        if all(job.state.has_ended for job in now):
            return now[0]
        time.sleep(_LOOK_EVERY_S)


def _failed(job: Job) -> BackendError:
    return BackendError(
        f"The worker {job.name} is {job.state.value}. {job.reason}",
        hint="The other workers were stopped; train again.",
        retryable=True,
        job=job.id,
    )
