"""The trial components that jobs are: nothing is kept of them, the jobs tell it all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from loopwright.sagemaker.calling import called
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.shelf import Shelf
from loopwright.sagemaker.training_job import JOBS, job_of, metrics_of
from loopwright.sagemaker.trial_metric import summaries
from loopwright.store import Record

_LONGEST_TEXT = 2500


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """A kind of job: how its components are named, and the words of its descriptions."""

    suffix: str
    word: str
    records: Shelf
    source: str


def _shelf(kind: str) -> Shelf:
    # only read here; the family of the jobs writes it
    return Shelf(kind=kind, missing="{name}", taken="{name}")


_KINDS = (
    _Kind(
        suffix="-aws-training-job",
        word="Training",
        records=_shelf("training-job"),
        source="SageMakerTrainingJob",
    ),
    _Kind(
        suffix="-aws-processing-job",
        word="Processing",
        records=_shelf("processing-job"),
        source="SageMakerProcessingJob",
    ),
    _Kind(
        suffix="-aws-transform-job",
        word="Transform",
        records=_shelf("transform-job"),
        source="SageMakerTransformJob",
    ),
)


def _found(desk: Desk, caller: Caller, name: str) -> tuple[_Kind, Record] | None:
    for kind in _KINDS:
        if name.endswith(kind.suffix):
            record = kind.records.find(desk, caller, name.removesuffix(kind.suffix))
            if record is not None:
                return kind, record
    return None


def find_job_component(desk: Desk, caller: Caller, name: str) -> dict[str, Any] | None:
    """Return the description of the component that a job is, or None."""
    found = _found(desk, caller, name)
    return _described(desk, caller, *found) if found else None


def job_points(desk: Desk, caller: Caller, name: str) -> list[dict[str, Any]] | None:
    """Return the metrics of the job behind a component, or None if there is none."""
    found = _found(desk, caller, name)
    return _points(desk, caller, *found) if found else None


def trial_of_job(desk: Desk, caller: Caller, name: str) -> str:
    """Return the trial that a job was created for; empty for none."""
    found = _found(desk, caller, name)
    return _trial(found[1]) if found else ""


def _trial(record: Record) -> str:
    return str(record.body["request"].get("ExperimentConfig", {}).get("TrialName", ""))


def all_job_components(
    desk: Desk, caller: Caller, *, trial: str = "", names_only: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield the components that jobs are.

    Parameters
    ----------
    trial
        Only those that were created for it.
    names_only
        Whether only `TrialComponentName` is needed, which is quicker.
    """
    for kind in _KINDS:
        for record in kind.records.all(desk, caller):
            if trial and _trial(record) != trial:
                continue
            if names_only:
                yield {"TrialComponentName": f"{record.body['name']}{kind.suffix}"}
            else:
                yield _described(desk, caller, kind, record)


def _points(desk: Desk, caller: Caller, kind: _Kind, record: Record) -> list[dict[str, Any]]:
    if kind.word != "Training":
        return []
    job = JOBS.find(desk, caller, record.body["name"])
    return metrics_of(job_of(desk, job)) if job else []


def _described(desk: Desk, caller: Caller, kind: _Kind, record: Record) -> dict[str, Any]:
    name, request = record.body["name"], record.body["request"]
    word = f"{kind.word}Job"
    try:
        about = called(desk, caller, f"Describe{word}", {f"{word}Name": name})
    except ApiError:
        about = {}
    arn = record.body["arn"]
    component = f"{name}{kind.suffix}"
    shown = request.get("ExperimentConfig", {}).get("TrialComponentDisplayName", component)
    status = about.get(f"{word}Status", "InProgress")
    by = {"UserProfileName": desk.workspace.user}
    return {
        "TrialComponentName": component,
        "TrialComponentArn": caller.arn("experiment-trial-component", component),
        "DisplayName": shown,
        "Source": {"SourceArn": arn, "SourceType": kind.source},
        "Status": {
            "PrimaryStatus": status,
            "Message": about.get("FailureReason") or f"Status: {status}",
        },
        "StartTime": _time(about.get(f"{kind.word}StartTime")),
        "EndTime": _time(about.get(f"{kind.word}EndTime")),
        "CreationTime": record.created_at,
        "CreatedBy": by,
        "LastModifiedTime": _time(about.get("LastModifiedTime")) or record.created_at,
        "LastModifiedBy": by,
        "Parameters": _parameters(request),
        "InputArtifacts": _inputs(request) or None,
        "OutputArtifacts": _outputs(request, about) or None,
        "Metrics": summaries(_points(desk, caller, kind, record), source=arn) or None,
    }


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _parameters(request: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: _parameter(each) for name, each in request.get("HyperParameters", {}).items()}
    resources = request.get("ResourceConfig") or request.get("ProcessingResources", {}).get(
        "ClusterConfig", {}
    )
    for name in ("InstanceCount", "InstanceType", "VolumeSizeInGB"):
        if name in resources:
            found[f"SageMaker.{name}"] = _parameter(resources[name])
    return found


def _parameter(value: Any) -> dict[str, Any]:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        return {"NumberValue": number}
    return {"StringValue": str(value)[:_LONGEST_TEXT]}


def _inputs(request: Mapping[str, Any]) -> dict[str, Any]:
    about = request.get("AlgorithmSpecification") or request.get("AppSpecification") or {}
    found = {}
    if image := about.get("TrainingImage") or about.get("ImageUri"):
        found["SageMaker.ImageUri"] = {"Value": image}
    for each in request.get("InputDataConfig", ()):
        source = each["DataSource"].get("S3DataSource")
        if source:
            found[each["ChannelName"]] = _artifact(source["S3Uri"], each.get("ContentType"))
    for each in request.get("ProcessingInputs", ()):
        if "S3Input" in each:
            found[each["InputName"]] = _artifact(each["S3Input"]["S3Uri"])
    return found


def _outputs(request: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    if artifact := about.get("ModelArtifacts", {}).get("S3ModelArtifacts"):
        found["SageMaker.ModelArtifact"] = _artifact(artifact)
    for each in request.get("ProcessingOutputConfig", {}).get("Outputs", ()):
        if "S3Output" in each:
            found[each["OutputName"]] = _artifact(each["S3Output"]["S3Uri"])
    if place := request.get("TransformOutput", {}).get("S3OutputPath"):
        found["SageMaker.TransformOutput"] = _artifact(place)
    return found


def _artifact(uri: str, kind: str | None = None) -> dict[str, str]:
    return {"Value": uri, "MediaType": kind} if kind else {"Value": uri}
