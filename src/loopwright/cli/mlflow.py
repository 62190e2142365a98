"""The commands on MLflow: bring jobs to a tracking server, write a bundle as an MLflow model."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopwright.cli.main import _settings, _workspace, cli, command

if TYPE_CHECKING:
    from loopwright.tune.publication import Pass, Publication

_NICE = 10

mlflow = click.Group("mlflow", help="Jobs on an MLflow server, and bundles as MLflow models.")
cli.add_command(mlflow)


def mlflow_command(function: Callable[..., Any]) -> click.Command:
    """Return a command of the group `mlflow`."""
    return command(function, mlflow)


@mlflow_command
@click.option("--follow", is_flag=True, help="Go on while jobs run; one process a home does.")
def sync(home: Path | None, as_json: bool, follow: bool) -> int:
    """Bring every job that is not there yet to the server in LOOPWRIGHT_MLFLOW_URI.

    Jobs do so by themselves while the variable is set; this is for those before, and for a look.
    """
    from loopwright.cli.show import echo_json

    publication = _publication(home)
    if follow:
        return _follow(publication, _settings(home).home)
    publication.take_news()
    passed = publication.deliver()
    if as_json:
        echo_json(
            {
                "server": publication.client.url,
                "done": passed.n_done,
                "open": passed.n_open,
                "error": passed.error or None,
                "refused": dict(passed.refused),
            }
        )
    else:
        _tell(passed)
    return 1 if passed.error or passed.refused else 0


@mlflow_command
def status(home: Path | None, as_json: bool) -> None:
    """List the jobs that were brought to the server, with their runs."""
    from loopwright.cli.show import echo_json, table

    found = _publication(home).states()
    if as_json:
        echo_json(found)
        return
    header = ("job", "run", "state", "why")
    rows = [(e["job"], e.get("run", ""), e["state"], e.get("reason", "")) for e in found]
    click.echo(table(header, rows))


@mlflow_command
@click.argument("model", metavar="MODEL")
@click.argument("folder", type=click.Path(path_type=Path))
def export(home: Path | None, as_json: bool, model: str, folder: Path) -> None:
    """Write MODEL, a model.tar.gz or a job, as a folder for mlflow.pyfunc.load_model."""
    from loopwright.cli.show import echo_json
    from loopwright.core.clock import SystemClock
    from loopwright.train.mlflow_flavor import write_mlflow_model

    bundle = Path(model)
    if not bundle.is_file():
        from loopwright.notebook.comparison import bundle_of

        bundle = bundle_of(_workspace(home), model)
    write_mlflow_model(bundle, folder, at=SystemClock().now())
    if as_json:
        echo_json({"folder": str(folder)})
        return
    click.echo(f"Wrote {folder}. In Python: mlflow.pyfunc.load_model({str(folder)!r})")


def _publication(home: Path | None) -> Publication:
    from loopwright.core.errors import InvalidInputError
    from loopwright.tune.mlflow_client import mlflow_client
    from loopwright.tune.publication import Publication

    settings = _settings(home)
    if settings.mlflow_uri is None:
        raise InvalidInputError(
            "No MLflow tracking server is set.",
            hint="Set LOOPWRIGHT_MLFLOW_URI to its address, such as http://localhost:5000.",
            field="LOOPWRIGHT_MLFLOW_URI",
            value=None,
        )
    workspace = _workspace(home)
    return Publication(
        metadata=workspace.metadata,
        compute=workspace.compute,
        folder=settings.home / "jobs",
        client=mlflow_client(settings.mlflow_uri, os.environ),
        now=workspace.clock.now,
        user=settings.user,
    )


def _follow(publication: Publication, home: Path) -> int:
    from loopwright.tune.publisher import follow

    os.nice(_NICE)
    follow(publication, home, tell=_tell)
    return 0


def _tell(passed: Pass) -> None:
    if passed.error:
        click.echo(f"{passed.error} {passed.n_open} jobs wait.", err=True)
        return
    click.echo(f"{passed.n_done} jobs are on the server, {passed.n_open} are under way.")
    for job, reason in passed.refused.items():
        click.echo(f"  {job} was refused: {reason}", err=True)
