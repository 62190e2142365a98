"""The step that fills what is missing with one value for each column."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.prepare.instruction import Instruction
from loopwright.prepare.level import category, category_of, level_counts
from loopwright.prepare.present import present_numbers
from loopwright.prepare.step import (
    NUMBERS,
    Operation,
    Registers,
    Training,
    Types,
    checked_columns,
    fresh,
    same_length,
)
from loopwright.prepare.value import ValueType

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np, pl = LazyModule("numpy"), LazyModule("polars")


class Impute(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="impute",
    tag_field="step",
):
    """Fill what is missing; columns with gaps in training also get a column that says where.

    Without `columns` every column of numbers is filled apart from those in `but`, so that a gap in
    later rows is no surprise. A column without any
    value is filled with 0 or with the text `missing`. Booleans become 0 and 1.
    """

    columns: tuple[str, ...] = ()
    strategy: Literal["median", "mean", "most_frequent", "constant"] = "median"
    value: float | str | None = None
    indicator: bool = True
    but: tuple[str, ...] = ()
    reason: str = ""

    def fit(self, training: Training) -> FittedImpute:
        """Learn the value that fills each column, looking at it once."""
        numeric = self.strategy in ("median", "mean")
        allowed: tuple[ValueType, ...] = NUMBERS if numeric else (*NUMBERS, "text")
        columns = self.columns or training.numbers(but=self.but)
        checked_columns("impute", columns, training.types, allowed)
        fills: list[float | str] = []
        indicators: list[str | None] = []
        taken = set(training.types)
        for name in columns:
            fill, has_gaps = self._learned(name, training)
            fills.append(fill)
            marked = has_gaps and self.indicator
            indicators.append(fresh(f"{name}_missing", taken) if marked else None)
            taken.update(made for made in indicators[-1:] if made)
        return FittedImpute(
            columns=columns,
            fills=tuple(fills),
            indicators=tuple(indicators),
            reason=self.reason,
        )

    def _learned(self, name: str, training: Training) -> tuple[float | str, bool]:
        """Return what fills a column, and whether it has gaps."""
        is_text = training.types[name] == "text"
        constant = self._constant(name, is_text=is_text) if self.strategy == "constant" else None
        if constant is not None and not self.indicator:
            return constant, False
        if is_text:
            levels, counts = level_counts(category_of(training.table, name))
            # of levels equally frequent the first
            usual = str(levels[int(counts[:-1].argmax())]) if levels else "missing"
            return usual if constant is None else constant, bool(counts[-1])
        if constant is None and self.strategy != "most_frequent":
            values = present_numbers(training.table, name)
            return self._middle(values), len(values) < training.table.height
        column = training.table[name]
        if constant is None:
            usual_numbers = column.drop_nulls().mode().sort()
            constant = _finite(usual_numbers[0]) if len(usual_numbers) else 0.0
        return constant, column.null_count() > 0

    def _middle(self, values: np.ndarray) -> float:
        if not len(values):
            return 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            found = median_of(values) if self.strategy == "median" else float(values.mean())
        return _finite(found)

    def _constant(self, name: str, *, is_text: bool) -> float | str:
        if is_text and isinstance(self.value, str):
            return self.value
        if not is_text and isinstance(self.value, int | float) and math.isfinite(self.value):
            return float(self.value)
        raise InvalidInputError(
            f"{self.value!r} cannot fill the column {name!r}.",
            hint=f"Give {'text' if is_text else 'a finite number'} as value.",
            field=name,
            value=self.value,
        )


def _finite(found: Any) -> float:
    # a mean of huge numbers can overflow
    return float(found) if math.isfinite(found) else 0.0


def median_of(values: np.ndarray) -> float:
    """Return the median of float64 values of which none is missing, (n_rows,); at least one.

    An array that can be written to comes back in another order: no copy of it is made.
    """
    half = len(values) // 2
    places = (half,) if len(values) % 2 else (half - 1, half)
    if values.flags.writeable:
        values.partition(places)
    else:
        values = np.partition(values, places)
    if len(values) % 2:
        return float(values[half])
    low, high = values[half - 1 : half + 1].tolist()
    middle = float(low + high) / 2
    return middle if math.isfinite(middle) else float(low / 2 + high / 2)


class FittedImpute(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="impute",
    tag_field="step",
):
    """Fills each column with its value; `indicators` names the column that says where, or None."""

    columns: tuple[str, ...]
    fills: tuple[float | str, ...]
    indicators: tuple[str | None, ...]
    reason: str = ""

    def __post_init__(self) -> None:
        same_length(self.columns, self.fills, self.indicators)

    def _flags(self) -> list[tuple[str, str]]:
        pairs = zip(self.columns, self.indicators, strict=True)
        return [(name, indicator) for name, indicator in pairs if indicator is not None]

    def types_after(self, types: Types) -> dict[str, ValueType]:
        """Return the same columns and the indicators."""
        filled = {name: "number" for name in self.columns if types[name] == "boolean"}
        return cast(
            "dict[str, ValueType]",
            {**types, **filled, **{indicator: "number" for _, indicator in self._flags()}},
        )

    def apply(self, table: pl.LazyFrame, types: Types, *, today: date | None) -> pl.LazyFrame:
        """Return the table with the columns filled."""
        del today
        filled = [
            category(name, types).fill_null(pl.lit(fill))
            for name, fill in zip(self.columns, self.fills, strict=True)
        ]
        flags = [
            pl.col(name).is_null().cast(pl.Float64).alias(indicator)
            for name, indicator in self._flags()
        ]
        return table.with_columns(*filled, *flags)

    def operation(self, types: Types, place: Mapping[str, int]) -> Operation:
        """Return what fills one row."""
        del types
        plan = [(place[name], fill) for name, fill in zip(self.columns, self.fills, strict=True)]
        flags = [(place[name], place[indicator]) for name, indicator in self._flags()]

        def fill_missing(row: Registers) -> None:
            for source, own in flags:
                row[own] = 1.0 if row[source] is None else 0.0
            for source, fill in plan:
                if row[source] is None:
                    row[source] = fill

        return fill_missing

    def instructions(self, types: Types, place: Mapping[str, int]) -> list[Instruction]:
        """Return what the kernel does to one row."""
        del types
        marks = [Instruction("m", place[name], place[flag]) for name, flag in self._flags()]
        fills = zip(self.columns, self.fills, strict=True)
        return marks + [
            Instruction("f", place[name], place[name], other=fill) for name, fill in fills
        ]
