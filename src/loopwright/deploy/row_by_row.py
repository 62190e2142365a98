"""Answers to rows of which some cannot be used: an error in the place of each, an answer for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.deploy.message import shortened


class Predicting(Protocol):
    """What answers rows; see `ServedModel.check_and_predict`."""

    def check_and_predict(
        self, rows: Sequence[Mapping[str, Any]], *, index: int = 0, extras: Sequence[str] = ()
    ) -> tuple[Sequence[Mapping[str, Any]], list[dict[str, Any]]]:
        """Return the rows as the model read them, and one answer a row."""
        ...


# a row as the model read it, None for one that was refused, and its answer
Outcome = tuple[Mapping[str, Any] | None, dict[str, Any]]
ERROR = "error"


def predicted(
    model: Predicting, rows: Sequence[Any], part: slice, extras: Sequence[str]
) -> tuple[Sequence[Mapping[str, Any]], list[dict[str, Any]]]:
    """Return some rows as the model read them, and an answer for each.

    Raises
    ------
    InvalidInputError
        For the first of them that cannot be used.
    """
    chosen = rows[part] if part.start or part.stop < len(rows) else rows
    try:
        checked, answers = model.check_and_predict(chosen, index=part.start, extras=extras)
    except RecursionError as error:  # while it showed a value within a value within a ...
        raise not_a_row("a deeply nested value", part.start) from error
    if len(answers) != len(chosen):
        raise BackendError(f"The model gave {len(answers)} answers to {len(chosen)} rows.")
    return checked, answers


def predicted_by_row(
    model: Predicting, rows: Sequence[Any], part: slice, extras: Sequence[str]
) -> list[Outcome]:
    """Return an outcome for each of some rows.

    Rows may be anything, errors too: such a row has been refused already. A refused row splits the
    rest, so that every row is checked about three times at most.
    """
    begin, end = part.start, min(part.stop, len(rows))
    outcomes: list[Outcome] = []
    while begin < end:
        try:
            return outcomes + _outcomes(model, rows, slice(begin, end), extras)
        except InvalidInputError as error:
            bad = error.facts.get("row")
            if not isinstance(bad, int) or not begin <= bad < end:
                if end - begin > 1:  # it does not say which row it is about
                    middle = (begin + end) // 2
                    outcomes += predicted_by_row(model, rows, slice(begin, middle), extras)
                    begin = middle
                    continue
                bad = begin
            outcomes += predicted_by_row(model, rows, slice(begin, bad), extras)
            outcomes.append((None, {ERROR: error_facts(error)}))
            begin = bad + 1
    return outcomes


def _outcomes(
    model: Predicting, rows: Sequence[Any], part: slice, extras: Sequence[str]
) -> list[Outcome]:
    for row in rows[part]:
        if isinstance(row, InvalidInputError):
            raise row
    checked, answers = predicted(model, rows, part, extras)
    return list(zip(checked, answers, strict=True))


def error_facts(error: InvalidInputError) -> dict[str, Any]:
    """Return an error as `{"message": ..., "hint": ..., **facts}` of plain JSON types."""
    facts = {"hint": error.hint, **error.facts}
    return {"message": error.message, **{name: shortened(fact) for name, fact in facts.items()}}


def not_a_row(row: Any, index: int) -> InvalidInputError:
    """Return the error for a row that is no object."""
    return InvalidInputError(
        f"Row {index} is a {type(row).__name__}, not an object with the columns by name.",
        hint='Send rows such as {"column": value, ...}; for plain lists, name the columns with'
        ' {"columns": [...], "data": [[...]]}.',
        row=index,
        field=None,
        value=row,
        expected="an object",
    )
