"""Every operation that creates something: once, by one of many clients, with tags that go with it."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from loopwright.sagemaker.model import operation
from loopwright.sagemaker.registry import all_served

from .conftest import Server
from .creations import ARN, CREATIONS, prepare

# what an answer to a name that is taken says: the code, a part of the text, and where it was seen
IS_SEEN = {
    "CreateTrainingJob": (
        "ResourceInUse",
        "Training job names must be unique within an AWS account and region, and a training job "
        "with this name already exists (arn:",
        "SuperCowPowers/workbench#384, amazon-sagemaker-examples#3108",
    ),
    "CreateProcessingJob": (
        "ResourceInUse",
        "Job name must be unique within an AWS account and region, and a job with this name already "
        "exists (arn:",
        "a public log of CreateProcessingJob",
    ),
    "CreateHyperParameterTuningJob": (
        "ResourceInUse",
        "already exists. Choose a different name.",
        "amazon-sagemaker-examples#2440, sagemaker-python-sdk#2708",
    ),
    "CreateModel": (
        "ValidationException",
        'Cannot create already existing model "arn:',
        "astronomer-providers#1055",
    ),
    "CreateEndpointConfig": (
        "ValidationException",
        'Cannot create already existing endpoint configuration "arn:',
        "tests of a public deployment tool",
    ),
    "CreateEndpoint": (
        "ValidationException",
        'Cannot create already existing endpoint "arn:',
        "a public log of CreateEndpoint",
    ),
    "CreateModelPackageGroup": (
        "ValidationException",
        "Model Package Group already exists",
        "apache/airflow, the hook of SageMaker",
    ),
    "CreatePipeline": (
        "ValidationException",
        "names must be unique within an AWS account",
        "sagemaker-python-sdk#6256",
    ),
}
# the codes are AWS's by its model or by what the SDKs look for; the words are not checked
NOT_SEEN = {
    "CreateAction": "ValidationException",
    "CreateContext": "ValidationException",
    "CreateDataQualityJobDefinition": "ResourceInUse",
    "CreateExperiment": "ValidationException",
    "CreateModelPackage": "ValidationException",
    "CreateModelQualityJobDefinition": "ResourceInUse",
    "CreateMonitoringSchedule": "ResourceInUse",
    "CreateTransformJob": "ResourceInUse",
    "CreateTrial": "ValidationException",
    "CreateTrialComponent": "ValidationException",
}
# what is deleted by which member of its request
DELETED = {
    "CreateDataQualityJobDefinition": "JobDefinitionName",
    "CreateEndpointConfig": "EndpointConfigName",
    "CreateExperiment": "ExperimentName",
    "CreateModel": "ModelName",
    "CreateModelPackageGroup": "ModelPackageGroupName",
    "CreateModelQualityJobDefinition": "JobDefinitionName",
    "CreateMonitoringSchedule": "MonitoringScheduleName",
    "CreatePipeline": "PipelineName",
    "CreateTrial": "TrialName",
    "CreateTrialComponent": "TrialComponentName",
}


@pytest.fixture(scope="module", autouse=True)
def _made(sagemaker: Any, s3: Any) -> None:
    prepare(sagemaker, s3)


def created(client: Any, name: str, wanted: str, **more: Any) -> str:
    told = getattr(client, xform_name(name))(**CREATIONS[name](wanted), **more)
    return next(str(value) for key, value in told.items() if key.endswith("Arn"))


def fresh(name: str) -> str:
    return f"{name.removeprefix('Create')[:12].lower()}-{time.time_ns() % 10**12}"


def test_all_that_create_something_are_tried() -> None:
    served = {each.name for each in all_served() if each.name.startswith("Create")}
    of_s3 = {each.name for each in all_served() if each.service != "sagemaker"}
    # a name of its own, or a program that is not there
    left = {
        "CreateArtifact",
        "CreateMlflowTrackingServer",
        "CreatePresignedMlflowTrackingServerUrl",
    }
    # the same module as the two that are tried
    left |= {"CreateModelBiasJobDefinition", "CreateModelExplainabilityJobDefinition"}

    assert served - of_s3 - left == set(CREATIONS) == set(IS_SEEN) | set(NOT_SEEN)


@pytest.mark.parametrize("name", CREATIONS)
def test_of_many_clients_that_take_one_name_at_once_one_gets_it(server: Server, name: str) -> None:
    taken = fresh(name)
    clients = [server.client("sagemaker") for _ in range(6)]
    start = threading.Barrier(len(clients))
    told: list[dict[str, Any] | None] = []

    def create(client: Any) -> None:
        start.wait(20)
        try:
            created(client, name, taken)
        except ClientError as error:
            told.append(error.response)
        else:
            told.append(None)

    threads = [threading.Thread(target=create, args=(each,)) for each in clients]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)

    code, text, _ = IS_SEEN.get(name, (NOT_SEEN.get(name), "already exist", ""))
    assert told.count(None) == 1, told
    for refusal in told:
        if refusal is not None:
            assert refusal["ResponseMetadata"]["HTTPStatusCode"] == 400
            assert refusal["Error"]["Code"] == code, refusal["Error"]
            assert text in refusal["Error"]["Message"]


TAGGABLE = [
    name for name in CREATIONS if "Tags" in operation("sagemaker", name).input_shape.members
]


@pytest.mark.parametrize("name", TAGGABLE)
@pytest.mark.parametrize(
    "tags",
    [
        [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}],
        [{"Key": "aws:own", "Value": "1"}],
        [{"Key": f"k{number}", "Value": ""} for number in range(51)],
    ],
    ids=["twice", "reserved", "51"],
)
def test_a_request_with_tags_that_cannot_be_kept_makes_nothing(
    sagemaker: Any, name: str, tags: list[dict[str, str]]
) -> None:
    wanted = fresh(name)

    with pytest.raises(ClientError) as caught:
        created(sagemaker, name, wanted, Tags=tags)
    arn = created(sagemaker, name, wanted)

    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == []


@pytest.mark.parametrize("name", DELETED)
def test_tags_go_with_what_they_are_on(sagemaker: Any, name: str) -> None:
    wanted = fresh(name)
    arn = created(sagemaker, name, wanted, Tags=[{"Key": "a", "Value": "1"}])
    before = sagemaker.list_tags(ResourceArn=arn)["Tags"]

    delete = xform_name(name.replace("Create", "Delete"))
    token = {"ClientRequestToken": "d" * 40} if name == "CreatePipeline" else {}
    getattr(sagemaker, delete)(**{DELETED[name]: wanted}, **token)
    again = created(sagemaker, name, wanted)

    assert before == [{"Key": "a", "Value": "1"}]
    assert again == arn
    assert sagemaker.list_tags(ResourceArn=again)["Tags"] == []


def test_a_pipeline_is_created_and_started_once_for_one_token(sagemaker: Any) -> None:
    wanted = CREATIONS["CreatePipeline"](fresh("CreatePipeline"))
    name = wanted["PipelineName"]
    first, again = sagemaker.create_pipeline(**wanted), sagemaker.create_pipeline(**wanted)
    runs = {
        sagemaker.start_pipeline_execution(PipelineName=name, ClientRequestToken=each * 32)[
            "PipelineExecutionArn"
        ]
        for each in "aab"
    }

    assert first["PipelineArn"] == again["PipelineArn"] == f"{ARN}:pipeline/{name}"
    assert len(runs) == 2
