"""A new champion in its first days: held against the one before, on the same live requests.

The one before is asked, too, what callers asked the new one; it answers nobody. Where the new one
is worse beyond doubt as labels come, misses a criterion by estimate that the one before would keep,
or fails too many requests, the feedback loop goes back by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.errors import InvalidInputError, LoopwrightError
from loopwright.core.lazy import LazyModule
from loopwright.deploy import Endpoint, captured_inputs
from loopwright.deploy.counts import VariantCounts, variant_counts
from loopwright.deploy.rollout import ShadowPlan, alarm
from loopwright.loop.estimating import estimates_of
from loopwright.loop.feedback_state import Compared, LoopState
from loopwright.loop.file import LoopFile
from loopwright.loop.gathering import gathered, ledger_about
from loopwright.loop.guard import quarantined
from loopwright.loop.judging import as_answers, loss_metric
from loopwright.loop.live import outside
from loopwright.loop.live_quality import ANSWER_COLUMNS, row_losses, truth_of
from loopwright.loop.shadowing import ShadowStanding, standing
from loopwright.loop.sourcing import Target
from loopwright.loop.trigger import Seen
from loopwright.loop.workspace import Workspace
from loopwright.monitor import Ledger
from loopwright.monitor.skew import input_frame
from loopwright.train import ServingModel, open_bundle

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_KIND = "bake"
# the first so many labelled requests decide; what they do not show is not worth going back for
MOST_ROWS = 20_000


def is_baking(state: LoopState) -> bool:
    """Tell whether a champion of the loop's own making is still on trial."""
    return state.state == "promoted" and state.is_own_champion and state.previous is not None


def bake_standing(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    champion: dict[str, Any],
    state: LoopState,
    seen: Seen,
) -> Compared | None:
    """Return how a new champion does beside the one before; None where that cannot be told now.

    Rows that were answered while the data were faulty say nothing of a model, and none is looked
    at while they are.
    """
    before = champion.get("before")
    if before is None or loop.deploy is None or seen.verdict == "data_quality":
        return None
    if (champion["version"], before["version"]) != (state.champion, state.previous):
        return None
    if not workspace.artifacts.has(before["bundle"]):
        return None
    failing = _failing(workspace, loop, champion["version"])
    try:
        paired = _paired(workspace, loop, target, champion, before, state)
        missing = _missing(workspace, loop, target, champion, before, state, seen)
    except InvalidInputError:
        # the one before reads rows otherwise: it cannot be asked what callers ask now
        paired, missing = ShadowStanding(verdict="undecided", n_rows=0), ""
    why = failing or missing
    if paired.verdict == "worse":
        why = (
            f"on the {paired.n_rows:,} labelled requests since it went live its loss is "
            f"{paired.after:.4g}, that of version {before['version']} would be {paired.before:.4g}"
        )
    return Compared(
        version=champion["version"],
        beside=before["version"],
        is_worse=bool(why),
        reason=why,
        evidence=msgspec.to_builtins(paired),
    )


def _paired(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    champion: dict[str, Any],
    before: dict[str, Any],
    state: LoopState,
) -> ShadowStanding:
    """Return how the new champion does on labelled requests that came after it went live."""
    folder = workspace.endpoint_folder(loop.deploy.endpoint if loop.deploy else "")
    ledger = gathered(folder, ledger_about(loop, target))
    rows = ledger.labelled(
        version=champion["version"],
        columns=("hash", "inference_id", *ANSWER_COLUMNS),
        since=state.crowned_at,
    )
    faulty = quarantined(state, workspace.clock.now())
    rows = outside(rows, faulty).head(MOST_ROWS)
    known = _remembered(workspace, loop, champion["version"])
    if not rows.height or rows.height == known["n_rows"]:
        return ShadowStanding(verdict="undecided", n_rows=0)
    height = rows.height
    old = open_bundle(workspace.artifacts.local_path(before["bundle"]))
    new = open_bundle(workspace.artifacts.local_path(champion["bundle"]))
    rows, inputs = _with_inputs(ledger, rows)
    metric = loss_metric(loop.problem, task=target.task)
    said = as_answers(_said(old, inputs), target, threshold=old.outcome.threshold)
    losses = np.asarray(metric.per_row(truth_of(rows, target), said), dtype=np.float64)
    now = row_losses(loop, target, rows, threshold=new.outcome.threshold)
    sound = np.isfinite(losses) & np.isfinite(now)
    if not sound.any():
        return ShadowStanding(verdict="undecided", n_rows=0)
    found = standing(losses[sound], now[sound], ShadowPlan())
    if found.verdict != "worse":
        # looked at again when more labels came; what speaks against it is first acted on
        workspace.metadata.put(_KIND, loop.name, {**known, "n_rows": height})
    return found


def _remembered(workspace: Workspace, loop: LoopFile, version: str) -> dict[str, Any]:
    """Return what a trial began with: what was counted, and the labelled rows looked at so far."""
    record = workspace.metadata.find(_KIND, loop.name)
    if record is not None and record.body["version"] == version:
        return record.body
    return {"version": version, "counts": None, "n_rows": 0}


def _with_inputs(ledger: Ledger, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    texts = ledger.inputs(rows["hash"])
    rows = rows.join(texts, on="inference_id", how="inner", maintain_order="left")
    return rows, captured_inputs(rows["inputs"].to_list())


def _said(model: ServingModel, inputs: pl.DataFrame) -> npt.NDArray[np.float64]:
    """Return the numbers behind a model's answers to captured inputs."""
    found: npt.NDArray[np.float64] = model.predict_frame(input_frame(model, inputs))
    return found


def _missing(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    champion: dict[str, Any],
    before: dict[str, Any],
    state: LoopState,
    seen: Seen,
) -> str:
    """Return which criterion is missed by estimate that the one before would keep."""
    if seen.verdict != "estimated_miss" or "estimated_miss" not in state.policy.causes:
        return ""
    old = open_bundle(workspace.artifacts.local_path(before["bundle"]))
    version = str(champion["version"])
    kept = {
        each.metric: each
        for each in estimates_of(
            workspace, loop, target, old, version=version, said=lambda inputs: _said(old, inputs)
        )
        if each.verdict == "holds"
    }
    for each in seen.evidence.get("estimates", []):
        if each["verdict"] == "missed" and each["metric"] in kept:
            return (
                f"without labels {each['metric']} is estimated at {each['value']:.4g}, missed, and "
                f"would be {kept[each['metric']].value:.4g} with version {before['version']}"
            )
    return ""


def _failing(workspace: Workspace, loop: LoopFile, version: str) -> str:
    """Return which limit of `deploy.rollout.alarms` is passed since it went live; empty for none."""
    if loop.deploy is None:
        return ""
    name = loop.deploy.endpoint
    folder = Endpoint(name, workspace.endpoint_folder(name)).counts_folder
    counted = VariantCounts()
    try:
        for each in variant_counts(folder).values():
            counted = counted.plus(each)
    except (LoopwrightError, OSError):
        return ""
    known = _remembered(workspace, loop, version)
    if known["counts"] is None:
        body = {**known, "counts": msgspec.to_builtins(counted)}
        workspace.metadata.put(_KIND, loop.name, body)
        return ""
    since = counted.since(msgspec.convert(known["counts"], VariantCounts))
    return alarm(loop.deploy.rollout.alarms, since)
