"""Endpoints: created, updated, weighed, described, deleted; their processes are jobs of compute."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from loopwright.core.errors import LoopwrightError, NotFoundError, WrongStateError
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.log import Stream, keeps_logs
from loopwright.sagemaker.model_record import CONFIGS, modified_at
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.serving_plan import deployed, is_alive, stop
from loopwright.sagemaker.shelf import Shelf, page_of
from loopwright.sagemaker.tag import drop_tags, keep_tags
from loopwright.store import Record

ENDPOINTS = Shelf(
    kind="endpoint",
    missing='Could not find endpoint "{arn}".',
    taken='Cannot create already existing endpoint "{arn}".',
)
GROUP = "/aws/sagemaker/Endpoints"
_log = logging.getLogger(__name__)


@serves("sagemaker", "CreateEndpoint", note="Instance counts are told and not multiplied.")
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
        "ProductionVariants": _variants(live, is_shadow=False),
        "ShadowProductionVariants": _variants(live, is_shadow=True),
        "DataCaptureConfig": _capture(capture),
    }


def _variants(live: Mapping[str, Any] | None, *, is_shadow: bool) -> list[dict[str, Any]] | None:
    found = [
        {
            "VariantName": each["name"],
            "CurrentWeight": each["weight"],
            "DesiredWeight": each["weight"],
            "CurrentInstanceCount": each["count"],
            "DesiredInstanceCount": each["count"],
        }
        for each in (live["variants"] if live else ())
        if each["shadow"] == is_shadow
    ]
    return found or None


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
    page, token = page_of(
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
    "sagemaker", "UpdateEndpoint", note="All traffic moves at once, after the new models answer."
)
def update_endpoint(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Serve another configuration; if that fails, what was served still is."""
    record = _quiet(desk, caller, given["EndpointName"])
    config = CONFIGS.get(desk, caller, given["EndpointConfigName"])
    return _changed(desk, caller, record, _plan(config))


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


def _changed(desk: Desk, caller: Caller, record: Record, plan: dict[str, Any]) -> dict[str, Any]:
    try:
        changing = ENDPOINTS.change(
            desk, record, change={"kind": "Updating", "config": plan}, failure=""
        )
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
        account, region, _ = record.key.split("/", 2)
        caller = Caller(access_key="", account=account, region=region)
        body = record.body
        if body["change"]:
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
