"""Steps that compare data or a model with a baseline: `QualityCheck` and `ClarifyCheck`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from loopwright.sagemaker.calling import called
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.monitoring.execution import input_of
from loopwright.sagemaker.pipeline.definition import Step
from loopwright.sagemaker.pipeline.run import Run
from loopwright.sagemaker.s3.store import split_uri

_FOLDER = PurePosixPath("/opt/ml/processing/baseline")
_CONFIG = "analysis_config"
_LARGEST_CONFIG = 4 << 20
_REPORT = "constraint_violations.json"
# how a check's job says that it found some, as Model Monitor's container does
_FOUND = "CompletedWithViolations"
_MEMBERS = {"constraints": "Constraints", "statistics": "Statistics"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckType:
    """One type of check.

    Parameters
    ----------
    files
        What its job makes: the name in S3 of the constraints, and of the statistics if it has any.
    registered
        Where `DriftCheckBaselines` of a model package hold them.
    """

    files: Mapping[str, str]
    registered: Mapping[str, tuple[str, str]]


def _quality(member: str) -> CheckType:
    return CheckType(
        files={"constraints": "constraints.json", "statistics": "statistics.json"},
        registered={name: (member, _MEMBERS[name]) for name in _MEMBERS},
    )


def _clarify(member: str, constraints: str) -> CheckType:
    return CheckType(
        files={"constraints": "analysis.json"}, registered={"constraints": (member, constraints)}
    )


_TYPES: Mapping[str, Mapping[str, CheckType]] = {
    "QualityCheck": {
        "DATA_QUALITY": _quality("ModelDataQuality"),
        "MODEL_QUALITY": _quality("ModelQuality"),
    },
    "ClarifyCheck": {
        "DATA_BIAS": _clarify("Bias", "PreTrainingConstraints"),
        "MODEL_BIAS": _clarify("Bias", "PostTrainingConstraints"),
        "MODEL_EXPLAINABILITY": _clarify("Explainability", "Constraints"),
    },
}


def check_of(run: Run, step: Step, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a step is to do, as it is kept with its state.

    Parameters
    ----------
    about
        The members of the step beside its arguments, with the values they have in this execution.

    Raises
    ------
    ApiError
        If there has to be an earlier baseline, and there is none.
    """
    kind = _TYPES[step.kind][str(about["CheckType"])]
    skip, register = _is_true(about.get("SkipCheck")), _is_true(about.get("RegisterNewBaseline"))
    group = str(about.get("ModelPackageGroupName") or "")
    supplied = {
        name: str(about[f"SuppliedBaseline{member}"])
        for name, member in _MEMBERS.items()
        if name in kind.files and about.get(f"SuppliedBaseline{member}")
    }
    previous = supplied or (_registered(run, kind, group) if group else {})
    if "constraints" not in previous and not (skip and register):
        source = f"the model package group {group!r} has" if group else "the step has"
        raise validation(
            f"No previous baseline is available for the check type {about['CheckType']}: {source} "
            "none. Give it, or set skip_check and register_new_baseline for the first run."
        )
    return {
        "type": str(about["CheckType"]),
        "group": group,
        "skip": skip,
        "register": register,
        "is_strict": _is_true(about.get("FailOnViolation", True)),
        "previous": previous,
        "model": str(about.get("ModelName") or ""),
    }


def _is_true(value: Any) -> bool:
    return value is True or str(value).lower() == "true"


def _registered(run: Run, kind: CheckType, group: str) -> dict[str, str]:
    """Return the baselines of the version of a group that was approved last."""
    asked = {
        "ModelPackageGroupName": group,
        "ModelApprovalStatus": "Approved",
        "SortBy": "CreationTime",
        "SortOrder": "Descending",
        "MaxResults": 1,
    }
    try:
        listed = called(run.desk, run.caller, "ListModelPackages", asked)["ModelPackageSummaryList"]
    except ApiError:
        # the first run of a pipeline that makes the group at its end
        return {}
    if not listed:
        return {}
    arn = {"ModelPackageName": listed[0]["ModelPackageArn"]}
    package = called(run.desk, run.caller, "DescribeModelPackage", arn)
    known = package.get("DriftCheckBaselines", {})
    places = {
        name: known.get(first, {}).get(second, {}).get("S3Uri")
        for name, (first, second) in kind.registered.items()
    }
    return {name: uri for name, uri in places.items() if uri}


def with_baseline(arguments: Mapping[str, Any], check: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a processing job that compares with the earlier baseline too."""
    found = dict(arguments)
    if check["skip"]:
        return found
    inputs, environment = (
        list(found.get("ProcessingInputs", ())),
        dict(found.get("Environment", {})),
    )
    for name, uri in check["previous"].items():
        split_uri(uri)
        folder = _FOLDER / name
        inputs.append(input_of(f"baseline_{name}", uri, folder))
        environment[f"baseline_{name}"] = str(folder / PurePosixPath(uri).name)
    return {**found, "ProcessingInputs": inputs, "Environment": environment}


def with_model(
    run: Run, arguments: Mapping[str, Any], check: Mapping[str, Any], job: str
) -> dict[str, Any]:
    """Return the arguments of a check of Clarify whose configuration names the model.

    The SDKs leave the model out of the configuration and name it in the step, since a pipeline may
    make it. The completed configuration lies beside the one that was given.

    Parameters
    ----------
    job
        The name of the job of the step.
    """
    found = dict(arguments)
    if not check["model"]:
        return found
    inputs = [dict(each) for each in found.get("ProcessingInputs", ())]
    for each in inputs:
        if each.get("InputName") == _CONFIG:
            uri = str(each["S3Input"]["S3Uri"])
            each["S3Input"] = {**each["S3Input"], "S3Uri": _completed(run, uri, check, job)}
    return {**found, "ProcessingInputs": inputs}


def _completed(run: Run, uri: str, check: Mapping[str, Any], job: str) -> str:
    """Return where the configuration of an analysis lies that names the model as well."""
    bucket, key = split_uri(uri)
    try:
        config = json.loads(run.desk.objects.read(bucket, key, limit=_LARGEST_CONFIG))
        predictor = {**config.get("predictor", {}), "model_name": check["model"]}
    except (AttributeError, TypeError, ValueError) as error:
        raise validation(f"The analysis configuration {uri} is no JSON object.") from error
    data = json.dumps({**config, "predictor": predictor}).encode()
    folder, _, name = key.rpartition("/")
    target = "/".join(part for part in (folder, job, name) if part)
    run.desk.objects.put(bucket, target, iter([data]))
    return f"s3://{bucket}/{target}"


def found_violations(check: Mapping[str, Any], job: Mapping[str, Any]) -> bool:
    """Return whether a job that has completed found the baseline violated."""
    return not check["skip"] and str(job.get("ExitMessage") or "").startswith(_FOUND)


def why_failed(step: Step, job: Mapping[str, Any]) -> str:
    """Return why a step failed whose check found the baseline violated."""
    said = str(job.get("ExitMessage") or "").partition(": ")[2]
    report = f"{_place(job)}/{_REPORT}"
    return f"ClientError: {step.kind} failed. {said} Violation report: {report}"


def properties_of(step: Step, check: Mapping[str, Any], job: Mapping[str, Any]) -> dict[str, str]:
    """Return the baselines that a step made and compared with, as later steps read them.

    Parameters
    ----------
    job
        The description of the processing job.
    """
    kind, place = _TYPES[step.kind][check["type"]], _place(job)
    made = {name: f"{place}/{file}" for name, file in kind.files.items()}
    used = made if check["register"] else check["previous"]
    return {
        **{f"CalculatedBaseline{_MEMBERS[name]}": uri for name, uri in made.items()},
        **{f"BaselineUsedForDriftCheck{_MEMBERS[name]}": uri for name, uri in used.items()},
    }


def _place(job: Mapping[str, Any]) -> str:
    return str(job["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"]).rstrip("/")


def metadata_of(
    step: Step, state: Mapping[str, Any], job: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return what a listing of steps tells of one.

    Parameters
    ----------
    job
        The description of its processing job; None where that is gone or has not begun.
    """
    check = state.get("check")
    if not check:
        return {}
    told: dict[str, Any] = {
        "CheckType": check["type"],
        "SkipCheck": check["skip"],
        "RegisterNewBaseline": check["register"],
        "ModelPackageGroupName": check["group"] or None,
        "CheckJobArn": state.get("arn") or None,
    }
    if job is not None and state["status"] in ("Succeeded", "Failed"):
        told |= properties_of(step, check, job)
        if state.get("violated"):
            told["ViolationReport"] = f"{_place(job)}/{_REPORT}"
    return {step.kind: told}
