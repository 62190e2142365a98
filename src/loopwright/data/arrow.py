"""Columns that DuckDB hands over as Arrow, in the types that its rows have as Python values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from loopwright.core.lazy import LazyModule
from loopwright.data.conversion import is_whole

if TYPE_CHECKING:
    import duckdb
    import polars as pl
else:
    pl = LazyModule("polars")

_PLAIN = (
    *("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"),
    *("FLOAT", "DOUBLE", "DECIMAL", "VARCHAR", "DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"),
)
_FIRST = datetime(1, 1, 1)  # noqa: DTZ001 naive means UTC here
_LAST = datetime(9999, 12, 31, 23, 59, 59, 999_999)  # noqa: DTZ001


def has_arrow(types: Mapping[str, str]) -> bool:
    """Whether Arrow can carry columns of these types as they are; its library is an extra."""
    # a number of many digits without decimals is a whole number, which only its rows tell
    is_plain = all(
        kind.partition("(")[0] in _PLAIN and not kind.endswith(",0)") for kind in types.values()
    )
    return is_plain and find_spec("pyarrow") is not None


def arrow_batches(relation: duckdb.DuckDBPyRelation, n_rows: int) -> Iterator[pl.DataFrame]:
    """Yield the rows of a query in their order, at most `n_rows` at a time."""
    # releases before 1.4 have the same under another name
    read: Any = getattr(relation, "to_arrow_reader", None) or relation.fetch_record_batch
    for batch in read(n_rows):
        frame = cast("pl.DataFrame", pl.from_arrow(batch))
        if frame.height:
            yield pl.DataFrame([_column(frame[name]) for name in frame.columns])


def _column(cells: pl.Series) -> pl.Series:
    if cells.null_count() == len(cells):
        return pl.Series(cells.name, [None] * len(cells), dtype=pl.Null)
    if is_whole(cells.dtype):
        whole = cells.cast(pl.Int64, strict=False)
        return whole if whole.null_count() == cells.null_count() else cells.cast(pl.Decimal(38, 0))
    if cells.dtype.is_decimal():
        # the nearest number, as Python reads the digits
        return cells.cast(pl.String).cast(pl.Float64)
    if cells.dtype.is_float():
        return cells.cast(pl.Float64)
    # DuckDB gives the ends of the calendar of Python for what is infinite
    if cells.dtype == pl.Date:
        return cells.clip(date.min, date.max)
    if isinstance(cells.dtype, pl.Datetime):
        if cells.dtype.time_zone is not None:
            return cells.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
        return cells.dt.cast_time_unit("us").clip(_FIRST, _LAST)
    return cells
