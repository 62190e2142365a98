"""PostgreSQL's binary COPY gives what its driver gives, cell for cell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.data import SqlSource, open_source
from loopwright.data.database import OpenedQuery

pytestmark = pytest.mark.postgres

EVERY_TYPE = """
    SELECT i AS id,
      CASE WHEN i % 3 > 0 THEN (i * 7 - 90)::int2 END AS small,
      CASE WHEN i % 5 > 0 THEN i * 100003 END AS whole,
      (i::int8 - 50) * 92233720368547758 AS big,
      CASE WHEN i % 8 > 0 THEN i * 9007199254740993 - 450000000000000000 END::numeric(20, 0) AS ids,
      CASE i % 5 WHEN 0 THEN 0 WHEN 1 THEN 40000 WHEN 2 THEN -100000000 WHEN 3 THEN NULL
        ELSE 9219999999999999999 END::numeric(20, 0) AS ends,
      CASE i % 3 WHEN 0 THEN NULL WHEN 1 THEN -18446744073709551615 ELSE i END::numeric AS lengthy,
      CASE i % 3 WHEN 0 THEN 7::numeric(78, 0) ELSE 2::numeric(78, 0) ^ 200 END::numeric(78, 0) AS longer,
      CASE i % 3 WHEN 0 THEN 'NaN' ELSE '5' END::numeric(20, 0) AS odd,
      CASE i % 9 WHEN 0 THEN NULL WHEN 1 THEN 'NaN' WHEN 2 THEN '-0.000123' WHEN 3 THEN '1e30'
        WHEN 4 THEN '9007199254740993' WHEN 5 THEN '12345678.87654321' WHEN 6 THEN '-40000'
        WHEN 7 THEN '0.1000' ELSE '123456789012345678901234.567' END::numeric AS amount,
      CASE i % 7 WHEN 0 THEN NULL WHEN 1 THEN 'NaN' WHEN 2 THEN '-Infinity' WHEN 3 THEN '0.1'
        ELSE '3.4028235e38' END::float4 AS short,
      CASE i % 7 WHEN 0 THEN NULL WHEN 1 THEN 'NaN' WHEN 2 THEN 'Infinity' WHEN 3 THEN '0.1'
        ELSE '1e-320' END::float8 AS long,
      CASE i % 6 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN 'a "b", ''c''' WHEN 3 THEN E'\\t\\n\\\\N'
        WHEN 4 THEN '🦀 naïve' ELSE repeat('long ', 30) END AS text,
      'x'::char(4) AS padded, ('n' || i)::name AS named, ('v' || i)::varchar(9) AS short_text,
      CASE WHEN i % 4 > 0 THEN i % 2 = 0 END AS truth,
      CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN '0001-01-01' WHEN 2 THEN '9999-12-31'
        ELSE '2026-01-31' END::date AS day,
      CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN '0001-01-01 00:00:00' ELSE
        '1999-12-31 23:59:59.999999' END::timestamp AS moment,
      CASE i % 4 WHEN 0 THEN NULL ELSE '2026-03-29 02:30:00.5+02' END::timestamptz AS zoned,
      ('{"b": [1, null], "a": "' || i || '"}')::json AS doc,
      CASE i % 3 WHEN 0 THEN '"just text"' WHEN 1 THEN '{"a": "é"}' ELSE NULL END::jsonb AS docb,
      md5(i::text)::uuid AS key, ARRAY[i, NULL, 3] AS numbers, ARRAY['a,b', 'c"d', NULL] AS words,
      decode(md5(i::text), 'hex') AS bytes, '12:34:56.7'::time AS clock,
      make_interval(days => i, secs => 1.5) AS span, '10.0.0.1'::inet AS address, NULL::int AS nothing,
      1::oid AS oid, 'c'::"char" AS letter
    FROM generate_series(1, 100) AS i ORDER BY i
"""


def opened(url: str, query: str) -> OpenedQuery:
    source = open_source(SqlSource(url=url, query=query), Path())
    assert isinstance(source, OpenedQuery)
    return source


def by_driver(source: OpenedQuery) -> pl.DataFrame:
    with source._connection() as connection:
        return pl.concat(source._fetched(connection))


@pytest.fixture(scope="module")
def engine(postgres_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(sa.make_url(postgres_url).set(drivername="postgresql+psycopg"))
    yield engine
    engine.dispose()


def test_every_type_has_the_type_and_the_values_that_the_driver_gives(postgres_url: str):
    source = opened(postgres_url, EVERY_TYPE)

    copied, fetched = pl.concat(source.batches()), by_driver(source)

    assert copied.schema == fetched.schema
    for name in copied.columns:
        assert copied[name].equals(fetched[name], null_equal=True), name


def test_an_enumeration_and_a_domain_are_read_as_the_driver_reads_them(
    postgres_url: str, engine: sa.Engine
):
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TYPE IF EXISTS mood CASCADE")
        connection.exec_driver_sql("DROP DOMAIN IF EXISTS pounds")
        connection.exec_driver_sql("CREATE TYPE mood AS ENUM ('glad', 'so ''so''')")
        connection.exec_driver_sql("CREATE DOMAIN pounds AS numeric(8, 2)")
    query = 'SELECT \'glad\'::mood AS mood, 1.25::pounds AS price, 5 AS "odd % ""name"""'
    source = opened(postgres_url, query)

    copied = pl.concat(source.batches())

    assert copied.equals(by_driver(source))
    assert copied.row(0) == ("glad", 1.25, 5)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.decimals(allow_nan=False, allow_infinity=False, places=7) | st.none(),
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9) | st.none(),
            st.floats() | st.none(),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_any_numbers_and_texts_arrive_as_they_were_written(
    postgres_url: str, engine: sa.Engine, rows: list[tuple[object, ...]]
):
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS wild")
        connection.exec_driver_sql("CREATE TABLE wild (n int, d numeric, t text, f float8)")
        connection.exec_driver_sql(
            "INSERT INTO wild VALUES (%s, %s, %s, %s)",
            [(index, *row) for index, row in enumerate(rows)],
        )

    found = pl.concat(opened(postgres_url, "SELECT d, t, f FROM wild ORDER BY n").batches())

    wanted = [(None if d is None else float(d), t, f) for d, t, f in rows]  # type: ignore[arg-type]
    assert repr(found.rows()) == repr(wanted)


def test_a_table_of_many_batches_keeps_its_order(postgres_url: str):
    query = "SELECT i, repeat('x', i % 600) AS t FROM generate_series(1, 60000) AS i"

    batches = list(opened(postgres_url, query).batches())

    assert len(batches) > 2
    assert pl.concat(batches)["i"].to_list() == list(range(1, 60_001))
    assert pl.concat(batches)["t"].str.len_bytes().to_list() == [i % 600 for i in range(1, 60_001)]


def test_a_query_without_rows_gives_no_batches(postgres_url: str):
    assert list(opened(postgres_url, "SELECT 1 AS n WHERE false").batches()) == []


@pytest.mark.parametrize("value", ["'infinity'::date", "'-infinity'::timestamp", "'44 BC'::date"])
def test_dates_beyond_the_calendar_are_refused_with_their_column(postgres_url: str, value: str):
    source = opened(postgres_url, f"SELECT {value.replace('44 BC', '0044-03-15 BC')} AS ends")

    with pytest.raises(InvalidInputError, match=r"'ends' holds dates that are infinite.*NULLIF"):
        list(source.batches())


def test_an_error_on_the_way_is_told_in_the_words_of_the_database(postgres_url: str):
    source = opened(postgres_url, "SELECT 1 / (40000 - i) AS n FROM generate_series(1, 50000) i")

    with pytest.raises(InvalidInputError, match="division by zero"):
        list(source.batches())


@pytest.mark.parametrize("way", ["copied", "fetched"])
def test_whole_numeric_values_keep_their_digits_and_bytes_stay_bytes(postgres_url: str, way: str):
    query = """
        SELECT (9007199254740992 + i)::numeric(20, 0) AS id, 18446744073709551615::numeric AS long,
          5::numeric(10, 2) AS price, 'abc'::bytea AS bytes FROM generate_series(1, 2) AS i ORDER BY 1
    """
    source = opened(postgres_url, query)

    found = pl.concat(source.batches()) if way == "copied" else by_driver(source)

    assert found.dtypes == [pl.Int64, pl.Decimal(38, 0), pl.Float64, pl.Binary]
    assert found["id"].to_list() == [2**53 + 1, 2**53 + 2]
    assert found.select(pl.col("long").cast(pl.String)).row(0) == ("18446744073709551615",)
