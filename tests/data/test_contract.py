from __future__ import annotations

import json
from datetime import date
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.data import (
    Contract,
    ContractPlan,
    Tolerances,
    contract_violations,
    extended,
    infer_contract,
    not_allowed,
    planned,
)

N = 200
ROWS = pl.DataFrame(
    {
        "customer_id": range(1_000, 1_000 + N),
        "price": [100.0 + i % 40 for i in range(N)],
        "area": ["north", "south", "east", "west"] * (N // 4),
        "remark": [f"text {i}" for i in range(N)],
        "rooms": [None if i % 50 == 0 else i % 5 for i in range(N)],
        "sold": [date(2020, 1, 1)] * N,
        "paid": [True, False] * (N // 2),
        "unused": pl.Series([None] * N, dtype=pl.String),
    }
)
AGREED = infer_contract(ROWS.lazy())


def kinds(rows: pl.DataFrame, **keywords: object) -> list[tuple[str | None, str]]:
    found = contract_violations(AGREED, rows.lazy(), **keywords)  # type: ignore[arg-type]
    return [(violation.column, violation.kind) for violation in found]


def test_a_contract_says_what_the_first_rows_were_like() -> None:
    columns = {column.name: column for column in AGREED.columns}

    assert AGREED.n_rows == N
    assert columns["customer_id"].is_key
    assert columns["customer_id"].low is None
    # quartiles 110 and 129 or so: 1.5 times their distance on either side of 100 to 139
    assert columns["price"].low == pytest.approx(70, abs=2)
    assert columns["price"].high == pytest.approx(169, abs=2)
    assert columns["area"].categories == ("east", "north", "south", "west")
    assert (columns["remark"].categories, columns["remark"].is_key) == ((), False)
    assert (columns["rooms"].nullable, columns["price"].nullable) == (True, False)
    types = [column.type for column in AGREED.columns]
    assert types == [
        "number", "number", "text", "text", "number", "date", "truth value", "nothing",
    ]  # fmt: skip


def test_a_contract_survives_its_record() -> None:
    assert Contract.from_json(json.loads(json.dumps(AGREED.to_json()))) == AGREED


@settings(max_examples=20, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(),
            st.floats(allow_nan=False) | st.none(),
            st.sampled_from(["a", "b", ""]) | st.none(),
        ),
        min_size=1,
        max_size=60,
    )
)
def test_rows_keep_the_contract_that_was_made_from_them(
    rows: list[tuple[int, float | None, str | None]],
) -> None:
    small = [(i % 2**62, x, text) for i, x, text in rows]
    frame = pl.DataFrame(
        small, schema={"id": pl.Int64, "x": pl.Float64, "c": pl.String}, orient="row"
    ).lazy()
    contract = infer_contract(frame)

    assert Contract.from_json(json.loads(json.dumps(contract.to_json()))) == contract
    assert contract_violations(contract, frame) == ()


BROKEN = {
    "column gone": (ROWS.drop("price"), "price", "The column 'price' is gone."),
    "type changed": (
        ROWS.with_columns(price=pl.lit("cheap")),
        "price",
        "The column 'price' held numbers and now holds text, such as 'cheap'.",
    ),
    "nulls": (
        ROWS.with_columns(pl.when(pl.int_range(N) > 0).then("price")),
        "price",
        "1 of 200 values of 'price' are missing; none was before.",
    ),
    "unseen categories": (
        ROWS.with_columns(area=pl.lit("nort")),
        "area",
        "200 of 200 values of 'area' are none of its 4 categories, such as 'nort'.",
    ),
    "out of range": (
        ROWS.with_columns(pl.col("price") * 1_000),
        "price",
        "they go from 100,000 to 139,000",
    ),
    "duplicate keys": (
        ROWS.with_columns(customer_id=pl.max_horizontal("customer_id", 1_002)),
        "customer_id",
        "2 of 200 rows repeat a value of the key 'customer_id', such as '1002'.",
    ),
    "row count": (ROWS.head(99), None, "There are 99 rows where there were 200."),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_each_way_to_break_a_contract_is_told_with_its_figures(kind: str) -> None:
    rows, column, words = BROKEN[kind]

    found = contract_violations(AGREED, rows.lazy())

    assert [(violation.column, violation.kind) for violation in found] == [(column, kind)]
    assert words in found[0].message


def test_what_is_within_tolerance_is_let_through() -> None:
    rows = pl.concat([ROWS] * 10).with_columns(customer_id=pl.int_range(N * 10))
    first = pl.int_range(N * 10) == 0
    changed = rows.with_columns(
        price=pl.when(first).then(None).otherwise("price"),
        area=pl.when(first).then(pl.lit("centre")).otherwise("area"),
        rooms=pl.when(first).then(9_999).otherwise("rooms"),
    )

    assert kinds(changed) == []
    assert kinds(ROWS.head(100)) == []


def test_tolerances_say_how_strict_the_check_is() -> None:
    strict = infer_contract(ROWS.lazy(), tolerances=Tolerances(row_count_share=1.0))

    found = contract_violations(strict, ROWS.head(N - 1).lazy())

    assert [violation.kind for violation in found] == ["row count"]


def test_a_new_column_breaks_nothing_and_is_agreed_on_from_then() -> None:
    wider = ROWS.with_columns(storey=pl.int_range(N) % 3)

    assert kinds(wider) == []
    more = extended(AGREED, wider.lazy())
    assert more.columns[:-1] == AGREED.columns
    found = contract_violations(more, wider.with_columns(storey=pl.lit(500)).lazy())
    assert [(violation.column, violation.kind) for violation in found] == [
        ("storey", "out of range")
    ]


def test_a_few_bad_new_rows_do_not_hide_behind_many_old_ones() -> None:
    new = ROWS.head(2).with_columns(pl.col("price") * 1_000, customer_id=pl.lit(1_000))
    rows = pl.concat([*[ROWS] * 5]).with_columns(customer_id=pl.int_range(5 * N) + 1_000)
    rows = pl.concat([rows, new.cast(dict(rows.schema))])

    found = kinds(rows, fresh=rows.lazy().slice(5 * N))

    assert found == [("price", "out of range"), ("customer_id", "duplicate keys")]


def test_an_empty_column_that_fills_and_a_column_that_empties_change_no_type() -> None:
    filled = ROWS.with_columns(unused=pl.lit(5))
    emptied = ROWS.with_columns(rooms=pl.lit(None, dtype=pl.String))

    assert kinds(filled) == []
    assert kinds(emptied) == []


def test_whole_numbers_may_become_fractions() -> None:
    assert kinds(ROWS.with_columns(rooms=pl.col("rooms") + 0.5)) == []


def test_a_count_that_is_mostly_zero_has_a_range_all_the_same() -> None:
    rows = pl.DataFrame({"visits": [0] * 90 + list(range(10))})
    contract = infer_contract(rows.lazy())

    assert (contract.columns[0].low, contract.columns[0].high) == (-13.5, 22.5)


def test_a_loop_file_sets_how_much_is_tolerated_and_where() -> None:
    contract = infer_contract(ROWS.lazy())
    rows = ROWS.with_columns(
        price=pl.when(pl.int_range(N) < N // 10).then(pl.col("price") * 1_000).otherwise("price"),
    ).drop("rooms")

    def kinds_with(**keys: Any) -> list[tuple[str | None, str]]:
        plan = ContractPlan(**keys)
        found = contract_violations(planned(contract, plan), rows.lazy())
        return [(each.column, each.kind) for each in not_allowed(found, plan)]

    gone, outside = ("rooms", "column gone"), ("price", "out of range")
    assert kinds_with() == [outside, gone]
    assert kinds_with(out_of_range=0.2) == [gone]
    assert kinds_with(ignore=("rooms",)) == [outside]
    assert kinds_with(allow={"rooms": ("nulls",), "price": ("out of range",)}) == [gone]
    assert kinds_with(ignore=("rooms", "price")) == []


def test_a_tolerance_for_a_column_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"ignore names 'prise'.*'price'"):
        planned(infer_contract(ROWS.lazy()), ContractPlan(ignore=("prise",)))
