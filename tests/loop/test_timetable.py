"""Tasks fire on their grid: none twice, missed ones once, whatever the clock and the process do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.clock import FixedClock
from loopwright.loop.timetable import (
    Slot,
    begun,
    due_at,
    find_slot,
    list_slots,
    postponed,
    put_slot,
    went_well,
    went_wrong,
)
from loopwright.store.memory import MemoryMetadataStore

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = 3_600.0


def _after(slot: Slot, now: datetime) -> Slot:
    return went_well(begun(slot, now=now), HOUR, now=now, told="")


def _at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def test_a_task_that_never_fired_is_due_at_once() -> None:
    assert due_at(Slot(loop="shop", task="look"), HOUR, now=START) == START


def test_a_late_firing_does_not_shift_the_grid() -> None:
    slot = Slot(loop="shop", task="look")
    for hours in (0, 1.2, 2.1, 3.4):
        slot = _after(slot, _at(hours))

    assert due_at(slot, HOUR, now=_at(3.5)) == _at(4)


def test_firings_that_were_missed_are_made_up_for_by_one() -> None:
    slot = _after(Slot(loop="shop", task="look"), START)
    assert due_at(slot, HOUR, now=_at(100.5)) < _at(100.5)

    slot = _after(slot, _at(100.5))

    assert due_at(slot, HOUR, now=_at(100.5)) == _at(101)


def test_a_firing_that_was_killed_is_due_again() -> None:
    slot = begun(_after(Slot(loop="shop", task="look"), START), now=_at(1))

    assert slot.state == "running"
    assert due_at(slot, HOUR, now=_at(1.1)) == _at(1)


def test_after_failures_it_waits_longer_and_longer_but_never_longer_than_its_interval() -> None:
    slot, now, waits = _after(Slot(loop="shop", task="look"), START), _at(1), []
    for _ in range(9):
        slot = went_wrong(begun(slot, now=now), now=now, told="down")
        due = due_at(slot, HOUR, now=now)
        waits.append((due - now).total_seconds())
        now = due

    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert slot.state == "failing"
    assert _after(slot, now).n_failed == 0


def test_a_clock_that_is_set_back_or_forward_costs_at_most_one_firing() -> None:
    slot = _after(Slot(loop="shop", task="look"), _at(24 * 365))

    assert due_at(slot, HOUR, now=START) == START
    slot = _after(slot, START)
    assert due_at(slot, HOUR, now=_at(0.5)) == _at(1)


def test_another_interval_in_the_file_counts_from_the_last_firing() -> None:
    slot = _after(Slot(loop="shop", task="look"), START)

    assert due_at(slot, 60.0, now=_at(0.001)) == START + timedelta(minutes=1)


def test_a_loop_that_another_process_has_is_left_alone_for_a_moment() -> None:
    slot = _after(Slot(loop="shop", task="look"), START)
    slot = postponed(begun(slot, now=_at(2)), now=_at(2), pause_s=20, told="busy")

    assert due_at(slot, HOUR, now=_at(2)) == _at(2) + timedelta(seconds=20)
    assert due_at(slot, HOUR, now=_at(2.1)) < _at(2.1)
    # a pause that the clock was set back from is none
    assert due_at(slot, HOUR, now=_at(1.5)) == _at(1)


def test_slots_are_kept_in_the_store() -> None:
    metadata = MemoryMetadataStore(FixedClock())
    slot = put_slot(metadata, _after(Slot(loop="shop", task="look"), START))

    assert find_slot(metadata, "shop", "look") == slot
    assert list_slots(metadata, "shop") == [slot]
    assert find_slot(metadata, "shop", "refresh").state == "never"


@given(st.lists(st.tuples(st.floats(0.001, 30), st.sampled_from(["well", "killed", "failed"]))))
@settings(max_examples=60, deadline=None)
def test_no_point_of_the_grid_is_served_twice(steps: list[tuple[float, str]]) -> None:
    slot, now, served = Slot(loop="shop", task="look"), START, []
    for hours, how in steps:
        now += timedelta(hours=hours)
        if due_at(slot, HOUR, now=now) > now:
            continue
        slot = begun(slot, now=now)
        if how == "well":
            slot = went_well(slot, HOUR, now=now, told="")
            served.append(slot.last_at)
        elif how == "failed":
            slot = went_wrong(slot, now=now, told="")

    assert len(served) == len(set(served))
    assert served == sorted(served)  # type: ignore[type-var]
    origin = served[0] if served else START
    assert all((at - origin).total_seconds() % HOUR == 0 for at in served)  # type: ignore[operator]


def test_a_year_of_hours_has_as_many_firings_as_hours() -> None:
    slot, now, n = Slot(loop="shop", task="look"), START, 0
    while (now := max(due_at(slot, HOUR, now=now), now)) < _at(24 * 365):
        slot = went_well(begun(slot, now=now), HOUR, now=now + timedelta(minutes=2), told="")
        n += 1
        now += timedelta(minutes=2)

    assert n == 24 * 365
