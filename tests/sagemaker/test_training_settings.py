"""Settings of training jobs that change how they run: pipes, isolation, checkpoints, warm pools."""

from __future__ import annotations

import gzip
import json
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import Server, archive, channel, image, until

Train = Callable[..., dict[str, Any]]


def shell(words: str) -> dict[str, Any]:
    """Return an algorithm that is a command."""
    return {
        **image("own-image:1"),
        "ContainerEntrypoint": ["/bin/sh", "-c"],
        "ContainerArguments": [words],
    }


def read(s3: Any, bucket: str, key: str) -> bytes:
    body: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return body


def unpacked(output: str = "s3://jobs/loose") -> dict[str, Any]:
    return {"S3OutputPath": output, "CompressionType": "NONE"}


def test_a_channel_in_pipe_mode_is_read_from_a_pipe_for_each_epoch(
    s3: Any, bucket: str, train: Train
) -> None:
    for name in "ab":
        s3.put_object(Bucket=bucket, Key=f"piped/{name}", Body=gzip.compress(f"{name}\n".encode()))
    words = (
        "cd /opt/ml/input/data; ls > /opt/ml/model/seen; "
        "cat train_0 train_1 | tr '\\n' , > /opt/ml/model/two; head -c 1 train_2; "
        "cp /opt/ml/input/config/inputdataconfig.json /opt/ml/model; cat train_3 > /opt/ml/model/last"
    )

    job = train(
        AlgorithmSpecification={**shell(words), "TrainingInputMode": "Pipe"},
        InputDataConfig=[
            channel("train", f"s3://{bucket}/piped/", CompressionType="Gzip"),
            channel("plain", f"s3://{bucket}/piped/", InputMode="FastFile"),
        ],
        OutputDataConfig=unpacked(),
    )

    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    uri = job["ModelArtifacts"]["S3ModelArtifacts"]
    assert uri == f"s3://jobs/loose/{job['TrainingJobName']}/output/model/"
    place = uri.removeprefix("s3://jobs/")
    assert read(s3, bucket, place + "seen") == b"plain\ntrain_0\n"
    assert read(s3, bucket, place + "two") == b"a,b,a,b,"
    assert read(s3, bucket, place + "last") == b"a\nb\n"
    about = json.loads(read(s3, bucket, place + "inputdataconfig.json"))
    assert about["train"]["TrainingInputMode"] == "Pipe"
    assert about["plain"]["TrainingInputMode"] == "FastFile"


def test_an_augmented_manifest_is_streamed_as_records_in_an_order_of_each_epoch(
    s3: Any, bucket: str, train: Train
) -> None:
    lines = []
    for number in range(6):
        s3.put_object(Bucket=bucket, Key=f"images/{number}.jpg", Body=f"image {number}".encode())
        lines.append(
            json.dumps({"source-ref": f"s3://{bucket}/images/{number}.jpg", "class": number})
        )
    s3.put_object(Bucket=bucket, Key="images/train.manifest", Body="\n".join(lines).encode())
    source = channel("train", f"s3://{bucket}/images/train.manifest")
    source["DataSource"]["S3DataSource"].update(
        S3DataType="AugmentedManifestFile", AttributeNames=["source-ref", "class"]
    )
    words = "cd /opt/ml/input/data; for n in 0 1; do cat train_$n > /opt/ml/model/$n; done"

    job = train(
        AlgorithmSpecification=shell(words),
        InputDataConfig=[
            {
                **source,
                "InputMode": "Pipe",
                "RecordWrapperType": "RecordIO",
                "ShuffleConfig": {"Seed": 5},
            }
        ],
        OutputDataConfig=unpacked(),
    )

    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    place = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://jobs/")
    first, second = (records(read(s3, bucket, f"{place}{n}")) for n in (0, 1))
    pairs = [(b"image %d" % number, b"%d" % number) for number in range(6)]
    for found in (first, second):
        assert sorted(zip(found[::2], found[1::2], strict=True)) == pairs
    assert first != second


def records(data: bytes) -> list[bytes]:
    found = []
    while data:
        sign, length = struct.unpack("<II", data[:8])
        assert sign == 0xCED7230A
        found.append(data[8 : 8 + length])
        data = data[8 + length + -length % 4 :]
    return found


def test_data_that_cannot_be_unpacked_fail_the_job(s3: Any, bucket: str, train: Train) -> None:
    s3.put_object(Bucket=bucket, Key="torn/a.gz", Body=gzip.compress(bytes(99999))[:-20])
    source = channel("train", f"s3://{bucket}/torn/", CompressionType="Gzip", InputMode="Pipe")

    job = train(
        AlgorithmSpecification=shell("cat /opt/ml/input/data/train_0 > /dev/null; sleep 60"),
        InputDataConfig=[source],
    )

    assert job["TrainingJobStatus"] == "Failed"
    assert "The channel train cannot be streamed" in job["FailureReason"]


@pytest.mark.parametrize("n_hosts", [1, 2])
def test_an_isolated_job_reaches_its_hosts_and_nothing_else(
    server: Server, s3: Any, bucket: str, train: Train, n_hosts: int
) -> None:
    port = server.url.rpartition(":")[2]
    code = (
        "import os, socket\n"
        "assert 'AWS_SECRET_ACCESS_KEY' not in os.environ\n"
        "own = socket.create_server((os.environ['SM_CURRENT_HOST'], 7777))\n"
        "socket.create_connection((os.environ['SM_CURRENT_HOST'], 7777), 5)\n"
        "try:\n"
        f"    socket.create_connection(('127.0.0.1', {port}), 5)\n"
        "except ConnectionRefusedError:\n"
        "    open('/opt/ml/model/' + os.environ['SM_CURRENT_HOST'], 'w').write('alone')\n"
    )
    packed = archive({"train.py": code})
    s3.put_object(Bucket=bucket, Key="isolated/sourcedir.tar.gz", Body=packed)

    job = train(
        AlgorithmSpecification=image("own-image:1"),
        HyperParameters={
            "sagemaker_program": "train.py",
            "sagemaker_submit_directory": "/opt/ml/input/data/code/sourcedir.tar.gz",
        },
        InputDataConfig=[channel("code", f"s3://{bucket}/isolated/sourcedir.tar.gz")],
        EnableNetworkIsolation=True,
        OutputDataConfig=unpacked(),
        ResourceConfig={
            "InstanceType": "ml.m5.large",
            "InstanceCount": n_hosts,
            "VolumeSizeInGB": 1,
        },
    )

    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert job["EnableNetworkIsolation"] is True
    place = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://jobs/")
    for number in range(1, n_hosts + 1):
        assert read(s3, bucket, f"{place}algo-{number}") == b"alone"


def test_checkpoints_are_in_s3_while_the_job_runs_and_come_back(
    s3: Any, sagemaker: Any, bucket: str, train: Train
) -> None:
    about = {"S3Uri": f"s3://{bucket}/kept/one", "LocalPath": "/opt/ml/own/states"}
    words = "cd /opt/ml/own/states; cat state 2>/dev/null > /opt/ml/model/had; echo 1 >> state; "
    first = train(
        wait=False,
        AlgorithmSpecification=shell(words + "sleep 100"),
        CheckpointConfig=about,
        EnableManagedSpotTraining=True,
        StoppingCondition={"MaxRuntimeInSeconds": 300, "MaxWaitTimeInSeconds": 600},
    )

    def kept() -> list[str]:
        listed = s3.list_objects_v2(Bucket=bucket, Prefix="kept/one/")
        return [each["Key"] for each in listed.get("Contents", ())]

    until(kept, lambda found: found == ["kept/one/state"], limit_s=20)
    sagemaker.stop_training_job(TrainingJobName=first["TrainingJobName"])

    second = train(
        AlgorithmSpecification=shell(words), CheckpointConfig=about, OutputDataConfig=unpacked()
    )

    assert second["TrainingJobStatus"] == "Completed", second.get("FailureReason")
    place = second["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://jobs/")
    assert read(s3, bucket, place + "had") == b"1\n"
    assert read(s3, bucket, "kept/one/state") == b"1\n1\n"


def test_a_warm_pool_is_kept_for_its_period_which_can_be_changed(
    sagemaker: Any, train: Train
) -> None:
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
    job = train(
        AlgorithmSpecification=shell("true"),
        ResourceConfig={**resources, "KeepAlivePeriodInSeconds": 600},
        RetryStrategy={"MaximumRetryAttempts": 2},
    )
    name = job["TrainingJobName"]
    assert job["WarmPoolStatus"]["Status"] == "Available"
    assert job["RetryStrategy"] == {"MaximumRetryAttempts": 2}

    sagemaker.update_training_job(
        TrainingJobName=name, ResourceConfig={"KeepAlivePeriodInSeconds": 1}
    )

    time.sleep(1)
    ended = sagemaker.describe_training_job(TrainingJobName=name)
    assert ended["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 1
    assert ended["WarmPoolStatus"] == {
        "Status": "Terminated",
        "ResourceRetainedBillableTimeInSeconds": 1,
    }
    with pytest.raises(ClientError, match="has no warm pool that could be updated"):
        sagemaker.update_training_job(
            TrainingJobName=name, ResourceConfig={"KeepAlivePeriodInSeconds": 5}
        )
