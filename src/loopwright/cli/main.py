"""The commands. Each is a thin layer over the Python API of `loopwright.notebook`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import loopwright

if TYPE_CHECKING:
    from loopwright.settings import Settings

EPILOG = (
    "Exit codes: 0 done, 1 something failed, 2 wrong use, 3 a criterion is not met, "
    "4 not an ML problem."
)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@click.version_option(loopwright.__version__, prog_name="loopwright")
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    help="Folder of the store [default: LOOPWRIGHT_HOME, else .loopwright].",
)
@click.pass_context
def cli(context: click.Context, home: Path | None) -> None:
    """From a business problem to a model in production that keeps earning its place."""
    context.obj = home


def command(function: Callable[..., Any], group: click.Group | None = None) -> click.Command:
    """Return a command of the group: `--home` and `--json` everywhere, errors as exit code 2."""

    @wraps(function)
    @click.pass_context
    def shown(context: click.Context, /, as_json: bool, home: Path | None, **options: Any) -> None:
        from loopwright.cli.show import echo_error
        from loopwright.core.errors import BackendError, LoopwrightError

        try:
            sys.exit(function(home=home or context.obj, as_json=as_json, **options) or 0)
        except LoopwrightError as error:
            echo_error(error, as_json=as_json)
            sys.exit(1 if isinstance(error, BackendError) else 2)
        except Exception as error:
            if not as_json:
                raise
            unforeseen = BackendError(
                f"{type(error).__name__}: {error}",
                hint="Please report it; this is a fault of loopwright.",
            )
            echo_error(unforeseen, as_json=True)
            sys.exit(1)
        except KeyboardInterrupt:
            click.echo("\nInterrupted. Run the same command to go on from here.", err=True)
            sys.exit(130)

    decorated = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(shown)
    decorated = click.option("--home", type=click.Path(path_type=Path), hidden=True)(decorated)
    return (group or cli).command(name=function.__name__.rstrip("_").replace("_", "-"))(decorated)


def file_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument that names the loop file."""
    return click.argument("file", default="loop.yaml", type=click.Path(path_type=Path))(function)


@command
@file_argument
@click.option("--refresh", is_flag=True, help="Extract the source anew in any case.")
@click.option("--overrule", default="", help="Your reason to train although no model is needed.")
@click.option("--again", default="", help="Your reason to read the same test rows once more.")
def run(
    home: Path | None, as_json: bool, file: Path, refresh: bool, overrule: str, again: str
) -> int:
    """Take a loop as far as it can go now; go on where it was interrupted."""
    from loopwright.cli.show import Progress, echo_json
    from loopwright.notebook import Loop

    loop = Loop(file, home=home)
    told = Progress(quiet=as_json)
    outcome = loop.run(refresh=refresh, overrule=overrule, again=again, on_news=told).outcome
    if as_json:
        echo_json(outcome.to_json())
        return outcome.exit_code
    if not outcome.n_steps:
        click.echo(f"Nothing to do: nothing has changed ({outcome.wall_s:.2f} s).")
    click.secho(f"{outcome.loop}: {outcome.state}", bold=True)
    click.echo(outcome.message)
    endpoint = outcome.status.endpoint
    if endpoint and endpoint["alive"]:
        click.echo(f"Endpoint: {endpoint['url']}  (POST /invocations)")
    return outcome.exit_code


@command
@click.argument("name", required=False)
@click.option("--page", type=click.Path(path_type=Path), help="Write a page on the loop here.")
def status(home: Path | None, as_json: bool, name: str | None, page: Path | None) -> None:
    """Tell where each loop stands, what was decided and why."""
    from loopwright.cli.show import echo_json, status_lines
    from loopwright.notebook import Loop, page_of
    from loopwright.notebook import status as find_status

    if name and Path(name).suffix in (".yaml", ".yml") and Path(name).is_file():
        name = Loop(Path(name), home=home).name
    found = [each.value for each in find_status(name, home=home)]
    if page is not None:
        page_of(_workspace(home), _only([each.name for each in found])).save(page)
    if as_json:
        echo_json([each.to_json() for each in found])
        return
    for each in found:
        click.echo("\n".join(status_lines(each)))
    if not found:
        click.echo("There are no loops here yet.")
    if page is not None:
        click.echo(f"Wrote {page}.")


@command
@file_argument
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Write the page here.")
@click.option("--target", help="The column to predict, where FILE is no loop but a table.")
def explore(
    home: Path | None, as_json: bool, file: Path, output: Path | None, target: str | None
) -> None:
    """Show what the rows of a loop look like, or those of a table such as sales.csv."""
    from loopwright.cli.show import echo_json, echo_profile
    from loopwright.notebook import Loop

    is_loop = file.suffix.lower() in (".yaml", ".yml")
    loop = Loop(file, home=home) if is_loop else None
    found = loop.explored() if loop else None
    if loop is None or found is None:
        echo_profile(file, target, as_json=as_json, output=output, is_loop=is_loop)
        return
    if output is not None:
        path = loop.profile().save(output)
    if as_json:
        echo_json(found)
        return
    click.echo("\n".join(found["summary"]))
    if output is not None:
        click.echo(f"Wrote {path}.")


@command
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("column", required=False)
@click.option("--text", default="", help="What to know about the column, or why you decide so.")
@click.option("--decision", type=click.Choice(["keep", "drop"]), help="Whether models may see it.")
@click.option("--unit", default="", help="What its numbers count, such as 'square feet'.")
@click.option("--range", "allowed", type=float, nargs=2, help="Least and greatest right value.")
@click.option("--by", default="", help="Who says so [default: you].")
@click.option("--remove", is_flag=True, help="Take the note back.")
def note(
    home: Path | None,
    as_json: bool,
    file: Path,
    column: str | None,
    text: str,
    decision: str | None,
    unit: str,
    allowed: tuple[float, float] | None,
    by: str,
    remove: bool,
) -> None:
    """Note what you know about COLUMN; the next run goes by it. Without COLUMN, list the notes."""
    from loopwright.cli.show import echo_json
    from loopwright.notebook import Loop

    loop = Loop(file, home=home)
    if column is not None and remove:
        loop.remove_note(column)
    elif column is not None:
        loop.note(
            column, text=text, decision=decision, unit=unit, allowed_range=allowed or None, by=by
        )
    found = [each for each in loop.notes() if column in (None, each.column)]
    if as_json:
        echo_json([each.to_json() for each in found])
        return
    for each in found:
        click.echo(f"{each.column}: {each.line}")
    if not found:
        click.echo("There is no note." if column is None else f"No note on {column!r} is left.")
    elif column is not None:
        click.echo(f"`loopwright run {file}` goes by it.")


@command
@file_argument
@click.option("--rows", "-r", type=click.File("rb"), help="JSON or JSON lines [default: stdin].")
@click.option("--with", "extras", multiple=True, help="Add to every answer, such as interval.")
def predict(
    home: Path | None, as_json: bool, file: Path, rows: Any, extras: tuple[str, ...]
) -> None:
    """Send rows to the live endpoint and print its answers as JSON lines."""
    from loopwright.cli.show import echo_json
    from loopwright.notebook import Loop

    answers = Loop(file, home=home).predict(_rows(rows or sys.stdin.buffer), extras=extras)
    if as_json:
        echo_json(answers)
        return
    for answer in answers:
        click.echo(json.dumps(answer, ensure_ascii=False))


@command
@file_argument
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Write the page here.")
@click.option(
    "--watch", is_flag=True, help="Stay, and look after the loop on its schedules; start rounds."
)
def monitor(home: Path | None, as_json: bool, file: Path, output: Path | None, watch: bool) -> None:
    """Look at what the endpoint saw; unlike run, never start a round."""
    from loopwright.cli.show import Progress, echo_json
    from loopwright.monitor import summary
    from loopwright.notebook import Loop

    loop = Loop(file, home=home)
    if watch:
        loop.watch(click.echo, on_news=Progress(quiet=as_json))
    report = loop.monitor(on_news=Progress(quiet=True))
    if output is not None:
        loop.report().save(output)
    if as_json:
        echo_json(report.to_json())
        return
    click.echo("\n".join(summary(report)))


@command
def models(home: Path | None, as_json: bool) -> None:
    """List the models that were packed, with the round each came from."""
    from loopwright.cli.show import echo_json, table

    workspace = _workspace(home)
    champions = {r.key: r.body["version"] for r in workspace.metadata.list_("champion")}
    found = [
        {
            "loop": record.body["loop"],
            "round": record.body["round"],
            **record.body["output"],
            "champion": champions.get(record.body["loop"]) == record.body["output"]["version"],
        }
        for record in workspace.metadata.list_("step")
        if record.body.get("stage") == "pack" and record.body.get("state") == "done"
    ]
    if as_json:
        echo_json(found)
        return
    header = ("loop", "round", "version", "algorithm", "champion", "artifact")
    rows = [
        (
            model["loop"],
            model["round"],
            model["version"],
            model["algorithm"],
            "yes" if model["champion"] else "",
            workspace.artifacts.local_path(model["bundle"]),
        )
        for model in found
    ]
    click.echo(table(header, rows))


@command
def endpoints(home: Path | None, as_json: bool) -> None:
    """List the endpoints, what they serve and whether they live."""
    from loopwright.cli.show import echo_json, table
    from loopwright.loop.status import endpoint_status

    workspace = _workspace(home)
    names = [record.key for record in workspace.metadata.list_("endpoint")]
    found = [each for name in names if (each := endpoint_status(workspace, name))]
    if as_json:
        echo_json(found)
        return
    header = ("name", "url", "version", "pid")
    click.echo(
        table(
            header,
            [(e["name"], e["url"] or "not alive", e["version"], str(e["pid"])) for e in found],
        )
    )


@command
@click.option("--stop", is_flag=True, help="Stop the endpoint afterwards.")
@click.option(
    "--folder",
    default=".loopwright-demo",
    type=click.Path(path_type=Path),
    help="Where the demo works; made anew.",
)
def demo(home: Path | None, as_json: bool, stop: bool, folder: Path) -> int:
    """Show the whole loop on real house prices, retraining included, in a minute or two."""
    from loopwright.cli.demo import run_demo

    return run_demo(folder, stop=stop, as_json=as_json)


def main() -> None:
    """Run the command line."""
    cli(prog_name="loopwright")


def _workspace(home: Path | None) -> Any:
    from loopwright.notebook import existing_workspace

    return existing_workspace(_settings(home))


def _only(names: list[str]) -> str:
    from loopwright.core.errors import InvalidInputError

    if len(names) != 1:
        raise InvalidInputError(
            f"A page shows one loop; there are {len(names)} here: {', '.join(names) or 'none'}.",
            hint="Name one: loopwright status NAME --page FILE.",
            field="name",
            value=None,
        )
    return names[0]


def _settings(home: Path | None) -> Settings:
    import os

    from loopwright.settings import read_settings

    return read_settings(os.environ, home=home)


def _rows(stream: Any) -> list[dict[str, Any]]:
    from loopwright.core.errors import InvalidInputError

    text = stream.read().strip()
    try:
        value = json.loads(text)
    except ValueError:
        try:
            value = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError as error:
            raise InvalidInputError(
                f"The rows are not JSON: {error}.",
                hint="Give one object, a list of objects, or one object per line.",
                field="rows",
                value=None,
            ) from error
    rows = value if isinstance(value, list) else [value]
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise InvalidInputError(
            "The rows are not JSON objects.",
            hint='Give objects such as {"bedrooms": 3, "sqft_living": 1800}.',
            field="rows",
            value=None,
        )
    return rows
