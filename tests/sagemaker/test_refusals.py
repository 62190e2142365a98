"""What AWS answers to calls that name what is not there, what is there already, or what is in use."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore import xform_name
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from loopwright.sagemaker.model import operation
from loopwright.sagemaker.registry import all_served

from .conftest import ROLE, Server
from .test_front import answer, head_of

ARN = "arn:aws:sagemaker:us-east-1:123456789012"
TOKEN = "t" * 32
ONE = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
EXECUTION = f"{ARN}:pipeline/none/execution/abcdefghijkl"

# operation, arguments, code: of things that are not there
MISSING = [
    ("DescribeTrainingJob", {"TrainingJobName": "none"}, "ValidationException"),
    ("StopTrainingJob", {"TrainingJobName": "none"}, "ValidationException"),
    ("DescribeProcessingJob", {"ProcessingJobName": "none"}, "ValidationException"),
    ("StopProcessingJob", {"ProcessingJobName": "none"}, "ValidationException"),
    ("DescribeTransformJob", {"TransformJobName": "none"}, "ValidationException"),
    ("StopTransformJob", {"TransformJobName": "none"}, "ValidationException"),
    (
        "DescribeHyperParameterTuningJob",
        {"HyperParameterTuningJobName": "none"},
        "ResourceNotFound",
    ),
    (
        "StopHyperParameterTuningJob",
        {"HyperParameterTuningJobName": "none"},
        "ResourceNotFound",
    ),
    ("DescribeModel", {"ModelName": "none"}, "ValidationException"),
    ("DeleteModel", {"ModelName": "none"}, "ValidationException"),
    ("DescribeEndpointConfig", {"EndpointConfigName": "none"}, "ValidationException"),
    ("DeleteEndpointConfig", {"EndpointConfigName": "none"}, "ValidationException"),
    ("DescribeEndpoint", {"EndpointName": "none"}, "ValidationException"),
    ("DeleteEndpoint", {"EndpointName": "none"}, "ValidationException"),
    (
        "CreateEndpoint",
        {"EndpointName": "e", "EndpointConfigName": "none"},
        "ValidationException",
    ),
    (
        "UpdateEndpoint",
        {"EndpointName": "none", "EndpointConfigName": "none"},
        "ValidationException",
    ),
    (
        "CreateEndpointConfig",
        {
            "EndpointConfigName": "c",
            "ProductionVariants": [{"VariantName": "v", "ModelName": "none", **ONE}],
        },
        "ValidationException",
    ),
    ("DescribeModelPackageGroup", {"ModelPackageGroupName": "none"}, "ValidationException"),
    ("DeleteModelPackageGroup", {"ModelPackageGroupName": "none"}, "ValidationException"),
    ("ListModelPackages", {"ModelPackageGroupName": "none"}, "ValidationException"),
    (
        "DescribeModelPackage",
        {"ModelPackageName": f"{ARN}:model-package/none/1"},
        "ValidationException",
    ),
    (
        "UpdateModelPackage",
        {
            "ModelPackageArn": f"{ARN}:model-package/none/1",
            "ModelApprovalStatus": "Approved",
        },
        "ValidationException",
    ),
    ("DescribeExperiment", {"ExperimentName": "none"}, "ResourceNotFound"),
    ("DeleteExperiment", {"ExperimentName": "none"}, "ResourceNotFound"),
    ("DescribeTrial", {"TrialName": "none"}, "ResourceNotFound"),
    ("CreateTrial", {"TrialName": "t", "ExperimentName": "none"}, "ResourceNotFound"),
    ("DescribeTrialComponent", {"TrialComponentName": "none"}, "ResourceNotFound"),
    (
        "AssociateTrialComponent",
        {"TrialComponentName": "none", "TrialName": "none"},
        "ResourceNotFound",
    ),
    ("DescribePipeline", {"PipelineName": "none"}, "ResourceNotFound"),
    (
        "DeletePipeline",
        {"PipelineName": "none", "ClientRequestToken": TOKEN},
        "ResourceNotFound",
    ),
    (
        "StartPipelineExecution",
        {"PipelineName": "none", "ClientRequestToken": TOKEN},
        "ResourceNotFound",
    ),
    ("DescribePipelineExecution", {"PipelineExecutionArn": EXECUTION}, "ResourceNotFound"),
    ("ListPipelineExecutionSteps", {"PipelineExecutionArn": EXECUTION}, "ResourceNotFound"),
    (
        "StopPipelineExecution",
        {"PipelineExecutionArn": EXECUTION, "ClientRequestToken": TOKEN},
        "ResourceNotFound",
    ),
    ("DescribeMonitoringSchedule", {"MonitoringScheduleName": "none"}, "ResourceNotFound"),
    ("StartMonitoringSchedule", {"MonitoringScheduleName": "none"}, "ResourceNotFound"),
    ("StopMonitoringSchedule", {"MonitoringScheduleName": "none"}, "ResourceNotFound"),
    ("DeleteMonitoringSchedule", {"MonitoringScheduleName": "none"}, "ResourceNotFound"),
    (
        "DescribeDataQualityJobDefinition",
        {"JobDefinitionName": "none"},
        "ResourceNotFound",
    ),
    ("DeleteDataQualityJobDefinition", {"JobDefinitionName": "none"}, "ResourceNotFound"),
    (
        "DescribeModelQualityJobDefinition",
        {"JobDefinitionName": "none"},
        "ResourceNotFound",
    ),
]


def refused(client: Any, name: str, **given: Any) -> tuple[int, str, str]:
    """Return the status, the code and the message of a refusal."""
    with pytest.raises(ClientError) as caught:
        getattr(client, xform_name(name))(**given)
    told = caught.value.response
    status: int = told["ResponseMetadata"]["HTTPStatusCode"]
    return status, told["Error"]["Code"], told["Error"]["Message"]


@pytest.mark.parametrize(("name", "given", "code"), MISSING, ids=[each[0] for each in MISSING])
def test_what_is_not_there(sagemaker: Any, name: str, given: dict[str, Any], code: str) -> None:
    status, found, message = refused(sagemaker, name, **given)

    assert (status, found) == (400, code), message
    if code != "ValidationException":
        assert code in [each.name for each in operation("sagemaker", name).error_shapes]


CREATIONS: dict[str, Callable[[str], dict[str, Any]]] = {
    "CreateModel": lambda name: {
        "ModelName": name,
        "ExecutionRoleArn": ROLE,
        "PrimaryContainer": {"Image": "x.dkr.ecr.us-east-1.amazonaws.com/own:1"},
    },
    "CreateModelPackageGroup": lambda name: {"ModelPackageGroupName": name},
    "CreateExperiment": lambda name: {"ExperimentName": name},
    "CreateTrialComponent": lambda name: {"TrialComponentName": name},
    "CreatePipeline": lambda name: {
        "PipelineName": name,
        "PipelineDefinition": '{"Version": "2020-12-01", "Steps": [{"Name": "No", "Type": "Fail", '
        '"Arguments": {"ErrorMessage": "no"}}]}',
        "ClientRequestToken": f"{name}-{time.time_ns()}-{threading.get_ident()}".ljust(32, "-"),
        "RoleArn": ROLE,
    },
}


def test_a_bucket_that_holds_something_stays(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="something", Body=b"x")

    status, code, _ = refused(s3, "DeleteBucket", Bucket=bucket)

    assert (status, code) == (409, "BucketNotEmpty")


def test_a_group_with_a_version_and_an_experiment_with_a_trial_stay(sagemaker: Any) -> None:
    name = f"used-{time.time_ns()}"
    sagemaker.create_model_package_group(ModelPackageGroupName=name)
    containers = [{"Image": "x.dkr.ecr.us-east-1.amazonaws.com/own:1"}]
    sagemaker.create_model_package(
        ModelPackageGroupName=name,
        InferenceSpecification={
            "Containers": containers,
            "SupportedContentTypes": ["text/csv"],
            "SupportedResponseMIMETypes": ["text/csv"],
        },
    )
    sagemaker.create_experiment(ExperimentName=name)
    sagemaker.create_trial(TrialName=name, ExperimentName=name)
    sagemaker.create_trial_component(TrialComponentName=name)
    sagemaker.associate_trial_component(TrialName=name, TrialComponentName=name)

    group = refused(sagemaker, "DeleteModelPackageGroup", ModelPackageGroupName=name)
    experiment = refused(sagemaker, "DeleteExperiment", ExperimentName=name)
    trial = refused(sagemaker, "DeleteTrial", TrialName=name)
    component = refused(sagemaker, "DeleteTrialComponent", TrialComponentName=name)

    assert group[:2] in ((400, "ConflictException"), (400, "ValidationException"))
    for status, code, message in (experiment, trial, component):
        assert (status, code) == (400, "ValidationException"), message
    assert sagemaker.describe_experiment(ExperimentName=name)["ExperimentName"] == name


LISTS = sorted(
    each.name
    for each in all_served()
    if each.service == "sagemaker"
    and each.name.startswith("List")
    and {"MaxResults", "NextToken"} <= set(operation("sagemaker", each.name).input_shape.members)
    and not operation("sagemaker", each.name).input_shape.required_members
)


@pytest.mark.parametrize("name", LISTS)
def test_a_list_refuses_a_token_that_it_did_not_give(sagemaker: Any, name: str) -> None:
    status, code, message = refused(sagemaker, name, NextToken="bm90IG1pbmU=")

    assert (status, code) == (400, "ValidationException"), message


@pytest.fixture(scope="module")
def models(sagemaker: Any) -> Iterator[list[str]]:
    names = [f"paged-{number:02}" for number in range(12)]
    for each in names:
        sagemaker.create_model(**CREATIONS["CreateModel"](each))
    yield names
    for each in names:
        sagemaker.delete_model(ModelName=each)


@pytest.mark.parametrize("size", [1, 5, 12, 100])
@pytest.mark.parametrize("order", ["Ascending", "Descending"])
def test_pages_hold_everything_once_in_the_order_asked_for(
    sagemaker: Any, models: list[str], size: int, order: str
) -> None:
    pages = sagemaker.get_paginator("list_models").paginate(
        NameContains="Paged-", SortBy="Name", SortOrder=order, PaginationConfig={"PageSize": size}
    )

    found = [[each["ModelName"] for each in page["Models"]] for page in pages]

    assert all(len(page) <= size for page in found)
    wanted = models if order == "Ascending" else models[::-1]
    assert [each for page in found for each in page] == wanted


def test_filters_of_time(sagemaker: Any, models: list[str]) -> None:
    at = sagemaker.describe_model(ModelName=models[5])["CreationTime"]
    hour = timedelta(hours=1)

    def found(**given: Any) -> int:
        return len(sagemaker.list_models(NameContains="paged-", **given)["Models"])

    assert found(CreationTimeAfter=at - hour, CreationTimeBefore=at + hour) == 10
    assert found(CreationTimeAfter=at + hour) == 0
    assert found(CreationTimeBefore=at - hour) == 0


def test_an_unknown_operation_and_an_unknown_target(server: Server) -> None:
    for target in ("SageMaker.MakeCoffee", "Nobody.DescribeModel", "SageMaker."):
        request = AWSRequest("POST", server.url, data=b"{}", headers={"X-Amz-Target": target})
        key = Credentials(server.key.id, server.key.secret)
        SigV4Auth(key, "sagemaker", "us-east-1").add_auth(request)
        wire = HTTPConnection(urlsplit(server.url).netloc, timeout=20)
        wire.request("POST", "/", body=b"{}", headers=dict(request.headers))
        told = wire.getresponse()
        assert told.status == 400
        assert json.loads(told.read())["__type"] == "UnknownOperationException"
        wire.close()


@pytest.mark.parametrize("size", [(5 << 30) + 1, 20 << 30, 1 << 70])
def test_a_body_of_more_than_5_gib_is_refused_before_it_comes(
    server: Server, bucket: str, size: int
) -> None:
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as wire:
        wire.sendall(head_of(server, "PUT", f"/{bucket}/huge", **{"content-length": str(size)}))
        wire.sendall(b"x" * 1000)
        found = answer(wire)

    assert found.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 ")), found[:300]
    if size < 1 << 60:
        assert b"<Code>EntityTooLarge</Code>" in found
        assert b"<MaxSizeAllowed>5368709120</MaxSizeAllowed>" in found


def test_a_key_of_another_region_is_not_asked_for(sagemaker: Any, server: Server) -> None:
    sagemaker.create_model(**CREATIONS["CreateModel"]("here-only"))

    elsewhere = server.client("sagemaker", region_name="eu-west-1")

    status, code, message = refused(elsewhere, "DescribeModel", ModelName="here-only")
    assert (status, code) == (400, "ValidationException")
    assert "eu-west-1" in message
    sagemaker.delete_model(ModelName="here-only")
