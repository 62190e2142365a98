"""Versions of pipelines: each definition that a pipeline has had can be described and started."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .test_pipelines import create, definition, refused, run, step, steps_of

__all__ = ["create", "run"]


def _fails(message: str) -> str:
    return definition(step("F", "Fail", {"ErrorMessage": message}))


def test_an_older_version_is_described_listed_and_started(
    sagemaker: Any, create: Callable[..., str], run: Callable[..., Any]
) -> None:
    name = create(_fails("first"), PipelineVersionAliases=["old"])
    said = sagemaker.update_pipeline(PipelineName=name, PipelineDefinition=_fails("second"))
    arn = said["PipelineArn"]
    sagemaker.update_pipeline(PipelineName=name, PipelineDescription="no new version")

    latest, first = run(name), run(name, PipelineVersionId=1)
    aliased = run(name, PipelineVersionAlias="old")

    assert said["PipelineVersionId"] == 2

    def told(execution: dict[str, Any]) -> str:
        found: str = steps_of(sagemaker, execution)["F"]["Metadata"]["Fail"]["ErrorMessage"]
        return found

    assert [told(each) for each in (latest, first, aliased)] == ["second", "first", "first"]
    described = [latest, first, aliased]
    assert [each["PipelineVersionId"] for each in described] == [2, 1, 1]
    listed = sagemaker.list_pipeline_versions(PipelineName=arn, SortOrder="Ascending")
    versions = listed["PipelineVersionSummaries"]
    assert [each["PipelineVersionId"] for each in versions] == [1, 2]
    assert versions[0]["PipelineVersionAliases"] == ["old"]
    assert versions[0]["LastExecutionPipelineExecutionArn"] == aliased["PipelineExecutionArn"]
    page = sagemaker.list_pipeline_versions(PipelineName=name, MaxResults=1)
    assert [each["PipelineVersionId"] for each in page["PipelineVersionSummaries"]] == [2]
    assert page["NextToken"]
    about = sagemaker.describe_pipeline(PipelineName=name, PipelineVersionId=1)
    assert about["PipelineDefinition"] == _fails("first")
    by_alias = sagemaker.list_pipeline_executions(PipelineName=name, PipelineVersionAlias="old")
    assert [each["PipelineExecutionArn"] for each in by_alias["PipelineExecutionSummaries"]] == [
        aliased["PipelineExecutionArn"],
        first["PipelineExecutionArn"],
    ]


def test_a_version_gets_a_name_and_aliases_that_no_other_has(
    sagemaker: Any, create: Callable[..., str]
) -> None:
    name = create(_fails("first"), PipelineVersionAliases=["stable"])
    arn = sagemaker.update_pipeline(PipelineName=name, PipelineDefinition=_fails("second"))[
        "PipelineArn"
    ]

    taken = refused(
        sagemaker.update_pipeline_version,
        PipelineArn=arn,
        PipelineVersionId=2,
        PipelineVersionAliasOperations={"Add": ["stable"]},
    )
    operations: list[tuple[int, dict[str, list[str]]]] = [
        (1, {"Remove": ["stable"], "Add": ["older"]}),
        (2, {"Add": ["stable"]}),
    ]
    for version, change in operations:
        sagemaker.update_pipeline_version(
            PipelineArn=arn,
            PipelineVersionId=version,
            PipelineVersionDisplayName=f"v{version}",
            PipelineVersionDescription="told",
            PipelineVersionAliasOperations=change,
        )

    assert taken == (
        "ConflictException",
        "The alias 'stable' belongs to version 1 of the pipeline.",
    )
    about = sagemaker.describe_pipeline(PipelineName=name, PipelineVersionAlias="stable")
    assert about["PipelineVersionDisplayName"] == "v2"
    assert about["PipelineVersionDescription"] == "told"
    assert about["PipelineVersionAliases"] == ["stable"]
    assert refused(sagemaker.start_pipeline_execution, PipelineName=name, PipelineVersionId=9) == (
        "ResourceNotFound",
        f"Pipeline '{arn}' does not have a version '9'.",
    )
    assert refused(
        sagemaker.describe_pipeline,
        PipelineName=name,
        PipelineVersionId=1,
        PipelineVersionAlias="stable",
    ) == (
        "ValidationException",
        "Only one of PipelineVersionId and PipelineVersionAlias can be specified.",
    )
    sagemaker.delete_pipeline(PipelineName=name)
    assert refused(sagemaker.list_pipeline_versions, PipelineName=name)[0] == "ResourceNotFound"
