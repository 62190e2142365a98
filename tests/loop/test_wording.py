from __future__ import annotations

import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.loop.wording import EXAMPLES, criterion_said
from loopwright.problem import checked_problem
from loopwright.problem.problem import Problem


@pytest.mark.parametrize(
    ("task", "said", "criterion"),
    [
        (
            "regression",
            "within 5 % of the price for 30 % of the houses",
            "share_within_5_percent at least 0.3",
        ),
        (
            "regression",
            "At least 62.5 percent of them within 10%.",
            "share_within_10_percent at least 0.625",
        ),
        ("regression", "on average at most 15 % off", "mape at most 0.15"),
        ("regression", "no more than 12% off", "mape at most 0.12"),
        ("regression", "on average at most 20,000 off", "mae at most 20000"),
        ("regression", "mape <= 0.15", "mape at most 0.15"),
        ("regression", "r2 at least 0.75", "r2 at least 0.75"),
        ("regression", "mape <= 15%", "mape at most 0.15"),
        ("binary", "find at least 80 % of them", "recall at least 0.8"),
        ("binary", "right in 70 % of those named", "precision at least 0.7"),
        ("binary", "of those flagged, 70% are real", "precision at least 0.7"),
        ("binary", "right in 90 % of the cases", "accuracy at least 0.9"),
        ("binary", "earn at least 5 per case", "profit_per_case at least 5"),
        (
            "binary",
            "a profit of 2,500 per thousand cases",
            "expected_profit_per_thousand at least 2500",
        ),
        ("binary", "top 10 % hold 3 times the average", "lift_in_top_decile at least 3"),
        ("binary", "roc_auc ≥ 0.8", "roc_auc at least 0.8"),
        ("multiclass", "right in 90 % of the cases", "accuracy at least 0.9"),
        ("multiclass", "among the top 3 in 95 % of the cases", "top_3_accuracy at least 0.95"),
    ],
)
def test_a_sentence_becomes_the_criterion_it_means(task: str, said: str, criterion: str) -> None:
    assert str(criterion_said(said, task=task)) == criterion


@pytest.mark.parametrize(("task", "said"), [(t, s) for t, all_ in EXAMPLES.items() for s in all_])
def test_every_example_that_is_shown_is_understood_and_fits(task: str, said: str) -> None:
    problem = Problem(
        target="y",
        criteria=(criterion_said(said, task=task),),
        payoff={"true_positive": 1.0} if task == "binary" else None,
    )

    assert checked_problem(problem, task=task)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("as good as possible", "no measure of success that is understood"),
        ("mappe <= 0.2", "no metric 'mappe'"),
        ("", "no measure of success"),
    ],
)
def test_what_is_not_understood_is_answered_with_examples(said: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        criterion_said(said, task="regression")

    assert caught.value.hint
