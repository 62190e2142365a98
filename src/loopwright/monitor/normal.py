"""A change that a person accepted: what came since it is the new normal that later rows are judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.monitor.bet import bet_table
from loopwright.monitor.evidence import DetectorState, StreamEvidence
from loopwright.monitor.reference import Reference, StreamReference

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

LEAST_ROWS = 100  # of the change; fewer say too little of what is usual now


@dataclass(frozen=True, slots=True, kw_only=True)
class Normal:
    """What one stream is compared with since a change was accepted.

    Parameters
    ----------
    at
        When a person said so.
    since_at
        Since when the rows are counted.
    counts, strata
        As in `StreamReference`.
    """

    at: datetime | None
    since_at: datetime | None
    counts: tuple[int, ...]
    strata: tuple[tuple[int, ...], ...] = ()


def current_reference(reference: Reference, normals: Mapping[str, Normal]) -> Reference:
    """Return the reference with the streams that moved on where their new normal is."""
    if not normals:
        return reference
    streams = tuple(
        _moved(stream, normals[stream.key]) if stream.key in normals else stream
        for stream in reference.streams
    )
    return replace(reference, streams=streams)


def accepted(
    reference: Reference, state: DetectorState, *, at: datetime | None
) -> dict[str, Normal]:
    """Return the new normal of every stream that moved in the open episode.

    A stream moved if it led the alarm or holds half of an alarm's worth of evidence of its own, and
    saw at least 100 rows since.
    """
    if state.episode is None:
        return {}
    streams = {stream.key: stream for stream in reference.streams}
    return {
        key: _normal(streams[key], held, at)
        for key, held in state.streams.items()
        if (key == state.episode.leader or held.evidence >= state.bar / 2)
        and sum(held.counts) >= LEAST_ROWS
    }


def _normal(stream: StreamReference, held: StreamEvidence, at: datetime | None) -> Normal:
    return Normal(
        at=at, since_at=held.since_at, counts=held.counts, strata=_moved_strata(stream, held)
    )


def _moved_strata(stream: StreamReference, held: StreamEvidence) -> tuple[tuple[int, ...], ...]:
    """Tilt every stratum by what the bins of all of them together gained or lost."""
    if not stream.strata:
        return ()
    before = np.array(stream.strata, dtype=np.float64)
    live = np.array(held.counts, dtype=np.float64)
    shares = before / np.maximum(before.sum(axis=1, keepdims=True), 1)
    rows = np.array(held.strata_rows, dtype=np.float64)
    expected = rows @ shares
    tilted = shares * ((live + 0.5) / (expected + 0.5))
    tilted /= tilted.sum(axis=1, keepdims=True)
    # no stratum may claim more rows than have been seen since the change
    sizes = np.maximum(before.sum(axis=1) / before.sum() * live.sum(), 1)
    return tuple(tuple(row) for row in np.ceil(tilted * sizes[:, None]).astype(np.int64).tolist())


def _moved(stream: StreamReference, normal: Normal) -> StreamReference:
    moved = replace(stream, counts=normal.counts, strata=normal.strata, swing=())
    if not stream.swing or bet_table(moved).names != bet_table(replace(stream, swing=())).names:
        return moved
    return replace(moved, swing=stream.swing)
