"""The step that reads values of one type as another."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.prepare.mapping import map_levels
from loopwright.prepare.step import Operation, Registers, Training, Types, checked_columns
from loopwright.prepare.value import ValueType

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_TRUE = frozenset({"true", "t", "yes", "y", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "0"})
_PLAIN = frozenset("+-.eE0123456789")


class Cast(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="cast",
    tag_field="step",
):
    """Read columns as numbers, text, booleans or dates; what cannot be read is missing.

    From text: numbers such as `12`, `-3.5`, `1e6`, with spaces around; booleans as true or false, yes
    or no, t, f, y, n, 1, 0 in any case; dates by `format` as in `datetime.strptime`, by default
    2026-01-31. Numbers become text without `.0`, true if they are not 0. Booleans become 0 and 1 or
    `true` and `false`. Dates and times become text in ISO 8601.
    """

    columns: tuple[str, ...]
    to: Literal["number", "text", "boolean", "date"]
    format: str = ""
    reason: str = ""

    def fit(self, training: Training) -> Cast:
        """Check the columns; there is nothing to learn."""
        checked_columns("cast", self.columns, training.types, _ALL)
        for name in self.columns:
            if (training.types[name], self.to) not in _CASTS:
                raise InvalidInputError(
                    f"The column {name!r} holds {training.types[name]} values, which cannot be "
                    f"read as {self.to}.",
                    hint="Use date_parts for dates, or derive for a formula.",
                    field=name,
                    step="cast",
                )
        return self

    def types_after(self, types: Types) -> dict[str, ValueType]:
        """Return the same columns with the new type."""
        return {**types, **dict.fromkeys(self.columns, self.to)}

    def _cast(self, source: ValueType) -> Callable[[Any], Any]:
        if (source, self.to) not in _CASTS:
            raise ValueError(f"{source} cannot be read as {self.to}")
        if (source, self.to) == ("text", "date") and self.format:
            return lambda text: _date_by(text, self.format)
        return _CASTS[source, self.to]

    def apply(self, table: pl.LazyFrame, types: Types, *, today: date | None) -> pl.LazyFrame:
        """Return the table with the values as they are read."""
        del today
        dtype = {
            "number": pl.Float64(),
            "text": pl.String(),
            "boolean": pl.Boolean(),
            "date": pl.Date(),
        }[self.to]
        return table.with_columns(
            map_levels(pl.col(name), self._cast(types[name]), dtype).alias(name)
            for name in self.columns
        )

    def operation(self, types: Types, place: Mapping[str, int]) -> Operation:
        """Return what reads the values of one row."""
        plan = [(place[name], self._cast(types[name])) for name in self.columns]

        def cast_values(row: Registers) -> None:
            for own, read in plan:
                value = row[own]
                if value is not None:
                    row[own] = read(value)

        return cast_values


def _number_of(text: str) -> float | None:
    text = text.strip()
    # neither nan nor inf, nor the 1_000 that Python would read
    if not text or not _PLAIN.issuperset(text):
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _text_of(number: float) -> str | None:
    if not math.isfinite(number):
        return None
    return str(int(number)) if number.is_integer() else repr(number)


def _boolean_of(text: str) -> bool | None:
    word = text.strip().lower()
    return True if word in _TRUE else (False if word in _FALSE else None)


def _date_of(text: str) -> date | None:
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        return None


def _date_by(text: str, format_: str) -> date | None:
    try:
        return datetime.strptime(text.strip(), format_).date()  # noqa: DTZ007 a date has no zone
    except ValueError:
        return None


def _same(value: Any) -> Any:
    return value


_ALL: tuple[ValueType, ...] = ("number", "text", "boolean", "date", "time")
_CASTS: dict[tuple[ValueType, str], Callable[[Any], Any]] = {
    ("number", "number"): _same,
    ("number", "text"): _text_of,
    ("number", "boolean"): lambda number: number != 0.0 if math.isfinite(number) else None,
    ("text", "number"): _number_of,
    ("text", "text"): _same,
    ("text", "boolean"): _boolean_of,
    ("text", "date"): _date_of,
    ("boolean", "number"): float,
    ("boolean", "text"): lambda flag: "true" if flag else "false",
    ("boolean", "boolean"): _same,
    ("date", "date"): _same,
    ("date", "text"): lambda day: day.isoformat(),
    ("time", "date"): lambda moment: moment.date(),
    ("time", "text"): lambda moment: moment.isoformat(),
}
