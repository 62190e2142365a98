"""What each threshold would bring, and what the highest probabilities hold: curves for a report."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.examination import GainPoint, ThresholdPoint
from loopwright.evaluate.resampling import standard_error
from loopwright.evaluate.threshold import column_sums, counts_at, share_bounds_at
from loopwright.problem import Answers, MeanMetric, Metric

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Units = npt.NDArray[np.int64]
else:
    np = LazyModule("numpy")

_N_POINTS = 60
_SHARES = (0.01, 0.02, 0.05, *(tenth / 20 for tenth in range(2, 21)))


def threshold_points(
    y: Array,
    answers: Answers,
    *,
    profit: Metric | None,
    confidence: float,
    variation: float = 1.0,
) -> tuple[ThresholdPoint, ...]:
    """Return what about 60 thresholds bring, from always yes to never, and the one in force.

    Parameters
    ----------
    y, answers
        Class indices, and probabilities of two classes.
    profit
        What is earned per case, if anything is.
    confidence
        Level of each bound: exact for shares, normal for money.
    variation
        How many times more sums vary than those of independent rows; see `design_effect`.
    """
    probability = answers.probability()
    steps = np.quantile(probability, np.linspace(0, 1, _N_POINTS + 1), method="lower")
    cuts = np.unique(np.concatenate([[0.0], steps, [answers.threshold, 1.0]]))
    positive, said, hit = counts_at(y, probability, cuts)
    whole = np.full(len(cuts), positive)
    of_said = share_bounds_at(hit / variation, said / variation, confidence=confidence)
    of_true = share_bounds_at(hit / variation, whole / variation, confidence=confidence)
    money = [np.full(len(cuts), np.nan)] * 3
    if isinstance(profit, MeanMetric):
        money = _earned(profit, y, answers, cuts, confidence, variation)
    columns = [
        cuts,
        said / len(y),
        hit / np.maximum(said, 1),
        *of_said,
        hit / max(positive, 1),
        *of_true,
        *money,
    ]
    return tuple(_point([float(each) for each in line]) for line in zip(*columns, strict=True))


def _point(line: list[float]) -> ThresholdPoint:
    cut, share, precision, low, high, recall, recall_low, recall_high, *money = line
    known = [None if each != each else each for each in money]
    return ThresholdPoint(
        threshold=cut,
        share_said=share,
        precision=precision if share > 0 else None,
        precision_lower=low if share > 0 else None,
        precision_upper=high if share > 0 else None,
        recall=recall,
        recall_lower=recall_low,
        recall_upper=recall_high,
        profit=known[0],
        profit_lower=known[1],
        profit_upper=known[2],
    )


def _earned(
    profit: MeanMetric, y: Array, answers: Answers, cuts: Array, confidence: float, variation: float
) -> list[Array]:
    n = len(y)
    mean = column_sums(profit, y, answers, cuts)[:, 0] / n
    squares = column_sums(profit, y, answers, cuts, power=2)[:, 0] / n
    error = np.sqrt(np.maximum(squares - mean**2, 0) * variation / max(1, n - 1))
    reach = NormalDist().inv_cdf(confidence) * error
    return [mean, mean - reach, mean + reach]


def gain_points(
    y: Array, probability: Array, *, confidence: float, variation: float = 1.0
) -> tuple[GainPoint, ...]:
    """Return which share of the positives the cases with the highest probability hold.

    Of equal probabilities each case counts alike: the share on a border counts in part.
    """
    n, positive = len(y), float((y == 1).sum())
    if not positive:
        return ()
    levels, place = np.unique(-probability, return_inverse=True)
    rows = np.cumsum(np.bincount(place, minlength=len(levels)))
    held = np.cumsum(np.bincount(place, weights=y == 1, minlength=len(levels)))
    shares = np.array(sorted(set(_SHARES)))
    captured = np.interp(shares * n, np.concatenate([[0.0], rows]), np.concatenate([[0.0], held]))
    lower, upper = share_bounds_at(
        captured / variation, np.full(len(shares), positive / variation), confidence=confidence
    )
    return tuple(
        GainPoint(
            share=float(share),
            captured=float(k) / positive,
            captured_lower=float(low),
            captured_upper=float(high),
            lift=float(k) / positive / float(share),
        )
        for share, k, low, high in zip(shares, captured, lower, upper, strict=True)
    )


def design_effect(values: Array, units: Units | None) -> float:
    """Return how many times more a mean varies than that of independent rows (Kish 1965), 1 at least.

    By it shares over many thresholds are given the bounds of fewer rows, without looking at units
    at each of them.
    """
    alone = standard_error(values)
    if units is None or alone <= 0 or int(units.max()) < 1:
        return 1.0
    return max(1.0, (standard_error(values, units=units) / alone) ** 2)
