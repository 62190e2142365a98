"""A round whose model is being rolled out: taken further, and closed when that has ended."""

from __future__ import annotations

from typing import Any

import msgspec

from loopwright.core.errors import WrongStateError
from loopwright.deploy import RolloutState, read_actual
from loopwright.deploy.rollout import Wish
from loopwright.loop.file import LoopFile
from loopwright.loop.live_quality import missed_criteria
from loopwright.loop.release import crowned, verified
from loopwright.loop.rollout import find_rollout, rolled_out, rollout_under_way, wished
from loopwright.loop.round_record import happened
from loopwright.loop.shadowing import ShadowStanding, shadow_standing
from loopwright.loop.sourcing import Sourced, Target
from loopwright.loop.step import OnNews, StepResult, StepRunner, round_key
from loopwright.loop.workspace import Workspace

_STATES = {"done": "live", "rolled back": "rolled back"}
_MOST_ROUNDS = 10_000


def taken_further(
    runner: StepRunner,
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    round_: dict[str, Any],
) -> dict[str, Any]:
    """Take the rollout of a round's model as far as it can go now, and return the round then.

    The model becomes the champion when it answers everything and no alarm came; until then, and
    after a rollback, the champion before is.
    """
    model, number = round_["waiting"], round_["number"]
    found: list[RolloutState] = []

    def verify(variant: str) -> None:
        parts = workspace.metadata.get("step", f"{round_key(loop.name, number)}/data").body
        runner.run(
            "verify",
            inputs=[model["bundle"], parts["output"]["test"], number],
            work=lambda: verified(workspace, loop, model, parts["output"], number, variant=variant),
        )

    def quality(state: RolloutState) -> str:
        return missed_criteria(
            workspace,
            loop,
            target,
            version=model["version"],
            bundle=model["bundle"],
            n_looks=state.n_looks,
        )

    def trial(state: RolloutState) -> ShadowStanding:
        return shadow_standing(workspace, loop, target, state)

    def work() -> StepResult | None:
        before = find_rollout(workspace, loop.deploy.endpoint) if loop.deploy else None
        state = rolled_out(
            workspace, loop, model, number, verify=verify, quality=quality, trial=trial
        )
        found.append(state)
        moved = before is None or (before.phase, before.step) != (state.phase, state.step)
        return _step(workspace, state) if moved else None

    runner.reconcile("deploy", work=work)
    return closed(workspace, loop, round_, found[0])


def _step(workspace: Workspace, state: RolloutState) -> StepResult:
    actual = read_actual(workspace.endpoint_folder(state.endpoint))
    job = workspace.compute.find(f"endpoint/{state.endpoint}")
    url = f"http://{actual.host}:{actual.port}" if actual else ""
    return StepResult(
        output={
            "url": url,
            "version": actual.version if actual else None,
            "job": job.id if job else None,
            "rollout": {"phase": state.phase, "share": state.share},
        },
        summary=f"{url}: {state.told}",
        reason=state.reason,
    )


def closed(
    workspace: Workspace, loop: LoopFile, round_: dict[str, Any], state: RolloutState
) -> dict[str, Any]:
    """Return the round as the rollout of its model leaves it, crowned or not, and record it."""
    after = _STATES.get(state.phase, "rolling out")
    conclusion = str(round_["waiting"]["conclusion"])
    if after != "live":
        conclusion = f"{conclusion} {state.told[0].upper()}{state.told[1:]}."
    ended = {
        **round_,
        "state": after,
        "conclusion": conclusion,
        "ended_at": workspace.clock.now().isoformat() if state.is_over else None,
    }
    metadata = workspace.metadata
    with metadata.transaction():
        if after == "live":
            crowned(workspace, loop, round_)
        metadata.put("round", round_key(loop.name, round_["number"]), ended)
        if state.is_over:
            told = {"round": round_["number"], "state": after, "conclusion": conclusion}
            metadata.append(f"loop/{loop.name}", "round ended", told)
        happened(workspace, loop.name, ended, share=state.share)
    return ended


def rolling_round(workspace: Workspace, name: str) -> dict[str, Any] | None:
    """Return the round of a loop whose model is being rolled out; None if there is none."""
    rounds = workspace.metadata.list_("round", prefix=f"{name}/", limit=_MOST_ROUNDS)
    if not rounds or rounds[-1].body["state"] != "rolling out":
        return None
    return rounds[-1].body


def look_after_rollout(
    workspace: Workspace,
    loop: LoopFile,
    on_news: OnNews,
    *,
    wish: Wish = "",
    reason: str = "",
) -> RolloutState | None:
    """Take the rollout of a loop as far as it can go now; None if none is under way.

    Parameters
    ----------
    wish
        What a person asks for: `abort` or `promote`.
    reason
        Why; kept on record.

    Raises
    ------
    WrongStateError
        If something is asked for and no rollout is under way.
    """
    round_ = rolling_round(workspace, loop.name)
    source = workspace.metadata.find("source", loop.name)
    if round_ is None or source is None or loop.deploy is None:
        if wish:
            raise WrongStateError(
                f"No rollout of the loop {loop.name!r} is under way.",
                hint="`loopwright status` shows where it stands.",
                kind="rollout",
                name=loop.name,
            )
        return None
    state = rollout_under_way(workspace, loop.deploy.endpoint)
    if wish and state is not None:
        said = f"{workspace.user} asked for it" + (f": {reason}" if reason else "")
        wished(workspace, state, wish, reason=said)
    runner = StepRunner(workspace, loop.name, round_["number"], on_news)
    target = msgspec.convert(source.body, Sourced).target
    taken_further(runner, workspace, loop, target, round_)
    return find_rollout(workspace, loop.deploy.endpoint)
