"""Weights of a blend, chosen on rows that none of its members has learnt from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.problem import Metric, class_answers, value_answers

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

_ROUNDS = 40
# so many in a row without a better blend, and no better one is to come
_PATIENCE = 8
# models beyond the best so many are not weighed
_MOST_MODELS = 16
# parts the rows are divided into to see what weights are worth on rows they were not chosen on
_PARTS = 4
# with more rows than this, weights that overfit are no danger, and time is worth more
_FEW_ROWS = 5_000
# what all of a blend's latency may cost, as a share of what its loss is above the least there is
_WORTH_OF_LATENCY = 0.004


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


def room_below(metric: Metric, loss: float) -> float:
    """Return how far a loss is above the least there can be: what shares of it are measured by."""
    is_share = metric.higher_is_better and -1.0 <= loss <= 0.0
    return max(abs(1.0 + loss) if is_share else abs(loss), 1e-12)


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
    best, best_loss, since = counts, float("inf"), 0
    places = list(range(len(answers)))
    for taken in range(1, _ROUNDS + 1):
        losses = {
            place: loss_of(metric, y, (total + answers[place]) / taken, is_class=is_class)
            for place in places
        }
        chosen = min(places, key=lambda place: _known(losses[place]))
        total = total + answers[chosen]
        counts[chosen] += 1
        since += 1
        if losses[chosen] < best_loss:
            best, best_loss, since = counts.copy(), losses[chosen], 0
        if since >= _PATIENCE:
            break
        if taken == 1:
            places = sorted(places, key=lambda place: _known(losses[place]))[:_MOST_MODELS]
            places.sort()
    if not best.sum():
        best = np.eye(len(answers))[0]
    weights: npt.NDArray[np.float64] = best / best.sum()
    return weights


def _known(loss: float) -> float:
    return loss if loss == loss else float("inf")


def guarded_weights(
    answers: Sequence[npt.NDArray[np.float64]],
    y: npt.NDArray[np.float64],
    *,
    metric: Metric,
    is_class: bool,
    seed: int = 7,
) -> npt.NDArray[np.float64]:
    """Return greedy weights, drawn to what is simpler where there are few rows to choose them on.

    On few rows the weights are the mean of those chosen with a quarter of the rows left out in turn,
    so that no handful of rows decides (bagged selection, section 2.3 of the paper that `greedy_weights`
    names), and the best single model stands alone where the blend is no better on rows that the
    weights were not chosen on.

    Parameters
    ----------
    answers, y
        See `greedy_weights`.
    seed
        Of the division of the rows.
    """
    weights = greedy_weights(answers, y, metric=metric, is_class=is_class)
    if len(y) > _FEW_ROWS or len(answers) == 1 or len(y) < 2 * _PARTS:
        return weights
    parts = np.random.default_rng(seed).permutation(len(y)) % _PARTS
    blended, single = np.zeros_like(answers[0]), np.zeros_like(answers[0])
    total = weights.copy()
    for part in range(_PARTS):
        seen, unseen = parts != part, parts == part
        of_part = greedy_weights(
            [each[seen] for each in answers], y[seen], metric=metric, is_class=is_class
        )
        losses = [loss_of(metric, y[seen], each[seen], is_class=is_class) for each in answers]
        best = int(np.argmin(losses))
        blended[unseen] = blend([each[unseen] for each in answers], of_part)
        single[unseen] = answers[best][unseen]
        total += of_part
    of_blend = loss_of(metric, y, blended, is_class=is_class)
    if of_blend < loss_of(metric, y, single, is_class=is_class):
        return np.asarray(total / total.sum())
    alone = [loss_of(metric, y, each, is_class=is_class) for each in answers]
    return np.asarray(np.eye(len(answers))[int(np.argmin(alone))])


def thinned_weights(
    answers: Sequence[npt.NDArray[np.float64]],
    y: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    *,
    latency: Callable[[npt.NDArray[np.bool_]], float],
    metric: Metric,
    is_class: bool,
) -> npt.NDArray[np.float64]:
    """Return the weights without the members that cost more latency than they are worth.

    The member goes first whose share of the time most exceeds what it takes from the loss, until
    every one that is left is worth its time.

    Parameters
    ----------
    answers, y, weights
        See `greedy_weights`.
    latency
        Time of an answer by some of the members, above 0.
    """
    kept = weights.copy()
    while (kept > 0).sum() > 1:
        loss = loss_of(metric, y, blend(answers, kept), is_class=is_class)
        worth = _WORTH_OF_LATENCY * room_below(metric, loss)
        all_s = latency(kept > 0)
        best, best_gain = -1, 0.0
        for place in np.flatnonzero(kept > 0).tolist():
            without = _without(kept, place)
            more = loss_of(metric, y, blend(answers, without), is_class=is_class) - loss
            gain = worth * (1.0 - latency(without > 0) / max(all_s, 1e-12)) - more
            if gain > best_gain:
                best, best_gain = place, gain
        if best < 0:
            break
        kept = _without(kept, best)
    return kept


def _without(weights: npt.NDArray[np.float64], place: int) -> npt.NDArray[np.float64]:
    left = weights.copy()
    left[place] = 0.0
    return np.asarray(left / left.sum())


def blend(
    answers: Sequence[npt.NDArray[np.float64]], weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the weighted mean of answers."""
    total = np.zeros_like(answers[0])
    for each, weight in zip(answers, weights.tolist(), strict=True):
        if weight:
            total += weight * each
    return total
