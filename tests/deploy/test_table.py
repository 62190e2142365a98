"""Binary tables give the rows they hold, or an error before they cost anything."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.deploy import parquet_pages
from loopwright.deploy.rows import MAX_ROWS, TooManyRowsError, find_reader
from loopwright.deploy.table import arrow_rows, npy_rows, parquet_rows
from loopwright.prepare.signature import Field

FIELDS = (
    Field(name="n", kind="number", nullable=True),
    Field(name="t", kind="text", nullable=True),
    Field(name="b", kind="boolean", nullable=True),
    Field(name="d", kind="date", nullable=True),
)
NUMBERS = (Field(name="a", kind="number"), Field(name="b", kind="boolean", nullable=True))
FRAME = pl.DataFrame(
    {
        "n": [1.5, None, float("nan")],
        "t": ["x", None, "ü"],
        "b": [True, None, False],
        "d": [date(2026, 1, 31), None, date(1999, 12, 31)],
        "more": [[1], [2], [3]],
        "inference_id": [7, 8, 9],
    }
)
ROWS = [
    {"n": 1.5, "t": "x", "b": True, "d": date(2026, 1, 31), "inference_id": "7", "more": None},
    {"n": None, "t": None, "b": None, "d": None, "inference_id": "8", "more": None},
    {"n": None, "t": "ü", "b": False, "d": date(1999, 12, 31), "inference_id": "9", "more": None},
]


def npy(values: Any, **settings_: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values, **settings_)
    return file.getvalue()


def parquet(frame: pl.DataFrame, **settings_: Any) -> bytes:
    file = io.BytesIO()
    frame.write_parquet(file, **settings_)
    return file.getvalue()


def stream(frame: pl.DataFrame, **settings_: Any) -> bytes:
    file = io.BytesIO()
    frame.write_ipc_stream(file, **settings_)
    return file.getvalue()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", ">f8", "f4", "i2", "u1"])
def test_an_array_gives_rows_in_the_order_of_the_signature(order: Any, dtype: str) -> None:
    values = np.array([[3, 1], [4, 0]], dtype=dtype, order=order)

    rows = npy_rows(npy(values), NUMBERS)

    assert rows == [{"a": 3.0, "b": True}, {"a": 4.0, "b": False}]


def test_nan_in_an_array_is_missing_and_one_dimension_is_one_row() -> None:
    assert npy_rows(npy(np.array([np.nan, np.nan])), NUMBERS) == [{"a": None, "b": None}]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x93NUMPY",
        npy(np.array([[{}, 1]], dtype=object), allow_pickle=True),
        npy(np.array([["a", "b"]])),
        npy(np.ones((2, 3))),
        npy(np.ones((1, 2, 2))),
        npy(np.ones((0, 2))),
        npy(np.ones((2, 2)))[:-1],
        npy(np.ones((2, 2))) + b"x",
        npy(np.ones((2, 2))).replace(b"(2, 2)", b"(-2,-2)"),
        npy(np.ones((2, 2))).replace(b"(2, 2)", b"(9**9)"),
        npy(np.ones((1, 2), dtype="complex128")),
        npy(np.zeros((1, 2), dtype="M8[D]")),
    ],
)
def test_an_array_that_is_no_table_of_numbers_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInputError):
        npy_rows(body, NUMBERS)


def test_an_array_with_too_many_rows_is_refused_as_such() -> None:
    with pytest.raises(TooManyRowsError):
        npy_rows(npy(np.zeros((MAX_ROWS + 1, 2), dtype="u1")), NUMBERS)


@pytest.mark.parametrize("compression", ["zstd", "snappy", "uncompressed", "gzip"])
def test_parquet_gives_its_rows_as_plain_values(compression: Any) -> None:
    assert parquet_rows(parquet(FRAME, compression=compression), FIELDS) == ROWS


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_parquet_that_arrow_writes_in_pages_is_read(version: Any) -> None:
    file = io.BytesIO()
    table = pa.table({"n": list(range(5_000)), "t": ["x", "y"] * 2_500})
    pq.write_table(table, file, data_page_version=version, data_page_size=1_000, row_group_size=900)

    rows = parquet_rows(file.getvalue(), FIELDS)

    assert [row["n"] for row in rows] == list(range(5_000))
    assert rows[4_999] == {"n": 4_999, "t": "y"}


def test_an_arrow_stream_gives_its_rows_as_plain_values() -> None:
    assert arrow_rows(stream(FRAME), FIELDS) == ROWS


def test_arrow_batches_and_dictionaries_of_another_library_are_read() -> None:
    table = pa.table(
        {"n": pa.array([1, None, 3]), "t": pa.array(["a", "b", "a"]).dictionary_encode()}
    )
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)

    assert arrow_rows(sink.getvalue(), FIELDS) == [
        {"n": 1, "t": "a"},
        {"n": None, "t": "b"},
        {"n": 3, "t": "a"},
    ]


def test_times_categories_and_decimals_become_plain_values() -> None:
    frame = pl.DataFrame(
        {
            "n": pl.Series(["1.25"]).cast(pl.Decimal(10, 2)),
            "t": pl.Series(["x"], dtype=pl.Categorical),
            "d": [datetime(2026, 1, 31, 12, tzinfo=UTC)],
        }
    )

    assert parquet_rows(parquet(frame), FIELDS) == [
        {"n": 1.25, "t": "x", "d": datetime(2026, 1, 31, 12, tzinfo=UTC)}
    ]


def test_a_nested_value_where_the_model_reads_is_refused_by_name() -> None:
    with pytest.raises(InvalidInputError) as caught:
        arrow_rows(stream(pl.DataFrame({"n": [[1.0]]})), FIELDS)

    assert caught.value.facts["field"] == "n"


@pytest.mark.parametrize(("write", "read"), [(parquet, parquet_rows), (stream, arrow_rows)])
def test_a_table_with_too_many_rows_is_refused_before_it_is_decoded(write: Any, read: Any) -> None:
    frame = pl.DataFrame({"n": pl.Series([1.0]).new_from_index(0, MAX_ROWS + 1)})

    with pytest.raises(TooManyRowsError):
        read(write(frame), FIELDS)


def test_a_small_file_that_would_become_large_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = parquet(pl.DataFrame({"t": ["x" * (70 << 20)]}), compression="zstd")
    monkeypatch.setattr(pl, "read_parquet", None)

    assert len(body) < 1 << 17
    with pytest.raises(InvalidInputError, match="larger than 67108864 bytes"):
        parquet_rows(body, FIELDS)


def test_one_long_text_repeated_for_every_row_is_refused() -> None:
    frame = pl.DataFrame({"t": ["x" * 10_000]}).select(pl.col("t").repeat_by(10_000).explode())
    body = parquet(frame, compression="uncompressed")

    assert len(body) < 1 << 20
    with pytest.raises(InvalidInputError, match="text has more"):
        parquet_rows(body, FIELDS)


def test_compressed_arrow_is_refused_in_words() -> None:
    with pytest.raises(InvalidInputError, match="send it uncompressed"):
        arrow_rows(stream(FRAME, compression="zstd"), FIELDS)


def test_a_footer_that_promises_other_rows_than_the_pages_have_is_refused() -> None:
    body = parquet(pl.DataFrame({"n": [1.0, 2.0]}), compression="uncompressed")

    groups = parquet_pages._groups(body)
    facts = groups[0][1].value[1][0][3].value

    with pytest.raises(ValueError, match="2 values in a group of 3 rows"):
        parquet_pages._walked(body, facts, 3, 10)


BODIES = [
    (parquet(FRAME.drop("more"), compression="snappy"), parquet_rows),
    (stream(FRAME.drop("more")), arrow_rows),
    (npy(np.ones((3, 4))), npy_rows),
]


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), ",
        "{'descr': (), 'fortran_order': False, 'shape': (3, 4)}",
        "{'descr': [('a',)], 'fortran_order': False, 'shape': (3, 4)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (" + "(" * 300,
        "{'descr': '''",
    ],
)
def test_a_header_that_is_no_source_is_refused(header: str) -> None:
    text = header.encode() + b"\n"
    body = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(96)

    with pytest.raises(InvalidInputError, match="not usable as a NumPy array"):
        npy_rows(body, FIELDS)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_table_gives_rows_or_an_error(data: st.DataObject) -> None:
    body, read = data.draw(st.sampled_from(BODIES))
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.one_of(st.just(len(body)), st.integers(0, len(body))))

    try:
        rows = read(bytes(damaged[:end]), FIELDS)
    except InvalidInputError:
        return

    assert 0 < len(rows) <= MAX_ROWS


@pytest.mark.parametrize("read", [npy_rows, parquet_rows, arrow_rows])
@settings(max_examples=20, deadline=None)
@given(body=st.binary(max_size=200))
def test_any_bytes_are_refused(read: Any, body: bytes) -> None:
    with pytest.raises(InvalidInputError):
        read(body, FIELDS)


@pytest.mark.parametrize(
    ("content_type", "is_known"),
    [
        (b"Application/X-NPY", True),
        (b"application/x-parquet", True),
        (b"application/vnd.apache.arrow.stream; v=1", True),
        (b"text/csv; charset=utf-8; header=absent", True),
        (b"application/pickle", False),
        (b"", False),
    ],
)
def test_readers_are_found_by_media_type(content_type: bytes, is_known: bool) -> None:
    assert (find_reader(content_type) is not None) == is_known
