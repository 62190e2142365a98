"""The training jobs of a tuning job: ordinary ones, which know what they were started with and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loopwright.compute import Job
from loopwright.core.digest import digest_value
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.shelf import Shelf
from loopwright.sagemaker.training_job import JOBS, job_of, metrics_of, status_of
from loopwright.sagemaker.training_result import settled
from loopwright.sagemaker.tuning_search import Tried
from loopwright.store import Record

TUNERS = Shelf(
    kind="hyper-parameter-tuning-job",
    missing="Amazon SageMaker can't find a tuning job called {name}. Type another name.",
    taken="A hyperparameter tuning job with the name, {name}, already exists. Choose a different "
    "name.",
    missing_code="ResourceNotFound",
    taken_code="ResourceInUse",
)
_ENDS = ("Completed", "Failed", "Stopped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One training job of a tuning job, as it is now.

    Parameters
    ----------
    objective
        The name of its objective metric, and `Maximize` or `Minimize`.
    curve
        Every value of the objective that it has told, in order.
    """

    record: Record
    job: Job | None
    status: str
    objective: tuple[str, str]
    curve: tuple[float, ...]

    @property
    def number(self) -> int:
        """The how-manieth it is, from 0."""
        return int(self.record.body["tuning"]["number"])

    @property
    def definition(self) -> int:
        """The place of its definition."""
        return int(self.record.body["tuning"]["definition"])

    @property
    def texts(self) -> Mapping[str, str]:
        """What was searched, as it was given."""
        found: Mapping[str, str] = self.record.body["tuning"]["tuned"]
        return found

    @property
    def has_ended(self) -> bool:
        """Whether it can change no more."""
        return self.status in _ENDS

    @property
    def value(self) -> float | None:
        """The objective, once it has ended: the last value that it told."""
        is_known = self.has_ended and self.status != "Failed" and self.curve
        return self.curve[-1] if is_known else None

    @property
    def objective_status(self) -> str:
        """Whether the objective is known."""
        if not self.has_ended:
            return "Pending"
        return "Failed" if self.value is None else "Succeeded"

    def tried(self) -> Tried:
        """Return it as the search sees it."""
        return Tried(texts=self.texts, value=self.value, has_ended=self.has_ended, curve=self.curve)

    def summary(self) -> dict[str, Any]:
        """Return it as a list of the training jobs of a tuning job has it."""
        body, (metric, kind) = self.record.body, self.objective
        ends = body.get("settled") or {}
        final = {"MetricName": metric, "Type": kind, "Value": self.value}
        return {
            "TrainingJobDefinitionName": body["tuning"].get("definition_name"),
            "TrainingJobName": body["name"],
            "TrainingJobArn": body["arn"],
            "CreationTime": self.record.created_at,
            "TrainingStartTime": self.job.started_at if self.job else None,
            "TrainingEndTime": self.job.ended_at if self.job else None,
            "TrainingJobStatus": self.status,
            "TunedHyperParameters": dict(self.texts),
            "FailureReason": ends.get("failure") or None,
            "FinalHyperParameterTuningJobObjectiveMetric": None if self.value is None else final,
            "ObjectiveStatus": self.objective_status,
        }


def definitions_of(request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the definitions of the training jobs of a request: one, or several."""
    several = request.get("TrainingJobDefinitions")
    return list(several) if several else [request["TrainingJobDefinition"]]


def objective_of(request: Mapping[str, Any], definition: Mapping[str, Any]) -> tuple[str, str]:
    """Return the objective metric of a definition, and `Maximize` or `Minimize`."""
    config = request["HyperParameterTuningJobConfig"]
    about = definition.get("TuningObjective") or config.get("HyperParameterTuningJobObjective")
    return (about["MetricName"], about["Type"]) if about else ("", "Minimize")


def child_name(tuner: Record, number: int) -> str:
    """Return the name of a child, the same whenever it is asked for."""
    made = digest_value([tuner.body["arn"], tuner.created_at.isoformat(), number])
    return f"{tuner.body['name']}-{number + 1:03d}-{made.rpartition(':')[2][:8]}"


class Children:
    """Finds the children of tuning jobs; what has ended is looked at once."""

    def __init__(self) -> None:
        self._ended: dict[str, Child] = {}

    def of(self, desk: Desk, caller: Caller, tuner: Record) -> list[Child]:
        """Return the children of a tuning job in the order of their beginning."""
        prefix = f"{tuner.body['name']}-"
        found = [
            self._seen(desk, tuner, record)
            for record in JOBS.all(desk, caller, begins=prefix)
            if record.body.get("tuning", {}).get("arn") == tuner.body["arn"]
            and record.created_at >= tuner.created_at
        ]
        return sorted(found, key=lambda each: each.number)

    def forget(self, children: Sequence[Child]) -> None:
        """Forget the children of a tuning job that has ended."""
        for each in children:
            self._ended.pop(each.record.body["arn"], None)

    def _seen(self, desk: Desk, tuner: Record, record: Record) -> Child:
        known = self._ended.get(record.body["arn"])
        if known is not None and known.record.created_at == record.created_at:
            return known
        child = child_of(desk, tuner, record)
        if child.has_ended:
            self._ended[record.body["arn"]] = child
        return child


def child_of(desk: Desk, tuner: Record, record: Record) -> Child:
    """Return a child as it is now."""
    job = job_of(desk, record)
    record = settled(desk, JOBS, record, job)
    status, _ = status_of(job, record)
    request = tuner.body["request"]
    definition = definitions_of(request)[int(record.body["tuning"]["definition"])]
    objective = objective_of(request, definition)
    curve = tuple(
        float(each["value"])
        for each in metrics_of(job)
        if each["name"] == objective[0] and each["value"] is not None
    )
    return Child(record=record, job=job, status=status, objective=objective, curve=curve)
