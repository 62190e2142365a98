"""Metrics of a ranking: whether the positive rows stand on top when rows are ordered by probability."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.problem.mean import BINARY, TINY, Metric, OfMeans, column, quotient

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from loopwright.problem.answer import Answers

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")

_FEWEST_NEAR = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class RocAuc:
    """Probability that a random positive row is ranked above a random negative one; ties count half.

    Notes
    -----
    The Mann-Whitney statistic divided by the number of pairs (Hanley and McNeil, Radiology 143,
    1982), on weighted rows: rows are sorted once, each resample costs one pass.
    """

    name: str = "roc_auc"
    tasks: frozenset[str] = BINARY
    higher_is_better: bool = True
    best: float | None = 1.0

    def resampled(self, y: Array, answers: Answers, counts: Array) -> Array:
        """See `Metric.resampled`."""
        positive, negative = _cumulated(y, answers.probability(), counts)
        positive_step = np.diff(positive, axis=1, prepend=0.0)
        negative_step = np.diff(negative, axis=1, prepend=0.0)
        above = (positive_step * (negative - negative_step / 2)).sum(axis=1)
        return quotient(above, positive[:, -1] * negative[:, -1])

    def linearised(self, y: Array, answers: Answers) -> tuple[Array, OfMeans]:
        """Return the placements of DeLong, DeLong and Clarke-Pearson (Biometrics 44, 1988).

        A positive row's placement is the share of negative rows it is ranked above, a negative
        row's the share of positive rows ranked above it. The mean placement of either kind is the
        area; to the first order a resample's area is the sum of the two means less the area.
        """
        score, positive = answers.probability(), y == 1
        below, above = np.sort(score[~positive]), np.sort(score[positive])
        placement = np.where(positive, _share_below(below, score), 1 - _share_below(above, score))
        area = float(placement[positive].mean()) if positive.any() else np.nan
        columns = np.stack(
            [placement * positive, positive, placement * ~positive, ~positive], axis=1
        ).astype(np.float64)
        return columns, lambda m: quotient(m[:, 0], m[:, 1]) + quotient(m[:, 2], m[:, 3]) - area

    def per_row(self, y: Array, answers: Answers) -> Array | None:
        """Return None: a ranking is no mean over rows."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class AveragePrecision:
    """Mean over the positive rows of the precision among the rows ranked at least as high.

    Use it where positives are rare: unlike the area under the ROC curve it counts false alarms
    against the positives found, not against all negatives.
    """

    name: str = "average_precision"
    tasks: frozenset[str] = BINARY
    higher_is_better: bool = True
    best: float | None = 1.0

    def resampled(self, y: Array, answers: Answers, counts: Array) -> Array:
        """See `Metric.resampled`."""
        positive, negative = _cumulated(y, -answers.probability(), counts)
        precision = positive / np.maximum(positive + negative, TINY)
        found = (np.diff(positive, axis=1, prepend=0.0) * precision).sum(axis=1)
        return quotient(found, positive[:, -1])

    def linearised(self, y: Array, answers: Answers) -> tuple[Array, OfMeans]:
        """Return the derivative of the metric by the weight of each row.

        With A and B the positive and all rows ranked at least as high as row i, and N positives,
        the metric is the sum over positive i of A_i / B_i / N; the weight of row j enters A and B
        of the rows ranked no higher, its own term, and N.
        """
        score, positive = -answers.probability(), (y == 1).astype(np.float64)
        order = np.argsort(score, kind="stable")
        ends = np.flatnonzero(np.diff(score[order], append=np.inf))
        group = np.empty(len(y), dtype=np.int64)
        group[order] = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=-1))
        a = np.cumsum(positive[order])[ends]
        b = (ends + 1).astype(np.float64)
        n, n_rows = max(float(a[-1]), TINY), len(y)
        step = np.diff(a, prepend=0.0)
        value = float((step * a / b).sum() / n)
        # sums over the positive rows ranked no higher than each group
        gained = np.cumsum((step / b)[::-1])[::-1]
        lost = np.cumsum((step * a / b**2)[::-1])[::-1]
        own = positive * ((a / b)[group] - value)
        slope = (own + positive * gained[group] - lost[group]) / n
        return column(value + n_rows * slope), lambda means: means[:, 0]

    def per_row(self, y: Array, answers: Answers) -> Array | None:
        """Return None: a ranking is no mean over rows."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class TopShare:
    """Precision among the share of rows ranked highest, or how many times the average that is.

    Use it where only so many cases can be acted upon. The row on the border counts in part, and of
    rows with equal probability each counts alike.

    Parameters
    ----------
    share
        How much of the rows is taken, above 0 and below 1.
    is_lift
        Whether the precision is divided by the share of positives among all rows.
    """

    name: str
    share: float
    is_lift: bool = False
    tasks: frozenset[str] = BINARY
    higher_is_better: bool = True

    @property
    def best(self) -> float | None:
        """See `Metric.best`: the greatest lift is that of rows without a single negative on top."""
        return 1 / self.share if self.is_lift else 1.0

    def resampled(self, y: Array, answers: Answers, counts: Array) -> Array:
        """See `Metric.resampled`."""
        positive, negative = _cumulated(y, -answers.probability(), counts)
        rows = positive + negative
        wanted = self.share * rows[:, -1]
        last = np.minimum((rows < wanted[:, None]).sum(axis=1), rows.shape[1] - 1)
        line = np.arange(len(rows))
        before = np.where(last > 0, last - 1, 0)
        rows_before = np.where(last > 0, rows[line, before], 0.0)
        positive_before = np.where(last > 0, positive[line, before], 0.0)
        in_group = rows[line, last] - rows_before
        rate = (positive[line, last] - positive_before) / np.maximum(in_group, TINY)
        precision = (positive_before + rate * (wanted - rows_before)) / np.maximum(wanted, TINY)
        if not self.is_lift:
            return np.asarray(precision, dtype=np.float64)
        return quotient(precision, positive[:, -1] / rows[:, -1])

    def linearised(self, y: Array, answers: Answers) -> tuple[Array, OfMeans]:
        """Return the influence of each row, with the rate of positives near the border.

        A row above the border adds what it has more than the rate there; where the border lies
        moves with all rows.
        """
        n, score = len(y), answers.probability()
        positive = (y == 1).astype(np.float64)
        ranks = np.argsort(-score, kind="stable")
        place = self.share * n
        border = score[ranks[min(n - 1, math.ceil(place) - 1)]]
        tied = score == border
        near = max(_FEWEST_NEAR, int(tied.sum()), int(n**0.8 / 20))
        around = ranks[max(0, int(place) - near) : int(place) + near]
        rate = float(positive[tied].mean() if tied.sum() > near else positive[around].mean())
        above = score > border
        part = np.clip((place - above.sum()) / max(1, tied.sum()), 0.0, 1.0)
        taken = above + part * tied
        value = float((taken * positive).sum() / place)
        top = (taken * (positive - rate) + rate * self.share) / self.share
        columns = np.stack([top + value - float(top.mean()), positive], axis=1)
        if not self.is_lift:
            return columns[:, :1], lambda means: means[:, 0]
        return columns, lambda means: quotient(means[:, 0], means[:, 1])

    def per_row(self, y: Array, answers: Answers) -> Array | None:
        """Return None: a ranking is no mean over rows."""
        return None


def _cumulated(y: Array, score: Array, counts: Array) -> tuple[Array, Array]:
    """Return positives and negatives up to each distinct score, `(n_samples, n_scores)`, rising."""
    order = np.argsort(score, kind="stable")
    ends = np.flatnonzero(np.diff(score[order], append=np.inf))
    positive = np.cumsum(counts[:, order] * (y[order] == 1), axis=1)[:, ends]
    negative = np.cumsum(counts[:, order] * (y[order] != 1), axis=1)[:, ends]
    return positive, negative


def _share_below(ordered: Array, values: Array) -> Array:
    """Return the share of `ordered` that lies below each value; ties count half."""
    left = np.searchsorted(ordered, values, side="left")
    right = np.searchsorted(ordered, values, side="right")
    share: Array = (left + right) / 2 / max(1, len(ordered))
    return share


RANKING_METRICS: tuple[Metric, ...] = (
    RocAuc(),
    AveragePrecision(),
    TopShare(name="lift_in_top_decile", share=0.1, is_lift=True),
)
