"""What one client of an endpoint, and all together, may take."""

from __future__ import annotations

import msgspec


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
        Open connections. One more takes the place of the one that has been idle for longest; where none
        has been for a second it is answered 503 and closed.
    max_pipelined
        Requests of one connection read ahead of their answers.
    head_timeout_s
        Time from the first byte of a request to the end of its headers.
    body_timeout_s, min_bytes_per_s
        Time for a body: so many seconds, and more while it comes at least at this pace.
    idle_timeout_s
        How long a connection stays open between requests.
    write_timeout_s
        How long a client may leave its answers unread, and longer at the same pace.
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
    min_bytes_per_s: int = 16 << 10
    idle_timeout_s: float = 75.0
    write_timeout_s: float = 30.0
    linger_s: float = 2.0
