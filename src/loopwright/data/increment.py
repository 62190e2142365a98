"""Only the rows that are new: read from a source beyond a cursor and added to the snapshot before.

A cursor is a column that grows, such as `created_at` or `id`. Every increment starts at the greatest
value of the snapshot it adds to, that value included, so that rows which share it are never missed;
those the snapshot has already are told by all their columns and not added twice. A row that arrives
late, with a smaller cursor than rows already read, and a row whose cursor is missing are not seen:
a full extraction sees them, and rows that were changed or deleted at the source. A row whose cursor
moves when it is changed takes the place of the older one where the key is said; else it comes in a
second time, and the contract notices if the table has a key.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.data.conversion import Conversion, check_convertible, convert
from loopwright.data.piece import changed
from loopwright.data.snapshot import Snapshot, check_unchanged, frozen
from loopwright.data.source import Source
from loopwright.data.staged_part import common_type
from loopwright.data.staging import staged

if TYPE_CHECKING:
    import polars as pl

    from loopwright.core.clock import Clock
    from loopwright.store.artifact import ArtifactStore
else:
    pl = LazyModule("polars")

# readings whose text, with all digits in place, sorts as the moments do
_SORTED_TEXT = {
    "date (Y-M-D)": "%Y-%m-%d",
    "moment (Y-M-DTh:m:s)": "%Y-%m-%dT%H:%M:%S",
    "moment (Y-M-D h:m:s)": "%Y-%m-%d %H:%M:%S",
    "moment (Y-M-DTh:m)": "%Y-%m-%dT%H:%M",
    "moment (Y-M-D h:m)": "%Y-%m-%d %H:%M",
}
# a number with few digits in a database may have been rounded on its way here
_SLACK = 1e-6
_EXACT = 2.0**53
_EXACT_HINT = "Have the source give it as text or as whole numbers, and read it in full once more."


@runtime_checkable
class NarrowingSource(Protocol):
    """A source that can leave out old rows by itself, so that they need not be read."""

    def since(self, column: str, value: int | float | str | date | datetime) -> Source:
        """Return a source of at least all rows whose `column` is `value` or greater.

        It may give more rows: where it cannot compare as this process would, it returns itself.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Increment:
    """What a look beyond the cursor gave.

    Parameters
    ----------
    snapshot
        All rows: those of the snapshot before, then the new ones. It is the snapshot before where
        there are no new rows, and None where the new rows do not fit it.
    n_new
        How many rows are new; they stand at the end.
    n_replaced
        How many older rows they took the place of.
    start, end
        The greatest value of the cursor before and after.
    misfit
        Why the new rows cannot be added to the old ones, one sentence; then the source has to be
        read in full.
    """

    snapshot: Snapshot | None
    n_new: int
    start: Any
    end: Any
    misfit: str = ""
    n_replaced: int = 0


def check_cursor(cursor: str, rows: pl.LazyFrame) -> None:
    """Raise if a column cannot tell new rows from old ones.

    Parameters
    ----------
    cursor
        The column, as the loop file names it.
    rows
        The rows of a snapshot.

    Raises
    ------
    InvalidInputError
        If there is no such column, it holds truth values, it is empty, or its numbers have been
        rounded or are text of several lengths, which sorts otherwise.
    """
    schema = rows.collect_schema()
    if cursor not in schema:
        message, hint = f"The cursor {cursor!r} is not a column.", did_you_mean(cursor, schema)
    elif schema[cursor] == pl.Boolean:
        message = f"The cursor {cursor!r} holds truth values, which do not grow."
        hint = "Choose a column of moments, dates or growing numbers, such as created_at or id."
    elif cursor_end(cursor, rows) is None:
        message, hint = (
            f"The cursor {cursor!r} has no values.",
            "Choose a column that is filled in.",
        )
    elif _is_rounded(cursor, rows):
        message = f"The cursor {cursor!r} holds numbers beyond 2^53, which have been rounded."
        hint = _EXACT_HINT
    elif _are_numbers_as_text(cursor, rows):
        message = f"The cursor {cursor!r} holds numbers of several lengths as text."
        hint = "As text, 10 comes before 9: choose a column of moments, dates or shorter numbers."
    else:
        return
    raise InvalidInputError(message, hint=hint, field="data.refresh.cursor", value=cursor)


def _is_rounded(name: str, rows: pl.LazyFrame) -> bool:
    """Return whether a column holds numbers so great that two of them may have become one."""
    if rows.collect_schema()[name] != pl.Float64:
        return False
    greatest = rows.select(pl.col(name).abs().max()).collect(engine="streaming").item()
    return greatest is not None and greatest >= _EXACT


def _are_numbers_as_text(name: str, rows: pl.LazyFrame) -> bool:
    if rows.collect_schema()[name] != pl.String:
        return False
    text, size = pl.col(name), pl.col(name).str.len_bytes()
    is_number = text.str.contains("^[+-]?[0-9]+$").all()
    found = rows.select(is_number, (size.min() != size.max()).alias("\0differ"))
    return all(found.collect(engine="streaming").row(0))


def check_key(key: Sequence[str], rows: pl.LazyFrame) -> None:
    """Raise `InvalidInputError` if a column of the key is not there or has been rounded."""
    schema = rows.collect_schema()
    for name in key:
        if name not in schema:
            raise InvalidInputError(
                f"The key {name!r} is not a column.",
                hint=did_you_mean(name, schema),
                field="data.refresh.key",
                value=name,
            )
        if _is_rounded(name, rows):
            raise InvalidInputError(
                f"The key {name!r} holds numbers beyond 2^53, which have been rounded: it may say "
                "of different rows that they are one.",
                hint=_EXACT_HINT,
                field="data.refresh.key",
                value=name,
            )


def cursor_end(cursor: str, rows: pl.LazyFrame) -> Any:
    """Return the greatest value of the cursor; None if it has none."""
    return rows.select(pl.col(cursor).max()).collect(engine="streaming").item()


def take_increment(
    source: Source,
    *,
    base: Snapshot,
    rows: pl.LazyFrame,
    cursor: str,
    artifacts: ArtifactStore,
    clock: Clock,
    folder: Path,
    keep: Path | None = None,
    key: Sequence[str] = (),
) -> Increment:
    """Read the rows beyond a cursor and return the snapshot with them added.

    Memory stays bounded; only rows that share the last value of the cursor are held at once. When
    the source breaks off for good, `base` stands.

    Parameters
    ----------
    source
        Where the rows come from.
    base, rows
        The snapshot to add to, and its rows.
    cursor
        A column for which `check_cursor` passes on `rows`.
    artifacts
        Where the new snapshot goes.
    clock
        Tells when it was taken.
    folder
        An existing folder for temporary files of about twice the size of the new snapshot.
    keep
        See `loopwright.data.staging.staged`: a reading that broke off is gone on with from there.
    key
        Columns for which `check_key` passes on `rows`: of the rows with one key only the newest
        stays, by the cursor and then by the order of the source. The new rows are held in memory
        then. Rows whose key is missing are all kept.

    Raises
    ------
    InvalidInputError
        If the source is broken, or more older rows would be replaced than there are keys in the new
        ones.
    BackendError
        If the database fails, or the source changed while it was read.
    """
    fingerprint = source.fingerprint()
    start = cursor_end(cursor, rows)
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix="increment-") as temporary,
        staged(_narrowed(source, base, cursor, start), Path(temporary), keep=keep) as raw,
    ):
        place = Path(temporary)
        check_unchanged(source, fingerprint)
        if raw is None:
            return Increment(snapshot=base, n_new=0, start=start, end=start)
        fitted = _fitted(raw, base, rows)
        if isinstance(fitted, str):
            return Increment(snapshot=None, n_new=0, start=start, end=start, misfit=fitted)
        new = _beyond(fitted, rows, cursor, start)
        # a source that cannot leave out old rows gives them again: look before writing all anew
        if not new.head(1).collect(engine="streaming").height:
            return Increment(snapshot=base, n_new=0, start=start, end=start)
        kept = rows
        if key:
            new = _newest(new.collect(engine="streaming"), cursor, key).lazy()
            kept = rows.join(new, on=list(key), how="anti", maintain_order="left")
            _check_replaced(rows, kept, new, key)
        digest, columns, n_rows = frozen(pl.concat([kept, new]), artifacts, place)
        end = max(start, cursor_end(cursor, new))
        n_new = int(new.select(pl.len()).collect(engine="streaming").item())
    snapshot = Snapshot(
        digest=digest,
        n_rows=n_rows,
        columns=columns,
        source=base.source,
        fingerprint=fingerprint,
        conversions=base.conversions,
        taken_at=clock.now(),
    )
    return Increment(
        snapshot=snapshot,
        n_new=n_new,
        start=start,
        end=end,
        n_replaced=base.n_rows + n_new - n_rows,
    )


def _narrowed(source: Source, base: Snapshot, cursor: str, start: Any) -> Source:
    if not isinstance(source, NarrowingSource):
        return source
    conversion = next((each for each in base.conversions if each.column == cursor), None)
    value = _at_source(conversion, start)
    return source if value is None else source.since(cursor, value)


def _at_source(conversion: Conversion | None, start: Any) -> Any:
    """Return the value as the source has it, or a little less; None if it cannot be told."""
    if conversion is not None and conversion.reading is not None:
        format_ = _SORTED_TEXT.get(conversion.reading)
        return start.strftime(format_) if format_ and start.year >= 1000 else None
    if conversion is not None and conversion.is_code:
        # numbers there and text here
        return None
    if isinstance(start, float):
        return start - abs(start) * _SLACK
    if isinstance(start, datetime) and conversion is not None and "time_zone='" in conversion.was:
        return start.replace(tzinfo=UTC)
    return start


def _fitted(raw: pl.LazyFrame, base: Snapshot, rows: pl.LazyFrame) -> pl.LazyFrame | str:
    """Return raw rows in the types of the snapshot before, or why they do not fit it."""
    try:
        check_convertible(raw, base.conversions)
    except InvalidInputError as error:
        return error.message
    found = changed(raw, partial(convert, conversions=base.conversions))
    schema, wanted = found.collect_schema(), rows.collect_schema()
    if set(schema) != set(wanted):
        odd = sorted(set(schema) ^ set(wanted))
        return f"The columns differ: {', '.join(map(repr, odd[:5]))} in one only."
    n_values = found.select(pl.all().count()).collect(engine="streaming").row(0, named=True)
    blank = [name for name, dtype in wanted.items() if dtype == pl.String and n_values[name]]
    known = rows.select(pl.col(blank).count()).collect(engine="streaming").to_dicts()[:1]
    for name, dtype in wanted.items():
        if name in blank and not known[0][name]:
            return f"The column {name!r} was empty before, so its type was not known."
        if n_values[name] and common_type(dtype, schema[name]) != dtype:
            return f"The column {name!r} held {dtype} and now holds {schema[name]}."
    return found.select(
        pl.col(name).cast(dtype, strict=bool(n_values[name])) for name, dtype in wanted.items()
    )


def _beyond(found: pl.LazyFrame, rows: pl.LazyFrame, cursor: str, start: Any) -> pl.LazyFrame:
    """Return the rows that are new: those at the border which are not there yet, and all beyond."""
    border = pl.col(cursor) == start
    added = _surplus(found.filter(border).collect(), rows.filter(border).collect())
    return pl.concat([added.lazy(), found.filter(pl.col(cursor) > start)])


def _check_replaced(
    rows: pl.LazyFrame, kept: pl.LazyFrame, new: pl.LazyFrame, key: Sequence[str]
) -> None:
    """Raise if new rows would take the place of more older ones than they have keys."""
    counts = [frame.select(pl.len()).collect(engine="streaming").item() for frame in (rows, kept)]
    n_keys = int(new.select(list(key)).drop_nulls().unique().select(pl.len()).collect().item())
    n_replaced = counts[0] - counts[1]
    if n_replaced > n_keys:
        raise InvalidInputError(
            f"{n_replaced:,} older rows have the {n_keys:,} keys of the new ones, so "
            f"{', '.join(key)} does not tell rows apart.",
            hint="Name columns of which every row has values of its own, or leave the key out.",
            field="data.refresh.key",
            value=list(key),
        )


def _newest(new: pl.DataFrame, cursor: str, key: Sequence[str]) -> pl.DataFrame:
    """Return the newest row of each key, in the order of the cursor."""
    ordered = new.sort(cursor, maintain_order=True)
    is_unknown = pl.any_horizontal(pl.col(name).is_null() for name in key)
    is_last = pl.int_range(pl.len()).over(key) == pl.len().over(key) - 1
    return ordered.filter(is_last | is_unknown)


def _surplus(found: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of `found` that `known` has not, or has fewer times."""
    time = "time" + "_" * max(map(len, found.columns))
    columns = [*found.columns, time]
    numbered = [
        frame.with_columns(pl.int_range(pl.len()).over(frame.columns).alias(time))
        for frame in (found, known)
    ]
    surplus = numbered[0].join(
        numbered[1], on=columns, how="anti", nulls_equal=True, maintain_order="left"
    )
    return surplus.drop(time)
