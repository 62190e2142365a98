"""Steps that leave columns out: personal data, repeats of others, and what tells little."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.prepare.mapping import sampled_rows
from loopwright.prepare.step import NUMBERS, Drop, Training, checked_columns

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

_MOST_ROWS = 100_000
_N_BINS = 16
_SHOWN = 8


class DropPersonal(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="drop_personal",
    tag_field="step",
):
    """Leave out columns that tell who somebody is; put it first, so that no step reads them.

    A later step that names one of them is refused, and a request need not hold them.
    """

    columns: tuple[str, ...]
    reason: str = "personal data"

    def fit(self, training: Training) -> Drop:
        """Check the columns; there is nothing to learn."""
        return Drop(columns=self.columns, reason=self.reason).fit(training)


class DropCorrelated(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="drop_correlated",
    tag_field="step",
):
    """Leave out a column of numbers that an earlier one says as well: |r| above the threshold.

    r is the correlation of Pearson over the training rows that have both values, or over 100,000
    of them. Without `columns` all columns of numbers are compared.
    """

    columns: tuple[str, ...] = ()
    threshold: float = 0.95
    reason: str = ""

    def fit(self, training: Training) -> Drop:
        """Learn which columns repeat another."""
        columns = self.columns or training.numbers()
        checked_columns("drop_correlated", columns, training.types, NUMBERS)
        if not 0.0 < self.threshold <= 1.0:
            raise InvalidInputError(
                f"The threshold is {self.threshold}.",
                hint="Give an absolute correlation above 0, at most 1.",
                field="threshold",
                step="drop_correlated",
            )
        r = correlations(sampled_rows(training, columns, most=_MOST_ROWS))
        kept: list[int] = []
        told: dict[str, str] = {}
        for at, name in enumerate(columns):
            like = [other for other in kept if abs(r[at, other]) > self.threshold]
            if like:
                first = max(like, key=lambda other: abs(r[at, other]))
                told[name] = f"{name} (r = {r[at, first]:.3f} with {columns[first]})"
            else:
                kept.append(at)
        reason = "; ".join(
            part for part in (self.reason, ", ".join(list(told.values())[:_SHOWN])) if part
        )
        return Drop(columns=tuple(told), reason=reason or "no column repeats another")


def correlations(X: np.ndarray) -> np.ndarray:
    """Return the correlation of each pair of columns over the rows that have both values.

    0 where a column is constant on them or fewer than three rows have both.

    Parameters
    ----------
    X
        (n_rows, n_columns), missing is NaN.
    """
    has = np.isfinite(X)
    counts = np.maximum(has.sum(axis=0), 1)
    with np.errstate(all="ignore"):
        centred = np.where(has, X - (np.where(has, X, 0.0) / counts).sum(axis=0), 0.0)
        largest = np.abs(centred).max(axis=0, initial=0.0)
        centred = np.nan_to_num(centred / np.where(largest > 0.0, largest, 1.0))
    present = has.astype(np.float64)
    n = present.T @ present
    sums = centred.T @ present
    squares = (centred * centred).T @ present
    with np.errstate(all="ignore"):
        covariance = centred.T @ centred - sums * sums.T / n
        spread = squares - sums * sums / n
        # a spread that is rounding only is none
        spread = np.where(spread > 1e-12 * np.maximum(squares, 1e-300), spread, 0.0)
        r = covariance / np.sqrt(spread * spread.T)
    found: np.ndarray = np.clip(np.where(np.isfinite(r) & (n >= 3), r, 0.0), -1.0, 1.0)
    return found


class SelectBest(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="select_best",
    tag_field="step",
):
    """Keep the k columns of numbers that tell most about the target, and leave the others out.

    `mutual_information` judges each column by itself: in nats, between 16 bins of equal counts (and
    one for missing) and the classes or the bins of the target. `boosted` judges them together: by
    the gain in 100 small boosted trees of LightGBM. Both look at 100,000 training rows at most.
    Put it last, and without `columns`: then all columns of numbers are judged.
    """

    k: int
    by: Literal["mutual_information", "boosted"] = "mutual_information"
    columns: tuple[str, ...] = ()
    reason: str = ""

    def fit(self, training: Training) -> Drop:
        """Learn which columns to leave out."""
        names = self.columns or tuple(n for n, kind in training.types.items() if kind in NUMBERS)
        checked_columns("select_best", names, training.types, NUMBERS)
        target = training.target
        if target is None or self.k < 1:
            raise InvalidInputError(
                f"The step select_best keeps {self.k} columns"
                + (" and has no target." if target is None else "."),
                hint="Pass the target to fit_recipe and keep at least one column.",
                step="select_best",
            )
        chosen = np.arange(training.table.height)
        if len(chosen) > _MOST_ROWS:
            chosen = np.sort(
                np.random.default_rng(training.seed).choice(len(chosen), _MOST_ROWS, replace=False)
            )
        X, y = sampled_rows(training, names, most=_MOST_ROWS), target[chosen]
        scores = mutual_information(X, y) if self.by == "mutual_information" else _gains(X, y)
        order = sorted(range(len(names)), key=lambda at: (-scores[at], at))
        left_out = sorted(order[self.k :])
        best = ", ".join(f"{names[at]} {scores[at]:.3g}" for at in order[: min(self.k, _SHOWN)])
        return Drop(
            columns=tuple(names[at] for at in left_out),
            reason=f"{self.reason + '; ' if self.reason else ''}best by {self.by}: {best}",
        )


def mutual_information(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return how much each column tells about the target, in nats, (n_columns,).

    Both are cut into 16 bins of equal counts unless they have as few values; missing is a bin.
    """
    of_target = _bins(y)
    found = []
    for column in X.T:
        of_column = _bins(column)
        joint = np.zeros((of_column.max(initial=0) + 1, of_target.max(initial=0) + 1))
        np.add.at(joint, (of_column, of_target), 1.0 / max(len(y), 1))
        independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
        some = joint > 0.0
        found.append(float((joint[some] * np.log(joint[some] / independent[some])).sum()))
    return np.array(found)


def _bins(values: np.ndarray) -> np.ndarray:
    levels, codes = np.unique(values, return_inverse=True)
    if values.dtype.kind != "f" or len(levels) <= _N_BINS:
        return np.asarray(codes)
    known = values[np.isfinite(values)]
    edges = np.unique(np.quantile(known, np.linspace(0.0, 1.0, _N_BINS + 1)[1:-1]))
    places = np.searchsorted(edges, values, side="right")
    return np.where(np.isfinite(values), places, len(edges) + 1)


def _gains(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    import lightgbm

    levels, codes = np.unique(y, return_inverse=True)
    is_number = y.dtype.kind == "f" and len(levels) > 2
    n_classes = len(levels)
    task = {"objective": "regression"}
    if not is_number:
        task = {"objective": "binary"} if n_classes <= 2 else {"objective": "multiclass"}
    settings = {
        **task,
        **({"num_class": n_classes} if task["objective"] == "multiclass" else {}),
        "num_leaves": 15,
        "min_data_in_leaf": 5,
        "num_threads": 1,
        "deterministic": True,
        "verbosity": -1,
        "seed": 0,
    }
    data = lightgbm.Dataset(X, label=y if is_number else codes)
    n_trees = 100 if is_number or n_classes <= 2 else max(100 // n_classes, 5)
    model = lightgbm.train(settings, data, num_boost_round=n_trees)
    return np.asarray(model.feature_importance("gain"), dtype=np.float64)
