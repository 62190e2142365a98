"""Processing jobs through boto3, really run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import REGISTRY, ROLE, Server, archive, until

SKLEARN = f"{REGISTRY}/sagemaker-scikit-learn:0.23-1-cpu-py3"
GROUP = "/aws/sagemaker/ProcessingJobs"
ROOT = "/opt/ml/processing"
SCRIPT = """
import json, os, sys
with open("/opt/ml/config/processingjobconfig.json") as file:
    about = json.load(file)
with open("/opt/ml/config/resourceconfig.json") as file:
    hosts = json.load(file)
found = sorted(os.listdir("/opt/ml/processing/input"))
with open("/opt/ml/processing/input/a.csv", "a") as file:
    file.write("more")
os.makedirs("/opt/ml/processing/output/deep", exist_ok=True)
with open("/opt/ml/processing/output/deep/told.json", "w") as file:
    json.dump([sys.argv[1:], found, about["ProcessingJobName"], hosts, os.environ["COLOUR"],
               "TRAINING_JOB_NAME" in os.environ], file)
os.symlink("/etc/passwd", "/opt/ml/processing/output/link")
print("said and done")
with open("/opt/ml/output/message", "w") as file:
    file.write("all well")
"""
Process = Callable[..., dict[str, Any]]


def source(name: str, uri: str, path: str, **changes: Any) -> dict[str, Any]:
    s3 = {"S3Uri": uri, "LocalPath": path, "S3DataType": "S3Prefix", "S3InputMode": "File"}
    return {"InputName": name, "S3Input": {**s3, **changes}}


def target(name: str, uri: str, path: str, mode: str = "EndOfJob") -> dict[str, Any]:
    return {
        "OutputName": name,
        "S3Output": {"S3Uri": uri, "LocalPath": path, "S3UploadMode": mode},
    }


def shell(text: str) -> dict[str, Any]:
    return {
        "ImageUri": SKLEARN,
        "ContainerEntrypoint": ["/bin/bash", "-c"],
        "ContainerArguments": [text],
    }


@pytest.fixture
def process(sagemaker: Any) -> Process:
    """Return a function that runs a job and returns the description of what has ended."""

    def run(*, wait: bool = True, **changes: Any) -> dict[str, Any]:
        name = changes.pop("name", f"processing-{time.time_ns()}")
        wanted = {
            "ProcessingJobName": name,
            "RoleArn": ROLE,
            "AppSpecification": shell("true"),
            "ProcessingResources": {
                "ClusterConfig": {
                    "InstanceType": "ml.m5.large",
                    "InstanceCount": 1,
                    "VolumeSizeInGB": 1,
                }
            },
            **changes,
        }
        sagemaker.create_processing_job(**wanted)
        if not wait:
            return {"ProcessingJobName": name}
        return ended(sagemaker, name)

    return run


def ended(sagemaker: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = until(
        lambda: sagemaker.describe_processing_job(ProcessingJobName=name),
        lambda seen: seen["ProcessingJobStatus"] not in ("InProgress", "Stopping"),
    )
    return found


def body(s3: Any, bucket: str, key: str) -> bytes:
    found: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return found


def refused(call: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_a_script_reads_its_inputs_and_its_outputs_are_in_s3(
    server: Server, s3: Any, bucket: str, sagemaker: Any, process: Process
) -> None:
    s3.put_object(Bucket=bucket, Key="raw/a.csv", Body=b"1,2\n")
    s3.put_object(Bucket=bucket, Key="raw/sub/b.csv", Body=b"3,4\n")
    s3.put_object(Bucket=bucket, Key="steps/step.py", Body=SCRIPT.encode())

    job = process(
        AppSpecification={
            "ImageUri": SKLEARN,
            "ContainerEntrypoint": ["python3", f"{ROOT}/input/code/step.py"],
            "ContainerArguments": ["--share", "0.2"],
        },
        ProcessingInputs=[
            source("code", f"s3://{bucket}/steps/step.py", f"{ROOT}/input/code"),
            source("input-1", f"s3://{bucket}/raw", f"{ROOT}/input"),
        ],
        ProcessingOutputConfig={
            "Outputs": [target("told", f"s3://{bucket}/told", f"{ROOT}/output")]
        },
        Environment={"COLOUR": "blue"},
        StoppingCondition={"MaxRuntimeInSeconds": 60},
        Tags=[{"Key": "team", "Value": "a"}],
    )

    name = job["ProcessingJobName"]
    assert job["ProcessingJobStatus"] == "Completed", job
    assert job["ExitMessage"] == "all well"
    assert "FailureReason" not in job
    assert job["ProcessingEndTime"] >= job["ProcessingStartTime"]
    assert json.loads(body(s3, bucket, "told/deep/told.json")) == [
        ["--share", "0.2"],
        ["a.csv", "code", "sub"],
        name,
        {
            "current_host": "algo-1",
            "current_instance_type": "ml.m5.large",
            "current_group_name": "homogeneousCluster",
            "hosts": ["algo-1"],
            "instance_groups": [
                {
                    "instance_group_name": "homogeneousCluster",
                    "instance_type": "ml.m5.large",
                    "hosts": ["algo-1"],
                }
            ],
            "network_interface_name": "eth0",
        },
        "blue",
        False,
    ]
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="told/")["Contents"]
    assert [each["Key"] for each in listed] == ["told/deep/told.json"]
    # what a job writes into its input stays with it
    assert body(s3, bucket, "raw/a.csv") == b"1,2\n"
    assert job["ProcessingInputs"][1]["S3Input"]["LocalPath"] == f"{ROOT}/input"
    logs = server.client("logs")
    stream = logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=f"{name}/")
    events = logs.get_log_events(
        logGroupName=GROUP,
        logStreamName=stream["logStreams"][0]["logStreamName"],
        startFromHead=True,
    )["events"]
    assert "said and done" in [each["message"] for each in events]
    assert sagemaker.list_tags(ResourceArn=job["ProcessingJobArn"])["Tags"] == [
        {"Key": "team", "Value": "a"}
    ]


def test_a_source_folder_as_the_sdk_packs_it_runs(s3: Any, bucket: str, process: Process) -> None:
    packed = archive({"main.py": "import helper\n", "helper.py": "print('from beside')\n"})
    run = (
        "#!/bin/bash\ncd /opt/ml/processing/input/code/\ntar -xzf sourcedir.tar.gz\nset -e\n"
        f"python3 main.py > {ROOT}/output/out.txt\n"
    )
    s3.put_object(Bucket=bucket, Key="fw/source/sourcedir.tar.gz", Body=packed)
    s3.put_object(Bucket=bucket, Key="fw/source/runproc.sh", Body=run.encode())

    job = process(
        AppSpecification={
            "ImageUri": SKLEARN,
            "ContainerEntrypoint": ["/bin/bash", f"{ROOT}/input/entrypoint/runproc.sh"],
        },
        ProcessingInputs=[
            source("code", f"s3://{bucket}/fw/source/sourcedir.tar.gz", f"{ROOT}/input/code/"),
            source("entry", f"s3://{bucket}/fw/source/runproc.sh", f"{ROOT}/input/entrypoint"),
        ],
        ProcessingOutputConfig={
            "Outputs": [target("o", f"s3://{bucket}/fw/out", f"{ROOT}/output")]
        },
    )

    assert job["ProcessingJobStatus"] == "Completed", job
    assert body(s3, bucket, "fw/out/out.txt") == b"from beside\n"


def test_what_is_changed_in_place_is_an_output_too(s3: Any, bucket: str, process: Process) -> None:
    s3.put_object(Bucket=bucket, Key="place/in/a.txt", Body=b"old")

    job = process(
        AppSpecification=shell(f"echo -n new > {ROOT}/data/a.txt"),
        ProcessingInputs=[source("data", f"s3://{bucket}/place/in/", f"{ROOT}/data")],
        ProcessingOutputConfig={
            "Outputs": [target("data", f"s3://{bucket}/place/out", f"{ROOT}/data")]
        },
    )

    assert job["ProcessingJobStatus"] == "Completed", job
    assert body(s3, bucket, "place/in/a.txt") == b"old"
    assert body(s3, bucket, "place/out/a.txt") == b"new"


def test_of_two_inputs_with_one_name_the_later_wins_and_neither_object_changes(
    s3: Any, bucket: str, process: Process
) -> None:
    for name in ("one", "two"):
        s3.put_object(Bucket=bucket, Key=f"same/{name}/a.txt", Body=name.encode())

    job = process(
        AppSpecification=shell(f"cp {ROOT}/in/a.txt {ROOT}/out/a.txt"),
        ProcessingInputs=[
            source(name, f"s3://{bucket}/same/{name}/", f"{ROOT}/in") for name in ("one", "two")
        ],
        ProcessingOutputConfig={"Outputs": [target("o", f"s3://{bucket}/same/out", f"{ROOT}/out")]},
    )

    assert job["ProcessingJobStatus"] == "Completed", job
    assert body(s3, bucket, "same/out/a.txt") == b"two"
    assert body(s3, bucket, "same/one/a.txt") == b"one"


def test_a_continuous_output_is_there_while_the_job_runs_and_a_stopped_one_keeps_it(
    s3: Any, bucket: str, sagemaker: Any, process: Process
) -> None:
    job = process(
        wait=False,
        AppSpecification=shell(f"echo -n early > {ROOT}/out/a.txt; sleep 100"),
        ProcessingOutputConfig={
            "Outputs": [target("o", f"s3://{bucket}/flow", f"{ROOT}/out", "Continuous")]
        },
    )
    name = job["ProcessingJobName"]
    until(
        lambda: s3.list_objects_v2(Bucket=bucket, Prefix="flow/").get("Contents", []),
        bool,
    )

    running = sagemaker.describe_processing_job(ProcessingJobName=name)
    sagemaker.stop_processing_job(ProcessingJobName=name)
    stopped = ended(sagemaker, name)

    assert running["ProcessingJobStatus"] == "InProgress"
    assert stopped["ProcessingJobStatus"] == "Stopped"
    assert body(s3, bucket, "flow/a.txt") == b"early"
    assert refused(sagemaker.stop_processing_job, ProcessingJobName=name) == (
        "ValidationException",
        "The request was rejected because the processing job is in status Stopped.",
    )


@pytest.mark.parametrize("mode", ["EndOfJob", "Continuous"])
def test_a_bucket_that_goes_while_a_job_runs_fails_that_job_and_no_other(
    s3: Any, process: Process, sagemaker: Any, mode: str
) -> None:
    gone = f"gone-{mode.lower()}"
    s3.create_bucket(Bucket=gone)
    job = process(
        wait=False,
        AppSpecification=shell(f"touch {ROOT}/out/a; sleep 0.7"),
        ProcessingOutputConfig={"Outputs": [target("o", f"s3://{gone}/x", f"{ROOT}/out", mode)]},
    )
    s3.delete_bucket(Bucket=gone)

    found = ended(sagemaker, job["ProcessingJobName"])

    assert found["ProcessingJobStatus"] == "Failed"
    assert "The outputs cannot be put into S3" in found["FailureReason"]
    assert process()["ProcessingJobStatus"] == "Completed"


def test_a_command_that_fails_says_why_and_leaves_nothing(
    s3: Any, bucket: str, process: Process
) -> None:
    job = process(
        AppSpecification=shell(
            f"echo x > {ROOT}/out/a; echo -n 'no such column' > /opt/ml/output/message; exit 3"
        ),
        ProcessingOutputConfig={"Outputs": [target("o", f"s3://{bucket}/broken", f"{ROOT}/out")]},
    )

    assert job["ProcessingJobStatus"] == "Failed"
    assert job["FailureReason"] == "AlgorithmError: no such column, exit code: 3"
    assert job["ExitMessage"] == "no such column"
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket, Prefix="broken/")


def test_a_job_is_ended_at_its_time_limit(process: Process) -> None:
    job = process(
        AppSpecification=shell("exec sleep 60"), StoppingCondition={"MaxRuntimeInSeconds": 1}
    )

    assert job["ProcessingJobStatus"] == "Stopped"
    assert "MaxRuntimeInSeconds" in job["FailureReason"]


def test_a_link_that_stands_for_an_output_leads_nowhere(
    s3: Any, bucket: str, process: Process
) -> None:
    job = process(
        AppSpecification=shell(f"rm -r {ROOT}/out; ln -s /etc {ROOT}/out"),
        ProcessingOutputConfig={"Outputs": [target("o", f"s3://{bucket}/etc", f"{ROOT}/out")]},
    )

    assert job["ProcessingJobStatus"] == "Completed"
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket, Prefix="etc/")


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        (
            {"ProcessingInputs": [source("a", "s3://jobs/nothing/here", f"{ROOT}/a")]},
            "ValidationException",
            "No S3 objects found under S3 URL",
        ),
        (
            {"ProcessingInputs": [source("a", "s3://jobs/raw", "/etc")]},
            "ValidationException",
            "must be an absolute path that begins with /opt/ml/processing/",
        ),
        (
            {"ProcessingInputs": [source("a", "s3://jobs/raw", f"{ROOT}/../../../etc")]},
            "ValidationException",
            "must be an absolute path",
        ),
        (
            {
                "ProcessingOutputConfig": {
                    "Outputs": [target("o", "s3://jobs/out", f"{ROOT}/../model")]
                }
            },
            "ValidationException",
            "must be an absolute path",
        ),
        (
            {
                "ProcessingOutputConfig": {
                    "Outputs": [target("o", "s3://no-such-bucket/out", f"{ROOT}/out")]
                }
            },
            "ValidationException",
            "no-such-bucket",
        ),
        (
            {"ProcessingInputs": [source("a", "s3://jobs/raw", f"{ROOT}/{n}") for n in "ab"]},
            "ValidationException",
            "Processing input names must be unique",
        ),
        (
            {"ProcessingInputs": [source("a", "s3://jobs/raw", f"{ROOT}/a", S3InputMode="Pipe")]},
            "ValidationException",
            "The input mode Pipe is not supported",
        ),
        (
            {"AppSpecification": {"ImageUri": f"{REGISTRY}/sagemaker-clarify-processing:1.0"}},
            "ValidationException",
            "needs an input with the name analysis_config",
        ),
        (
            {"AppSpecification": {"ImageUri": "someone/own:1"}},
            "ValidationException",
            "cannot be pulled",
        ),
        (
            {
                "ProcessingResources": {
                    "ClusterConfig": {
                        "InstanceType": "ml.p3.16xlarge",
                        "InstanceCount": 1,
                        "VolumeSizeInGB": 1,
                    }
                }
            },
            "ResourceLimitExceeded",
            "service limit 'ml.p3.16xlarge for processing job usage' is 0 Instances",
        ),
        (
            {"name": "under_score"},
            "ValidationException",
            "Member must satisfy regular expression pattern: [a-zA-Z0-9]",
        ),
    ],
)
def test_what_cannot_be_processed_is_refused(
    s3: Any, bucket: str, sagemaker: Any, process: Process, changes: Any, code: str, said: str
) -> None:
    s3.put_object(Bucket=bucket, Key="raw/a.csv", Body=b"1,2\n")
    wanted = {"name": f"refused-{time.time_ns()}", **changes}

    found = refused(process, **wanted)

    assert found[0] == code
    assert said in found[1]


def test_a_name_is_taken_once_and_one_that_is_not_there_is_told(
    sagemaker: Any, process: Process
) -> None:
    process(name="taken")

    assert refused(process, name="taken")[0] == "ResourceInUse"
    for call, words in (
        (sagemaker.describe_processing_job, "requested job"),
        (sagemaker.stop_processing_job, "job to update"),
    ):
        assert refused(call, ProcessingJobName="nobody") == (
            "ValidationException",
            f"Could not find {words} with name: nobody",
        )


def test_processing_jobs_are_listed(sagemaker: Any, process: Process) -> None:
    names = [process(name=f"many-{number}")["ProcessingJobName"] for number in range(3)]

    pages = sagemaker.get_paginator("list_processing_jobs").paginate(
        NameContains="MANY-",
        StatusEquals="Completed",
        SortBy="Name",
        SortOrder="Ascending",
        PaginationConfig={"PageSize": 2},
    )
    listed = [
        each["ProcessingJobName"] for page in pages for each in page["ProcessingJobSummaries"]
    ]

    assert listed == names
