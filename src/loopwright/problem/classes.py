"""Metrics of classes: how often what is said is right, and how well probabilities are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.problem.mean import (
    BINARY,
    CLASSES,
    MULTICLASS,
    TINY,
    MeanMetric,
    Metric,
    column,
    ratio,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from loopwright.problem.answer import Answers

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")


def top_accuracy(name: str, k: int) -> Metric:
    """Return the share of rows whose true class is among the `k` most probable ones."""

    def hit(y: Array, answers: Answers) -> Array:
        shares = answers.probabilities
        own = shares[np.arange(len(y)), y.astype(np.int64)][:, None]
        classes = np.arange(shares.shape[1])
        # of equally probable classes the first stands first, as in `Answers.labels`
        before = (shares > own) | ((shares == own) & (classes < y[:, None]))
        return column(before.sum(axis=1) < k)

    return MeanMetric(
        name=name, tasks=MULTICLASS, higher_is_better=True, columns=hit, share_of=-1, best=1.0
    )


def _log_loss(y: Array, answers: Answers) -> Array:
    chosen = answers.probabilities[np.arange(len(y)), y.astype(np.int64)]
    return column(-np.log(np.clip(chosen, TINY, 1.0)))


def _hits(y: Array, answers: Answers) -> Array:
    said, true = answers.labels == 1, y == 1
    return np.stack([said & true, said, true], axis=1).astype(np.float64)


def _left_alone(y: Array, answers: Answers) -> Array:
    said, true = answers.labels == 1, y == 1
    return np.stack([~said & ~true, ~true, ~said], axis=1).astype(np.float64)


def _false_alarms(y: Array, answers: Answers) -> Array:
    said, true = answers.labels == 1, y == 1
    return np.stack([said & ~true, ~true], axis=1).astype(np.float64)


def _hits_per_class(y: Array, answers: Answers) -> Array:
    classes = np.arange(answers.probabilities.shape[1])
    said, true = answers.labels[:, None] == classes, y[:, None] == classes
    return np.concatenate([said & true, said, true], axis=1).astype(np.float64)


def _macro_f1(means: Array) -> Array:
    hit, said, true = np.split(means, 3, axis=1)
    score: Array = ratio(2 * hit, said + true).mean(axis=1)
    return score


def _weighted_f1(means: Array) -> Array:
    hit, said, true = np.split(means, 3, axis=1)
    score: Array = (ratio(2 * hit, said + true) * true).sum(axis=1)
    return score


def _macro_precision(means: Array) -> Array:
    hit, said, _ = np.split(means, 3, axis=1)
    score: Array = ratio(hit, said).mean(axis=1)
    return score


def _balanced_accuracy(means: Array) -> Array:
    hit, _, true = np.split(means, 3, axis=1)
    present = true > 0
    score: Array = ratio(hit, true).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    return score


def _matthews(means: Array) -> Array:
    """Return the correlation of what is said and what is true, 0 where either never varies.

    Gorodkin's form for any number of classes (Computational Biology and Chemistry 28, 2004).
    """
    hit, said, true = np.split(means, 3, axis=1)
    shared = hit.sum(axis=1) - (said * true).sum(axis=1)
    spread = (1 - (said**2).sum(axis=1)) * (1 - (true**2).sum(axis=1))
    score: Array = np.where(spread > TINY, shared / np.sqrt(np.maximum(spread, TINY)), 0.0)
    return score


def _kappa(means: Array) -> Array:
    """Return the agreement beyond chance (Cohen, 1960), 0 where chance alone agrees."""
    hit, said, true = np.split(means, 3, axis=1)
    chance = (said * true).sum(axis=1)
    score: Array = np.where(
        chance < 1 - TINY, (hit.sum(axis=1) - chance) / np.maximum(1 - chance, TINY), 0.0
    )
    return score


def _share(name: str, columns: Callable[[Array, Answers], Array], of: int) -> Metric:
    """Return the share of the rows that column `of` counts for which column 0 holds."""
    return MeanMetric(
        name=name,
        tasks=BINARY,
        higher_is_better=True,
        columns=columns,
        combine=lambda m: ratio(m[:, 0], m[:, of]),
        share_of=of,
        best=1.0,
    )


def _score(
    name: str,
    columns: Callable[[Array, Answers], Array],
    combine: Callable[[Array], Array],
    *,
    tasks: frozenset[str] = CLASSES,
) -> Metric:
    return MeanMetric(
        name=name, tasks=tasks, higher_is_better=True, columns=columns, combine=combine, best=1.0
    )


CLASS_METRICS: tuple[Metric, ...] = (
    MeanMetric(
        name="accuracy",
        tasks=CLASSES,
        higher_is_better=True,
        columns=lambda y, a: column(a.labels == y),
        share_of=-1,
        best=1.0,
    ),
    MeanMetric(name="log_loss", tasks=CLASSES, higher_is_better=False, columns=_log_loss, best=0.0),
    MeanMetric(
        name="brier",
        tasks=BINARY,
        higher_is_better=False,
        columns=lambda y, a: column((a.probability() - (y == 1)) ** 2),
        best=0.0,
    ),
    _share("precision", _hits, 1),
    _share("recall", _hits, 2),
    _share("specificity", _left_alone, 1),
    _share("negative_predictive_value", _left_alone, 2),
    MeanMetric(
        name="false_positive_rate",
        tasks=BINARY,
        higher_is_better=False,
        columns=_false_alarms,
        combine=lambda m: ratio(m[:, 0], m[:, 1]),
        share_of=1,
        best=0.0,
    ),
    _score("f1", _hits, lambda m: ratio(2 * m[:, 0], m[:, 1] + m[:, 2]), tasks=BINARY),
    _score("macro_f1", _hits_per_class, _macro_f1),
    _score("weighted_f1", _hits_per_class, _weighted_f1),
    _score("macro_precision", _hits_per_class, _macro_precision),
    _score("balanced_accuracy", _hits_per_class, _balanced_accuracy),
    _score("mcc", _hits_per_class, _matthews),
    _score("cohen_kappa", _hits_per_class, _kappa),
)
