from __future__ import annotations

import csv
import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.data import export_rows

TEXTS = ["=1+1", "+49 170", "-5", "@SUM(A1)", "\tx", "plain", "a=b", "", None]


def cells(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


def test_text_that_a_spreadsheet_would_run_gets_an_apostrophe(tmp_path: Path) -> None:
    rows = pl.DataFrame({"text": TEXTS, "number": [-5.0] * len(TEXTS)})

    n_rows = export_rows(rows.lazy(), tmp_path / "a.csv")

    assert n_rows == len(TEXTS)
    assert cells(tmp_path / "a.csv") == [
        "'=1+1", "'+49 170", "'-5", "'@SUM(A1)", "'\tx", "plain", "a=b", "", "",
    ]  # fmt: skip
    assert pl.read_csv(tmp_path / "a.csv")["number"].unique().to_list() == [-5.0]


def test_text_is_left_as_it_is_where_that_is_asked_for(tmp_path: Path) -> None:
    rows = pl.LazyFrame({"text": TEXTS, "n": range(len(TEXTS))})

    export_rows(rows, tmp_path / "a.csv", safe=False)

    assert cells(tmp_path / "a.csv") == [text or "" for text in TEXTS]


def test_a_column_named_like_a_formula_is_made_safe_too(tmp_path: Path) -> None:
    export_rows(pl.LazyFrame({"=cmd": [1], "fine": [2]}), tmp_path / "a.csv")

    assert (tmp_path / "a.csv").read_text().splitlines()[0] == "'=cmd,fine"


@settings(max_examples=25, deadline=None)
@given(text=st.text(max_size=8))
def test_no_cell_of_a_safe_file_starts_a_formula(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("export") / "a.csv"

    export_rows(pl.LazyFrame({"text": [text, "x"]}), path)

    assert cells(path)[0][:1] not in {"=", "+", "-", "@", "\t", "\r"}


def test_json_and_parquet_hold_the_rows_unchanged(tmp_path: Path) -> None:
    rows = pl.DataFrame({"text": TEXTS, "n": range(len(TEXTS))})

    export_rows(rows.lazy(), tmp_path / "a.json")
    export_rows(rows.lazy(), tmp_path / "a.data", kind="parquet")
    export_rows(rows.head(0).lazy(), tmp_path / "none.json")

    assert json.loads((tmp_path / "a.json").read_text()) == rows.to_dicts()
    assert pl.read_parquet(tmp_path / "a.data").equals(rows)
    assert json.loads((tmp_path / "none.json").read_text()) == []


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    rows = pl.LazyFrame({"n": [1]})

    with pytest.raises(InvalidInputError, match="not a format"):
        export_rows(rows, tmp_path / "a.xls")
    with pytest.raises(InvalidInputError, match="no folder"):
        export_rows(rows, tmp_path / "gone" / "a.csv")
    with pytest.raises(pl.exceptions.PolarsError):
        export_rows(rows.select("no such column"), tmp_path / "a.csv")

    assert list(tmp_path.iterdir()) == []
