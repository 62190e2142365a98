"""From which probability on the positive class is said: one choice among all, on validation rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.problem import Answers, MeanMetric, Metric, ThresholdPolicy, class_answers

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")

_N_STEPS = 200
# a threshold that no probability reaches
_NEVER = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdChoice:
    """A threshold, 0 to 1, what it was chosen `by`, and why, for people.

    `by` is `payoff`, `precision`, `recall`, `hand` or `half`.
    """

    threshold: float
    by: str
    reason: str


def best_threshold(
    metric: Metric, y: Array, probability: Array, *, money: Array | None = None
) -> float:
    """Return the threshold with the best value of the metric on these rows, 0 to 1.

    Use validation rows, never the test rows. Only thresholds between values that occur are tried,
    at most 200 of them at equal steps of rank, and always and never; of equally good ones the middle
    one is taken, so that the choice does not hang on one row. `money` is what each row earns; see
    `Answers`.
    """
    cuts = threshold_cuts(probability)
    answers = class_answers(probability, money=money)
    sign = 1.0 if metric.higher_is_better else -1.0
    values = sign * values_at(metric, y, answers, cuts)
    best = np.flatnonzero(values >= values.max() - 1e-12 * max(1.0, abs(values.max())))
    return float(cuts[best[len(best) // 2]])


def threshold_cuts(probability: Array) -> Array:
    """Return the thresholds worth trying: between values that occur, always (0) and never (1)."""
    levels = np.unique(probability)
    cuts = (levels[1:] + levels[:-1]) / 2
    if len(cuts) > _N_STEPS:
        cuts = cuts[np.linspace(0, len(cuts) - 1, _N_STEPS).round().astype(np.int64)]
    # always yes, and never (but for a probability of 1), are ways to decide too
    whole: Array = np.concatenate([[0.0], cuts, [1.0]])
    return whole


def values_at(metric: Metric, y: Array, answers: Answers, cuts: Array) -> Array:
    """Return a metric at each of some rising thresholds, `(n_cuts,)`.

    A mean over rows costs one pass over them: a row counts as said above its probability, and as
    not said below.
    """
    if not isinstance(metric, MeanMetric):
        ones = np.ones((1, len(y)))
        at = [metric.resampled(y, replace(answers, threshold=float(cut)), ones) for cut in cuts]
        return np.concatenate(at)
    sums = column_sums(metric, y, answers, cuts)
    return metric.of_means(sums / len(y))


def column_sums(
    metric: MeanMetric, y: Array, answers: Answers, cuts: Array, *, power: int = 1
) -> Array:
    """Return the sums of a metric's columns at each of some rising thresholds, `(n_cuts, m)`.

    `power` 2 gives the sums of squares.
    """
    said = metric.columns(y, replace(answers, threshold=0.0)) ** power
    left = metric.columns(y, replace(answers, threshold=_NEVER)) ** power
    # a row is said at every cut up to its probability
    place = np.searchsorted(cuts, answers.probability(), side="right")
    sums = np.empty((len(cuts), said.shape[1]))
    for column in range(said.shape[1]):
        change = np.bincount(
            place, weights=said[:, column] - left[:, column], minlength=len(cuts) + 1
        )
        sums[:, column] = left[:, column].sum() + np.cumsum(change[::-1])[::-1][1:]
    return sums


def chosen_threshold(
    policy: float | ThresholdPolicy | None,
    y: Array,
    answers: Answers,
    *,
    profit: Metric | None,
    confidence: float,
) -> ThresholdChoice:
    """Return the threshold that a policy asks for.

    Parameters
    ----------
    policy
        What the loop file says; nothing goes by payoff where there is one, else takes one half.
    y, answers
        Validation rows: class indices, and probabilities after calibration.
    profit
        What is earned, if anything is.
    confidence
        A wanted precision or recall is to hold with this confidence, if any threshold does.
    """
    if isinstance(policy, ThresholdPolicy) and policy.by != "payoff":
        return _wanted(policy, y, answers, confidence)
    if policy is not None and not isinstance(policy, ThresholdPolicy):
        return ThresholdChoice(
            threshold=float(policy), by="hand", reason=f"{float(policy):g} was set by hand"
        )
    if profit is not None:
        found = best_threshold(profit, y, answers.probability(), money=answers.money)
        at = values_at(profit, y, answers, np.array([0.0, found, 1.0]))
        return ThresholdChoice(
            threshold=found,
            by="payoff",
            reason=f"from {found:.3g} on most is earned: {at[1]:.4g} per validation case, beside "
            f"{at[0]:.4g} for always yes and {at[2]:.4g} for never",
        )
    return ThresholdChoice(threshold=0.5, by="half", reason="the likelier class is said")


def _wanted(
    policy: ThresholdPolicy, y: Array, answers: Answers, confidence: float
) -> ThresholdChoice:
    """Return the best threshold at which the precision, or the recall, is what is wanted."""
    cuts = threshold_cuts(answers.probability())
    positive, said, hit = counts_at(y, answers.probability(), cuts)
    precision = np.where(said > 0, hit / np.maximum(said, 1), np.nan)
    recall = hit / max(positive, 1)
    is_precision, least = policy.by == "precision", policy.at_least or 0.0
    wanted, other = (precision, recall) if is_precision else (recall, precision)
    whole = said if is_precision else np.full(len(cuts), positive)
    lower = share_bounds_at(hit, whole, confidence=confidence)[0]
    other_name = "recall" if is_precision else "precision"
    for reached, how in ((lower, "beyond doubt"), (wanted, "as measured, not beyond doubt")):
        fits = np.flatnonzero(np.nan_to_num(reached, nan=-1.0) >= least)
        if len(fits):
            best = fits[np.argmax(np.nan_to_num(other[fits], nan=-1.0))]
            return ThresholdChoice(
                threshold=float(cuts[best]),
                by=policy.by,
                reason=f"{policy.by} {wanted[best]:.3f} reaches {least:g} {how}, with the best "
                f"{other_name} there is ({other[best]:.3f})",
            )
    best = int(np.nanargmax(wanted))
    return ThresholdChoice(
        threshold=float(cuts[best]),
        by=policy.by,
        reason=f"no threshold has a {policy.by} of {least:g}; this one comes nearest with "
        f"{wanted[best]:.3f} (and {other_name} {other[best]:.3f})",
    )


def counts_at(y: Array, probability: Array, cuts: Array) -> tuple[float, Array, Array]:
    """Return the number of positives, and at each rising threshold how many are said and hit."""
    place = np.searchsorted(cuts, probability, side="right")
    positive = y == 1
    said = np.bincount(place, minlength=len(cuts) + 1)[::-1].cumsum()[::-1][1:]
    hit = np.bincount(place[positive], minlength=len(cuts) + 1)[::-1].cumsum()[::-1][1:]
    return float(positive.sum()), said.astype(np.float64), hit.astype(np.float64)


def share_bounds_at(k: Array, n: Array, *, confidence: float) -> tuple[Array, Array]:
    """Return the bounds of Clopper and Pearson for many shares; NaN where nothing counts."""
    from scipy.special import betaincinv

    counts = n > 0
    safe = np.maximum(n, 1)
    lower = np.where(k > 0, betaincinv(np.maximum(k, 1), safe - k + 1, 1 - confidence), 0.0)
    upper = np.where(k < safe, betaincinv(k + 1, np.maximum(safe - k, 1), confidence), 1.0)
    return np.where(counts, lower, np.nan), np.where(counts, upper, np.nan)
