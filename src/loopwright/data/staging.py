"""Rows on their way from a source: written down as they come, so that a break costs only the rest.

A source with an order (the primary key of a table, or the cursor of a query) is read on from the last
row that was written down, by the same call after a pause, or by a later process when this one was
killed. Any other is
read anew by the same call. Rows that change at the source between two tries come as each try finds
them, as two readings of a file that is being written would.
"""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

from loopwright.core.errors import BackendError
from loopwright.core.lazy import LazyModule
from loopwright.data.conversion import is_whole, is_wide
from loopwright.data.room import enough_room
from loopwright.data.source import Source

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

WAITS_S = (0.25, 1.0, 4.0)
"""How long to wait before another try, in seconds; reading some rows starts the count anew."""

_PART_BYTES = 32 << 20
_RESUME_WITHIN_S = 6 * 3600
_VERSION = 1


@runtime_checkable
class ResumableSource(Source, Protocol):
    """A source that can be read on from a row instead of from its start."""

    def identity(self) -> str:
        """Return a digest of what is read: the place, the table or query, and its conditions."""
        ...

    def order(self) -> tuple[str, ...]:
        """Return the columns whose values, taken together, order the rows and tell them apart.

        Empty where there are none, and the source cannot be read on.
        """
        ...

    def after(self, row: dict[str, Any]) -> Source:
        """Return a source of the rows that come after this one, of which it is given the order."""
        ...


@runtime_checkable
class SortableSource(ResumableSource, Protocol):
    """A source that can give its rows in the order of a column whose values rows may share."""

    def by(self, cursor: str, key: Sequence[str] = ()) -> Source:
        """Return a source of the same rows in the order of a column, missing values first.

        It is the source itself where it has an order of its own, or no such column.
        """
        ...

    def cursor(self) -> str | None:
        """Return the column that the rows come in the order of; None where there is none."""
        ...

    def beyond(self, value: Any) -> Source:
        """Return a source of the rows whose `cursor()` is at least this, in the same order."""
        ...


def sorted_by(source: Source, cursor: str | None, key: Sequence[str] = ()) -> Source:
    """Return a source in the order of its cursor where that helps to read it on after a break."""
    if cursor is None or not isinstance(source, SortableSource):
        return source
    return source.by(cursor, key)


class _Begun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the parts in a folder are parts of."""

    identity: str
    order: tuple[str, ...]
    begun_at: float
    version: int = _VERSION


class _Parts:
    """The parts of one reading in a folder, each a Parquet file that is there in full or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._waiting: list[pl.DataFrame] = []
        self._n_bytes = 0

    def paths(self) -> list[Path]:
        """Return the files, in the order of their rows."""
        return sorted(self.folder.glob("part-*.parquet"))

    def add(self, batch: pl.DataFrame) -> None:
        """Take some rows; they are written when enough have come together."""
        if self._waiting and batch.schema != self._waiting[0].schema:
            self.flush()
        self._waiting.append(batch)
        self._n_bytes += int(batch.estimated_size())
        if self._n_bytes >= _PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write down what was taken."""
        if not self._waiting:
            return
        path = self.folder / f"part-{len(self.paths()):06}.parquet"
        self._write(pl.concat(self._waiting, rechunk=False), path)
        self._waiting, self._n_bytes = [], 0

    def _write(self, frame: pl.DataFrame, path: Path) -> None:
        under_way = self.folder / "under-way"
        with enough_room(self.folder):
            frame.write_parquet(under_way, compression="lz4", row_group_size=100_000)
            under_way.replace(path)

    def clear(self) -> None:
        """Forget all rows."""
        self._waiting, self._n_bytes = [], 0
        for path in self.paths():
            path.unlink()

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
        return value


@contextmanager
def staged(
    source: Source,
    place: Path,
    *,
    keep: Path | None = None,
    wait: Callable[[float], object] = time.sleep,
) -> Iterator[pl.LazyFrame | None]:
    """Give the rows of a source as one table of raw rows, if it has any; memory stays bounded.

    Parameters
    ----------
    source
        Where the rows come from.
    place
        An existing folder for the parts, which goes with its owner.
    keep
        A folder of this reading alone, made where it is missing, that outlives the process: a
        `ResumableSource` is read on from there. It is gone when the context ends well, and when
        what came up is nothing that a later try could better.
    wait
        Lets some seconds pass before another try.

    Raises
    ------
    InvalidInputError
        If the source is broken.
    BackendError
        If it breaks off again and again, or the disk is full.
    """
    resumable = source if isinstance(source, ResumableSource) else None
    order = _order(resumable) if resumable is not None else ()
    if resumable is None or not order:
        parts = _Parts(place)
        _read(source, None, parts, (), wait)
        yield _table(parts.paths(), place)
        return
    with ExitStack() as stack:
        is_kept = keep is not None and stack.enter_context(_locked(keep))
        parts = _Parts(keep if keep is not None and is_kept else place)
        if is_kept:
            _begin(parts, resumable.identity(), order)
        is_hopeful = False
        try:
            _read(source, resumable, parts, order, wait)
            yield _table(parts.paths(), place)
        except KeyboardInterrupt:
            is_hopeful = True
            raise
        except BackendError as error:
            is_hopeful = error.retryable
            raise
        finally:
            if is_kept and not (is_hopeful and parts.paths()):
                shutil.rmtree(parts.folder, ignore_errors=True)
                _remove_if_empty(parts.folder.parent)


def _read(
    source: Source,
    resumable: ResumableSource | None,
    parts: _Parts,
    order: tuple[str, ...],
    wait: Callable[[float], object],
) -> None:
    """Read to the end, over breaks of the connection."""
    breaks, in_a_row = 0, 0
    while True:
        n_batches = 0
        try:
            rest = source if resumable is None else _rest(resumable, parts, order)
            for batch in rest.batches():
                parts.add(batch)
                n_batches += 1
            parts.flush()
        except BackendError as error:
            breaks += 1
            in_a_row = 1 if resumable is not None and n_batches else in_a_row + 1
            is_begun = bool(n_batches or breaks > 1 or parts.paths())
            if not (error.retryable and is_begun and in_a_row <= len(WAITS_S)):
                raise _told(error, parts, breaks) from error
            if resumable is None:
                parts.clear()
            wait(WAITS_S[in_a_row - 1])
        else:
            return


def _order(source: ResumableSource) -> tuple[str, ...]:
    cursor = source.cursor() if isinstance(source, SortableSource) else None
    return source.order() if cursor is None else (cursor,)


def _rest(source: ResumableSource, parts: _Parts, order: tuple[str, ...]) -> Source:
    """Return a source of the rows that the parts have not."""
    if isinstance(source, SortableSource) and source.cursor() is not None:
        value = parts.back(order[0])
        return source if value is None else source.beyond(value)
    last = parts.last(order)
    return source if last is None else source.after(last)


def _told(error: BackendError, parts: _Parts, breaks: int) -> BackendError:
    if not error.retryable:
        return error
    with suppress(BackendError):
        parts.flush()
    if breaks < 2:
        return error
    message = f"{error.message} It was tried {breaks} times."
    return BackendError(message, hint=error.hint, **error.facts)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Tell whether this process alone has the folder; the lock goes when the process does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield (folder / "lock").exists()


def _begin(parts: _Parts, identity: str, order: tuple[str, ...]) -> None:
    """Keep the parts that are there if they are the beginning of this reading, else drop them."""
    path, now = parts.folder / "begun.json", time.time()
    try:
        begun = msgspec.json.decode(path.read_bytes(), type=_Begun)
        for part in parts.paths():
            pl.read_parquet_schema(part)
    except (OSError, msgspec.MsgspecError, pl.exceptions.PolarsError):
        begun = None
    if (
        begun is not None
        and (begun.identity, begun.order, begun.version) == (identity, order, _VERSION)
        and now - begun.begun_at < _RESUME_WITHIN_S
    ):
        return
    parts.clear()
    with enough_room(parts.folder):
        path.write_bytes(msgspec.json.encode(_Begun(identity=identity, order=order, begun_at=now)))


def _remove_if_empty(folder: Path) -> None:
    """Remove the folders that were made for the parts alone."""
    for each in (folder, folder.parent):
        with suppress(OSError):
            each.rmdir()


def _table(paths: Sequence[Path], place: Path) -> pl.LazyFrame | None:
    """Return the parts as one table; a column's type can widen on the way."""
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
                ).write_parquet(widened, compression="lz4", row_group_size=100_000)
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
