from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from loopwright.loop.feedback import begin, step
from loopwright.loop.feedback_state import Begun, Configured, Ended, Failed, Looked, LoopState
from loopwright.loop.guard import (
    MOST_BACKOFF,
    barred,
    in_present,
    rest_s,
    with_begun,
    with_fault,
    with_spent,
)
from loopwright.loop.retrain_plan import RetrainBudget, RetrainLimits, RetrainPlan
from loopwright.loop.trigger import Policy, Seen, policy_of

NOW = datetime(2026, 5, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def state(**changes: Any) -> LoopState:
    policy = changes.pop("policy", Policy())
    first = msgspec.structs.replace(begin("churn", NOW), champion="v1", round=1, policy=policy)
    return msgspec.structs.replace(first, **changes)


def guard(found: LoopState, *, at: datetime = NOW, n: int = 1_000) -> str:
    bar = barred(found, now=at, n_labelled=n)
    return bar.guard if bar else ""


def test_nothing_bars_a_round_that_is_within_all_limits() -> None:
    assert guard(state()) == ""


@pytest.mark.parametrize(("n", "wanted"), [(499, "rows"), (500, "")])
def test_a_round_needs_rows_to_learn_from(n: int, wanted: str) -> None:
    assert guard(state(), n=n) == wanted


def test_the_block_never_asks_for_fewer_rows_than_can_judge() -> None:
    assert policy_of(RetrainPlan(min_rows=10)).min_rows == 250


@pytest.mark.parametrize(
    ("begun", "wanted"),
    [
        ([DAY * 1.01, HOUR], ""),
        ([HOUR, HOUR], "per_day"),
        ([DAY * 2, DAY * 3, DAY * 4], "per_week"),
        ([DAY * 2, DAY * 3, DAY * 7], ""),
    ],
)
def test_so_many_rounds_a_day_and_a_week_and_no_more(begun: list[timedelta], wanted: str) -> None:
    plan = RetrainPlan(most=RetrainLimits(per_day=2, per_week=3))
    found = state(policy=policy_of(plan))
    for ago in sorted(begun, reverse=True):
        found = with_begun(found, NOW - ago)

    assert guard(found) == wanted


@pytest.mark.parametrize(
    ("budget", "wanted"),
    [
        (RetrainBudget(minutes=30), "budget_minutes"),
        (RetrainBudget(minutes=31), ""),
        (RetrainBudget(money=4.5), "budget_money"),
        (RetrainBudget(minutes=30, per="1 day"), ""),
    ],
)
def test_a_budget_of_minutes_or_money_holds_over_its_period(
    budget: RetrainBudget, wanted: str
) -> None:
    found = state(policy=policy_of(RetrainPlan(budget=budget)))
    for number in (2, 3):
        running = msgspec.structs.replace(found, round=number)
        found = with_spent(running, NOW - number * DAY, minutes=15, money=2.25)

    assert guard(found) == wanted


def test_a_round_that_is_tried_again_is_paid_for_once() -> None:
    found = state(policy=policy_of(RetrainPlan(budget=RetrainBudget(minutes=20))))
    first = with_spent(found, NOW, minutes=8, money=1)
    again = with_spent(first, NOW + HOUR, minutes=15, money=2)

    assert [(each.round, each.minutes) for each in again.spent] == [(1, 15)]
    assert guard(again, at=NOW + HOUR) == ""


def test_a_rest_doubles_with_what_goes_wrong_and_has_an_end() -> None:
    rests = [rest_s(state(n_refused=n)) / 86_400 for n in range(9)]

    assert rests == [1, 1, 2, 4, 8, 16, 16, 16, 16]
    assert max(rests) == MOST_BACKOFF


@pytest.mark.parametrize(
    ("n_since", "state"), [(None, "retraining"), (499, "triage"), (500, "retraining")]
)
def test_a_harm_is_learnt_from_rows_since_it_began(n_since: int | None, state: str) -> None:
    found = begin("churn", NOW)
    seen = Seen(verdict="drift", reason="It grew.", n_labelled=9_000, n_since=n_since)
    for event in (
        Begun(number=1, cause="first run", reason=""),
        Ended(number=1, outcome="live", version="v1"),
        Looked(seen=seen),
    ):
        found, _ = step(found, event, NOW + timedelta(days=9))

    assert found.state == state


def test_a_round_that_used_the_budget_up_makes_the_next_one_wait_for_it() -> None:
    policy = policy_of(RetrainPlan(cooldown="1 hour", budget=RetrainBudget(minutes=10)))
    seen = Looked(seen=Seen(verdict="drift", reason="It grew.", n_labelled=900))
    found = begin("churn", NOW)
    for event in (
        Configured(policy=policy),
        Begun(number=1, cause="first run", reason=""),
        Ended(number=1, outcome="live", version="v1", minutes=99),
        seen,
        Failed(number=2, error="broke", minutes=6),
        Failed(number=2, error="broke", minutes=12),
    ):
        found, _ = step(found, event, NOW)

    early, _ = step(found, seen, NOW + 2 * HOUR)
    late, _ = step(early, seen, NOW + 31 * DAY)

    assert (early.state, early.waits_for) == ("triage", "budget_minutes")
    assert "used 12 minutes of late, and retrain.budget.minutes is 10" in early.reason
    assert late.state == "retraining"


def test_a_clock_that_is_put_back_shortens_no_rest_and_makes_none_endless() -> None:
    ahead = NOW + 365 * DAY
    found = state(
        at=ahead, since=ahead, own_ended_at=ahead, rest_until=ahead + DAY, retrained=(ahead, ahead)
    )

    present = in_present(found, NOW)

    assert present.rest_until == NOW + DAY
    assert present.retrained == (NOW, NOW)
    assert guard(present, at=NOW + DAY - HOUR) == "cooldown"
    assert guard(present, at=NOW + DAY + HOUR) == ""
    slightly = state(at=NOW, own_ended_at=NOW, rest_until=NOW + HOUR)
    assert in_present(slightly, NOW - 2 * HOUR).rest_until == NOW - HOUR


def test_times_of_faults_are_kept_in_order_and_bounded() -> None:
    found, now = state(), NOW
    for _ in range(150):
        found = with_fault(found, fault="missing:age", reason="", now=now)
        found = with_fault(found, fault="missing:age", reason="", now=now + HOUR)
        found = with_fault(found, fault="", reason="sound", now=now + 2 * HOUR)
        now += DAY

    assert len(found.faulty) == 100
    assert found.faulty[-1].until - found.faulty[-1].since == 2 * HOUR
    assert found.faulty_since is None


def test_no_time_of_faulty_data_is_ever_forgotten_however_many_there_were() -> None:
    found, times = state(), []
    for hour in range(0, 600, 2):
        at = NOW + hour * HOUR + (hour // 100) * 5 * DAY
        found = with_fault(found, fault="age", reason="age is missing", now=at)
        found = with_fault(found, fault="", reason="age is missing", now=at + HOUR)
        times.append(at + HOUR / 2)

    assert len(found.faulty) == 100
    assert all(any(p.since <= at <= p.until for p in found.faulty) for at in times)
    # gaps of days between bouts of faults are learnt from still
    spans = sorted(p.until - p.since for p in found.faulty)
    assert spans[-1] < 5 * DAY
