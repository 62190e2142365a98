"""Serving one folder: follow what it desires, switch models between requests, leave in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from loopwright.core.errors import InvalidInputError, LoopwrightError
from loopwright.core.files import write_json_atomically
from loopwright.deploy.address import bound_socket
from loopwright.deploy.capture import CaptureLog, checked_share
from loopwright.deploy.counts import forget_counts
from loopwright.deploy.dispatch import WorkQueue
from loopwright.deploy.endpoint import ActualState, DesiredState, Endpoint, read_desired
from loopwright.deploy.http import Connection
from loopwright.deploy.invocation_queue import InvocationQueue
from loopwright.deploy.labels import LabelLog
from loopwright.deploy.last_served import keep_last_served, read_last_served
from loopwright.deploy.limits import Limits
from loopwright.deploy.message import Response
from loopwright.deploy.model import ModelOpener, Served
from loopwright.deploy.model_set import ModelSet
from loopwright.deploy.postponed import PostponedWork
from loopwright.deploy.service import Service
from loopwright.deploy.supervisor import Seat, workers_folder
from loopwright.deploy.variant import Fleet

_log = logging.getLogger(__name__)
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How often the process looks around, and how long it takes to leave, in seconds.

    Parameters
    ----------
    watch_s
        Between two looks at `desired.json`.
    tick_s
        Between two looks at the clients' time limits.
    quiet_s
        When leaving: how long to wait for clients that keep a connection without using it, so that
        a request already on its way is still answered.
    drain_s
        When leaving: how long to wait for requests that are under way.
    lock_s
        When starting: how long to wait for another process of the folder that is just leaving.
    """

    watch_s: float = 0.2
    tick_s: float = 1.0
    quiet_s: float = 0.5
    drain_s: float = 8.0
    lock_s: float = 10.0


class EndpointServer:
    """Serve what `desired.json` asks for, follow its changes, and keep `actual.json` true.

    Parameters
    ----------
    folder
        Holds `desired.json`; the process writes beside it.
    open_model
        Opens a `model.tar.gz`.
    limits
        What clients may take; the largest body comes from `desired.json`.
    queue
        Decides how many requests may wait.
    timing
        How often to look around.
    seat
        What a supervisor handed to this process, if it is one of several.
    models
        Models that are open already, to be served if they are what is asked for.
    """

    def __init__(
        self,
        folder: Path,
        open_model: ModelOpener,
        *,
        limits: Limits | None = None,
        queue: WorkQueue[Response] | None = None,
        timing: Timing | None = None,
        seat: Seat | None = None,
        models: ModelSet | None = None,
    ) -> None:
        self.folder = folder
        self._seat = seat
        self._actual_path = seat.actual_path(folder) if seat else Endpoint("", folder).actual_path
        self._limits = limits or Limits()
        self._queue = WorkQueue() if queue is None else queue
        self._timing = timing or Timing()
        self._endpoint = Endpoint("", folder)
        self._woken = asyncio.Event()
        self._is_told = False
        self._stopped = asyncio.Event()
        self._models = models or ModelSet(folder, open_model)
        self.actual = ActualState(pid=os.getpid(), host="")

    async def run(self) -> None:
        """Serve until `stop` is called.

        Raises
        ------
        LoopwrightError
            If `desired.json`, the address or the bundle cannot be used at the start. `actual.json`
            then says so, too.
        """
        stamp, generation = self._stamp(), None
        try:
            desired = read_desired(self.folder)
            generation = desired.generation
            await self._tell(host=desired.host)
            with self._listener(desired) as listener:
                opened = await self._unless_stopped(lambda: self._opened_first(desired))
                if opened is not None:
                    served, found, failure = opened
                    service = self._service(served)
                    self._switch(service, served, found)
                    missed = None if failure is None else (told(failure), desired.generation)
                    await self._serve(service, listener, stamp, missed)
        except Exception as error:
            await self._tell(error=told(error), error_generation=generation)
            raise

    def _opened_first(
        self, desired: DesiredState
    ) -> tuple[DesiredState, tuple[Served, ...], LoopwrightError | None]:
        """Return what can be served and its models, and why it is not what is desired.

        A worker that takes the place of a killed one goes on with what the others serve, where a
        change cannot be carried out.
        """
        try:
            return desired, self._models.opened(desired), None
        except LoopwrightError as error:
            before = None if self._seat is None else read_last_served(workers_folder(self.folder))
            if before is None or before.generation >= desired.generation:
                raise
            return before, self._models.opened(before), error

    def stop(self) -> None:
        """Stop accepting, finish what is under way and return from `run`."""
        self._stopped.set()

    def reload(self) -> None:
        """Look at `desired.json` now."""
        self._is_told = True
        self._woken.set()

    def _listener(self, desired: DesiredState) -> socket.socket:
        if self._seat is None:
            return bound_socket(desired.host, desired.port)
        # the line ends with the supervisor; a worker does not outlive it
        asyncio.get_running_loop().add_reader(self._seat.line, self.stop)
        return socket.socket(fileno=self._seat.listener)

    # --- models ---

    def _switch(self, service: Service, desired: DesiredState, found: tuple[Served, ...]) -> None:
        """Answer from now on with the models that were opened."""
        variants = desired.all_variants
        named = tuple(
            replace(served, variant=variant.name if desired.variants else None)
            for variant, served in zip(variants, found, strict=True)
        )
        fleet = Fleet.of(variants, named) if desired.variants else None
        primary = named[variants.index(desired.primary)]
        before = (service.capture, service.shadow_capture)
        capture = self._capture(desired, before[0])
        has_shadows = fleet is not None and bool(fleet.shadows)
        shadow_capture = self._capture(desired, before[1]) if has_shadows else before[1]
        service.switch(primary, desired, capture, fleet=fleet)
        service.shadow_capture = shadow_capture
        if (fleet is not None or self._seat is not None) and service.counts_folder is None:
            if self._seat is None:
                forget_counts(self._endpoint.counts_folder)
            service.counts_folder = self._endpoint.counts_folder
        if before[0] is not None and before[0] is not capture:
            before[0].close()
        self._models.exchange(variants, found)

    # --- serving ---

    async def _unless_stopped(self, call: Callable[[], _Value]) -> _Value | None:
        """Return what a call returns, or None as soon as `stop` is called."""
        calling = asyncio.ensure_future(_in_thread(call))
        stopping = asyncio.create_task(self._stopped.wait())
        await asyncio.wait({calling, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        return await calling if calling.done() else None

    def _service(self, desired: DesiredState) -> Service:
        limits = msgspec.structs.replace(self._limits, max_body_bytes=desired.max_body_bytes)
        labels = LabelLog(self._endpoint.labels_folder)
        service = Service(limits=limits, queue=self._queue, labels=labels)
        service.loop_gauges_path = self._endpoint.loop_gauges_path
        service.postponed = PostponedWork(InvocationQueue(self._endpoint.folder / "async"))
        return service

    def _capture(self, desired: DesiredState, known: CaptureLog | None) -> CaptureLog | None:
        wanted = desired.capture
        if wanted is None:
            return None
        if known is not None and known.folder == Path(wanted.folder):
            known.share = checked_share(wanted.share)
            return known
        return CaptureLog(Path(wanted.folder), share=wanted.share)

    async def _serve(
        self,
        service: Service,
        listener: socket.socket,
        stamp: tuple[int, ...],
        missed: tuple[str, int] | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        service.check_time(loop.time())
        server = await loop.create_server(lambda: Connection(service), sock=listener, backlog=1024)
        helpers = [
            asyncio.create_task(self._watch(service, stamp)),
            asyncio.create_task(self._tick(service)),
        ]
        await self._tell_serving(service, port=listener.getsockname()[1])
        if missed is not None:
            _log.error("The last change was not carried out: %s", missed[0])
            await self._tell(error=missed[0], error_generation=missed[1])
        try:
            await self._stopped.wait()
            server.close()
            await self._drain(service)
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            # joins a thread for a moment: all requests have been answered
            service.shadows.close()
            self._models.close()
            for log in (service.capture, service.shadow_capture):
                if log is not None:
                    log.close()
            service.check_time(loop.time())
            service.labels.close()
        _log.info("Stopped.")

    async def _tick(self, service: Service) -> None:
        while True:
            await asyncio.sleep(self._timing.tick_s)
            service.check_time(asyncio.get_running_loop().time())

    async def _drain(self, service: Service) -> None:
        _log.info("Leaving with %d open connections.", len(service.connections))
        service.is_draining = True
        began_at = time.monotonic()
        while service.connections:
            elapsed_s = time.monotonic() - began_at
            if elapsed_s > self._timing.drain_s:
                _log.warning("%d connections were cut off.", len(service.connections))
                break
            if elapsed_s > self._timing.quiet_s:
                for connection in list(service.connections):
                    if connection.is_idle():
                        connection.close()
            await asyncio.sleep(0.01)

    # --- changes ---

    async def _watch(self, service: Service, stamp: tuple[int, ...]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            timer = loop.call_later(self._timing.watch_s, self._woken.set)
            await self._woken.wait()
            timer.cancel()
            self._woken.clear()
            seen, is_told = self._stamp(), self._is_told
            if seen != stamp or is_told:
                stamp, self._is_told = seen, False
                await self._follow(service)

    async def _follow(self, service: Service) -> None:
        """Carry out what `desired.json` asks for now, or say why not and go on as before."""
        generation = None
        try:
            desired = read_desired(self.folder)
            generation = desired.generation
            if desired == service.desired:
                # a change that failed has been taken back
                await self._tell(error=None, error_generation=None)
                return
            _refuse_fixed_changes(service.desired, desired, port=self.actual.port)
            found = await _in_thread(lambda: self._models.opened(desired))
            self._switch(service, desired, found)
        except Exception as error:
            service.metrics.n_failed_reloads += 1
            _log.error("The change was not carried out: %s", error, exc_info=unforeseen(error))
            await self._tell(error=told(error), error_generation=generation)
        else:
            service.metrics.n_reloads += 1
            await self._tell_serving(service, port=self.actual.port)

    def _stamp(self) -> tuple[int, ...]:
        try:
            seen = self._endpoint.desired_path.stat()
        except OSError:
            return ()
        return (seen.st_mtime_ns, seen.st_ino, seen.st_size)

    # --- actual.json ---

    async def _tell_serving(self, service: Service, *, port: int | None) -> None:
        desired = service.desired
        if desired is None:
            return
        version = desired.primary.version
        _log.info("Serving version %s (generation %d).", version, desired.generation)
        await self._tell(
            port=port,
            version=version,
            variants={each.name: each.version for each in desired.variants},
            generation=desired.generation,
            ready_at=datetime.now(UTC).isoformat(),
            error=None,
            error_generation=None,
        )
        if self._seat is not None and isinstance(desired.workers, int):
            await _in_thread(lambda: keep_last_served(workers_folder(self.folder), desired))

    async def _tell(self, **changes: object) -> None:
        self.actual = msgspec.structs.replace(self.actual, **changes)
        path, value = self._actual_path, msgspec.to_builtins(self.actual)
        try:
            # waits for the disk, which requests should not
            await _in_thread(lambda: write_json_atomically(path, value))
        except OSError as error:
            # a full disk must not end the endpoint
            _log.error("actual.json could not be written: %s", error)


def _refuse_fixed_changes(
    known: DesiredState | None, desired: DesiredState, *, port: int | None
) -> None:
    if desired.port in (0, port):
        # any port will do, or the one that was chosen
        known = known and msgspec.structs.replace(known, port=desired.port)
    for field in ("name", "host", "port", "max_body_bytes", "workers"):
        if known is not None and getattr(known, field) != getattr(desired, field):
            raise InvalidInputError(
                f"{field} cannot change from {getattr(known, field)!r} to"
                f" {getattr(desired, field)!r} while the endpoint runs.",
                hint="Stop the endpoint and start it again.",
                field=field,
                value=getattr(desired, field),
            )


def told(error: Exception) -> str:
    """Return an error as one text for a person."""
    return str(error) if isinstance(error, LoopwrightError) else f"{type(error).__name__}: {error}"


def unforeseen(error: Exception) -> Exception | None:
    """Return an error whose traceback belongs in the log, or None for one that says all itself."""
    return None if isinstance(error, LoopwrightError) else error


async def _in_thread(call: Callable[[], _Value]) -> _Value:
    """Return what a call returns; a thread of its own does not hold up the end of the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Value] = loop.create_future()

    def settle(value: _Value | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)  # type: ignore[arg-type] # there is a value or an error

    def work() -> None:
        value, failure = None, None
        try:
            value = call()
        except Exception as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(settle, value, failure)

    threading.Thread(target=work, name="open-model", daemon=True).start()
    return await future
