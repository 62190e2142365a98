"""How what people say about columns reaches the steps of a round."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean
from loopwright.explore import ColumnNote, list_notes
from loopwright.loop.file import LoopFile
from loopwright.prepare import Recipe
from loopwright.prepare.step import Drop
from loopwright.prepare.suggestion import ASKED
from loopwright.store import MetadataStore


def notes_in_force(
    metadata: MetadataStore, loop: LoopFile, columns: Iterable[str]
) -> tuple[ColumnNote, ...]:
    """Return the notes on columns that there are, without decisions the loop file overrules.

    Parameters
    ----------
    columns
        The columns of the source.
    """
    known = set(columns)
    return tuple(
        replace(note, decision=None) if _is_overruled(loop, note) else note
        for note in list_notes(metadata, loop.name)
        if note.column in known
    )


def _is_overruled(loop: LoopFile, note: ColumnNote) -> bool:
    return note.decision is not None and bool(_against(loop, note))


def _against(loop: LoopFile, note: ColumnNote) -> str:
    """Return what in the loop file speaks against a decision; empty for nothing."""
    if note.column == loop.problem.target:
        return "problem.target"
    if note.decision == "drop" and note.column in loop.prepare.keep:
        return "prepare.keep"
    if note.decision == "keep" and note.column in loop.prepare.drop:
        return "prepare.drop"
    return ""


def check_note_over_loop(loop: LoopFile, note: ColumnNote, columns: Sequence[str]) -> None:
    """Check a new note against the loop file and the columns of the source.

    Parameters
    ----------
    columns
        The columns of the source; empty while they are not known.

    Raises
    ------
    InvalidInputError
        If there is no such column, or the loop file says the opposite.
    """
    if columns and note.column not in columns:
        raise InvalidInputError(
            f"The note is about {note.column!r}, which is not a column of the loop {loop.name!r}.",
            hint=did_you_mean(note.column, columns),
            field="column",
            value=note.column,
        )
    if note.decision is not None and (place := _against(loop, note)):
        raise InvalidInputError(
            f"The note says to {note.decision} {note.column!r}, and {place} in the loop file "
            "says otherwise.",
            hint="Change the loop file first; what stands there comes before notes.",
            field="decision",
            value=note.decision,
        )


def with_notes(loop: LoopFile, notes: Sequence[ColumnNote]) -> LoopFile:
    """Return the loop with the decisions of its notes under `prepare.drop` and `prepare.keep`."""
    plan = loop.prepare
    drop = [n.column for n in notes if n.decision == "drop" and n.column not in plan.drop]
    keep = [n.column for n in notes if n.decision == "keep" and n.column not in plan.keep]
    if not drop and not keep:
        return loop
    plan = msgspec.structs.replace(plan, drop=(*plan.drop, *drop), keep=(*plan.keep, *keep))
    return msgspec.structs.replace(loop, prepare=plan)


def reasons_to_drop(notes: Iterable[ColumnNote]) -> dict[str, str]:
    """Return why people drop columns, by column."""
    return {note.column: note.reason for note in notes if note.decision == "drop"}


def with_reasons(recipe: Recipe, reasons: dict[str, str]) -> Recipe:
    """Return the recipe with people's own reasons at the columns they drop."""
    steps: list[Any] = []
    for step in recipe.steps:
        if not (isinstance(step, Drop) and step.reason == ASKED):
            steps.append(step)
            continue
        plain = tuple(name for name in step.columns if name not in reasons)
        steps += [msgspec.structs.replace(step, columns=plain)] if plain else []
        steps += [
            msgspec.structs.replace(step, columns=(name,), reason=reasons[name])
            for name in step.columns
            if name in reasons
        ]
    return replace(recipe, steps=tuple(steps))
