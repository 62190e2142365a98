"""MLflow tracking servers through boto3, with the real MLflow where there is one."""

# ours, on this machine
# ruff: noqa: S310
from __future__ import annotations

import importlib.util
import json
import shutil
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from .conftest import ROLE, Server, until

HAS_MLFLOW = bool(shutil.which("mlflow")) or bool(
    importlib.util.find_spec("mlflow") and importlib.util.find_spec("flask")
)
GOING = ("Creating", "Starting", "Stopping", "Updating", "Deleting")


def refused(call: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def status(sagemaker: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = until(
        lambda: sagemaker.describe_mlflow_tracking_server(TrackingServerName=name),
        lambda seen: seen["TrackingServerStatus"] not in GOING,
        limit_s=240,
    )
    return found


def asked(url: str, value: dict[str, Any], **headers: str) -> Any:
    request = urllib.request.Request(
        url, json.dumps(value).encode(), {"Content-Type": "application/json", **headers}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


@pytest.mark.skipif(HAS_MLFLOW, reason="MLflow is installed")
def test_without_mlflow_it_is_said_what_to_install(sagemaker: Any, bucket: str) -> None:
    code, message = refused(
        sagemaker.create_mlflow_tracking_server,
        TrackingServerName="none",
        ArtifactStoreUri=f"s3://{bucket}/mlflow",
        RoleArn=ROLE,
    )

    assert code == "ValidationException"
    assert message.startswith("MLflow is not installed on this machine.")
    assert sagemaker.list_mlflow_tracking_servers()["TrackingServerSummaries"] == []


def test_a_server_that_is_not_there_is_told_in_awss_words(sagemaker: Any) -> None:
    for call in (
        sagemaker.describe_mlflow_tracking_server,
        sagemaker.start_mlflow_tracking_server,
        sagemaker.stop_mlflow_tracking_server,
        sagemaker.delete_mlflow_tracking_server,
        sagemaker.create_presigned_mlflow_tracking_server_url,
    ):
        code, message = refused(call, TrackingServerName="none")
        assert code == "ResourceNotFound"
        assert message.endswith(":mlflow-tracking-server/none does not exist.")


@pytest.mark.slow
@pytest.mark.skipif(not HAS_MLFLOW, reason="needs MLflow")
def test_a_server_starts_answers_by_its_arn_stops_and_starts_again(
    server: Server, sagemaker: Any, bucket: str
) -> None:
    name = f"ml-{time.time_ns()}"
    arn = sagemaker.create_mlflow_tracking_server(
        TrackingServerName=name, ArtifactStoreUri=f"s3://{bucket}/mlflow", RoleArn=ROLE
    )["TrackingServerArn"]

    seen = status(sagemaker, name)
    assert (seen["TrackingServerStatus"], seen["IsActive"]) == ("Created", "Active")
    assert seen["TrackingServerUrl"].startswith("http://127.0.0.1:")
    assert seen["MlflowVersion"][0].isdigit()
    create = "/api/2.0/mlflow/experiments/create"
    made = asked(f"{seen['TrackingServerUrl']}{create}", {"name": "direct"})
    got = signed(server, arn, made["experiment_id"])
    assert got["experiment"]["name"] == "direct"
    assert got["experiment"]["artifact_location"].startswith(f"s3://{bucket}/mlflow")
    page = sagemaker.create_presigned_mlflow_tracking_server_url(TrackingServerName=name)
    with urllib.request.urlopen(page["AuthorizedUrl"], timeout=60) as answer:
        assert answer.status == 200

    sagemaker.stop_mlflow_tracking_server(TrackingServerName=name)
    stopped = status(sagemaker, name)
    assert (stopped["TrackingServerStatus"], stopped["IsActive"]) == ("Stopped", "Inactive")
    assert (
        refused(sagemaker.create_presigned_mlflow_tracking_server_url, TrackingServerName=name)[0]
        == "ConflictException"
    )
    sagemaker.start_mlflow_tracking_server(TrackingServerName=name)
    again = status(sagemaker, name)
    assert again["TrackingServerStatus"] == "Started"
    got = signed(server, arn, made["experiment_id"])
    assert got["experiment"]["name"] == "direct"
    sagemaker.update_mlflow_tracking_server(
        TrackingServerName=name, ArtifactStoreUri=f"s3://{bucket}/elsewhere"
    )
    moved = status(sagemaker, name)
    assert moved["TrackingServerStatus"] == "Updated"
    made = asked(f"{moved['TrackingServerUrl']}{create}", {"name": "later"})
    got = signed(server, arn, made["experiment_id"])
    assert got["experiment"]["artifact_location"].startswith(f"s3://{bucket}/elsewhere")

    sagemaker.delete_mlflow_tracking_server(TrackingServerName=name)
    until(
        lambda: sagemaker.list_mlflow_tracking_servers()["TrackingServerSummaries"],
        lambda found: name not in [each["TrackingServerName"] for each in found],
    )


def signed(server: Server, arn: str, experiment: str) -> Any:
    """Ask as the plug-in sagemaker-mlflow does."""
    request = AWSRequest(
        method="GET",
        url=f"{server.url}/api/2.0/mlflow/experiments/get?experiment_id={experiment}",
        headers={"x-mlflow-sm-tracking-server-arn": arn},
    )
    key = Credentials(server.key.id, server.key.secret)
    SigV4Auth(key, "sagemaker-mlflow", "us-east-1").add_auth(request)
    prepared = request.prepare()
    with urllib.request.urlopen(
        urllib.request.Request(prepared.url, headers=dict(prepared.headers)), timeout=60
    ) as answer:
        return json.loads(answer.read())
