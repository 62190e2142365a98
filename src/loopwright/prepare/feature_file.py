"""Features of more rows than memory holds: from lazy tables into Parquet files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
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


def batches_of(
    source: pl.LazyFrame | Path | str, names: Sequence[str], batch_rows: int
) -> Iterator[pl.DataFrame]:
    """Give the named columns of a lazy table, or of a Parquet file, some rows at a time, in order."""
    table = open_table(source).select(names)
    if isinstance(source, pl.LazyFrame):
        yield from table.collect_batches(chunk_size=batch_rows, engine="streaming")
        return
    # a file lets itself be read from any row on, while a stream is read ahead of its use
    for start in range(0, n_rows(table), batch_rows):
        yield table.slice(start, batch_rows).collect(engine="in-memory")


def write_features(
    source: pl.LazyFrame | Path | str,
    names: Sequence[str],
    change: Callable[[pl.LazyFrame], pl.LazyFrame],
    out: Path,
    *,
    batch_rows: int,
    made: Mapping[str, np.ndarray] | None = None,
) -> int:
    """Write the features that `change` makes of some columns to a Parquet file, batch by batch.

    They are as `FittedRecipe.transform` gives them. Memory holds a few batches of `batch_rows`. The
    file is written beside its place and renamed once it is whole.

    Parameters
    ----------
    made
        Further columns that `change` is given, float64, (n_rows,), under names of their own.

    Raises
    ------
    InvalidInputError
        If `batch_rows` is below 1.
    """
    if batch_rows < 1:
        raise InvalidInputError(
            f"batch_rows is {batch_rows}.", hint="Give at least 1.", field="batch_rows"
        )
    more = made or {}
    stored = open_table(source).select(names).collect_schema()
    schema = {**stored, **dict.fromkeys(more, pl.Float64())}
    found = change(pl.LazyFrame(schema=schema)).collect_schema().names()

    def read(_: Sequence[str] | None) -> Iterator[pl.DataFrame]:
        # one plan from end to end would let Polars hold many batches between its stages
        batches = _beside(batches_of(source, names, batch_rows), more)
        return changed(batches, schema, lambda batch: as_features(change(batch)))

    features = from_batches(read, dict.fromkeys(found, pl.Float64()))
    out.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    os.close(descriptor)
    temporary = Path(name)
    try:
        # numbers hardly get smaller in a third of the time that zstd takes
        features.sink_parquet(
            temporary, compression="lz4", row_group_size=batch_rows, engine="streaming"
        )
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return n_rows(pl.scan_parquet(out))


def _beside(
    batches: Iterable[pl.DataFrame], made: Mapping[str, np.ndarray]
) -> Iterator[pl.DataFrame]:
    """Give every batch with its rows of further columns."""
    at = 0
    for batch in batches:
        rows = slice(at, at + batch.height)
        at += batch.height
        yield batch.with_columns(pl.Series(name, values[rows]) for name, values in made.items())


def changed(
    batches: Iterable[pl.DataFrame],
    schema: Mapping[str, pl.DataType],
    change: Callable[[pl.LazyFrame], pl.LazyFrame],
) -> Iterator[pl.DataFrame]:
    """Give what `change` makes of each batch; its plan is made once.

    Parameters
    ----------
    schema
        The columns of every batch.
    """
    current = pl.DataFrame(schema=schema)
    plan = change(from_batches(lambda names: iter([current.select(names or list(schema))]), schema))
    for batch in batches:
        current = batch
        yield plan.collect(engine="in-memory")


def from_batches(
    read: Callable[[Sequence[str] | None], Iterator[pl.DataFrame]],
    schema: Mapping[str, pl.DataType],
) -> pl.LazyFrame:
    """Return the lazy table whose rows `read` gives, asked anew each time, in batches.

    Parameters
    ----------
    read
        Gets the columns that are wanted, None for all.
    """
    from polars.io.plugins import register_io_source

    def source(
        names: list[str] | None, predicate: pl.Expr | None, most: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        for batch in read(names):
            frame = batch if most is None else batch.head(most)
            yield frame if predicate is None else frame.filter(predicate)
            if most is not None and (most := most - frame.height) <= 0:
                return

    return register_io_source(source, schema=dict(schema))


def as_features(table: pl.LazyFrame) -> pl.LazyFrame:
    """Return all columns as float64; what is missing or infinite is NaN."""
    nan = pl.lit(float("nan"))
    numbers = pl.all().cast(pl.Float64).fill_null(nan)
    return table.select(pl.when(numbers.is_infinite()).then(nan).otherwise(numbers).name.keep())
