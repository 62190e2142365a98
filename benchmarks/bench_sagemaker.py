"""The compatible API: how soon a script runs and an endpoint serves, what a call takes beside others."""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from sagemaker_load import beside_own_port, beside_peers, tell

from loopwright.core.clock import SystemClock
from loopwright.sagemaker.flow import table
from loopwright.sagemaker.key import AccessKey, new_key
from loopwright.store.sql import SqlMetadataStore

ROLE = "arn:aws:iam::123456789012:role/bench"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/{}"
ONE = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
SCRIPT = b"import time\nprint('first', time.time(), flush=True)\n"
N_JOBS, N_ENDPOINTS = 7, 5

Client = Callable[[str], Any]


def main() -> None:
    """Start a server on a home of its own, and a peer's, and print medians."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--seconds", type=int, default=2, help="of each load")
    given.add_argument(
        "--rounds", type=int, default=3, help="in which what is compared takes turns"
    )
    asked = given.parse_args()
    print("Operations by flow\n\n" + table() + "\n", flush=True)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "home"
        home.mkdir(mode=0o700)
        log = Path(name) / "log"
        command = [sys.executable, "-m", "loopwright", "--home", str(home), "sagemaker"]
        with log.open("w") as file:
            server = subprocess.Popen([*command, "--port", "0"], stdout=file, stderr=file)
        url = address(log)
        key = new_bench_key(home)
        try:
            measure(clients(key, url))
            beside_own_port(home, url, key, server.pid, seconds=asked.seconds, rounds=asked.rounds)
            beside_peers(clients(key, url), Path(name), rounds=asked.rounds)
        finally:
            end_endpoints(clients(key, url)("sagemaker"))
            server.terminate()
            server.wait(20)


def end_endpoints(sagemaker: Any) -> None:
    """End what serves, so that no process stays behind."""
    while found := sagemaker.list_endpoints(MaxResults=100)["Endpoints"]:
        for each in found:
            if each["EndpointStatus"] in ("InService", "Failed"):
                sagemaker.delete_endpoint(EndpointName=each["EndpointName"])
        time.sleep(0.2)


def address(log: Path) -> str:
    """Return where the server listens."""
    while True:
        for line in log.read_text().splitlines():
            if line.startswith("Listening on "):
                return line.removeprefix("Listening on ")
        time.sleep(0.05)


def new_bench_key(home: Path) -> AccessKey:
    """Return a key of the home."""
    store = SqlMetadataStore(f"sqlite:///{home / 'loopwright.db'}", SystemClock())
    try:
        return new_key(store, user=os.environ.get("USER", "bench"), purpose="bench")
    finally:
        store.close()


def clients(key: AccessKey, url: str) -> Client:
    """Return what makes a client of a service."""
    return lambda service: boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key.id,
        aws_secret_access_key=key.secret,
        config=Config(retries={"total_max_attempts": 1}),
    )


def measure(client: Client) -> None:
    """Print each figure as it is known."""
    s3, sagemaker = client("s3"), client("sagemaker")
    s3.create_bucket(Bucket="bench")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("train.py")
        member.size = len(SCRIPT)
        archive.addfile(member, io.BytesIO(SCRIPT))
    s3.put_object(Bucket="bench", Key="code.tar.gz", Body=packed.getvalue())
    rows = "\n".join(f"{int(a > b)},{a},{b}" for a in range(20) for b in range(20))
    s3.put_object(Bucket="bench", Key="train/rows.csv", Body=rows.encode())
    first, done = zip(*[job(sagemaker, client("logs"), n) for n in range(N_JOBS)], strict=True)
    tell("CreateTrainingJob to the first line of the script", first, "s")
    tell("CreateTrainingJob to Completed", done, "s")
    model(sagemaker)
    tell("CreateEndpoint to InService", [endpoint(sagemaker, n) for n in range(N_ENDPOINTS)], "s")


def ordered(sagemaker: Any, name: str, **more: Any) -> dict[str, Any]:
    """Train, wait, and return the job's description."""
    sagemaker.create_training_job(
        TrainingJobName=name,
        RoleArn=ROLE,
        OutputDataConfig={"S3OutputPath": "s3://bench/out"},
        ResourceConfig=ONE,
        StoppingCondition={"MaxRuntimeInSeconds": 300},
        **more,
    )
    while True:
        found: dict[str, Any] = sagemaker.describe_training_job(TrainingJobName=name)
        if found["TrainingJobStatus"] not in ("InProgress", "Stopping"):
            if found["TrainingJobStatus"] != "Completed":
                raise SystemExit(found.get("FailureReason", found["TrainingJobStatus"]))
            return found
        time.sleep(0.01)


def job(sagemaker: Any, logs: Any, number: int) -> tuple[float, float]:
    """Return the seconds until a script's first line, and until its job was told as done."""
    name, start = f"script-{number}", time.time()
    ordered(
        sagemaker,
        name,
        AlgorithmSpecification={
            "TrainingImage": IMAGE.format("sagemaker-scikit-learn:1.2-1-cpu-py3"),
            "TrainingInputMode": "File",
        },
        HyperParameters={
            "sagemaker_program": "train.py",
            "sagemaker_submit_directory": "s3://bench/code.tar.gz",
        },
    )
    end, group = time.time(), "/aws/sagemaker/TrainingJobs"
    (stream,) = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")[
        "logStreams"
    ]
    events = logs.get_log_events(
        logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
    )["events"]
    (line,) = (each["message"] for each in events if each["message"].startswith("first "))
    return float(line.split()[1]) - start, end - start


def model(sagemaker: Any) -> None:
    """Make a model of XGBoost, and a configuration of an endpoint."""
    image = IMAGE.format("sagemaker-xgboost:1.7-1")
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://bench/train/"}
    found = ordered(
        sagemaker,
        "xgboost",
        AlgorithmSpecification={"TrainingImage": image, "TrainingInputMode": "File"},
        HyperParameters={"objective": "binary:logistic", "num_round": "20"},
        InputDataConfig=[
            {
                "ChannelName": "train",
                "DataSource": {"S3DataSource": source},
                "ContentType": "text/csv",
            }
        ],
    )
    container = {"Image": image, "ModelDataUrl": found["ModelArtifacts"]["S3ModelArtifacts"]}
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": "m",
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
    }
    sagemaker.create_endpoint_config(EndpointConfigName="m", ProductionVariants=[variant])


def endpoint(sagemaker: Any, number: int) -> float:
    """Return the seconds until an endpoint served; the first stays."""
    name, start = f"bench-{number}", time.perf_counter()
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="m")
    while sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Creating":
        time.sleep(0.01)
    seconds = time.perf_counter() - start
    if number:
        sagemaker.delete_endpoint(EndpointName=name)
    return seconds


if __name__ == "__main__":
    main()
