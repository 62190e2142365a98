"""Pages of every list and waiters of every kind, by botocore's own paginators and waiters."""

from __future__ import annotations

import time
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError, WaiterError

from loopwright.sagemaker.model import operation
from loopwright.sagemaker.registry import all_served

from .creations import ARN, CREATIONS, prepare

QUICK = {"Delay": 1, "MaxAttempts": 100}
NEEDS: dict[str, dict[str, str]] = {
    "ListMonitoringAlerts": {"MonitoringScheduleName": "listed-0"},
    "ListPipelineExecutions": {"PipelineName": "listed-0"},
    "ListPipelineVersions": {"PipelineName": "listed-0"},
    "ListTags": {"ResourceArn": f"{ARN}:model/listed-0"},
    "ListTrainingJobsForHyperParameterTuningJob": {"HyperParameterTuningJobName": "listed-0"},
}
# several of each are made without starting anything
CHEAP = (
    "CreateAction",
    "CreateContext",
    "CreateDataQualityJobDefinition",
    "CreateEndpointConfig",
    "CreateExperiment",
    "CreateModel",
    "CreateModelPackage",
    "CreateModelPackageGroup",
    "CreateModelQualityJobDefinition",
    "CreateMonitoringSchedule",
    "CreatePipeline",
    "CreateTrial",
    "CreateTrialComponent",
)
LISTS = sorted(
    each.name
    for each in all_served()
    if each.service == "sagemaker"
    and each.name.startswith("List")
    and "NextToken" in operation("sagemaker", each.name).input_shape.members
)


@pytest.fixture(scope="module", autouse=True)
def execution(sagemaker: Any, s3: Any) -> str:
    """Make three of each kind; return an execution."""
    prepare(sagemaker, s3)
    for name in CHEAP:
        for number in range(3):
            getattr(sagemaker, xform_name(name))(**CREATIONS[name](f"listed-{number}"))
    tuner = CREATIONS["CreateHyperParameterTuningJob"]("listed-0")
    sagemaker.create_hyper_parameter_tuning_job(**tuner)
    for each in "abc":
        told = sagemaker.start_pipeline_execution(
            PipelineName="listed-0", ClientRequestToken=each * 32
        )
    return str(told["PipelineExecutionArn"])


def given_for(name: str, execution: str) -> dict[str, str]:
    members = operation("sagemaker", name).input_shape.members
    if "PipelineExecutionArn" in members:
        return {"PipelineExecutionArn": execution}
    return NEEDS.get(name, {})


def rows_of(page: dict[str, Any]) -> list[Any]:
    lists = [value for value in page.values() if isinstance(value, list)]
    return lists[0] if lists else []


@pytest.mark.parametrize("name", LISTS)
def test_pages_of_one_hold_what_one_page_holds(sagemaker: Any, name: str, execution: str) -> None:
    given = given_for(name, execution)
    pages = sagemaker.get_paginator(xform_name(name))
    least = 50 if name == "ListTags" else 1

    whole = [
        row
        for page in pages.paginate(**given, PaginationConfig={"PageSize": 100})
        for row in rows_of(page)
    ][:40]
    single = []
    for page in pages.paginate(**given, PaginationConfig={"PageSize": least}):
        assert len(rows_of(page)) <= least
        single += rows_of(page)
        if len(single) >= 40:
            break

    assert [_about(row) for row in single[:40]] == [_about(row) for row in whole]


def _about(row: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((key, value) for key, value in row.items() if key.endswith(("Name", "Arn")))


@pytest.mark.parametrize("name", LISTS)
def test_a_token_that_is_none_is_refused(sagemaker: Any, name: str, execution: str) -> None:
    for text in ("none", "!!", "bm90IG1pbmU="):
        with pytest.raises(ClientError) as caught:
            getattr(sagemaker, xform_name(name))(**given_for(name, execution), NextToken=text)

        assert caught.value.response["Error"]["Code"] == "ValidationException"


SORTED = [
    (name, by)
    for name in LISTS
    if "SortBy" in operation("sagemaker", name).input_shape.members
    for by in operation("sagemaker", name).input_shape.members["SortBy"].enum
    # jobs without a value are left out of this one, and a job may get one in between
    if by != "FinalObjectiveMetricValue"
]


@pytest.mark.parametrize(("name", "by"), SORTED)
def test_an_order_and_its_reverse_hold_the_same(
    sagemaker: Any, name: str, by: str, execution: str
) -> None:
    call = getattr(sagemaker, xform_name(name))
    most = {"MaxResults": 100}

    up = rows_of(call(**given_for(name, execution), SortBy=by, SortOrder="Ascending", **most))
    down = rows_of(call(**given_for(name, execution), SortBy=by, SortOrder="Descending", **most))

    if len(up) < 100:
        assert sorted(map(_about, up)) == sorted(map(_about, down))
    if by == "Name" and up:
        key = next(each for each in up[0] if each.endswith("Name"))
        for rows, is_reverse in ((up, False), (down, True)):
            names = [row[key] for row in rows]
            assert names == sorted(names, reverse=is_reverse)
    if by == "CreationTime" and up and "CreationTime" in up[0]:
        times = [row["CreationTime"] for row in up]
        assert times == sorted(times)


@pytest.mark.parametrize("kind", ["Training", "Processing", "Transform"])
def test_the_waiter_of_a_job(sagemaker: Any, kind: str) -> None:
    name = f"waited-{time.time_ns()}"
    wanted = CREATIONS[f"Create{kind}Job"](name)
    getattr(sagemaker, xform_name(f"Create{kind}Job"))(**wanted)

    waiter = sagemaker.get_waiter(f"{kind.lower()}_job_completed_or_stopped")
    waiter.wait(**{f"{kind}JobName": name}, WaiterConfig=QUICK)
    with pytest.raises(WaiterError, match="Waiter encountered a terminal failure state"):
        waiter.wait(**{f"{kind}JobName": "none"}, WaiterConfig=QUICK)


def test_the_waiters_of_an_endpoint(sagemaker: Any) -> None:
    name = f"waited-{time.time_ns()}"
    sagemaker.create_endpoint(**CREATIONS["CreateEndpoint"](name))

    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig=QUICK)
    sagemaker.delete_endpoint(EndpointName=name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig=QUICK)


def test_search_by_operators_and_what_is_bad_in_it(sagemaker: Any) -> None:
    def found(*filters: dict[str, str], **more: Any) -> list[str]:
        told = sagemaker.search(
            Resource="Pipeline", SearchExpression={"Filters": list(filters)}, MaxResults=100, **more
        )
        return sorted(each["Pipeline"]["PipelineName"] for each in told["Results"])

    name = {"Name": "PipelineName", "Value": "listed-1"}
    listed = {"Name": "PipelineName", "Operator": "Contains", "Value": "listed-"}

    assert found({**name, "Operator": "Equals"}) == ["listed-1"]
    assert found(listed, {**name, "Operator": "NotEquals"}) == ["listed-0", "listed-2"]
    assert found({**name, "Operator": "In", "Value": "listed-0,listed-2"}) == [
        "listed-0",
        "listed-2",
    ]
    assert found(listed, {"Name": "NoSuchThing", "Operator": "Exists"}) == []
    for bad in (
        {"Name": "CreationTime", "Operator": "GreaterThan", "Value": "yesterday"},
        {"Name": "CreationTime", "Operator": "Around", "Value": "1"},
    ):
        with pytest.raises(ClientError) as caught:
            found(bad)
        assert caught.value.response["Error"]["Code"] == "ValidationException"
