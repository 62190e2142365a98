"""Records as programs write them: nested objects become flat rows, batches become one typed file."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

MAX_COLUMNS = 20_000
MAX_DEPTH = 64
_RECORDS_PER_PART = 10_000
# as `datetime.isoformat` writes it with microseconds
_MOMENT = "%Y-%m-%dT%H:%M:%S%.6f%:z"
_WHOLE_NUMBERS = range(-(2**63), 2**63)

Cell = bool | int | float | str | datetime | bytes | None
Flat = dict[str, Cell]


def flat_record(record: Mapping[str, Any]) -> Flat:
    """Return a record whose nested objects are spread over dotted names; lists become JSON text.

    Raises
    ------
    InvalidInputError
        If two values land on one name, or objects are nested more than `MAX_DEPTH` deep.

    Examples
    --------
    >>> flat_record({"id": 7, "home": {"town": "Kent", "tags": ["a", 1]}})
    {'id': 7, 'home.town': 'Kent', 'home.tags': '["a",1]'}
    """
    flat: Flat = {}
    _spread(record, "", flat, 0)
    return flat


def _spread(record: Mapping[str, Any], prefix: str, flat: Flat, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _refused(f"Objects are nested more than {MAX_DEPTH} deep at {prefix[:80]!r}.")
    for key, value in record.items():
        name = prefix + str(key)
        if isinstance(value, Mapping):
            _spread(value, f"{name}.", flat, depth + 1)
        elif name in flat:
            raise _refused(f"Two values of one record land on the column {name!r}.", column=name)
        else:
            flat[name] = _scalar(value)


def _scalar(value: Any) -> Cell:
    if isinstance(value, list | tuple):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)
    if isinstance(value, int) and not isinstance(value, bool) and value not in _WHOLE_NUMBERS:
        # more digits than a column of whole numbers holds: such values are codes
        return str(value)
    if value is None or isinstance(value, bool | int | float | str | datetime | bytes):
        return value
    return str(value)


def _refused(message: str, **facts: Any) -> InvalidInputError:
    return InvalidInputError(
        message, hint="Flatten the records before they are exported.", field="data.source", **facts
    )


def write_records(
    records: Iterable[Flat], place: Path, *, columns: Sequence[str] | None = None
) -> list[Path]:
    """Write flat records as Parquet files with the same typed columns; memory stays bounded.

    Parameters
    ----------
    records
        Any number of flat records; a column that a record lacks is missing there, and a record
        without values is left out.
    place
        An existing empty folder.
    columns
        The columns and their order; those found, in the order of their first appearance, when
        absent.

    Returns
    -------
    list of Path
        The files, in the order of the records; none when there are no records.

    Raises
    ------
    InvalidInputError
        If there are more than `MAX_COLUMNS` columns.
    """
    schema: dict[str, pl.DataType] = {name: pl.Null() for name in columns or ()}
    parts: list[Path] = []
    for batch in _batches(records):
        names = columns or list(dict.fromkeys(name for record in batch for name in record))
        frame = pl.DataFrame([series_of(name, [row.get(name) for row in batch]) for name in names])
        for name, dtype in frame.schema.items():
            schema[name] = _common(name, schema.get(name, pl.Null()), dtype)
        if len(schema) > MAX_COLUMNS:
            raise _refused(f"The records have more than {MAX_COLUMNS:,} columns.")
        path = place / f"part-{len(parts):06}.parquet"
        frame.write_parquet(path, compression="lz4")
        parts.append(path)
    for path in parts:
        _widen(path, schema)
    return parts


def _batches(records: Iterable[Flat]) -> Iterator[list[Flat]]:
    # a record without values is no row, as a blank line is none
    iterator = (record for record in records if record)
    while batch := list(itertools.islice(iterator, _RECORDS_PER_PART)):
        yield batch


def _widen(path: Path, schema: Mapping[str, pl.DataType]) -> None:
    frame = pl.read_parquet(path)
    if dict(frame.schema) == dict(schema) and frame.columns == list(schema):
        return
    frame.select(
        _widened(name, frame.schema[name], dtype)
        if name in frame.columns
        else pl.lit(None, dtype).alias(name)
        for name, dtype in schema.items()
    ).write_parquet(path, compression="lz4")


def _widened(name: str, found: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    if isinstance(found, pl.Datetime) and wanted == pl.String:
        return pl.col(name).dt.to_string(_MOMENT)
    return pl.col(name).cast(wanted)


def series_of(name: str, values: Sequence[Cell]) -> pl.Series:
    """Return a column typed by its values; numbers and moments among texts become text.

    Moments have a zone and are kept as UTC.

    Raises
    ------
    InvalidInputError
        If bytes stand among values of other types.

    Examples
    --------
    >>> series_of("n", [1, None, "x", True]).to_list()
    ['1', None, 'x', 'true']
    """
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds:
        return pl.Series(name, values, dtype=pl.Null)
    if kinds == {bool}:
        return pl.Series(name, values, dtype=pl.Boolean)
    if kinds == {int}:
        return pl.Series(name, values, dtype=pl.Int64)
    if kinds <= {int, float}:
        return pl.Series(name, values, dtype=pl.Float64, strict=False)
    if kinds == {datetime}:
        return pl.Series(name, values, dtype=pl.Datetime("us", "UTC"))
    if kinds == {bytes}:
        return pl.Series(name, values, dtype=pl.Binary)
    if bytes in kinds:
        raise _mixed(name)
    return pl.Series(name, [_text(v) for v in values], dtype=pl.String)


def _text(value: Any) -> str | None:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _mixed(name: str) -> InvalidInputError:
    return InvalidInputError(
        f"The column {name!r} holds bytes in some records and other values in others.",
        hint="Name the `fields` to read, without it.",
        field="data.source.fields",
        column=name,
    )


def _common(name: str, one: pl.DataType, other: pl.DataType) -> pl.DataType:
    if one == other or other == pl.Null:
        return one
    if one == pl.Null:
        return other
    if pl.Binary in (one, other):
        raise _mixed(name)
    return pl.Float64() if one.is_numeric() and other.is_numeric() else pl.String()
