from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from loopwright.data import piece
from loopwright.data.piece import changed, pieces


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pl.LazyFrame:
    monkeypatch.setattr(piece, "_MAX_ROWS", 7)
    monkeypatch.setattr(piece, "_MIN_ROWS", 3)
    for number, (first, last) in enumerate([(0, 10), (10, 11), (11, 42)]):
        frame = pl.DataFrame({"a": range(first, last), "b": [f"t{i}" for i in range(first, last)]})
        frame.write_parquet(tmp_path / f"part-{number}.parquet", row_group_size=4)
    return pl.scan_parquet(sorted(tmp_path.glob("part-*")), glob=False)


def test_pieces_are_all_rows_in_order_over_the_borders_of_files(rows: pl.LazyFrame):
    found = list(pieces(rows))

    assert [each.height for each in found] == [7] * 6
    assert pl.concat(found).equals(rows.collect())


def test_a_wide_table_comes_in_fewer_rows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(piece, "_MAX_CELLS", 20_000)
    frame = pl.DataFrame({f"c{i}": range(2_500) for i in range(10)}).lazy()

    assert [each.height for each in pieces(frame)] == [2_000, 500]


def test_a_changed_table_is_the_change_of_the_whole(rows: pl.LazyFrame):
    def change(some: pl.LazyFrame) -> pl.LazyFrame:
        return some.with_columns(pl.col("a") * 2, c=pl.col("b").str.len_bytes())

    found, whole = changed(rows, change), change(rows)

    assert found.collect_schema() == whole.collect_schema()
    assert found.collect(engine="streaming").equals(whole.collect())
    for query in (
        lambda x: x.filter(pl.col("a") > 60).select("c"),
        lambda x: x.head(9),
        lambda x: x.select(pl.col("a").sum()),
        lambda x: x.filter(pl.col("a") > 30).head(3),
        lambda x: x.head(30).filter(pl.col("a") > 30),
    ):
        assert query(found).collect().equals(query(whole).collect())


def test_a_table_without_rows_keeps_its_columns():
    empty = pl.LazyFrame(schema={"a": pl.Int64})

    assert list(pieces(empty)) == []
    assert changed(empty, lambda some: some).collect().schema == {"a": pl.Int64}
