"""The data plane: requests go to the processes of an endpoint, and their answers back."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
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
from loopwright.sagemaker.invocation_form import answer_of, csv_of, model_error
from loopwright.sagemaker.registry import serves

_LARGEST_BODY = 6 << 20
_TIMEOUT_S = 60.0
_MOST_IDLE = 64
_SHOWN = 1024
# how the endpoint introduces what a script says
FAILED = "The code of this endpoint failed. "


class _Connections:
    """Connections to processes on this machine that are kept open."""

    def __init__(self) -> None:
        self._idle: dict[int, list[http.client.HTTPConnection]] = {}
        self._lock = threading.Lock()

    def ask(
        self, port: int, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Return status, body and headers of `POST /invocations`."""
        with self._lock:
            known = self._idle.get(port)
            connection = known.pop() if known else None
        if connection is not None:
            try:
                return self._asked(connection, port, body, headers)
            except (http.client.HTTPException, ConnectionError):
                connection.close()  # it was closed while it was idle
        fresh = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
        return self._asked(fresh, port, body, headers)

    def _asked(
        self,
        connection: http.client.HTTPConnection,
        port: int,
        body: bytes,
        headers: Mapping[str, str],
    ) -> tuple[int, bytes, Mapping[str, str]]:
        connection.request("POST", "/invocations", body=body, headers=dict(headers))
        got = connection.getresponse()
        found = got.status, got.read(), {k.lower(): v for k, v in got.getheaders()}
        if not got.will_close:
            with self._lock:
                idle = self._idle.setdefault(port, [])
                if len(idle) < _MOST_IDLE:
                    idle.append(connection)
                    return found
        connection.close()
        return found


_connections = _Connections()


@serves("sagemaker-runtime", "InvokeEndpoint")
def invoke_endpoint(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Ask an endpoint."""
    name = given["EndpointName"]
    record = ENDPOINTS.find(desk, caller, name)
    if record is None or not record.body["live"]:
        if record is not None:
            raise ApiError(
                "ValidationError", f"Endpoint {name} of account {caller.account} is not in service."
            )
        raise ApiError("ValidationError", f"Endpoint {name} of account {caller.account} not found.")
    live = record.body["live"]
    variant = _variant(live, given)
    body = given["Body"].read(_LARGEST_BODY) if given.get("Body") is not None else b""
    headers = {
        "content-type": given.get("ContentType", ""),
        "accept": given.get("Accept", ""),
        "x-amzn-sagemaker-inference-id": given.get("InferenceId", ""),
        "x-amzn-sagemaker-custom-attributes": given.get("CustomAttributes", ""),
        "x-amzn-sagemaker-session-id": given.get("SessionId", ""),
    }
    headers = {key: value for key, value in headers.items() if value}
    settings = variant.get("settings")
    asked = body, given.get("ContentType", "")
    if settings:
        body = csv_of(body, given.get("ContentType", ""), settings)
        headers |= {"content-type": "text/csv; header=absent", "accept": "application/json"}
    headers["x-amzn-sagemaker-target-variant"] = variant["own"]
    try:
        status, answer, told = _connections.ask(variant["port"], body, headers)
    except (OSError, http.client.HTTPException) as error:
        raise model_error(
            500, f"The model did not answer: {error}", log=_log(caller, name)
        ) from error
    if status >= 400:
        raise model_error(status, said_by(variant, answer), log=_log(caller, name))
    kind = told.get("content-type", "application/octet-stream")
    if settings:
        answer, kind = answer_of(answer, given.get("Accept", ""), variant["settings"])
    captured = (record.body.get("plan") or {}).get("DataCaptureConfig")
    if is_captured(captured):
        capture(
            desk,
            captured,
            endpoint=name,
            variant=variant["name"],
            asked=asked,
            answered=(answer, kind),
            inference_id=given.get("InferenceId"),
            attributes=given.get("CustomAttributes"),
        )
    return {
        "Body": answer,
        "ContentType": kind,
        "InvokedProductionVariant": variant["name"],
        "CustomAttributes": told.get("x-amzn-sagemaker-custom-attributes"),
    }


def _variant(live: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
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


def said_by(variant: Mapping[str, Any], answer: bytes) -> str:
    """Return what a model that did not answer has said; of a script its own words."""
    if variant["kind"] == "script":
        with contextlib.suppress(ValueError, LookupError, TypeError):
            text = str(json.loads(answer)["error"]["message"])
            return text.removeprefix(FAILED)[:_SHOWN]
    return answer[:_SHOWN].decode(errors="replace")


def _log(caller: Caller, name: str) -> str:
    return (
        f"See https://{caller.region}.console.aws.amazon.com/cloudwatch/home?region={caller.region}"
        f"#logEventViewer:group={GROUP}/{name} in account {caller.account} for more information."
    )
