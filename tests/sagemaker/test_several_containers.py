"""Models of several containers through boto3: pipelines, containers by name, in batches, of packages."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import REGISTRY, ROLE, Server, archive, until

# reads numbers in CSV or JSON, does one thing to them, and answers as it is asked to
STEP = """
import json, os

def model_fn(model_dir):
    with open(os.path.join(model_dir, "step.json")) as file:
        return json.load(file)

def input_fn(body, content_type):
    if content_type == "text/csv":
        return [[float(cell) for cell in line.split(",")] for line in body.split()]
    if content_type == "application/json":
        return json.loads(body)
    raise ValueError(f"no {content_type}")

def predict_fn(rows, step):
    changed = [[cell * step.get("times", 1) + step.get("plus", 0) for cell in row] for row in rows]
    return changed + [[float(os.environ["EXTRA"])]] if "EXTRA" in os.environ else changed

def output_fn(rows, accept):
    if accept == "text/csv":
        return "".join(",".join(map(str, row)) + "\\n" for row in rows), "text/csv"
    return json.dumps(rows), "application/json"
"""
Made = Callable[..., str]


@pytest.fixture(scope="module")
def runtime(server: Server) -> Any:
    return server.client("sagemaker-runtime")


@pytest.fixture(scope="module")
def steps(s3: Any, bucket: str) -> dict[str, dict[str, Any]]:
    """Return containers that double, and that add one."""
    found = {}
    for name, step in {"double": {"times": 2}, "increase": {"plus": 1}}.items():
        key = f"several/{name}/model.tar.gz"
        files = {"step.json": json.dumps(step), "code/inference.py": STEP}
        s3.put_object(Bucket=bucket, Key=key, Body=archive(files))
        uri = f"s3://{bucket}/{key}"
        found[name] = {"Image": f"{REGISTRY}/x:1", "ModelDataUrl": uri, "ContainerHostname": name}
    return found


@pytest.fixture(scope="module")
def endpoint(sagemaker: Any) -> Iterator[Made]:
    """Return a function that serves a model of some containers, and ends what it started."""
    names: list[str] = []

    def make(*containers: dict[str, Any], **model: Any) -> str:
        name = f"several-{time.time_ns()}"
        sagemaker.create_model(
            ModelName=name, ExecutionRoleArn=ROLE, Containers=list(containers), **model
        )
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


@pytest.fixture(scope="module")
def pipeline(endpoint: Made, steps: dict[str, dict[str, Any]]) -> str:
    """Return an endpoint that doubles in CSV, then adds one."""
    first = {**steps["double"], "Environment": {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv"}}
    return endpoint(first, steps["increase"])


@pytest.fixture(scope="module")
def direct(endpoint: Made, steps: dict[str, dict[str, Any]]) -> str:
    """Return an endpoint whose containers are asked by name."""
    return endpoint(steps["double"], steps["increase"], InferenceExecutionConfig={"Mode": "Direct"})


def asked(runtime: Any, name: str, body: str, kind: str, **more: Any) -> Any:
    return runtime.invoke_endpoint(EndpointName=name, Body=body, ContentType=kind, **more)


def refused(call: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response: dict[str, Any] = caught.value.response
    return response


def test_a_request_goes_through_the_containers_in_order(runtime: Any, pipeline: str) -> None:
    got = asked(
        runtime, pipeline, "[[1, 2], [3, 4]]", "application/json", Accept="application/json"
    )

    assert json.loads(got["Body"].read()) == [[3, 5], [7, 9]]
    assert (got["ContentType"], got["InvokedProductionVariant"]) == ("application/json", "All")


def test_the_last_container_answers_as_the_client_accepts(runtime: Any, pipeline: str) -> None:
    got = asked(runtime, pipeline, "1,2", "text/csv", Accept="text/csv")

    assert got["Body"].read() == b"3.0,5.0\n"


def test_a_failure_names_the_container(runtime: Any, pipeline: str) -> None:
    answer = refused(
        runtime.invoke_endpoint, EndpointName=pipeline, Body=b"x", ContentType="image/png"
    )

    assert answer["Error"]["Code"] == "ModelError"
    assert 'Received server error (500) from double with message "' in answer["Error"]["Message"]
    assert answer["OriginalStatusCode"] == 500


def test_a_container_is_asked_by_its_name(runtime: Any, direct: str) -> None:
    answers = [
        asked(runtime, direct, "[[5]]", "application/json", TargetContainerHostname=name)
        for name in ("double", "increase")
    ]

    assert [json.loads(each["Body"].read()) for each in answers] == [[[10]], [[6]]]


@pytest.mark.parametrize("target", [{}, {"TargetContainerHostname": "third"}])
def test_a_request_to_no_container_is_refused(
    runtime: Any, direct: str, target: dict[str, str]
) -> None:
    answer = refused(
        runtime.invoke_endpoint,
        EndpointName=direct,
        Body=b"[]",
        ContentType="application/json",
        **target,
    )

    assert answer["Error"]["Code"] == "ValidationError"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            {"TargetModel": "a.tar.gz"},
            "is not a multi-model endpoint and does not support target model header.",
        ),
        (
            {"TargetContainerHostname": "double"},
            "does not support target container hostname header.",
        ),
    ],
)
def test_a_pipeline_has_no_targets(
    runtime: Any, pipeline: str, target: dict[str, str], message: str
) -> None:
    answer = refused(
        runtime.invoke_endpoint, EndpointName=pipeline, Body=b"1", ContentType="text/csv", **target
    )

    assert answer["Error"]["Code"] == "ValidationError"
    assert answer["Error"]["Message"].endswith(message)


def test_a_batch_goes_through_the_containers(
    sagemaker: Any, s3: Any, bucket: str, steps: dict[str, dict[str, Any]]
) -> None:
    name = f"several-batch-{time.time_ns()}"
    first = {**steps["double"], "Environment": {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv"}}
    second = {**steps["increase"], "Environment": {"EXTRA": "0.5"}}
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, Containers=[first, second])
    s3.put_object(Bucket=bucket, Key=f"{name}/in/rows.csv", Body=b"1,2\n3,4\n")

    sagemaker.create_transform_job(
        TransformJobName=name,
        ModelName=name,
        TransformInput={
            "DataSource": {
                "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/{name}/in"}
            },
            "ContentType": "text/csv",
            "SplitType": "Line",
        },
        TransformOutput={
            "S3OutputPath": f"s3://{bucket}/{name}/out",
            "Accept": "text/csv",
            "AssembleWith": "Line",
        },
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    job = until(
        lambda: sagemaker.describe_transform_job(TransformJobName=name),
        lambda seen: seen["TransformJobStatus"] != "InProgress",
    )

    assert job["TransformJobStatus"] == "Completed", job.get("FailureReason")
    out = s3.get_object(Bucket=bucket, Key=f"{name}/out/rows.csv.out")["Body"].read()
    assert out == b"3.0,5.0\n7.0,9.0\n0.5\n"


def test_a_package_of_several_containers_is_served(
    sagemaker: Any, runtime: Any, endpoint: Made, steps: dict[str, dict[str, Any]]
) -> None:
    package = sagemaker.create_model_package(
        ModelPackageName=f"several-{time.time_ns()}",
        InferenceSpecification={
            "Containers": [
                {key: each for key, each in steps[name].items() if key != "ContainerHostname"}
                for name in ("increase", "double")
            ],
            "SupportedContentTypes": ["application/json"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
    )["ModelPackageArn"]

    name = endpoint({"ModelPackageName": package})

    assert json.loads(asked(runtime, name, "[[1]]", "application/json")["Body"].read()) == [[4]]


def test_a_model_of_files_that_are_not_packed_is_served(
    runtime: Any, s3: Any, bucket: str, endpoint: Made
) -> None:
    root = f"unpacked-{time.time_ns()}"
    for name, text in {"step.json": '{"times": 4}', "code/inference.py": STEP}.items():
        s3.put_object(Bucket=bucket, Key=f"{root}/{name}", Body=text.encode())
    source = {
        "S3Uri": f"s3://{bucket}/{root}/",
        "S3DataType": "S3Prefix",
        "CompressionType": "None",
    }

    name = endpoint(
        {"Image": f"{REGISTRY}/x:1", "ModelDataSource": {"S3DataSource": source}},
    )

    assert json.loads(asked(runtime, name, "[[2]]", "application/json")["Body"].read()) == [[8]]


def test_an_endpoint_goes_from_one_container_to_several_and_back(
    sagemaker: Any, runtime: Any, endpoint: Made, pipeline: str, steps: dict[str, dict[str, Any]]
) -> None:
    name = endpoint(steps["double"])
    one = json.loads(asked(runtime, name, "[[5]]", "application/json")["Body"].read())

    sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=pipeline)
    settled(sagemaker, name)
    several = json.loads(asked(runtime, name, "[[5]]", "application/json")["Body"].read())
    sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=name)
    settled(sagemaker, name)

    assert (one, several) == ([[10]], [[11]])
    assert json.loads(asked(runtime, name, "[[5]]", "application/json")["Body"].read()) == [[10]]


def test_a_shadow_of_several_containers_is_asked_as_well(
    sagemaker: Any,
    runtime: Any,
    s3: Any,
    bucket: str,
    steps: dict[str, dict[str, Any]],
    tmp_path: Path,
) -> None:
    name = f"shadowed-{time.time_ns()}"
    told = tmp_path / "told"
    tells = (
        STEP
        + f"""
def predict_fn(rows, step):
    with open({str(told)!r}, "w") as file:
        json.dump(rows, file)
    return rows
"""
    )
    s3.put_object(
        Bucket=bucket,
        Key=f"{name}.tar.gz",
        Body=archive({"step.json": "{}", "code/inference.py": tells}),
    )
    last = {"Image": f"{REGISTRY}/x:1", "ModelDataUrl": f"s3://{bucket}/{name}.tar.gz"}
    containers = {"live": [steps["increase"]], "shadow": [steps["double"], last]}
    for part, own in containers.items():
        sagemaker.create_model(ModelName=f"{name}-{part}", ExecutionRoleArn=ROLE, Containers=own)
    live, shadow = (
        {
            "VariantName": part,
            "ModelName": f"{name}-{part}",
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": 1,
        }
        for part in containers
    )
    sagemaker.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=[live], ShadowProductionVariants=[shadow]
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    settled(sagemaker, name)

    got = asked(runtime, name, "[[5]]", "application/json")

    assert json.loads(got["Body"].read()) == [[6]]
    assert until(lambda: told.exists() and told.read_text(), bool) == "[[10]]"
    sagemaker.delete_endpoint(EndpointName=name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Containers": [{"Image": "x/y:1"}] * 16}, ""),
        ({"Containers": [{"Image": "x/y:1", "ContainerHostname": "a"}] * 2}, "must be unique"),
        (
            {
                "Containers": [{"Image": "x/y:1", "ContainerHostname": "a"}, {"Image": "x/y:1"}],
                "InferenceExecutionConfig": {"Mode": "Direct"},
            },
            "needs a ContainerHostname for each container",
        ),
        ({"PrimaryContainer": {"Image": "x/y:1", "Mode": "MultiModel"}}, "needs ModelDataUrl"),
    ],
)
def test_containers_that_do_not_fit_together_are_refused(
    sagemaker: Any, changes: dict[str, Any], message: str
) -> None:
    answer = refused(sagemaker.create_model, ModelName="unfit", ExecutionRoleArn=ROLE, **changes)

    assert answer["Error"]["Code"] == "ValidationException"
    assert message in answer["Error"]["Message"]
