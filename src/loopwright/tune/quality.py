"""Metrics of a trained model on its validation rows, from the answers that its job left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import LoopwrightError
from loopwright.core.lazy import LazyModule
from loopwright.problem import METRICS, Task, class_answers, value_answers
from loopwright.train import Outcome

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

ANSWERS_FILE = "validation.parquet"


def read_quality(out: Path, task: str, classes: tuple[str, ...]) -> dict[str, float]:
    """Return every metric of the task on the validation rows; none if there are no answers.

    Parameters
    ----------
    out
        Where the job left `validation.parquet`; see `write_answers`.
    task, classes
        See `Outcome`.
    """
    path = out / ANSWERS_FILE
    if not task or not path.is_file():
        return {}
    try:
        said = pl.read_parquet(path)
        y, answers = _read(said, Outcome(task=_task(task), classes=classes))
    except (LoopwrightError, pl.exceptions.PolarsError, ValueError, OSError):
        # of another release, or cut short by whoever ended the job
        return {}
    if not len(y):
        return {}
    counts = np.ones((1, len(y)))
    found = {
        name: float(metric.resampled(y, answers, counts)[0])
        for name, metric in METRICS.items()
        if task in metric.tasks
    }
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _task(task: str) -> Task:
    return task  # type: ignore[return-value] # checked by Outcome


def _read(said: pl.DataFrame, outcome: Outcome) -> tuple[Any, Any]:
    if outcome.task == "regression":
        return said["actual"].to_numpy(), value_answers(said["prediction"].to_numpy())
    y = outcome.indices(said["actual"].to_list())
    column = "probability" if outcome.task == "binary" else "probabilities"
    return y, class_answers(said[column].to_numpy())
