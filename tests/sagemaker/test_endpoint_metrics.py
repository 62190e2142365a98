"""Metrics of endpoints in CloudWatch, by variant."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import REGISTRY, ROLE, Server, archive, until

SERVING = """
def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    if content_type == "text/fail":
        raise RuntimeError("no")
    return content_type

def predict_fn(data, model):
    return data

def output_fn(data, accept):
    return data.encode()
"""


@pytest.fixture
def endpoint(sagemaker: Any, s3: Any, bucket: str) -> Iterator[str]:
    name = f"measured-{time.time_ns()}"
    s3.put_object(Bucket=bucket, Key=f"{name}.tar.gz", Body=archive({"code/inference.py": SERVING}))
    sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={
            "Image": f"{REGISTRY}/x:1",
            "ModelDataUrl": f"s3://{bucket}/{name}.tar.gz",
        },
    )
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "VariantName": variant,
                "ModelName": name,
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
            }
            for variant in ("V0", "V1")
        ],
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    until(
        lambda: sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"],
        lambda status: status == "InService",
    )
    yield name
    sagemaker.delete_endpoint(EndpointName=name)


def test_requests_and_errors_are_counted_by_variant(server: Server, endpoint: str) -> None:
    runtime = server.client("sagemaker-runtime")
    for _ in range(3):
        runtime.invoke_endpoint(EndpointName=endpoint, TargetVariant="V0", Body=b"1")
    with pytest.raises(ClientError):
        runtime.invoke_endpoint(
            EndpointName=endpoint, TargetVariant="V1", Body=b"1", ContentType="text/fail"
        )

    until(lambda: _sum(server, endpoint, "Invocations", "V0"), lambda n: n == 3)
    until(lambda: _sum(server, endpoint, "Invocations", "V1"), lambda n: n == 1)
    assert _sum(server, endpoint, "Invocation5XXErrors", "V0") == 0
    errors = [_sum(server, endpoint, f"Invocation{kind}XXErrors", "V1") for kind in (4, 5)]
    assert sum(errors) == 1
    assert _sum(server, endpoint, "Invocations", "V2") == 0
    # by the endpoint's configuration too, as notebooks that compare two of them ask for it
    assert _sum(server, endpoint, "Invocations", "V0", EndpointConfigName=endpoint) == 3


def _sum(server: Server, endpoint: str, metric: str, variant: str, **more: str) -> float:
    now = datetime.now(UTC)
    wanted = {"EndpointName": endpoint, "VariantName": variant, **more}
    got = server.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/SageMaker",
        MetricName=metric,
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(minutes=1),
        Period=60,
        Statistics=["Sum"],
        Dimensions=[{"Name": name, "Value": value} for name, value in wanted.items()],
    )
    return float(sum(each["Sum"] for each in got["Datapoints"]))
