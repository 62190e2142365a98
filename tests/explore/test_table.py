from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.explore import profile
from loopwright.explore.association import SAMPLE_ROWS
from loopwright.explore.table import PIECE_ROWS, HeldTable, ScannedTable


def mixed(n: int) -> pl.DataFrame:
    rng = np.random.default_rng(3)
    gone = rng.random(n) < 0.1
    frame = pl.DataFrame(
        {
            "id": range(n),
            "area": rng.lognormal(size=n),
            "grade": rng.integers(1, 8, n),
            "town": rng.choice(["Kent", "Renton", "Ärlund 🏠"], n),
            "sold": [date(2024, 1, 1) + timedelta(days=i * 500 // n) for i in range(n)],
            "email": [f"u{i % 50}@example.com" for i in range(n)],
            "tags": [["a"]] * n,
            "churn": np.where(rng.random(n) < 0.2, "Yes", "No"),
        }
    )
    gaps = [pl.when(~pl.Series(gone)).then(pl.col(name)).alias(name) for name in ("area", "town")]
    frame = frame.with_columns(gaps)
    return pl.concat([frame, frame.head(n // 100)])


@pytest.mark.parametrize("n_rows", [500, SAMPLE_ROWS + 11_000, PIECE_ROWS + 7_000])
def test_a_scanned_table_has_the_very_profile_of_the_table(tmp_path: Path, n_rows: int):
    frame = mixed(n_rows)
    frame.write_parquet(tmp_path / "rows.parquet", row_group_size=7_000)

    scanned = profile(pl.scan_parquet(tmp_path / "rows.parquet"), target="churn")

    assert scanned.to_json() == profile(frame, target="churn").to_json()
    assert scanned.n_duplicate_rows == n_rows // 100


def test_pieces_hold_every_row_once_in_order_and_are_cut_alike(tmp_path: Path):
    frame = pl.DataFrame({"n": range(1_000)})
    frame.write_parquet(tmp_path / "rows.parquet", row_group_size=70)
    scanned = ScannedTable(pl.scan_parquet(tmp_path / "rows.parquet"), piece_rows=300)

    pieces = list(scanned.pieces("n"))

    assert [piece.len() for piece in pieces] == [300, 300, 300, 100]
    assert pl.concat(pieces).equals(frame["n"])
    held = HeldTable(frame, piece_rows=300).pieces("n")
    assert all(one.equals(other) for one, other in zip(pieces, held, strict=True))


def test_a_scan_without_rows_or_without_the_target_is_refused():
    empty = pl.LazyFrame({"x": []})

    with pytest.raises(InvalidInputError, match="no rows"):
        profile(empty)
    with pytest.raises(InvalidInputError, match="'y' is not a column"):
        profile(pl.LazyFrame({"x": [1]}), target="y")


def test_a_pandas_table_has_the_very_profile_of_the_polars_table():
    frame = mixed(500).drop("tags")

    found = profile(frame.to_pandas(), target="churn")

    wanted = profile(frame.with_columns(pl.col("sold").cast(pl.String)), target="churn")
    assert [(c.name, c.n_missing, c.n_distinct) for c in found.columns] == [
        (c.name, c.n_missing, c.n_distinct) for c in wanted.columns
    ]
    assert found.column("area").number == wanted.column("area").number


@pytest.mark.parametrize(
    ("rows", "advice"),
    [
        ({"a": [1]}, r"A dict is no table.*pl\.DataFrame\(rows\)"),
        (np.zeros((2, 2)), r"A numpy\.ndarray is no table.*schema="),
        ("rows.csv", r"A str is no table.*pl\.read_csv"),
        (None, "no table"),
        (pd.DataFrame({"a": [1, "x"]}), "pandas table cannot be read"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "pandas table cannot be read"),
    ],
)
def test_what_is_no_table_is_refused_with_what_to_give(rows: Any, advice: str):
    with pytest.raises(InvalidInputError, match=advice) as caught:
        profile(rows)

    assert caught.value.facts["field"] == "frame"
