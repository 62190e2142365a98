"""Every choice an operator has, from the environment and the command line."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loopwright.core.errors import InvalidInputError

_WEB = ("http://", "https://")


@dataclass(frozen=True, slots=True, kw_only=True)
class RaySettings:
    """The cluster on which jobs run, where that is chosen.

    Parameters
    ----------
    address
        Its dashboard (`LOOPWRIGHT_RAY_ADDRESS`, else `http://127.0.0.1:8265`).
    token_file
        The file of its token (`LOOPWRIGHT_RAY_TOKEN_FILE`, else `ray.token` in the home).
    exchange
        A folder or the URL of an object store that this machine and all nodes can read and write
        (`LOOPWRIGHT_RAY_EXCHANGE`), else where the artifacts are.
    python
        The interpreter on the nodes (`LOOPWRIGHT_RAY_PYTHON`), else the one of the same path as
        here, or `python3`.
    """

    address: str
    token_file: Path
    exchange: str | None = None
    python: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """The S3-compatible store in which the buckets of clients of AWS lie, where one is chosen.

    Parameters
    ----------
    url
        Its address (`LOOPWRIGHT_S3_URL`); None for the home folder.
    region
        The region that requests are signed for (`LOOPWRIGHT_S3_REGION`), else that of the shell.
    profile
        The profile of AWS's tools that has its keys (`LOOPWRIGHT_S3_PROFILE`), else the shell's
        keys.
    """

    # it may hold a password, which is refused later
    url: str | None = field(default=None, repr=False)
    region: str | None = None
    profile: str | None = None


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
    ray
        The cluster on which jobs run, with `LOOPWRIGHT_COMPUTE=ray`; None for this machine
        (`LOOPWRIGHT_COMPUTE=local`, the default).
    mlflow_uri
        The MLflow tracking server on which jobs appear too (`LOOPWRIGHT_MLFLOW_URI`, else
        `MLFLOW_TRACKING_URI` where that is an http or https address).
    s3
        Where the buckets of clients of AWS lie.
    """

    home: Path
    database_url: str | None = None
    artifacts_url: str | None = None
    user: str = "unknown"
    cpus: float | None = None
    ray: RaySettings | None = None
    # it may hold a password
    mlflow_uri: str | None = field(default=None, repr=False)
    s3: S3Settings = field(default_factory=S3Settings)


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
    home = _absolute(home or Path(environment.get("LOOPWRIGHT_HOME") or ".loopwright"))
    return Settings(
        home=home,
        database_url=environment.get("LOOPWRIGHT_DATABASE_URL") or None,
        artifacts_url=environment.get("LOOPWRIGHT_ARTIFACTS_URL") or None,
        user=environment.get("LOOPWRIGHT_USER") or _login_name(),
        cpus=cpus,
        ray=_ray(environment, home),
        mlflow_uri=_mlflow_uri(environment),
        s3=S3Settings(
            url=environment.get("LOOPWRIGHT_S3_URL") or None,
            region=environment.get("LOOPWRIGHT_S3_REGION") or None,
            profile=environment.get("LOOPWRIGHT_S3_PROFILE") or None,
        ),
    )


def _mlflow_uri(environment: Mapping[str, str]) -> str | None:
    own, theirs = (environment.get(n) for n in ("LOOPWRIGHT_MLFLOW_URI", "MLFLOW_TRACKING_URI"))
    if own and not own.startswith(_WEB):
        scheme = own.partition(":")[0] if ":" in own else "none"
        raise InvalidInputError(
            f"LOOPWRIGHT_MLFLOW_URI has the scheme {scheme!r}; only http and https are spoken.",
            hint="Start `mlflow server --backend-store-uri sqlite:///mlflow.db` and give its "
            "address, such as http://localhost:5000.",
            field="LOOPWRIGHT_MLFLOW_URI",
            value=scheme,
        )
    # theirs may be a folder or a database, set for other programs
    return own or (theirs if theirs and theirs.startswith(_WEB) else None)


def _ray(environment: Mapping[str, str], home: Path) -> RaySettings | None:
    compute = environment.get("LOOPWRIGHT_COMPUTE") or "local"
    if compute not in ("local", "ray"):
        raise InvalidInputError(
            f"LOOPWRIGHT_COMPUTE is {compute!r}.",
            hint="Choose local, for this machine, or ray, for a Ray cluster.",
            field="LOOPWRIGHT_COMPUTE",
            value=compute,
        )
    if compute == "local":
        return None
    return RaySettings(
        address=environment.get("LOOPWRIGHT_RAY_ADDRESS") or "http://127.0.0.1:8265",
        token_file=Path(environment.get("LOOPWRIGHT_RAY_TOKEN_FILE") or home / "ray.token"),
        exchange=environment.get("LOOPWRIGHT_RAY_EXCHANGE") or None,
        python=environment.get("LOOPWRIGHT_RAY_PYTHON") or None,
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
