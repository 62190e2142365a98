"""How the command line shows things: progress of a run, tables, errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from loopwright.core.errors import LoopwrightError
from loopwright.loop import LoopStatus, StepNews
from loopwright.loop.judged_rows import Look, told_looks

_MARKS = {
    "done": ("✓", "green"),
    "kept": ("=", "cyan"),
    "failed": ("✗", "red"),
    "note": ("→", "blue"),
}


class Progress:
    """Prints a line for every step that ends, and what is under way while it lasts."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.live = sys.stderr.isatty() and not quiet
        self._round = 0

    def __call__(self, news: StepNews) -> None:
        """Show one piece of news."""
        if self.quiet:
            return
        if news.round != self._round:
            self._round = news.round
            click.secho(f"{news.loop} · round {news.round}", bold=True, err=True)
        if news.state == "started":
            if self.live:
                click.echo(f"\r  … {news.stage}\033[K", nl=False, err=True)
            return
        if news.state == "progress":
            if self.live:
                click.echo(f"\r  … {news.stage}: {news.summary}\033[K", nl=False, err=True)
            return
        mark, colour = _MARKS[news.state]
        clear = "\r\033[K" if self.live else ""
        time = f"{news.wall_s:6.2f} s" if news.state == "done" else " " * 8
        line = f"{clear}  {click.style(mark, fg=colour)} {news.stage:<11} {time}  {news.summary}"
        click.echo(line.rstrip(), err=True)
        if news.reason and news.state in ("done", "note"):
            for part in news.reason.splitlines()[:3]:
                click.secho(f"{'':>24}because {part}" if part else "", dim=True, err=True)


def echo_json(value: Any) -> None:
    """Print a value as indented JSON on standard output."""
    click.echo(json.dumps(value, indent=1, default=str, ensure_ascii=False, allow_nan=False))


def echo_error(error: LoopwrightError, *, as_json: bool) -> None:
    """Print an error: one message on standard error, or JSON on standard output."""
    if as_json:
        facts = {key: value for key, value in error.facts.items() if value is not None}
        echo_json(
            {
                "error": {
                    "kind": type(error).__name__,
                    "message": error.message,
                    "hint": error.hint,
                    **{k: v for k, v in facts.items() if k not in ("message", "hint", "kind")},
                }
            }
        )
        return
    click.secho(error.message, fg="red", err=True)
    if error.hint:
        click.echo(error.hint, err=True)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a plain table with aligned columns; numbers stand to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *cells]) for i in range(len(header))]
    right = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        ).rstrip()

    return "\n".join([line(header), line(["─" * width for width in widths]), *map(line, cells)])


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def status_lines(status: LoopStatus) -> list[str]:
    """Return a loop's status for the terminal."""
    lines = [
        click.style(status.name, bold=True) + (f": {status.question}" if status.question else "")
    ]
    if status.round is None:
        return [*lines, "  has not run yet"]
    latest = status.round
    lines.append(
        f"  round {latest['number']} ({latest['cause']}): {click.style(latest['state'], bold=True)}"
    )
    lines.append(f"    because {latest['reason']}")
    for step in status.steps:
        mark, colour = _MARKS.get(str(step.get("state")), ("…", "yellow"))
        kept = f"  [kept from round {step['kept_from']}]" if step.get("kept_from") else ""
        text = step.get("summary") or step.get("reason") or step.get("state")
        lines.append(f"  {click.style(mark, fg=colour)} {step['stage']:<11} {text}{kept}")
    if latest["conclusion"]:
        lines += [f"  {part}" for part in str(latest["conclusion"]).splitlines()]
    if (said := status.approval) and said.get("by") != "policy":
        why = f": {said['reason']}" if said["reason"] else ""
        lines.append(f"  {said.get('decision', 'approved')} by {said['by']}{why}")
    if status.report:
        lines.append(f"  report: loopwright report {status.file} --output report.html")
    if status.champion:
        lines.append(
            f"  champion: {status.champion['algorithm']}, version {status.champion['version']}, "
            f"from round {status.champion['round']}"
        )
    if status.endpoint:
        alive = status.endpoint["url"] if status.endpoint["alive"] else "its process has ended"
        lines.append(f"  endpoint {status.endpoint['name']}: {alive}")
    if status.rollout and status.rollout["phase"] != "done":
        lines.append(click.style(f"  rollout: {status.rollout['told']}", fg="yellow"))
    if status.monitor:
        lines += [f"  monitor: {status.monitor['verdict']}: {status.monitor['reason']}"]
    if feedback := status.feedback:
        stopped = feedback["state"] in ("held", "frozen")
        text = f"  feedback loop: {feedback['meaning']}"
        lines.append(click.style(text, fg="red") if stopped else text)
        if stopped or feedback["state"] in ("triage", "cooldown"):
            lines.append(f"    because {feedback['reason']}")
    for alarm in status.alarms:
        colour = "yellow" if alarm["state"] == "acknowledged" else "red"
        text = f"  alarm {alarm['id']} ({alarm['state']}): {alarm['message']}"
        lines.append(click.style(text, fg=colour))
    for task in status.tasks:
        if task["state"] == "failing":
            text = f"  {task['task']} failed {task['n_failed']} time(s) in a row: {task['told']}"
            lines.append(click.style(text, fg="red"))
    if status.quarantine:
        lines.append(click.style(f"  {status.quarantine}", fg="yellow"))
    if len(status.seals) > 1:
        lines.append(
            click.style(f"  the goalposts were moved {len(status.seals) - 1} time(s)", fg="yellow")
        )
        lines += [f"    {move['told']}" for move in status.goalposts]
    if told := told_looks([Look(**look) for look in status.looks]):
        lines.append(click.style(f"  {told}", fg="yellow"))
    return lines


def echo_profile(
    file: Path, target: str | None, *, as_json: bool, output: Path | None, is_loop: bool = False
) -> None:
    """Print what the rows of a table look like, or those of a loop that has not run yet."""
    from loopwright.explore import profile_page, profile_summary
    from loopwright.notebook.look import profile_file, profile_loop

    found = profile_loop(file) if is_loop else profile_file(file, target=target)
    if output is not None:
        output.write_text(profile_page(found), encoding="utf-8")
    if as_json:
        echo_json(found.to_json())
        return
    click.echo("\n".join(profile_summary(found)))
    if output is not None:
        click.echo(f"Wrote {output}.")
