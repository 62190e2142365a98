"""The command `train`: a script of one's own, or one built-in algorithm on a loop's rows."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopwright.cli.main import command

if TYPE_CHECKING:
    from loopwright.notebook.training_job import TrainingJob

_LOOP_FILES = (".yaml", ".yml")


@command
@click.argument("what", type=click.Path(path_type=Path))
@click.option("--algorithm", help="For a loop: which one [default: lightgbm].")
@click.option("--hp", "hyperparameters", multiple=True, metavar="NAME=VALUE", help="Repeatable.")
@click.option("--channel", "channels", multiple=True, metavar="NAME=PATH", help="Repeatable.")
@click.option("--source-dir", type=click.Path(path_type=Path), help="Folder of code.")
@click.option("--requirements", type=click.Path(path_type=Path), help="Packages of the script.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME=REGEX", help="Repeatable.")
@click.option("--env", "env", multiple=True, metavar="NAME[=VALUE]", help="Repeatable.")
@click.option("--cpus", type=float, help="CPUs of the job.")
@click.option("--memory", help="Memory of the job, such as '4 GiB'.")
@click.option("--gpus", type=int, default=0, help="GPUs of the job.")
@click.option("--time-limit", help="Such as '30 minutes'.")
@click.option(
    "--limit", "limits", multiple=True, metavar="NAME=VALUE", help="Such as log='10 MiB'."
)
@click.option("--workers", type=int, help="Jobs that train one model together.")
@click.option(
    "--distill",
    type=click.Choice(["if_as_good", "always"]),
    help="For auto: one fast model that learns what the blend says, served if as good, or always.",
)
@click.option("--checkpoints", type=click.Path(path_type=Path), help="Folder to go on from.")
@click.option("--retries", type=int, help="Tries more when the job is lost.")
@click.option("--name", help="What the job is called [default: the script's name].")
@click.option("--wait/--detach", default=True, help="Show the log to the end, or return at once.")
def train(
    home: Path | None,
    as_json: bool,
    what: Path,
    algorithm: str | None,
    hyperparameters: tuple[str, ...],
    channels: tuple[str, ...],
    source_dir: Path | None,
    requirements: Path | None,
    metrics: tuple[str, ...],
    env: tuple[str, ...],
    cpus: float | None,
    memory: str | None,
    gpus: int,
    time_limit: str | None,
    limits: tuple[str, ...],
    workers: int | None,
    distill: str | None,
    checkpoints: Path | None,
    retries: int | None,
    name: str | None,
    wait: bool,
) -> int:
    """Train the script WHAT (.py, .sh) as a job, or one algorithm on the rows of a loop file.

    A script finds what it would find on SageMaker: SM_MODEL_DIR, SM_CHANNEL_*, /opt/ml.
    """
    from loopwright.cli.show import Progress
    from loopwright.notebook.training import train as start

    is_loop = what.suffix in _LOOP_FILES
    job = start(
        what if is_loop else None,
        script=None if is_loop else what,
        algorithm=algorithm,
        hyperparameters={key: _value(text) for key, text in _pairs("hp", hyperparameters)} or None,
        channels=dict(_pairs("channel", channels)) or None,
        source_dir=source_dir,
        requirements=requirements,
        metrics=dict(_pairs("metric", metrics)) or None,
        env=_environment(env) or None,
        cpus=cpus,
        memory=memory,
        gpus=gpus,
        time_limit=time_limit,
        limits=dict(_pairs("limit", limits)) or None,
        workers=workers,
        distill=distill,
        checkpoint_dir=checkpoints,
        retries=retries,
        name=name,
        home=home,
        on_news=Progress(quiet=as_json),
    )
    return _told(job, as_json=as_json, wait=wait and not is_loop)


@command
@click.argument("job_id", metavar="JOB")
@click.option("--env", "env", multiple=True, metavar="NAME[=VALUE]", help="As it was given before.")
@click.option("--wait/--detach", default=True, help="Show the log to the end, or return at once.")
def retry(home: Path | None, as_json: bool, job_id: str, env: tuple[str, ...], wait: bool) -> int:
    """Try a script that failed or was stopped once more, with the checkpoints it left."""
    from loopwright.notebook.training import job as find

    again = find(job_id, home=home).retry(env=_environment(env))
    return _told(again, as_json=as_json, wait=wait)


def _told(job: TrainingJob, *, as_json: bool, wait: bool) -> int:
    """Show a job to its end if it is to be waited for, tell about it, return the exit code."""
    from loopwright.cli.show import echo_json

    if wait:
        watch(job, quiet=as_json)
    told = job.summary()
    if as_json:
        echo_json(told)
    else:
        # standard output holds the log
        click.echo("\n".join(summary_lines(told)), err=wait)
    if told["state"] == "failed":
        return 1
    return 3 if told["missed"] else 0


def watch(job: TrainingJob, *, quiet: bool) -> None:
    """Print the log of a job until it has ended; an interrupt leaves the job running."""
    from loopwright.core.errors import BackendError
    from loopwright.notebook.training_job import follow

    if not quiet:
        click.secho(f"{job.name} · job {job.id}", bold=True, err=True)
    try:
        if not quiet:
            for text in follow(job.workspace, job.id):
                click.echo(text, nl=False)
        job.wait(show=False)
    except BackendError:
        pass  # the summary says why
    except KeyboardInterrupt:
        click.echo(
            f"\nThe job goes on. `loopwright logs -f {job.id}` shows it again, "
            f"`loopwright stop {job.id}` ends it.",
            err=True,
        )
        sys.exit(130)


def summary_lines(told: Mapping[str, Any]) -> list[str]:
    """Return what became of a job, for the terminal; see `TrainingJob.summary`."""
    state = {"succeeded": "green", "failed": "red", "stopped": "yellow"}.get(told["state"])
    seconds = f" in {told['seconds']:.1f} s" if told["seconds"] is not None else ""
    lines = [f"{told['name']}: {click.style(told['state'], fg=state)}{seconds}  ({told['id']})"]
    if told["state"] in ("queued", "running"):
        return [*lines, f"  `loopwright logs -f {told['id']}` shows its log."]
    if told["reason"]:
        lines += [f"  {line}" for line in told["reason"].splitlines()]
    lines += [click.style(f"  Warning: {each}", fg="yellow") for each in told["warnings"]]
    for name, figure in told["figures"].items():
        lines.append(
            f"  {name} on validation rows: {figure['value']:.4g} "
            f"({figure['lower']:.4g} to {figure['upper']:.4g})"
        )
    if told["meets"] is not None and told["figures"]:
        missed = ", ".join(told["missed"])
        lines.append(f"  misses {missed}" if missed else "  meets every criterion")
    if told["remark"]:
        lines.append(f"  {told['remark']}")
    if told["distilled"]:
        lines.append(f"  {told['distilled']['told']}")
    if not told["figures"]:
        lines += [f"  {name}: {_number(value)}" for name, value in told["metrics"].items()]
    if told["model"]:
        lines.append(f"  model: {told['model']}")
    return [*lines, *([f"  output: {told['output']}"] if told["output"] else [])]


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.6g}"


def _pairs(option: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    from loopwright.core.errors import InvalidInputError

    found = [text.partition("=") for text in texts]
    for (name, sign, value), text in zip(found, texts, strict=True):
        # an empty hyperparameter is one, an empty path is none
        if not (name and sign and (value or option == "hp")):
            raise InvalidInputError(
                f"--{option} {text!r} is no NAME=VALUE.",
                hint="Write one such as --channel train=data/ or --hp depth=6.",
                field=option,
                value=text,
            )
    names = [name for name, _, _ in found]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInputError(
                f"--{option} gives {name!r} more than once.",
                hint="Keep one of them.",
                field=option,
                value=name,
            )
    return [(name, value) for name, _, value in found]


def _value(text: str) -> Any:
    """Return a hyperparameter as JSON has it, and as text if it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _environment(texts: Sequence[str]) -> dict[str, str]:
    from loopwright.core.errors import InvalidInputError

    found = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign and name not in os.environ:
            raise InvalidInputError(
                f"The environment variable {name!r} is not set.",
                hint="Set it, or write NAME=VALUE.",
                field="env",
                value=name,
            )
        found[name] = value if sign else os.environ[name]
    return found
