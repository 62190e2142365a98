from __future__ import annotations

import tempfile
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.data import ordering as ordering_module
from loopwright.data.ordering import order_key, ordered

NUMBERS = st.decimals(
    allow_nan=False, allow_infinity=False, min_value=Decimal("-1e125"), max_value=Decimal("1e125")
)
TEXTS = st.text(st.sampled_from("\x00\x01ab~é\U0001f600"), max_size=4)


@settings(max_examples=200, deadline=None)
@given(one=st.tuples(TEXTS, NUMBERS), other=st.tuples(TEXTS, NUMBERS))
def test_keys_compare_as_the_values_they_are_made_of(
    one: tuple[str, Decimal], other: tuple[str, Decimal]
):
    first, second = order_key(one).encode(), order_key(other).encode()

    wanted = [(text.encode(), number) for text, number in (one, other)]
    assert (first < second) == (wanted[0] < wanted[1])
    assert (first == second) == (wanted[0] == wanted[1])


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    held=st.sampled_from([1, 5, 1_000]),
    seed=st.integers(0, 9),
)
def test_any_cut_of_rows_is_put_in_order(sizes: list[int], held: int, seed: int):
    keys = pl.Series([f"{n:04}" for n in range(sum(sizes))]).sample(
        fraction=1, shuffle=True, seed=seed
    )
    table = pl.DataFrame({"key": keys, "value": keys.cast(pl.Int64) * 3})
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordering_module, "RUN_PARTS", 2)
        patch.setattr(ordering_module, "_LEAST_ROWS", held)
        patch.setattr(ordering_module, "_HELD_ROWS", 40)
        parts, start = [], 0
        for number, size in enumerate(sizes):
            parts.append(Path(folder) / f"raw-{number}.parquet")
            table.slice(start, size).write_parquet(parts[-1])
            start += size
        (Path(folder) / "sorted").mkdir()

        found = pl.concat(map(pl.read_parquet, ordered(parts, "key", Path(folder) / "sorted")))

        assert found.equals(table.sort("key"))
        assert len([*Path(folder).rglob("run-*")]) <= 1
