from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest

from loopwright.prepare.kind import kind_of, looks_like_code

N = 60


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("id", [7_000_000_000 + 977 * i * i for i in range(N)], "identifier"),
        ("customerID", [f"{i:04}-XY" for i in range(N)], "identifier"),
        ("anything", list(range(N)), "identifier"),
        ("anything", [f"K{i}" for i in range(N)], "identifier"),
        ("price", [100 + 977 * i * i for i in range(N)], "number"),
        ("paid", [100 + 977 * i * i for i in range(N)], "number"),
        ("size", [float(i) for i in range(N)], "number"),
        ("zipcode", [98_001 + i % 7 for i in range(N)], "category"),
        ("shop_id", [i % 5 for i in range(N)], "category"),
        ("rooms", [i % 5 for i in range(N)], "number"),
        ("colour", ["red", "blue"] * (N // 2), "category"),
        ("note", [f"the customer called on day {i} and asked a thing" for i in range(N)], "text"),
        ("name", [f"Mrs Smith {i}" for i in range(N)], "text"),
        ("always", [1] * N, "constant"),
        ("empty", [None] * N, "constant"),
        ("only yes", ["yes", None] * (N // 2), "category"),
        ("new", [True, False] * (N // 2), "boolean"),
        ("sold", [date(2024, 1, 1 + i % 28) for i in range(N)], "date"),
        ("tags", [[i] for i in range(N)], "unreadable"),
    ],
)
def test_a_column_is_judged_by_its_values_and_name(name: str, values: list[Any], kind: str) -> None:
    column = pl.Series(name, values)

    found = kind_of(column)

    assert found == kind


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("zipcode", True),
        ("zip", True),
        ("area_code", True),
        ("storeId", True),
        ("paid", False),
        ("sqft", False),
    ],
)
def test_numbers_that_stand_for_things_are_known_by_name(name: str, expected: bool) -> None:
    assert looks_like_code(name) is expected
