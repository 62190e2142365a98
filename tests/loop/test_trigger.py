from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from loopwright.loop import RetrainPlan, Seen, decide
from loopwright.loop.file import RowsTrigger

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def seen(verdict: str, n_labelled: int = 1_000) -> Seen:
    return Seen(verdict=verdict, reason="Evidence.", n_labelled=n_labelled)


@pytest.mark.parametrize("verdict", ["criterion_missed", "drift"])
def test_a_harm_that_the_file_lists_starts_a_round(verdict: str) -> None:
    trigger = decide(RetrainPlan(), seen(verdict), now=NOW, last_own_round_at=None)

    assert trigger.starts
    assert trigger.cause == verdict


@pytest.mark.parametrize("verdict", ["ok", "watch"])
def test_drift_without_harm_starts_nothing(verdict: str) -> None:
    assert not decide(RetrainPlan(), seen(verdict), now=NOW, last_own_round_at=None).starts


def test_faulty_data_are_never_learnt_from() -> None:
    plan = RetrainPlan(when=("criterion_missed", "drift", RowsTrigger(rows=1)))

    trigger = decide(plan, seen("data_quality"), now=NOW, last_own_round_at=None)

    assert not trigger.starts
    assert "Mend the data first" in trigger.reason


def test_a_cause_that_is_not_listed_starts_nothing_and_says_so() -> None:
    plan = RetrainPlan(when=("drift",))

    trigger = decide(plan, seen("criterion_missed"), now=NOW, last_own_round_at=None)

    assert not trigger.starts
    assert "does not list criterion_missed" in trigger.reason


def test_too_few_labelled_rows_wait_for_more() -> None:
    trigger = decide(RetrainPlan(), seen("drift", 499), now=NOW, last_own_round_at=None)

    assert not trigger.starts
    assert "500 are needed" in trigger.reason


@pytest.mark.parametrize(("hours", "starts"), [(1, False), (23.9, False), (24, True)])
def test_the_cool_down_holds_between_rounds_of_its_own(hours: float, starts: bool) -> None:
    trigger = decide(
        RetrainPlan(), seen("drift"), now=NOW, last_own_round_at=NOW - timedelta(hours=hours)
    )

    assert trigger.starts is starts


def test_a_storm_of_alarms_starts_one_round_a_day_at_most() -> None:
    last, rounds = None, 0
    for minute in range(3 * 24 * 60):
        now = NOW + timedelta(minutes=minute)
        if decide(RetrainPlan(), seen("drift"), now=now, last_own_round_at=last).starts:
            last, rounds = now, rounds + 1

    assert rounds == 3


def test_enough_new_rows_start_a_round_only_where_asked() -> None:
    asked = RetrainPlan(when=(RowsTrigger(rows=800),))

    assert decide(asked, seen("ok"), now=NOW, last_own_round_at=None).cause == "rows"
    assert not decide(asked, seen("ok", 799), now=NOW, last_own_round_at=None).starts
    assert not decide(RetrainPlan(), seen("ok"), now=NOW, last_own_round_at=None).starts
