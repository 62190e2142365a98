"""The compatible API as a process of its own: `python -m loopwright.cli.sagemaker --home DIR`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from loopwright.sagemaker.serve import Gateway


@click.command()
@click.option("--home", type=click.Path(path_type=Path), help="Folder of the store.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8333, show_default=True, help="0 for a free one.")
@click.option("--region", default="us-east-1", show_default=True)
@click.option("--account", default="123456789012", show_default=True)
@click.option("--others", is_flag=True, help="Listen on an address that other machines reach.")
def serve(home: Path | None, host: str, port: int, region: str, account: str, others: bool) -> None:
    """Answer boto3 and the SageMaker SDKs until SIGTERM or Ctrl+C."""
    from loopwright.sagemaker.serve import Gateway, GatewayPlan
    from loopwright.settings import read_settings
    from loopwright.wiring import open_workspace

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    workspace = open_workspace(read_settings(os.environ, home=home))
    plan = GatewayPlan(host=host, port=port, region=region, account=account, others=others)
    asyncio.run(_run(Gateway(workspace, plan)))


async def _run(gateway: Gateway) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    await gateway.run(ended, lambda url: click.echo(f"Listening on {url}"))


if __name__ == "__main__":
    serve()
