"""The command `sagemaker`: the compatible API as a process of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loopwright.cli.main import command

if TYPE_CHECKING:
    from loopwright.sagemaker.serve import Gateway


@command
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", default=8333, show_default=True, help="0 for a free one.")
@click.option("--region", default="us-east-1", show_default=True)
@click.option("--account", default="123456789012", show_default=True)
@click.option(
    "--s3", metavar="URL", help="Keep buckets in this S3-compatible store, not in the home."
)
@click.option("--others", is_flag=True, help="Listen on an address that other machines reach.")
def sagemaker(
    home: Path | None,
    as_json: bool,
    host: str,
    port: int,
    region: str,
    account: str,
    s3: str | None,
    others: bool,
) -> None:
    """Answer boto3 and the SageMaker SDKs until SIGTERM or Ctrl-C; see `loopwright env`."""
    from loopwright.cli.show import echo_json
    from loopwright.deploy.server import loop_factory
    from loopwright.sagemaker.serve import Gateway, GatewayPlan
    from loopwright.settings import read_settings
    from loopwright.wiring import bucket_place, open_workspace

    def told(url: str) -> None:
        if as_json:
            echo_json({"url": url, "pid": os.getpid()})
        else:
            click.echo(f"Listening on {url}")
        sys.stdout.flush()

    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    for name in ("alembic", "botocore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    settings = read_settings(os.environ, home=home)
    place = bucket_place(settings, url=s3)
    workspace = open_workspace(settings)
    plan = GatewayPlan(
        host=host, port=port, region=region, account=account, others=others, s3=place
    )
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_run(Gateway(workspace, plan), told))


async def _run(gateway: Gateway, tell: Callable[[str], object]) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    await gateway.run(ended, tell)
