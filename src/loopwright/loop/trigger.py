"""When to go round again: pure decisions over what the monitor saw and what the file allows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from loopwright.core.quantity import seconds
from loopwright.loop.file import RetrainPlan, RowsTrigger

# a fifth of them judges, and fewer than 50 rows judge nothing
LEAST_ROWS = 250
Cause = Literal["criterion_missed", "drift", "rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the monitor found, as far as it matters for going round again.

    Parameters
    ----------
    verdict
        The monitor's triage: `ok`, `watch`, `criterion_missed`, `drift` or `data_quality`.
    reason
        Its evidence, in one sentence.
    n_labelled
        Labelled live rows since the model went live.
    """

    verdict: str
    reason: str
    n_labelled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """The decision whether a new round starts, with its reason."""

    starts: bool
    cause: Cause | None
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return the decision as JSON types."""
        return {"starts": self.starts, "cause": self.cause, "reason": self.reason}


def decide(
    plan: RetrainPlan, seen: Seen, *, now: datetime, last_own_round_at: datetime | None
) -> Trigger:
    """Return whether to go round again.

    Parameters
    ----------
    plan
        The `retrain:` block.
    seen
        What the monitor found.
    now
        The present moment.
    last_own_round_at
        When the last round that started by itself ended; None if there was none.
    """
    if seen.verdict == "data_quality":
        return _stays(f"{seen.reason} Mend the data first: a model learnt from it would be wrong.")
    cause, reason = _cause(plan, seen)
    if cause is None:
        return _stays(reason)
    needed = max(plan.min_rows, LEAST_ROWS)
    if seen.n_labelled < needed:
        return _stays(
            f"{reason} But only {seen.n_labelled:,} new labelled rows have come; "
            f"{needed:,} are needed (retrain.min_rows)."
        )
    if last_own_round_at is not None:
        again = last_own_round_at + timedelta(
            seconds=seconds(plan.cooldown, field="retrain.cooldown")
        )
        if now < again:
            return _stays(
                f"{reason} But since the last round of its own the cool-down of {plan.cooldown} "
                "is not over."
            )
    return Trigger(starts=True, cause=cause, reason=reason)


def _cause(plan: RetrainPlan, seen: Seen) -> tuple[Cause | None, str]:
    if seen.verdict in ("criterion_missed", "drift"):
        if seen.verdict in plan.when:
            return ("criterion_missed" if seen.verdict == "criterion_missed" else "drift"), (
                seen.reason
            )
        return None, f"{seen.reason} But retrain.when does not list {seen.verdict}."
    for wanted in plan.when:
        if isinstance(wanted, RowsTrigger) and seen.n_labelled >= wanted.rows:
            return "rows", f"{seen.n_labelled:,} new labelled rows have come."
    return None, seen.reason


def _stays(reason: str) -> Trigger:
    return Trigger(starts=False, cause=None, reason=reason)
