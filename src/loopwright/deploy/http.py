"""HTTP/1.1 on one event loop: framing by llhttp, limits, time limits, answers in order."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

import httptools

from loopwright.deploy.dispatch import Steps
from loopwright.deploy.limits import Limits
from loopwright.deploy.message import Request, Response, error_response

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_RETRY_SOON = b"retry-after: 1\r\n"
# a connection that has been idle for so long makes room for another when all are taken, in seconds
_SILENT_S = 1.0


class Site(Protocol):
    """What a connection needs from the endpoint behind it."""

    limits: Limits
    is_draining: bool
    connections: set[Connection]
    n_buffered_bytes: int
    date_line: bytes

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


class Connection(asyncio.Protocol):
    """One client: reads requests, hands them to the site one at a time, answers in their order."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._limits = site.limits
        self._now = asyncio.get_running_loop().time
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        # whole requests, and at the end perhaps one refusal, that wait for their turn
        self._waiting: deque[Request | Response] = deque()
        self._active: Request | None = None
        # the request being read: its head, then its body
        self._in_head = False
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._n_headers = 0
        self._n_field_bytes = 0
        self._n_head_bytes = 0
        self._request: Request | None = None
        self._body: list[bytes] = []
        self._n_body_bytes = 0
        self._body_since = 0.0
        self._owes_continue = False
        # bytes of all bodies held for this client
        self._n_buffered = 0
        # False after a refusal, a `connection: close` or the client's own end
        self._reads = True
        self._is_lingering = False
        self._reading_paused = False
        self._writing_paused = False
        self._deadline = math.inf
        self._write_deadline = math.inf

    # --- called by the event loop ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet a client, or turn it away when too many are here."""
        self._transport = transport  # type: ignore[assignment] # a stream transport, by protocol
        self._deadline = self._now() + self._limits.idle_timeout_s
        connections = self._site.connections
        connections.add(self)
        if len(connections) > self._limits.max_connections and not self._find_room():
            self._refuse(503, "Too many connections are open.", headers=_RETRY_SOON)
            self._advance()
            transport.close()

    def _find_room(self) -> bool:
        """Close the connection that has been silent for longest, if it was for a while."""
        # those that have just come have yet to say what they want
        latest = self._now() + self._limits.idle_timeout_s - _SILENT_S
        silent = [each for each in self._site.connections if each.is_silent(until=latest)]
        if not silent:
            return False
        min(silent, key=lambda each: each._deadline).close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client; work that was only for it is dropped at its next turn."""
        self._transport = None
        self._reads = False
        self._waiting.clear()
        self._site.connections.discard(self)
        self._release(self._n_buffered)

    def data_received(self, data: bytes) -> None:
        """Read on; what was read whole is answered."""
        if not self._reads:
            return
        if self._in_head:
            # the parser keeps an unfinished header, so its size is watched from outside
            self._n_head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self._refuse(400, "This is not a valid HTTP/1.1 request.")
        if self._in_head and self._n_head_bytes > self._limits.max_head_bytes:
            self._refuse_head()
        self._advance()

    def eof_received(self) -> bool:
        """Stay open for the answers that a client still waits for after it has said all."""
        self._reads = False
        return not self._is_lingering and (self._active is not None or bool(self._waiting))

    def pause_writing(self) -> None:
        """Stop answering a client that does not read."""
        self._writing_paused = True
        pace = 0.0
        if self._transport is not None:
            pace = self._transport.get_write_buffer_size() / self._limits.min_bytes_per_s
        self._write_deadline = self._now() + self._limits.write_timeout_s + pace
        self._balance_reading()

    def resume_writing(self) -> None:
        """Go on answering."""
        self._writing_paused = False
        self._write_deadline = math.inf
        self._advance()

    # --- called by the parser ---

    def on_message_begin(self) -> None:
        """Start a new head."""
        self._target = b""
        self._headers = {}
        self._n_headers = self._n_field_bytes = self._n_head_bytes = self._n_body_bytes = 0
        self._in_head = True
        self._deadline = self._now() + self._limits.head_timeout_s

    def on_url(self, piece: bytes) -> None:
        """Take a piece of the target."""
        self._target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are left out, and too many are refused at the end of the head."""
        self._n_headers += 1
        self._n_field_bytes += len(name) + len(value)
        if self._in_head and self._n_headers <= self._limits.max_headers:
            name = name.lower()
            known = self._headers.get(name)
            self._headers[name] = value if known is None else known + b", " + value

    def on_headers_complete(self) -> None:
        """Decide whether the body is welcome."""
        self._in_head = False
        self._deadline = math.inf
        headers, limits = self._headers, self._limits
        if not self._reads:
            return
        n_bytes = len(self._target) + self._n_field_bytes
        if self._n_headers > limits.max_headers or n_bytes > limits.max_head_bytes:
            self._refuse_head()
            return
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._refuse(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
        elif version == "1.1" and b"host" not in headers:
            self._refuse(400, "The request has no Host header.")
        elif headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            self._refuse(501, "Only the transfer encoding 'chunked' is understood.")
        elif headers.get(b"expect", b"100-continue").lower() != b"100-continue":
            self._refuse(417, "Only the expectation '100-continue' is understood.")
        elif int(headers.get(b"content-length", 0)) > limits.max_body_bytes:
            self._refuse_body()
        else:
            self._request = Request(
                method=self._parser.get_method(), target=self._target, headers=headers
            )
            self._owes_continue = b"expect" in headers and version == "1.1"
            self._body_since = self._now()

    def on_body(self, piece: bytes) -> None:
        """Keep a piece of the body, if there is room for it."""
        if not self._reads:
            return
        self._n_body_bytes += len(piece)
        if self._n_body_bytes > self._limits.max_body_bytes:
            self._refuse_body()
        elif self._site.n_buffered_bytes + len(piece) > self._limits.max_buffered_bytes:
            self._refuse(503, "Too many large requests are under way.", headers=_RETRY_SOON)
        else:
            self._release(-len(piece))
            self._body.append(piece)

    def on_message_complete(self) -> None:
        """Queue the whole request."""
        if self._parser.should_upgrade() and self._parser.get_method() != b"CONNECT":
            return  # its body is still to come: see `_decline_upgrade`
        request, self._request = self._request, None
        if request is None or not self._reads:
            return
        body, self._body = self._body, []
        request.body = body[0] if len(body) == 1 else b"".join(body)
        request.received_at = self._now()
        self._reads = self._parser.should_keep_alive()
        self._owes_continue = False
        self._waiting.append(request)

    def _decline_upgrade(self, rest: bytes) -> None:
        """Read a request that offers to switch to HTTP/2, as some clients do, as one that does not.

        The parser takes what follows the headers for the other protocol; it is the body.
        """
        request, self._request = self._request, None
        if request is None:
            self._reads = False  # CONNECT, or refused
            self._advance()
            return
        kept = (
            b"%s: %s\r\n" % (name, value)
            for name, value in request.headers.items()
            if name not in (b"upgrade", b"connection")
        )
        line = b"%s %s HTTP/1.1\r\n" % (request.method, request.target)
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(b"".join((line, *kept, b"\r\n", rest)))

    # --- requests ---

    def _refuse(self, status: int, message: str, *, headers: bytes = b"") -> None:
        """Answer so after the requests that came before, and read no more."""
        if self._reads:
            self._reads = False
            self._request = None
            self._owes_continue = False
            self._body.clear()
            self._waiting.append(error_response(status, message, headers=headers))

    def _refuse_head(self) -> None:
        n_bytes, n_headers = self._limits.max_head_bytes, self._limits.max_headers
        self._refuse(431, f"Headers may have {n_bytes} bytes and be {n_headers} at most.")

    def _refuse_body(self) -> None:
        n_bytes = self._limits.max_body_bytes
        self._refuse(413, f"A body may have {n_bytes} bytes; send the rows in several requests.")

    def _advance(self) -> None:
        """Answer what can be answered now, in order."""
        while self._waiting and self._active is None and not self._writing_paused:
            first = self._waiting.popleft()
            if isinstance(first, Response):
                self._send(first, None)
            else:
                self._begin(first)
        self._balance_reading()
        if self._owes_continue and self._active is None and not self._waiting:
            self._owes_continue = False
            if self._transport is not None:
                self._transport.write(_CONTINUE)

    def _begin(self, request: Request) -> None:
        try:
            outcome = self._site.answer(request)
        except Exception as error:
            outcome = self._site.failed(request, error)
        if isinstance(outcome, Response):
            self._send(outcome, request)
        else:
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
        is_last = not self._waiting and (not self._reads or self._site.is_draining)
        has_body = request is None or request.method != b"HEAD"
        self._transport.write(
            response.to_bytes(closes=is_last, has_body=has_body, date_line=self._site.date_line)
        )
        if request is not None:
            self._release(len(request.body))
        if is_last:
            self._end(self._transport, is_refusal=request is None)
        elif not self._waiting and self._request is None and not self._in_head:
            self._deadline = self._now() + self._limits.idle_timeout_s

    def _end(self, transport: asyncio.Transport, *, is_refusal: bool) -> None:
        self._reads = False
        self._release(self._n_buffered)
        if is_refusal and not transport.is_closing():
            # closing with unread bytes resets the line, and the client would not see the answer
            self._is_lingering = True
            self._deadline = self._now() + self._limits.linger_s
            transport.write_eof()
        else:
            transport.close()

    def _release(self, n_bytes: int) -> None:
        self._n_buffered -= n_bytes
        self._site.n_buffered_bytes -= n_bytes

    def _balance_reading(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        is_full = self._writing_paused or len(self._waiting) >= self._limits.max_pipelined
        should_pause = is_full and not self._is_lingering
        if should_pause == self._reading_paused:
            return
        self._reading_paused = should_pause
        if should_pause:
            self._transport.pause_reading()
        else:
            # what the client could not send meanwhile does not count against its time
            self._body_since = self._now()
            if self._in_head:
                self._deadline = self._body_since + self._limits.head_timeout_s
            self._transport.resume_reading()

    # --- time ---

    def is_idle(self) -> bool:
        """Return whether no request is being read, answered or waiting."""
        return not (self._active or self._waiting or self._in_head or self._request)

    def is_silent(self, *, until: float) -> bool:
        """Return whether nothing is under way, and the time to be idle ends before a moment."""
        if self._deadline > until or self._is_lingering or not self.is_idle():
            return False
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Close the connection as it is, once what was written has been sent."""
        if self._transport is not None:
            self._transport.close()

    def check_time(self, now: float) -> None:
        """End the connection if the client has used up its time; call it about once a second."""
        if self._transport is None:
            return
        is_late = now > self._deadline
        if now > self._write_deadline or (self._is_lingering and is_late):
            self._transport.abort()
        elif self.is_idle():
            if is_late:
                self._transport.close()
        elif self._reading_paused or not self._reads:
            return
        elif self._in_head and is_late:
            self._refuse(408, f"The head took over {self._limits.head_timeout_s:g} seconds.")
            self._advance()
        elif self._request is not None:
            pace = self._n_body_bytes / self._limits.min_bytes_per_s
            if now > self._body_since + self._limits.body_timeout_s + pace:
                self._refuse(408, "The body came too slowly.")
                self._advance()
