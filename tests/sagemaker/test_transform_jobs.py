"""Batch transform through boto3, the models really asked."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError

from .conftest import REGISTRY, ROLE, Server, archive, channel, image, until

GROUP = "/aws/sagemaker/TransformJobs"
SERVING = """
import json, time

def model_fn(model_dir):
    return 10

def transform_fn(model, body, content_type, accept):
    body = body.decode() if isinstance(body, bytes) else body
    if "break" in body:
        raise RuntimeError("asked to break")
    if "wait" in body:
        time.sleep(60)
    lines = [line for line in body.splitlines() if line]
    if content_type == "text/csv":
        rows = [[float(cell) for cell in line.split(",")] for line in lines]
        return "".join(f"{model * sum(row)}\\n" for row in rows), "text/csv"
    return "".join(json.dumps({"n": len(json.loads(line))}) + "\\n" for line in lines), accept
"""
Transform = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def models(sagemaker: Any, s3: Any, bucket: str) -> dict[str, str]:
    """Return the names of a script's model and of an XGBoost model."""
    s3.put_object(Bucket=bucket, Key="batch/m.tar.gz", Body=archive({"code/inference.py": SERVING}))
    X = np.random.default_rng(6).normal(size=(200, 2))
    rows = "\n".join(f"{int(x[0] > 0)},{x[0]!r},{x[1]!r}" for x in X.tolist())
    s3.put_object(Bucket=bucket, Key="batch/train.csv", Body=rows.encode())
    sagemaker.create_training_job(
        TrainingJobName="batch-xgboost",
        RoleArn=ROLE,
        AlgorithmSpecification=image("sagemaker-xgboost:1.7-1"),
        HyperParameters={"objective": "binary:logistic", "num_round": "5"},
        InputDataConfig=[
            channel("train", f"s3://{bucket}/batch/train.csv", ContentType="text/csv")
        ],
        OutputDataConfig={"S3OutputPath": f"s3://{bucket}/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 100},
    )
    job = until(
        lambda: sagemaker.describe_training_job(TrainingJobName="batch-xgboost"),
        lambda seen: seen["TrainingJobStatus"] != "InProgress",
    )
    places = {
        "script": f"s3://{bucket}/batch/m.tar.gz",
        "xgboost": job["ModelArtifacts"]["S3ModelArtifacts"],
    }
    for name, uri in places.items():
        sagemaker.create_model(
            ModelName=f"batch-{name}",
            ExecutionRoleArn=ROLE,
            PrimaryContainer={"Image": f"{REGISTRY}/x:1", "ModelDataUrl": uri},
        )
    return {name: f"batch-{name}" for name in places}


@pytest.fixture
def transform(sagemaker: Any, s3: Any, bucket: str) -> Transform:
    """Return a function that puts files, transforms them and returns the job and its outputs."""

    def run(
        model: str, files: dict[str, bytes], *, wait: bool = True, n: int = 1, **more: Any
    ) -> Any:
        name = f"transform-{time.time_ns()}"
        for key, body in files.items():
            s3.put_object(Bucket=bucket, Key=f"batch-in/{name}/{key}", Body=body)
        given = {
            "ContentType": "text/csv",
            "SplitType": "Line",
            **more.pop("TransformInput", {}),
        }
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/batch-in/{name}/"}
        out = {
            "S3OutputPath": f"s3://{bucket}/batch-out/{name}",
            "AssembleWith": "Line",
            "Accept": "text/csv",
            **more.pop("TransformOutput", {}),
        }
        sagemaker.create_transform_job(
            TransformJobName=name,
            ModelName=model,
            TransformInput={"DataSource": {"S3DataSource": source}, **given},
            TransformOutput=out,
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": n},
            **more,
        )
        if not wait:
            return {"TransformJobName": name}
        job = until(
            lambda: sagemaker.describe_transform_job(TransformJobName=name),
            lambda seen: seen["TransformJobStatus"] not in ("InProgress", "Stopping"),
        )
        prefix = f"batch-out/{name}/"
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        job["outputs"] = {
            each["Key"].removeprefix(prefix): s3.get_object(Bucket=bucket, Key=each["Key"])["Body"]
            .read()
            .decode()
            for each in listed
        }
        return job

    return run


@pytest.mark.parametrize("kind", ["script", "xgboost"])
def test_instances_divide_the_files(
    transform: Transform, models: dict[str, str], kind: str
) -> None:
    files = {f"{number}.csv": b"1,2\n3,4\n" * (number + 1) for number in range(5)}

    job = transform(models[kind], files, n=3)

    assert job["TransformJobStatus"] == "Completed", job.get("FailureReason")
    outputs = job["outputs"]
    assert sorted(outputs) == [f"{name}.out" for name in sorted(files)]
    assert {name: len(said.splitlines()) for name, said in outputs.items()} == {
        f"{number}.csv.out": 2 * (number + 1) for number in range(5)
    }


def refused(call: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def data_log(server: Server, name: str) -> str:
    logs = server.client("logs")
    found = logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=f"{name}/")
    stream = next(
        each["logStreamName"]
        for each in found["logStreams"]
        if each["logStreamName"].endswith("/data-log")
    )
    got = logs.get_log_events(logGroupName=GROUP, logStreamName=stream, startFromHead=True)
    return "\n".join(each["message"] for each in got["events"])


def test_every_file_of_a_prefix_gets_its_answers_in_a_file_of_its_name(
    models: dict[str, str], transform: Transform
) -> None:
    job = transform(models["xgboost"], {"a.csv": b"2,0\n-2,0\n", "sub/b.csv": b"3,1\n"})

    assert job["TransformJobStatus"] == "Completed", job.get("FailureReason")
    assert sorted(job["outputs"]) == ["a.csv.out", "sub/b.csv.out"]
    first = [float(line) for line in job["outputs"]["a.csv.out"].splitlines()]
    assert first[0] > 0.5 > first[1]
    assert job["outputs"]["a.csv.out"].endswith("\n")
    assert job["TransformEndTime"] >= job["TransformStartTime"]
    assert job["ModelName"] == models["xgboost"]


def test_ids_are_kept_from_the_model_and_stand_beside_its_answers(
    models: dict[str, str], transform: Transform
) -> None:
    about = {"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"}

    job = transform(
        models["script"], {"a.csv": b"7,1,2\n8,3,4\n"}, DataProcessing=about, MaxPayloadInMB=1
    )

    assert job["TransformJobStatus"] == "Completed", job.get("FailureReason")
    assert job["outputs"] == {"a.csv.out": "7,30.0\n8,70.0\n"}
    assert job["DataProcessing"] == about


def test_json_lines_one_by_one_from_a_packed_file(
    models: dict[str, str], transform: Transform
) -> None:
    job = transform(
        models["script"],
        {"a.jsonl.gz": gzip.compress(b'[1, 2]\n{"x": 1}\n')},
        BatchStrategy="SingleRecord",
        MaxConcurrentTransforms=2,
        TransformInput={"ContentType": "application/jsonlines", "CompressionType": "Gzip"},
        TransformOutput={"Accept": "application/jsonlines"},
        DataProcessing={"JoinSource": "Input"},
    )

    assert job["TransformJobStatus"] == "Completed", job.get("FailureReason")
    assert [json.loads(line) for line in job["outputs"]["a.jsonl.gz.out"].splitlines()] == [
        {"SageMakerInput": [1, 2], "SageMakerOutput": {"n": 2}},
        {"x": 1, "SageMakerOutput": {"n": 1}},
    ]


def test_a_file_that_fails_gets_no_output_and_the_others_do(
    server: Server, models: dict[str, str], transform: Transform
) -> None:
    job = transform(
        models["script"],
        {"bad.csv": b"break\n", "good.csv": b"1,2\n"},
        ModelClientConfig={"InvocationsMaxRetries": 0},
    )

    log = data_log(server, job["TransformJobName"])
    assert job["TransformJobStatus"] == "Failed"
    assert job["FailureReason"] == "AlgorithmError: See job logs for more information"
    assert job["outputs"] == {"good.csv.out": "30.0\n"}
    assert "/bad.csv: Bad HTTP status received from algorithm: 500" in log
    assert "/bad.csv: RuntimeError: asked to break" in log
    assert "BatchStrategy=MULTI_RECORD" in log


def test_rows_that_the_algorithm_cannot_read_are_the_client_s_fault(
    server: Server, models: dict[str, str], transform: Transform
) -> None:
    job = transform(models["xgboost"], {"wide.csv": b"1,2,3\n"})

    assert job["TransformJobStatus"] == "Failed"
    assert job["FailureReason"] == "ClientError: See job logs for more information"
    assert "row 1 has 3 values" in data_log(server, job["TransformJobName"])


def test_a_transform_is_stopped(
    sagemaker: Any, models: dict[str, str], transform: Transform
) -> None:
    name = transform(models["script"], {"a.csv": b"wait\n"}, wait=False)["TransformJobName"]
    until(
        lambda: sagemaker.describe_transform_job(TransformJobName=name),
        lambda seen: "TransformStartTime" in seen,
    )

    sagemaker.stop_transform_job(TransformJobName=name)
    job = until(
        lambda: sagemaker.describe_transform_job(TransformJobName=name),
        lambda seen: seen["TransformJobStatus"] not in ("InProgress", "Stopping"),
    )

    assert job["TransformJobStatus"] == "Stopped"
    assert refused(sagemaker.stop_transform_job, TransformJobName=name) == (
        "ValidationException",
        "The request was rejected because the transform job is in status Stopped.",
    )
    found = sagemaker.list_transform_jobs(NameContains=name, StatusEquals="Stopped")
    assert [each["TransformJobName"] for each in found["TransformJobSummaries"]] == [name]


def test_requests_that_make_no_transform_are_refused(
    sagemaker: Any, s3: Any, bucket: str, models: dict[str, str]
) -> None:
    s3.put_object(Bucket=bucket, Key="batch-one/a.csv", Body=b"1,2\n")

    def said(**changes: Any) -> tuple[str, str]:
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/batch-one/"}
        given = {
            "TransformJobName": "no",
            "ModelName": models["script"],
            "TransformInput": {"DataSource": {"S3DataSource": source}, "ContentType": "text/csv"},
            "TransformOutput": {"S3OutputPath": f"s3://{bucket}/batch-none"},
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
            **changes,
        }
        return refused(sagemaker.create_transform_job, **given)

    arn = "arn:aws:sagemaker:us-east-1:123456789012:model/nobody"
    nothing = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/batch-empty/"}
    assert said(ModelName="nobody") == (
        "ValidationException",
        f'Could not find model "{arn}".',
    )
    assert (
        "No S3 objects found"
        in said(
            TransformInput={"DataSource": {"S3DataSource": nothing}, "ContentType": "text/csv"}
        )[1]
    )
    assert "JSONPath '$..x' is invalid" in said(DataProcessing={"InputFilter": "$..x"})[1]
    assert "MaxPayloadInMB cannot be greater" in said(MaxPayloadInMB=101)[1]
    assert said(TransformResources={"InstanceType": "ml.p3.2xlarge", "InstanceCount": 1})[0] == (
        "ResourceLimitExceeded"
    )
    assert (
        "both be CSV"
        in said(
            DataProcessing={"JoinSource": "Input"},
            TransformOutput={"S3OutputPath": f"s3://{bucket}/x", "Accept": "application/json"},
        )[1]
    )
    assert refused(sagemaker.describe_transform_job, TransformJobName="no") == (
        "ValidationException",
        "Could not find requested job with name: no",
    )
