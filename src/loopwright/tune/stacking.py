"""The second layer: models that learn from the rows and from what the first layer says about them.

What the first layer says about a row comes from the models that did not learn from it: Wolpert,
"Stacked Generalization", Neural Networks 5 (1992).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.train import TrainingData, TrainingPart
from loopwright.tune.configuration import Configuration
from loopwright.tune.fold import Fold
from loopwright.tune.prepared import PreparedFolds
from loopwright.tune.tried import Trial

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

# on fewer rows the second layer mostly learns the luck of the first
_LEAST_ROWS = 500
_MOST_BELOW = 6
# gentle: what is left to learn is little
_CONFIGURATIONS = (
    (
        "lightgbm",
        {"num_leaves": 15, "learning_rate": 0.03, "colsample": 0.6, "min_child_samples": 30},
    ),
    ("catboost", {"learning_rate": 0.04, "max_depth": 4}),
)


def can_stack(prepared: PreparedFolds, below: Sequence[Trial]) -> bool:
    """Return whether every row has been answered, by two or more trials, without being learnt from."""
    n_folds, n_rows = len(prepared.folds), len(prepared.table)
    return (
        n_rows >= _LEAST_ROWS
        and len(below) >= 2
        and all(trial.n_first == n_folds for trial in below)
        and covers_all(prepared.folds, n_rows)
    )


def covers_all(folds: Sequence[Fold], n_rows: int) -> bool:
    """Return whether every row is held out by exactly one fold."""
    times = np.zeros(n_rows, dtype=np.int64)
    for fold in folds:
        times[fold.held_out] += 1
    return bool((times == 1).all())


def stacked_trials(below: Sequence[Trial], algorithms: Sequence[str]) -> list[Trial]:
    """Return the trials of a second layer over the best of the first.

    Parameters
    ----------
    below
        The first layer, the best first; the first six are used.
    algorithms
        Those that may be used.
    """
    return [
        Trial(
            configuration=Configuration(
                name=f"{algorithm}-stacked",
                algorithm=algorithm,
                hyperparameters=settings,
                origin="second layer",
            ),
            family="tree",
            below=tuple(below[:_MOST_BELOW]),
        )
        for algorithm, settings in _CONFIGURATIONS
        if algorithm in algorithms
    ]


def stacked_data(
    data: TrainingData, below: Sequence[Trial], folds: Sequence[Fold], number: int
) -> TrainingData:
    """Return a fold's features with the first layer's answers beside them.

    Parameters
    ----------
    data
        The fold as its recipe makes it.
    below, folds
        The first layer, with models of all folds.
    number
        Of the fold.
    """
    said = np.column_stack([_whole_answers(trial, folds) for trial in below])
    fold = folds[number]

    def widened(part: TrainingPart, rows: npt.NDArray[np.int64]) -> TrainingPart:
        return replace(part, X=np.column_stack([part.X, said[rows]]))

    n_said = said.shape[1]
    return replace(
        data,
        train=widened(data.train, fold.train),
        validation=widened(data.validation, fold.held_out),
        feature_names=(*data.names, *(f"said_{place}" for place in range(n_said))),
    )


def _whole_answers(trial: Trial, folds: Sequence[Fold]) -> npt.NDArray[np.float64]:
    """Return what the trial says about every row, `(n_rows,)` or `(n_rows, n_classes)`."""
    first = trial.models[0].answers
    n_rows = sum(len(fold.held_out) for fold in folds)
    whole = np.empty((n_rows, *first.shape[1:]))
    for number, fold in enumerate(folds):
        whole[fold.held_out] = trial.models[number].answers
    return whole
