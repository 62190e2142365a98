"""The whole history of a loop in time: states, rounds, champions, alarms, quality, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from loopwright.loop.alarm import AlarmRecord, list_alarms
from loopwright.loop.feedback_history import LoopDecision, loop_history
from loopwright.loop.feedback_state import MEANINGS, Adopted, Compared, Ended
from loopwright.loop.feedback_store import recorded_events
from loopwright.loop.step import round_key
from loopwright.loop.workspace import Workspace

_MOST_ROUNDS = 10_000
# what matters to a person even where it moved nothing
_TOLD = frozenset({"asked", "begun", "ended", "failed", "held", "frozen", "resumed", "waited"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Something that lasted: `end` is None while it lasts.

    Parameters
    ----------
    tone
        `good`, `warn`, `bad` or `none`.
    """

    label: str
    start: datetime
    end: datetime | None
    tone: str
    told: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the period as JSON types."""
        end = self.end.isoformat() if self.end else None
        return {
            "label": self.label,
            "start": self.start.isoformat(),
            "end": end,
            "tone": self.tone,
            "told": self.told,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityPoint:
    """A criterion as one look measured it; `verdict` is `holds`, `missed` or `undecided`."""

    at: datetime
    version: str
    metric: str
    period: str
    n: int
    estimate: float
    lower: float | None
    upper: float | None
    target: float
    wants_low: bool
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """Return the point as JSON types."""
        return {name: getattr(self, name) for name in self.__slots__} | {"at": self.at.isoformat()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chronicle:
    """Everything that happened to a loop, each kind oldest first.

    Parameters
    ----------
    until
        The moment it was put together.
    states
        Where the feedback loop stood.
    champions
        Which model version answered.
    decisions
        What was decided on what evidence; looks that changed nothing are left out.
    n_looks
        How many looks brought labels.
    quality
        The criteria, at every look that brought labels.
    """

    name: str
    until: datetime
    states: tuple[Period, ...]
    rounds: tuple[Period, ...]
    champions: tuple[Period, ...]
    alarms: tuple[AlarmRecord, ...]
    decisions: tuple[LoopDecision, ...]
    n_looks: int
    quality: tuple[QualityPoint, ...]

    @property
    def start(self) -> datetime | None:
        """When it begins; None before anything happened."""
        periods = (*self.states, *self.rounds)
        return min((each.start for each in periods), default=None)

    def to_json(self) -> dict[str, Any]:
        """Return the chronicle as JSON types."""
        found: dict[str, Any] = {"name": self.name, "until": self.until.isoformat()}
        for name in ("states", "rounds", "champions", "alarms", "decisions", "quality"):
            found[name] = [each.to_json() for each in getattr(self, name)]
        return found | {"n_looks": self.n_looks}


def chronicle(workspace: Workspace, name: str) -> Chronicle:
    """Return the whole history of a loop."""
    decisions = loop_history(workspace, name).decisions
    quality = tuple(_quality(workspace, name))
    return Chronicle(
        name=name,
        until=workspace.clock.now(),
        states=tuple(_states(decisions)),
        rounds=tuple(_rounds(workspace, name)),
        champions=tuple(_champions(workspace, name)),
        alarms=tuple(list_alarms(workspace, name)),
        decisions=tuple(each for each in decisions if _matters(each)),
        n_looks=len({each.at for each in quality}),
        quality=quality,
    )


def _matters(decision: LoopDecision) -> bool:
    moved = decision.before != decision.after
    return moved or bool(decision.decision) or decision.kind in _TOLD


def _states(decisions: tuple[LoopDecision, ...]) -> Iterator[Period]:
    tones = {"watching": "good", "promoted": "good", "held": "bad", "frozen": "bad", "new": "none"}
    moves = [each for n, each in enumerate(decisions) if n == 0 or each.before != each.after]
    for n, move in enumerate(moves):
        end = moves[n + 1].at if n + 1 < len(moves) else None
        yield Period(
            label=move.after,
            start=move.at,
            end=end,
            tone=tones.get(move.after, "warn"),
            told=f"{MEANINGS.get(move.after, '')}. {move.reason}".strip(". "),
        )


def _rounds(workspace: Workspace, name: str) -> Iterator[Period]:
    tones = {"live": "good", "open": "warn", "waiting for approval": "warn", "rolling out": "warn"}
    tones |= {"rolled back": "bad", "failed": "bad"}
    for record in workspace.metadata.list_("round", prefix=f"{name}/", limit=_MOST_ROUNDS):
        body = record.body
        ended = body.get("ended_at")
        yield Period(
            label=str(body["number"]),
            start=datetime.fromisoformat(body["started_at"]),
            end=datetime.fromisoformat(ended) if ended else None,
            tone=tones.get(str(body["state"]), "none"),
            told=f"{body['state']}: {body['reason']}",
        )


def _champions(workspace: Workspace, name: str) -> Iterator[Period]:
    """Yield who answered when, from the events of the feedback loop."""
    held: tuple[str, datetime, str] | None = None
    for recorded in recorded_events(workspace.metadata, name):
        event, version, told = recorded.event, "", ""
        if isinstance(event, Adopted) and event.state.champion:
            version = event.state.champion
        elif isinstance(event, Ended) and event.outcome == "live" and event.version:
            version, told = event.version, _algorithm(workspace, name, event.number)
        elif isinstance(event, Compared):
            version, told = event.beside, f"again: {event.reason}"
        if not version or (held is not None and held[0] == version):
            continue
        if held is not None:
            yield Period(label=held[0], start=held[1], end=recorded.now, tone="none", told=held[2])
        held = (version, recorded.now, told)
    if held is not None:
        yield Period(label=held[0], start=held[1], end=None, tone="good", told=held[2])


def _algorithm(workspace: Workspace, name: str, number: int) -> str:
    packed = workspace.metadata.find("step", f"{round_key(name, number)}/pack")
    output = packed.body.get("output", {}) if packed else {}
    return f"{output.get('algorithm', 'a model')}, from round {number}"


def _quality(workspace: Workspace, name: str) -> Iterator[QualityPoint]:
    after = 0
    while page := workspace.metadata.list_events(f"quality/{name}", after=after, limit=1_000):
        for event in page:
            for figure in event.body["figures"]:
                if figure["estimate"] is not None:
                    yield _point(event.at, event.body, figure)
        after = page[-1].seq


def _point(at: datetime, body: dict[str, Any], figure: dict[str, Any]) -> QualityPoint:
    # where the rows end says more than when they were looked at
    to = body.get("to")
    known = ("metric", "period", "n", "estimate", "lower", "upper", "target", "verdict")
    return QualityPoint(
        at=datetime.fromisoformat(to) if to else at,
        version=str(body["version"]),
        wants_low=figure["direction"] == "at_most",
        **{key: figure[key] for key in known},
    )
