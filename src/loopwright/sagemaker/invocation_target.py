"""What of a variant a request is meant for: its one model, its containers, or one model of many."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from http.client import HTTPException
from typing import Any

from loopwright.core.names import new_id
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.model_call import Said, called_model
from loopwright.sagemaker.model_chain import Asked, called_chain
from loopwright.sagemaker.model_host import forget, loaded
from loopwright.store import Record

_guard = threading.Lock()
_n_under_way: dict[tuple[str, str], int] = {}


def refuse_wrong_target(name: str, variant: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse a request that names a model or a container where there is no choice, or none where
    there is.

    Raises
    ------
    ApiError
        `ValidationError`, in AWS's words where they are known.
    """
    containers = variant.get("containers", ())
    has_models = any(each["kind"] == "models" for each in containers)
    if given.get("TargetModel") is not None and not has_models:
        raise _refused(
            f"Endpoint {name} is not a multi-model endpoint and does not support target model header."
        )
    host, hosts = given.get("TargetContainerHostname"), [each["host"] for each in containers]
    is_direct = variant.get("mode") == "Direct"
    if host is not None and not is_direct:
        raise _refused(
            f"Endpoint {name} is not a multi-container endpoint with direct invocation and does not "
            "support target container hostname header."
        )
    if is_direct and host is None:
        raise _refused(f"Request {new_id()} is missing a target container hostname header.")
    if is_direct and host not in hosts:
        raise _refused(
            f"The target container {host} is not in endpoint {name}, which has {', '.join(hosts)}."
        )
    asked = [each for each in containers if host is None or each["host"] == host]
    if given.get("TargetModel") is None and any(each["kind"] == "models" for each in asked):
        raise _refused(f"Request {new_id()} is missing a target model header.")


def reply_of(
    desk: Desk,
    caller: Caller,
    record: Record,
    variant: Mapping[str, Any],
    given: Mapping[str, Any],
    body: bytes,
    asked: Asked,
) -> Said:
    """Return what a variant of an endpoint answers, of however many containers and models it is.

    Raises
    ------
    ApiError
        `ModelError` if it does not answer, `ThrottlingException` if it answers as many already as a
        serverless one may at once.
    """
    refuse_wrong_target(record.body["name"], variant, given)
    with _room(record.body["arn"], variant):
        if "containers" not in variant:
            return called_model(
                variant,
                body,
                content_type=asked.content_type,
                accept=asked.accept,
                headers=asked.headers,
                log=asked.log,
                timeout_s=asked.timeout_s,
            )
        for is_last in (False, True):
            try:
                return _chained(desk, caller, record.body["arn"], variant, given, body, asked)
            except ApiError as error:
                if is_last or not _forgotten(desk, record.body["arn"], variant, error):
                    raise
    raise AssertionError  # it returns or raises


def _chained(
    desk: Desk,
    caller: Caller,
    arn: str,
    variant: Mapping[str, Any],
    given: Mapping[str, Any],
    body: bytes,
    asked: Asked,
) -> Said:
    def find(place: int) -> AbstractContextManager[Mapping[str, Any]]:
        container = variant["containers"][place]
        if container["kind"] != "models":
            return nullcontext(container)
        return loaded(desk, caller, arn, variant, place, given["TargetModel"])

    target = given.get("TargetContainerHostname")
    return called_chain(variant, body, asked, target=target, find=find)


def _forgotten(desk: Desk, arn: str, variant: Mapping[str, Any], error: ApiError) -> bool:
    """Return whether a process of many models was not there, which is then started anew."""
    cause: BaseException | None = error
    while isinstance(cause, ApiError):
        cause = cause.__cause__
    is_gone = isinstance(cause, ConnectionError | HTTPException)
    found = [n for n, each in enumerate(variant["containers"]) if each["kind"] == "models"]
    if is_gone:
        for place in found:
            forget(desk, arn, variant, place)
    return is_gone and bool(found)


@contextmanager
def _room(arn: str, variant: Mapping[str, Any]) -> Iterator[None]:
    """Let a request through; of a serverless variant no more at once than it was made for."""
    most = variant.get("serverless", {}).get("most")
    if most is None:
        yield
        return
    place = arn, variant["name"]
    with _guard:
        if _n_under_way.get(place, 0) >= most:
            raise ApiError("ThrottlingException", "Rate exceeded", status=429)
        _n_under_way[place] = _n_under_way.get(place, 0) + 1
    try:
        yield
    finally:
        with _guard:
            _n_under_way[place] -= 1
            if not _n_under_way[place]:
                del _n_under_way[place]


def _refused(message: str) -> ApiError:
    return ApiError("ValidationError", message)
