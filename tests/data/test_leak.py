from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from loopwright.data import Split, assign_parts, naming_columns, split_leaks, split_remarks

DATASETS = Path(__file__).parents[3] / "shared" / "datasets"
N = 400


def shop(**columns: object) -> pl.DataFrame:
    rng = np.random.default_rng(5)
    base = {"price": rng.normal(size=N), "area": rng.integers(1, 10**6, N)}
    return pl.DataFrame(base | columns)  # type: ignore[arg-type]


def remarks(frame: pl.DataFrame, split: Split | None = None) -> list[tuple[str, str | None]]:
    split = split or Split()
    parts = assign_parts(frame, split, target="price")
    leaks = split_leaks(frame, parts, without=naming_columns(frame, target="price"))
    found = split_remarks(frame, parts, split=split, target="price", leaks=leaks)
    return [(each.kind, each.column) for each in found]


@pytest.mark.parametrize("name", ["id", "row", "customerID", "order_no"])
def test_a_copy_with_a_number_of_its_own_is_still_a_copy(name: str):
    half = shop().head(N // 2)
    frame = pl.concat([half, half]).with_columns(pl.Series(name, range(N)))
    parts = pl.Series(["train"] * (N // 2) + ["test"] * (N // 2))

    leaks = split_leaks(frame, parts, without=naming_columns(frame, target="price"))

    assert [(leak.part, leak.n_rows) for leak in leaks] == [("test", N // 2)]
    assert ("copies", None) in remarks(frame)


def test_codes_of_nearly_every_row_name_rows_and_what_is_learnt_from_does_not():
    frame = shop(
        key=[f"K-{n}" for n in range(N)],
        serial_id=range(7_000, 7_000 + 3 * N, 3),
        counter=range(1, N + 1),
        message=[f"this is row {n}" for n in range(N)],
        zipcode=[98_000 + n % 70 for n in range(N)],
        patient_id=[n // 4 for n in range(N)],
    )

    assert naming_columns(frame, target="price") == ("key", "serial_id", "counter")


def test_rows_that_hold_a_name_and_a_target_alone_are_compared_whole():
    frame = pl.DataFrame({"id": range(30), "price": [1] * 30})
    parts = pl.Series(["train", "test"] * 15)

    assert split_leaks(frame, parts, without=naming_columns(frame, target="price")) == []


@pytest.mark.parametrize(
    ("name", "n_groups"), [("customer_id", 20), ("patient", 100), ("loan_id", 150)]
)
def test_a_group_that_reaches_into_the_test_is_told_if_the_split_is_random(
    name: str, n_groups: int
):
    frame = shop(**{name: [f"c{n % n_groups}" for n in range(N)]})

    assert remarks(frame) == [("group", name)]
    assert remarks(frame, Split(by="group", column=name)) == []


@pytest.mark.parametrize(
    ("name", "n_groups"),
    [("zipcode", 70), ("colour", 70), ("grade", 12), ("store_id", 8), ("customer", 2)],
)
def test_codes_of_places_and_things_are_no_groups(name: str, n_groups: int):
    assert remarks(shop(**{name: [n % n_groups for n in range(N)]})) == []


def test_of_several_groups_one_is_told():
    frame = shop(customer_id=[n % 50 for n in range(N)], account_id=[n % 60 for n in range(N)])

    assert len(remarks(frame)) == 1


def test_test_rows_from_before_training_rows_are_told_if_the_split_is_random():
    sold = [date(2024, 1, 1) + timedelta(days=n) for n in range(N)]
    frame = shop(born_on=sold, sold=sold)

    assert remarks(frame) == [("future", "sold")]
    assert remarks(frame, Split(by="time", column="sold")) == []


def test_a_remark_says_how_many_rows_and_what_to_write():
    frame = shop(customer_id=[n % 20 for n in range(N)])
    parts = assign_parts(frame, Split())

    [remark] = split_remarks(frame, parts, split=Split(), target="price")

    assert (remark.n_rows, remark.share) == (40, 1.0)
    assert "split by: group, column: customer_id" in remark.text


@pytest.mark.skipif(not DATASETS.exists(), reason="the shared data sets are not here")
@pytest.mark.parametrize(
    ("name", "target", "expected"),
    [
        ("kc_house", "price", []),
        ("telco_churn", "Churn", []),
        ("lending_club", "Class", []),
        ("wine_quality", "quality", [("copies", None)]),
    ],
)
def test_remarks_on_real_tables_are_few(
    name: str, target: str, expected: list[tuple[str, str | None]]
):
    frame = pl.read_parquet(DATASETS / f"{name}.parquet").rename({target: "price"})

    assert remarks(frame) == expected
