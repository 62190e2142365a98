"""The model registry through boto3: groups, versions, approval, and a version that is served."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import ROLE, Server, archive, until

SERVING = """
def model_fn(d):
    return 2

def predict_fn(x, m):
    return x * m
"""


def refused(call: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def specification(uri: str, **container: Any) -> dict[str, Any]:
    return {
        "Containers": [{"Image": "any:1", "ModelDataUrl": uri, **container}],
        "SupportedContentTypes": ["application/json"],
        "SupportedResponseMIMETypes": ["application/json"],
    }


@pytest.fixture
def group(sagemaker: Any) -> str:
    name = f"g-{time.time_ns()}"
    sagemaker.create_model_package_group(
        ModelPackageGroupName=name, ModelPackageGroupDescription="churn"
    )
    return name


def test_a_version_is_registered_approved_deployed_and_answers(
    server: Server, sagemaker: Any, s3: Any, bucket: str, group: str
) -> None:
    s3.put_object(Bucket=bucket, Key="reg/m.tar.gz", Body=archive({"code/inference.py": SERVING}))
    uri = f"s3://{bucket}/reg/m.tar.gz"
    metrics = {"ModelQuality": {"Statistics": {"ContentType": "json", "S3Uri": f"{uri}.json"}}}

    arn = sagemaker.create_model_package(
        ModelPackageGroupName=group,
        InferenceSpecification=specification(uri),
        ModelMetrics=metrics,
        CustomerMetadataProperties={"a": "1", "b": "2"},
    )["ModelPackageArn"]
    sagemaker.update_model_package(
        ModelPackageArn=arn,
        ModelApprovalStatus="Approved",
        ApprovalDescription="looks well",
        CustomerMetadataProperties={"c": "3"},
        CustomerMetadataPropertiesToRemove=["a"],
    )
    seen = sagemaker.describe_model_package(ModelPackageName=arn)
    sagemaker.create_model(
        ModelName=group, ExecutionRoleArn=ROLE, Containers=[{"ModelPackageName": arn}]
    )
    sagemaker.create_endpoint_config(
        EndpointConfigName=group,
        ProductionVariants=[
            {
                "VariantName": "v",
                "ModelName": group,
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
            }
        ],
    )
    sagemaker.create_endpoint(EndpointName=group, EndpointConfigName=group)
    endpoint = until(
        lambda: sagemaker.describe_endpoint(EndpointName=group),
        lambda found: found["EndpointStatus"] != "Creating",
    )
    answer = (
        server.client("sagemaker-runtime")
        .invoke_endpoint(EndpointName=group, Body="[21]", ContentType="application/json")["Body"]
        .read()
    )
    sagemaker.delete_endpoint(EndpointName=group)

    assert arn.endswith(f":model-package/{group}/1")
    assert (seen["ModelPackageVersion"], seen["ModelApprovalStatus"]) == (1, "Approved")
    assert seen["ApprovalDescription"] == "looks well"
    assert seen["CustomerMetadataProperties"] == {"b": "2", "c": "3"}
    assert seen["ModelMetrics"] == metrics
    container = seen["InferenceSpecification"]["Containers"][0]
    assert container["ModelDataSource"]["S3DataSource"]["S3Uri"] == uri
    assert container["ModelDataETag"]
    assert endpoint["EndpointStatus"] == "InService", endpoint.get("FailureReason")
    assert json.loads(answer) == [42]


def test_versions_count_up_and_are_never_given_out_again(sagemaker: Any, group: str) -> None:
    def create() -> str:
        arn: str = sagemaker.create_model_package(
            ModelPackageGroupName=group, InferenceSpecification=specification("s3://x/m.tar.gz")
        )["ModelPackageArn"]
        return arn

    arns = [create() for _ in range(11)]
    sagemaker.delete_model_package(ModelPackageName=arns[-1])
    after = create()

    assert [int(each.rpartition("/")[2]) for each in [*arns, after]] == [*range(1, 12), 12]
    first = sagemaker.list_model_packages(
        ModelPackageGroupName=group, MaxResults=5, SortOrder="Ascending"
    )
    rest = sagemaker.list_model_packages(
        ModelPackageGroupName=group,
        MaxResults=10,
        SortOrder="Ascending",
        NextToken=first["NextToken"],
    )
    listed = first["ModelPackageSummaryList"] + rest["ModelPackageSummaryList"]
    assert [each["ModelPackageVersion"] for each in listed] == [*range(1, 11), 12]
    assert {each["ModelApprovalStatus"] for each in listed} == {"PendingManualApproval"}
    assert (
        sagemaker.list_model_packages(ModelPackageGroupName=group, ModelApprovalStatus="Approved")[
            "ModelPackageSummaryList"
        ]
        == []
    )


def test_the_same_client_token_makes_one_version(sagemaker: Any, group: str) -> None:
    wanted = {
        "ModelPackageGroupName": group,
        "InferenceSpecification": specification("s3://x/m.tar.gz"),
        "ClientToken": f"token-{time.time_ns()}",
    }

    arns = {sagemaker.create_model_package(**wanted)["ModelPackageArn"] for _ in range(2)}

    assert len(arns) == 1
    code, _ = refused(
        sagemaker.create_model_package, **{**wanted, "ModelPackageDescription": "other"}
    )
    assert code == "ConflictException"


def test_a_package_without_versions_stands_alone(sagemaker: Any) -> None:
    name = f"alone-{time.time_ns()}"

    sagemaker.create_model_package(
        ModelPackageName=name,
        InferenceSpecification=specification("s3://x/m.tar.gz"),
        Tags=[{"Key": "k", "Value": "v"}],
    )

    seen = sagemaker.describe_model_package(ModelPackageName=name)
    assert seen["ModelPackageName"] == name
    assert "ModelPackageVersion" not in seen
    assert "ModelApprovalStatus" not in seen
    listed = sagemaker.list_model_packages(NameContains=name)["ModelPackageSummaryList"]
    assert [each["ModelPackageArn"] for each in listed] == [seen["ModelPackageArn"]]
    assert refused(
        sagemaker.create_model_package,
        ModelPackageName=name,
        InferenceSpecification=specification("s3://x/m.tar.gz"),
    ) == ("ValidationException", f"ModelPackage already exists: {seen['ModelPackageArn']}")


def test_groups_are_found_by_name_tag_and_search(sagemaker: Any, group: str) -> None:
    arn = sagemaker.describe_model_package_group(ModelPackageGroupName=group)[
        "ModelPackageGroupArn"
    ]
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "team", "Value": group}])
    version = sagemaker.create_model_package(
        ModelPackageGroupName=group, InferenceSpecification=specification("s3://x/m.tar.gz")
    )["ModelPackageArn"]

    def found(resource: str, name: str, value: str) -> list[str]:
        rule = {"Name": name, "Operator": "Equals", "Value": value}
        results = sagemaker.search(Resource=resource, SearchExpression={"Filters": [rule]})
        return [each[resource][f"{resource}Arn"] for each in results["Results"]]

    assert found("ModelPackageGroup", "ModelPackageGroupName", group) == [arn]
    assert found("ModelPackageGroup", "Tags.team", group) == [arn]
    assert found("ModelPackage", "ModelPackageGroupName", group) == [version]
    listed = sagemaker.list_model_package_groups(NameContains=group)
    assert [each["ModelPackageGroupArn"] for each in listed["ModelPackageGroupSummaryList"]] == [
        arn
    ]


def test_the_policy_of_a_group_is_kept(sagemaker: Any, group: str) -> None:
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})

    sagemaker.put_model_package_group_policy(ModelPackageGroupName=group, ResourcePolicy=policy)

    about = {"ModelPackageGroupName": group}
    assert sagemaker.get_model_package_group_policy(**about)["ResourcePolicy"] == policy
    sagemaker.delete_model_package_group_policy(**about)
    assert refused(sagemaker.get_model_package_group_policy, **about)[0] == "ValidationException"
    assert (
        refused(sagemaker.put_model_package_group_policy, **about, ResourcePolicy="no json")[0]
        == "ValidationException"
    )


def test_what_cannot_be_is_refused_in_awss_words(sagemaker: Any, group: str) -> None:
    arn = sagemaker.describe_model_package_group(ModelPackageGroupName=group)[
        "ModelPackageGroupArn"
    ]
    version = sagemaker.create_model_package(
        ModelPackageGroupName=group, InferenceSpecification=specification("s3://x/m.tar.gz")
    )["ModelPackageArn"]
    missing = arn.replace(group, "nothing")

    assert refused(sagemaker.create_model_package_group, ModelPackageGroupName=group) == (
        "ValidationException",
        f"Model Package Group already exists: {arn}",
    )
    assert refused(sagemaker.describe_model_package_group, ModelPackageGroupName="nothing") == (
        "ValidationException",
        f"ModelPackageGroup {missing} does not exist.",
    )
    assert refused(
        sagemaker.describe_model_package, ModelPackageName=version.replace("/1", "/9")
    ) == ("ValidationException", f"ModelPackage {version.replace('/1', '/9')} does not exist.")
    assert refused(sagemaker.create_model_package) == ("ValidationException", "Missing ARN.")
    code, message = refused(
        sagemaker.create_model_package, ModelPackageName="a", ModelPackageGroupName=group
    )
    assert message.startswith("Both ModelPackageName and ModelPackageGroupName are provided")
    code, _ = refused(sagemaker.delete_model_package_group, ModelPackageGroupName=group)
    assert code == "ConflictException"
    code, message = refused(
        sagemaker.update_model_package, ModelPackageArn=version, ModelApprovalStatus="Perhaps"
    )
    assert "Member must satisfy enum value set" in message
    sagemaker.update_model_package(ModelPackageArn=version, ModelApprovalStatus="Rejected")
    code, message = refused(
        sagemaker.create_model,
        ModelName=f"m-{group}",
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"ModelPackageName": version},
    )
    assert message == f"Cannot create model: the model package {version} was rejected."
    code, message = refused(
        sagemaker.create_model,
        ModelName=f"m-{group}",
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"ModelPackageName": f"{version}00"},
    )
    assert message == f"ModelPackage {version}00 does not exist."
    sagemaker.delete_model_package(ModelPackageName=version)
    sagemaker.delete_model_package_group(ModelPackageGroupName=group)
    assert refused(sagemaker.delete_model_package_group, ModelPackageGroupName=group)[0] == (
        "ValidationException"
    )
