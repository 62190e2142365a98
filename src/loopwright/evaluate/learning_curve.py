"""A learning curve: how good quick models get with more rows, and how many would reach a target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")

_RATES = (0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.25, 1.5)
_N_DRAWS = 300
# beyond this the curve says more about itself than about the world
MOST_TIMES = 100.0
_LEAST_ROWS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """What models reach that learnt from `n_rows`, on rows they did not see.

    `lower` and `upper` hold nine tenths of what the curve would be on other draws of rows.
    """

    n_rows: int
    value: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsNeeded:
    """How many rows to learn from would reach a target.

    Parameters
    ----------
    n_rows, low, high
        The middle of what the curve's draws say, and the range that holds four fifths of those
        that get there; None where fewer than half do. `high` is None where it has no end in reach.
    chance
        Share of the draws that reach the target with at most 100 times the rows.
    """

    n_rows: int | None
    low: int | None
    high: int | None
    chance: float

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningCurve:
    """A metric against the rows learnt from, and the power law through it.

    Parameters
    ----------
    metric
        Its name.
    points
        What was measured.
    plateau, plateau_low, plateau_high
        What endless rows would bring by the fitted law, and nine tenths of what its draws say.
    rate
        The exponent of the law: at 0.5, four times the rows halve what is left to gain.
    """

    metric: str
    points: tuple[CurvePoint, ...]
    plateau: float
    plateau_low: float
    plateau_high: float
    rate: float
    _draws: Array
    _sign: float

    def needed(self, target: float) -> RowsNeeded:
        """Return how many rows to learn from would bring the metric to the target."""
        return _rows_needed(self._draws, self._sign * target, now=self.points[-1].n_rows)

    def to_json(self) -> dict[str, Any]:
        """Return the curve as JSON types."""
        return {
            "metric": self.metric,
            "points": [
                {name: getattr(point, name) for name in point.__slots__} for point in self.points
            ],
            "plateau": self.plateau,
            "plateau_low": self.plateau_low,
            "plateau_high": self.plateau_high,
            "rate": self.rate,
        }


def curve_sizes(n_rows: int, *, n_sizes: int = 5) -> list[int]:
    """Return how many rows the points of a curve learn from, up to `n_rows`, each twice the last."""
    sizes = [n_rows // 2**k for k in reversed(range(n_sizes))]
    return [size for size in sizes if size >= _LEAST_ROWS] or [n_rows]


def learning_curve(
    measured: Callable[[int, int], float],
    *,
    sizes: list[int],
    n_repeats: int,
    metric: str,
    higher_is_better: bool,
    best: float | None = None,
    seed: int = 0,
) -> LearningCurve | None:
    """Return the learning curve of what is measured; None where too few sizes could be measured.

    Parameters
    ----------
    measured
        Learns from so many rows, in the repeat of that number, and returns the metric on rows that
        the repeat keeps for judging. Rows of a smaller size are among those of a larger one.
    sizes
        Rows to learn from, rising.
    n_repeats
        Repeats, at least 2, each with rows of its own.
    metric, higher_is_better
        What is measured.
    best
        The value that no answers can be better than, if there is one.
    seed
        Of the draws.

    Notes
    -----
    The law is value = a + b n^-c with b >= 0 and c from 0.15 to 1.5 (see Viering and Loog, "The
    Shape of Learning Curves", IEEE TPAMI 45, 2023, who find power laws the steadiest on tables). It
    is fitted by weighted least squares for every c of a list. Bands come from 300 resamples of the
    repeats, each with noise of the size seen between repeats, and fitted anew.
    """
    sign = -1.0 if higher_is_better else 1.0
    values = sign * np.array(
        [[measured(size, repeat) for size in sizes] for repeat in range(n_repeats)]
    )
    kept = np.isfinite(values).all(axis=0)
    if kept.sum() < 3:
        return None
    n, values = np.array(sizes, dtype=np.float64)[kept], values[:, kept]
    spread = np.maximum(values.std(axis=0, ddof=1), 1e-9 + 0.002 * np.abs(values.mean(axis=0)))
    rng = np.random.default_rng(seed)
    drawn = values[rng.integers(0, n_repeats, size=(_N_DRAWS, n_repeats))].mean(axis=1)
    drawn += rng.normal(size=drawn.shape) * spread / np.sqrt(n_repeats)
    floor = -np.inf if best is None else sign * best
    draws = _fitted(n, drawn, spread, floor)
    law = _fitted(n, values.mean(axis=0)[None], spread, floor)[0]
    bands = draws[:, :1] + draws[:, 1:2] * n ** -draws[:, 2:]
    plateaus = sign * draws[:, 0]
    return LearningCurve(
        metric=metric,
        points=tuple(
            CurvePoint(
                n_rows=int(n[at]),
                value=float(sign * values[:, at].mean()),
                lower=float(np.quantile(sign * bands[:, at], 0.05)),
                upper=float(np.quantile(sign * bands[:, at], 0.95)),
            )
            for at in range(len(n))
        ),
        plateau=float(sign * law[0]),
        plateau_low=float(np.quantile(plateaus, 0.05)),
        plateau_high=float(np.quantile(plateaus, 0.95)),
        rate=float(law[2]),
        _draws=draws,
        _sign=sign,
    )


def _fitted(n: Array, values: Array, spread: Array, floor: float) -> Array:
    """Return a, b and c of each line of values, `(n_lines, 3)`; a is at least `floor`."""
    weight = 1 / spread**2
    found = np.zeros((len(values), 3))
    least = np.full(len(values), np.inf)
    for rate in _RATES:
        x = n**-rate
        middle = (weight * x).sum() / weight.sum()
        level = (values * weight).sum(axis=1) / weight.sum()
        slope = ((values - level[:, None]) * weight * (x - middle)).sum(axis=1)
        # a curve that gets worse with rows is noise: it is level then
        b = np.maximum(slope / (weight * (x - middle) ** 2).sum(), 0.0)
        a = level - b * middle
        if (a < floor).any():
            b_through = ((values - floor) * weight * x).sum(axis=1) / (weight * x**2).sum()
            b = np.where(a < floor, np.maximum(b_through, 0.0), b)
            a = np.maximum(a, floor)
        error = (weight * (values - a[:, None] - b[:, None] * x) ** 2).sum(axis=1)
        better = error < least
        least[better] = error[better]
        found[better] = np.stack([a, b, np.full(len(a), rate)], axis=1)[better]
    return found


def _rows_needed(draws: Array, target: float, *, now: int) -> RowsNeeded:
    a, b, c = draws.T
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        n = np.where(target > a, (b / np.maximum(target - a, 1e-300)) ** (1 / c), np.inf)
    reached = n <= MOST_TIMES * now
    chance = float(reached.mean())
    if chance < 0.5:
        return RowsNeeded(n_rows=None, low=None, high=None, chance=chance)
    middle = float(np.quantile(n, 0.5))
    low = float(np.quantile(n[reached], 0.1))
    high = float(np.quantile(n[reached], 0.9)) if chance >= 0.9 else None
    return RowsNeeded(
        n_rows=_rounded(middle),
        low=_rounded(low),
        high=None if high is None else _rounded(high),
        chance=chance,
    )


def _rounded(n: float) -> int:
    """Return a number of rows with two digits, rounded up: more would feign knowledge."""
    if n < 1:
        return 1
    unit = 10 ** max(0, len(str(int(n))) - 2)
    return int(-(-n // unit) * unit)
