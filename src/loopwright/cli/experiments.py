"""The commands on experiments: list, show, compare, start, add, conclude, reproduce."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopwright.cli.main import _settings, _workspace, cli, command

if TYPE_CHECKING:
    from loopwright.loop.experiment import Experiment
    from loopwright.tune.comparison import JobComparison

_MOST_COLUMNS = 6
_WIDEST = 28

experiments = click.Group(
    "experiments", help="What was tried, why, and what came of it: jobs side by side."
)
cli.add_command(experiments)


def experiment_command(function: Callable[..., Any]) -> click.Command:
    """Return a command of the group `experiments`."""
    return command(function, experiments)


@experiment_command
@click.option("--jobs", "by_job", is_flag=True, help="One line a job, with all on record of it.")
def list_(home: Path | None, as_json: bool, by_job: bool) -> None:
    """List the experiments: your own, the rounds of loops, and studies."""
    from loopwright.cli.show import echo_json, table
    from loopwright.loop.experiment import list_experiments

    if by_job:
        _list_jobs(home, as_json=as_json)
        return
    found = list_experiments(_workspace(home))
    if as_json:
        echo_json([each.to_json() for each in found])
        return
    if not found:
        click.echo("There are no experiments here yet: loopwright experiments start NAME.")
        return
    header = ("name", "state", "jobs", "hypothesis", "conclusion")
    rows = [
        (each.name, each.state, len(each.jobs), _cut(each.hypothesis), _cut(each.conclusion))
        for each in found
    ]
    click.echo(table(header, rows))


def _list_jobs(home: Path | None, *, as_json: bool) -> None:
    from loopwright.cli.show import echo_json, table
    from loopwright.notebook.comparison import experiments as listed

    rows = listed(home=home).to_dicts()
    if as_json:
        echo_json(rows)
        return
    names = ("experiment", "job", "name", "algorithm", "state", "metric", "value", "seconds")
    click.echo(table(names, [[row[name] for name in names] for row in rows]))


@experiment_command
@click.argument("name")
def show(home: Path | None, as_json: bool, name: str) -> None:
    """Show an experiment: its hypothesis, its jobs and what came of it."""
    from loopwright.cli.show import echo_json, table
    from loopwright.loop.experiment import get_experiment
    from loopwright.notebook.comparison import main_metric
    from loopwright.tune.entry import entries_of

    workspace = _workspace(home)
    found = get_experiment(workspace, name)
    entries = list(entries_of(workspace.metadata, workspace.compute, found.jobs))
    if as_json:
        echo_json({**found.to_json(), "entries": [each.to_json() for each in entries]})
        return
    click.echo("\n".join(_lines(found)))
    if not entries:
        click.echo(f"  no jobs yet: loopwright experiments add {name} JOB...")
        return
    header = ("job", "name", "algorithm", "state", "metric", "value", "seconds")
    rows = [(e.job, e.name, e.algorithm, e.state, *main_metric(e), e.seconds) for e in entries]
    click.echo(table(header, rows))


@experiment_command
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@click.option("--metric", help="What they are ranked by [default: the usual one of the task].")
@click.option("--sort", help="A column of the table to sort by instead, such as latency_us.")
@click.option("--measure/--no-measure", default=True, help="Measure latencies not on record.")
@click.option("--page", type=click.Path(path_type=Path), help="Write a page to look at here.")
def compare(
    home: Path | None,
    as_json: bool,
    jobs: tuple[str, ...],
    metric: str | None,
    sort: str | None,
    measure: bool,
    page: Path | None,
) -> None:
    """Compare jobs, experiments, rounds (LOOP/NUMBER) and studies (study/NAME)."""
    from loopwright.cli.show import echo_json
    from loopwright.loop.comparison_page import comparison_lines
    from loopwright.notebook.comparison import compared

    found = compared(_workspace(home), jobs, metric=metric, measure=measure)
    if page is not None:
        found.save(page)
    if as_json:
        echo_json(found.value.to_json())
        return
    click.echo(_table(found.value, sort=sort))
    click.echo("\n".join(comparison_lines(found.value)))
    if page is not None:
        click.echo(f"Wrote {page}.")


@experiment_command
@click.argument("name")
@click.option("--hypothesis", default="", help="What you think will help, and why.")
def start(home: Path | None, as_json: bool, name: str, hypothesis: str) -> None:
    """Begin the experiment NAME."""
    from loopwright.loop.experiment import start_experiment
    from loopwright.wiring import open_workspace

    begun = start_experiment(open_workspace(_settings(home)), name, hypothesis=hypothesis)
    _echo(begun, as_json=as_json)


@experiment_command
@click.argument("name")
@click.argument("parts", nargs=-1, required=True, metavar="JOB...")
def add(home: Path | None, as_json: bool, name: str, parts: tuple[str, ...]) -> None:
    """Put jobs, rounds (LOOP/NUMBER) and studies (study/NAME) into the experiment NAME."""
    from loopwright.loop.experiment import add_to_experiment

    _echo(add_to_experiment(_workspace(home), name, parts), as_json=as_json)


@experiment_command
@click.argument("name")
@click.argument("conclusion")
def conclude(home: Path | None, as_json: bool, name: str, conclusion: str) -> None:
    """Write down what came of the experiment NAME."""
    from loopwright.loop.experiment import conclude_experiment

    _echo(conclude_experiment(_workspace(home), name, conclusion), as_json=as_json)


@experiment_command
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--best", "best_only", is_flag=True, help="Only the best of them.")
def reproduce(home: Path | None, as_json: bool, names: tuple[str, ...], best_only: bool) -> int:
    """Do jobs, experiments, rounds and studies again, and tell whether the same came out.

    Exit code 3 if something else came out, or something could not be done again.
    """
    from loopwright.cli.show import echo_json
    from loopwright.notebook.reproduction import reproduce as done_again

    def tell(job: Any) -> None:
        if not as_json:
            click.echo(f"{job.name} ({job.id}) {job.state.value}", err=True)

    found = done_again(names, best_only=best_only, home=home, on_change=tell)
    if as_json:
        echo_json([each.to_json() for each in found.results])
    else:
        click.echo("\n".join(found.lines()))
    return 0 if found.is_same else 3


def _echo(found: Experiment, *, as_json: bool) -> None:
    from loopwright.cli.show import echo_json

    if as_json:
        echo_json(found.to_json())
        return
    click.echo("\n".join(_lines(found)))


def _lines(found: Experiment) -> list[str]:
    lines = [
        click.style(f"{found.name} · {found.state}", bold=True),
        f"  hypothesis  {found.hypothesis or 'none was stated'}",
        f"  conclusion  {found.conclusion or 'none yet'}",
    ]
    if len(found.attempts) > 1:
        lines += [
            f"  attempt {n:<3} {each['idea']}: {each['conclusion'] or 'under way'}"
            for n, each in enumerate(found.attempts, start=1)
        ]
    return [*lines, f"  jobs        {len(found.jobs)}"]


def _table(value: JobComparison, *, sort: str | None) -> str:
    from loopwright.cli.show import table
    from loopwright.core.errors import InvalidInputError
    from loopwright.core.names import did_you_mean

    rows = value.rows()
    parameters = [f"param.{name}" for name in value.varying[:_MOST_COLUMNS]]
    columns = ["job", "name", "state", value.metric, "latency_us", "seconds", *parameters]
    if sort is not None:
        if not any(sort in row for row in rows):
            raise InvalidInputError(
                f"There is no column {sort!r} to sort by.",
                hint=did_you_mean(sort, columns),
                field="sort",
                value=sort,
            )
        rows.sort(key=lambda row: _order(row.get(sort)))
    cells = [[_cell(row.get(name)) for name in columns] for row in rows]
    return table([name.removeprefix("param.") for name in columns], cells)


def _order(value: Any) -> tuple[bool, bool, float, str]:
    """Return a key that puts numbers first, then words, then what is absent."""
    try:
        return value is None, False, float(value), ""
    except (TypeError, ValueError):
        return value is None, True, 0.0, str(value)


def _cell(value: Any) -> Any:
    return _cut(value) if isinstance(value, str) and len(value) > 32 else value


def _cut(text: str) -> str:
    first = text.strip().partition("\n")[0]
    return first if len(first) <= 60 else f"{first[: _WIDEST * 2]} …"
