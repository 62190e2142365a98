"""The `prepare:` block of a loop file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean
from loopwright.prepare.expression import parse_expression
from loopwright.prepare.function import ColumnType


class PreparePlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person asks of the features.

    Parameters
    ----------
    auto
        Whether columns are judged: identifiers, duplicates and free text dropped, long tails
        shortened. Without it only what a model cannot do without is done.
    drop
        Columns no model may see.
    derive
        New columns by name, each an expression (see `loopwright.prepare.expression`) over the
        columns of the source and those derived before it.
    keep
        Columns that are kept although a suggestion would drop them.
    """

    auto: bool = True
    drop: tuple[str, ...] = ()
    derive: dict[str, str] = {}
    keep: tuple[str, ...] = ()


def checked_prepare(
    plan: PreparePlan, columns: Mapping[str, ColumnType] | Iterable[str]
) -> PreparePlan:
    """Return the plan if it can be done with these columns.

    Parameters
    ----------
    columns
        The columns besides the target; with what they store (`value_types(frame)`), expressions
        are checked for types too.

    Raises
    ------
    InvalidInputError
        If a column is unknown, named twice or asked to be dropped and kept, or an expression
        cannot be read.
    """
    known: dict[str, ColumnType] = (
        dict(columns) if isinstance(columns, Mapping) else dict.fromkeys(columns, "unknown")
    )
    derived: dict[str, ColumnType] = {**known}
    for name, expression in plan.derive.items():
        place = f"prepare.derive.{name}"
        if not name or name in derived:
            raise InvalidInputError(
                f"{place} would replace the column {name!r}.",
                hint="Give the derived column a new name.",
                field=place,
                value=name,
            )
        try:
            derived[name] = parse_expression(expression, derived).type
        except InvalidInputError as cause:
            raise InvalidInputError(
                f"{place}: {cause.message}", hint=cause.hint, **{**cause.facts, "field": place}
            ) from cause
    for block, names, of in (("drop", plan.drop, known), ("keep", plan.keep, derived)):
        for name in names:
            if name not in of:
                raise InvalidInputError(
                    f"prepare.{block} names {name!r}, which is not a column.",
                    hint=did_you_mean(name, of),
                    field=f"prepare.{block}",
                    value=name,
                )
    for name in plan.keep:
        if name in plan.drop:
            raise InvalidInputError(
                f"prepare.drop and prepare.keep both name {name!r}.",
                hint="Take it out of one of them.",
                field="prepare.keep",
                value=name,
            )
    return plan
