"""Every choice an operator has, from the environment and the command line."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loopwright.core.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where things are kept, and who is working.

    Parameters
    ----------
    home
        The folder of the store (`LOOPWRIGHT_HOME`, else `.loopwright` in the working folder).
    database_url
        The metadata database (`LOOPWRIGHT_DATABASE_URL`), else SQLite in `home`.
    artifacts_url
        The object store of artifacts (`LOOPWRIGHT_ARTIFACTS_URL`), else a folder in `home`.
    user
        Who seals criteria and approves releases (`LOOPWRIGHT_USER`, else the login name).
    cpus
        CPUs jobs may use together (`LOOPWRIGHT_CPUS`), else all of the machine.
    """

    home: Path
    database_url: str | None = None
    artifacts_url: str | None = None
    user: str = "unknown"
    cpus: float | None = None


def read_settings(environment: Mapping[str, str], *, home: Path | None = None) -> Settings:
    """Return the settings in an environment; `home` given by hand wins.

    Raises
    ------
    InvalidInputError
        If a value cannot be used.
    """
    given = environment.get("LOOPWRIGHT_CPUS")
    try:
        cpus = float(given) if given else None
    except ValueError:
        cpus = -1.0
    if cpus is not None and cpus <= 0:
        raise InvalidInputError(
            f"LOOPWRIGHT_CPUS is {given!r}, which is no number of CPUs.",
            hint="Give a positive number, such as 2.",
            field="LOOPWRIGHT_CPUS",
            value=given,
        )
    return Settings(
        home=_absolute(home or Path(environment.get("LOOPWRIGHT_HOME") or ".loopwright")),
        database_url=environment.get("LOOPWRIGHT_DATABASE_URL") or None,
        artifacts_url=environment.get("LOOPWRIGHT_ARTIFACTS_URL") or None,
        user=environment.get("LOOPWRIGHT_USER") or _login_name(),
        cpus=cpus,
    )


def _absolute(home: Path) -> Path:
    try:
        return home.absolute()
    except FileNotFoundError as error:
        raise InvalidInputError(
            "The folder you are in has been deleted.",
            hint="Change to another folder and try again.",
            field="home",
            value=str(home),
        ) from error


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for its user
        return "unknown"
