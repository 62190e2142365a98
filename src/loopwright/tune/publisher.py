"""The process that publishes to MLflow beside the work, so that no job waits for it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core.errors import BackendError

if TYPE_CHECKING:
    from loopwright.tune.publication import Pass, Publication

_MOST_PAUSE_S = 60.0
_MOST_LOG_BYTES = 1 << 20
_TRIES, _TRY_S = 10, 0.1
_AGAIN_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a publisher waits, in seconds.

    Parameters
    ----------
    poll_s
        Between two looks.
    linger_s
        With nothing to do, before it ends.
    patience_s
        For a server that is away, before it ends; the next job starts another one.
    """

    poll_s: float = 1.0
    linger_s: float = 20.0
    patience_s: float = 6 * 3600.0


class PublisherStarter:
    """Starts a process that publishes whenever there is news, unless one does already.

    Parameters
    ----------
    home
        The folder of the store.
    uri
        Of the MLflow server.
    """

    def __init__(self, home: Path, uri: str) -> None:
        self.home = home
        self._uri = uri
        self._started_at = float("-inf")

    def __call__(self) -> None:
        """Start one if it is needed; takes a few milliseconds and never raises."""
        if time.monotonic() - self._started_at < _AGAIN_S:
            return
        try:
            with held(self.home, is_shared=True) as is_free:
                if is_free:
                    self._started_at = time.monotonic()
                    self._start()
        except (OSError, subprocess.SubprocessError):
            # publishing must not fail a job; `loopwright mlflow sync` says what is wrong
            return

    def _start(self) -> None:
        command = (sys.executable, "-P", "-m", "loopwright", "--home", str(self.home))
        # the shell leaves at once, so that nobody has to wait for the process that it starts
        script = 'exec "$@" >>"$0" 2>&1 </dev/null &'
        subprocess.run(
            ("/bin/sh", "-c", script, str(_log_path(self.home)), *command, *_FOLLOW),
            check=False,
            start_new_session=True,
            env={**os.environ, "LOOPWRIGHT_MLFLOW_URI": self._uri},
            timeout=10,
        )


_FOLLOW = ("mlflow", "sync", "--follow")


def follow(
    publication: Publication,
    home: Path,
    *,
    pace: Pace | None = None,
    tell: Callable[[Pass], None] | None = None,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Publish until all is delivered and no job is under way; return False if another does so.

    Parameters
    ----------
    home
        The folder of the store; one process publishes for it.
    pace
        How it waits.
    tell
        Called after every pass that delivered something or failed.
    """
    pace = pace or Pace()
    while True:
        with held(home) as is_mine:
            if not is_mine:
                return False
            is_whole = _deliver_all(publication, pace, tell, pause, clock)
        # whoever submitted a job while this one was about to end saw it alive and started no other
        if not is_whole or not publication.take_news():
            return True


def _deliver_all(
    publication: Publication,
    pace: Pace,
    tell: Callable[[Pass], None] | None,
    pause: Callable[[float], None],
    clock: Callable[[], float],
) -> bool:
    """Return True once there was nothing to do for a while, False if the server stays away."""
    idle_since: float | None = None
    away_since: float | None = None
    wait = pace.poll_s
    while True:
        passed = _one_pass(publication)
        if tell is not None and (passed.n_done or passed.error or passed.refused):
            tell(passed)
        if passed.error:
            away_since = clock() if away_since is None else away_since
            if clock() - away_since >= pace.patience_s:
                return False
            wait = min(2 * wait, _MOST_PAUSE_S)
            pause(wait)
            continue
        away_since, wait = None, pace.poll_s
        if passed.n_open:
            idle_since = None
        elif idle_since is None:
            idle_since = clock()
        elif clock() - idle_since >= pace.linger_s:
            return True
        pause(pace.poll_s)


def _one_pass(publication: Publication) -> Pass:
    from loopwright.tune.publication import Pass

    try:
        publication.take_news()
        return publication.deliver()
    except BackendError as error:
        # the store is busy
        return Pass(n_done=0, n_open=1, error=error.message, refused={})


@contextmanager
def held(home: Path, *, is_shared: bool = False) -> Iterator[bool]:
    """Hold the right to publish for a home; gives False if another process has it.

    The right goes with the process, however it ends.

    Parameters
    ----------
    is_shared
        Only look whether it is free, which others may do at the same time.
    """
    import fcntl

    folder = home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    with (folder / "mlflow.publisher.lock").open("a+") as file:
        for left in reversed(range(1 if is_shared else _TRIES)):
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                # someone may only be looking
                if left:
                    time.sleep(_TRY_S)
                continue
            yield True
            return
        yield False


def _log_path(home: Path) -> Path:
    folder = home / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mlflow.log"
    if path.exists() and path.stat().st_size > _MOST_LOG_BYTES:
        path.replace(folder / "mlflow.log.1")
    return path
