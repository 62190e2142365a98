"""What the workers of an endpoint served last, for one that takes the place of a killed one."""

from __future__ import annotations

from pathlib import Path

import msgspec

from loopwright.core.files import write_json_atomically
from loopwright.deploy.endpoint import DesiredState

_NAME = "served.json"


def keep_last_served(workers: Path, desired: DesiredState) -> None:
    """Write down what a worker serves now; a disk that is full keeps what was written before."""
    try:
        write_json_atomically(workers / _NAME, msgspec.to_builtins(desired))
    except OSError:
        return


def read_last_served(workers: Path) -> DesiredState | None:
    """Return what was served last since the supervisor began; None if nothing was."""
    try:
        return msgspec.json.decode((workers / _NAME).read_bytes(), type=DesiredState)
    except (OSError, msgspec.DecodeError):
        return None


def forget_last_served(workers: Path) -> None:
    """Begin anew: what an earlier supervisor's workers served is nobody's wish now."""
    (workers / _NAME).unlink(missing_ok=True)
