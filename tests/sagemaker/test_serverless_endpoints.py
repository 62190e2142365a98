"""Serverless variants through boto3: without an instance, and with a limit of requests at once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from loopwright.deploy.endpoint import read_desired
from loopwright.deploy.scale import Scale

from .conftest import REGISTRY, ROLE, Server, archive, until

# waits for a file, so that a test says how long a request takes
CODE = """
import json, os, time

def model_fn(model_dir):
    return 2

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(asked, model):
    if "wait_for" in asked:
        open(asked["wait_for"] + ".begun", "w").close()
        while not os.path.exists(asked["wait_for"]):
            time.sleep(0.01)
    return asked["x"] * model
"""


@pytest.fixture(scope="module")
def model(sagemaker: Any, s3: Any, bucket: str) -> str:
    """Return a model of a script."""
    s3.put_object(
        Bucket=bucket, Key="serverless/model.tar.gz", Body=archive({"code/inference.py": CODE})
    )
    about = {"Image": f"{REGISTRY}/x:1", "ModelDataUrl": f"s3://{bucket}/serverless/model.tar.gz"}
    sagemaker.create_model(ModelName="serverless", ExecutionRoleArn=ROLE, PrimaryContainer=about)
    return "serverless"


def config_of(model: str, **changes: Any) -> dict[str, Any]:
    settings = {"MemorySizeInMB": 1024, "MaxConcurrency": 1}
    variant = {"VariantName": "All", "ModelName": model, "ServerlessConfig": settings}
    return {
        "EndpointConfigName": f"serverless-{time.time_ns()}",
        "ProductionVariants": [{**variant, **changes}],
    }


def refused(call: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response: dict[str, Any] = caught.value.response
    return response


def test_a_serverless_endpoint_answers_so_many_at_once_and_may_have_no_process(
    sagemaker: Any, server: Server, model: str, tmp_path: Path
) -> None:
    runtime = server.client("sagemaker-runtime")
    config = config_of(model)
    name = config["EndpointConfigName"]
    sagemaker.create_endpoint_config(**config)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    found = until(
        lambda: sagemaker.describe_endpoint(EndpointName=name),
        lambda seen: seen["EndpointStatus"] in ("InService", "Failed"),
    )
    gate = tmp_path / "gate"

    def ask(**asked: Any) -> Any:
        got = runtime.invoke_endpoint(
            EndpointName=name, Body=json.dumps(asked), ContentType="application/json"
        )
        return json.loads(got["Body"].read())

    slow = threading.Thread(target=ask, kwargs={"x": 1, "wait_for": str(gate)})
    slow.start()
    until(Path(f"{gate}.begun").exists, bool)
    answer = refused(
        runtime.invoke_endpoint, EndpointName=name, Body=b'{"x": 3}', ContentType="application/json"
    )
    gate.touch()
    slow.join()

    assert ask(x=3) == 6
    assert answer["Error"]["Code"] == "ThrottlingException"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 429
    (variant,) = found["ProductionVariants"]
    assert variant["CurrentServerlessConfig"] == {"MemorySizeInMB": 1024, "MaxConcurrency": 1}
    assert variant["CurrentInstanceCount"] == 0
    newest = max((server.home / "endpoints").glob("sm-*"), key=lambda each: each.stat().st_mtime)
    desired = read_desired(newest)
    assert desired.workers == Scale(least=0, most=1, idle="5 minutes")
    assert desired.variants[0].code is not None
    assert desired.variants[0].code.memory == "1024 MiB"
    sagemaker.delete_endpoint(EndpointName=name)


@pytest.mark.parametrize(
    "changes",
    [
        {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1},
        {"ServerlessConfig": {"MemorySizeInMB": 1500, "MaxConcurrency": 1}},
        {
            "ServerlessConfig": {
                "MemorySizeInMB": 1024,
                "MaxConcurrency": 1,
                "ProvisionedConcurrency": 2,
            }
        },
    ],
)
def test_a_serverless_variant_that_cannot_be_is_refused(
    sagemaker: Any, model: str, changes: dict[str, Any]
) -> None:
    answer = refused(sagemaker.create_endpoint_config, **config_of(model, **changes))

    assert answer["Error"]["Code"] == "ValidationException"


def test_a_serverless_endpoint_has_no_data_capture(sagemaker: Any, model: str, bucket: str) -> None:
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": f"s3://{bucket}/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }

    answer = refused(
        sagemaker.create_endpoint_config, **config_of(model), DataCaptureConfig=capture
    )

    assert answer["Error"]["Message"] == (
        "One or more endpoint features are not supported using this configuration."
    )
