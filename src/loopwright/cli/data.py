"""The commands on a loop's rows: refresh, list, show, diff, export, contract, accept, captured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from loopwright.cli.main import cli, command, file_argument

_MAX_NOTES = 20


@cli.group()
def data() -> None:
    """Refresh, list, compare and export the rows of loops."""


def data_command(function: Callable[..., Any]) -> click.Command:
    """Return a command of the group `data`."""
    return command(function, data)


def loop_name(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> str | None:
    """Return the name of a loop, given as it is or by the loop's file."""
    if value is None or not value.endswith((".yaml", ".yml")) or not Path(value).is_file():
        return value
    from loopwright.loop import read_loop_file

    return read_loop_file(Path(value)).content.name


def loop_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option that says whose snapshots are meant."""
    return click.option(
        "--loop",
        callback=loop_name,
        help="Whose snapshots, by name or loop file [default: those of all loops].",
    )(function)


@data_command
@file_argument
@click.option("--full", is_flag=True, help="Read all rows, now, although the file names a cursor.")
@click.option("--now", is_flag=True, help="Read now, although `every` is not over yet.")
@click.option("--watch", is_flag=True, help="Stay, and read again whenever `every` is over.")
def refresh(
    home: Path | None, as_json: bool, file: Path, full: bool, now: bool, watch: bool
) -> None:
    """Read the source of a loop and keep what is new, if it is time; no round begins."""
    from loopwright.cli.show import echo_json
    from loopwright.notebook import Loop

    loop = Loop(file, home=home)
    if watch:
        loop.watch_rows(click.echo)
    refreshed = loop.refresh(full=full, only_due=not (now or full))
    if as_json:
        echo_json({**refreshed.to_json(), "snapshot": _record(refreshed.snapshot)})
        return
    click.secho(f"{refreshed.loop}: {refreshed.state}", bold=True)
    click.echo(refreshed.message)


@data_command
@click.argument("name", required=False, callback=loop_name)
def list_(home: Path | None, as_json: bool, name: str | None) -> None:
    """List the snapshots of the loop NAME (or of its file), or of all loops, and whence they came."""
    from loopwright.cli.show import echo_json, table
    from loopwright.loop import list_snapshots
    from loopwright.loop.lineage import short

    found = list_snapshots(_workspace(home).metadata, name)
    if as_json:
        echo_json([_record(each) for each in found])
        return
    if not found:
        click.echo("There are no snapshots here yet: loopwright data refresh FILE.")
        return
    header = ("digest", "loop", "taken at", "kind", "rows", "new", "state", "source")
    rows = [
        (
            short(each["digest"]),
            each["loop"],
            each["taken_at"][:16].replace("T", " "),
            each["kind"],
            each["n_rows"],
            f"{each['n_new']:,}" if each["n_new"] is not None else None,
            "current" if each["current"] else each["state"],
            each["source"],
        )
        for each in found
    ]
    click.echo(table(header, rows))


@data_command
@click.argument("digest", default="latest")
@loop_option
@click.option("--rows", "-r", "n_rows", default=5, show_default=True, help="How many to show.")
def show(home: Path | None, as_json: bool, digest: str, loop: str | None, n_rows: int) -> None:
    """Show one snapshot: lineage, schema, first rows, and why it was quarantined.

    DIGEST is a digest, the start of one, `latest`, `current`, or the name of a loop.
    """
    from loopwright.cli.show import echo_json, table

    found, rows = _found(home, digest, loop)
    if as_json:
        notes = _notes(found)
        echo_json(
            {**_record(found), "notes": notes, "rows": rows.head(n_rows).collect().to_dicts()}
        )
        return
    click.echo("\n".join(_lines(found)))
    if n_rows > 0:
        head = rows.head(n_rows).collect()
        click.echo("\n" + table(head.columns, head.rows()))


@data_command
@click.argument("first")
@click.argument("second", default="latest")
@loop_option
def diff(home: Path | None, as_json: bool, first: str, second: str, loop: str | None) -> None:
    """Tell what changed from the snapshot FIRST to SECOND: columns, rows, values."""
    from loopwright.cli.show import echo_json
    from loopwright.data import difference

    (one, rows), (other, others) = (_found(home, each, loop) for each in (first, second))
    found = difference(rows, others)
    if as_json:
        echo_json({"first": one["digest"], "second": other["digest"], **found.to_json()})
        return
    click.echo("\n".join(found.summary()))


@data_command
@click.argument("digest", default="latest")
@loop_option
@click.option("--format", "kind", type=click.Choice(["csv", "parquet", "json"]))
@click.option(
    "--output", "-o", required=True, type=click.Path(path_type=Path), help="Write the rows here."
)
@click.option(
    "--safe/--as-is",
    default=True,
    show_default=True,
    help="Put an apostrophe before CSV text that a spreadsheet program would run as a formula.",
)
def export(
    home: Path | None,
    as_json: bool,
    digest: str,
    loop: str | None,
    kind: Any,
    output: Path,
    safe: bool,
) -> None:
    """Write the rows of a snapshot to a file; the format is told from its suffix if not given."""
    from loopwright.cli.show import echo_json
    from loopwright.data import export_rows

    found, rows = _found(home, digest, loop)
    n_rows = export_rows(rows, output, kind=kind, safe=safe)
    if as_json:
        echo_json({"digest": found["digest"], "file": str(output), "n_rows": n_rows})
        return
    click.echo(f"Wrote {n_rows:,} rows to {output}.")


@data_command
@click.argument("name", callback=loop_name)
def contract(home: Path | None, as_json: bool, name: str) -> None:
    """Show what the rows of the loop NAME are expected to look like."""
    from loopwright.cli.show import echo_json, table
    from loopwright.data import Contract
    from loopwright.loop.intake import shown_categories

    record = _workspace(home).metadata.get("contract", name)
    if as_json:
        echo_json(record.body["contract"])
        return
    agreed = Contract.from_json(record.body["contract"])
    rows = [
        (
            column.name,
            column.type + (", key" if column.is_key else ""),
            "may be" if column.nullable else "never",
            ", ".join(shown_categories(column)[:6])
            + (", ..." if len(column.categories) > 6 else "")
            if column.categories
            else f"{column.low:,.6g} to {column.high:,.6g}"
            if column.low is not None and column.high is not None
            else "any",
        )
        for column in agreed.columns
    ]
    click.echo(table(("column", "type", "missing", "values"), rows))


@data_command
@click.argument("name", callback=loop_name)
@click.option("--reason", default="", help="Why; kept on record.")
def accept(home: Path | None, as_json: bool, name: str, reason: str) -> None:
    """Take the quarantined rows of the loop NAME; the next run learns from them."""
    from loopwright.cli.show import echo_json
    from loopwright.loop import accept_snapshot

    accepted = accept_snapshot(_workspace(home), name, reason=reason)
    if as_json:
        echo_json(_record(accepted))
        return
    click.echo(
        f"Took {accepted['n_rows']:,} rows; what later ones shall look like is agreed anew. "
        "The next run goes by them."
    )


@data_command
@click.argument("name", callback=loop_name)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="A new folder; ENDPOINT/VARIANT/YYYY/MM/DD/HH/captured.jsonl is made in it.",
)
def captured(home: Path | None, as_json: bool, name: str, output: Path) -> None:
    """Write what the loop or endpoint NAME captured, as SageMaker's data capture does."""
    from loopwright.cli.show import echo_json
    from loopwright.deploy.capture_export import export_capture
    from loopwright.deploy.endpoint import Endpoint

    workspace = _workspace(home)
    known = {each.body["loop"]: each.key for each in workspace.metadata.list_("endpoint")}
    endpoint = known.get(name) or workspace.metadata.get("endpoint", name).key
    folder = Endpoint(endpoint, workspace.endpoint_folder(endpoint)).capture_folder
    n_lines = export_capture(folder, output, endpoint=endpoint)
    if as_json:
        echo_json({"endpoint": endpoint, "folder": str(output), "n_lines": n_lines})
        return
    click.echo(f"Wrote {n_lines:,} answers of {endpoint} to {output}.")


def _workspace(home: Path | None) -> Any:
    import os

    from loopwright.notebook import existing_workspace
    from loopwright.settings import read_settings

    return existing_workspace(read_settings(os.environ, home=home))


def _found(home: Path | None, digest: str, loop: str | None) -> tuple[dict[str, Any], Any]:
    """Return the record of a snapshot and its rows."""
    from loopwright.data import Snapshot, scan
    from loopwright.loop import find_snapshot

    workspace = _workspace(home)
    found = find_snapshot(workspace.metadata, digest, loop=loop)
    return found, scan(Snapshot.from_json(found["snapshot"]), workspace.artifacts)


def _record(record: dict[str, Any] | None) -> dict[str, Any]:
    """Return what is on record of a snapshot, without what only the machine needs."""
    return {key: value for key, value in (record or {}).items() if key != "snapshot"}


def _lines(found: dict[str, Any]) -> list[str]:
    state = found["state"] + (", current" if found["current"] else "")
    lines = [
        click.style(found["digest"], bold=True),
        f"  {found['n_rows']:,} rows of {found['source']}, taken {found['taken_at']} ({state})",
    ]
    if found["query"]:
        lines.append(f"  query: {found['query']}")
    if found["cursor"] and found["kind"] == "increment":
        cursor = found["cursor"]
        lines.append(
            f"  {found['n_new']:,} new: {cursor['column']} from {cursor['from']} to {cursor['to']}"
        )
    if found["parent"]:
        lines.append(f"  after {found['parent']}")
    if found["remark"]:
        lines.append(f"  all rows were read: {found['remark']}")
    lines += [
        click.style(f"  ✗ {violation['message']}", fg="red") for violation in found["violations"]
    ]
    schema = ", ".join(f"{name} {dtype}" for name, dtype in found["schema"].items())
    notes = [f"  {name}: {reason}" for name, reason in _notes(found).items()]
    return [*lines, f"  {schema}", *notes[:_MAX_NOTES]]


def _notes(record: dict[str, Any]) -> dict[str, str]:
    """Return what happened to columns beyond plain typing: text that was left, cells that went."""
    conversions = record["snapshot"]["conversions"]
    return {
        each["column"]: each["reason"]
        for each in conversions
        if each["reading"] is None or each["n_nulled"]
    }
