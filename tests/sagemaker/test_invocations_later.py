"""Asynchronous and streamed invocations through boto3."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import REGISTRY, ROLE, Server, archive, until

SERVING = """
import json

def model_fn(model_dir):
    return 3

def input_fn(body, content_type):
    if "boom" in body:
        raise RuntimeError("boom")
    return json.loads(body)

def predict_fn(data, model):
    return {"answer": data * model}
"""


@pytest.fixture(scope="module")
def runtime(server: Server) -> Any:
    return server.client("sagemaker-runtime")


@pytest.fixture(scope="module")
def endpoints(sagemaker: Any, s3: Any, bucket: str) -> Iterator[dict[str, str]]:
    """Return the names of an endpoint that answers into S3 and of one that does not."""
    s3.put_object(Bucket=bucket, Key="later/m.tar.gz", Body=archive({"code/inference.py": SERVING}))
    sagemaker.create_model(
        ModelName="later",
        ExecutionRoleArn=ROLE,
        PrimaryContainer={
            "Image": f"{REGISTRY}/x:1",
            "ModelDataUrl": f"s3://{bucket}/later/m.tar.gz",
        },
    )
    about = {
        "OutputConfig": {
            "S3OutputPath": f"s3://{bucket}/later/out",
            "S3FailurePath": f"s3://{bucket}/later/failed",
        },
        "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 2},
    }
    for name, more in (("later", {"AsyncInferenceConfig": about}), ("now", {})):
        sagemaker.create_endpoint_config(
            EndpointConfigName=f"later-{name}",
            ProductionVariants=[
                {
                    "VariantName": "v",
                    "ModelName": "later",
                    "InstanceType": "ml.m5.large",
                    "InitialInstanceCount": 1,
                }
            ],
            **more,
        )
        sagemaker.create_endpoint(EndpointName=f"e-{name}", EndpointConfigName=f"later-{name}")
    names = {name: f"e-{name}" for name in ("later", "now")}
    for each in names.values():
        sagemaker.get_waiter("endpoint_in_service").wait(
            EndpointName=each, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )
    yield names
    for each in names.values():
        sagemaker.delete_endpoint(EndpointName=each)


def content(s3: Any, uri: str) -> str:
    """Return an object once it is there, as clients poll for it."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")

    def look() -> str | None:
        try:
            found: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except s3.exceptions.NoSuchKey:
            return None
        return found.decode()

    return str(until(look, lambda seen: seen is not None))


def refused(call: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_an_answer_is_found_in_s3(
    s3: Any, bucket: str, runtime: Any, sagemaker: Any, endpoints: dict[str, str]
) -> None:
    s3.put_object(Bucket=bucket, Key="later/in/a.json", Body=b"14")

    got = runtime.invoke_endpoint_async(
        EndpointName=endpoints["later"],
        InputLocation=f"s3://{bucket}/later/in/a.json",
        ContentType="application/json",
        InferenceId="mine",
    )

    about = sagemaker.describe_endpoint(EndpointName=endpoints["later"])
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert got["InferenceId"] == "mine"
    assert got["OutputLocation"].startswith(f"s3://{bucket}/later/out/")
    assert json.loads(content(s3, got["OutputLocation"])) == {"answer": 42}
    assert about["AsyncInferenceConfig"]["ClientConfig"] == {
        "MaxConcurrentInvocationsPerInstance": 2
    }


def test_an_object_says_itself_what_it_is(
    s3: Any, bucket: str, runtime: Any, endpoints: dict[str, str]
) -> None:
    s3.put_object(Bucket=bucket, Key="later/in/c.json", Body=b"14", ContentType="application/json")

    got = runtime.invoke_endpoint_async(
        EndpointName=endpoints["later"], InputLocation=f"s3://{bucket}/later/in/c.json"
    )

    assert json.loads(content(s3, got["OutputLocation"])) == {"answer": 42}


def test_why_there_is_no_answer_is_found_there_too(
    s3: Any, bucket: str, runtime: Any, endpoints: dict[str, str]
) -> None:
    s3.put_object(Bucket=bucket, Key="later/in/b.json", Body=b'"boom"')

    failed = runtime.invoke_endpoint_async(
        EndpointName=endpoints["later"],
        InputLocation=f"s3://{bucket}/later/in/b.json",
        ContentType="application/json",
    )
    missing = runtime.invoke_endpoint_async(
        EndpointName=endpoints["later"], InputLocation=f"s3://{bucket}/later/in/none.json"
    )

    assert failed["FailureLocation"].startswith(f"s3://{bucket}/later/failed/")
    said = content(s3, failed["FailureLocation"])
    assert said.startswith("Received server error (500) from primary")
    assert "RuntimeError: boom" in said
    assert "key does not exist" in content(s3, missing["FailureLocation"])


def test_each_kind_of_endpoint_is_asked_in_its_own_way(
    runtime: Any, endpoints: dict[str, str]
) -> None:
    at_once = refused(
        runtime.invoke_endpoint,
        EndpointName=endpoints["later"],
        Body="1",
        ContentType="application/json",
    )
    later = refused(
        runtime.invoke_endpoint_async, EndpointName=endpoints["now"], InputLocation="s3://x/y"
    )
    nobody = refused(runtime.invoke_endpoint_async, EndpointName="no", InputLocation="s3://x/y")

    assert at_once[0] == later[0] == nobody[0] == "ValidationError"
    assert "InvokeEndpointAsync" in at_once[1]
    assert "is not asynchronous" in later[1]
    assert nobody[1] == "Endpoint no of account 123456789012 not found."


def test_an_answer_comes_as_a_stream_of_parts(runtime: Any, endpoints: dict[str, str]) -> None:
    began = time.monotonic()

    got = runtime.invoke_endpoint_with_response_stream(
        EndpointName=endpoints["now"], Body=b"7", ContentType="application/json"
    )
    parts = [each["PayloadPart"]["Bytes"] for each in got["Body"]]

    assert json.loads(b"".join(parts)) == {"answer": 21}
    assert got["ContentType"] == "application/json"
    assert got["InvokedProductionVariant"] == "v"
    assert time.monotonic() - began < 20
    error = refused(
        runtime.invoke_endpoint_with_response_stream,
        EndpointName=endpoints["now"],
        Body=b'"boom"',
        ContentType="application/json",
    )
    assert error[0] == "ModelError"
