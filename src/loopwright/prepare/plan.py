"""The `prepare:` block of a loop file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean
from loopwright.prepare.expression import parse_expression
from loopwright.prepare.function import ColumnType
from loopwright.prepare.order import checked_step_name, read_order, read_orders
from loopwright.prepare.step import Derive


class Overrule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A suggestion that a person refuses for one column.

    Parameters
    ----------
    column
        The column it was suggested for.
    refuse
        The step that was suggested, by its name in the recipe; `drop` keeps the column.
    reason
        Why; it is recorded, and shown where the suggestion would have been.
    instead
        The step to take in its place: `step` and its options; `columns` is this column when absent.
    """

    column: str
    refuse: str
    reason: str
    instead: dict[str, object] | None = None


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
    steps
        Steps in their order, each with `step`, its options and a `reason`; see
        [the steps](recipe-steps.md). Steps that name columns come before the suggestions, which
        then see what they made; steps over all numbers come after them.
    overrule
        Suggestions that are refused or replaced, one by one.
    """

    auto: bool = True
    drop: tuple[str, ...] = ()
    derive: dict[str, str] = {}
    keep: tuple[str, ...] = ()
    steps: tuple[dict[str, object], ...] = ()
    overrule: tuple[Overrule, ...] = ()


def check_orders(plan: PreparePlan) -> None:
    """Check what can be checked of the orders of a plan without the table.

    Raises
    ------
    InvalidInputError
        If a step or an option is unknown, or a reason is missing; the fact `field` is its path.
    """
    read_orders(plan.steps, place="prepare.steps")
    for at, overrule in enumerate(plan.overrule):
        place = f"prepare.overrule[{at}]"
        checked_step_name(overrule.refuse, place=f"{place}.refuse")
        if not overrule.reason.strip():
            raise InvalidInputError(
                f"{place} gives no reason.",
                hint="Say why; who reads the recipe later will want to know.",
                field=f"{place}.reason",
                value=overrule.reason,
            )
        if overrule.instead is not None:
            read_order({"columns": [overrule.column], **overrule.instead}, place=f"{place}.instead")


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
    check_orders(plan)
    _check_ordered_columns(plan, derived)
    return plan


def _check_ordered_columns(plan: PreparePlan, known: Mapping[str, ColumnType]) -> None:
    """Check the columns that orders name, as far as the names tell; fitting checks them again."""
    made: list[str] = []
    for at, step in enumerate(read_orders(plan.steps, place="prepare.steps")):
        for name in () if isinstance(step, Derive) else step.columns:
            # a step names the columns it makes after the one it reads
            if name not in known and not any(name.startswith(own) for own in made):
                raise InvalidInputError(
                    f"prepare.steps[{at}] names {name!r}, which is not a column.",
                    hint=did_you_mean(name, known),
                    field=f"prepare.steps[{at}].columns",
                    value=name,
                )
        made += [step.name] if isinstance(step, Derive) else step.columns
    for at, overrule in enumerate(plan.overrule):
        if overrule.column not in known:
            raise InvalidInputError(
                f"prepare.overrule[{at}] names {overrule.column!r}, which is not a column.",
                hint=did_you_mean(overrule.column, known),
                field=f"prepare.overrule[{at}].column",
                value=overrule.column,
            )
        if overrule.column in plan.drop:
            raise InvalidInputError(
                f"prepare.overrule[{at}] and prepare.drop both name {overrule.column!r}.",
                hint="Take it out of one of them.",
                field=f"prepare.overrule[{at}].column",
                value=overrule.column,
            )
