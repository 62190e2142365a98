"""Batch transform by jobs: parts of the rows go to processes here or on a cluster, answers come back.

The jobs run what a transform in one process runs, so that the files are the same.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from loopwright.compute import Compute, Job, JobSpec, JobState, Resources
from loopwright.core.digest import digest_file, digest_value
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.files import write_json_atomically
from loopwright.deploy.transform_part import DONE, DonePart, TransformPlan, part_files, put

if TYPE_CHECKING:
    from loopwright.deploy.transform import NumberedPart, PartsWriter

ORDER_FILE, MODEL_FILE, OUT_FOLDER = "order.json", "model.tar.gz", "out"
MOST_JOBS = 1000
# to start a process, on a cluster two, takes as long as some hundred thousand rows
PARTS_A_JOB = 8
# changes when the worker would make something else of the same files
_WORKER_FORMAT = 1
_LOG_BYTES = 2000


class TransformOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a job does: answers these parts, as of a day; `order.json` in its folder."""

    numbers: tuple[int, ...]
    today: date
    plan: TransformPlan


def rows_file(number: int) -> str:
    """Return the file with the rows of a part, in the folder of a job."""
    return f"rows-{number:06d}.parquet"


def written_by_jobs(
    compute: Compute,
    bundle: Path,
    *,
    jobs: int,
    resources: Resources | None = None,
    parts_a_job: int = PARTS_A_JOB,
) -> PartsWriter:
    """Return what has parts answered by jobs.

    A transform that is interrupted leaves its jobs running; the next one finds what they have done.

    Parameters
    ----------
    compute
        Where they run.
    bundle
        The `model.tar.gz`.
    jobs
        How many may be under way at a time, 1 to 1,000.
    resources
        What each may use.
    parts_a_job
        How many parts each answers.

    Raises
    ------
    InvalidInputError
        If `jobs` is none of these numbers.
    """
    if not 1 <= jobs <= MOST_JOBS:
        raise InvalidInputError(
            f"{jobs} jobs cannot work at a time.",
            hint=f"Give a number from 1 to {MOST_JOBS:,}.",
            field="jobs",
            value=jobs,
        )
    digest = digest_file(bundle)

    def write(
        parts: Iterator[NumberedPart], plan: TransformPlan, today: date, output: Path
    ) -> Iterator[DonePart]:
        waiting: deque[tuple[Job, TransformOrder]] = deque()
        with tempfile.TemporaryDirectory(dir=output, prefix=".rows-") as scratch:
            # by number: those that a transform before this one ordered have the same parts
            for _, group in groupby(parts, key=lambda each: each[0] // parts_a_job):
                chunk = list(group)
                order = TransformOrder(
                    numbers=tuple(number for number, _ in chunk), today=today, plan=plan
                )
                spec = _job(order, chunk, Path(scratch), bundle, digest, resources)
                waiting.append((compute.submit(spec), order))
                for number in order.numbers:
                    # the job has a copy
                    (Path(scratch) / rows_file(number)).unlink()
                if len(waiting) >= jobs:
                    yield from _collected(compute, *waiting.popleft(), output)
            while waiting:
                yield from _collected(compute, *waiting.popleft(), output)

    return write


def _job(
    order: TransformOrder,
    chunk: list[NumberedPart],
    scratch: Path,
    bundle: Path,
    digest: str,
    resources: Resources | None,
) -> JobSpec:
    from loopwright.train.job import threads_env

    files: dict[str, bytes | Path] = {
        ORDER_FILE: msgspec.json.encode(order),
        MODEL_FILE: bundle,
    }
    for number, part in chunk:
        path = files[rows_file(number)] = scratch / rows_file(number)
        part.write_parquet(path, compression="zstd")
    key = digest_value(
        {
            "worker": _WORKER_FORMAT,
            "model": digest,
            "order": msgspec.to_builtins(order, builtin_types=()),
            "rows": [digest_file(path) for path in files.values() if isinstance(path, Path)],
        }
    )
    first, last = order.numbers[0], order.numbers[-1]
    return JobSpec(
        key=f"transform/{key.removeprefix('sha256:')}",
        name=f"parts {first} to {last}",
        kind="transform",
        # -P: a file in the job's folder cannot stand in for a library
        command=(sys.executable, "-P", "-m", "loopwright.deploy.transform_worker"),
        files=files,
        env=threads_env(1),
        resources=resources or Resources(),
        # a machine that is lost is not the rows' fault
        retries=1,
    )


def _collected(
    compute: Compute, job: Job, order: TransformOrder, output: Path
) -> Iterator[DonePart]:
    """Yield what a job has done, once its files lie in the folder of the transform."""
    (ended,) = compute.wait([job.id])
    if ended.state is not JobState.SUCCEEDED:
        said = compute.log(job.id, tail_bytes=_LOG_BYTES).strip().splitlines()
        raise BackendError(
            f"Job {job.id} of the transform {ended.state.value}. {ended.reason}"
            + (f" It said: {said[-1]}" if said else ""),
            hint=f"See `loopwright logs {job.id}`; run the same transform again to go on.",
            job=job.id,
        )
    made = ended.folder / OUT_FOLDER
    for number in order.numbers:
        mark = DonePart(number=number, n_rows=0, n_rejected=0).mark
        done = msgspec.json.decode((made / mark).read_bytes(), type=DonePart)
        for name in part_files(done, order.plan):
            source = made / name
            put(output / name, lambda path, source=source: shutil.copyfile(source, path))  # type: ignore[misc]
        (output / DONE).mkdir(exist_ok=True)
        write_json_atomically(output / mark, msgspec.to_builtins(done))
        yield done
    # its record stays; the rows and answers would be there twice
    compute.delete_files(job.id)
