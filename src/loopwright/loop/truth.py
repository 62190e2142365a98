"""What a look says of the labels: how many came and how fast, and the criteria over time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.loop.file import LoopFile
from loopwright.loop.label_source import SourceState
from loopwright.loop.live_quality import criterion_figures
from loopwright.loop.sourcing import Target
from loopwright.monitor import GroundTruth, Ledger, Reference, Suspect
from loopwright.monitor.ground_truth import (
    WindowFigure,
    arrival_curve,
    mature_age,
    over_time,
    selective_labels,
)
from loopwright.monitor.hourly import HOUR_S, Statistics, end_of

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

PERIODS = {"1 day": 1, "7 days": 7, "30 days": 30}


def ground_truth(
    loop: LoopFile,
    target: Target,
    ledger: Ledger,
    reference: Reference,
    own: pl.DataFrame,
    statistics: Statistics,
    *,
    version: str,
    threshold: float,
    now: datetime,
    suspects: Sequence[Suspect] = (),
    source: SourceState | None = None,
) -> GroundTruth:
    """Return what is known of the labels of an endpoint.

    Parameters
    ----------
    own
        The labelled predictions of the live version by time, as `own_rows` gives them.
    statistics
        Those of all versions, this look's included.
    """
    mine = {key: each for key, each in statistics.items() if key.version == version}
    curve = arrival_curve(statistics, now=now)
    age_s = mature_age(curve)
    until = now - timedelta(seconds=age_s or 0.0)
    return GroundTruth(
        counts=ledger.counts,
        curve=curve,
        mature_age_s=age_s,
        selective=selective_labels(reference, mine, until=until) if age_s is not None else "",
        windows=tuple(
            figure
            for period, days in _periods(own, until)
            for figure in _window(
                loop, target, own, mine, threshold, period=period, days=days, until=until
            )
        ),
        over_time=over_time(reference, statistics, version=version),
        held=tuple(
            f"{each.told} Say `loopwright labels accept {each.id} FILE`, or `loopwright labels "
            f"reject {each.id} FILE --reason WHY`."
            for each in suspects
            if each.state == "open"
        ),
        source=source.problem if source else "",
    )


def _periods(own: pl.DataFrame, until: datetime) -> list[tuple[str, int]]:
    """Return the stretches of days to judge: the longest is the first that holds all there is."""
    first = own["at"].min() if own.height else None
    chosen = []
    for period, days in PERIODS.items():
        chosen.append((period, days))
        if isinstance(first, datetime) and first > until - timedelta(days=days):
            break
    return chosen


def _window(
    loop: LoopFile,
    target: Target,
    own: pl.DataFrame,
    statistics: Statistics,
    threshold: float,
    *,
    period: str,
    days: int,
    until: datetime,
) -> list[WindowFigure]:
    """Return the criteria over the last days whose labels have come; none without rows."""
    since = until - timedelta(days=days)
    if not own.height:
        return []
    rows = own.filter(pl.col("at").is_between(since, until, closed="right"))
    n_predictions = sum(
        each.n
        for key, each in statistics.items()
        if not key.segment
        and key.start > since - timedelta(seconds=HOUR_S)
        and end_of(key) <= until
    )
    figures = criterion_figures(loop, target, rows, threshold, n_looks=1)
    return [
        WindowFigure(
            period=period,
            metric=figure.metric,
            from_at=since,
            to_at=until,
            n=figure.n,
            n_predictions=max(n_predictions, figure.n),
            estimate=figure.estimate,
            lower=figure.lower,
            upper=figure.upper,
            target=figure.target,
            direction=figure.direction,
            verdict=figure.verdict,
        )
        for figure in figures
        if figure.period == "since deployment"
    ]
