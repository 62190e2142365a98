"""Pipelines: their definitions, created, changed, listed and deleted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.model_record import modified_at
from loopwright.sagemaker.pipeline.caching import forget_all
from loopwright.sagemaker.pipeline.definition import parse
from loopwright.sagemaker.pipeline.run import KIND, LIVE, run_of
from loopwright.sagemaker.pipeline.version_record import (
    forget_versions,
    keep_version,
    version_of,
)
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.search import searchable
from loopwright.sagemaker.shelf import Shelf, page_of
from loopwright.sagemaker.tag import drop_tags, keep_tags
from loopwright.store import Record

PIPELINES = Shelf(
    kind="pipeline",
    missing="Pipeline '{arn}' does not exist.",
    missing_code="ResourceNotFound",
    taken="Pipeline names must be unique within an AWS account and region. Pipeline with name "
    "({name}) already exists.",
)
_ARN = ":pipeline/"
_LARGEST = 1 << 20
_KEPT = (
    "PipelineDisplayName",
    "PipelineDescription",
    "RoleArn",
    "ParallelismConfiguration",
)


def pipeline_name(text: str) -> str:
    """Return the name of a pipeline that is given by name or ARN."""
    return text.partition(_ARN)[2] or text


def executions_of(desk: Desk, caller: Caller, name: str) -> list[Record]:
    """Return the executions of a pipeline."""
    prefix = f"{caller.account}/{caller.region}/{name}/"
    found: list[Record] = []
    after = ""
    while page := desk.workspace.metadata.list_(KIND, prefix=prefix, after=after):
        found += page
        after = page[-1].key
    return found


def _definition(desk: Desk, given: Mapping[str, Any]) -> str | None:
    """Return the definition that a request brings or names, checked; None if it has none."""
    place = given.get("PipelineDefinitionS3Location")
    text = given.get("PipelineDefinition")
    if place and text:
        raise validation(
            "Only one of PipelineDefinition and PipelineDefinitionS3Location can be specified."
        )
    if place:
        data = desk.objects.read(place["Bucket"], place["ObjectKey"], limit=_LARGEST)
        text = data.decode(errors="replace")
    if text is not None:
        parse(text)
    return text


@serves(
    "sagemaker",
    "CreatePipeline",
    note="Steps of the types Training, Processing, Tuning, Transform, QualityCheck, ClarifyCheck, "
    "Lambda, Model, RegisterModel, EndpointConfig, Endpoint, Condition, Fail and Callback; others "
    "are refused.",
)
def create_pipeline(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Keep a pipeline whose definition can be carried out."""
    name, token = given["PipelineName"], given["ClientRequestToken"]
    known = PIPELINES.find(desk, caller, name)
    if known is not None and known.body["request"].get("ClientRequestToken") == token:
        return {"PipelineArn": known.body["arn"]}
    text = _definition(desk, given)
    if text is None:
        raise validation(
            "Either PipelineDefinition or PipelineDefinitionS3Location must be specified."
        )
    request = {each: given[each] for each in (*_KEPT, "ClientRequestToken") if each in given}
    with desk.workspace.metadata.transaction():
        record = PIPELINES.create(desk, caller, name, request, definition=text, version=1)
        keep_version(desk, record, given.get("PipelineVersionAliases", ()))
    keep_tags(desk, record.body["arn"], given.get("Tags", []))
    return {"PipelineArn": record.body["arn"]}


@serves("sagemaker", "UpdatePipeline", note="Executions that run go on as they began.")
def update_pipeline(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Change a pipeline."""
    text = _definition(desk, given)
    with desk.workspace.metadata.transaction():
        record = PIPELINES.get(desk, caller, pipeline_name(given["PipelineName"]))
        request = {**record.body["request"], **{k: given[k] for k in _KEPT if k in given}}
        changes: dict[str, Any] = {"request": request}
        keep_version(desk, record)
        if text is not None and text != record.body["definition"]:
            changes |= {"definition": text, "version": record.body["version"] + 1}
        record = PIPELINES.change(desk, record, **changes)
        keep_version(desk, record, given.get("PipelineVersionAliases", ()))
    return {"PipelineArn": record.body["arn"], "PipelineVersionId": record.body["version"]}


@serves("sagemaker", "DescribePipeline")
def describe_pipeline(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return a pipeline, as the version that is asked for has it."""
    record = PIPELINES.get(desk, caller, pipeline_name(given["PipelineName"]))
    version = version_of(desk, record, given)
    return {
        **_described(desk, caller, record),
        "PipelineDefinition": version.body["definition"],
        "PipelineVersionDisplayName": version.body["display"] or None,
        "PipelineVersionDescription": version.body["description"] or None,
        "PipelineVersionAliases": version.body["aliases"] or None,
    }


def _described(desk: Desk, caller: Caller, record: Record) -> dict[str, Any]:
    by = {"UserProfileName": desk.workspace.user}
    return {
        **_summary(desk, caller, record),
        "PipelineDefinition": record.body["definition"],
        "PipelineStatus": "Active",
        "LastRunTime": _last_run(desk, caller, record),
        "CreatedBy": by,
        "LastModifiedBy": by,
        "ParallelismConfiguration": record.body["request"].get("ParallelismConfiguration"),
    }


def _summary(desk: Desk, caller: Caller, record: Record) -> dict[str, Any]:
    request = record.body["request"]
    return {
        "PipelineName": record.body["name"],
        "PipelineArn": record.body["arn"],
        "PipelineDisplayName": request.get("PipelineDisplayName", record.body["name"]),
        "PipelineDescription": request.get("PipelineDescription"),
        "RoleArn": request["RoleArn"],
        "CreationTime": record.created_at,
        "LastModifiedTime": modified_at(record),
        "LastExecutionTime": _last_run(desk, caller, record),
    }


def _last_run(desk: Desk, caller: Caller, record: Record) -> Any:
    began = [each.created_at for each in executions_of(desk, caller, record.body["name"])]
    return max(began, default=None)


def in_time(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request of a listing with the names of its limits of time that most have."""
    found = dict(given)
    for side in ("After", "Before"):
        if (at := found.pop(f"Created{side}", None)) is not None:
            found[f"CreationTime{side}"] = at
    return found


@serves("sagemaker", "ListPipelines")
def list_pipelines(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List pipelines."""
    prefix = given.get("PipelineNamePrefix", "")
    page, token = page_of(
        [each for each in PIPELINES.all(desk, caller) if each.body["name"].startswith(prefix)],
        in_time(given),
        summary=lambda record: _summary(desk, caller, record),
        name="PipelineName",
    )
    return {"PipelineSummaries": page, "NextToken": token}


@serves("sagemaker", "DeletePipeline")
def delete_pipeline(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Forget a pipeline of which nothing runs, and its executions; what they made stays."""
    store = desk.workspace.metadata
    with store.transaction():
        record = PIPELINES.get(desk, caller, pipeline_name(given["PipelineName"]))
        executions = executions_of(desk, caller, record.body["name"])
        if any(store.find(LIVE, each.key) for each in executions):
            raise ApiError(
                "ConflictException",
                f"Pipeline '{record.body['arn']}' has executions that are running: stop them first.",
            )
        for number, each in enumerate(executions):
            if number == 0:
                forget_all(run_of(desk, each))
            store.delete(KIND, each.key)
        forget_versions(desk, record)
        PIPELINES.delete(desk, record)
    drop_tags(desk, record.body["arn"])
    return {"PipelineArn": record.body["arn"]}


@searchable("Pipeline", arn="PipelineArn")
def _pipelines(desk: Desk, caller: Caller) -> Iterator[dict[str, Any]]:
    for record in PIPELINES.all(desk, caller):
        yield _described(desk, caller, record)
