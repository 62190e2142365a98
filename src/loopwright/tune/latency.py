"""How long a model takes for one row, measured once and kept."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from itertools import cycle, islice
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from loopwright.compute import Compute, Job, JobState
from loopwright.compute.origin import hardware
from loopwright.core.errors import LoopwrightError
from loopwright.core.lazy import LazyModule
from loopwright.store import MetadataStore
from loopwright.train import Outcome, ServingModel, model_members
from loopwright.train.job import VALIDATION_FILE
from loopwright.train.serving_model import assembled_model
from loopwright.tune.entry import Entry, model_name

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_RECORD = "latency"
_FORMAT = 1
_MOST_ROWS = 256
_WARM_UP = 64
_MOST_CALLS = 2_000
_MOST_S = 0.4
_FEWEST_CALLS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Wall time of one prediction for one row, in microseconds.

    From the raw row as JSON gives it to the answer: the check against the signature, the features
    and the model, in one thread of one process; no HTTP.

    Parameters
    ----------
    median_us, p99_us
        Of `n_calls` calls, one after the other, over rows of the validation part.
    cpu
        Model of the processor it was measured on.
    """

    median_us: float
    p99_us: float
    n_calls: int
    cpu: str


def find_latency(metadata: MetadataStore, job_id: str) -> Latency | None:
    """Return what was measured of a job's model before, or None."""
    record = metadata.find(_RECORD, job_id)
    if record is None:
        return None
    body = record.body
    return Latency(**{name: body[name] for name in ("median_us", "p99_us", "n_calls", "cpu")})


def latencies(
    metadata: MetadataStore, compute: Compute, entries: Sequence[Entry], *, measure: bool = True
) -> dict[str, Latency]:
    """Return the latency of each job's model by the job's id; not of those that left none.

    What was measured once is taken from the store.

    Parameters
    ----------
    measure
        Whether to measure what was not; takes about half a second each.
    """
    found = {}
    for entry in entries:
        known = find_latency(metadata, entry.job)
        if known is None and measure:
            known = _measured(metadata, compute.get(entry.job), entry)
        if known is not None:
            found[entry.job] = known
    return found


def _measured(metadata: MetadataStore, job: Job, entry: Entry) -> Latency | None:
    if job.state is not JobState.SUCCEEDED or not entry.task:
        return None
    try:
        members = {name: path.read_bytes() for name, path in model_members(job.folder).items()}
        model = assembled_model(
            members,
            name=model_name(entry.name),
            algorithm=entry.algorithm,
            outcome=Outcome(task=entry.task, classes=entry.classes),  # type: ignore[arg-type]
            version=job.id[-12:],
        )
        rows = _rows(job.folder / VALIDATION_FILE, target=entry.target)
        latency = measured_latency(model, rows) if rows else None
    except (LoopwrightError, OSError, pl.exceptions.PolarsError):
        # its files are gone, or of another release: there is nothing to measure
        return None
    if latency is not None:
        metadata.put(_RECORD, job.id, {"format": _FORMAT, **asdict(latency)})
    return latency


def measured_latency(model: ServingModel, rows: Sequence[Mapping[str, Any]]) -> Latency:
    """Return how long a model takes for one row, over at least 50 calls and some 0.4 seconds.

    Parameters
    ----------
    rows
        Raw rows, taken in turn; at least one.
    """
    for row in islice(cycle(rows), _WARM_UP):
        model.predict([row])
    times: list[int] = []
    until = time.perf_counter() + _MOST_S
    for row in islice(cycle(rows), _MOST_CALLS):
        started = time.perf_counter_ns()
        model.predict([row])
        times.append(time.perf_counter_ns() - started)
        if len(times) >= _FEWEST_CALLS and time.perf_counter() > until:
            break
    cuts = quantiles(times, n=100, method="inclusive")
    return Latency(
        median_us=round(cuts[49] / 1e3, 1),
        p99_us=round(cuts[98] / 1e3, 1),
        n_calls=len(times),
        cpu=hardware()["cpu"],
    )


def _rows(path: Path, *, target: str) -> list[dict[str, Any]]:
    frame = pl.scan_parquet(path).head(_MOST_ROWS).collect()
    left = frame.drop(target, strict=False)
    return [
        {name: _plain(value) for name, value in row.items()} for row in left.iter_rows(named=True)
    ]


def _plain(value: Any) -> Any:
    """Return a value as a request would bring it."""
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, float) and value != value:
        return None
    return value
