"""The routes of an endpoint, and what they share: the model, the logs, the counters."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.names import new_id
from loopwright.deploy.address import is_own_host, is_token
from loopwright.deploy.capture import CaptureLog, utc_text
from loopwright.deploy.counts import keep_counts, kept_counts
from loopwright.deploy.dispatch import Steps, WorkQueue
from loopwright.deploy.endpoint import DesiredState
from loopwright.deploy.http import Connection
from loopwright.deploy.inference_protocol import INFER, protocol_error
from loopwright.deploy.invocation import invocation, media_type, refusal, unknown_media_type
from loopwright.deploy.labels import LabelLog, checked_label
from loopwright.deploy.limits import Limits
from loopwright.deploy.message import Request, Response, error_response
from loopwright.deploy.metrics import CONTENT_TYPE as METRICS_TYPE
from loopwright.deploy.metrics import EndpointMetrics, loop_gauges
from loopwright.deploy.model import Served
from loopwright.deploy.named_route import NAMED_ROUTES, find_named_route
from loopwright.deploy.openapi import openapi
from loopwright.deploy.postponed import PATH as POSTPONED_PATH
from loopwright.deploy.postponed import PostponedWork, take
from loopwright.deploy.rows import MAX_ROWS, json_lines, json_value, too_many_rows
from loopwright.deploy.shadow import Shadows, identified
from loopwright.deploy.short_way import ShortWay, find_short_way
from loopwright.deploy.variant import TARGET_HEADER, Fleet, named
from loopwright.deploy.whole_way import WholeWay, find_whole_way

_log = logging.getLogger(__name__)

# a request of so few bytes may be answered without a turn of its own
_SMALL_BYTES = 1 << 14
_ENCODING = b"content-encoding"

Handler = Callable[["Service", Request], Response | Steps[Response]]


class Service:
    """Answer requests with the model that is served now (the `Site` behind every connection).

    `switch` replaces the model between two requests; a request that has begun ends with the model it
    began with. Everything here runs on the event loop's thread.
    """

    def __init__(self, *, limits: Limits, queue: WorkQueue[Response], labels: LabelLog) -> None:
        self.limits = limits
        self.queue = queue
        self.labels = labels
        self.metrics = EndpointMetrics()
        self.connections: set[Connection] = set()
        self.n_buffered_bytes = 0
        self.is_draining = False
        self.date_line = b""
        self.started_at = time.time()
        self.served: Served | None = None
        self.desired: DesiredState | None = None
        self.capture: CaptureLog | None = None
        # None where there is one model and no variants
        self.fleet: Fleet | None = None
        # None where requests have to go the long way
        self._short_way: ShortWay | None = None
        self._whole_ways: dict[int, WholeWay | None] = {}
        self.shadow_capture: CaptureLog | None = None
        self.shadows = Shadows(counts=self.metrics.shadows, is_busy=lambda: len(queue) > 0)
        self.counts_folder: Path | None = None
        self.loop_gauges_path: Path | None = None
        self.postponed: PostponedWork | None = None
        self._allowed_hosts: frozenset[str] = frozenset()
        self._own_hosts: set[bytes | None] = set()

    def switch(
        self,
        served: Served,
        desired: DesiredState,
        capture: CaptureLog | None,
        *,
        fleet: Fleet | None = None,
    ) -> None:
        """Answer from now on with another model, or with several.

        `served` is the model that labels, documents and facts go by.
        """
        self.served = served
        self.fleet = fleet
        self.desired = desired
        self.capture = capture
        live = (served,) if fleet is None else fleet.live
        # by the identity of what the fleet keeps
        self._whole_ways = {id(each): find_whole_way(each, capture) for each in live}
        self._short_way = None
        if fleet is None:
            self._short_way = find_short_way(served, capture, whole=self.whole_way(served))
        self._allowed_hosts = frozenset(name.lower() for name in desired.allowed_hosts)
        self._own_hosts.clear()

    def check_time(self, now: float) -> None:
        """Do what is due about once a second."""
        self.date_line = time.strftime(
            "date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime()
        ).encode()
        for connection in list(self.connections):
            connection.check_time(now)
        if self.counts_folder is not None:
            keep_counts(self.counts_folder, self.metrics.counts(self.gauges()))
        # last: its look at the disk is no request that waits
        if self.postponed is not None:
            self.postponed.advance(self)

    def served_for(self, request: Request) -> Served:
        """Return the model that answers a request.

        Raises
        ------
        InvalidInputError
            If the request names a variant that does not answer.
        """
        served = self.served
        assert served is not None  # noqa: S101 `_turned_away` answers before there is a model
        if self.fleet is not None:
            served = self.fleet.chosen(request)
            request.variant = served.variant
        elif TARGET_HEADER in request.headers:
            return named((served,), request.headers[TARGET_HEADER])
        return served

    def whole_way(self, served: Served) -> WholeWay | None:
        """Return what answers usual bodies with a model in one step; None if there is none."""
        return self._whole_ways.get(id(served))

    def gauges(self) -> dict[str, float]:
        """Return how things stand now in this process."""
        logs = [log for log in (self.capture, self.shadow_capture) if log is not None]
        return {
            "captured_predictions": float(sum(log.n_written for log in logs)),
            "dropped_captures": float(sum(log.n_dropped for log in logs)),
            "open_connections": float(len(self.connections)),
            "waiting_requests": float(len(self.queue)),
            "buffered_bytes": float(self.n_buffered_bytes),
            "start_time_seconds": self.started_at,
        }

    # --- what a connection asks for ---

    def answer(self, request: Request) -> Response | Steps[Response]:
        """Return the answer to a request, or the steps that will lead to it."""
        turned_away = self._turned_away(request)
        if turned_away is not None:
            return turned_away
        path = request.path
        methods = ROUTES.get(path)
        if methods is not None:
            request.route = path.decode()
        elif (found := find_named_route(path)) is not None:
            request.route = found.label
            methods = _NAMED[found.label]
        else:
            known = ", ".join(path.decode() for path in ROUTES)
            return error_response(404, f"There is no such route; there are {known}, /v2.")
        handler = methods.get(request.method)
        if handler is None:
            allowed = b", ".join(methods)
            return error_response(
                405,
                f"{request.route} takes {allowed.decode()}.",
                headers=b"allow: " + allowed + b"\r\n",
            )
        if _ENCODING in request.headers and (problem := self._packed(request)) is not None:
            return problem
        return handler(self, request)

    def _packed(self, request: Request) -> Response | None:
        """Return the answer to a body that is packed; None if it is not, or own code may unpack it."""
        encoding = request.headers[_ENCODING]
        served = self.served
        if encoding.lower() == b"identity" or (served is not None and served.code is not None):
            return None
        shown = encoding[:40].decode("latin-1")
        return error_response(
            415,
            f"The body is packed as {shown!r}; send it as it is, without a Content-Encoding.",
            headers=b"accept-encoding: identity\r\n",
        )

    def answered_shortly(self, request: Request) -> Response | None:
        """Return the answer to a usual request; None where it has to go the long way."""
        way, served = self._short_way, self.served
        if way is None or served is None or len(request.body) > _SMALL_BYTES:
            return None
        found = self.queue.call_now(way.answer, request)
        if found is None:
            return None
        self.metrics.count_predictions(served.version, found[1])
        return found[0]

    def submit(
        self,
        steps: Steps[Response],
        *,
        done: Callable[[Response | BaseException], None],
        is_wanted: Callable[[], bool],
    ) -> None:
        """Run the steps when their turn comes."""
        self.queue.submit(steps, done=done, is_wanted=is_wanted)

    def failed(self, request: Request, error: BaseException) -> Response:
        """Return the answer for a request that ended in an error nobody foresaw."""
        if isinstance(error, InvalidInputError):
            return refusal(error)
        reference = new_id()
        self.metrics.n_model_errors += request.route in _PREDICTING
        _log.error("Request %s to %s failed.", reference, request.route, exc_info=error)
        status, head = 500, b""
        message = "The endpoint failed on this request; its log says why under the reference."
        if isinstance(error, BackendError) and error.retryable:
            status, message, head = 503, error.message, b"retry-after: 5\r\n"
        if request.route == INFER:
            return protocol_error(status, f"{message} Reference: {reference}.", headers=head)
        return error_response(status, message, headers=head, reference=reference)

    def observe(self, request: Request | None, response: Response) -> None:
        """Count an answer."""
        if request is None:
            self.metrics.count_request("none", response.status, None)
            return
        is_invocation = request.route in _PREDICTING
        latency_s = asyncio.get_running_loop().time() - request.received_at
        self.metrics.count_request(
            request.route, response.status, latency_s if is_invocation else None
        )
        if request.variant is not None:
            self.metrics.count_variant(request.variant, response.status, latency_s)

    def _turned_away(self, request: Request) -> Response | None:
        desired = self.desired
        if desired is None:
            return error_response(503, "The model is being loaded.", headers=b"retry-after: 1\r\n")
        if desired.token_digest is not None:
            if not is_token(request.headers.get(b"authorization"), desired.token_digest):
                return error_response(
                    401,
                    "This endpoint needs its token: send 'Authorization: Bearer <token>'.",
                    headers=b"www-authenticate: Bearer\r\n",
                )
            return None
        host = request.headers.get(b"host")
        if host not in self._own_hosts:
            if not is_own_host(host, self._allowed_hosts):
                return error_response(
                    421, "This endpoint is not known by the name in the Host header."
                )
            if len(self._own_hosts) < 64:
                self._own_hosts.add(host)
        return None


# --- the routes ---


def _queued(steps: Callable[[Service, Request], Any], *, at_once_bytes: int = -1) -> Handler:
    """Return a handler that takes its turn with the others, or answers 503 when too many wait.

    A body of up to `at_once_bytes` is answered without waiting for a turn while turns are short.
    """

    def handler(service: Service, request: Request) -> Response | Steps[Response]:
        if service.queue.has_room():
            begun: Steps[Response] = steps(service, request)
            if len(request.body) > at_once_bytes:
                return begun
            return service.queue.answer_now(begun) or begun
        return error_response(
            503,
            f"{len(service.queue)} requests are waiting; try again in a moment.",
            headers=b"retry-after: %d\r\n" % service.queue.retry_after_s(),
        )

    return handler


def _invoked(service: Service, request: Request) -> Response | Steps[Response]:
    """Answer a request for predictions, by the short way if it is usual."""
    response = service.answered_shortly(request)
    return response if response is not None else _LONG_WAY(service, request)


def invoked(service: Service, request: Request, *, extras: tuple[str, ...] = ()) -> Steps[Response]:
    """Answer a request with the model that is chosen for it, and count what is predicted."""
    # taken once, at the first turn: the model and the log of this request are not exchanged later
    served, capture = service.served_for(request), service.capture
    whole = service.whole_way(served)
    shadows = service.fleet.shadows if service.fleet is not None else ()
    if shadows:
        identified(request)
    response, n_rows = yield from invocation(
        request, served=served, capture=capture, extras=extras, whole=whole
    )
    if n_rows:
        service.metrics.count_predictions(served.version, n_rows, served.variant)
        if shadows:
            service.shadows.offer(request, shadows, service.shadow_capture)
    return response


def _explained(service: Service, request: Request) -> Steps[Response]:
    return invoked(service, request, extras=("reasons",))


def _take_labels(service: Service, request: Request) -> Steps[Response]:
    kind = media_type(request)
    if kind not in _LABEL_READERS:
        return unknown_media_type(_LABEL_READERS)
    assert service.served is not None  # noqa: S101 `_turned_away` answers before there is a model
    try:
        values = _LABEL_READERS[kind](request.body)
        if len(values) > MAX_ROWS:
            raise too_many_rows()
        at = utc_text(datetime.now(UTC))
        task = service.served.model.task
        labels = [
            checked_label(value, index=index, task=task, at=at, source="endpoint")
            for index, value in enumerate(values)
        ]
    except InvalidInputError as error:
        return refusal(error)
    yield lambda: service.labels.append(labels)
    service.metrics.n_labels += len(labels)
    return _json_response({"accepted": len(labels)}, status=202)


def _one_or_many(body: bytes) -> list[Any]:
    value = json_value(body)
    return value if isinstance(value, list) else [value]


_LABEL_READERS: Mapping[bytes, Callable[[bytes], list[Any]]] = {
    b"application/json": _one_or_many,
    b"application/x-ndjson": json_lines,
    b"application/jsonlines": json_lines,
    b"application/jsonl": json_lines,
}


def _ping(service: Service, _request: Request) -> Response:
    status = "draining" if service.is_draining else "ok"
    served = service.served
    if status == "ok" and served is not None and served.code is not None:
        # own code that has ended is being started again
        status = "ok" if served.model.is_ready else "loading"  # type: ignore[attr-defined] # of own code alone
    return _json_response(
        {"status": status, **_facts(service), "pid": os.getpid()},
        status=200 if status == "ok" else 503,
    )


def _home(service: Service, _request: Request) -> Response:
    routes = [
        {"path": path.decode(), "methods": [method.decode() for method in methods]}
        for path, methods in ROUTES.items()
    ]
    return _json_response({**_facts(service), "routes": routes})


def _metrics(service: Service, _request: Request) -> Response:
    folder = service.counts_folder
    gauges = service.gauges()
    if service.postponed is not None:
        # of the whole endpoint, so that no other process counts it as well
        n_waiting, oldest_s = service.postponed.queue.backlog()
        gauges |= {"postponed_requests": float(n_waiting), "postponed_oldest_seconds": oldest_s}
    text = service.metrics.text(
        gauges=gauges,
        model={name: str(value) for name, value in _facts(service).items() if name != "variants"},
        others=kept_counts(folder, but=os.getpid()) if folder is not None else (),
    )
    text += loop_gauges(service.loop_gauges_path)
    return Response(200, text, content_type=METRICS_TYPE)


def _openapi(service: Service, _request: Request) -> Response:
    served, desired = service.served, service.desired
    assert served is not None  # noqa: S101 `_turned_away` answers before there is a model
    assert desired is not None  # noqa: S101
    needs_token = desired.token_digest is not None
    document = openapi(
        served.model,
        version=served.version,
        endpoint=desired.name,
        needs_token=needs_token,
        variants=[each.name for each in desired.variants if not each.shadow],
    )
    return _json_response(document)


def _facts(service: Service) -> dict[str, Any]:
    served, desired = service.served, service.desired
    assert served is not None  # noqa: S101 `_turned_away` answers before there is a model
    assert desired is not None  # noqa: S101
    facts: dict[str, Any] = {
        "endpoint": desired.name,
        "model": served.model.name,
        "model_version": served.version,
        "task": served.model.task,
        "generation": desired.generation,
    }
    if desired.variants:
        facts["variants"] = [
            {"name": each.name, "version": each.version, "weight": each.weight}
            | ({"shadow": True} if each.shadow else {})
            for each in desired.variants
        ]
    return facts


def _json_response(value: Any, *, status: int = 200) -> Response:
    return Response(status, msgspec.json.encode(value, enc_hook=str))


_LONG_WAY = _queued(invoked, at_once_bytes=_SMALL_BYTES)
_READ_ONLY = (b"GET", b"HEAD")
ROUTES: Mapping[bytes, Mapping[bytes, Handler]] = {
    b"/": dict.fromkeys(_READ_ONLY, _home),
    b"/ping": dict.fromkeys(_READ_ONLY, _ping),
    b"/metrics": dict.fromkeys(_READ_ONLY, _metrics),
    b"/openapi.json": dict.fromkeys(_READ_ONLY, _openapi),
    b"/invocations": {b"POST": _invoked},
    b"/explain": {b"POST": _queued(_explained)},
    POSTPONED_PATH: {b"POST": _queued(take)},
    b"/labels": {b"POST": _queued(_take_labels)},
}
_NAMED: Mapping[str, Mapping[bytes, Handler]] = {
    label: dict.fromkeys(
        found.methods,
        _queued(found.answer, at_once_bytes=-1 if found.waits else _SMALL_BYTES)
        if found.is_queued
        else found.answer,
    )
    for label, found in NAMED_ROUTES.items()
}
_PREDICTING = frozenset({"/invocations", "/explain", INFER})
