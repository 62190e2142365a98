"""The processes of a user's own code behind an endpoint: asked in turn, timed, started again."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopwright.core.errors import BackendError
from loopwright.deploy.code_frame import FrameError
from loopwright.deploy.code_process import CodeProcess, Reply
from loopwright.deploy.code_settings import CodeSettings, checked_code

_log = logging.getLogger(__name__)

_LOOK_S = 0.25
_FIRST_BACKOFF_S, _LAST_BACKOFF_S = 0.2, 10.0
# code that lived so long has not failed at its start
_STEADY_S = 30.0


@dataclass(slots=True, kw_only=True)
class _Call:
    head: dict[str, Any]
    body: bytes
    until: float
    future: Future[Reply] = field(default_factory=Future)


class CodePool:
    """Threads that each start one process of the code, ask it, and start it again when it ends.

    Parameters
    ----------
    archive
        The `model.tar.gz` with `code/`.
    digest
        Of that file; it is unpacked once for each.
    folder
        Where it is unpacked and runs: of the endpoint.
    """

    def __init__(
        self, settings: CodeSettings, *, archive: Path, digest: str, folder: Path, name: str
    ) -> None:
        self.settings = checked_code(settings)
        self.name = name
        self._archive = archive
        self._unpacked = folder / digest.removeprefix("sha256:")[:24] / "model"
        self._folder = folder
        self._calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._n_waiting = 0
        self._mean_s = 0.0
        self._lock = threading.Lock()
        self._closes_at: float | None = None
        self._threads: list[threading.Thread] = []
        self._n_ready = 0
        # why the code does not run now, while a pause is made before the next try
        self._trouble = ""

    @property
    def is_ready(self) -> bool:
        """Whether a process has loaded its model and can be asked."""
        return self._n_ready > 0

    def open(self) -> None:
        """Start the processes and return when each has loaded its model.

        Raises
        ------
        InvalidInputError
            If the archive cannot be used, or the code fails to load, with what it says.
        """
        begun: list[Future[None]] = []
        for number in range(self.settings.processes):
            first: Future[None] = Future()
            begun.append(first)
            thread = threading.Thread(
                target=self._work, args=(first,), name=f"own-code-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        try:
            for first in begun:
                first.result()
        except BaseException:
            self.close()
            raise

    def close(self, *, after_s: float = 0.0) -> None:
        """Take no more requests after a while, answer those that wait, and end the processes."""
        self._closes_at = time.monotonic() + after_s

    def join(self, timeout_s: float) -> None:
        """Wait until the processes have ended."""
        end = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def submit(
        self, body: bytes, *, content_type: str, accept: str, headers: Mapping[str, str]
    ) -> Future[Reply]:
        """Have a request answered; 503 at once where too many wait or the code does not run.

        The future holds a reply within twice `timeout_s`.
        """
        wait_s = self._n_waiting * self._mean_s / self.settings.processes
        refusal = ""
        if self._trouble and not self.is_ready:
            refusal = self._trouble
        elif self._n_waiting >= self.settings.max_waiting or wait_s > self.settings.timeout_s:
            refusal = f"{self._n_waiting} requests wait for the code; try again in a moment."
        head = {"content_type": content_type, "accept": accept, "headers": dict(headers)}
        call = _Call(head=head, body=body, until=time.monotonic() + self.settings.timeout_s)
        if refusal:
            call.future.set_result(Reply(status=503, message=refusal))
            return call.future
        with self._lock:
            self._n_waiting += 1
        self._calls.put(call)
        return call.future

    # --- one thread ---

    def _work(self, first: Future[None]) -> None:
        process: CodeProcess | None = None
        n_failures, number = 0, 0
        while not self._is_over():
            if process is None:
                process, trouble = self._started()
                if process is None:
                    if not first.done():
                        first.set_exception(trouble)
                        return
                    n_failures += 1
                    self._rest(n_failures, trouble)
                    continue
                started_at = time.monotonic()
                self._ready(1)
                if not first.done():
                    first.set_result(None)
            try:
                call = self._calls.get(timeout=_LOOK_S)
            except queue.Empty:
                call = None
            if call is None or not process.has_ended():
                number += 1
                if call is not None and self._asked(process, call, number):
                    # what has answered has not failed at its start
                    n_failures = 0
                    continue
                if call is None and not process.has_ended():
                    continue
            # the process is of no use any more
            self._ready(-1)
            why = process.end()
            process = None
            if call is not None and not call.future.done():
                # it had ended before it was asked: the next one answers
                self._calls.put(call)
            if not self._is_over():
                _log.warning("The code of %s is started again. %s", self.name, why)
            n_failures = 0 if time.monotonic() - started_at > _STEADY_S else n_failures + 1
            if n_failures > 1:
                self._rest(n_failures - 1, BackendError(why))
        if process is not None:
            self._ready(-1)
            process.end()

    def _is_over(self) -> bool:
        closes_at = self._closes_at
        return closes_at is not None and time.monotonic() > closes_at and self._calls.empty()

    def _ready(self, change: int) -> None:
        with self._lock:
            self._n_ready += change
            if change > 0:
                self._trouble = ""

    def _started(self) -> tuple[CodeProcess | None, Exception | None]:
        try:
            process = CodeProcess(
                self.settings,
                archive=self._archive,
                unpacked=self._unpacked,
                folder=self._folder,
            )
        except Exception as error:
            return None, error
        try:
            process.wait_until_ready(is_over=lambda: self._closes_at is not None)
        except Exception as error:
            process.end()
            return None, error
        return process, None

    def _rest(self, n_failures: int, trouble: Exception | None) -> None:
        """Wait before the next try; meanwhile nobody is kept waiting."""
        self._trouble = f"The code of this endpoint does not run. {trouble}"
        if self._closes_at is None:
            _log.error("The code of %s does not run: %s", self.name, trouble)
        until = time.monotonic() + min(_FIRST_BACKOFF_S * 2 ** (n_failures - 1), _LAST_BACKOFF_S)
        while time.monotonic() < until and not self._is_over():
            try:
                call = self._calls.get(timeout=min(_LOOK_S, max(0.0, until - time.monotonic())))
            except queue.Empty:
                continue
            self._settle(call, Reply(status=503, message=self._trouble))

    def _settle(self, call: _Call, reply: Reply) -> None:
        with self._lock:
            self._n_waiting -= 1
        call.future.set_result(reply)

    def _asked(self, process: CodeProcess, call: _Call, number: int) -> bool:
        """Have one request answered; return whether the process can go on."""
        now = time.monotonic()
        if now >= call.until:
            self._settle(call, Reply(status=503, message="Too many requests wait for the code."))
            return True
        limit_s = self.settings.timeout_s
        try:
            reply = process.ask(call.head | {"id": number}, call.body, until=now + limit_s)
        except TimeoutError:
            self._settle(
                call, Reply(status=504, message=f"The code took longer than {limit_s:g} seconds.")
            )
            return False
        except (OSError, FrameError) as error:
            why = process.end() if not isinstance(error, FrameError) else f"What it said: {error}."
            self._settle(
                call,
                Reply(status=500, message=f"The code ended while it answered this request. {why}"),
            )
            return False
        self._mean_s += 0.2 * (time.monotonic() - now - self._mean_s)
        self._settle(call, reply)
        return True
