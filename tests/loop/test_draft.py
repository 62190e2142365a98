from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from loopwright.core.errors import AlreadyExistsError, InvalidInputError
from loopwright.loop.draft import Told, draft_data, drafted_file
from loopwright.loop.file import read_loop_file
from loopwright.loop.proposal import Proposal
from loopwright.problem import Constraints, FairnessLimit, Person

rng = np.random.default_rng(1)
N = 600


def customers(n: int = N, **columns: Any) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "age": rng.integers(18, 90, size=n),
            "yearly_value": rng.lognormal(4, 1, size=n).round(2),
            "gender": rng.choice(["f", "m"], size=n),
            "spent": rng.normal(100, 20, size=n).round(2),
            "churned": rng.choice(["no", "yes"], size=n, p=[0.8, 0.2]),
            **columns,
        }
    )


def written(folder: Path, frame: pl.DataFrame) -> str:
    path = folder / "customers.csv"
    frame.write_csv(path)
    return str(path)


def proposal_for(folder: Path, frame: pl.DataFrame, **told: Any) -> Proposal:
    with draft_data(written(folder, frame), folder=folder) as data:
        return data.proposal(Told(**told))


def test_all_that_was_said_stands_in_a_file_that_is_valid(tmp_path: Path) -> None:
    told = Told(
        target="churned",
        question="Who leaves: and why not?",
        action="A call with an offer",
        today="Everyone gets a letter",
        cost_per_case=1.5,
        success=("find at least 60 % of them", "earn at least 2 per case"),
        confidence=0.9,
        payoff={"true_positive": "0.5 * yearly_value - 20", "false_positive": -2.0},
        constraints=Constraints(
            latency_ms=20.0,
            personal_data=False,
            fairness=(FairnessLimit(column="gender", metric="recall", at_most_gap=0.1),),
        ),
        people=(Person(name="Bo Chen", role="head of sales"), "Ann"),
        approve="manual",
    )

    with draft_data(written(tmp_path, customers()), folder=tmp_path) as data:
        path = drafted_file(tmp_path / "loop.yaml", data, told)

    problem = (loop := read_loop_file(path).content).problem
    assert problem.question == "Who leaves: and why not?"
    assert problem.today is not None
    assert problem.today.cost_per_case == 1.5
    assert [str(each) for each in problem.criteria] == [
        "recall at least 0.6",
        "profit_per_case at least 2",
    ]
    assert problem.payoff == told.payoff
    assert problem.constraints == told.constraints
    assert [str(person) for person in problem.people] == ["Bo Chen (head of sales)", "Ann"]
    assert (problem.confidence, problem.positive) == (0.9, "yes")
    assert loop.deploy is not None
    assert loop.deploy.approve == "manual"
    # the models of later rounds as well
    assert loop.retrain.approve == "manual"


def test_nothing_is_written_where_what_was_said_does_not_fit(tmp_path: Path) -> None:
    source = written(tmp_path, customers())
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"success": ("find at least 140 % of them",)}, "no answers can have recall"),
        ({"payoff": {"false_positive": 20.0}}, "wrong sign"),
        ({"payoff": {"true_positive": "yearly_vale"}}, "no column 'yearly_vale'"),
        (
            {
                "constraints": Constraints(
                    fairness=(FairnessLimit(column="sex", metric="recall", at_most_gap=0.1),)
                )
            },
            "'sex', which is not a column",
        ),
    ]

    for said, message in wrong:
        with (
            draft_data(source, folder=tmp_path) as data,
            pytest.raises(InvalidInputError, match=message),
        ):
            drafted_file(tmp_path / "loop.yaml", data, Told(target="churned", **said))

    assert not (tmp_path / "loop.yaml").exists()


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "loop.yaml"
    path.write_text("mine")

    with (
        draft_data(written(tmp_path, customers()), folder=tmp_path) as data,
        pytest.raises(AlreadyExistsError),
    ):
        drafted_file(path, data, Told(target="churned"))

    assert path.read_text() == "mine"


def test_enough_rows_are_for_boosted_trees_and_few_for_a_straight_model(tmp_path: Path) -> None:
    many = proposal_for(tmp_path, customers(), target="churned")
    few = proposal_for(tmp_path, customers(120), target="spent")
    few_classes = proposal_for(tmp_path, customers(120), target="churned")

    assert (many.task, many.approach) == ("binary", "boosted trees")
    assert "600 rows" in many.why
    assert (few.task, few.approach) == ("regression", "linear regression")
    assert few_classes.approach == "logistic regression"


def test_a_question_that_asks_why_is_for_a_model_that_can_be_read(tmp_path: Path) -> None:
    asked = proposal_for(tmp_path, customers(), target="churned", question="Why do they leave?")
    must = proposal_for(
        tmp_path, customers(), target="churned", constraints=Constraints(explainable=True)
    )

    assert asked.approach == must.approach == "tree"
    assert "'why'" in asked.why
    assert must.algorithms == ("linear-learner", "decision-tree")


def test_a_question_about_the_future_over_dated_rows_is_a_forecast(tmp_path: Path) -> None:
    days = [date(2025, 1, 1) + timedelta(days=day) for day in range(N)]
    frame = customers(day=days)

    found = proposal_for(tmp_path, frame, target="spent", question="What is spent next week?")
    plain = proposal_for(tmp_path, frame, target="spent", question="What is spent?")

    assert (found.approach, found.split_by, found.split_column) == ("forecast", "time", "day")
    assert "'next week'" in found.why
    assert plain.approach == "boosted trees"
    with draft_data(written(tmp_path, frame), folder=tmp_path) as data:
        told = Told(target="spent", question="What is spent next week?")
        loop = read_loop_file(drafted_file(tmp_path / "loop.yaml", data, told)).content
    assert (loop.data.split.by, loop.data.split.column) == ("time", "day")


def test_sentences_among_the_columns_are_for_text_features(tmp_path: Path) -> None:
    said = [f"the delivery number {at} came far too late again" for at in range(N)]

    found = proposal_for(tmp_path, customers(message=said), target="churned")

    assert found.approach == "text"
    assert "'message'" in found.why


def test_the_columns_are_shown_with_their_types(tmp_path: Path) -> None:
    with draft_data(written(tmp_path, customers()), folder=tmp_path) as data:
        columns = {name: (dtype, n) for name, dtype, n in data.columns()}

    assert columns["gender"] == ("String", 2)
    assert columns["churned"][1] == 2
