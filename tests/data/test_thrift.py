"""Footers of Parquet files are read and written again to the same bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.data.thrift import Field, Struct, decoded, encoded

WHOLE = st.integers(-(2**63), 2**63 - 1)


def structs(values: st.SearchStrategy[Field]) -> st.SearchStrategy[Struct]:
    return st.dictionaries(st.integers(1, 200), values, max_size=5).map(
        lambda found: dict(sorted(found.items()))
    )


LEAVES = (
    WHOLE.map(lambda value: Field(6, value))
    | st.booleans().map(lambda value: Field(1 if value else 2, value))
    | st.binary(max_size=200).map(lambda value: Field(8, value))
    | st.binary(min_size=8, max_size=8).map(lambda value: Field(7, value))
    | st.lists(WHOLE, max_size=20).map(lambda value: Field(9, (6, value)))
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        structs(inner).map(lambda value: Field(12, value))
        | st.lists(structs(inner), max_size=17).map(lambda value: Field(9, (12, value)))
    ),
    max_leaves=8,
)


@given(structs(VALUES))
def test_what_is_written_is_read_again(value: Struct):
    assert decoded(encoded(value)) == value


def test_bytes_are_those_of_the_protocol():
    # field 1, a whole number of 32 bits: 1 << 4 | 5, then 150 as zigzag varint: 300 = 0xAC 0x02;
    # field 3, text: 2 << 4 | 8, its length, its bytes; then the end
    data = bytes([0x15, 0xAC, 0x02, 0x28, 2, ord("h"), ord("i"), 0])

    assert decoded(data) == {1: Field(5, 150), 3: Field(8, b"hi")}
    assert encoded(decoded(data)) == data


@pytest.mark.parametrize("data", [b"", b"\x15", b"\x1b\x00\x00"])
def test_what_is_cut_short_or_unknown_is_refused(data: bytes):
    with pytest.raises((IndexError, ValueError)):
        decoded(data)
