"""Room on a disk: when it gives out in the middle of writing, that is said with its figures."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core.errors import BackendError
from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Polars gives the words of the system; its number only sometimes
_WORDS = tuple(f"os error {number}" for number in sorted(_FULL))


@contextmanager
def enough_room(folder: Path) -> Iterator[None]:
    """Say it in plain words when a file in this folder cannot grow any further.

    Raises
    ------
    BackendError
        If the disk, the quota or the largest size of a file is used up.
    """
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as cause:
        if not is_full(cause):
            raise
        raise no_room(folder) from cause
    except BaseException as cause:
        # a worker of Polars that cannot write may end in a panic of its own
        if type(cause).__name__ != "PanicException" or not is_full(cause):
            raise
        raise no_room(folder) from cause


def is_full(cause: BaseException) -> bool:
    """Whether an error says that there is no room left."""
    if isinstance(cause, OSError) and cause.errno in _FULL:
        return True
    return any(words in str(cause) for words in _WORDS)


def no_room(folder: Path) -> BackendError:
    """Return the error of a folder that takes no more, with what is left there."""
    try:
        left = f"{shutil.disk_usage(folder).free / 2**20:,.0f} MiB are left"
    except OSError:
        left = "how much is left cannot be told"
    return BackendError(
        f"There is no room to write in {folder}: {left} on its disk, and a quota or a limit on the "
        "size of files may be lower.",
        hint="Free some room, or choose a larger disk with --home (and TMPDIR). Nothing that was "
        "kept before has changed.",
        path=str(folder),
    )
