"""What a job may do to the machine beside its memory and time: processes, log, disk."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.quantity import mebibytes

MEMORY_HELD_BY = "watchdog"
"""What holds a job to its memory: its supervisor, which looks at its processes, not the kernel."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of a job's whole process tree; what goes beyond them ends the job, and is said.

    Parameters
    ----------
    processes
        How many processes may live at once.
    log
        How much of what it prints is kept: the beginning up to this, and the last 64 KiB.
    when_log_full
        Beyond that, `cut` lets the job go on and leaves out the middle; `fail` ends it.
    disk
        How much its folder may hold, looked at every two seconds; None for as much as there is.
    """

    processes: Annotated[int, msgspec.Meta(ge=1)] = 1000
    log: str = "64 MiB"
    when_log_full: Literal["cut", "fail"] = "cut"
    disk: str | None = None

    def __post_init__(self) -> None:
        """Refuse what is not an amount."""
        mebibytes(self.log, field="limits.log")
        if self.disk is not None:
            mebibytes(self.disk, field="limits.disk")
        if self.processes < 1:
            raise InvalidInputError(
                f"limits.processes is {self.processes}.",
                hint="Allow 1 or more.",
                field="limits.processes",
                value=self.processes,
            )
        if self.when_log_full not in ("cut", "fail"):
            raise InvalidInputError(
                f"limits.when_log_full is {self.when_log_full!r}.",
                hint="Write cut or fail.",
                field="limits.when_log_full",
                value=self.when_log_full,
            )

    @property
    def log_bytes(self) -> int:
        """Return how much of the log is kept before its end."""
        return mebibytes(self.log, field="limits.log") << 20

    @property
    def disk_mib(self) -> int | None:
        """Return how much the folder may hold, in MiB."""
        return mebibytes(self.disk, field="limits.disk") if self.disk else None
