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


@command
@click.option("--url", default="http://127.0.0.1:8333", show_default=True, help="The server.")
@click.option("--region", default="us-east-1", show_default=True)
@click.option("--account", default="123456789012", show_default=True)
def env(home: Path | None, as_json: bool, url: str, region: str, account: str) -> int:
    """Print the exports that lead boto3 and the SageMaker SDKs to this machine."""
    from loopwright.cli.show import echo_json
    from loopwright.sagemaker.shell import shell_variables
    from loopwright.settings import read_settings
    from loopwright.wiring import open_workspace

    settings: Settings = read_settings(os.environ, home=home)
    variables = shell_variables(
        open_workspace(settings), url=url, region=region, account=account, environ=os.environ
    )
    if as_json:
        echo_json(variables)
        return 0
    for name, value in variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    return 0
