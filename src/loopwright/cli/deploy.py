"""The command that puts one file behind an endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from loopwright.cli.main import command


@command
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Of the endpoint.")
@click.option("--variant", multiple=True, metavar="NAME=MODEL", help="Answers a part; MODEL: main.")
@click.option("--weight", multiple=True, metavar="NAME=NUMBER", help="The part of main or another.")
@click.option("--shadow", multiple=True, metavar="NAME=MODEL", help="Is asked as well, unseen.")
@click.option("--port", type=int, help="Where it listens [default: a free one, kept].")
@click.option("--workers", default="1", show_default=True, help="Processes: 4, or by load: 0-4.")
@click.option("--idle", default="10 minutes", show_default=True, help="Unasked: down to the least.")
@click.option("--capture-share", type=float, default=1.0, show_default=True, help="0 to 1.")
@click.option("--program", default="inference.py", show_default=True, help="Own code: its file.")
@click.option(
    "--timeout", type=float, default=60.0, show_default=True, help="Own code: s for one answer."
)
@click.option(
    "--start-timeout", type=float, default=600.0, show_default=True, help="Own code: s to start."
)
@click.option("--memory", default="4 GiB", show_default=True, help="Own code: all it may hold.")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="Own code: a variable for it.")
def deploy(
    home: Path | None,
    as_json: bool,
    model: Path,
    name: str,
    variant: tuple[str, ...],
    weight: tuple[str, ...],
    shadow: tuple[str, ...],
    port: int | None,
    workers: str,
    idle: str,
    capture_share: float,
    program: str,
    timeout: float,
    start_timeout: float,
    memory: str,
    env: tuple[str, ...],
) -> None:
    """Put MODEL, a model.tar.gz, behind an endpoint NAME, or exchange the one that is there.

    An archive with code/inference.py (model_fn, input_fn, predict_fn, output_fn, or transform_fn)
    and code/requirements.txt is run in a process and an environment of its own. The model of a
    loop is deployed by `loopwright run`. `loopwright stop endpoint/NAME` ends it.
    """
    from loopwright.cli.show import echo_json
    from loopwright.notebook import deploying

    found = deploying.deploy(
        model,
        name=name,
        variants=_pairs(variant, "--variant"),
        weights={key: _number(value) for key, value in _pairs(weight, "--weight").items()},
        shadows=_pairs(shadow, "--shadow"),
        port=port,
        workers=_workers(workers, idle),
        capture_share=capture_share,
        program=program,
        timeout_s=timeout,
        start_timeout_s=start_timeout,
        memory=memory,
        env=_pairs(env, "--env"),
        home=home,
    )
    if as_json:
        echo_json(found.to_json())
        return
    what = "your code" if found.is_own_code else "the model"
    click.echo(f"{found.url} serves {what}, version {found.version}  (POST /invocations)")
    for each, version in found.variants.items():
        click.echo(f"  {each}: version {version}")
    click.echo(f"`loopwright logs {found.job}` shows its log.")


def _pairs(texts: tuple[str, ...], option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals) or name in found:
            raise click.BadParameter(f"{text!r} is not one NAME=VALUE.", param_hint=option)
        found[name] = value
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no number.", param_hint="--weight") from None


def _workers(text: str, idle: str) -> int | dict[str, Any]:
    least, dash, most = text.partition("-")
    if not (least.isdigit() and (most.isdigit() if dash else not most)):
        raise click.BadParameter(f"{text!r} is neither 4 nor 0-4.", param_hint="--workers")
    return {"least": int(least), "most": int(most), "idle": idle} if dash else int(least)
