"""The short way of an invocation: the event loop itself asks the endpoint, and no thread is needed.

It takes requests of the usual kind whose key and endpoint are in memory, and leaves all others, and
all refusals, to the long way; what both answer is made by the same functions.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

from loopwright.core.errors import LoopwrightError
from loopwright.core.names import new_id
from loopwright.sagemaker.checking import check, without
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.endpoint_record import ENDPOINTS
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.invocation import (
    answer_about,
    chosen,
    is_asynchronous,
    keep_captured,
    log_of,
    told_headers,
)
from loopwright.sagemaker.key import KEYS, key_in
from loopwright.sagemaker.message import Answer, HeldBody, Request
from loopwright.sagemaker.model import operation
from loopwright.sagemaker.model_call import Said, no_answer, question, said
from loopwright.sagemaker.model_line import Lines
from loopwright.sagemaker.remembered import Remembered
from loopwright.sagemaker.signature import checked_signature
from loopwright.sagemaker.writing import json_error, rest_answer
from loopwright.store import Record

_log = logging.getLogger(__name__)
_PATH = re.compile(r"/endpoints/([A-Za-z0-9-]{1,63})/invocations")
# what takes longer to read than a thread costs has one of its own
_LARGEST = 64 << 10
_TAKEN = frozenset({"ContentType", "Accept", "CustomAttributes", "InferenceId", "TargetVariant"})
_VARIANT = frozenset(
    {
        "name",
        "own",
        "weight",
        "shadow",
        "count",
        "kind",
        "path",
        "digest",
        "settings",
        "program",
        "environment",
        "port",
    }
)

Told = Callable[[Answer], None]


class ShortWay:
    """Answers invocations on the event loop.

    Parameters
    ----------
    desk
        What the operations work with.
    memory
        Keys and endpoints.
    aside
        Runs a function in another thread.
    """

    def __init__(
        self, desk: Desk, memory: Remembered, *, aside: Callable[[Callable[[], object]], object]
    ) -> None:
        self._desk = desk
        self._memory = memory
        self._aside = aside
        self._lines = Lines()
        self._model = operation("sagemaker-runtime", "InvokeEndpoint")
        shape = self._model.input_shape
        self._members = {
            member.serialization["name"].lower(): name
            for name, member in shape.members.items()
            if member.serialization.get("location") == "header"
        }

    def take(self, request: Request, tell: Told) -> bool:
        """Return whether a request goes this way; `tell` is given its answer then, later or at once."""
        path = _PATH.fullmatch(request.target)
        if path is None or request.method != "POST" or not isinstance(request.body, HeldBody):
            return False
        try:
            found = self._found(request, path[1])
        except (ApiError, LoopwrightError):
            return False  # the long way says why not
        if found is None:
            return False
        caller, record, given = found
        self._ask(caller, record, given, request, tell)
        return True

    def check_time(self, now: float) -> None:
        """Give up on what has been waited for too long; call it now and then."""
        self._lines.check_time(now)

    def close(self) -> None:
        """Close the connections to endpoints."""
        self._lines.close()

    def _found(self, request: Request, name: str) -> tuple[Caller, Record, dict[str, Any]] | None:
        """Return who asks, which endpoint, and for what; None where the long way must look."""
        body = request.body.read(_LARGEST)
        given = self._given(request.headers, name)
        if given is None or not body:
            return None
        known = self._memory.held()

        def secret_of(key: str) -> str | None:
            held = known.get((KEYS, key))
            return key_in(held).secret if held else None

        signed = checked_signature(request, secret_of, now=self._desk.now())
        if signed.service != "sagemaker" or not signed.region:
            return None
        key = key_in(known[KEYS, signed.access_key])
        caller = Caller(access_key=key.id, account=key.account, region=signed.region)
        place = ENDPOINTS.place(caller, name)
        record = known.get(place)
        if record is None:
            # for the next one
            self._aside(partial(self._memory.find, *place))
            return None
        if not _is_usual(record):
            return None
        return caller, record, given

    def _given(self, headers: Mapping[str, str], name: str) -> dict[str, Any] | None:
        given: dict[str, Any] = {"EndpointName": name}
        for wire, value in headers.items():
            member = self._members.get(wire)
            if member is not None:
                given[member] = value
            elif wire.startswith("x-amzn-sagemaker-"):
                return None
            if not value.isprintable():
                return None
        if not given.keys() - {"EndpointName"} <= _TAKEN:
            return None
        _check(tuple(given.items()))
        return given

    def _ask(
        self,
        caller: Caller,
        record: Record,
        given: dict[str, Any],
        request: Request,
        tell: Told,
    ) -> None:
        request_id = new_id()
        try:
            body = request.body.read(_LARGEST)
            variant = chosen(record.body["live"], given)
            asked = question(
                variant,
                body,
                content_type=given.get("ContentType", ""),
                accept=given.get("Accept", ""),
                headers=told_headers(given),
            )
        except ApiError as error:
            tell(json_error(error, request_id=request_id))
            return
        got = partial(self._answer, caller, record, variant, given, body, request_id, tell)
        self._lines.ask(asked, got)

    def _answer(
        self,
        caller: Caller,
        record: Record,
        variant: Mapping[str, Any],
        given: dict[str, Any],
        body: bytes,
        request_id: str,
        tell: Told,
        got: tuple[int, bytes, Mapping[str, str]] | Exception,
    ) -> None:
        log = log_of(caller, record)
        try:
            if isinstance(got, Exception):
                raise no_answer(got, log=log)
            reply: Said = said(variant, got, accept=given.get("Accept", ""), log=log)
            keep_captured(self._desk, record, variant, given, asked=body, answered=reply)
            value = answer_about(variant, reply)
            answer = rest_answer(self._model, value, request_id=request_id, is_xml=False)
        except ApiError as error:
            answer = json_error(error, request_id=request_id)
        except Exception:
            _log.exception("Request %s to %s failed.", request_id, record.body["name"])
            text = f"The server failed on this request; its log says why under {request_id}."
            failure = ApiError("InternalFailure", text, status=500)
            answer = json_error(failure, request_id=request_id)
        tell(answer)


def _is_usual(record: Record) -> bool:
    """Tell whether nothing of an endpoint needs more than one question to one process."""
    live = record.body["live"]
    if not live or is_asynchronous(record):
        return False
    return all(
        name in _VARIANT or not value for each in live["variants"] for name, value in each.items()
    )


# clients say the same again and again
@lru_cache(maxsize=1024)
def _check(given: tuple[tuple[str, str], ...]) -> None:
    check(_plain_shape(), dict(given))


@lru_cache(maxsize=1)
def _plain_shape() -> Any:
    shape = operation("sagemaker-runtime", "InvokeEndpoint").input_shape
    return without(shape, shape.serialization.get("payload"))
