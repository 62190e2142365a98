"""The command `tune`: the hyperparameters of one algorithm, searched by jobs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopwright.cli.main import command
from loopwright.core.errors import InvalidInputError

if TYPE_CHECKING:
    from loopwright.notebook.tuning import TuningResult
    from loopwright.tune import TrialRecord

_SHOWN = 5


@command
@click.argument("loop", type=click.Path(path_type=Path))
@click.option("--algorithm", default="lightgbm", show_default=True, help="What is trained.")
@click.option("--trials", type=int, help="How many sets of hyperparameters [default: 30].")
@click.option("--minutes", type=float, help="Wall time of the search [default: no limit].")
@click.option("--money", type=float, help="What its processors may cost [default: no limit].")
@click.option("--parallel", type=int, help="Jobs side by side [default: what there is room for].")
@click.option("--sampler", type=click.Choice(["tpe", "random"]), help="[default: tpe]")
@click.option("--prune/--no-prune", default=None, help="End jobs that fall behind [default: yes].")
@click.option("--recipe/--no-recipe", default=None, help="Try other features too [default: no].")
@click.option(
    "--space",
    "space",
    multiple=True,
    metavar="NAME=LOW..HIGH[:log]",
    help="What to try; or NAME=a,b,c. Repeatable.",
)
@click.option("--name", help="Of the study; the same name goes on with it.")
def tune(
    home: Path | None,
    as_json: bool,
    loop: Path,
    algorithm: str,
    trials: int | None,
    minutes: float | None,
    money: float | None,
    parallel: int | None,
    sampler: str | None,
    prune: bool | None,
    recipe: bool | None,
    space: tuple[str, ...],
    name: str | None,
) -> int:
    """Search the hyperparameters of an algorithm on the rows of the loop file LOOP."""
    from loopwright.cli.show import Progress, echo_json
    from loopwright.notebook.tuning import tune as search

    def told(trial: TrialRecord, best: TrialRecord | None) -> None:
        if not as_json:
            click.echo(_line(trial, best), err=True)

    result = search(
        loop,
        algorithm=algorithm,
        trials=trials,
        minutes=minutes,
        money=money,
        parallel=parallel,
        sampler=sampler,
        prune=prune,
        recipe=recipe,
        space=dict(_range(text) for text in space) or None,
        name=name,
        home=home,
        on_trial=told,
        on_news=Progress(quiet=as_json),
    )
    if as_json:
        echo_json(result.summary())
    else:
        _show(result)
    return 0


def _line(trial: TrialRecord, best: TrialRecord | None) -> str:
    from loopwright.notebook.tuning import shown

    settings = ", ".join(f"{k} {shown(v)}" for k, v in trial.hyperparameters.items())
    value = shown(trial.value) if trial.value is not None else trial.state.value
    seconds = f"{trial.seconds:5.1f} s" if trial.seconds is not None else " " * 7
    so_far = f"best {shown(best.value)}" if best else "no result yet"
    reason = f"\n{'':>8}because {trial.reason.splitlines()[0]}" if trial.reason else ""
    return f"  trial {trial.number + 1:>3}  {seconds}  {value:>10}  {so_far}  ({settings}){reason}"


def _show(result: TuningResult) -> None:
    from loopwright.notebook.tuning import shown

    found = result.found
    cost = "" if found.cost is None else f", cost {found.cost:.4g}"
    click.secho(f"{found.study}: {len(found.trials)} trials{cost}", bold=True)
    for trial in result.ranked()[:_SHOWN]:
        settings = ", ".join(f"{k}: {shown(v)}" for k, v in trial.hyperparameters.items())
        origin = "" if trial.origin == "search" else f"   ({trial.origin})"
        click.echo(f"  {found.metric} {shown(trial.value):>10}   {settings}{origin}")
    settings = ", ".join(f"{k}: {shown(v)}" for k, v in result.best.items())
    click.echo("To use the best, write into the loop file:")
    click.echo(f"train:\n  hyperparameters:\n    {found.algorithm}: {{{settings}}}")
    if result.recipe:
        choices = ", ".join(f"{k}: {v}" for k, v in result.recipe.items())
        click.echo(f"  recipe: {{{choices}}}")


def _range(text: str) -> tuple[str, Any]:
    """Return the name and the values in `NAME=LOW..HIGH[:log]` or `NAME=a,b,c`."""
    name, found, values = text.partition("=")
    if not found or not name or not values:
        raise _unreadable(text)
    if ".." not in values:
        return name, [_value(part) for part in values.split(",")]
    ends, _, scale = values.partition(":")
    low, _, high = ends.partition("..")
    try:
        return name, {"low": float(low), "high": float(high), "log": scale == "log"}
    except ValueError as error:
        raise _unreadable(text) from error


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _unreadable(text: str) -> InvalidInputError:
    return InvalidInputError(
        f"--space {text!r} cannot be read.",
        hint="Write NAME=LOW..HIGH, NAME=LOW..HIGH:log, or NAME=a,b,c.",
        field="space",
        value=text,
    )
