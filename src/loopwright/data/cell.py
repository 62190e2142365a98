"""Rows of a database driver as columns, each typed by its own values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")


_INT64 = range(-(2**63), 2**63)
_MOST_DIGITS = 10**38


def checked_names(names: list[str]) -> list[str]:
    """Return the names of columns if they differ, else raise `InvalidInputError`."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInputError(
            f"The query gives two columns named {twice[0]!r}.",
            hint="Name them apart: SELECT a.id AS account_id, ...",
            field="data.source.query",
            value=twice[0],
        )
    return names


def frame_of(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> pl.DataFrame:
    """Return a table of rows from a database driver, each column typed by its own values."""
    columns = zip(*rows, strict=True) if rows else [() for _ in names]
    return pl.DataFrame(
        [series_of_values(name, values) for name, values in zip(names, columns, strict=True)]
    )


def series_of_values(name: str, values: Sequence[Any]) -> pl.Series:
    """Return a column of Python values; what has no type of its own becomes text.

    Decimal numbers written without decimals are whole numbers, as `numeric(20, 0)` gives them, and
    keep all their digits. One value of bytes makes a column of bytes, which no stage reads.
    """
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds:
        return pl.Series(name, values, dtype=pl.Null)
    if kinds == {int}:
        return _whole_numbers(name, values)
    if kinds <= {int, Decimal} and all(v is None or _is_whole(v) for v in values):
        return _whole_numbers(name, [None if v is None else int(v) for v in values])
    if not kinds.isdisjoint((bytes, bytearray, memoryview)):
        return pl.Series(name, [None if v is None else _bytes(v) for v in values], dtype=pl.Binary)
    if kinds == {datetime} and any(v is not None and v.tzinfo for v in values):
        return pl.Series(name, values, dtype=pl.Datetime("us", "UTC"))
    for accepted, dtype, change in _dtypes():
        if kinds <= accepted:
            changed = (
                values if change is None else [None if v is None else change(v) for v in values]
            )
            return pl.Series(name, changed, dtype=dtype, strict=False)
    return pl.Series(name, [None if v is None else _text(v) for v in values], dtype=pl.String)


def _dtypes() -> list[tuple[set[type], pl.DataType, Any]]:
    return [
        ({bool}, pl.Boolean(), None),
        ({int, float, Decimal}, pl.Float64(), float),
        ({str}, pl.String(), None),
        ({date}, pl.Date(), None),
        ({datetime}, pl.Datetime("us"), None),
        ({timedelta}, pl.Float64(), timedelta.total_seconds),
    ]


def _is_whole(value: int | Decimal) -> bool:
    if isinstance(value, int):
        return True
    # 5.00 is a number with decimals, as `numeric(10, 2)` gives it; NaN has no exponent
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= 0


def _whole_numbers(name: str, values: Sequence[int | None]) -> pl.Series:
    """Return whole numbers in the narrowest type that holds each of them in full."""
    held = [value for value in values if value is not None]
    least, most = min(held), max(held)
    if least in _INT64 and most in _INT64:
        return pl.Series(name, values, dtype=pl.Int64)
    if max(-least, most) < _MOST_DIGITS:
        return pl.Series(name, values, dtype=pl.Decimal(38, 0), strict=False)
    return pl.Series(name, [None if v is None else str(v) for v in values], dtype=pl.String)


def _bytes(value: Any) -> bytes:
    return (
        bytes(value) if isinstance(value, bytes | bytearray | memoryview) else _text(value).encode()
    )


def _text(value: Any) -> str:
    if isinstance(value, str | UUID | time | date | int | float | Decimal):
        return str(value)
    return json.dumps(value, default=str, sort_keys=True)
