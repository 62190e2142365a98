"""Versions of a pipeline: listed, named, given aliases."""

from __future__ import annotations

from typing import Any

from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.pipeline.pipeline_record import (
    PIPELINES,
    executions_of,
    in_time,
    pipeline_name,
)
from loopwright.sagemaker.pipeline.version_record import version_of, versions_of, with_aliases
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.shelf import page_of
from loopwright.store import Record


@serves("sagemaker", "ListPipelineVersions", note="A new definition is a new version.")
def list_versions(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List the versions of a pipeline."""
    pipeline = PIPELINES.get(desk, caller, pipeline_name(given["PipelineName"]))
    latest: dict[int, Record] = {}
    for each in executions_of(desk, caller, pipeline.body["name"]):
        known = latest.get(each.body["version"])
        if known is None or known.created_at < each.created_at:
            latest[each.body["version"]] = each

    def summary(version: Record) -> dict[str, Any]:
        number = version.body["number"]
        last = latest.get(number)
        return {
            "PipelineArn": pipeline.body["arn"],
            "PipelineVersionId": number,
            "CreationTime": version.created_at,
            "PipelineVersionDisplayName": version.body["display"] or None,
            "PipelineVersionDescription": version.body["description"] or None,
            "LastExecutionPipelineExecutionArn": last.body["arn"] if last else None,
            "PipelineVersionAliases": version.body["aliases"] or None,
        }

    page, token = page_of(
        versions_of(desk, pipeline), in_time(given), summary=summary, name="PipelineArn"
    )
    return {"PipelineVersionSummaries": page, "NextToken": token}


@serves("sagemaker", "UpdatePipelineVersion")
def update_version(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Change the name, the description or the aliases of a version."""
    with desk.workspace.metadata.transaction():
        pipeline = PIPELINES.get(desk, caller, pipeline_name(given["PipelineArn"]))
        version = version_of(desk, pipeline, given)
        operations = given.get("PipelineVersionAliasOperations") or {}
        changes = {
            name: given[member]
            for name, member in (
                ("display", "PipelineVersionDisplayName"),
                ("description", "PipelineVersionDescription"),
            )
            if member in given
        }
        with_aliases(
            desk,
            pipeline,
            version,
            add=operations.get("Add", ()),
            remove=operations.get("Remove", ()),
            **changes,
        )
    return {
        "PipelineArn": pipeline.body["arn"],
        "PipelineVersionId": version.body["number"],
    }
