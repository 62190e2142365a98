"""Shadow variants: asked what the others were asked, after the answer; nobody waits for them."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import new_id
from loopwright.deploy.capture import CaptureLog
from loopwright.deploy.counts import ShadowCounts
from loopwright.deploy.dispatch import Steps
from loopwright.deploy.inference_protocol import INFER, infer
from loopwright.deploy.invocation import invocation
from loopwright.deploy.message import Request, Response
from loopwright.deploy.model import Served

_log = logging.getLogger(__name__)

_ID_HEADER = b"x-inference-id"
_ID_HEADERS = (b"x-amzn-sagemaker-inference-id", _ID_HEADER)
# the interpreter is left to the answering thread for at least three parts of four
_REST = 3.0
_BUSY_LOOK_S = 0.001
_SWITCH_S = 0.000_5


class _WithId(msgspec.Struct):
    id: Any = None


class Shadows:
    """Ask shadow variants in a thread of their own, one request at a time, while nobody waits.

    What they take too long for is dropped and counted, never kept back: at most `max_waiting`
    requests, of together `max_bytes`, wait.

    Parameters
    ----------
    counts
        By variant; a name that is missing is added.
    is_busy
        Tells whether requests wait for an answer; then the shadows are not asked on.
    """

    def __init__(
        self,
        *,
        counts: dict[str, ShadowCounts],
        is_busy: Callable[[], bool],
        max_waiting: int = 256,
        max_bytes: int = 8 << 20,
    ) -> None:
        self._counts = counts
        self._is_busy = is_busy
        self._max_waiting = max_waiting
        self._max_bytes = max_bytes
        # each counted by one thread alone
        self._n_bytes_in = self._n_bytes_out = 0
        self._waiting: deque[tuple[Request, tuple[Served, ...], CaptureLog | None]] = deque()
        self._woken = threading.Event()
        self._is_over = False
        self._thread: threading.Thread | None = None
        self._told: set[str] = set()

    def offer(
        self, request: Request, served: tuple[Served, ...], capture: CaptureLog | None
    ) -> None:
        """Have the shadows asked what a request asked, if there is room for it to wait.

        The log must be another than that of the answers: it is written from another thread.
        """
        n_bytes = len(request.body)
        n_waiting_bytes = self._n_bytes_in - self._n_bytes_out
        if len(self._waiting) >= self._max_waiting or n_waiting_bytes + n_bytes > self._max_bytes:
            for each in served:
                self._of(each).n_dropped += 1
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="shadows", daemon=True)
            self._thread.start()
            # an answer may wait so long for the interpreter; 5 ms are usual
            sys.setswitchinterval(_SWITCH_S)
        self._n_bytes_in += n_bytes
        self._waiting.append((_copied(request), served, capture))
        self._woken.set()

    def close(self, *, timeout_s: float = 1.0) -> None:
        """Ask no more; wait a moment for the one being asked now."""
        self._is_over = True
        self._woken.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _of(self, served: Served) -> ShadowCounts:
        return self._counts.setdefault(served.variant or "", ShadowCounts())

    def _work(self) -> None:
        while not self._is_over:
            if not self._waiting:
                self._woken.wait()
                self._woken.clear()
                continue
            if self._is_busy():
                time.sleep(_BUSY_LOOK_S)
                continue
            request, served, capture = self._waiting.popleft()
            self._n_bytes_out += len(request.body)
            began_at = time.thread_time()
            for each in served:
                self._ask(request, each, capture)
            time.sleep(_REST * (time.thread_time() - began_at))

    def _ask(self, request: Request, served: Served, capture: CaptureLog | None) -> None:
        counts = self._of(served)
        try:
            asks = infer if request.route == INFER else invocation
            status = _answered(asks(request, served=served, capture=capture)).status
            counts.n_answered += status < 400
            counts.n_failed += status >= 400
        except Exception as error:
            counts.n_failed += 1
            name = served.variant or ""
            if name not in self._told:  # once: it may fail on every request
                self._told.add(name)
                _log.warning(
                    "Shadow %r failed on a request; further ones are only counted.",
                    name,
                    exc_info=None if isinstance(error, InvalidInputError) else error,
                )


def identified(request: Request) -> None:
    """Give a request an inference id if it brings none, so that two models answer under one id."""
    if any(name in request.headers for name in _ID_HEADERS):
        return
    if request.route != INFER or not _brings_id(request.body):
        request.headers[_ID_HEADER] = new_id().encode()


def _brings_id(body: bytes) -> bool:
    """Return whether a request of the Open Inference Protocol has an id in its body."""
    try:
        return bool(msgspec.json.decode(body, type=_WithId).id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _answered(steps: Steps[tuple[Response, int]]) -> Response:
    """Take all turns of a request at once and return its answer."""
    value = None
    while True:
        try:
            asked = steps.send(value)
        except StopIteration as stop:
            response: Response = stop.value[0]
            return response
        # own code answers in its own time; only the shadows wait for it
        value = asked.result() if isinstance(asked, Future) else asked and asked()


def _copied(request: Request) -> Request:
    """Return the rows and ids of a request without what else it asked to be added."""
    kept: Sequence[bytes] = (b"content-type", *_ID_HEADERS)
    headers = {name: request.headers[name] for name in kept if name in request.headers}
    copied = Request(method=request.method, target=request.path, headers=headers, body=request.body)
    copied.route = request.route
    return copied
