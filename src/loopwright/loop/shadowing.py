"""A new version as a shadow: held against the one that answers, request by request, as labels come."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from loopwright.core.lazy import LazyModule
from loopwright.deploy import RolloutState
from loopwright.deploy.rollout import ShadowPlan, entered
from loopwright.loop.file import LoopFile
from loopwright.loop.gathering import gathered, ledger_about
from loopwright.loop.live_quality import ANSWER_COLUMNS, row_losses
from loopwright.loop.sourcing import Target
from loopwright.loop.workspace import Workspace
from loopwright.train import open_bundle

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

ALPHA = 0.01
Verdict = Literal["undecided", "no worse", "worse"]


class ShadowStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How a shadow does beside the version that answers.

    Parameters
    ----------
    n_rows
        Requests that both answered and whose label came.
    before, after
        Mean loss of the version that answers, and of the shadow.
    gain, lower, upper
        By how much the shadow's is lower, with bounds that hold at all times together.
    """

    verdict: Verdict
    n_rows: int
    before: float = 0.0
    after: float = 0.0
    gain: float = 0.0
    lower: float = 0.0
    upper: float = 0.0

    @property
    def told(self) -> str:
        """It in words."""
        if not self.n_rows:
            return "no request that both answered has a label yet"
        return (
            f"{self.verdict} on {self.n_rows:,} labelled requests, loss {self.after:.4g} beside "
            f"{self.before:.4g}"
        )


def shadow_standing(
    workspace: Workspace, loop: LoopFile, target: Target, state: RolloutState
) -> ShadowStanding:
    """Return how the shadow of a rollout does beside the version that answers."""
    plan = state.plan.shadow or ShadowPlan()
    ledger = gathered(workspace.endpoint_folder(state.endpoint), ledger_about(loop, target))
    since = datetime.fromisoformat(state.since)
    columns = ("inference_id", *ANSWER_COLUMNS)
    old = ledger.labelled(version=str(state.current.version), columns=columns, since=since)
    new = ledger.labelled(
        version=str(state.next.version), columns=columns, shadow=True, since=since
    )
    both = set(old["inference_id"]) & set(new["inference_id"])
    if not both:
        return ShadowStanding(verdict="undecided", n_rows=0)
    wanted = list(both)
    losses = [
        row_losses(
            loop,
            target,
            rows.filter(pl.col("inference_id").is_in(wanted)).sort("inference_id"),
            threshold=_threshold(model.bundle) if target.task == "binary" else 0.5,
        )
        for rows, model in ((old, state.current), (new, state.next))
    ]
    return standing(losses[0], losses[1], plan)


def _threshold(bundle: str) -> float:
    return open_bundle(Path(bundle)).outcome.threshold


def standing(
    before: npt.NDArray[np.float64], after: npt.NDArray[np.float64], plan: ShadowPlan
) -> ShadowStanding:
    """Return how a shadow does, from the losses of both on the same requests, each `(n_rows,)`.

    Notes
    -----
    An asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform
    central limit theory and asymptotic confidence sequences", Annals of Statistics 52, 2024): with
    the mean m and the deviation s of t paired differences,

        m -+ s * sqrt(2 (t r^2 + 1) / (t^2 r^2) * ln(sqrt(t r^2 + 1) / alpha))

    holds at all t together with probability 1 - alpha; r is chosen to be narrowest at the number of
    rows the plan asks for. alpha is 0.01.
    """
    n = len(before)
    gains = before - after
    mean_before, mean_after = float(before.mean()), float(after.mean())
    gain = float(gains.mean())
    radius = math.inf
    if n > 1:
        radius = float(gains.std(ddof=1)) * _width(n, _narrowest_at(plan.labelled))
    lower, upper = gain - radius, gain + radius
    verdict: Verdict = "undecided"
    if n >= plan.labelled and lower >= -plan.margin * abs(mean_before):
        verdict = "no worse"
    elif n >= min(plan.labelled, 50) and upper < 0:
        verdict = "worse"
    return ShadowStanding(
        verdict=verdict,
        n_rows=n,
        before=mean_before,
        after=mean_after,
        gain=gain,
        lower=lower if n > 1 else -1e300,
        upper=upper if n > 1 else 1e300,
    )


def _width(n: int, r2: float) -> float:
    grown = n * r2 + 1
    return math.sqrt(2 * grown / (n * n * r2) * math.log(math.sqrt(grown) / ALPHA))


def _narrowest_at(n: int) -> float:
    """Return r^2 for which the sequence is about narrowest at n rows (section 2.2 of the source)."""
    return (-2 * math.log(ALPHA) + math.log(-2 * math.log(ALPHA) + 1)) / n


def after_trial(
    state: RolloutState, found: ShadowStanding, *, ended: bool, now: datetime
) -> RolloutState:
    """Return what follows a look at a shadow; the same phase while nothing is shown.

    Parameters
    ----------
    ended
        Whether the endpoint's process has ended.
    """
    plan = state.plan.shadow or ShadowPlan()
    state = msgspec.structs.replace(state, trial=found.told)
    if ended:
        return entered(state, "returning", now, reason="the endpoint's process ended")
    if found.verdict == "worse":
        return entered(state, "returning", now, reason=f"as a shadow it was {found.told}")
    if found.verdict == "no worse" or state.wish == "promote":
        return entered(state, "moving", now, step=0)
    elapsed_s = (now - datetime.fromisoformat(state.since)).total_seconds()
    if elapsed_s >= plan.at_most_s:
        why = f"it was not shown to be no worse within {plan.at_most}: {found.told}"
        return entered(state, "returning", now, reason=why)
    return state
