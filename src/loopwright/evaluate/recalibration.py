"""The repair of probabilities on validation rows, where it helps beyond noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.train import Calibration

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Fit = Callable[[Array, Array], Calibration | None]
else:
    np = LazyModule("numpy")

_FEWEST_ROWS, _FEWEST_OF_A_CLASS = 100, 20
_FEWEST_FOR_ISOTONIC = 1_000
_MOST_ROWS = 20_000
_N_FOLDS = 5
# of three ways to repair the best one is taken, so each must be surer than one alone
_SURE = 2.4
# a repair must be worth having, not only be there: 0.2 % of the loss
_LEAST_GAIN = 0.002
_TINY = 1e-12
_N_STEPS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalibration:
    """A calibration, or none, and why; `honest` are probabilities of maps that had not seen the row.

    Use `honest` for figures on the rows the map was made from, in the shape they were given.
    """

    calibration: Calibration | None
    reason: str
    honest: Array


def recalibrated(y: Array, raw: Array, *, seed: int = 0) -> Recalibration:
    """Return the map that repairs the probabilities said for validation rows, if one helps.

    Platt's, beta and (from 1,000 rows) isotonic calibration are tried for two classes, temperature
    for more, each fitted on four fifths of the rows and judged on the fifth part by the logarithmic
    loss. The best is taken when it lowers the loss beyond 2.4 standard errors of the paired
    difference and by 0.2 % at least; it is then fitted on all rows.

    Parameters
    ----------
    y
        Class indices, `(n_rows,)`.
    raw
        As `Predictor.predict_raw` returns them.
    seed
        Of the division into folds, and of the 20,000 rows that are used where there are more.
    """
    chosen = _used(len(y), seed)
    p, true = raw[chosen], y[chosen]
    counts = np.bincount(true.astype(np.int64), minlength=2 if raw.ndim == 1 else raw.shape[1])
    present = counts[counts > 0]
    if len(p) < _FEWEST_ROWS or len(present) < 2 or present.min() < _FEWEST_OF_A_CLASS:
        few = f"{len(p):,} validation rows with {int(counts.min())} of the rarest class"
        return Recalibration(
            calibration=None, reason=f"{few} are too few to repair probabilities", honest=raw
        )
    fits = _ways(p)
    fold = np.random.default_rng(seed).permutation(len(p)) % _N_FOLDS
    before = _loss(true, p)
    best: tuple[float, str, Array] | None = None
    for name, fit in fits.items():
        after = _across_folds(fit, true, p, fold)
        if after is None:
            continue
        gain = before - _loss(true, after)
        error = max(float(gain.std(ddof=1)) / np.sqrt(len(gain)), _TINY)
        sure = gain.mean() > max(_SURE * error, _LEAST_GAIN * before.mean())
        if sure and (best is None or gain.mean() > best[0]):
            best = (float(gain.mean()), name, after)
    if best is None:
        return Recalibration(
            calibration=None, reason="no repair of the probabilities helps beyond noise", honest=raw
        )
    gain_of_best, name, after = best
    calibration = fits[name](true, p)
    if calibration is None:
        raise AssertionError("what could be fitted on a part can be fitted on all")
    honest = calibration.applied(raw)
    honest[chosen] = after
    of = f"{len(p):,} of {len(y):,}" if len(p) < len(y) else f"{len(y):,}"
    return Recalibration(
        calibration=calibration,
        reason=f"{name} calibration on {of} validation rows lowers the logarithmic loss from "
        f"{before.mean():.4f} to {before.mean() - gain_of_best:.4f} on rows it had not seen",
        honest=honest,
    )


def _used(n_rows: int, seed: int) -> npt.NDArray[np.int64]:
    if n_rows <= _MOST_ROWS:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(seed).permutation(n_rows)[:_MOST_ROWS])


def _ways(p: Array) -> dict[str, Fit]:
    if p.ndim == 2:
        return {"temperature": fitted_temperature}
    ways: dict[str, Fit] = {"platt": fitted_platt, "beta": fitted_beta}
    if len(p) >= _FEWEST_FOR_ISOTONIC:
        ways["isotonic"] = fitted_isotonic
    return ways


def _across_folds(fit: Fit, y: Array, p: Array, fold: npt.NDArray[np.int64]) -> Array | None:
    """Return probabilities from maps fitted on the other folds; None where one cannot be fitted."""
    after = np.empty_like(p)
    for number in range(_N_FOLDS):
        held = fold == number
        calibration = fit(y[~held], p[~held])
        if calibration is None:
            return None
        after[held] = calibration.applied(p[held])
    return after


def _loss(y: Array, p: Array) -> Array:
    shares = np.stack([1 - p, p], axis=1) if p.ndim == 1 else p
    loss: Array = -np.log(np.clip(shares[np.arange(len(y)), y.astype(np.int64)], _TINY, 1.0))
    return loss


def fitted_platt(y: Array, p: Array) -> Calibration | None:
    """Return the logistic curve of the log-odds that fits best."""
    p = np.clip(p, _TINY, 1 - _TINY)
    a, c = _logistic(np.stack([np.log(p) - np.log1p(-p), np.ones(len(p))], axis=1), y)
    return Calibration(method="platt", parameters=(a, c)) if a > 0 else None


def fitted_beta(y: Array, p: Array) -> Calibration | None:
    """Return the beta curve that fits best, with a slope that falls nowhere."""
    p = np.clip(p, _TINY, 1 - _TINY)
    parts = np.stack([np.log(p), -np.log1p(-p), np.ones(len(p))], axis=1)
    a, b, c = _logistic(parts, y)
    if a < 0:
        a, (b, c) = 0.0, _logistic(parts[:, 1:], y)
    elif b < 0:
        b, (a, c) = 0.0, _logistic(parts[:, [0, 2]], y)
    if min(a, b) < 0 or max(a, b) <= 0:
        return None
    return Calibration(method="beta", parameters=(a, b, c))


def _logistic(X: Array, y: Array) -> tuple[float, ...]:
    """Return the weights of the likeliest logistic curve, by Newton's method with halved steps."""
    # Platt's targets: a class of n rows is never quite certain
    n_positive = float(y.sum())
    t = np.where(y == 1, (n_positive + 1) / (n_positive + 2), 1 / (len(y) - n_positive + 2))
    w = np.zeros(X.shape[1])
    w[0] = 1.0
    loss = _cross_entropy(X @ w, t)
    for _ in range(_N_STEPS):
        q = 1 / (1 + np.exp(-np.clip(X @ w, -500, 500)))
        slope = X.T @ (q - t)
        curve = (X * (q * (1 - q))[:, None]).T @ X + 1e-9 * len(y) * np.eye(len(w))
        step = np.linalg.solve(curve, slope)
        size = 1.0
        while size > 1e-6 and _cross_entropy(X @ (w - size * step), t) > loss:
            size /= 2
        w = w - size * step
        before, loss = loss, _cross_entropy(X @ w, t)
        if before - loss <= 1e-12 * max(1.0, before):
            break
    return tuple(float(each) for each in w)


def _cross_entropy(score: Array, t: Array) -> float:
    return float((np.logaddexp(0, score) - t * score).sum())


def fitted_isotonic(y: Array, p: Array) -> Calibration | None:
    """Return the rising curve that fits best, through the middles of its steps.

    Notes
    -----
    Centred isotonic regression (Oron and Flournoy, Statistics in Biopharmaceutical Research 9,
    2017): the steps that pooling adjacent violators leaves become one point each, joined by
    straight lines, so that the order of rows is kept. Each step is drawn to the mean by one row, and
    neither 0 nor 1 is ever said.
    """
    from scipy.optimize import isotonic_regression

    order = np.argsort(p, kind="stable")
    levels, first, n = np.unique(p[order], return_index=True, return_counts=True)
    k = np.add.reduceat(y[order], first)
    blocks = isotonic_regression(k / n, weights=n).blocks
    rows = np.add.reduceat(n, blocks[:-1]).astype(np.float64)
    said = np.add.reduceat(levels * n, blocks[:-1]) / rows
    rate = float(y.mean())
    happened = (np.add.reduceat(k, blocks[:-1]) + rate) / (rows + 1)
    # drawing small steps to the mean may turn their order
    happened = isotonic_regression(happened, weights=rows).x
    return _through(said, happened, low=rate / (len(y) + 1), high=1 - (1 - rate) / (len(y) + 1))


def _through(said: Array, happened: Array, *, low: float, high: float) -> Calibration | None:
    """Return the map through some points, made strictly rising from 0 to 1, of at most 200 knots."""
    x = np.concatenate([[0.0], said, [1.0]])
    h = np.concatenate([[low], np.clip(happened, low, high), [high]])
    # what stands level rises by a hair: rows keep their order
    h = np.maximum.accumulate(h) + 1e-9 * x
    h = np.minimum(h, 1.0)
    if len(x) > 200:
        kept = np.unique(np.linspace(0, len(x) - 1, 200).round().astype(np.int64))
        x, h = x[kept], h[kept]
    rising = np.concatenate([[True], (np.diff(x) > 1e-12) & (np.diff(h) > 0)])
    x, h = x[rising], h[rising]
    if len(x) < 2:
        return None
    return Calibration(method="isotonic", said=tuple(x.tolist()), happened=tuple(h.tolist()))


def fitted_temperature(y: Array, p: Array) -> Calibration | None:
    """Return the temperature that fits best, from a tenth to ten."""
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        made = Calibration(method="temperature", parameters=(float(np.exp(logarithm)),))
        return float(_loss(y, made.applied(p)).mean())

    found = minimize_scalar(loss, bounds=(-2.3, 2.3), method="bounded")
    return Calibration(method="temperature", parameters=(float(np.exp(found.x)),))
