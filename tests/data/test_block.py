from __future__ import annotations

import csv
import io
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.data import FileSource, block, open_source
from loopwright.data.block import csv_blocks

TEXT = st.text(alphabet='ab,"\n é;', max_size=6)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    rows=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=12),
    n_bytes=st.integers(1, 40),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_pieces_hold_the_rows_of_the_file_whatever_is_quoted_in_it(
    tmp_path: Path, rows: list[tuple[str, str]], n_bytes: int, newline: str
):
    text = io.StringIO()
    written = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator=newline)
    written.writerows([("one\nheader", "b"), *rows])
    path = tmp_path / "a.csv"
    path.write_bytes(text.getvalue().encode())

    pieces = list(csv_blocks(path, ",", n_bytes=n_bytes))

    found = [pl.read_csv(piece, infer_schema=False) for piece in pieces]
    assert pl.concat(found).equals(pl.read_csv(path, infer_schema=False), null_equal=True)
    assert [row for each in found for row in each.rows()] == rows


def test_a_piece_is_no_longer_than_it_has_to_be(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n" + b"1234,5678\n" * 1_000)

    pieces = list(csv_blocks(path, ",", n_bytes=100))

    assert {len(piece) for piece in pieces} == {104}
    assert b"".join(piece.removeprefix(b"a,b\n") for piece in pieces) == b"1234,5678\n" * 1_000


@pytest.mark.parametrize("text", ["a,b", "a,b\n", "\n\na,b\n", '"a\n",b\n'])
def test_a_header_alone_gives_no_pieces(tmp_path: Path, text: str):
    path = tmp_path / "a.csv"
    path.write_text(text)

    assert list(csv_blocks(path, ",")) == []


def test_a_quotation_mark_that_stays_open_is_told_before_all_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(block, "_ODD_BYTES", 10_000)
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,"2\n' + "3,4\n" * 10_000)

    with pytest.raises(InvalidInputError, match=r"a\.csv, line 2: "):
        list(csv_blocks(path, ",", n_bytes=100))


def test_a_file_of_many_pieces_is_read_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(csv_blocks, "__kwdefaults__", {"n_bytes": 64})
    lines = [f'{i},"x, {i}\n"' for i in range(200)]
    (tmp_path / "a.csv").write_text("\ufeffi,t\n" + "\n".join(lines) + "\n\n")

    source = open_source(FileSource(path="a.csv"), tmp_path)

    rows = [row for batch in source.batches() for row in batch.rows()]
    assert rows == [(str(i), f"x, {i}\n") for i in range(200)]
