from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loopwright.core.clock import FixedClock
from loopwright.core.errors import WrongStateError
from loopwright.deploy import DesiredState, Rollout, RolloutState
from loopwright.deploy.rollout import Model, begun, entered
from loopwright.loop.approval import approve_waiting
from loopwright.loop.file import parse_loop_file
from loopwright.loop.progress import closed, look_after_rollout, rolling_round
from loopwright.loop.rollout import find_rollout, rollout_under_way
from loopwright.loop.status import rollout_status
from loopwright.loop.workspace import Workspace
from loopwright.store import MemoryMetadataStore

NOW = datetime(2026, 5, 2, 9, tzinfo=UTC)
LOOP = parse_loop_file(
    b"name: churn\nproblem: {target: churned}\ndata: {source: {kind: file, path: a.csv}}\n"
    b"deploy: {endpoint: churn, rollout: {kind: canary}}\n"
)
ROUND = {
    "number": 2,
    "state": "rolling out",
    "conclusion": "It holds.",
    "live": None,
    "ended_at": None,
    "waiting": {
        "bundle": "sha256:b",
        "version": "new",
        "algorithm": "lightgbm",
        "predictor": "sha256:p",
        "figures": {},
        "learnt_from": [],
        "conclusion": "It holds.",
    },
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    clock = FixedClock(NOW)
    metadata = MemoryMetadataStore(clock)
    metadata.put("champion", "churn", {"round": 1, "version": "old"})
    metadata.put("round", "churn/000002", ROUND)
    metadata.put("loop", "churn", {"endpoint": "churn"})
    return Workspace(
        home=tmp_path,
        metadata=metadata,
        artifacts=None,  # type: ignore[arg-type]
        compute=None,  # type: ignore[arg-type]
        clock=clock,
        user="ann",
    )


def state(phase: Any, **changes: Any) -> RolloutState:
    base = DesiredState(name="churn", bundle="/m/1", version="old", generation=4)
    first = begun(
        Rollout(kind="canary"),
        loop="churn",
        round_=2,
        base=base,
        next_=Model(bundle="/m/2", version="new"),
        now=NOW,
    )
    return entered(first, phase, NOW, **changes)


def kept(workspace: Workspace, found: RolloutState) -> RolloutState:
    workspace.metadata.put("rollout", "churn", msgspec.to_builtins(found))
    return found


def champion(workspace: Workspace) -> str:
    return str(workspace.metadata.get("champion", "churn").body["version"])


def test_a_rollout_that_is_done_crowns_its_model_once(workspace: Workspace) -> None:
    for _ in range(2):
        ended = closed(workspace, LOOP, ROUND, state("done"))

    assert (ended["state"], ended["conclusion"]) == ("live", "It holds.")
    assert champion(workspace) == "new"
    crowned = [e for e in workspace.metadata.list_events("loop/churn") if e.kind == "champion"]
    assert len(crowned) == 1
    assert rolling_round(workspace, "churn") is None


def test_a_rollback_leaves_the_champion_and_says_why(workspace: Workspace) -> None:
    ended = closed(workspace, LOOP, ROUND, state("rolled back", reason="error_rate is over 0.01"))

    assert ended["state"] == "rolled back"
    assert ended["conclusion"] == (
        "It holds. Version new was rolled back to version old: error_rate is over 0.01."
    )
    assert champion(workspace) == "old"


def test_under_way_the_round_stays_open_and_tells_the_share(workspace: Workspace) -> None:
    ended = closed(workspace, LOOP, ROUND, state("baking"))

    assert (ended["state"], ended["ended_at"]) == ("rolling out", None)
    assert ended["conclusion"] == (
        "It holds. Version new answers 10% of the callers (step 1 of 3)."
    )
    assert rolling_round(workspace, "churn") == ended


def test_a_model_that_was_rolled_back_can_be_approved_for_another_rollout(
    workspace: Workspace,
) -> None:
    kept(workspace, state("rolled back", reason="x"))
    closed(workspace, LOOP, ROUND, state("rolled back", reason="x"))

    approve_waiting(workspace, "churn", reason="the disk was full")

    assert workspace.metadata.get("round", "churn/000002").body["state"] == "waiting for approval"
    assert find_rollout(workspace, "churn") is None


def test_status_tells_of_the_rollout(workspace: Workspace) -> None:
    assert rollout_status(workspace, "churn") is None
    kept(workspace, state("baking"))

    told = rollout_status(workspace, "churn")

    assert told is not None
    assert (told["phase"], told["share"], told["before"]) == ("baking", 0.1, "old")
    assert rollout_under_way(workspace, "churn") is not None


def test_without_a_rollout_nothing_is_done_and_a_wish_is_refused(workspace: Workspace) -> None:
    workspace.metadata.put("round", "churn/000002", {**ROUND, "state": "live"})

    assert look_after_rollout(workspace, LOOP, lambda _news: None) is None
    with pytest.raises(WrongStateError, match="No rollout of the loop 'churn' is under way"):
        look_after_rollout(workspace, LOOP, lambda _news: None, wish="abort")
