"""`loopwright server` on one port: its own pages, and the API that clients of AWS ask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from loopwright.sagemaker.message import HeldBody, Request
from loopwright.server.doorway import beside, is_for_aws
from loopwright.server.site import Answers, ServerSite

COMMAND = [sys.executable, "-c", "from loopwright.cli import main; main()"]
ENVIRON = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def request(target: str = "/status", method: str = "GET", **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(
        method=method, target=target, headers={"host": "127.0.0.1", **named}, body=HeldBody(b"")
    )


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (request(), False),
        (request("/metrics?name=x"), False),
        (request(authorization="Bearer abc"), False),
        (request("/", authorization="AWS4-HMAC-SHA256 Credential=x"), True),
        (request("/status", authorization="AWS key:signature"), True),
        (request("/b/k?X-Amz-Signature=ab"), True),
        (request("/b/k?AWSAccessKeyId=ab"), True),
        (request("/", method="POST", x_amz_target="SageMaker.ListModels"), True),
    ],
)
def test_what_is_signed_or_bears_their_headers_is_for_aws(given: Request, wanted: bool) -> None:
    assert is_for_aws(given) is wanted


def test_the_other_pages_are_answered_as_before() -> None:
    answers = Answers()
    answers.status = {"loops": ["a"]}
    answer = beside(ServerSite(answers, token_digest=None))

    status = answer(request("/status"))
    nothing = answer(request("/nothing"))
    signed = answer(request(authorization="AWS4-HMAC-SHA256 x"))

    assert status is not None
    assert json.loads(status.body) == {"loops": ["a"]}  # type: ignore[arg-type] # held bytes
    assert ("x-content-type-options", "nosniff") in status.headers
    assert nothing is not None
    assert nothing.status == 404
    assert signed is None


def test_pages_stay_behind_their_token() -> None:
    answer = beside(ServerSite(Answers(), token_digest="sha256:" + "0" * 64))

    refused = answer(request("/status"))

    assert refused is not None
    assert refused.status == 401


@pytest.fixture
def home(tmp_path: Path) -> Path:
    place = tmp_path / "home"
    place.mkdir(mode=0o700)
    return place


@pytest.fixture
def running(home: Path) -> Iterator[str]:
    """Return where a real server listens."""
    process = subprocess.Popen(
        [*COMMAND, "--home", str(home), "server", "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=ENVIRON,
    )
    assert process.stdout is not None
    said = b""
    while not said.rstrip().endswith(b"}"):
        line = process.stdout.readline()
        assert line, "the server ended"
        said += line
    yield json.loads(said)["url"]
    process.terminate()
    assert process.wait(30) == 0


def shell(home: Path) -> tuple[dict[str, str], str]:
    done = subprocess.run(
        [*COMMAND, "--home", str(home), "env", "--json"],
        capture_output=True,
        check=True,
        env=ENVIRON,
        timeout=60,
    )
    return json.loads(done.stdout), done.stderr.decode()


def test_one_process_answers_both_and_the_shell_finds_it(running: str, home: Path) -> None:
    variables, _ = shell(home)
    keys = {
        "endpoint_url": variables["AWS_ENDPOINT_URL"],
        "region_name": variables["AWS_DEFAULT_REGION"],
        "aws_access_key_id": variables["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": variables["AWS_SECRET_ACCESS_KEY"],
    }

    s3: Any = boto3.client("s3", **keys)
    s3.create_bucket(Bucket="status")
    buckets = [each["Name"] for each in s3.list_buckets()["Buckets"]]
    models = boto3.client("sagemaker", **keys).list_models()["Models"]
    with urllib.request.urlopen(f"{running}/status", timeout=10) as got:  # noqa: S310 ours
        status = json.load(got)
    with pytest.raises(ClientError) as refused:
        boto3.client("sagemaker", **{**keys, "aws_secret_access_key": "x" * 40}).list_models()
    with pytest.raises(urllib.error.HTTPError) as missing:
        urllib.request.urlopen(f"{running}/nothing", timeout=10)  # noqa: S310 ours

    assert variables["AWS_ENDPOINT_URL"] == running
    assert buckets == ["status"]
    assert models == []
    assert status["home"] == str(home)
    assert refused.value.response["Error"]["Code"] == "InvalidSignatureException"
    assert missing.value.code == 404


def test_a_shell_is_told_that_no_server_runs(home: Path) -> None:
    variables, said = shell(home)

    assert variables["AWS_ENDPOINT_URL"] == "http://127.0.0.1:8700"
    assert "No server runs" in said
