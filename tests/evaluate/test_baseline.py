from __future__ import annotations

import sqlite3

import numpy as np
import polars as pl
import pytest

from loopwright.evaluate import best_threshold, fitted_rule, framing, readable_tables, rule_answers
from loopwright.problem import Criterion, metric_named

rng = np.random.default_rng(4)


def rows(n: int, seed: int) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "income": draw.normal(50, 10, size=n),
            "region": draw.choice(["north", "south", "o'east"], size=n),
            "noise": draw.normal(size=n),
        }
    ).with_columns(pl.when(pl.col("income") > 70).then(None).otherwise("income").alias("income"))


def test_a_shuffled_target_has_no_signal() -> None:
    found = framing(
        rows(1_500, 1),
        rows(800, 2),
        y_train=rng.integers(0, 2, size=1_500).astype(float),
        y_validation=rng.integers(0, 2, size=800).astype(float),
        classes=("no", "yes"),
        criteria=[],
        metrics=[],
        confidence=0.95,
    )

    assert found.decision == "no_signal"
    assert "do not tell the target" in found.reason


def test_a_target_made_by_two_conditions_needs_a_rule_only() -> None:
    def target(frame: pl.DataFrame) -> np.ndarray:
        return (
            ((pl.col("income").fill_null(50) > 45) & (pl.col("region") == "south"))
            .cast(pl.Float64)
            .pipe(lambda e: frame.select(e).to_series().to_numpy())
        )

    train, validation = rows(1_500, 1), rows(800, 2)
    criteria = [Criterion(metric="accuracy", at_least=0.95)]
    found = framing(
        train,
        validation,
        y_train=target(train),
        y_validation=target(validation),
        classes=("no", "yes"),
        criteria=criteria,
        metrics=[metric_named("accuracy")],
        confidence=0.95,
    )

    assert found.decision == "rule_enough"
    assert found.rule.n_conditions <= 3
    assert "row['region'] == 'south'" in found.rule.to_python()


def test_a_target_no_rule_can_tell_is_worth_a_model() -> None:
    train, validation = rows(1_500, 1), rows(800, 2)

    def target(frame: pl.DataFrame) -> np.ndarray:
        return (frame["noise"] * 5 + frame["income"].fill_null(50) + 100).to_numpy()

    found = framing(
        train,
        validation,
        y_train=target(train),
        y_validation=target(validation),
        classes=(),
        criteria=[Criterion(metric="mape", at_most=0.005)],
        metrics=[metric_named("mape")],
        confidence=0.95,
    )

    assert found.decision == "ml_worth_it"
    assert found.signal.is_better


@pytest.mark.parametrize("classes", [(), ("low", "mid", "high")])
def test_a_rule_says_the_same_as_python_and_as_sql(classes: tuple[str, ...]) -> None:
    frame = rows(400, 3)
    score = frame["income"].fill_null(50).to_numpy() + 20 * (frame["region"] == "o'east").to_numpy()
    y = np.digitize(score, [50, 65]).astype(float) if classes else score
    ours, _ = readable_tables(frame, frame)
    rule = fitted_rule(ours, y, classes=classes)

    said = rule_answers(rule, ours)
    scope: dict[str, object] = {}
    exec(rule.to_python(), scope)  # noqa: S102 the text is what is tested
    python = [scope["answer"](row) for row in frame.iter_rows(named=True)]  # type: ignore[operator]
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE t (n INTEGER, income REAL, region TEXT, noise REAL)")
    database.executemany(
        "INSERT INTO t VALUES (?, ?, ?, ?)", [(n, *row) for n, row in enumerate(frame.iter_rows())]
    )
    sql = [row[0] for row in database.execute(f"SELECT {rule.to_sql()} FROM t ORDER BY n")]
    database.close()

    if classes:
        expected = [classes[index] for index in said.argmax(axis=1)]
        assert python == expected
        assert sql == expected
    else:
        assert python == pytest.approx(said, rel=1e-5)
        assert sql == pytest.approx(said, rel=1e-5)


def test_the_best_threshold_earns_the_most() -> None:
    y = np.array([0, 0, 0, 1, 0, 1, 1, 1], dtype=float)
    probability = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9])
    payoff = {"true_positive": 10.0, "false_positive": -1.0}

    found = best_threshold(metric_named("profit_per_case", payoff=payoff), y, probability)

    # saying yes from 0.3 on finds all four at the price of one false alarm
    assert 0.2 < found < 0.3


def test_where_money_decides_a_simple_way_says_yes_from_where_it_earns() -> None:
    draw = np.random.default_rng(6)
    payoff = {"true_positive": 160.0, "false_positive": -20.0, "false_negative": -400.0}
    criterion = Criterion(metric="profit_per_case", at_least=0.0)

    found = framing(
        rows(1_500, 1),
        rows(800, 2),
        y_train=(draw.random(1_500) < 0.25).astype(float),
        y_validation=(draw.random(800) < 0.25).astype(float),
        classes=("no", "yes"),
        criteria=[criterion],
        metrics=[metric_named("profit_per_case", payoff=payoff)],
        confidence=0.95,
    )

    # always yes earns 0.25 * 160 - 0.75 * 20 = 25 per case; saying no from 0.5 on would lose 100
    constant = next(entrant for entrant in found.entrants if entrant.name == "constant")
    assert constant.figures["profit_per_case"]["value"] > 10
    assert found.decision == "rule_enough"


def test_a_table_in_which_no_column_may_be_used_has_no_signal() -> None:
    y = (np.arange(300) % 3 == 0).astype(np.float64)

    found = framing(
        pl.DataFrame(),
        pl.DataFrame(),
        y_train=y[:200],
        y_validation=y[200:],
        classes=("no", "yes"),
        criteria=[],
        metrics=[],
        confidence=0.95,
    )

    assert found.decision == "no_signal"
    assert found.rule.n_conditions == 0
