from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.data import Source, SqlSource, open_source
from loopwright.testing.data_source import CONTRACT_ROWS, DataSourceContract


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with duckdb.connect(str(tmp_path / "sales.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE sales (id INTEGER PRIMARY KEY, price DOUBLE, town TEXT, same TEXT, "
            '"nothing" TEXT)'
        )
        connection.executemany(
            "INSERT INTO sales VALUES (?, ?, ?, ?, ?)", CONTRACT_ROWS.reverse().rows()
        )
        connection.execute(
            "CREATE TABLE kinds AS SELECT 1.5::DECIMAL(9,2) AS d, [1, 2] AS l, "
            "{'a': 1} AS s, DATE '2020-01-02' AS t, 7::HUGEINT AS h"
        )
        connection.execute("CREATE TABLE void (a INTEGER)")
    return tmp_path


def opened(folder: Path, **what: str) -> Source:
    return open_source(SqlSource(**{"url": "duckdb:///sales.duckdb", **what}), folder, environ={})


class TestDuckDb(DataSourceContract):
    @pytest.fixture(params=["table", "query", "env"])
    def source(self, request: pytest.FixtureRequest, folder: Path) -> Source:
        if request.param == "env":
            spec = SqlSource(url="env:SALES", table="main.sales")
            return open_source(spec, folder, environ={"SALES": f"duckdb:///{folder}/sales.duckdb"})
        query = {"query": "SELECT * FROM sales ORDER BY id;"}
        return opened(folder, **(query if request.param == "query" else {"table": "sales"}))


def test_decimals_lists_structs_and_dates_arrive(folder: Path):
    (batch,) = opened(folder, table="kinds").batches()

    assert [str(value) for value in batch.row(0)] == [
        "1.5",
        "[1, 2]",
        '{"a": 1}',
        "2020-01-02",
        "7",
    ]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"table": "sale"}, r"no table 'sale'.*mean 'sales'"),
        ({"table": "void"}, "gives no rows"),
        ({"query": "SELECT nowhere FROM sales"}, "cannot be read: .*nowhere"),
        ({"query": "SELECT id, id FROM sales"}, "two columns named 'id'"),
        ({"query": "DROP TABLE sales"}, "starts with 'DROP'"),
        ({"query": "SELECT * FROM 'secret.csv'"}, "cannot be read"),
        ({"query": "SELECT * FROM read_csv('FOLDER/secret.csv')"}, "cannot be read.*disabled"),
        ({"query": "SELECT * FROM read_text('/etc/passwd')"}, "cannot be read.*disabled"),
        ({"table": "sales", "url": "duckdb:///sale.duckdb"}, r"no DuckDB file.*'sales.duckdb'"),
        ({"table": "sales", "url": "duckdb:///secret.csv"}, "is not a DuckDB file.*kind: file"),
        ({"table": "sales", "url": "duckdb:///:memory:"}, "needs a file"),
        ({"table": "sales", "query": "SELECT 1"}, "not both"),
    ],
)
def test_what_cannot_be_read_is_refused(folder: Path, what: dict[str, str], message: str):
    what = {name: value.replace("FOLDER", str(folder)) for name, value in what.items()}

    with pytest.raises(InvalidInputError, match=message):
        opened(folder, **what).check()


def test_reading_leaves_no_trace_beside_the_file(folder: Path):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    opened(folder, table="sales").check("price")

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_rows_beyond_a_border_come_in_order_and_by_their_type(folder: Path):
    with duckdb.connect(str(folder / "sales.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE seen (id INTEGER PRIMARY KEY, moment TIMESTAMP, zoned TIMESTAMPTZ, day DATE, "
            'total DECIMAL(9,2), "na""me" TEXT COLLATE NOCASE, uid UUID)'
        )
        for n in (3, 1, 2):
            row = [n, f"2026-01-0{n}", f"2026-01-0{n} 00:00:00+00", f"2026-01-0{n}", n + 0.5]
            connection.execute(
                "INSERT INTO seen VALUES (?, ?, ?, ?, ?, ?, ?)",
                [*row, "aBc"[n - 1], f"00000000-0000-0000-0000-00000000000{n}"],
            )
    source = opened(folder, table="seen")

    def beyond(column: str, value: object) -> list[int]:
        narrowed = source.since(column, value)  # type: ignore[attr-defined]
        return [row["id"] for batch in narrowed.batches() for row in batch.to_dicts()]

    assert beyond("id", 2) == [2, 3]
    assert beyond("total", 2.4) == [2, 3]
    assert beyond("moment", datetime(2026, 1, 2, tzinfo=UTC).replace(tzinfo=None)) == [2, 3]
    assert beyond("zoned", datetime(2026, 1, 2, tzinfo=UTC)) == [2, 3]
    assert beyond("day", date(2026, 1, 3)) == [3]
    # by their bytes, as a snapshot compares them: B before a before c
    assert beyond('na"me', "a") == [1, 3]
    # what DuckDB may order in another way is left to the reader
    assert beyond("uid", "00000000-0000-0000-0000-000000000002") == [1, 2, 3]
    assert beyond("gone", 1) == [1, 2, 3]


EVERY_TYPE = """
    SELECT i % 2 = 0 AS b, i::TINYINT AS n1, i::UINTEGER AS n2, i::BIGINT AS n3, (i / 3)::FLOAT AS f,
      i / 7 AS d, (i / 9)::DECIMAL(18, 5) AS m,
      (i + 9007199254740992)::DECIMAL(18, 0) AS whole, (i::HUGEINT * 1234567890123456789)::DECIMAL(30, 0) AS long, 'é' || i AS t, NULL::INTEGER AS void,
      DATE '2020-01-31' - i::INTEGER AS day, TIMESTAMP '2020-01-31 01:02:03.5' + to_days(i::INT) AS at,
      TIMESTAMPTZ '2020-01-31 01:02:03+02' AS zoned,
      CASE WHEN i = 3 THEN 'infinity'::DATE ELSE '2020-01-01' END AS ever,
      CASE WHEN i % 3 = 0 THEN NULL ELSE i END AS gaps
    FROM range(100) AS r(i)
"""


def test_columns_handed_over_as_arrow_are_those_of_rows(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    source = opened(folder, query=EVERY_TYPE)

    (arrow,) = source.batches()
    monkeypatch.setattr("loopwright.data.duck.has_arrow", lambda _types: False)
    (rows,) = source.batches()

    assert arrow.schema == rows.schema
    for name in rows.columns:
        assert arrow[name].equals(rows[name], null_equal=True), name


def test_types_that_arrow_changes_come_as_rows(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("loopwright.data.duck.arrow_batches", None)

    (batch,) = opened(folder, query="SELECT 7::HUGEINT AS h, 'x' AS t").batches()

    assert batch.row(0) == (7, "x")


def test_bytes_and_long_whole_numbers_are_not_taken_for_other_things(folder: Path):
    query = "SELECT 'abc'::BLOB AS b, 18446744073709551615::UBIGINT AS u, 'x' AS t"

    (batch,) = opened(folder, query=query).batches()

    assert batch.row(0) == (b"abc", Decimal(2**64 - 1), "x")
