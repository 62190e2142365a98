"""The commands `hold`, `freeze`, `resume` and `retrain`: a person's say in the feedback loop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from loopwright.cli.main import command, file_argument

if TYPE_CHECKING:
    from loopwright.loop.feedback_state import LoopState


@command
@file_argument
@click.option("--reason", required=True, help="Why; kept on record.")
@click.option("--name", default="", help="Who says so [default: you].")
def hold(home: Path | None, as_json: bool, file: Path, reason: str, name: str) -> None:
    """Let no round begin until `resume`; the champion goes on answering."""
    from loopwright.notebook import Loop

    state = Loop(file, home=home).hold(reason=reason, name=name)
    _tell(state, file, as_json=as_json, told="is held: no round begins. The champion answers.")


@command
@file_argument
@click.option("--reason", required=True, help="Why; kept on record.")
@click.option("--name", default="", help="Who says so [default: you].")
def freeze(home: Path | None, as_json: bool, file: Path, reason: str, name: str) -> None:
    """Let nothing be begun or taken further until `resume`; the champion goes on answering."""
    from loopwright.notebook import Loop

    state = Loop(file, home=home).freeze(reason=reason, name=name)
    _tell(state, file, as_json=as_json, told="is frozen. The champion answers.")


@command
@file_argument
@click.option("--reason", required=True, help="Why; kept on record.")
@click.option("--name", default="", help="Who says so [default: you].")
def resume(home: Path | None, as_json: bool, file: Path, reason: str, name: str) -> None:
    """Let a held or frozen loop go on where it was stopped."""
    from loopwright.notebook import Loop

    state = Loop(file, home=home).resume(reason=reason, name=name)
    told = f"goes on: {state.meaning}. `loopwright run {file}` takes it further."
    _tell(state, file, as_json=as_json, told=told)


@command
@file_argument
@click.option("--reason", required=True, help="Why; kept on record.")
def retrain(home: Path | None, as_json: bool, file: Path, reason: str) -> int:
    """Go round again with the labelled live rows although nothing calls for it."""
    from loopwright.cli.show import Progress, echo_json
    from loopwright.notebook import Loop

    loop = Loop(file, home=home)
    outcome = loop.retrain(reason=reason, on_news=Progress(quiet=as_json)).outcome
    if as_json:
        echo_json(outcome.to_json())
        return outcome.exit_code
    click.secho(f"{outcome.loop}: {outcome.state}", bold=True)
    click.echo(outcome.message)
    return outcome.exit_code


def _tell(state: LoopState, file: Path, *, as_json: bool, told: str) -> None:
    import msgspec

    from loopwright.cli.show import echo_json

    if as_json:
        echo_json(msgspec.to_builtins(state))
        return
    click.echo(f"{state.loop} {told}")
    if state.state in ("held", "frozen"):
        click.echo(f"`loopwright resume {file} --reason WHY` lets it go on.")
