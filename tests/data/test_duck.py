from __future__ import annotations

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
