"""Rows as they come over the wire: JSON, JSON lines, CSV, and tables in binary forms."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.deploy.model import InputField

MAX_ROWS = 100_000
# a row of plain values has one bracket; far more would cost memory before they could be refused
_MAX_BRACKETS = 4 * MAX_ROWS

_decode = msgspec.json.Decoder().decode
_SHAPES = 'Send one object, a list of objects, {"instances": [...]} or {"columns": [...], "data": [[...]]}.'


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one request; `is_single` when the client sent one object and wants one answer."""

    rows: Sequence[Any]
    is_single: bool = False


def json_value(body: bytes) -> Any:
    """Return the value of a JSON text.

    Raises
    ------
    InvalidInputError
        If it is not JSON, holds NaN, infinity or a number too large for a float, or is nested too
        deeply.
    """
    # counting takes a fifth of the time of reading
    if len(body) > _MAX_BRACKETS and body.count(b"{") + body.count(b"[") > _MAX_BRACKETS:
        raise too_many_rows()
    try:
        return _decode(body)
    except RecursionError:
        reason = "it is nested too deeply"
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = str(error)
    raise InvalidInputError(
        f"The body is not usable JSON: {reason}.",
        hint="Numbers must be finite; write a missing value as null.",
        expected="JSON",
    )


def json_lines(body: bytes) -> list[Any]:
    """Return the values of a body with one JSON value a line; empty lines are skipped."""
    if len(body) > MAX_ROWS and body.count(b"\n") > MAX_ROWS:
        raise too_many_rows()
    values = []
    for line in body.split(b"\n"):
        if line and not line.isspace():
            try:
                values.append(json_value(line))
            except InvalidInputError as error:
                raise InvalidInputError(
                    f"Line {len(values)}: {error.message}", hint=error.hint, row=len(values)
                ) from error
    return values


def json_batch(body: bytes, fields: Sequence[InputField]) -> Batch:
    """Return the rows of an `application/json` body."""
    value = json_value(body)
    if type(value) is dict:
        names = value.keys()
        # a table may have a column of that name; then the object is a row
        if len(names) <= 2 and not any(field.name in names for field in fields):
            if names == {"instances"} and type(value["instances"]) is list:
                return _list_batch(value["instances"])
            if names == {"columns", "data"}:
                return _list_batch(_table_rows(value["columns"], value["data"]))
        return Batch([value], is_single=True)
    if type(value) is list:
        return _list_batch(value)
    raise InvalidInputError(
        f"The body is a JSON {type(value).__name__}, not a row.", hint=_SHAPES, expected="an object"
    )


def json_lines_batch(body: bytes, _fields: Sequence[InputField]) -> Batch:
    """Return the rows of an `application/x-ndjson` body."""
    return _list_batch(json_lines(body))


def csv_batch(
    body: bytes, fields: Sequence[InputField], *, has_header: bool | None = None
) -> Batch:
    """Return the rows of a `text/csv` body.

    Values take the kind of their column: an empty value is a missing one, numbers and booleans are
    read as such. What cannot be read stays text, which the signature then refuses by name.

    Parameters
    ----------
    has_header
        Whether the first line names the columns; without it the values stand in the order of the
        signature. By default it does, unless it names no column of the model, has one value for each
        of them, and a number where the model wants one: so SageMaker's clients send rows.
    """
    if body.count(b"\n") > MAX_ROWS:
        raise too_many_rows()
    readers = {field.name: _READERS.get(field.kind, _text) for field in fields}
    try:
        lines = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        table = [values for values in lines if values]
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"The body is not usable CSV: {error}.",
            hint="Send UTF-8 text with commas, a header line, and quotes around commas.",
            expected="CSV",
        ) from error
    first = table[0] if table else []
    if has_header is False or (has_header is None and _are_values(first, fields)):
        header = [field.name for field in fields]
    else:
        header = table.pop(0) if table else []
    _check_columns(header)
    convert = [readers.get(name, _text) for name in header]
    rows = []
    for index, values in enumerate(table):
        _check_width(values, header, index=index)
        rows.append(
            {name: read(value) for name, read, value in zip(header, convert, values, strict=True)}
        )
    return _list_batch(rows)


def _are_values(line: Sequence[str], fields: Sequence[InputField]) -> bool:
    if len(line) != len(fields) or any(field.name in line for field in fields):
        return False
    pairs = zip(line, fields, strict=True)
    return any(field.kind == "number" and type(_number(value)) is float for value, field in pairs)


def _binary_batch(kind: str, body: bytes, fields: Sequence[InputField]) -> Batch:
    from loopwright.deploy.table import TABLE_READERS

    return Batch(TABLE_READERS[kind](body, fields))


BatchReader = Callable[[bytes, Sequence[InputField]], Batch]
READERS: dict[bytes, BatchReader] = {
    b"application/json": json_batch,
    b"application/x-ndjson": json_lines_batch,
    b"application/jsonlines": json_lines_batch,
    b"application/jsonl": json_lines_batch,
    b"text/csv": csv_batch,
    b"application/x-npy": partial(_binary_batch, "npy"),
    b"application/x-parquet": partial(_binary_batch, "parquet"),
    b"application/vnd.apache.parquet": partial(_binary_batch, "parquet"),
    b"application/vnd.apache.arrow.stream": partial(_binary_batch, "arrow"),
}
_CSV_HEADERS = {b"header=present": True, b"header=absent": False}


@lru_cache(maxsize=64)
def find_reader(content_type: bytes) -> BatchReader | None:
    """Return what reads bodies of a `Content-Type`; parameters that mean nothing here are passed over."""
    media, *parameters = (part.strip().lower() for part in content_type.split(b";"))
    reader = READERS.get(media)
    if reader is csv_batch:
        for has_header in (_CSV_HEADERS[each] for each in parameters if each in _CSV_HEADERS):
            return partial(csv_batch, has_header=has_header)
    return reader


class TooManyRowsError(InvalidInputError):
    """The request has more rows than one request may have."""


def too_many_rows() -> TooManyRowsError:
    """Return the error for a request with too many rows."""
    return TooManyRowsError(
        f"The request has more than {MAX_ROWS} rows.",
        hint="Send them in several requests.",
        expected=f"at most {MAX_ROWS} rows",
    )


def _list_batch(rows: list[Any]) -> Batch:
    if not rows:
        raise InvalidInputError("The request has no rows.", hint=_SHAPES, expected="rows")
    if len(rows) > MAX_ROWS:
        raise too_many_rows()
    return Batch(rows)


def _table_rows(columns: Any, data: Any) -> list[Any]:
    if not isinstance(columns, list) or not isinstance(data, list):
        raise InvalidInputError("columns and data must be lists.", hint=_SHAPES, expected="lists")
    _check_columns(columns)
    for index, values in enumerate(data):
        _check_width(values, columns, index=index)
    return [dict(zip(columns, values, strict=True)) for values in data]


def _check_columns(columns: Sequence[Any]) -> None:
    names = set()
    for name in columns:
        if not isinstance(name, str) or name in names:
            raise InvalidInputError(
                f"The column {str(name)[:80]!r} is not a name or comes twice.",
                hint="Name every column once.",
                field=str(name)[:80],
                expected="a column name, once",
            )
        names.add(name)


def _check_width(values: Any, columns: Sequence[str], *, index: int) -> None:
    if not isinstance(values, list) or len(values) != len(columns):
        n_values = len(values) if isinstance(values, list) else 0
        raise InvalidInputError(
            f"Row {index} has {n_values} values, but there are {len(columns)} columns.",
            hint="Give every row one value for each column, in the same order.",
            row=index,
            value=n_values,
            expected=f"{len(columns)} values",
        )


def text_reader(kind: str) -> Callable[[str], Any]:
    """Return what reads the text of a column of a kind: a number, a boolean, or text as it is."""
    return _READERS.get(kind, _text)


def _text(value: str) -> str | None:
    return value or None


def _number(value: str) -> float | str | None:
    try:
        number = float(value) if "_" not in value else math.nan
    except ValueError:
        return value or None
    return number if math.isfinite(number) else value


def _boolean(value: str) -> bool | str | None:
    return _BOOLEANS.get(value.lower(), value) if value else None


_BOOLEANS = {"true": True, "false": False}
_READERS: Mapping[str, Callable[[str], Any]] = {"number": _number, "boolean": _boolean}
