"""The command `report`: what a model is worth, what it goes by and where it ends, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from loopwright.cli.main import command, file_argument

if TYPE_CHECKING:
    from loopwright.loop.model_report import ModelReport

_COLOURS = {"good": "green", "warn": "yellow", "bad": "red"}
_SHOWN = 5


@command
@file_argument
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Write the page here.")
@click.option("--round", "number", type=int, help="Of this round [default: the newest].")
def report(
    home: Path | None, as_json: bool, file: Path, output: Path | None, number: int | None
) -> None:
    """Report on the model of a loop: verdict, money, figures, reasons, fairness, limits."""
    from loopwright.cli.show import echo_json
    from loopwright.notebook import Loop

    page = Loop(file, home=home).model_report(number=number)
    if output is not None:
        page.save(output)
    if as_json:
        echo_json(page.report.to_json())
        return
    click.echo("\n".join(_lines(page.report)))
    if output is not None:
        click.echo(f"Wrote {output}.")
    else:
        click.echo(f"All of it on one page: loopwright report {file} --output report.html")


def _lines(found: ModelReport) -> list[str]:
    """Return the report for the terminal: what the page's first screen says, and the reasons."""
    lines = [click.style(found.question or found.loop, bold=True)]
    tone = _COLOURS.get(found.headline.tone)
    lines.append(f"  {click.style(found.headline.title, fg=tone, bold=True)}")
    lines += [f"  {found.headline.meaning}", f"  To do: {found.headline.action}"]
    for each in found.criteria:
        mark = {True: "✓", False: "✗", None: "–"}[each.holds]
        colour = {True: "green", False: "red", None: None}[each.holds]
        got = f": {each.measured}" if each.measured else ""
        bound = f" ({each.bound})" if each.bound else ""
        lines.append(f"  {click.style(mark, fg=colour)} {each.words}{got}{bound}")
    lines += [f"  {line.rstrip('.')}." for line in found.money]
    by = f", by {found.release.by}" if found.release.by else ""
    lines.append(f"  Is it live? {found.release.state}{by}")
    if found.explanation is not None:
        told = [
            f"{each.column} {each.share:.0%}"
            for each in found.explanation.columns[:_SHOWN]
            if each.share > 0
        ]
        lines.append(f"  It goes by: {', '.join(told)}")
    lines += [f"  Limit: {line}" for line in found.limits]
    lines += [f"  Goalposts moved: {line}" for line in found.moved]
    return lines
