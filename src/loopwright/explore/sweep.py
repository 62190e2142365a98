"""One reading of a table, column by column: ordered values, gaps, a sample, and digests of the rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from loopwright.core.lazy import LazyModule
from loopwright.explore.missing import MissingCounter
from loopwright.explore.spread import runs
from loopwright.explore.table import Table, is_flat

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray
else:
    pl = LazyModule("polars")
    np = LazyModule("numpy")

Form = Literal["number", "date", "boolean", "text", "nothing", "nested"]

HEAD_ROWS = 20_000
# an odd number without a pattern (of the golden ratio), so that the order of the columns matters
_STEP = 0x9E3779B97F4A7C15
_LOOKED_AT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """A column as it was read.

    Parameters
    ----------
    ordered
        The present values, sorted, shape (n_present,): numbers as they are stored, dates as
        microseconds since 1970, truth values as 0 and 1, text as 64-bit digests; none for what is
        nested.
    head
        The first 20,000 present values.
    sample
        The values at the sampled places.
    dtype
        How the column is stored.
    """

    name: str
    form: Form
    dtype: pl.DataType
    n_rows: int
    n_missing: int
    ordered: NDArray[Any]
    head: pl.Series
    sample: pl.Series


class Sweep:
    """Reads the columns of a table once, one at a time.

    Memory holds one column as 8 bytes a row; besides, for all columns together, 8 bytes a row as
    long as rows may repeat one another, and 8 where values are missing.

    Parameters
    ----------
    places
        The rows to keep as a sample, in order.
    """

    def __init__(self, table: Table, places: NDArray[np.int64]) -> None:
        self._table = table
        self._places = places
        self._chosen: dict[int, pl.Series] = {}
        self._digests: NDArray[np.uint64] | None = None
        self._may_repeat = table.n_rows > 1
        self.missing = MissingCounter(table.n_rows)

    def read(self, name: str) -> Swept:
        """Read a column."""
        dtype = self._table.dtypes[name]
        first, n_missing, n_present = 0, 0, 0
        kept: NDArray[Any] | None = None
        heads: list[pl.Series] = []
        sampled: list[pl.Series] = []
        form: Form = "nested"
        for piece in self._table.pieces(name):
            form = form_of(piece.dtype)
            n_null = piece.null_count()
            n_missing += n_null
            if n_null:
                self.missing.add(name, piece.is_null().to_numpy(), first)
            sampled.append(self._sampled(piece, first))
            if form not in ("nested", "nothing"):
                present = piece.drop_nulls() if n_null else piece
                if sum(map(len, heads)) < HEAD_ROWS:
                    heads.append(present.head(HEAD_ROWS))
                digests = piece.hash() if form == "text" or self._may_repeat else None
                self._add_digests(digests, first)
                values = _values(present, form, digests, piece if n_null else None)
                kept = self._with(kept, values, n_present)
                n_present += values.size
            first += piece.len()
        ordered = np.empty(0) if kept is None else kept[:n_present]
        # sorted where it lies: a copy would be one more column in memory
        ordered.sort()
        return Swept(
            name=name,
            form=form,
            dtype=dtype,
            n_rows=self._table.n_rows,
            n_missing=n_missing,
            ordered=ordered,
            head=pl.concat(heads).head(HEAD_ROWS) if heads else pl.Series(name, [], pl.String),
            sample=pl.concat(sampled) if len(sampled) != 1 else sampled[0],
        )

    def _sampled(self, piece: pl.Series, first: int) -> pl.Series:
        if first not in self._chosen:
            low, high = np.searchsorted(self._places, [first, first + piece.len()]).tolist()
            self._chosen[first] = pl.Series(self._places[low:high] - first)
        chosen = self._chosen[first]
        return piece if chosen.len() == piece.len() else piece.gather(chosen)

    def _add_digests(self, digests: pl.Series | None, first: int) -> None:
        if digests is None or not self._may_repeat:
            return
        codes = digests.to_numpy()
        if self._digests is None:
            self._digests = np.zeros(self._table.n_rows, dtype=np.uint64)
        here = self._digests[first : first + codes.size]
        here *= np.uint64(_STEP)
        here += codes

    def _with(
        self, kept: NDArray[Any] | None, values: NDArray[Any], n_present: int
    ) -> NDArray[Any]:
        if kept is None:
            if values.size == self._table.n_rows:
                return values.copy()
            kept = np.empty(self._table.n_rows, dtype=values.dtype)
        kept[n_present : n_present + values.size] = values
        return kept

    def saw_distinct(self, swept: Swept, n_distinct: int) -> None:
        """Take note of a column that has another value in every row: no row repeats another then."""
        if not swept.n_missing and n_distinct == swept.n_rows:
            self._may_repeat, self._digests = False, None

    def n_duplicate_rows(self) -> int:
        """Return how many rows repeat an earlier one, once all columns were read."""
        if self._digests is None:
            return 0
        self._digests.sort()
        n_distinct = runs(self._digests, 1).n_distinct
        self._digests, self._may_repeat = None, False
        return self._table.n_rows - n_distinct

    def texts(self, swept: Swept, n_top: int) -> list[tuple[str, int]]:
        """Return the most frequent values of a column of text and how often they occur.

        Of values that occur equally often, those that appear first in the table are chosen.
        """
        wanted = runs(swept.ordered, n_top)
        bound = min((n for _, n in wanted.top), default=0)
        room = sum(n == bound for _, n in wanted.top)
        found: dict[int, tuple[str, int]] = {}
        for codes, values in self._looked_at(swept.name):
            _, places = np.unique(codes, return_index=True)
            places.sort()
            low = np.searchsorted(swept.ordered, codes[places], side="left")
            counts = np.searchsorted(swept.ordered, codes[places], side="right") - low
            for which in np.flatnonzero(counts >= bound).tolist():
                code, n = int(codes[places[which]]), int(counts[which])
                if code in found or (n == bound and not room):
                    continue
                room -= n == bound
                found[code] = (values[int(places[which])], n)
                if len(found) == len(wanted.top):
                    return sorted(found.values(), key=lambda each: (-each[1], each[0]))
        return sorted(found.values(), key=lambda each: (-each[1], each[0]))

    def _looked_at(self, name: str) -> Iterator[tuple[NDArray[np.uint64], pl.Series]]:
        for piece in self._table.pieces(name):
            for part in piece.drop_nulls().to_frame().iter_slices(_LOOKED_AT):
                column = part.get_column(name)
                yield column.hash().to_numpy(), column


def form_of(dtype: pl.DataType) -> Form:
    """Return how a column of a plain type is described."""
    if dtype == pl.String:
        return "text"
    if dtype == pl.Boolean:
        return "boolean"
    if dtype == pl.Null:
        return "nothing"
    if dtype in (pl.Date, pl.Datetime):
        return "date"
    return "number" if is_flat(dtype) else "nested"


def _values(
    present: pl.Series, form: Form, digests: pl.Series | None, gappy: pl.Series | None
) -> NDArray[Any]:
    """Return present values as numbers that sort."""
    if form == "text" and digests is not None:
        return (digests.filter(gappy.is_not_null()) if gappy is not None else digests).to_numpy()
    if form == "date":
        return present.cast(pl.Datetime("us")).to_physical().to_numpy()
    if form == "boolean":
        return present.to_numpy().view(np.uint8)
    return present.to_numpy()
