"""Application Auto Scaling of endpoint variants through boto3."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from loopwright.sagemaker.variant_scaling import tracked

from .conftest import REGISTRY, ROLE, Server, archive, until

CODE = """
import json
def model_fn(model_dir): return 2
def input_fn(body, content_type): return json.loads(body)
def predict_fn(x, model): return x * model
"""
DIMENSION = "sagemaker:variant:DesiredInstanceCount"
POLICY = {
    "TargetValue": 70.0,
    "PredefinedMetricSpecification": {
        "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
    },
    "ScaleInCooldown": 300,
    "ScaleOutCooldown": 60,
}


@pytest.fixture(scope="module")
def scaling(server: Server) -> Any:
    return server.client("application-autoscaling")


@pytest.fixture(scope="module")
def endpoint(sagemaker: Any, s3: Any, bucket: str) -> Iterator[str]:
    """Return an endpoint of one variant with one instance."""
    name = f"scaled-{time.time_ns()}"
    s3.put_object(Bucket=bucket, Key=f"{name}.tar.gz", Body=archive({"code/inference.py": CODE}))
    about = {"Image": f"{REGISTRY}/x:1", "ModelDataUrl": f"s3://{bucket}/{name}.tar.gz"}
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=about)
    variant = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[{"VariantName": "All", "ModelName": name, **variant}],
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    in_service(sagemaker, name)
    yield name
    in_service(sagemaker, name)
    sagemaker.delete_endpoint(EndpointName=name)


def in_service(sagemaker: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = until(
        lambda: sagemaker.describe_endpoint(EndpointName=name),
        lambda seen: seen["EndpointStatus"] == "InService",
    )
    return found


@pytest.fixture
def about(endpoint: str) -> dict[str, str]:
    """Return how the variant is named."""
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint}/variant/All",
        "ScalableDimension": DIMENSION,
    }


def refused(call: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error: dict[str, Any] = caught.value.response["Error"]
    return error


def test_a_variant_comes_within_its_bounds(
    sagemaker: Any, server: Server, scaling: Any, endpoint: str, about: dict[str, str]
) -> None:
    scaling.register_scalable_target(**about, MinCapacity=2, MaxCapacity=4)

    until(
        lambda: in_service(sagemaker, endpoint),
        lambda seen: seen["ProductionVariants"][0]["DesiredInstanceCount"] == 2,
    )

    (activity,) = scaling.describe_scaling_activities(ServiceNamespace="sagemaker")[
        "ScalingActivities"
    ]
    assert activity["Description"] == "Setting desired instance count to 2."
    (target,) = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (2, 4)
    got = server.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=endpoint, Body=b"4", ContentType="application/json"
    )
    assert json.loads(got["Body"].read()) == 8
    scaling.deregister_scalable_target(**about)
    assert scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []


def test_policies_are_kept_changed_and_deleted(scaling: Any, about: dict[str, str]) -> None:
    scaling.register_scalable_target(**about, MinCapacity=1, MaxCapacity=4)
    policy = {**about, "PolicyName": "by-load", "PolicyType": "TargetTrackingScaling"}

    first = scaling.put_scaling_policy(**policy, TargetTrackingScalingPolicyConfiguration=POLICY)
    changed = {**POLICY, "TargetValue": 90.0}
    second = scaling.put_scaling_policy(**policy, TargetTrackingScalingPolicyConfiguration=changed)
    (found,) = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    scaling.delete_scaling_policy(**about, PolicyName="by-load")
    scaling.deregister_scalable_target(**about)

    assert first["PolicyARN"] == second["PolicyARN"]
    assert found["TargetTrackingScalingPolicyConfiguration"] == changed
    assert scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"] == []


def test_what_is_not_there_is_told_in_the_words_of_aws(scaling: Any, about: dict[str, str]) -> None:
    policy = refused(scaling.put_scaling_policy, **about, PolicyName="none")
    target = refused(scaling.deregister_scalable_target, **about)

    shown = f"service namespace: sagemaker, resource ID: {about['ResourceId']}, "
    assert (policy["Code"], target["Code"]) == ("ObjectNotFoundException",) * 2
    assert policy["Message"].startswith(f"No scalable target registered for {shown}")
    assert target["Message"].startswith(f"No scalable target found for {shown}")


@pytest.mark.parametrize(
    "changes",
    [
        {"MinCapacity": 3, "MaxCapacity": 2},
        {"MinCapacity": 1},
        {"MinCapacity": 1, "MaxCapacity": 2, "ResourceId": "endpoint/none/variant/All"},
        {"MinCapacity": 1, "MaxCapacity": 2, "ResourceId": "table/x"},
        {"MinCapacity": 1, "MaxCapacity": 2, "ServiceNamespace": "ecs"},
    ],
)
def test_bounds_that_cannot_be_are_refused(
    scaling: Any, about: dict[str, str], changes: dict[str, Any]
) -> None:
    error = refused(scaling.register_scalable_target, **{**about, **changes})

    assert error["Code"] == "ValidationException"


def test_a_policy_asks_for_as_many_as_the_invocations_need() -> None:
    # 70 a minute and instance: 211 need four; 70 need one
    assert tracked(POLICY, 1, 211, since_s=math.inf) == 4
    assert tracked(POLICY, 4, 70, since_s=math.inf) == 1
    assert tracked(POLICY, 1, 0, since_s=math.inf) == 1


def test_a_policy_waits_after_it_has_scaled() -> None:
    assert tracked(POLICY, 1, 211, since_s=59) == 1
    assert tracked(POLICY, 1, 211, since_s=60) == 4
    assert tracked(POLICY, 4, 0, since_s=299) == 4
    assert tracked({**POLICY, "DisableScaleIn": True}, 4, 0, since_s=math.inf) == 4
