"""Is there anything to learn at all? Quick models against the same rows with the target shuffled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.layout import Layout

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.int64]
else:
    np = LazyModule("numpy")

N_PERMUTATIONS = 99
# so many shuffled targets that do as well settle the matter (Besag and Clifford)
_ENOUGH = 10
_MOST_ROWS = 2_000
_MOST_TARGETS = 4
_ROUNDS = 20
# gains of so many errors are beyond doubt: chance alone gives one in three million tables
_BEYOND_DOUBT = 5.0
_LEAST_UNITS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """Whether the columns tell anything about the target.

    Parameters
    ----------
    found
        Whether `p_value` is at most `level`.
    p_value
        Chance of doing as well if the columns had nothing to do with the target, above 0.
    level
        False "there is a signal" happens in at most this share of tables without one.
    n_permutations
        Shuffled targets that were tried; 0 where the gain itself is beyond doubt.
    n_as_good
        How many of them were foretold as well as the real one.
    gain
        Share of the squared error of a constant that the better quick model saves on rows it did
        not learn from; negative where it does worse.
    n_rows
        Rows the gain was measured on.
    """

    found: bool
    p_value: float
    level: float
    n_permutations: int
    n_as_good: int
    gain: float
    n_rows: int

    def to_json(self) -> dict[str, Any]:
        """Return the signal as JSON types."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __str__(self) -> str:
        if not self.n_permutations:
            return (
                f"quick models foretell rows they did not learn from better than a constant does, "
                f"beyond doubt (chance below {max(self.p_value, 1e-6):.0e})"
            )
        return (
            f"of {self.n_permutations} targets shuffled at random, {self.n_as_good} were foretold as "
            f"well as the real one (p = {self.p_value:.2g}; {self.level:.2g} is the limit)"
        )


def signal_of(
    X: Array,
    y: Array,
    said: list[Array],
    *,
    n_classes: int,
    layout: Layout,
    level: float = 0.05,
    seed: int = 0,
) -> Signal:
    """Return whether the columns tell anything about the target.

    Parameters
    ----------
    X
        `(n_rows, n_columns)`, without missing values.
    y
        `(n_rows,)`: values, or class indices.
    said
        What models say that did not learn from these rows: `(n_rows,)` values or
        `(n_rows, n_classes)` probabilities, NaN where a row was not judged.
    n_classes
        0 for regression.
    layout
        How the rows hang together.
    level
        Of the test, 0 to 1.
    seed
        Of the shuffles.

    Notes
    -----
    Values are replaced by their ranks and classes by zeros and ones, so that the squared error is
    bounded and no outlier decides. First, the error that the models save on rows they did not learn
    from is held against its own standard error, over rows, groups or blocks of time; five standard
    errors are taken as proof. Otherwise the same quick models (ridge regression and 20 small trees,
    two folds, at most 2,000 rows) learn the real target and shuffled ones; with k of n shuffled
    targets foretold as well, p = (1 + k) / (1 + n), valid whatever the models are (Phipson and
    Smyth, Stat. Appl. Genet. Mol. Biol. 9, 2010). It stops early once 10 did as well, with
    p = k / n (Besag and Clifford, Biometrika 78, 1991). Above 2,000 rows both tests count, each
    at its share of the level.
    """
    targets = _targets(y, n_classes)
    z, gain, n_judged = _clearest_gain(targets, y, said, n_classes, layout)
    p_gain = min(1.0, max(1, len(said)) * _upper_tail(z))
    if z > _BEYOND_DOUBT:
        return _signal(p_gain, level, 0, 0, gain, n_judged)
    rng = np.random.default_rng(seed)
    is_whole = len(y) <= _MOST_ROWS
    if not is_whole:
        chosen = np.sort(rng.permutation(len(y))[:_MOST_ROWS])
        X, targets, layout = X[chosen], targets[chosen], layout.rows(chosen)
        y = y[chosen]
    contest = _Contest(X, y, layout, is_class=bool(n_classes), seed=seed)
    real = contest.gain(targets)
    n_as_good = n_tried = 0
    while n_tried < N_PERMUTATIONS and n_as_good < _ENOUGH:
        n_tried += 1
        n_as_good += contest.gain(layout.shuffled(targets, rng)) >= real
    stopped = n_as_good >= _ENOUGH
    p_value = n_as_good / n_tried if stopped else (1 + n_as_good) / (1 + n_tried)
    if not is_whole:
        p_value = min(1.0, 2 * min(p_value, p_gain))
    return _signal(p_value, level, n_tried, n_as_good, real, len(y))


def _signal(
    p_value: float, level: float, n_tried: int, n_as_good: int, gain: float, n_rows: int
) -> Signal:
    return Signal(
        found=p_value <= level,
        p_value=p_value,
        level=level,
        n_permutations=n_tried,
        n_as_good=int(n_as_good),
        gain=float(gain),
        n_rows=n_rows,
    )


def _targets(y: Array, n_classes: int) -> Array:
    """Return the target as columns between 0 and 1, `(n_rows, k)`."""
    if not n_classes:
        return _ranks(y)[:, None]
    if n_classes == 2:
        return np.asarray(y == 1, dtype=np.float64)[:, None]
    counts = np.bincount(y.astype(np.int64), minlength=n_classes)
    asked = np.argsort(-counts, kind="stable")[:_MOST_TARGETS]
    columns: Array = (y[:, None] == asked).astype(np.float64)
    return columns


def _ranks(values: Array, among: Array | None = None) -> Array:
    """Return the share of rows below each value, ties counted half, 0 to 1."""
    order = np.sort(values if among is None else among)
    below = np.searchsorted(order, values, side="left")
    up_to = np.searchsorted(order, values, side="right")
    ranks: Array = (below + up_to) / (2 * len(order))
    return ranks


def _clearest_gain(
    targets: Array, y: Array, said: list[Array], n_classes: int, layout: Layout
) -> tuple[float, float, int]:
    """Return the gain over a constant in standard errors, and as a share, of the clearest model."""
    units = layout.units()
    best = (0.0, 0.0, 0)
    for each in said:
        judged = np.flatnonzero(np.isfinite(each if each.ndim == 1 else each[:, 0]))
        foretold = _foretold(each[judged], y[judged], n_classes)
        true = targets[judged]
        if n_classes > 2:
            asked = np.argsort(
                -np.bincount(y.astype(np.int64), minlength=n_classes), kind="stable"
            )[:_MOST_TARGETS]
            foretold = foretold[:, asked]
        saved = ((true - true.mean(axis=0)) ** 2 - (true - foretold) ** 2).sum(axis=1)
        z = _in_errors(saved, units[judged] if units is not None else None)
        whole = float(((true - true.mean(axis=0)) ** 2).sum())
        if z > best[0]:
            best = (z, float(saved.sum()) / max(whole, 1e-300), len(judged))
    return best


def _foretold(said: Array, y: Array, n_classes: int) -> Array:
    if not n_classes:
        return _ranks(said, among=y)[:, None]
    return said[:, 1:] if n_classes == 2 else said


def _in_errors(saved: Array, units: Indices | None) -> float:
    """Return the mean of what is saved in its own standard errors; 0 for too few units."""
    if units is not None:
        _, place = np.unique(units, return_inverse=True)
        saved = np.asarray(np.bincount(place, weights=saved), dtype=np.float64)
    if len(saved) < _LEAST_UNITS:
        return 0.0
    error = float(saved.std(ddof=1) / len(saved) ** 0.5)
    # a table foretold to the last row has no spread left
    return float(saved.mean() / max(error, 1e-12))


def _upper_tail(z: float) -> float:
    from math import erfc, sqrt

    return max(0.5 * erfc(z / sqrt(2)), 1e-300)


class _Contest:
    """The same quick models on the same folds for one target after the other."""

    def __init__(self, X: Array, y: Array, layout: Layout, *, is_class: bool, seed: int) -> None:
        import lightgbm

        self.folds = layout.folds(y, n_folds=2, is_class=is_class, seed=seed)
        spread = X.std(axis=0)
        kept = spread > 0
        scaled = (X[:, kept] - X[:, kept].mean(axis=0)) / spread[kept]
        self.X = X
        self.hats = [_ridge_hat(scaled[learnt], scaled[judged]) for learnt, judged in self.folds]
        self.settings = {
            "objective": "regression",
            "num_leaves": 8,
            "learning_rate": 0.15,
            "min_data_in_leaf": max(2, min(20, len(y) // 20)),
            "num_threads": 1,
            "deterministic": True,
            "seed": seed,
            "verbose": -1,
            "max_bin": 31,
            "force_col_wise": True,
            "feature_pre_filter": False,
        }
        # columns are cut into bins once, not for every target
        self.binned = [
            lightgbm.Dataset(
                X[learnt], np.zeros(len(learnt)), params=self.settings, free_raw_data=False
            ).construct()
            for learnt, _ in self.folds
        ]

    def gain(self, targets: Array) -> float:
        """Return the share of a constant's squared error that the better of the two models saves."""
        whole = 0.0
        left = {"linear": 0.0, "boosted": 0.0}
        for at, (learnt, judged) in enumerate(self.folds):
            true, middle = targets[judged], targets[learnt].mean(axis=0)
            whole += float(((true - middle) ** 2).sum())
            linear = middle + self.hats[at] @ (targets[learnt] - middle)
            left["linear"] += float(((true - linear) ** 2).sum())
            left["boosted"] += float(((true - self._boosted(at, targets[learnt])) ** 2).sum())
        return float(1 - min(left.values()) / max(whole, 1e-300))

    def _boosted(self, at: int, targets: Array) -> Array:
        import lightgbm

        judged = self.X[self.folds[at][1]]
        said = []
        for column in targets.T:
            self.binned[at].set_label(column)
            booster = lightgbm.train(
                self.settings, self.binned[at], _ROUNDS, keep_training_booster=True
            )
            said.append(np.asarray(booster.predict(judged, num_threads=1), dtype=np.float64))
        return np.stack(said, axis=1)


def _ridge_hat(learnt: Array, judged: Array) -> Array:
    """Return the matrix that makes a ridge regression's answers of the targets it learns from."""
    # a penalty of a tenth of the rows: steady also where there are as many columns as rows
    penalty = 1.0 + len(learnt) / 10
    if learnt.shape[1] <= len(learnt):
        inner = learnt.T @ learnt + penalty * np.eye(learnt.shape[1])
        hat: Array = judged @ np.linalg.solve(inner, learnt.T)
        return hat
    outer = learnt @ learnt.T + penalty * np.eye(len(learnt))
    return np.asarray(np.linalg.solve(outer, learnt @ judged.T).T, dtype=np.float64)
