"""The feedback loop in the store: a step, its event and its effects are committed together.

Whoever is killed anywhere leaves a state that was committed whole, with the effects that are still
to be carried out; carrying one out twice does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from loopwright.core.errors import AlreadyExistsError, BackendError, WrongStateError
from loopwright.loop.feedback import begin, step
from loopwright.loop.feedback_state import (
    FINAL,
    Adopted,
    Effect,
    Event,
    LoopState,
    State,
)
from loopwright.loop.trigger import OWN_CAUSES
from loopwright.store import MetadataStore, Record

_KIND, _OUTBOX = "feedback", "feedback_effect"
_MOST = 10_000
_TRIES = 20


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """One event of the feedback loop as the store keeps it.

    Parameters
    ----------
    n
        Its number, from 1 without gaps.
    now
        The moment it was given to the step.
    before, after
        The states around it.
    told
        Why the state is what it is, in words.
    effects
        What was to be done.
    """

    n: int
    now: datetime
    event: Event
    before: State
    after: State
    told: str
    cause: str = ""
    effects: tuple[Effect, ...] = ()


def stream_of(loop: str) -> str:
    """Return the stream of a loop's events."""
    return f"feedback/{loop}"


def find_state(metadata: MetadataStore, loop: str) -> LoopState | None:
    """Return where a loop stands; None for one that was not run since there is this machine."""
    record = metadata.find(_KIND, loop)
    return msgspec.convert(record.body, LoopState) if record else None


def state_of(metadata: MetadataStore, loop: str, *, now: datetime) -> LoopState:
    """Return where a loop stands, also one whose rounds are older than this machine."""
    return find_state(metadata, loop) or adopted(metadata, loop, now=now)


def tell(metadata: MetadataStore, loop: str, event: Event, *, now: datetime) -> LoopState:
    """Take the step that an event asks for, commit it, and return where the loop stands then.

    State, event and effects are kept together or not at all; inside a transaction they share its
    fate. If somebody else took a step meanwhile, this one is taken anew from there.

    Raises
    ------
    BackendError
        If others take steps without end.
    """
    for _ in range(_TRIES):
        try:
            with metadata.transaction():
                return _committed(metadata, loop, event, now)
        except (AlreadyExistsError, WrongStateError):
            continue
    raise BackendError(
        f"The feedback loop of {loop!r} is being changed by others without end.",
        hint="Try again.",
        retryable=True,
    )


def _committed(metadata: MetadataStore, loop: str, event: Event, now: datetime) -> LoopState:
    record = metadata.find(_KIND, loop)
    if record is None:
        first = adopted(metadata, loop, now=now)
        taken = Adopted(state=first)
        before = begin(loop, now)
        state, _ = step(before, taken, now)
        record = metadata.create(_KIND, loop, _body(state))
        _append(metadata, before, state, taken, now, ())
    state = msgspec.convert(record.body, LoopState)
    after, effects = step(state, event, now)
    if after is state:
        return state
    metadata.replace(record, _body(after))
    _append(metadata, state, after, event, now, effects)
    for number, effect in enumerate(effects):
        metadata.create(
            _OUTBOX, f"{loop}/{after.n_events:08d}-{number}", msgspec.to_builtins(effect)
        )
    return after


def _append(
    metadata: MetadataStore,
    before: LoopState,
    after: LoopState,
    event: Event,
    now: datetime,
    effects: tuple[Effect, ...],
) -> None:
    recorded = Recorded(
        n=after.n_events,
        now=now,
        event=event,
        before=before.state,
        after=after.state,
        told=after.reason,
        cause=after.cause,
        effects=effects,
    )
    kind = str(event.__struct_config__.tag)
    metadata.append(stream_of(after.loop), kind, msgspec.to_builtins(recorded))


def _body(state: LoopState) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.to_builtins(state)
    return body


def recorded_events(metadata: MetadataStore, loop: str) -> Iterator[Recorded]:
    """Yield every event of a loop, oldest first."""
    after = 0
    while page := metadata.list_events(stream_of(loop), after=after, limit=1000):
        for each in page:
            yield msgspec.convert(each.body, Recorded)
        after = page[-1].seq


def pending_effects(metadata: MetadataStore, loop: str) -> list[tuple[Record, Effect]]:
    """Return what is still to be carried out, oldest first."""
    records = metadata.list_(_OUTBOX, prefix=f"{loop}/", limit=_MOST)
    return [(record, msgspec.convert(record.body, Effect)) for record in records]


def carried_out(metadata: MetadataStore, loop: str, carry_out: Callable[[Effect], object]) -> int:
    """Carry out what is still to be, in order, and return how many effects that were.

    An effect is struck off only after it was carried out: one that was interrupted is carried out
    again, so doing it twice must do no harm.
    """
    pending = pending_effects(metadata, loop)
    for record, effect in pending:
        carry_out(effect)
        metadata.delete(_OUTBOX, record.key)
    return len(pending)


_STANDS: dict[str, State] = {
    "open": "retraining",
    "waiting for approval": "waiting",
    "rolling out": "canary",
}


def adopted(metadata: MetadataStore, loop: str, *, now: datetime) -> LoopState:
    """Return where a loop stands whose rounds were run before there was this machine."""
    rounds = [each.body for each in metadata.list_("round", prefix=f"{loop}/", limit=_MOST)]
    record = metadata.find("champion", loop)
    champion: dict[str, Any] = record.body if record else {}
    if not rounds:
        return begin(loop, now)
    last = rounds[-1]
    own = [each for each in rounds if each.get("cause") in OWN_CAUSES]
    state: State = _STANDS.get(last["state"], "watching" if champion else "new")
    is_open = last["state"] not in FINAL
    return LoopState(
        loop=loop,
        state=state,
        since=now,
        at=now,
        champion=champion.get("version"),
        previous=(champion.get("before") or {}).get("version"),
        round=last["number"],
        own=last.get("cause") in OWN_CAUSES,
        challenger=(last.get("waiting") or {}).get("version") if is_open else None,
        cause=str(last.get("cause", "")) if is_open else "",
        reason="taken over from the rounds on record",
        retrained=_moments(own, "started_at")[-100:],
        crowned_at=_moment(champion.get("since")),
        ended_at=max(_moments(rounds, "ended_at"), default=None),
        own_ended_at=max(_moments(own, "ended_at"), default=None),
        is_own_champion=champion.get("round") in [each["number"] for each in own],
    )


def _moments(rounds: Sequence[dict[str, Any]], name: str) -> tuple[datetime, ...]:
    found = (_moment(each.get(name)) for each in rounds)
    return tuple(at for at in found if at is not None)


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
