"""Executions of monitoring schedules: each due time becomes one processing job, whatever ends between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from loopwright.core.digest import digest_value
from loopwright.core.errors import LoopwrightError, NotFoundError, WrongStateError
from loopwright.sagemaker.clarify.layout import CONFIG_INPUT
from loopwright.sagemaker.data_capture import ship
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.monitoring.plan import (
    BIAS,
    EXPLAINABILITY,
    MODEL,
    OF_CLARIFY,
    MonitoringPlan,
    baseline_uris,
    watched_capture,
)
from loopwright.sagemaker.processing_job import PROCESSING, begin_processing, job_of, status_of
from loopwright.sagemaker.processing_result import settled
from loopwright.sagemaker.s3.store import split_uri
from loopwright.sagemaker.shelf import Shelf
from loopwright.store import Record

EXECUTIONS = Shelf(
    kind="monitoring-execution",
    missing="Could not find requested execution: {name}",
    taken="This execution is there already ({arn})",
    taken_code="ResourceInUse",
)
NO_DATA = "Job inputs had no data"
_ROOT = PurePosixPath("/opt/ml/processing")
_TRUTH = _ROOT / "groundtruth"
_CONFIG = _ROOT / "analysis_config"
_JOB_NAMES = {
    MODEL: "model-quality-monitoring",
    BIAS: "model-bias-monitoring",
    EXPLAINABILITY: "model-explainability-monitoring",
}
_ANALYSES = {
    MODEL: "MODEL_QUALITY",
    BIAS: "MODEL_BIAS",
    EXPLAINABILITY: "MODEL_EXPLAINABILITY",
}
_LONGEST_REASON = 1024


def execution_name(schedule: str, due: datetime) -> str:
    """Return the name of what runs for a schedule at a time."""
    return f"{schedule}/{due.astimezone(UTC):%Y%m%dT%H%M%S}"


def executions_of(desk: Desk, caller: Caller, schedule: str) -> list[Record]:
    """Return the executions of a schedule, the first one first."""
    return EXECUTIONS.all(desk, caller, begins=f"{schedule}/")


def begin_execution(
    desk: Desk,
    caller: Caller,
    *,
    schedule: str,
    arn: str,
    plan: MonitoringPlan,
    due: datetime,
    window: tuple[datetime, datetime],
    definition: str,
) -> None:
    """Run a plan for a due time, once: who comes second finds that it is done."""
    name = execution_name(schedule, due)
    record = EXECUTIONS.find(desk, caller, name)
    if record is None:
        try:
            record = EXECUTIONS.create(
                desk,
                caller,
                name,
                {},
                schedule=schedule,
                endpoint=plan.endpoint,
                kind=plan.kind,
                definition=definition,
                due=due.isoformat(),
                window=[each.isoformat() for each in window],
                job="",
                failure="",
            )
        except ApiError:
            return
    if record.body["job"] or record.body["failure"]:
        return
    job = _job_name(plan.kind, arn, due)
    try:
        if PROCESSING.find(desk, caller, job) is None:
            _begin(desk, caller, plan, record, job=job, arn=arn)
        change = {"job": job}
    except (ApiError, LoopwrightError) as error:
        said = error.message if isinstance(error, ApiError) else str(error)
        change = {"failure": said[:_LONGEST_REASON]}
    try:
        EXECUTIONS.change(desk, record, **change)
    except (WrongStateError, NotFoundError):
        return


def _job_name(kind: str, arn: str, due: datetime) -> str:
    sha = digest_value([arn, due.isoformat()]).removeprefix("sha256:")[:24]
    return f"{_JOB_NAMES.get(kind, 'model-monitoring')}-{due.astimezone(UTC):%Y%m%d%H%M}-{sha}"


def _begin(
    desk: Desk, caller: Caller, plan: MonitoringPlan, record: Record, *, job: str, arn: str
) -> None:
    # what was answered a moment ago belongs to the window
    ship(desk, at_once=True)
    start, end = (datetime.fromisoformat(each) for each in record.body["window"])
    captured = list(_captured_inputs(desk, caller, plan, start, end))
    if not captured:
        raise ApiError("ClientError", NO_DATA)
    inputs = captured
    environment = {**_environment(plan), **plan.app.get("Environment", {})}
    environment |= {
        "dataset_source": plan.source["LocalPath"],
        "output_path": plan.output["LocalPath"],
        "sagemaker_endpoint_name": plan.endpoint,
        "sagemaker_monitoring_schedule_name": record.body["schedule"],
        "start_time": _utc(start),
        "end_time": _utc(end),
    }
    for name, uri in baseline_uris(desk, caller, plan).items():
        folder = _ROOT / "baseline" / ("stats" if name == "statistics" else name)
        inputs.append(input_of(name, uri, folder))
        environment[f"baseline_{name}"] = str(folder / PurePosixPath(uri).name)
    for name, member in (
        ("record_preprocessor_script", "RecordPreprocessorSourceUri"),
        ("post_analytics_processor_script", "PostAnalyticsProcessorSourceUri"),
    ):
        if member in plan.app:
            folder = _ROOT / "code" / name
            inputs.append(input_of(name, plan.app[member], folder))
            environment[name] = str(folder / PurePosixPath(plan.app[member]).name)
    if plan.kind in OF_CLARIFY:
        inputs.append(input_of(CONFIG_INPUT, plan.app["ConfigUri"], _CONFIG))
    if plan.truth:
        found = list(_truth_inputs(desk, plan, start, end))
        if not found:
            raise ApiError("ClientError", f"No ground truth data found under {plan.truth}.")
        inputs += found
        environment["ground_truth_source"] = str(_TRUTH)
    begin_processing(
        desk,
        caller,
        _request(plan, record, job=job, inputs=inputs, environment=environment),
        monitoring={"schedule": arn},
    )


def _request(
    plan: MonitoringPlan,
    record: Record,
    *,
    job: str,
    inputs: list[dict[str, Any]],
    environment: Mapping[str, str],
) -> dict[str, Any]:
    due = datetime.fromisoformat(record.body["due"]).astimezone(UTC)
    place = plan.output["S3Uri"].rstrip("/")
    reports = f"{place}/{plan.endpoint}/{record.body['schedule']}/{due:%Y/%m/%d/%H}"
    app = {
        name: plan.app[name]
        for name in ("ImageUri", "ContainerEntrypoint", "ContainerArguments")
        if name in plan.app
    }
    found: dict[str, Any] = {
        "ProcessingJobName": job,
        "ProcessingInputs": inputs,
        "ProcessingOutputConfig": {
            "Outputs": [
                {
                    "OutputName": "monitoring_output",
                    "S3Output": {
                        "S3Uri": reports,
                        "LocalPath": plan.output["LocalPath"],
                        "S3UploadMode": plan.output.get("S3UploadMode", "EndOfJob"),
                    },
                }
            ]
        },
        "ProcessingResources": {"ClusterConfig": plan.cluster},
        "StoppingCondition": {"MaxRuntimeInSeconds": plan.limit_s},
        "AppSpecification": app,
        "Environment": dict(environment),
        "RoleArn": plan.role,
    }
    return found | ({"NetworkConfig": plan.network} if plan.network else {})


def _environment(plan: MonitoringPlan) -> dict[str, str]:
    """Return what the definition itself says of the analysis."""
    found = {
        "dataset_format": '{"sagemakerCaptureJson":{"captureIndexNames":'
        '["endpointInput","endpointOutput"]}}',
        # Clarify publishes unless it is told not to
        "publish_cloudwatch_metrics": "Enabled" if plan.kind in OF_CLARIFY else "Disabled",
    }
    if plan.kind in _ANALYSES:
        found["analysis_type"] = _ANALYSES[plan.kind]
    if plan.kind == MODEL:
        found["problem_type"] = plan.app.get("ProblemType", "")
    for name, member in (
        ("features_attribute", "FeaturesAttribute"),
        ("inference_attribute", "InferenceAttribute"),
        ("probability_attribute", "ProbabilityAttribute"),
        ("probability_threshold_attribute", "ProbabilityThresholdAttribute"),
    ):
        if plan.source.get(member) is not None:
            found[name] = str(plan.source[member])
    return found


def _captured_inputs(
    desk: Desk, caller: Caller, plan: MonitoringPlan, start: datetime, end: datetime
) -> Iterator[dict[str, Any]]:
    """Yield an input for each hour of each variant in which something was captured."""
    bucket, prefix = split_uri(watched_capture(desk, caller, plan.endpoint))
    root = "/".join(part for part in (prefix.strip("/"), plan.endpoint) if part)
    variants = sorted(
        {entry.key[len(root) + 1 :].split("/")[0] for entry in _entries(desk, bucket, f"{root}/")}
    )
    number = 0
    for variant in variants:
        for hour in _hours(start, end):
            place = f"{variant}/{hour:%Y/%m/%d/%H}"
            if next(_entries(desk, bucket, f"{root}/{place}/"), None) is None:
                continue
            number += 1
            folder = PurePosixPath(plan.source["LocalPath"]) / plan.endpoint / place
            yield input_of(f"endpoint_input_{number}", f"s3://{bucket}/{root}/{place}", folder)


def _truth_inputs(
    desk: Desk, plan: MonitoringPlan, start: datetime, end: datetime
) -> Iterator[dict[str, Any]]:
    """Yield an input for each hour of the window that has true values."""
    bucket, prefix = split_uri(plan.truth)
    number = 0
    for hour in _hours(start, end):
        place = "/".join(part for part in (prefix.strip("/"), f"{hour:%Y/%m/%d/%H}") if part)
        if next(_entries(desk, bucket, f"{place}/"), None) is not None:
            number += 1
            folder = _TRUTH / f"{hour:%Y/%m/%d/%H}"
            yield input_of(f"groundtruth_input_{number}", f"s3://{bucket}/{place}", folder)


def _entries(desk: Desk, bucket: str, prefix: str) -> Iterator[Any]:
    if desk.objects.find_bucket(bucket) is None:
        return iter(())
    return desk.objects.every(bucket, prefix)


def _hours(start: datetime, end: datetime) -> Iterator[datetime]:
    hour = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    while hour < end:
        yield hour
        hour += timedelta(hours=1)


def input_of(name: str, uri: str, folder: PurePosixPath) -> dict[str, Any]:
    """Return an input of a processing job: what lies at a URI, in a folder."""
    return {
        "InputName": name,
        "S3Input": {
            "S3Uri": uri,
            "LocalPath": str(folder),
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
            "S3DataDistributionType": "FullyReplicated",
            "S3CompressionType": "None",
        },
    }


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def execution_summary(desk: Desk, caller: Caller, record: Record) -> dict[str, Any]:
    """Return an execution as `ListMonitoringExecutions` has it."""
    body = record.body
    status, reason, arn, changed = _state(desk, caller, record)
    return {
        "MonitoringScheduleName": body["schedule"],
        "ScheduledTime": datetime.fromisoformat(body["due"]),
        "CreationTime": record.created_at,
        "LastModifiedTime": changed,
        "MonitoringExecutionStatus": status,
        "ProcessingJobArn": arn,
        "EndpointName": body["endpoint"],
        "FailureReason": reason,
        "MonitoringJobDefinitionName": body["definition"] or None,
        "MonitoringType": body["kind"],
    }


def _state(
    desk: Desk, caller: Caller, record: Record
) -> tuple[str, str | None, str | None, datetime]:
    body = record.body
    changed = datetime.fromisoformat(body["modified_at"])
    if body["failure"]:
        return "Failed", body["failure"], None, changed
    job = PROCESSING.find(desk, caller, body["job"]) if body["job"] else None
    if job is None:
        # it is begun in this moment, or its job has been deleted
        return ("Completed" if body["job"] else "Pending"), None, None, changed
    job = settled(desk, PROCESSING, job, job_of(desk, job))
    status, ends = status_of(desk, job_of(desk, job), job), job.body.get("settled") or {}
    if status == "Completed" and ends.get("message", "").startswith("CompletedWithViolations"):
        status = "CompletedWithViolations"
    reason = ends.get("failure") or None
    changed = max(changed, datetime.fromisoformat(job.body["modified_at"]))
    return status, reason, job.body["arn"], changed
