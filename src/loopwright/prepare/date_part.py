"""The step that turns dates into numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec

from loopwright.core.lazy import LazyModule
from loopwright.prepare.function import day_of_year
from loopwright.prepare.step import Operation, Registers, Training, Types, checked_columns, fresh
from loopwright.prepare.value import ValueType

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

Part = Literal[
    "year",
    "month",
    "day_of_week",
    "day_of_year",
    "days",
    "hour",
    "month_sin",
    "month_cos",
    "day_of_week_sin",
    "day_of_week_cos",
    "day_of_year_sin",
    "day_of_year_cos",
    "hour_sin",
    "hour_cos",
]

# the first value of a part and how many there are
_CYCLES: dict[Part, tuple[int, int]] = {
    "month": (1, 12),
    "day_of_week": (1, 7),
    "day_of_year": (1, 366),
    "hour": (0, 24),
}


def _turned(part: Part) -> tuple[Part, dict[int, float]] | None:
    """Return the part that goes round and its sines or cosines by value; None if it does not."""
    base, _, wave = part.rpartition("_")
    if wave not in ("sin", "cos"):
        return None
    first, n = _CYCLES[cast("Part", base)]
    function = math.sin if wave == "sin" else math.cos
    turns = {first + k: function(2 * math.pi * k / n) for k in range(n)}
    return cast("Part", base), turns


_EPOCH = date(2000, 1, 1).toordinal()
_PART_OF_DAY: dict[Part, Callable[[Any], int]] = {
    "year": lambda day: day.year,
    "month": lambda day: day.month,
    "day_of_week": lambda day: day.isoweekday(),
    "day_of_year": day_of_year,
    "days": lambda day: day.toordinal() - _EPOCH,
    "hour": lambda day: day.hour,
}


def _part_of(part: Part) -> Callable[[Any], float]:
    turned = _turned(part)
    if turned is None:
        return _PART_OF_DAY[part]
    base, turns = _PART_OF_DAY[turned[0]], turned[1]
    return lambda day: turns[base(day)]


def _part_expression(column: pl.Expr, part: Part) -> pl.Expr:
    turned = _turned(part)
    if turned is not None:
        base, turns = _part_expression(column, turned[0]), turned[1]
        return base.replace_strict(
            [float(value) for value in turns],
            list(turns.values()),
            default=None,
            return_dtype=pl.Float64,
        )
    found = {
        "year": lambda: column.dt.year(),
        "month": lambda: column.dt.month(),
        "day_of_week": lambda: column.dt.weekday(),
        "day_of_year": lambda: column.dt.ordinal_day(),
        # Polars counts days from 1970-01-01
        "days": lambda: column.cast(pl.Date).cast(pl.Int32) - 10_957,
        "hour": lambda: column.dt.hour(),
    }[part]()
    return found.cast(pl.Float64)


class DateParts(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="date_parts",
    tag_field="step",
):
    """Turn dates into numbers: year, month, day of the week (Monday is 1), day of the year, days.

    `days` counts from 2000-01-01, so a model can follow a trend; `hour` is for times only.
    With `cyclic`, what goes round (month, days of week and year, hour) becomes a sine and a cosine,
    so that December lies beside January; `month_sin` and the like are also parts of their own.
    The new columns are named `<column>_<part>`; `names` keeps them once fitted.
    """

    columns: tuple[str, ...]
    parts: tuple[Part, ...] = ("year", "month", "day_of_week", "day_of_year", "days")
    cyclic: bool = False
    names: tuple[str, ...] = ()
    reason: str = ""

    def fit(self, training: Training) -> DateParts:
        """Check the columns and choose the new names; there is nothing to learn."""
        parts = self._parts()
        has_hour = any(part.startswith("hour") for part in parts)
        needs: tuple[ValueType, ...] = ("time",) if has_hour else ("date", "time")
        checked_columns("date_parts", self.columns, training.types, needs)
        names: list[str] = []
        for name in self.columns:
            for part in parts:
                names.append(fresh(f"{name}_{part}", [*training.types, *names]))
        return msgspec.structs.replace(self, parts=parts, cyclic=False, names=tuple(names))

    def _parts(self) -> tuple[Part, ...]:
        if not self.cyclic:
            return self.parts
        found: list[Part] = []
        for part in self.parts:
            waves = cast("tuple[Part, Part]", (f"{part}_sin", f"{part}_cos"))
            found += waves if part in _CYCLES else [part]
        return tuple(dict.fromkeys(found))

    def _made(self) -> dict[str, tuple[str, Part]]:
        pairs = [(name, part) for name in self.columns for part in self.parts]
        return dict(zip(self.names, pairs, strict=True))

    def types_after(self, types: Types) -> dict[str, ValueType]:
        """Return the columns with the dates replaced by their parts, which come last."""
        kept = {name: kind for name, kind in types.items() if name not in self.columns}
        return {**kept, **dict.fromkeys(self._made(), "number")}

    def apply(self, table: pl.LazyFrame, types: Types, *, today: date | None) -> pl.LazyFrame:
        """Return the table with the parts."""
        del types, today
        return table.with_columns(
            _part_expression(pl.col(source), part).alias(name)
            for name, (source, part) in self._made().items()
        )

    def operation(self, types: Types, place: Mapping[str, int]) -> Operation:
        """Return what computes the parts for one row."""
        del types
        plan = [
            (place[source], place[name], _part_of(part))
            for name, (source, part) in self._made().items()
        ]

        def split_dates(row: Registers) -> None:
            for source, own, part in plan:
                day = row[source]
                row[own] = None if day is None else float(part(day))

        return split_dates
