from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import polars as pl
import pytest
import sqlalchemy as sa

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.data import Source, SqlSource, open_source
from loopwright.data.cell import frame_of, series_of_values
from loopwright.data.decision import decide_conversions
from loopwright.data.postgres import find_postgres
from loopwright.testing.data_source import CONTRACT_ROWS, DataSourceContract


def engine_of(url: str) -> sa.Engine:
    return sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))


def fill(engine: sa.Engine, table: str = "sales") -> None:
    columns = "id integer primary key, price double precision, town text, same text, nothing_ text"
    quote = engine.dialect.identifier_preparer.quote_identifier
    columns = columns.replace("nothing_", quote("nothing"))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")
        connection.exec_driver_sql(f"CREATE TABLE {table} ({columns})")
        connection.execute(
            sa.text(f"INSERT INTO {table} VALUES (:id, :price, :town, :same, :nothing)"),
            # backwards: reading must not depend on the order of writing
            CONTRACT_ROWS.reverse().to_dicts(),
        )


@pytest.fixture
def sqlite(tmp_path: Path) -> Path:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/sales.db")
    fill(engine)
    engine.dispose()
    return tmp_path


class TestSqlite(DataSourceContract):
    @pytest.fixture(params=["table", "query", "env"])
    def source(self, request: pytest.FixtureRequest, sqlite: Path) -> Source:
        spec = {
            "table": SqlSource(url="sqlite:///sales.db", table="sales"),
            "query": SqlSource(url="sqlite:///sales.db", query="SELECT * FROM sales ORDER BY id;"),
            "env": SqlSource(url="env:SALES_URL", table="sales"),
        }[request.param]
        return open_source(spec, sqlite, environ={"SALES_URL": f"sqlite:///{sqlite}/sales.db"})


class TestMariaDb(DataSourceContract):
    """Runs where a MariaDB server is installed: no registry of Python packages has one."""

    secret = "hunter2secret"

    @pytest.fixture(params=["table", "query"])
    def source(self, request: pytest.FixtureRequest, mariadb_url: str) -> Source:
        engine = sa.create_engine(mariadb_url.replace("mariadb:", "mysql+pymysql:"))
        fill(engine)
        engine.dispose()
        query = "SELECT * FROM sales WHERE town IS NULL OR town LIKE '%n%' ORDER BY id"
        what = {"table": "sales"} if request.param == "table" else {"query": query}
        return open_source(SqlSource(url=mariadb_url, **what), Path())

    def test_a_wrong_query_is_the_users_mistake(self, source: Source, mariadb_url: str) -> None:
        for query in ("SELECT nowhere FROM sales", "SELECT * FROM nowhere"):
            with pytest.raises(InvalidInputError, match=r"nowhere.*Correct the query"):
                open_source(SqlSource(url=mariadb_url, query=query), Path()).check()

    def test_nothing_can_be_written(self, source: Source) -> None:
        with (
            pytest.raises(BackendError, match="READ ONLY transaction"),
            source._connection() as session,  # type: ignore[attr-defined]
        ):
            session.connection.exec_driver_sql("DELETE FROM sales")


@pytest.mark.postgres
class TestPostgres(DataSourceContract):
    secret = "hunter2secret"

    @pytest.fixture(params=["table", "query"])
    def source(self, request: pytest.FixtureRequest, postgres_url: str) -> Iterator[Source]:
        engine = engine_of(postgres_url)
        fill(engine)
        url = sa.make_url(postgres_url)
        if url.password is None:
            # the test server trusts local users; a password is sent and must not be shown
            url = url.set(password=self.secret)
        text = url.render_as_string(hide_password=False)
        if request.param == "table":
            yield open_source(SqlSource(url=text, table="public.sales"), Path())
        else:
            query = "SELECT * FROM sales WHERE town IS NULL OR town LIKE '%n%' ORDER BY id"
            yield open_source(SqlSource(url=text, query=query), Path())
        engine.dispose()

    def test_the_batches_hold_every_row_once_in_order(self, source: Source) -> None:
        # every town holds an n, so the query with its bare % gives all rows
        super().test_the_batches_hold_every_row_once_in_order(source)


@pytest.mark.postgres
def test_postgres_types_arrive_as_plain_ones(postgres_url: str):
    query = """
        SELECT 1.50::numeric AS amount, '2026-01-02'::date AS day, true AS sold,
               '2026-01-02 03:04:05+02'::timestamptz AS at, '{"a": 1}'::jsonb AS extra,
               '00000000-0000-0000-0000-000000000001'::uuid AS key, NULL::int AS missing
    """

    source = open_source(SqlSource(url=postgres_url, query=query), Path())

    assert next(source.batches()).row(0) == (
        1.5,
        date(2026, 1, 2),
        True,
        datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC),
        '{"a": 1}',
        "00000000-0000-0000-0000-000000000001",
        None,
    )


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT * FROM nowhere", 'relation "nowhere" does not exist'),
        ("SELECT 1 FROM", "syntax error"),
        (
            "WITH gone AS (DELETE FROM sales RETURNING id) SELECT * FROM gone",
            "data-modifying statements|read-only transaction",
        ),
        ("SELECT pg_sleep(0), nextval('counter') AS n", "read-only transaction"),
    ],
)
def test_a_wrong_or_writing_postgres_query_is_refused(postgres_url: str, query: str, message: str):
    engine = engine_of(postgres_url)
    fill(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SEQUENCE IF NOT EXISTS counter")

    with pytest.raises(InvalidInputError, match=message):
        list(open_source(SqlSource(url=postgres_url, query=query), Path()).batches())

    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM sales").scalar() == 40
    engine.dispose()


def test_an_unreachable_server_is_told_in_time_and_without_the_password():
    url = "postgresql://ann:hunter2secret@127.0.0.1:1/sales"
    source = open_source(SqlSource(url=url, table="sales"), Path())

    with pytest.raises(BackendError, match=r"sales on 127.0.0.1:1 cannot be reached") as caught:
        source.check()

    assert caught.value.retryable
    assert "hunter2secret" not in str(caught.value)
    assert "Check that it runs" in caught.value.hint


def test_a_missing_table_is_refused_with_the_nearest_name(sqlite: Path):
    source = open_source(SqlSource(url="sqlite:///sales.db", table="sale"), sqlite)

    with pytest.raises(InvalidInputError, match=r"no table 'sale'.*Did you mean 'sales'\?"):
        source.check()


def test_a_missing_sqlite_file_is_refused_and_not_made(sqlite: Path):
    source = open_source(SqlSource(url="sqlite:///sale.db", table="sales"), sqlite)

    with pytest.raises(InvalidInputError, match=r"no SQLite file .*Did you mean 'sales.db'\?"):
        source.check()

    assert not (sqlite / "sale.db").exists()


@pytest.mark.parametrize("query", ["SELECT * FROM nowhere", "SELECT prise FROM sales"])
def test_a_wrong_query_is_refused_in_the_words_of_the_database(sqlite: Path, query: str):
    source = open_source(SqlSource(url="sqlite:///sales.db", query=query), sqlite)

    with pytest.raises(InvalidInputError, match=r"no such (table|column)"):
        source.check()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path):
    (tmp_path / "sales.db").write_text("price,town\n1,Kent\n" * 100)
    source = open_source(SqlSource(url="sqlite:///sales.db", table="sales"), tmp_path)

    with pytest.raises(InvalidInputError, match="not a database"):
        source.check()


def test_no_rows_and_doubled_names_are_refused(sqlite: Path):
    for query, message in (
        ("SELECT * FROM sales WHERE id < 0", "gives no rows"),
        ("SELECT id, price AS id FROM sales", "two columns named 'id'"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            open_source(SqlSource(url="sqlite:///sales.db", query=query), sqlite).check()


def test_reading_cannot_write_to_sqlite(sqlite: Path):
    before = (sqlite / "sales.db").read_bytes()
    query = "WITH x AS (SELECT 1) DELETE FROM sales"

    with pytest.raises(InvalidInputError):
        list(open_source(SqlSource(url="sqlite:///sales.db", query=query), sqlite).batches())

    assert (sqlite / "sales.db").read_bytes() == before


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"url": "sqlite:///a.db"}, "either a table or a query"),
        ({"url": "sqlite:///a.db", "table": "t", "query": "SELECT 1"}, "either a table or a query"),
        ({"url": "oracle://ann:hunter2secret@db/x", "table": "t"}, "'oracle' cannot be read"),
        (
            {"url": "mysql://ann:hunter2secret@db/x", "query": "SELECT 1 INTO OUTFILE '/tmp/x'"},
            "writes into a file or a variable",
        ),
        ({"url": "sqlite://", "table": "t"}, "needs a file"),
        ({"url": "env:NO_SUCH_URL", "table": "t"}, "NO_SUCH_URL.*is not set"),
        ({"url": "hunter2secret", "table": "t"}, "not a database URL"),
        ({"url": "postgresql://ann:hunter2secret@db:port/x", "table": "t"}, "not a database URL"),
        ({"url": "sqlite:///a.db", "query": "DROP TABLE t"}, "starts with 'DROP'"),
    ],
)
def test_a_wrong_specification_is_refused_before_anything_is_opened(
    keys: dict[str, str], message: str
):
    with pytest.raises(InvalidInputError, match=message) as caught:
        open_source(SqlSource(**keys), Path(), environ={})

    assert "hunter2secret" not in str(caught.value)


def test_the_process_environment_is_asked_by_default(sqlite: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(os.environ, "SALES_URL", "sqlite:///sales.db")

    open_source(SqlSource(url="env:SALES_URL", table="sales"), sqlite).check("price")


def test_a_column_whose_type_changes_on_the_way_keeps_every_value():
    rows = [
        (1, 1, Decimal("1.25"), True, timedelta(seconds=90), b"\x01\xff", UUID(int=5), None, [1]),
        (2, "x", 3, None, None, None, None, None, None),
    ]

    frame = frame_of(list("abcdefghi"), rows)

    assert frame.rows() == [
        (1, "1", 1.25, True, 90.0, b"\x01\xff", str(UUID(int=5)), None, "[1]"),
        (2, "x", 3.0, None, None, None, None, None, None),
    ]
    assert frame.schema["h"] == pl.Null


def test_untyped_sqlite_columns_are_read_batch_by_batch(tmp_path: Path):
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("CREATE TABLE t (n)")
        values = [(None,)] * 30_000 + [(7,)] * 30_000 + [("late",)]
        connection.executemany("INSERT INTO t VALUES (?)", values)
    connection.close()

    source = open_source(SqlSource(url="sqlite:///a.db", table="t"), tmp_path)

    assert [value for batch in source.batches() for value in batch["n"]].count(None) == 30_000


@pytest.mark.parametrize("scheme", ["mysql", "mariadb"])
def test_mysql_is_opened_with_its_driver_and_described_without_the_password(scheme: str):
    url = f"{scheme}://ann:hunter2secret@127.0.0.1:1/shop"
    source = open_source(SqlSource(url=url, table="sales"), Path())

    assert source.describe() == "table sales in MySQL database shop on 127.0.0.1:1"
    with pytest.raises(BackendError, match=r"MySQL database shop.* cannot be reached") as caught:
        source.check()

    assert caught.value.retryable
    assert "hunter2secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:p%40ss@db.example:5433/sales",
        "postgres://ann@[::1]/sales?sslmode=require&application_name=a%20b",
        "postgresql+psycopg://db.example",
        "postgresql:///sales?host=/var/run/postgresql",
        "postgresql://ann:a:b@db/sales",
    ],
)
def test_an_address_of_postgres_is_read_as_sqlalchemy_reads_it(url: str):
    found, expected = find_postgres(url), sa.make_url(url)

    assert found is not None
    assert (found.host, found.port) == (expected.host, expected.port)
    assert (found.database or "", found.query) == (expected.database or "", expected.query)
    assert (found.username or None, found.password) == (
        expected.username or None,
        expected.password,
    )
    assert "p@ss" not in repr(found) + found.without_password()


@pytest.mark.parametrize(
    "url", ["postgresql:/sales", "postgres://db:port/sales", "postgresql://:@:/"]
)
def test_an_address_that_only_begins_as_one_of_postgres_is_refused_without_showing_it(url: str):
    with pytest.raises(InvalidInputError, match="The text given is not a database URL") as caught:
        open_source(SqlSource(url=url, table="t"), Path())

    assert url not in str(caught.value)


@pytest.mark.postgres
def test_reading_postgres_loads_no_library_for_other_databases(postgres_url: str):
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from loopwright.data import SqlSource, open_source\n"
        "source = open_source(SqlSource(url=sys.argv[1], query='SELECT 1 AS a'), Path())\n"
        "print([b.rows() for b in source.batches()])\n"
        "print([name for name in ('sqlalchemy', 'pymysql', 'duckdb') if name in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, postgres_url], check=True, capture_output=True, text=True
    )

    assert done.stdout.splitlines() == ["[[(1,)]]", "[]"]


@pytest.mark.postgres
def test_a_table_of_a_schema_and_a_view_are_found_and_the_key_orders_them(postgres_url: str):
    engine = engine_of(postgres_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA IF EXISTS shop CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA shop")
        connection.exec_driver_sql(
            "CREATE TABLE shop.sold (at date, n int, x float8, PRIMARY KEY (n, at))"
        )
        connection.exec_driver_sql(
            "INSERT INTO shop.sold VALUES ('2026-01-02', 2, 1), ('2026-01-03', 1, 2), "
            "('2026-01-01', 2, 3)"
        )
        connection.exec_driver_sql("CREATE VIEW shop.seen AS SELECT x FROM shop.sold")
    engine.dispose()

    table = open_source(SqlSource(url=postgres_url, table="shop.sold"), Path())
    view = open_source(SqlSource(url=postgres_url, table="shop.seen"), Path())
    unseen = open_source(SqlSource(url=postgres_url, table="sold"), Path())

    assert table.order() == ("n", "at")  # type: ignore[attr-defined]
    assert [row[2] for batch in table.batches() for row in batch.rows()] == [2.0, 3.0, 1.0]
    assert {row[0] for batch in view.batches() for row in batch.rows()} == {1.0, 2.0, 3.0}
    with pytest.raises(InvalidInputError, match="There is no table 'sold'"):
        next(unseen.batches())


@pytest.mark.parametrize("value", ["x'616263'", "x'31'"])
def test_bytes_are_left_out_and_never_read_as_numbers(tmp_path: Path, value: str):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/a.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB)")
        connection.exec_driver_sql(f"INSERT INTO t VALUES (1, {value}), (2, NULL), (3, 'text')")
    engine.dispose()

    (batch,) = open_source(SqlSource(url="sqlite:///a.db", table="t"), tmp_path).batches()
    (left,) = decide_conversions(batch.lazy())

    assert batch.dtypes == [pl.Int64, pl.Binary]
    assert (left.column, left.now) == ("b", "left out")
    assert left.reason == "Cells of type Binary are not used by any stage."


@pytest.mark.parametrize(
    ("values", "dtype", "texts"),
    [
        ([2**53 + 1, None], pl.Int64, ["9007199254740993", None]),
        ([1, 2**64 - 1], pl.Decimal(38, 0), ["1", "18446744073709551615"]),
        ([Decimal(7), None, -(2**63) - 1], pl.Decimal(38, 0), ["7", None, "-9223372036854775809"]),
        ([1, 10**38], pl.String, ["1", "1" + "0" * 38]),
        ([Decimal("1E+3")], pl.Int64, ["1000"]),
    ],
)
def test_whole_numbers_of_a_driver_keep_all_their_digits(
    values: list[object], dtype: pl.DataType, texts: list[str | None]
):
    series = series_of_values("x", values)

    assert series.dtype == dtype
    assert series.cast(pl.String).to_list() == texts


def test_decimals_that_show_decimals_or_are_not_numbers_are_floats():
    for values in ([Decimal("5.00")], [Decimal("NaN"), Decimal(1)], [Decimal(1), 0.5]):
        assert series_of_values("x", values).dtype == pl.Float64


def test_mariadb_keeps_long_numbers_gives_bits_as_numbers_and_leaves_bytes_out(
    mariadb_url: str, tmp_path: Path
):
    query = """
        SELECT CAST(9007199254740993 AS DECIMAL(20, 0)) AS id, 18446744073709551615 AS `long`,
          CAST(5 AS DECIMAL(10, 2)) AS price, sold, bytes FROM kinds
    """
    engine = sa.create_engine(mariadb_url.replace("mariadb:", "mysql+pymysql:"))
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS kinds")
        connection.exec_driver_sql("CREATE TABLE kinds (sold BIT(1), bytes VARBINARY(9))")
        connection.exec_driver_sql("INSERT INTO kinds VALUES (b'1', '616263')")
    engine.dispose()

    (batch,) = open_source(SqlSource(url=mariadb_url, query=query), tmp_path).batches()

    assert batch.row(0) == (2**53 + 1, Decimal(2**64 - 1), 5.0, 1, b"616263")
