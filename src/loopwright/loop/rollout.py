"""A model that goes live in steps: what the store remembers of it, and what is done about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from loopwright.core.errors import BackendError, WrongStateError
from loopwright.deploy import (
    Endpoint,
    RolloutState,
    read_actual,
    read_desired,
    wait_until_serving,
    write_desired,
)
from loopwright.deploy.counts import VariantCounts, variant_counts
from loopwright.deploy.rollout import (
    NEXT,
    Model,
    Phase,
    Wish,
    after_baking,
    begun,
    desired,
    entered,
)
from loopwright.loop.file import LoopFile
from loopwright.loop.release import START_TIMEOUT_S, restart_endpoint, service_job
from loopwright.loop.shadowing import ShadowStanding, after_trial
from loopwright.loop.workspace import Workspace

_KIND = "rollout"

Verify = Callable[[str], None]
"""Asks the variant of that name the test rows; raises `BackendError` for a wrong answer."""
Quality = Callable[[RolloutState], str]
"""Returns what speaks against the new version on its labelled predictions; empty for nothing."""
Trial = Callable[[RolloutState], ShadowStanding]
"""Returns how the new version does as a shadow, beside the one that answers."""


def find_rollout(workspace: Workspace, endpoint: str) -> RolloutState | None:
    """Return the last rollout on an endpoint, over or not; None if there was none."""
    record = workspace.metadata.find(_KIND, endpoint)
    return msgspec.convert(record.body, RolloutState) if record else None


def rollout_under_way(workspace: Workspace, endpoint: str) -> RolloutState | None:
    """Return the rollout that has not ended; None if there is none."""
    state = find_rollout(workspace, endpoint)
    return None if state is None or state.is_over else state


def goes_in_steps(workspace: Workspace, loop: LoopFile, model: dict[str, Any]) -> bool:
    """Tell whether a model goes live by a rollout.

    The first model of an endpoint does not, nor one for an endpoint that is not running: there is
    no version before it that could answer meanwhile.
    """
    plan = loop.deploy
    if plan is None:
        return False
    state = find_rollout(workspace, plan.endpoint)
    if state is not None and not state.is_over:
        return True
    if plan.rollout.kind == "all_at_once":
        return False
    job = workspace.compute.find(f"endpoint/{plan.endpoint}")
    actual = read_actual(workspace.endpoint_folder(plan.endpoint))
    if job is None or job.state.has_ended or actual is None or actual.version is None:
        return False
    return bool(actual.version != model["version"])


def rolled_out(
    workspace: Workspace,
    loop: LoopFile,
    model: dict[str, Any],
    number: int,
    *,
    verify: Verify,
    quality: Quality,
    trial: Trial,
) -> RolloutState:
    """Begin the rollout of a round's model, or take it as far as it can go now.

    Raises
    ------
    BackendError
        If the endpoint does not come back to the version before; another run tries again.
    """
    if loop.deploy is None:
        raise AssertionError("only a model behind an endpoint goes live in steps")
    state = find_rollout(workspace, loop.deploy.endpoint)
    wanted = Model(
        bundle=str(workspace.artifacts.local_path(model["bundle"]).resolve()),
        version=model["version"],
        bundle_digest=model["bundle"],
    )
    if state is not None and not state.is_over and state.next != wanted:
        # the loop file was changed meanwhile, and led to another model
        gone = wished(workspace, state, "abort", reason="another model is to go live")
        state = advanced(workspace, loop, gone, verify=verify, quality=quality, trial=trial)
    if state is None or (state.round, state.next) != (number, wanted):
        state = begun(
            loop.deploy.rollout,
            loop=loop.name,
            round_=number,
            base=read_desired(workspace.endpoint_folder(loop.deploy.endpoint)),
            next_=wanted,
            now=workspace.clock.now(),
        )
        _keep(workspace, state)
    if not state.is_over and loop.deploy.rollout.kind == "all_at_once" and not state.wish:
        state = wished(workspace, state, "promote", reason="deploy.rollout is all_at_once now")
    return advanced(workspace, loop, state, verify=verify, quality=quality, trial=trial)


def wished(workspace: Workspace, state: RolloutState, wish: Wish, *, reason: str) -> RolloutState:
    """Record what a person asks of a rollout that has not ended; `advanced` goes by it.

    Raises
    ------
    WrongStateError
        If it has ended, or is on its way back.
    """
    if state.is_over or state.phase == "returning":
        raise WrongStateError(
            f"The rollout on {state.endpoint!r} cannot be changed any more: {state.told}.",
            hint="`loopwright status` shows where it stands.",
            kind="rollout",
            name=state.endpoint,
        )
    asked = msgspec.structs.replace(state, wish=wish, reason=reason if wish == "abort" else "")
    _keep(workspace, asked)
    return asked


def advanced(
    workspace: Workspace,
    loop: LoopFile,
    state: RolloutState,
    *,
    verify: Verify,
    quality: Quality,
    trial: Trial,
) -> RolloutState:
    """Take a rollout as far as it can go now, and return where it stands.

    Every phase is in the store before it is acted on, and acting on it twice does no harm, so a
    process that is killed anywhere here is followed by one that goes on.
    """
    while not state.is_over:
        after = _acted(workspace, loop, state, verify, quality, trial)
        if after != state:
            _keep(workspace, after, quietly=after.phase == state.phase)
        if after.phase == state.phase and after.generation == state.generation:
            return after
        state = after
    return state


def _acted(
    workspace: Workspace,
    loop: LoopFile,
    state: RolloutState,
    verify: Verify,
    quality: Quality,
    trial: Trial,
) -> RolloutState:
    now = workspace.clock.now
    if state.phase in ("finishing", "returning"):
        _asked(workspace, loop, state, restarts=True)
        ends: Phase = "done" if state.phase == "finishing" else "rolled back"
        return entered(state, ends, now())
    if state.wish == "abort":
        return entered(state, "returning", now(), reason=state.reason or "a person aborted it")
    if state.phase == "baking":
        return _baked(workspace, state, quality, now())
    try:
        _asked(workspace, loop, state, restarts=state.phase == "loading")
        if state.phase == "loading":
            verify(NEXT)
            if state.plan.shadow is not None:
                return entered(state, "shadowing", now())
            return entered(state, "moving", now(), step=0)
        if state.phase == "shadowing":
            return after_trial(
                state, trial(state), ended=_job_ended(workspace, state.endpoint), now=now()
            )
    except BackendError as error:
        return entered(state, "returning", now(), reason=error.message)
    return entered(state, "baking", now(), baseline=_counted(workspace, state))


def _baked(
    workspace: Workspace, state: RolloutState, quality: Quality, now: datetime
) -> RolloutState:
    trouble = ""
    if _job_ended(workspace, state.endpoint):
        trouble = "the endpoint's process ended"
    elif state.plan.alarms.quality:
        state = msgspec.structs.replace(state, n_looks=state.n_looks + 1)
        trouble = quality(state)
    return after_baking(state, _counted(workspace, state), trouble=trouble, now=now)


def _counted(workspace: Workspace, state: RolloutState) -> VariantCounts:
    folder = Endpoint(state.endpoint, workspace.endpoint_folder(state.endpoint)).counts_folder
    return variant_counts(folder).get(NEXT, VariantCounts())


def _job_ended(workspace: Workspace, endpoint: str) -> bool:
    job = workspace.compute.find(f"endpoint/{endpoint}")
    return job is None or job.state.has_ended


def _asked(workspace: Workspace, loop: LoopFile, state: RolloutState, *, restarts: bool) -> None:
    """Ask the endpoint for what the phase says, and wait until it serves that."""
    folder = workspace.endpoint_folder(state.endpoint)
    endpoint = Endpoint(state.endpoint, folder)
    write_desired(folder, desired(state))
    if restarts and _job_ended(workspace, state.endpoint):
        workspace.compute.submit(service_job(endpoint, loop))
    wait_until_serving(
        folder,
        generation=state.generation,
        timeout_s=START_TIMEOUT_S,
        is_alive=lambda: not _job_ended(workspace, state.endpoint),
        restart=lambda: restart_endpoint(workspace, loop, endpoint),
    )


def _keep(workspace: Workspace, state: RolloutState, *, quietly: bool = False) -> None:
    body = msgspec.to_builtins(state)
    with workspace.metadata.transaction():
        workspace.metadata.put(_KIND, state.endpoint, body)
        if not quietly:
            workspace.metadata.append(
                f"loop/{state.loop}",
                _KIND,
                {
                    "round": state.round,
                    "phase": state.phase,
                    "share": state.share,
                    "version": state.next.version,
                    "summary": state.told,
                    "reason": state.reason,
                },
            )
