"""Column values read the same way for the reference and for live rows, whatever type they have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_ISO_FORMATS = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M")
_DATE_FORMATS = (
    *_ISO_FORMATS,
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%Y/%m/%d",
    "%d.%m.%Y",
    "%Y%m%d %H%M%S",
    "%Y%m%d",
)
_LABEL_CHARACTERS = 100
_DAY_US = 86_400_000_000


def to_series(values: pl.Series | NDArray[Any] | Sequence[Any]) -> pl.Series:
    """Return the values as one column; values of mixed types become text."""
    if isinstance(values, pl.Series):
        return values if values.dtype != pl.Object else _as_text(values.to_list())
    if isinstance(values, np.ndarray) and values.dtype != object:
        return pl.Series(values)
    try:
        return pl.Series(list(values))
    except (TypeError, OverflowError):
        return _as_text(list(values))


def to_numbers(
    values: pl.Series, *, kind: str, date_format: str | None = None
) -> NDArray[np.float64]:
    """Return a number for each value, NaN where it is missing or cannot be read.

    Text counts by its length in characters, dates by their days since 1970-01-01.
    """
    if values.dtype.is_nested():
        numbers = pl.Series([None] * len(values), dtype=pl.Float64)
    elif kind == "date":
        numbers = _days(values, date_format)
    elif kind == "text":
        numbers = values.cast(pl.String, strict=False).str.len_chars().cast(pl.Float64)
    elif values.dtype == pl.String:
        numbers = values.str.strip_chars().cast(pl.Float64, strict=False)
    elif values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null):
        numbers = values.cast(pl.Float64, strict=False)
    else:
        numbers = pl.Series([None] * len(values), dtype=pl.Float64)
    return numbers.fill_null(float("nan")).to_numpy().astype(np.float64)


def to_labels(values: pl.Series) -> pl.Series:
    """Return each value as text, null where it is missing; 98001, 98001.0 and "98001" are one."""
    if values.dtype.is_float():
        finite = values.fill_nan(None)
        whole = finite.cast(pl.Int64, strict=False)
        is_whole = (whole.cast(pl.Float64) == finite).fill_null(False)
        text = finite.cast(pl.String)
        return whole.cast(pl.String).zip_with(is_whole, text).str.slice(0, _LABEL_CHARACTERS)
    if values.dtype.is_nested() or values.dtype == pl.Binary:
        values = _as_text(values.to_list())
    return values.cast(pl.String, strict=False).str.slice(0, _LABEL_CHARACTERS)


def date_format_of(values: pl.Series) -> str | None:
    """Return the format that reads most of these texts as dates; None if they are not text."""
    if values.dtype != pl.String:
        return None
    text = _without_zone(values)
    readable = [_parsed(text, format_).count() for format_ in _DATE_FORMATS]
    return _DATE_FORMATS[readable.index(max(readable))]


def _as_text(values: list[Any]) -> pl.Series:
    texts = [_text(value) for value in values]
    return pl.Series(texts, dtype=pl.String)


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _without_zone(text: pl.Series) -> pl.Series:
    return text.str.strip_chars().str.replace("T", " ", literal=True).str.strip_suffix("Z")


def _parsed(text: pl.Series, format_: str) -> pl.Series:
    if "%H" in format_:
        return text.str.to_datetime(format_, strict=False, time_unit="us")
    return text.str.to_date(format_, strict=False).cast(pl.Datetime("us"))


def _days(values: pl.Series, date_format: str | None) -> pl.Series:
    if values.dtype == pl.String:
        text = _without_zone(values)
        moments = _parsed(text, date_format or _ISO_FORMATS[0])
        for format_ in _ISO_FORMATS:  # a client may send ISO dates where the table had others
            moments = moments.fill_null(_parsed(text, format_))
    elif values.dtype == pl.Date or values.dtype == pl.Datetime:
        moments = values.cast(pl.Datetime("us"))
    elif values.dtype.is_numeric():
        return values.cast(pl.Float64)
    else:
        return pl.Series([None] * len(values), dtype=pl.Float64)
    return moments.to_physical().cast(pl.Float64) / _DAY_US
