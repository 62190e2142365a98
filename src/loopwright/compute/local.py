"""Runs jobs on this machine, each under a supervising process that outlives whoever started it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from loopwright.compute import shim
from loopwright.compute.admission import Admission, admissions
from loopwright.compute.job import Job, JobSpec, JobState
from loopwright.compute.ledger import JobLedger, queued_job
from loopwright.compute.resource import Capacity, machine_capacity, refuse_impossible
from loopwright.compute.workspace import (
    LOG_LIMIT_BYTES,
    create_folder,
    delete_folder,
    read_exit,
    read_log,
    read_order,
    read_supervisor,
    request_stop,
    with_last_lines,
)
from loopwright.core.clock import Clock
from loopwright.core.names import new_id
from loopwright.store import MetadataStore

_GLANCE_S = 0.01
# a supervisor claims its job in some 20 ms; one that was never started is started by the next to look
_START_AGAIN_S = 3.0
_GIVE_UP_S = 60.0
_VANISHED = "The supervising process vanished (killed, or the machine restarted)."
_NEVER_STARTED = f"No supervising process started within {_GIVE_UP_S:g} s."


class LocalCompute:
    """A `Compute` on this machine.

    Jobs are admitted by what they declare, in transactions of the metadata store, so that all
    processes on one home together never promise more than there is; two homes on one machine know
    nothing of each other. A job that a job submits is part of its tree, and ends with it.

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
    """

    def __init__(
        self,
        metadata: MetadataStore,
        folder: Path,
        clock: Clock,
        *,
        capacity: Capacity | None = None,
    ) -> None:
        self._metadata = metadata
        self._folder = folder.absolute()
        self._ledger = JobLedger(metadata, self._folder)
        self._clock = clock
        self._capacity = capacity or machine_capacity()
        self._lock = threading.Lock()
        self._shims: set[int] = set()
        self._unclaimed: dict[str, tuple[float, float]] = {}

    def submit(self, spec: JobSpec) -> Job:
        """Start a job, or queue it until there is room, and return it at once."""
        refuse_impossible(spec.resources, self._capacity)
        self._advance()
        known = self._ledger.latest(spec.key)
        if known and _is_kept(known):
            return known
        job_id = new_id()
        folder = self._folder / job_id
        create_folder(folder, spec, job_id=job_id)
        with self._metadata.transaction():
            # another process may have submitted the same key meanwhile
            known = self._ledger.latest(spec.key)
            if known is None or not _is_kept(known):
                attempt = known.attempt + 1 if known else 1
                job = queued_job(
                    spec, job_id=job_id, folder=folder, attempt=attempt, at=self._clock.now()
                )
                self._ledger.add(job)
                known = None
        if known:
            delete_folder(folder)
            return known
        self._advance()
        return self._ledger.get(job_id)

    def get(self, job_id: str) -> Job:
        """Return a job as it stands now; `NotFoundError` if there is none."""
        self._advance()
        return self._ledger.get(job_id)

    def find(self, key: str) -> Job | None:
        """Return the latest attempt at a key, or None if there was none."""
        self._advance()
        return self._ledger.latest(key)

    def list_(
        self, *, kind: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[Job]:
        """Return the jobs of a kind that carry all of `labels`, the first submitted first."""
        self._advance()
        wanted = (labels or {}).items()
        return [
            job
            for job in self._ledger.all()
            if (kind is None or job.kind == kind) and wanted <= job.labels.items()
        ]

    def wait(
        self,
        job_ids: Sequence[str],
        *,
        on_change: Callable[[Job], None] | None = None,
        poll_s: float = 0.2,
    ) -> list[Job]:
        """Return the jobs, in the order asked for, once all have ended."""
        seen: dict[str, JobState] = {}
        while True:
            live = self._advance()
            jobs = [self._ledger.get(job_id) for job_id in job_ids]
            for job in jobs:
                if on_change and seen.get(job.id) is not job.state:
                    on_change(job)
                seen[job.id] = job.state
            if all(job.state.has_ended for job in jobs):
                return jobs
            _pause(live, poll_s)

    def stop(self, job_id: str, *, grace_s: float = 10.0) -> Job:
        """End a job and return it once it has ended; nothing happens to one that has."""
        self._advance()
        with self._metadata.transaction():
            job = self._ledger.get(job_id)
            if job.state is JobState.QUEUED:
                self._ledger.move(
                    job,
                    JobState.STOPPED,
                    ended_at=self._clock.now(),
                    reason="It was stopped before it started.",
                )
            elif not job.state.has_ended:
                request_stop(job.folder, grace_s=grace_s)
                if job.state is JobState.RUNNING:
                    self._ledger.move(job, JobState.STOPPING)
        supervisor = read_supervisor(job.folder)
        if supervisor and shim.is_alive(supervisor):
            with suppress(ProcessLookupError):
                os.kill(supervisor["pid"], signal.SIGTERM)
        return self.wait([job_id])[0]

    def log(self, job_id: str, *, tail_bytes: int | None = None) -> str:
        """Return what the job has printed so far, or the last `tail_bytes` of it."""
        return read_log(self._ledger.get(job_id).folder, tail_bytes=tail_bytes)

    def _advance(self) -> list[Job]:
        """Take in what has ended and start what fits; return the jobs that are live."""
        self._reap()
        live = self._ledger.live()
        for job in self._neglected(live):
            self._spawn(job)
        if not any(map(self._has_news, live)) and not admissions(live, self._capacity):
            return live
        with self._metadata.transaction():
            live = [job for job in self._ledger.live() if not self._settle(job)]
            started = [self._admit(chosen) for chosen in admissions(live, self._capacity)]
        for job in started:
            self._spawn(job)
        return self._ledger.live()

    def _admit(self, chosen: Admission) -> Job:
        return self._ledger.move(
            chosen.job, JobState.RUNNING, started_at=self._clock.now(), gpu_ids=chosen.gpu_ids
        )

    def _has_news(self, job: Job) -> bool:
        """Tell, without changing anything, whether a job that was running has ended."""
        if job.state is JobState.QUEUED:
            return False
        if (job.folder / "exit.json").exists():
            return True
        supervisor = read_supervisor(job.folder)
        if supervisor is None:
            return self._unclaimed_s(job) > _GIVE_UP_S or not job.folder.exists()
        return not shim.is_alive(supervisor)

    def _settle(self, job: Job) -> bool:
        """Write down the end of a job, inside a transaction; tell whether it has one."""
        if not self._has_news(job):
            return False
        if not job.folder.exists():
            shim.kill_marked(job.id)
            self._end(job, JobState.FAILED, reason=f"Its folder {job.folder} was deleted.")
            return True
        # the claim also keeps out a supervisor that comes after all
        if read_supervisor(job.folder) is None and read_exit(job.folder) is None:
            if not shim.claim(str(job.folder)):
                return False
            self._end(job, JobState.FAILED, reason=_NEVER_STARTED)
            return True
        # read after the supervisor was seen dead, which writes this last
        exit_ = read_exit(job.folder)
        if exit_ is None:
            shim.kill_marked(job.id)
            self._end(job, JobState.FAILED, reason=with_last_lines(_VANISHED, job.folder))
            return True
        is_failure = exit_.state is JobState.FAILED
        self._ledger.move(
            job,
            exit_.state,
            ended_at=exit_.ended_at,
            exit_code=exit_.exit_code,
            reason=with_last_lines(exit_.reason, job.folder) if is_failure else exit_.reason,
            peak_memory_mib=exit_.peak_memory_mib,
            cpu_s=exit_.cpu_s,
        )
        return True

    def _end(self, job: Job, state: JobState, *, reason: str) -> None:
        self._ledger.move(job, state, ended_at=self._clock.now(), reason=reason)

    def _neglected(self, live: Sequence[Job]) -> Iterator[Job]:
        """Yield jobs that were admitted and never started: whoever meant to was killed before."""
        for job in live:
            if job.state is JobState.QUEUED or read_supervisor(job.folder):
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

    def _spawn(self, job: Job) -> None:
        """Start the supervisor of a job; a second one for the same job leaves at once."""
        order = read_order(job.folder)
        if order is None:
            return
        command, environment = order
        # a job that asked for no GPU sees none
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(job.gpu_ids)
        try:
            pid = _spawned(shim_command(job, command), environment, log=job.log_path)
        except OSError as error:
            if shim.claim(str(job.folder)):
                reason = f"Its supervising process cannot be started: {error.strerror or error}."
                with self._metadata.transaction():
                    self._end(job, JobState.FAILED, reason=reason)
            return
        with self._lock:
            self._shims.add(pid)

    def _reap(self) -> None:
        """Take in supervisors of ours that have ended, so that they do not stay as zombies."""
        with self._lock:
            for pid in list(self._shims):
                try:
                    ended, _ = os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    ended = pid
                if ended:
                    self._shims.discard(pid)


def shim_command(job: Job, command: Sequence[str]) -> list[str]:
    """Return how the supervisor of a job is started."""
    limits = [job.time_limit_s or 0.0, job.resources.memory_mib, LOG_LIMIT_BYTES]
    # isolated and without site-packages, since it needs neither and starts faster
    interpreter = [
        sys.executable,
        "-I",
        "-S",
        _program(shim.__file__, getattr(shim, "__cached__", None)),
    ]
    return [*interpreter, str(job.folder), *map(str, limits), *command]


def _program(source: str, compiled: str | None) -> str:
    """Return what to run: the compiled module if it is current, since compiling takes longer."""
    with suppress(OSError):
        if compiled and Path(compiled).stat().st_mtime >= Path(source).stat().st_mtime:
            return compiled
    return source


def _spawned(command: list[str], environment: Mapping[str, str], *, log: Path) -> int:
    """Start a process in a session of its own, its output going to a file; return its id."""
    appending = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        command[0],
        command,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), appending, 0o600),
            (os.POSIX_SPAWN_OPEN, 2, str(log), appending, 0o600),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE),
    )


def _is_kept(job: Job) -> bool:
    """Tell whether submitting the same key again means this job."""
    return not job.state.has_ended or job.state is JobState.SUCCEEDED


def _pause(live: Sequence[Job], poll_s: float) -> None:
    """Wait for the next look, which comes early when a job has ended."""
    until = time.monotonic() + poll_s
    exits = [job.folder / "exit.json" for job in live if job.state is not JobState.QUEUED]
    while time.monotonic() < until and not any(path.exists() for path in exits):
        time.sleep(_GLANCE_S)
