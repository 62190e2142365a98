"""The commands `approve` and `reject`: what a person says about the model that waits."""

from __future__ import annotations

from pathlib import Path

import click

from loopwright.cli.main import command, file_argument


@command
@file_argument
@click.option("--reason", default="", help="Why; kept on record.")
@click.option("--name", default="", help="Who says so [default: you].")
def approve(home: Path | None, as_json: bool, file: Path, reason: str, name: str) -> None:
    """Approve the model that waits for it; the next run deploys it."""
    from loopwright.cli.show import echo_json
    from loopwright.notebook import Loop

    loop = Loop(file, home=home)
    said = loop.approve(reason=reason, name=name)
    if as_json:
        echo_json({"approved": loop.name, **said})
        return
    click.echo(f"Approved version {said['version']}. `loopwright run {file}` deploys it.")


@command
@file_argument
@click.option("--reason", required=True, help="Why; kept on record.")
@click.option("--name", default="", help="Who says so [default: you].")
def reject(home: Path | None, as_json: bool, file: Path, reason: str, name: str) -> None:
    """Reject the model that waits: it never goes live, and nobody is asked for it again."""
    from loopwright.cli.show import echo_json
    from loopwright.notebook import Loop

    loop = Loop(file, home=home)
    said = loop.reject(reason=reason, name=name)
    if as_json:
        echo_json({"rejected": loop.name, **said})
        return
    click.echo(
        f"Rejected version {said['version']}. Change {file} and run it again; "
        f"`loopwright approve {file}` takes the rejection back."
    )
