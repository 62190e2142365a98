"""Runs each job at once, while its submitter waits: for tests and for looking into a failure."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from loopwright.compute.job import Job, JobSpec, JobState
from loopwright.compute.ledger import queued_job
from loopwright.compute.origin import Origin, origin_of
from loopwright.compute.resource import Capacity, machine_capacity, refuse_impossible
from loopwright.compute.retry import next_try_at, retry_reason
from loopwright.compute.workspace import (
    create_folder,
    delete_files,
    forget_environment,
    job_environment,
    prepare_next_try,
    read_log,
    with_last_lines,
)
from loopwright.core.clock import Clock
from loopwright.core.errors import InvalidInputError, NotFoundError
from loopwright.core.names import did_you_mean, new_id

_ENDED = "It was ended"
_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)


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
        self._origins: dict[str, Origin] = {}

    def capacity(self) -> Capacity:
        """Return what this machine, or this backend of it, has to give."""
        return self._capacity

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
        if spec.keeps_room_for or spec.joins:
            raise InvalidInputError(
                f"{spec.name!r} is one of several jobs that work together, and here each has to end "
                "before the next one starts.",
                hint="Use LocalCompute, or one worker.",
                field="workers",
                value=spec.keeps_room_for + 1,
            )
        known = self.find(spec.key)
        if known and known.state is JobState.SUCCEEDED and known.out.is_dir():
            return known
        job_id = new_id()
        folder = self._folder / job_id
        create_folder(folder, spec, job_id=job_id)
        # it is here in memory, and may hold secrets
        forget_environment(folder)
        attempt = known.attempt + 1 if known else 1
        at = self._clock.now()
        job = queued_job(spec, job_id=job_id, folder=folder, attempt=attempt, at=at)
        running = replace(job, state=JobState.RUNNING, started_at=at)
        self._origins[job_id] = origin_of(spec)
        self._jobs[job_id] = replace(self._tried(running, spec), ended_at=self._clock.now())
        self._latest[spec.key] = job_id
        return self._jobs[job_id]

    def _tried(self, job: Job, spec: JobSpec) -> Job:
        """Run a job, as often as it declares while it is lost; return it as it ended."""
        while True:
            ended = _run(job, spec)
            is_lost = not ended.reason.startswith(_ENDED) and ended.exit_code in _FROM_OUTSIDE
            again_at = next_try_at(job, is_lost=is_lost, now=self._clock.now())
            if again_at is None:
                return ended
            prepare_next_try(job.folder, note=retry_reason(job, ended.reason))
            job = replace(job, retried=job.retried + 1)
            time.sleep(max(0.0, (again_at - self._clock.now()).total_seconds()))

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

    def origin(self, job_id: str) -> Origin:
        """Return what a job was made of; `NotFoundError` if there is none."""
        return self._origins[self.get(job_id).id]

    def delete_files(self, job_id: str) -> int:
        """Remove the folder of a job, and return how many bytes came free."""
        job = self.get(job_id)
        return delete_files(job, with_checkpoints=self._latest[job.key] == job.id)


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
    with job.log_path.open("ab") as log:
        try:
            process = subprocess.Popen(
                spec.command,
                cwd=job.folder,
                env=job_environment(spec, job_id=job.id, folder=job.folder),
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
            return -signal.SIGKILL, f"{_ENDED} at its time limit of {spec.time_limit_s:g} s."
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
