"""Model Monitor through boto3: baselines, schedules and executions, really run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError

from .conftest import REGISTRY, ROLE, Server, archive, key_for, started, until

ANALYZER = "156813124566.dkr.ecr.us-east-1.amazonaws.com/sagemaker-model-monitor-analyzer"
ROOT = "/opt/ml/processing"
SERVING = """
def model_fn(model_dir):
    return None

def transform_fn(model, body, content_type, accept):
    first = float(body.split(",")[0])
    return f"{1 / (1 + 2.718281828 ** -first):.4f}", "text/csv"
"""
CLUSTER = {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
CAPTURE = {
    "EnableCapture": True,
    "InitialSamplingPercentage": 100,
    "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
    "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"]},
}


def refused(call: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def settled(sagemaker: Any, name: str) -> None:
    found = until(
        lambda: sagemaker.describe_endpoint(EndpointName=name),
        lambda seen: seen["EndpointStatus"] in ("InService", "Failed"),
    )
    assert found["EndpointStatus"] == "InService", found


def endpoint_with(sagemaker: Any, s3: Any, bucket: str, name: str, **capture: Any) -> None:
    s3.put_object(
        Bucket=bucket, Key="watched/m.tar.gz", Body=archive({"code/inference.py": SERVING})
    )
    uri = f"s3://{bucket}/watched/m.tar.gz"
    container = {"Image": f"{REGISTRY}/x:1", "ModelDataUrl": uri}
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": name,
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
            }
        ],
        **capture,
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)


@pytest.fixture(scope="module")
def endpoint(sagemaker: Any, s3: Any, bucket: str) -> Iterator[str]:
    """Return an endpoint that captures what it is asked."""
    name = "Watched"
    capture = {**CAPTURE, "DestinationS3Uri": f"s3://{bucket}/seen"}
    endpoint_with(sagemaker, s3, bucket, name, DataCaptureConfig=capture)
    settled(sagemaker, name)
    yield name
    sagemaker.delete_endpoint(EndpointName=name)


@pytest.fixture(scope="module")
def baseline(sagemaker: Any, s3: Any, bucket: str) -> str:
    """Return where a baseline job has put its files: the answer, then three numbers."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(400, 3))
    p = 1 / (1 + np.exp(-X[:, 0]))
    lines = [f"{p[n]:.4f},{','.join(f'{v:.4f}' for v in X[n])}" for n in range(len(X))]
    body = "\n".join(["answer,a,b,c", *lines])
    s3.put_object(Bucket=bucket, Key="base/in/data.csv", Body=body.encode())
    analysed(
        sagemaker,
        "baseline-1",
        f"s3://{bucket}/base/in",
        f"s3://{bucket}/base/out",
        dataset_format=json.dumps({"csv": {"header": True, "output_columns_position": "START"}}),
    )
    return f"s3://{bucket}/base/out"


def analysed(
    sagemaker: Any, name: str, data: str, output: str, **environment: str
) -> dict[str, Any]:
    sagemaker.create_processing_job(
        ProcessingJobName=name,
        RoleArn=ROLE,
        AppSpecification={"ImageUri": ANALYZER},
        ProcessingResources={"ClusterConfig": CLUSTER},
        ProcessingInputs=[
            {
                "InputName": "baseline_dataset_input",
                "S3Input": {
                    "S3Uri": data,
                    "LocalPath": f"{ROOT}/input/baseline_dataset_input",
                    "S3DataType": "S3Prefix",
                    "S3InputMode": "File",
                },
            }
        ],
        ProcessingOutputConfig={
            "Outputs": [
                {
                    "OutputName": "monitoring_output",
                    "S3Output": {
                        "S3Uri": output,
                        "LocalPath": f"{ROOT}/output",
                        "S3UploadMode": "EndOfJob",
                    },
                }
            ]
        },
        Environment={
            "dataset_source": f"{ROOT}/input/baseline_dataset_input",
            "output_path": f"{ROOT}/output",
            "publish_cloudwatch_metrics": "Disabled",
            **environment,
        },
    )
    found: dict[str, Any] = until(
        lambda: sagemaker.describe_processing_job(ProcessingJobName=name),
        lambda seen: seen["ProcessingJobStatus"] not in ("InProgress", "Stopping"),
    )
    return found


def report(s3: Any, uri: str, name: str) -> Any:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return json.loads(s3.get_object(Bucket=bucket, Key=f"{prefix}/{name}.json")["Body"].read())


def definition(name: str, endpoint: str, bucket: str, **changes: Any) -> dict[str, Any]:
    return {
        "JobDefinitionName": name,
        "DataQualityAppSpecification": {
            "ImageUri": ANALYZER,
            "Environment": {"publish_cloudwatch_metrics": "Enabled"},
        },
        "DataQualityJobInput": {
            "EndpointInput": {"EndpointName": endpoint, "LocalPath": f"{ROOT}/input/endpoint"}
        },
        "DataQualityJobOutputConfig": {
            "MonitoringOutputs": [
                {
                    "S3Output": {
                        "S3Uri": f"s3://{bucket}/reports",
                        "LocalPath": f"{ROOT}/output",
                        "S3UploadMode": "Continuous",
                    }
                }
            ]
        },
        "JobResources": {"ClusterConfig": CLUSTER},
        "RoleArn": ROLE,
        **changes,
    }


def once(definition: str, kind: str = "DataQuality") -> dict[str, Any]:
    return {
        "MonitoringJobDefinitionName": definition,
        "MonitoringType": kind,
        "ScheduleConfig": {
            "ScheduleExpression": "NOW",
            "DataAnalysisStartTime": "-PT1H",
            "DataAnalysisEndTime": "-PT0H",
        },
    }


def executed(sagemaker: Any, schedule: str, n: int = 1) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = until(
        lambda: sagemaker.list_monitoring_executions(MonitoringScheduleName=schedule)[
            "MonitoringExecutionSummaries"
        ],
        lambda seen: (
            len(seen) >= n
            and all(
                each["MonitoringExecutionStatus"] not in ("Pending", "InProgress") for each in seen
            )
        ),
    )
    return found


def test_a_baseline_tells_statistics_and_suggests_constraints(s3: Any, baseline: str) -> None:
    statistics = report(s3, baseline, "statistics")
    constraints = report(s3, baseline, "constraints")

    assert statistics["dataset"] == {"item_count": 400}
    names = [each["name"] for each in statistics["features"]]
    assert names == ["answer", "a", "b", "c"]
    about = statistics["features"][1]["numerical_statistics"]
    assert about["common"] == {"num_present": 400, "num_missing": 0}
    assert len(about["distribution"]["kll"]["buckets"]) == 10
    assert sum(each["count"] for each in about["distribution"]["kll"]["buckets"]) == 400
    assert [each["num_constraints"]["is_non_negative"] for each in constraints["features"]] == [
        True,
        False,
        False,
        False,
    ]
    assert constraints["monitoring_config"]["distribution_constraints"]["comparison_threshold"] == (
        0.1
    )


def test_a_schedule_that_runs_now_tells_what_has_changed(
    server: Server, sagemaker: Any, s3: Any, bucket: str, endpoint: str, baseline: str
) -> None:
    runtime = server.client("sagemaker-runtime")
    rng = np.random.default_rng(4)
    for row in rng.normal(size=(60, 3)) + np.array([3.0, 0.0, 0.0]):
        body = ",".join(f"{value:.4f}" for value in row)
        runtime.invoke_endpoint(EndpointName=endpoint, Body=body, ContentType="text/csv")
    sagemaker.create_data_quality_job_definition(
        **definition(
            "dq",
            endpoint,
            bucket,
            DataQualityBaselineConfig={
                "ConstraintsResource": {"S3Uri": f"{baseline}/constraints.json"},
                "StatisticsResource": {"S3Uri": f"{baseline}/statistics.json"},
            },
        )
    )

    sagemaker.create_monitoring_schedule(
        MonitoringScheduleName="now", MonitoringScheduleConfig=once("dq")
    )

    [found] = executed(sagemaker, "now")
    job = sagemaker.describe_processing_job(
        ProcessingJobName=found["ProcessingJobArn"].rpartition("/")[2]
    )
    assert found["MonitoringExecutionStatus"] == "CompletedWithViolations", (found, job)
    assert job["ExitMessage"].startswith("CompletedWithViolations: Job completed successfully")
    assert job["MonitoringScheduleArn"].endswith(":monitoring-schedule/now")
    reports = job["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"]
    due = found["ScheduledTime"].astimezone(UTC)
    assert reports == f"s3://{bucket}/reports/{endpoint}/now/{due:%Y/%m/%d/%H}"
    assert report(s3, reports, "statistics")["dataset"]["item_count"] == 60
    told = report(s3, reports, "constraint_violations")["violations"]
    assert {each["feature_name"] for each in told} == {"answer", "a"}
    assert {each["constraint_check_type"] for each in told} == {"baseline_drift_check"}
    schedule = sagemaker.describe_monitoring_schedule(MonitoringScheduleName="now")
    assert schedule["MonitoringScheduleStatus"] == "Scheduled"
    assert schedule["EndpointName"] == endpoint
    assert (
        schedule["LastMonitoringExecutionSummary"]["MonitoringExecutionStatus"]
        == "CompletedWithViolations"
    )
    at = datetime.now(UTC)
    points = server.client("cloudwatch").get_metric_statistics(
        Namespace="aws/sagemaker/Endpoints/data-metrics",
        MetricName="feature_data_a",
        Dimensions=[
            {"Name": "Endpoint", "Value": endpoint},
            {"Name": "MonitoringSchedule", "Value": "now"},
        ],
        StartTime=at - timedelta(hours=2),
        EndTime=at + timedelta(hours=1),
        Period=3600,
        Statistics=["Average", "SampleCount"],
    )["Datapoints"]
    assert sum(each["SampleCount"] for each in points) == 60
    assert points[0]["Average"] == pytest.approx(3.0, abs=0.5)

    sagemaker.start_monitoring_schedule(MonitoringScheduleName="now")

    assert len(executed(sagemaker, "now", 2)) == 2


def test_true_values_that_come_later_tell_how_good_the_answers_were(
    server: Server, sagemaker: Any, s3: Any, bucket: str, endpoint: str
) -> None:
    rng = np.random.default_rng(5)
    score = rng.uniform(size=300)
    truth = (rng.uniform(size=300) < score).astype(int)
    rows = [f"{s:.4f},{int(s >= 0.5)},{t}" for s, t in zip(score, truth, strict=True)]
    body = "\n".join(["probability,prediction,label", *rows])
    s3.put_object(Bucket=bucket, Key="quality/in/d.csv", Body=body.encode())
    output = f"s3://{bucket}/quality/out"
    job = analysed(
        sagemaker,
        "quality-baseline",
        f"s3://{bucket}/quality/in",
        output,
        analysis_type="MODEL_QUALITY",
        problem_type="BinaryClassification",
        inference_attribute="prediction",
        probability_attribute="probability",
        ground_truth_attribute="label",
        dataset_format=json.dumps({"csv": {"header": True}}),
    )
    assert job["ProcessingJobStatus"] == "Completed", job
    rules = report(s3, output, "constraints")["binary_classification_constraints"]
    assert rules["auc"]["comparison_operator"] == "LessThanThreshold"
    runtime = server.client("sagemaker-runtime")
    hour = datetime.now(UTC)
    truths = []
    for number in range(40):
        value = 2.0 if number % 2 else -2.0
        runtime.invoke_endpoint(
            EndpointName=endpoint,
            Body=f"{value},0,0",
            ContentType="text/csv",
            InferenceId=f"id-{number}",
        )
        # nine in ten are the other way round
        label = int(value > 0) if number % 10 == 0 else int(value < 0)
        truths.append(
            {
                "groundTruthData": {"data": str(label), "encoding": "CSV"},
                "eventMetadata": {"eventId": f"id-{number}"},
                "eventVersion": "0",
            }
        )
    text = "\n".join(map(json.dumps, truths))
    key = f"truth/{hour:%Y/%m/%d/%H}/0001.jsonl"
    s3.put_object(Bucket=bucket, Key=key, Body=text.encode())
    sagemaker.create_model_quality_job_definition(
        JobDefinitionName="mq",
        ModelQualityAppSpecification={
            "ImageUri": ANALYZER,
            "ProblemType": "BinaryClassification",
        },
        ModelQualityBaselineConfig={"BaseliningJobName": "quality-baseline"},
        ModelQualityJobInput={
            "EndpointInput": {
                "EndpointName": endpoint,
                "LocalPath": f"{ROOT}/input/endpoint",
                "ProbabilityAttribute": "0",
                "ProbabilityThresholdAttribute": 0.5,
            },
            "GroundTruthS3Input": {"S3Uri": f"s3://{bucket}/truth"},
        },
        ModelQualityJobOutputConfig=definition("x", endpoint, bucket)["DataQualityJobOutputConfig"],
        JobResources={"ClusterConfig": CLUSTER},
        RoleArn=ROLE,
    )

    sagemaker.create_monitoring_schedule(
        MonitoringScheduleName="quality", MonitoringScheduleConfig=once("mq", "ModelQuality")
    )

    [found] = executed(sagemaker, "quality")
    job = sagemaker.describe_processing_job(
        ProcessingJobName=found["ProcessingJobArn"].rpartition("/")[2]
    )
    assert found["MonitoringExecutionStatus"] == "CompletedWithViolations", (found, job)
    reports = job["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"]
    metrics = report(s3, reports, "statistics")["binary_classification_metrics"]
    assert metrics["accuracy"]["value"] == pytest.approx(0.1)
    assert sum(sum(each.values()) for each in metrics["confusion_matrix"].values()) == 40
    told = report(s3, reports, "constraint_violations")["violations"]
    assert {"accuracy", "auc", "f1"} <= {each["metric_name"] for each in told}


def test_scripts_of_the_client_make_the_records_and_have_the_last_word(
    server: Server, sagemaker: Any, s3: Any, bucket: str, endpoint: str
) -> None:
    before = (
        "def preprocess_handler(r):\n    return {'first': r.endpoint_input.data.split(',')[0]}\n"
    )
    after = (
        "def postprocess_handler():\n"
        f"    with open('{ROOT}/output/last.txt', 'w') as file:\n        file.write('word')\n"
    )
    s3.put_object(Bucket=bucket, Key="scripts/before.py", Body=before.encode())
    s3.put_object(Bucket=bucket, Key="scripts/after.py", Body=after.encode())
    server.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=endpoint, Body="7,8", ContentType="text/csv"
    )
    wanted = definition("scripted", endpoint, bucket)
    wanted["DataQualityAppSpecification"] |= {
        "RecordPreprocessorSourceUri": f"s3://{bucket}/scripts/before.py",
        "PostAnalyticsProcessorSourceUri": f"s3://{bucket}/scripts/after.py",
    }
    sagemaker.create_data_quality_job_definition(**wanted)

    sagemaker.create_monitoring_schedule(
        MonitoringScheduleName="scripted", MonitoringScheduleConfig=once("scripted")
    )

    [found] = executed(sagemaker, "scripted")
    assert found["MonitoringExecutionStatus"] == "Completed", found
    prefix = f"reports/{endpoint}/scripted/{found['ScheduledTime'].astimezone(UTC):%Y/%m/%d/%H}"
    features = report(s3, f"s3://{bucket}/{prefix}", "statistics")["features"]
    assert [each["name"] for each in features] == ["first"]
    assert s3.get_object(Bucket=bucket, Key=f"{prefix}/last.txt")["Body"].read() == b"word"


def test_a_window_in_which_nothing_was_asked_fails_and_says_so(
    sagemaker: Any, bucket: str, endpoint: str
) -> None:
    sagemaker.create_data_quality_job_definition(**definition("empty", endpoint, bucket))
    config = once("empty")
    config["ScheduleConfig"] |= {
        "DataAnalysisStartTime": "-P3D",
        "DataAnalysisEndTime": "-P2D",
    }

    sagemaker.create_monitoring_schedule(
        MonitoringScheduleName="empty", MonitoringScheduleConfig=config
    )

    [found] = executed(sagemaker, "empty")
    assert found["MonitoringExecutionStatus"] == "Failed"
    assert found["FailureReason"] == "Job inputs had no data"
    assert "ProcessingJobArn" not in found


def test_schedules_are_listed_changed_stopped_and_deleted(
    sagemaker: Any, bucket: str, endpoint: str
) -> None:
    sagemaker.create_data_quality_job_definition(**definition("many", endpoint, bucket))
    config = {
        "MonitoringJobDefinitionName": "many",
        "MonitoringType": "DataQuality",
        "ScheduleConfig": {"ScheduleExpression": "cron(0 * ? * * *)"},
    }
    for name in ("many-1", "many-2"):
        sagemaker.create_monitoring_schedule(
            MonitoringScheduleName=name, MonitoringScheduleConfig=config
        )

    listed = sagemaker.list_monitoring_schedules(
        MonitoringJobDefinitionName="many", SortBy="Name", SortOrder="Ascending"
    )["MonitoringScheduleSummaries"]
    sagemaker.stop_monitoring_schedule(MonitoringScheduleName="many-1")
    changed = {**config, "ScheduleConfig": {"ScheduleExpression": "cron(0 6 ? * * *)"}}
    sagemaker.update_monitoring_schedule(
        MonitoringScheduleName="many-2", MonitoringScheduleConfig=changed
    )
    stopped = sagemaker.describe_monitoring_schedule(MonitoringScheduleName="many-1")
    other = sagemaker.describe_monitoring_schedule(MonitoringScheduleName="many-2")
    for name in ("many-1", "many-2"):
        sagemaker.delete_monitoring_schedule(MonitoringScheduleName=name)

    assert [each["MonitoringScheduleName"] for each in listed] == ["many-1", "many-2"]
    assert stopped["MonitoringScheduleStatus"] == "Stopped"
    assert other["MonitoringScheduleConfig"]["ScheduleConfig"] == {
        "ScheduleExpression": "cron(0 6 ? * * *)"
    }
    assert refused(sagemaker.describe_monitoring_schedule, MonitoringScheduleName="many-1") == (
        "ResourceNotFound",
        "Monitoring Schedule arn:aws:sagemaker:us-east-1:123456789012:monitoring-schedule/many-1 "
        "not found",
    )
    definitions = sagemaker.list_data_quality_job_definitions(
        EndpointName=endpoint, NameContains="many"
    )["JobDefinitionSummaries"]
    assert [each["MonitoringJobDefinitionName"] for each in definitions] == ["many"]
    sagemaker.delete_data_quality_job_definition(JobDefinitionName="many")
    assert refused(sagemaker.describe_data_quality_job_definition, JobDefinitionName="many") == (
        "ResourceNotFound",
        "Could not find job definition with name: many",
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {
                "DataQualityJobInput": {
                    "EndpointInput": {"EndpointName": "nobody", "LocalPath": f"{ROOT}/i"}
                }
            },
            "Could not find endpoint",
        ),
        ({"DataQualityAppSpecification": {"ImageUri": "own/monitor:1"}}, "cannot be pulled"),
        (
            {"DataQualityBaselineConfig": {"BaseliningJobName": "nobody"}},
            "Could not find requested job",
        ),
        (
            {
                "DataQualityJobInput": {
                    "EndpointInput": {
                        "EndpointName": "Watched",
                        "LocalPath": f"{ROOT}/i",
                        "StartTimeOffset": "-PX",
                    }
                }
            },
            "no offset in time",
        ),
    ],
)
def test_a_definition_that_could_never_run_is_refused(
    sagemaker: Any, bucket: str, endpoint: str, changes: Any, said: str
) -> None:
    wanted = definition(f"refused-{time.time_ns()}", endpoint, bucket, **changes)

    code, message = refused(sagemaker.create_data_quality_job_definition, **wanted)

    assert code == "ValidationException"
    assert said in message


@pytest.mark.parametrize(
    ("config", "code", "said"),
    [
        (
            {"ScheduleConfig": {"ScheduleExpression": "cron(0/5 * ? * * *)"}},
            "ValidationException",
            "is not valid",
        ),
        # the definition is one of data quality
        ({"MonitoringType": "ModelBias"}, "ResourceNotFound", "Could not find job"),
        ({"MonitoringJobDefinitionName": "nobody"}, "ResourceNotFound", "Could not find job"),
        (
            {
                "ScheduleConfig": {
                    "ScheduleExpression": "cron(0 * ? * * *)",
                    "DataAnalysisStartTime": "-PT1H",
                }
            },
            "ValidationException",
            "only for a one-time schedule",
        ),
        (
            {
                "ScheduleConfig": {
                    "ScheduleExpression": "NOW",
                    "DataAnalysisStartTime": "-PT0H",
                    "DataAnalysisEndTime": "-PT1H",
                }
            },
            "ValidationException",
            "must be earlier",
        ),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused(
    sagemaker: Any, bucket: str, endpoint: str, config: Any, code: str, said: str
) -> None:
    name = f"schedules-{time.time_ns()}"
    sagemaker.create_data_quality_job_definition(**definition(name, endpoint, bucket))
    wanted = {"MonitoringJobDefinitionName": name, "MonitoringType": "DataQuality", **config}

    found = refused(
        sagemaker.create_monitoring_schedule,
        MonitoringScheduleName=name,
        MonitoringScheduleConfig=wanted,
    )

    assert found[0] == code
    assert said in found[1]


@pytest.mark.slow
def test_a_schedule_outlives_a_killed_server(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    with started(home) as (process, url):
        first = Server(url=url, home=home, key=key_for(home), pid=process.pid)
        s3, sagemaker = first.client("s3"), first.client("sagemaker")
        s3.create_bucket(Bucket="kept")
        capture = {**CAPTURE, "DestinationS3Uri": "s3://kept/seen"}
        endpoint_with(sagemaker, s3, "kept", "e", DataCaptureConfig=capture)
        settled(sagemaker, "e")
        first.client("sagemaker-runtime").invoke_endpoint(
            EndpointName="e", Body="1,2", ContentType="text/csv"
        )
        sagemaker.create_data_quality_job_definition(**definition("d", "e", "kept"))
        sagemaker.create_monitoring_schedule(
            MonitoringScheduleName="s", MonitoringScheduleConfig=once("d")
        )
        # neither is what was captured in S3, nor has the schedule run
        process.kill()
        process.wait(10)

    with started(home) as (process, url):
        second = Server(url=url, home=home, key=first.key, pid=process.pid)
        sagemaker = second.client("sagemaker")
        [found] = executed(sagemaker, "s")
        settled(sagemaker, "e")
        sagemaker.delete_endpoint(EndpointName="e")
        until(lambda: sagemaker.list_endpoints()["Endpoints"], lambda seen: not seen)

    assert found["MonitoringExecutionStatus"] == "Completed", found
