"""Load for the serving benchmark: as fast as answers come (wrk), or at a fixed rate."""

from __future__ import annotations

import re
import select
import socket
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import httptools

# longer than this a request at a fixed rate is not waited for
_PATIENCE_S = 5.0
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


class RefusedError(Exception):
    """The server answered something else than 200."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What came of some seconds of load: requests a second, and milliseconds until the answer.

    `lag_ms` is how late the 99th of a hundred requests was sent, at a fixed rate: what of the
    milliseconds may be the load maker's own.
    """

    n_requests: int
    rate: float
    p50_ms: float
    p99_ms: float
    lag_ms: float | None = None


def closed_loop(port: int, body: bytes, *, connections: int, seconds: float) -> Load:
    """Ask as fast as answers come, over connections that stay open.

    Raises
    ------
    RefusedError
        If an answer was not 200.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            f'wrk.method = "POST"\nwrk.body = [==[{body.decode()}]==]\n'
            'wrk.headers["Content-Type"] = "application/json"\n'
        )
        script.flush()
        options = ["-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout=30s", "--latency"]
        said = subprocess.run(
            ["wrk", *options, "-s", script.name, f"http://127.0.0.1:{port}/invocations"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    if "Non-2xx" in said:
        raise RefusedError(said)
    return Load(
        n_requests=int(re.findall(r"(\d+) requests in", said)[0]),
        rate=float(re.findall(r"Requests/sec:\s+([\d.]+)", said)[0]),
        p50_ms=_milliseconds(said, "50%"),
        p99_ms=_milliseconds(said, "99%"),
    )


def _milliseconds(said: str, share: str) -> float:
    number, unit = re.findall(rf"{share}\s+([\d.]+)([a-z]+)", said)[0]
    return float(number) * _UNITS[unit]


@dataclass(slots=True)
class _Line:
    """A connection: when the request on it was due, and what of its answer has come."""

    socket: socket.socket
    due: float = 0.0
    is_done: bool = False
    parser: httptools.HttpResponseParser = field(init=False)

    def __post_init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self.is_done = True


def fixed_rate(port: int, body: bytes, *, connections: int, rate: float, seconds: float) -> Load:
    """Ask at even intervals, whether answers come or not.

    Milliseconds count from when a request was due, so that one that waits for a free connection
    because others are answered slowly is not left out ("coordinated omission").

    Raises
    ------
    RefusedError
        If an answer was not 200.
    """
    head = (
        "POST /invocations HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    lines = [_Line(socket.create_connection(("127.0.0.1", port))) for _ in range(connections)]
    try:
        for line in lines:
            line.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        paced = _paced(lines, head.encode() + body, rate, int(rate * seconds))
    finally:
        for line in lines:
            line.socket.close()
    return Load(
        n_requests=paced.n_answered,
        rate=paced.n_answered / paced.ended_s,
        p50_ms=1e3 * _quantile(paced.took_s, 0.5),
        p99_ms=1e3 * _quantile(paced.took_s, 0.99),
        lag_ms=1e3 * _quantile(paced.late_s, 0.99),
    )


class _Paced(NamedTuple):
    """How long answers took, how late requests left, how many answers came, and the last one when."""

    took_s: list[float]
    late_s: list[float]
    n_answered: int
    ended_s: float


def _paced(lines: Sequence[_Line], message: bytes, rate: float, n_requests: int) -> _Paced:
    by_number = {line.socket.fileno(): line for line in lines}
    free = deque(lines)
    asked: set[int] = set()
    took: list[float] = []
    late: list[float] = []
    began_at = last_at = time.perf_counter()
    n_sent = n_answered = 0
    while len(took) < n_requests:
        now = time.perf_counter()
        due = began_at + n_sent / rate
        if n_sent < n_requests and now >= due and free:
            line = free.popleft()
            line.due = due
            line.socket.sendall(message)
            late.append(now - due)
            asked.add(line.socket.fileno())
            n_sent += 1
            continue
        waits_s = max(0.0, due - now) if n_sent < n_requests and free else 0.5
        # unlike the other ways to wait, this one takes microseconds
        for number in select.select(asked, (), (), waits_s)[0]:
            line = by_number[number]
            if _is_answered(line):
                last_at = time.perf_counter()
                took.append(last_at - line.due)
                n_answered += 1
                asked.discard(number)
                free.append(line)
        if now > began_at + n_requests / rate + _PATIENCE_S:
            # what is still unanswered counts with the time it has waited
            took += [now - by_number[number].due for number in asked]
            took += [now - began_at - at / rate for at in range(n_sent, n_requests)]
            break
    return _Paced(took, late, n_answered, max(last_at - began_at, n_requests / rate))


def _is_answered(line: _Line) -> bool:
    data = line.socket.recv(1 << 16)
    if not data:
        raise RefusedError("the server closed a connection")
    line.parser.feed_data(data)
    if not line.is_done:
        return False
    if line.parser.get_status_code() != 200:
        raise RefusedError(data[:200].decode("latin-1"))
    line.is_done = False
    line.parser = httptools.HttpResponseParser(line)
    return True


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
