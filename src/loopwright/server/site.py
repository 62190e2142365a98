"""What the server answers over HTTP: whether it lives, how the loops are, figures for Prometheus."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from loopwright.core.names import new_id
from loopwright.deploy.address import is_own_host, is_token
from loopwright.deploy.dispatch import Steps
from loopwright.deploy.http import Connection
from loopwright.deploy.limits import Limits
from loopwright.deploy.message import Request, Response, error_response
from loopwright.server.gauge import CONTENT_TYPE

_log = logging.getLogger(__name__)
_READ_ONLY = (b"GET", b"HEAD")


class Answers:
    """What is answered now: made by the thread that looks after the loops, read by the event loop.

    Parameters
    ----------
    is_well
        Whether the loops were looked after a moment ago.
    status
        The body of `/status`.
    metrics
        The body of `/metrics`.
    """

    __slots__ = ("is_well", "metrics", "status")

    def __init__(self) -> None:
        self.is_well: Callable[[], bool] = lambda: False
        self.status: dict[str, Any] = {"loops": []}
        self.metrics: bytes = b""


class ServerSite:
    """The server behind every connection; nothing here waits for a disk or changes anything.

    Parameters
    ----------
    token_digest
        Digest of the bearer token that every request must bring; None where only this machine can
        ask, and the name it asks for must be this machine's.
    """

    def __init__(self, answers: Answers, *, token_digest: str | None) -> None:
        self.limits = Limits(
            max_body_bytes=1 << 16, max_buffered_bytes=1 << 20, max_connections=100
        )
        self.is_draining = False
        self.connections: set[Connection] = set()
        self.n_buffered_bytes = 0
        self.date_line = b""
        self._answers = answers
        self._token_digest = token_digest

    def answer(self, request: Request) -> Response | Steps[Response]:
        """Return the answer to a request."""
        refused = self._turned_away(request)
        if refused is not None:
            return refused
        handler = _ROUTES.get(request.path)
        if handler is None:
            known = ", ".join(path.decode() for path in _ROUTES)
            return error_response(404, f"There is no such route; there are {known}.")
        if request.method not in _READ_ONLY:
            return error_response(
                405, "This route takes GET.", headers=b"allow: " + b", ".join(_READ_ONLY) + b"\r\n"
            )
        request.route = request.path.decode()
        return handler(self._answers)

    def submit(
        self,
        steps: Steps[Response],
        *,
        done: Callable[[Response | BaseException], None],
        is_wanted: Callable[[], bool],
    ) -> None:
        """Refuse: no route has steps."""
        steps.close()
        done(error_response(500, "This server answers at once or not at all."))

    def failed(self, request: Request, error: BaseException) -> Response:
        """Return the answer for a request that ended in an error nobody foresaw."""
        reference = new_id()
        _log.error("Request %s to %s failed.", reference, request.route, exc_info=error)
        message = "The server failed on this request; its log says why under the reference."
        return error_response(500, message, reference=reference)

    def observe(self, request: Request | None, response: Response) -> None:
        """Take no note."""

    def check_time(self) -> None:
        """End the connections that have used up their time; call it about once a second."""
        self.date_line = time.strftime(
            "date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime()
        ).encode()
        now = asyncio.get_running_loop().time()
        for connection in list(self.connections):
            connection.check_time(now)

    def _turned_away(self, request: Request) -> Response | None:
        if self._token_digest is None:
            if is_own_host(request.headers.get(b"host"), frozenset()):
                return None
            return error_response(421, "This server is not known by the name in the Host header.")
        if is_token(request.headers.get(b"authorization"), self._token_digest):
            return None
        return error_response(
            401,
            "This server needs its token: send 'Authorization: Bearer <token>'.",
            headers=b"www-authenticate: Bearer\r\n",
        )


def _ping(answers: Answers) -> Response:
    is_well = answers.is_well()
    body = msgspec.json.encode({"status": "ok" if is_well else "not looking after the loops"})
    return Response(200 if is_well else 503, body)


def _status(answers: Answers) -> Response:
    return Response(200, msgspec.json.encode(answers.status))


def _metrics(answers: Answers) -> Response:
    return Response(200, answers.metrics, content_type=CONTENT_TYPE)


def _home(_answers: Answers) -> Response:
    return Response(200, msgspec.json.encode({"routes": [path.decode() for path in _ROUTES]}))


_ROUTES: Mapping[bytes, Callable[[Answers], Response]] = {
    b"/": _home,
    b"/ping": _ping,
    b"/status": _status,
    b"/metrics": _metrics,
}
