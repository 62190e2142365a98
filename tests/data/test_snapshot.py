from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from loopwright.core.clock import FixedClock
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.data import (
    FileSource,
    Snapshot,
    SqlSource,
    assign_parts,
    open_source,
    scan,
    split_leaks,
    take_snapshot,
)
from loopwright.data.file import OpenedFiles
from loopwright.data.split import Split
from loopwright.store import ArtifactStore
from loopwright.store.memory import MemoryArtifactStore

HOUSES = Path(__file__).parents[3] / "shared" / "datasets" / "kc_house.parquet"
needs_houses = pytest.mark.skipif(not HOUSES.exists(), reason="the shared data sets are not here")


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return MemoryArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def taken(tmp_path: Path, artifacts: ArtifactStore):
    def take(spec: FileSource | SqlSource, **keywords: object) -> Snapshot:
        source = open_source(spec, tmp_path)
        return take_snapshot(
            source, artifacts=artifacts, clock=FixedClock(), folder=tmp_path, **keywords
        )

    return take


ROWS = pl.DataFrame(
    {"n": range(1_000), "area": ["?", "1.5"] * 500, "sold": ["10/13/2014", "1/2/2015"] * 500}
)


def test_a_snapshot_holds_the_typed_rows_in_order(tmp_path, artifacts, taken):
    ROWS.write_parquet(tmp_path / "a.parquet")

    snapshot = taken(FileSource(path="a.parquet"))

    frame = scan(snapshot, artifacts).collect()
    assert frame["n"].to_list() == list(range(1_000))
    assert frame.row(1) == (1, 1.5, date(2015, 1, 2))
    assert [(c.name, c.dtype) for c in snapshot.columns] == [
        ("n", "Int64"),
        ("area", "Float64"),
        ("sold", "Date"),
    ]
    assert (snapshot.n_rows, snapshot.taken_at) == (1_000, datetime(2026, 1, 1, tzinfo=UTC))
    assert not list(tmp_path.glob("snapshot-*"))


def test_the_same_rows_give_the_same_digest_from_every_kind_of_source(tmp_path, taken):
    ROWS.write_parquet(tmp_path / "a.parquet")
    ROWS.write_csv(tmp_path / "a.csv")
    ROWS.head(300).write_ndjson(tmp_path / "b1.jsonl")
    ROWS.slice(300).write_ndjson(tmp_path / "b2.jsonl")
    ROWS.write_database("a", f"sqlite:///{tmp_path}/a.db", engine="sqlalchemy")
    specs = [
        FileSource(path="a.parquet"),
        FileSource(path="a.csv"),
        FileSource(path="b*.jsonl"),
        SqlSource(url="sqlite:///a.db", table="a"),
    ]

    digests = {taken(spec).digest for spec in specs}

    assert len(digests) == 1


@needs_houses
def test_the_houses_get_their_dates_and_cellars(artifacts, taken):
    snapshot = taken(FileSource(path=str(HOUSES)))

    found = {c.column: (c.now, c.n_nulled) for c in snapshot.conversions}
    assert found == {"date": ("Date", 0), "sqft_basement": ("Float64", 454)}
    assert snapshot.n_rows == 21_597
    assert (
        scan(snapshot, artifacts).select(pl.col("sqft_basement").null_count()).collect().item()
        == 454
    )


@pytest.mark.postgres
@needs_houses
def test_the_houses_are_the_same_from_postgres_and_from_a_csv_file(
    tmp_path, taken, postgres_url: str
):
    houses = pl.read_parquet(HOUSES).head(3_000)
    houses.write_csv(tmp_path / "houses.csv")
    engine = sa.create_engine(postgres_url)
    types = {pl.Int64: "bigint", pl.Float64: "double precision", pl.String: "text"}
    columns = ", ".join(f'"{name}" {types[dtype]}' for name, dtype in houses.schema.items())
    raw = engine.raw_connection()
    with raw.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS houses; CREATE TABLE houses ({columns})")
        with cursor.copy("COPY houses FROM STDIN (FORMAT csv, HEADER)") as copy:
            copy.write(houses.write_csv())
    raw.commit()
    raw.close()
    engine.dispose()

    snapshots = [
        taken(FileSource(path="houses.csv")),
        taken(SqlSource(url=postgres_url, table="houses")),
        taken(SqlSource(url=postgres_url, query="SELECT * FROM houses")),
    ]

    assert len({snapshot.digest for snapshot in snapshots}) == 1


def test_a_snapshot_survives_its_record(tmp_path, taken):
    ROWS.write_csv(tmp_path / "a.csv")

    snapshot = taken(FileSource(path="a.csv"))

    assert Snapshot.from_json(snapshot.to_json()) == snapshot


def test_a_record_of_a_later_release_is_refused(tmp_path, taken):
    ROWS.write_csv(tmp_path / "a.csv")
    record = taken(FileSource(path="a.csv")).to_json() | {"version": 2}

    with pytest.raises(InvalidInputError, match="version 2"):
        Snapshot.from_json(record)


def test_a_later_snapshot_reads_cells_as_the_first_did(tmp_path, artifacts, taken):
    ROWS.write_parquet(tmp_path / "a.parquet")
    first = taken(FileSource(path="a.parquet"))
    pl.DataFrame({"n": [1], "area": ["?"], "sold": ["1/2/2015"]}).write_parquet(
        tmp_path / "a.parquet"
    )

    later = taken(FileSource(path="a.parquet"), conversions=first.conversions)

    assert later.columns == first.columns
    assert scan(later, artifacts).collect().row(0) == (1, None, date(2015, 1, 2))


def test_later_rows_that_do_not_fit_leave_nothing_behind(tmp_path, taken):
    ROWS.write_parquet(tmp_path / "a.parquet")
    first = taken(FileSource(path="a.parquet"))
    before = sorted(path.name for path in (tmp_path / "artifacts").rglob("*"))
    ROWS.with_columns(area=pl.lit("big")).write_parquet(tmp_path / "a.parquet")

    with pytest.raises(InvalidInputError, match=r"1,000 new values of 'area'"):
        taken(FileSource(path="a.parquet"), conversions=first.conversions)

    assert sorted(path.name for path in (tmp_path / "artifacts").rglob("*")) == before
    assert not list(tmp_path.glob("snapshot-*"))


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, artifacts):
    path = tmp_path / "a.csv"
    path.write_text("n\n1\n2\n")

    class Written(OpenedFiles):
        def batches(self) -> Iterator[pl.DataFrame]:
            yield from super().batches()
            os.utime(path, ns=(1, 1))

    with pytest.raises(BackendError, match="changed while it was read") as caught:
        take_snapshot(
            Written(FileSource(path="a.csv"), tmp_path),
            artifacts=artifacts,
            clock=FixedClock(),
            folder=tmp_path,
        )

    assert caught.value.retryable


def test_a_column_that_widens_on_the_way_keeps_every_value(tmp_path, artifacts):
    batches = [
        pl.DataFrame({"x": [None, None], "y": [1, 2], "z": [1, 2]}),
        pl.DataFrame({"x": ["a", None], "y": [0.5, None], "z": ["x", "3"]}),
        pl.DataFrame({"x": ["b"], "y": pl.Series([7], dtype=pl.UInt8), "z": [None]}),
    ]

    class Widening:
        def describe(self) -> str:
            return "widening"

        def fingerprint(self) -> None:
            return None

        def batches(self) -> Iterator[pl.DataFrame]:
            yield from batches

    snapshot = take_snapshot(Widening(), artifacts=artifacts, clock=FixedClock(), folder=tmp_path)

    assert scan(snapshot, artifacts).collect().rows() == [
        (None, 1.0, "1"),
        (None, 2.0, "2"),
        ("a", 0.5, "x"),
        (None, None, "3"),
        ("b", 7.0, None),
    ]


def test_a_source_without_rows_is_refused(tmp_path, taken):
    (tmp_path / "a.csv").write_text("n\n")

    with pytest.raises(InvalidInputError, match="gives no rows"):
        taken(FileSource(path="a.csv"))


@needs_houses
def test_the_house_split_is_the_same_for_ever(artifacts, taken):
    frame = scan(taken(FileSource(path=str(HOUSES))), artifacts).collect()

    parts = assign_parts(frame, Split(), "price")

    counts = dict(parts.value_counts().iter_rows())
    assert counts == {"train": 15_118, "validation": 4_319, "test": 2_160}
    assert split_leaks(frame, parts) == []
    # a change of this number would shuffle every published result
    assert (
        parts.head(60).str.slice(1, 1).str.join("").item()
        == "errerrrrraerarrrrrrrarrrrrrrrrrrrarrrrerarrrrrrraarrraerarra"
    )
