from __future__ import annotations

import json
import sqlite3

import numpy as np
import polars as pl
import pytest

from loopwright.evaluate import (
    Framing,
    Layout,
    Rule,
    best_threshold,
    fitted_rule,
    framing,
    readable_tables,
    rule_answers,
)
from loopwright.problem import Criterion, class_answers, metric_named

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
        rows(2_300, 1),
        rng.integers(0, 2, size=2_300).astype(float),
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

    frame = rows(2_300, 1)
    criteria = [Criterion(metric="accuracy", at_least=0.95)]
    found = framing(
        frame,
        target(frame),
        classes=("no", "yes"),
        criteria=criteria,
        metrics=[metric_named("accuracy")],
        confidence=0.95,
    )

    assert found.decision == "rule_enough"
    assert found.rule.n_conditions <= 3
    assert "row['region'] == 'south'" in found.rule.to_python()


def test_a_target_no_rule_can_tell_is_worth_a_model() -> None:
    frame = rows(2_300, 1)

    def target(frame: pl.DataFrame) -> np.ndarray:
        return (frame["noise"] * 5 + frame["income"].fill_null(50) + 100).to_numpy()

    found = framing(
        frame,
        target(frame),
        classes=(),
        criteria=[Criterion(metric="mape", at_most=0.005)],
        metrics=[metric_named("mape")],
        confidence=0.95,
    )

    assert found.decision == "ml_worth_it"
    assert found.signal.found


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
        rows(2_300, 1),
        (draw.random(2_300) < 0.25).astype(float),
        classes=("no", "yes"),
        criteria=[criterion],
        metrics=[metric_named("profit_per_case", payoff=payoff)],
        confidence=0.95,
        earnings=metric_named("profit_per_case", payoff=payoff),
        money=np.broadcast_to(np.array([[0.0, -20.0], [-400.0, 160.0]]), (2_300, 2, 2)),
    )

    # always yes earns 0.25 * 160 - 0.75 * 20 = 25 per case; saying no from 0.5 on would lose 100
    constant = next(entrant for entrant in found.entrants if entrant.name == "constant")
    assert constant.figures["profit_per_case"]["value"] > 10
    assert found.decision == "rule_enough"


def test_a_table_in_which_no_column_may_be_used_has_no_signal() -> None:
    y = (np.arange(300) % 3 == 0).astype(np.float64)

    found = framing(
        pl.DataFrame(),
        y,
        classes=("no", "yes"),
        criteria=[],
        metrics=[],
        confidence=0.95,
    )

    assert found.decision == "no_signal"
    assert found.rule.n_conditions == 0


def test_money_is_told_for_every_way_and_held_against_todays_cost() -> None:
    frame = rows(1_200, 1)
    y = (frame["income"].fill_null(71).to_numpy() > 60).astype(float)
    payoff = {"true_positive": 10.0, "false_positive": -1.0}

    found = framing(
        frame,
        y,
        classes=("no", "yes"),
        criteria=[],
        metrics=[],
        confidence=0.95,
        earnings=metric_named("profit_per_case", payoff=payoff),
        money=np.broadcast_to(np.array([[0.0, -1.0], [0.0, 10.0]]), (1_200, 2, 2)),
        cost_per_case=3.0,
        today=("ask everyone", class_answers(np.ones(1_200))),
    )

    by_name = {entrant.name: entrant for entrant in found.entrants}
    share = y.mean()
    assert by_name["rule"].money is not None
    assert by_name["rule"].money.value == pytest.approx(10 * share, rel=0.01)
    # today's yes to everyone earns something too, and is paid for
    assert by_name["today"].against_today == pytest.approx(10 * share - (1 - share))
    assert by_name["rule"].against_today == pytest.approx(10 * share + 3, rel=0.01)
    assert any("beside today's 3 a case" in line for line in found.evidence)


def test_the_simplest_rule_that_meets_the_criteria_is_taken() -> None:
    frame = rows(1_500, 1)

    found = framing(
        frame,
        (frame["region"] == "south").cast(pl.Float64).to_numpy(),
        classes=("no", "yes"),
        criteria=[Criterion(metric="accuracy", at_least=0.95)],
        metrics=[metric_named("accuracy")],
        confidence=0.95,
    )

    assert found.decision == "rule_enough"
    assert found.way == "rule"
    assert found.rule.n_conditions == 1


def test_what_is_true_of_one_group_only_is_no_rule_for_others() -> None:
    rng = np.random.default_rng(8)
    codes = np.repeat(np.arange(40), 30)
    level = rng.normal(size=40)
    frame = pl.DataFrame({"fingerprint": level[codes] + 1e-3 * rng.normal(size=1_200)})
    y = rng.integers(0, 2, 40)[codes].astype(float)

    found = framing(
        frame,
        y,
        classes=("no", "yes"),
        criteria=[Criterion(metric="accuracy", at_least=0.8)],
        metrics=[metric_named("accuracy")],
        confidence=0.95,
        layout=Layout(by="group", codes=codes),
    )

    # row by row, neighbours of the same group would give the answer away
    assert found.decision in ("no_signal", "not_with_this_data")


def test_the_framing_can_be_stored() -> None:
    frame = rows(400, 1)

    found = framing(
        frame,
        frame["noise"].to_numpy(),
        classes=(),
        criteria=[Criterion(metric="mae", at_most=1e-6)],
        metrics=[metric_named("mae")],
        confidence=0.95,
    )

    stored = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert Rule.from_json(stored["rule"]["tree"]).n_conditions == found.rule.n_conditions
    assert stored["decision"] == "not_with_this_data"


def call_all(value: float) -> np.ndarray:
    """Return what 2,300 rows earn: a call costs 5, a leaver called is worth `value`."""
    return np.broadcast_to(np.array([[0.0, -5.0], [0.0, value]]), (2_300, 2, 2))


def leavers(frame: pl.DataFrame) -> np.ndarray:
    """Return who leaves: mostly those of high noise, in a way no single condition tells."""
    score = frame["noise"] + (frame["income"].fill_null(50) - 50) / 10
    return (score.to_numpy() + np.random.default_rng(8).normal(size=frame.height) > 0.8) * 1.0


def found_on_leavers(payoff: dict[str, float] | None) -> Framing:
    frame = rows(2_300, 1)
    earnings = metric_named("profit_per_case", payoff=payoff) if payoff else None
    return framing(
        frame,
        leavers(frame),
        classes=("no", "yes"),
        criteria=[Criterion(metric="recall", at_least=0.0 if payoff is None else 0.3)],
        metrics=[metric_named("recall")],
        confidence=0.95,
        earnings=earnings,
        money=call_all(payoff["true_positive"]) if payoff else None,
    )


def test_a_rule_that_meets_the_criteria_is_not_enough_where_a_model_earns_more() -> None:
    found = found_on_leavers({"true_positive": 10.0, "false_positive": -5.0})

    assert any(e.meets_criteria for e in found.entrants if e.name in ("constant", "rule"))
    assert found.decision == "ml_worth_it"
    assert found.way == ""
    assert "meets every criterion, but a quick model earns" in found.reason
    assert found.advantage.lower > 0


def test_where_one_answer_is_enough_it_is_the_rule_that_is_shown() -> None:
    found = found_on_leavers({"true_positive": 1_000.0, "false_positive": -5.0})

    assert (found.decision, found.way) == ("rule_enough", "constant")
    assert found.rule.n_conditions == 0
    assert found.rule.to_words().startswith("Always: say yes")
    assert "Always: say yes" in found.reason
    assert "a criterion is missing" in found.reason
    assert any("beside the constant" in each for each in found.evidence)


def test_what_more_rows_bring_a_quick_model_is_kept_where_there_is_something_to_learn() -> None:
    found = found_on_leavers({"true_positive": 10.0, "false_positive": -5.0})

    assert found.learning is not None
    assert found.learning.metric == "recall"
    sizes = [point.n_rows for point in found.learning.points]
    assert sizes == sorted(sizes)
    assert found.to_json()["learning"]["points"][0]["n_rows"] == sizes[0]
