from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.loop.retrain_plan import (
    Occasion,
    RetrainBudget,
    RetrainLimits,
    RetrainPlan,
    check_retrain,
)
from loopwright.loop.trigger import Seen, Triaged, gate_of, policy_of, triaged

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def found(
    plan: RetrainPlan, verdict: str, n_labelled: int = 1_000, *, days: float = 1, labels: str = ""
) -> Triaged:
    seen = Seen(verdict=verdict, reason="Evidence.", n_labelled=n_labelled, labels_differ=labels)
    return triaged(policy_of(plan), seen, now=NOW, last_round_at=NOW - timedelta(days=days))


@pytest.mark.parametrize("verdict", ["criterion_missed", "drift"])
def test_a_harm_that_the_file_lists_calls_for_a_round(verdict: str) -> None:
    triage = found(RetrainPlan(), verdict)

    assert (triage.act, triage.cause) == ("retrain", verdict)
    assert gate_of(triage.cause) == "non_inferiority"


@pytest.mark.parametrize("verdict", ["ok", "watch"])
def test_drift_without_harm_calls_for_nothing(verdict: str) -> None:
    assert found(RetrainPlan(), verdict).act == "nothing"


@pytest.mark.parametrize(("bad_data", "act"), [("hold", "hold"), ("wait", "wait")])
def test_faulty_data_are_never_learnt_from(bad_data: str, act: str) -> None:
    when = ("criterion_missed", "drift", Occasion(rows=1), Occasion(every="1 s"))

    triage = found(RetrainPlan(when=when, bad_data=bad_data), "data_quality")  # type: ignore[arg-type]

    assert triage.act == act
    assert "Mend the data first" in triage.reason


def test_a_cause_that_is_not_listed_calls_for_nothing_and_says_so() -> None:
    triage = found(RetrainPlan(when=("drift",)), "criterion_missed")

    assert triage.act == "nothing"
    assert "does not list criterion_missed" in triage.reason


def test_an_estimated_miss_counts_only_where_the_file_lists_it() -> None:
    listed = RetrainPlan(when=("estimated_miss",))

    assert found(listed, "estimated_miss").cause == "estimated_miss"
    assert found(RetrainPlan(), "estimated_miss").act == "nothing"


def test_enough_new_rows_call_for_a_round_only_where_asked() -> None:
    asked = RetrainPlan(when=(Occasion(rows=800),))

    assert found(asked, "ok").cause == "rows"
    assert found(asked, "ok", 799).act == "nothing"
    assert found(RetrainPlan(), "ok").act == "nothing"
    assert gate_of("rows") == "superiority"


@pytest.mark.parametrize(
    ("n_rows", "n_learnt", "cause"), [(1_000, 5_000, "rows"), (999, 5_000, ""), (1_000, None, "")]
)
def test_a_fifth_more_rows_than_the_champion_learnt_from_call_for_a_round_by_default(
    n_rows: int, n_learnt: int | None, cause: str
) -> None:
    seen = Seen(verdict="ok", reason="Evidence.", n_labelled=n_rows, n_learnt=n_learnt)

    triage = triaged(policy_of(RetrainPlan()), seen, now=NOW, last_round_at=NOW)

    assert triage.cause == cause
    assert not cause or triage.reason.endswith("the champion learnt from 5,000.")


@pytest.mark.parametrize(("days", "cause"), [(29.9, ""), (30, "schedule")])
def test_a_schedule_calls_for_a_round_after_its_time(days: float, cause: str) -> None:
    plan = RetrainPlan(when=(Occasion(every="30 days"),))

    assert found(plan, "ok", days=days).cause == cause


def test_labels_that_speak_for_some_rows_only_make_a_cause_wait() -> None:
    triage = found(RetrainPlan(), "drift", labels="the labelled rows differ from the others.")

    assert triage.act == "wait"
    assert triage.reason.endswith("But the labelled rows differ from the others.")


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: Occasion(), "exactly one of"),
        (lambda: Occasion(rows=1, every="1 day"), "exactly one of"),
        (lambda: Occasion(growth=0.0), "a growth of 0"),
        (lambda: Occasion(rows=0), "asks for 0 rows"),
        (lambda: Occasion(every="0 s"), "every '0 s'"),
        (lambda: check_retrain(RetrainPlan(cooldown="soon")), "not a duration"),
        (lambda: check_retrain(RetrainPlan(budget=RetrainBudget(money=0))), "budget.money is 0"),
        (lambda: check_retrain(RetrainPlan(windows=("recent",))), "retrain.windows"),
        (
            lambda: check_retrain(RetrainPlan(most=RetrainLimits(per_day=7))),
            "7 rounds a day and only 6 a week",
        ),
    ],
)
def test_a_block_that_cannot_be_meant_is_refused(made: object, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        made()  # type: ignore[operator]
