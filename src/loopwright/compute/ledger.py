"""The records of jobs in the metadata store: those that are live apart from those that ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from loopwright.compute.job import Job, JobSpec, JobState, job_body, job_of_body
from loopwright.core.digest import digest_value
from loopwright.core.errors import NotFoundError
from loopwright.core.names import did_you_mean
from loopwright.store import Event, MetadataStore, Record
from loopwright.store.metadata import MOST_ROWS

JOB_STREAM = "jobs"
"""The stream of events in which every change of a job's state appears."""

# a look at what is live must not grow dearer with every job that ever ran
_LIVE = "job-live"
_ENDED = "job"
_KEY = "job-key"


class JobLedger:
    """Every job of one home; all that changes something belongs inside a transaction."""

    def __init__(self, metadata: MetadataStore, folder: Path) -> None:
        self._metadata = metadata
        self._folder = folder

    def add(self, job: Job) -> None:
        """Write down a new job as the latest attempt at its key."""
        self._metadata.put(_KEY, _name(job.key), {"key": job.key, "id": job.id})
        # identifiers made in the same millisecond have no order, events always have
        place = self._tell(job).seq
        self._metadata.create(_LIVE, job.id, {**job_body(job), "place": place})

    def move(self, job: Job, state: JobState, **changes: Any) -> Job:
        """Write down a job's next state with what else has changed; return it."""
        moved = replace(job, state=job.state.move_to(state), **changes)
        record = self._metadata.get(_LIVE, job.id)
        body = record.body | job_body(moved)
        if state.has_ended:
            self._metadata.delete(_LIVE, job.id)
            self._metadata.create(_ENDED, job.id, body)
        else:
            self._metadata.replace(record, body)
        self._tell(moved)
        return moved

    def find(self, job_id: str) -> Job | None:
        """Return a job, or None if there is none."""
        # in this order, since a job may end between the two looks
        record = self._metadata.find(_LIVE, job_id) or self._metadata.find(_ENDED, job_id)
        return self._job(record) if record else None

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
        """Return the latest attempt at a key, or None if there was none."""
        record = self._metadata.find(_KEY, _name(key))
        return self.get(record.body["id"]) if record else None

    def live(self) -> list[Job]:
        """Return the jobs that have not ended, the first submitted first."""
        return [self._job(record) for record in sorted(self._pages(_LIVE), key=_place)]

    def all(self) -> list[Job]:
        """Return all jobs, the first submitted first."""
        # in this order, since a job may end between the two looks and must not be missed
        found = {record.key: record for record in self._pages(_LIVE)}
        found |= {record.key: record for record in self._pages(_ENDED)}
        return [self._job(record) for record in sorted(found.values(), key=_place)]

    def _job(self, record: Record) -> Job:
        values = {name: value for name, value in record.body.items() if name != "place"}
        return job_of_body(values, folder=self._folder)

    def _pages(self, kind: str) -> Iterator[Record]:
        page = self._metadata.list_(kind, limit=MOST_ROWS)
        yield from page
        while len(page) == MOST_ROWS:
            page = self._metadata.list_(kind, after=page[-1].key, limit=MOST_ROWS)
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
    )


def _name(key: str) -> str:
    """Return a name for any text as key, however long it is or whatever characters it has."""
    return digest_value(key)


def _place(record: Record) -> int:
    place: int = record.body["place"]
    return place
