"""The place a loop works in: its home folder, its stores, its compute and its clock."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core.clock import Clock
from loopwright.core.errors import InvalidInputError, WrongStateError

_SCRATCH_AGE_S = 86_400.0

if TYPE_CHECKING:
    from loopwright.compute import Compute
    from loopwright.store import ArtifactStore, MetadataStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """What the steps of a loop are given to work with."""

    home: Path
    metadata: MetadataStore
    artifacts: ArtifactStore
    compute: Compute
    clock: Clock
    user: str

    def endpoint_folder(self, name: str) -> Path:
        """Return the folder of an endpoint: what it shall serve, what it serves, its capture."""
        return self.home / "endpoints" / name

    def sweep_scratch(self) -> None:
        """Remove what runs that were killed left in the scratch folder more than a day ago."""
        latest = self.clock.now().timestamp() - _SCRATCH_AGE_S
        for path in self.scratch_folder().iterdir():
            if path.stat().st_mtime > latest:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def scratch_folder(self) -> Path:
        """Return the folder for files under way, on the same disk as the store."""
        folder = self.home / "scratch"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def checked_home(home: Path) -> None:
    """Check that the store can be written, without writing.

    Raises
    ------
    InvalidInputError
        If the folder, or the first one above it that exists, is no folder or cannot be written.
    """
    import os

    existing = home
    try:
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        is_folder = existing.is_dir()
    except PermissionError:
        is_folder = True
    if not is_folder:
        raise InvalidInputError(
            f"The home folder {str(home)!r} cannot be made: {str(existing)!r} is a file.",
            hint="Choose another with --home or LOOPWRIGHT_HOME.",
            field="home",
            value=str(home),
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InvalidInputError(
            f"The home folder {str(home)!r} cannot be written: no permission in {str(existing)!r}.",
            hint="Choose another with --home or LOOPWRIGHT_HOME, or ask for permission.",
            field="home",
            value=str(home),
        )


@contextmanager
def locked_loop(home: Path, name: str) -> Iterator[None]:
    """Hold a loop while it runs, so that two runs never work on one loop at once.

    The lock belongs to the process: it is gone when the process is, however it ends.

    Raises
    ------
    WrongStateError
        If another process holds it.
    """
    import fcntl
    import os

    folder = home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise WrongStateError(
                f"The loop {name!r} is being run by another process ({file.read().strip()}).",
                hint="Wait for it, or stop it; `loopwright status` shows where it stands.",
                kind="loop",
                name=name,
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield
