"""Rows of PostgreSQL in the binary form of COPY, turned into columns without a Python object a cell.

COPY sends every row as one message: the number of fields, then for each field its length (-1 for a
missing value) and its bytes, all numbers with the most significant byte first. See "Binary Format"
under COPY in the manual of PostgreSQL, and `numeric_send` in its source for the form of `numeric`.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl
    import psycopg
    from psycopg.pq.abc import PGconn, PGresult

    Bytes = npt.NDArray[np.uint8]
    Places = npt.NDArray[np.int64]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_MAX_BATCH_ROWS = 25_000
_MAX_BATCH_BYTES = 8 << 20
# how many columns are gathered at once; as many are gathered anew behind each with missing values
_MAX_RUN = 8
# signature, flags and the length of an extension that no server sends
_HEADER_BYTES = 19
_TRAILER_BYTES = 2
# a gather may start at the last byte there is
_PADDING_BYTES = _MAX_RUN * 12 + 4
_EPOCH_DAYS = 10_957  # from 1970-01-01, where Polars counts from, to 2000-01-01
_EPOCH_US = _EPOCH_DAYS * 86_400_000_000
_FIRST_DAY, _LAST_DAY = -730_119, 2_921_939  # years 1 to 9999, which Python and Polars have
_FIRST_US, _LAST_US = _FIRST_DAY * 86_400_000_000, (_LAST_DAY + 1) * 86_400_000_000 - 1
_EXACT = 1 << 53
_NUMERIC, _MINUS = 1700, 0x4000
# the types whose values all have one length, and the number that each value is
_FIXED = {
    **dict.fromkeys((20, 1114, 1184), ">i8"),
    **dict.fromkeys((23, 1082), ">i4"),
    16: "u1",
    21: ">i2",
    26: ">u4",
    700: ">f4",
    701: ">f8",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A column of a query: its name, and the number that PostgreSQL gives its type."""

    name: str
    oid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The cells of one column in a buffer of rows.

    `at` is where each begins and `size` its length in bytes, -1 where the value is missing. Where all
    have one length, `values` are the numbers they are, any number where the value is missing.
    """

    buffer: Bytes
    at: Places
    size: npt.NDArray[np.int32]
    values: npt.NDArray[Any]

    def words(self, n_words: int) -> npt.NDArray[np.int64]:
        """Return the first numbers of 16 bits of every cell, (n_words, n_cells); any behind its end."""
        found = _gathered(self.buffer, self.at, f"V{2 * n_words}").view(">i2")
        return found.reshape(-1, n_words).T.astype(np.int64)

    def raw(self, index: int) -> bytes:
        """Return the bytes of one cell."""
        at = int(self.at[index])
        return self.buffer[at : at + int(self.size[index])].tobytes()


Reader = Callable[[Cells], "pl.Series"]


def described(connection: psycopg.Connection[Any], query: str) -> list[Field]:
    """Return the columns that a query has, without running it.

    Raises
    ------
    psycopg.Error
        If the query is wrong, or the connection is lost.
    """
    pgconn = connection.pgconn
    _checked(pgconn, pgconn.prepare(b"", query.encode()))
    result = _checked(pgconn, pgconn.describe_prepared(b""))
    return [
        Field(name=(result.fname(index) or b"").decode(), oid=result.ftype(index))
        for index in range(result.nfields)
    ]


def copied(
    connection: psycopg.Connection[Any],
    query: str,
    fields: Sequence[Field],
    series: Callable[[str, Sequence[Any]], pl.Series],
) -> Iterator[pl.DataFrame]:
    """Yield the rows of a query in its order; memory stays bounded.

    Parameters
    ----------
    connection
        A connection in a transaction, with UTF-8 as its encoding. It is in the middle of a COPY
        until the iterator has ended.
    query
        A SELECT without parameters.
    fields
        What `described` returned for it; names must differ.
    series
        Makes a column of Python values, for types that have no columnar form here.

    Raises
    ------
    psycopg.Error
        If the query fails or the connection is lost.
    OverflowError
        If a date or a moment is infinite or outside of the years 1 to 9999; the message says which.
    """
    readers = [_reader(connection, field, series) for field in fields]
    kinds = [_FIXED.get(field.oid, "") for field in fields]
    for buffer, starts in _buffers(connection.pgconn, _copy(query, fields, readers)):
        yield pl.DataFrame(
            _column(field.name, cells, reader)
            for field, (reader, _), cells in zip(
                fields, readers, _cells(buffer, starts, kinds), strict=True
            )
        )


def _cells(buffer: Bytes, starts: Places, kinds: Sequence[str]) -> Iterator[Cells]:
    """Yield the cells of every column; a column of the kind "" has values of any length."""
    position, first = starts + 2, 0  # the number of fields, known
    while first < len(kinds):
        # while no value is missing, the columns of fixed lengths stand in the same places in all rows
        run = list(takewhile(bool, kinds[first : first + _MAX_RUN])) or [""]
        layout = np.dtype([part for i, kind in enumerate(run) for part in _part(i, kind)])
        found = _gathered(buffer, position, f"V{layout.itemsize}").view(layout)
        for i, kind in enumerate(run):
            size = found[f"size{i}"].astype(np.int32)
            values = found[f"value{i}"].astype(np.dtype(kind or "V0").newbyteorder("="))
            yield Cells(buffer=buffer, at=position + 4, size=size, values=values)
            first += 1
            position = position + (4 + np.maximum(size, 0))
            if (size < 0).any():
                break


def _part(number: int, kind: str) -> list[tuple[str, str]]:
    return [(f"size{number}", ">i4"), (f"value{number}", kind or "V0")]


def _copy(query: str, fields: Sequence[Field], readers: Sequence[tuple[Reader, bool]]) -> bytes:
    if any(as_text for _, as_text in readers):
        columns = ", ".join(
            _text_of(quoted(field.name)) if as_text else quoted(field.name)
            for field, (_, as_text) in zip(fields, readers, strict=True)
        )
        query = f"SELECT {columns} FROM ({query}) AS rows_"  # noqa: S608 names are quoted
    return f"COPY ({query}) TO STDOUT (FORMAT binary)".encode()


def _text_of(name: str) -> str:
    # what the type itself writes; a cast to text may say something else, as that of inet does
    return f"CASE WHEN {name} IS DISTINCT FROM NULL THEN format('%s', {name}) END"


def quoted(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def _buffers(pgconn: PGconn, copy: bytes) -> Iterator[tuple[Bytes, Places]]:
    """Yield the bytes of some rows at a time, and where each of them begins."""
    _checked(pgconn, pgconn.exec_(copy))
    buffer, sizes = bytearray(), [0]
    # the header comes with the first row, or alone where there is none
    n_before = _HEADER_BYTES
    get, add = pgconn.get_copy_data, sizes.append
    with selectors.DefaultSelector() as selector:
        selector.register(pgconn.socket, selectors.EVENT_READ)
        # a million rows pass here one by one: a row is copied at once, and nothing is kept of it
        while True:
            n_bytes, row = get(1)
            if n_bytes > _TRAILER_BYTES:
                buffer += row
                add(n_bytes)
            elif n_bytes == 0:
                # the library has given all it had, some kilobytes of rows at most
                if len(sizes) > _MAX_BATCH_ROWS or len(buffer) > _MAX_BATCH_BYTES:
                    yield _numbered(buffer, sizes, n_before)
                    buffer, n_before = bytearray(), 0
                    del sizes[1:]
                selector.select()
                pgconn.consume_input()
            elif n_bytes < 0:
                break
    while (result := pgconn.get_result()) is not None:
        _checked(pgconn, result)
    if len(buffer) > n_before + _TRAILER_BYTES:
        yield _numbered(buffer, sizes, n_before)


def _numbered(buffer: bytearray, sizes: Sequence[int], n_before: int) -> tuple[Bytes, Places]:
    starts = np.cumsum(sizes[:-1], dtype=np.int64)
    starts[0] = n_before
    buffer += bytes(_PADDING_BYTES)
    return np.frombuffer(buffer, np.uint8), starts


def _checked(pgconn: PGconn, result: PGresult) -> PGresult:
    from psycopg import OperationalError
    from psycopg.errors import error_from_result
    from psycopg.pq import ConnStatus, ExecStatus

    if result.status in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK, ExecStatus.COPY_OUT):
        return result
    error = error_from_result(result, encoding="utf-8")
    if pgconn.status == ConnStatus.BAD and not isinstance(error, OperationalError):
        # a server that went away gives no code
        raise OperationalError(str(error))
    raise error


def _gathered(buffer: Bytes, at: Places, dtype: str) -> npt.NDArray[Any]:
    kind = np.dtype(dtype)
    # every byte of the buffer is taken for the start of a cell; those asked for are picked
    windows = np.ndarray((len(buffer) - kind.itemsize + 1,), kind, buffer=buffer.data, strides=(1,))
    return windows[at]


def _column(name: str, cells: Cells, reader: Reader) -> pl.Series:
    missing = cells.size < 0
    if missing.all():
        return pl.Series(name, [None] * len(missing), dtype=pl.Null)
    try:
        series = reader(cells)
    except OverflowError as cause:
        raise OverflowError(f"the column {name!r} {cause}") from cause
    if missing.any() and series.null_count() == 0:
        series = series.zip_with(pl.Series(~missing), pl.Series([None], dtype=series.dtype))
    return series.rename(name)


def _reader(
    connection: psycopg.Connection[Any],
    field: Field,
    series: Callable[[str, Sequence[Any]], pl.Series],
) -> tuple[Reader, bool]:
    """Return what reads a column, and whether the server has to send it as text."""
    from psycopg.adapt import Transformer
    from psycopg.pq import Format

    readers: dict[int, Reader] = {
        16: _truth_values,
        **dict.fromkeys((20, 21, 23, 26), lambda cells: pl.Series(cells.values.astype(np.int64))),
        700: _short_floats,
        701: lambda cells: pl.Series(cells.values),
        1082: _dates,
        1114: _moments,
        1184: lambda cells: _moments(cells).dt.replace_time_zone("UTC"),
        **dict.fromkeys((19, 25, 1042, 1043), _texts),
    }
    if field.oid in readers:
        return readers[field.oid], False
    transformer = Transformer(connection)
    if field.oid == _NUMERIC:
        load = transformer.get_loader(field.oid, Format.BINARY).load
        return lambda cells: _numerics(field.name, cells, load, series), False
    loader = transformer.get_loader(field.oid, Format.TEXT)
    # uuid is written as Python writes it; enumerations and the like are text to psycopg
    if field.oid == 2950 or type(loader).__name__ == "TextLoader":
        return _texts, True

    def one_by_one(cells: Cells) -> pl.Series:
        found = [loader.load(cells.raw(i)) if n >= 0 else None for i, n in enumerate(cells.size)]
        return series(field.name, found)

    return one_by_one, True


def _truth_values(cells: Cells) -> pl.Series:
    return pl.Series(cells.values != 0)


def _short_floats(cells: Cells) -> pl.Series:
    # the number with the fewest digits, as text would give it: 0.1, not 0.10000000149
    return pl.Series(cells.values).cast(pl.String).cast(pl.Float64)


def _dates(cells: Cells) -> pl.Series:
    days = cells.values
    _check_years(days, cells, _FIRST_DAY, _LAST_DAY)
    return pl.Series(np.where(cells.size < 0, 0, days) + np.int32(_EPOCH_DAYS)).cast(pl.Date)


def _moments(cells: Cells) -> pl.Series:
    moments = cells.values
    _check_years(moments, cells, _FIRST_US, _LAST_US)
    return pl.Series(np.where(cells.size < 0, 0, moments) + _EPOCH_US).cast(pl.Datetime("us"))


def _check_years(values: npt.NDArray[Any], cells: Cells, first: int, last: int) -> None:
    outside = int((((values < first) | (values > last)) & (cells.size >= 0)).sum())
    if outside:
        raise OverflowError("holds dates that are infinite or outside of the years 1 to 9999")


def _texts(cells: Cells) -> pl.Series:
    """Return texts; PostgreSQL never has the zero byte in one, so it can part them."""
    size = np.maximum(cells.size, 0).astype(np.int64)
    ends = np.cumsum(size + 1)
    places = np.repeat(cells.at - (ends - size - 1), size + 1) + np.arange(ends[-1])
    found = cells.buffer[places]
    found[ends - 1] = 0
    text = found[:-1].tobytes().decode()
    return pl.Series([text]).str.split("\0").explode(empty_as_null=False)


def _numerics(
    name: str,
    cells: Cells,
    load: Callable[[bytes], Any],
    series: Callable[[str, Sequence[Any]], pl.Series],
) -> pl.Series:
    """Return decimal numbers: whole ones, of a type that has no decimals, with all their digits.

    A number is four 16-bit numbers (how many digits to the base 10,000, the power of the first, the
    sign, and the decimals to be shown), then its digits.
    """
    words = cells.words(9)
    _, weight, sign, decimals, first = words[:5]
    is_plain = (decimals == 0) & ((sign == 0) | (sign == _MINUS))
    if not is_plain[cells.size >= 0].all():
        return _nearest_floats(cells, words, load)
    # a first digit of 921 ten-thousandths to the fourth is the last that surely fits 64 bits
    short = (weight < 4) | ((weight == 4) & (first <= 921))
    if short[cells.size >= 0].all():
        return _short_integers(words, cells.size)
    found = [load(cells.raw(i)) if n >= 0 else None for i, n in enumerate(cells.size)]
    return series(name, found)


def _short_integers(words: npt.NDArray[np.int64], size: npt.NDArray[np.int32]) -> pl.Series:
    n_digits, weight, sign = words[:3]
    whole = np.zeros(len(n_digits), np.int64)
    # zeros at the end are not sent
    for group in range(5):
        digit = np.where(n_digits > group, words[4 + group], 0)
        whole = np.where(weight >= group, whole * 10_000 + digit, whole)
    whole = np.where(size < 0, 0, whole)
    return pl.Series(np.where(sign == _MINUS, -whole, whole))


def _nearest_floats(
    cells: Cells, words: npt.NDArray[np.int64], load: Callable[[bytes], Any]
) -> pl.Series:
    """Return decimal numbers as the nearest floats.

    A whole number below 2^53, times or divided by a power of ten of at most 10^22, is one exact
    operation on floats rounded once (Clinger, 1990); all others are converted one by one.
    """
    n_digits, weight, sign = words[:3]
    whole = np.zeros(len(n_digits), np.int64)
    for group in range(4):
        whole = np.where(n_digits > group, whole * 10_000 + words[4 + group], whole)
    power = 4 * (weight - n_digits + 1)
    easy = (n_digits >= 0) & (n_digits <= 4) & (whole < _EXACT) & (np.abs(power) <= 22)
    easy &= (sign == 0) | (sign == _MINUS)
    scale = 10.0 ** np.arange(23)
    exponent = np.clip(np.abs(power), 0, 22)
    found = np.where(power < 0, whole / scale[exponent], whole * scale[exponent])
    found = np.where(sign == _MINUS, -found, found)
    for index in map(int, np.flatnonzero(~easy & (cells.size >= 0))):
        found[index] = float(load(cells.raw(index)))
    return pl.Series(found)
