from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from loopwright.core.clock import FixedClock
from loopwright.core.errors import InvalidInputError, WrongStateError
from loopwright.loop.approval import (
    allow_by_policy,
    approve_waiting,
    check_released,
    find_rejection,
    is_approved,
    reject_waiting,
    release_policy,
)
from loopwright.loop.file import parse_loop_file
from loopwright.loop.release import deploy
from loopwright.loop.releasing import Releasing
from loopwright.loop.workspace import Workspace
from loopwright.store import MemoryMetadataStore

NOW = datetime(2026, 5, 2, 9, tzinfo=UTC)
FILE = """\
name: churn
problem: {target: churned}
data: {source: {kind: file, path: a.csv}}
deploy: {endpoint: churn%s}
retrain: {approve: %s}
"""


def loop_file(deploy: str = "", retrain: str = "auto") -> Any:
    return parse_loop_file((FILE % (deploy, retrain)).encode())


def model(name: str = "a", predictor: str = "") -> dict[str, Any]:
    return {
        "bundle": f"sha256:{name}",
        "version": f"v-{name}",
        "algorithm": "lightgbm",
        "predictor": f"sha256:p-{predictor or name}",
        "figures": {},
        "conclusion": "It holds.",
    }


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    clock = FixedClock(NOW)
    return Workspace(
        home=tmp_path,
        metadata=MemoryMetadataStore(clock),
        artifacts=None,  # type: ignore[arg-type]
        compute=None,  # type: ignore[arg-type]
        clock=clock,
        user="ann",
    )


def wait(workspace: Workspace, number: int = 1, **waiting: str) -> dict[str, Any]:
    body = {
        "number": number,
        "state": "waiting for approval",
        "conclusion": "",
        "waiting": model(**waiting),
        "ended_at": None,
    }
    workspace.metadata.put("round", f"churn/{number:06d}", body)
    return body


@pytest.mark.parametrize(
    ("deploy", "retrain", "cause", "who"),
    [
        ("", "auto", "first run", "auto"),
        ("", "manual", "first run", "manual"),
        ("", "manual", "drift", "manual"),
        # the first release by a person, later ones by the policy
        (", approve: manual", "auto", "first run", "manual"),
        (", approve: manual", "auto", "changed", "manual"),
        (", approve: manual", "auto", "criterion_missed", "auto"),
        (", approve: auto", "manual", "first run", "auto"),
        (", approve: auto", "manual", "rows", "manual"),
    ],
)
def test_who_approves_depends_on_who_began_the_round(
    deploy: str, retrain: str, cause: str, who: str
) -> None:
    assert release_policy(loop_file(deploy, retrain), cause) == who


def test_an_approval_holds_the_name_the_time_the_reason_and_the_exact_bundle(
    workspace: Workspace,
) -> None:
    wait(workspace)

    said = approve_waiting(workspace, "churn", by="Bo Chen", reason="the figures convince me")

    assert said == {
        **model(),
        "round": 1,
        "decision": "approved",
        "by": "Bo Chen",
        "at": NOW.isoformat(),
        "reason": "the figures convince me",
    }
    assert workspace.metadata.get("approval", "churn/000001").body == said
    assert [event.kind for event in workspace.metadata.list_events("loop/churn")] == ["approved"]
    assert is_approved(workspace, "churn", 1, model())
    assert not is_approved(workspace, "churn", 1, model("b"))
    assert not is_approved(workspace, "churn", 2, model())


def test_a_rejection_ends_the_round_and_is_remembered_for_the_same_model(
    workspace: Workspace,
) -> None:
    wait(workspace)

    reject_waiting(workspace, "churn", reason="it drops the new region")

    round_ = workspace.metadata.get("round", "churn/000001").body
    assert round_["state"] == "rejected"
    assert round_["ended_at"] == NOW.isoformat()
    assert round_["conclusion"] == (
        "Version v-a does not go live: ann rejected it on 2026-05-02: it drops the new region."
    )
    # packed anew it is another bundle, and the same model
    again = find_rejection(workspace, "churn", model("b", predictor="a"))
    assert again is not None
    assert again["reason"] == "it drops the new region"
    assert find_rejection(workspace, "churn", model("c")) is None
    assert find_rejection(workspace, "other", model()) is None


def test_a_rejection_can_be_taken_back(workspace: Workspace) -> None:
    wait(workspace)
    reject_waiting(workspace, "churn", reason="not sure")

    approve_waiting(workspace, "churn", reason="now I am")

    assert workspace.metadata.get("round", "churn/000001").body["state"] == "waiting for approval"
    assert find_rejection(workspace, "churn", model()) is None
    check_released(workspace, "churn", model()["bundle"])


def test_a_rejection_without_a_reason_is_refused(workspace: Workspace) -> None:
    wait(workspace)

    with pytest.raises(InvalidInputError, match="needs a reason"):
        reject_waiting(workspace, "churn", reason=" ")
    assert workspace.metadata.get("round", "churn/000001").body["state"] == "waiting for approval"


@pytest.mark.parametrize("state", ["open", "live", "criterion missed"])
def test_nothing_can_be_said_where_no_model_waits(workspace: Workspace, state: str) -> None:
    workspace.metadata.put("round", "churn/000001", {**wait(workspace), "state": state})

    for say in (approve_waiting, reject_waiting):
        with pytest.raises(WrongStateError, match=f"waits for approval; it is '{state}'"):
            say(workspace, "churn", reason="because")


def test_no_way_to_an_endpoint_is_open_to_a_model_that_nobody_approved(
    workspace: Workspace,
) -> None:
    wait(workspace)

    with pytest.raises(WrongStateError, match="not approved, so it is not deployed"):
        deploy(workspace, loop_file(), model())
    reject_waiting(workspace, "churn", reason="no")
    with pytest.raises(WrongStateError, match="rejected, so it is not deployed"):
        deploy(workspace, loop_file(), model())


def test_a_rollout_is_no_way_round_the_approval_either(workspace: Workspace) -> None:
    waiting = wait(workspace)
    unused: Any = None
    releasing = Releasing(
        workspace=workspace,
        loop=loop_file(),
        target=unused,
        about={},
        spec={},
        file="loop.yaml",
        again="",
    )

    with pytest.raises(WrongStateError, match="not approved, so it is not deployed"):
        releasing._rolled_out(unused, waiting)


@pytest.mark.parametrize(
    ("retrain", "before", "asks"),
    [
        ("auto", None, False),
        ("manual", None, True),
        ("auto, ask: [first_promotion]", None, True),
        ("auto, ask: [first_promotion]", {"version": "v0"}, False),
        ("auto, ask: [segment_harm]", None, False),
    ],
)
def test_the_file_may_ask_for_a_person_at_the_first_promotion(
    workspace: Workspace, retrain: str, before: Any, asks: bool
) -> None:
    workspace.metadata.put("champion", "churn", {"round": 1, "before": before})
    unused: Any = None
    releasing = Releasing(
        workspace=workspace,
        loop=loop_file(retrain=f"{retrain}"),
        target=unused,
        about={},
        spec={},
        file="loop.yaml",
        again="",
    )

    assert releasing._asks({"cause": "drift"}, {}) is asks
    # a challenger that is better but for a segment is asked about where it got this far
    assert releasing._asks({"cause": "drift"}, {"asks": "A person decides."})


def test_a_model_that_the_policy_let_through_is_released_and_another_is_not(
    workspace: Workspace,
) -> None:
    allow_by_policy(workspace, loop_file(), 1, model())

    check_released(workspace, "churn", model()["bundle"])
    with pytest.raises(WrongStateError, match="not approved"):
        check_released(workspace, "churn", model("b")["bundle"])
    # what the policy says is no person's word
    assert not is_approved(workspace, "churn", 1, model())


def test_what_a_person_approved_is_not_overwritten_by_the_policy(workspace: Workspace) -> None:
    wait(workspace)
    approve_waiting(workspace, "churn", by="Bo Chen")

    allow_by_policy(workspace, loop_file(), 1, model())

    assert workspace.metadata.get("approval", "churn/000001").body["by"] == "Bo Chen"


def test_a_champion_of_an_earlier_release_of_loopwright_goes_on_serving(
    workspace: Workspace,
) -> None:
    before = {"bundle": "sha256:older", "before": None}
    workspace.metadata.put("champion", "churn", {"bundle": "sha256:old", "before": before})

    check_released(workspace, "churn", "sha256:old")
    check_released(workspace, "churn", "sha256:older")
    with pytest.raises(WrongStateError):
        check_released(workspace, "churn", "sha256:new")


def test_an_approval_of_an_earlier_release_of_loopwright_is_a_yes(workspace: Workspace) -> None:
    old = {"round": 1, "bundle": "sha256:a", "version": "v-a", "by": "ann", "at": "", "reason": ""}
    workspace.metadata.put("approval", "churn/000001", old)

    assert is_approved(workspace, "churn", 1, model())
    assert find_rejection(workspace, "churn", model()) is None
