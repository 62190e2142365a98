"""Metrics of a number: how far answers are off."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.problem.mean import REGRESSION, TINY, MeanMetric, Metric, OfMeans, column

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from loopwright.problem.answer import Answers

    Array = npt.NDArray[np.float64]
    OfRows = Callable[[Array, Answers], Array]
else:
    np = LazyModule("numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorQuantile:
    """The absolute error that a share of the answers stays within; the median error at 0.5.

    Notes
    -----
    On rows counted `c` times it is the quantile of the repeated rows with linear interpolation,
    definition 7 of Hyndman and Fan (American Statistician 50, 1996).
    """

    name: str
    share: float
    tasks: frozenset[str] = REGRESSION
    higher_is_better: bool = False
    best: float | None = 0.0

    def resampled(self, y: Array, answers: Answers, counts: Array) -> Array:
        """See `Metric.resampled`."""
        error = np.abs(answers.values - y)
        order = np.argsort(error, kind="stable")
        ordered, up_to = error[order], np.cumsum(counts[:, order], axis=1)
        place = self.share * np.maximum(up_to[:, -1] - 1, 0)
        low = np.floor(place)
        last = len(ordered) - 1
        below = np.minimum((up_to <= low[:, None]).sum(axis=1), last)
        above = np.minimum((up_to <= np.ceil(place)[:, None]).sum(axis=1), last)
        quantile: Array = ordered[below] + (place - low) * (ordered[above] - ordered[below])
        return quantile

    def linearised(self, y: Array, answers: Answers) -> tuple[Array, OfMeans]:
        """Return the influence of each row on the quantile (Hampel, JASA 69, 1974).

        The density at the quantile is a difference quotient of quantiles with the bandwidth of
        Bofinger (Australian Journal of Statistics 17, 1975).
        """
        error = np.abs(answers.values - y)
        q, n = self.share, len(error)
        value = float(np.quantile(error, q))
        z = NormalDist().inv_cdf(q)
        height = NormalDist().pdf(z)
        width = (4.5 * height**4 / (2 * z**2 + 1) ** 2) ** 0.2 * n**-0.2
        width = min(width, q / 2, (1 - q) / 2)
        low, high = (float(found) for found in np.quantile(error, [q - width, q + width]))
        sparsity = (high - low) / (2 * width)
        return column(value + sparsity * (q - (error <= value))), lambda means: means[:, 0]

    def per_row(self, y: Array, answers: Answers) -> Array | None:
        """Return None: a quantile is no mean over rows."""
        return None


def relative_error(y: Array, answers: Answers) -> Array:
    """Return |error| / |truth|, `(n_rows,)`."""
    # a true value of 0 has no relative error; the floor keeps it finite and very large
    return np.abs(answers.values - y) / np.maximum(np.abs(y), TINY)


def share_within(name: str, share: float) -> Metric:
    """Return the metric that counts answers at most a share off."""
    return MeanMetric(
        name=name,
        tasks=REGRESSION,
        higher_is_better=True,
        columns=lambda y, answers: column(relative_error(y, answers) <= share),
        share_of=-1,
        best=1.0,
    )


def pinball(name: str, share: float) -> Metric:
    """Return the loss whose best constant is a quantile (Koenker and Bassett, Econometrica 46, 1978)."""

    def loss(y: Array, answers: Answers) -> Array:
        short = y - answers.values
        return column(np.maximum(share * short, (share - 1) * short))

    return _loss(name, loss)


def _squares(y: Array, answers: Answers) -> Array:
    return np.stack([(answers.values - y) ** 2, y, y**2], axis=1)


def _log_squares(y: Array, answers: Answers) -> Array:
    # neither the truth nor an answer below 0 has such a logarithm; an answer counts as 0
    return column((np.log1p(np.maximum(answers.values, 0.0)) - np.log1p(y)) ** 2)


def _loss(name: str, columns: OfRows, combine: OfMeans | None = None) -> Metric:
    return MeanMetric(
        name=name,
        tasks=REGRESSION,
        higher_is_better=False,
        columns=columns,
        combine=combine,
        best=0.0,
    )


REGRESSION_METRICS: tuple[Metric, ...] = (
    _loss("mae", lambda y, a: column(np.abs(a.values - y))),
    ErrorQuantile(name="medae", share=0.5),
    _loss("mape", lambda y, a: column(relative_error(y, a))),
    _loss(
        "smape",
        lambda y, a: column(
            2 * np.abs(a.values - y) / np.maximum(np.abs(y) + np.abs(a.values), TINY)
        ),
    ),
    _loss(
        "wape",
        lambda y, a: np.stack([np.abs(a.values - y), np.abs(y)], axis=1),
        lambda m: m[:, 0] / np.maximum(m[:, 1], TINY),
    ),
    _loss("rmse", _squares, lambda m: np.sqrt(np.maximum(m[:, 0], 0.0))),
    _loss("rmsle", _log_squares, lambda m: np.sqrt(np.maximum(m[:, 0], 0.0))),
    MeanMetric(
        name="r2",
        tasks=REGRESSION,
        higher_is_better=True,
        columns=_squares,
        combine=lambda m: 1 - m[:, 0] / np.maximum(m[:, 2] - m[:, 1] ** 2, TINY),
        best=1.0,
    ),
)
