"""What keeps a loop from going round too often: rest, numbers, budget, and rows to learn from."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import msgspec

from loopwright.loop.feedback_state import LoopState, Period, Spent

DAY, WEEK = timedelta(days=1), timedelta(days=7)
# a rest never grows beyond this many times the cool-down
MOST_BACKOFF = 16
# a challenger that fails so often in a row will not be mended by trying again
MOST_FAILURES = 3
MOST_TRIES = 2
# a champion that does not last for so many cool-downs was replaced quickly
LASTING_COOLDOWNS = 7
_MOST_PERIODS = 100
_MOST_KEPT = 200


class Barred(msgspec.Struct, frozen=True, kw_only=True):
    """What keeps a round from beginning now."""

    guard: str
    reason: str


def barred(state: LoopState, *, now: datetime, n_labelled: int) -> Barred | None:
    """Return what keeps a round of the loop's own from beginning now; None where nothing does."""
    policy = state.policy
    if n_labelled < policy.min_rows:
        return Barred(
            guard="rows",
            reason=f"But only {n_labelled:,} new labelled rows have come; {policy.min_rows:,} are "
            "needed (retrain.min_rows).",
        )
    if state.rest_until is not None and now < state.rest_until:
        return Barred(
            guard="cooldown",
            reason=f"But since the last round of its own the cool-down of {policy.cooldown} is not "
            f"over; it rests until {state.rest_until:%Y-%m-%d %H:%M} UTC.",
        )
    for span, most, name in ((DAY, policy.per_day, "day"), (WEEK, policy.per_week, "week")):
        n = sum(at > now - span for at in state.retrained)
        if n >= most:
            return Barred(
                guard=f"per_{name}",
                reason=f"But {n} round(s) of its own began within the last {name}, and "
                f"retrain.most.per_{name} is {most}.",
            )
    return _over_budget(state, now)


def _over_budget(state: LoopState, now: datetime) -> Barred | None:
    policy = state.policy
    spent = [each for each in state.spent if each.at > now - timedelta(seconds=policy.budget_s)]
    for name, limit, used in (
        ("minutes", policy.budget_minutes, sum(each.minutes for each in spent)),
        ("money", policy.budget_money, sum(each.money for each in spent)),
    ):
        if limit is not None and used >= limit:
            return Barred(
                guard=f"budget_{name}",
                reason=f"But its own rounds used {used:.4g} {name} of late, and "
                f"retrain.budget.{name} is {limit:g}.",
            )
    return None


def rest_s(state: LoopState) -> float:
    """Return how many seconds to rest after a round of the loop's own, as its counters stand."""
    n = max(state.n_failed + state.n_refused - 1, state.n_quick, 0)
    factor = min(1 << min(n, 10), MOST_BACKOFF)
    return state.policy.cooldown_s * factor


def lasted(state: LoopState, now: datetime) -> bool:
    """Tell whether the champion has been one for long enough that replacing it is no flapping.

    That is seven cool-downs beyond the rest after it went live.
    """
    if state.crowned_at is None:
        return True
    least = timedelta(seconds=LASTING_COOLDOWNS * state.policy.cooldown_s + rest_s(state))
    return now - state.crowned_at >= least


def in_present(state: LoopState, now: datetime) -> LoopState:
    """Return the state with no moment later than now.

    Where a clock was put back, what was to come seems later than it was: it then counts as having
    happened just now, so that no guard forgets it and none waits for a time that was an error.
    """
    if now >= state.at:
        return state

    def not_later(end: datetime | None, start: datetime | None) -> datetime | None:
        # a rest is never longer than it was, and never shorter than its end says
        return min(end, now + (end - start)) if end is not None and start is not None else end

    def past(at: datetime | None) -> datetime | None:
        return min(at, now) if at is not None else None

    return msgspec.structs.replace(
        state,
        at=now,
        since=min(state.since, now),
        until=not_later(state.until, state.since),
        rest_until=not_later(state.rest_until, state.own_ended_at),
        retrained=tuple(min(at, now) for at in state.retrained),
        spent=tuple(msgspec.structs.replace(each, at=min(each.at, now)) for each in state.spent),
        crowned_at=past(state.crowned_at),
        ended_at=past(state.ended_at),
        own_ended_at=past(state.own_ended_at),
        faulty_since=past(state.faulty_since),
    )


def with_begun(state: LoopState, now: datetime) -> LoopState:
    """Return the state with one more round of its own begun.

    What is kept is bounded by number, not by age: a clock that jumps ahead makes nothing forgotten.
    """
    kept = max(_MOST_KEPT, 2 * state.policy.per_week)
    return msgspec.structs.replace(state, retrained=(*state.retrained, now)[-kept:])


def with_spent(state: LoopState, now: datetime, minutes: float, money: float) -> LoopState:
    """Return the state with what the present round has cost so far, all its tries together."""
    cost = Spent(round=state.round, at=now, minutes=round(minutes, 4), money=round(money, 6))
    others = [each for each in state.spent if each.round != state.round]
    return msgspec.structs.replace(state, spent=(*others, cost)[-_MOST_KEPT:])


def with_fault(
    state: LoopState, *, fault: str, reason: str, now: datetime, since: datetime | None = None
) -> LoopState:
    """Return the state with the time of faulty data begun, gone on, or over.

    Parameters
    ----------
    since
        When the first faulty rows came, where that is known; they came before they were looked at.
    """
    if fault:
        return msgspec.structs.replace(
            state, fault=fault, faulty_since=state.faulty_since or min(since or now, now)
        )
    if state.faulty_since is None:
        return state
    period = Period(since=state.faulty_since, until=now, reason=reason)
    return msgspec.structs.replace(
        state,
        fault="",
        accepted="",
        faulty_since=None,
        faulty=_bounded((*state.faulty, period)),
    )


def _bounded(periods: tuple[Period, ...]) -> tuple[Period, ...]:
    """Return at most `_MOST_PERIODS` periods that cover all of these.

    Where there are more, those that lie closest become one: rows between them are lost to training,
    which is better than faulty rows that are learnt from because their time was forgotten.
    """
    while len(periods) > _MOST_PERIODS:
        gaps = [after.since - before.until for before, after in pairwise(periods)]
        k = gaps.index(min(gaps))
        one, other = periods[k], periods[k + 1]
        both = msgspec.structs.replace(
            one, since=min(one.since, other.since), until=max(one.until, other.until)
        )
        periods = (*periods[:k], both, *periods[k + 2 :])
    return periods


def quarantined(state: LoopState, now: datetime) -> tuple[Period, ...]:
    """Return the times whose rows no round may learn from."""
    if state.faulty_since is None:
        return state.faulty
    return (*state.faulty, Period(since=state.faulty_since, until=now, reason="still faulty"))
