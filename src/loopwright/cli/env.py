"""What a shell needs so that clients of AWS reach this machine: `eval $(loopwright env)`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loopwright.cli.main import command

if TYPE_CHECKING:
    from loopwright.settings import Settings

# where `loopwright server` listens when it is not told otherwise
_USUAL = "http://127.0.0.1:8700"


@command
@click.option("--url", help="The server; the one that runs for this home when absent.")
@click.option("--region", default="us-east-1", show_default=True)
@click.option("--account", default="123456789012", show_default=True)
def env(home: Path | None, as_json: bool, url: str | None, region: str, account: str) -> int:
    """Print the exports that lead boto3 and the SageMaker SDKs to this machine."""
    from loopwright.cli.show import echo_json
    from loopwright.sagemaker.serve import found_address
    from loopwright.sagemaker.shell import shell_variables
    from loopwright.settings import read_settings
    from loopwright.wiring import open_workspace

    settings: Settings = read_settings(os.environ, home=home)
    url = url or found_address(settings.home)
    if url is None:
        url = _USUAL
        click.echo(f"No server runs for {settings.home}; start `loopwright server`.", err=True)
    variables = shell_variables(
        open_workspace(settings), url=url, region=region, account=account, environ=os.environ
    )
    if as_json:
        echo_json(variables)
        return 0
    for name, value in variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    return 0
