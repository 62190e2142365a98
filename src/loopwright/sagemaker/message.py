"""A request as it came over the wire, and the answer to it."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import unquote, unquote_plus

from loopwright.sagemaker.error import ApiError

_PIECE = 1 << 18
_HELD = 1 << 20
_PATIENCE_S = 60.0


class Body(Protocol):
    """The bytes of a request, which may be more than memory holds."""

    def read(self, limit: int) -> bytes:
        """Return all of it; `ApiError` if it is longer than `limit`."""
        ...

    def pieces(self) -> Iterator[bytes]:
        """Return it piece by piece, once."""
        ...


class HeldBody:
    """A body that is in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, limit: int) -> bytes:
        """Return all of it."""
        if len(self._data) > limit:
            raise _too_large(limit)
        return self._data

    def pieces(self) -> Iterator[bytes]:
        """Return it as one piece."""
        if self._data:
            yield self._data


class StreamedBody:
    """A body that arrives while it is read; little of it is held at any time.

    The connection calls `put` and `end`, another thread reads.

    Parameters
    ----------
    pause, resume
        Stop and go on with reading from the connection; called under no lock of the reader's.
    """

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pause, self._resume = pause, resume
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._n_bytes = 0
        self._has_ended = self._is_broken = self._is_paused = False
        self._is_unwanted = False

    def put(self, piece: bytes) -> None:
        """Take in a piece."""
        with self._changed:
            if self._is_unwanted:
                return
            self._waiting.append(piece)
            self._n_bytes += len(piece)
            full = self._n_bytes > _HELD and not self._is_paused
            self._is_paused = self._is_paused or full
            self._changed.notify()
        if full:
            self._pause()

    def discard(self) -> None:
        """Hold nothing from now on: nobody reads any more."""
        with self._changed:
            self._is_unwanted = True
            self._waiting.clear()
            self._n_bytes = 0

    def end(self, *, is_broken: bool = False) -> None:
        """Say that nothing more comes."""
        with self._changed:
            self._has_ended, self._is_broken = True, self._is_broken or is_broken
            self._changed.notify()

    def read(self, limit: int) -> bytes:
        """Return all of it; `ApiError` if it is longer than `limit`."""
        found = bytearray()
        for piece in self.pieces():
            found += piece
            if len(found) > limit:
                raise _too_large(limit)
        return bytes(found)

    def pieces(self) -> Iterator[bytes]:
        """Return it piece by piece, once; `ApiError` if it does not come to its end."""
        while True:
            with self._changed:
                while not self._waiting and not self._has_ended:
                    if not self._changed.wait(_PATIENCE_S):
                        raise ApiError(
                            "RequestTimeout",
                            "Your socket connection to the server was not read from or written to "
                            "within the timeout period. Idle connections will be closed.",
                        )
                piece = self._waiting.popleft() if self._waiting else b""
                self._n_bytes -= len(piece)
                wake = self._is_paused and self._n_bytes < _HELD // 2
                self._is_paused = self._is_paused and not wake
                if not piece and self._is_broken:
                    raise ApiError(
                        "IncompleteBody",
                        "You did not provide the number of bytes specified by the Content-Length "
                        "HTTP header",
                    )
                ended = not piece and self._has_ended
            if wake:
                self._resume()
            if ended:
                return
            yield piece


def _too_large(limit: int) -> ApiError:
    return ApiError("RequestEntityTooLarge", f"The body is larger than {limit} bytes.", status=413)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request: `target` is the path with its query as they came, header names are lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: Body

    @property
    def raw_path(self) -> str:
        """The path as it came."""
        return self.target.partition("?")[0]

    @property
    def path(self) -> str:
        """The path, decoded."""
        try:
            return unquote(self.raw_path, errors="strict")
        except UnicodeDecodeError as error:
            raise ApiError("InvalidURI", "Couldn't parse the specified URI.") from error

    @property
    def raw_query(self) -> str:
        """The query as it came."""
        return self.target.partition("?")[2]

    @property
    def query(self) -> dict[str, str]:
        """The query, decoded; of a name that stands twice, the last counts."""
        pairs = (each.partition("=") for each in self.raw_query.split("&") if each)
        return {unquote_plus(name): unquote_plus(value) for name, _, value in pairs}


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePart:
    """Some bytes of an open file, to be sent and closed."""

    descriptor: int
    start: int
    n_bytes: int

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)

    def pieces(self) -> Iterator[bytes]:
        """Return the bytes, piece by piece."""
        left, at = self.n_bytes, self.start
        while left:
            piece = os.pread(self.descriptor, min(left, _PIECE), at)
            if not piece:
                return
            left, at = left - len(piece), at + len(piece)
            yield piece


class StreamPart:
    """Bytes that come from elsewhere while they are sent.

    Parameters
    ----------
    pieces
        Yields them; may wait, and may raise when they do not come to their end.
    n_bytes
        How many they are; None where that is not known before.
    close
        Called when no more of them are wanted.
    """

    def __init__(
        self, pieces: Iterator[bytes], *, n_bytes: int | None, close: Callable[[], object]
    ) -> None:
        self._pieces = pieces
        self.n_bytes = n_bytes
        self.close = close

    def next_piece(self) -> bytes:
        """Return the next bytes; none at the end."""
        return next(self._pieces, b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer: of a HEAD, `length` says how long the body is that is not sent."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes | FilePart | StreamPart = b""
    length: int | None = None
    closes: bool = field(default=False)

    def head(self) -> bytes:
        """Return the status line and the headers."""
        length = self.length
        if length is None:
            length = len(self.body) if isinstance(self.body, bytes) else self.body.n_bytes
        lines = [f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Status')}"]
        lines += [f"{name}: {_one_line(value)}" for name, value in self.headers]
        if length is None:
            lines.append("transfer-encoding: chunked")
        elif self.status not in (204, 304):
            lines.append(f"content-length: {length}")
        lines.append("connection: close" if self.closes else "connection: keep-alive")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", errors="replace")


def _one_line(value: str) -> str:
    # a header that a client stored must not begin another one
    return value.replace("\r", " ").replace("\n", " ")


_REASONS = {
    200: "OK",
    202: "Accepted",
    204: "No Content",
    206: "Partial Content",
    304: "Not Modified",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    412: "Precondition Failed",
    413: "Request Entity Too Large",
    416: "Requested Range Not Satisfiable",
    424: "Failed Dependency",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}
