"""The HTTP front: requests are taken from connections, bodies stream, answers go back in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

from loopwright.core.lazy import LazyModule
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.message import (
    Answer,
    FilePart,
    HeldBody,
    Request,
    StreamedBody,
    StreamPart,
)
from loopwright.sagemaker.slow_answer import PATIENCE_S, SPACE, beginning, may_be_slow, rest

httptools: Any = LazyModule("httptools")

_log = logging.getLogger(__name__)
_HELD = 1 << 20
_LARGEST_HEAD = 64 << 10
_MOST_CONNECTIONS = 512
_IDLE_S = 120.0
_DRAIN_S = 2.0
_HEAD_S = 20.0

Handler = Callable[[Request], Answer]
# answers a request on the event loop, then or later, unless it returns False
Shortcut = Callable[[Request, Callable[[Answer], None]], bool]


class Front:
    """All connections of a server.

    Parameters
    ----------
    handler
        Answers a request; called in a thread of its own, since it may wait for disks and jobs. It
        raises nothing.
    n_threads
        How many requests are worked on at once.
    """

    def __init__(self, handler: Handler, *, n_threads: int = 32) -> None:
        self.handler = handler
        self.shortcut: Shortcut | None = None
        self.patience_s = PATIENCE_S
        self.threads = ThreadPoolExecutor(n_threads, thread_name_prefix="sagemaker")
        self.connections: set[Connection] = set()

    def connection(self) -> Connection:
        """Return the protocol of a new connection."""
        return Connection(self)

    def check_time(self) -> None:
        """Close connections on which nothing has happened for long; call it now and then."""
        now = asyncio.get_running_loop().time()
        for each in list(self.connections):
            each.check_time(now)

    def close(self) -> None:
        """Close all connections and let the threads end."""
        for each in list(self.connections):
            each.abort()
        self.threads.shutdown(wait=False, cancel_futures=True)


class Connection(asyncio.Protocol):
    """One connection: a request at a time; those that come early wait."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._seen_at = self._loop.time()
        self._waiting: list[Request] = []
        self._is_busy = False
        self._is_closing = False
        self._stream: StreamedBody | None = None
        self._ended = asyncio.Event()
        self._is_in_head = True
        self._has_seen_head = False
        self._n_head = 0
        self._head_began_at = self._seen_at
        self._reset()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, unless there are too many."""
        self._transport = cast(asyncio.Transport, transport)
        if len(self._front.connections) >= _MOST_CONNECTIONS:
            self._transport.abort()
            return
        self._front.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who reads the body that no more comes."""
        self._front.connections.discard(self)
        self._transport = None
        self._writable.set()
        if self._stream:
            self._stream.end(is_broken=True)

    def data_received(self, data: bytes) -> None:
        """Take in some bytes."""
        self._seen_at = self._loop.time()
        if self._is_closing:
            return
        if not self._n_head:
            self._head_began_at = self._seen_at
        self._has_seen_head = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(400, "This is no HTTP/1.1 request.")
            return
        # the parser tells of a header when it has ended, which it may never do
        is_within = self._is_in_head and not self._has_seen_head
        self._n_head = self._n_head + len(data) if is_within else 0
        if self._n_head > _LARGEST_HEAD:
            self._refuse(431, "The headers of this request are too large.")

    def pause_writing(self) -> None:
        """Wait with sending."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Go on with sending."""
        self._writable.set()

    # what the parser calls

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._reset()

    def on_url(self, piece: bytes) -> None:
        """Take in a part of the target."""
        self._target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take in a header; of one that stands twice, both values count."""
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self._headers[key] = f"{self._headers[key]},{text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        """Decide whether the body is held or streamed."""
        self._is_in_head = False
        self._has_seen_head = True
        if not self._parser.should_keep_alive():
            self._closes_after = True
        if "upgrade" in self._headers:
            self._closes_after = True
        length = self._headers.get("content-length", "0")
        is_long = not length.isdigit() or int(length) > _HELD
        if is_long or "chunked" in self._headers.get("transfer-encoding", "").lower():
            self._ended.clear()
            self._stream = StreamedBody(self._pause, self._resume)
            self._take(self._request(self._stream))
        if self._headers.get("expect", "").lower() == "100-continue" and self._transport:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, piece: bytes) -> None:
        """Take in some of the body."""
        if self._stream:
            self._stream.put(piece)
        else:
            self._body += piece

    def on_message_complete(self) -> None:
        """End the body."""
        self._is_in_head = True
        self._has_seen_head = True  # what came now was not all of the next one's
        if self._stream:
            self._stream.end()
            self._stream = None
            self._ended.set()
        else:
            self._take(self._request(HeldBody(bytes(self._body))))

    # the rest

    def check_time(self, now: float) -> None:
        """Close the connection if nothing has happened for long."""
        is_slow = self._n_head and now - self._head_began_at > _HEAD_S
        if not self._is_busy and (is_slow or now - self._seen_at > _IDLE_S):
            self.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport:
            self._transport.abort()

    def _reset(self) -> None:
        self._target, self._body = b"", bytearray()
        self._headers: dict[str, str] = {}
        self._stream = None
        self._closes_after = False

    def _request(self, body: StreamedBody | HeldBody) -> Request:
        return Request(
            method=self._parser.get_method().decode("latin-1"),
            target=self._target.decode("latin-1"),
            headers=self._headers,
            body=body,
        )

    def _take(self, request: Request) -> None:
        if self._is_busy:
            if len(self._waiting) >= 16:
                self._refuse(400, "Too many requests at once on one connection.")
                return
            self._waiting.append(request)
            return
        self._is_busy = True
        shortcut, closes = self._front.shortcut, self._closes_after
        if shortcut is not None and shortcut(request, lambda answer: self._told(answer, closes)):
            return
        task = self._loop.create_task(self._answer(request, closes=closes))
        task.add_done_callback(_ended)

    async def _answer(self, request: Request, *, closes: bool) -> None:
        work = self._loop.run_in_executor(self._front.threads, self._front.handler, request)
        has_begun = may_be_slow(request) and await self._waited_with(work)
        answer = await work
        unread = self._stream if request.body is self._stream else None
        closes = closes or has_begun or unread is not None
        if has_begun:
            self._write(rest(answer))
        else:
            is_head = request.method == "HEAD"
            await self._send(answer, is_head=is_head, closes=closes or answer.closes)
        if unread is not None:
            await self._drain(unread)
        self._go_on(closes=closes or answer.closes)

    async def _waited_with(self, work: asyncio.Future[Answer]) -> bool:
        """Keep the client waiting until the answer is there; return whether it has begun."""
        has_begun = False
        while not (await asyncio.wait({work}, timeout=self._front.patience_s))[0]:
            self._write(SPACE if has_begun else beginning())
            has_begun = True
        return has_begun

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
            self._seen_at = self._loop.time()

    def _told(self, answer: Answer, closes: bool) -> None:
        """Send an answer that was made on the event loop, of which all bytes are in memory."""
        if self._transport is not None and isinstance(answer.body, bytes):
            self._transport.write(replace(answer, closes=closes).head() + answer.body)
        self._go_on(closes=closes)

    def _go_on(self, *, closes: bool) -> None:
        self._is_busy = False
        self._seen_at = self._loop.time()
        if closes:
            self._close()
        elif self._waiting:
            self._take(self._waiting.pop(0))

    async def _send(self, answer: Answer, *, is_head: bool, closes: bool) -> None:
        body = answer.body
        try:
            if self._transport is None:
                return
            if closes and not answer.closes:
                answer = Answer(
                    status=answer.status,
                    headers=answer.headers,
                    body=body,
                    length=answer.length,
                    closes=True,
                )
            head = answer.head()
            if isinstance(body, bytes) and not is_head:
                self._transport.write(head + body)
            else:
                self._transport.write(head)
            if isinstance(body, FilePart) and not is_head:
                await self._send_file(body)
            elif isinstance(body, StreamPart) and not is_head:
                await self._send_stream(body)
        finally:
            if not isinstance(body, bytes):
                body.close()

    async def _send_file(self, part: FilePart) -> None:
        for piece in part.pieces():
            await self._writable.wait()
            if self._transport is None:
                return
            self._transport.write(piece)
            self._seen_at = self._loop.time()
            await asyncio.sleep(0)

    async def _send_stream(self, part: StreamPart) -> None:
        """Send what comes from elsewhere; the connection is cut if that does not come whole."""
        try:
            while piece := await self._loop.run_in_executor(self._front.threads, part.next_piece):
                await self._writable.wait()
                if self._transport is None:
                    return
                if part.n_bytes is None:
                    piece = b"%x\r\n%b\r\n" % (len(piece), piece)
                self._transport.write(piece)
                self._seen_at = self._loop.time()
        except Exception as error:
            _log.warning("An answer could not be sent whole: %s", error)
            self.abort()
            return
        if part.n_bytes is None and self._transport is not None:
            self._transport.write(b"0\r\n\r\n")

    async def _drain(self, unread: StreamedBody) -> None:
        """Take in what a client still sends, for a moment, so that it gets to read the answer."""
        unread.discard()
        self._resume_now()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), timeout=_DRAIN_S)

    def _pause(self) -> None:
        if self._transport:
            self._transport.pause_reading()

    def _resume(self) -> None:
        self._loop.call_soon_threadsafe(self._resume_now)

    def _resume_now(self) -> None:
        if self._transport and not self._is_closing:
            self._transport.resume_reading()

    def _refuse(self, status: int, message: str) -> None:
        if self._transport and not self._is_busy:
            answer = Answer(status=status, body=message.encode(), closes=True)
            self._transport.write(answer.head() + message.encode())
        if self._stream:
            self._stream.end(is_broken=True)
        self._close()

    def _close(self) -> None:
        self._is_closing = True
        if self._transport:
            self._transport.close()


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        _log.error("A connection failed.", exc_info=error)


def guarded(handler: Handler) -> Handler:
    """Return a handler that raises nothing, whatever happens."""

    def answer(request: Request) -> Answer:
        try:
            return handler(request)
        except ApiError as error:
            return Answer(status=error.status, body=error.message.encode())
        except Exception:
            _log.exception("%s %s failed.", request.method, request.raw_path)
            return Answer(status=500, body=b"The server failed on this request; its log says why.")

    return answer
