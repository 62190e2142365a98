"""Metrics of classes in expectation: what they come to if probabilities are right, once repaired."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.monitor.reference_rows import ReferenceRows
from loopwright.problem import Answers, Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
else:
    np = LazyModule("numpy")

_N_DRAWS = 100
_TINY = 1e-6
_RIDGE = 1.0
_STEPS = 25


def class_draws(
    metric: Metric,
    rows: ReferenceRows,
    reference_answers: Answers,
    live_codes: NDArray[np.uint8],
    live: Answers,
    *,
    weights: Numbers,
    ordered: NDArray[np.bool_],
    seed: int = 0,
) -> tuple[float, float]:
    """Return the expected metric on live rows and its standard error.

    Parameters
    ----------
    weights
        Of the reference rows, (n_reference,): under them they are like the live rows.

    Notes
    -----
    A row counts once for every class, as often as that class is probable; a metric of rows with
    such counts is its expectation, exact for means and to the first order for anything else. The
    error comes from 100 draws: the live rows by the Bayesian bootstrap (Rubin, Annals of Statistics
    9, 1981), the repair from the normal law of its parameters.
    """
    del live_codes, ordered  # what counts of a row is its probability
    shares, drawn = repaired_shares(
        reference_answers.probabilities, rows.y, live.probabilities, weights=weights, seed=seed
    )
    n, k = shares.shape
    y = np.repeat(np.arange(k), n).astype(np.float64)
    stacked = live.rows(np.tile(np.arange(n), k))
    rng = np.random.default_rng(seed)
    counts = np.empty((_N_DRAWS, k * n))
    for at, each in enumerate(drawn):
        counts[at] = (each * rng.exponential(size=(n, 1))).T.ravel()
    value = float(metric.resampled(y, stacked, shares.T.reshape(1, -1))[0])
    found = metric.resampled(y, stacked, counts)
    found = found[np.isfinite(found)]
    return value, float(found.std()) if len(found) > 1 else float("nan")


def repaired_shares(
    reference: Numbers, y: Numbers, live: Numbers, *, weights: Numbers, seed: int = 0
) -> tuple[Numbers, list[Numbers]]:
    """Return probabilities of live rows, repaired on weighted reference rows, and 100 draws of them.

    Parameters
    ----------
    reference, live
        Probabilities, (n_reference, n_classes) and (n_live, n_classes).
    y
        Class indices of the reference rows.

    Notes
    -----
    Platt's scaling of each class's log odds against the others (Advances in Large Margin
    Classifiers, 1999), with a penalty of one row that holds slope and shift at 1 and 0; of more
    than two classes the results are made to add up to 1.
    """
    n_classes = reference.shape[1]
    rng = np.random.default_rng(seed)
    which = [1] if n_classes == 2 else list(range(n_classes))
    fitted, draws = [], []
    for index in which:
        own = (y == index).astype(np.float64)
        parameters, covariance = _platt(_log_odds(reference[:, index]), own, weights)
        odds = _log_odds(live[:, index])
        fitted.append(_chance(parameters[0] * odds + parameters[1]))
        factor = _root(covariance)
        moved = parameters + rng.normal(size=(_N_DRAWS, 2)) @ factor.T
        draws.append([_chance(a * odds + b) for a, b in moved])
    return _shares(fitted), [_shares([each[at] for each in draws]) for at in range(_N_DRAWS)]


def _shares(columns: list[Numbers]) -> Numbers:
    if len(columns) == 1:
        return np.stack([1 - columns[0], columns[0]], axis=1)
    stacked = np.stack(columns, axis=1)
    shares: Numbers = stacked / np.maximum(stacked.sum(axis=1, keepdims=True), _TINY)
    return shares


def _platt(odds: Numbers, own: Numbers, weights: Numbers) -> tuple[Numbers, Numbers]:
    """Return slope and shift with their covariance (the sandwich of Huber, 1967)."""
    Z = np.stack([odds, np.ones_like(odds)], axis=1)
    start = np.array([1.0, 0.0])
    beta = start.copy()
    for _ in range(_STEPS):
        p = _chance(Z @ beta)
        gradient = Z.T @ (weights * (own - p)) - _RIDGE * (beta - start)
        curvature = (Z * (weights * p * (1 - p))[:, None]).T @ Z + _RIDGE * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        beta = beta + np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-10:
            break
    p = _chance(Z @ beta)
    inverse = np.linalg.inv((Z * (weights * p * (1 - p))[:, None]).T @ Z + _RIDGE * np.eye(2))
    scores = Z * (weights * (own - p))[:, None]
    return beta, inverse @ (scores.T @ scores) @ inverse


def _root(covariance: Numbers) -> Numbers:
    values, vectors = np.linalg.eigh(covariance)
    root: Numbers = vectors * np.sqrt(np.maximum(values, 0.0))
    return root


def _log_odds(p: Numbers) -> Numbers:
    cut = np.clip(p, _TINY, 1 - _TINY)
    return np.log(cut / (1 - cut))


def _chance(odds: Numbers) -> Numbers:
    return 1 / (1 + np.exp(-np.clip(odds, -30, 30)))
