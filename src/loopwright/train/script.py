"""Scripts of one's own as training jobs, after the SageMaker training contract."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from loopwright.compute import Job, JobSpec, Limits, Resources
from loopwright.core.errors import BackendError, InvalidInputError, NotFoundError, WrongStateError
from loopwright.core.files import read_json
from loopwright.core.names import did_you_mean, new_id
from loopwright.train import script_start
from loopwright.train.script_contract import (
    CODE_FOLDER,
    ORDER_FILE,
    ScriptOrder,
    installer_environment,
)
from loopwright.train.script_worker import METRICS_FILE, RESULT_FILE

KIND = "script"
"""The kind of a job that runs a script."""

_REQUIREMENTS = "requirements.txt"
_CHANNEL = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ARGUMENT = re.compile(r"[^\s=\0-][^\s=\0]*")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})")
# no part of a program, and some of it large
_LEFT_OUT = frozenset(
    {".git", ".venv", ".loopwright", "__pycache__", ".ipynb_checkpoints", ".cache", "node_modules"}
)
_MOST_CODE_BYTES = 256 << 20
# from SIGKILL to the end of packing the model
_PACKING_S = 60.0


def script_job(
    script: str | Path,
    *,
    home: Path,
    name: str | None = None,
    channels: Mapping[str, str | Path] | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    source_dir: str | Path | None = None,
    requirements: str | Path | None = None,
    metrics: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    resources: Resources | None = None,
    time_limit_s: float | None = None,
    limits: Limits | None = None,
    grace_s: float = 30.0,
    checkpoint_dir: str | Path | None = None,
    retries: int = 0,
) -> JobSpec:
    """Return the job that runs a training script which SageMaker could run as it is.

    The script finds the environment variables `SM_*` and the folder `/opt/ml` of the SageMaker
    training contract, its hyperparameters as arguments, and leaves its model in `SM_MODEL_DIR`.

    Parameters
    ----------
    script
        The entry point: a `.py` or `.sh` file; relative to `source_dir` when that is given.
    home
        The folder in whose `environments` the packages of scripts are kept from job to job.
    name
        What the job is called, 1 to 63 letters, digits and hyphens; the script's name when absent.
    channels
        Files or folders of data by name; the script finds `train` in `SM_CHANNEL_TRAIN`.
    hyperparameters
        Values of JSON types, by name.
    source_dir
        A folder of code; a `requirements.txt` in it is installed.
    requirements
        A file of requirements, for a script without one in its `source_dir`.
    metrics
        Regular expressions by metric; the first group is the number.
    env
        Environment variables for the script; values that look secret are not recorded.
    resources
        What the job may use.
    time_limit_s, grace_s
        Seconds after which SIGTERM is sent, and how many later SIGKILL; None for no limit.
    limits
        What its processes may do beside that; see `JobSpec`.
    checkpoint_dir
        The folder behind `/opt/ml/checkpoints`; by default one that all attempts of this job
        share. Give that of an earlier job to go on from where it was.
    retries
        How often it starts again, with its checkpoints, when it was lost through no fault of its
        own; see `JobSpec`.

    Raises
    ------
    NotFoundError
        If the script, its folder, the requirements or a channel does not exist.
    InvalidInputError
        If a value cannot be used; the message names it.
    """
    entry, code = _code(script, source_dir)
    _check_program(entry, code[entry])
    name = _checked(name, entry)
    files: dict[str, bytes | Path] = {f"{CODE_FOLDER}/{each}": path for each, path in code.items()}
    wanted = f"{CODE_FOLDER}/{_REQUIREMENTS}" if _REQUIREMENTS in code else None
    if requirements is not None:
        wanted = _REQUIREMENTS
        files[wanted] = _existing(Path(requirements), what="requirements")
    resources = resources or Resources()
    order = ScriptOrder(
        name=name,
        entry_point=entry,
        channels=_checked_channels(channels or {}),
        hyperparameters=_checked_hyperparameters(hyperparameters or {}),
        metrics=_checked_metrics(metrics or {}),
        cpus=math.ceil(resources.cpus),
        gpus=resources.gpus,
        python=sys.executable,
        packages=job_packages(),
        requirements=wanted,
        environments=str(home.absolute() / "environments"),
        checkpoints=str(Path(checkpoint_dir).absolute()) if checkpoint_dir else None,
        executables=tuple(
            each for each, path in code.items() if each == entry or os.access(path, os.X_OK)
        ),
        time_limit_s=_checked_seconds("time_limit_s", time_limit_s),
        grace_s=_checked_seconds("grace_s", grace_s) or 0.0,
        variables=tuple(sorted(env or {})),
    )
    key = f"{KIND}/{new_id()}"
    return _spec(
        order,
        files,
        key=key,
        env=env or {},
        resources=resources,
        limits=limits or Limits(),
        retries=retries,
    )


def retried_job(job: Job, *, env: Mapping[str, str] | None = None) -> JobSpec:
    """Return the specification of another attempt at a script job that did not succeed.

    The script, its hyperparameters and its channels are those of the first attempt; it finds the
    checkpoints that the attempts before left.

    Parameters
    ----------
    job
        The job.
    env
        The values of the environment variables that were given with it; those that are missing
        are taken from this process's own environment.

    Raises
    ------
    WrongStateError
        If the job is still running, has succeeded, or runs no script.
    InvalidInputError
        If the value of an environment variable is missing.
    BackendError
        If its folder is gone.
    """
    if job.kind != KIND or not job.state.has_ended or job.state.value == "succeeded":
        what = f"is {job.state.value}" if job.kind == KIND else f"is a {job.kind} job"
        raise WrongStateError(
            f"The job {job.name!r} {what}, and cannot be tried again.",
            hint="A script job that failed or was stopped can.",
            job=job.id,
        )
    value = read_json(job.folder / ORDER_FILE)
    if value is None:
        raise BackendError(f"The folder of the job {job.name!r} is gone: {job.folder}.", job=job.id)
    order = ScriptOrder.from_json(value)
    given = {**{each: os.environ[each] for each in order.variables if each in os.environ}}
    given |= env or {}
    missing = [each for each in order.variables if each not in given]
    if missing:
        raise InvalidInputError(
            f"The job {job.name!r} was given the environment variable {missing[0]!r}, "
            "whose value is not recorded.",
            hint="Set it in this process's environment, or give it in `env`.",
            field="env",
            value=missing[0],
        )
    root = job.folder
    files: dict[str, bytes | Path] = {
        path.relative_to(root).as_posix(): path
        for path in sorted((root / CODE_FOLDER).rglob("*"))
        if path.is_file()
    }
    if order.requirements == _REQUIREMENTS:
        files[_REQUIREMENTS] = root / _REQUIREMENTS
    own = {each: given[each] for each in order.variables}
    return _spec(
        order,
        files,
        key=job.key,
        env=own,
        resources=job.resources,
        limits=job.limits,
        retries=job.retries,
    )


def _spec(
    order: ScriptOrder,
    files: Mapping[str, bytes | Path],
    *,
    key: str,
    env: Mapping[str, str],
    resources: Resources,
    limits: Limits,
    retries: int,
) -> JobSpec:
    limit = order.time_limit_s
    return JobSpec(
        key=key,
        name=order.name,
        kind=KIND,
        command=(sys.executable, "-I", "-S", str(script_start.__file__)),
        files={**files, ORDER_FILE: json.dumps(order.to_json(), indent=1).encode()},
        env={**(installer_environment() if order.requirements else {}), **env},
        resources=resources,
        # the worker ends the script itself; this is for a worker that cannot
        time_limit_s=None if limit is None else limit + order.grace_s + _PACKING_S,
        labels={"script": order.entry_point},
        checkpoint=order.checkpoints is None,
        limits=limits,
        retries=retries,
        # these tell times
        varying=(METRICS_FILE, RESULT_FILE),
    )


def job_packages() -> tuple[str, ...]:
    """Return the folders of packages that a script finds beneath its own requirements."""
    paths = sysconfig.get_paths()
    return tuple(dict.fromkeys((paths["purelib"], paths["platlib"])))


def _code(script: str | Path, source_dir: str | Path | None) -> tuple[str, dict[str, Path]]:
    """Return the entry point within the code, and every file of code by its relative name."""
    if source_dir is None:
        path = _existing(Path(script), what="script")
        return path.name, {path.name: path}
    folder = Path(source_dir).absolute()
    if not folder.is_dir():
        beside = [each.name for each in folder.parent.glob("*") if each.is_dir()]
        raise NotFoundError(
            f"There is no folder {str(source_dir)!r}.",
            hint=did_you_mean(folder.name, beside),
            kind="source_dir",
            name=str(source_dir),
        )
    code = dict(_files(folder))
    entry = Path(script)
    if entry.is_absolute() and entry.is_relative_to(folder):
        entry = entry.relative_to(folder)
    if entry.as_posix() not in code:
        raise NotFoundError(
            f"There is no script {str(script)!r} in {str(source_dir)!r}.",
            hint=did_you_mean(str(script), code),
            kind="script",
            name=str(script),
        )
    n_bytes = sum(path.stat().st_size for path in code.values())
    if n_bytes > _MOST_CODE_BYTES:
        raise InvalidInputError(
            f"{str(source_dir)!r} holds {n_bytes >> 20:,} MiB of files; "
            f"at most {_MOST_CODE_BYTES >> 20} MiB of code are copied for a job.",
            hint="Give data as a channel; channels are not copied.",
            field="source_dir",
            value=str(source_dir),
        )
    return entry.as_posix(), code


def _check_program(entry: str, path: Path) -> None:
    """Refuse a file that is data, or anything else that cannot be started."""
    if path.suffix in (".py", ".sh"):
        return
    with path.open("rb") as file:
        if file.read(2) != b"#!" and not os.access(path, os.X_OK):
            raise InvalidInputError(
                f"{entry!r} is no script.",
                hint="Give a .py or .sh file, or one that begins with '#!'; to train on a table, "
                f"begin with: loopwright init {shlex.quote(entry)}",
                field="script",
                value=entry,
            )


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(each for each in folders if each not in _LEFT_OUT)
        for name in sorted(files):
            path = Path(root) / name
            if path.is_file():
                yield path.relative_to(folder).as_posix(), path


def _existing(path: Path, *, what: str) -> Path:
    path = path.absolute()
    if path.is_file():
        return path
    beside = [each.name for each in path.parent.glob("*") if each.is_file()]
    found = "is a folder" if path.is_dir() else "does not exist"
    raise NotFoundError(
        f"The {what} {str(path)!r} {found}.",
        hint=did_you_mean(path.name, beside) if path.parent.is_dir() else "Check the path.",
        kind=what,
        name=str(path),
    )


def _checked(name: str | None, entry: str) -> str:
    if name is None:
        # a script may be called anything
        return re.sub(r"[^A-Za-z0-9]+", "-", Path(entry).stem).strip("-")[:63] or KIND
    if not _NAME.fullmatch(name):
        hint = "Use 1 to 63 letters, digits and hyphens, such as 'churn-3'."
        raise _unusable("name", name, hint)
    return name


def _checked_channels(channels: Mapping[str, str | Path]) -> dict[str, str]:
    found = {}
    upper: dict[str, str] = {}
    for name, given in channels.items():
        if not _CHANNEL.fullmatch(name) or name in (".", ".."):
            hint = "Use letters, digits, dots, hyphens and underscores, such as 'train'."
            raise _unusable("channels", name, hint)
        if (other := upper.setdefault(name.upper(), name)) != name:
            hint = f"{other!r} has the same environment variable, SM_CHANNEL_{name.upper()}."
            raise _unusable("channels", name, hint)
        path = Path(given).expanduser().resolve()
        if not path.exists():
            folder = path.parent
            beside = [each.name for each in folder.glob("*")] if folder.is_dir() else []
            raise NotFoundError(
                f"The channel {name!r} is {str(given)!r}, which does not exist.",
                hint=did_you_mean(path.name, beside),
                kind="channel",
                name=name,
            )
        found[name] = str(path)
    return found


def _checked_hyperparameters(values: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in values.items():
        if not isinstance(name, str) or not _ARGUMENT.fullmatch(name):
            hint = "An argument has a name without spaces, '=' or a leading hyphen."
            raise _unusable("hyperparameters", name, hint)
        try:
            text = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(
                f"The hyperparameter {name!r} is {value!r}, which cannot be an argument: {error}.",
                hint="Give text, a finite number, true or false, or a list or mapping of these.",
                field=f"hyperparameters.{name}",
                value=repr(value),
            ) from error
        if "\\u0000" in text:
            raise _unusable(f"hyperparameters.{name}", value, "Text with NUL cannot be passed on.")
    return dict(values)


def _checked_metrics(patterns: Mapping[str, str]) -> dict[str, str]:
    for name, pattern in patterns.items():
        if not name:
            raise _unusable("metrics", name, "Give the metric a name.")
        try:
            n_groups = re.compile(pattern).groups
        except re.error as error:
            raise InvalidInputError(
                f"The pattern of the metric {name!r} is no regular expression: {error}: {pattern!r}.",
                hint="Write one such as 'rmse: ([0-9.]+)'.",
                field=f"metrics.{name}",
                value=pattern,
            ) from error
        if n_groups < 1:
            hint = "Put parentheses around the number, as in 'rmse: ([0-9.]+)'."
            raise _unusable(f"metrics.{name}", pattern, hint)
    return dict(patterns)


def _checked_seconds(name: str, value: float | None) -> float | None:
    least = 1e-3 if name == "time_limit_s" else 0.0
    if value is not None and not least <= value < math.inf:
        raise _unusable(name, value, "Give seconds above 0.")
    return value


def _unusable(field: str, value: object, hint: str) -> InvalidInputError:
    return InvalidInputError(
        f"{field} of a script job cannot be {value!r}.", hint=hint, field=field, value=value
    )
