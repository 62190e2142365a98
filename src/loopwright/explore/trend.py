"""How the target moves over time."""

from __future__ import annotations

import math
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
_EVERY: dict[Period, str] = {"month": "1mo", "week": "1w", "day": "1d"}
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
    rows: pl.DataFrame, *, column: str, target: str, positive: str | None, n_days: float
) -> Trend | None:
    """Return how the target moves over a date column; None if it covers too little.

    Parameters
    ----------
    rows
        The two columns, shape (n_rows, 2).
    positive
        The class whose share is followed; None follows the mean of a number.
    n_days
        The stretch of time the column covers.
    """
    period = next((name for name, least in _LEAST_DAYS if n_days >= least), None)
    if period is None:
        return None
    value = pl.col(target).cast(pl.Float64)
    if positive is not None:
        value = (pl.col(target).cast(pl.String) == positive).cast(pl.Float64)
    # columns of any name, also one called `level`
    plain = rows.drop_nulls().select(
        start=pl.col(column).cast(pl.Datetime("us")).dt.truncate(_EVERY[period]), level=value
    )
    plain = plain.filter(pl.col("level").is_finite())
    starts, levels, counts = _by_period(plain)
    sd = float(plain["level"].to_numpy().std()) if plain.height else 0.0
    if levels.size < _FEWEST_PERIODS or not 0 < sd < math.inf:
        return None
    third = levels.size // 3
    return Trend(
        column=column,
        label=f"mean of {target}" if positive is None else f"share of {positive!r}",
        period=period,
        starts=starts,
        levels=tuple(levels.tolist()),
        n_rows=tuple(counts.tolist()),
        p_value=steadiness(levels),
        shift=float((levels[-third:].mean() - levels[:third].mean()) / sd),
    )


def _by_period(
    plain: pl.DataFrame,
) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.int64]]:
    """Return first days, levels and rows of the last 120 periods with enough rows."""
    places = plain["start"].rank("dense").to_numpy().astype(np.int64)
    counts = np.bincount(places)
    # summed in the order of the rows: a grouping on threads gives other last digits each time
    sums = np.bincount(places, weights=plain["level"].to_numpy())
    chosen = np.flatnonzero(counts >= _FEWEST_ROWS)[-MOST_PERIODS:]
    days = plain["start"].unique().sort()
    starts = tuple(str(days[place - 1])[:10] for place in chosen.tolist())
    return starts, sums[chosen] / counts[chosen], counts[chosen]


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
