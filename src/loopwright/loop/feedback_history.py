"""The history of a loop's decisions, each with its evidence, for people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from loopwright.loop.feedback_state import (
    MEANINGS,
    Adopted,
    Asked,
    BeginRound,
    Begun,
    Compared,
    Configured,
    Ended,
    Event,
    Failed,
    Frozen,
    Held,
    Looked,
    LoopState,
    Resumed,
    Rolled,
    TakeBack,
    Ticked,
    Trained,
    Waited,
)
from loopwright.loop.feedback_store import Recorded, recorded_events, state_of
from loopwright.loop.workspace import Workspace

_CAUSES = {
    "criterion_missed": "a criterion is missed",
    "estimated_miss": "a criterion is missed by estimate",
    "drift": "drift that matters",
    "schedule": "it is time",
    "rows": "enough new rows",
    "by_hand": "a person asked",
    "data_quality": "faulty data",
    "failures": "its rounds fail",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopDecision:
    """One event of a loop and what was decided.

    Parameters
    ----------
    n
        Its number, from 1.
    at
        When.
    kind
        What happened: `looked`, `ended`, `held`, ...
    before, after
        The states around it.
    what
        What happened, in words.
    decision
        What follows, in words; empty where nothing does.
    cause
        Why, in words.
    reason
        The evidence, in one or two sentences.
    evidence
        The figures behind it, as JSON types.
    round
        Of which round it speaks; None for none.
    """

    n: int
    at: datetime
    kind: str
    before: str
    after: str
    what: str
    decision: str
    cause: str
    reason: str
    evidence: dict[str, Any]
    round: int | None

    def to_json(self) -> dict[str, Any]:
        """Return the decision as JSON types."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return {**found, "at": self.at.isoformat()}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopHistory:
    """Where the feedback loop of a loop stands, and everything that led there, oldest first."""

    state: LoopState
    decisions: tuple[LoopDecision, ...]

    @property
    def meaning(self) -> str:
        """Where it stands, in words."""
        state = self.state
        told = f"{state.state}: {state.meaning}"
        if state.until is not None:
            told += f", until {state.until:%Y-%m-%d %H:%M} UTC"
        return told

    def to_json(self) -> dict[str, Any]:
        """Return the history as JSON types."""
        return {
            "state": msgspec.to_builtins(self.state),
            "meaning": self.meaning,
            "decisions": [each.to_json() for each in self.decisions],
        }


def loop_history(workspace: Workspace, name: str) -> LoopHistory:
    """Return the history of a loop; that of a loop that has not run yet is empty."""
    decisions = tuple(_decision(each) for each in recorded_events(workspace.metadata, name))
    state = state_of(workspace.metadata, name, now=workspace.clock.now())
    return LoopHistory(state=state, decisions=decisions)


def _decision(recorded: Recorded) -> LoopDecision:
    event = recorded.event
    number = getattr(event, "number", None)
    for effect in recorded.effects:
        number = effect.number if isinstance(effect, BeginRound) else number
    return LoopDecision(
        n=recorded.n,
        at=recorded.now,
        kind=str(event.__struct_config__.tag),
        before=recorded.before,
        after=recorded.after,
        what=_what(event),
        decision=_follows(recorded),
        cause=_CAUSES.get(recorded.cause, recorded.cause),
        reason=recorded.told,
        evidence=_evidence(event),
        round=number,
    )


def _what(event: Event) -> str:
    match event:
        case Adopted():
            return "the loop's decisions are recorded from here on"
        case Configured():
            return "the loop file allows other things than before"
        case Looked(seen=seen):
            return f"the monitor looked: {seen.verdict.replace('_', ' ')}"
        case Ticked():
            return "time went by"
        case Asked(by=by):
            return f"{by} asked for a new round"
        case Begun(number=number, cause=cause):
            return f"round {number} began ({cause})"
        case Trained(number=number, candidate=candidate):
            return f"round {number} trained {candidate or 'a challenger'}"
        case Waited(version=version):
            return f"version {version} waits for a person"
        case Rolled(version=version, share=share):
            return f"version {version} answers {share:.0%} of the callers"
        case Ended(number=number, outcome=outcome):
            return f"round {number} ended: {outcome}"
        case Compared(version=version, beside=beside, is_worse=is_worse):
            found = "worse" if is_worse else "not worse"
            return f"version {version} on trial is {found} than version {beside}"
        case Failed(number=number):
            return f"round {number} failed"
        case Held(by=by) | Frozen(by=by) | Resumed(by=by):
            verb = {"held": "held", "frozen": "froze", "resumed": "resumed"}
            return f"{by} {verb[str(event.__struct_config__.tag)]} the loop"


_GATES = {
    "superiority": "better beyond doubt",
    "non_inferiority": "no worse, and better since the harm began",
}


def _follows(recorded: Recorded) -> str:
    for effect in recorded.effects:
        if isinstance(effect, BeginRound):
            return f"round {effect.number} begins; its challenger must be {_GATES[effect.gate]}"
        if isinstance(effect, TakeBack):
            return f"version {effect.back} is the champion again"
    if recorded.before == recorded.after:
        return ""
    return MEANINGS[recorded.after]


def _evidence(event: Event) -> dict[str, Any]:
    match event:
        case Looked(seen=seen):
            return {"n_labelled": seen.n_labelled, **seen.evidence}
        case Ended(evidence=evidence, minutes=minutes, money=money):
            return {**evidence, "minutes": minutes, "money": money}
        case Compared(evidence=evidence):
            return evidence
        case Failed(error=error):
            return {"error": error}
        case Configured(policy=policy):
            found: dict[str, Any] = msgspec.to_builtins(policy)
            return found
        case _:
            return {}
