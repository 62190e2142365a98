"""Weights of a blend, chosen on rows that none of its members has learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.problem import Metric, class_answers, value_answers

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

_ROUNDS = 40


def loss_of(
    metric: Metric, y: npt.NDArray[np.float64], raw: npt.NDArray[np.float64], *, is_class: bool
) -> float:
    """Return a metric as a loss: smaller is better; infinite where it cannot be told.

    Parameters
    ----------
    metric
        What counts.
    y
        The truth, `(n_rows,)`.
    raw
        See `Predictor.predict_raw`.
    is_class
        Whether the answers are probabilities.
    """
    answers = class_answers(raw) if is_class else value_answers(raw)
    value = float(metric.resampled(y, answers, np.ones((1, len(y))))[0])
    if value != value:
        return float("inf")
    return -value if metric.higher_is_better else value


def greedy_weights(
    answers: Sequence[npt.NDArray[np.float64]],
    y: npt.NDArray[np.float64],
    *,
    metric: Metric,
    is_class: bool,
) -> npt.NDArray[np.float64]:
    """Return the weight of each model in the blend, `(n_models,)`, adding to 1.

    Models are added one at a time, each as often as it helps, and the best blend on the way is
    kept: Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble Selection from Libraries of Models",
    ICML 2004.

    Parameters
    ----------
    answers
        What each model says about the same rows, none of which it has learnt from.
    y
        The truth, `(n_rows,)`.
    """
    total = np.zeros_like(answers[0])
    counts = np.zeros(len(answers))
    best, best_loss = counts, float("inf")
    for taken in range(1, _ROUNDS + 1):
        losses = [loss_of(metric, y, (total + each) / taken, is_class=is_class) for each in answers]
        chosen = int(np.argmin(losses))
        total = total + answers[chosen]
        counts[chosen] += 1
        if losses[chosen] < best_loss:
            best, best_loss = counts.copy(), losses[chosen]
    if not best.sum():
        best = np.eye(len(answers))[0]
    weights: npt.NDArray[np.float64] = best / best.sum()
    return weights
