"""The rows a model missed most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.examination import WorstRow
from loopwright.explore import masked_value
from loopwright.problem import Answers, Metric, metric_named
from loopwright.train import Outcome

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")

_N_ROWS = 15
_MOST_CELLS = 30
_LONGEST = 60


def loss_per_row(metric: Metric, y: Array, answers: Answers) -> Array:
    """Return what each answer cost, in the metric's own terms where rows have a part in it.

    Squared errors stand for the metrics made of them, absolute errors for other metrics of numbers,
    the logarithmic loss for rankings and other metrics of classes.
    """
    values = metric.per_row(y, answers)
    if values is not None:
        return -values if metric.higher_is_better else values
    if answers.probabilities.size:
        loss = metric_named("log_loss").per_row(y, answers)
        return np.zeros(len(y)) if loss is None else loss
    away = np.abs(answers.values - y)
    squared: Array = away**2
    return squared if metric.name in ("rmse", "r2") else away


def worst_rows(
    frame: pl.DataFrame,
    y: Array,
    answers: Answers,
    outcome: Outcome,
    *,
    metric: Metric,
    hidden: frozenset[str] = frozenset(),
) -> tuple[WorstRow, ...]:
    """Return the 15 rows with the greatest loss, the worst first, with at most 30 of their columns.

    A loss that only says right or wrong gives way to one that says how far off. Columns in `hidden`
    are masked.
    """
    loss = _graded_loss(metric, y, answers)
    places = np.argsort(-loss, kind="stable")[:_N_ROWS]
    names = frame.columns[:_MOST_CELLS]
    rows = frame.select(names)[places.tolist()].rows()
    return tuple(
        WorstRow(
            row=int(place),
            said=_said(answers, outcome, int(place)),
            true=outcome.classes[int(y[place])] if outcome.classes else f"{y[place]:,.6g}",
            loss=float(loss[place]),
            cells=tuple(
                (name, _cell(value, hide=name in hidden))
                for name, value in zip(names, row, strict=True)
            ),
        )
        for place, row in zip(places, rows, strict=True)
    )


def _graded_loss(metric: Metric, y: Array, answers: Answers) -> Array:
    if answers.probabilities.size:
        name = "log_loss"
    elif metric.name == "mape" or metric.name.startswith("share_within_"):
        name = "mape"
    else:
        name = "mae"
    loss = metric_named(name).per_row(y, answers)
    if loss is None:
        raise AssertionError(f"{name} is a mean over rows")
    return loss


def _said(answers: Answers, outcome: Outcome, place: int) -> str:
    if not outcome.classes:
        return f"{answers.values[place]:,.6g}"
    said = int(answers.labels[place])
    share = answers.probabilities[place, said]
    return f"{outcome.classes[said]} ({share:.0%})"


def _cell(value: Any, *, hide: bool) -> str:
    if value is None or value != value:
        return ""
    text = f"{value:,.6g}" if isinstance(value, float) else str(value)
    if hide:
        return masked_value(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
