"""An endpoint: what it should serve, what it does serve, and how the loop talks to its process."""

from __future__ import annotations

import errno
import hashlib
import hmac
import ipaddress
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from loopwright.core.digest import digest_bytes
from loopwright.core.errors import BackendError, InvalidInputError, WrongStateError
from loopwright.core.files import write_json_atomically
from loopwright.core.names import checked_name
from loopwright.deploy.capture import checked_share

LOOPBACK = "127.0.0.1"
_POLL_S = 0.02


class Rollout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How traffic moves to a new model version.

    Parameters
    ----------
    kind
        `all_at_once`: every request after the switch is answered by the new version.
    steps
        Shares of the traffic, for kinds that move it in steps.
    """

    kind: str = "all_at_once"
    steps: tuple[float, ...] = ()


class DeployPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `deploy` block of a loop file.

    Parameters
    ----------
    endpoint
        Name of the endpoint.
    host
        Address to listen on.
    port
        Port to listen on, 1 to 65535; a free one is chosen when it is absent.
    rollout
        How traffic moves to a new version.
    capture_share
        Share of the predictions that is kept for the monitor, 0 to 1.
    """

    endpoint: str
    host: str = LOOPBACK
    port: int | None = None
    rollout: Rollout = msgspec.field(default_factory=Rollout)
    capture_share: float = 1.0


def checked(plan: DeployPlan) -> DeployPlan:
    """Return the plan if this release can carry it out.

    Raises
    ------
    InvalidInputError
        If the name, the port, the capture share or the kind of rollout is not one we can serve.
    """
    checked_name(plan.endpoint, what="endpoint")
    checked_share(plan.capture_share)
    if plan.port is not None and not 1 <= plan.port <= 65535:
        raise InvalidInputError(
            f"deploy.port is {plan.port}, which is not a port.",
            hint="Give a number from 1 to 65535, or leave it out to have a free one chosen.",
            field="deploy.port",
            value=plan.port,
        )
    if not is_loopback(plan.host):
        raise InvalidInputError(
            f"deploy.host is {plan.host!r}, which other machines can reach, and no token protects it.",
            hint=f"Use {LOOPBACK}, and a proxy that checks who is asking.",
            field="deploy.host",
            value=plan.host,
        )
    if plan.rollout.kind != "all_at_once" or plan.rollout.steps:
        steps = f" with steps {list(plan.rollout.steps)}" if plan.rollout.steps else ""
        raise InvalidInputError(
            f"deploy.rollout is {plan.rollout.kind!r}{steps}, which this release cannot do.",
            hint="Use {kind: all_at_once}: the new version takes over in one step, between requests.",
            field="deploy.rollout.kind",
            value=plan.rollout.kind,
            expected=["all_at_once"],
        )
    return plan


class CaptureSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where predictions are kept, and which share of them (0 to 1)."""

    folder: str
    share: float = 1.0


class DesiredState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an endpoint should serve: the content of `desired.json`.

    Parameters
    ----------
    name
        Name of the endpoint.
    bundle
        Absolute path of the `model.tar.gz`.
    version
        Version of the model in it; a bundle that says otherwise is not served.
    generation
        Counts the changes; `ActualState.generation` follows when one has been carried out.
    host, port
        Address to listen on; port 0 has one chosen at every start.
    capture
        None captures nothing.
    labels_folder
        Where ground truth is kept; by default `labels` beside this file.
    max_body_bytes
        Largest request body.
    token_digest
        `sha256:<hex>` of the bearer token that every request must bring; see `token_digest`. Needed
        to listen on an address that other machines can reach.
    allowed_hosts
        Names, beside the loopback ones, under which an endpoint without a token may be addressed.
    """

    name: str
    bundle: str
    version: int | str
    generation: int
    host: str = LOOPBACK
    port: int = 0
    capture: CaptureSettings | None = None
    labels_folder: str | None = None
    max_body_bytes: int = 16 << 20
    token_digest: str | None = None
    allowed_hosts: tuple[str, ...] = ()


class ActualState(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint's process says of itself: the content of `actual.json`.

    Parameters
    ----------
    pid, host, port
        The process and where it listens.
    version, generation
        What it serves; None until it is ready.
    ready_at
        When it began to serve this generation: ISO 8601, UTC.
    error
        Why the last change could not be carried out; the version above is still served.
    error_generation
        The generation that the error is about, where it could be read.
    """

    pid: int
    host: str
    port: int | None = None
    version: int | str | None = None
    generation: int | None = None
    ready_at: str | None = None
    error: str | None = None
    error_generation: int | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The name of an endpoint and the folder that its process works in."""

    name: str
    folder: Path

    @property
    def desired_path(self) -> Path:
        """What it should serve."""
        return self.folder / "desired.json"

    @property
    def actual_path(self) -> Path:
        """What it says of itself."""
        return self.folder / "actual.json"

    @property
    def capture_folder(self) -> Path:
        """Where its predictions are kept, unless `DesiredState.capture` says otherwise."""
        return self.folder / "capture"

    @property
    def labels_folder(self) -> Path:
        """Where its ground truth is kept, unless `DesiredState.labels_folder` says otherwise."""
        return self.folder / "labels"

    @property
    def command(self) -> tuple[str, ...]:
        """The command that serves it."""
        return (sys.executable, "-m", "loopwright.deploy.server", str(self.folder))


def write_desired(folder: Path, desired: DesiredState) -> None:
    """Ask the endpoint of a folder to serve something else; writing the same twice changes nothing.

    Raises
    ------
    WrongStateError
        If a later generation, or another state of the same generation, has been asked for.
    """
    path = Endpoint(desired.name, folder).desired_path
    known = read_desired(folder) if path.exists() else None
    if known == desired:
        return
    if known is not None and known.generation >= desired.generation:
        raise WrongStateError(
            f"Endpoint {desired.name!r} has been asked for generation {known.generation};"
            f" generation {desired.generation} comes too late.",
            hint=f"Read what is desired now and write generation {known.generation + 1}.",
            name=desired.name,
            generation=known.generation,
        )
    write_json_atomically(path, msgspec.to_builtins(desired))


def read_desired(folder: Path) -> DesiredState:
    """Return what the endpoint of a folder should serve.

    Raises
    ------
    InvalidInputError
        If `desired.json` is missing, has a wrong key or a value of a wrong kind.
    """
    path = folder / "desired.json"
    try:
        desired = msgspec.json.decode(path.read_bytes(), type=DesiredState)
    except FileNotFoundError as error:
        raise InvalidInputError(
            f"{folder} has no desired.json.",
            hint="Write it with loopwright.deploy.write_desired.",
            field="folder",
            value=str(folder),
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"{path} cannot be used: {error}.",
            hint="Write it with loopwright.deploy.write_desired.",
            field="desired.json",
        ) from error
    checked_name(desired.name, what="endpoint")
    if not is_loopback(desired.host) and desired.token_digest is None:
        raise InvalidInputError(
            f"Endpoint {desired.name!r} would listen on {desired.host}, which other machines can"
            " reach, without a token.",
            hint=f"Listen on {LOOPBACK}, or give token_digest.",
            field="host",
            value=desired.host,
        )
    return desired


def read_actual(folder: Path) -> ActualState | None:
    """Return what the endpoint of a folder last said of itself; None if it never started."""
    try:
        return msgspec.json.decode((folder / "actual.json").read_bytes(), type=ActualState)
    except FileNotFoundError:
        return None


def wait_until_serving(
    folder: Path,
    *,
    generation: int,
    timeout_s: float,
    is_alive: Callable[[], bool],
) -> ActualState:
    """Return the endpoint's state once it serves a generation and accepts connections.

    Parameters
    ----------
    generation
        What was written into `desired.json`.
    timeout_s
        How long to wait, in seconds.
    is_alive
        Tells whether the endpoint's process, or the job that starts it, is still there.

    Raises
    ------
    BackendError
        If the endpoint says that it cannot serve this generation, its process ends, or the time is
        over. An older version that was being served still is.
    """
    end = time.monotonic() + timeout_s
    while True:
        was_alive = is_alive()
        actual = read_actual(folder)
        if actual is not None:
            _raise_own_error(actual, generation)
            if was_alive and actual.generation == generation and _accepts(actual):
                return actual
        if not was_alive or time.monotonic() > end:
            what = f"did not answer within {timeout_s:g} seconds" if was_alive else "ended"
            raise BackendError(
                f"The endpoint's process {what} before it served generation {generation}.",
                hint="Its log says why.",
                retryable=was_alive,
                folder=str(folder),
            )
        time.sleep(_POLL_S)


def _raise_own_error(actual: ActualState, generation: int) -> None:
    if actual.error is not None and actual.error_generation in (generation, None):
        serves = (
            f"It still serves version {actual.version}."
            if actual.version is not None
            else "It serves nothing."
        )
        raise BackendError(actual.error, hint=serves, version=actual.version)


def _accepts(actual: ActualState) -> bool:
    """Return whether the process that wrote the state is there and listens; an old file may lie."""
    try:
        os.kill(actual.pid, 0)
        with socket.create_connection((actual.host, actual.port or 0), timeout=1.0):
            return True
    except OSError:
        return False


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
    listener = socket.socket(_family(host))
    try:
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


def token_digest(token: str) -> str:
    """Return what `DesiredState.token_digest` holds for a bearer token."""
    return digest_bytes(token.encode())


def is_token(header: bytes | None, digest: str) -> bool:
    """Return whether an `Authorization` header brings the token with this digest."""
    scheme, _, token = (header or b"").partition(b" ")
    given = "sha256:" + hashlib.sha256(token.strip()).hexdigest()
    return hmac.compare_digest(given, digest) and scheme.lower() == b"bearer"


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


_REASONS: Mapping[int, str] = {
    errno.EADDRINUSE: "another program listens there",
    errno.EACCES: "the system keeps ports below 1024 for itself",
    errno.EADDRNOTAVAIL: "the address is not one of this machine's",
}


def to_json(state: DesiredState | ActualState) -> dict[str, Any]:
    """Return a state as JSON types."""
    value: dict[str, Any] = msgspec.to_builtins(state)
    return value
