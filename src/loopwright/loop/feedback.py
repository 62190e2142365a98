"""The feedback loop as a pure step: a state and an event give the next state and what to do.

Reading clocks and stores, training and serving happen elsewhere; whoever replays the events of a
loop comes to the same state. `feedback_store` commits a step and its effects in one transaction;
rounds and rollouts carry the effects out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from loopwright.loop.feedback_state import (
    OPEN,
    STOPPED,
    AbortRollout,
    Adopted,
    Asked,
    BeginRound,
    Begun,
    Compared,
    Configured,
    Effect,
    Ended,
    EndRound,
    Event,
    Failed,
    Frozen,
    Held,
    Looked,
    LoopState,
    Resumed,
    Rolled,
    State,
    TakeBack,
    Ticked,
    Trained,
    Waited,
)
from loopwright.loop.guard import (
    MOST_FAILURES,
    MOST_TRIES,
    barred,
    in_present,
    lasted,
    quarantined,
    rest_s,
    with_begun,
    with_fault,
    with_spent,
)
from loopwright.loop.trigger import Cause, Seen, gate_of, triaged

Stepped = tuple[LoopState, tuple[Effect, ...]]
_CANARY_FROM = 1e-9
# clocks are set right by so much all the time
_JITTER = timedelta(minutes=1)


def begin(loop: str, now: datetime) -> LoopState:
    """Return the state of a loop that has not run yet."""
    return LoopState(loop=loop, since=now, at=now)


def step(state: LoopState, event: Event, now: datetime) -> Stepped:
    """Return the state after an event, and the effects it asks for.

    An event that means nothing in this state, such as one that came twice or too late, gives the
    same state and no effects; then nothing is to be recorded.

    Parameters
    ----------
    state
        Before the event.
    event
        What happened.
    now
        When, by the clock of whoever saw it; it may have been put back.
    """
    if isinstance(event, Adopted):
        return msgspec.structs.replace(event.state, at=now, n_events=state.n_events + 1), ()
    if state.at - _JITTER < now < state.at:
        now = state.at
    here = _rested(in_present(state, now), now)
    after, effects = _HANDLERS[type(event)](here, event, now)
    # what a clock that was put back changes is kept, or a rest would begin anew at every look
    if _same(after, state) and not effects and now >= state.at:
        return state, ()
    moved = after.state != state.state
    after = msgspec.structs.replace(
        after,
        since=now if moved else after.since,
        at=now,
        n_events=state.n_events + 1,
    )
    return after, effects


def replayed(loop: str, events: Sequence[tuple[Event, datetime]]) -> LoopState:
    """Return the state that some events lead to from the beginning."""
    if not events:
        raise AssertionError("a loop has at least the event by which the machine took it over")
    state = begin(loop, events[0][1])
    for event, now in events:
        state, _ = step(state, event, now)
    return state


def _same(one: LoopState, other: LoopState) -> bool:
    return msgspec.structs.replace(one, at=other.at) == other


def _to(state: LoopState, target: State, **changes: Any) -> LoopState:
    return msgspec.structs.replace(
        state, **{"state": target, "until": None, "waits_for": "", **changes}
    )


def _rested(state: LoopState, now: datetime) -> LoopState:
    """Return the state after a rest or a bake that has ended by now."""
    if state.state in ("cooldown", "promoted") and state.until is not None and now >= state.until:
        over = "the rest is over" if state.state == "cooldown" else "the new champion has lasted"
        return _to(state, "watching", cause="", reason=over)
    return state


def _ticked(state: LoopState, _event: Ticked, _now: datetime) -> Stepped:
    return state, ()


def _configured(state: LoopState, event: Configured, _now: datetime) -> Stepped:
    """Go by what the loop file allows now; a rest goes on, as long as it says now."""
    state = msgspec.structs.replace(state, policy=event.policy)
    if state.own_ended_at is None:
        return state, ()
    until = state.own_ended_at + timedelta(seconds=rest_s(state))
    changes = {"until": until} if state.state == "cooldown" else {}
    return msgspec.structs.replace(state, rest_until=until, **changes), ()


def _looked(state: LoopState, event: Looked, now: datetime) -> Stepped:
    """Triage: what was seen is faulty data, a cause that may or may not act now, or nothing."""
    seen = event.seen
    since = seen.since if seen.fault else None
    state = with_fault(state, fault=seen.fault, reason=seen.reason, now=now, since=since)
    if state.state in OPEN | STOPPED or state.champion is None:
        return state, ()
    found = triaged(state.policy, seen, now=now, last_round_at=state.ended_at)
    if found.act == "hold" and seen.fault != state.accepted:
        held = _to(state, "held", cause="data_quality", reason=found.reason, back_to="watching")
        return held, ()
    if found.act in ("hold", "wait"):
        guard = "labels" if found.cause else "sound_data"
        return _waits(state, found.cause or "data_quality", guard, found.reason), ()
    if found.act == "nothing":
        if state.state == "triage":
            return _to(state, "watching", cause="", reason=found.reason), ()
        return state, ()
    # rows from before a harm do not teach what it was
    n_since = seen.n_labelled if seen.n_since is None else seen.n_since
    bar = barred(state, now=now, n_labelled=min(seen.n_labelled, n_since))
    if bar is not None:
        return _waits(state, found.cause, bar.guard, f"{found.reason} {bar.reason}"), ()
    return _retrains(state, found.cause, found.reason, now, seen)


def _waits(state: LoopState, cause: str, guard: str, reason: str) -> LoopState:
    """Return the state in which a cause waits for a guard; told once, however often it is seen."""
    if state.state == "cooldown" and guard == "cooldown":
        return state
    if (state.state, state.cause, state.waits_for) == ("triage", cause, guard):
        return state
    return _to(state, "triage", cause=cause, reason=reason, waits_for=guard)


def _retrains(
    state: LoopState, cause: Cause, reason: str, now: datetime, seen: Seen | None
) -> Stepped:
    number = state.round + 1
    after = _to(
        with_begun(state, now),
        "retraining",
        round=number,
        own=True,
        challenger=None,
        share=0.0,
        cause=cause,
        reason=reason,
        n_tries=0,
    )
    effect = BeginRound(
        number=number,
        cause=cause,
        reason=reason,
        gate=gate_of(cause),
        trial=state.n_challengers + 1,
        since=seen.since if seen else None,
        without=quarantined(state, now),
        evidence=seen.evidence if seen else {},
    )
    return after, (effect,)


def _asked(state: LoopState, event: Asked, now: datetime) -> Stepped:
    """Begin a round for a person: it rests for nothing, but learns from nothing faulty either."""
    if state.state in OPEN | STOPPED or state.champion is None:
        return state, ()
    return _retrains(state, "by_hand", f"{event.by} asked for it: {event.reason}", now, None)


def _begun(state: LoopState, event: Begun, _now: datetime) -> Stepped:
    if event.number <= state.round or state.state in STOPPED:
        return state, ()
    after = _to(
        state,
        "retraining",
        round=event.number,
        own=False,
        challenger=None,
        share=0.0,
        cause=event.cause,
        reason=event.reason,
        n_tries=0,
    )
    return after, ()


def _trained(state: LoopState, event: Trained, _now: datetime) -> Stepped:
    if event.number != state.round or state.underlying != "retraining":
        return state, ()
    # it counts before it is judged: a trial that is broken off has been one
    n = state.n_challengers + (1 if state.own else 0)
    told = f"round {event.number} has a challenger" + (
        f", {event.candidate}" if event.candidate else ""
    )
    return _under(state, "evaluating", n_challengers=n, reason=told), ()


def _under(state: LoopState, target: State, **changes: Any) -> LoopState:
    """Return the state moved on, or, where it is stopped, with where it will go on moved on."""
    if state.state in STOPPED:
        changes.pop("reason", None)
        return msgspec.structs.replace(state, back_to=target, **changes)
    return _to(state, target, **changes)


def _waited(state: LoopState, event: Waited, _now: datetime) -> Stepped:
    if event.number != state.round or state.underlying in ("shadow", "canary"):
        return state, ()
    return _under(state, "waiting", challenger=event.version, share=0.0, reason=event.reason), ()


def _rolled(state: LoopState, event: Rolled, _now: datetime) -> Stepped:
    if event.number != state.round or state.underlying not in OPEN:
        return state, ()
    target: State = "canary" if event.share > _CANARY_FROM else "shadow"
    told = event.told or state.reason
    if (state.underlying, state.share, state.challenger) == (target, event.share, event.version):
        return state, ()
    return _under(state, target, challenger=event.version, share=event.share, reason=told), ()


def _ended(state: LoopState, event: Ended, now: datetime) -> Stepped:
    """Close the round: its model is the champion, or it is not and the loop rests."""
    if event.number != state.round or state.underlying not in OPEN:
        return state, ()
    own = state.own
    state = msgspec.structs.replace(state, challenger=None, share=0.0, ended_at=now)
    if own:
        state = with_spent(state, now, event.minutes, event.money)
        state = msgspec.structs.replace(state, own_ended_at=now)
    if event.outcome == "live":
        return _crowned(state, event, now), ()
    if state.champion is None:
        return _under(state, "new", reason=event.conclusion), ()
    if not own:
        return _under(state, "watching", reason=event.conclusion), ()
    refused = msgspec.structs.replace(state, n_refused=state.n_refused + 1)
    return _rests(refused, event.conclusion, now), ()


def _crowned(state: LoopState, event: Ended, now: datetime) -> LoopState:
    quick = state.own and state.is_own_champion and not lasted(state, now)
    state = msgspec.structs.replace(
        state,
        champion=event.version,
        previous=state.champion if state.champion != event.version else state.previous,
        crowned_at=now,
        n_challengers=0,
        n_challengers_before=state.n_challengers,
        n_failed=0,
        n_refused=0,
        n_quick=state.n_quick + 1 if quick else 0,
        is_own_champion=state.own,
    )
    rest = now + timedelta(seconds=rest_s(state))
    changes: dict[str, Any] = {"rest_until": rest} if state.own else {}
    if state.previous is None:  # there is nothing to fall back on, so nothing to watch for
        return _under(state, "watching", reason=event.conclusion, **changes)
    until = max(rest, now + timedelta(seconds=state.policy.bake_s))
    return _under(state, "promoted", reason=event.conclusion, until=until, **changes)


def _compared(state: LoopState, event: Compared, now: datetime) -> Stepped:
    """Go back to the champion before while the new one is on trial; a person's choice stays.

    It counts as refused and as quickly replaced, so the rest is longer each time, and the trials
    that were spent on the champion that is back are still spent.
    """
    version, back = state.champion, state.previous
    if state.state != "promoted" or not state.is_own_champion or version is None or back is None:
        return state, ()
    if not event.is_worse or (event.version, event.beside) != (version, back):
        return state, ()
    told = f"version {version} was taken back to version {back}: {event.reason}"
    state = msgspec.structs.replace(
        state,
        champion=back,
        previous=None,
        crowned_at=now,
        own_ended_at=now,
        n_refused=state.n_refused + 1,
        n_quick=state.n_quick + 1,
        n_challengers=state.n_challengers_before,
    )
    effect = TakeBack(number=state.round, version=version, back=back, reason=event.reason)
    return _rests(state, told, now), (effect,)


def _rests(state: LoopState, reason: str, now: datetime) -> LoopState:
    until = now + timedelta(seconds=rest_s(state))
    return _under(state, "cooldown", reason=reason, until=until, rest_until=until)


def _failed(state: LoopState, event: Failed, now: datetime) -> Stepped:
    """Try a failed round again once; then rest, longer each time; at last ask a person."""
    if event.number != state.round or not state.own or state.underlying not in OPEN:
        return state, ()
    state = with_spent(state, now, event.minutes, event.money)
    tries = state.n_tries + 1
    if tries < MOST_TRIES and not event.is_final:
        return msgspec.structs.replace(state, n_tries=tries), ()
    state = msgspec.structs.replace(
        state,
        n_failed=state.n_failed + 1,
        challenger=None,
        share=0.0,
        ended_at=now,
        own_ended_at=now,
    )
    effects: tuple[Effect, ...] = (EndRound(number=event.number, reason=event.error),)
    if state.underlying in ("shadow", "canary"):
        gone = AbortRollout(number=event.number, reason=event.error)
        effects = (gone, *effects)
    rests = _rests(state, event.error, now)
    if state.n_failed < MOST_FAILURES or state.state in STOPPED:
        return rests, effects
    told = f"{state.n_failed} rounds of its own failed in a row, the last one so: {event.error}"
    return _to(rests, "held", cause="failures", reason=told, back_to="watching"), effects


def _held(state: LoopState, event: Held, _now: datetime) -> Stepped:
    if state.state in STOPPED:
        return state, ()
    return _stopped(state, "held", event.by, event.reason)


def _frozen(state: LoopState, event: Frozen, _now: datetime) -> Stepped:
    if state.state == "frozen":
        return state, ()
    return _stopped(state, "frozen", event.by, event.reason)


def _stopped(state: LoopState, target: State, by: str, reason: str) -> Stepped:
    effects: tuple[Effect, ...] = ()
    if state.state in ("shadow", "canary"):
        told = f"{by} stopped the loop: {reason}"
        effects = (AbortRollout(number=state.round, reason=told),)
    back = state.underlying
    after = msgspec.structs.replace(
        state, state=target, cause="by_hand", reason=f"{by}: {reason}", back_to=back
    )
    return after, effects


def _resumed(state: LoopState, event: Resumed, now: datetime) -> Stepped:
    """Go on where it was stopped; what a person knows of does not stop it again."""
    if state.state not in STOPPED:
        return state, ()
    back = state.back_to or "watching"
    changes: dict[str, Any] = {"n_failed": 0, "n_tries": 0}
    if state.cause == "data_quality":
        changes["accepted"] = state.fault
    after = msgspec.structs.replace(
        state, state=back, cause="", reason=f"{event.by}: {event.reason}", back_to=None, **changes
    )
    return _rested(after, now), ()


_HANDLERS: dict[type, Callable[[LoopState, Any, datetime], Stepped]] = {
    Configured: _configured,
    Looked: _looked,
    Ticked: _ticked,
    Asked: _asked,
    Begun: _begun,
    Trained: _trained,
    Waited: _waited,
    Rolled: _rolled,
    Ended: _ended,
    Compared: _compared,
    Failed: _failed,
    Held: _held,
    Frozen: _frozen,
    Resumed: _resumed,
}
