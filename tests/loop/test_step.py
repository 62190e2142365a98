from __future__ import annotations

from pathlib import Path

import pytest

from loopwright.core.clock import FixedClock
from loopwright.core.errors import BackendError
from loopwright.loop.step import StepNews, StepResult, StepRunner
from loopwright.loop.workspace import Workspace
from loopwright.store import MemoryArtifactStore, MemoryMetadataStore


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    clock = FixedClock()
    return Workspace(
        home=tmp_path,
        metadata=MemoryMetadataStore(clock),
        artifacts=MemoryArtifactStore(tmp_path / "artifacts"),
        compute=None,  # type: ignore[arg-type]
        clock=clock,
        user="ann",
    )


class Work:
    """Counts how often it is done."""

    def __init__(self, *artifacts: str) -> None:
        self.times = 0
        self.artifacts = artifacts

    def __call__(self) -> StepResult:
        self.times += 1
        return StepResult(output={"value": 7}, summary="done", artifacts=self.artifacts)


def runner(workspace: Workspace, number: int = 1, news: list[StepNews] | None = None) -> StepRunner:
    return StepRunner(workspace, "houses", number, (news if news is not None else []).append)


def test_a_step_is_done_once_for_the_same_inputs(workspace: Workspace) -> None:
    work = Work()

    first = runner(workspace).run("train", inputs={"a": 1}, work=work)
    second = runner(workspace).run("train", inputs={"a": 1}, work=work)

    assert first == second == {"value": 7}
    assert work.times == 1


def test_a_step_is_done_again_when_its_inputs_change(workspace: Workspace) -> None:
    work = Work()

    runner(workspace).run("train", inputs={"a": 1}, work=work)
    runner(workspace).run("train", inputs={"a": 2}, work=work)

    assert work.times == 2


def test_a_later_round_keeps_what_an_earlier_one_found_out(workspace: Workspace) -> None:
    work, news = Work(), list[StepNews]()

    runner(workspace, 1).run("explore", inputs=["rows"], work=work)
    runner(workspace, 2, news).run("explore", inputs=["rows"], work=work)

    assert work.times == 1
    assert [each.state for each in news] == ["kept"]
    assert workspace.metadata.get("step", "houses/000002/explore").body["kept_from"] == 1


def test_different_steps_with_equal_inputs_do_not_take_each_others_results(
    workspace: Workspace,
) -> None:
    first, second = Work(), Work()

    runner(workspace).run("explore", inputs=["rows"], work=first)
    runner(workspace).run("decide", inputs=["rows"], work=second)

    assert second.times == 1


def test_a_step_whose_artifact_is_gone_is_done_again(workspace: Workspace) -> None:
    digest = workspace.artifacts.put_bytes(b"model")
    work = Work(digest)

    runner(workspace).run("pack", inputs=[], work=work)
    workspace.artifacts.delete(digest)
    runner(workspace).run("pack", inputs=[], work=work)

    assert work.times == 2


def test_a_step_that_was_killed_half_way_is_done_again(workspace: Workspace) -> None:
    work = Work()
    workspace.metadata.put(
        "step", "houses/000001/train", {"state": "running", "fingerprint": "whatever"}
    )

    runner(workspace).run("train", inputs={}, work=work)

    assert work.times == 1
    assert workspace.metadata.get("step", "houses/000001/train").body["state"] == "done"


def test_a_failure_is_on_record_and_the_step_can_be_tried_again(workspace: Workspace) -> None:
    def fails() -> StepResult:
        raise BackendError("The disk is full.", hint="Make room.")

    with pytest.raises(BackendError):
        runner(workspace).run("train", inputs={}, work=fails)

    body = workspace.metadata.get("step", "houses/000001/train").body
    assert body["state"] == "failed"
    assert body["reason"] == "The disk is full. Make room."
    assert runner(workspace).run("train", inputs={}, work=Work()) == {"value": 7}


def test_a_reconciling_step_with_nothing_to_do_leaves_no_record(workspace: Workspace) -> None:
    steps = runner(workspace)

    steps.reconcile("deploy", work=lambda: None)

    assert steps.n_done == 0
    assert workspace.metadata.find("step", "houses/000001/deploy") is None


def test_every_step_leaves_events_in_order(workspace: Workspace) -> None:
    steps = runner(workspace)

    steps.run("train", inputs={}, work=Work())
    steps.note("going round", reason="drift")

    kinds = [event.kind for event in workspace.metadata.list_events("loop/houses")]
    assert kinds == ["step started", "step done", "decision"]


def test_another_loop_does_its_own_steps(workspace: Workspace) -> None:
    work = Work()

    runner(workspace).run("explore", inputs=["rows"], work=work)
    StepRunner(workspace, "other", 1, lambda _: None).run("explore", inputs=["rows"], work=work)

    assert work.times == 2


def test_a_kept_step_goes_by_its_present_name(workspace: Workspace) -> None:
    steps = runner(workspace)

    steps.run("prepare.2", inputs=["x"], work=Work())
    steps.run("prepare.3", inputs=["x"], work=Work())

    assert workspace.metadata.get("step", "houses/000001/prepare.3").body["stage"] == "prepare.3"
