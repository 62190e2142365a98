"""Refusals in the words that AWS was seen to use; each row says where."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from .conftest import REGISTRY, ROLE, Server, channel, until
from .creations import ARN, CREATIONS, WAITING, prepare, token

OPERATOR = "aws/amazon-sagemaker-operator-for-k8s, its table of codes and texts"
TERRAFORM = "hashicorp/terraform-provider-aws, internal/service/sagemaker"
# operation, arguments, code, how the whole message reads, where AWS was seen to say so
SEEN = [
    (
        "DescribeTrainingJob",
        {"TrainingJobName": "none"},
        "ValidationException",
        r"Requested resource not found\.",
        "boto/boto3#2808, aws-sdk#165, amazon-sagemaker-examples#2360",
    ),
    (
        "StopTrainingJob",
        {"TrainingJobName": "none"},
        "ValidationException",
        r"Requested resource not found.*",
        OPERATOR,
    ),
    (
        "DescribeProcessingJob",
        {"ProcessingJobName": "none"},
        "ValidationException",
        r"Could not find requested job.*",
        OPERATOR,
    ),
    (
        "StopTransformJob",
        {"TransformJobName": "none"},
        "ValidationException",
        r"Could not find job to update with name.*",
        "DIAGNijmegen/rse-grand-challenge, its backend of SageMaker",
    ),
    (
        "DescribeHyperParameterTuningJob",
        {"HyperParameterTuningJobName": "none"},
        "ResourceNotFound",
        r"Amazon SageMaker can't find a tuning job called none\. Type another name\.",
        f"amazon-sagemaker-examples#1540; {OPERATOR}",
    ),
    (
        "StopHyperParameterTuningJob",
        {"HyperParameterTuningJobName": "none"},
        "ResourceNotFound",
        r"Amazon SageMaker can't find a tuning job.*",
        OPERATOR,
    ),
    (
        "DescribeModel",
        {"ModelName": "none"},
        "ValidationException",
        rf'Could not find model "{ARN}:model/none"\.',
        OPERATOR,
    ),
    (
        "DeleteModel",
        {"ModelName": "none"},
        "ValidationException",
        r"Could not find model .*",
        f"boto/boto3#2886; {OPERATOR}",
    ),
    (
        "CreateTransformJob",
        {
            **CREATIONS["CreateTransformJob"]("none"),
            "ModelName": "none",
        },
        "ValidationException",
        rf'Could not find model "{ARN}:model/none"\.',
        "tests of a public deployment tool",
    ),
    (
        "DescribeEndpointConfig",
        {"EndpointConfigName": "none"},
        "ValidationException",
        rf'Could not find endpoint configuration "{ARN}:endpoint-config/none"\.',
        "amazon-sagemaker-examples#2339, #2524",
    ),
    (
        "DeleteEndpointConfig",
        {"EndpointConfigName": "none"},
        "ValidationException",
        r"Could not find endpoint configuration .*",
        OPERATOR,
    ),
    (
        "DescribeEndpoint",
        {"EndpointName": "none"},
        "ValidationException",
        r"Could not find endpoint .*",
        f"{OPERATOR}; {TERRAFORM}/find.go",
    ),
    (
        "DeleteEndpoint",
        {"EndpointName": "none"},
        "ValidationException",
        rf'Could not find endpoint "{ARN}:endpoint/none"\.',
        "amazon-sagemaker-examples#2402",
    ),
    (
        "UpdateEndpoint",
        {"EndpointName": "made", "EndpointConfigName": "none"},
        "ValidationException",
        r"Could not find endpoint configuration .*|Cannot update in-progress endpoint .*",
        OPERATOR,
    ),
    (
        "DescribeModelPackageGroup",
        {"ModelPackageGroupName": "none"},
        "ValidationException",
        r".*does not exist.*",
        f"{TERRAFORM}/model_package_group.go",
    ),
    (
        "DeleteModelPackageGroup",
        {"ModelPackageGroupName": "none"},
        "ValidationException",
        r".*does not exist.*",
        f"{TERRAFORM}/model_package_group.go",
    ),
    (
        "GetModelPackageGroupPolicy",
        {"ModelPackageGroupName": "made"},
        "ValidationException",
        r"Cannot find resource policy.*",
        f"{TERRAFORM}/find.go",
    ),
    (
        "GetModelPackageGroupPolicy",
        {"ModelPackageGroupName": "none"},
        "ValidationException",
        r"Cannot find Model Package Group.*",
        f"{TERRAFORM}/find.go",
    ),
    (
        "DescribeModelPackage",
        {"ModelPackageName": "none"},
        "ValidationException",
        rf"ModelPackage {ARN}:model-package/none does not exist\.",
        "a public log of DescribeModelPackage",
    ),
    (
        "CreateModelPackage",
        {},
        "ValidationException",
        r"Missing ARN\.",
        "getmoto/moto#7165",
    ),
    (
        "CreateModelPackage",
        {"ModelPackageName": "a", "ModelPackageGroupName": "made"},
        "ValidationException",
        r"Both ModelPackageName and ModelPackageGroupName are provided in the input\. Cannot "
        r"determine which one to use\.",
        "getmoto/moto#7165",
    ),
    (
        "DescribePipeline",
        {"PipelineName": "none"},
        "ResourceNotFound",
        r".+",
        f"{TERRAFORM}/pipeline.go",
    ),
    (
        "DescribeMonitoringSchedule",
        {"MonitoringScheduleName": "none"},
        "ResourceNotFound",
        rf"Monitoring Schedule {ARN}:monitoring-schedule/none not found",
        f"sagemaker-python-sdk#2708; {TERRAFORM}/monitoring_schedule.go",
    ),
    (
        "DeleteMonitoringSchedule",
        {"MonitoringScheduleName": "none"},
        "ResourceNotFound",
        r".+",
        f"{TERRAFORM}/monitoring_schedule.go",
    ),
    (
        "DescribeMlflowTrackingServer",
        {"TrackingServerName": "none"},
        "ResourceNotFound",
        r".+",
        f"{TERRAFORM}/mlflow_tracking_server.go",
    ),
    (
        "CreateTrainingJob",
        {
            **CREATIONS["CreateTrainingJob"]("none"),
            "InputDataConfig": [channel("train", "s3://creations/nothing")],
        },
        "ValidationException",
        r'No S3 objects found under S3 URL "s3://creations/nothing" given in input data source\. '
        r"Please ensure that the bucket exists in the selected region \(us-east-1\), that objects "
        r'exist under that S3 prefix, and that the role .*has "s3:ListBucket" permissions on bucket '
        r'"creations"\.',
        "amazon-sagemaker-examples#2267, #2489",
    ),
    (
        "CreateTrainingJob",
        CREATIONS["CreateTrainingJob"]("a_name"),
        "ValidationException",
        r"1 validation error detected: Value 'a_name' at 'trainingJobName' failed to satisfy "
        r"constraint: Member must satisfy regular expression pattern: \^?\[a-zA-Z0-9\].*",
        "Kenza-AI/sagify#57, zenml-io/zenml#1500",
    ),
    (
        "CreateTrainingJob",
        CREATIONS["CreateTrainingJob"]("a" * 64),
        "ValidationException",
        r"1 validation error detected: Value 'a+' at 'trainingJobName' failed to satisfy "
        r"constraint: Member must have length less than or equal to 63",
        "zenml-io/zenml#1517",
    ),
    (
        "DescribeModelPackage",
        {"ModelPackageName": "<a name>"},
        "ValidationException",
        r"1 validation error detected: Value '<a name>' at 'modelPackageName' failed to satisfy "
        r"constraint: Member must satisfy regular expression pattern: .*",
        "amazon-sagemaker-examples#2289",
    ),
]
# rows of the same form of which only the code is known, from the operation's own list of errors
NOT_SEEN = [
    ("DescribeExperiment", {"ExperimentName": "none"}, "ResourceNotFound"),
    ("DescribeTrial", {"TrialName": "none"}, "ResourceNotFound"),
    ("DescribeTrialComponent", {"TrialComponentName": "none"}, "ResourceNotFound"),
    ("DescribeAction", {"ActionName": "none"}, "ResourceNotFound"),
    ("DescribeContext", {"ContextName": "none"}, "ResourceNotFound"),
    ("DescribeArtifact", {"ArtifactArn": f"{ARN}:artifact/{'a' * 32}"}, "ResourceNotFound"),
    ("DescribeDataQualityJobDefinition", {"JobDefinitionName": "none"}, "ResourceNotFound"),
    ("DescribeModelQualityJobDefinition", {"JobDefinitionName": "none"}, "ResourceNotFound"),
    # AWS's model lists the code, but other jobs answer with ValidationException
    ("DescribeTransformJob", {"TransformJobName": "none"}, "ValidationException"),
    ("StopProcessingJob", {"ProcessingJobName": "none"}, "ValidationException"),
]


@pytest.fixture(scope="module", autouse=True)
def _made(sagemaker: Any, s3: Any) -> None:
    prepare(sagemaker, s3)


def refused(client: Any, name: str, **given: Any) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as caught:
        getattr(client, xform_name(name))(**given)
    told = caught.value.response
    status: int = told["ResponseMetadata"]["HTTPStatusCode"]
    return status, told["Error"]["Code"], told["Error"]["Message"]


@pytest.mark.parametrize(
    ("name", "given", "code", "message", "where"), SEEN, ids=[each[0] for each in SEEN]
)
def test_a_refusal_reads_as_aws_was_seen_to_write_it(
    sagemaker: Any, name: str, given: dict[str, Any], code: str, message: str, where: str
) -> None:
    status, found, text = refused(sagemaker, name, **given)

    assert (status, found) == (400, code), text
    assert re.fullmatch(message, text), (text, where)


@pytest.mark.parametrize(("name", "given", "code"), NOT_SEEN, ids=[each[0] for each in NOT_SEEN])
def test_a_refusal_has_a_code_that_the_operation_knows(
    sagemaker: Any, name: str, given: dict[str, Any], code: str
) -> None:
    status, found, text = refused(sagemaker, name, **given)

    assert (status, found) == (400, code), text


def test_a_job_that_has_ended_cannot_be_stopped(sagemaker: Any) -> None:
    # amazon-sagemaker-... "is in status": rse-grand-challenge, sagemaker-python-sdk, awslabs
    ends: dict[str, Callable[[str], Any]] = {
        "Training": lambda name: sagemaker.describe_training_job(TrainingJobName=name),
        "Processing": lambda name: sagemaker.describe_processing_job(ProcessingJobName=name),
        "Transform": lambda name: sagemaker.describe_transform_job(TransformJobName=name),
    }
    names = {kind: f"{kind.lower()}-{time.time_ns() % 10**10}" for kind in ends}
    for kind, name in names.items():
        operation = f"Create{kind}Job"
        getattr(sagemaker, xform_name(operation))(**CREATIONS[operation](name))

    for kind, name in names.items():
        until(
            lambda kind=kind, name=name: ends[kind](name)[f"{kind}JobStatus"],
            lambda seen: seen in ("Completed", "Failed", "Stopped"),
            limit_s=120,
        )
        status, code, message = refused(sagemaker, f"Stop{kind}Job", **{f"{kind}JobName": name})
        assert (status, code) == (400, "ValidationException")
        assert message.startswith(
            f"The request was rejected because the {kind.lower()} job is in status "
        )


def test_a_pipeline_is_stopped_once(sagemaker: Any) -> None:
    # apache/airflow: ValidationException, by these words
    name = f"asks-{time.time_ns()}"
    sagemaker.create_pipeline(
        PipelineName=name, PipelineDefinition=WAITING, ClientRequestToken=token(name), RoleArn=ROLE
    )
    arn = sagemaker.start_pipeline_execution(PipelineName=name)["PipelineExecutionArn"]

    sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn)
    status, code, message = refused(sagemaker, "StopPipelineExecution", PipelineExecutionArn=arn)

    assert (status, code) == (400, "ValidationException")
    assert "Only pipelines with 'Executing' status can be stopped" in message


def test_a_group_with_versions_stays(sagemaker: Any) -> None:
    # public logs of terraform; the code is the one of the operation's model
    name = f"full-{time.time_ns()}"
    sagemaker.create_model_package_group(ModelPackageGroupName=name)
    version = {**CREATIONS["CreateModelPackage"](name), "ModelPackageGroupName": name}
    version.pop("ModelPackageName")
    sagemaker.create_model_package(**version)

    status, code, message = refused(
        sagemaker, "DeleteModelPackageGroup", ModelPackageGroupName=name
    )

    assert (status, code) == (400, "ConflictException")
    assert "cannot be deleted because it still contains Model Packages" in message


def test_a_component_of_a_trial_stays(sagemaker: Any) -> None:
    # sagemaker-python-sdk#1515
    name = f"linked-{time.time_ns()}"
    sagemaker.create_trial(TrialName=name, ExperimentName="made")
    arn = sagemaker.create_trial_component(TrialComponentName=name)["TrialComponentArn"]
    sagemaker.associate_trial_component(TrialName=name, TrialComponentName=name)

    told = refused(sagemaker, "DeleteTrialComponent", TrialComponentName=name)

    assert told == (
        400,
        "ValidationException",
        f"TrialComponent '{arn}' is linked to 1 or more trials and cannot be deleted.",
    )


def test_an_endpoint_that_is_being_made_is_left_alone(sagemaker: Any) -> None:
    # the operator for Kubernetes and public logs
    name = f"early-{time.time_ns()}"
    arn = sagemaker.create_endpoint(**CREATIONS["CreateEndpoint"](name))["EndpointArn"]

    told = [
        refused(sagemaker, "DeleteEndpoint", EndpointName=name),
        refused(sagemaker, "UpdateEndpoint", EndpointName=name, EndpointConfigName="made"),
    ]
    sagemaker.get_waiter("endpoint_in_service").wait(
        EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 100}
    )
    sagemaker.delete_endpoint(EndpointName=name)

    for each in told:
        assert each == (
            400,
            "ValidationException",
            f'Cannot update in-progress endpoint "{arn}".',
        )


def test_an_endpoint_that_is_not_there_is_not_asked(server: Server) -> None:
    # amazon-sagemaker-examples#559
    runtime = server.client("sagemaker-runtime")

    told = refused(runtime, "InvokeEndpoint", EndpointName="none", Body=b"1")

    assert told == (400, "ValidationError", "Endpoint none of account 123456789012 not found.")


def test_a_machine_that_is_not_there_is_a_limit_of_the_account(sagemaker: Any) -> None:
    # public logs of CreateTransformJob and CreateTrainingJob
    wanted = CREATIONS["CreateTrainingJob"]("huge")
    wanted["ResourceConfig"] = {
        "InstanceType": "ml.p4d.24xlarge",
        "InstanceCount": 1,
        "VolumeSizeInGB": 1,
    }

    status, code, message = refused(sagemaker, "CreateTrainingJob", **wanted)

    assert (status, code) == (400, "ResourceLimitExceeded")
    assert re.match(
        r"The account-level service limit 'ml\.p4d\.24xlarge for training job usage' is \d+ "
        r"Instances, with current utilization of \d+ Instances and a request delta of 1 Instances\. "
        r"Please use AWS Service Quotas to request an increase for this quota\.",
        message,
    )


def test_data_of_a_model_that_is_not_there(sagemaker: Any) -> None:
    # public logs of CreateModel, amazon-sagemaker-examples#4476
    told = refused(
        sagemaker,
        "CreateModel",
        ModelName="no-data",
        ExecutionRoleArn=ROLE,
        PrimaryContainer={
            "Image": f"{REGISTRY}/x:1",
            "ModelDataUrl": "s3://creations/nothing/model.tar.gz",
        },
    )

    assert told == (
        400,
        "ValidationException",
        "Could not find model data at s3://creations/nothing/model.tar.gz.",
    )
