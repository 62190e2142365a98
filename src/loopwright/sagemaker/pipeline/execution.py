"""Executions of pipelines: started, described, stopped, tried again."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from loopwright.core.errors import AlreadyExistsError
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.model_record import modified_at
from loopwright.sagemaker.pipeline.definition import Definition, parse, value_of_parameter
from loopwright.sagemaker.pipeline.pipeline_record import (
    PIPELINES,
    executions_of,
    in_time,
    pipeline_name,
)
from loopwright.sagemaker.pipeline.run import KIND, LIVE, changed, run_of
from loopwright.sagemaker.pipeline.selection import taken_over
from loopwright.sagemaker.pipeline.version_record import version_of
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.search import searchable
from loopwright.sagemaker.shelf import cut, page_of, plain
from loopwright.store import Record

_ARN = ":pipeline/"


def execution_key(caller: Caller, arn: str) -> str:
    """Return the key of the record of an execution."""
    name, _, execution = arn.partition(_ARN)[2].partition("/execution/")
    return f"{caller.account}/{caller.region}/{name}/{execution}"


def get_execution(desk: Desk, caller: Caller, arn: str) -> Record:
    """Return the record of an execution.

    Raises
    ------
    ApiError
        If there is none.
    """
    record = desk.workspace.metadata.find(KIND, execution_key(caller, arn))
    if record is None or record.body["arn"] != arn:
        raise ApiError("ResourceNotFound", f"Pipeline execution '{arn}' does not exist.")
    return record


@serves("sagemaker", "StartPipelineExecution")
def start_execution(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Begin an execution; the same client token begins it once."""
    record = PIPELINES.get(desk, caller, pipeline_name(given["PipelineName"]))
    version = version_of(desk, record, given)
    definition = parse(version.body["definition"])
    parameters = _parameters(definition, given.get("PipelineParameters", []))
    name = record.body["name"]
    own = _id(record, given["ClientRequestToken"])
    key = f"{caller.account}/{caller.region}/{name}/{own}"
    arn = f"{record.body['arn']}/execution/{own}"
    at = desk.now()
    parallel = given.get("ParallelismConfiguration") or record.body["request"].get(
        "ParallelismConfiguration", {}
    )
    body = {
        "id": own,
        "arn": arn,
        "pipeline": name,
        "pipeline_arn": record.body["arn"],
        "version": version.body["number"],
        "definition": version.body["definition"],
        "parameters": parameters,
        "given": plain(given.get("PipelineParameters", [])),
        "display": given.get(
            "PipelineExecutionDisplayName", f"execution-{int(at.timestamp() * 1000)}"
        ),
        "description": given.get("PipelineExecutionDescription", ""),
        "role": given.get("RoleArn", record.body["request"]["RoleArn"]),
        "parallel": parallel.get("MaxParallelExecutionSteps"),
        "status": "Executing",
        "failure": "",
        "experiment": None,
        "selection": None,
        "selected": None,
        "steps": {},
        "modified_at": at.isoformat(),
    }
    if "SelectiveExecutionConfig" in given:
        others = [each for each in executions_of(desk, caller, name) if each.key != key]
        body |= taken_over(definition, given["SelectiveExecutionConfig"], others)
    store = desk.workspace.metadata
    try:
        with store.transaction():
            store.create(KIND, key, body)
            store.put(LIVE, key, {})
    except AlreadyExistsError:
        pass
    return {"PipelineExecutionArn": arn}


def _id(pipeline: Record, token: str) -> str:
    """Return the id of an execution: of one token there is one."""
    seed = f"{pipeline.body['arn']}\n{pipeline.created_at.isoformat()}\n{token}"
    return base64.b32encode(hashlib.sha256(seed.encode()).digest()).decode().lower()[:12]


def _parameters(definition: Definition, given: list[dict[str, str]]) -> dict[str, Any]:
    names = [each["Name"] for each in given]
    if len(set(names)) < len(names):
        raise validation("Parameter names must be unique.")
    unknown = [name for name in names if name not in definition.parameters]
    if unknown:
        raise validation(
            f"Unknown parameters [{', '.join(unknown)}]: the pipeline has "
            f"[{', '.join(definition.parameters)}]."
        )
    wanted = {each["Name"]: each["Value"] for each in given}
    found = {}
    for name, about in definition.parameters.items():
        value = wanted.get(name, about.get("DefaultValue"))
        if value is None:
            raise validation(f"The parameter [{name}] has no default value and must be assigned.")
        found[name] = value_of_parameter(about, value)
    return found


@serves("sagemaker", "DescribePipelineExecution")
def describe_execution(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Tell how an execution is."""
    return _described(desk, get_execution(desk, caller, given["PipelineExecutionArn"]))


def _described(desk: Desk, record: Record) -> dict[str, Any]:
    body = record.body
    by = {"UserProfileName": desk.workspace.user}
    parallel = body["parallel"]
    return {
        "PipelineArn": body["pipeline_arn"],
        "PipelineExecutionArn": body["arn"],
        "PipelineExecutionDisplayName": body["display"],
        "PipelineExecutionStatus": body["status"],
        "PipelineExecutionDescription": body["description"] or None,
        "PipelineExperimentConfig": body["experiment"] or None,
        "FailureReason": body["failure"] or None,
        "CreationTime": record.created_at,
        "LastModifiedTime": modified_at(record),
        "CreatedBy": by,
        "LastModifiedBy": by,
        "ParallelismConfiguration": {"MaxParallelExecutionSteps": parallel} if parallel else None,
        "SelectiveExecutionConfig": body["selection"],
        "PipelineVersionId": body["version"],
        "RoleArn": body["role"],
    }


@serves("sagemaker", "ListPipelineExecutions")
def list_executions(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List the executions of a pipeline."""
    pipeline = PIPELINES.get(desk, caller, pipeline_name(given["PipelineName"]))
    wanted = {**in_time(given), "SortBy": ""}
    records = executions_of(desk, caller, pipeline.body["name"])
    if "PipelineVersionAlias" in given:
        number = version_of(desk, pipeline, given).body["number"]
        records = [each for each in records if each.body["version"] == number]
    page, token = page_of(
        records,
        wanted,
        summary=_summary,
        name="PipelineExecutionArn",
    )
    return {"PipelineExecutionSummaries": page, "NextToken": token}


def _summary(record: Record) -> dict[str, Any]:
    return {
        "PipelineExecutionArn": record.body["arn"],
        "StartTime": record.created_at,
        "CreationTime": record.created_at,
        "PipelineExecutionStatus": record.body["status"],
        "PipelineExecutionDescription": record.body["description"] or None,
        "PipelineExecutionDisplayName": record.body["display"],
        "PipelineExecutionFailureReason": record.body["failure"] or None,
    }


@serves("sagemaker", "UpdatePipelineExecution")
def update_execution(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Change the name or the description of an execution, or how many steps run at once."""
    run = run_of(desk, get_execution(desk, caller, given["PipelineExecutionArn"]))

    def change(body: dict[str, Any]) -> None:
        body["display"] = given.get("PipelineExecutionDisplayName", body["display"])
        body["description"] = given.get("PipelineExecutionDescription", body["description"])
        _bounded(body, given)

    changed(run, change)
    return {"PipelineExecutionArn": run.body["arn"]}


def _bounded(body: dict[str, Any], given: Mapping[str, Any]) -> None:
    if "ParallelismConfiguration" in given:
        body["parallel"] = given["ParallelismConfiguration"]["MaxParallelExecutionSteps"]


@serves("sagemaker", "StopPipelineExecution")
def stop_execution(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Have an execution end: the jobs of its steps are stopped."""
    run = run_of(desk, get_execution(desk, caller, given["PipelineExecutionArn"]))

    def change(body: dict[str, Any]) -> None:
        if body["status"] != "Executing":
            raise validation(
                f"Pipeline execution with ARN {body['arn']} is in '{body['status']}' status. Only "
                "pipelines with 'Executing' status can be stopped."
            )
        body["status"] = "Stopping"

    changed(run, change)
    return {"PipelineExecutionArn": run.body["arn"]}


@serves("sagemaker", "RetryPipelineExecution")
def retry_execution(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Go on with an execution that failed or was stopped, from the steps that did not succeed."""
    run = run_of(desk, get_execution(desk, caller, given["PipelineExecutionArn"]))

    def change(body: dict[str, Any]) -> None:
        if body["status"] == "Executing" and body.get("retried") == given["ClientRequestToken"]:
            return
        if body["status"] not in ("Failed", "Stopped"):
            raise ApiError(
                "ConflictException",
                f"Pipeline execution with ARN {body['arn']} is in status {body['status']}; only "
                "those that failed or were stopped can be retried.",
            )
        done = {k: v for k, v in body["steps"].items() if v["status"] == "Succeeded"}
        body |= {"steps": done, "status": "Executing", "failure": ""}
        body["retried"] = given["ClientRequestToken"]
        _bounded(body, given)

    with desk.workspace.metadata.transaction():
        changed(run, change)
        desk.workspace.metadata.put(LIVE, run.key, {})
    return {"PipelineExecutionArn": run.body["arn"]}


@serves("sagemaker", "ListPipelineParametersForExecution")
def list_parameters(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List the parameters of an execution with the values that were given."""
    record = get_execution(desk, caller, given["PipelineExecutionArn"])
    page, token = cut(record.body["given"], given)
    return {"PipelineParameters": page, "NextToken": token}


@serves("sagemaker", "DescribePipelineDefinitionForExecution")
def describe_definition(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return the definition that an execution began with."""
    record = get_execution(desk, caller, given["PipelineExecutionArn"])
    return {
        "PipelineDefinition": record.body["definition"],
        "CreationTime": record.created_at,
    }


@searchable("PipelineExecution", arn="PipelineExecutionArn")
def _executions(desk: Desk, caller: Caller) -> Iterator[dict[str, Any]]:
    for pipeline in PIPELINES.all(desk, caller):
        for record in executions_of(desk, caller, pipeline.body["name"]):
            parameters = plain(record.body["given"])
            yield {**_described(desk, record), "PipelineParameters": parameters}


def at(text: str | None) -> datetime | None:
    """Return a time as it was written, or None."""
    return datetime.fromisoformat(text) if text else None
