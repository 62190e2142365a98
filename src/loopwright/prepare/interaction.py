"""The step that combines pairs of numbers."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import date
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.prepare.function import finite
from loopwright.prepare.step import (
    NUMBERS,
    Operation,
    Registers,
    Training,
    Types,
    checked_columns,
    fresh,
)
from loopwright.prepare.value import ValueType

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "product": operator.mul,
    "ratio": operator.truediv,
    "sum": operator.add,
    "difference": operator.sub,
}
_SIGNS = {"product": "*", "ratio": "/", "sum": "+", "difference": "-"}


class Interact(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="interact",
    tag_field="step",
):
    """Add the product, ratio, sum or difference of every pair of the columns, in their order.

    The new columns are named `<first>*<second>` and so on; `names` keeps them once fitted. A
    division by zero and a result too large are missing. For one formula of your own use `Derive`.
    """

    columns: tuple[str, ...]
    by: Literal["product", "ratio", "sum", "difference"] = "product"
    names: tuple[str, ...] = ()
    reason: str = ""

    def fit(self, training: Training) -> Interact:
        """Check the columns and choose the names; there is nothing to learn."""
        checked_columns("interact", self.columns, training.types, NUMBERS)
        if len(self.columns) < 2:
            raise InvalidInputError(
                f"The step interact has {len(self.columns)} column.",
                hint="Name two columns or more.",
                field="columns",
                step="interact",
            )
        sign = _SIGNS[self.by]
        names: list[str] = []
        for a, b in combinations(self.columns, 2):
            names.append(fresh(f"{a}{sign}{b}", [*training.types, *names]))
        return msgspec.structs.replace(self, names=tuple(names))

    def types_after(self, types: Types) -> dict[str, ValueType]:
        """Return the columns and the new ones."""
        return {**types, **dict.fromkeys(self.names, "number")}

    def apply(self, table: pl.LazyFrame, types: Types, *, today: date | None) -> pl.LazyFrame:
        """Return the table with the combinations."""
        del types, today
        combine = _OPERATORS[self.by]
        pairs = combinations([pl.col(name).cast(pl.Float64) for name in self.columns], 2)
        return table.with_columns(
            finite(combine(a, b)).alias(name)
            for name, (a, b) in zip(self.names, pairs, strict=True)
        )

    def operation(self, types: Types, place: Mapping[str, int]) -> Operation:
        """Return what combines the numbers of one row."""
        del types
        combine = _OPERATORS[self.by]
        is_ratio = self.by == "ratio"
        pairs = combinations([place[name] for name in self.columns], 2)
        plan = [(place[n], a, b) for n, (a, b) in zip(self.names, pairs, strict=True)]

        def interact(row: Registers) -> None:
            for own, first, second in plan:
                a, b = row[first], row[second]
                if a is None or b is None or (is_ratio and b == 0.0):
                    row[own] = None
                    continue
                found = combine(float(a), float(b))
                row[own] = found if found - found == 0.0 else None

        return interact
