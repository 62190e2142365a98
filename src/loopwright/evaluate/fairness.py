"""What a model does for each group of people, how far groups differ, and whether that is allowed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, permutations
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.evaluate.figure import Figure, figure
from loopwright.problem import (
    SELECTION_RATE,
    Amounts,
    Answers,
    FairnessLimit,
    MeanMetric,
    Metric,
    metric_named,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Array = npt.NDArray[np.float64]
    Units = npt.NDArray[np.int64]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

LEAST_ROWS = 30
MOST_GROUPS = 20
_FEW_NUMBERS = 10
MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFigure:
    """A rate or a metric in one group, `lower <= value <= upper`; None where nothing can be said."""

    metric: str
    value: float | None
    lower: float | None
    upper: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupReading:
    """One group: its rows, their share of all, and what the model does for it.

    `is_judged` is False for a group with fewer than 30 rows, which no limit can be held against.
    """

    name: str
    n_rows: int
    share: float
    is_judged: bool
    figures: tuple[GroupFigure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitReading:
    """A limit to how far groups may differ, and whether it holds beyond doubt.

    Parameters
    ----------
    limit
        In words.
    gap, gap_upper
        Greatest difference between two groups, and its upper bound at the confidence.
    ratio, ratio_lower
        Least group divided by the greatest, and its lower bound.
    high, low
        The groups with the greatest and the least value.
    holds
        Whether the bounds, not only the values, keep the limit.
    reason
        Why it does not hold, or what could not be said; empty where it holds.
    """

    limit: str
    column: str
    metric: str
    gap: float | None
    gap_upper: float | None
    at_most_gap: float | None
    ratio: float | None
    ratio_lower: float | None
    at_least_ratio: float | None
    high: str
    low: str
    holds: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FairnessReading:
    """The groups of one protected column, and the limits that are stated for it."""

    column: str
    groups: tuple[GroupReading, ...]
    limits: tuple[LimitReading, ...]
    confidence: float
    remarks: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether every limit holds."""
        return all(limit.holds for limit in self.limits)

    def to_json(self) -> dict[str, Any]:
        """Return the reading as JSON types."""
        value: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FairnessReading:
        """Return the reading that `to_json` wrote; `msgspec.ValidationError` if it is none."""
        return msgspec.convert(value, cls)


def fairness(
    frame: pl.DataFrame,
    y: Array,
    answers: Answers,
    limits: Sequence[FairnessLimit],
    *,
    task: str,
    main: Metric,
    payoff: Amounts | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    units: Units | None = None,
) -> tuple[FairnessReading, ...]:
    """Return what the model does for each group, one reading for each protected column.

    Parameters
    ----------
    frame
        The judged rows with the protected columns, `n_rows`.
    y, answers
        The truth `(n_rows,)`, and what was said.
    limits
        As stated in the problem.
    main
        The metric shown beside the rates.
    units
        The unit of each row where rows are not independent; see `resampled`.

    Raises
    ------
    InvalidInputError
        If there is no such column.

    Notes
    -----
    A limit holds when it holds for every pair of groups: the bound of the gap is the greatest of
    the pairs' bounds, each at the full confidence (intersection-union test, Berger, Technometrics
    24, 1982). The bound of a difference comes from the bounds of both groups by the square-and-add
    method (Zou and Donner, Statistics in Medicine 27, 2008), that of a ratio likewise on
    logarithms; a group's own bounds are exact for shares and bootstrapped for anything else.
    """
    readings = []
    for column in dict.fromkeys(limit.column for limit in limits):
        stated = [limit for limit in limits if limit.column == column]
        cuts = next((limit.cuts for limit in stated if limit.cuts), ())
        names, of_row = protected_groups(frame, column, cuts=cuts)
        rows_of = [np.flatnonzero(of_row == number) for number in range(len(names))]
        metrics = _shown(task, main)
        wanted = {limit.metric: compared_metric(limit.metric, payoff) for limit in stated}
        metrics |= {name: metric for name, metric in wanted.items() if name not in metrics}
        tables = [
            {
                name: _figure(metric, y, answers, rows, confidence, seed, units)
                for name, metric in metrics.items()
            }
            for rows in rows_of
        ]
        groups = tuple(
            _group(name, table, len(rows), len(y))
            for name, table, rows in zip(names, tables, rows_of, strict=True)
        )
        judged = {
            group.name: table
            for group, table in zip(groups, tables, strict=True)
            if group.is_judged
        }
        few = [group.name for group in groups if not group.is_judged]
        readings.append(
            FairnessReading(
                column=column,
                groups=groups,
                limits=tuple(_held(limit, judged) for limit in stated),
                confidence=confidence,
                remarks=(_told_few(few),) if few else (),
            )
        )
    return tuple(readings)


def protected_groups(
    frame: pl.DataFrame, column: str, *, cuts: Sequence[float] = ()
) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return the names of a column's groups and the number of each row's group, `(n_rows,)`.

    Numbers are cut where the user says; else, if there are more than 10 different ones, into
    quarters of the rows. The 20 greatest groups have names, the rest are `all others`. What is
    missing is a group of its own, the last one.

    Raises
    ------
    InvalidInputError
        If there is no such column.
    """
    if column not in frame.columns:
        raise InvalidInputError(
            f"Fairness is asked for by {column!r}, which is no column of the data.",
            hint=did_you_mean(column, frame.columns),
            field="problem.constraints.fairness",
            value=column,
        )
    values = frame[column]
    is_number = values.dtype.is_numeric()
    if is_number and (cuts or values.n_unique() > _FEW_NUMBERS):
        texts, labels = _cut(values.cast(pl.Float64).fill_nan(None), cuts)
        present = set(texts.to_list())
        order = [label for label in labels if label in present]
    else:
        texts = values.cast(pl.String) if not is_number else _plain_numbers(values)
        counts = texts.drop_nulls().value_counts(sort=True, name="n_rows")
        names = sorted(counts.rows(), key=lambda each: (-each[1], each[0]))
        order = [name for name, _ in names[:MOST_GROUPS]]
        if len(names) > MOST_GROUPS:
            others = pl.when(texts.is_in(order) | texts.is_null())
            texts = pl.select(others.then(texts).otherwise(pl.lit("all others"))).to_series()
            order.append("all others")
    if texts.null_count():
        texts = texts.fill_null(MISSING)
        order.append(MISSING)
    number = {name: at for at, name in enumerate(dict.fromkeys(order))}
    of_row = np.array([number[text] for text in texts.to_list()], dtype=np.int64)
    return list(number), of_row


def _plain_numbers(values: pl.Series) -> pl.Series:
    return pl.Series(
        [None if v is None or v != v else f"{v:g}" for v in values.to_list()], dtype=pl.String
    )


def _cut(values: pl.Series, cuts: Sequence[float]) -> tuple[pl.Series, list[str]]:
    if not cuts:
        known = values.drop_nulls()
        cuts = sorted({float(known.quantile(q, "nearest") or 0.0) for q in (0.25, 0.5, 0.75)})
    edges = [-math.inf, *cuts, math.inf]
    labels = [
        f"below {high:g}"
        if low == -math.inf
        else (f"{low:g} and more" if high == math.inf else f"{low:g} to below {high:g}")
        for low, high in pairwise(edges)
    ]
    place = np.searchsorted(np.array(cuts), values.fill_null(0.0).to_numpy(), side="right")
    texts = pl.Series([labels[at] for at in place.tolist()], dtype=pl.String)
    return pl.select(pl.when(values.is_null()).then(None).otherwise(texts)).to_series(), labels


def _shown(task: str, main: Metric) -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    if task == "binary":
        names = ("recall", "false_positive_rate", "precision", "said_less_happened")
        found[SELECTION_RATE] = _RATES[SELECTION_RATE]
        found |= {name: _RATES.get(name) or metric_named(name) for name in names}
    elif task == "regression":
        found["bias"] = _RATES["bias"]
    found[main.name] = main
    return found


def compared_metric(name: str, payoff: Amounts | None) -> Metric:
    """Return the rate or the metric by which groups are compared."""
    return _RATES[name] if name in _RATES else metric_named(name, payoff=payoff)


def _figure(
    metric: Metric,
    y: Array,
    answers: Answers,
    rows: npt.NDArray[np.int64],
    confidence: float,
    seed: int,
    units: Units | None,
) -> Figure | None:
    """Return the metric in a group; None where nothing of what it counts is there."""
    if len(rows) < 2:
        return None
    own_y, own = y[rows], answers.rows(rows)
    if isinstance(metric, MeanMetric) and metric.share_of is not None:
        counted = metric.counted(own_y, own)
        if counted is not None and counted[1] <= 0:
            return None
    alike = None if units is None else np.unique(units[rows], return_inverse=True)[1]
    found = figure(metric, own_y, own, confidence=confidence, seed=seed, units=alike)
    return found if math.isfinite(found.value) else None


def _group(name: str, table: Mapping[str, Figure | None], n_rows: int, n_all: int) -> GroupReading:
    return GroupReading(
        name=name,
        n_rows=n_rows,
        share=n_rows / max(1, n_all),
        is_judged=n_rows >= LEAST_ROWS,
        figures=tuple(
            GroupFigure(
                metric=metric,
                value=None if found is None else found.value,
                lower=None if found is None else _known(found.lower),
                upper=None if found is None else _known(found.upper),
            )
            for metric, found in table.items()
        ),
    )


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _held(limit: FairnessLimit, tables: Mapping[str, Mapping[str, Figure | None]]) -> LimitReading:
    """Return whether a limit holds among the groups that can be judged."""
    found = {name: each for name, table in tables.items() if (each := table[limit.metric])}
    nothing = LimitReading(
        limit=str(limit),
        column=limit.column,
        metric=limit.metric,
        gap=None,
        gap_upper=None,
        at_most_gap=limit.at_most_gap,
        ratio=None,
        ratio_lower=None,
        at_least_ratio=limit.at_least_ratio,
        high="",
        low="",
        holds=False,
        reason=f"fewer than two groups of {limit.column} have the {LEAST_ROWS} rows, and cases of "
        f"what {limit.metric} counts, that are needed to compare them",
    )
    if len(found) < 2:
        return nothing
    high = max(found, key=lambda name: found[name].value)
    low = min(found, key=lambda name: found[name].value)
    gap = found[high].value - found[low].value
    pairs = [(found[a], found[b]) for a, b in permutations(found, 2)]
    gap_upper = max(_difference_upper(a, b) for a, b in pairs)
    ratio = found[low].value / found[high].value if found[high].value > 0 else None
    ratio_lower = min(1.0, *(_ratio_lower(a, b) for a, b in pairs))
    missed = []
    if limit.at_most_gap is not None and not gap_upper <= limit.at_most_gap:
        missed.append(
            f"the gap may be as large as {gap_upper:.3g}, {limit.at_most_gap:g} is allowed"
        )
    if limit.at_least_ratio is not None and not ratio_lower >= limit.at_least_ratio:
        missed.append(
            f"the ratio may be as small as {ratio_lower:.3g}, {limit.at_least_ratio:g} is asked for"
        )
    return replace(
        nothing,
        gap=gap,
        gap_upper=_known(gap_upper),
        ratio=ratio,
        ratio_lower=ratio_lower,
        high=high,
        low=low,
        holds=not missed,
        reason="; ".join(missed),
    )


def _difference_upper(a: Figure, b: Figure) -> float:
    """Return the upper bound of `a` less `b`."""
    return a.value - b.value + math.hypot(a.upper - a.value, b.value - b.lower)


def _ratio_lower(a: Figure, b: Figure) -> float:
    """Return the lower bound of `a` divided by `b`."""
    if a.value <= 0 or a.lower <= 0:
        return 0.0
    if b.value <= 0:
        return math.inf
    below = math.log(a.value / a.lower)
    above = math.log(b.upper / b.value) if math.isfinite(b.upper) else math.inf
    return a.value / b.value * math.exp(-math.hypot(below, above))


def _told_few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"Fewer than {LEAST_ROWS} rows, so no limit can be held against: {shown}."


def _false_positives(y: Array, answers: Answers) -> Array:
    negative = y != 1
    return np.stack([(answers.labels == 1) & negative, negative], axis=1).astype(np.float64)


def _false_positive_rate(means: Array) -> Array:
    rate: Array = np.where(means[:, 1] > 0, means[:, 0] / np.maximum(means[:, 1], 1e-300), 0.0)
    return rate


_BINARY = frozenset({"binary"})
_RATES: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        MeanMetric(
            name=SELECTION_RATE,
            tasks=_BINARY,
            higher_is_better=True,
            columns=lambda _, answers: (answers.labels == 1).astype(np.float64)[:, None],
            share_of=-1,
        ),
        MeanMetric(
            name="false_positive_rate",
            tasks=_BINARY,
            higher_is_better=False,
            columns=_false_positives,
            combine=_false_positive_rate,
            share_of=1,
        ),
        MeanMetric(
            name="said_less_happened",
            tasks=_BINARY,
            higher_is_better=False,
            columns=lambda y, answers: (answers.probability() - (y == 1))[:, None],
        ),
        MeanMetric(
            name="bias",
            tasks=frozenset({"regression"}),
            higher_is_better=False,
            columns=lambda y, answers: (answers.values - y)[:, None],
        ),
    )
}
