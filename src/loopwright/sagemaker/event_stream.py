"""Event streams: the frames in which AWS sends an answer in parts."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

_PART = 64 << 10
_TEXT = 7


def payload_parts(body: bytes) -> bytes:
    """Return an answer as the frames of `PayloadPart` events."""
    pieces = [body[at : at + _PART] for at in range(0, len(body), _PART)] or [b""]
    headers = {
        ":message-type": "event",
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
    }
    return b"".join(frame(headers, piece) for piece in pieces)


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Return one frame: its lengths, its headers and its payload, each under a checksum (CRC-32)."""
    packed = b"".join(
        bytes([len(name)])
        + name.encode()
        + bytes([_TEXT])
        + struct.pack(">H", len(value.encode()))
        + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 12 + len(packed) + len(payload) + 4, len(packed))
    head = prelude + struct.pack(">I", zlib.crc32(prelude)) + packed + payload
    return head + struct.pack(">I", zlib.crc32(head))
