"""Success metrics: what each measures, which way is better, and its value on resampled rows.

Every metric but the ranking ones is a smooth function of means over rows. Stating it so makes the
bootstrap one matrix product and gives the monitor per-row values to follow.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from loopwright.problem.answer import Answers

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")

Task = Literal["regression", "binary", "multiclass"]
TASKS: tuple[Task, ...] = ("regression", "binary", "multiclass")

OfMeans = Callable[["Array"], "Array"]

_WITHIN = re.compile(r"share_within_(\d+(?:\.\d+)?)_percent")
_TINY = 1e-15


class Metric(Protocol):
    """How good answers are, as one number."""

    @property
    def name(self) -> str:
        """The name used in the loop file."""
        ...

    @property
    def tasks(self) -> frozenset[str]:
        """The tasks it can judge."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Which way is better."""
        ...

    def resampled(self, y: Array, answers: Answers, counts: Array) -> Array:
        """Return the metric on weighted rows.

        Parameters
        ----------
        y
            The truth, `(n_rows,)`: values for regression, class indices otherwise.
        answers
            What the model said on the same rows.
        counts
            How often each row is counted, `(n_samples, n_rows)`, each line with a positive sum.

        Returns
        -------
        numpy.ndarray
            `(n_samples,)`.
        """
        ...

    def linearised(self, y: Array, answers: Answers) -> tuple[Array, OfMeans]:
        """Return columns `(n_rows, m)` and what makes the metric of their means.

        Exact for metrics that are functions of means; for rankings to the first order, which is
        what their spread over many rows depends on.
        """
        ...

    def per_row(self, y: Array, answers: Answers) -> Array | None:
        """Return values `(n_rows,)` whose plain mean is the metric, or None if there are none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanMetric:
    """A metric that is a function of means over rows: `combine(mean(columns))`."""

    name: str
    tasks: frozenset[str]
    higher_is_better: bool
    columns: Callable[[Array, Answers], Array]
    combine: Callable[[Array], Array] | None = None
    share_of: int | None = None
    """For a share of rows: the column that counts them, or -1 for all; None for anything else."""

    def counted(self, y: Array, answers: Answers) -> tuple[float, float] | None:
        """Return k and n of a metric that is k of n rows; None for any other."""
        if self.share_of is None:
            return None
        columns = self.columns(y, answers)
        n = len(y) if self.share_of < 0 else columns[:, self.share_of].sum()
        return float(columns[:, 0].sum()), float(n)

    def resampled(self, y: Array, answers: Answers, counts: Array) -> Array:
        """See `Metric.resampled`."""
        columns = self.columns(y, answers)
        return self.of_means((counts @ columns) / counts.sum(axis=1, keepdims=True))

    def of_means(self, means: Array) -> Array:
        """Return the metric for means of the columns, `(n_samples, n_columns)`."""
        metric: Array = means[:, 0] if self.combine is None else self.combine(means)
        return metric

    def linearised(self, y: Array, answers: Answers) -> tuple[Array, OfMeans]:
        """See `Metric.linearised`."""
        return self.columns(y, answers), self.of_means

    def per_row(self, y: Array, answers: Answers) -> Array | None:
        """See `Metric.per_row`."""
        return self.columns(y, answers)[:, 0] if self.combine is None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RocAuc:
    """Probability that a random positive row is ranked above a random negative one; ties count half.

    Notes
    -----
    The Mann-Whitney statistic divided by the number of pairs (Hanley and McNeil, Radiology 143,
    1982), on weighted rows: rows are sorted once, each resample costs one pass.
    """

    name: str = "roc_auc"
    tasks: frozenset[str] = frozenset({"binary"})
    higher_is_better: bool = True

    def resampled(self, y: Array, answers: Answers, counts: Array) -> Array:
        """See `Metric.resampled`."""
        score = answers.probability()
        order = np.argsort(score, kind="stable")
        ends = np.flatnonzero(np.diff(score[order], append=np.inf))
        positive = np.cumsum(counts[:, order] * (y[order] == 1), axis=1)[:, ends]
        negative = np.cumsum(counts[:, order] * (y[order] != 1), axis=1)[:, ends]
        positive_step = np.diff(positive, axis=1, prepend=0.0)
        negative_step = np.diff(negative, axis=1, prepend=0.0)
        above = (positive_step * (negative - negative_step / 2)).sum(axis=1)
        pairs = positive[:, -1] * negative[:, -1]
        area: Array = np.where(pairs > 0, above / np.maximum(pairs, _TINY), np.nan)
        return area

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
        return columns, lambda m: _quotient(m[:, 0], m[:, 1]) + _quotient(m[:, 2], m[:, 3]) - area

    def per_row(self, y: Array, answers: Answers) -> Array | None:
        """Return None: a ranking is no mean over rows."""
        return None


def _share_below(ordered: Array, values: Array) -> Array:
    """Return the share of `ordered` that lies below each value; ties count half."""
    left = np.searchsorted(ordered, values, side="left")
    right = np.searchsorted(ordered, values, side="right")
    share: Array = (left + right) / 2 / max(1, len(ordered))
    return share


def _quotient(part: Array, whole: Array) -> Array:
    quotient: Array = np.where(whole > 0, part / np.maximum(whole, _TINY), np.nan)
    return quotient


def metric_named(name: str, *, payoff: dict[str, float] | None = None) -> Metric:
    """Return the metric a loop file names.

    Parameters
    ----------
    name
        A name of `METRICS`, or `share_within_<number>_percent`.
    payoff
        What each outcome earns, in the user's money; needed for `profit_per_case`.

    Raises
    ------
    InvalidInputError
        If there is no such metric, with the nearest one; or if `profit_per_case` has no payoff.

    Examples
    --------
    >>> metric_named("mape").higher_is_better
    False
    """
    if match := _WITHIN.fullmatch(name):
        return _share_within(name, float(match[1]) / 100)
    if name == "profit_per_case":
        if not payoff:
            raise InvalidInputError(
                "The metric 'profit_per_case' needs a payoff.",
                hint="State under problem.payoff what each outcome earns, such as "
                "{true_positive: 160, false_positive: -20, false_negative: -400}.",
                field="problem.payoff",
                value=None,
            )
        return _profit(payoff)
    if name not in METRICS:
        known = [*METRICS, "share_within_5_percent", "profit_per_case"]
        raise InvalidInputError(
            f"There is no metric {name!r}.",
            hint=did_you_mean(name, known),
            field="metric",
            value=name,
        )
    return METRICS[name]


def _column(values: npt.ArrayLike) -> Array:
    return np.asarray(values, dtype=np.float64)[:, None]


def _relative_error(y: Array, answers: Answers) -> Array:
    # a true value of 0 has no relative error; the floor keeps it finite and very large
    return np.abs(answers.values - y) / np.maximum(np.abs(y), _TINY)


def _share_within(name: str, share: float) -> MeanMetric:
    return MeanMetric(
        name=name,
        tasks=frozenset({"regression"}),
        higher_is_better=True,
        columns=lambda y, answers: _column(_relative_error(y, answers) <= share),
        share_of=-1,
    )


def _profit(payoff: dict[str, float]) -> MeanMetric:
    def earned(y: Array, answers: Answers) -> Array:
        said, true = answers.labels == 1, y == 1
        return _column(
            np.where(said & true, payoff.get("true_positive", 0.0), 0.0)
            + np.where(said & ~true, payoff.get("false_positive", 0.0), 0.0)
            + np.where(~said & true, payoff.get("false_negative", 0.0), 0.0)
            + np.where(~said & ~true, payoff.get("true_negative", 0.0), 0.0)
        )

    return MeanMetric(
        name="profit_per_case", tasks=frozenset({"binary"}), higher_is_better=True, columns=earned
    )


def _squares(y: Array, answers: Answers) -> Array:
    return np.stack([(answers.values - y) ** 2, y, y**2], axis=1)


def _log_loss(y: Array, answers: Answers) -> Array:
    chosen = answers.probabilities[np.arange(len(y)), y.astype(np.int64)]
    return _column(-np.log(np.clip(chosen, _TINY, 1.0)))


def _hits(y: Array, answers: Answers) -> Array:
    said, true = answers.labels == 1, y == 1
    return np.stack([said & true, said, true], axis=1).astype(np.float64)


def _hits_per_class(y: Array, answers: Answers) -> Array:
    classes = np.arange(answers.probabilities.shape[1])
    said, true = answers.labels[:, None] == classes, y[:, None] == classes
    return np.concatenate([said & true, said, true], axis=1).astype(np.float64)


def _ratio(part: Array, whole: Array) -> Array:
    ratio: Array = np.where(whole > 0, part / np.maximum(whole, _TINY), 0.0)
    return ratio


def _macro_f1(means: Array) -> Array:
    hit, said, true = np.split(means, 3, axis=1)
    score: Array = _ratio(2 * hit, said + true).mean(axis=1)
    return score


def _balanced_accuracy(means: Array) -> Array:
    hit, _, true = np.split(means, 3, axis=1)
    present = true > 0
    score: Array = _ratio(hit, true).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    return score


_REGRESSION = frozenset({"regression"})
_BINARY = frozenset({"binary"})
_CLASSES = frozenset({"binary", "multiclass"})

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        MeanMetric(
            name="mae",
            tasks=_REGRESSION,
            higher_is_better=False,
            columns=lambda y, a: _column(np.abs(a.values - y)),
        ),
        MeanMetric(
            name="mape",
            tasks=_REGRESSION,
            higher_is_better=False,
            columns=lambda y, a: _column(_relative_error(y, a)),
        ),
        MeanMetric(
            name="rmse",
            tasks=_REGRESSION,
            higher_is_better=False,
            columns=_squares,
            combine=lambda m: np.sqrt(m[:, 0]),
        ),
        MeanMetric(
            name="r2",
            tasks=_REGRESSION,
            higher_is_better=True,
            columns=_squares,
            combine=lambda m: 1 - m[:, 0] / np.maximum(m[:, 2] - m[:, 1] ** 2, _TINY),
        ),
        MeanMetric(
            name="accuracy",
            tasks=_CLASSES,
            higher_is_better=True,
            columns=lambda y, a: _column(a.labels == y),
            share_of=-1,
        ),
        MeanMetric(name="log_loss", tasks=_CLASSES, higher_is_better=False, columns=_log_loss),
        MeanMetric(
            name="brier",
            tasks=_BINARY,
            higher_is_better=False,
            columns=lambda y, a: _column((a.probability() - (y == 1)) ** 2),
        ),
        MeanMetric(
            name="precision",
            tasks=_BINARY,
            higher_is_better=True,
            columns=_hits,
            combine=lambda m: _ratio(m[:, 0], m[:, 1]),
            share_of=1,
        ),
        MeanMetric(
            name="recall",
            tasks=_BINARY,
            higher_is_better=True,
            columns=_hits,
            combine=lambda m: _ratio(m[:, 0], m[:, 2]),
            share_of=2,
        ),
        MeanMetric(
            name="f1",
            tasks=_BINARY,
            higher_is_better=True,
            columns=_hits,
            combine=lambda m: _ratio(2 * m[:, 0], m[:, 1] + m[:, 2]),
        ),
        MeanMetric(
            name="macro_f1",
            tasks=_CLASSES,
            higher_is_better=True,
            columns=_hits_per_class,
            combine=_macro_f1,
        ),
        MeanMetric(
            name="balanced_accuracy",
            tasks=_CLASSES,
            higher_is_better=True,
            columns=_hits_per_class,
            combine=_balanced_accuracy,
        ),
        RocAuc(),
    )
}

DEFAULT_METRIC: dict[str, str] = {
    "regression": "rmse",
    "binary": "log_loss",
    "multiclass": "log_loss",
}
