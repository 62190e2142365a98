"""The logs of training, processing and transform jobs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from loopwright.compute import Job
from loopwright.sagemaker import processing_job, training_job, transform_job
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.log import Stream, keeps_logs
from loopwright.sagemaker.shelf import Shelf
from loopwright.sagemaker.transform_worker import DATA_LOG
from loopwright.store import Record
from loopwright.train.script_host import HOST, host_folders, log_name

_NAME = re.compile(r"[A-Za-z0-9-]{1,63}")
TRAINING = "/aws/sagemaker/TrainingJobs"
PROCESSING = "/aws/sagemaker/ProcessingJobs"
TRANSFORM = "/aws/sagemaker/TransformJobs"


@keeps_logs(TRAINING)
def training_streams(desk: Desk, caller: Caller, _group: str, prefix: str) -> Iterator[Stream]:
    """Yield a stream for each training job that has started."""
    jobs = _started(desk, caller, prefix, training_job.JOBS, training_job.job_of)
    return (each for name, job in jobs for each in _streams(TRAINING, name, job))


@keeps_logs(PROCESSING)
def processing_streams(desk: Desk, caller: Caller, _group: str, prefix: str) -> Iterator[Stream]:
    """Yield a stream for each processing job that has started."""
    jobs = _started(desk, caller, prefix, processing_job.PROCESSING, processing_job.job_of)
    return (each for name, job in jobs for each in _streams(PROCESSING, name, job))


@keeps_logs(TRANSFORM)
def transform_streams(desk: Desk, caller: Caller, _group: str, prefix: str) -> Iterator[Stream]:
    """Yield the streams of each job that has started: what it prints, and what it says of its data."""
    jobs = _started(desk, caller, prefix, transform_job.TRANSFORMS, transform_job.job_of)
    for name, job in jobs:
        printed = _stream(TRANSFORM, name, job)
        yield printed
        yield Stream(
            group=TRANSFORM,
            name=f"{printed.name}/data-log",
            path=job.out / DATA_LOG,
            began_at=printed.began_at,
            has_ended=printed.has_ended,
        )


def _started(
    desk: Desk,
    caller: Caller,
    prefix: str,
    shelf: Shelf,
    job_of: Callable[[Desk, Record], Job | None],
) -> Iterator[tuple[str, Job]]:
    """Yield name and job of each that has started, of those whose streams may begin so."""
    name, slash, _ = prefix.partition("/")
    # clients ask for one job, of thousands maybe
    one = shelf.find(desk, caller, name) if slash and _NAME.fullmatch(name) else None
    for record in [one] if one else ([] if slash else shelf.all(desk, caller)):
        job = job_of(desk, record)
        if job is not None and job.started_at is not None:
            yield record.body["name"], job


def _streams(group: str, name: str, job: Job) -> Iterator[Stream]:
    """Yield a stream for each host of a job."""
    first = _stream(group, name, job)
    yield first
    for folder in host_folders(job.folder)[1:]:
        path = job.out / log_name(folder.name)
        # it is there once the host has started
        if path.exists():
            name = first.name.replace(f"/{HOST}-", f"/{folder.name}-")
            yield replace(first, name=name, path=path)


def _stream(group: str, name: str, job: Job) -> Stream:
    assert job.started_at is not None  # noqa: S101 see `_started`
    return Stream(
        group=group,
        name=f"{name}/{HOST}-{int(job.started_at.timestamp() * 1000)}",
        path=job.log_path,
        began_at=job.started_at,
        has_ended=job.state.has_ended,
    )
