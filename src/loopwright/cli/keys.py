"""The commands on access keys: list, create, revoke; a key lets clients of AWS in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopwright.cli.main import cli, command

if TYPE_CHECKING:
    from loopwright.loop.workspace import Workspace


@cli.group()
def keys() -> None:
    """See who may ask the SageMaker-compatible API, let others in, and shut them out."""


def keys_command(function: Callable[..., Any]) -> click.Command:
    """Return a command of the group `keys`."""
    return command(function, keys)


def _workspace(home: Path | None) -> Workspace:
    from loopwright.settings import read_settings
    from loopwright.wiring import open_workspace

    return open_workspace(read_settings(os.environ, home=home))


@keys_command
def list_(home: Path | None, as_json: bool) -> None:
    """List the keys of the home; their secrets are not shown."""
    from loopwright.cli.show import echo_json, table
    from loopwright.sagemaker.key import list_keys

    found = [
        {
            "id": key.id,
            "user": key.user,
            "purpose": key.purpose,
            "account": key.account,
            "created": f"{created:%Y-%m-%d %H:%M}",
        }
        for key, created in list_keys(_workspace(home).metadata)
    ]
    if as_json:
        echo_json(found)
    elif found:
        click.echo(table(tuple(found[0]), [tuple(each.values()) for each in found]))
    else:
        click.echo("There is no key yet; `loopwright env` makes one.")


@keys_command
@click.argument("purpose")
@click.option("--account", default="123456789012", show_default=True)
def create(home: Path | None, as_json: bool, purpose: str, account: str) -> None:
    """Make a key for a PURPOSE, such as `ci`, and show it with its secret this once."""
    from loopwright.cli.show import echo_json
    from loopwright.sagemaker.key import new_key

    workspace = _workspace(home)
    made = new_key(workspace.metadata, user=workspace.user, account=account, purpose=purpose[:64])
    if as_json:
        echo_json({"id": made.id, "secret": made.secret, "account": account})
        return
    click.echo(f"export AWS_ACCESS_KEY_ID={made.id}")
    click.echo(f"export AWS_SECRET_ACCESS_KEY={made.secret}")


@keys_command
@click.argument("key_id", metavar="KEY")
def revoke(home: Path | None, as_json: bool, key_id: str) -> None:
    """Forget a KEY: requests that are signed with it are refused from now on."""
    from loopwright.cli.show import echo_json
    from loopwright.sagemaker.key import revoke_key

    gone = revoke_key(_workspace(home).metadata, key_id)
    if as_json:
        echo_json({"id": gone.id, "purpose": gone.purpose})
        return
    click.echo(f"The key {gone.id} ({gone.purpose} of {gone.user}) is gone.")
    if gone.purpose == "jobs":
        click.echo("Start the server again, so that it gives its jobs another one.")
