"""Which home and which machine a job belongs to, where several share one metadata store."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path

_FILE = "home.id"


def home_id(folder: Path) -> str:
    """Return the identity of a folder of jobs, made and kept in it at the first call.

    Raises
    ------
    OSError
        If there is none and none can be written.
    """
    path = folder / _FILE
    with suppress(FileNotFoundError):
        return path.read_text().strip()
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{_FILE}.{uuid.uuid4().hex}"
    temporary.write_text(uuid.uuid4().hex[:16])
    try:
        # whoever comes first names it
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    return path.read_text().strip()


def find_home_id(folder: Path) -> str:
    """Return the identity of a folder of jobs, or an empty text while it has none."""
    try:
        return (folder / _FILE).read_text().strip()
    except OSError:
        return ""
