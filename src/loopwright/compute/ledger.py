"""The records of jobs in the metadata store: queued, running and ended ones apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from loopwright.compute.job import Job, JobSpec, JobState, job_body, job_of_body
from loopwright.compute.supervisor.process import machine_name
from loopwright.core.digest import digest_value
from loopwright.core.errors import NotFoundError
from loopwright.core.names import did_you_mean
from loopwright.store import Event, MetadataStore, Record
from loopwright.store.metadata import MOST_ROWS

JOB_STREAM = "jobs"
"""The stream of events in which every change of a job's state appears."""

_ENDED = "job"
_KEY = "job-key"
_ORIGIN = "job-origin"
_PACKAGES = "job-packages"
# where a job that has not ended stands; what is queued or running is kept by home, since a look
# at it must not grow dearer with every job that ever ran, nor with those of other machines
_LIVE = "job-live"
_QUEUE_PAGE = 32
_TRIES_TO_FIND = 5


class JobLedger:
    """Every job of one home, and those of others on the same store to look at.

    All that changes something belongs inside a transaction.

    Parameters
    ----------
    folder
        Where this home's jobs have their folders.
    home
        What tells this home from others on the same store.
    """

    def __init__(self, metadata: MetadataStore, folder: Path, home: str) -> None:
        self._metadata = metadata
        self._folder = folder
        self.home = home

    def add(self, job: Job) -> Job:
        """Write down a new job as the latest attempt at its key; return it."""
        job = replace(job, home=self.home)
        self._metadata.put(_KEY, self._key_name(job.key), {"key": job.key, "id": job.id})
        # identifiers made in the same millisecond have no order, events always have
        place = self._tell(job).seq
        self._put_live(job, {**job_body(job), "place": place})
        return job

    def move(self, job: Job, state: JobState, **changes: Any) -> Job:
        """Write down a job's next state with what else has changed; return it."""
        moved = replace(job, state=job.state.move_to(state), waits_for="", **changes)
        record = self._live_record(job.id)
        if record is None:
            # raises what a change of something that is gone raises
            record = self._metadata.get(_LIVE, job.id)
        body = {**job_body(moved), "place": record.body["place"]}
        if state.has_ended:
            self._metadata.delete(record.kind, record.key)
            self._metadata.delete(_LIVE, job.id)
            self._metadata.create(_ENDED, job.id, body)
        elif self._place_of(moved, body) == (record.kind, record.key):
            self._metadata.replace(record, body)
        else:
            self._metadata.delete(record.kind, record.key)
            self._put_live(moved, body)
        self._tell(moved)
        return moved

    def amend(self, job: Job, **changes: Any) -> Job:
        """Write down more about a job that has ended."""
        amended = replace(job, **changes)
        record = self._metadata.get(_ENDED, job.id)
        self._metadata.replace(record, {**record.body, **job_body(amended)})
        return amended

    def find(self, job_id: str) -> Job | None:
        """Return a job, or None if there is none."""
        for _ in range(_TRIES_TO_FIND):
            # in this order, since a job may end between the two looks
            record = self._live_record(job_id) or self._metadata.find(_ENDED, job_id)
            if record:
                return self._job(record)
            if self._metadata.find(_LIVE, job_id) is None:
                return None
        return None

    def get(self, job_id: str) -> Job:
        """Return a job; `NotFoundError` if there is none."""
        job = self.find(job_id)
        if job is None:
            known = [job.id for job in self.all()]
            raise NotFoundError(
                f"There is no job {job_id!r}.", hint=did_you_mean(job_id, known), job=job_id
            )
        return job

    def latest(self, key: str) -> Job | None:
        """Return the latest attempt of this home at a key, or None if there was none."""
        record = self._metadata.find(_KEY, self._key_name(key))
        if record is None:
            # as it was written before there were several homes
            record = self._metadata.find(_KEY, digest_value(key))
        job = self.find(record.body["id"]) if record else None
        return job if job and job.home in ("", self.home) else None

    def running(self) -> list[Job]:
        """Return this home's jobs that have started and not ended, the first submitted first."""
        return [self._job(record) for record in sorted(self._pages(self._running), key=_place)]

    def queued(self) -> Iterator[Job]:
        """Yield this home's jobs that wait, the first submitted first, read as they are needed."""
        for record in self._pages(self._queue, limit=_QUEUE_PAGE):
            yield self._job(record)

    def live(self) -> list[Job]:
        """Return this home's jobs that have not ended, the first submitted first."""
        # queued jobs first: one that starts between the two looks is seen twice, not missed
        found = {job.id: job for job in (*self.queued(), *self.running())}
        return list(found.values())

    def all(self) -> list[Job]:
        """Return the jobs of all homes on the store, the first submitted first."""
        # in this order, since a job may end between the two looks and must not be missed
        found = {}
        for pointer in self._pages(_LIVE):
            record = self._live_record(pointer.key)
            if record is not None:
                found[pointer.key] = record
        found |= {record.key: record for record in self._pages(_ENDED)}
        return [self._job(record) for record in sorted(found.values(), key=_place)]

    def place(self, job_ids: Iterable[str]) -> int:
        """Return a place in the stream of events before which none is about these live jobs."""
        records = [self._live_record(job_id) for job_id in job_ids]
        # 0 for one that has ended meanwhile: its end may stand anywhere
        return min((_place(record) if record else 0 for record in records), default=0)

    def changed_since(self, place: int) -> tuple[int, set[str]]:
        """Return the end of the stream of events and the jobs it tells of after a place."""
        changed: set[str] = set()
        while events := self._metadata.list_events(JOB_STREAM, after=place, limit=MOST_ROWS):
            changed |= {event.body["id"] for event in events}
            place = events[-1].seq
        return place, changed

    def adopt(self) -> None:
        """Take over this folder's jobs as they were kept before there were several homes."""
        for record in self._pages(_LIVE):
            if "state" in record.body and (self._folder / record.key).exists():
                job = replace(self._job(record), home=self.home, host=machine_name())
                self._metadata.delete(_LIVE, job.id)
                self._put_live(job, {**job_body(job), "place": record.body["place"]})

    def put_origin(self, job_id: str, origin: dict[str, Any]) -> None:
        """Write down where a job came from; the packages, hundreds of them, once for all jobs."""
        packages = origin["packages"]
        name = digest_value(packages)
        if self._metadata.find(_PACKAGES, name) is None:
            self._metadata.put(_PACKAGES, name, packages)
        self._metadata.put(_ORIGIN, job_id, {**origin, "packages": name})

    def find_origin(self, job_id: str) -> dict[str, Any] | None:
        """Return where a job came from, or None if nobody wrote it down."""
        record = self._metadata.find(_ORIGIN, job_id)
        if record is None:
            return None
        packages = self._metadata.get(_PACKAGES, record.body["packages"])
        return {**record.body, "packages": packages.body}

    @property
    def _queue(self) -> str:
        return f"job-queue/{self.home}"

    @property
    def _running(self) -> str:
        return f"job-running/{self.home}"

    def _place_of(self, job: Job, body: dict[str, Any]) -> tuple[str, str]:
        """Return under which kind and key a job that has not ended is kept."""
        if job.state is JobState.QUEUED:
            return self._queue, f"{body['place']:016d}"
        return self._running, job.id

    def _put_live(self, job: Job, body: dict[str, Any]) -> None:
        kind, key = self._place_of(job, body)
        self._metadata.create(kind, key, body)
        self._metadata.put(_LIVE, job.id, {"kind": kind, "key": key})

    def _live_record(self, job_id: str) -> Record | None:
        for _ in range(_TRIES_TO_FIND):
            pointer = self._metadata.find(_LIVE, job_id)
            if pointer is None or "state" in pointer.body:
                return pointer
            record = self._metadata.find(pointer.body["kind"], pointer.body["key"])
            # it may have moved on between the two looks
            if record is not None:
                return record
        return None

    def _job(self, record: Record) -> Job:
        values = {name: value for name, value in record.body.items() if name != "place"}
        return job_of_body(values, folder=self._folder)

    def _key_name(self, key: str) -> str:
        """Return a name for any text as key, however long it is or whatever characters it has."""
        return digest_value([self.home, key])

    def _pages(self, kind: str, *, limit: int = MOST_ROWS) -> Iterator[Record]:
        page = self._metadata.list_(kind, limit=limit)
        yield from page
        while len(page) == limit:
            page = self._metadata.list_(kind, after=page[-1].key, limit=limit)
            yield from page

    def _tell(self, job: Job) -> Event:
        body = {"id": job.id, "key": job.key, "name": job.name, "reason": job.reason}
        return self._metadata.append(JOB_STREAM, job.state.value, body)


def queued_job(spec: JobSpec, *, job_id: str, folder: Path, attempt: int, at: datetime) -> Job:
    """Return the job that a specification becomes."""
    return Job(
        id=job_id,
        key=spec.key,
        attempt=attempt,
        name=spec.name,
        kind=spec.kind,
        state=JobState.QUEUED,
        folder=folder,
        submitted_at=at,
        labels=dict(spec.labels),
        resources=spec.resources,
        time_limit_s=spec.time_limit_s,
        counted=spec.counted,
        limits=spec.limits,
        retries=spec.retries,
        checkpoint=spec.checkpoint,
        rerun_of=spec.rerun_of,
        keeps_room_for=spec.keeps_room_for,
        joins=spec.joins,
    )


def _place(record: Record) -> int:
    place: int = record.body["place"]
    return place
