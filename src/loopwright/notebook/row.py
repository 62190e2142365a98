"""Rows as people hand them in: mappings, tables of Polars or pandas, files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError

if TYPE_CHECKING:
    import polars as pl


def read_table(path: str | Path) -> pl.DataFrame:
    """Return the table in a Parquet, CSV or JSON lines file, as it is.

    Raises
    ------
    NotFoundError
        If there is no such file.
    InvalidInputError
        If it cannot be read.
    """
    import polars as pl

    from loopwright.data import FileSource, open_source

    source = open_source(FileSource(path=Path(path).name), Path(path).resolve().parent)
    source.check()
    return pl.concat(source.batches(), how="vertical_relaxed")


def as_rows(rows: Any) -> list[dict[str, Any]]:
    """Return one mapping, mappings, or a Polars or pandas table as a list of plain rows.

    Raises
    ------
    InvalidInputError
        If it is none of these.
    """
    if isinstance(rows, Mapping):
        return [dict(rows)]
    if hasattr(rows, "iter_rows"):  # a Polars table
        return [_plain(row) for row in rows.iter_rows(named=True)]
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # a pandas table
        import polars as pl

        return as_rows(pl.from_pandas(rows))
    if isinstance(rows, Iterable) and not isinstance(rows, str | bytes):
        return [_plain(row) for row in rows]
    raise InvalidInputError(
        f"Rows were given as {type(rows).__name__}.",
        hint="Give a mapping, a list of mappings, or a Polars or pandas table.",
        field="rows",
        value=type(rows).__name__,
    )


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value.isoformat() if hasattr(value, "isoformat") else value
        for key, value in row.items()
    }


def number(label: Any) -> Any:
    """Return text that reads as a number (from a CSV file, say) as that number."""
    try:
        return float(label) if isinstance(label, str) else label
    except ValueError:
        return label
