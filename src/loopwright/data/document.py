"""Records from a store that knows no schema: read once into typed Parquet parts, then given in batches."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.data.ordering import ordered
from loopwright.data.record import Flat, write_records
from loopwright.data.room import enough_room
from loopwright.data.source import BATCH_ROWS, check_target

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

ORDER_COLUMN = "\x00order"
"""The column by which records are sorted, where their store gives them in an order of its own."""

_INT64 = range(-(2**63), 2**63)
_MOST_DIGITS = 10**38


class RecordReader(Protocol):
    """Reads flat records from a store, from the first to the last, as often as asked."""

    def describe(self) -> str:
        """Return one line for people, without credentials."""
        ...

    def records(self) -> Generator[Flat, None, None]:
        """Yield the records; each with `ORDER_COLUMN`, or none with it where they come in order."""
        ...

    def columns(self, found: Sequence[str]) -> list[str]:
        """Return the columns to keep, in order, of those that occur."""
        ...

    def nothing_found(self) -> InvalidInputError:
        """Return the error for a store that has no such records: what is there instead."""
        ...

    def since(self, column: str, value: Any) -> RecordReader | None:
        """Return a reader of at least the records whose column is `value` or greater, or None."""
        ...


@dataclass(frozen=True, slots=True)
class OpenedRecords:
    """The rows that a reader of records gives.

    Which columns there are, and of which types, is known when the last record has been read.
    Records are therefore written into temporary Parquet files first; memory holds 10,000 of them,
    or some 200,000 while they are sorted.
    """

    reader: RecordReader

    def describe(self) -> str:
        """Return where the records lie, without credentials."""
        return self.reader.describe()

    def fingerprint(self) -> None:
        """Return None: such a store has no cheap sign of change."""
        return

    def schema(self) -> dict[str, pl.DataType]:
        """Return the columns. Reads every record."""
        with self._staged() as parts:
            return dict(pl.scan_parquet(parts[0], glob=False).collect_schema()) if parts else {}

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield the rows in order."""
        with self._staged() as parts:
            for part in parts:
                yield from pl.read_parquet(part, glob=False).iter_slices(BATCH_ROWS)

    def since(self, column: str, value: date | datetime | int | float | str) -> OpenedRecords:
        """Return a source of the rows whose `column` is at least `value`, left out by the store.

        Where the store could leave out too many, it is the source itself.
        """
        narrowed = self.reader.since(column, value)
        return self if narrowed is None else OpenedRecords(narrowed)

    def check(self, target: str | None = None) -> None:
        """Raise for a store that cannot be read, no rows, and an unusable target.

        Reads until the target is seen to vary: mostly a few records, all of them where it is wrong.
        """
        columns: dict[str, None] = {}
        values: set[object] = set()
        n_rows = 0
        records = self.reader.records()
        try:
            for record in records:
                n_rows += len(record) > (ORDER_COLUMN in record)
                if n_rows and target is None:
                    return
                columns.update(dict.fromkeys(record))
                value = record.get(target or "")
                if value is not None and value != "":
                    values.add(value)
                if len(values) > 1:
                    break
        finally:
            records.close()
        if not n_rows:
            raise self.reader.nothing_found()
        kept = self.reader.columns([name for name in columns if name != ORDER_COLUMN])
        of = f"the {self.describe()}"
        check_target(target or "", columns=kept, n_values=len(values), of=of)

    @contextmanager
    def _staged(self) -> Iterator[list[Path]]:
        """Give the rows as Parquet files with the same columns, for as long as the context."""
        with tempfile.TemporaryDirectory(prefix="loopwright-records-") as folder:
            with enough_room(Path(folder)):
                parts = self._parts(Path(folder))
            yield parts

    def _parts(self, folder: Path) -> list[Path]:
        (folder / "read").mkdir()
        parts = write_records(self.reader.records(), folder / "read")
        if not parts:
            return []
        found = pl.scan_parquet(parts[0], glob=False).collect_schema().names()
        columns = self.reader.columns([name for name in found if name != ORDER_COLUMN])
        if ORDER_COLUMN in found:
            (folder / "sorted").mkdir()
            parts = ordered(parts, ORDER_COLUMN, folder / "sorted")
        if columns != found:
            for part in parts:
                frame = pl.read_parquet(part, glob=False)
                frame.select(
                    pl.col(name) if name in found else pl.lit(None).alias(name) for name in columns
                ).write_parquet(part, compression="lz4")
        return parts


def number_of(value: Decimal) -> int | float | str:
    """Return a decimal number as a cell: whole where it is whole, else the nearest float.

    A whole number of more digits than a column of whole numbers holds is a code, and kept as text.

    Examples
    --------
    >>> [number_of(Decimal(text)) for text in ("7.00", "0.1", "12345678901234567890", "1E+100")]
    [7, 0.1, '12345678901234567890', 1e+100]
    """
    if not value.is_finite() or value != value.to_integral_value():
        return float(value)
    if abs(value) >= _MOST_DIGITS:
        return float(value)
    whole = int(value)
    return whole if whole in _INT64 else str(whole)


def listed(value: Any) -> Any:
    """Return a value inside a list as JSON has it: moments in ISO 8601, bytes in base 64."""
    if isinstance(value, Mapping):
        return {str(key): listed(each) for key, each in value.items()}
    if isinstance(value, list):
        return [listed(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value
