"""The steps a person ordered, done for judging: what the suggestions then find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.prepare.catalogue import AnyStep, step_name
from loopwright.prepare.order import read_orders
from loopwright.prepare.plan import PreparePlan
from loopwright.prepare.step import Derive, Training, Types
from loopwright.prepare.value import find_value_type, read_columns, value_types

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np, pl = LazyModule("numpy"), LazyModule("polars")

_JUDGED_ROWS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """What a person ordered, and the columns as they are after it.

    Parameters
    ----------
    table
        The columns by name, those that ordered steps made or changed from at most 10,000 rows.
    by
        The ordered steps that made or changed a column, or read it, by name.
    first
        The steps that name columns, in their order.
    last
        The steps over all numbers, and those that come after them.
    """

    table: Mapping[str, pl.Series]
    by: Mapping[str, frozenset[str]]
    first: tuple[AnyStep, ...]
    last: tuple[AnyStep, ...]

    @property
    def over_all(self) -> tuple[str, ...]:
        """The names of the steps over all numbers."""
        return tuple(step_name(step) for step in self.last if is_over_all(step))


def is_over_all(step: AnyStep) -> bool:
    """Return whether a step is done to all columns of numbers there are."""
    return not isinstance(step, Derive) and not step.columns


def with_orders(
    frame: pl.DataFrame,
    derived: Sequence[AnyStep],
    plan: PreparePlan,
    labels: pl.Series | None,
    *,
    today: date | None,
) -> Ordered:
    """Return the table with the derived columns and the orders of the plan done.

    Parameters
    ----------
    frame
        The training rows without the target.
    derived
        The steps of `prepare.derive`.
    labels
        The target, for the steps that look at it.

    Raises
    ------
    InvalidInputError
        If an ordered step cannot be done; the fact `field` says which.
    """
    table = _with_derived(frame, derived, today)
    orders = read_orders(plan.steps, place="prepare.steps")
    split = next((at for at, step in enumerate(orders) if is_over_all(step)), len(orders))
    first, last = orders[:split], orders[split:]
    columns = {name: table[name] for name in table.columns}
    if not first:
        return Ordered(table=columns, by={}, first=(), last=last)
    changed, by = _done(table.head(_JUDGED_ROWS), first, labels, today)
    untouched = {name: values for name, values in columns.items() if name not in by}
    found = {name: untouched[name] if name in untouched else changed[name] for name in changed}
    # what no step can read is still to be dropped
    found |= {name: c for name, c in untouched.items() if find_value_type(c.dtype) is None}
    return Ordered(table=found, by=by, first=first, last=last)


def check_ordered(
    frame: pl.DataFrame, plan: PreparePlan, labels: pl.Series, *, today: date | None
) -> None:
    """Check that the ordered steps of a plan can be done, by doing them to some rows.

    Parameters
    ----------
    frame
        Rows without the target; at most 10,000 of them are looked at.
    plan
        A plan for which `checked_prepare` passes on these columns.
    labels
        The target of the rows.

    Raises
    ------
    InvalidInputError
        If a step cannot be done to its columns, or has an option out of range; `field` says which.
    """
    derived = [Derive(name=name, expression=each) for name, each in plan.derive.items()]
    ordered = with_orders(frame, derived, plan, labels, today=today)
    # what they will be done to is made by suggestions: their options are tried on other numbers
    rng = np.random.default_rng(0)
    numbers = pl.DataFrame({name: rng.normal(size=100) for name in "ab"})
    sides = pl.Series([0.0, 1.0] * 50)
    for at, step in enumerate(ordered.last, start=len(ordered.first)):
        if is_over_all(step):
            _done(numbers, [step], sides, today, first=at)


def _with_derived(
    table: pl.DataFrame, steps: Sequence[AnyStep], today: date | None
) -> pl.DataFrame:
    """Return the table with the columns that the steps derive, to be judged like the others."""
    if not steps:
        return table
    types: Types = value_types(table)
    read = table.select(e.alias(name) for name, e in read_columns(table, types).items())
    for step in steps:
        derive = step.fit(Training(table=read, types=types, target=None, seed=0, today=today))
        read = derive.apply(read.lazy(), types, today=today).collect()
        types = derive.types_after(types)
    known = set(table.columns)
    return table.with_columns(read[name] for name in types if name not in known)


def _done(
    table: pl.DataFrame,
    steps: Sequence[AnyStep],
    labels: pl.Series | None,
    today: date | None,
    first: int = 0,
) -> tuple[dict[str, pl.Series], dict[str, frozenset[str]]]:
    """Return the columns after the steps, and the steps that touched each of them.

    `first` is the place of the first step among the orders, to be named in errors.
    """
    types: Types = value_types(table)
    read = table.select(e.alias(name) for name, e in read_columns(table, types).items())
    unreadable = tuple(name for name in table.columns if name not in types)
    target = None if labels is None else labels.head(table.height).to_numpy()
    by: dict[str, frozenset[str]] = {}
    for at, step in enumerate(steps, start=first):
        training = Training(
            table=read,
            types=types,
            target=target,
            seed=0,
            today=today,
            unreadable=unreadable,
            source=frozenset(table.columns),
        )
        try:
            fitted = step.fit(training)
        except InvalidInputError as cause:
            place = f"prepare.steps[{at}]"
            raise InvalidInputError(
                f"{place}: {cause.message}", hint=cause.hint, **{**cause.facts, "field": place}
            ) from cause
        after = fitted.types_after(types)
        read = fitted.apply(read.lazy(), types, today=today).select(list(after)).collect()
        touched = set() if isinstance(step, Derive) else set(step.columns)
        touched |= {name for name in after if name not in types}
        for name in touched:
            by[name] = by.get(name, frozenset()) | {step_name(step)}
        types = after
    return {name: read[name] for name in types}, by
