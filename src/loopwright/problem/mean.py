"""What a metric is, and the commonest kind: a function of means over rows.

Every metric but the ranking ones and the quantiles is a smooth function of means over rows. Stating
it so makes the bootstrap one matrix product and gives the monitor per-row values to follow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from loopwright.core.lazy import LazyModule

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

REGRESSION = frozenset({"regression"})
BINARY = frozenset({"binary"})
MULTICLASS = frozenset({"multiclass"})
CLASSES = BINARY | MULTICLASS

TINY = 1e-15


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

    @property
    def best(self) -> float | None:
        """The value no answers can be better than; None where rows and payoff decide."""
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

        Exact for metrics that are functions of means; for rankings and quantiles to the first
        order, which is what their spread over many rows depends on.
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
    best: float | None = None

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


def column(values: npt.ArrayLike) -> Array:
    """Return values as the one column of a metric."""
    return np.asarray(values, dtype=np.float64)[:, None]


def ratio(part: Array, whole: Array) -> Array:
    """Return part / whole, 0 where there is no whole."""
    quotient: Array = np.where(whole > 0, part / np.maximum(whole, TINY), 0.0)
    return quotient


def quotient(part: Array, whole: Array) -> Array:
    """Return part / whole, NaN where there is no whole."""
    found: Array = np.where(whole > 0, part / np.maximum(whole, TINY), np.nan)
    return found
