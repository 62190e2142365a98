"""The criteria on labelled live predictions, and the loss of each: what the ledger comes to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.deploy import captured_inputs
from loopwright.evaluate import resampled_deviation
from loopwright.loop.file import LoopFile
from loopwright.loop.gathering import gathered, ledger_about
from loopwright.loop.judging import captured_answers, loss_metric
from loopwright.loop.sourcing import Target
from loopwright.loop.workspace import Workspace
from loopwright.loop.worth import can_be_counted, money_columns, row_money
from loopwright.monitor import Ledger, LiveFigure, live_figures
from loopwright.problem import MONEY_METRICS, Criterion, Metric, checked_problem, in_range
from loopwright.train import class_text, open_bundle

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

ANSWER_COLUMNS = ("at", "label", "prediction", "probability", "probabilities")
_COLUMNS = {
    "regression": ("at", "label", "prediction"),
    "binary": ("at", "label", "probability"),
}
_CLASS_COLUMNS = ("at", "label", "prediction", "probabilities")


def own_rows(ledger: Ledger, loop: LoopFile, *, version: str) -> pl.DataFrame:
    """Return the labelled predictions of a version by time, with what their money needs.

    Without payoffs over columns, values and probabilities are 24 bytes a row.
    """
    needed = money_columns(loop.problem)
    columns = _COLUMNS.get(ledger.about.task, _CLASS_COLUMNS)
    if not needed:
        return ledger.labelled(version=version, columns=columns)
    rows = ledger.labelled(version=version, columns=("hash", "inference_id", *columns))
    texts = ledger.inputs(rows["hash"])
    inputs = captured_inputs(texts["inputs"].to_list())
    known = [name for name in needed if name in inputs.columns]
    beside = texts.select("inference_id").with_columns(inputs.select(known).to_struct("inputs"))
    return rows.join(beside, on="inference_id", how="left", maintain_order="left")


def truth_of(rows: pl.DataFrame, target: Target) -> npt.NDArray[np.float64]:
    """Return the labels of some predictions as numbers, (n_rows,): a class is its index."""
    labels = rows["label"]
    if target.classes:
        place = {name: float(index) for index, name in enumerate(target.classes)}
        texts = labels.unique().drop_nulls().to_list()
        labels = labels.replace_strict(
            texts, [place.get(class_text(each)) for each in texts], return_dtype=pl.Float64
        )
    truth: npt.NDArray[np.float64] = labels.cast(pl.Float64).to_numpy()
    return truth


def row_losses(
    loop: LoopFile, target: Target, rows: pl.DataFrame, *, threshold: float
) -> npt.NDArray[np.float64]:
    """Return the loss of each labelled prediction, (n_rows,); see `loss_metric`."""
    if not rows.height:
        return np.empty(0)
    metric = loss_metric(loop.problem, task=target.task)
    losses = metric.per_row(
        truth_of(rows, target), captured_answers(rows, target, threshold=threshold)
    )
    return np.asarray(losses, dtype=np.float64)


def criterion_figures(
    loop: LoopFile, target: Target, own: pl.DataFrame, threshold: float, *, n_looks: int
) -> list[LiveFigure]:
    """Return every criterion as it stands on some labelled predictions, as `own_rows` gives them.

    Parameters
    ----------
    n_looks
        Which look this is, from 1; see `_resampled_figure`.
    """
    if not own.height:
        return []
    counts = can_be_counted(loop.problem, _columns(own))
    money = row_money(loop.problem, target, _inputs(own)) if counts else None
    y = truth_of(own, target)
    answers = captured_answers(own, target, threshold=threshold, money=money)
    figures: list[LiveFigure] = []
    for criterion, metric in _criteria(loop, target):
        if metric.name in MONEY_METRICS and not counts:
            continue  # requests do not hold what a row is worth
        values = metric.per_row(y, answers)
        if values is not None and metric.name in MONEY_METRICS:
            values = values[np.isfinite(values)]  # a request may leave the column out
            if not len(values):
                continue
        if values is not None:
            figures += live_figures(
                values,
                metric=metric.name,
                at_most=criterion.at_most,
                at_least=criterion.at_least,
                confidence=loop.problem.confidence,
            )
        else:
            figures.append(
                _resampled_figure(
                    criterion, metric, y, answers, confidence=loop.problem.confidence, look=n_looks
                )
            )
    return figures


def missed_criteria(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    *,
    version: str,
    bundle: str,
    n_looks: int,
) -> str:
    """Return which criteria the labelled predictions of a version miss; empty for none.

    Parameters
    ----------
    bundle
        Digest of its `model.tar.gz`.
    n_looks
        Which look this is, from 1; see `_resampled_figure`.
    """
    folder = workspace.endpoint_folder(loop.deploy.endpoint if loop.deploy else "")
    ledger = gathered(folder, ledger_about(loop, target))
    own = own_rows(ledger, loop, version=version)
    if not own.height:
        return ""
    threshold = open_bundle(workspace.artifacts.local_path(bundle)).outcome.threshold
    figures = criterion_figures(loop, target, own, threshold, n_looks=n_looks)
    missed = [
        f"{figure.metric} is {figure.estimate:.4g} on {figure.n:,} labelled predictions"
        for figure in figures
        if figure.verdict == "missed"
    ]
    return "; ".join(missed)


def _criteria(loop: LoopFile, target: Target) -> Sequence[tuple[Criterion, Metric]]:
    metrics = checked_problem(loop.problem, task=target.task)
    return list(zip(loop.problem.criteria, metrics, strict=True))


def _columns(own: pl.DataFrame) -> list[str]:
    """Return the columns that requests had, of those that money needs."""
    held = own.schema.get("inputs")
    return [each.name for each in held.fields] if isinstance(held, pl.Struct) else []


def _inputs(own: pl.DataFrame) -> pl.DataFrame:
    if "inputs" not in own.columns:
        return pl.DataFrame(height=own.height)
    return own["inputs"].struct.unnest()


def _resampled_figure(
    criterion: Criterion,
    metric: Metric,
    y: npt.NDArray[np.float64],
    answers: Any,
    *,
    confidence: float,
    look: int,
) -> LiveFigure:
    """Return a figure for a metric that is no mean over rows.

    The k-th look may err with probability alpha / (k (k + 1)); over all looks that adds up to
    alpha, so looking often does not make a false verdict likelier.
    """
    alpha = (1 - confidence) / max(1, look * (look + 1))
    value, deviation = resampled_deviation(metric, y, answers)
    radius = NormalDist().inv_cdf(1 - alpha / 2) * deviation
    lower, upper = in_range(metric, value - radius), in_range(metric, value + radius)
    verdict = "undecided"
    # labels of one class alone say nothing, and bounds of no width would say that they are sure
    is_blank = not math.isfinite(value) or not deviation > 0
    if len(y) >= 100 and not is_blank:
        if criterion.holds_for(lower) and criterion.holds_for(upper):
            verdict = "holds"
        elif not criterion.holds_for(lower) and not criterion.holds_for(upper):
            verdict = "missed"
    return LiveFigure(
        metric=metric.name,
        n=len(y),
        estimate=None if is_blank and len(y) < 100 else value,
        lower=None if is_blank else lower,
        upper=None if is_blank else upper,
        target=criterion.target,
        direction="at_most" if criterion.wants_low else "at_least",
        verdict=verdict,  # type: ignore[arg-type] # one of the three above
        confidence=confidence,
        period="since deployment",
    )
