"""Runs jobs on a Ray cluster, with the promises of a single machine kept by our own records."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from loopwright.compute.backend import Compute
from loopwright.compute.home import find_home_id, home_id
from loopwright.compute.job import Job, JobSpec, JobState
from loopwright.compute.ledger import JobLedger, queued_job
from loopwright.compute.origin import Origin, no_origin, origin_of
from loopwright.compute.ray_cluster import RayCluster
from loopwright.compute.ray_exchange import RayExchange
from loopwright.compute.ray_placement import cluster_capacity, refuse_unplaceable
from loopwright.compute.ray_queue import RayQueue, ray_home
from loopwright.compute.resource import Capacity, refuse_crowd
from loopwright.compute.workspace import (
    create_folder,
    delete_files,
    delete_folder,
    not_ended,
    read_log,
)
from loopwright.core.clock import Clock
from loopwright.core.names import new_id
from loopwright.store import MetadataStore

_MOST_SILENCE_S = 120.0


class RayCompute:
    """A `Compute` on the nodes of a Ray cluster.

    Ray starts a process on a node and keeps the resources for it; everything else is ours. What no
    node can ever give is refused. Jobs wait in our own queue, in the order of submission, and are
    given to Ray for a certain node when it has room, so a stopped one does not stay behind in Ray's.
    On the node, the job runs under the supervising process of a single machine. A run that is lost
    with its node is noticed, and tried again elsewhere as often as the job declares; what the lost
    run still leaves is never taken.

    Services, which wait for requests and are not counted, run on this machine.

    Parameters
    ----------
    metadata, folder, clock
        See `LocalCompute`; each job has its folder here, and its results once it has ended.
    cluster
        The door of the cluster.
    location
        A folder or the URL of an object store that this machine and every node can read and
        write, such as the artifact store's.
    services
        Where services run.
    python
        The interpreter on the nodes that has loopwright; by default the same path as here where
        it exists there, else `python3`.
    """

    def __init__(
        self,
        metadata: MetadataStore,
        folder: Path,
        clock: Clock,
        *,
        cluster: RayCluster,
        location: str | Path,
        services: Compute,
        python: str = sys.executable,
    ) -> None:
        self._metadata = metadata
        self._folder = folder.absolute()
        self._clock = clock
        self._services = services
        self._exchange = RayExchange(location, self._folder.parent / "cache")
        self._ledger = JobLedger(metadata, self._folder, ray_home(find_home_id(self._folder)))
        self._queue = RayQueue(
            metadata,
            self._ledger,
            self._folder,
            clock,
            cluster=cluster,
            exchange=self._exchange,
            location=str(location),
            python=python,
        )

    def capacity(self) -> Capacity:
        """Return the most that one node has, and the nodes that live now."""
        self._queue.check_door()
        return cluster_capacity(self._queue.living_nodes(fresh=True))

    def submit(self, spec: JobSpec) -> Job:
        """Start a job, or queue it until there is room, and return it at once."""
        if not spec.counted:
            return self._services.submit(spec)
        self._queue.check_door()
        nodes = self._queue.living_nodes(fresh=True)
        refuse_unplaceable(spec.resources, nodes)
        refuse_crowd(spec.resources, cluster_capacity(nodes), n_jobs=1 + spec.keeps_room_for)
        if not self._ledger.home:
            self._ledger.home = ray_home(home_id(self._folder))
        self._queue.advance()
        known = self._ledger.latest(spec.key)
        if known and _is_kept(known):
            return known
        job_id = new_id()
        folder = self._folder / job_id
        create_folder(folder, spec, job_id=job_id)
        origin = msgspec.to_builtins(origin_of(spec))
        with self._metadata.transaction():
            # another process may have submitted the same key meanwhile
            known = self._ledger.latest(spec.key)
            if known is None or not _is_kept(known):
                attempt = known.attempt + 1 if known else 1
                now = self._clock.now()
                self._ledger.add(
                    queued_job(spec, job_id=job_id, folder=folder, attempt=attempt, at=now)
                )
                self._ledger.put_origin(job_id, origin)
                known = None
        if known:
            delete_folder(folder)
            return known
        return self.get(job_id)

    def get(self, job_id: str) -> Job:
        """Return a job as it stands now; `NotFoundError` if there is none."""
        self._queue.advance()
        job = self._ledger.get(job_id)
        return (
            self._queue.with_reasons([job])[0] if self._is_ours(job) else self._services.get(job_id)
        )

    def find(self, key: str) -> Job | None:
        """Return the latest attempt at a key, or None if there was none."""
        self._queue.advance()
        return self._ledger.latest(key) or self._services.find(key)

    def list_(
        self, *, kind: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[Job]:
        """Return the jobs of a kind that carry all of `labels`, the first submitted first."""
        self._queue.advance()
        return self._queue.with_reasons(self._services.list_(kind=kind, labels=labels))

    def wait(
        self,
        job_ids: Sequence[str],
        *,
        on_change: Callable[[Job], None] | None = None,
        poll_s: float = 0.2,
    ) -> list[Job]:
        """Return the jobs, in the order asked for, once all have ended.

        Raises
        ------
        BackendError
            If the cluster cannot be reached for two minutes. The jobs go on.
        """
        seen: dict[str, JobState] = {}
        heard = time.monotonic()
        while True:
            silence = self._queue.advance()
            if silence is None:
                heard = time.monotonic()
            elif time.monotonic() - heard > _MOST_SILENCE_S:
                raise silence
            jobs = [self._looked_at(job_id) for job_id in job_ids]
            for job in jobs:
                if on_change and seen.get(job.id) is not job.state:
                    on_change(job)
                seen[job.id] = job.state
            if all(job.state.has_ended for job in jobs):
                return jobs
            time.sleep(poll_s)

    def stop(self, job_id: str, *, grace_s: float = 10.0) -> Job:
        """End a job and return it once it has ended; nothing happens to one that has."""
        self._queue.advance()
        with self._metadata.transaction():
            job = self._ledger.get(job_id)
            if not self._is_ours(job):
                return self._services.stop(job_id, grace_s=grace_s)
            run = self._queue.find_run(job_id)
            if job.state is JobState.QUEUED and not (run and run.is_placed):
                return self._queue.end(
                    job, JobState.STOPPED, reason="It was stopped before it started."
                )
            if job.state is JobState.RUNNING:
                self._ledger.move(job, JobState.STOPPING)
        if not job.state.has_ended and run is not None:
            self._exchange.put(run.scope, "stop.json", {"grace_s": grace_s})
            if job.state is JobState.QUEUED:
                self._queue.stop_before_start(job, run)
        return self.wait([job_id])[0]

    def log(self, job_id: str, *, tail_bytes: int | None = None) -> str:
        """Return what the job has printed so far, or the last `tail_bytes` of it."""
        job = self._ledger.get(job_id)
        if not self._is_ours(job):
            return self._services.log(job_id, tail_bytes=tail_bytes)
        run = self._queue.find_run(job_id)
        if run is None:
            return read_log(job.folder, tail_bytes=tail_bytes)
        whole = job.log_path.read_bytes() if job.log_path.exists() else b""
        whole += self._queue.live_log(run)
        return whole[-tail_bytes if tail_bytes else 0 :].decode(errors="replace")

    def origin(self, job_id: str) -> Origin:
        """Return what a job was made of; `NotFoundError` if there is no job, or no record of it."""
        job = self._ledger.get(job_id)
        kept = self._ledger.find_origin(job.id)
        if kept is None:
            raise no_origin(job)
        return msgspec.convert(kept, Origin)

    def delete_files(self, job_id: str) -> int:
        """Remove the folder of a job that has ended, and return how many bytes came free."""
        job = self._ledger.get(job_id)
        if not self._is_ours(job):
            return self._services.delete_files(job_id)
        if not job.state.has_ended:
            raise not_ended(job)
        latest = self._ledger.latest(job.key)
        is_last = latest is None or latest.state.has_ended
        return delete_files(job, with_checkpoints=is_last)

    def _looked_at(self, job_id: str) -> Job:
        job = self._ledger.get(job_id)
        return job if self._is_ours(job) else self._services.get(job_id)

    def _is_ours(self, job: Job) -> bool:
        return job.home == self._ledger.home


def _is_kept(job: Job) -> bool:
    """Tell whether submitting the same key again means this job."""
    return not job.state.has_ended or (job.state is JobState.SUCCEEDED and job.folder.is_dir())
