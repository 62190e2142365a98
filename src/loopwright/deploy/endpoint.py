"""An endpoint: what it should serve, what it does serve, and how the loop talks to its process."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from loopwright.core.errors import BackendError, InvalidInputError, WrongStateError
from loopwright.core.files import write_json_atomically
from loopwright.core.names import checked_name
from loopwright.deploy.address import LOOPBACK, is_loopback
from loopwright.deploy.code_settings import CodeSettings, checked_code
from loopwright.deploy.scale import Scale, checked_scale
from loopwright.deploy.variant import MAIN, Variant, checked_variants

_POLL_S = 0.02
# fields of `DesiredState` that a process of a release before them may pass over: it answers the same
_OPTIONAL: frozenset[str] = frozenset()


class CaptureSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Where predictions are kept, and which share of them (0 to 1)."""

    folder: str
    share: float = 1.0


class DesiredState(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What an endpoint should serve: the content of `desired.json`.

    What is as it is by default is not written, so that a process of an older release, which may not
    know a field, meets it only where it matters.

    Parameters
    ----------
    name
        Name of the endpoint.
    bundle
        Absolute path of the `model.tar.gz`; empty where there are variants.
    bundle_digest
        `sha256:<hex>` of that file; one with other bytes is not served. None takes it as it is.
    version
        Version that every answer of this model carries.
    code
        Has the bundle taken as a user's own code with its model; see `Variant`.
    variants
        Several models, with their parts of the requests, in place of the one above.
    workers
        How many processes answer, or bounds between which the load decides.
    generation
        Counts the changes; `ActualState.generation` follows when one has been carried out.
    unknown_columns
        What becomes of columns that a model does not read; None leaves it to the bundle.
    unseen_categories
        What becomes of categories that training never saw; None leaves it to the bundle.
    host, port
        Address to listen on; port 0 has one chosen at every start.
    capture
        None captures nothing.
    max_body_bytes
        Largest request body.
    token_digest
        `sha256:<hex>` of the bearer token that every request must bring; see `token_digest`. Needed
        to listen on an address that other machines can reach.
    allowed_hosts
        Names, beside the loopback ones, under which an endpoint without a token may be addressed.
    """

    name: str
    generation: int
    bundle: str = ""
    version: int | str = ""
    bundle_digest: str | None = None
    code: CodeSettings | None = None
    variants: tuple[Variant, ...] = ()
    workers: int | Scale = 1
    unknown_columns: Literal["ignore", "refuse"] | None = None
    unseen_categories: Literal["allow", "refuse"] | None = None
    host: str = LOOPBACK
    port: int = 0
    capture: CaptureSettings | None = None
    max_body_bytes: int = 16 << 20
    token_digest: str | None = None
    allowed_hosts: tuple[str, ...] = ()

    @property
    def all_variants(self) -> tuple[Variant, ...]:
        """The variants; the one model, called `main`, where there are none."""
        if self.variants:
            return self.variants
        only = Variant(
            name=MAIN,
            bundle=self.bundle,
            version=self.version,
            bundle_digest=self.bundle_digest,
            code=self.code,
        )
        return (only,)

    @property
    def primary(self) -> Variant:
        """The variant that answers most; the first of several that do."""
        live = [variant for variant in self.all_variants if not variant.shadow]
        return max(live, key=lambda variant: variant.weight)


class ActualState(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint's process says of itself: the content of `actual.json`.

    Parameters
    ----------
    pid, host, port
        The process and where it listens.
    version, generation
        What it serves, or what most requests are answered by; None until it is ready.
    variants
        The version of each variant, where there are several.
    workers
        The processes that answer, where there are several; `pid` then is the one that sees to them.
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
    variants: dict[str, int | str] = {}
    workers: list[int] = []


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
    def counts_folder(self) -> Path:
        """Where its processes keep what they have counted."""
        return self.folder / "counts"

    @property
    def labels_folder(self) -> Path:
        """Where its ground truth is kept."""
        return self.folder / "labels"

    @property
    def loop_gauges_path(self) -> Path:
        """How the loop behind it is, in the words of `/metrics`; its look writes it."""
        return self.folder / "loop.prom"

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
    body = msgspec.to_builtins(desired)
    if optional := sorted(_OPTIONAL & body.keys()):
        body["optional"] = optional
    write_json_atomically(path, body)


def read_desired(folder: Path) -> DesiredState:
    """Return what the endpoint of a folder should serve.

    A key that this release does not know is passed over if the file calls it `optional`.

    Raises
    ------
    InvalidInputError
        If `desired.json` is missing, has a wrong key or a value of a wrong kind.
    """
    path = folder / "desired.json"
    try:
        desired = msgspec.convert(_known_fields(path.read_bytes()), DesiredState)
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
            hint="Where loopwright was updated while the endpoint ran, the next run starts it anew; "
            f"`loopwright stop endpoint/{folder.name}` ends it before.",
            field="desired.json",
        ) from error
    checked_name(desired.name, what="endpoint")
    _check_models(desired, path)
    if not is_loopback(desired.host) and desired.token_digest is None:
        raise InvalidInputError(
            f"Endpoint {desired.name!r} would listen on {desired.host}, which other machines can"
            " reach, without a token.",
            hint=f"Listen on {LOOPBACK}, or give token_digest.",
            field="host",
            value=desired.host,
        )
    return desired


def _known_fields(data: bytes) -> dict[str, Any]:
    body = msgspec.json.decode(data, type=dict[str, Any])
    optional = set(msgspec.convert(body.pop("optional", ()), tuple[str, ...]))
    return {
        k: v for k, v in body.items() if k in DesiredState.__struct_fields__ or k not in optional
    }


def is_too_old(folder: Path) -> bool:
    """Return whether the endpoint's process cannot read what it is asked for, although this one can.

    It began before loopwright was updated; a new process can.
    """
    actual = read_actual(folder)
    could_not_read = actual is not None and actual.error and actual.error_generation is None
    if actual is None or not could_not_read or not _is_running(actual.pid):
        return False
    try:
        read_desired(folder)
        asked, said = (folder / "desired.json").stat(), (folder / "actual.json").stat()
    except (InvalidInputError, OSError):
        return False
    return said.st_mtime_ns >= asked.st_mtime_ns  # else it is about what was asked for before


def _check_models(desired: DesiredState, path: Path) -> None:
    checked_scale(desired.workers, field="workers")
    if bool(desired.bundle) == bool(desired.variants):
        raise InvalidInputError(
            f"{path} cannot be used: it must have a bundle or variants.",
            hint="Write it with loopwright.deploy.write_desired.",
            field="desired.json",
        )
    if desired.code is not None:
        checked_code(desired.code)
    if desired.variants:
        checked_variants(desired.variants)


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
    restart: Callable[[], object] | None = None,
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
    restart
        Ends the process and starts a new one: done once, if it is of an older release that cannot
        read what it is asked for.

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
        if restart is not None and was_alive and is_too_old(folder):
            restart()
            restart, end = None, time.monotonic() + timeout_s
            continue
        if actual is not None:
            # an error may have been left by a process of an earlier start
            if not was_alive or _is_running(actual.pid):
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
        with socket.create_connection((actual.host, actual.port or 0), timeout=1.0):
            return _is_running(actual.pid)
    except OSError:
        return False


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
