"""From a request to its answer: whose it is, which operation it means, and how the answer is written."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from loopwright.core.errors import LoopwrightError
from loopwright.core.names import new_id
from loopwright.sagemaker import mlflow_request
from loopwright.sagemaker.checking import check, without
from loopwright.sagemaker.desk import REGION, Caller, Desk
from loopwright.sagemaker.error import ApiError, of_loop
from loopwright.sagemaker.key import AccessKey, find_key
from loopwright.sagemaker.message import Answer, HeldBody, Request
from loopwright.sagemaker.model import operation, service, targets
from loopwright.sagemaker.parsing import LARGEST_JSON, Routes, json_input, query_input, rest_input
from loopwright.sagemaker.registry import Served, find_served
from loopwright.sagemaker.remembered import Remembered
from loopwright.sagemaker.s3.external import ExternalObjects
from loopwright.sagemaker.signature import checked_signature, claimed_service
from loopwright.sagemaker.tag import check_tags
from loopwright.sagemaker.writing import (
    json_answer,
    json_error,
    query_answer,
    query_error,
    rest_answer,
    s3_error,
)

_log = logging.getLogger(__name__)
# SageMaker's data plane shares the name it signs with
_REST = {"sagemaker": ("sagemaker-runtime", "sagemaker-metrics"), "lambda": ("lambda",)}


class Dispatcher:
    """Answers requests.

    Parameters
    ----------
    desk
        What the operations work with.
    memory
        Where keys are found.
    region
        The region of requests that name none.
    """

    def __init__(self, desk: Desk, memory: Remembered, *, region: str = REGION) -> None:
        self._desk = desk
        self._memory = memory
        self._region = region

    def __call__(self, request: Request) -> Answer:
        """Return the answer; nothing is raised."""
        request_id = new_id()
        protocol = _protocol(request)
        try:
            if protocol is not _s3:
                # it is read more than once: for the signature, and for what it says
                request = replace(request, body=HeldBody(request.body.read(LARGEST_JSON)))
            caller = self._caller(request)
            return protocol(self._desk, caller, request, request_id)
        except LoopwrightError as error:
            return self._refused(request, of_loop(error), request_id)
        except ApiError as error:
            return self._refused(request, error, request_id)
        except Exception:
            _log.exception(
                "Request %s, %s %s, failed.", request_id, request.method, request.raw_path
            )
            failure = ApiError(
                "InternalFailure" if protocol is not _s3 else "InternalError",
                f"The server failed on this request; its log says why under {request_id}.",
                status=500,
            )
            return self._refused(request, failure, request_id)

    def _caller(self, request: Request) -> Caller:
        known: dict[str, AccessKey] = {}

        def secret_of(key_id: str) -> str | None:
            found = find_key(self._memory, key_id)
            if found is None:
                return None
            known[key_id] = found
            return found.secret

        signed = checked_signature(request, secret_of, now=self._desk.now())
        key = known[signed.access_key]
        region = signed.region or self._region
        # global services are signed for the first region
        return Caller(
            access_key=key.id,
            account=key.account,
            region=self._region if region == "aws-global" else region,
        )

    def _refused(self, request: Request, error: ApiError, request_id: str) -> Answer:
        protocol = _protocol(request)
        if protocol is _s3:
            return s3_error(
                error,
                request_id=request_id,
                resource=request.raw_path,
                is_head=request.method == "HEAD",
            )
        if protocol is _query:
            return query_error(error, request_id=request_id)
        return json_error(error, request_id=request_id)


_Protocol = Callable[[Desk, Caller, Request, str], Answer]


def _protocol(request: Request) -> _Protocol:
    if "x-amz-target" in request.headers:
        return _json
    name = claimed_service(request)
    if name in ("sts", "iam"):
        return _query
    if name == mlflow_request.SERVICE:
        return mlflow_request.passed_on
    if name in _REST:
        return _rest
    kind = request.headers.get("content-type", "")
    if (
        not name
        and request.raw_path == "/"
        and kind.startswith("application/x-www-form-urlencoded")
    ):
        return _query
    return _s3


def _json(desk: Desk, caller: Caller, request: Request, request_id: str) -> Answer:
    prefix, _, name = request.headers["x-amz-target"].partition(".")
    service_name = targets().get(prefix)
    if service_name is None or request.method != "POST":
        raise ApiError("UnknownOperationException", f"The target {prefix[:100]!r} is not known.")
    model = operation(service_name, name)
    signing_name = service(service_name).signing_name
    if claimed_service(request) != signing_name:
        raise ApiError(
            "InvalidSignatureException",
            f"Credential should be scoped to correct service: '{signing_name}'.",
            status=403,
        )
    given = json_input(model.input_shape, request.body.read(LARGEST_JSON))
    check(model.input_shape, given)
    if service_name == "sagemaker":
        check_tags(given)
    value = _served(service_name, name).handler(desk, caller, given)
    return json_answer(model.output_shape, value, request_id=request_id)


def _query(desk: Desk, caller: Caller, request: Request, request_id: str) -> Answer:
    service_name = claimed_service(request) or "sts"
    body = request.body.read(LARGEST_JSON)
    action, _ = query_input(None, body, request.raw_query)
    if not action:
        raise ApiError("MissingAction", "The request is missing an action.")
    model = operation(service_name, action)
    _, given = query_input(model.input_shape, body, request.raw_query)
    try:
        check(model.input_shape, given)
    except ApiError as error:
        # STS and IAM have a shorter name for it
        raise ApiError("ValidationError", error.message) from error
    value = _served(service_name, action).handler(desk, caller, given)
    return query_answer(model, value, request_id=request_id)


def _rest(desk: Desk, caller: Caller, request: Request, request_id: str) -> Answer:
    for service_name in _REST[claimed_service(request)]:
        found = _routes(service_name).find(request)
        if found is None:
            continue
        model, labels = found
        given = rest_input(model, request, labels, is_xml=False)
        payload = (model.input_shape.serialization or {}).get("payload")
        plain = {name: value for name, value in given.items() if name != payload}
        check(without(model.input_shape, payload), plain)
        value = _served(service_name, model.name).handler(desk, caller, given)
        return rest_answer(model, value, request_id=request_id, is_xml=False)
    raise ApiError("UnknownOperationException", "There is no operation at this path.", status=404)


def _s3(desk: Desk, caller: Caller, request: Request, request_id: str) -> Answer:
    found = _routes("s3").find(request)
    if found is None:
        raise ApiError(
            "MethodNotAllowed",
            "The specified method is not allowed against this resource.",
            status=405,
        )
    model, labels = found
    if isinstance(desk.objects, ExternalObjects):
        return desk.objects.pass_on(caller, request, model.name, labels)
    served = _served("s3", model.name)
    given = rest_input(model, request, labels, is_xml=True)
    given["__headers"] = request.headers
    value = served.handler(desk, caller, given)
    return rest_answer(model, value, request_id=request_id, is_xml=True)


@cache
def _routes(service_name: str) -> Routes:
    return Routes(service(service_name))


def _served(service_name: str, name: str) -> Served:
    found = find_served(service_name, name)
    if found is not None:
        return found
    message = f"{service_name}:{name} is not supported yet by loopwright."
    if service_name == "s3":
        raise ApiError("NotImplemented", message)
    raise ApiError("UnsupportedOperationException", message, status=501)
