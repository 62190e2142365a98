"""Endpoints: created, updated, weighed, described, deleted; their processes are jobs of compute."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from loopwright.core.errors import LoopwrightError, NotFoundError, WrongStateError
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.endpoint_deployment import load_beside, pending, retained
from loopwright.sagemaker.endpoint_record import ENDPOINTS as ENDPOINTS
from loopwright.sagemaker.endpoint_record import GROUP as GROUP
from loopwright.sagemaker.endpoint_record import caller_of
from loopwright.sagemaker.endpoint_traffic import refuse_missing_alarms, rollout_of
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.log import Stream, keeps_logs
from loopwright.sagemaker.model_record import CONFIGS, modified_at
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.serving_plan import deployed, is_alive, served, stop
from loopwright.sagemaker.shelf import page_of_jobs
from loopwright.sagemaker.tag import drop_tags, keep_tags
from loopwright.store import Record

_log = logging.getLogger(__name__)


@serves(
    "sagemaker",
    "CreateEndpoint",
    note="The count of a script is its number of processes; of an algorithm, of those it starts with.",
)
def create_endpoint(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Begin to serve a configuration."""
    config = CONFIGS.get(desk, caller, given["EndpointConfigName"])
    change = {"kind": "Creating", "config": _plan(config)}
    record = ENDPOINTS.create(
        desk, caller, given["EndpointName"], given, change=change, live=None, failure=""
    )
    keep_tags(desk, record.body["arn"], given.get("Tags", []))
    _begin(desk, caller, record)
    return {"EndpointArn": record.body["arn"]}


def _plan(config: Record) -> dict[str, Any]:
    return dict(config.body["request"])


def _begin(desk: Desk, caller: Caller, record: Record) -> None:
    threading.Thread(target=_carry_out, args=(desk, caller, record), daemon=True).start()


def _carry_out(desk: Desk, caller: Caller, record: Record) -> None:
    """Do what a change asks for, and write down how it ended."""
    body = record.body
    change, live = body["change"], body["live"]
    try:
        if change["kind"] == "Deleting":
            stop(desk, body["arn"])
            drop_tags(desk, body["arn"])
            ENDPOINTS.delete(desk, record)
            return
        if change.get("deployment") and live:
            load_beside(desk, caller, record)
            return
        found = deployed(desk, caller, body["arn"], change["config"], live)
        found["config"] = change["config"]["EndpointConfigName"]
        ENDPOINTS.change(desk, record, change=None, live=found, plan=change["config"], failure="")
    except (ApiError, LoopwrightError) as error:
        message = error.message if isinstance(error, ApiError) else str(error)
        _give_up(desk, record, message)
    except Exception as error:
        _log.exception("The endpoint %s cannot be changed.", body["name"])
        _give_up(desk, record, f"{type(error).__name__}: {error}")


def _give_up(desk: Desk, record: Record, reason: str) -> None:
    try:
        ENDPOINTS.change(desk, record, change=None, failure=reason[:1024])
    except (WrongStateError, NotFoundError):
        _log.warning("The endpoint %s was changed meanwhile: %s", record.body["name"], reason)


def status_of(desk: Desk, record: Record) -> str:
    """Return the status of an endpoint."""
    change, live = record.body["change"], record.body["live"]
    if change:
        return str(change["kind"])
    if live is None:
        return "Failed"
    return "InService" if is_alive(desk, live) else "Failed"


@serves("sagemaker", "DescribeEndpoint")
def describe_endpoint(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Tell how an endpoint is."""
    record = ENDPOINTS.get(desk, caller, given["EndpointName"])
    body = record.body
    status = status_of(desk, record)
    reason = body["failure"]
    if status == "Failed" and not reason:
        reason = "A process of the endpoint has ended; its log says why."
    capture = (body.get("plan") or {}).get("DataCaptureConfig")
    live = body["live"]
    config = live["config"] if live else body["request"]["EndpointConfigName"]
    return {
        "EndpointName": body["name"],
        "EndpointArn": body["arn"],
        "EndpointConfigName": config,
        "EndpointStatus": status,
        "FailureReason": reason or None,
        "CreationTime": record.created_at,
        "LastModifiedTime": modified_at(record),
        "ProductionVariants": _variants(_shown(body), is_shadow=False),
        "ShadowProductionVariants": _variants(_shown(body), is_shadow=True),
        "PendingDeploymentSummary": pending(body),
        "LastDeploymentConfig": body.get("deployment"),
        "DataCaptureConfig": _capture(capture),
        "AsyncInferenceConfig": (body.get("plan") or {}).get("AsyncInferenceConfig"),
    }


def _variants(live: Mapping[str, Any] | None, *, is_shadow: bool) -> list[dict[str, Any]] | None:
    found = [
        {
            "VariantName": each["name"],
            "CurrentWeight": each["weight"],
            "DesiredWeight": each["weight"],
            "CurrentInstanceCount": each["count"],
            "DesiredInstanceCount": each["count"],
            **_serverless(each),
        }
        for each in (live["variants"] if live else ())
        if each["shadow"] == is_shadow
    ]
    return found or None


def _serverless(variant: Mapping[str, Any]) -> dict[str, Any]:
    settings = variant.get("serverless")
    if settings is None:
        return {}
    told = {"MemorySizeInMB": settings["memory_mib"], "MaxConcurrency": settings["most"]}
    if settings["least"]:
        told["ProvisionedConcurrency"] = settings["least"]
    none = {"CurrentInstanceCount": 0, "DesiredInstanceCount": 0}
    return {**none, "CurrentServerlessConfig": told, "DesiredServerlessConfig": told}


def _shown(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the fleet that is described: the one before, while another is taking over."""
    change = body["change"] or {}
    return {"variants": change["before"]} if "before" in change else body["live"]


def _capture(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not config:
        return None
    is_on = bool(config.get("EnableCapture"))
    return {
        "EnableCapture": is_on,
        "CaptureStatus": "Started" if is_on else "Stopped",
        "CurrentSamplingPercentage": config["InitialSamplingPercentage"],
        "DestinationS3Uri": config["DestinationS3Uri"],
        "KmsKeyId": config.get("KmsKeyId", ""),
    }


@serves("sagemaker", "ListEndpoints")
def list_endpoints(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List endpoints."""
    page, token = page_of_jobs(
        ENDPOINTS.all(desk, caller),
        given,
        summary=lambda record: {
            "EndpointName": record.body["name"],
            "EndpointArn": record.body["arn"],
            "CreationTime": record.created_at,
            "LastModifiedTime": modified_at(record),
            "EndpointStatus": status_of(desk, record),
        },
        name="EndpointName",
        status="EndpointStatus",
    )
    return {"Endpoints": page, "NextToken": token}


def _quiet(desk: Desk, caller: Caller, name: str) -> Record:
    """Return an endpoint that nothing is being done to."""
    record = ENDPOINTS.get(desk, caller, name)
    if record.body["change"]:
        raise validation(f'Cannot update in-progress endpoint "{record.body["arn"]}".')
    return record


@serves(
    "sagemaker",
    "UpdateEndpoint",
    note="Without a DeploymentConfig all traffic moves at once, after the new models answer. A rolling "
    "update moves traffic in steps; both fleets are there meanwhile.",
)
def update_endpoint(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Serve another configuration; if that fails, what was served still is."""
    record = _quiet(desk, caller, given["EndpointName"])
    plan = _plan(CONFIGS.get(desk, caller, given["EndpointConfigName"]))
    if given.get("RetainAllVariantProperties"):
        plan = retained(record.body, plan, given.get("ExcludeRetainedVariantProperties", ()))
    deployment = given.get("DeploymentConfig")
    if deployment is None and given.get("RetainDeploymentConfig"):
        deployment = record.body.get("deployment")
    if not deployment:
        return _changed(desk, caller, record, plan)
    refuse_missing_alarms(desk, caller, deployment)
    counts = [each.get("InitialInstanceCount", 1) for each in plan["ProductionVariants"]]
    rollout = rollout_of(deployment, n_instances=sum(counts))
    policy = deployment.get("BlueGreenUpdatePolicy", {})
    return _changed(
        desk,
        caller,
        record,
        plan,
        deployment=deployment,
        shares=list(rollout.shares),
        bake_s=rollout.bake_s,
        stays_s=policy.get("TerminationWaitInSeconds", 0),
        began=desk.now(),
    )


@serves("sagemaker", "UpdateEndpointWeightsAndCapacities")
def update_weights(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Give variants other weights."""
    record = _quiet(desk, caller, given["EndpointName"])
    plan = record.body.get("plan")
    if not plan or not record.body["live"]:
        raise validation("The endpoint is not in service.")
    wanted = {each["VariantName"]: each for each in given["DesiredWeightsAndCapacities"]}
    known = {each["VariantName"] for each in plan["ProductionVariants"]}
    for name in wanted:
        if name not in known:
            raise validation(
                f'The variant name(s) "{name}" is/are not present within endpoint '
                f'configuration "{plan["EndpointConfigName"]}".'
            )
    variants = []
    for each in plan["ProductionVariants"]:
        asked = wanted.get(each["VariantName"], {})
        changes = {}
        if "DesiredWeight" in asked:
            changes["InitialVariantWeight"] = asked["DesiredWeight"]
        if "DesiredInstanceCount" in asked:
            changes["InitialInstanceCount"] = asked["DesiredInstanceCount"]
        variants.append({**each, **changes})
    return _changed(desk, caller, record, {**plan, "ProductionVariants": variants})


def _changed(
    desk: Desk, caller: Caller, record: Record, plan: dict[str, Any], **how: Any
) -> dict[str, Any]:
    try:
        change = {"kind": "Updating", "config": plan, **how}
        changing = ENDPOINTS.change(desk, record, change=change, failure="")
    except WrongStateError as error:
        raise validation(f'Cannot update in-progress endpoint "{record.body["arn"]}".') from error
    _begin(desk, caller, changing)
    return {"EndpointArn": record.body["arn"]}


@serves("sagemaker", "DeleteEndpoint")
def delete_endpoint(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """End an endpoint and its processes."""
    record = _quiet(desk, caller, given["EndpointName"])
    try:
        deleting = ENDPOINTS.change(desk, record, change={"kind": "Deleting"})
    except WrongStateError as error:
        raise validation(f'Cannot update in-progress endpoint "{record.body["arn"]}".') from error
    _begin(desk, caller, deleting)
    return {}


def resume(desk: Desk) -> None:
    """Go on with what a server that ended left half done, and start what should be serving."""
    for record in ENDPOINTS.all(desk):
        caller, body = caller_of(record), record.body
        if body["change"] and "new" in body["change"]:
            # its steps go on by themselves, once a process serves
            if not is_alive(desk, body["live"]):
                served(desk, caller, body["arn"], body["live"]["variants"], body["live"])
        elif body["change"]:
            _begin(desk, caller, record)
        elif body["live"] and body.get("plan") and not is_alive(desk, body["live"]):
            change = {"kind": "Updating", "config": body["plan"]}
            _begin(desk, caller, ENDPOINTS.change(desk, record, change=change))


@keeps_logs(GROUP)
def endpoint_streams(desk: Desk, caller: Caller, group: str, _prefix: str) -> Iterator[Stream]:
    """Yield a stream for each process of each endpoint."""
    for record in ENDPOINTS.all(desk, caller):
        if group not in ("", f"{GROUP}/{record.body['name']}"):
            continue
        live = record.body["live"]
        for job_id in live["jobs"] if live else ():
            job = desk.workspace.compute.get(job_id)
            yield Stream(
                group=f"{GROUP}/{record.body['name']}",
                name=f"{live['variants'][0]['name']}/{job_id}",
                path=job.log_path,
                began_at=job.started_at or job.submitted_at,
                has_ended=job.state.has_ended,
            )
