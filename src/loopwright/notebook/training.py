"""`loopwright.train` and `loopwright.job`: a script of one's own, or one built-in algorithm, as a job."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from loopwright.compute import Limits, Resources
from loopwright.compute.identity import job_id_of
from loopwright.core.digest import digest_bytes, digest_value
from loopwright.core.errors import InvalidInputError
from loopwright.core.files import write_atomically
from loopwright.core.names import did_you_mean
from loopwright.core.quantity import seconds
from loopwright.loop import ReadFile, StepNews, Workspace, parse_loop_file, read_loop_file
from loopwright.notebook.session import Loop
from loopwright.notebook.training_job import TrainingJob, about, ran_s
from loopwright.settings import Settings, read_settings
from loopwright.train import AUTO, Distill
from loopwright.train.script import script_job
from loopwright.wiring import compute_capacity, find_workspace, open_workspace

if TYPE_CHECKING:
    import polars as pl

DEFAULT_ALGORITHM = "lightgbm"


def train(
    data: Loop | str | Path | Any | None = None,
    *,
    script: str | Path | None = None,
    algorithm: str | None = None,
    target: str | None = None,
    channels: Mapping[str, Any] | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    source_dir: str | Path | None = None,
    requirements: str | Path | None = None,
    metrics: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    cpus: float | None = None,
    memory: str | None = None,
    gpus: int = 0,
    time_limit: str | float | None = None,
    limits: Limits | Mapping[str, Any] | None = None,
    workers: int | None = None,
    distill: str | None = None,
    name: str | None = None,
    checkpoint_dir: str | Path | None = None,
    retries: int | None = None,
    home: str | Path | None = None,
    on_news: Callable[[StepNews], None] | None = None,
) -> TrainingJob:
    """Train a script of your own, or one built-in algorithm, as a job; return the job.

    A script runs after the SageMaker training contract and is returned at once, as it starts. A
    built-in algorithm is trained on the training rows of a loop or a table, and is returned when
    it has ended, with its metrics on the validation rows.

    Parameters
    ----------
    data
        A loop, its file, or a Polars or pandas table; not with `script`.
    script, source_dir, requirements, metrics, env, checkpoint_dir
        See `loopwright.train.script.script_job`.
    algorithm
        A built-in algorithm, such as `xgboost`.
    target
        The column to learn, when `data` is a table.
    channels
        Files, folders or tables by name; a table is handed to the script as `NAME.csv`.
    hyperparameters
        Of the script or of the algorithm, by name.
    cpus, memory, gpus
        What the job may use, such as 2 and `4 GiB`.
    time_limit
        Seconds, or text such as `30 minutes`.
    limits
        What its processes may do beside that, such as `{"log": "10 MiB", "disk": "2 GiB"}`; see
        `loopwright.compute.Limits`.
    workers
        How many jobs train one model of xgboost or lightgbm together; `cpus` and `memory` are
        those of each. All of them must find room at once.
    distill
        For `auto`: `if_as_good` or `always`; see `loopwright.train.AutoPlan`.
    name
        What the job is called.
    retries
        How often it starts again when it was lost through no fault of its own; by default 0 for a
        script, and what the loop file says, or 1, for an algorithm.
    home
        The folder of the store; `LOOPWRIGHT_HOME`, else `.loopwright` in the working folder.
    on_news
        Told of every step on the way to a built-in algorithm's job.

    Raises
    ------
    InvalidInputError
        If something given cannot be used; nothing was started.
    NotFoundError
        If a file or an algorithm does not exist.

    Examples
    --------
    >>> import loopwright as lw
    >>> job = lw.train(script="train.py", channels={"train": "data/"})  # doctest: +SKIP
    >>> job.wait().model  # doctest: +SKIP
    """
    if (script is None) == (data is None):
        raise InvalidInputError(
            "Give either a script or data to train on." if script is None else _both(data),
            hint="lw.train(script='train.py', channels={...}), or lw.train('loop.yaml').",
            field="script",
            value=str(script),
        )
    settings = settings_of(data, home)
    limit_s = _limit_s(time_limit)
    if script is None:
        strange = {
            "channels": channels,
            "source_dir": source_dir,
            "requirements": requirements,
            "metrics": metrics,
            "env": env,
            "checkpoint_dir": checkpoint_dir,
        }
        _refuse(strange, "belongs to a script; a built-in algorithm takes its rows from the data")
        resources = (
            None if cpus is None and memory is None and not gpus else _resources(cpus, memory, gpus)
        )
        return _trained_on_data(
            data,
            settings,
            algorithm=algorithm or DEFAULT_ALGORITHM,
            target=target,
            hyperparameters=hyperparameters or {},
            resources=resources,
            minutes=limit_s / 60 if limit_s else None,
            workers=workers,
            distill=_policy(distill, algorithm),
            limits=_limits(limits),
            retries=retries,
            name=name,
            on_news=on_news,
        )
    builtin = {"algorithm": algorithm, "target": target, "workers": workers, "distill": distill}
    _refuse(builtin, "is for built-in algorithms, not a script")
    spec = script_job(
        script,
        home=settings.home,
        channels={
            key: _channel(settings.home, key, each) for key, each in (channels or {}).items()
        },
        hyperparameters=hyperparameters,
        source_dir=source_dir,
        requirements=requirements,
        metrics=metrics,
        env=env,
        resources=_resources(cpus, memory, gpus),
        time_limit_s=limit_s,
        limits=_limits(limits),
        name=name,
        checkpoint_dir=checkpoint_dir,
        retries=retries or 0,
    )
    workspace = open_workspace(settings)
    return TrainingJob(workspace, workspace.compute.submit(spec).id)


def job(job_id: str, *, home: str | Path | None = None) -> TrainingJob:
    """Return a training job that was started before, here or in another process.

    Parameters
    ----------
    job_id
        Its identifier, or the beginning or end of it, at least four characters.

    Raises
    ------
    NotFoundError
        If there is no such job in the home.
    InvalidInputError
        If several begin or end so.
    """
    from loopwright.notebook.home import existing_workspace

    workspace: Workspace = existing_workspace(settings_of(None, home))
    whole = job_id_of(workspace.compute, job_id)
    return TrainingJob(workspace, workspace.compute.get(whole).id)


def jobs(*, home: str | Path | None = None) -> pl.DataFrame:
    """Return the jobs of a home, the latest first: training, scripts and endpoints.

    Raises
    ------
    NotFoundError
        If nothing has run there yet.
    """
    import polars as pl

    from loopwright.notebook.home import existing_workspace

    workspace: Workspace = existing_workspace(settings_of(None, home))
    rows = [
        (each.id, each.kind, each.name, each.state.value, ran_s(each), about(each))
        for each in reversed(workspace.compute.list_())
    ]
    schema = {
        "id": pl.String,
        "kind": pl.String,
        "name": pl.String,
        "state": pl.String,
        "seconds": pl.Float64,
        "about": pl.String,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def _both(data: Any) -> str:
    return f"A script takes its data from channels; {type(data).__name__} was given as well."


def settings_of(data: Any, home: str | Path | None) -> Settings:
    """Return the settings of a loop that is open, or of a home."""
    if home is None and isinstance(data, Loop):
        return data.settings
    return read_settings(os.environ, home=Path(home) if home else None)


def _limit_s(limit: str | float | None) -> float | None:
    return seconds(limit, field="time_limit") if isinstance(limit, str) else limit


def _policy(distill: str | None, algorithm: str | None) -> Distill | None:
    """Return when a single model is served instead of the blend of `auto`."""
    if distill is None:
        return None
    if algorithm != AUTO:
        raise InvalidInputError(
            f"{algorithm or DEFAULT_ALGORITHM} is a single model already.",
            hint="Leave distill out, or train the algorithm auto.",
            field="distill",
            value=distill,
        )
    known: tuple[Distill, ...] = get_args(Distill)
    found = next((each for each in known if each == distill), None)
    if found is None:
        raise InvalidInputError(
            f"distill cannot be {distill!r}.",
            hint=did_you_mean(distill, known),
            field="distill",
            value=distill,
        )
    return found


def _resources(cpus: float | None, memory: str | None, gpus: int) -> Resources:
    default = Resources()
    return Resources(cpus=cpus or default.cpus, memory=memory or default.memory, gpus=gpus)


def _limits(given: Limits | Mapping[str, Any] | None) -> Limits | None:
    """Return limits given by name; numbers may be text, as they are on a command line."""
    if given is None or isinstance(given, Limits):
        return given
    names = [field.name for field in msgspec.structs.fields(Limits)]
    for name in given:
        if name not in names:
            raise InvalidInputError(
                f"There is no limit {str(name)!r}.",
                hint=did_you_mean(str(name), names),
                field=f"limits.{name}",
                value=str(name),
            )
    try:
        return msgspec.convert(dict(given), Limits, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInputError(
            f"limits cannot be {dict(given)!r}: {error}.",
            hint="Write such as processes=200, log='10 MiB', when_log_full=fail, disk='2 GiB'.",
            field="limits",
            value=str(dict(given)),
        ) from error


def _refuse(values: Mapping[str, Any], why: str) -> None:
    for name, value in values.items():
        if value is not None:
            raise InvalidInputError(
                f"{name} {why}.", hint="Leave it out.", field=name, value=str(value)
            )


def _channel(home: Path, name: str, given: Any) -> str | Path:
    """Return where the data of a channel lies; a table is written into the home first."""
    if isinstance(given, str | Path):
        return given
    content = _table(given, f"channels.{name}").write_csv().encode()
    digest = digest_bytes(content).removeprefix("sha256:")[:24]
    path = home / "channels" / digest / f"{name}.csv"
    if not path.exists():
        write_atomically(path, content)
    return path


def _table(given: Any, field: str) -> pl.DataFrame:
    import polars as pl

    if isinstance(given, pl.LazyFrame):
        return given.collect()
    if isinstance(given, pl.DataFrame):
        return given
    if hasattr(given, "to_dict") and hasattr(given, "columns"):
        return pl.from_pandas(given)
    raise InvalidInputError(
        f"{field} is a {type(given).__name__}.",
        hint="Give a path, or a Polars or pandas table.",
        field=field,
        value=type(given).__name__,
    )


def _trained_on_data(
    data: Any,
    settings: Settings,
    *,
    algorithm: str,
    target: str | None,
    hyperparameters: Mapping[str, Any],
    resources: Resources | None,
    minutes: float | None,
    workers: int | None,
    distill: Distill | None,
    limits: Limits | None,
    retries: int | None,
    name: str | None,
    on_news: Callable[[StepNews], None] | None,
) -> TrainingJob:
    from loopwright.loop.single import train_single

    read = read_data(data, settings.home, target=target, name=name)
    single = train_single(
        read,
        algorithm=algorithm,
        hyperparameters=hyperparameters,
        resources=resources,
        minutes=minutes,
        workers=workers,
        distill=distill,
        limits=limits,
        retries=retries,
        home=settings.home,
        find_workspace=lambda: find_workspace(settings),
        open_workspace=lambda: open_workspace(settings),
        capacity=compute_capacity(settings),
        on_news=on_news or _silent,
    )
    single.bundle()
    return TrainingJob(single.workspace, single.job_id, single=single)


def _silent(news: StepNews) -> None:
    """Show nothing."""


def read_data(data: Any, home: Path, *, target: str | None, name: str | None) -> ReadFile:
    """Return the loop file of some data; a table gets one made for it."""
    if isinstance(data, Loop | str | Path):
        _refuse({"target": target, "name": name}, "is said by the loop file")
        return read_loop_file(data.read.path if isinstance(data, Loop) else Path(data))
    frame = _table(data, "data")
    if target is None or target not in frame.columns:
        raise InvalidInputError(
            f"The table has no column {target!r} to learn."
            if target
            else "A table does not say what is to be learnt.",
            hint=did_you_mean(target, frame.columns) if target else "Give `target`, a column.",
            field="target",
            value=target,
        )
    return _made_up(frame, home, target=target, name=name)


def _made_up(frame: pl.DataFrame, home: Path, *, target: str, name: str | None) -> ReadFile:
    import io
    import json

    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    content = buffer.getvalue()
    digest = digest_value([digest_bytes(content), target]).removeprefix("sha256:")[:12]
    folder = home / "tables" / digest
    value = {
        "name": name or f"table-{digest}",
        "problem": {"target": target},
        "data": {"source": {"kind": "file", "path": "rows.parquet"}},
    }
    text = json.dumps(value).encode()  # JSON is YAML
    loop = parse_loop_file(text, name="the table")
    if not (folder / "rows.parquet").exists():
        write_atomically(folder / "rows.parquet", content)
    return ReadFile(path=folder / "loop.yaml", content=loop)
