"""What makes a candidate's answers of its numbers: repaired probabilities, a threshold, intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.evaluate import chosen_threshold, fitted_interval, recalibrated, row_units
from loopwright.loop.file import LoopFile
from loopwright.loop.judging import as_answers
from loopwright.loop.sourcing import Target
from loopwright.problem import Answers, class_answers, metric_named

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Array = npt.NDArray[np.float64]
    Units = npt.NDArray[np.int64]
else:
    np = LazyModule("numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """How a candidate answers, chosen on validation rows.

    Parameters
    ----------
    answers
        What it says about the validation rows, for figures: probabilities are of a repair that had
        not seen the row.
    threshold
        From which probability on the positive class is said.
    how
        The rest as JSON types: `threshold_by`, `threshold_reason`, `calibration`,
        `calibration_reason`, `interval` and `interval_reason`; see `Outcome`.
    """

    answers: Answers
    threshold: float
    how: dict[str, Any]


def answering(
    loop: LoopFile,
    target: Target,
    y: Array,
    raw: Array,
    *,
    money: Array | None = None,
    repairs: bool = True,
) -> Answering:
    """Return how a candidate is to answer, from the truth and its numbers for validation rows.

    Probabilities are repaired first, if that helps beyond noise, and the threshold is chosen among
    the repaired ones. `repairs` is False for a rule, whose shares people read.
    """
    seed, problem = loop.train.seed, loop.problem
    if target.task == "regression":
        confidence = loop.evaluate.interval if loop.evaluate else 0.9
        interval, reason = fitted_interval(y, raw, confidence=confidence, seed=seed)
        how: dict[str, Any] = {
            "interval": interval and interval.to_json(),
            "interval_reason": reason,
        }
        return Answering(answers=as_answers(raw, target, threshold=0.5), threshold=0.5, how=how)
    how = {"calibration": None, "calibration_reason": "a rule says the shares it was made from"}
    honest = applied = raw
    if repairs:
        repair = recalibrated(y, raw, seed=seed)
        honest, made = repair.honest, repair.calibration
        how = {"calibration": made and made.to_json(), "calibration_reason": repair.reason}
        applied = raw if made is None else made.applied(raw)
    threshold = 0.5
    if target.task == "binary":
        choice = chosen_threshold(
            problem.threshold,
            y,
            class_answers(applied, money=money),
            profit=metric_named("profit_per_case", payoff=problem.payoff)
            if problem.payoff
            else None,
            confidence=problem.confidence,
        )
        threshold = choice.threshold
        how |= {"threshold_by": choice.by, "threshold_reason": choice.reason}
    said = as_answers(honest, target, threshold=threshold, money=money)
    return Answering(answers=said, threshold=threshold, how=how)


def units_of_rows(loop: LoopFile, rows: pl.DataFrame) -> Units | None:
    """Return which rows are resampled together, as the split divides them; None for single rows."""
    split = loop.data.split
    if split.by == "random" or split.column is None or split.column not in rows.columns:
        return None
    return row_units(rows[split.column], by=split.by)
