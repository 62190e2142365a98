"""How traffic moves from one model version to the next: steps, alarms, and the way back."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Literal

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.quantity import seconds
from loopwright.deploy.counts import VariantCounts
from loopwright.deploy.endpoint import DesiredState
from loopwright.deploy.variant import Variant

CURRENT, NEXT = "current", "next"
# one look in a thousand calls a false alarm where a rate lies just at its limit
_FALSE_ALARM = 1e-3
_KINDS = ("all_at_once", "canary", "blue_green")

Phase = Literal[
    "loading", "shadowing", "moving", "baking", "finishing", "returning", "done", "rolled back"
]
Wish = Literal["", "abort", "promote"]
OVER: tuple[Phase, ...] = ("done", "rolled back")


class Alarms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ends a rollout and gives all traffic back to the version before.

    A rate is over its limit when so many requests at or under the limit would be seen once in a
    thousand times at most (exact binomial tail), so that a single failure of ten is no alarm.

    Parameters
    ----------
    error_rate
        Most requests, as a share, that the new version may fail on (status 500 and above).
    refusal_rate
        Most requests, as a share, that it may refuse (status 400 to 499).
    latency_p99_ms
        The time, in milliseconds, that 99 % of its answers must keep; counted in the buckets of
        `/metrics`, at the next bound of theirs.
    quality
        Whether a criterion that its labelled predictions miss is an alarm.
    """

    error_rate: float | None = 0.01
    refusal_rate: float | None = None
    latency_p99_ms: float | None = None
    quality: bool = True


class ShadowPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a new version is tried before any caller is answered by it.

    It is asked what the version before is asked, after the answer; both are held against each other
    on the same requests as labels come. It goes on when it is shown to be no worse by `margin`, and
    back when it is worse beyond doubt; either is wrong in one case of a hundred at most, however
    often one looks.

    Parameters
    ----------
    labelled
        How many requests that both answered must have a label first.
    margin
        How much worse still counts as no worse, as a share of the loss of the version before.
    at_most
        How long it is tried; a version that was not shown to be no worse by then is rolled back.
    """

    labelled: int = 500
    margin: float = 0.01
    at_most: str = "14 days"

    @property
    def at_most_s(self) -> float:
        """How long it is tried, in seconds."""
        return seconds(self.at_most, field="deploy.rollout.shadow.at_most")


class Rollout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How traffic moves to a new model version.

    Parameters
    ----------
    kind
        `all_at_once`: every request after the switch is answered by the new version. `canary`: a
        growing share of the callers is. `blue_green`: all are, and the version before stays loaded
        until the new one has proved itself.
    steps
        For `canary`: the shares of the callers, growing up to 1.
    bake
        How long each step is watched, a duration such as `10 minutes`.
    requests
        How many requests the new version must have answered in a step, beside the time.
    alarms
        What ends the rollout; the version before then answers everything again.
    shadow
        How the new version is tried before any caller is answered by it; nothing: it is not.
    """

    kind: str = "all_at_once"
    steps: tuple[float, ...] = ()
    bake: str = "10 minutes"
    requests: int = 0
    alarms: Alarms = msgspec.field(default_factory=Alarms)
    shadow: ShadowPlan | None = None

    @property
    def bake_s(self) -> float:
        """How long each step is watched, in seconds."""
        return seconds(self.bake, field="deploy.rollout.bake")

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of the callers in each step."""
        if self.kind == "canary":
            return self.steps or (0.1, 0.5, 1.0)
        return (1.0,)


def checked_rollout(plan: Rollout) -> Rollout:
    """Return the plan if it can be carried out.

    Raises
    ------
    InvalidInputError
        If the kind is unknown, the steps do not grow to 1, or a limit is out of range.
    """
    if plan.kind not in _KINDS:
        raise _wrong("kind", plan.kind, f"Use one of {', '.join(_KINDS)}.", expected=list(_KINDS))
    if plan.steps and plan.kind != "canary":
        raise _wrong("steps", list(plan.steps), "Leave the steps out, or use {kind: canary}.")
    grows = all(a < b for a, b in zip((0.0, *plan.shares), plan.shares, strict=False))
    if not grows or plan.shares[-1] != 1:
        raise _wrong("steps", list(plan.steps), "Write growing shares up to 1: [0.1, 0.5, 1.0].")
    if plan.bake_s < 0 or plan.requests < 0:
        raise _wrong("requests", plan.requests, "Write a whole number of 0 and more.")
    if plan.shadow is not None:
        _check_shadow(plan.kind, plan.shadow)
    for name in ("error_rate", "refusal_rate"):
        rate = getattr(plan.alarms, name)
        if rate is not None and not 0 <= rate < 1:
            raise _wrong(f"alarms.{name}", rate, "Write a share such as 0.01, or null for none.")
    limit_ms = plan.alarms.latency_p99_ms
    if limit_ms is not None and not 0 < limit_ms <= 10_000:
        raise _wrong("alarms.latency_p99_ms", limit_ms, "Write 0.1 to 10000 milliseconds.")
    return plan


def _check_shadow(kind: str, shadow: ShadowPlan) -> None:
    if kind == "all_at_once":
        raise _wrong("shadow", kind, "Use {kind: canary} or {kind: blue_green} with a shadow.")
    if shadow.labelled < 50:
        raise _wrong("shadow.labelled", shadow.labelled, "Write 50 or more: fewer show nothing.")
    if not 0 < shadow.margin < 1:
        raise _wrong("shadow.margin", shadow.margin, "Write a share such as 0.01.")
    if shadow.at_most_s <= 0:
        raise _wrong("shadow.at_most", shadow.at_most, "Write a time such as 14 days.")


def _wrong(key: str, value: object, hint: str, **facts: object) -> InvalidInputError:
    field = f"deploy.rollout.{key}"
    return InvalidInputError(
        f"{field} is {value!r}, which is not possible.",
        hint=hint,
        field=field,
        value=value,
        **facts,
    )


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A packed model as an endpoint is asked to serve it."""

    bundle: str
    version: int | str
    bundle_digest: str | None = None


class RolloutState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a rollout stands; kept in the store before what it says is done.

    Doing a phase twice does no harm: `desired` gives the same content under the same generation, so
    whoever finds the state after a crash does what it says and goes on.

    Parameters
    ----------
    loop, round, endpoint
        What it belongs to.
    plan
        As it was when the rollout began.
    base
        What the endpoint is asked for beside its models.
    current, next
        The version before and the new one.
    phase
        `loading`: the new version is loaded, without a share; `shadowing`: it is asked too, and
        nobody sees its answers; `moving`: it gets the share of
        `step`; `baking`: it is watched; `finishing`: it is to serve alone; `returning`: the version
        before is; then `done` or `rolled back`.
    generation
        Under which the endpoint is asked for this phase.
    since
        When the phase began: ISO 8601.
    baseline
        What had been counted for the new version when the step began to bake.
    reason
        Why it returns.
    wish
        What a person asked for meanwhile.
    seen
        What the new version did in this step, for people.
    n_looks
        How many times its labelled predictions were looked at.
    trial
        What its trial as a shadow has shown so far, in words.
    """

    loop: str
    round: int
    endpoint: str
    plan: Rollout
    base: DesiredState
    current: Model
    next: Model
    generation: int
    begun_at: str
    since: str
    phase: Phase = "loading"
    step: int = 0
    baseline: VariantCounts = msgspec.field(default_factory=VariantCounts)
    seen: VariantCounts = msgspec.field(default_factory=VariantCounts)
    reason: str = ""
    wish: Wish = ""
    n_looks: int = 0
    trial: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self.phase in OVER

    @property
    def share(self) -> float:
        """The part of the callers that the new version answers, 0 to 1."""
        if self.phase in ("finishing", "done"):
            return 1.0
        return self.plan.shares[self.step] if self.phase in ("moving", "baking") else 0.0

    @property
    def told(self) -> str:
        """Where it stands, in one line for people."""
        new = f"version {self.next.version}"
        if self.phase == "done":
            return f"{new} answers everything"
        if self.phase in ("rolled back", "returning"):
            return f"{new} was rolled back to version {self.current.version}: {self.reason}"
        if self.phase == "shadowing":
            beside = f"{new} is tried beside version {self.current.version}, unseen by callers"
            return f"{beside}: {self.trial}" if self.trial else beside
        n_steps = len(self.plan.shares)
        return f"{new} answers {self.share:.0%} of the callers (step {self.step + 1} of {n_steps})"


def begun(
    plan: Rollout, *, loop: str, round_: int, base: DesiredState, next_: Model, now: datetime
) -> RolloutState:
    """Return the beginning of a rollout on an endpoint that serves one model."""
    serves = base.primary
    return RolloutState(
        loop=loop,
        round=round_,
        endpoint=base.name,
        plan=plan,
        base=base,
        current=Model(
            bundle=serves.bundle, version=serves.version, bundle_digest=serves.bundle_digest
        ),
        next=next_,
        generation=base.generation + 1,
        begun_at=now.isoformat(),
        since=now.isoformat(),
    )


def desired(state: RolloutState) -> DesiredState:
    """Return what the endpoint is asked for in a phase."""
    alone = {"finishing": state.next, "done": state.next}
    alone |= {"returning": state.current, "rolled back": state.current}
    if (model := alone.get(state.phase)) is not None:
        return msgspec.structs.replace(
            state.base, **_fields(model), variants=(), generation=state.generation
        )
    share = state.share
    # the new one last: whoever has it keeps it while its share grows
    variants = (
        Variant(name=CURRENT, weight=1 - share, **_fields(state.current)),
        Variant(name=NEXT, weight=share, shadow=state.phase == "shadowing", **_fields(state.next)),
    )
    return msgspec.structs.replace(
        state.base,
        bundle="",
        version="",
        bundle_digest=None,
        variants=variants,
        generation=state.generation,
    )


def _fields(model: Model) -> dict[str, Any]:
    return {name: getattr(model, name) for name in model.__struct_fields__}


def entered(state: RolloutState, phase: Phase, now: datetime, **changes: object) -> RolloutState:
    """Return the state in another phase; one that asks for other models gets a generation."""
    asks = phase in ("shadowing", "moving", "finishing", "returning")
    return msgspec.structs.replace(
        state,
        phase=phase,
        since=now.isoformat(),
        generation=state.generation + asks,
        **changes,
    )


def after_baking(
    state: RolloutState, counts: VariantCounts, *, trouble: str, now: datetime
) -> RolloutState:
    """Return what follows a look at a step that bakes; the same phase if it bakes on.

    Parameters
    ----------
    counts
        All that was counted for the new version so far.
    trouble
        What else speaks against the new version; empty for nothing.
    """
    seen = counts.since(state.baseline)
    state = msgspec.structs.replace(state, seen=seen)
    trouble = trouble or alarm(state.plan.alarms, seen)
    if trouble:
        return entered(state, "returning", now, reason=trouble)
    if state.wish == "promote":
        return entered(state, "finishing", now)
    elapsed_s = (now - datetime.fromisoformat(state.since)).total_seconds()
    if elapsed_s < state.plan.bake_s or seen.n_requests < state.plan.requests:
        return state
    if state.step + 1 < len(state.plan.shares):
        return entered(state, "moving", now, step=state.step + 1)
    return entered(state, "finishing", now)


def alarm(alarms: Alarms, seen: VariantCounts) -> str:
    """Return which limit was passed, in words; empty for none."""
    n = seen.n_requests
    checks: list[tuple[str, int, float | None, str]] = [
        ("error_rate", seen.n_errors, alarms.error_rate, "failed"),
        ("refusal_rate", seen.n_refused, alarms.refusal_rate, "were refused"),
    ]
    limit_ms = alarms.latency_p99_ms
    if limit_ms is not None:
        slow = f"took over {limit_ms:g} ms"
        checks.append(("latency_p99_ms", seen.n_slower(limit_ms / 1e3), 0.01, slow))
    for name, count, limit, what in checks:
        if limit is not None and tail(count, n, limit) < _FALSE_ALARM:
            shown = limit_ms if name == "latency_p99_ms" else limit
            return f"{name} is over {shown:g}: {count:,} of {n:,} requests {what}"
    return ""


def tail(k: int, n: int, p: float) -> float:
    """Return P(X >= k) for X of the binomial distribution of `n` draws with probability `p`."""
    if k <= n * p or k == 0:
        return 1.0  # not rare: at or under the mean
    if p <= 0:
        return 0.0
    log_term = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    term = math.exp(log_term + k * math.log(p) + (n - k) * math.log1p(-p))
    total = term
    # beyond the mean terms only shrink
    for j in range(k, n):
        term *= (n - j) / (j + 1) * p / (1 - p)
        total += term
        if term < 1e-12 * total:
            break
    return min(1.0, total)
