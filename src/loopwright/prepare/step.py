"""The steps that need nothing learned, and what every step promises."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.prepare.expression import Expression, parse_expression
from loopwright.prepare.value import ValueType

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np, pl = LazyModule("numpy"), LazyModule("polars")

Types = Mapping[str, ValueType]
"""What each column stores, in the order of the columns."""

Registers = list[Any]
"""The values of one row on its way through the steps; each column has a place."""

Operation = Callable[[Registers], None]


class TrainingTable(Protocol):
    """The rows to fit on: a DataFrame, or a table whose columns are read when asked for."""

    @property
    def height(self) -> int:
        """The number of rows."""
        ...

    def __getitem__(self, name: str, /) -> pl.Series:
        """Return one column."""
        ...

    def lazy(self) -> pl.LazyFrame:
        """Return a plan of the whole table."""
        ...


_FIRST_ROWS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The rows a recipe is fitted on, as they are after the steps before.

    Parameters
    ----------
    table
        Read by `value.read_columns` and changed by the earlier steps; n_rows.
    types
        What its columns store.
    target
        One value per row: numbers, or the labels of classes. None where there is no target.
    seed
        Decides every random choice.
    today
        The date that `today()` gives.
    unreadable
        Columns of the source that no step can read; they can be dropped.
    source
        Columns of the source that steps can read.
    """

    table: TrainingTable
    types: Types
    target: np.ndarray | None
    seed: int
    today: date | None
    unreadable: tuple[str, ...] = ()
    source: frozenset[str] = frozenset()

    def numbers(self, *, but: Iterable[str] = ()) -> tuple[str, ...]:
        """Return the columns of numbers, without the zeros and ones that earlier steps made.

        Parameters
        ----------
        but
            Columns to leave out.
        """
        left_out = frozenset(but)
        numbers = [
            name
            for name, kind in self.types.items()
            if kind in ("number", "boolean") and name not in left_out
        ]
        flags = self._flags(name for name in numbers if name not in self.source)
        return tuple(name for name in numbers if name not in flags)

    def _flags(self, names: Iterable[str]) -> frozenset[str]:
        """Return which columns hold nothing but zeros and ones."""
        found = list(names)
        table = self.table.lazy()
        # the first rows tell of nearly all others that they do
        for rows in (table.head(_FIRST_ROWS), table):
            if found:
                only = rows.select(_is_flag(pl.col(name)).alias(name) for name in found)
                told = only.collect(engine="streaming")
                found = [name for name in found if told[name].item()]
        return frozenset(found)


def _is_flag(column: pl.Expr) -> pl.Expr:
    number = column.cast(pl.Float64)
    return ((number == 0.0) | (number == 1.0)).fill_null(value=False).all()


class FittedStep(Protocol):
    """A step that knows all it needs. It changes a table, and one row, in the same way to the last bit."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads or removes."""
        ...

    @property
    def reason(self) -> str:
        """Why it is there."""
        ...

    def types_after(self, types: Types) -> dict[str, ValueType]:
        """Return the columns after the step, given those before; new columns come last."""
        ...

    def apply(self, table: pl.LazyFrame, types: Types, *, today: date | None) -> pl.LazyFrame:
        """Return the table after the step; removed columns may still be there."""
        ...

    def operation(self, types: Types, place: Mapping[str, int]) -> Operation | None:
        """Return what changes the registers of one row; None if there is nothing to do.

        `place` has the columns before and after the step, and `TODAY`. New columns have places
        one after the other.
        """
        ...


class Step(Protocol):
    """What to do with some columns, and why; fitting gives the step that can be applied."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads or removes."""
        ...

    @property
    def reason(self) -> str:
        """Why it is there, one sentence for people."""
        ...

    def fit(self, training: Training) -> FittedStep:
        """Learn what is needed from the training rows.

        Raises
        ------
        InvalidInputError
            If a column is not there or of a type the step cannot use.
        """
        ...


def checked_columns(
    step: str, columns: Iterable[str], types: Types, allowed: Sequence[ValueType]
) -> None:
    """Raise `InvalidInputError` unless all columns are there and store an allowed type."""
    for name in columns:
        if name not in types:
            raise InvalidInputError(
                f"The step {step} names the column {name!r}, which is not there.",
                hint=did_you_mean(name, types),
                field=name,
                step=step,
            )
        if types[name] not in allowed:
            raise InvalidInputError(
                f"The step {step} cannot use {name!r}, which holds {types[name]} values.",
                hint=f"It takes {' or '.join(allowed)} columns.",
                field=name,
                value=types[name],
                step=step,
            )


def fresh(name: str, taken: Iterable[str]) -> str:
    """Return `name`, or `name_2`, `name_3`, ... if it is taken."""
    taken = taken if isinstance(taken, set | frozenset | dict) else set(taken)
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found


def same_length(*values: Sequence[Any]) -> None:
    """Raise ValueError unless all are equally long; stored recipes come from anywhere."""
    if len({len(value) for value in values}) > 1:
        raise ValueError("the columns and the fitted values differ in number")


class Drop(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="drop",
    tag_field="step",
):
    """Leave columns out; a request need not hold them, unless an earlier step uses them."""

    columns: tuple[str, ...]
    reason: str = ""

    def fit(self, training: Training) -> Drop:
        """Check the columns; there is nothing to learn."""
        found = [name for name in self.columns if name not in training.unreadable]
        checked_columns("drop", found, training.types, _ALL)
        return self

    def types_after(self, types: Types) -> dict[str, ValueType]:
        """Return the other columns."""
        return {name: kind for name, kind in types.items() if name not in self.columns}

    def apply(self, table: pl.LazyFrame, types: Types, *, today: date | None) -> pl.LazyFrame:
        """Return the table as it is."""
        del types, today
        return table

    def operation(self, types: Types, place: Mapping[str, int]) -> None:
        """Return None: what is not read need not be removed."""
        del types, place


class Derive(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="derive",
    tag_field="step",
):
    """Compute a new column from others; see `expression` for what can be written."""

    name: str
    expression: str
    columns: tuple[str, ...] = ()
    reason: str = ""

    def parsed(self, types: Types) -> Expression:
        """Return the expression over columns of these types."""
        return parse_expression(self.expression, types)

    def fit(self, training: Training) -> Derive:
        """Check the expression and note the columns it reads."""
        if self.name in training.types or not self.name:
            raise InvalidInputError(
                f"A derived column cannot be named {self.name!r}; there is such a column.",
                hint="Give it a new name.",
                field=self.name,
                step="derive",
            )
        parsed = self.parsed(training.types)
        if parsed.uses_today and training.today is None:
            raise InvalidInputError(
                f"The derived column {self.name!r} uses today(), but no date was given.",
                hint="Pass today=, usually the date of the snapshot.",
                field=self.name,
                step="derive",
            )
        return msgspec.structs.replace(self, columns=parsed.columns)

    def types_after(self, types: Types) -> dict[str, ValueType]:
        """Return the columns and the new one."""
        return {**types, self.name: cast("ValueType", self.parsed(types).type)}

    def apply(self, table: pl.LazyFrame, types: Types, *, today: date | None) -> pl.LazyFrame:
        """Return the table with the new column."""
        return self.parsed(types).add_to(table, name=self.name, today=today)

    def operation(self, types: Types, place: Mapping[str, int]) -> Operation:
        """Return what computes the column for one row."""
        compute = self.parsed(types).to_python(place.__getitem__)
        own = place[self.name]

        def derive(row: Registers) -> None:
            row[own] = compute(row)

        return derive


NUMBERS: tuple[ValueType, ...] = ("number", "boolean")
"""What steps over numbers take; false is 0 and true is 1."""

_ALL: tuple[ValueType, ...] = ("number", "text", "boolean", "date", "time")
