"""Routes whose paths hold a name: those of the Open Inference Protocol, and of postponed answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import msgspec

from loopwright.deploy.dispatch import Steps
from loopwright.deploy.inference_protocol import (
    INFER,
    infer,
    model_metadata,
    protocol_error,
    server_metadata,
)
from loopwright.deploy.message import Request, Response
from loopwright.deploy.model import Served
from loopwright.deploy.postponed import PATH, look
from loopwright.deploy.shadow import identified

if TYPE_CHECKING:
    from loopwright.deploy.service import Service

_MODEL = re.compile(
    rb"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?(?P<rest>/ready|/infer)?"
)


class Found(NamedTuple):
    """A route: what metrics call it, the methods it takes, and what answers.

    What gives steps takes its turn with other requests, and `waits` if they wait for the disk.
    """

    label: str
    methods: tuple[bytes, ...]
    answer: Callable[[Service, Request], Response | Steps[Response]]
    is_queued: bool = False
    waits: bool = False


_READ = (b"GET", b"HEAD")


def find_named_route(path: bytes) -> Found | None:
    """Return the route of a path that is not the same for every endpoint; None for any other."""
    if path in _FIXED:
        return _FIXED[path]
    if path.startswith(PATH + b"/"):
        return _POSTPONED
    match = _MODEL.fullmatch(path)
    if match is None:
        return None
    return _OF_MODEL[match["rest"] or b""]


def _live(_service: Service, _request: Request) -> Response:
    return _json({"live": True})


def _ready(service: Service, _request: Request) -> Response:
    return _json({"ready": not service.is_draining}, 503 if service.is_draining else 200)


def _server(_service: Service, _request: Request) -> Response:
    return _json(server_metadata())


def _model(service: Service, request: Request) -> Response:
    served = _served(service, request)
    return served if isinstance(served, Response) else _json(model_metadata(served))


def _model_ready(service: Service, request: Request) -> Response:
    served = _served(service, request)
    if isinstance(served, Response):
        return served
    status = 503 if service.is_draining else 200
    return _json({"name": served.model.name, "ready": not service.is_draining}, status)


def _infer(service: Service, request: Request) -> Steps[Response]:
    served = _served(service, request)
    if isinstance(served, Response):
        return served
    shadows = service.fleet.shadows if service.fleet is not None else ()
    if shadows:
        identified(request)
    response, n_rows = yield from infer(request, served=served, capture=service.capture)
    if n_rows:
        service.metrics.count_predictions(served.version, n_rows, served.variant)
        if shadows:
            service.shadows.offer(request, shadows, service.shadow_capture)
    return response


def _served(service: Service, request: Request) -> Served | Response:
    """Return the model that a request names, or the answer that there is none."""
    match = _MODEL.fullmatch(request.path)
    served = service.served_for(request)
    name, version = served.model.name, str(served.version)
    if match is None or unquote(match["name"].decode("latin-1")) != name:
        return protocol_error(404, f"There is no such model here; there is {name!r}.")
    asked = match["version"]
    if asked is not None and unquote(asked.decode("latin-1")) != version:
        return protocol_error(404, f"This version of {name!r} is not served; {version!r} is.")
    return served


def _json(value: Any, status: int = 200) -> Response:
    return Response(status, msgspec.json.encode(value))


_FIXED: Mapping[bytes, Found] = {
    b"/v2": Found("/v2", _READ, _server),
    b"/v2/": Found("/v2", _READ, _server),
    b"/v2/health/live": Found("/v2/health/live", _READ, _live),
    b"/v2/health/ready": Found("/v2/health/ready", _READ, _ready),
}
_OF_MODEL: Mapping[bytes, Found] = {
    b"": Found("/v2/models/{name}", _READ, _model),
    b"/ready": Found("/v2/models/{name}/ready", _READ, _model_ready),
    b"/infer": Found(INFER, (b"POST",), _infer, is_queued=True),
}
_POSTPONED = Found("/async-invocations/{id}", _READ, look, is_queued=True, waits=True)
NAMED_ROUTES: Mapping[str, Found] = {
    found.label: found for found in (*_FIXED.values(), *_OF_MODEL.values(), _POSTPONED)
}
