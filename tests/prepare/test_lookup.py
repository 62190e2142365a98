from __future__ import annotations

import polars as pl
import pytest

from loopwright.prepare.lookup import Encoded


def encoded(levels: tuple[str, ...], missing: float | None, unseen: float | None) -> Encoded:
    values = tuple(0.5 * at + 1 for at in range(len(levels)))
    return Encoded(
        column="c", name="n", levels=levels, values=values, missing=missing, unseen=unseen
    )


@pytest.mark.parametrize("missing", [None, -1.0])
@pytest.mark.parametrize("unseen", [None, -2.0])
@pytest.mark.parametrize("n_levels", [0, 1, 255, 256, 257, 65_536])
def test_every_level_finds_its_number(
    n_levels: int, missing: float | None, unseen: float | None
) -> None:
    # as many levels as one, two and four bytes can tell apart, and one more
    levels = tuple(f"ü{at}" for at in range(n_levels))
    output = encoded(levels, missing, unseen)
    known = dict(zip(levels, output.values, strict=True)) | {None: missing}
    texts = [*levels[:2], *levels[-2:], None, "never seen", ""]

    found = pl.DataFrame({"c": texts}).select(c=output.expression(pl.col("c")))["c"].to_list()

    assert found == [known.get(text, unseen) for text in texts]


def test_numbers_are_levels_too() -> None:
    output = Encoded(
        column="c", name="n", levels=(0.0, 2.5), values=(7.0, 8.0), missing=9.0, unseen=None
    )

    found = pl.DataFrame({"c": [2.5, -0.0, None, 3.0]}).select(c=output.expression(pl.col("c")))

    assert found["c"].to_list() == [8.0, 7.0, 9.0, None]


def test_a_table_without_rows_stays_empty() -> None:
    empty = pl.DataFrame(schema={"c": pl.String})

    found = empty.select(c=encoded(("a", "b"), 1.0, 2.0).expression(pl.col("c")))

    assert found.schema == {"c": pl.Float64}
    assert found.height == 0
