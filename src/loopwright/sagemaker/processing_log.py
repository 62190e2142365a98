"""The logs of processing jobs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.log import Stream, keeps_logs
from loopwright.sagemaker.processing_job import PROCESSING, job_of

_NAME = re.compile(r"[A-Za-z0-9-]{1,63}")
GROUP = "/aws/sagemaker/ProcessingJobs"


@keeps_logs(GROUP)
def processing_streams(desk: Desk, caller: Caller, _group: str, prefix: str) -> Iterator[Stream]:
    """Yield a stream for each job that has started."""
    name, slash, _ = prefix.partition("/")
    one = PROCESSING.find(desk, caller, name) if slash and _NAME.fullmatch(name) else None
    for record in [one] if one else ([] if slash else PROCESSING.all(desk, caller)):
        job = job_of(desk, record)
        if job is None or job.started_at is None:
            continue
        stamp = int(job.started_at.timestamp() * 1000)
        yield Stream(
            group=GROUP,
            name=f"{record.body['name']}/algo-1-{stamp}",
            path=job.log_path,
            began_at=job.started_at,
            has_ended=job.state.has_ended,
        )
