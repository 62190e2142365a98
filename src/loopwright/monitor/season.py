"""The season: strata of time, such as the hours of a day, that are compared each with its own like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from loopwright.core.lazy import LazyModule
from loopwright.monitor.value import to_numbers

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")

SeasonKind = Literal["hour", "weekday", "hour_of_week"]

N_STRATA: dict[SeasonKind, int] = {"weekday": 7, "hour": 24, "hour_of_week": 168}
_LEAST_DAYS: dict[SeasonKind, int] = {"weekday": 14, "hour": 3, "hour_of_week": 21}
_LEAST_ROWS = 100  # in every stratum
_LEAST_GAIN = 1.25  # by how much a finer season must explain more
_THURSDAY = 3  # the weekday of 1970-01-01, from Monday 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Season:
    """How time is divided.

    Parameters
    ----------
    kind
        `hour` of the day (24 strata), `weekday` (7, Monday first) or `hour_of_week` (168).
    column
        The input column that says when a row was; None: the time of its prediction, in UTC.
    date_format
        How that column's texts are read; None when they are dates already.
    """

    kind: SeasonKind
    column: str | None = None
    date_format: str | None = None

    @property
    def n_strata(self) -> int:
        """How many strata there are."""
        return N_STRATA[self.kind]

    def strata(self, at: pl.Series) -> NDArray[np.int64]:
        """Return the stratum of each moment, (n_rows,); a missing one counts as the first."""
        days = to_numbers(at, kind="date", date_format=self.date_format)
        return strata_of(self.kind, days)


def strata_of(kind: SeasonKind, days: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the stratum of moments in days since 1970-01-01, (n_rows,)."""
    days = np.where(np.isfinite(days), days, -float(_THURSDAY))
    whole = np.floor(days)
    weekday = (whole + _THURSDAY) % 7
    # a moment is kept to the microsecond, which days as floats hold to some tenths of one
    hour = np.minimum(np.floor((days - whole) * 24 + 1e-6), 23)
    found = {"hour": hour, "weekday": weekday, "hour_of_week": weekday * 24 + hour}[kind]
    strata: NDArray[np.int64] = found.astype(np.int64)
    return strata


def possible_seasons(days: NDArray[np.float64]) -> list[SeasonKind]:
    """Return the seasons that the reference rows are enough for, the coarsest first."""
    known = days[np.isfinite(days)]
    if len(known) < 0.9 * len(days) or not len(known):
        return []
    n_days = len(np.unique(np.floor(known)))
    found: list[SeasonKind] = []
    for kind, n_strata in N_STRATA.items():
        rows = np.bincount(strata_of(kind, known), minlength=n_strata)
        # hours in which nothing ever happens need no reference of their own
        if n_days >= _LEAST_DAYS[kind] and np.median(rows[rows > 0]) >= _LEAST_ROWS:
            found.append(kind)
    return found


def best_season(explained: dict[SeasonKind, float]) -> SeasonKind | None:
    """Return the season that explains most, a coarser one if it does nearly as well; None if none.

    Parameters
    ----------
    explained
        The variance between strata beyond chance, summed over streams, for each season; the
        coarsest first.
    """
    best: SeasonKind | None = None
    for kind, share in explained.items():
        if share > 0 and (best is None or share > _LEAST_GAIN * explained[best]):
            best = kind
    return best


def between_variance(
    gains: NDArray[np.float64], groups: NDArray[np.int64], n_groups: int
) -> NDArray[np.float64]:
    """Return the variance of group means beyond what chance gives, at least 0, (n_gains,).

    Parameters
    ----------
    gains
        (n_rows, n_gains), each with a mean near 0.
    groups
        The group of each row, (n_rows,).

    Notes
    -----
    The weighted variance of k group means of n rows in all is (k - 1) s^2 / n on average by chance,
    with s^2 the variance within groups, and strays from it by some sqrt(2 (k - 1)) s^2 / n; four
    times that is not counted as beyond chance, because many gains are looked at.
    """
    n = np.bincount(groups, minlength=n_groups).astype(np.float64)
    kept = n > 0
    sums = np.stack([np.bincount(groups, weights=g, minlength=n_groups) for g in gains.T])
    means = sums[:, kept] / n[kept]
    shares, k = n[kept] / n.sum(), int(kept.sum())
    centre = means @ shares
    raw = ((means - centre[:, None]) ** 2) @ shares
    within = np.maximum(gains.var(axis=0) - raw, 0.0)
    chance = (k - 1 + 4 * np.sqrt(2 * max(k - 1, 0))) * within / len(gains)
    beyond: NDArray[np.float64] = np.where(raw > chance, raw - (k - 1) * within / len(gains), 0.0)
    return beyond
