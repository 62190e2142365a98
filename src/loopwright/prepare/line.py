"""The lines of a recipe as people read and change them: an id, a step, its columns, who wants it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean
from loopwright.prepare.catalogue import AnyFittedStep, AnyStep, step_name
from loopwright.prepare.order import BY_YOU
from loopwright.prepare.step import Derive


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a recipe.

    Parameters
    ----------
    id
        The name of the step; from the second step of that name on with a number, such as `drop-2`.
    step
        The name of the step.
    columns
        What it reads, removes or makes; empty for all numbers.
    reason
        Why it is there.
    by
        `you` where a person asked for it, else `suggested`.
    """

    id: str
    step: str
    columns: tuple[str, ...]
    reason: str
    by: str


def lines_of(steps: Sequence[AnyStep | AnyFittedStep]) -> tuple[Line, ...]:
    """Return a line for each step."""
    seen: dict[str, int] = {}
    found = []
    for step in steps:
        name = step_name(step)
        seen[name] = seen.get(name, 0) + 1
        found.append(
            Line(
                id=name if seen[name] == 1 else f"{name}-{seen[name]}",
                step=name,
                columns=(step.name,) if isinstance(step, Derive) else step.columns,
                reason=step.reason,
                by="you" if step.reason.startswith(BY_YOU) else "suggested",
            )
        )
    return tuple(found)


def without_line(
    steps: Sequence[AnyStep], line_id: str, columns: Sequence[str]
) -> tuple[AnyStep, ...]:
    """Return the steps without one of them, or with fewer columns in it.

    Raises
    ------
    InvalidInputError
        If there is no such line, or it has no such column.
    """
    at = place_of(steps, line_id)
    step = steps[at]
    line = lines_of(steps)[at]
    left_out = [name for name in columns if name not in line.columns]
    over_all = hasattr(step, "but") and not line.columns
    if left_out and not over_all:
        raise InvalidInputError(
            f"The line {line_id!r} has no column {left_out[0]!r}.",
            hint=did_you_mean(left_out[0], line.columns),
            field="columns",
            value=left_out[0],
        )
    rest = tuple(name for name in line.columns if name not in columns)
    if not columns or (not rest and not over_all):
        changed: tuple[AnyStep, ...] = ()
    elif over_all:
        changed = (msgspec.structs.replace(step, but=(*step.but, *columns)),)  # type: ignore[union-attr]
    else:
        changed = (msgspec.structs.replace(step, columns=rest),)
    return (*steps[:at], *changed, *steps[at + 1 :])


def place_of(steps: Sequence[AnyStep], line_id: str) -> int:
    """Return the place of the step with an id.

    Raises
    ------
    InvalidInputError
        If there is none.
    """
    ids = [line.id for line in lines_of(steps)]
    if line_id not in ids:
        raise InvalidInputError(
            f"The recipe has no line {line_id!r}.",
            hint=did_you_mean(line_id, ids),
            field="id",
            value=line_id,
        )
    return ids.index(line_id)


def lines_html(lines: Sequence[Line], refused: Sequence[tuple[str, tuple[str, ...], str]]) -> str:
    """Return the lines as an HTML table, what was refused below them."""
    head = "".join(f"<th>{name}</th>" for name in ("id", "columns", "by", "reason"))
    rows = [
        (line.id, ", ".join(line.columns) or "all numbers", line.by, line.reason) for line in lines
    ]
    rows += [(step, ", ".join(columns), "you", reason) for step, columns, reason in refused]
    body = "".join(
        "<tr>"
        + "".join(f'<td style="text-align:left">{html.escape(cell)}</td>' for cell in row)
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
