"""Runs each job at once, while its submitter waits: for tests and for looking into a failure."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from loopwright.compute.job import Job, JobSpec, JobState
from loopwright.compute.ledger import queued_job
from loopwright.compute.resource import Capacity, machine_capacity, refuse_impossible
from loopwright.compute.workspace import (
    create_folder,
    job_environment,
    read_log,
    with_last_lines,
)
from loopwright.core.clock import Clock
from loopwright.core.errors import InvalidInputError, NotFoundError
from loopwright.core.names import did_you_mean, new_id


class InlineCompute:
    """A `Compute` whose jobs have ended when `submit` returns.

    It remembers them in this process only, keeps their time limit but not their memory limit, and
    takes no services, which would never end.
    """

    def __init__(self, folder: Path, clock: Clock, *, capacity: Capacity | None = None) -> None:
        self._folder = folder.absolute()
        self._clock = clock
        self._capacity = capacity or machine_capacity()
        self._jobs: dict[str, Job] = {}
        self._latest: dict[str, str] = {}

    def submit(self, spec: JobSpec) -> Job:
        """Run a job to its end and return it."""
        refuse_impossible(spec.resources, self._capacity)
        if not spec.counted:
            raise InvalidInputError(
                f"{spec.name!r} is a service, which would never end here.",
                hint="Use LocalCompute for services.",
                field="counted",
                value=spec.counted,
            )
        known = self.find(spec.key)
        if known and known.state is JobState.SUCCEEDED:
            return known
        job_id = new_id()
        folder = self._folder / job_id
        create_folder(folder, spec, job_id=job_id)
        attempt = known.attempt + 1 if known else 1
        at = self._clock.now()
        job = queued_job(spec, job_id=job_id, folder=folder, attempt=attempt, at=at)
        running = replace(job, state=JobState.RUNNING, started_at=at)
        self._jobs[job_id] = replace(_run(running, spec), ended_at=self._clock.now())
        self._latest[spec.key] = job_id
        return self._jobs[job_id]

    def get(self, job_id: str) -> Job:
        """Return a job; `NotFoundError` if there is none."""
        if job_id not in self._jobs:
            hint = did_you_mean(job_id, self._jobs)
            raise NotFoundError(f"There is no job {job_id!r}.", hint=hint, job=job_id)
        return self._jobs[job_id]

    def find(self, key: str) -> Job | None:
        """Return the latest attempt at a key, or None if there was none."""
        return self._jobs[self._latest[key]] if key in self._latest else None

    def list_(
        self, *, kind: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[Job]:
        """Return the jobs of a kind that carry all of `labels`, the first submitted first."""
        wanted = (labels or {}).items()
        return [
            job
            for job in self._jobs.values()
            if (kind is None or job.kind == kind) and wanted <= job.labels.items()
        ]

    def wait(
        self,
        job_ids: Sequence[str],
        *,
        on_change: Callable[[Job], None] | None = None,
        poll_s: float = 0.2,
    ) -> list[Job]:
        """Return the jobs, which have ended."""
        jobs = [self.get(job_id) for job_id in job_ids]
        for job in jobs:
            if on_change:
                on_change(job)
        return jobs

    def stop(self, job_id: str, *, grace_s: float = 10.0) -> Job:
        """Return a job, which has ended."""
        return self.get(job_id)

    def log(self, job_id: str, *, tail_bytes: int | None = None) -> str:
        """Return what the job has printed, or the last `tail_bytes` of it."""
        return read_log(self.get(job_id).folder, tail_bytes=tail_bytes)


def _run(job: Job, spec: JobSpec) -> Job:
    """Run a job's command in its folder; return the job as it ended."""
    before = os.times()
    code, reason = _exit_of(job, spec)
    after = os.times()
    spent = after.children_user + after.children_system
    cpu_s = round(spent - before.children_user - before.children_system, 3)
    if code == 0:
        return replace(job, state=JobState.SUCCEEDED, exit_code=0, cpu_s=cpu_s)
    return replace(
        job,
        state=JobState.FAILED,
        exit_code=code,
        reason=with_last_lines(reason or f"It exited with code {code}.", job.folder),
        cpu_s=cpu_s,
    )


def _exit_of(job: Job, spec: JobSpec) -> tuple[int, str]:
    """Return the exit code of a command and, if it did not just exit, why."""
    with job.log_path.open("wb") as log:
        try:
            process = subprocess.Popen(
                spec.command,
                cwd=job.folder,
                env=job_environment(spec, job_id=job.id),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            text = f"The command {spec.command[0]!r} cannot be started: {error.strerror}.\n"
            log.write(text.encode(errors="replace"))
            return 127, ""
        try:
            return process.wait(spec.time_limit_s), ""
        except subprocess.TimeoutExpired:
            return -signal.SIGKILL, f"It was ended at its time limit of {spec.time_limit_s:g} s."
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
