"""Training jobs through boto3, really run."""

from __future__ import annotations

import io
import json
import tarfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError

from .conftest import ROLE, Server, archive, channel, image, until

GROUP = "/aws/sagemaker/TrainingJobs"
SCRIPT = """
import argparse, json, os
words = argparse.ArgumentParser()
words.add_argument("--alpha", type=float)
alpha = words.parse_args().alpha
with open("/opt/ml/input/config/resourceconfig.json") as file:
    about = json.load(file)
print("rmse: 0.75")
print("rmse: 0.25")
print(sorted(os.listdir(os.environ["SM_CHANNEL_TRAIN"])), alpha, about["current_instance_type"])
with open(os.path.join(os.environ["SM_MODEL_DIR"], "m.txt"), "w") as file:
    file.write(os.environ["TRAINING_JOB_NAME"])
"""
SKLEARN = "sagemaker-scikit-learn:0.23-1-cpu-py3"
Train = Callable[..., dict[str, Any]]


def script(s3: Any, bucket: str, code: str, **parameters: Any) -> dict[str, Any]:
    key = f"code/{time.time_ns()}/sourcedir.tar.gz"
    s3.put_object(Bucket=bucket, Key=key, Body=archive({"train.py": code}))
    given = {
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": f"s3://{bucket}/{key}",
        **parameters,
    }
    # the second SDK writes every value as JSON
    return {name: json.dumps(value) for name, value in given.items()}


def refused(call: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def lines(server: Server, name: str) -> list[str]:
    logs = server.client("logs")
    found = logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=f"{name}/")
    stream = found["logStreams"][0]["logStreamName"]
    got = logs.get_log_events(logGroupName=GROUP, logStreamName=stream, startFromHead=True)
    again = logs.get_log_events(
        logGroupName=GROUP, logStreamName=stream, nextToken=got["nextForwardToken"]
    )
    assert again["events"] == []
    assert again["nextForwardToken"] == got["nextForwardToken"]
    return [each["message"] for each in got["events"]]


def test_a_script_runs_and_its_model_log_and_metrics_are_where_clients_look(
    server: Server, s3: Any, bucket: str, train: Train
) -> None:
    for name in ("a.csv", "sub/b.csv"):
        s3.put_object(Bucket=bucket, Key=f"data/{name}", Body=b"1,2\n")
    spec = {**image(SKLEARN), "MetricDefinitions": [{"Name": "rmse", "Regex": "rmse: ([0-9.]+)"}]}

    job = train(
        AlgorithmSpecification=spec,
        HyperParameters=script(s3, bucket, SCRIPT, alpha=0.5),
        InputDataConfig=[channel("train", f"s3://{bucket}/data/")],
        Tags=[{"Key": "team", "Value": "a"}],
    )

    name = job["TrainingJobName"]
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Completed", "Completed")
    uri = job["ModelArtifacts"]["S3ModelArtifacts"]
    assert uri == f"s3://{bucket}/out/{name}/output/model.tar.gz"
    body = s3.get_object(Bucket=bucket, Key=f"out/{name}/output/model.tar.gz")["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as packed:
        member = packed.extractfile("m.txt")
        assert member is not None
        assert member.read().decode() == name
    assert "['a.csv', 'sub'] 0.5 ml.m5.large" in lines(server, name)
    assert [(m["MetricName"], m["Value"]) for m in job["FinalMetricDataList"]] == [("rmse", 0.25)]
    statuses = [each["Status"] for each in job["SecondaryStatusTransitions"]]
    assert statuses == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    sagemaker = server.client("sagemaker")
    assert sagemaker.list_tags(ResourceArn=job["TrainingJobArn"])["Tags"] == [
        {"Key": "team", "Value": "a"}
    ]
    at = datetime.now(UTC)
    points = server.client("cloudwatch").get_metric_statistics(
        Namespace=GROUP,
        MetricName="rmse",
        Dimensions=[{"Name": "TrainingJobName", "Value": name}],
        StartTime=at - timedelta(hours=1),
        EndTime=at + timedelta(hours=1),
        Period=3600,
        Statistics=["Average", "SampleCount"],
    )["Datapoints"]
    assert sum(each["Average"] * each["SampleCount"] for each in points) == pytest.approx(1.0)


def test_a_script_that_fails_says_why(s3: Any, bucket: str, train: Train) -> None:
    code = "import sys\nopen('/opt/ml/output/failure', 'w').write('no luck today')\nsys.exit(3)\n"

    job = train(AlgorithmSpecification=image(SKLEARN), HyperParameters=script(s3, bucket, code))

    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"] == "AlgorithmError: no luck today, exit code: 3"


def test_a_container_entry_point_runs_in_place_of_an_image(server: Server, train: Train) -> None:
    spec = {
        **image("anything:1"),
        "ContainerEntrypoint": ["/bin/bash", "-c"],
        "ContainerArguments": ['echo "$SM_HP_A" > /opt/ml/model/out; cat /opt/ml/model/out'],
    }

    job = train(AlgorithmSpecification=spec, HyperParameters={"a": "seven"})

    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert "seven" in lines(server, job["TrainingJobName"])


def test_a_job_that_is_stopped_keeps_its_model(
    server: Server, sagemaker: Any, s3: Any, bucket: str, train: Train
) -> None:
    code = (
        "import os, sys, time\nopen('/opt/ml/model/half', 'w').write('x')\n"
        "print('ready', flush=True)\ntime.sleep(100)\n"
    )
    job = train(
        wait=False, AlgorithmSpecification=image(SKLEARN), HyperParameters=script(s3, bucket, code)
    )
    name = job["TrainingJobName"]

    def said() -> list[str]:
        try:
            return lines(server, name)
        except (ClientError, IndexError):
            return []

    until(said, lambda found: "ready" in found)

    sagemaker.stop_training_job(TrainingJobName=name)

    ended = until(
        lambda: sagemaker.describe_training_job(TrainingJobName=name),
        lambda seen: seen["TrainingJobStatus"] not in ("InProgress", "Stopping"),
    )
    assert ended["TrainingJobStatus"] == "Stopped"
    assert s3.head_object(Bucket=bucket, Key=f"out/{name}/output/model.tar.gz")["ContentLength"]
    assert refused(sagemaker.stop_training_job, TrainingJobName=name)[0] == "ValidationException"


def test_of_two_clients_that_make_one_name_at_once_one_is_refused(
    server: Server, s3: Any, bucket: str, train: Train
) -> None:
    code = script(s3, bucket, "print('once')")
    outcomes: list[str] = []

    def create() -> None:
        try:
            server.client("sagemaker").create_training_job(
                TrainingJobName="twins",
                RoleArn=ROLE,
                AlgorithmSpecification=image(SKLEARN),
                HyperParameters=code,
                OutputDataConfig={"S3OutputPath": f"s3://{bucket}/out"},
                ResourceConfig={
                    "InstanceType": "ml.m5.large",
                    "InstanceCount": 1,
                    "VolumeSizeInGB": 1,
                },
                StoppingCondition={"MaxRuntimeInSeconds": 60},
            )
            outcomes.append("made")
        except ClientError as error:
            outcomes.append(error.response["Error"]["Code"])

    threads = [threading.Thread(target=create) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert sorted(outcomes) == ["ResourceInUse", "ResourceInUse", "ResourceInUse", "made"]


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        (
            {"InputDataConfig": [channel("train", "s3://jobs/nothing/here")]},
            "ValidationException",
            "No S3 objects found under S3 URL",
        ),
        (
            {"OutputDataConfig": {"S3OutputPath": "s3://no-such-bucket/out"}},
            "ValidationException",
            "no-such-bucket",
        ),
        (
            {
                "ResourceConfig": {
                    "InstanceType": "ml.p3.16xlarge",
                    "InstanceCount": 1,
                    "VolumeSizeInGB": 1,
                }
            },
            "ResourceLimitExceeded",
            "service limit 'ml.p3.16xlarge for training job usage' is 0 Instances",
        ),
        (
            {"AlgorithmSpecification": image("blazingtext:1")},
            "ValidationException",
            "'blazingtext' is not supported yet",
        ),
        (
            {"AlgorithmSpecification": image("someone/own:latest"), "HyperParameters": {}},
            "ValidationException",
            "cannot be pulled",
        ),
        (
            {"AlgorithmSpecification": image("sagemaker-xgboost:1.7-1"), "HyperParameters": {}},
            "ValidationException",
            "Missing required hyperparameter of xgboost: num_round",
        ),
        (
            {
                "AlgorithmSpecification": image("sagemaker-xgboost:1.7-1"),
                "HyperParameters": {"num_round": "5", "eta": "7"},
            },
            "ValidationException",
            "eta",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_written(
    sagemaker: Any, s3: Any, bucket: str, train: Train, changes: Any, code: str, said: str
) -> None:
    wanted = {
        "name": f"refused-{time.time_ns()}",
        "AlgorithmSpecification": image(SKLEARN),
        "HyperParameters": script(s3, bucket, "print(1)"),
        **changes,
    }

    found = refused(train, **wanted)

    assert found[0] == code
    assert said in found[1]
    assert refused(sagemaker.describe_training_job, TrainingJobName=wanted["name"]) == (
        "ValidationException",
        "Requested resource not found.",
    )


@pytest.mark.parametrize("member", ["../evil.py", "/evil.py", "link"])
def test_code_that_would_leave_its_folder_is_refused(
    s3: Any, bucket: str, train: Train, member: str
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        info = tarfile.TarInfo(member)
        if member == "link":
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(info, io.BytesIO(b""))
    s3.put_object(Bucket=bucket, Key="code/evil.tar.gz", Body=buffer.getvalue())
    given = {
        "sagemaker_program": '"train.py"',
        "sagemaker_submit_directory": f'"s3://{bucket}/code/evil.tar.gz"',
    }

    code, said = refused(train, AlgorithmSpecification=image(SKLEARN), HyperParameters=given)

    assert code == "ValidationException"
    assert "leads out of it, or is a link" in said


def rows(y: Any, X: Any) -> bytes:
    table = np.column_stack([y, X])
    return "\n".join(",".join(repr(float(each)) for each in row) for row in table).encode()


def test_built_in_xgboost_learns_and_tells_its_metrics(s3: Any, bucket: str, train: Train) -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(300, 3))
    y = (X[:, 0] > 0).astype(float)
    s3.put_object(Bucket=bucket, Key="bin/train/a.csv", Body=rows(y[:200], X[:200]))
    s3.put_object(Bucket=bucket, Key="bin/validation/a.csv", Body=rows(y[200:], X[200:]))

    job = train(
        AlgorithmSpecification=image("sagemaker-xgboost:1.7-1"),
        HyperParameters={
            "num_round": "10",
            "objective": "binary:logistic",
            "eval_metric": "error,auc",
        },
        InputDataConfig=[
            channel(name, f"s3://{bucket}/bin/{name}", ContentType="text/csv")
            for name in ("train", "validation")
        ],
    )

    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    metrics = {each["MetricName"]: each["Value"] for each in job["FinalMetricDataList"]}
    assert metrics["validation:auc"] > 0.95
    assert metrics["validation:error"] < 0.2
    # `TrainingJobAnalytics` of the second SDK asks for the definitions that an algorithm has itself
    defined = {each["Name"] for each in job["AlgorithmSpecification"]["MetricDefinitions"]}
    assert set(metrics) <= defined
    key = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix(f"s3://{bucket}/")
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as packed:
        member = packed.extractfile("xgboost-model")
        assert member is not None
        native = member.read()
    import xgboost

    booster = xgboost.Booster()
    booster.load_model(bytearray(native))
    assert booster.num_boosted_rounds() == 10


def test_jobs_are_listed_filtered_and_searched(
    sagemaker: Any, s3: Any, bucket: str, train: Train
) -> None:
    names = [
        train(
            name=f"enlisted-{number}",
            AlgorithmSpecification=image(SKLEARN),
            HyperParameters=script(s3, bucket, "print(1)"),
        )["TrainingJobName"]
        for number in range(3)
    ]

    pages = sagemaker.get_paginator("list_training_jobs").paginate(
        NameContains="ENLISTED-",
        SortBy="Name",
        SortOrder="Ascending",
        PaginationConfig={"PageSize": 2},
    )
    listed = [each["TrainingJobName"] for page in pages for each in page["TrainingJobSummaries"]]
    found = sagemaker.search(
        Resource="TrainingJob",
        SearchExpression={
            "Filters": [
                {"Name": "TrainingJobName", "Operator": "Contains", "Value": "enlisted-"},
                {"Name": "TrainingJobStatus", "Operator": "Equals", "Value": "Completed"},
            ]
        },
    )["Results"]

    assert listed == names
    assert {each["TrainingJob"]["TrainingJobName"] for each in found} == set(names)
    assert (
        sagemaker.list_training_jobs(StatusEquals="Failed", NameContains="enlisted-")[
            "TrainingJobSummaries"
        ]
        == []
    )
