"""A server that is killed while an endpoint is updated, requests wait, and a transform runs."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from loopwright.compute import JobState
from loopwright.deploy import free_port
from loopwright.settings import read_settings
from loopwright.wiring import open_workspace

from .conftest import ROLE, Server, archive, key_for, started, until

SERVING = """
import time

def model_fn(model_dir):
    return {answer}

def transform_fn(model, body, content_type, accept):
    time.sleep(0.4)
    lines = [line for line in body.splitlines() if line]
    return "".join(f"{{model}}\\n" for _ in lines), "text/csv"
"""


def workers(home: Path) -> list[int]:
    """Return the processes of the transform's job, that of its supervisor left out."""
    workspace = open_workspace(read_settings({}, home=home))
    try:
        jobs = workspace.compute.list_(kind="sagemaker-transform")
    finally:
        workspace.metadata.close()
    if not jobs or jobs[0].state is not JobState.RUNNING:
        return []
    if not (jobs[0].checkpoints or Path("/nowhere")).joinpath("results/a.csv.out").exists():
        return []
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words, cwd = path.read_bytes(), (path.parent / "cwd").readlink()
        except OSError:
            continue
        if b"transform_worker" in words and cwd == jobs[0].folder:
            found.append(int(path.parent.name))
    return found


def prepared(first: Server) -> tuple[Any, Any]:
    """Order an endpoint that answers into S3 and a configuration to update it with."""
    s3, sagemaker = first.client("s3"), first.client("sagemaker")
    s3.create_bucket(Bucket="kept")
    for answer in (1, 2):
        code = SERVING.format(answer=answer)
        key = f"m{answer}.tar.gz"
        s3.put_object(Bucket="kept", Key=key, Body=archive({"code/inference.py": code}))
        sagemaker.create_model(
            ModelName=f"m{answer}",
            ExecutionRoleArn=ROLE,
            PrimaryContainer={"Image": "x", "ModelDataUrl": f"s3://kept/{key}"},
        )
        sagemaker.create_endpoint_config(
            EndpointConfigName=f"c{answer}",
            ProductionVariants=[
                {
                    "VariantName": "v",
                    "ModelName": f"m{answer}",
                    "InstanceType": "ml.m5.large",
                    "InitialInstanceCount": 1,
                }
            ],
            AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": "s3://kept/later"}},
        )
    sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c1")
    until(
        lambda: sagemaker.describe_endpoint(EndpointName="e"),
        lambda seen: seen["EndpointStatus"] == "InService",
    )
    for name in "abc":
        s3.put_object(Bucket="kept", Key=f"in/{name}.csv", Body=b"1\n2\n")
    return s3, sagemaker


def test_what_was_under_way_is_finished(tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    home.mkdir(mode=0o700)
    with started(home, port=port) as (process, url):
        first = Server(url=url, home=home, key=key_for(home), pid=process.pid)
        _, sagemaker = prepared(first)
        runtime = first.client("sagemaker-runtime")
        places = [
            runtime.invoke_endpoint_async(
                EndpointName="e", InputLocation="s3://kept/in/a.csv", ContentType="text/csv"
            )["OutputLocation"]
            for _ in range(6)
        ]
        sagemaker.create_transform_job(
            TransformJobName="t",
            ModelName="m1",
            TransformInput={
                "DataSource": {
                    "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://kept/in/"}
                },
                "ContentType": "text/csv",
                "SplitType": "Line",
            },
            BatchStrategy="SingleRecord",
            TransformOutput={"S3OutputPath": "s3://kept/out", "AssembleWith": "Line"},
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
        )
        routing = {
            "Type": "CANARY",
            "WaitIntervalInSeconds": 1,
            "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 50},
        }
        sagemaker.update_endpoint(
            EndpointName="e",
            EndpointConfigName="c2",
            DeploymentConfig={"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}},
        )
        until(
            lambda: sagemaker.describe_endpoint(EndpointName="e"),
            lambda seen: "PendingDeploymentSummary" in seen,
        )
        process.kill()
        process.wait(10)
    # the transform's own process dies as well, in the middle of its files
    for pid in until(lambda: workers(home), bool):
        os.kill(pid, signal.SIGKILL)

    with started(home, port=port) as (process, url):
        second = Server(url=url, home=home, key=first.key, pid=process.pid)
        sagemaker, s3 = second.client("sagemaker"), second.client("s3")
        endpoint = until(
            lambda: sagemaker.describe_endpoint(EndpointName="e"),
            lambda seen: seen["EndpointStatus"] in ("InService", "Failed"),
        )
        job = until(
            lambda: sagemaker.describe_transform_job(TransformJobName="t"),
            lambda seen: seen["TransformJobStatus"] != "InProgress",
        )
        until(
            lambda: s3.list_objects_v2(Bucket="kept", Prefix="later/").get("KeyCount", 0),
            lambda n: n == len(places),
        )
        outputs = {
            each["Key"]: s3.get_object(Bucket="kept", Key=each["Key"])["Body"].read()
            for each in s3.list_objects_v2(Bucket="kept", Prefix="out/")["Contents"]
        }
        sagemaker.delete_endpoint(EndpointName="e")
        until(lambda: sagemaker.list_endpoints()["Endpoints"], lambda found: not found)

    assert endpoint["EndpointStatus"] == "InService"
    assert endpoint["EndpointConfigName"] == "c2", json.dumps(endpoint, default=str)
    assert job["TransformJobStatus"] == "Completed", job.get("FailureReason")
    assert outputs == {f"out/{name}.csv.out": b"1\n1\n" for name in "abc"}
