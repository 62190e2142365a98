"""Updates of endpoints in steps: traffic moves, is watched, and comes back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from loopwright.deploy.counts import VariantCounts
from loopwright.sagemaker.endpoint_traffic import mixed, rollout_of
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.metric_alarm import value_of

from .conftest import REGISTRY, ROLE, Server, archive, until

SERVING = """
def model_fn(model_dir):
    return {answer}

def predict_fn(data, model):
    if model < 0:
        raise RuntimeError("this version fails")
    return model
"""


def routing(kind: str, wait_s: int = 0, **sizes: Any) -> dict[str, Any]:
    about = {"Type": kind, "WaitIntervalInSeconds": wait_s, **sizes}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": about}}


def size(value: int, kind: str = "CAPACITY_PERCENT") -> dict[str, Any]:
    return {"Type": kind, "Value": value}


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (routing("ALL_AT_ONCE"), (1.0,)),
        (routing("CANARY", CanarySize=size(10)), (0.1, 1.0)),
        (routing("CANARY", CanarySize=size(1, "INSTANCE_COUNT")), (0.25, 1.0)),
        (routing("LINEAR", LinearStepSize=size(40)), (0.4, 0.8, 1.0)),
        (routing("LINEAR", LinearStepSize=size(50)), (0.5, 1.0)),
        (
            {"RollingUpdatePolicy": {"MaximumBatchSize": size(50), "WaitIntervalInSeconds": 7}},
            (0.5, 1.0),
        ),
    ],
)
def test_a_configuration_becomes_steps(config: dict[str, Any], wanted: tuple[float, ...]) -> None:
    assert rollout_of(config, n_instances=4).shares == wanted


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "either BlueGreenUpdatePolicy or RollingUpdatePolicy"),
        (routing("CANARY"), "CanarySize is required"),
        (routing("LINEAR"), "LinearStepSize is required"),
        (routing("CANARY", CanarySize=size(60)), "60 percent is out of range"),
        (routing("LINEAR", LinearStepSize=size(5)), "5 percent is out of range"),
    ],
)
def test_a_configuration_that_is_none_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ApiError, match=said):
        rollout_of(config, n_instances=1)


def test_two_fleets_share_the_traffic_by_their_parts() -> None:
    before = [
        {"own": "v0", "weight": 1.0, "shadow": False},
        {"own": "v1", "weight": 3.0, "shadow": False},
    ]
    new = [
        {"own": "v2", "weight": 5.0, "shadow": False},
        {"own": "v3", "weight": 1.0, "shadow": True},
    ]

    found = mixed(before, new, 0.2)

    assert [(each["own"], round(each["weight"], 6)) for each in found] == [
        ("v0", 0.2),
        ("v1", 0.6),
        ("v2", 0.2),
    ]
    assert [each["own"] for each in mixed(before, new, 1.0)] == ["v0", "v1", "v2", "v3"]


def test_an_alarm_reads_what_was_counted() -> None:
    seen = VariantCounts(n_requests=10, n_errors=2, n_refused=1, seconds=0.5)
    seen.buckets[0], seen.buckets[-1] = 9, 1

    def value(name: str, statistic: str) -> float | None:
        key = "ExtendedStatistic" if statistic.startswith("p") else "Statistic"
        return value_of({"MetricName": name, key: statistic}, seen)

    assert value("Invocation5XXErrors", "Sum") == 2
    assert value("Invocation5XXErrors", "Average") == 0.2
    assert value("Invocation4XXErrors", "Sum") == 1
    assert value("ModelLatency", "Average") == 50_000
    assert value("ModelLatency", "p50") is not None
    assert value("ModelLatency", "p99") == float("inf")
    assert value("CPUUtilization", "Average") is None
    assert value_of({"MetricName": "Invocations", "Statistic": "Sum"}, VariantCounts()) is None


@pytest.fixture(scope="module")
def configs(sagemaker: Any, s3: Any, bucket: str) -> dict[int, str]:
    """Return configurations whose models answer 1, answer 2, and fail."""
    found = {}
    for answer in (1, 2, -1):
        name = f"deploy-{answer}".replace("--", "-minus-")
        key = f"{name}/m.tar.gz"
        code = SERVING.format(answer=answer)
        s3.put_object(Bucket=bucket, Key=key, Body=archive({"code/inference.py": code}))
        sagemaker.create_model(
            ModelName=name,
            ExecutionRoleArn=ROLE,
            PrimaryContainer={"Image": f"{REGISTRY}/x:1", "ModelDataUrl": f"s3://{bucket}/{key}"},
        )
        sagemaker.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[
                {
                    "VariantName": "AllTraffic",
                    "ModelName": name,
                    "InstanceType": "ml.m5.large",
                    "InitialInstanceCount": 1,
                }
            ],
        )
        found[answer] = name
    return found


@pytest.fixture
def endpoint(sagemaker: Any, configs: dict[int, str]) -> Iterator[str]:
    """Return the name of an endpoint that answers 1."""
    name = f"steps-{time.time_ns()}"
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=configs[1])
    settled(sagemaker, name)
    yield name
    settled(sagemaker, name)
    sagemaker.delete_endpoint(EndpointName=name)


def settled(sagemaker: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = until(
        lambda: sagemaker.describe_endpoint(EndpointName=name),
        lambda seen: seen["EndpointStatus"] in ("InService", "Failed"),
    )
    return found


@pytest.fixture(scope="module")
def ask(server: Server) -> Callable[[str], int]:
    """Return a function that asks an endpoint for its number."""
    runtime = server.client("sagemaker-runtime")

    def run(name: str) -> int:
        got = runtime.invoke_endpoint(EndpointName=name, Body="1", ContentType="application/json")
        return int(json.loads(got["Body"].read()))

    return run


def pending(sagemaker: Any, name: str, weight: float) -> dict[str, Any]:
    """Return the description of an endpoint once its new fleet has a part of the traffic."""
    found: dict[str, Any] = until(
        lambda: sagemaker.describe_endpoint(EndpointName=name),
        lambda seen: any(
            each["CurrentWeight"] == pytest.approx(weight)
            for each in seen.get("PendingDeploymentSummary", {}).get("ProductionVariants", ())
        ),
    )
    return found


def test_traffic_moves_to_the_new_fleet_in_steps(
    sagemaker: Any, configs: dict[int, str], endpoint: str, ask: Callable[[str], int]
) -> None:
    config = routing("CANARY", 2, CanarySize=size(50))

    sagemaker.update_endpoint(
        EndpointName=endpoint, EndpointConfigName=configs[2], DeploymentConfig=config
    )
    about = pending(sagemaker, endpoint, 0.5)
    during = {ask(endpoint) for _ in range(40)}
    after = settled(sagemaker, endpoint)

    assert about["EndpointStatus"] == "Updating"
    assert about["EndpointConfigName"] == configs[1]
    assert about["PendingDeploymentSummary"]["EndpointConfigName"] == configs[2]
    assert during == {1, 2}
    assert after["EndpointConfigName"] == configs[2]
    assert after["LastDeploymentConfig"] == config
    assert "PendingDeploymentSummary" not in after
    assert {ask(endpoint) for _ in range(10)} == {2}


def test_an_alarm_gives_all_traffic_back(
    server: Server,
    sagemaker: Any,
    configs: dict[int, str],
    endpoint: str,
    ask: Callable[[str], int],
) -> None:
    cloudwatch = server.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="errors",
        Namespace="AWS/SageMaker",
        MetricName="Invocation5XXErrors",
        Dimensions=[{"Name": "EndpointName", "Value": endpoint}],
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=0,
        ComparisonOperator="GreaterThanThreshold",
    )
    config = {
        **routing("CANARY", 600, CanarySize=size(50)),
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]},
    }

    sagemaker.update_endpoint(
        EndpointName=endpoint, EndpointConfigName=configs[-1], DeploymentConfig=config
    )
    pending(sagemaker, endpoint, 0.5)
    n_failed = 0
    for _ in range(30):
        try:
            ask(endpoint)
        except ClientError as error:
            n_failed += error.response["Error"]["Code"] == "ModelError"
    about = settled(sagemaker, endpoint)

    assert n_failed > 0
    assert about["EndpointConfigName"] == configs[1]
    assert about["FailureReason"] == "The following alarms are in ALARM state: errors"
    assert {ask(endpoint) for _ in range(10)} == {1}
    (alarm,) = cloudwatch.describe_alarms(AlarmNames=["errors"])["MetricAlarms"]
    assert alarm["StateValue"] == "ALARM"
    cloudwatch.delete_alarms(AlarmNames=["errors"])
    assert cloudwatch.describe_alarms(AlarmNames=["errors"])["MetricAlarms"] == []


def test_an_alarm_that_is_not_there_is_told_before_anything_moves(
    sagemaker: Any, configs: dict[int, str], endpoint: str
) -> None:
    with pytest.raises(ClientError) as caught:
        sagemaker.update_endpoint(
            EndpointName=endpoint,
            EndpointConfigName=configs[2],
            DeploymentConfig={
                **routing("ALL_AT_ONCE"),
                "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "nowhere"}]},
            },
        )

    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert "nowhere" in caught.value.response["Error"]["Message"]
    about = sagemaker.describe_endpoint(EndpointName=endpoint)
    assert about["EndpointStatus"] == "InService"


def test_an_update_may_keep_the_properties_of_variants(
    sagemaker: Any, configs: dict[int, str], endpoint: str
) -> None:
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=endpoint,
        DesiredWeightsAndCapacities=[
            {"VariantName": "AllTraffic", "DesiredWeight": 7.0, "DesiredInstanceCount": 2}
        ],
    )
    settled(sagemaker, endpoint)

    sagemaker.update_endpoint(
        EndpointName=endpoint,
        EndpointConfigName=configs[2],
        RetainAllVariantProperties=True,
        ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DesiredInstanceCount"}],
    )
    (variant,) = settled(sagemaker, endpoint)["ProductionVariants"]

    assert variant["CurrentWeight"] == 7.0
    assert variant["CurrentInstanceCount"] == 1
