"""What is left of the truth when the prediction is taken off, and whether intervals hold it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.bound import share_bounds, student_quantile
from loopwright.evaluate.examination import (
    IntervalLevel,
    IntervalReading,
    ResidualBin,
    ResidualLevel,
    ResidualReading,
)
from loopwright.evaluate.resampling import standard_error
from loopwright.train import Interval

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Units = npt.NDArray[np.int64]
else:
    np = LazyModule("numpy")

_N_BINS = 40
_N_LEVELS = 10
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def residual_reading(
    y: Array, said: Array, *, confidence: float = 0.95, units: Units | None = None
) -> ResidualReading:
    """Return the distribution of truth less prediction, as a whole and by tenths of the prediction.

    The bins run from the 0.5 % to the 99.5 % quantile; what lies beyond is in the first and the last.
    """
    residual = y - said
    low, high = (float(q) for q in np.quantile(residual, [0.005, 0.995]))
    if not high > low:
        low, high = low - 0.5, low + 0.5
    edges = np.linspace(low, high, _N_BINS + 1)
    counts = np.histogram(np.clip(residual, low, high), bins=edges)[0]
    edges[0], edges[-1] = min(low, residual.min()), max(high, residual.max())
    lower, upper = _mean_bounds(residual, confidence, units)
    return ResidualReading(
        bins=tuple(
            ResidualBin(low=float(a), high=float(b), n_rows=int(n))
            for a, b, n in zip(edges, edges[1:], counts, strict=False)
        ),
        levels=tuple(_level(residual[rows], said[rows], confidence) for rows in _tenths(said)),
        quantiles=tuple(
            (share, float(value))
            for share, value in zip(_QUANTILES, np.quantile(residual, _QUANTILES), strict=True)
        ),
        bias=float(residual.mean()),
        bias_lower=lower,
        bias_upper=upper,
        share_too_high=float((residual < 0).mean()),
    )


def _tenths(said: Array) -> list[npt.NDArray[np.int64]]:
    n_levels = max(1, min(_N_LEVELS, len(said) // 5))
    return list(np.array_split(np.argsort(said, kind="stable"), n_levels))


def _level(residual: Array, said: Array, confidence: float) -> ResidualLevel:
    lower, upper = _mean_bounds(residual, confidence, None)
    return ResidualLevel(
        low=float(said.min()),
        high=float(said.max()),
        bias=float(residual.mean()),
        bias_lower=lower,
        bias_upper=upper,
        spread=float(np.abs(residual).mean()),
        n_rows=len(residual),
    )


def _mean_bounds(values: Array, confidence: float, units: Units | None) -> tuple[float, float]:
    n_units = len(values) if units is None else int(units.max()) + 1
    reach = student_quantile(confidence, n_units - 1) * standard_error(values, units=units)
    return float(values.mean()) - reach, float(values.mean()) + reach


def interval_reading(
    interval: Interval,
    y: Array,
    said: Array,
    *,
    confidence: float = 0.95,
    units: Units | None = None,
) -> IntervalReading:
    """Return how often the truth lay inside the intervals, and how wide they are."""
    lower, upper = interval.bounds(said)
    inside = ((y >= lower) & (y <= upper)).astype(np.float64)
    low, high = share_bounds(inside, np.ones(len(y)), confidence=confidence, units=units)
    width, size = upper - lower, np.abs(said)
    relative = float(np.median(width / size)) if (size > 0).all() else None
    return IntervalReading(
        wanted=interval.confidence,
        coverage=float(inside.mean()),
        coverage_lower=low if math.isfinite(low) else 0.0,
        coverage_upper=high if math.isfinite(high) else 1.0,
        median_width=float(np.median(width)),
        median_relative_width=relative,
        scale=interval.scale,
        levels=tuple(
            IntervalLevel(
                low=float(said[rows].min()),
                high=float(said[rows].max()),
                coverage=float(inside[rows].mean()),
                n_rows=len(rows),
            )
            for rows in _tenths(said)
        ),
    )
