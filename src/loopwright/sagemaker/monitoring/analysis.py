"""The two analyses of Model Monitor: of the quality of data, and of the quality of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.sagemaker.monitoring.captured import (
    OUTPUT,
    payload,
    read_events,
    read_truth,
    value_at,
)
from loopwright.sagemaker.monitoring.column import Column, column_of, statistics_of
from loopwright.sagemaker.monitoring.constraint import L_INFINITY, suggested, violations
from loopwright.sagemaker.monitoring.dataset import captured_table, read_dataset
from loopwright.sagemaker.monitoring.quality import (
    BINARY,
    MULTICLASS,
    SECTIONS,
    quality_of,
    quality_violations,
    suggested_quality,
)

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

_CAPTURED = "sagemakercapturejson"
NO_DATA = "Job inputs had no data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is analysed, and against what.

    Parameters
    ----------
    source
        The folder of the data.
    layout
        `dataset_format` of the job.
    constraints, baseline
        `constraints.json` and `statistics.json` of a baseline; None for a baseline itself.
    preprocess
        `preprocess_handler` of a user's script.
    start, end
        The window of captured requests.
    problem
        `Regression`, `BinaryClassification` or `MulticlassClassification`.
    prediction_at, score_at, truth_at
        Where predictions, probabilities and true values lie: the name or the number of a column,
        or a JMESPath.
    cut
        From which probability on the class is 1.
    truth
        The folder of true values of captured requests.
    drift_method
        How the constraints of a baseline will have categories compared.
    """

    source: Path
    layout: Mapping[str, Any]
    constraints: Mapping[str, Any] | None = None
    baseline: Mapping[str, Any] | None = None
    preprocess: Callable[[Any], Any] | None = None
    start: datetime | None = None
    end: datetime | None = None
    problem: str = ""
    prediction_at: str = ""
    score_at: str = ""
    truth_at: str = ""
    cut: float = 0.5
    truth: Path | None = None
    drift_method: str = L_INFINITY

    @property
    def is_captured(self) -> bool:
        """Tell whether the data are captured requests."""
        return any(name.lower() == _CAPTURED for name in self.layout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What an analysis found; `violations` is None where there was nothing to compare with."""

    statistics: Mapping[str, Any]
    constraints: Mapping[str, Any]
    n_rows: int
    violations: list[dict[str, str]] | None = None
    figures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def data_quality(question: Question) -> Findings:
    """Return the statistics of a data set and what of it violates the baseline.

    Raises
    ------
    InvalidInputError
        If there are no rows, or they cannot be read.
    """
    names = [each["name"] for each in (question.constraints or {}).get("features", ())]
    if question.is_captured:
        events = read_events(question.source, start=question.start, end=question.end)
        table = captured_table(events, names=names, preprocess=question.preprocess)
    else:
        table = read_dataset(question.source, question.layout)
    if not table.height:
        raise InvalidInputError(NO_DATA)
    columns = [column_of(table.get_column(name)) for name in table.columns]
    statistics = statistics_of(columns, n_rows=table.height)
    found: list[dict[str, str]] | None = None
    drifts: dict[str, float] = {}
    if question.constraints is not None:
        found, drifts = violations(columns, question.constraints, question.baseline, statistics)
    return Findings(
        statistics=statistics,
        constraints=suggested(columns, drift_method=question.drift_method),
        n_rows=table.height,
        violations=found,
        figures=_figures(columns, drifts),
    )


def _figures(
    columns: Sequence[Column], drifts: Mapping[str, float]
) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for column in columns:
        numbers = column.numbers
        if column.is_number and len(numbers):
            found[f"feature_data_{column.name}"] = {
                "StatisticValues": {
                    "SampleCount": float(len(numbers)),
                    "Sum": float(numbers.sum()),
                    "Minimum": float(numbers.min()),
                    "Maximum": float(numbers.max()),
                }
            }
        found[f"feature_non_null_{column.name}"] = {"Value": column.completeness}
    return found | {f"feature_baseline_drift_{k}": {"Value": v} for k, v in drifts.items()}


def model_quality(question: Question) -> Findings:
    """Return how good predictions were, and what of it is worse than the baseline.

    Raises
    ------
    InvalidInputError
        If there are no rows with a true value, or a place that is named holds nothing.
    """
    if question.problem not in SECTIONS:
        raise InvalidInputError(
            f"The problem type {question.problem!r} is none of {', '.join(SECTIONS)}."
        )
    rows = _of_events(question) if question.is_captured else _of_table(question)
    if not rows.truth:
        raise InvalidInputError(NO_DATA)
    truth, predicted, score = _arrays(question, rows)
    metrics = quality_of(question.problem, truth, predicted, score)
    found = None
    if question.constraints is not None:
        found = quality_violations(question.problem, metrics, question.constraints)
    section = SECTIONS[question.problem]
    about: dict[str, Any] = {"item_count": len(truth)}
    for name, at in (("start_time", question.start), ("end_time", question.end)):
        if at is not None:
            about[name] = at.isoformat()
    return Findings(
        statistics={"version": 0.0, "dataset": about, f"{section}_metrics": metrics},
        constraints=suggested_quality(question.problem, metrics),
        n_rows=len(truth),
        violations=found,
        figures={
            name: {"Value": each["value"]}
            for name, each in metrics.items()
            if isinstance(each.get("value"), float)
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """True values, predictions and probabilities as texts; the last two may be empty."""

    truth: list[str]
    predicted: list[str]
    score: list[str]


def _of_events(question: Question) -> _Rows:
    truths = read_truth(question.truth) if question.truth and question.truth.is_dir() else {}
    rows = _Rows(truth=[], predicted=[], score=[])
    for event in read_events(question.source, start=question.start, end=question.end):
        true = truths.get(event.id) or event.truth
        if true is None or OUTPUT not in event.data:
            continue
        records = payload(event.data[OUTPUT])
        said = payload(true)
        if len(said) != len(records):
            raise InvalidInputError(
                f"The event {event.id} has {len(records)} predictions and {len(said)} true values."
            )
        for record, value in zip(records, said, strict=True):
            rows.truth.append(_one(value))
            _add(rows, question, record)
    return rows


def _of_table(question: Question) -> _Rows:
    table = read_dataset(question.source, question.layout)

    def column(where: str) -> list[str]:
        name = table.columns[int(where)] if where.isdecimal() else where
        if name not in table.columns:
            raise InvalidInputError(
                f"There is no column {name!r}; there are {', '.join(table.columns[:20])}."
            )
        return [each or "" for each in table.get_column(name).to_list()]

    if not question.truth_at:
        raise InvalidInputError("A baseline needs a ground_truth_attribute.")
    return _Rows(
        truth=column(question.truth_at),
        predicted=column(question.prediction_at) if question.prediction_at else [],
        score=column(question.score_at) if question.score_at else [],
    )


def _add(rows: _Rows, question: Question, record: Any) -> None:
    if question.score_at:
        rows.score.append(_one(value_at(record, question.score_at)))
    if question.prediction_at or not question.score_at:
        rows.predicted.append(_one(value_at(record, question.prediction_at or "0")))


def _one(value: Any) -> str:
    found = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(found, list | dict):
        raise InvalidInputError(f"{str(found)[:100]} is not one value.")
    return str(found).strip()


def _arrays(question: Question, rows: _Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    if question.problem == MULTICLASS:
        if not rows.predicted:
            raise InvalidInputError("Several classes need an inference_attribute.")
        return (
            np.array([_label(each) for each in rows.truth]),
            np.array([_label(each) for each in rows.predicted]),
            None,
        )
    try:
        truth = np.array([_number(each) for each in rows.truth])
        score = np.array([float(each) for each in rows.score]) if rows.score else None
        if rows.predicted:
            predicted = np.array([_number(each) for each in rows.predicted])
        elif score is not None:
            predicted = (score >= question.cut).astype(float)
        else:
            raise InvalidInputError(
                "Neither an inference_attribute nor a probability_attribute says what was predicted."
            )
    except ValueError as error:
        raise InvalidInputError(f"A value is no number: {error}") from error
    if question.problem == BINARY:
        truth, predicted = truth.astype(int), (predicted >= question.cut).astype(int)
    return truth, predicted, score


_WORDS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}


def _number(text: str) -> float:
    return _WORDS.get(text.lower(), 0.0) if text.lower() in _WORDS else float(text)


def _label(text: str) -> str:
    """Return a class as a text: `1` and `1.0` are one."""
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else text
