"""What time does to the reference rows: strata for the streams it matters to, and their usual swing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from loopwright.core.lazy import LazyModule
from loopwright.monitor.bet import bets
from loopwright.monitor.reference import Reference, StreamReference
from loopwright.monitor.season import (
    N_STRATA,
    Season,
    SeasonKind,
    best_season,
    between_variance,
    possible_seasons,
    strata_of,
)
from loopwright.monitor.value import date_format_of, to_numbers

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
    Codes = dict[str, NDArray[np.int64]]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_LEAST_DAYS, _LEAST_WINDOWS = 10, 20  # fewer cannot tell what is usual
_SWINGS = 3.0  # standard deviations of the usual wander that are no alarm
_CHANCE = 3.0
_MATTERS = 0.04  # of a gain's mean between strata; twice the tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When the reference rows were.

    Parameters
    ----------
    at
        A time for each row.
    column
        The input column that tells it for live rows as well; None: the time of the prediction.
    answers_at
        A time for each held-out row, if predictions and errors are to have a season too.
    """

    at: pl.Series
    column: str | None = None
    answers_at: pl.Series | None = None

    def of_rows(self, rows: NDArray[np.int64]) -> Timing:
        """Return the times with those of some of the rows alone."""
        return replace(self, at=self.at[rows])


def seasoned(
    reference: Reference,
    codes: Codes,
    answer_codes: Codes,
    *,
    season: SeasonKind | Literal["auto", "none"],
    times: Timing,
    window_rows: int,
) -> tuple[Reference, Codes, Codes]:
    """Return the reference with strata and swings where time matters, and all codes as cells."""
    format_ = date_format_of(times.at)
    sources = [(codes, _days(times.at, format_)), (answer_codes, _days(times.answers_at, format_))]
    days_of = {
        stream.key: days
        for stream in reference.streams
        for of, days in sources
        if stream.kind != "date" and not stream.segment
        if stream.key in of and len(of[stream.key]) == len(days)
    }
    streams, found = list(reference.streams), {**codes, **answer_codes}
    # only where it is found by itself must the rows be enough for it
    kind: SeasonKind | None
    if season == "auto":
        kind = _chosen([s for s in streams if s.key in days_of], found, days_of)
    else:
        kind = None if season == "none" else season
    for place, stream in enumerate(streams):
        if stream.key in days_of:
            streams[place], found[stream.key] = _in_time(
                stream, found[stream.key], days_of[stream.key], kind, window_rows
            )
    held = Season(kind=kind, column=times.column, date_format=format_) if kind else None
    return (
        replace(reference, streams=tuple(streams), season=held),
        {key: found[key] for key in codes},
        {key: found[key] for key in answer_codes},
    )


def own_times(
    reference: Reference, frame: pl.DataFrame, answered: pl.DataFrame | None
) -> Timing | None:
    """Return the times of the only date column; None if there are none or several."""
    dates = [stream.name for stream in reference.inputs if stream.kind == "date"]
    if len(dates) != 1:
        return None
    also = answered is not None and dates[0] in answered.columns
    answers_at = answered[dates[0]] if answered is not None and also else None
    return Timing(at=frame[dates[0]], column=dates[0], answers_at=answers_at)


def _days(at: pl.Series | None, format_: str | None) -> NDArray[np.float64]:
    return np.zeros(0) if at is None else to_numbers(at, kind="date", date_format=format_)


def _chosen(
    streams: Sequence[StreamReference],
    codes: Mapping[str, NDArray[np.int64]],
    days_of: Mapping[str, NDArray[np.float64]],
) -> SeasonKind | None:
    possible = [possible_seasons(days) for days in days_of.values()]
    kinds = [kind for kind in N_STRATA if possible and all(kind in each for each in possible)]
    explained: dict[SeasonKind, float] = dict.fromkeys(kinds, 0.0)
    for stream in streams:
        gains = _row_gains(stream, codes[stream.key])
        for kind in kinds:
            part = _between(gains, days_of[stream.key], kind) if gains.shape[1] else 0.0
            explained[kind] += part if part > _MATTERS**2 else 0.0
    return best_season(explained)


def _between(gains: Matrix, days: NDArray[np.float64], kind: SeasonKind) -> float:
    strata = strata_of(kind, days)
    return float(between_variance(gains, strata, N_STRATA[kind]).max(initial=0.0))


def _in_time(
    stream: StreamReference,
    codes: NDArray[np.int64],
    days: NDArray[np.float64],
    kind: SeasonKind | None,
    window_rows: int,
) -> tuple[StreamReference, NDArray[np.int64]]:
    """Return the stream with strata if they matter to it, with its swing, and its cells."""
    cells, gains = codes, _row_gains(stream, codes)
    if kind is not None and _between(gains, days, kind) > _MATTERS**2:
        cells = strata_of(kind, days) * stream.n_bins + codes
        table = np.bincount(cells, minlength=N_STRATA[kind] * stream.n_bins)
        table = table.reshape(-1, stream.n_bins)
        empty = table[:, :-1].sum(axis=1) == 0
        table[empty] = np.array(stream.counts)  # an hour never seen is like all of them
        stream = replace(stream, strata=tuple(tuple(row) for row in table.tolist()))
        gains = _row_gains(stream, cells)
    return replace(stream, swing=_swing(gains, days, window_rows)), cells


def _row_gains(stream: StreamReference, cells: NDArray[np.int64]) -> Matrix:
    """The gain of every row by every bet, (n_rows, n_bets)."""
    found = bets(stream)
    if not found:
        return np.zeros((len(cells), 0))
    return np.stack([bet.gains.ravel() for bet in found], axis=1)[cells]


def _swing(gains: Matrix, days: NDArray[np.float64], window_rows: int) -> tuple[float, ...]:
    """How far means of windows wander beyond chance, for each bet; empty if too few tell."""
    order = np.argsort(days[np.isfinite(days)], kind="stable")
    known = days[np.isfinite(days)][order]
    n_windows = len(known) // window_rows
    if n_windows < _LEAST_WINDOWS or len(np.unique(np.floor(known))) < _LEAST_DAYS:
        return ()
    used = order[: n_windows * window_rows]
    windows = np.arange(len(used)) // window_rows
    held = gains[np.isfinite(days)][used]
    beyond = between_variance(held, windows, n_windows)
    # what has been, may be: the widest window is usual too, but for what chance gives it
    means = held.reshape(n_windows, window_rows, -1).mean(axis=1)
    chance = _CHANCE * held.std(axis=0) / np.sqrt(window_rows)
    widest = np.maximum(np.abs(means - held.mean(axis=0)).max(axis=0, initial=0.0) - chance, 0.0)
    swing = np.where(beyond > 0, np.maximum(_SWINGS * np.sqrt(beyond), widest), 0.0).round(6)
    return tuple(swing.tolist()) if swing.any() else ()
