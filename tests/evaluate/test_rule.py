"""A rule over free text says the same in Python, in SQL and here."""

from __future__ import annotations

import sqlite3

import numpy as np
import polars as pl
import pytest

from loopwright.evaluate.readable import readable_tables
from loopwright.evaluate.rule import Rule, fitted_rule, rule_answers

WORDS = ["hello", "meeting", "tomorrow", "FREE", "prize's", "lunch", "winner", "the", "a", "call"]


def messages(n_rows: int = 400) -> tuple[pl.DataFrame, np.ndarray]:
    """Return made-up messages; those that hold "free" in any spelling are junk."""
    rng = np.random.default_rng(5)
    texts = [" ".join(rng.choice(WORDS, size=6)) + f" {n}" for n in range(n_rows)]
    texts[7], texts[8] = "", "100%_off"
    frame = pl.DataFrame({"the message": texts}).with_columns(
        pl.when(pl.int_range(pl.len()) % 50 == 3)
        .then(None)
        .otherwise("the message")
        .alias("the message")
    )
    y = np.array([float("free" in (text or "").lower()) for text in frame["the message"]])
    return frame, y


@pytest.fixture(scope="module")
def rule() -> Rule:
    frame, y = messages()
    table, _ = readable_tables(frame, frame)
    return fitted_rule(table, y, classes=("fine", "junk"), seed=0)


def test_a_rule_finds_the_word_that_tells(rule: Rule) -> None:
    frame, y = messages()
    table, _ = readable_tables(frame, frame)

    answers = rule_answers(rule, table)

    assert rule.n_conditions == 1
    assert (answers[:, 1].round() == y).all()
    assert "'free' in (row['the message'] or '').lower()" in rule.to_python()


def test_its_python_says_the_same_for_every_row(rule: Rule) -> None:
    frame, y = messages()
    scope: dict[str, object] = {}
    exec(rule.to_python(), scope)  # noqa: S102 the promise is that it can be pasted

    said = [scope["answer"](row) for row in frame.to_dicts()]  # type: ignore[operator]

    assert said == ["junk" if value else "fine" for value in y]


def test_its_sql_says_the_same_for_every_row(rule: Rule) -> None:
    frame, y = messages()
    database = sqlite3.connect(":memory:")
    database.execute('CREATE TABLE t ("the message" TEXT)')
    database.executemany("INSERT INTO t VALUES (?)", frame.rows())

    said = [row[0] for row in database.execute(f"SELECT {rule.to_sql()} FROM t")]

    assert said == ["junk" if value else "fine" for value in y]


def test_a_table_with_nothing_to_ask_for_gets_a_rule_without_conditions() -> None:
    frame = pl.DataFrame({"id": [f"x{n}" for n in range(100)]})
    table, other = readable_tables(frame, frame[:3])

    rule = fitted_rule(table, np.arange(100) % 4 == 0, classes=("no", "yes"))

    assert rule.n_conditions == 0
    np.testing.assert_allclose(rule_answers(rule, other), [[0.75, 0.25]] * 3)


@pytest.mark.parametrize("strange", [float("inf"), float("-inf"), float("nan"), 1e39, -1e300])
def test_numbers_without_bounds_do_not_stop_a_rule(strange: float) -> None:
    x = np.arange(200.0)
    x[7] = strange
    frame = pl.DataFrame({"x": x})
    table, _ = readable_tables(frame, frame)

    rule = fitted_rule(table, (np.arange(200) > 99).astype(np.float64), classes=("no", "yes"))

    assert np.isfinite(table.matrix).all()
    assert np.isfinite(table.matrix**2).all()
    assert (rule_answers(rule, table)[:, 1] > 0.5).sum() in (100, 101, 102)
