"""A table that grows, then breaks: rows come in by cursor, bad ones are held back, people decide."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from loopwright.cli.main import cli
from loopwright.core.errors import BackendError
from loopwright.data import staging
from loopwright.data.database import OpenedQuery

from .conftest import sales

LOOP = """\
name: houses
problem: {target: price, criteria: [{metric: mape, at_most: 0.29}]}
data:
  source: {kind: sql, url: "sqlite:///sales.db", table: sales}
  refresh: {every: 1 day, cursor: sold_no}
train:
  algorithms: [linear-learner]
  resources: {cpus: 1, memory: 2 GiB}
"""


def run(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["--home", str(folder / "home"), *words])


def answer(folder: Path, *words: str) -> dict:
    result = run(folder, *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def write(folder: Path, rows: pl.DataFrame, mode: str = "append") -> None:
    rows.write_database(
        "sales", f"sqlite:///{folder}/sales.db", engine="sqlalchemy", if_table_exists=mode
    )


@pytest.fixture
def rows() -> pl.DataFrame:
    columns = ["price", "sqft_living", "grade", "bedrooms", "lat"]
    frame = sales(700).select(pl.int_range(700).alias("sold_no"), *columns)
    return frame.with_columns(
        kind=pl.when(pl.col("grade") > 7).then(pl.lit("villa")).otherwise(pl.lit("flat"))
    )


@pytest.fixture
def folder(tmp_path: Path, rows: pl.DataFrame) -> Path:
    write(tmp_path, rows.head(500))
    (tmp_path / "loop.yaml").write_text(LOOP)
    return tmp_path


def test_a_table_grows_then_breaks_and_the_loop_goes_on_with_its_good_rows(
    folder: Path, rows: pl.DataFrame
) -> None:
    file = str(folder / "loop.yaml")
    first = answer(folder, "data", "refresh", "--now", file)
    assert (first["state"], first["snapshot"]["n_rows"]) == ("new rows", 500)
    assert answer(folder, "data", "refresh", "--now", file)["state"] == "nothing new"

    # it grows: the row at the border is not taken twice
    write(folder, rows.slice(500, 100))
    grown = answer(folder, "data", "refresh", "--now", file)
    assert grown["snapshot"]["kind"] == "increment"
    assert (grown["snapshot"]["n_new"], grown["snapshot"]["n_rows"]) == (100, 600)
    assert grown["snapshot"]["cursor"] == {"column": "sold_no", "from": 499, "to": 599}
    assert grown["snapshot"]["parent"] == first["snapshot"]["digest"]
    run_once = answer(folder, "run", file)
    assert run_once["status"]["quarantine"] is None

    # it breaks: square metres for square feet, an unknown kind, and rooms left out
    bad = rows.slice(600, 100).with_columns(
        sqft_living=pl.col("sqft_living") * 1_000, kind=pl.lit("ship"), bedrooms=pl.lit(None)
    )
    write(folder, bad)
    held = answer(folder, "data", "refresh", "--now", file)
    assert held["state"] == "quarantined"
    kinds = {violation["kind"] for violation in held["snapshot"]["violations"]}
    assert kinds == {"out of range", "unseen categories", "nulls"}

    # the loop goes on with what it had, exits with 0 and says so
    again = answer(folder, "run", file)
    assert again["n_steps"] == 0
    assert again["exit_code"] == run_once["exit_code"] == 0
    assert "quarantined" in again["message"]
    assert "'ship'" in again["message"]
    assert "data accept houses" in again["message"]
    assert "quarantined" in run(folder, "status").output
    shown = run(folder, "data", "show", "latest")
    assert "✗" in shown.output
    assert "'bedrooms' are missing" in shown.output
    states = [each["state"] for each in answer(folder, "data", "list")]
    assert states == ["good", "good", "quarantined"]
    assert [each["current"] for each in answer(folder, "data", "list")] == [False, True, False]
    moved = run(folder, "data", "diff", "current", "latest").output
    assert "600 in both, 0 in the first only, 100 in the second only" in moved

    # a person takes them after all, and the next run begins a round with all rows
    answer(folder, "data", "accept", "houses", "--reason", "ships are houses too")
    newest = answer(folder, "data", "show", "current")
    assert (newest["state"], newest["n_rows"]) == ("accepted", 700)
    assert newest["accepted"]["reason"] == "ships are houses too"
    assert answer(folder, "data", "refresh", "--now", file)["state"] == "nothing new"
    after = answer(folder, "run", file)
    assert after["status"]["round"]["number"] == 2
    assert "quarantined" not in after["message"]
    assert run(folder, "data", "accept", "houses").exit_code == 2


def test_rows_that_were_corrected_at_the_source_leave_the_quarantine(
    folder: Path, rows: pl.DataFrame
) -> None:
    file = str(folder / "loop.yaml")
    answer(folder, "data", "refresh", "--now", file)
    write(folder, rows.slice(500, 100).with_columns(kind=pl.lit("ship")))
    assert answer(folder, "data", "refresh", "--now", file)["state"] == "quarantined"
    assert answer(folder, "data", "refresh", "--now", file)["state"] == "quarantined"

    with sa.create_engine(f"sqlite:///{folder}/sales.db").begin() as connection:
        connection.exec_driver_sql("UPDATE sales SET kind = 'flat' WHERE kind = 'ship'")

    corrected = answer(folder, "data", "refresh", "--now", file)
    assert (corrected["state"], corrected["snapshot"]["n_new"]) == ("new rows", 100)
    # the same bad rows are on record once
    states = [each["state"] for each in answer(folder, "data", "list", "houses")]
    assert states == ["good", "quarantined", "good"]


def test_a_column_that_goes_even_the_target_does_not_stop_the_loop(
    folder: Path, rows: pl.DataFrame
) -> None:
    file = str(folder / "loop.yaml")
    answer(folder, "data", "refresh", "--now", file)
    write(folder, rows.head(600).drop("price"), mode="replace")

    refreshed = answer(folder, "data", "refresh", "--now", file)
    accepted = run(folder, "data", "accept", "houses")

    assert refreshed["state"] == "quarantined"
    assert refreshed["snapshot"]["violations"][0]["message"] == "The column 'price' is gone."
    assert accepted.exit_code == 2
    assert "'price' is not a column" in accepted.stderr


def test_a_database_that_dies_mid_way_leaves_the_last_snapshot_and_the_next_refresh_goes_on(
    folder: Path, rows: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(folder / "loop.yaml")
    answer(folder, "data", "refresh", "--now", file)
    before = answer(folder, "data", "list")
    write(folder, rows.slice(500, 100))
    batches = OpenedQuery.batches

    def dying(source: OpenedQuery) -> Iterator[pl.DataFrame]:
        yield next(batches(source)).head(40)
        raise BackendError("The table sales broke off.", retryable=True)

    with monkeypatch.context() as patched:
        patched.setattr(OpenedQuery, "batches", dying)
        patched.setattr(staging, "WAITS_S", (0.0, 0.0, 0.0))
        died = run(folder, "data", "refresh", "--now", file)

    assert (died.exit_code, died.stderr) == (
        1,
        "The table sales broke off. It was tried 4 times.\n",
    )
    assert answer(folder, "data", "list") == before
    assert list((folder / "home" / "scratch").iterdir()) == []
    after = answer(folder, "data", "refresh", "--now", file)
    assert (after["state"], after["snapshot"]["n_rows"]) == ("new rows", 600)


def test_a_cursor_that_is_no_column_changes_nothing(folder: Path) -> None:
    path = folder / "loop.yaml"
    path.write_text(LOOP.replace("cursor: sold_no", "cursor: sold_nr"))

    result = run(folder, "data", "refresh", "--now", str(path))

    assert result.exit_code == 2
    assert "Did you mean 'sold_no'?" in result.stderr
    assert not (folder / "home").exists()


def test_rows_leave_as_files_that_a_spreadsheet_does_not_run(
    folder: Path, rows: pl.DataFrame
) -> None:
    write(folder, rows.head(500).with_columns(kind=pl.lit("=1+1")), mode="replace")
    answer(folder, "data", "refresh", str(folder / "loop.yaml"))

    for kind in ("csv", "parquet", "json"):
        answer(folder, "data", "export", "latest", "-o", str(folder / f"rows.{kind}"))
    answer(folder, "data", "export", "--as-is", "--format", "csv", "-o", str(folder / "raw.txt"))

    assert pl.read_csv(folder / "rows.csv")["kind"].unique().to_list() == ["'=1+1"]
    assert pl.read_csv(folder / "raw.txt")["kind"].unique().to_list() == ["=1+1"]
    assert pl.read_parquet(folder / "rows.parquet").equals(pl.read_json(folder / "rows.json"))
    assert run(folder, "data", "export", "-o", str(folder / "rows.xyz")).exit_code == 2
