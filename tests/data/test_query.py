from __future__ import annotations

import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.data.query import checked_query


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1",
        " select a from t where b = 'x;y' ;  ",
        "WITH q AS (SELECT 1) SELECT * FROM q",
        "(SELECT 1) UNION ALL (SELECT 2)",
        "-- the sales; all\n/* of them; */ SELECT 1 -- end",
        'SELECT "odd;name" FROM t',
        "SELECT $x$ ; $x$",
        "SELECT 'it''s; fine'",
    ],
)
def test_a_single_select_passes(query: str):
    assert "select" in checked_query(query).lower()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("DELETE FROM t", "starts with 'DELETE'"),
        ("/* SELECT */ DROP TABLE t", "starts with 'DROP'"),
        ("SELECT 1; DELETE FROM t", "several statements"),
        ("SELECT '--' ; DELETE FROM t", "several statements"),
        ("PRAGMA query_only = OFF", "starts with 'PRAGMA'"),
        ("-- SELECT 1", "is empty"),
        ("", "is empty"),
        (" ; ", "is empty"),
    ],
)
def test_anything_else_is_refused(query: str, message: str):
    with pytest.raises(InvalidInputError, match=message) as caught:
        checked_query(query)

    assert caught.value.facts["field"] == "data.source.query"


def test_a_comment_cannot_swallow_what_is_put_behind_the_query():
    assert "--" not in checked_query("SELECT 1 -- one")
