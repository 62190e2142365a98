"""The home a session works in."""

from __future__ import annotations

from loopwright.core.errors import NotFoundError
from loopwright.loop import Workspace
from loopwright.settings import Settings
from loopwright.wiring import find_workspace


def existing_workspace(settings: Settings) -> Workspace:
    """Return the workspace of a home that exists.

    Raises
    ------
    NotFoundError
        If nothing has run there yet.
    """
    workspace = find_workspace(settings)
    if workspace is None:
        raise NotFoundError(
            f"There is no loopwright store in {str(settings.home)!r}.",
            hint="Run a loop first, or say where the store is with --home or LOOPWRIGHT_HOME.",
            kind="home",
            name=str(settings.home),
        )
    return workspace
