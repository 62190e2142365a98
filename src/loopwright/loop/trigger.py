"""What the monitor saw and what it means for going round again: pure decisions, no state."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from loopwright.core.quantity import seconds
from loopwright.loop.retrain_plan import Occasion, RetrainPlan

if TYPE_CHECKING:
    from loopwright.monitor import MonitorReport

# a fifth of them chooses, and fewer than 50 rows show nothing
LEAST_ROWS = 250
OWN_CAUSES = ("criterion_missed", "estimated_miss", "drift", "schedule", "rows", "by_hand")
# the model does harm already: a challenger that is no worse and better on recent rows is enough
LOSS_CAUSES = frozenset({"criterion_missed", "estimated_miss", "drift"})

Cause = Literal["", "criterion_missed", "estimated_miss", "drift", "schedule", "rows", "by_hand"]
Act = Literal["nothing", "hold", "wait", "retrain"]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the monitor found, as far as it matters for going round again.

    Parameters
    ----------
    verdict
        The monitor's triage: `ok`, `watch`, `criterion_missed`, `estimated_miss`, `drift` or
        `data_quality`.
    reason
        Its evidence, in one sentence.
    n_labelled
        Labelled live rows that no round could learn from yet.
    fault
        Tells one fault of the data from another; empty while there is none.
    since
        Since when what was found is so, where that is known; of a harm, the first prediction.
    n_since
        Labelled predictions since a harm began; None while it is not known when that was.
    n_learnt
        Rows that the champion learnt from; None where that is not known.
    labels_differ
        Why the labelled rows do not speak for the others; empty while they do.
    evidence
        The figures behind it, as JSON types, for the record.
    """

    verdict: str
    reason: str
    n_labelled: int
    fault: str = ""
    since: datetime | None = None
    n_since: int | None = None
    n_learnt: int | None = None
    labels_differ: str = ""
    evidence: dict[str, Any] = msgspec.field(default_factory=dict)


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What the `retrain:` block allows, as the machine remembers it.

    Parameters
    ----------
    causes
        Findings that may start a round.
    rows, growth, every_s
        New labelled rows, the same as a share of those that the champion learnt from, and seconds
        since the last round, after which one is due.
    bake_s
        Seconds for which a new champion of the loop's own is on trial.
    cooldown_s
        Least seconds between two rounds of the loop's own.
    budget_minutes, budget_money, budget_s
        What they may cost within so many seconds.
    """

    causes: tuple[str, ...] = ("criterion_missed", "drift")
    rows: int | None = None
    growth: float | None = None
    every_s: float | None = None
    cooldown_s: float = 86_400.0
    cooldown: str = "1 day"
    bake_s: float = 7 * 86_400.0
    per_day: int = 2
    per_week: int = 6
    min_rows: int = 500
    budget_minutes: float | None = None
    budget_money: float | None = None
    budget_s: float = 30 * 86_400.0
    bad_data: Literal["hold", "wait"] = "hold"


class Triaged(msgspec.Struct, frozen=True, kw_only=True):
    """What a finding calls for, before any guard is asked."""

    act: Act
    cause: Cause
    reason: str


def policy_of(plan: RetrainPlan) -> Policy:
    """Return what a `retrain:` block allows."""
    occasions = [each for each in plan.when if isinstance(each, Occasion)]
    rows = [each.rows for each in occasions if each.rows is not None]
    growth = [each.growth for each in occasions if each.growth is not None]
    every = [seconds(each.every, field="retrain.when") for each in occasions if each.every]
    budget = plan.budget
    return Policy(
        causes=tuple(each for each in plan.when if isinstance(each, str)),
        rows=min(rows, default=None),
        growth=min(growth, default=None),
        every_s=min(every, default=None),
        cooldown_s=seconds(plan.cooldown, field="retrain.cooldown"),
        cooldown=plan.cooldown,
        bake_s=seconds(plan.bake, field="retrain.bake"),
        per_day=plan.most.per_day,
        per_week=plan.most.per_week,
        min_rows=max(plan.min_rows, LEAST_ROWS),
        budget_minutes=budget.minutes if budget else None,
        budget_money=budget.money if budget else None,
        budget_s=seconds(budget.per, field="retrain.budget.per") if budget else 30 * 86_400.0,
        bad_data=plan.bad_data,
    )


def seen_in(report: MonitorReport, *, n_fresh: int) -> Seen:
    """Return what a monitor's report says that matters here.

    Parameters
    ----------
    n_fresh
        Labelled live rows that no round could learn from yet.
    """
    figures = [
        {"metric": f.metric, "estimate": f.estimate, "lower": f.lower, "upper": f.upper}
        | {"target": f.target, "n": f.n, "period": f.period, "verdict": f.verdict}
        for f in report.figures
    ]
    alarms = [
        {"kind": alarm.kind, "message": alarm.message, "since": _told(alarm.since_at)}
        for alarm in report.alarms
    ]
    insight = report.insight
    estimates = [
        {"metric": e.metric, "value": e.value, "lower": e.lower, "upper": e.upper}
        | {"target": e.target, "n": e.n_rows, "verdict": e.verdict}
        for e in (insight.estimates if insight is not None else ())
    ]
    worse = [alarm.since_at for alarm in report.alarms if alarm.kind == "error" and alarm.since_at]
    faults = sorted({f"{each.problem}:{each.stream}" for each in report.findings})
    if report.verdict == "data_quality":
        named = {each.stream for each in report.findings}
        worse = [each.since_at for each in report.drift if each.stream in named and each.since_at]
    return Seen(
        verdict=report.verdict,
        reason=report.reason,
        n_labelled=n_fresh,
        fault=", ".join(faults) if report.verdict == "data_quality" else "",
        since=min(worse, default=None),
        evidence={
            "version": report.version,
            "figures": figures[:20],
            "estimates": estimates[:20],
            "alarms": alarms[:10],
            "n_predictions": report.n_predictions,
            "n_labelled": report.n_labelled,
            "to": _told(report.to_at),
        },
    )


def triaged(
    policy: Policy, seen: Seen, *, now: datetime, last_round_at: datetime | None
) -> Triaged:
    """Return what a finding calls for.

    | found | so |
    |---|---|
    | faulty data | hold, or wait for sound ones; never retrain |
    | a criterion missed, live or by estimate; a larger error | retrain, if the file lists it |
    | the inputs moved, and nothing that matters did | nothing |
    | enough new rows, or enough time | retrain, with less haste |
    | a cause, but labels that speak only for some of the rows | wait |

    Parameters
    ----------
    last_round_at
        When the last round ended, whatever caused it.
    """
    if seen.verdict == "data_quality":
        act: Act = "hold" if policy.bad_data == "hold" else "wait"
        told = f"{seen.reason} Mend the data first: a model learnt from it would be wrong."
        return Triaged(act=act, cause="", reason=told)
    cause, reason = _cause(policy, seen, now, last_round_at)
    if cause and seen.labels_differ:
        return Triaged(act="wait", cause=cause, reason=f"{reason} But {seen.labels_differ}")
    return Triaged(act="retrain" if cause else "nothing", cause=cause, reason=reason)


def _cause(
    policy: Policy, seen: Seen, now: datetime, last_round_at: datetime | None
) -> tuple[Cause, str]:
    if seen.verdict in LOSS_CAUSES and seen.verdict in policy.causes:
        cause: Cause = seen.verdict  # type: ignore[assignment] # one of the causes, asked above
        return cause, seen.reason
    elapsed_s = (now - last_round_at).total_seconds() if last_round_at else 0.0
    if policy.every_s is not None and elapsed_s >= policy.every_s:
        days = elapsed_s / 86_400
        return "schedule", f"The last round ended {days:.1f} days ago."
    if policy.rows is not None and seen.n_labelled >= policy.rows:
        return "rows", f"{seen.n_labelled:,} new labelled rows have come."
    n_learnt = seen.n_learnt or 0
    if policy.growth is not None and n_learnt and seen.n_labelled >= policy.growth * n_learnt:
        told = f"{seen.n_labelled:,} new labelled rows have come; the champion learnt from"
        return "rows", f"{told} {n_learnt:,}."
    if seen.verdict in LOSS_CAUSES:
        return "", f"{seen.reason} But retrain.when does not list {seen.verdict}."
    return "", seen.reason


def gate_of(cause: str) -> Literal["superiority", "non_inferiority"]:
    """Return what a challenger must show that a cause led to."""
    return "non_inferiority" if cause in LOSS_CAUSES else "superiority"


def _told(at: datetime | None) -> str | None:
    return at.isoformat() if at is not None else None


def json_of(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with JSON types only, as a store gives it back."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(dict(value)))
    return found
