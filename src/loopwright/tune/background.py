"""Work in threads that nobody has to wait for: a call that hangs is left behind."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
FIT_THREAD = "fit"
"""Name of the threads."""

# a thread that is about to end may do so in peace before the process takes its libraries away
_LAST_WAIT_S = 2.0


class Background:
    """Begins work in threads of their own and knows which of it still goes on."""

    def __init__(self) -> None:
        self._threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._waits_at_exit = False
        self._of_future: weakref.WeakKeyDictionary[Future[Any], threading.Thread] = (
            weakref.WeakKeyDictionary()
        )

    def begin(self, work: Callable[..., T], *arguments: Any) -> Future[T]:
        """Return the future result of `work(*arguments)`, which begins at once."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()

        def run() -> None:
            try:
                result = work(*arguments)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        # a daemon: the process must be able to end while a library hangs
        thread = threading.Thread(target=run, name=FIT_THREAD, daemon=True)
        self._threads.add(thread)
        self._of_future[future] = thread
        if not self._waits_at_exit:
            self._waits_at_exit = True
            atexit.register(self.wait, _LAST_WAIT_S)
        thread.start()
        return future

    def wait(self, seconds: float) -> bool:
        """Wait for all that goes on, so long at most; return whether everything has ended."""
        for thread in list(self._threads):
            thread.join(seconds / max(1, len(self._threads)))
        return not self.n_running

    def cpu_s(self, future: Future[Any]) -> float | None:
        """Return the processor time that some work has had; None where the system does not tell."""
        thread = self._of_future.get(future)
        try:
            # asking the thread's own clock is not safe while it ends
            stat = Path(f"/proc/self/task/{thread.native_id if thread else ''}/stat").read_text()
            user, system = stat.rpartition(")")[2].split()[11:13]
            return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, AttributeError):
            return None

    @property
    def n_running(self) -> int:
        """How many calls have not returned."""
        return sum(thread.is_alive() for thread in list(self._threads))
