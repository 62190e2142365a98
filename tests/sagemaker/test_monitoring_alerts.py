"""Alerts of monitoring schedules: when they begin and end, and how a client sees them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from loopwright.sagemaker.monitoring.alert import Rule, changes_of

from .conftest import ROLE, archive, until

START = datetime(2026, 11, 23, tzinfo=UTC)


def at(hour: float) -> datetime:
    return START + timedelta(hours=hour)


def found(executions: Sequence[bool], *rules: Rule) -> list[tuple[float, str]]:
    runs = [(at(n + 1), violated) for n, violated in enumerate(executions)]
    changes = changes_of(runs, rules or [Rule(since=START)])
    return [((each.at - START).total_seconds() / 3600, each.status) for each in changes]


def test_an_alert_begins_and_ends_with_the_last_execution() -> None:
    assert found([False, True, True, False]) == [(2, "InAlert"), (4, "OK")]
    assert found([]) == []
    assert found([False, False]) == []


def test_two_of_three_executions_are_needed_where_the_rule_says_so() -> None:
    rule = Rule(n=2, period=3, since=START)

    assert found([True, False, True, False, False], rule) == [(3, "InAlert"), (4, "OK")]


def test_a_rule_counts_from_its_own_time_on() -> None:
    rules = [Rule(since=START), Rule(n=2, period=2, since=at(2.5))]

    assert found([False, True, False], *rules) == [(2, "InAlert"), (2.5, "OK")]


SERVING = """
def model_fn(model_dir):
    return None

def transform_fn(model, body, content_type, accept):
    return "\\n".join("0.9" for _ in body.splitlines()), "text/csv"
"""
ANALYZER = "156813124566.dkr.ecr.us-east-1.amazonaws.com/sagemaker-model-monitor-analyzer"


def test_a_client_sees_an_alert_of_an_execution_with_violations(
    sagemaker: Any, s3: Any, server: Any, bucket: str
) -> None:
    name = f"alert-{time.time_ns()}"
    s3.put_object(
        Bucket=bucket, Key=f"{name}/m.tar.gz", Body=archive({"code/inference.py": SERVING})
    )
    container = {"Image": "x/y:1", "ModelDataUrl": f"s3://{bucket}/{name}/m.tar.gz"}
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {
        "VariantName": "all",
        "ModelName": name,
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
    }
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[variant],
        DataCaptureConfig={
            "EnableCapture": True,
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": f"s3://{bucket}/{name}/captured",
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"]},
        },
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    until(
        lambda: sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"],
        lambda seen: seen == "InService",
    )
    # a baseline of another width, so that the execution has violations
    feature = {"name": "only", "inferred_type": "Integral", "completeness": 1.0}
    constraints = {"version": 0, "features": [feature]}
    s3.put_object(Bucket=bucket, Key=f"{name}/c.json", Body=json.dumps(constraints))
    server.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=name, ContentType="text/csv", Body="1,2"
    )
    cluster = {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
    sagemaker.create_data_quality_job_definition(
        JobDefinitionName=name,
        DataQualityAppSpecification={"ImageUri": ANALYZER},
        DataQualityBaselineConfig={
            "ConstraintsResource": {"S3Uri": f"s3://{bucket}/{name}/c.json"}
        },
        DataQualityJobInput={
            "EndpointInput": {"EndpointName": name, "LocalPath": "/opt/ml/processing/input"}
        },
        DataQualityJobOutputConfig={
            "MonitoringOutputs": [
                {
                    "S3Output": {
                        "S3Uri": f"s3://{bucket}/{name}/reports",
                        "LocalPath": "/opt/ml/processing/output",
                    }
                }
            ]
        },
        JobResources={"ClusterConfig": cluster},
        RoleArn=ROLE,
    )
    sagemaker.create_monitoring_schedule(
        MonitoringScheduleName=name,
        MonitoringScheduleConfig={
            "MonitoringJobDefinitionName": name,
            "MonitoringType": "DataQuality",
            "ScheduleConfig": {
                "ScheduleExpression": "NOW",
                "DataAnalysisStartTime": "-PT1H",
                "DataAnalysisEndTime": "-PT0H",
            },
        },
    )

    alerts = until(
        lambda: sagemaker.list_monitoring_alerts(MonitoringScheduleName=name),
        lambda seen: seen["MonitoringAlertSummaries"][0]["AlertStatus"] == "InAlert",
    )["MonitoringAlertSummaries"]
    history = sagemaker.list_monitoring_alert_history(MonitoringScheduleName=name)
    changed = sagemaker.update_monitoring_alert(
        MonitoringScheduleName=name,
        MonitoringAlertName=name,
        DatapointsToAlert=2,
        EvaluationPeriod=3,
    )
    later = sagemaker.list_monitoring_alerts(MonitoringScheduleName=name)

    assert [each["MonitoringAlertName"] for each in alerts] == [name]
    assert (alerts[0]["DatapointsToAlert"], alerts[0]["EvaluationPeriod"]) == (1, 1)
    told = [each["AlertStatus"] for each in history["MonitoringAlertHistory"]]
    assert told == ["InAlert"]
    assert changed["MonitoringAlertName"] == name
    assert later["MonitoringAlertSummaries"][0]["AlertStatus"] == "OK"
    assert later["MonitoringAlertSummaries"][0]["DatapointsToAlert"] == 2
    with pytest.raises(ClientError, match="DatapointsToAlert must not be greater"):
        sagemaker.update_monitoring_alert(
            MonitoringScheduleName=name,
            MonitoringAlertName=name,
            DatapointsToAlert=3,
            EvaluationPeriod=2,
        )
    with pytest.raises(ClientError, match="Could not find the monitoring alert"):
        sagemaker.update_monitoring_alert(
            MonitoringScheduleName=name,
            MonitoringAlertName="other",
            DatapointsToAlert=1,
            EvaluationPeriod=1,
        )
    sagemaker.delete_monitoring_schedule(MonitoringScheduleName=name)
    sagemaker.delete_endpoint(EndpointName=name)
