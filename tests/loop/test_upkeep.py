"""What is wrong with a loop itself is an alarm too, once, and over when it is mended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from loopwright.core.clock import FixedClock
from loopwright.loop.alarm import list_alarms
from loopwright.loop.feedback_state import Held, Resumed
from loopwright.loop.feedback_store import tell
from loopwright.loop.file import LoopFile, parse_loop_file
from loopwright.loop.label_source import SourceState
from loopwright.loop.outbox import list_outbox
from loopwright.loop.timetable import Slot, put_slot, went_well, went_wrong
from loopwright.loop.upkeep import keep_upkeep
from loopwright.loop.workspace import Workspace
from loopwright.monitor import Suspect
from loopwright.monitor.label_rule import HeldBatch
from loopwright.settings import read_settings
from loopwright.wiring import open_workspace


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def workspace(tmp_path: Path, clock: FixedClock) -> Workspace:
    workspace = open_workspace(read_settings({}, home=tmp_path), clock=clock)
    known = {"file": "loop.yaml", "question": "", "endpoint": "shop"}
    workspace.metadata.put("loop", "shop", known)
    return workspace


@pytest.fixture
def loop() -> LoopFile:
    return parse_loop_file(
        b"name: shop\nproblem: {target: price, criteria: [{metric: mape, at_most: 0.5}]}\n"
        b"data: {source: {kind: file, path: sales.csv}}\n"
    )


def _round(workspace: Workspace, state: str) -> None:
    body: dict[str, Any] = {"loop": "shop", "number": 1, "cause": "first run", "reason": "why"}
    body |= {"state": state, "conclusion": "It is better.", "live": None, "overruled": ""}
    body |= {"started_at": workspace.clock.now().isoformat(), "ended_at": None, "spec": {}}
    workspace.metadata.put("round", "shop/000001", body)


def _open(workspace: Workspace, loop: LoopFile) -> list[str]:
    keep_upkeep(workspace, loop)
    return [each.subject for each in list_alarms(workspace, "shop", include_closed=False)]


def test_a_loop_in_order_has_no_alarm(workspace: Workspace, loop: LoopFile) -> None:
    _round(workspace, "live")

    assert _open(workspace, loop) == []


@pytest.mark.parametrize(
    ("state", "subject"), [("waiting for approval", "approval"), ("rolled back", "rollout")]
)
def test_a_round_that_needs_a_person_is_told_once_until_it_is_decided(
    workspace: Workspace, loop: LoopFile, state: str, subject: str
) -> None:
    _round(workspace, state)
    assert [_open(workspace, loop) for _ in range(3)] == [[subject]] * 3

    _round(workspace, "live")

    assert _open(workspace, loop) == []
    assert len(list_alarms(workspace, "shop")) == 1


def test_two_failures_are_no_alarm_and_a_third_is(
    workspace: Workspace, loop: LoopFile, clock: FixedClock
) -> None:
    slot, found = Slot(loop="shop", task="refresh"), []
    for _ in range(3):
        slot = put_slot(workspace.metadata, went_wrong(slot, now=clock.at, told="No route."))
        found.append(_open(workspace, loop))
    put_slot(workspace.metadata, went_well(slot, 60, now=clock.at, told=""))

    assert found == [[], [], ["refresh"]]
    assert _open(workspace, loop) == []


def test_a_loop_that_is_held_says_by_whom_until_it_is_resumed(
    workspace: Workspace, loop: LoopFile, clock: FixedClock
) -> None:
    _round(workspace, "live")
    tell(workspace.metadata, "shop", Held(by="ann", reason="a holiday"), now=clock.at)
    assert _open(workspace, loop) == ["held"]
    assert "a holiday" in list_alarms(workspace, "shop")[0].message
    assert "resume loop.yaml --reason WHY" in list_alarms(workspace, "shop")[0].action

    tell(workspace.metadata, "shop", Resumed(by="ann", reason="back"), now=clock.at)

    assert _open(workspace, loop) == []


def test_labels_that_cannot_be_read_are_an_alarm(workspace: Workspace, loop: LoopFile) -> None:
    state = SourceState(spec="x", problem="There is no table 'truth'.")
    workspace.metadata.put("label_source", "shop", msgspec.to_builtins(state))

    assert _open(workspace, loop) == ["labels"]


def test_labels_that_are_held_are_an_alarm_until_a_person_decides(
    workspace: Workspace, loop: LoopFile, clock: FixedClock
) -> None:
    batch = HeldBatch(id="5f0c", source="crm", from_at=clock.at, to_at=clock.at, after=1, upto=2)
    suspect = Suspect(
        id="5f0c",
        batch=batch,
        n_rows=600,
        kinds=("loss",),
        told="They disagree.",
        found_at=clock.at,
    )
    workspace.metadata.put("label_suspect", "shop/5f0c", msgspec.to_builtins(suspect))
    assert [_open(workspace, loop) for _ in range(2)] == [["held labels"]] * 2
    (alarm,) = list_alarms(workspace, "shop")
    assert "600 labels look wrong" in alarm.message
    assert "loopwright labels accept 5f0c loop.yaml" in alarm.action

    decided = msgspec.structs.replace(suspect, state="rejected")
    workspace.metadata.put("label_suspect", "shop/5f0c", msgspec.to_builtins(decided))

    assert _open(workspace, loop) == []


def test_a_loop_that_never_ran_is_left_alone(workspace: Workspace, loop: LoopFile) -> None:
    workspace.metadata.delete("loop", "shop")

    assert _open(workspace, loop) == []


def test_a_source_that_goes_on_sending_wrong_labels_is_one_alarm(
    workspace: Workspace, loop: LoopFile, clock: FixedClock
) -> None:
    for number in (1, 2):
        batch = HeldBatch(
            id=f"5f0{number}", source="crm", from_at=clock.at, to_at=clock.at, after=1, upto=2
        )
        suspect = Suspect(
            id=batch.id,
            batch=batch,
            n_rows=600,
            kinds=("loss",),
            told="They disagree.",
            found_at=clock.at,
        )
        workspace.metadata.put("label_suspect", f"shop/{batch.id}", msgspec.to_builtins(suspect))
        assert _open(workspace, loop) == ["held labels"]

    (alarm,) = list_alarms(workspace, "shop")
    assert "1,200 labels look wrong and count for nothing in 2 batches" in alarm.message
    assert "loopwright labels accept ID loop.yaml" in alarm.action
    assert len({entry.notice.key for entry in list_outbox(workspace, "shop")}) == 1
