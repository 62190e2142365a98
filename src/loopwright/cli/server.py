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
def server(home: Path | None, as_json: bool, host: str, port: int, at_once: int) -> None:
    """Look after all loops of the home on their schedules, until SIGTERM or Ctrl-C.

    An address that other machines can reach needs a token in LOOPWRIGHT_SERVER_TOKEN.
    """
    import logging
    import os
    import sys

    from loopwright.cli.show import echo_json
    from loopwright.server import ServerPlan, serve
    from loopwright.settings import read_settings
    from loopwright.wiring import open_workspace

    plan = ServerPlan(
        host=host,
        port=port,
        token=os.environ.get("LOOPWRIGHT_SERVER_TOKEN") or None,
        most_at_once=at_once,
    ).checked()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # the processes that attend loops answer to no one over the network
    environ = {k: v for k, v in os.environ.items() if k != "LOOPWRIGHT_SERVER_TOKEN"}
    settings = read_settings(os.environ, home=home)

    def told(address: str) -> None:
        if as_json:
            echo_json({"url": address, "pid": os.getpid()})
        else:
            click.echo(f"Looking after the loops of {settings.home}; {address}/status")
        sys.stdout.flush()

    serve(open_workspace(settings), plan, environ=environ, tell=told)
