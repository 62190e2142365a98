"""Data capture of endpoints: what was asked and answered lies in S3 in SageMaker's own layout."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from loopwright.core.clock import FixedClock
from loopwright.sagemaker import data_capture
from loopwright.sagemaker.data_capture import capture, ship_captures
from loopwright.sagemaker.desk import Desk
from loopwright.sagemaker.s3.store import ObjectStore
from loopwright.settings import read_settings
from loopwright.wiring import open_workspace

from .conftest import REGISTRY, ROLE, Server, archive, until

SERVING = """
import json

def model_fn(model_dir):
    return None

def transform_fn(model, body, content_type, accept):
    text = body if isinstance(body, str) else body.decode(errors="replace")
    return json.dumps({"said": text}), "application/json; charset=utf-8"
"""
KINDS = {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]}
BOTH = [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}]


def wish(uri: str, **changes: Any) -> dict[str, Any]:
    return {
        "EnableCapture": True,
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": uri,
        "CaptureOptions": BOTH,
        "CaptureContentTypeHeader": KINDS,
        **changes,
    }


def configure(sagemaker: Any, model: str, **capture: Any) -> str:
    name = f"captured-{time.time_ns()}"
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": model,
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
            }
        ],
        **capture,
    )
    return name


def settled(sagemaker: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = until(
        lambda: sagemaker.describe_endpoint(EndpointName=name),
        lambda seen: seen["EndpointStatus"] in ("InService", "Failed"),
    )
    assert found["EndpointStatus"] == "InService", found
    return found


@pytest.fixture(scope="module")
def endpoint(sagemaker: Any, s3: Any, bucket: str) -> Iterator[str]:
    """Return an endpoint that says what it was asked, and is captured."""
    s3.put_object(Bucket=bucket, Key="echo/m.tar.gz", Body=archive({"code/inference.py": SERVING}))
    sagemaker.create_model(
        ModelName="echo",
        ExecutionRoleArn=ROLE,
        PrimaryContainer={
            "Image": f"{REGISTRY}/x:1",
            "ModelDataUrl": f"s3://{bucket}/echo/m.tar.gz",
        },
    )
    config = configure(sagemaker, "echo", DataCaptureConfig=wish(f"s3://{bucket}/capture/"))
    sagemaker.create_endpoint(EndpointName="Echo", EndpointConfigName=config)
    settled(sagemaker, "Echo")
    yield "Echo"
    sagemaker.delete_endpoint(EndpointName="Echo")


def lines(s3: Any, bucket: str, prefix: str, n: int) -> list[dict[str, Any]]:
    def found() -> list[dict[str, Any]]:
        keys = [
            each["Key"]
            for each in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        ]
        texts = [s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys]
        return [json.loads(line) for text in texts for line in text.splitlines()]

    got: list[dict[str, Any]] = until(found, lambda seen: len(seen) >= n)
    return got


def test_requests_are_captured_as_sagemaker_writes_them_until_an_update_ends_it(
    server: Server, sagemaker: Any, s3: Any, bucket: str, endpoint: str
) -> None:
    runtime = server.client("sagemaker-runtime")
    began = datetime.now(UTC).replace(microsecond=0)

    runtime.invoke_endpoint(
        EndpointName=endpoint, Body="1,2", ContentType="text/csv", InferenceId="row-1"
    )
    runtime.invoke_endpoint(
        EndpointName=endpoint, Body=b"\x00\xff", ContentType="application/x-raw"
    )

    about = sagemaker.describe_endpoint(EndpointName=endpoint)["DataCaptureConfig"]
    assert about["CaptureStatus"] == "Started"
    got = lines(s3, bucket, "capture/", 2)
    first = next(each for each in got if "inferenceId" in each["eventMetadata"])
    assert first["captureData"] == {
        "endpointInput": {
            "observedContentType": "text/csv",
            "mode": "INPUT",
            "data": "1,2",
            "encoding": "CSV",
        },
        "endpointOutput": {
            "observedContentType": "application/json; charset=utf-8",
            "mode": "OUTPUT",
            "data": '{"said": "1,2"}',
            "encoding": "JSON",
        },
    }
    event = first["eventMetadata"]
    assert event["inferenceId"] == "row-1"
    assert re.fullmatch(r"[0-9a-f-]{36}", event["eventId"])
    at = datetime.fromisoformat(event["inferenceTime"])
    assert began <= at <= datetime.now(UTC)
    assert first["eventVersion"] == "0"
    raw = next(each for each in got if each is not first)
    assert raw["captureData"]["endpointInput"]["encoding"] == "BASE64"
    assert base64.b64decode(raw["captureData"]["endpointInput"]["data"]) == b"\x00\xff"
    assert "inferenceId" not in raw["eventMetadata"]
    keys = [
        each["Key"] for each in s3.list_objects_v2(Bucket=bucket, Prefix="capture/")["Contents"]
    ]
    pattern = r"capture/Echo/AllTraffic/\d{4}/\d\d/\d\d/\d\d/\d\d-\d\d-\d{3}-[0-9a-f-]{36}\.jsonl"
    assert all(re.fullmatch(pattern, key) for key in keys)

    off = configure(
        sagemaker, "echo", DataCaptureConfig=wish(f"s3://{bucket}/capture/", EnableCapture=False)
    )
    sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=off)
    after = settled(sagemaker, endpoint)
    runtime.invoke_endpoint(EndpointName=endpoint, Body="3,4", ContentType="text/csv")
    elsewhere = configure(
        sagemaker,
        "echo",
        DataCaptureConfig=wish(
            f"s3://{bucket}/elsewhere", CaptureOptions=[{"CaptureMode": "Input"}]
        ),
    )
    sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=elsewhere)
    settled(sagemaker, endpoint)
    runtime.invoke_endpoint(EndpointName=endpoint, Body="5,6", ContentType="text/csv")

    last = lines(s3, bucket, "elsewhere/", 1)
    assert after["DataCaptureConfig"]["CaptureStatus"] == "Stopped"
    assert [list(each["captureData"]) for each in last] == [["endpointInput"]]
    assert len(lines(s3, bucket, "capture/", 2)) == 2


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Return the desk of a home of its own."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    workspace = open_workspace(read_settings({}, home=home))
    objects = ObjectStore(home / "s3", FixedClock())
    objects.make_bucket("b", account="1", region="us-east-1")
    yield Desk(workspace=workspace, objects=objects, url="http://127.0.0.1:1", job_key=("", ""))
    workspace.metadata.close()
    data_capture._gathering.clear()


def asked(desk: Desk, number: int = 0, **changes: Any) -> None:
    capture(
        desk,
        {**wish("s3://b/c"), **changes},
        endpoint="e",
        variant="v",
        asked=(f"{number}".encode(), "text/csv"),
        answered=(b"0", "text/csv"),
    )


def shipped(desk: Desk) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for entry in desk.objects.every("b", "c/")
        for line in desk.objects.read("b", entry.key, limit=1 << 20).splitlines()
    ]


def test_what_a_killed_server_had_captured_is_in_s3_after_all_and_once(desk: Desk) -> None:
    asked(desk, 1)
    asked(desk, 2)
    folder = next((desk.workspace.home / "sagemaker" / "capture").iterdir())
    with next(folder.glob("*.ndjson")).open("ab") as file:
        file.write(b'{"captureData": {"endpo')  # the server ended here
    data_capture._gathering.clear()
    segment = next(folder.glob("*.ndjson"))
    left = segment.read_bytes()

    ship_captures(desk)
    segment.write_bytes(left)  # it ended again, before the segment was gone
    ship_captures(desk)

    data = [each["captureData"]["endpointInput"]["data"] for each in shipped(desk)]
    assert data == ["1", "2"]
    assert list(folder.glob("*.ndjson")) == []


def test_a_share_of_requests_is_captured(desk: Desk) -> None:
    for number in range(400):
        asked(desk, number, InitialSamplingPercentage=25)
    data_capture._gathering.clear()

    ship_captures(desk)

    # 100 are expected; five standard deviations of 8.7 either way
    assert 56 < len(shipped(desk)) < 144


def test_a_bucket_that_is_gone_loses_the_lines_and_nothing_else(desk: Desk) -> None:
    asked(desk, DestinationS3Uri="s3://gone/c")
    data_capture._gathering.clear()

    ship_captures(desk)
    asked(desk, 7)
    data_capture._gathering.clear()
    ship_captures(desk)

    assert len(shipped(desk)) == 1
