"""Endpoints of many models below a prefix through boto3: loaded when asked for, unloaded, reloaded."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError

from loopwright.deploy.endpoint import read_actual, read_desired
from loopwright.sagemaker.model_host import _Model, to_leave

from .conftest import REGISTRY, ROLE, Server, archive, channel, image, until

CODE = """
import json, os

def model_fn(model_dir):
    with open(os.path.join(model_dir, "factor.json")) as file:
        return json.load(file)

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(value, factor):
    return value * factor
"""
Made = Callable[..., str]


@pytest.fixture(scope="module")
def runtime(server: Server) -> Any:
    return server.client("sagemaker-runtime")


@pytest.fixture(scope="module")
def code(s3: Any, bucket: str) -> str:
    """Return the address of the code that serves all the models."""
    s3.put_object(Bucket=bucket, Key="many/code.tar.gz", Body=archive({"inference.py": CODE}))
    return f"s3://{bucket}/many/code.tar.gz"


@pytest.fixture(scope="module")
def endpoint(sagemaker: Any) -> Iterator[Made]:
    """Return a function that serves the models below a prefix, and ends what it started."""
    names: list[str] = []

    def make(prefix: str, *, before: tuple[dict[str, Any], ...] = (), **container: Any) -> str:
        name = f"many-{time.time_ns()}"
        about = {
            "Image": f"{REGISTRY}/x:1",
            "Mode": "MultiModel",
            "ModelDataUrl": prefix,
            **container,
        }
        sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, Containers=[*before, about])
        variant = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        sagemaker.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[{"VariantName": "All", "ModelName": name, **variant}],
        )
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        names.append(name)
        found = settled(sagemaker, name)
        assert found["EndpointStatus"] == "InService", found.get("FailureReason")
        return name

    yield make
    for name in names:
        sagemaker.delete_endpoint(EndpointName=name)


def settled(sagemaker: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = until(
        lambda: sagemaker.describe_endpoint(EndpointName=name),
        lambda seen: seen["EndpointStatus"] in ("InService", "Failed"),
    )
    return found


@pytest.fixture
def prefix(s3: Any, bucket: str) -> str:
    """Return a prefix of models that multiply by 2 and by 3."""
    found = f"s3://{bucket}/many/{time.time_ns()}"
    for factor in (2, 3):
        put(s3, found, f"{factor}.tar.gz", factor)
    return found


@pytest.fixture
def scripts(endpoint: Made, prefix: str, code: str) -> str:
    """Return an endpoint of these models."""
    return endpoint(prefix, Environment=environment(code))


def environment(code: str) -> dict[str, str]:
    return {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": code}


def put(s3: Any, prefix: str, name: str, factor: int) -> None:
    bucket, _, key = prefix.removeprefix("s3://").partition("/")
    body = archive({"factor.json": str(factor)})
    s3.put_object(Bucket=bucket, Key=f"{key}/{name}", Body=body)


def asked(runtime: Any, name: str, target: str, value: int = 7) -> Any:
    got = runtime.invoke_endpoint(
        EndpointName=name, Body=str(value), ContentType="application/json", TargetModel=target
    )
    return json.loads(got["Body"].read())


def refused(call: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response: dict[str, Any] = caught.value.response
    return response


def test_each_model_is_asked_by_its_key(runtime: Any, scripts: str) -> None:
    answers = [asked(runtime, scripts, f"{factor}.tar.gz") for factor in (2, 3, 2)]

    assert answers == [14, 21, 14]


def test_a_model_that_is_put_later_answers_without_an_update(
    runtime: Any, s3: Any, scripts: str, prefix: str
) -> None:
    put(s3, prefix, "later/5.tar.gz", 5)

    assert asked(runtime, scripts, "later/5.tar.gz") == 35


def test_a_model_with_other_bytes_is_loaded_anew(
    runtime: Any, s3: Any, scripts: str, prefix: str
) -> None:
    before = asked(runtime, scripts, "2.tar.gz")

    put(s3, prefix, "2.tar.gz", 11)

    assert (before, asked(runtime, scripts, "2.tar.gz")) == (14, 77)


def test_a_model_that_is_not_there_is_refused(runtime: Any, scripts: str) -> None:
    answer = refused(
        runtime.invoke_endpoint, EndpointName=scripts, Body=b"1", TargetModel="none.tar.gz"
    )

    assert answer["Error"]["Code"] == "ValidationError"
    assert answer["Error"]["Message"].startswith(
        "Failed to download model data (bucket: jobs, key:"
    )


def test_a_request_without_a_target_is_refused(runtime: Any, scripts: str) -> None:
    answer = refused(runtime.invoke_endpoint, EndpointName=scripts, Body=b"1")

    assert answer["Error"]["Code"] == "ValidationError"
    assert "is missing a target model header" in answer["Error"]["Message"]


def test_a_model_that_cannot_be_loaded_leaves_the_others(
    runtime: Any, s3: Any, scripts: str, prefix: str
) -> None:
    before = asked(runtime, scripts, "3.tar.gz")
    bucket, _, key = prefix.removeprefix("s3://").partition("/")
    s3.put_object(Bucket=bucket, Key=f"{key}/bad.tar.gz", Body=archive({"factor.json": "{"}))

    answer = refused(
        runtime.invoke_endpoint, EndpointName=scripts, Body=b"1", TargetModel="bad.tar.gz"
    )

    assert (answer["Error"]["Code"], answer["OriginalStatusCode"]) == ("ModelError", 500)
    assert (before, asked(runtime, scripts, "3.tar.gz")) == (21, 21)


def test_many_at_once_load_a_model_once(runtime: Any, scripts: str, server: Server) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: asked(runtime, scripts, "2.tar.gz", n), range(16)))

    assert found == [2 * n for n in range(16)]
    assert [read_desired(each).generation for each in hosts(server, found=1)] == [1]


def hosts(server: Server, *, found: int) -> list[Any]:
    """Return the folders of what serves models now, the newest last."""
    folders = sorted(
        (server.home / "endpoints").glob("mm-*"), key=lambda each: each.stat().st_mtime
    )
    return folders[-found:]


def test_a_process_that_was_killed_is_started_again(
    runtime: Any, scripts: str, server: Server
) -> None:
    before = asked(runtime, scripts, "2.tar.gz")
    (folder,) = hosts(server, found=1)
    actual = read_actual(folder)
    assert actual is not None

    os.kill(actual.pid, signal.SIGKILL)

    assert (before, asked(runtime, scripts, "2.tar.gz")) == (14, 14)


def test_without_a_cache_a_model_gives_way_to_the_next(
    runtime: Any, endpoint: Made, prefix: str, code: str, server: Server
) -> None:
    name = endpoint(
        prefix,
        Environment=environment(code),
        MultiModelConfig={"ModelCacheSetting": "Disabled"},
    )

    answers = [asked(runtime, name, f"{factor}.tar.gz") for factor in (2, 3, 2)]

    assert answers == [14, 21, 14]
    (folder,) = hosts(server, found=1)
    assert len(read_desired(folder).variants) == 1


def test_an_algorithm_serves_many_models_behind_a_script(
    sagemaker: Any, runtime: Any, s3: Any, bucket: str, endpoint: Made
) -> None:
    root = f"many-linear-{time.time_ns()}"
    X = np.random.default_rng(2).normal(size=(60, 2))
    rows = "\n".join(f"{x[0]!r},{x[0]!r},{x[1]!r}" for x in X.tolist())
    s3.put_object(Bucket=bucket, Key=f"{root}/data/train.csv", Body=rows.encode())
    trained(sagemaker, root, f"s3://{bucket}/{root}/data/", bucket)
    made = {"Bucket": bucket, "Key": f"out/{root}/output/model.tar.gz"}
    s3.copy_object(Bucket=bucket, Key=f"{root}/models/first.tar.gz", CopySource=made)
    script = {"factor.json": "2", "code/inference.py": CODE + CSV}
    s3.put_object(Bucket=bucket, Key=f"{root}/script.tar.gz", Body=archive(script))
    doubles = {"Image": f"{REGISTRY}/x:1", "ModelDataUrl": f"s3://{bucket}/{root}/script.tar.gz"}

    name = endpoint(
        f"s3://{bucket}/{root}/models/", before=(doubles,), Image=f"{REGISTRY}/linear-learner:1"
    )

    got = runtime.invoke_endpoint(
        EndpointName=name,
        Body="[0.5, 0.0]",
        ContentType="application/json",
        TargetModel="first.tar.gz",
    )
    answer = json.loads(got["Body"].read())["predictions"][0]["score"]
    assert answer == pytest.approx(1.0, abs=1e-6)


CSV = """
def predict_fn(row, factor):
    return [cell * factor for cell in row]

def output_fn(row, accept):
    return ",".join(map(str, row)), "text/csv"
"""


def trained(sagemaker: Any, name: str, uri: str, bucket: str) -> None:
    sagemaker.create_training_job(
        TrainingJobName=name,
        RoleArn=ROLE,
        AlgorithmSpecification=image("linear-learner:1"),
        HyperParameters={"predictor_type": "regressor"},
        InputDataConfig=[channel("train", uri, ContentType="text/csv")],
        OutputDataConfig={"S3OutputPath": f"s3://{bucket}/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 100},
    )
    job = until(
        lambda: sagemaker.describe_training_job(TrainingJobName=name),
        lambda seen: seen["TrainingJobStatus"] != "InProgress",
    )
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")


def test_the_models_are_gone_with_their_endpoint(
    sagemaker: Any, runtime: Any, prefix: str, code: str, endpoint: Made, server: Server
) -> None:
    name = endpoint(prefix, Environment=environment(code))
    asked(runtime, name, "2.tar.gz")
    (folder,) = hosts(server, found=1)
    actual = read_actual(folder)
    assert actual is not None

    sagemaker.delete_endpoint(EndpointName=name)
    until(folder.exists, lambda seen: not seen)

    with pytest.raises(ProcessLookupError):
        os.kill(actual.pid, 0)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    settled(sagemaker, name)
    assert asked(runtime, name, "2.tar.gz") == 14


def model(memory_mib: int, asked_at: float, n_asking: int = 0) -> _Model:
    return _Model(asked={}, memory_mib=memory_mib, n_asking=n_asking, asked_at=asked_at)


def test_the_model_that_was_asked_longest_ago_gives_way() -> None:
    models = {"a": model(100, 3.0), "b": model(100, 1.0), "c": model(100, 2.0)}

    assert to_leave(models, limit_mib=300) == []
    assert to_leave(models, limit_mib=200) == ["b"]
    assert to_leave(models, limit_mib=150) == ["b", "c"]


def test_a_model_that_is_being_asked_stays() -> None:
    models = {"a": model(100, 1.0, n_asking=1), "b": model(100, 2.0)}

    assert to_leave(models, limit_mib=-1) == ["b"]
