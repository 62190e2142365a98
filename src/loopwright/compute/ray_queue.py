"""The jobs of a home on a cluster: which wait, which go where, and what has become of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from loopwright.compute.home import find_home_id
from loopwright.compute.job import Job, JobState
from loopwright.compute.ledger import JobLedger
from loopwright.compute.ray_cluster import RayCluster, RayNode
from loopwright.compute.ray_exchange import RayExchange
from loopwright.compute.ray_placement import placements, waiting_reason
from loopwright.compute.ray_run import (
    Ended,
    Lost,
    News,
    RayRun,
    Started,
    clean_up,
    collect,
    is_on,
    log_of,
    news_of,
    put_in_place,
    send_run,
    withdrawal,
)
from loopwright.compute.retry import next_try_at, retry_reason
from loopwright.compute.workspace import (
    delete_folder,
    forget_environment,
    prepare_next_try,
    with_last_lines,
)
from loopwright.core.clock import Clock
from loopwright.core.errors import BackendError, LoopwrightError
from loopwright.store import MetadataStore

_RUN = "ray-run"
_ASK_RAY_EVERY_S = 1.0
_NODES_HOLD_S = 1.0
# whoever placed a run has given it to Ray by then, or was killed
_GIVE_AGAIN_S = 60.0
_MOST_UNSTARTED = 5
_MOST_PLACED_AT_ONCE = 256


class RayQueue:
    """Moves a home's jobs along on a cluster; every process on the home may do so at any time.

    What it decides it writes down in transactions of the metadata store, and does afterwards; what
    was decided and not done by a process that was killed is done by the next. See `RayCompute` for
    the parameters.
    """

    def __init__(
        self,
        metadata: MetadataStore,
        ledger: JobLedger,
        folder: Path,
        clock: Clock,
        *,
        cluster: RayCluster,
        exchange: RayExchange,
        location: str,
        python: str,
    ) -> None:
        self._metadata = metadata
        self._ledger = ledger
        self._folder = folder
        self._clock = clock
        self._cluster = cluster
        self._exchange = exchange
        self._location = location
        self._python = python
        self._lock = threading.Lock()
        self._is_checked = False
        self._asked_ray: dict[str, float] = {}
        self._sending: set[str] = set()
        self._nodes: tuple[float, list[RayNode]] = (-1e9, [])
        self._logs: dict[str, tuple[int, bytes]] = {}

    def advance(self) -> BackendError | None:
        """Take in what has happened and place what fits; return why that was not possible."""
        if not self._ledger.home:
            # another process may have submitted the first job meanwhile
            self._ledger.home = ray_home(find_home_id(self._folder))
        try:
            self.check_door()
            for job, run in self._active():
                self._look_after(job, run)
            for job, run in self._place():
                self._send(job, run)
        except BackendError as error:
            # what is remembered can be read all the same
            if not error.retryable:
                raise
            return error
        return None

    def check_door(self) -> None:
        """Check once that the cluster lets us in, and nobody who has no token."""
        if not self._is_checked:
            self._cluster.check_door()
            self._is_checked = True

    def _active(self) -> list[tuple[Job, RayRun]]:
        """Return the jobs that have a place on the cluster, with their runs."""
        if not self._ledger.home:
            return []
        found = []
        for record in self._metadata.list_(self._run_kind, limit=10_000):
            run = RayRun(**record.body)
            job = self._ledger.find(run.job_id) if run.is_placed else None
            if job is not None:
                found.append((job, run))
        return found

    def _look_after(self, job: Job, run: RayRun) -> None:
        """Take in what has become of a run."""
        if job.state.has_ended:
            self._metadata.delete(self._run_kind, job.id)
            return
        if not run.is_given:
            if time.time() - run.placed_at > _GIVE_AGAIN_S:
                self._send(job, run)
            return
        try:
            news = self._news(job, run)
            if news is None:
                return
            # outside the transaction, since it takes as long as the results are large
            fetched = None if isinstance(news, Started) else collect(self._exchange, job, run, news)
        except LoopwrightError as error:
            # a cluster that lets us in no more says nothing about the job
            if getattr(error, "retryable", False) or "address" in error.facts:
                raise
            self._fail(job, reason=f"What it left cannot be taken in. {error}")
            return
        with self._metadata.transaction():
            taken = self._take_in(job.id, run, news, fetched)
        if fetched is not None and fetched.exists():
            delete_folder(fetched)
        if taken is not None and taken.state.has_ended:
            self._logs.pop(run.scope, None)
            clean_up(self._exchange, job.id)

    def _news(self, job: Job, run: RayRun) -> News:
        now = time.monotonic()
        ask_ray = now - self._asked_ray.get(run.scope, 0.0) > _ASK_RAY_EVERY_S
        if ask_ray:
            self._asked_ray[run.scope] = now
        news = news_of(self._exchange, self._cluster, job, run, ask_ray=ask_ray)
        is_waiting = news is None and job.state is JobState.QUEUED and ask_ray
        if is_waiting and not is_on(run, self.living_nodes()):
            self._withdraw(run)
            return Lost(reason=f"The node {run.ip} left the cluster.", has_started=False)
        return news

    def _take_in(self, job_id: str, run: RayRun, news: News, fetched: Path | None) -> Job | None:
        """Write down what has become of a run, inside a transaction; return the job if it was news."""
        job, kept = self._ledger.get(job_id), self.find_run(job_id)
        is_current = kept is not None and kept.is_placed and kept.number == run.number
        if not is_current or job.state.has_ended:
            return None
        if isinstance(news, Started):
            if job.state is not JobState.QUEUED:
                return None
            return self._start(job, run, news.at)
        if fetched is not None:
            put_in_place(job, fetched)
        if isinstance(news, Lost):
            return self._take_loss(job, run, news)
        assert isinstance(news, Ended)  # noqa: S101 nothing else is left
        if job.state is JobState.QUEUED and news.started_at is not None:
            # it was too short to be seen running
            job = self._start(job, run, news.started_at)
        return self._finish(
            job,
            run,
            news.exit.state,
            reason=news.exit.reason,
            is_lost=news.exit.is_lost,
            ended_at=news.exit.ended_at,
            exit_code=news.exit.exit_code,
            peak_memory_mib=news.exit.peak_memory_mib,
            cpu_s=news.exit.cpu_s,
            log_left_out_bytes=news.exit.log_left_out_bytes,
        )

    def _start(self, job: Job, run: RayRun, at: datetime) -> Job:
        return self._ledger.move(
            job, JobState.RUNNING, started_at=at, not_before=None, reason="", host=run.ip
        )

    def _take_loss(self, job: Job, run: RayRun, lost: Lost) -> Job:
        if job.state is JobState.STOPPING:
            return self.end(job, JobState.STOPPED, reason="It was stopped; its node was lost.")
        if lost.has_started or job.state is JobState.RUNNING:
            return self._finish(job, run, JobState.FAILED, reason=lost.reason, is_lost=True)
        if lost.is_fault or run.n_unstarted + 1 >= _MOST_UNSTARTED:
            return self.end(job, JobState.FAILED, reason=lost.reason)
        # nothing of it ran, so this is no try of the job's
        self._put_run(replace(run, is_placed=False, n_unstarted=run.n_unstarted + 1))
        return job

    def _finish(
        self, job: Job, run: RayRun, state: JobState, *, reason: str, is_lost: bool, **facts: Any
    ) -> Job:
        """Write down how a try ended: with the end of the job, or with the wait for the next."""
        again_at: datetime | None = None
        if job.state is not JobState.STOPPING:
            again_at = next_try_at(job, is_lost=is_lost, now=self._clock.now())
        if again_at is None:
            shown = with_last_lines(reason, job.folder) if state is JobState.FAILED else reason
            return self.end(job, state, reason=shown, **facts)
        if job.state is JobState.QUEUED:
            job = self._start(job, run, self._clock.now())
        said = retry_reason(job, reason)
        prepare_next_try(job.folder, note=said)
        self._put_run(replace(run, is_placed=False))
        return self._ledger.move(
            job,
            JobState.QUEUED,
            retried=job.retried + 1,
            not_before=again_at,
            reason=said,
            started_at=None,
            host="",
        )

    def end(self, job: Job, state: JobState, *, reason: str, **facts: Any) -> Job:
        """Write down the end of a job, inside a transaction."""
        forget_environment(job.folder)
        self._metadata.delete(self._run_kind, job.id)
        return self._ledger.move(
            job, state, **{"ended_at": self._clock.now(), **facts, "reason": reason}
        )

    def _place(self) -> list[tuple[Job, RayRun]]:
        """Write down which queued jobs go where now; return them."""
        if not self._ledger.home or not self._unplaced(self._runs(), most=1):
            return []
        nodes = self.living_nodes()
        if not self._placed_now(nodes):
            return []
        with self._metadata.transaction():
            runs = self._runs()
            chosen = []
            for job, node in self._placed_now(nodes):
                before = runs.get(job.id)
                run = RayRun(
                    job_id=job.id,
                    number=before.number + 1 if before else 1,
                    node=node.id,
                    ip=node.ip,
                    placed_at=time.time(),
                    n_unstarted=before.n_unstarted if before else 0,
                )
                self._put_run(run)
                chosen.append((job, run))
        return chosen

    def _placed_now(self, nodes: Sequence[RayNode]) -> list[tuple[Job, RayNode]]:
        runs = self._runs()
        waiting = self._unplaced(runs, most=_MOST_PLACED_AT_ONCE)
        assigned: dict[str, list[Job]] = {}
        for run in runs.values():
            job = self._ledger.find(run.job_id) if run.is_placed else None
            if job is not None and not job.state.has_ended:
                assigned.setdefault(run.node, []).append(job)
        waiting = self._joining(runs, assigned) + waiting
        return [(each.job, each.node) for each in placements(waiting, nodes, assigned)]

    def _joining(
        self, runs: Mapping[str, RayRun], assigned: Mapping[str, Sequence[Job]]
    ) -> list[Job]:
        """Return the jobs that wait, and for which one that was placed keeps room."""
        given = [job for jobs in assigned.values() for job in jobs]
        keeping = {job.id for job in given if job.keeps_room_for}
        if not keeping:
            return []
        return [
            job
            for job in self._ledger.queued()
            if job.joins in keeping and not (job.id in runs and runs[job.id].is_placed)
        ]

    def _unplaced(self, runs: Mapping[str, RayRun], *, most: int) -> list[Job]:
        """Return the first jobs that wait for a place and may have one now."""
        now = self._clock.now()
        found: list[Job] = []
        for job in self._ledger.queued():
            run = runs.get(job.id)
            is_due = job.not_before is None or job.not_before <= now
            if is_due and not (run and run.is_placed):
                found.append(job)
                if len(found) == most:
                    break
        return found

    def _send(self, job: Job, run: RayRun) -> None:
        """Give a placed run to Ray; what fails is done again by the next to look."""
        with self._lock:
            if run.scope in self._sending:
                return
            self._sending.add(run.scope)
        try:
            if self._ledger.get(job.id).state.has_ended:
                return
            origin = self._ledger.find_origin(job.id) or {}
            send_run(
                self._exchange,
                self._cluster,
                job,
                run,
                location=self._location,
                own_variables=sorted(origin.get("env", {})),
                python=self._python,
            )
            with self._metadata.transaction():
                kept, now = self.find_run(job.id), self._ledger.get(job.id)
                if kept is not None and kept.number == run.number and not now.state.has_ended:
                    self._put_run(replace(kept, is_given=True))
                    return
            # it was stopped while it was sent
            self._withdraw(run)
            clean_up(self._exchange, job.id)
        except BackendError as error:
            if error.retryable:
                raise
            self._fail(job, reason=str(error))
        finally:
            with self._lock:
                self._sending.discard(run.scope)

    def _fail(self, job: Job, *, reason: str) -> None:
        """Write down that a job failed for a reason that is not its own."""
        with self._metadata.transaction():
            now = self._ledger.get(job.id)
            if not now.state.has_ended:
                self.end(now, JobState.FAILED, reason=reason)

    def stop_before_start(self, job: Job, run: RayRun) -> None:
        """End a run that Ray has and has not started; one that it has started ends by itself."""
        said = self._cluster.find(run.ray_id)
        if said is not None and said.status != "PENDING":
            return
        with self._metadata.transaction():
            now = self._ledger.get(job.id)
            if now.state is not JobState.QUEUED:
                return
            # the node looks for the request before it starts anything
            self.end(now, JobState.STOPPED, reason="It was stopped before it started.")
        self._withdraw(run)

    def _withdraw(self, run: RayRun) -> None:
        """Have Ray forget a run that it has not started."""
        with suppress(BackendError):
            if self._cluster.find(run.ray_id) is None:
                return
            self._cluster.stop(run.ray_id)
            # Ray's own stop leaves one that it has not started waiting for ever
            self._cluster.submit(f"withdraw-{run.ray_id}", withdrawal(run, python=self._python))

    def with_reasons(self, jobs: list[Job]) -> list[Job]:
        """Return jobs with what our queued ones wait for."""
        if not any(job.state is JobState.QUEUED and job.home == self._ledger.home for job in jobs):
            return jobs
        runs = self._runs()
        try:
            nodes, silence = self.living_nodes(), ""
        except BackendError as error:
            nodes, silence = [], f"waits for the cluster: {error.message}"
        ahead, n_before = {}, 0
        for job in self._ledger.queued():
            run = runs.get(job.id)
            if run and run.is_placed:
                ahead[job.id] = f"waits for Ray to start it on {run.ip}"
                continue
            again = job.not_before is not None and job.not_before > self._clock.now()
            ahead[job.id] = (
                f"waits until {job.not_before:%H:%M:%S} for its next try"
                if again
                else silence or f"waits for {waiting_reason(job, nodes, n_before=n_before)}"
            )
            n_before += 1
        return [
            replace(job, waits_for=ahead.get(job.id, ""))
            if job.state is JobState.QUEUED and job.home == self._ledger.home
            else job
            for job in jobs
        ]

    def live_log(self, run: RayRun) -> bytes:
        """Return what a run has sent of its log; what was read before is not read again."""
        n_read, data = self._logs.get(run.scope, (0, b""))
        n_more, more = log_of(self._exchange, run, after=n_read)
        self._logs[run.scope] = (n_read + n_more, data + more)
        return data + more

    def living_nodes(self, *, fresh: bool = False) -> list[RayNode]:
        """Return the nodes that live, as of a second ago at most, or as of now."""
        asked, nodes = self._nodes
        if fresh or time.monotonic() - asked > _NODES_HOLD_S:
            nodes = self._cluster.nodes()
            self._nodes = (time.monotonic(), nodes)
        return nodes

    @property
    def _run_kind(self) -> str:
        return f"{_RUN}/{self._ledger.home}"

    def _runs(self) -> dict[str, RayRun]:
        records = self._metadata.list_(self._run_kind, limit=10_000)
        return {record.key: RayRun(**record.body) for record in records}

    def find_run(self, job_id: str) -> RayRun | None:
        """Return the run of a job that has not ended, or None if it had none yet."""
        record = self._metadata.find(self._run_kind, job_id) if self._ledger.home else None
        return RayRun(**record.body) if record else None

    def _put_run(self, run: RayRun) -> None:
        self._metadata.put(self._run_kind, run.job_id, asdict(run))


def ray_home(home: str) -> str:
    """Return what tells the jobs of a home on a cluster from those on its machine."""
    return f"{home}-ray" if home else ""
