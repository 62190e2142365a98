"""The commands on alarms: list, show, ack, accept, test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopwright.cli.main import cli, command, file_argument

if TYPE_CHECKING:
    from loopwright.loop.alarm import AlarmRecord


@cli.group()
def alarms() -> None:
    """See what a loop raised, say that you know, and test where it is told."""


def alarms_command(function: Callable[..., Any]) -> click.Command:
    """Return a command of the group `alarms`."""
    return command(function, alarms)


@alarms_command
@file_argument
@click.option("--all", "include_closed", is_flag=True, help="Also those that are over.")
def list_(home: Path | None, as_json: bool, file: Path, include_closed: bool) -> int:
    """List the open alarms of a loop; with one that nobody has acknowledged, exit with 3."""
    from loopwright.cli.show import echo_json, table
    from loopwright.notebook import Loop

    found = Loop(file, home=home).alarms(include_closed=include_closed)
    code = 3 if any(each.state == "open" for each in found) else 0
    if as_json:
        echo_json([each.to_json() for each in found])
        return code
    if not found:
        click.echo("There is no open alarm." if not include_closed else "There was no alarm yet.")
        return code
    header = ("id", "opened", "state", "kind", "about", "told")
    rows = [
        (
            each.id,
            f"{each.opened_at:%Y-%m-%d %H:%M}",
            each.state,
            each.kind.replace("_", " "),
            each.subject,
            each.n_told,
        )
        for each in found
    ]
    click.echo(table(header, rows))
    return code


@alarms_command
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("alarm")
def show(home: Path | None, as_json: bool, file: Path, alarm: str) -> None:
    """Show the alarm ALARM of a loop: what moved, how much, since when, and what to do."""
    from loopwright.cli.show import echo_json
    from loopwright.notebook import Loop

    found = Loop(file, home=home).alarm(alarm)
    if as_json:
        echo_json(found.to_json())
        return
    click.echo("\n".join(_lines(found)))


@alarms_command
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("alarm")
@click.option("--reason", default="", help="What it is about; kept on record.")
@click.option("--name", default="", help="Who says so [default: you].")
def ack(home: Path | None, as_json: bool, file: Path, alarm: str, reason: str, name: str) -> None:
    """Say that you know of the alarm ALARM; it stays open until it is over."""
    from loopwright.cli.show import echo_json
    from loopwright.notebook import Loop

    found = Loop(file, home=home).acknowledge(alarm, reason=reason, name=name)
    if as_json:
        echo_json(found.to_json())
        return
    click.echo(f"{found.acknowledged_by} knows of {found.id}: {found.message}")


@alarms_command
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("alarm")
@click.option("--reason", required=True, help="Why it is no fault; kept on record.")
@click.option("--name", default="", help="Who says so [default: you].")
def accept(
    home: Path | None, as_json: bool, file: Path, alarm: str, reason: str, name: str
) -> None:
    """Take the change behind ALARM as the new normal: later rows are compared with those since."""
    from loopwright.cli.show import echo_json
    from loopwright.notebook import Loop

    found = Loop(file, home=home).accept_change(alarm, reason=reason, name=name)
    if as_json:
        echo_json(found.to_json())
        return
    click.echo(f"{found.id} is over: {found.closed_because}")


@alarms_command
@file_argument
def test(home: Path | None, as_json: bool, file: Path) -> int:
    """Send a test message to every sink of the loop file now, and tell what became of each."""
    from loopwright.cli.show import echo_json
    from loopwright.notebook import Loop

    found = Loop(file, home=home).test_sinks()
    code = 0 if all(each == "sent" for each in found.values()) else 1
    if as_json:
        echo_json(found)
        return code
    for sink, told in found.items():
        mark, colour = ("✓", "green") if told == "sent" else ("✗", "red")
        click.echo(f"{click.style(mark, fg=colour)} {sink}: {told}")
    if not found:
        click.echo("The loop file names no sink: monitor: {alarms: [...]}.")
    return code


def _lines(found: AlarmRecord) -> list[str]:
    times = [f"opened {found.opened_at:%Y-%m-%d %H:%M} UTC"]
    if found.since_at is not None:
        times.append(f"likely so since {found.since_at:%Y-%m-%d %H:%M}")
    if found.closed_at is not None:
        times.append(f"over {found.closed_at:%Y-%m-%d %H:%M}: {found.closed_because}")
    lines = [
        click.style(f"{found.id}  {found.kind.replace('_', ' ')}: {found.subject}", bold=True),
        f"  {found.message}",
        f"  {'; '.join(times)}",
    ]
    if found.action:
        lines.append(f"  What to do: {found.action}")
    if found.acknowledged_at is not None:
        because = f": {found.acknowledged_because}" if found.acknowledged_because else ""
        lines.append(f"  {found.acknowledged_by} knows of it{because}")
    if found.version:
        lines.append(f"  version {found.version}; told {found.n_told} times")
    return lines
