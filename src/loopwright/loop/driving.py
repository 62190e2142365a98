"""Between the feedback loop and its rounds: what it is told beside them, and what it decided done."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.errors import WrongStateError
from loopwright.core.lazy import LazyModule
from loopwright.loop.feedback_state import (
    OPEN,
    AbortRollout,
    Asked,
    BeginRound,
    Configured,
    Effect,
    EndRound,
    LoopState,
    TakeBack,
)
from loopwright.loop.feedback_store import state_of, tell
from loopwright.loop.file import LoopFile
from loopwright.loop.gathering import gathered, ledger_about
from loopwright.loop.guard import quarantined
from loopwright.loop.label_coverage import labels_differ
from loopwright.loop.live import outside
from loopwright.loop.progress import look_after_rollout, rolling_round
from loopwright.loop.round_record import FINAL, closed, taken_back
from loopwright.loop.sourcing import Target
from loopwright.loop.step import OnNews, round_key
from loopwright.loop.trigger import LEAST_ROWS, Seen, policy_of, triaged
from loopwright.loop.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")


def configured(workspace: Workspace, loop: LoopFile) -> None:
    """Let the feedback loop go by what the loop file allows now."""
    policy, now = policy_of(loop.retrain), workspace.clock.now()
    if state_of(workspace.metadata, loop.name, now=now).policy != policy:
        tell(workspace.metadata, loop.name, Configured(policy=policy), now=now)


def carry_out(workspace: Workspace, loop: LoopFile, effect: Effect, on_news: OnNews) -> None:
    """Carry out an effect that asks for no new round; carrying it out twice does no harm."""
    if isinstance(effect, BeginRound):
        raise AssertionError("a round is begun by whoever runs rounds")
    if isinstance(effect, EndRound):
        _end(workspace, loop, effect)
    elif isinstance(effect, TakeBack):
        taken_back(workspace, loop.name, effect)
    elif isinstance(effect, AbortRollout):
        rolling = rolling_round(workspace, loop.name)
        if rolling is not None and rolling["number"] == effect.number:
            look_after_rollout(workspace, loop, on_news, wish="abort", reason=effect.reason)


def _end(workspace: Workspace, loop: LoopFile, effect: EndRound) -> None:
    record = workspace.metadata.find("round", round_key(loop.name, effect.number))
    if record is not None and record.body["state"] not in FINAL:
        kept = f"{effect.reason.rstrip('.')}. The champion stays."
        closed(workspace, loop.name, record.body, "failed", kept)


def wish(
    workspace: Workspace, loop: LoopFile, state: LoopState, seen: Seen | None, reason: str
) -> Asked:
    """Return a person's wish for a round, if it can be granted.

    Raises
    ------
    WrongStateError
        If a round is under way, the incoming data are faulty, or too few labelled rows have come.
    """
    n_labelled = seen.n_labelled if seen is not None else 0
    if state.state not in ("watching", "triage", "cooldown", "promoted"):
        why, hint = f"it stands at {state.state!r}: {state.meaning}", "Wait until it is over."
    elif seen is not None and seen.verdict == "data_quality":
        why, hint = seen.reason, "Mend the data first: a model learnt from it would be wrong."
    elif n_labelled < LEAST_ROWS:
        why = f"{n_labelled:,} new labelled live rows have come, and {LEAST_ROWS} are needed"
        hint = (
            "Bring more labels: loopwright labels FILE LABELS_FILE. Rows that were answered while "
            "the data were faulty do not count."
        )
    else:
        return Asked(by=workspace.user, reason=reason, n_labelled=n_labelled)
    raise WrongStateError(
        f"The loop {loop.name!r} cannot be retrained now: {why.rstrip('.')}.",
        hint=hint,
        kind="loop",
        name=loop.name,
    )


def with_sound_rows(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    champion: dict[str, Any],
    state: LoopState,
    seen: Seen,
) -> Seen:
    """Return what was seen, with the rows alone to which a round may turn counted as labelled.

    Rows that were answered while the data were faulty teach nothing. A round that was begun on the
    strength of them would end before it trained, and count as one that failed.
    """
    periods = quarantined(state, workspace.clock.now())
    if not periods or not seen.n_labelled or loop.deploy is None:
        return seen
    folder = workspace.endpoint_folder(loop.deploy.endpoint)
    rows = outside(gathered(folder, ledger_about(loop, target)).labelled(columns=("at",)), periods)
    learnt = champion.get("learnt_until")
    if learnt:
        rows = rows.filter(rows["at"] > datetime.fromisoformat(learnt))
    return msgspec.structs.replace(seen, n_labelled=min(seen.n_labelled, rows.height))


def with_learnt(
    workspace: Workspace, champion: dict[str, Any], state: LoopState, seen: Seen
) -> Seen:
    """Return what was seen, with how many rows the champion learnt from, where that matters."""
    if state.policy.growth is None or not champion.get("learnt_from"):
        return seen
    rows = champion["learnt_from"][0]
    if not workspace.artifacts.has(rows):
        return seen
    n_rows = pl.scan_parquet(workspace.artifacts.local_path(rows), glob=False).select(pl.len())
    return msgspec.structs.replace(seen, n_learnt=int(n_rows.collect().item()))


def with_labels(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    champion: dict[str, Any],
    state: LoopState,
    seen: Seen,
) -> Seen:
    """Return what was seen, with why its labels cannot be learnt from where that matters."""
    now = workspace.clock.now()
    found = triaged(state.policy, seen, now=now, last_round_at=state.ended_at)
    enough = seen.n_labelled >= state.policy.min_rows
    if found.act != "retrain" or not enough or state.state in OPEN:
        return seen
    told = labels_differ(workspace, loop, target, champion)
    return msgspec.structs.replace(seen, labels_differ=told)


def told_stop(state: LoopState, file: str) -> str:
    """Return in words that a loop is stopped, why, and who lets it go on."""
    return (
        f"The loop is {state.state} since {state.since:%Y-%m-%d %H:%M} UTC: "
        f"{state.reason.rstrip('.')}. `loopwright resume {file} --reason WHY` lets it go on."
    )
