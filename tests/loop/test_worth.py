from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.loop.sourcing import Target
from loopwright.loop.worth import can_be_counted, checked_payoff_columns, checked_worth, row_money
from loopwright.problem import Problem, checked_problem, class_answers, metric_named

BINARY = Target(column="churned", task="binary", reason="", n_null=0, classes=("no", "yes"))
KINDS = Target(column="kind", task="multiclass", reason="", n_null=0, classes=("cat", "cow", "dog"))
ROWS = pl.DataFrame(
    {"yearly_value": [100, 10, 40], "city": ["a", "b", "a"], "churned": ["yes", "no", "yes"]}
)
PAYOFF: dict[str, Any] = {
    "true_positive": "0.5 * yearly_value - 20",
    "false_positive": -20,
    "false_negative": "-0.5 * yearly_value",
}


def churn(**payoff: Any) -> Problem:
    return Problem(target="churned", task="binary", payoff=PAYOFF | payoff)


def test_each_customer_is_worth_what_their_own_row_says() -> None:
    money = row_money(churn(), BINARY, ROWS)

    assert money is not None
    # lines are the true class, columns the class said
    np.testing.assert_array_equal(money[0], [[0, -20], [-50, 30]])
    np.testing.assert_array_equal(money[2], [[0, -20], [-20, 0]])


def test_the_profit_of_answers_counts_each_rows_own_money() -> None:
    y = np.array([1.0, 0.0, 1.0])
    answers = class_answers([0.9, 0.9, 0.1], money=row_money(churn(), BINARY, ROWS))

    profit = metric_named("profit_per_case", payoff=PAYOFF)

    # caught 30, false alarm -20, missed -20
    assert profit.resampled(y, answers, np.ones((1, 3)))[0] == pytest.approx(-10 / 3)


def test_plain_numbers_of_two_classes_need_no_table_of_rows() -> None:
    problem = Problem(target="churned", payoff={"true_positive": 160, "false_positive": -20})

    assert row_money(problem, BINARY, ROWS) is None


def test_a_matrix_of_costs_counts_the_class_said_for_the_class_that_is_true() -> None:
    problem = Problem(
        target="kind",
        task="multiclass",
        payoff={"cat": {"cat": 1, "dog": -5}, "cow": {"cow": 2}, "dog": {"dog": 1, "cat": -1}},
    )
    checked_problem(problem, task="multiclass")
    y = np.array([0.0, 0.0, 1.0, 2.0])
    said = class_answers(np.eye(3)[[0, 2, 1, 0]], money=row_money(problem, KINDS, _kinds(4)))

    profit = metric_named("profit_per_case", payoff=problem.payoff)

    assert profit.resampled(y, said, np.ones((1, 4)))[0] == (1 - 5 + 2 - 1) / 4


def _kinds(n: int) -> pl.DataFrame:
    return pl.DataFrame({"kind": ["cat"] * n})


@pytest.mark.parametrize(
    ("payoff", "message"),
    [
        ({"true_positive": "0.5 * yearly_vale"}, "no column 'yearly_vale'"),
        ({"true_positive": "0.5 *"}, "cannot be read"),
        ({"true_positive": "days_between(today(), today())"}, "tomorrow"),
        ({"true_positive": "if(churned == 'yes', 1, 2)"}, "no column 'churned'"),
    ],
)
def test_a_payoff_that_cannot_be_computed_is_refused_with_its_key(
    payoff: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        checked_payoff_columns(churn(**payoff), BINARY, ROWS.columns)

    assert caught.value.facts["field"] == "problem.payoff.true_positive"


def test_a_class_the_target_does_not_have_is_refused() -> None:
    problem = Problem(target="kind", payoff={"cat": {"cat": 1}, "dgo": {"dog": 1}})

    with pytest.raises(InvalidInputError, match="Did you mean 'dog'"):
        checked_payoff_columns(problem, KINDS, ["kind"])


def test_rows_without_a_value_are_told_before_training() -> None:
    rows = ROWS.with_columns(yearly_value=pl.Series([100, None, 40]))

    with pytest.raises(InvalidInputError, match=r"1 of 3 rows.*missing"):
        checked_worth(churn(), BINARY, rows.lazy())
    checked_worth(churn(), BINARY, ROWS.lazy())


def test_signs_that_are_wrong_on_average_are_told_before_training() -> None:
    with pytest.raises(InvalidInputError, match="wrong sign: naming a positive"):
        checked_worth(churn(true_positive="-0.9 * yearly_value"), BINARY, ROWS.lazy())


def test_an_amount_that_is_no_number_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="gives a text, not money"):
        checked_worth(churn(true_positive="city"), BINARY, ROWS.lazy())


def test_live_rows_without_the_column_cannot_be_counted() -> None:
    assert can_be_counted(churn(), ["yearly_value"])
    assert not can_be_counted(churn(), ["city"])
    assert can_be_counted(Problem(target="churned"), [])
