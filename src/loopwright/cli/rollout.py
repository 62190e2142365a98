"""The command `rollout`: where the traffic moves to a new model version, and who stops it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from loopwright.cli.main import command, file_argument

_LOOK_S = 2.0


@command
@file_argument
@click.option("--watch", is_flag=True, help="Go on until it has ended.")
@click.option("--abort", is_flag=True, help="Give all traffic back to the version before.")
@click.option("--promote", is_flag=True, help="Give all traffic to the new version now.")
@click.option("--reason", default="", help="Why; kept on record.")
def rollout(
    home: Path | None,
    as_json: bool,
    file: Path,
    watch: bool,
    abort: bool,
    promote: bool,
    reason: str,
) -> int:
    """Take the rollout of a new model a step further, if it is time; or end it."""
    from loopwright.cli.show import echo_json
    from loopwright.notebook import Loop

    loop = Loop(file, home=home)
    state = loop.rollout(abort=abort, promote=promote, reason=reason)
    said = ""
    while watch and state is not None and not _is_over(state):
        if not as_json and state["told"] != said:
            said = str(state["told"])
            click.echo(said)
        time.sleep(_LOOK_S)
        state = loop.rollout()
    if as_json:
        echo_json(state)
    elif state is None:
        click.echo("No model of this loop was ever rolled out.")
    elif state["told"] != said:
        click.echo(state["told"])
    return 3 if state is not None and state["phase"] == "rolled back" else 0


def _is_over(state: dict[str, Any]) -> bool:
    return state["phase"] in ("done", "rolled back")
