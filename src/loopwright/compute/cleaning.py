"""Which folders of ended jobs may be removed: a pure function over jobs and sizes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta

from loopwright.compute.job import Job


def removable(
    jobs: Iterable[Job],
    *,
    needed: Collection[str],
    sizes: Mapping[str, int],
    now: datetime,
    older_than: timedelta,
    most_bytes: int | None = None,
) -> list[Job]:
    """Return the jobs whose folders may be removed, the first ended first.

    Parameters
    ----------
    needed
        Ids of jobs whose files something else still wants; none of them is removed.
    sizes
        Bytes of each job's folder by id; a job without one has no folder any more.
    older_than
        All that ended longer ago than this is removed ...
    most_bytes
        ... and of the rest, the oldest, until all that is left takes no more than this.
    """
    ended = [job for job in jobs if job.id in sizes and job.state.has_ended]
    left = sum(sizes.values())
    chosen = []
    for job in sorted(ended, key=lambda job: (job.ended_at or job.submitted_at, job.id)):
        if job.id in needed:
            continue
        is_old = now - (job.ended_at or job.submitted_at) > older_than
        if is_old or (most_bytes is not None and left > most_bytes):
            chosen.append(job)
            left -= sizes[job.id]
    return chosen
