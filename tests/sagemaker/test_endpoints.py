"""Models, endpoint configurations and endpoints through boto3, really served."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError

from .conftest import REGISTRY, ROLE, Server, archive, channel, image, until

SERVING = """
import json, os

def model_fn(model_dir):
    with open(os.path.join(model_dir, "factor.json")) as file:
        return json.load(file)

def predict_fn(data, model):
    return data * model

def input_fn(body, content_type):
    if content_type == "application/boom":
        raise RuntimeError("boom")
    import numpy as np
    return np.array(json.loads(body))
"""


@pytest.fixture(scope="module")
def runtime(server: Server) -> Any:
    return server.client("sagemaker-runtime")


Deploy = Callable[..., str]


@pytest.fixture
def deploy(sagemaker: Any) -> Iterator[Deploy]:
    """Return a function that serves archives, one a variant, and ends what it started."""
    names: list[str] = []

    def run(*uris: str, weights: tuple[float, ...] = (), name: str = "", **container: Any) -> str:
        name = name or f"Endpoint-{time.time_ns()}"
        config = configured(sagemaker, *uris, weights=weights, **container)
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
        names.append(name)
        settled(sagemaker, name)
        return name

    yield run
    for name in names:
        settled(sagemaker, name)
        sagemaker.delete_endpoint(EndpointName=name)


def configured(
    sagemaker: Any, *uris: str, weights: tuple[float, ...] = (), **container: Any
) -> str:
    config = f"config-{time.time_ns()}"
    for number, uri in enumerate(uris):
        about = {"Image": f"{REGISTRY}/x:1", "ModelDataUrl": uri, **container}
        sagemaker.create_model(
            ModelName=f"{config}-{number}", ExecutionRoleArn=ROLE, PrimaryContainer=about
        )
    sagemaker.create_endpoint_config(
        EndpointConfigName=config,
        ProductionVariants=[
            {
                "VariantName": f"V{number}",
                "ModelName": f"{config}-{number}",
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
                "InitialVariantWeight": weights[number] if weights else 1.0,
            }
            for number in range(len(uris))
        ],
    )
    return config


def settled(sagemaker: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = until(
        lambda: sagemaker.describe_endpoint(EndpointName=name),
        lambda seen: seen["EndpointStatus"] in ("InService", "Failed"),
    )
    return found


def asked(runtime: Any, name: str, body: Any, kind: str = "application/json", **more: Any) -> Any:
    got = runtime.invoke_endpoint(EndpointName=name, Body=body, ContentType=kind, **more)
    return got["Body"].read().decode()


def refused(call: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response: dict[str, Any] = caught.value.response
    return response


@pytest.fixture(scope="module")
def scripts(s3: Any, bucket: str) -> list[str]:
    """Return the archives of two models that a script serves."""
    found = []
    for factor in (2, 3):
        key = f"models/{factor}/model.tar.gz"
        files = {"factor.json": str(factor), "code/inference.py": SERVING}
        s3.put_object(Bucket=bucket, Key=key, Body=archive(files))
        found.append(f"s3://{bucket}/{key}")
    return found


@pytest.fixture(scope="module")
def bundle(sagemaker: Any, s3: Any, bucket: str) -> str:
    """Return the archive of a model of a built-in algorithm."""
    X = np.random.default_rng(2).normal(size=(200, 3))
    rows = "\n".join(f"{int(x[0] > 0)},{x[0]!r},{x[1]!r},{x[2]!r}" for x in X.tolist())
    s3.put_object(Bucket=bucket, Key="linear/train.csv", Body=rows.encode())
    sagemaker.create_training_job(
        TrainingJobName="linear",
        RoleArn=ROLE,
        AlgorithmSpecification=image("linear-learner:1"),
        HyperParameters={
            "predictor_type": "binary_classifier",
            "binary_classifier_model_selection_criteria": "f1",
        },
        InputDataConfig=[channel("train", f"s3://{bucket}/linear/", ContentType="text/csv")],
        OutputDataConfig={"S3OutputPath": f"s3://{bucket}/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 100},
    )
    job = until(
        lambda: sagemaker.describe_training_job(TrainingJobName="linear"),
        lambda seen: seen["TrainingJobStatus"] != "InProgress",
    )
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    return str(job["ModelArtifacts"]["S3ModelArtifacts"])


def test_a_model_of_an_algorithm_answers_in_its_formats(
    runtime: Any, deploy: Deploy, bundle: str
) -> None:
    name = deploy(bundle)

    from_csv = json.loads(asked(runtime, name, "2,0,0\n-2,0,0\n", "text/csv"))["predictions"]
    instances = {"instances": [{"features": [2, 0, 0]}, {"features": [-2, 0, 0]}]}
    from_json = json.loads(asked(runtime, name, json.dumps(instances)))["predictions"]

    assert [each["predicted_label"] for each in from_csv] == [1, 0]
    assert from_csv == from_json
    assert from_csv[0]["score"] > 0.9


def test_a_row_that_the_model_cannot_read_is_the_client_s_fault(
    runtime: Any, deploy: Deploy, bundle: str
) -> None:
    name = deploy(bundle)

    response = refused(
        runtime.invoke_endpoint, EndpointName=name, Body="1,2", ContentType="text/csv"
    )

    assert response["Error"]["Code"] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == 400
    assert "row 1 has 2 values" in response["OriginalMessage"]


def test_a_script_serves_and_its_own_errors_are_told(
    server: Server, sagemaker: Any, runtime: Any, deploy: Deploy, scripts: list[str]
) -> None:
    name = deploy(scripts[0], Environment={"SAGEMAKER_PROGRAM": "inference.py"})

    assert json.loads(asked(runtime, name, "[1, 2]")) == [2, 4]
    response = refused(
        runtime.invoke_endpoint, EndpointName=name, Body="1", ContentType="application/boom"
    )
    assert response["OriginalStatusCode"] == 500
    assert response["OriginalMessage"] == "RuntimeError: boom"
    streams = server.client("logs").filter_log_events(
        logGroupName=f"/aws/sagemaker/Endpoints/{name}", filterPattern="boom"
    )["events"]
    assert any("RuntimeError: boom" in each["message"] for each in streams)


def test_variants_share_requests_by_weight_and_can_be_asked_by_name(
    sagemaker: Any, runtime: Any, deploy: Deploy, scripts: list[str]
) -> None:
    name = deploy(*scripts, weights=(1.0, 0.0))

    assert {asked(runtime, name, "1") for _ in range(10)} == {"2"}
    assert asked(runtime, name, "1", TargetVariant="V1") == "3"
    wrong = refused(
        runtime.invoke_endpoint,
        EndpointName=name,
        Body="1",
        ContentType="application/json",
        TargetVariant="V9",
    )
    assert wrong["Error"]["Code"] == "ValidationError"
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[
            {"VariantName": "V0", "DesiredWeight": 0.0},
            {"VariantName": "V1", "DesiredWeight": 1.0},
        ],
    )
    about = settled(sagemaker, name)
    assert {asked(runtime, name, "1") for _ in range(10)} == {"3"}
    assert [each["CurrentWeight"] for each in about["ProductionVariants"]] == [0.0, 1.0]


def test_an_update_that_fails_leaves_what_was_served(
    sagemaker: Any, s3: Any, bucket: str, runtime: Any, deploy: Deploy, scripts: list[str]
) -> None:
    name = deploy(scripts[0])
    s3.put_object(
        Bucket=bucket,
        Key="models/broken.tar.gz",
        Body=archive({"code/inference.py": "def model_fn(d): raise ValueError('no model')"}),
    )
    broken = configured(sagemaker, f"s3://{bucket}/models/broken.tar.gz")

    sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=broken)

    about = settled(sagemaker, name)
    assert about["EndpointStatus"] == "InService"
    assert "no model" in about["FailureReason"]
    assert asked(runtime, name, "1") == "2"
    good = configured(sagemaker, scripts[1])
    sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=good)
    settled(sagemaker, name)
    assert asked(runtime, name, "1") == "3"
    assert sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"] == good


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"no archive", "torn, or no .tar.gz"),
        (archive({"m.pkl": "x"}), "has no 'inference.py' in its code"),
        (archive({"../x": "x"}), "is not a plain relative path"),
    ],
)
def test_a_model_that_nothing_can_serve_fails_readably(
    sagemaker: Any, s3: Any, bucket: str, deploy: Deploy, body: bytes, said: str
) -> None:
    key = f"models/bad-{time.time_ns()}.tar.gz"
    s3.put_object(Bucket=bucket, Key=key, Body=body)

    name = deploy(f"s3://{bucket}/{key}")

    about = sagemaker.describe_endpoint(EndpointName=name)
    assert about["EndpointStatus"] == "Failed"
    assert said in about["FailureReason"]


def test_names_that_are_missing_or_taken(
    sagemaker: Any, runtime: Any, deploy: Deploy, scripts: list[str]
) -> None:
    name = deploy(scripts[0])
    config = sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]
    arn = "arn:aws:sagemaker:us-east-1:123456789012"

    def said(call: Callable[..., Any], **given: Any) -> str:
        error = refused(call, **given)["Error"]
        assert error["Code"] == "ValidationException"
        return str(error["Message"])

    assert (
        said(sagemaker.describe_model, ModelName="no") == f'Could not find model "{arn}:model/no".'
    )
    assert said(sagemaker.delete_endpoint_config, EndpointConfigName="no") == (
        f'Could not find endpoint configuration "{arn}:endpoint-config/no".'
    )
    assert said(sagemaker.describe_endpoint, EndpointName="no") == (
        f'Could not find endpoint "{arn}:endpoint/no".'
    )
    assert said(sagemaker.create_endpoint, EndpointName=name, EndpointConfigName=config) == (
        f'Cannot create already existing endpoint "{arn}:endpoint/{name}".'
    )
    error = refused(runtime.invoke_endpoint, EndpointName="no", Body="1", ContentType="text/csv")[
        "Error"
    ]
    assert error["Code"] == "ValidationError"
    assert error["Message"] == "Endpoint no of account 123456789012 not found."


def test_a_deleted_endpoint_is_gone(sagemaker: Any, scripts: list[str]) -> None:
    config = configured(sagemaker, scripts[0])
    sagemaker.create_endpoint(EndpointName="gone", EndpointConfigName=config)
    settled(sagemaker, "gone")

    sagemaker.delete_endpoint(EndpointName="gone")

    waiter = sagemaker.get_waiter("endpoint_deleted")
    waiter.wait(EndpointName="gone", WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    assert "gone" not in [each["EndpointName"] for each in sagemaker.list_endpoints()["Endpoints"]]


def test_an_absent_structure_is_left_out_of_a_description(
    sagemaker: Any, scripts: list[str]
) -> None:
    config = configured(sagemaker, scripts[0])

    found = sagemaker.describe_model(ModelName=f"{config}-0")

    assert "VpcConfig" not in found
    assert found["PrimaryContainer"]["ModelDataUrl"] == scripts[0]
