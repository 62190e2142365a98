"""How the running jobs of a home end: what their folders tell, written down in the ledger."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from loopwright.compute.job import Job, JobState
from loopwright.compute.ledger import JobLedger
from loopwright.compute.retry import next_try_at, retry_reason
from loopwright.compute.successor import mark_queued
from loopwright.compute.supervisor.process import kill_marked
from loopwright.compute.supervisor.record import claim
from loopwright.compute.supervisor.successor import SETTLED
from loopwright.compute.workspace import (
    forget_environment,
    is_supervised,
    prepare_next_try,
    read_exit,
    read_supervisor,
    with_last_lines,
)
from loopwright.core.clock import Clock

# a supervisor claims its job in some 20 ms; one that was never started is started by the next to look
_START_AGAIN_S = 3.0
_GIVE_UP_S = 60.0
_VANISHED = "The supervising process vanished (killed, or the machine restarted)."
_NEVER_STARTED = f"No supervising process started within {_GIVE_UP_S:g} s."


class Settlement:
    """Sees which running jobs have ended, and writes down how.

    Parameters
    ----------
    ledger, clock
        Where, and when where the supervisor does not say.
    folder
        Where each job has its folder.
    host
        This machine, on which supervisors are started.
    """

    def __init__(self, ledger: JobLedger, clock: Clock, *, folder: Path, host: str) -> None:
        self._ledger = ledger
        self._clock = clock
        self._folder = folder
        self._host = host
        self._unclaimed: dict[str, tuple[float, float]] = {}

    def has_news(self, job: Job) -> bool:
        """Tell, without changing anything, whether a job that was running has ended."""
        if (job.folder / "exit.json").exists():
            return True
        if read_supervisor(job.folder, number=job.retried) is None:
            return self._unclaimed_s(job) > _GIVE_UP_S or not job.folder.exists()
        return not is_supervised(job.folder, number=job.retried)

    def settle(self, job: Job) -> bool:
        """Write down the end of a job, inside a transaction; tell whether it has one."""
        if not self.has_news(job):
            return False
        if not job.folder.exists():
            kill_marked(job.id)
            self.end(job, JobState.FAILED, reason=f"Its folder {job.folder} was deleted.")
            return True
        # the claim also keeps out a supervisor that comes after all
        unclaimed = read_supervisor(job.folder, number=job.retried) is None
        if unclaimed and read_exit(job.folder) is None:
            if not claim(str(job.folder), job.retried):
                return False
            self._finish(job, JobState.FAILED, reason=_NEVER_STARTED, is_lost=True)
            return True
        # read after the supervisor was seen dead, which writes this last
        exit_ = read_exit(job.folder)
        if exit_ is None:
            kill_marked(job.id)
            self._finish(job, JobState.FAILED, reason=_VANISHED, is_lost=True)
            return True
        self._finish(
            job,
            exit_.state,
            reason=exit_.reason,
            is_lost=exit_.is_lost,
            ended_at=exit_.ended_at,
            exit_code=exit_.exit_code,
            peak_memory_mib=exit_.peak_memory_mib,
            cpu_s=exit_.cpu_s,
            log_left_out_bytes=exit_.log_left_out_bytes,
        )
        return True

    def _finish(
        self, job: Job, state: JobState, *, reason: str, is_lost: bool, **facts: Any
    ) -> None:
        """Write down how a try ended: with the end of the job, or with the wait for the next."""
        again_at = None
        if job.state is JobState.RUNNING:
            again_at = next_try_at(job, is_lost=is_lost, now=self._clock.now())
        if again_at is None:
            shown = with_last_lines(reason, job.folder) if state is JobState.FAILED else reason
            self.end(job, state, reason=shown, **facts)
            forget_environment(job.folder)
            with suppress(OSError):
                (job.folder / SETTLED).touch()
            return
        said = retry_reason(job, reason)
        prepare_next_try(job.folder, note=said)
        mark_queued(self._folder, job.id)
        self._ledger.move(
            job,
            JobState.QUEUED,
            retried=job.retried + 1,
            not_before=again_at,
            reason=said,
            started_at=None,
            gpu_ids=(),
            host="",
        )

    def end(self, job: Job, state: JobState, *, reason: str, **facts: Any) -> None:
        """Write down, inside a transaction, the end of a job and what is known of it."""
        self._ledger.move(job, state, **{"ended_at": self._clock.now(), **facts, "reason": reason})

    def neglected(self, running: Sequence[Job]) -> Iterator[Job]:
        """Yield jobs that were admitted and never started: whoever meant to was killed before."""
        for job in running:
            if read_supervisor(job.folder, number=job.retried) or job.host != self._host:
                self._unclaimed.pop(job.id, None)
                continue
            now = time.monotonic()
            first, last = self._unclaimed.setdefault(job.id, (now, now))
            if now - last > _START_AGAIN_S:
                self._unclaimed[job.id] = (first, now)
                yield job

    def _unclaimed_s(self, job: Job) -> float:
        first, _ = self._unclaimed.get(job.id, (time.monotonic(), 0.0))
        return time.monotonic() - first
