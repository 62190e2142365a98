"""Copies of objects that jobs read again and again, in a folder of bounded size."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from loopwright.core.names import new_id

_log = logging.getLogger(__name__)
_STALE_S = 86_400.0


class Cache:
    """Files by names that change with their bytes.

    A file that is handed out is a second link to the same bytes, so that it stays when the cache
    lets go of its own.

    Parameters
    ----------
    folder
        Where they lie; made when it is not there.
    limit
        How many bytes are kept. What is larger than a quarter of it is never kept.
    """

    def __init__(self, folder: Path, *, limit: int) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        self._limit = limit
        self._lock = threading.Lock()
        self._n_bytes: int | None = None
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def incoming(self) -> Path:
        """A folder for what is being written."""
        return self._incoming

    def takes(self, size: int) -> bool:
        """Return whether a file of a size may be kept."""
        return size * 4 <= self._limit

    def give(
        self, name: str, target: Path, load: Callable[[Path], None], *, size: int, modified: float
    ) -> None:
        """Put a file at a path, loading it first where it is not kept.

        Parameters
        ----------
        name
            What names these bytes and no others.
        load
            Writes the file at a path.
        size
            How many bytes they are.
        modified
            When they were last changed, in seconds since 1970. It becomes the time of the file, so
            that one into which a job has written is not taken for what it was.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        # never written over: it may be a link to another object
        target.unlink(missing_ok=True)
        kept = self._path(name)
        mark = int(modified) * 10**9
        if _is_whole(kept, size, mark) and self._linked(kept, target):
            # the time of its last use
            with suppress(OSError):
                os.utime(kept, ns=(time.time_ns(), mark))
            return
        temporary = self._incoming / new_id()
        try:
            load(temporary)
            temporary.chmod(0o400)
            os.utime(temporary, ns=(time.time_ns(), mark))
            if not self.takes(size) or not self._linked(temporary, target):
                shutil.move(temporary, target)
                return
            kept.parent.mkdir(mode=0o700, exist_ok=True)
            temporary.replace(kept)
        finally:
            temporary.unlink(missing_ok=True)
        self._grown(size)

    def sweep(self) -> None:
        """Remove what killed servers have left half written."""
        latest = time.time() - _STALE_S
        for path in self._incoming.iterdir():
            with suppress(OSError):
                if path.stat().st_ctime < latest:
                    path.unlink()

    def _path(self, name: str) -> Path:
        return self._folder / name[-2:] / name

    def _linked(self, source: Path, target: Path) -> bool:
        try:
            os.link(source, target)
        except FileNotFoundError:
            return False  # let go of in this moment
        except OSError:
            shutil.copyfile(source, target)
        return True

    def _grown(self, size: int) -> None:
        """Let go of what was used longest ago, once there is too much."""
        with self._lock:
            if self._n_bytes is not None:
                self._n_bytes += size
                if self._n_bytes <= self._limit:
                    return
            found = sorted(self._all())
            left = sum(each[1] for each in found)
            for _, each, path in found:
                if left <= self._limit:
                    break
                with suppress(OSError):
                    path.unlink()
                left -= each
            self._n_bytes = left

    def _all(self) -> list[tuple[float, int, Path]]:
        found = []
        for path in self._folder.glob("??/*"):
            with suppress(OSError):
                about = path.stat()
                found.append((about.st_atime, about.st_size, path))
        return found


def _is_whole(path: Path, size: int, mark: int) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    return found.st_size == size and found.st_mtime_ns == mark
