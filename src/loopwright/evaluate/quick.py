"""Quick ways to answer: one answer for all, a weighted sum, and a small boosted model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from loopwright.core.lazy import LazyModule
from loopwright.problem import Answers, Metric, class_answers, value_answers

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")

QuickModel = Literal["linear", "boosted"]
QUICK_MODELS: tuple[QuickModel, ...] = ("linear", "boosted")
_ROUNDS = 60
# a prediction may leave the range of the training rows by so much, in logarithms
_BEYOND = 5.0


def as_answers(said: Array, classes: tuple[str, ...], *, threshold: float = 0.5) -> Answers:
    """Return numbers as answers: probabilities where there are classes, values otherwise."""
    return class_answers(said, threshold=threshold) if classes else value_answers(said)


def constant_said(y: Array, n_rows: int, classes: tuple[str, ...], measure: Metric) -> Array:
    """Return the constant that does best on the training rows, for so many rows."""
    if classes:
        shares = np.bincount(y.astype(np.int64), minlength=len(classes)) / len(y)
        return np.tile(shares, (n_rows, 1))
    order = np.sort(y)
    weights = np.cumsum(1 / np.maximum(np.abs(order), 1e-9))
    tried = [
        float(y.mean()),
        float(np.median(y)),
        # the weighted median by 1/|y| is the constant of least relative error
        float(order[np.searchsorted(weights, weights[-1] / 2)]),
    ]
    ones, sign = np.ones((1, len(y))), 1.0 if measure.higher_is_better else -1.0
    best = max(
        tried,
        key=lambda value: (
            sign * float(measure.resampled(y, value_answers(np.full(len(y), value)), ones)[0])
        ),
    )
    return np.full(n_rows, best)


def quick_said(
    kind: QuickModel, X: Array, y: Array, other: Array, classes: tuple[str, ...], *, seed: int
) -> Array:
    """Return what a quick model says about other rows.

    Parameters
    ----------
    kind
        `linear`: ridge or logistic regression over scaled columns. `boosted`: 60 small trees.
    X, y
        The rows that teach, `(n_rows, n_columns)` and `(n_rows,)`, without missing values. A
        positive target is learnt as its logarithm.
    other
        The rows to answer, `(n_others, n_columns)`.
    classes
        Class names; empty for regression.
    seed
        Of everything random.

    Returns
    -------
    numpy.ndarray
        `(n_others,)` values, or `(n_others, n_classes)` probabilities.
    """
    if classes and len(np.unique(y)) < 2:
        return np.tile(np.eye(len(classes))[int(y[0])], (len(other), 1))
    logarithmic = not classes and bool(np.all(y > 0))
    learnt = np.log(y) if logarithmic else y
    said = (_linear if kind == "linear" else _boosted)(X, learnt, other, classes, seed)
    if logarithmic:
        said = np.exp(np.clip(said, learnt.min() - _BEYOND, learnt.max() + _BEYOND))
    return said


def _linear(X: Array, y: Array, other: Array, classes: tuple[str, ...], seed: int) -> Array:
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.preprocessing import StandardScaler

    del seed
    scaler = StandardScaler().fit(X)
    if not classes:
        values: Array = (
            Ridge(alpha=1.0).fit(scaler.transform(X), y).predict(scaler.transform(other))
        )
        return values
    # tolerance: figures are compared at four digits, and full convergence costs ten times as much
    model = LogisticRegression(max_iter=300, tol=1e-3)
    model.fit(scaler.transform(X), y.astype(np.int64))
    return _spread(model.predict_proba(scaler.transform(other)), model.classes_, classes)


def _boosted(X: Array, y: Array, other: Array, classes: tuple[str, ...], seed: int) -> Array:
    import lightgbm

    known, coded = np.unique(y, return_inverse=True) if classes else (np.empty(0), y)
    several = len(known) > 2
    rows = lightgbm.Dataset(X, coded, params={"verbose": -1, **_BINNING})
    booster = lightgbm.train(
        {
            "objective": "multiclass" if several else "binary" if classes else "regression",
            **({"num_class": len(known)} if several else {}),
            "num_leaves": 15,
            "min_data_in_leaf": max(2, min(20, len(y) // 20)),
            "num_threads": 1,
            "deterministic": True,
            "seed": seed,
            "verbose": -1,
            **_BINNING,
        },
        rows,
        _ROUNDS,
    )
    said: Array = np.asarray(booster.predict(other, num_threads=1), dtype=np.float64)
    if not classes:
        return said
    shares = said if several else np.stack([1 - said, said], axis=1)
    return _spread(shares, known, classes)


_BINNING = {"max_bin": 63, "force_col_wise": True, "feature_pre_filter": False}


def _spread(probabilities: Array, known: Array, classes: tuple[str, ...]) -> Array:
    """Return probabilities with a column for every class, also those not seen in training."""
    wide = np.zeros((len(probabilities), len(classes)))
    wide[:, np.asarray(known, dtype=np.int64)] = probabilities
    return wide
