"""The parts of a reading on the disk: rows written down as they come, as raw Parquet files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.data.conversion import is_whole, is_wide
from loopwright.data.decision import settled
from loopwright.data.room import enough_room
from loopwright.data.row_group import GROUP_ROWS, PACKING

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_PART_BYTES = 64 << 20


class StagedParts:
    """The parts of one reading in a folder, each a Parquet file that is there in full or not at all.

    A part is one row group of a snapshot, and packed as one if most of its columns will stay as they
    are, so that it need not be packed again. Rows so wide that memory would run out make it shorter.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._waiting: list[pl.DataFrame] = []
        self._n_bytes = self._n_rows = 0
        self._packing: dict[str, Any] = {}
        self._number = 0

    def paths(self) -> list[Path]:
        """Return the files, in the order of their rows."""
        return sorted(self.folder.glob("part-*.parquet"))

    def add(self, batch: pl.DataFrame) -> None:
        """Take some rows; they are written when enough have come together."""
        if self._waiting and batch.schema != self._waiting[0].schema:
            self._meet(batch.schema)
            batch = _filled(batch, self._waiting[0].schema) if self._waiting else batch
        self._waiting.append(batch)
        self._n_rows += batch.height
        self._n_bytes += int(batch.estimated_size())
        while self._n_rows >= GROUP_ROWS:
            whole = pl.concat(self._waiting, rechunk=False)
            self._end(whole.head(GROUP_ROWS), whole.tail(-GROUP_ROWS))
        if self._n_bytes >= _PART_BYTES:
            self._end(pl.concat(self._waiting, rechunk=False), batch.clear())

    def flush(self) -> None:
        """Write down what was taken; rows to come may still join the last part."""
        if self._waiting:
            self._write(pl.concat(self._waiting, rechunk=False), self._path())

    def _path(self) -> Path:
        return self.folder / f"part-{self._number:06}.parquet"

    def _end(self, frame: pl.DataFrame, rest: pl.DataFrame) -> None:
        """Write the last part for good; other rows begin the next."""
        self._write(frame, self._path())
        self._number += 1
        self._take([rest] if rest.height else [])

    def _take(self, frames: list[pl.DataFrame]) -> None:
        self._waiting = frames
        self._n_rows = sum(frame.height for frame in frames)
        self._n_bytes = sum(int(frame.estimated_size()) for frame in frames)

    def _meet(self, schema: pl.Schema) -> None:
        """Give the rows taken so far the types of others, if theirs only were not known yet."""
        common = {
            name: schema.get(name, dtype) if dtype == pl.Null else dtype
            for name, dtype in self._waiting[0].schema.items()
        }
        if all(schema.get(name) in (dtype, pl.Null) for name, dtype in common.items()):
            self._waiting = [_filled(frame, common) for frame in self._waiting]
        else:
            self._end(pl.concat(self._waiting, rechunk=False), self._waiting[0].clear())

    def _write(self, frame: pl.DataFrame, path: Path) -> None:
        self._packing = self._packing or _packing(frame)
        under_way = self.folder / "under-way"
        with enough_room(self.folder):
            frame.write_parquet(under_way, **self._packing)
            under_way.replace(path)

    def go_on(self) -> None:
        """Take the last part up again if it is no whole one."""
        self._take([])
        paths = self.paths()
        self._number = len(paths)
        if paths and pl.scan_parquet(paths[-1], glob=False).select(pl.len()).collect().item() < (
            GROUP_ROWS
        ):
            last = pl.read_parquet(paths[-1])
            if int(last.estimated_size()) < _PART_BYTES:
                self._number -= 1
                self._take([last])

    def clear(self) -> None:
        """Forget all rows."""
        for path in self.paths():
            path.unlink()
        self.go_on()

    def last(self, order: Sequence[str]) -> dict[str, Any] | None:
        """Return the last row's values of some columns; None if there are no rows yet."""
        self.flush()
        paths = self.paths()
        if not paths:
            return None
        last = pl.scan_parquet(paths[-1], glob=False).select(order).tail(1).collect()
        return last.row(0, named=True)

    def back(self, cursor: str) -> Any:
        """Drop the rows that share the last value of a column in order; return that value.

        It is None if there is nothing to go on from: no value, or of a type that may have been
        rounded or that the database may compare in a way of its own. Then all rows are dropped.
        """
        found = self.last([cursor])
        value = None if found is None else found[cursor]
        if isinstance(value, bool) or not isinstance(value, int | date):
            self.clear()
            return None
        for path in reversed(self.paths()):
            rows = pl.scan_parquet(path, glob=False)
            rest = rows.filter(pl.col(cursor).ne_missing(value)).collect()
            if rest.height:
                self._write(rest, path)
                break
            path.unlink()
        self.go_on()
        return value


def _filled(frame: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return rows with another type for columns in which all is missing."""
    return frame.cast(
        {name: dtype for name, dtype in schema.items() if frame.schema[name] == pl.Null}
    )


def _packing(frame: pl.DataFrame) -> dict[str, Any]:
    """Return how rows are packed: for good, if most of their columns will stay as they are."""
    if 2 * len(settled(frame)) > frame.width:
        return PACKING
    return {"compression": "lz4", "row_group_size": GROUP_ROWS, "statistics": False}


def as_table(paths: Sequence[Path], place: Path) -> pl.LazyFrame | None:
    """Return the parts as one table; a column's type can widen on the way. None without any rows.

    `place` is a folder for parts that have to be widened.
    """
    schema: dict[str, pl.DataType] = {}
    schemas = [dict(pl.read_parquet_schema(path)) for path in paths]
    for found in schemas:
        schema = {
            name: common_type(schema.get(name, dtype), dtype) for name, dtype in found.items()
        }
    frames = []
    for number, (path, found) in enumerate(zip(paths, schemas, strict=True)):
        # all missing at first, or whole numbers at first
        if found != schema:
            widened = place / f"widened-{number:06}.parquet"
            with enough_room(place):
                pl.read_parquet(path).select(
                    pl.col(name).cast(dtype) for name, dtype in schema.items()
                ).write_parquet(widened, compression="lz4", row_group_size=GROUP_ROWS)
            path = widened
        frames.append(path)
    return pl.scan_parquet(frames, glob=False) if frames else None


def common_type(one: pl.DataType, other: pl.DataType) -> pl.DataType:
    """Return the type that holds the values of both."""
    if one == other or other == pl.Null:
        return one
    if one == pl.Null:
        return other
    if one.is_numeric() and other.is_numeric():
        if not (is_whole(one) and is_whole(other)):
            return pl.Float64()
        return pl.Decimal(38, 0) if is_wide(one) or is_wide(other) else pl.Int64()
    if pl.Binary in (one, other):
        return pl.Binary()
    if {one, other} == {pl.Date(), pl.Datetime("us")}:
        return pl.Datetime("us")
    return pl.String()
