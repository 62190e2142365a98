"""A server that is killed at random moments over mixed work: nothing is lost, nothing done twice."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from loopwright.deploy import free_port

from .conftest import ROLE, Server, archive, image, key_for, started, until

N_KILLS = 6
SCRIPT = """
import os, time, uuid
name = os.environ["TRAINING_JOB_NAME"]
open("{runs}/" + name + "." + uuid.uuid4().hex, "w").close()
time.sleep(0.3)
open("/opt/ml/model/m", "w").write(name)
"""
SERVING = """
def model_fn(folder):
    return 1

def transform_fn(model, body, content_type, accept):
    return body, "text/csv"
"""
JOB = {
    "RoleArn": ROLE,
    "AlgorithmSpecification": image("sagemaker-scikit-learn:0.23-1-cpu-py3"),
    "HyperParameters": {
        "sagemaker_program": "t.py",
        "sagemaker_submit_directory": "s3://box/code.tgz",
    },
    "OutputDataConfig": {"S3OutputPath": "s3://box/out"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
    "StoppingCondition": {"MaxRuntimeInSeconds": 120},
}
CAPTURE = {
    "EnableCapture": True,
    "InitialSamplingPercentage": 100,
    "DestinationS3Uri": "s3://box/captured",
    "CaptureOptions": [{"CaptureMode": "Input"}],
}


class Work:
    """Clients that go on whatever happens, and note what they were told is done."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.told: dict[str, list[str]] = {"train": [], "pipeline": [], "put": [], "asked": []}
        self.maybe: list[tuple[str, str]] = []
        self.refused: list[str] = []
        self.ended = threading.Event()

    def client(self, service: str) -> Any:
        quick = Config(retries={"total_max_attempts": 1}, read_timeout=20)
        return self.server.client(service, config=quick)

    def try_(self, kind: str, name: str, call: Callable[[], object]) -> None:
        try:
            call()
            self.told[kind].append(name)
        except BotoCoreError:
            self.maybe.append((kind, name))  # the line broke: it may be done, or not
            time.sleep(0.1)
        except ClientError as error:
            self.refused.append(f"{name}: {error}")

    def train(self) -> None:
        sagemaker, n = self.client("sagemaker"), 0
        while not self.ended.wait(1.5):
            n += 1
            name = f"train-{n}"
            self.try_(
                "train",
                name,
                lambda name=name: sagemaker.create_training_job(TrainingJobName=name, **JOB),
            )

    def pipelines(self) -> None:
        sagemaker, n = self.client("sagemaker"), 0
        while not self.ended.wait(3.0):
            n += 1
            self.try_(
                "pipeline",
                str(n),
                lambda n=n: sagemaker.start_pipeline_execution(
                    PipelineName="p", ClientRequestToken=f"{n:032d}"
                ),
            )

    def objects(self) -> None:
        s3, n = self.client("s3"), 0
        while not self.ended.wait(0.05):
            n += 1
            key = f"put/{n}"
            self.try_(
                "put",
                key,
                lambda key=key: s3.put_object(Bucket="box", Key=key, Body=content(key)),
            )

    def ask(self) -> None:
        runtime, n = self.client("sagemaker-runtime"), 0
        while not self.ended.wait(0.05):
            n += 1
            self.try_(
                "asked",
                f"id-{n}",
                lambda n=n: runtime.invoke_endpoint(
                    EndpointName="e",
                    Body=f"{n}\n",
                    ContentType="text/csv",
                    InferenceId=f"id-{n}",
                )["Body"].read(),
            )

    @contextmanager
    def going_on(self) -> Iterator[None]:
        threads = [
            threading.Thread(target=each, daemon=True)
            for each in (self.train, self.pipelines, self.objects, self.ask)
        ]
        for each in threads:
            each.start()
        yield
        self.ended.set()
        for each in threads:
            each.join(60)


def content(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest() * 300


def prepare(server: Server, runs: Path) -> None:
    s3, sagemaker = server.client("s3"), server.client("sagemaker")
    s3.create_bucket(Bucket="box")
    s3.put_object(
        Bucket="box", Key="code.tgz", Body=archive({"t.py": SCRIPT.replace("{runs}", str(runs))})
    )
    s3.put_object(Bucket="box", Key="m.tgz", Body=archive({"code/inference.py": SERVING}))
    sagemaker.create_model(
        ModelName="m",
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": "x", "ModelDataUrl": "s3://box/m.tgz"},
    )
    variant = {
        "VariantName": "v",
        "ModelName": "m",
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
    }
    sagemaker.create_endpoint_config(
        EndpointConfigName="c", ProductionVariants=[variant], DataCaptureConfig=CAPTURE
    )
    sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")
    steps = [
        {"Name": "one", "Type": "Training", "Arguments": JOB},
        {"Name": "two", "Type": "Training", "Arguments": JOB, "DependsOn": ["one"]},
    ]
    definition = {"Version": "2020-12-01", "Metadata": {}, "Parameters": [], "Steps": steps}
    sagemaker.create_pipeline(
        PipelineName="p",
        PipelineDefinition=json.dumps(definition),
        ClientRequestToken="t" * 32,
        RoleArn=ROLE,
    )
    in_service(sagemaker)


def in_service(sagemaker: Any) -> str:
    found = until(
        lambda: sagemaker.describe_endpoint(EndpointName="e"),
        lambda seen: seen["EndpointStatus"] in ("InService", "Failed"),
    )
    return str(found["EndpointStatus"])


def captured(s3: Any) -> Counter[str]:
    found: Counter[str] = Counter()
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket="box", Prefix="captured/"):
        for each in page.get("Contents", []):
            lines = s3.get_object(Bucket="box", Key=each["Key"])["Body"].read().splitlines()
            found.update(json.loads(line)["eventMetadata"]["inferenceId"] for line in lines)
    return found


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(10)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_lost_and_nothing_done_twice(tmp_path: Path) -> None:
    home, port, dice = tmp_path / "home", free_port(), random.Random(7)
    home.mkdir(mode=0o700)
    (runs := tmp_path / "runs").mkdir()
    with started(home, port=port) as (process, url):
        server = Server(url=url, home=home, key=key_for(home), pid=process.pid)
        prepare(server, runs)
        kill(process)
    work = Work(server)

    with work.going_on():
        for number in range(N_KILLS):
            with started(home, port=port) as (process, _):
                # every other server dies before it has taken up what it found
                time.sleep(dice.uniform(0.0, 4.0 if number % 2 else 0.4))
                kill(process)

    with started(home, port=port):
        sagemaker, s3 = server.client("sagemaker"), server.client("s3")
        statuses = {
            name: until(
                lambda name=name: sagemaker.describe_training_job(TrainingJobName=name),
                lambda seen: seen["TrainingJobStatus"] not in ("InProgress", "Stopping"),
                limit_s=200.0,
            )["TrainingJobStatus"]
            for name in work.told["train"]
        }
        executions = until(
            lambda: sagemaker.list_pipeline_executions(PipelineName="p", MaxResults=100)[
                "PipelineExecutionSummaries"
            ],
            lambda seen: all(each["PipelineExecutionStatus"] == "Succeeded" for each in seen),
            limit_s=200.0,
        )
        objects = {
            key: s3.get_object(Bucket="box", Key=key)["Body"].read() for key in work.told["put"]
        }
        asked = until(lambda: captured(s3), lambda seen: set(work.told["asked"]) <= set(seen))
        endpoint = in_service(sagemaker)
        sagemaker.delete_endpoint(EndpointName="e")
        until(lambda: sagemaker.list_endpoints()["Endpoints"], lambda seen: not seen)
    n_runs = Counter(path.name.rpartition(".")[0] for path in runs.iterdir())
    n_maybe = sum(1 for kind, _ in work.maybe if kind == "pipeline")

    assert work.refused == []
    assert work.told["train"]
    assert set(statuses.values()) == {"Completed"}
    assert len(work.told["pipeline"]) <= len(executions) <= len(work.told["pipeline"]) + n_maybe
    assert set(n_runs.values()) == {1}
    assert all(objects[key] == content(key) for key in objects)
    assert max(asked.values(), default=1) == 1
    assert endpoint == "InService"
