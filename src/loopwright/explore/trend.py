"""How the target moves over time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray
else:
    pl = LazyModule("polars")
    np = LazyModule("numpy")

Period = Literal["month", "week", "day"]

MOST_PERIODS = 120
_FEWEST_PERIODS = 6
_FEWEST_ROWS = 10
_DAY_US = 86_400_000_000
_LEAST_DAYS: tuple[tuple[Period, float], ...] = (("month", 180), ("week", 42), ("day", 6))
_P_VALUE = 0.01
_LEAST_SHIFT = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """The level of the target per period of a date column.

    Parameters
    ----------
    column
        The column with the dates.
    label
        What the level is: `mean of price`, `share of 'Yes'`.
    period
        Length of a period; the last and the first may not be whole.
    starts
        First day of each period with at least 10 rows, ISO text; at most the last 120 periods.
    levels, n_rows
        Level and rows with a target in each period.
    p_value
        Chance of so steady a rise or fall without a trend (Mann-Kendall, two-sided).
    shift
        The mean of the last third of the periods less that of the first, in standard deviations of
        the target.
    """

    column: str
    label: str
    period: Period
    starts: tuple[str, ...]
    levels: tuple[float, ...]
    n_rows: tuple[int, ...]
    p_value: float
    shift: float

    @property
    def is_trend(self) -> bool:
        """Whether the target rises or falls steadily, and far enough to matter."""
        return self.p_value < _P_VALUE and abs(self.shift) >= _LEAST_SHIFT


def find_trend(
    pieces: Iterable[tuple[pl.Series, pl.Series]],
    *,
    column: str,
    target: str,
    positive: str | None,
    n_days: float,
) -> Trend | None:
    """Return how the target moves over a date column; None if it covers too little.

    Parameters
    ----------
    pieces
        The dates and the target, some rows at a time.
    positive
        The class whose share is followed; None follows the mean of a number.
    n_days
        The stretch of time the column covers.
    """
    period = next((name for name, least in _LEAST_DAYS if n_days >= least), None)
    if period is None:
        return None
    tally = _Tally()
    for dates, values in pieces:
        moments, levels = _present(dates, values, positive)
        tally.add(_period_of(moments, period), levels)
    places = [place for place, sums in sorted(tally.by_period.items()) if sums[0] >= _FEWEST_ROWS]
    chosen = places[-MOST_PERIODS:]
    sd = tally.sd()
    if len(chosen) < _FEWEST_PERIODS or not 0 < sd < math.inf:
        return None
    counts = [tally.by_period[place][0] for place in chosen]
    levels = np.array(
        [tally.by_period[place][1] / n for place, n in zip(chosen, counts, strict=True)]
    )
    third = levels.size // 3
    return Trend(
        column=column,
        label=f"mean of {target}" if positive is None else f"share of {positive!r}",
        period=period,
        starts=tuple(_start_of(place, period) for place in chosen),
        levels=tuple(levels.tolist()),
        n_rows=tuple(counts),
        p_value=steadiness(levels),
        shift=float((levels[-third:].mean() - levels[:third].mean()) / sd),
    )


class _Tally:
    """Counts and sums by period, and the spread of all values."""

    def __init__(self) -> None:
        self.by_period: dict[int, tuple[int, float]] = {}
        self._n, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, periods: NDArray[np.int64], levels: NDArray[np.float64]) -> None:
        if not levels.size:
            return
        first = int(periods.min())
        counts = np.bincount(periods - first)
        sums = np.bincount(periods - first, weights=levels)
        for place in np.flatnonzero(counts).tolist():
            n, total = self.by_period.get(first + place, (0, 0.0))
            self.by_period[first + place] = (n + int(counts[place]), total + float(sums[place]))
        with np.errstate(all="ignore"):
            mean = float(levels.mean())
            # two samples joined: Chan, Golub and LeVeque, "Updating Formulae and a Pairwise
            # Algorithm for Computing Sample Variances" (1979)
            gap, n = mean - self._mean, self._n + levels.size
            self._squares += float(((levels - mean) ** 2).sum())
            # numpy's numbers overflow to infinity where Python's raise
            self._squares += float(np.float64(gap) ** 2 * self._n * levels.size / n)
            self._mean += gap * levels.size / n
            self._n = n

    def sd(self) -> float:
        return math.sqrt(self._squares / self._n) if self._n else 0.0


def _present(
    dates: pl.Series, values: pl.Series, positive: str | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the moments (microseconds since 1970) and finite levels where both are known."""
    known = (dates.is_not_null() & values.is_not_null()).to_numpy()
    moments = dates.cast(pl.Datetime("us")).to_physical().fill_null(0).to_numpy()
    if positive is None:
        levels = values.cast(pl.Float64).fill_null(0.0).to_numpy()
        known = known & np.isfinite(levels)
    else:
        levels = (values.cast(pl.String) == positive).fill_null(value=False).to_numpy()
        levels = levels.astype(np.float64)
    return moments[known], levels[known]


def _period_of(moments: NDArray[np.int64], period: Period) -> NDArray[np.int64]:
    """Return a whole number for each moment, one more for each later month, week or day."""
    if period == "month":
        months = moments.view("datetime64[us]").astype("datetime64[M]")
        return months.astype(np.int64)
    days = moments // _DAY_US
    # the first of January 1970 was a Thursday; weeks begin on Mondays
    return (days + 3) // 7 if period == "week" else days


def _start_of(place: int, period: Period) -> str:
    """Return the first day of a period, ISO text."""
    if period == "month":
        return f"{np.datetime64(place, 'M').astype('datetime64[D]')}"
    return f"{np.datetime64(place * 7 - 3 if period == 'week' else place, 'D')}"


def steadiness(levels: NDArray[np.float64]) -> float:
    """Return the two-sided p-value of the Mann-Kendall test for a trend, shape (n,), n at least 3.

    S counts later values above earlier ones less those below; without a trend its variance is
    n(n - 1)(2n + 5) / 18, lessened for ties. Mann, "Nonparametric Tests Against Trend",
    Econometrica 13 (1945); Kendall, Rank Correlation Methods (1955).

    Examples
    --------
    >>> import numpy as np
    >>> round(steadiness(np.arange(10.0)), 5)
    8e-05
    >>> steadiness(np.zeros(10))
    1.0
    """
    n = levels.size
    s = int(np.sign(levels[None, :] - levels[:, None])[np.triu_indices(n, 1)].sum())
    _, ties = np.unique(levels, return_counts=True)
    variance = (n * (n - 1) * (2 * n + 5) - int((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    if not s or variance <= 0:
        return 1.0
    z = (abs(s) - 1) / math.sqrt(variance)
    return math.erfc(z / math.sqrt(2))
