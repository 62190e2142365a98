"""The command `server`: all loops of a home, looked after on their schedules."""

from __future__ import annotations

from pathlib import Path

import click

from loopwright.cli.main import command


@command
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", default=8700, show_default=True, help="0 for a free one.")
@click.option(
    "--at-once", default=2, show_default=True, help="How many loops are looked after at once."
)
@click.option(
    "--turn-limit",
    default="12 hours",
    show_default=True,
    help="How long one turn at a loop may last.",
)
@click.option("--region", default="us-east-1", show_default=True, help="For clients of AWS.")
@click.option("--account", default="123456789012", show_default=True, help="For clients of AWS.")
@click.option(
    "--s3",
    metavar="URL",
    help="Keep the buckets of clients of AWS in this S3-compatible store, not in the home.",
)
def server(
    home: Path | None,
    as_json: bool,
    host: str,
    port: int,
    at_once: int,
    turn_limit: str,
    region: str,
    account: str,
    s3: str | None,
) -> None:
    """Look after all loops of the home, and answer boto3 and the SageMaker SDKs, until Ctrl-C.

    What a shell needs for these, `loopwright env` prints. An address that other machines can reach needs a token in LOOPWRIGHT_SERVER_TOKEN.
    """
    import logging
    import os
    import sys

    from loopwright.cli.show import echo_json
    from loopwright.core.quantity import seconds
    from loopwright.server import ServerPlan, serve
    from loopwright.settings import read_settings
    from loopwright.wiring import bucket_place, open_workspace

    settings = read_settings(os.environ, home=home)
    plan = ServerPlan(
        host=host,
        port=port,
        token=os.environ.get("LOOPWRIGHT_SERVER_TOKEN") or None,
        most_at_once=at_once,
        turn_limit_s=seconds(turn_limit, field="--turn-limit"),
        region=region,
        account=account,
        s3=bucket_place(settings, url=s3),
    ).checked()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    for name in ("alembic", "botocore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # the processes that attend loops answer to no one over the network
    environ = {k: v for k, v in os.environ.items() if k != "LOOPWRIGHT_SERVER_TOKEN"}

    def told(address: str) -> None:
        if as_json:
            echo_json({"url": address, "pid": os.getpid()})
        else:
            click.echo(f"Looking after the loops of {settings.home}; {address}/status")
        sys.stdout.flush()

    serve(open_workspace(settings), plan, environ=environ, tell=told)
