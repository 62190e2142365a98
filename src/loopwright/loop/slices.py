"""The segments that a loop file guards: expressions over columns, and the rows they hold for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.evaluate import EvaluatePlan
from loopwright.prepare import value_types
from loopwright.prepare.expression import parse_expression
from loopwright.prepare.function import ColumnType
from loopwright.prepare.value import read_columns

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Mask = npt.NDArray[np.bool_]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")


def checked_slices(plan: EvaluatePlan, columns: Iterable[str]) -> None:
    """Check that slices can be read over these columns, and are true or false.

    Raises
    ------
    InvalidInputError
        With the key, what is wrong, and the nearest right name.
    """
    known: dict[str, ColumnType] = dict.fromkeys(columns, "unknown")
    for name, text in plan.slices.items():
        key = f"evaluate.slices.{name}"
        try:
            expression = parse_expression(text, known)
        except InvalidInputError as error:
            raise InvalidInputError(
                f"{key}: {error.message}", hint=error.hint, **{**error.facts, "field": key}
            ) from error
        if expression.type not in ("boolean", "unknown"):
            raise _no_condition(key, text, str(expression.type))
        if expression.uses_today:
            raise InvalidInputError(
                f"{key} asks for today(), so tomorrow it would hold for other rows.",
                hint="Compare with a fixed day, such as date('2026-01-31').",
                field=key,
                value=text,
            )


def slice_masks(plan: EvaluatePlan | None, frame: pl.DataFrame) -> dict[str, tuple[str, Mask]]:
    """Return for each slice its expression and the rows it holds for; missing counts as not held.

    Raises
    ------
    InvalidInputError
        If an expression is neither true nor false.
    """
    found: dict[str, tuple[str, Mask]] = {}
    types = value_types(frame)
    for name, text in (plan.slices if plan else {}).items():
        expression = parse_expression(text, types)
        if expression.type != "boolean":
            raise _no_condition(f"evaluate.slices.{name}", text, str(expression.type))
        if not expression.columns:
            found[name] = text, np.full(frame.height, bool(expression.evaluate({})))
            continue
        read = read_columns(frame, {each: types[each] for each in expression.columns})
        table = frame.lazy().select(each.alias(column) for column, each in read.items())
        held = "held" + "_" * max(len(each) for each in read)
        values = expression.add_to(table, name=held).collect()[held]
        found[name] = text, values.cast(pl.Boolean).fill_null(False).to_numpy().astype(np.bool_)
    return found


def _no_condition(key: str, text: str, kind: str) -> InvalidInputError:
    return InvalidInputError(
        f"{key}: {text!r} gives a {kind}, so it holds for no rows in particular.",
        hint='Write a condition, such as tenure < 12 or contract == "Month-to-month".',
        field=key,
        value=text,
    )
