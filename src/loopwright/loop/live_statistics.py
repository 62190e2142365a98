"""The live statistics of a loop on record: hours for five weeks, then days for two years."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.lazy import LazyModule
from loopwright.monitor import LiveStatistics, Reference, WindowKey, measured_effect
from loopwright.monitor.ground_truth import merged_windows
from loopwright.monitor.hourly import (
    DAY_S,
    HOUR_S,
    Statistics,
    added,
    by_day,
    without_labels,
)

if TYPE_CHECKING:
    import polars as pl

    from loopwright.loop.workspace import Workspace
    from loopwright.store import MetadataStore, Record
else:
    pl = LazyModule("polars")

_KIND = "live_statistics"
_SPANS = {HOUR_S: "hour", DAY_S: "day"}
HOURS_KEPT = timedelta(days=35)
DAYS_KEPT = timedelta(days=730)
_MOST = 10_000
_MARK = "%Y%m%dT%H"


def add_statistics(workspace: Workspace, name: str, new: Statistics) -> None:
    """Add the statistics of new rows to those on record; part of the look's transaction.

    Hours older than `HOURS_KEPT` become days, and days older than `DAYS_KEPT` are forgotten.
    """
    now, metadata = workspace.clock.now(), workspace.metadata
    hours_from, days_from = now - HOURS_KEPT, now - DAYS_KEPT
    hours = {key: each for key, each in new.items() if key.start >= hours_from}
    days = by_day({key: each for key, each in new.items() if key.start < hours_from})
    for record in _before(metadata, name, HOUR_S, hours_from):
        days = added(days, by_day(dict([_read(record)])))
        metadata.delete(_KIND, record.key)
    for record in _before(metadata, name, DAY_S, days_from):
        metadata.delete(_KIND, record.key)
    for key, each in {**hours, **days}.items():
        place = _key(name, key)
        known = metadata.find(_KIND, place)
        total = each if known is None else _read(known)[1] + each
        _put(metadata, name, key, total)


def forget_labels(workspace: Workspace, name: str) -> None:
    """Let the statistics on record say nothing of labels; those that count are added anew."""
    for key, each in without_labels(statistics_of(workspace, name)).items():
        _put(workspace.metadata, name, key, each)


def statistics_of(workspace: Workspace, name: str, *, since: datetime | None = None) -> Statistics:
    """Return the statistics on record, the hours and the days before them."""
    found: Statistics = {}
    for span in (DAY_S, HOUR_S):
        prefix = f"{name}/{_SPANS[span]}/"
        after = prefix if since is None else f"{prefix}{since.strftime(_MARK)}"
        while page := workspace.metadata.list_(_KIND, prefix=prefix, after=after, limit=_MOST):
            found = {**found, **dict(_read(record) for record in page)}
            after = page[-1].key
    return found


def timeline(
    workspace: Workspace,
    name: str,
    reference: Reference,
    *,
    version: str | None = None,
    segment: str = "",
    since: datetime | None = None,
) -> list[dict[str, Any]]:
    """Return quality and drift over time, one entry an hour or day, oldest first.

    Each has start, span_s, n, n_labelled, mean_loss (None without labels), mean_prediction (None
    for classes), and drift: the distance of every stream from the reference, 0 to 1.
    """
    found = statistics_of(workspace, name, since=since)
    streams = {each.key: each for each in reference.streams if not each.segment}
    entries = []
    for start, each in merged_windows(found, version=version, segment=segment).items():
        effects = {
            key: measured_effect(streams[key], counts)
            for key, counts in each.counts.items()
            if key in streams and len(counts) == streams[key].n_bins
        }
        answer = effects.get("prediction")
        entries.append(
            {
                "start": start.isoformat(),
                "n": each.n,
                "n_labelled": each.n_labelled,
                "mean_loss": each.mean_loss,
                "mean_prediction": answer.mean if answer else None,
                "drift": {key: round(effect.distance, 4) for key, effect in effects.items()},
            }
        )
    return entries


def _put(metadata: MetadataStore, name: str, key: WindowKey, each: LiveStatistics) -> None:
    body = {"window": msgspec.to_builtins(key), "statistics": msgspec.to_builtins(each)}
    metadata.put(_KIND, _key(name, key), body)


def _before(metadata: MetadataStore, name: str, span: int, moment: datetime) -> list[Record]:
    """Return the records of windows that began before a moment, at most a page of them."""
    prefix = f"{name}/{_SPANS[span]}/"
    page = metadata.list_(_KIND, prefix=prefix, limit=_MOST)
    border = f"{prefix}{moment.strftime(_MARK)}"
    return [record for record in page if record.key < border]


def _key(name: str, key: WindowKey) -> str:
    beside = "/".join((key.version, key.variant, key.segment))
    return f"{name}/{_SPANS[key.span_s]}/{key.start.strftime(_MARK)}/{beside}"[:500]


def _read(record: Record) -> tuple[WindowKey, LiveStatistics]:
    window = msgspec.convert(record.body["window"], WindowKey)
    return window, msgspec.convert(record.body["statistics"], LiveStatistics)
