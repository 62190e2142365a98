"""Where the workers of one training job find each other: who is there, at which address."""

from __future__ import annotations

import hmac
import json
import socket
import time
from dataclasses import dataclass
from typing import Any

from loopwright.core.errors import BackendError

_LONGEST_MESSAGE = 4096
_PAUSE_S = 0.2
_READ_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """All workers, by rank: `HOST:PORT` that each has kept free for the library's own ring.

    `extra` is what rank 0 tells the others beside.
    """

    rank: int
    addresses: tuple[str, ...]
    extra: dict[str, str | int]


def free_port(host: str) -> int:
    """Return a port of an address that is free now."""
    with socket.socket() as listening:
        listening.bind((host, 0))
        return int(listening.getsockname()[1])


class Meeting:
    """The place that rank 0 keeps open until everyone has come.

    Whoever comes must know the secret of the job; anyone else is turned away and not counted.

    Parameters
    ----------
    host
        The address to listen on.
    secret
        Known to the workers of one job only.
    """

    def __init__(self, host: str, *, secret: str) -> None:
        self._secret = secret
        self._listening = socket.create_server((host, 0))
        self.address = f"{host}:{self._listening.getsockname()[1]}"

    def gather(self, own: str, *, n_workers: int, timeout_s: float) -> list[socket.socket]:
        """Wait for all others; return their connections by rank from 1, their addresses kept."""
        self._addresses = {0: own}
        found: dict[int, socket.socket] = {}
        deadline = time.monotonic() + timeout_s
        while len(found) < n_workers - 1:
            self._listening.settimeout(max(0.0, deadline - time.monotonic()))
            try:
                connection, _ = self._listening.accept()
            except TimeoutError as cause:
                raise BackendError(
                    f"Only {len(found) + 1} of {n_workers} workers came within {timeout_s:g} s.",
                    hint="There may be no room for all at once; ask for fewer workers.",
                    retryable=True,
                ) from cause
            said = _received(connection)
            if said is None or not hmac.compare_digest(str(said.get("secret")), self._secret):
                connection.close()
                continue
            rank = int(said["rank"])
            if 0 < rank < n_workers and rank not in found:
                found[rank] = connection
                self._addresses[rank] = str(said["address"])
            else:
                connection.close()
        self._listening.close()
        return [found[rank] for rank in sorted(found)]

    def tell(self, others: list[socket.socket], extra: dict[str, str | int]) -> Peers:
        """Tell all who is there; return the same."""
        addresses = [self._addresses[rank] for rank in sorted(self._addresses)]
        for connection in others:
            with connection:
                _send(connection, {"addresses": addresses, "extra": extra})
        return Peers(rank=0, addresses=tuple(addresses), extra=extra)


def join_meeting(address: str, own: str, *, rank: int, secret: str, timeout_s: float) -> Peers:
    """Come to a meeting, as any rank but 0, and return who is there once all have come."""
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            connection = socket.create_connection((host, int(port)), timeout=timeout_s)
            break
        except OSError as cause:
            if time.monotonic() > deadline:
                raise BackendError(
                    f"The first worker cannot be reached at {address}: {cause}.", retryable=True
                ) from cause
            time.sleep(_PAUSE_S)
    with connection:
        _send(connection, {"secret": secret, "rank": rank, "address": own})
        said = _received(connection, timeout_s=timeout_s)
    if said is None:
        raise BackendError("The first worker left before all had come.", retryable=True)
    return Peers(rank=rank, addresses=tuple(said["addresses"]), extra=said["extra"])


def _send(connection: socket.socket, value: dict[str, Any]) -> None:
    connection.sendall(json.dumps(value).encode() + b"\n")


def _received(connection: socket.socket, *, timeout_s: float = _READ_S) -> dict[str, Any] | None:
    """Return a message of one line, or None if none came or it was no message."""
    connection.settimeout(timeout_s)
    data = b""
    try:
        while not data.endswith(b"\n") and len(data) < _LONGEST_MESSAGE:
            piece = connection.recv(_LONGEST_MESSAGE)
            if not piece:
                return None
            data += piece
        value = json.loads(data)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
