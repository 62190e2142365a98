"""The data plane: requests go to the processes of an endpoint, and their answers back."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from loopwright.core.names import new_id
from loopwright.deploy.variant import draw
from loopwright.sagemaker.data_capture import capture, is_captured
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.endpoint import ENDPOINTS, GROUP
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.event_stream import payload_parts
from loopwright.sagemaker.invocation_copy import copy_to_shadows
from loopwright.sagemaker.invocation_target import reply_of
from loopwright.sagemaker.model_call import TIMEOUT_S, Said
from loopwright.sagemaker.model_chain import Asked
from loopwright.sagemaker.registry import serves
from loopwright.store import Record

_LARGEST_BODY = 6 << 20


@serves("sagemaker-runtime", "InvokeEndpoint")
def invoke_endpoint(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Ask an endpoint."""
    record = in_service(desk, caller, given["EndpointName"])
    if is_asynchronous(record):
        raise ApiError(
            "ValidationError",
            f"Endpoint {given['EndpointName']} of account {caller.account} is asynchronous: use "
            "InvokeEndpointAsync.",
        )
    body = given["Body"].read(_LARGEST_BODY) if given.get("Body") is not None else b""
    variant, said = answered(desk, caller, record, given, body)
    return answer_about(variant, said)


def answer_about(variant: Mapping[str, Any], said: Said) -> dict[str, Any]:
    """Return an answer as `InvokeEndpoint` gives it."""
    return {
        "Body": said.body,
        "ContentType": said.kind,
        "InvokedProductionVariant": variant["name"],
        "CustomAttributes": said.attributes,
    }


@serves(
    "sagemaker-runtime",
    "InvokeEndpointWithResponseStream",
    note="The answer is whole before its first part is sent.",
)
def invoke_with_stream(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Ask an endpoint; the answer comes in parts."""
    found = invoke_endpoint(desk, caller, given)
    return {**found, "Body": payload_parts(found["Body"])}


def in_service(desk: Desk, caller: Caller, name: str) -> Record:
    """Return an endpoint that serves; `ApiError` in AWS's words otherwise."""
    record = ENDPOINTS.find(desk, caller, name)
    if record is None:
        raise ApiError("ValidationError", f"Endpoint {name} of account {caller.account} not found.")
    if not record.body["live"]:
        raise ApiError(
            "ValidationError", f"Endpoint {name} of account {caller.account} is not in service."
        )
    return record


def is_asynchronous(record: Record) -> bool:
    """Return whether an endpoint answers into S3."""
    return bool((record.body.get("plan") or {}).get("AsyncInferenceConfig"))


def answered(
    desk: Desk, caller: Caller, record: Record, given: Mapping[str, Any], body: bytes
) -> tuple[Mapping[str, Any], Said]:
    """Return the variant that answered a request, and its answer; both are captured if they are to be.

    Raises
    ------
    ApiError
        `ModelError` if it does not answer.
    """
    variant = chosen(record.body["live"], given)
    asked = Asked(
        content_type=given.get("ContentType", ""),
        accept=given.get("Accept", ""),
        headers=told_headers(given),
        log=log_of(caller, record),
        timeout_s=float(given.get("InvocationTimeoutSeconds", TIMEOUT_S)),
    )
    reply = reply_of(desk, caller, record, variant, given, body, asked)
    copy_to_shadows(desk, caller, record, given, body, asked)
    keep_captured(desk, record, variant, given, asked=body, answered=reply)
    return variant, reply


def told_headers(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what a model is told of a request beside its body and its media types."""
    return {
        "x-amzn-sagemaker-inference-id": given.get("InferenceId", ""),
        "x-amzn-sagemaker-custom-attributes": given.get("CustomAttributes", ""),
        "x-amzn-sagemaker-session-id": given.get("SessionId", ""),
    }


def keep_captured(
    desk: Desk,
    record: Record,
    variant: Mapping[str, Any],
    given: Mapping[str, Any],
    *,
    asked: bytes,
    answered: Said,
) -> None:
    """Keep a request and its answer, if the endpoint captures them."""
    config: dict[str, Any] = (record.body.get("plan") or {}).get("DataCaptureConfig") or {}
    if is_captured(config):
        capture(
            desk,
            config,
            endpoint=record.body["name"],
            variant=variant["name"],
            asked=(asked, given.get("ContentType", "")),
            answered=(answered.body, answered.kind),
            inference_id=given.get("InferenceId"),
            attributes=given.get("CustomAttributes"),
        )


def chosen(live: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the variant that is asked: the one that is named, or one drawn by the weights.

    Requests of one session go to one variant while weights stay, as the product's own endpoints
    have it.
    """
    variants: list[Mapping[str, Any]] = [each for each in live["variants"] if not each["shadow"]]
    target = given.get("TargetVariant")
    if target is not None:
        for each in variants:
            if each["name"] == target:
                return each
        raise ApiError("ValidationError", f"Variant {target} not found for Request")
    if len(variants) == 1:
        return variants[0]
    key = given.get("SessionId") or given.get("InferenceId") or new_id()
    bounds = list(accumulate(each["weight"] for each in variants))
    place = bisect_right(bounds, draw(key.encode()) * bounds[-1])
    return variants[min(place, len(variants) - 1)]


def log_of(caller: Caller, record: Record) -> str:
    """Return where a client finds more about a failure."""
    name = record.body["name"]
    return (
        f"See https://{caller.region}.console.aws.amazon.com/cloudwatch/home?region={caller.region}"
        f"#logEventViewer:group={GROUP}/{name} in account {caller.account} for more information."
    )
