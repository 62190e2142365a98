"""Connections of the event loop to the processes of endpoints, each with one question at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from loopwright.core.lazy import LazyModule
from loopwright.deploy.address import LOOPBACK
from loopwright.sagemaker.model_call import TIMEOUT_S, Question

httptools: Any = LazyModule("httptools")

_MOST_LINES = 64
_LARGEST_ANSWER = 64 << 20

Got: TypeAlias = Callable[[tuple[int, bytes, Mapping[str, str]] | Exception], None]


@dataclass(slots=True)
class _Asked:
    """A question that waits for its answer; `is_second` after a connection that was closed while idle."""

    question: Question
    got: Got
    until: float
    is_second: bool = False


@dataclass(slots=True)
class _Place:
    """The connections to one port, and the questions for which there is none yet."""

    idle: list[Line] = field(default_factory=list)
    busy: set[Line] = field(default_factory=set)
    waiting: deque[_Asked] = field(default_factory=deque)
    n_opening: int = 0


class Lines:
    """Asks processes on this machine; for one event loop."""

    def __init__(self) -> None:
        self._places: dict[int, _Place] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, question: Question, got: Got) -> None:
        """Ask; `got` is called once, with status, body and headers, or with what failed."""
        until = asyncio.get_running_loop().time() + TIMEOUT_S
        self._begin(_Asked(question, got, until))

    def _begin(self, asked: _Asked) -> None:
        port = asked.question.port
        place = self._places.setdefault(port, _Place())
        if place.idle and not asked.is_second:
            line = place.idle.pop()
            place.busy.add(line)
            line.send(asked)
            return
        place.waiting.append(asked)
        if place.n_opening + len(place.busy) + len(place.idle) < _MOST_LINES:
            place.n_opening += 1
            task = asyncio.get_running_loop().create_task(self._open(port, place))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self, port: int, place: _Place) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, line = await loop.create_connection(lambda: Line(self, place), LOOPBACK, port)
        except OSError as error:
            place.n_opening -= 1
            # those who wait have no other line to wait for
            while place.waiting and not place.busy:
                place.waiting.popleft().got(error)
            return
        place.n_opening -= 1
        place.busy.add(line)
        self.free(line, place)

    def free(self, line: Line, place: _Place) -> None:
        """Give a line the next question, or let it rest."""
        if place.waiting:
            line.send(place.waiting.popleft())
            return
        place.busy.discard(line)
        if line.is_open:
            place.idle.append(line)

    def lost(self, line: Line, place: _Place, asked: _Asked | None, error: Exception) -> None:
        """Forget a line that was closed; what was asked on it is asked once more if it was idle before."""
        place.busy.discard(line)
        if line in place.idle:
            place.idle.remove(line)
        if asked is not None and line.n_answers and not asked.is_second:
            asked.is_second = True
            self._begin(asked)
        elif asked is not None:
            asked.got(error)
        if place.waiting and not place.n_opening and not place.busy:
            self._begin(place.waiting.popleft())

    def check_time(self, now: float) -> None:
        """Give up on questions that are older than they may be, and forget ports without lines."""
        for port, place in list(self._places.items()):
            for line in [each for each in place.busy if each.is_late(now)]:
                line.abort(TimeoutError("timed out"))
            while place.waiting and place.waiting[0].until < now:
                place.waiting.popleft().got(TimeoutError("timed out"))
            if not (place.idle or place.busy or place.waiting or place.n_opening):
                del self._places[port]

    def close(self) -> None:
        """Close all of them."""
        for place in self._places.values():
            for line in [*place.idle, *place.busy]:
                line.abort(ConnectionError("the server ends"))


class Line(asyncio.Protocol):
    """One connection to a process."""

    def __init__(self, lines: Lines, place: _Place) -> None:
        self._lines, self._place = lines, place
        self._transport: asyncio.Transport | None = None
        self._asked: _Asked | None = None
        self._error: Exception = ConnectionResetError("the connection was closed")
        self.n_answers = 0
        self._parser = httptools.HttpResponseParser(self)
        self.on_message_begin()

    def on_message_begin(self) -> None:
        """Begin an answer; called by the parser."""
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._n_body = 0

    @property
    def is_open(self) -> bool:
        """Whether it can be asked."""
        return self._transport is not None and not self._transport.is_closing()

    def is_late(self, now: float) -> bool:
        """Tell whether an answer is due for longer than is waited."""
        return self._asked is not None and self._asked.until < now

    def send(self, asked: _Asked) -> None:
        """Ask."""
        self._asked = asked
        question = asked.question
        head = [f"POST /invocations HTTP/1.1\r\nhost: {LOOPBACK}:{question.port}\r\n"]
        head += [f"{name}: {value}\r\n" for name, value in question.headers.items()]
        head.append(f"content-length: {len(question.body)}\r\n\r\n")
        if self._transport is None:
            self._lost(self._error)
            return
        self._transport.write("".join(head).encode("latin-1", "replace") + question.body)

    def abort(self, error: Exception) -> None:
        """Close it at once; who has asked on it is told why."""
        self._error = error
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.got(error)
        if self._transport is not None:
            self._transport.abort()

    # what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take in some of an answer."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.abort(ConnectionError(f"the answer is no HTTP: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits."""
        self._transport = None
        self._lost(exc or self._error)

    def _lost(self, error: Exception) -> None:
        asked, self._asked = self._asked, None
        self._lines.lost(self, self._place, asked, error)

    # what the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take in a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Note the status."""
        self._status = self._parser.get_status_code()

    def on_body(self, piece: bytes) -> None:
        """Take in some of the body."""
        self._n_body += len(piece)
        if self._n_body > _LARGEST_ANSWER:
            self.abort(ConnectionError(f"the answer is larger than {_LARGEST_ANSWER} bytes"))
            return
        self._body.append(piece)

    def on_message_complete(self) -> None:
        """Tell who asked, and take the next question."""
        if self._status < 200:
            return  # a word in between
        found = self._status, b"".join(self._body), self._headers
        keeps = self._parser.should_keep_alive()
        asked, self._asked = self._asked, None
        if asked is None:
            # an answer to no question must not be taken for one to the next
            self.abort(ConnectionError("an answer came that nobody asked for"))
            return
        self.n_answers += 1
        if not keeps and self._transport is not None:
            self._transport.close()
        asked.got(found)
        if keeps and self._transport is not None:
            self._lines.free(self, self._place)
