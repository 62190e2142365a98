"""What a monitoring schedule runs: its job definition, whichever way a client has written it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.endpoint import ENDPOINTS
from loopwright.sagemaker.error import validation
from loopwright.sagemaker.monitoring.cron import read_offset
from loopwright.sagemaker.processing_job import PROCESSING
from loopwright.store import Record

DATA, MODEL = "DataQuality", "ModelQuality"
BIAS, EXPLAINABILITY = "ModelBias", "ModelExplainability"
OF_CLARIFY = (BIAS, EXPLAINABILITY)
KINDS = (DATA, MODEL, *OF_CLARIFY)


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringPlan:
    """What each execution of a schedule does.

    Parameters
    ----------
    kind
        One of `KINDS`.
    app
        Image, entry point, environment, scripts, and where the configuration of Clarify lies.
    source
        The `EndpointInput`.
    output
        The `S3Output` of the reports.
    truth
        Where true values lie in S3; empty for none.
    baseline
        Constraints and statistics, by S3 URI or by the job that made them.
    cluster, role, network, limit_s
        As a processing job has them.
    """

    kind: str
    app: Mapping[str, Any]
    source: Mapping[str, Any]
    output: Mapping[str, Any]
    truth: str
    baseline: Mapping[str, Any]
    cluster: Mapping[str, Any]
    role: str
    network: Mapping[str, Any]
    limit_s: int

    @property
    def endpoint(self) -> str:
        """Return the name of the endpoint that is watched."""
        return str(self.source["EndpointName"])

    def offsets(self) -> tuple[timedelta, timedelta] | None:
        """Return where the window of data begins and ends, counted from the time of a run."""
        if "StartTimeOffset" not in self.source and "EndTimeOffset" not in self.source:
            return None
        return (
            read_offset(self.source.get("StartTimeOffset", "-PT1H")),
            read_offset(self.source.get("EndTimeOffset", "-PT0H")),
        )


def plan_of(request: Mapping[str, Any], kind: str) -> MonitoringPlan:
    """Return the plan of a `Create*JobDefinition` request.

    Raises
    ------
    ApiError
        If it watches anything but an endpoint, or an offset cannot be read.
    """
    about = request[f"{kind}JobInput"]
    found = MonitoringPlan(
        kind=kind,
        app=request[f"{kind}AppSpecification"],
        source=_endpoint_input(about),
        output=_output(request[f"{kind}JobOutputConfig"]),
        truth=about.get("GroundTruthS3Input", {}).get("S3Uri", ""),
        baseline=request.get(f"{kind}BaselineConfig", {}),
        cluster=request["JobResources"]["ClusterConfig"],
        role=request["RoleArn"],
        network=request.get("NetworkConfig", {}),
        limit_s=request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", 3600),
    )
    found.offsets()
    return found


def plan_within(request: Mapping[str, Any]) -> MonitoringPlan:
    """Return the plan of a `MonitoringJobDefinition`, as it stands within a schedule."""
    app = request["MonitoringAppSpecification"]
    found = MonitoringPlan(
        kind=DATA,
        app={**app, "Environment": request.get("Environment", {})},
        source=_endpoint_input(request["MonitoringInputs"][0]),
        output=_output(request["MonitoringOutputConfig"]),
        truth="",
        baseline=request.get("BaselineConfig", {}),
        cluster=request["MonitoringResources"]["ClusterConfig"],
        role=request["RoleArn"],
        network=request.get("NetworkConfig", {}),
        limit_s=request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", 3600),
    )
    found.offsets()
    return found


def _endpoint_input(about: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] | None = about.get("EndpointInput")
    if found is None:
        raise validation(
            "An EndpointInput is needed; monitoring of batch transform is not supported yet by "
            "loopwright."
        )
    return found


def _output(about: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = about["MonitoringOutputs"][0]["S3Output"]
    return found


def watched_capture(desk: Desk, caller: Caller, endpoint: str) -> str:
    """Return the S3 URI to which an endpoint's requests are captured.

    Raises
    ------
    ApiError
        If there is no such endpoint, or it captures nothing.
    """
    record = ENDPOINTS.get(desk, caller, endpoint)
    about = (record.body.get("plan") or {}).get("DataCaptureConfig")
    if about is None:
        change = record.body.get("change") or {}
        about = change.get("config", {}).get("DataCaptureConfig")
    if about is None:
        raise validation(f'Endpoint "{record.body["arn"]}" does not have data capture enabled.')
    return str(about["DestinationS3Uri"])


def baseline_uris(desk: Desk, caller: Caller, plan: MonitoringPlan) -> dict[str, str]:
    """Return where the constraints and the statistics of a baseline lie, as far as there are any."""
    found = {}
    job = plan.baseline.get("BaseliningJobName")
    if job:
        record = PROCESSING.get(desk, caller, job)
        place = _reports_of(record)
        found = {name: f"{place}/{name}.json" for name in ("constraints", "statistics")}
        if plan.kind in OF_CLARIFY:
            # what an analysis found is what later ones are held to
            found = {"constraints": f"{place}/analysis.json"}
    for name, member in (
        ("constraints", "ConstraintsResource"),
        ("statistics", "StatisticsResource"),
    ):
        uri = plan.baseline.get(member, {}).get("S3Uri")
        if uri:
            found[name] = uri
    if plan.kind == MODEL:
        found.pop("statistics", None)
    return found


def _reports_of(record: Record) -> str:
    outputs = record.body["request"].get("ProcessingOutputConfig", {}).get("Outputs", ())
    if not outputs:
        raise validation(f"The baselining job {record.body['name']} has no output.")
    return str(outputs[0]["S3Output"]["S3Uri"]).rstrip("/")
