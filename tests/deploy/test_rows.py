from __future__ import annotations

import contextlib
import csv
import io
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.deploy.rows import csv_batch, json_batch, json_lines_batch, json_value
from loopwright.prepare.signature import Field

FIELDS = (
    Field(name="n", kind="number"),
    Field(name="t", kind="text"),
    Field(name="b", kind="boolean"),
)
plain = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(value=st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
@settings(max_examples=50)
def test_json_is_read_as_the_standard_library_reads_it(value: Any) -> None:
    body = json.dumps(value).encode()

    assert json_value(body) == json.loads(body)


@given(body=st.binary(max_size=60))
@settings(max_examples=200)
def test_any_bytes_give_rows_or_an_error_that_says_what_is_expected(body: bytes) -> None:
    for read in (json_batch, json_lines_batch, csv_batch):
        # nothing else is raised
        with contextlib.suppress(InvalidInputError):
            assert len(read(body, FIELDS).rows) >= 1


@given(
    rows=st.lists(
        st.tuples(
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1),
            st.booleans(),
        ),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=50)
def test_csv_that_python_writes_is_read_back(rows: list[tuple[float, str, bool]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["n", "t", "b"])
    writer.writerows(rows)

    batch = csv_batch(text.getvalue().encode(), FIELDS)

    expected = [{"n": n, "t": t, "b": b} for n, t, b in rows]
    assert batch.rows == expected


def test_csv_leaves_what_it_cannot_read_for_the_signature_to_refuse() -> None:
    batch = csv_batch(b"n,t,b,more\n,,,\nnan,nan,maybe,7\n?,x,TRUE,\n", FIELDS)

    assert batch.rows == [
        {"n": None, "t": None, "b": None, "more": None},
        {"n": "nan", "t": "nan", "b": "maybe", "more": "7"},
        {"n": "?", "t": "x", "b": True, "more": None},
    ]


def test_an_object_is_a_row_when_the_table_has_a_column_of_that_name() -> None:
    body = b'{"instances": [{"n": 1}]}'

    wrapped = json_batch(body, FIELDS)
    row = json_batch(body, (Field(name="instances", kind="text"),))

    assert (wrapped.is_single, wrapped.rows) == (False, [{"n": 1}])
    assert (row.is_single, row.rows) == (True, [{"instances": [{"n": 1}]}])


def test_an_error_in_json_lines_names_the_line() -> None:
    with pytest.raises(InvalidInputError, match="Line 1: ") as caught:
        json_lines_batch(b'{"n": 1}\n\n{"n": \n', FIELDS)

    assert caught.value.facts["row"] == 1


def test_numbers_keep_every_bit() -> None:
    for value in (0.1 + 0.2, 5e-324, 1.7976931348623157e308, -0.0, 1 / 3):
        (row,) = json_batch(json.dumps({"n": value}).encode(), FIELDS).rows
        (cell,) = csv_batch(f"n\n{value!r}\n".encode(), FIELDS).rows
        assert row["n"].hex() == cell["n"].hex() == value.hex()
        assert math.copysign(1, row["n"]) == math.copysign(1, value)
