"""Rows on their way from a source: written down as they come, so that a break costs only the rest.

A source with an order (the primary key of a table, or the cursor of a query) is read on from the last
row that was written down, by the same call after a pause, or by a later process when this one was
killed. Any other is read anew by the same call. Rows that change at the source between two tries come as each try finds
them, as two readings of a file that is being written would.
"""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from loopwright.core.errors import BackendError
from loopwright.core.lazy import LazyModule
from loopwright.data.resumable import ResumableSource, SortableSource
from loopwright.data.room import enough_room
from loopwright.data.source import Source
from loopwright.data.staged_part import StagedParts, as_table

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

WAITS_S = (0.25, 1.0, 4.0)
"""How long to wait before another try, in seconds; reading some rows starts the count anew."""

_RESUME_WITHIN_S = 6 * 3600
_VERSION = 1


class _Begun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the parts in a folder are parts of."""

    identity: str
    order: tuple[str, ...]
    begun_at: float
    version: int = _VERSION


@contextmanager
def staged(
    source: Source,
    place: Path,
    *,
    keep: Path | None = None,
    wait: Callable[[float], object] = time.sleep,
) -> Iterator[pl.LazyFrame | None]:
    """Give the rows of a source as one table of raw rows, if it has any; see `staged_parts`."""
    with staged_parts(source, place, keep=keep, wait=wait) as parts:
        yield as_table(parts, place)


@contextmanager
def staged_parts(
    source: Source,
    place: Path,
    *,
    keep: Path | None = None,
    wait: Callable[[float], object] = time.sleep,
) -> Iterator[list[Path]]:
    """Give the rows of a source as Parquet files of raw rows, in order; memory stays bounded.

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
        parts = StagedParts(place)
        _read(source, None, parts, (), wait)
        yield parts.paths()
        return
    with ExitStack() as stack:
        is_kept = keep is not None and stack.enter_context(_locked(keep))
        parts = StagedParts(keep if keep is not None and is_kept else place)
        if is_kept:
            _begin(parts, resumable.identity(), order)
        is_hopeful = False
        try:
            _read(source, resumable, parts, order, wait)
            yield parts.paths()
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
    parts: StagedParts,
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


def _rest(source: ResumableSource, parts: StagedParts, order: tuple[str, ...]) -> Source:
    """Return a source of the rows that the parts have not."""
    if isinstance(source, SortableSource) and source.cursor() is not None:
        value = parts.back(order[0])
        return source if value is None else source.beyond(value)
    last = parts.last(order)
    return source if last is None else source.after(last)


def _told(error: BackendError, parts: StagedParts, breaks: int) -> BackendError:
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


def _begin(parts: StagedParts, identity: str, order: tuple[str, ...]) -> None:
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
        parts.go_on()
        return
    parts.clear()
    with enough_room(parts.folder):
        path.write_bytes(msgspec.json.encode(_Begun(identity=identity, order=order, begun_at=now)))


def _remove_if_empty(folder: Path) -> None:
    """Remove the folders that were made for the parts alone."""
    for each in (folder, folder.parent):
        with suppress(OSError):
            each.rmdir()
