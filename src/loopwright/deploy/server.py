"""The endpoint's process: `python -m loopwright.deploy.server FOLDER` serves what FOLDER desires."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.deploy.dispatch import WorkQueue
from loopwright.deploy.endpoint import DesiredState, Endpoint, read_desired
from loopwright.deploy.limits import Limits
from loopwright.deploy.message import Response
from loopwright.deploy.model import ModelOpener, ServedModel
from loopwright.deploy.model_set import ModelSet
from loopwright.deploy.scaling import supervisor_of
from loopwright.deploy.serving import EndpointServer, Timing, unforeseen
from loopwright.deploy.supervisor import Seat

_log = logging.getLogger(__name__)

FAILED, WRONG_INPUT = 1, 2


def serve(
    folder: Path,
    open_model: ModelOpener,
    *,
    limits: Limits | None = None,
    queue: WorkQueue[Response] | None = None,
    timing: Timing | None = None,
    command: Sequence[str] = (),
    seat: Seat | None = None,
    load: Callable[[], None] = lambda: None,
    models: ModelSet | None = None,
) -> int:
    """Serve a folder until SIGTERM or SIGINT, and return the exit code.

    Parameters
    ----------
    command
        Starts this program over this folder; where several workers are asked for, each is started
        by it with a seat as one more argument. Without a command there is one process.
    seat
        What the supervisor handed to this process, if it is a worker.
    load
        Loads what `open_model` needs, where workers are to start in an instant.
    models
        Models that are open already.

    Returns
    -------
    int
        0 after a signal, 2 if `desired.json` or its address cannot be used, 1 if the model cannot be
        opened or something else failed at the start.
    """
    timing = timing or Timing()
    try:
        with contextlib.ExitStack() as stack:
            if seat is None:
                stack.enter_context(_only_process_of(folder, timeout_s=timing.lock_s))
                if command and (desired := _with_workers(folder)) is not None:
                    leave_s = timing.drain_s + timing.quiet_s + 2.0
                    fork = _Copies(folder, open_model, limits, queue, timing, load)
                    return supervisor_of(desired, folder, command, leave_s, fork).run(desired)
            runner = stack.enter_context(asyncio.Runner(loop_factory=loop_factory()))
            runner.run(_with_signals(folder, open_model, limits, queue, timing, seat, models))
    except InvalidInputError as error:
        _log.error("%s", error)
        return WRONG_INPUT
    except Exception as error:
        _log.error("%s", error, exc_info=unforeseen(error))
        return FAILED
    return 0


@dataclass(slots=True)
class _Copies:
    """How a copy of the supervisor's process becomes a worker.

    The copies share the memory of the libraries, and of the models that were served when they began.
    """

    folder: Path
    open_model: ModelOpener
    limits: Limits | None
    queue: WorkQueue[Response] | None
    timing: Timing | None
    preload: Callable[[], None]
    models: ModelSet = field(init=False)
    _loaded: DesiredState | None = None

    def __post_init__(self) -> None:
        self.models = ModelSet(self.folder, self.open_model)

    def load(self) -> None:
        """Load what workers need, and open the models that are asked for now."""
        try:
            self._open(read_desired(self.folder))
        except Exception as error:
            # a worker meets the same and says so; what is served goes on
            _log.debug("Workers have to open their models: %s", error)

    def _open(self, desired: DesiredState) -> None:
        if desired == self._loaded or any(each.code is not None for each in desired.all_variants):
            return
        self.preload()
        loop_factory()
        gc.unfreeze()
        self.models.exchange(desired.all_variants, self.models.opened(desired))
        self._loaded = desired
        # copies do not write to what the collector leaves alone
        gc.collect()
        gc.freeze()

    def serve(self, *, number: int, listener: int, line: int) -> int:
        """Be a worker and return its exit code."""
        return serve(
            self.folder,
            self.open_model,
            limits=self.limits,
            queue=self.queue,
            timing=self.timing,
            seat=Seat(number=number, listener=listener, line=line),
            models=self.models,
        )


def _with_workers(folder: Path) -> DesiredState | None:
    """Return what is desired if it asks for several workers; what cannot be read is told later."""
    try:
        desired = read_desired(folder)
    except InvalidInputError:
        return None
    return desired if desired.workers != 1 else None


async def _with_signals(
    folder: Path,
    open_model: ModelOpener,
    limits: Limits | None,
    queue: WorkQueue[Response] | None,
    timing: Timing | None,
    seat: Seat | None,
    models: ModelSet | None,
) -> None:
    server = EndpointServer(
        folder, open_model, limits=limits, queue=queue, timing=timing, seat=seat, models=models
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    loop.add_signal_handler(signal.SIGHUP, server.reload)
    await server.run()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes a quick event loop, or None where there is none."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


@contextlib.contextmanager
def _only_process_of(folder: Path, *, timeout_s: float) -> Iterator[None]:
    """Hold the folder's lock; wait a moment for a process that is just leaving."""
    if not folder.is_dir():
        raise InvalidInputError(
            f"There is no folder {folder}.",
            hint="Give the folder that holds desired.json.",
            field="folder",
            value=str(folder),
        )
    end = time.monotonic() + timeout_s
    with (folder / "lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > end:
                    raise BackendError(
                        f"Another process serves {folder}.", hint="Stop it first.", retryable=True
                    ) from error
                time.sleep(0.05)
        yield


def main(arguments: list[str]) -> int:
    """Serve the folder named on the command line with bundles made by `loopwright.train`."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    if len(arguments) not in (1, 2):
        _log.error("Use: python -m loopwright.deploy.server FOLDER")
        return WRONG_INPUT
    folder = Path(arguments[0])
    seat = Seat.parse(arguments[1]) if len(arguments) > 1 else None
    # single rows gain nothing from several threads, and every thread costs memory
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")

    command = Endpoint("", folder).command
    return serve(folder, _open_bundle, command=command, seat=seat, load=_load_models)


def _load_models() -> None:
    import numpy as np

    from loopwright.train import open_bundle

    # named, so that they are loaded whatever is lazy
    _ = (open_bundle, np.float64)


def _open_bundle(path: Path) -> ServedModel:
    # not before it is needed: a supervisor opens none
    from loopwright.train import open_bundle

    return open_bundle(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
