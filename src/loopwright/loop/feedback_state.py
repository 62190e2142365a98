"""The nouns of the feedback loop: where it stands, what can happen to it, what it asks for."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from loopwright.loop.trigger import Cause, Policy, Seen

State = Literal[
    "new",
    "watching",
    "triage",
    "retraining",
    "evaluating",
    "waiting",
    "shadow",
    "canary",
    "promoted",
    "cooldown",
    "held",
    "frozen",
]
# a round is under way: there is at most one, and with it at most one challenger
OPEN: frozenset[str] = frozenset({"retraining", "evaluating", "waiting", "shadow", "canary"})
# only a person leaves these
STOPPED: frozenset[str] = frozenset({"held", "frozen"})

# how a round ends; "failed" is one of the loop's own that errors ended
FINAL = frozenset(
    {
        "live",
        "kept champion",
        "criterion missed",
        "not ml",
        "rule enough",
        "rejected",
        "rolled back",
        "failed",
    }
)

MEANINGS: dict[str, str] = {
    "new": "no model has gone live yet",
    "watching": "the champion answers and is watched",
    "triage": "something calls for a new model, and it has to wait",
    "retraining": "a challenger is being trained",
    "evaluating": "a challenger is held against the champion",
    "waiting": "a person is asked whether the challenger may go live",
    "shadow": "the challenger is loaded and tried; no caller is answered by it",
    "canary": "the challenger answers a part of the callers",
    "promoted": "a new champion answers and is on trial; the one before it is kept",
    "cooldown": "the last round of its own brought no new champion; it rests",
    "held": "no round begins until a person resumes it; the champion answers",
    "frozen": "nothing is begun or taken further until a person resumes it; the champion answers",
}


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """A time in which incoming data were faulty: no round learns from its rows."""

    since: datetime
    until: datetime
    reason: str = ""


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What one round of the loop's own cost."""

    round: int
    at: datetime
    minutes: float
    money: float = 0.0


class LoopState(msgspec.Struct, frozen=True, kw_only=True):
    """Where the feedback loop of one loop stands; one record in the store, constant in size.

    Parameters
    ----------
    since
        When it came into this state.
    at, n_events
        Time and number of the last event.
    champion, previous
        Versions of the model that answers and of the one before, which is kept.
    round
        Number of the newest round.
    own
        Whether the loop began that round by itself.
    challenger, share
        Version that round would bring live, and the part of the callers it answers now, 0 to 1.
    cause, reason
        Why it is so.
    waits_for
        In `triage`, which guard it waits for.
    until
        When `cooldown` or `promoted` ends.
    rest_until
        Until when no round of its own begins.
    back_to
        In `held` and `frozen`, where a person's resume leads.
    retrained
        When its own rounds of the last seven days began.
    n_challengers
        Challengers of its own that were held against the present champion.
    n_challengers_before
        The same of the champion before, as it was when that was replaced.
    n_failed, n_refused
        Its own rounds in a row that failed, or whose model was refused or rolled back.
    n_tries
        Failures of the present round.
    n_quick
        Models of its own in a row, each of which replaced one that had lasted for less than seven
        cool-downs, or was taken back.
    crowned_at, ended_at, own_ended_at
        When the champion went live, when the last round ended, and when the last of its own did.
    faulty_since, faulty
        Since when incoming data are faulty, and when they were.
    is_own_champion
        Whether a round of the loop's own made the champion.
    fault, accepted
        The fault of the incoming data now, and the one that a person has resumed in spite of; that
        one holds the loop no more.
    """

    loop: str
    state: State = "new"
    since: datetime
    at: datetime
    n_events: int = 0
    policy: Policy = Policy()
    champion: str | None = None
    previous: str | None = None
    round: int = 0
    own: bool = False
    challenger: str | None = None
    share: float = 0.0
    cause: str = ""
    reason: str = ""
    waits_for: str = ""
    until: datetime | None = None
    rest_until: datetime | None = None
    back_to: State | None = None
    retrained: tuple[datetime, ...] = ()
    spent: tuple[Spent, ...] = ()
    n_challengers: int = 0
    n_challengers_before: int = 0
    n_failed: int = 0
    n_refused: int = 0
    n_tries: int = 0
    n_quick: int = 0
    crowned_at: datetime | None = None
    ended_at: datetime | None = None
    own_ended_at: datetime | None = None
    faulty_since: datetime | None = None
    faulty: tuple[Period, ...] = ()
    is_own_champion: bool = False
    fault: str = ""
    accepted: str = ""
    format: int = 1

    @property
    def meaning(self) -> str:
        """What the state means, in words."""
        return MEANINGS[self.state]

    @property
    def underlying(self) -> State:
        """The state, or the one that a held or frozen loop was stopped in."""
        return self.back_to if self.state in STOPPED and self.back_to else self.state


class _Happened(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag=str.lower):
    """One thing that happened to a loop."""


class Adopted(_Happened, frozen=True, kw_only=True):
    """The machine takes over a loop that was run before there was one, or a new one."""

    state: LoopState


class Configured(_Happened, frozen=True, kw_only=True):
    """The loop file allows other things than before."""

    policy: Policy


class Looked(_Happened, frozen=True, kw_only=True):
    """The monitor looked at the endpoint."""

    seen: Seen


class Ticked(_Happened, frozen=True, kw_only=True):
    """Time went by."""


class Asked(_Happened, frozen=True, kw_only=True):
    """A person asked for a new round."""

    by: str
    reason: str
    n_labelled: int = 0


class Begun(_Happened, frozen=True, kw_only=True):
    """A round began that the loop did not begin itself: the first, or one after a change."""

    number: int
    cause: str
    reason: str


class Trained(_Happened, frozen=True, kw_only=True):
    """The round's best candidate is ready to be judged."""

    number: int
    candidate: str = ""


class Waited(_Happened, frozen=True, kw_only=True):
    """A person is asked about the round's model."""

    number: int
    version: str
    reason: str = ""


class Rolled(_Happened, frozen=True, kw_only=True):
    """The rollout of the round's model moved."""

    number: int
    version: str
    share: float
    told: str = ""


class Ended(_Happened, frozen=True, kw_only=True):
    """The round ended."""

    number: int
    outcome: str
    version: str = ""
    conclusion: str = ""
    minutes: float = 0.0
    money: float = 0.0
    evidence: dict[str, Any] = msgspec.field(default_factory=dict)


class Compared(_Happened, frozen=True, kw_only=True):
    """A new champion on trial was held against the one before."""

    version: str
    beside: str
    is_worse: bool
    reason: str = ""
    evidence: dict[str, Any] = msgspec.field(default_factory=dict)


class Failed(_Happened, frozen=True, kw_only=True):
    """An error ended an attempt at the round, or there was nothing to learn from."""

    number: int
    error: str
    is_final: bool = False
    minutes: float = 0.0
    money: float = 0.0


class Held(_Happened, frozen=True, kw_only=True):
    """A person holds the loop."""

    by: str
    reason: str


class Frozen(_Happened, frozen=True, kw_only=True):
    """A person freezes the loop."""

    by: str
    reason: str


class Resumed(_Happened, frozen=True, kw_only=True):
    """A person lets the loop go on."""

    by: str
    reason: str


Event = (
    Adopted
    | Configured
    | Looked
    | Ticked
    | Asked
    | Begun
    | Trained
    | Waited
    | Rolled
    | Ended
    | Compared
    | Failed
    | Held
    | Frozen
    | Resumed
)


class BeginRound(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="begin_round"):
    """Begin a round of the loop's own.

    Parameters
    ----------
    gate
        What its challenger must show; see `loopwright.loop.gate`.
    trial
        Which challenger of the present champion it is, from 1.
    since
        Since when what caused it is so, where that is known.
    without
        Times whose rows it may not learn from.
    """

    number: int
    cause: Cause
    reason: str
    gate: str
    trial: int
    since: datetime | None = None
    without: tuple[Period, ...] = ()
    evidence: dict[str, Any] = msgspec.field(default_factory=dict)


class EndRound(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="end_round"):
    """Close the record of a round that failed."""

    number: int
    reason: str


class AbortRollout(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="abort_rollout"
):
    """Give all traffic back to the champion."""

    number: int
    reason: str


class TakeBack(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="take_back"):
    """Make the champion before the champion again.

    Parameters
    ----------
    number
        The round whose model is taken back.
    version, back
        That model, and the one that answers again.
    """

    number: int
    version: str
    back: str
    reason: str


Effect = BeginRound | EndRound | AbortRollout | TakeBack
