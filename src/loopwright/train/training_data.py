"""The rows an algorithm learns from, as features and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.problem import Task

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingPart:
    """One part of the rows.

    Parameters
    ----------
    X
        Features `(n_rows, n_features)` in float64; NaN where missing.
    y
        Targets `(n_rows,)` in float64: the value, or the index of the class from 0.
    weight
        How much each row counts, `(n_rows,)`, 0 or more; nothing means 1 each.
    """

    X: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64] | None = None

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """The weights, also where none were given."""
        return np.ones(len(self.y)) if self.weight is None else self.weight

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingData:
    """What an algorithm fits on, and what it may look at to choose and to stop.

    Parameters
    ----------
    train, validation
        The two parts, with the same features.
    n_classes
        Classes of a classification, at least 2; 0 for regression.
    feature_names
        One a feature, for settings that name features and for rules that people read; where they
        are not known, features go by `x0`, `x1`, ...
    class_names
        One a class, in the order of their indices; where they are not known, `0`, `1`, ...
    """

    train: TrainingPart
    validation: TrainingPart
    n_classes: int = 0
    feature_names: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()

    @property
    def n_features(self) -> int:
        """How many features a row has."""
        return int(self.train.X.shape[1])

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features, also where none were given."""
        return self.feature_names or tuple(f"x{i}" for i in range(self.n_features))

    def class_columns(self, part: TrainingPart) -> npt.NDArray[np.float64]:
        """Return a part's targets as the numbers a score is compared with.

        `(n_rows, 1)` for regression and two classes, `(n_rows, n_classes)` of 0 and 1 otherwise.
        """
        if self.n_classes <= 2:
            return part.y[:, None]
        columns: npt.NDArray[np.float64] = (part.y[:, None] == np.arange(self.n_classes)).astype(
            np.float64
        )
        return columns


def check_training_data(data: TrainingData, *, task: Task, missing_allowed: bool) -> None:
    """Check everything an algorithm relies on.

    Raises
    ------
    InvalidInputError
        If shapes do not fit, a part is empty, a target is missing or no class, features are
        infinite (or missing, for an algorithm that cannot take that), weights are negative, or
        the training rows hold one target only.
    """
    for name, part in (("training", data.train), ("validation", data.validation)):
        _check_shape(part, name, data.n_features)
        _check_numbers(part, name, missing_allowed=missing_allowed)
        if task != "regression":
            _check_classes(part, name, data.n_classes)
    counted = data.train.y[data.train.weights > 0]
    if (counted == counted[0]).all():
        what = "the class of index" if task != "regression" else "the target"
        raise InvalidInputError(
            f"All {len(counted):,} training rows have {what} {counted[0]:g}: nothing can be learned.",
            hint="Take rows with other targets into the training part, or answer the constant.",
            field="target",
            value=float(counted[0]),
        )


def _check_shape(part: TrainingPart, name: str, n_features: int) -> None:
    shapes_fit = (
        part.X.ndim == 2
        and part.X.shape == (len(part.y), n_features)
        and part.y.ndim == 1
        and part.weights.shape == part.y.shape
    )
    if not shapes_fit or part.X.dtype != np.float64 or part.y.dtype != np.float64:
        raise InvalidInputError(
            f"The {name} features have shape {part.X.shape} and type {part.X.dtype}, the targets "
            f"{part.y.shape} and {part.y.dtype}, the weights {part.weights.shape}.",
            hint=f"Give (n_rows, {n_features}) and (n_rows,) in float64.",
            field=name,
        )
    if not len(part) or not n_features:
        raise InvalidInputError(
            f"The {name} part has {len(part):,} rows and {n_features:,} features.",
            hint="Each part needs at least one row and one feature; give the split more rows.",
            field=name,
            value=len(part),
        )


def _check_numbers(part: TrainingPart, name: str, *, missing_allowed: bool) -> None:
    bad_targets = np.flatnonzero(~np.isfinite(part.y))
    if len(bad_targets):
        raise InvalidInputError(
            f"{len(bad_targets):,} of {len(part):,} {name} rows have no finite target "
            f"(first: row {bad_targets[0]}, {part.y[bad_targets[0]]}).",
            hint="Drop the rows whose target is not known before the split.",
            field="target",
            value=len(bad_targets),
        )
    bad = np.isinf(part.X) if missing_allowed else ~np.isfinite(part.X)
    if bad.any():
        row, column = (int(places[0]) for places in np.nonzero(bad))
        remedy = "" if missing_allowed else "impute missing values and "
        raise InvalidInputError(
            f"Feature {column} of {name} row {row} is {part.X[row, column]}.",
            hint=f"In the recipe, {remedy}clip infinite ones.",
            field="X",
            value=column,
        )
    if not (np.isfinite(part.weights).all() and part.weights.min() >= 0 < part.weights.max()):
        raise InvalidInputError(
            f"The {name} weights lie between {part.weights.min():g} and {part.weights.max():g}.",
            hint="Weights are finite, 0 or more, and some are above 0.",
            field="weight",
        )


def _check_classes(part: TrainingPart, name: str, n_classes: int) -> None:
    is_class = (part.y >= 0) & (part.y < n_classes) & (part.y == np.floor(part.y))
    if not is_class.all():
        row = int(np.flatnonzero(~is_class)[0])
        raise InvalidInputError(
            f"The target of {name} row {row} is {part.y[row]:g}, no class index from 0 to "
            f"{n_classes - 1}.",
            hint="Give every row the index of its class.",
            field="target",
            value=float(part.y[row]),
        )
