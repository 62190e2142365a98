"""Whose turn it is among the training jobs of an attempt, and how long each may take."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

from loopwright.compute import Compute, Job, JobSpec
from loopwright.core.errors import BackendError
from loopwright.train import AUTO
from loopwright.train.distributed import train_in_parallel

# how long workers of one model may wait for each other's room
_LEAST_MEETING_S = 600.0
Order: TypeAlias = tuple[str, str]
"""An algorithm and the window of rows it learns from."""


def in_time(
    orders: Sequence[Order],
    ended_of: Callable[[Sequence[Order], float], list[Job]],
    *,
    seconds: float,
    least_s: float,
    side_by_side: int,
) -> list[Job]:
    """Return the jobs of some orders once all have ended, the searches last.

    A search takes all the time it is given. So it is given what the others have left of it, shared
    among those searches that follow one another. What was left comes from the records of the jobs:
    a process that goes on after a kill orders the same.

    Parameters
    ----------
    orders
        Algorithms with their windows.
    ended_of
        Orders some of them, each for so many seconds, and waits until all have ended.
    seconds
        What all of them together may take.
    least_s
        What a search is given even where nothing is left.
    side_by_side
        How many searches the machine has room for.
    """
    searches = [order for order in orders if order[0] == AUTO]
    others = [order for order in orders if order[0] != AUTO]
    ended = dict(zip(others, ended_of(others, seconds), strict=True)) if others else {}
    if searches:
        spans = [(j.started_at, j.ended_at) for j in ended.values() if j.started_at and j.ended_at]
        left = max(least_s, seconds - length_s(spans))
        turns = math.ceil(len(searches) / min(side_by_side, len(searches)))
        ended |= zip(searches, ended_of(searches, left / turns), strict=True)
    return [ended[order] for order in orders]


def ended_jobs(
    compute: Compute,
    specs: Sequence[JobSpec],
    *,
    workers: Sequence[int],
    on_change: Callable[[Job], None],
) -> list[Job]:
    """Return the jobs of some orders once all have ended, each done by so many workers.

    Those of one worker are all queued first; those of several follow one after another, each when
    all its workers can start together.
    """
    pairs = list(zip(specs, workers, strict=True))
    alone = {n: compute.submit(spec).id for n, (spec, count) in enumerate(pairs) if count == 1}
    together = {
        n: _ended_together(compute, spec, workers=count, on_change=on_change)
        for n, (spec, count) in enumerate(pairs)
        if count > 1
    }
    ended = dict(zip(alone, compute.wait(list(alone.values()), on_change=on_change), strict=True))
    return [{**ended, **together}[n] for n in range(len(pairs))]


def _ended_together(
    compute: Compute, spec: JobSpec, *, workers: int, on_change: Callable[[Job], None]
) -> Job:
    """Return the job that holds the model of several workers, or the one that failed."""
    timeout_s = max(_LEAST_MEETING_S, spec.time_limit_s or 0.0)
    try:
        return train_in_parallel(
            compute, spec, workers=workers, start_timeout_s=timeout_s, on_change=on_change
        )
    except BackendError as error:
        if "job" not in error.facts:
            raise
        return compute.get(error.facts["job"])


def length_s(spans: Sequence[tuple[datetime, datetime]]) -> float:
    """Return how long at least one of some spans lasted, in seconds."""
    covered, until = timedelta(), None
    for start, end in sorted(spans):
        start = start if until is None else max(start, until)
        if end > start:
            covered += end - start
            until = end
    return covered.total_seconds()
