"""A server that is killed in the middle of pipelines: the next one goes on and repeats nothing."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from loopwright.deploy import free_port

from .conftest import ROLE, Server, image, key_for, started, until
from .test_functions import packed

_SLOW = "import time\ndef handler(e, c):\n    time.sleep(0.4)\n    return {'n': 1}\n"


def training(command: str) -> dict[str, Any]:
    algorithm = {
        **image("anything:1"),
        "ContainerEntrypoint": ["/bin/bash", "-c"],
        "ContainerArguments": [command],
    }
    return {
        "AlgorithmSpecification": algorithm,
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": "s3://kept/out"},
        "ResourceConfig": {"InstanceType": "ml.t3.medium", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }


@pytest.mark.slow
def test_executions_go_on_and_no_step_runs_twice(tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    home.mkdir(mode=0o700)
    specification = {
        "Containers": [
            {"Image": "x", "ModelDataUrl": {"Get": "Steps.A.ModelArtifacts.S3ModelArtifacts"}}
        ],
        "SupportedContentTypes": ["text/csv"],
        "SupportedResponseMIMETypes": ["text/csv"],
    }
    register = {"ModelPackageGroupName": "g", "InferenceSpecification": specification}
    text = json.dumps(
        {
            "Version": "2020-12-01",
            "Steps": [
                {"Name": "A", "Type": "Training", "Arguments": training("sleep 0.4")},
                {"Name": "R", "Type": "RegisterModel", "Arguments": register},
                {
                    "Name": "B",
                    "Type": "Training",
                    "Arguments": training("sleep 0.4"),
                    "DependsOn": ["R"],
                },
                {
                    "Name": "F",
                    "Type": "Lambda",
                    "FunctionArn": "arn:aws:lambda:us-east-1:123456789012:function:f",
                    "OutputParameters": [{"OutputName": "n", "OutputType": "Integer"}],
                    "Arguments": {},
                    "DependsOn": ["B"],
                },
            ],
        }
    )
    with started(home, port=port) as (process, url):
        first = Server(url=url, home=home, key=key_for(home), pid=process.pid)
        first.client("s3").create_bucket(Bucket="kept")
        first.client("lambda").create_function(
            FunctionName="f",
            Runtime="python3.12",
            Handler="app.handler",
            Role=ROLE,
            Timeout=30,
            Code={"ZipFile": packed({"app.py": _SLOW})},
        )
        sagemaker = first.client("sagemaker")
        sagemaker.create_pipeline(PipelineName="p", PipelineDefinition=text, RoleArn=ROLE)
        arn = sagemaker.start_pipeline_execution(PipelineName="p")["PipelineExecutionArn"]

    # killed again and again, each time a little further on
    for number in range(7):
        with started(home, port=port) as (process, url):
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05 + 0.13 * number)
            process.kill()
            process.wait(10)
    with started(home, port=port) as (process, url):
        again = Server(url=url, home=home, key=first.key, pid=process.pid)
        last = again.client("sagemaker")
        found = until(
            lambda: last.describe_pipeline_execution(PipelineExecutionArn=arn),
            lambda seen: seen["PipelineExecutionStatus"] != "Executing",
        )
        jobs = last.list_training_jobs()["TrainingJobSummaries"]
        versions = last.list_model_packages(ModelPackageGroupName="g")["ModelPackageSummaryList"]
        calls = again.client("logs").describe_log_streams(logGroupName="/aws/lambda/f")
        steps = last.list_pipeline_execution_steps(PipelineExecutionArn=arn)

    names = [each["StepName"] for each in steps["PipelineExecutionSteps"]]
    assert found["PipelineExecutionStatus"] == "Succeeded", steps
    assert len(jobs) == 2
    assert [each["ModelPackageVersion"] for each in versions] == [1]
    assert names == ["F", "B", "R", "A"]
    assert len(calls["logStreams"]) == 1
