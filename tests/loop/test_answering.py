"""How candidates answer is chosen on validation rows, and slices hold for the rows they say."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.evaluate import EvaluatePlan, check_evaluate
from loopwright.loop.answering import answering, units_of_rows
from loopwright.loop.candidate import Candidate, outcome_of
from loopwright.loop.file import LoopFile
from loopwright.loop.slices import checked_slices, slice_masks
from loopwright.loop.sourcing import Target

BINARY = Target(column="left", task="binary", classes=("no", "yes"), reason="", n_null=0)
PRICE = Target(column="price", task="regression", reason="", n_null=0)


def loop(*, split: dict[str, Any] | None = None, **problem: Any) -> LoopFile:
    return msgspec.convert(
        {
            "name": "a",
            "problem": {"target": "left", **problem},
            "data": {"source": {"kind": "file", "path": "x.csv"}, "split": split or {}},
        },
        LoopFile,
    )


def too_sure(n: int = 2_000) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    score = rng.normal(size=n)
    y = (rng.random(n) < 1 / (1 + np.exp(-score))).astype(float)
    return y, 1 / (1 + np.exp(-3 * score))


def candidate(found: Any) -> Candidate:
    return Candidate(
        algorithm="lightgbm",
        window="all",
        attempt=1,
        members={},
        best_iteration=None,
        fit_s=0.0,
        score=0.0,
        meets=True,
        missed=(),
        figures={},
        threshold=found.threshold,
        how=found.how,
    )


def test_the_threshold_is_chosen_among_repaired_probabilities() -> None:
    y, raw = too_sure()
    payoff = {"true_positive": 1.0, "false_positive": -3.0}

    found = answering(loop(payoff=payoff), BINARY, y, raw)

    # acting pays from a probability of 3 / 4 on, which the raw numbers reach far too often
    assert found.threshold == pytest.approx(0.75, abs=0.06)
    assert found.how["calibration"] is not None
    assert found.how["threshold_by"] == "payoff"


def test_a_candidate_and_its_model_answer_alike_after_a_stay_in_the_store() -> None:
    y, raw = too_sure()
    found = answering(loop(threshold=0.7), BINARY, y, raw)

    kept = Candidate.from_json(msgspec.json.decode(msgspec.json.encode(candidate(found).to_json())))
    outcome = outcome_of(BINARY, kept)

    assert outcome.threshold == 0.7
    assert outcome.calibration is not None
    assert np.abs(outcome.calibrated(raw) - found.answers.probability()).max() < 0.1


def test_a_candidate_of_before_answers_as_it_did() -> None:
    value = candidate(answering(loop(), BINARY, *too_sure())).to_json()
    del value["how"]

    outcome = outcome_of(BINARY, Candidate.from_json(value))

    assert (outcome.calibration, outcome.interval) == (None, None)


def test_the_shares_of_a_rule_are_left_as_people_read_them() -> None:
    y, raw = too_sure()

    found = answering(loop(), BINARY, y, raw, repairs=False)

    assert found.how["calibration"] is None
    assert np.array_equal(found.answers.probability(), raw)


def test_a_regression_gets_intervals_at_the_confidence_of_the_file() -> None:
    rng = np.random.default_rng(1)
    said = rng.uniform(1, 2, 500)
    plan = msgspec.structs.replace(loop(), evaluate=EvaluatePlan(interval=0.8))

    outcome = outcome_of(
        PRICE, candidate(answering(plan, PRICE, said + rng.normal(0, 0.1, 500), said))
    )

    assert outcome.interval is not None
    assert outcome.interval.confidence == 0.8


def test_rows_are_drawn_as_they_are_split() -> None:
    rows = pl.DataFrame({"customer": ["a", "a", "b"], "left": ["no", "no", "yes"]})

    grouped = units_of_rows(loop(split={"by": "group", "column": "customer"}), rows)

    assert grouped is not None
    assert grouped.tolist() == [0, 0, 1]
    assert units_of_rows(loop(), rows) is None


def test_slices_hold_for_the_rows_they_say_and_not_where_a_value_is_missing() -> None:
    frame = pl.DataFrame({"tenure": [1, 20, None], "Contract": ["Month", "Year", "Month"]})
    plan = EvaluatePlan(slices={"new": "tenure < 12", "monthly": 'Contract == "Month"'})

    found = slice_masks(plan, frame)

    assert found["new"][1].tolist() == [True, False, False]
    assert found["monthly"][1].tolist() == [True, False, True]
    assert slice_masks(None, frame) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tenur < 12", "tenure"),
        ("tenure <", "evaluate.slices.new"),
        ("tenure + 1", "holds for no rows in particular"),
        ("days_between(since, today()) < 3", "today"),
    ],
)
def test_a_slice_that_cannot_be_read_is_refused_with_its_key(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        checked_slices(EvaluatePlan(slices={"new": text}), ["tenure", "since"])

    assert caught.value.facts["field"] == "evaluate.slices.new"


@pytest.mark.parametrize(
    "plan",
    [
        EvaluatePlan(margin=5),
        EvaluatePlan(interval=90),
        EvaluatePlan(slices={" ": "a < 1"}),
        EvaluatePlan(slices={str(k): "a < 1" for k in range(51)}),
    ],
)
def test_numbers_and_names_out_of_range_are_refused(plan: EvaluatePlan) -> None:
    with pytest.raises(InvalidInputError, match="evaluate"):
        check_evaluate(plan)
