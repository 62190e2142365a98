"""Batches as binary tables: NumPy arrays, Parquet files, Arrow streams.

Every size that a body claims is compared with the body, and with what one request may have, before
anything is decoded: a few kilobytes can stand for gigabytes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.deploy.arrow_stream import check_arrow_stream
from loopwright.deploy.model import InputField
from loopwright.deploy.parquet_pages import check_parquet
from loopwright.deploy.rows import MAX_ROWS, too_many_rows

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

MAX_DECODED_BYTES = 64 << 20
_MAX_COLUMNS = 10_000
_MAX_HEADER_BYTES = 10_000
_NPY_KINDS = "biuf"
_ID = "inference_id"


def npy_rows(body: bytes, fields: Sequence[InputField]) -> list[Any]:
    """Return the rows of a `.npy` file: numbers, one column for each of the signature, in its order.

    NaN is a missing value. One row may come as an array of one dimension.

    Raises
    ------
    InvalidInputError
        If it is no array of numbers, or its shape is not that of rows.
    """
    values = _npy_values(body)
    if values.ndim == 1:
        values = values.reshape(1, -1)
    if values.ndim != 2 or values.shape[1] != len(fields):
        raise InvalidInputError(
            f"The array has the shape {values.shape}; a row has {len(fields)} values.",
            hint="Send one column for each of the model's, in the order that /openapi.json shows.",
            field="shape",
            value=str(values.shape),
            expected=f"(rows, {len(fields)})",
        )
    _check_n_rows(len(values))
    names = [field.name for field in fields]
    columns = [_plain_numbers(values[:, at], field.kind) for at, field in enumerate(fields)]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _npy_values(body: bytes) -> Any:
    file = io.BytesIO(body)
    layout = np.lib.format
    try:
        version = layout.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"the version {version} is not known")
        read = layout.read_array_header_1_0 if version == (1, 0) else layout.read_array_header_2_0
        shape, by_columns, dtype = read(file, max_header_size=_MAX_HEADER_BYTES)
        if dtype.hasobject or dtype.kind not in _NPY_KINDS or dtype.itemsize > 8:
            raise ValueError(f"it holds {dtype}, not numbers")
        n_values = math.prod(shape)
        if min(shape, default=1) < 0 or n_values * dtype.itemsize != len(body) - file.tell():
            raise ValueError(f"the shape {shape} does not fit its {len(body)} bytes")
        values = np.frombuffer(body, dtype=dtype, offset=file.tell())
        return values.reshape(shape, order="F" if by_columns else "C")
    except Exception as error:
        # NumPy reads a header as Python's own source is read, and lets through what goes wrong there
        raise _unusable("a NumPy array", str(error)) from error


def _plain_numbers(values: Any, kind: str) -> list[Any]:
    if kind == "boolean":
        # an array of numbers can say it as 0 and 1 only; anything else is left to be refused
        return [
            _BOOLEANS.get(value, None if value != value else value) for value in values.tolist()
        ]
    if values.dtype.kind == "f":
        return [None if value != value else value for value in values.tolist()]
    return list(values.tolist())


_BOOLEANS = {0: False, 1: True}


def parquet_rows(body: bytes, fields: Sequence[InputField]) -> list[Any]:
    """Return the rows of a Parquet file.

    Raises
    ------
    InvalidInputError
        If it cannot be read, or would be larger than a request may be.
    """
    names = {field.name for field in fields} | {_ID}
    try:
        n_rows = check_parquet(body, names, max_rows=MAX_ROWS, max_bytes=MAX_DECODED_BYTES)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _unusable("a Parquet file", str(error)) from error
    _check_n_rows(n_rows)
    file = io.BytesIO(body)
    columns = _decoded("a Parquet file", lambda: pl.read_parquet_schema(file))
    kept = [name for name in columns if name in names]
    frame = _decoded(
        "a Parquet file",
        lambda: pl.read_parquet(io.BytesIO(body), columns=kept, use_statistics=False),
    )
    return _frame_rows(frame, fields, columns=list(columns), n_rows=n_rows)


def arrow_rows(body: bytes, fields: Sequence[InputField]) -> list[Any]:
    """Return the rows of an Arrow IPC stream; raises as `parquet_rows`."""
    try:
        n_rows = check_arrow_stream(body, max_rows=MAX_ROWS)
    except (ValueError, LookupError, TypeError) as error:
        raise _unusable("an Arrow stream", str(error)) from error
    _check_n_rows(n_rows)
    names = {field.name for field in fields} | {_ID}
    frame = _decoded(
        "an Arrow stream", lambda: pl.read_ipc_stream(io.BytesIO(body), use_pyarrow=False)
    )
    kept = frame.select(name for name in frame.columns if name in names)
    return _frame_rows(kept, fields, columns=frame.columns, n_rows=n_rows)


def _decoded(what: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except BaseException as error:
        # a fault inside Polars comes as an exception that is no Exception
        if not isinstance(error, Exception | pl.exceptions.PanicException):
            raise
        raise _unusable(what, str(error)[:500]) from error


def _frame_rows(
    frame: pl.DataFrame, fields: Sequence[InputField], *, columns: Sequence[str], n_rows: int
) -> list[Any]:
    """Return rows of plain values; columns nobody reads are named, so that a policy can refuse them."""
    if len(columns) > _MAX_COLUMNS:
        raise _unusable("a table", f"it has more than {_MAX_COLUMNS} columns")
    wrong = [name for name, dtype in frame.schema.items() if not _is_plain(dtype)]
    if wrong:
        raise InvalidInputError(
            f"The column {wrong[0]!r} holds {frame.schema[wrong[0]]} values.",
            hint="Send numbers, text, booleans, dates or times.",
            field=wrong[0],
            expected="plain values",
        )
    frame = frame.with_columns(
        pl.col(pl.Decimal).cast(pl.Float64),
        pl.col(pl.Categorical).cast(pl.String),
        pl.col(name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Enum)).cast(
            pl.String
        ),
    ).fill_nan(None)
    texts = frame.select(pl.col(pl.String).str.len_bytes().sum())
    if sum(texts.row(0)) > MAX_DECODED_BYTES:
        raise _unusable("a table", f"its text has more than {MAX_DECODED_BYTES} bytes")
    if _ID in frame.columns and not any(field.name == _ID for field in fields):
        frame = frame.with_columns(pl.col(_ID).cast(pl.String))
    known = set(frame.columns)
    others = [name for name in columns if name not in known][:2]  # one of them may be the target
    if not frame.width:
        return [dict.fromkeys(others) for _ in range(n_rows)]
    return frame.with_columns(pl.lit(None).alias(name) for name in others).to_dicts()


def _is_plain(dtype: pl.DataType) -> bool:
    plain = (pl.Boolean, pl.String, pl.Categorical, pl.Enum, pl.Date, pl.Datetime, pl.Null)
    return dtype.is_numeric() or dtype in plain


def _check_n_rows(n_rows: int) -> None:
    if n_rows > MAX_ROWS:
        raise too_many_rows()
    if not n_rows:
        raise InvalidInputError("The request has no rows.", expected="rows")


def _unusable(what: str, reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"The body is not usable as {what}: {reason.rstrip('.')}.",
        hint="Send it as NumPy, Polars, pandas or PyArrow write it, without pickles.",
        expected=what,
    )


TABLE_READERS: Mapping[str, Callable[[bytes, Sequence[InputField]], list[Any]]] = {
    "npy": npy_rows,
    "parquet": parquet_rows,
    "arrow": arrow_rows,
}
