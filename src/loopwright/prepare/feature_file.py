"""Features of more rows than memory holds: from lazy tables into Parquet files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")


def open_table(source: pl.LazyFrame | Path | str) -> pl.LazyFrame:
    """Return a lazy table: as it is, or that of a Parquet file.

    Raises
    ------
    InvalidInputError
        If there is no such file.
    """
    if not isinstance(source, Path | str):
        return source
    if not Path(source).is_file():
        raise InvalidInputError(
            f"There is no file {str(source)!r}.",
            hint="Give the path of a Parquet file.",
            field="source",
            value=str(source),
        )
    return pl.scan_parquet(source)


def n_rows(table: pl.LazyFrame) -> int:
    """Return how many rows a lazy table has."""
    return int(table.select(pl.len()).collect(engine="streaming").item())


def write_features(
    table: pl.LazyFrame,
    change: Callable[[pl.LazyFrame], pl.LazyFrame],
    out: Path,
    *,
    batch_rows: int,
) -> int:
    """Write the features that `change` makes of a lazy table to a Parquet file, batch by batch.

    They are as `FittedRecipe.transform` gives them. Memory holds a few batches of `batch_rows`. The file is written beside its place and renamed once it is whole.

    Raises
    ------
    InvalidInputError
        If `batch_rows` is below 1.
    """
    if batch_rows < 1:
        raise InvalidInputError(
            f"batch_rows is {batch_rows}.", hint="Give at least 1.", field="batch_rows"
        )
    from polars.io.plugins import register_io_source

    names = change(table).collect_schema().names()

    def read(*_: object) -> Iterator[pl.DataFrame]:
        # one plan from end to end would let Polars hold many batches between its stages
        for frame in table.collect_batches(chunk_size=batch_rows, engine="streaming"):
            yield as_features(change(frame.lazy())).collect()

    features = register_io_source(read, schema=dict.fromkeys(names, pl.Float64()))
    out.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    os.close(descriptor)
    temporary = Path(name)
    try:
        features.sink_parquet(temporary, row_group_size=batch_rows, engine="streaming")
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return n_rows(pl.scan_parquet(out))


def as_features(table: pl.LazyFrame) -> pl.LazyFrame:
    """Return all columns as float64; what is missing or infinite is NaN."""
    nan = pl.lit(float("nan"))
    numbers = pl.all().cast(pl.Float64).fill_null(nan)
    return table.select(pl.when(numbers.is_infinite()).then(nan).otherwise(numbers).name.keep())
