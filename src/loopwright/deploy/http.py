"""HTTP/1.1 on one event loop: framing by llhttp, limits, time limits, answers in order."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Protocol

import httptools
import msgspec

from loopwright.deploy.dispatch import Steps


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one client, and all together, may take.

    Parameters
    ----------
    max_body_bytes
        Largest request body; more is answered 413.
    max_buffered_bytes
        Largest sum of the bodies held for all clients; more is answered 503.
    max_head_bytes, max_headers
        Largest request line with headers, and how many of them; more is answered 431.
    max_connections
        Open connections; one more is answered 503 and closed.
    max_pipelined
        Requests of one connection read ahead of their answers.
    head_timeout_s
        Time from the first byte of a request to the end of its headers.
    body_timeout_s, min_body_bytes_per_s
        Time for a body: so many seconds, and more while it comes at least at this pace.
    idle_timeout_s
        How long a connection stays open between requests.
    write_timeout_s
        How long a client may leave its answers unread.
    linger_s
        How long what a refused client still sends is read and thrown away, so that it sees the answer.
    """

    max_body_bytes: int = 16 << 20
    max_buffered_bytes: int = 256 << 20
    max_head_bytes: int = 32 << 10
    max_headers: int = 100
    max_connections: int = 1000
    max_pipelined: int = 16
    head_timeout_s: float = 10.0
    body_timeout_s: float = 10.0
    min_body_bytes_per_s: int = 16 << 10
    idle_timeout_s: float = 75.0
    write_timeout_s: float = 30.0
    linger_s: float = 2.0


class Request:
    """One whole request."""

    __slots__ = ("body", "headers", "keep_alive", "method", "received_at", "target")

    def __init__(self, *, method: bytes, target: bytes, headers: dict[bytes, bytes]) -> None:
        self.method = method
        self.target = target
        # names in lower case; a repeated header holds its values joined by a comma
        self.headers = headers
        self.body = b""
        self.keep_alive = True
        self.received_at = 0.0


class Response(msgspec.Struct, frozen=True):
    """One whole answer; `headers` are complete lines, each with its CRLF."""

    status: int
    body: bytes = b""
    content_type: bytes = b"application/json"
    headers: bytes = b""


def error_response(status: int, message: str, *, headers: bytes = b"", **facts: Any) -> Response:
    """Return `{"error": {"message": ..., **facts}}`."""
    body = msgspec.json.encode({"error": {"message": message, **facts}})
    return Response(status, body, headers=headers)


class Site(Protocol):
    """What a connection needs from the endpoint behind it."""

    limits: Limits
    is_draining: bool
    connections: set[Connection]
    n_buffered_bytes: int

    def answer(self, request: Request) -> Response | Steps[Response]:
        """Return the answer to a request, or the steps that will lead to it."""
        ...

    def submit(
        self,
        steps: Steps[Response],
        *,
        done: Callable[[Response | BaseException], None],
        is_wanted: Callable[[], bool],
    ) -> None:
        """Run the steps when their turn comes."""
        ...

    def failed(self, request: Request, error: BaseException) -> Response:
        """Return the answer for a request that ended in an error nobody foresaw."""
        ...

    def observe(self, request: Request | None, response: Response) -> None:
        """Take note of an answer that is about to be sent."""
        ...


_STATUS = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_SAFETY = (
    b"x-content-type-options: nosniff\r\n"
    b"cache-control: no-store\r\n"
    b"content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n"
)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """One client: reads requests, hands them to the site one at a time, answers in their order."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._limits = site.limits
        self._loop = asyncio.get_running_loop()
        self._parser: Any = None
        self._transport: asyncio.Transport | None = None
        # whole requests, and at the end perhaps one refusal, that wait for their turn
        self._waiting: deque[Request | Response] = deque()
        self._active: Request | None = None
        self._is_advancing = False
        # the request being read
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._n_headers = 0
        self._n_head_bytes = 0
        self._request: Request | None = None
        self._body: list[bytes] = []
        self._n_body_bytes = 0
        self._body_since = 0.0
        self._owes_continue = False
        self._in_head = False
        self._n_buffered = 0
        # no more requests are read after a refusal, a `connection: close` or the client's own end
        self._reads = True
        self._is_lingering = False
        self._reading_paused = False
        self._writing_paused = False
        self._deadline = math.inf
        self._write_deadline = math.inf

    # --- what the event loop calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 for the type checker
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        self._deadline = self._loop.time() + self._limits.idle_timeout_s
        is_full = len(self._site.connections) >= self._limits.max_connections
        self._site.connections.add(self)
        if is_full:
            self._refuse(503, "Too many connections are open.", headers=b"retry-after: 1\r\n")

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._reads = False
        self._waiting.clear()
        self._site.connections.discard(self)
        self._release_buffered(self._n_buffered)

    def data_received(self, data: bytes) -> None:
        if not self._reads:
            return
        # llhttp keeps an unfinished header, so its size is watched from outside
        if self._in_head:
            self._n_head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._reads = False  # the request is answered as plain HTTP/1.1, then the line closed
        except httptools.HttpParserError:
            if self._reads:
                self._refuse(400, "This is not a valid HTTP/1.1 request.")
        if self._reads and self._in_head and self._n_head_bytes > self._limits.max_head_bytes:
            self._refuse_head()
        self._advance()

    def eof_received(self) -> bool:
        self._reads = False
        has_work = self._active is not None or bool(self._waiting)
        return has_work and not self._is_lingering

    def pause_writing(self) -> None:
        self._writing_paused = True
        self._write_deadline = self._loop.time() + self._limits.write_timeout_s
        self._balance_reading()

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._write_deadline = math.inf
        self._advance()

    # --- what the parser calls ---

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = {}
        self._n_headers = self._n_head_bytes = self._n_body_bytes = 0
        self._in_head = True
        self._deadline = self._loop.time() + self._limits.head_timeout_s

    def on_url(self, piece: bytes) -> None:
        self._target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        self._n_headers += 1
        if not self._in_head or self._n_headers > self._limits.max_headers:
            return  # a trailer, or too many: refused at the end of the head
        name = name.lower()
        known = self._headers.get(name)
        self._headers[name] = value if known is None else known + b", " + value

    def on_headers_complete(self) -> None:
        self._in_head = False
        if not self._reads:
            return
        headers = self._headers
        n_bytes = len(self._target) + sum(len(name) + len(headers[name]) for name in headers)
        if self._n_headers > self._limits.max_headers or n_bytes > self._limits.max_head_bytes:
            self._refuse_head()
            return
        self._request = Request(
            method=self._parser.get_method(), target=self._target, headers=headers
        )
        version = self._parser.get_http_version()
        if version == "1.1":
            if b"host" not in headers:
                self._refuse(400, "The request has no Host header.")
        elif version != "1.0":
            self._refuse(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
        length = headers.get(b"content-length")
        if length is None and b"transfer-encoding" not in headers:
            return
        self._begin_body(int(length or 0))

    def on_body(self, piece: bytes) -> None:
        if not self._reads:
            return
        self._n_body_bytes += len(piece)
        if self._n_body_bytes > self._limits.max_body_bytes:
            self._refuse_body()
        elif self._site.n_buffered_bytes + len(piece) > self._limits.max_buffered_bytes:
            self._refuse(
                503, "Too many large requests are under way.", headers=b"retry-after: 1\r\n"
            )
        else:
            self._n_buffered += len(piece)
            self._site.n_buffered_bytes += len(piece)
            self._body.append(piece)

    def on_message_complete(self) -> None:
        request, self._request = self._request, None
        if request is None or not self._reads:
            return
        body, self._body = self._body, []
        request.body = body[0] if len(body) == 1 else b"".join(body)
        request.keep_alive = self._parser.should_keep_alive() and not self._parser.should_upgrade()
        request.received_at = self._loop.time()
        self._reads = request.keep_alive
        self._owes_continue = False
        self._deadline = math.inf
        self._waiting.append(request)

    # --- requests ---

    def _begin_body(self, length: int) -> None:
        headers = self._headers
        if headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            self._refuse(501, "Only the transfer encoding 'chunked' is understood.")
        elif headers.get(b"expect", b"100-continue").lower() != b"100-continue":
            self._refuse(417, "Only the expectation '100-continue' is understood.")
        elif length > self._limits.max_body_bytes:
            self._refuse_body()
        else:
            self._owes_continue = b"expect" in headers
            self._body_since = self._loop.time()
            self._deadline = math.inf

    def _refuse(self, status: int, message: str, *, headers: bytes = b"") -> None:
        if self._reads:
            self._reads = False
            self._request = None
            self._deadline = math.inf
            self._waiting.append(error_response(status, message, headers=headers))
            self._advance()

    def _refuse_head(self) -> None:
        limits = self._limits
        self._refuse(
            431,
            f"The headers are larger than {limits.max_head_bytes} bytes"
            f" or more than {limits.max_headers}.",
        )

    def _refuse_body(self) -> None:
        self._refuse(
            413,
            f"The body is larger than {self._limits.max_body_bytes} bytes;"
            " send the rows in several requests.",
        )

    def _advance(self) -> None:
        """Answer what can be answered now, in order."""
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while self._waiting and self._active is None and not self._writing_paused:
                first = self._waiting.popleft()
                if isinstance(first, Response):
                    self._send(first, None)
                else:
                    self._begin(first)
        finally:
            self._is_advancing = False
        self._balance_reading()
        if self._owes_continue and self._active is None and self._reads and self._transport:
            self._owes_continue = False
            self._transport.write(_CONTINUE)

    def _begin(self, request: Request) -> None:
        try:
            outcome = self._site.answer(request)
        except Exception as error:
            outcome = self._site.failed(request, error)
        if isinstance(outcome, Response):
            self._send(outcome, request)
            return
        self._active = request
        self._site.submit(outcome, done=self._finish, is_wanted=self._is_connected)

    def _is_connected(self) -> bool:
        return self._transport is not None

    def _finish(self, outcome: Response | BaseException) -> None:
        request, self._active = self._active, None
        if request is None or self._transport is None:
            return
        if not isinstance(outcome, Response):
            outcome = self._site.failed(request, outcome)
        self._send(outcome, request)
        self._advance()

    # --- answers ---

    def _send(self, response: Response, request: Request | None) -> None:
        self._site.observe(request, response)
        if self._transport is None:
            return
        closes = request is None or not request.keep_alive or self._site.is_draining
        has_body = request is None or request.method != b"HEAD"
        self._transport.write(
            b"".join(
                (
                    _STATUS[response.status],
                    b"content-type: ",
                    response.content_type,
                    b"\r\ncontent-length: %d\r\n" % len(response.body),
                    _DATE.line,
                    _SAFETY,
                    response.headers,
                    b"connection: close\r\n\r\n" if closes else b"\r\n",
                    response.body if has_body else b"",
                )
            )
        )
        if request is not None:
            self._release_buffered(len(request.body))
        if closes:
            self._end(is_refusal=request is None)
        elif not self._waiting and self._request is None and not self._in_head:
            self._deadline = self._loop.time() + self._limits.idle_timeout_s

    def _end(self, *, is_refusal: bool) -> None:
        """Close after an answer; after a refusal, read on for a moment so that the client sees it."""
        self._reads = False
        self._waiting.clear()
        self._release_buffered(self._n_buffered)
        if self._transport is None:
            return
        if is_refusal and self._transport.can_write_eof() and not self._transport.is_closing():
            self._is_lingering = True
            self._deadline = self._loop.time() + self._limits.linger_s
            self._transport.write_eof()
            self._balance_reading()
        else:
            self._transport.close()

    def _release_buffered(self, n_bytes: int) -> None:
        self._n_buffered -= n_bytes
        self._site.n_buffered_bytes -= n_bytes

    def _balance_reading(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        is_full = self._writing_paused or len(self._waiting) >= self._limits.max_pipelined
        should_pause = is_full and not self._is_lingering
        if should_pause != self._reading_paused:
            self._reading_paused = should_pause
            if should_pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # --- time ---

    def is_idle(self) -> bool:
        """Return whether no request is being read, answered or waiting."""
        return self._active is None and not self._waiting and not (self._in_head or self._request)

    def close_if_idle(self) -> None:
        """Close the connection unless a request is under way."""
        if self.is_idle() and self._transport is not None:
            self._transport.close()

    def check_time(self, now: float) -> None:
        """End the connection if the client has used up its time."""
        if self._transport is None:
            return
        if now > self._write_deadline:
            self._transport.abort()
        elif self._is_lingering or self.is_idle():
            if now > self._deadline:
                self._transport.abort() if self._is_lingering else self._transport.close()
        elif self._in_head:
            if now > self._deadline:
                self._refuse(408, f"The headers took over {self._limits.head_timeout_s:g} seconds.")
        elif self._request is not None and self._reads and not self._reading_paused:
            pace = self._n_body_bytes / self._limits.min_body_bytes_per_s
            if now > self._body_since + self._limits.body_timeout_s + pace:
                self._refuse(408, "The body came too slowly.")


def check_times(connections: Iterable[Connection], now: float) -> None:
    """End the connections whose clients have used up their time; call it about once a second."""
    _DATE.update()
    for connection in list(connections):
        connection.check_time(now)


class _Date:
    """The `date` header, made once a second instead of for every answer."""

    def __init__(self) -> None:
        self.line = b""

    def update(self) -> None:
        self.line = f"date: {formatdate(usegmt=True)}\r\n".encode()


_DATE = _Date()
