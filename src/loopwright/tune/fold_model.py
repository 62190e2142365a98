"""A model of one fold: how it is fitted, what may end the fit early, and where it did."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from loopwright.train import Predictor, TrainingData, fit_algorithm, get_algorithm
from loopwright.tune.configuration import Configuration
from loopwright.tune.prepared import PreparedFolds, recipe_name

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

IsOver = Callable[[int], bool]
"""Answers at each step whether a fit is to end there with the best so far."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoldModel:
    """A model of one fold.

    Parameters
    ----------
    predictor
        What it computes.
    answers
        What it says about the rows held out; see `Predictor.predict_raw`.
    seconds
        Wall time of the fit, with its preparation.
    importance
        Of its features; see `FittedModel`.
    answer_s
        Wall time of one answer among many, in seconds, without the recipe.
    stopped_at
        The step at which the time ended the fit; none if it ended by itself. The same fit ended
        there again gives the same model, see `loopwright.tune.replay`.
    """

    predictor: Predictor
    answers: npt.NDArray[np.float64]
    seconds: float
    best_iteration: int | None
    importance: npt.NDArray[np.float64] | None
    stopped_at: int | None = None
    answer_s: float = 0.0


class Fits(Protocol):
    """Keeps the models of folds and finds them again; see `loopwright.tune.kept_fit.KeptFits`."""

    def find(self, configuration: Configuration, fold: int, threads: int) -> FoldModel | None:
        """Return the model of a configuration on a fold, or None if it is not kept."""
        ...

    def keep(self, configuration: Configuration, fold: int, threads: int, model: FoldModel) -> None:
        """Keep the model of a configuration on a fold."""
        ...


Widen = Callable[[TrainingData], TrainingData]
"""Returns the rows of a fold with more features."""


def fitted_fold(
    prepared: PreparedFolds,
    configuration: Configuration,
    fold: int,
    *,
    threads: int,
    is_over: IsOver,
    clock: Callable[[], float] = time.monotonic,
    widen: Widen | None = None,
    fits: Fits | None = None,
) -> FoldModel:
    """Return the model of a configuration on a fold.

    Parameters
    ----------
    fold
        The number of the fold, from 0; the seed of the fit is that of the table plus it.
    is_over
        See `IsOver`.
    widen
        Adds features to those of the recipe; see `loopwright.tune.stacking.stacked_data`.
    fits
        What was fitted before is taken from there, and what is fitted is kept there; not with
        `widen`, whose features are those of other models.
    """
    started = clock()
    algorithm = get_algorithm(configuration.algorithm)
    table = prepared.table
    data = prepared.get(fold, recipe_name(algorithm.features, configuration.choice)).data
    if widen is not None:
        data, fits = widen(data), None
    known = fits.find(configuration, fold, threads) if fits is not None else None
    if known is not None:
        return known
    stopped: list[int] = []

    def on_metric(step: int, *_: object) -> bool:
        if not stopped and is_over(step):
            stopped.append(step)
        return bool(stopped)

    fitted = fit_algorithm(
        algorithm,
        data,
        task=table.outcome.task,
        hyperparameters=configuration.hyperparameters,
        seed=table.seed + fold,
        threads=threads,
        target_transform=configuration.target_transform,
        on_metric=on_metric,
    )
    asked = clock()
    answers = fitted.predictor.predict_raw(data.validation.X)
    ended = clock()
    model = FoldModel(
        predictor=fitted.predictor,
        answers=answers,
        seconds=ended - started,
        best_iteration=fitted.best_iteration,
        importance=fitted.importance,
        stopped_at=stopped[0] if stopped else None,
        answer_s=(ended - asked) / len(answers),
    )
    if fits is not None:
        fits.keep(configuration, fold, threads, model)
    return model
