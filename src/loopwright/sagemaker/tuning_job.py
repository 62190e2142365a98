"""Hyperparameter tuning jobs: created, described, listed, stopped, deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from loopwright.core.errors import WrongStateError
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.model_record import modified_at
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.search import searchable
from loopwright.sagemaker.shelf import cut, page_of
from loopwright.sagemaker.tag import drop_tags, keep_tags
from loopwright.sagemaker.tuning_child import TUNERS, Child
from loopwright.sagemaker.tuning_order import checked_tuning, parents_of
from loopwright.sagemaker.tuning_run import children_of, delete_record
from loopwright.sagemaker.tuning_search import best, not_improving
from loopwright.store import Record

_ECHOED = (
    "HyperParameterTuningJobName",
    "HyperParameterTuningJobConfig",
    "TrainingJobDefinition",
    "TrainingJobDefinitions",
    "WarmStartConfig",
)


@serves(
    "sagemaker",
    "CreateHyperParameterTuningJob",
    note="Bayesian is Optuna's TPE. No Autotune, no ConvergenceDetected; of several instance "
    "configurations the first.",
)
def create_tuning_job(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Order a search over hyperparameters; its training jobs begin in a moment."""
    checked_tuning(desk, caller, given)
    name = given["HyperParameterTuningJobName"]
    record = TUNERS.create(desk, caller, name, given, ends=None, stopping=False)
    keep_tags(desk, record.body["arn"], given.get("Tags", []))
    return {"HyperParameterTuningJobArn": record.body["arn"]}


def status_of(record: Record) -> str:
    """Return the status of a tuning job."""
    ends = record.body.get("ends")
    if ends:
        return str(ends["status"])
    return "Stopping" if record.body.get("stopping") else "InProgress"


@serves("sagemaker", "DescribeHyperParameterTuningJob")
def describe_tuning_job(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Tell how a search is, and the best that it has found."""
    record = TUNERS.get(desk, caller, given["HyperParameterTuningJobName"])
    return described_tuning(desk, caller, record)


def described_tuning(desk: Desk, caller: Caller, record: Record) -> dict[str, Any]:
    """Return the description of a tuning job."""
    request, ends = record.body["request"], record.body.get("ends") or {}
    children = children_of(desk, record)
    until = datetime.fromisoformat(ends["at"]) if ends else desk.now()
    seconds = sum(_seconds(each, until) for each in children)
    found = _best(children)
    values = [each.value for each in children]
    maximizes = bool(children) and children[0].objective[1] == "Maximize"
    return {
        **{key: request[key] for key in _ECHOED if key in request},
        **_counted(children),
        "HyperParameterTuningJobArn": record.body["arn"],
        "HyperParameterTuningJobStatus": status_of(record),
        "CreationTime": record.created_at,
        "HyperParameterTuningEndTime": ends.get("at"),
        "LastModifiedTime": modified_at(record),
        "BestTrainingJob": found.summary() if found else None,
        "OverallBestTrainingJob": _overall_best(desk, caller, record, children),
        "FailureReason": ends.get("reason") or None,
        "TuningJobCompletionDetails": {
            "NumberOfTrainingJobsObjectiveNotImproving": not_improving(values, maximizes=maximizes)
        },
        "ConsumedResources": {"RuntimeInSeconds": int(seconds)},
    }


def _seconds(child: Child, until: datetime) -> float:
    job = child.job
    if job is None or job.started_at is None:
        return 0.0
    return ((job.ended_at or until) - job.started_at).total_seconds()


def _counted(children: Sequence[Child]) -> dict[str, Any]:
    of_jobs = Counter("Failed" if each.status == "Failed" else each.status for each in children)
    of_values = Counter(each.objective_status for each in children)
    running = len(children) - of_jobs["Completed"] - of_jobs["Failed"] - of_jobs["Stopped"]
    return {
        "TrainingJobStatusCounters": {
            "Completed": of_jobs["Completed"],
            "InProgress": running,
            "RetryableError": 0,
            "NonRetryableError": of_jobs["Failed"],
            "Stopped": of_jobs["Stopped"],
        },
        "ObjectiveStatusCounters": {
            name: of_values[name] for name in ("Succeeded", "Pending", "Failed")
        },
    }


def _best(children: Sequence[Child]) -> Child | None:
    """Return the best training job; of several definitions those whose objective is the first's."""
    comparable = [each for each in children if each.objective == children[0].objective]
    if not comparable:
        return None
    maximizes = comparable[0].objective[1] == "Maximize"
    place = best([each.value for each in comparable], maximizes=maximizes)
    return None if place is None else comparable[place]


def _overall_best(
    desk: Desk, caller: Caller, record: Record, children: Sequence[Child]
) -> dict[str, Any] | None:
    """Return the best of this search and those it learnt from, where all wanted the same."""
    request = record.body["request"]
    about = request.get("WarmStartConfig")
    if not about or about["WarmStartType"] != "IdenticalDataAndAlgorithm":
        return None
    every = list(children)
    for parent in parents_of(desk, caller, request):
        every += children_of(desk, parent)
    one = _best(every)
    if one is None:
        return None
    name = one.record.body["tuning"]["arn"].rpartition("/")[2]
    return {**one.summary(), "TuningJobName": name}


@searchable("HyperParameterTuningJob", arn="HyperParameterTuningJobArn")
def found_tuning_jobs(desk: Desk, caller: Caller) -> Iterator[dict[str, Any]]:
    """Yield the descriptions of all tuning jobs."""
    for record in TUNERS.all(desk, caller):
        yield described_tuning(desk, caller, record)


@serves("sagemaker", "ListHyperParameterTuningJobs")
def list_tuning_jobs(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List tuning jobs."""
    page, token = page_of(
        TUNERS.all(desk, caller),
        given,
        summary=_summary,
        name="HyperParameterTuningJobName",
        status="HyperParameterTuningJobStatus",
    )
    # counted for those alone that are shown
    for each in page:
        record = TUNERS.get(desk, caller, each["HyperParameterTuningJobName"])
        each |= _counted(children_of(desk, record))
    return {"HyperParameterTuningJobSummaries": page, "NextToken": token}


def _summary(record: Record) -> dict[str, Any]:
    config = record.body["request"]["HyperParameterTuningJobConfig"]
    return {
        "HyperParameterTuningJobName": record.body["name"],
        "HyperParameterTuningJobArn": record.body["arn"],
        "HyperParameterTuningJobStatus": status_of(record),
        "Strategy": config["Strategy"],
        "CreationTime": record.created_at,
        "HyperParameterTuningEndTime": (record.body.get("ends") or {}).get("at"),
        "LastModifiedTime": modified_at(record),
        "ResourceLimits": config["ResourceLimits"],
    }


@serves("sagemaker", "ListTrainingJobsForHyperParameterTuningJob")
def list_children(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List the training jobs of a tuning job."""
    record = TUNERS.get(desk, caller, given["HyperParameterTuningJobName"])
    wanted = given.get("StatusEquals")
    rows = [each.summary() for each in children_of(desk, record) if wanted in (None, each.status)]
    by = given.get("SortBy", "Name")
    final = "FinalHyperParameterTuningJobObjectiveMetric"
    if by == "FinalObjectiveMetricValue":
        # jobs that told no value are not listed then, as AWS has it
        rows = [each for each in rows if each[final]]
        rows.sort(key=lambda each: float(each[final]["Value"]))
    else:
        key = {"Status": "TrainingJobStatus", "CreationTime": "CreationTime"}
        rows.sort(key=lambda each: (each[key.get(by, "TrainingJobName")], each["TrainingJobName"]))
    if given.get("SortOrder", "Ascending") == "Descending":
        rows.reverse()
    page, token = cut(rows, given)
    return {"TrainingJobSummaries": page, "NextToken": token}


@serves("sagemaker", "StopHyperParameterTuningJob")
def stop_tuning_job(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """End a search: its training jobs are told to end, their models are kept."""
    name = given["HyperParameterTuningJobName"]
    for _ in range(10):
        record = TUNERS.get(desk, caller, name)
        status = status_of(record)
        if status == "Stopping":
            return {}
        if status != "InProgress":
            raise validation(
                "The request was rejected because the hyperparameter tuning job is in status "
                f"{status}."
            )
        try:
            TUNERS.change(desk, record, stopping=True)
        except WrongStateError:
            continue  # it has changed in this moment
        return {}
    raise ApiError("ResourceInUse", f"The tuning job {name} is being changed; try again.")


@serves("sagemaker", "DeleteHyperParameterTuningJob")
def delete_tuning_job(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Forget a tuning job; its training jobs and their models stay."""
    record = TUNERS.find(desk, caller, given["HyperParameterTuningJobName"])
    if record is None:
        return {}
    if not record.body.get("ends"):
        raise ApiError("ResourceInUse", "The hyperparameter tuning job has not ended.")
    delete_record(desk, record)
    drop_tags(desk, record.body["arn"])
    return {}
