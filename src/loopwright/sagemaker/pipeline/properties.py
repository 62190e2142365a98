"""What the expressions of an execution stand for: its parameters, and what its steps have made."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from loopwright.sagemaker.calling import called
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.pipeline.check_step import properties_of
from loopwright.sagemaker.pipeline.definition import property_file
from loopwright.sagemaker.pipeline.expression import member, resolved
from loopwright.sagemaker.pipeline.function_step import typed_outputs
from loopwright.sagemaker.pipeline.run import Run
from loopwright.sagemaker.pipeline.step_kind import CHECKS, KINDS
from loopwright.sagemaker.s3.store import split_uri

_LARGEST_FILE = 16 << 20


def value_of(run: Run, value: Any, *, job: str = "") -> Any:
    """Return a value of the definition as it is in an execution.

    Parameters
    ----------
    job
        The name of the job of the step whose value it is.

    Raises
    ------
    ApiError
        If something it refers to is not there.
    """
    return resolved(
        value, lambda path: _looked_up(run, path, job), lambda source: _file(run, source)
    )


def _looked_up(run: Run, path: list[str | int], job: str) -> Any:
    kind, name, *rest = path
    shown = ".".join(str(part) for part in path)
    if kind == "Parameters":
        return run.body["parameters"][str(name)]
    if kind == "Execution":
        return _of_execution(run, str(name), job)
    return member(properties(run, str(name)), rest, shown=shown)


def _of_execution(run: Run, name: str, job: str) -> str:
    found = {
        "TrainingJobName": job,
        "ProcessingJobName": job,
        "PipelineExecutionId": run.body["id"],
        "PipelineExecutionArn": run.body["arn"],
        "PipelineName": run.body["pipeline"],
        "PipelineArn": run.body["pipeline_arn"],
        "StartDateTime": run.created_at,
        "CurrentDateTime": run.desk.now().isoformat(),
    }
    return str(found[name])


def properties(run: Run, name: str) -> Mapping[str, Any]:
    """Return what a step that has succeeded is described as.

    Raises
    ------
    ApiError
        If it has not run, or what it made is gone.
    """
    step, state = run.definition.steps[name], run.steps.get(name)
    if state is None or state["status"] != "Succeeded":
        raise validation(f"The step {name!r} has no properties: it has not succeeded.")
    if step.kind not in KINDS:
        return {"OutputParameters": typed_outputs(step, state), "Outcome": state.get("outcome")}
    about = described(run, step.kind, state)
    if step.kind in CHECKS:
        return properties_of(step, state["check"], about)
    return {**about, **_best_first(run, about)} if step.kind == "Tuning" else about


def _best_first(run: Run, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the training jobs of a tuning job, the best first, as a step's properties have them."""
    jobs = called(
        run.desk,
        run.caller,
        "ListTrainingJobsForHyperParameterTuningJob",
        {
            "HyperParameterTuningJobName": about["HyperParameterTuningJobName"],
            "StatusEquals": "Completed",
            "MaxResults": 100,
        },
    )["TrainingJobSummaries"]
    config = about.get("HyperParameterTuningJobConfig", {})
    objective = config.get("HyperParameterTuningJobObjective", {})

    def worth(job: Mapping[str, Any]) -> float:
        found = job.get("FinalHyperParameterTuningJobObjectiveMetric")
        if found is None:
            return -math.inf
        value = float(found["Value"])
        return -value if objective.get("Type") == "Minimize" else value

    return {"TrainingJobSummaries": sorted(jobs, key=worth, reverse=True)}


def described(run: Run, kind: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of what a step has made, as clients get it."""
    about = KINDS[kind]
    by = state["job"] if about.name else state["arn"]
    return called(run.desk, run.caller, about.describe, {about.described_by: by})


def _file(run: Run, source: Mapping[str, Any]) -> Any:
    if "S3Uri" in source:
        uri = str(source["S3Uri"])
    else:
        text = str((source.get("PropertyFile") or {}).get("Get", ""))
        step, about = property_file(run.definition, text)
        outputs = properties(run, step.name).get("ProcessingOutputConfig", {}).get("Outputs", [])
        place = member(
            outputs, [about["OutputName"], "S3Output", "S3Uri"], shown=about["OutputName"]
        )
        uri = f"{str(place).rstrip('/')}/{about['FilePath']}"
    bucket, key = split_uri(uri)
    try:
        return json.loads(run.desk.objects.read(bucket, key, limit=_LARGEST_FILE))
    except ApiError as error:
        raise validation(f"The property file {uri} cannot be read: {error.message}") from error
    except (ValueError, RecursionError) as error:
        raise validation(f"The property file {uri} is no JSON: {error}.") from error
