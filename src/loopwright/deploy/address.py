"""Addresses to listen on, and who may ask."""

from __future__ import annotations

import errno
import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Mapping

from loopwright.core.digest import digest_bytes
from loopwright.core.errors import InvalidInputError

LOOPBACK = "127.0.0.1"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def free_port(host: str = LOOPBACK) -> int:
    """Return a port that nothing listens on now."""
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def check_port(host: str, port: int) -> None:
    """Return if an endpoint could listen there now.

    Raises
    ------
    InvalidInputError
        If the port is taken or reserved, or the address is not this machine's.
    """
    bound_socket(host, port).close()


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket that holds an address; it does not accept connections yet.

    Raises
    ------
    InvalidInputError
        If the port is taken or reserved, or the address is not this machine's.
    """
    return _listening(host, port)


def shared_socket(host: str, port: int) -> socket.socket:
    """Return a socket that shares an address with others of this user that were made the same way.

    Raises
    ------
    InvalidInputError
        As `bound_socket`.
    """
    return _listening(host, port, is_shared=True)


def _listening(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    listener = socket.socket(_family(host))
    try:
        if is_shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # takes over from a process that has just ended, not from one that still listens
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        # of several sockets that are bound alike, only the first may listen
        listener.listen(1024)
    except OSError as error:
        listener.close()
        reason = _REASONS.get(error.errno or 0, str(error))
        raise InvalidInputError(
            f"Nothing can listen on {host} port {port}: {reason}.",
            hint="Give another number as deploy.port, or leave it out to have a free one chosen.",
            field="deploy.port",
            value=port,
        ) from error
    return listener


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


_REASONS: Mapping[int, str] = {
    errno.EADDRINUSE: "another program listens there",
    errno.EACCES: "the system keeps ports below 1024 for itself",
    errno.EADDRNOTAVAIL: "the address is not one of this machine's",
}


def token_digest(token: str) -> str:
    """Return what `DesiredState.token_digest` holds for a bearer token."""
    return digest_bytes(token.encode())


def is_token(header: bytes | None, digest: str) -> bool:
    """Return whether an `Authorization` header brings the token with this digest."""
    scheme, _, token = (header or b"").partition(b" ")
    given = "sha256:" + hashlib.sha256(token.strip()).hexdigest()
    return hmac.compare_digest(given, digest) and scheme.lower() == b"bearer"


def is_own_host(header: bytes | None, allowed: frozenset[str]) -> bool:
    """Return whether a `Host` header names this machine's loopback, or an allowed name.

    A page on the web can have its own name resolve to 127.0.0.1 (DNS rebinding) and then ask an
    endpoint that has no token as if it were its own server; the Host header gives it away.
    """
    if header is None:
        return True  # HTTP/1.0; browsers always send one
    name = header.decode("latin-1").lower()
    name = name.rpartition("]")[0].lstrip("[") if name.startswith("[") else name.partition(":")[0]
    return is_loopback(name) or name in allowed
