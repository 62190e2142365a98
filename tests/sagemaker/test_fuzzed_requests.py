"""Requests made from AWS's service model, right and spoilt: each gets an answer that botocore reads.

A run of minutes: `FUZZ_SECONDS=1200 pytest tests/sagemaker/test_fuzzed_requests.py`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore import xform_name
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.parsers import create_parser
from botocore.validate import ParamValidator

from loopwright.sagemaker.model import operation, pattern, service
from loopwright.sagemaker.registry import all_served

from .conftest import ROLE, Server, key_for, started
from .creations import ARN, BUCKET, CREATIONS, WAITING, prepare
from .shape_maker import Maker

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
SERVED = sorted(
    (each.service, each.name)
    for each in all_served()
    if "targetPrefix" in service(each.service).metadata
)
KINDS = [
    "action",
    "artifact",
    "context",
    "endpoint",
    "endpoint-config",
    "experiment",
    "experiment-trial",
    "experiment-trial-component",
    "hyper-parameter-tuning-job",
    "model",
    "model-package-group",
    "monitoring-schedule",
    "pipeline",
    "processing-job",
    "training-job",
    "transform-job",
]
TEXTS = (
    *("thing", "made", "t" * 32, "1", "0.5", "10", "a", "value", "train", "NOW", "us-east-1"),
    *(f"s3://{BUCKET}/rows", f"s3://{BUCKET}/rows/x.csv", f"s3://{BUCKET}/out", ROLE),
    *("683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1", "text/csv", "$.a"),
    *("/opt/ml/processing/input", "/opt/ml/checkpoints", "cron(0 * ? * * *)", "-PT1H", "P1D"),
    *("sg-12345678", "subnet-12345678", "abcdefghijkl", "bm90IG1pbmU=", "2020-12-01", "loss"),
    *("/aws/sagemaker/TrainingJobs", "x=([0-9.]+)", WAITING, f"{ARN}:model-package/thing/1"),
    *(f"{ARN}:{kind}/thing" for kind in KINDS),
    *("a1b2c3d4-0000-1111-2222-333344445555", f"{ARN}:artifact/{'a' * 32}"),
)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server of its own, with one of each kind."""
    home = tmp_path_factory.mktemp("fuzzed") / "home"
    home.mkdir(mode=0o700)
    with started(home) as (process, url):
        yield Server(url=url, home=home, key=key_for(home), pid=process.pid)


def filled(server: Server) -> tuple[str, ...]:
    """Make one of each kind, and return what else there is to be named."""
    sagemaker = server.client("sagemaker")
    prepare(sagemaker, server.client("s3"))
    for name, request in CREATIONS.items():
        sagemaker_call = getattr(sagemaker, xform_name(name))
        sagemaker_call(**request("thing"))
    sagemaker.create_pipeline(
        PipelineName="asks", PipelineDefinition=WAITING, ClientRequestToken="a" * 32, RoleArn=ROLE
    )
    run = sagemaker.start_pipeline_execution(PipelineName="asks")
    found = sagemaker.create_artifact(Source={"SourceUri": "s3://x/y"}, ArtifactType="T")
    return str(run["PipelineExecutionArn"]), str(found["ArtifactArn"])


def made_again(server: Server) -> None:
    """Make again what was deleted."""
    sagemaker = server.client("sagemaker")
    for who in ("made", "thing"):
        for name, request in CREATIONS.items():
            try:
                getattr(sagemaker, xform_name(name))(**request(who))
            except ClientError:
                continue  # it is there, or what it needs is not


class Asker:
    """Sends a request as it is, and looks at the answer."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._key = Credentials(server.key.id, server.key.secret)
        self._wire = HTTPConnection(urlsplit(server.url).netloc, timeout=60)
        self._parser = create_parser("json")

    def faults(self, about: tuple[str, str], body: dict[str, Any]) -> list[str]:
        """Return what is wrong with the answer to a request."""
        kind, name = about
        data = json.dumps(body).encode()
        headers = {
            "X-Amz-Target": f"{service(kind).metadata['targetPrefix']}.{name}",
            "Content-Type": "application/x-amz-json-1.1",
        }
        request = AWSRequest("POST", self._server.url, data=data, headers=headers)
        SigV4Auth(self._key, service(kind).signing_name, "us-east-1").add_auth(request)
        self._wire.request("POST", "/", body=data, headers=dict(request.headers))
        told = self._wire.getresponse()
        raw = told.read()
        shape = operation(kind, name).output_shape
        answer = {"status_code": told.status, "headers": dict(told.headers), "body": raw}
        read = self._parser.parse(answer, shape)
        if told.status >= 500:
            return [f"{told.status}: {raw[:300]!r}"]
        if told.status >= 400:
            error = read["Error"]
            return [] if error["Code"] and error["Message"] else [f"no words: {raw[:300]!r}"]
        read.pop("ResponseMetadata")
        report = ParamValidator().validate(read, shape) if shape is not None else None
        return [report.generate_report()] if report is not None and report.has_errors() else []


def test_every_request_gets_an_answer_that_botocore_reads(fuzzed: Server) -> None:
    maker = Maker(7, (*TEXTS, *filled(fuzzed)))
    asker = Asker(fuzzed)
    found: list[str] = []
    end, n_rounds = time.monotonic() + SECONDS, 0

    while n_rounds < 1 or time.monotonic() < end:
        for about in SERVED:
            body = maker.request(
                operation(*about).input_shape, share=maker.random.choice((0.0, 0.2, 0.6))
            )
            if about[1] in CREATIONS and maker.random.random() < 0.5:
                body = CREATIONS[about[1]](f"n{n_rounds}")
            if maker.random.random() < 0.5:
                body = maker.spoilt(body)
            found += [f"{about[1]} {body}: {each}" for each in asker.faults(about, body)]
        n_rounds += 1
        if n_rounds % 4 == 0:
            made_again(fuzzed)

    assert found == []


FOUND = {
    "a job that says nothing of its algorithm": (
        ("sagemaker", "CreateTrainingJob"),
        {
            "TrainingJobName": "bare",
            "RoleArn": ROLE,
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
        },
    ),
    "a choice of which nothing is chosen": (
        ("cloudwatch", "PutMetricAlarm"),
        {"AlarmName": "a", "EvaluationPeriods": 1, "EvaluationCriteria": {}},
    ),
    "a pattern that takes time without end": (
        ("sagemaker", "UpdateModelPackage"),
        {
            "ModelPackageArn": f"{ARN}:model-package/thing",
            "CustomerMetadataProperties": {"a" * 60 + "!": "b"},
        },
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_in_this_way_is_refused(server: Server, name: str) -> None:
    about, body = FOUND[name]
    asker = Asker(server)

    assert asker.faults(about, body) == []
    assert asker.faults(("cloudwatch", "DescribeAlarms"), {}) == []


def test_a_length_that_is_written_as_a_repetition_is_none() -> None:
    found = pattern(r"([\p{L}\p{Z}\p{N}_.:\/=+\-@]*)${1,256}")

    began = time.process_time()
    assert found is not None
    assert found.fullmatch("a b" * 50)
    assert not found.fullmatch("a" * 200 + "!")
    assert time.process_time() - began < 1.0


def test_a_job_of_less_than_a_second_took_one(sagemaker: Any, s3: Any) -> None:
    prepare(sagemaker, s3)
    name = f"short-{time.time_ns()}"
    sagemaker.create_training_job(**CREATIONS["CreateTrainingJob"](name))
    sagemaker.get_waiter("training_job_completed_or_stopped").wait(
        TrainingJobName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )

    assert sagemaker.describe_training_job(TrainingJobName=name)["TrainingTimeInSeconds"] >= 1
