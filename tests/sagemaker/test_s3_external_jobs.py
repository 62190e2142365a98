"""Jobs, models, endpoints and captures of a server whose buckets are in another store: moto's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from botocore.exceptions import ClientError

from .conftest import REGISTRY, ROLE, Server, archive, channel, image, key_for, started, until

SECRET = "a-secret-that-nobody-else-has"
PASS = {"AWS_ACCESS_KEY_ID": "STOREKEY", "AWS_SECRET_ACCESS_KEY": SECRET}
ROOT = "/opt/ml/processing"
SCRIPT = """
import os, shutil
for name in sorted(os.listdir(os.environ["SM_CHANNEL_TRAINING"])):
    shutil.copy(os.path.join(os.environ["SM_CHANNEL_TRAINING"], name), os.environ["SM_MODEL_DIR"])
print("rows:", open(os.path.join(os.environ["SM_MODEL_DIR"], "train.csv")).read().count("\\n"))
"""


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of moto's S3, in a process of its own."""
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        found = until(
            lambda: re.search(r"http://127\.0\.0\.1:\d+", log.read_text()),
            lambda seen: seen is not None or process.poll() is not None,
        )
        assert found, log.read_text()
        yield found[0]
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def server(moto: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server that was told by its environment where its buckets are."""
    home = tmp_path_factory.mktemp("elsewhere") / "home"
    home.mkdir(mode=0o700)
    with started(home, LOOPWRIGHT_S3_URL=moto, **PASS) as (process, url):
        yield Server(url=url, home=home, key=key_for(home), pid=process.pid)


@pytest.fixture(scope="module")
def s3(server: Server) -> Any:
    """Return a client of the server's S3."""
    return server.client("s3")


@pytest.fixture(scope="module")
def sagemaker(server: Server) -> Any:
    """Return a client of the server's SageMaker."""
    return server.client("sagemaker")


@pytest.fixture(scope="module")
def store(moto: str) -> Any:
    """Return a client of the store itself."""
    return boto3.client(
        "s3",
        endpoint_url=moto,
        region_name="us-east-1",
        aws_access_key_id="direct",
        aws_secret_access_key="direct",
    )


@pytest.fixture(scope="module")
def bucket(s3: Any, store: Any) -> str:
    """Return a bucket with rows to learn from."""
    s3.create_bucket(Bucket="jobs")
    X = np.random.default_rng(2).normal(size=(200, 3))
    rows = "\n".join(f"{int(x[0] > 0)},{x[0]!r},{x[1]!r},{x[2]!r}" for x in X.tolist())
    store.put_object(Bucket="jobs", Key="data/train.csv", Body=rows.encode())
    return "jobs"


@pytest.fixture(scope="module")
def model(sagemaker: Any, bucket: str) -> str:
    """Return the name of a model that was trained from the store into the store."""
    sagemaker.create_training_job(
        TrainingJobName="linear",
        RoleArn=ROLE,
        AlgorithmSpecification=image("linear-learner:1"),
        HyperParameters={"predictor_type": "binary_classifier"},
        InputDataConfig=[channel("train", f"s3://{bucket}/data/", ContentType="text/csv")],
        OutputDataConfig={"S3OutputPath": f"s3://{bucket}/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 100},
    )
    job = until(
        lambda: sagemaker.describe_training_job(TrainingJobName="linear"),
        lambda seen: seen["TrainingJobStatus"] != "InProgress",
    )
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    about = {
        "Image": f"{REGISTRY}/linear-learner:1",
        "ModelDataUrl": job["ModelArtifacts"]["S3ModelArtifacts"],
    }
    sagemaker.create_model(ModelName="linear", ExecutionRoleArn=ROLE, PrimaryContainer=about)
    return "linear"


def keys(store: Any, bucket: str, prefix: str) -> list[str]:
    listed = store.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return [each["Key"] for each in listed]


def test_a_model_is_trained_served_and_captured_and_all_of_it_lies_in_the_store(
    server: Server, sagemaker: Any, store: Any, bucket: str, model: str
) -> None:
    sagemaker.create_endpoint_config(
        EndpointConfigName=model,
        ProductionVariants=[
            {
                "VariantName": "all",
                "ModelName": model,
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
            }
        ],
        DataCaptureConfig={
            "EnableCapture": True,
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": f"s3://{bucket}/captured",
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"]},
        },
    )
    sagemaker.create_endpoint(EndpointName=model, EndpointConfigName=model)
    found = until(
        lambda: sagemaker.describe_endpoint(EndpointName=model),
        lambda seen: seen["EndpointStatus"] in ("InService", "Failed"),
    )
    assert found["EndpointStatus"] == "InService", found.get("FailureReason")

    said = (
        server.client("sagemaker-runtime")
        .invoke_endpoint(
            EndpointName=model, Body=b"2.0,0.1,0.1", ContentType="text/csv", Accept="text/csv"
        )["Body"]
        .read()
    )
    captured = until(lambda: keys(store, bucket, f"captured/{model}/all/"), bool)
    sagemaker.delete_endpoint(EndpointName=model)

    line = json.loads(store.get_object(Bucket=bucket, Key=captured[0])["Body"].read())
    assert said
    assert line["captureData"]["endpointInput"]["data"] == "2.0,0.1,0.1"
    assert keys(store, bucket, f"out/{model}/") == [f"out/{model}/output/model.tar.gz"]
    # nothing is in the embedded store, and the secret is nowhere
    assert not (server.home / "s3").exists()
    assert SECRET.encode() not in b"".join(
        path.read_bytes() for path in server.home.rglob("*") if path.is_file()
    )


def test_a_script_gets_its_channel_and_another_job_gets_it_without_asking_the_store_again(
    server: Server, s3: Any, store: Any, bucket: str, train: Callable[..., Any]
) -> None:
    def ran() -> dict[str, Any]:
        found: dict[str, Any] = train(
            AlgorithmSpecification=image("sagemaker-scikit-learn:0.23-1-cpu-py3"),
            HyperParameters={
                "sagemaker_program": '"train.py"',
                "sagemaker_submit_directory": f'"s3://{bucket}/code/source.tar.gz"',
            },
            InputDataConfig=[channel("training", f"s3://{bucket}/data")],
        )
        return found

    s3.put_object(Bucket=bucket, Key="code/source.tar.gz", Body=archive({"train.py": SCRIPT}))

    first = ran()
    kept = {path: path.stat().st_ino for path in copies(server)}
    second = ran()

    for job in (first, second):
        assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert kept
    assert {path: path.stat().st_ino for path in copies(server) if path in kept} == kept


def copies(server: Server) -> list[Path]:
    folder = server.home / "sagemaker" / "objects"
    return [path for path in folder.rglob("*") if path.is_file()]


def test_batch_transform_and_a_processing_job(
    sagemaker: Any, store: Any, bucket: str, model: str
) -> None:
    store.put_object(Bucket=bucket, Key="rows/a.csv", Body=b"2.0,0.1,0.1\n-2.0,0.1,0.1\n")

    sagemaker.create_transform_job(
        TransformJobName=model,
        ModelName=model,
        TransformInput={
            "DataSource": {
                "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/rows/"}
            },
            "ContentType": "text/csv",
            "SplitType": "Line",
        },
        TransformOutput={
            "S3OutputPath": f"s3://{bucket}/scored",
            "AssembleWith": "Line",
            "Accept": "text/csv",
        },
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    sagemaker.create_processing_job(
        ProcessingJobName=model,
        RoleArn=ROLE,
        AppSpecification={
            "ImageUri": f"{REGISTRY}/sagemaker-scikit-learn:0.23-1-cpu-py3",
            "ContainerEntrypoint": ["/bin/bash", "-c"],
            "ContainerArguments": [f"wc -l < {ROOT}/in/a.csv > {ROOT}/out/n.txt"],
        },
        ProcessingInputs=[
            {
                "InputName": "in",
                "S3Input": {
                    "S3Uri": f"s3://{bucket}/rows",
                    "LocalPath": f"{ROOT}/in",
                    "S3DataType": "S3Prefix",
                    "S3InputMode": "File",
                },
            }
        ],
        ProcessingOutputConfig={
            "Outputs": [
                {
                    "OutputName": "out",
                    "S3Output": {
                        "S3Uri": f"s3://{bucket}/counted",
                        "LocalPath": f"{ROOT}/out",
                        "S3UploadMode": "EndOfJob",
                    },
                }
            ]
        },
        ProcessingResources={
            "ClusterConfig": {
                "InstanceType": "ml.m5.large",
                "InstanceCount": 1,
                "VolumeSizeInGB": 1,
            }
        },
    )
    scored = until(
        lambda: sagemaker.describe_transform_job(TransformJobName=model),
        lambda seen: seen["TransformJobStatus"] != "InProgress",
    )
    counted = until(
        lambda: sagemaker.describe_processing_job(ProcessingJobName=model),
        lambda seen: seen["ProcessingJobStatus"] != "InProgress",
    )

    assert scored["TransformJobStatus"] == "Completed", scored.get("FailureReason")
    assert counted["ProcessingJobStatus"] == "Completed", counted.get("FailureReason")
    rows = store.get_object(Bucket=bucket, Key="scored/a.csv.out")["Body"].read()
    assert len(rows.splitlines()) == 2
    assert store.get_object(Bucket=bucket, Key="counted/n.txt")["Body"].read() == b"2\n"


@pytest.mark.slow
def test_the_results_of_a_job_wait_while_the_store_is_away(tmp_path: Path) -> None:
    homes = [tmp_path / name / "home" for name in ("store", "front")]
    for home in homes:
        home.mkdir(mode=0o700, parents=True)
    source = (
        "import os, time\ntime.sleep(3)\nopen(os.environ['SM_MODEL_DIR'] + '/m', 'w').close()\n"
    )
    with ExitStack() as stack:
        with started(homes[0]) as (_, place):
            own = key_for(homes[0])
            keys_of_store = {"AWS_ACCESS_KEY_ID": own.id, "AWS_SECRET_ACCESS_KEY": own.secret}
            process, url = stack.enter_context(
                started(homes[1], arguments=("--s3", place), **keys_of_store)
            )
            server = Server(url=url, home=homes[1], key=key_for(homes[1]), pid=process.pid)
            s3, sagemaker = server.client("s3"), server.client("sagemaker")
            s3.create_bucket(Bucket="jobs")
            s3.put_object(Bucket="jobs", Key="code.tgz", Body=archive({"t.py": source}))
            sagemaker.create_training_job(
                TrainingJobName="patient",
                RoleArn=ROLE,
                AlgorithmSpecification=image("sagemaker-scikit-learn:0.23-1-cpu-py3"),
                HyperParameters={
                    "sagemaker_program": '"t.py"',
                    "sagemaker_submit_directory": '"s3://jobs/code.tgz"',
                },
                OutputDataConfig={"S3OutputPath": "s3://jobs/out"},
                ResourceConfig={
                    "InstanceType": "ml.m5.large",
                    "InstanceCount": 1,
                    "VolumeSizeInGB": 1,
                },
                StoppingCondition={"MaxRuntimeInSeconds": 100},
            )

        until(lambda: told(sagemaker), lambda seen: seen == "ServiceUnavailable")
        with started(homes[0], port=int(place.rpartition(":")[2])):
            until(lambda: told(sagemaker), lambda seen: seen == "Completed")

            assert keys(s3, "jobs", "out/") == ["out/patient/output/model.tar.gz"]


def told(sagemaker: Any) -> str:
    try:
        about = sagemaker.describe_training_job(TrainingJobName="patient")
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return str(about["TrainingJobStatus"])
