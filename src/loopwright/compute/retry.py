"""When a job that was lost starts again."""

from __future__ import annotations

from datetime import datetime, timedelta

from loopwright.compute.job import Job

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 300.0


def next_try_at(job: Job, *, is_lost: bool, now: datetime) -> datetime | None:
    """Return when a job that ended may start again, or None if it has ended for good.

    The pause doubles with every try: 1, 2, 4, ... seconds, 300 at most.

    Parameters
    ----------
    is_lost
        Whether it ended through no fault of its own.
    """
    if not is_lost or job.retried >= job.retries:
        return None
    delay_s = min(FIRST_DELAY_S * 2.0**job.retried, LONGEST_DELAY_S)
    return now + timedelta(seconds=delay_s)


def retry_reason(job: Job, reason: str) -> str:
    """Return why a job is queued again, for its record while it waits."""
    return f"{reason.splitlines()[0]} Try {job.retried + 2} of {job.retries + 1} follows."
