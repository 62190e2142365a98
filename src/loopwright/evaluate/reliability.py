"""How far probabilities are what they say: the reliability curve, its error, and what Brier is made of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.examination import Reliability, ReliabilityBin
from loopwright.evaluate.threshold import share_bounds_at

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")

_N_BINS = 15
_FEWEST_IN_BIN = 20
_N_RESAMPLES = 500
_TINY = 1e-15


def reliability(
    y: Array, probabilities: Array, *, confidence: float = 0.95, seed: int = 0
) -> Reliability:
    """Return how far probabilities are what they say.

    Parameters
    ----------
    y
        Class indices, `(n_rows,)`.
    probabilities
        `(n_rows, n_classes)`; with two classes the second is looked at, with more every class
        against the rest.
    confidence
        Level of each one-sided bound.
    seed
        Of the resampling.

    Notes
    -----
    Bins hold equal numbers of rows. The expected calibration error is the mean distance, weighted
    by rows, of what was said and what happened in a bin. Chance alone makes it positive; the mean
    of a folded normal distribution says by how much, and that is taken off (the idea of Kumar,
    Liang and Ma, NeurIPS 2019, in closed form). The parts of the Brier score are Murphy's (Journal
    of Applied Meteorology 12, 1973).
    """
    p, happened = _one_against_rest(y, probabilities)
    edge = _edges(p)
    place = np.searchsorted(edge, p, side="left")
    n = np.bincount(place, minlength=len(edge) + 1).astype(np.float64)
    kept = n > 0
    n = n[kept]
    said = np.bincount(place, weights=p, minlength=len(edge) + 1)[kept] / n
    k = np.bincount(place, weights=happened, minlength=len(edge) + 1)[kept].astype(np.float64)
    true = k / n
    lower, upper = share_bounds_at(k, n, confidence=confidence)
    weight, rate = n / n.sum(), float(happened.mean())
    # half a row added: where none or all came true the variance is small, not zero
    smooth = (k + 0.5) / (n + 1)
    error = np.sqrt(smooth * (1 - smooth) / n)
    raw = float((weight * np.abs(said - true)).sum())
    ece = _without_chance(said - true, error, weight)
    drawn = np.random.default_rng(seed).binomial(
        n.astype(np.int64), np.clip(true, 0, 1), size=(_N_RESAMPLES, len(n))
    )
    spread = (weight * np.abs(said - drawn / n)).sum(axis=1)
    low, high = np.quantile(spread - spread.mean(), [1 - confidence, confidence])
    chosen = probabilities[np.arange(len(y)), y.astype(np.int64)]
    return Reliability(
        bins=tuple(
            ReliabilityBin(said=s, happened=t, lower=lo, upper=up, n_rows=int(rows))
            for s, t, lo, up, rows in zip(
                said.tolist(),
                true.tolist(),
                lower.tolist(),
                upper.tolist(),
                n.tolist(),
                strict=True,
            )
        ),
        ece=ece,
        ece_raw=raw,
        ece_lower=max(0.0, ece + float(low)),
        ece_upper=ece + float(high),
        brier=float(((p - happened) ** 2).mean()),
        reliability=float((weight * (said - true) ** 2).sum()),
        resolution=float((weight * (true - rate) ** 2).sum()),
        uncertainty=rate * (1 - rate),
        log_loss=float(-np.log(np.clip(chosen, _TINY, 1.0)).mean()),
    )


def _one_against_rest(y: Array, probabilities: Array) -> tuple[Array, Array]:
    if probabilities.shape[1] == 2:
        return probabilities[:, 1], (y == 1).astype(np.float64)
    happened = y[:, None] == np.arange(probabilities.shape[1])
    return probabilities.ravel(), happened.ravel().astype(np.float64)


def _edges(p: Array) -> Array:
    n_bins = max(2, min(_N_BINS, len(p) // _FEWEST_IN_BIN))
    edges: Array = np.unique(np.quantile(p, np.linspace(0, 1, n_bins + 1)[1:-1]))
    return edges


def _without_chance(distance: Array, error: Array, weight: Array) -> float:
    """Return the weighted mean distance, less what chance adds to it; not below 0."""
    mu, sigma = np.abs(distance), np.maximum(error, _TINY)
    inside = np.array([math.erf(each) for each in (mu / (sigma * math.sqrt(2))).tolist()])
    folded = sigma * math.sqrt(2 / math.pi) * np.exp(-(mu**2) / (2 * sigma**2)) + mu * inside
    return max(0.0, float((weight * (2 * mu - folded)).sum()))
