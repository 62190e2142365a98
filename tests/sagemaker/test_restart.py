"""A server that is killed: the next one finds jobs, results and endpoints again."""

from __future__ import annotations

from pathlib import Path

from loopwright.compute import Job
from loopwright.deploy import free_port
from loopwright.settings import read_settings
from loopwright.wiring import open_workspace

from .conftest import ROLE, Server, archive, image, key_for, started, until

CODE = """
import time
time.sleep(1.5)
open("/opt/ml/model/m", "w").write("made")
"""
SERVING = """
import time

def model_fn(d):
    time.sleep(1)

def predict_fn(x, m):
    return x
"""


def endpoint_jobs(home: Path) -> list[Job]:
    """Return the jobs of endpoints that a home knows."""
    workspace = open_workspace(read_settings({}, home=home))
    try:
        return workspace.compute.list_(kind="endpoint")
    finally:
        workspace.metadata.close()


def test_what_a_killed_server_had_begun_is_finished_by_the_next(tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    home.mkdir(mode=0o700)
    with started(home, port=port) as (process, url):
        first = Server(url=url, home=home, key=key_for(home), pid=process.pid)
        s3, sagemaker = first.client("s3"), first.client("sagemaker")
        s3.create_bucket(Bucket="kept")
        s3.put_object(Bucket="kept", Key="c.tgz", Body=archive({"t.py": CODE}))
        s3.put_object(Bucket="kept", Key="m.tgz", Body=archive({"code/inference.py": SERVING}))
        sagemaker.create_training_job(
            TrainingJobName="long",
            RoleArn=ROLE,
            AlgorithmSpecification=image("sagemaker-scikit-learn:0.23-1-cpu-py3"),
            HyperParameters={
                "sagemaker_program": "t.py",
                "sagemaker_submit_directory": "s3://kept/c.tgz",
            },
            OutputDataConfig={"S3OutputPath": "s3://kept/out"},
            ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
            StoppingCondition={"MaxRuntimeInSeconds": 60},
        )
        sagemaker.create_model(
            ModelName="m",
            ExecutionRoleArn=ROLE,
            PrimaryContainer={"Image": "x", "ModelDataUrl": "s3://kept/m.tgz"},
        )
        sagemaker.create_endpoint_config(
            EndpointConfigName="c",
            ProductionVariants=[
                {
                    "VariantName": "v",
                    "ModelName": "m",
                    "InstanceType": "ml.m5.large",
                    "InitialInstanceCount": 1,
                }
            ],
        )
        sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")
        # its process has been started, and is not noted yet
        until(lambda: endpoint_jobs(home), bool)
        process.kill()
        process.wait(10)

    with started(home, port=port) as (process, url):
        second = Server(url=url, home=home, key=first.key, pid=process.pid)
        sagemaker = second.client("sagemaker")
        job = until(
            lambda: sagemaker.describe_training_job(TrainingJobName="long"),
            lambda seen: seen["TrainingJobStatus"] != "InProgress",
        )
        endpoint = until(
            lambda: sagemaker.describe_endpoint(EndpointName="e"),
            lambda seen: seen["EndpointStatus"] not in ("Creating", "Updating"),
        )
        model = second.client("s3").head_object(Bucket="kept", Key="out/long/output/model.tar.gz")
        got = second.client("sagemaker-runtime").invoke_endpoint(
            EndpointName="e", Body="[7]", ContentType="application/json"
        )
        sagemaker.delete_endpoint(EndpointName="e")
        until(
            lambda: sagemaker.list_endpoints()["Endpoints"],
            lambda found: not found,
        )
        jobs = endpoint_jobs(home)

    assert jobs
    assert [each.id for each in jobs if not each.state.has_ended] == []
    assert job["TrainingJobStatus"] == "Completed"
    assert model["ContentLength"] > 0
    assert endpoint["EndpointStatus"] == "InService", endpoint.get("FailureReason")
    assert got["Body"].read() == b"[7]"
