from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from loopwright.prepare.lazy_table import LazyTable, beside

N = 140_000
OWN = pl.DataFrame({"a": np.arange(N), "s": [f"t{k % 3}" if k % 7 else None for k in range(N)]})
MADE = {"m": np.arange(N) * 0.5, "k": np.arange(N) * -1.0}
WHOLE = OWN.with_columns(m=MADE["m"], k=MADE["k"])


@pytest.mark.parametrize("names", [["k"], ["m", "a"], ["s"], ["a", "s", "m", "k"], ["k", "a", "m"]])
def test_made_columns_stand_beside_the_rows_they_belong_to(names: list[str]) -> None:
    table = beside(OWN.lazy(), MADE, N)

    assert table.select(names).collect(engine="streaming").equals(WHOLE.select(names))


def test_only_the_rows_asked_for_are_given() -> None:
    table = beside(OWN.lazy(), MADE, N)

    assert table.head(5).collect().equals(WHOLE.head(5))
    assert table.slice(131_070, 4).collect().equals(WHOLE.slice(131_070, 4))
    assert table.filter(pl.col("m") > 69_998).collect().equals(WHOLE.filter(pl.col("m") > 69_998))
    assert table.filter(pl.col("a") > 9).head(3).collect().equals(WHOLE.slice(10, 3))


def test_a_column_comes_whole_in_pieces_or_as_a_category() -> None:
    table = LazyTable(beside(OWN.lazy(), MADE, N), N)

    pieces = list(table.pieces("s"))
    category = table.category("s")

    assert table["s"].equals(OWN["s"])
    assert len(pieces) > 1
    assert pl.concat(pieces).equals(OWN["s"])
    assert category.dtype == pl.Categorical
    assert category.cast(pl.String).equals(OWN["s"])
    assert table.category("m").equals(WHOLE["m"])
