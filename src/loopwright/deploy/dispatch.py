"""Fair turns for requests on one event loop, and a bound on how many may wait."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

_log = logging.getLogger(__name__)

# turns so short that a hundred of them may go before the event loop looks at the sockets again
_SHORT_TURN_S = 0.000_5
# how fast it is forgotten that calls took long, so that they are tried again
_FORGETTING = 0.99

Answer = TypeVar("Answer")
Asked = TypeVar("Asked")
Found = TypeVar("Found")
Blocking = Callable[[], Any]
# what a request's generator yields: None to let others have a turn, a call that may block, or the
# result of another thread's work
Steps = Generator[Blocking | Future[Any] | None, Any, Answer]


@dataclass(slots=True)
class _Work(Generic[Answer]):
    steps: Steps[Answer]
    done: Callable[[Answer | BaseException], None]
    is_wanted: Callable[[], bool]
    # how the generator is resumed
    value: Any = None
    error: BaseException | None = None


class WorkQueue(Generic[Answer]):
    """Run requests in short turns, oldest first, so that a large batch does not hold up a single row.

    A request is a generator. It computes for at most some milliseconds and yields None to let the
    others have a turn, or yields a function that may block, which then runs in a thread and whose
    result is sent back in, as is that of a future it yields. Everything else runs on the event
    loop's thread.

    Parameters
    ----------
    max_waiting
        How many requests may wait; one more is refused.
    max_wait_s
        A request is also refused when those before it, at the pace of the last turns, would make it
        wait longer than this.
    slice_s
        Time given to requests before the event loop looks at the sockets again.
    """

    def __init__(
        self, *, max_waiting: int = 512, max_wait_s: float = 2.0, slice_s: float = 0.002
    ) -> None:
        self._waiting: deque[_Work[Answer]] = deque()
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._slice_s = slice_s
        self._turn_s = 0.0
        # the same of calls, and how much they took from those that wait since the last slice
        self._call_s = 0.0
        self._ahead_s = 0.0
        self._n_blocking = 0
        self._is_scheduled = False

    def __len__(self) -> int:
        return len(self._waiting) + self._n_blocking

    def has_room(self) -> bool:
        """Return whether one more request may wait."""
        n_waiting = len(self._waiting)
        return (
            n_waiting + self._n_blocking < self._max_waiting
            and n_waiting * self._turn_s <= self._max_wait_s
        )

    def retry_after_s(self) -> int:
        """Return after how many whole seconds there should be room again, at least 1."""
        return max(1, math.ceil(len(self._waiting) * self._turn_s))

    def answer_now(self, steps: Steps[Answer]) -> Answer | None:
        """Run the first turn at once if nobody waits and turns are short; return an answer found.

        With None the steps have not begun, or have had their first turn, and are to be submitted.
        What the turn raises is raised. The steps must not yield anything that blocks.
        """
        if self._waiting or self._n_blocking or self._turn_s > _SHORT_TURN_S:
            return None
        now = asyncio.get_running_loop().time
        began_at = now()
        try:
            steps.send(None)
        except StopIteration as stop:
            answer: Answer = stop.value
            return answer
        finally:
            self._took(now() - began_at)
        return None

    def call_now(self, call: Callable[[Asked], Found | None], asked: Asked) -> Found | None:
        """Return what a call returns, made at once where such calls are short; else None.

        Calls may go before those that wait, but take no more time from them than a slice, so that
        neither holds up the other.
        """
        if self._call_s > _SHORT_TURN_S or self._ahead_s > self._slice_s:
            self._call_s *= _FORGETTING
            return None
        began_at = time.perf_counter()
        try:
            return call(asked)
        finally:
            took_s = time.perf_counter() - began_at
            # one that was held up by another process must not count for ten
            self._call_s += 0.1 * (min(took_s, 2 * _SHORT_TURN_S) - self._call_s)
            if self._waiting:
                self._ahead_s += took_s

    def _took(self, turn_s: float) -> None:
        # an average over about the last ten turns
        self._turn_s += 0.1 * (turn_s - self._turn_s)

    def submit(
        self,
        steps: Steps[Answer],
        *,
        done: Callable[[Answer | BaseException], None],
        is_wanted: Callable[[], bool],
    ) -> None:
        """Run a request when its turn comes and hand its answer, or its error, to `done`.

        A request that nobody wants any more, because the client has gone, is dropped unanswered.
        """
        self._waiting.append(_Work(steps, done, is_wanted))
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._run_slice)

    def _run_slice(self) -> None:
        self._is_scheduled = False
        self._ahead_s = 0.0
        now = asyncio.get_running_loop().time
        at = now()
        end = at + self._slice_s
        while self._waiting and at < end:
            self._run_turn(self._waiting.popleft())
            before, at = at, now()
            self._took(at - before)
        self._schedule()

    def _run_turn(self, work: _Work[Answer]) -> None:
        if not work.is_wanted():
            work.steps.close()
            return
        error, work.error = work.error, None
        try:
            blocking = work.steps.throw(error) if error else work.steps.send(work.value)
        except StopIteration as stop:
            work.done(stop.value)
        except Exception as failure:
            work.done(failure)
        else:
            work.value = None
            if blocking is None:
                self._waiting.append(work)
            else:
                self._wait_for(work, blocking)

    def _wait_for(self, work: _Work[Answer], blocking: Blocking | Future[Any]) -> None:
        def resume(future: asyncio.Future[Any]) -> None:
            self._n_blocking -= 1
            if future.cancelled():
                work.steps.close()
                return
            work.error = future.exception()
            work.value = None if work.error else future.result()
            self._waiting.append(work)
            self._schedule()

        self._n_blocking += 1
        waited: asyncio.Future[Any] = (
            asyncio.wrap_future(blocking)
            if isinstance(blocking, Future)
            else asyncio.get_running_loop().run_in_executor(None, blocking)
        )
        waited.add_done_callback(resume)
