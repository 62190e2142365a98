"""A server of its own for these tests, and clients of boto3 for it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from loopwright.core.clock import SystemClock
from loopwright.sagemaker.key import AccessKey, new_key
from loopwright.store.sql import SqlMetadataStore

ROLE = "arn:aws:iam::123456789012:role/loopwright"
REGISTRY = "683313688378.dkr.ecr.us-east-1.amazonaws.com"


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that runs, and how to reach it."""

    url: str
    home: Path
    key: AccessKey
    pid: int

    def client(self, service: str, **changes: Any) -> Any:
        """Return a client that knows the server and its key."""
        return boto3.client(
            service,
            **{
                "endpoint_url": self.url,
                "region_name": "us-east-1",
                "aws_access_key_id": self.key.id,
                "aws_secret_access_key": self.key.secret,
                "config": Config(retries={"total_max_attempts": 1}, read_timeout=30),
                **changes,
            },
        )


@contextmanager
def started(
    home: Path, *, port: int = 0, arguments: Sequence[str] = (), **environment: str
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start a server on a home, and end it in any case."""
    log = home.parent / f"server-{time.time_ns()}.log"
    command = [sys.executable, "-m", "loopwright", "--home", str(home), "sagemaker"]
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--port", str(port), *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LOOPWRIGHT_USER": "ann", **environment},
        )
    try:
        yield process, _address(process, log)
    finally:
        process.terminate()
        process.wait(20)


def key_for(home: Path) -> AccessKey:
    """Return a new key of a home."""
    metadata = SqlMetadataStore(f"sqlite:///{home / 'loopwright.db'}", SystemClock())
    try:
        return new_key(metadata, user="ann", purpose="tests")
    finally:
        metadata.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server that lives as long as the tests."""
    home = tmp_path_factory.mktemp("sagemaker") / "home"
    home.mkdir(mode=0o700)
    with started(home) as (process, url):
        yield Server(url=url, home=home, key=key_for(home), pid=process.pid)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    for _ in range(400):
        for line in log.read_text().splitlines():
            if line.startswith("Listening on "):
                return line.removeprefix("Listening on ")
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="session")
def s3(server: Server) -> Any:
    """Return a client of S3."""
    return server.client("s3")


@pytest.fixture(scope="session")
def sagemaker(server: Server) -> Any:
    """Return a client of SageMaker."""
    return server.client("sagemaker")


@pytest.fixture(scope="session")
def bucket(s3: Any) -> str:
    """Return a bucket for the data of jobs."""
    s3.create_bucket(Bucket="jobs")
    return "jobs"


def archive(files: Mapping[str, str | bytes]) -> bytes:
    """Return a `.tar.gz` of some files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def until(look: Callable[[], Any], holds: Callable[[Any], bool], *, limit_s: float = 60.0) -> Any:
    """Return what is seen once it holds."""
    end = time.monotonic() + limit_s
    while not holds(seen := look()):
        assert time.monotonic() < end, seen
        time.sleep(0.05)
    return seen


@pytest.fixture
def train(
    sagemaker: Any, s3: Any, bucket: str, request: pytest.FixtureRequest
) -> Callable[..., Any]:
    """Return a function that trains and returns the description of the job that has ended."""

    def run(*, wait: bool = True, **changes: Any) -> dict[str, Any]:
        name = changes.pop("name", f"job-{time.time_ns()}")
        wanted = {
            "TrainingJobName": name,
            "RoleArn": ROLE,
            "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/out"},
            "ResourceConfig": {
                "InstanceType": "ml.m5.large",
                "InstanceCount": 1,
                "VolumeSizeInGB": 1,
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": 300},
            **changes,
        }
        sagemaker.create_training_job(**wanted)
        if not wait:
            return {"TrainingJobName": name}
        found: dict[str, Any] = until(
            lambda: sagemaker.describe_training_job(TrainingJobName=name),
            lambda seen: seen["TrainingJobStatus"] not in ("InProgress", "Stopping"),
        )
        return found

    return run


def image(repository: str) -> dict[str, Any]:
    """Return the algorithm of an image."""
    return {"TrainingImage": f"{REGISTRY}/{repository}", "TrainingInputMode": "File"}


def channel(name: str, uri: str, **changes: Any) -> dict[str, Any]:
    """Return a channel of S3 data."""
    source = {"S3DataType": "S3Prefix", "S3Uri": uri}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, **changes}
