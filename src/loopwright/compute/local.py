"""Runs jobs on this machine, each under a supervising process that outlives whoever started it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path

import msgspec

from loopwright.compute.admission import admissions, joined, never_waits, waiting_reasons
from loopwright.compute.home import find_home_id, home_id
from loopwright.compute.job import Job, JobSpec, JobState
from loopwright.compute.launch import spawned, supervisor_command
from loopwright.compute.ledger import JobLedger, queued_job
from loopwright.compute.origin import Origin, no_origin, origin_of
from loopwright.compute.resource import (
    Capacity,
    machine_capacity,
    refuse_crowd,
    refuse_impossible,
)
from loopwright.compute.settlement import Settlement
from loopwright.compute.successor import (
    Successor,
    mark_queued,
    sleeping_place,
    stale_marks,
    unmark_queued,
)
from loopwright.compute.supervisor.process import is_alive, machine_name
from loopwright.compute.supervisor.record import claim
from loopwright.compute.workspace import (
    create_folder,
    delete_files,
    delete_folder,
    forget_environment,
    not_ended,
    read_log,
    read_order,
    read_supervisor,
    request_stop,
)
from loopwright.core.clock import Clock
from loopwright.core.errors import BackendError, WrongStateError
from loopwright.core.names import new_id
from loopwright.store import MetadataStore

_GLANCE_S = 0.01
# between two looks for jobs that are to be tried again later
_NAP_S = 1.0
# how many of the jobs that wait are told what for
_N_REASONS = 64


class LocalCompute:
    """A `Compute` on this machine.

    Jobs are admitted by what they declare, in transactions of the metadata store, so that all
    processes on one home together never promise more than there is; two homes on one machine know
    nothing of each other, and where several homes share a store, each judges its own jobs only. A
    job that a job submits is part of its tree, and ends with it.

    Parameters
    ----------
    metadata
        Where jobs are remembered.
    folder
        Where each job has its folder; created when the first job comes.
    clock
        When jobs are submitted and started; ends are told by the supervising process.
    capacity
        What there is to give; by default, what the machine or container has.
    successor
        What goes on with the queue (`advance_alone`) when a job ends and no client looks.
    """

    def __init__(
        self,
        metadata: MetadataStore,
        folder: Path,
        clock: Clock,
        *,
        capacity: Capacity | None = None,
        successor: Successor | None = None,
    ) -> None:
        self._metadata = metadata
        self._folder = folder.absolute()
        self._ledger = JobLedger(metadata, self._folder, find_home_id(self._folder))
        self._clock = clock
        self._capacity = capacity or machine_capacity()
        self._told = successor.order() if successor else b""
        self._host = machine_name()
        self._lock = threading.Lock()
        self._supervisors: set[int] = set()
        self._settlement = Settlement(self._ledger, clock, folder=self._folder, host=self._host)
        if self._folder.is_dir():
            self._make_home()

    def capacity(self) -> Capacity:
        """Return what this machine, or this backend of it, has to give."""
        return self._capacity

    def submit(self, spec: JobSpec) -> Job:
        """Start a job, or queue it until there is room, and return it at once."""
        refuse_impossible(spec.resources, self._capacity)
        refuse_crowd(spec.resources, self._capacity, n_jobs=1 + spec.keeps_room_for)
        self._make_home()
        known = self._ledger.latest(spec.key)
        if known and not known.state.has_ended:
            self._advance()
            known = self._ledger.latest(spec.key)
        if known and _is_kept(known):
            return known
        job_id = new_id()
        folder = self._folder / job_id
        create_folder(folder, spec, job_id=job_id)
        started: list[Job] = []
        with self._metadata.transaction():
            # another process may have submitted the same key meanwhile
            known = self._ledger.latest(spec.key)
            if known is None or not _is_kept(known):
                attempt = known.attempt + 1 if known else 1
                job = queued_job(
                    spec, job_id=job_id, folder=folder, attempt=attempt, at=self._clock.now()
                )
                job = self._ledger.add(job)
                known = None
                started = self._started_first(job) or self._turn()
                if job_id not in {each.id for each in started}:
                    mark_queued(self._folder, job_id)
        if known:
            delete_folder(folder)
            return known
        for each in started:
            self._spawn(each)
        # after the start, which need not wait for it
        self._ledger.put_origin(job_id, msgspec.to_builtins(origin_of(spec)))
        return self.get(job_id)

    def get(self, job_id: str) -> Job:
        """Return a job as it stands now; `NotFoundError` if there is none."""
        running = self._advance()
        return self._with_reasons([self._ledger.get(job_id)], running)[0]

    def find(self, key: str) -> Job | None:
        """Return the latest attempt at a key, or None if there was none."""
        self._advance()
        return self._ledger.latest(key)

    def list_(
        self, *, kind: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[Job]:
        """Return the jobs of a kind that carry all of `labels`, the first submitted first."""
        running = self._advance()
        wanted = (labels or {}).items()
        found = [
            job
            for job in self._ledger.all()
            if (kind is None or job.kind == kind) and wanted <= job.labels.items()
        ]
        return self._with_reasons(found, running)

    def wait(
        self,
        job_ids: Sequence[str],
        *,
        on_change: Callable[[Job], None] | None = None,
        poll_s: float = 0.2,
    ) -> list[Job]:
        """Return the jobs, in the order asked for, once all have ended."""
        running = self._advance()
        jobs = {job_id: self._ledger.get(job_id) for job_id in job_ids}
        waiting = {job.id for job in jobs.values() if not job.state.has_ended}
        # what each job looks like is read again only when something was said of it
        told = self._ledger.place(waiting)
        for job in jobs.values():
            if on_change:
                on_change(job)
        while waiting:
            _pause(running, poll_s)
            running = self._advance()
            told, changed = self._ledger.changed_since(told)
            for job_id in changed & waiting:
                before, jobs[job_id] = jobs[job_id], self._ledger.get(job_id)
                if on_change and jobs[job_id].state is not before.state:
                    on_change(jobs[job_id])
                if jobs[job_id].state.has_ended:
                    waiting.discard(job_id)
        return [jobs[job_id] for job_id in job_ids]

    def stop(self, job_id: str, *, grace_s: float = 10.0) -> Job:
        """End a job and return it once it has ended; nothing happens to one that has."""
        self._advance()
        with self._metadata.transaction():
            job = self._ledger.get(job_id)
            if not job.state.has_ended and job.home != self._ledger.home:
                raise _elsewhere(job)
            if job.state is JobState.QUEUED:
                self._ledger.move(
                    job,
                    JobState.STOPPED,
                    ended_at=self._clock.now(),
                    reason="It was stopped before it started.",
                )
                forget_environment(job.folder)
                unmark_queued(self._folder, job_id)
            elif not job.state.has_ended:
                request_stop(job.folder, grace_s=grace_s)
                if job.state is JobState.RUNNING:
                    self._ledger.move(job, JobState.STOPPING)
        supervisor = read_supervisor(job.folder, number=job.retried)
        if supervisor and job.host == self._host and is_alive(supervisor):
            with suppress(ProcessLookupError):
                os.kill(supervisor["pid"], signal.SIGTERM)
        return self.wait([job_id])[0]

    def log(self, job_id: str, *, tail_bytes: int | None = None) -> str:
        """Return what the job has printed so far, or the last `tail_bytes` of it."""
        job = self._ledger.get(job_id)
        if job.home not in ("", self._ledger.home) and not job.folder.exists():
            raise _elsewhere(job)
        return read_log(job.folder, tail_bytes=tail_bytes)

    def origin(self, job_id: str) -> Origin:
        """Return what a job was made of; `NotFoundError` if there is no job, or no record of it."""
        job = self._ledger.get(job_id)
        kept = self._ledger.find_origin(job.id)
        if kept is None:
            raise no_origin(job)
        return msgspec.convert(kept, Origin)

    def delete_files(self, job_id: str) -> int:
        """Remove the folder of a job that has ended, and return how many bytes came free."""
        job = self.get(job_id)
        if job.home not in ("", self._ledger.home):
            raise _elsewhere(job)
        if not job.state.has_ended:
            raise not_ended(job)
        latest = self._ledger.latest(job.key)
        is_last = latest is None or latest.id == job.id
        return delete_files(job, with_checkpoints=is_last)

    def advance_alone(self) -> None:
        """Start what may start now, and what is to be tried again later once it is time.

        For a process without a user; of several, one stays for the later ones.
        """
        for job_id in list(stale_marks(self._folder)):
            job = self._ledger.find(job_id)
            if job is None or job.state is not JobState.QUEUED:
                unmark_queued(self._folder, job_id)
        self._advance()
        while self._has_later():
            with sleeping_place(self._folder) as is_mine:
                if not is_mine:
                    return
                while self._has_later():
                    time.sleep(_NAP_S)
                    self._advance()

    def _has_later(self) -> bool:
        return any(job.not_before for job in self._ledger.queued()) and self._folder.is_dir()

    def _make_home(self) -> None:
        """Give this folder of jobs its identity, and take over what is older than it."""
        if self._ledger.home:
            return
        try:
            self._ledger.home = home_id(self._folder)
        except OSError as cause:
            raise BackendError(
                f"The folder {self._folder} of the jobs cannot be written: "
                f"{cause.strerror or cause}.",
                hint="Check the permissions of the home folder and the space left on its disk.",
                folder=str(self._folder),
            ) from cause
        with self._metadata.transaction():
            self._ledger.adopt()

    def _advance(self) -> list[Job]:
        """Take in what has ended and start what fits; return the jobs that run."""
        self._reap()
        if not self._ledger.home:
            # another process may have submitted the first job since
            self._ledger.home = find_home_id(self._folder)
        running = self._ledger.running()
        for job in self._settlement.neglected(running):
            self._spawn(job)
        if not any(map(self._settlement.has_news, running)) and not self._may_start(running):
            return running
        with self._metadata.transaction():
            started = self._turn()
        for job in started:
            self._spawn(job)
        return self._ledger.running()

    def _turn(self) -> list[Job]:
        """Write down, inside a transaction, what has ended and what starts; return the latter."""
        running = [job for job in self._ledger.running() if not self._settlement.settle(job)]
        return [self._admit(job, gpu_ids) for job, gpu_ids in self._may_start(running)]

    def _started_first(self, job: Job) -> list[Job]:
        """Start a job that need not wait its turn: it takes nothing, or what is kept for it."""
        if never_waits(job):
            return [self._admit(job, ())]
        here = [each for each in self._ledger.running() if each.host == self._host]
        found = joined(job, here, self._capacity) if job.joins else None
        return [self._admit(job, found.gpu_ids)] if found else []

    def _may_start(self, running: Sequence[Job]) -> list[tuple[Job, tuple[str, ...]]]:
        here = [job for job in running if job.host == self._host]
        found = admissions(here, self._ledger.queued(), self._capacity, now=self._clock.now())
        return [(each.job, each.gpu_ids) for each in found]

    def _admit(self, job: Job, gpu_ids: tuple[str, ...]) -> Job:
        return self._ledger.move(
            job,
            JobState.RUNNING,
            started_at=self._clock.now(),
            not_before=None,
            reason="",
            gpu_ids=gpu_ids,
            host=self._host,
        )

    def _with_reasons(self, jobs: list[Job], running: Sequence[Job]) -> list[Job]:
        """Return jobs with what the queued ones wait for."""
        if not any(job.state is JobState.QUEUED and job.home == self._ledger.home for job in jobs):
            return jobs
        here = [job for job in running if job.host == self._host]
        first = list(islice(self._ledger.queued(), _N_REASONS))
        reasons = waiting_reasons(here, first, self._capacity, now=self._clock.now())
        others = f"waits behind {_N_REASONS} jobs and more that were submitted before it"
        return [
            replace(job, waits_for=reasons.get(job.id, "" if job.id in known else others))
            if job.state is JobState.QUEUED and job.home == self._ledger.home
            else job
            for known in [{job.id for job in first}]
            for job in jobs
        ]

    def _spawn(self, job: Job) -> None:
        """Start the supervisor of a job; a second one for the same job leaves at once."""
        # once its start is sure to be known
        unmark_queued(self._folder, job.id)
        order = read_order(job.folder)
        if order is None:
            return
        command, environment = order
        # a job that asked for no GPU sees none
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(job.gpu_ids)
        try:
            pid = spawned(
                supervisor_command(job, command), environment, log=job.log_path, told=self._told
            )
        except OSError as error:
            if claim(str(job.folder), job.retried):
                reason = f"Its supervising process cannot be started: {error.strerror or error}."
                with self._metadata.transaction():
                    self._settlement.end(job, JobState.FAILED, reason=reason)
                forget_environment(job.folder)
            return
        with self._lock:
            self._supervisors.add(pid)

    def _reap(self) -> None:
        """Take in supervisors of ours that have ended, so that they do not stay as zombies."""
        with self._lock:
            for pid in list(self._supervisors):
                try:
                    ended, _ = os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    ended = pid
                if ended:
                    self._supervisors.discard(pid)


def _is_kept(job: Job) -> bool:
    """Tell whether submitting the same key again means this job."""
    if job.state is JobState.SUCCEEDED:
        # its results may have been cleaned up
        return job.out.is_dir()
    return not job.state.has_ended


def _elsewhere(job: Job) -> WrongStateError:
    return WrongStateError(
        f"The job {job.id} ({job.name}) belongs to another home, {job.folder.parent}"
        f"{f' on {job.host}' if job.host else ''}.",
        hint="Give the command there.",
        job=job.id,
        host=job.host,
    )


def _pause(running: Sequence[Job], poll_s: float) -> None:
    """Wait for the next look, which comes early when a job has ended."""
    until = time.monotonic() + poll_s
    exits = [job.folder / "exit.json" for job in running]
    while time.monotonic() < until and not any(path.exists() for path in exits):
        time.sleep(_GLANCE_S)
