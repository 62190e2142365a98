"""What a column stores and how one value of it is read, in a table and in a single row alike."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

ValueType = Literal["number", "text", "boolean", "date", "time"]
"""What a column stores; `time` is a date with a time of day, kept in UTC."""

Value = float | str | bool | date | None
"""One value as recipes see it; None is missing, numbers are finite."""


def find_value_type(dtype: pl.DataType) -> ValueType | None:
    """Return what a Polars column of this type stores, or None if recipes cannot read it.

    A column of nulls without a type counts as numbers. Lists, structs, binary data and durations
    cannot be read.
    """
    if dtype.is_numeric() or dtype == pl.Null:
        return "number"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "text"
    if dtype == pl.Boolean:
        return "boolean"
    if dtype == pl.Date:
        return "date"
    return "time" if dtype == pl.Datetime else None


def value_types(frame: pl.DataFrame) -> dict[str, ValueType]:
    """Return what each column of `frame` stores, leaving out the columns recipes cannot read."""
    found = {name: find_value_type(dtype) for name, dtype in frame.schema.items()}
    return {name: kind for name, kind in found.items() if kind is not None}


def read_column(name: str, stored: pl.DataType, wanted: ValueType) -> pl.Expr:
    """Return the expression that reads column `name`, stored as `stored`, as `wanted` values.

    Numbers come as float64 with NaN and infinities missing; times come in UTC without a zone.

    Raises
    ------
    InvalidInputError
        If the column stores something else.
    """
    found = find_value_type(stored)
    dates = {"date", "time"}
    if stored != pl.Null and found != wanted and not (found in dates and wanted in dates):
        raise InvalidInputError(
            f"Column {name!r} holds {found or stored} values; the recipe was fitted on {wanted}.",
            hint="Hand in the table as it was when the recipe was fitted.",
            field=name,
            value=str(stored),
            expected=wanted,
        )
    column = pl.col(name)
    if wanted == "number":
        number = column.cast(pl.Float64)
        return pl.when(number.is_finite()).then(number)
    if wanted in dates:
        if isinstance(stored, pl.Datetime) and stored.time_zone:
            column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return column.cast(pl.Date if wanted == "date" else pl.Datetime("us"))
    return column.cast(pl.String if wanted == "text" else pl.Boolean)


def read_columns(frame: pl.DataFrame, wanted: Mapping[str, ValueType]) -> dict[str, pl.Expr]:
    """Return the expressions that read the `wanted` columns of `frame`.

    Raises
    ------
    InvalidInputError
        If a column is not there, or stores something else.
    """
    # asked once: a schema of thousands of columns is slow to make
    schema = frame.schema
    for name in wanted:
        if name not in schema:
            raise InvalidInputError(
                f"The table has no column {name!r}, which the recipe needs.",
                hint=did_you_mean(name, schema),
                field=name,
            )
    return {name: read_column(name, schema[name], kind) for name, kind in wanted.items()}


def read_number(value: Any) -> float | None:
    """Return a number as a finite float, None if it is missing, NaN, infinite or too large."""
    if value is None:
        return None
    if not isinstance(value, numbers.Real):
        raise _wrong_type(value, "number")
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def read_text(value: Any) -> str | None:
    """Return a text, or None if it is missing."""
    if value is None or type(value) is str:
        return value
    raise _wrong_type(value, "text")


def read_boolean(value: Any) -> bool | None:
    """Return a boolean, or None if it is missing."""
    if value is None or type(value) is bool:
        return value
    raise _wrong_type(value, "boolean")


def read_date(value: Any) -> date | None:
    """Return a date, or None if it is missing; a time becomes its date in UTC."""
    moment = read_time(value)
    return None if moment is None else moment.date()


def read_time(value: Any) -> datetime | None:
    """Return a time in UTC without a zone, or None if it is missing; a date becomes its midnight."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001 UTC without a zone
    raise _wrong_type(value, "date")


READERS: dict[ValueType, Callable[[Any], Value]] = {
    "number": read_number,
    "text": read_text,
    "boolean": read_boolean,
    "date": read_date,
    "time": read_time,
}
"""How a single value of each type is read; agrees with `read_column` on every value."""


def _wrong_type(value: Any, expected: str) -> InvalidInputError:
    return InvalidInputError(
        f"{value!r} is not a {expected}." if expected != "text" else f"{value!r} is not text.",
        hint="Check rows with the signature before they are encoded.",
        value=value,
        expected=expected,
    )
