"""Training rows that memory need not hold: columns are computed when a step asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.prepare.feature_file import from_batches

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np, pl = LazyModule("numpy"), LazyModule("polars")

_BATCH_ROWS = 131_072


@dataclass(slots=True)
class LazyTable:
    """A table whose columns are computed when they are asked for; it keeps the last one."""

    _lazy: pl.LazyFrame
    height: int
    _last: pl.Series | None = field(default=None, init=False)

    def __getitem__(self, name: str) -> pl.Series:
        """Return one column."""
        if self._last is None or self._last.name != name:
            self._last = None
            self._last = self._lazy.select(name).collect(engine="streaming")[name]
        return self._last

    def category(self, name: str) -> pl.Series:
        """Return one column, text as Categorical: read in pieces, so that no more of it is held."""
        if self._lazy.collect_schema()[name] != pl.String:
            return self[name]
        self._last = None
        return pl.concat([piece.cast(pl.Categorical) for piece in self.pieces(name)])

    def pieces(self, name: str) -> Iterator[pl.Series]:
        """Give one column some rows at a time, without holding it."""
        batches = self._lazy.select(name).collect_batches(
            chunk_size=_BATCH_ROWS, engine="streaming"
        )
        return (batch[name] for batch in batches)

    def lazy(self) -> pl.LazyFrame:
        """Return the plan of the whole table."""
        return self._lazy


def beside(table: pl.LazyFrame, made: Mapping[str, np.ndarray], height: int) -> pl.LazyFrame:
    """Return a lazy table with further columns, float64, (height,); of it only what is asked for is read.

    Parameters
    ----------
    table
        Without columns of these names.
    """

    def read(names: Sequence[str] | None) -> Iterator[pl.DataFrame]:
        wanted = list(schema) if names is None else list(names)
        stored = [name for name in wanted if name not in made]
        at = 0
        for frame in _batches(table, stored, height):
            rows = slice(at, at + frame.height)
            at += frame.height
            yield frame.with_columns(
                pl.Series(name, made[name][rows]) for name in wanted if name in made
            ).select(wanted)

    schema = {**table.collect_schema(), **dict.fromkeys(made, pl.Float64())}
    return from_batches(read, schema)


def _batches(table: pl.LazyFrame, names: Sequence[str], height: int) -> Iterator[pl.DataFrame]:
    """Give some rows at a time of the named columns; of no columns still as many rows."""
    if names:
        yield from table.select(names).collect_batches(chunk_size=_BATCH_ROWS, engine="streaming")
        return
    for start in range(0, height, _BATCH_ROWS):
        yield pl.DataFrame(height=min(_BATCH_ROWS, height - start))
