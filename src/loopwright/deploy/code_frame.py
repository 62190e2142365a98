"""Messages between an endpoint and the process of a user's own code, over a private socket.

A message is a head of JSON and a body of plain bytes, each with its length before it; nothing is
ever unpickled. Standard library only: the user's interpreter loads this file, too.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any

# in the folder of a process: how it ended
EXIT_FILE = "exit.json"
_LENGTHS = struct.Struct("!4sIQ")
_MARK = b"lwc1"
_MOST_HEAD_BYTES = 1 << 20
_PIECE_BYTES = 1 << 20


class FrameError(Exception):
    """What came over the line is no message, or one that is too large."""


def send_message(
    line: socket.socket, head: dict[str, Any], body: bytes = b"", *, until: float | None = None
) -> None:
    """Send a message; `until` is a time of `time.monotonic`.

    Raises
    ------
    TimeoutError
        If the other side does not take it in time.
    OSError
        If the other side has gone.
    """
    text = json.dumps(head).encode()
    line.settimeout(_left(until))
    line.sendall(_LENGTHS.pack(_MARK, len(text), len(body)) + text)
    if body:
        line.settimeout(_left(until))
        line.sendall(body)


def receive_message(
    line: socket.socket, *, most_bytes: int, until: float | None = None
) -> tuple[dict[str, Any], bytes] | None:
    """Return the next message; None when the other side has gone.

    Raises
    ------
    FrameError
        If it is no message, ends in the middle, or its body has more than `most_bytes`.
    TimeoutError
        If it is not there in time.
    """
    lengths = _exactly(line, _LENGTHS.size, until)
    if not lengths:
        return None
    if len(lengths) < _LENGTHS.size:
        raise FrameError("it ends in the middle of a message")
    mark, n_head, n_body = _LENGTHS.unpack(lengths)
    if mark != _MARK or n_head > _MOST_HEAD_BYTES:
        raise FrameError("it is no message")
    if n_body > most_bytes:
        raise FrameError(f"it has {n_body:,} bytes; at most {most_bytes:,} are taken")
    text = _exactly(line, n_head, until)
    body = _exactly(line, n_body, until)
    if len(text) < n_head or len(body) < n_body:
        raise FrameError("it ends in the middle of a message")
    try:
        head = json.loads(text)
    except ValueError as error:
        raise FrameError("its head is not JSON") from error
    if not isinstance(head, dict):
        raise FrameError("its head is no object")
    return head, body


def _exactly(line: socket.socket, n_bytes: int, until: float | None) -> bytes:
    """Return so many bytes, fewer only if the other side has gone."""
    pieces: list[bytes] = []
    while n_bytes:
        line.settimeout(_left(until))
        try:
            piece = line.recv(min(n_bytes, _PIECE_BYTES))
        except ConnectionError:
            break
        if not piece:
            break
        pieces.append(piece)
        n_bytes -= len(piece)
    return b"".join(pieces)


def _left(until: float | None) -> float | None:
    if until is None:
        return None
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time is over")
    return left
