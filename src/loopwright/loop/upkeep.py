"""What is wrong with a loop itself: tasks that fail, rows nobody uses, models that wait, dead endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loopwright.loop.alarm import OPERATION_KINDS, keep_conditions
from loopwright.loop.condition import Condition
from loopwright.loop.file import LoopFile
from loopwright.loop.label_review import list_suspects
from loopwright.loop.label_source import source_state
from loopwright.loop.loop_gauge import keep_loop_gauges
from loopwright.loop.status import LoopStatus, loop_status
from loopwright.loop.timetable import Slot, list_slots
from loopwright.loop.trigger import LEAST_ROWS
from loopwright.loop.workspace import Workspace
from loopwright.monitor import Suspect

# a network that blinks is no reason to call somebody
_FAILURES = 3
_WORDS = {
    "look": "Looking at the endpoint",
    "refresh": "Reading the source",
    "labels": "Reading labels",
}


def keep_upkeep(workspace: Workspace, loop: LoopFile) -> None:
    """Raise and close the alarms about a loop itself."""
    if workspace.metadata.find("loop", loop.name) is None:
        return
    status = loop_status(workspace, loop.name)
    slots = list_slots(workspace.metadata, loop.name)
    conditions = [*_failing(slots), *_halted(status), *_unserved(status)]
    suspects = list_suspects(workspace, loop.name)
    conditions += _suspicious(suspects, status.file)
    conditions += _mistaught(suspects, status)
    labels = source_state(workspace, loop.name)
    if labels is not None and labels.problem:
        conditions.append(
            _wrong(
                "labels",
                "labels",
                f"The label source cannot be used: {labels.problem}",
                "Mend it; until then quality is not measured. It is read again at every look.",
            )
        )
    keep_conditions(workspace, loop, conditions, kinds=OPERATION_KINDS)
    keep_loop_gauges(workspace, loop)


def _failing(slots: list[Slot]) -> list[Condition]:
    return [
        _wrong(
            f"task/{slot.task}",
            slot.task,
            f"{_WORDS.get(slot.task, slot.task)} has failed {slot.n_failed} times in a row: {slot.told}",
            "Mend what the message names; it is tried again by itself.",
            is_certain=slot.n_failed >= _FAILURES,
        )
        for slot in slots
        if slot.n_failed
    ]


def _halted(status: LoopStatus) -> list[Condition]:
    """Return what keeps the newest round, or the newest rows, from going on."""
    found = []
    if status.quarantine is not None:
        found.append(
            _wrong("quarantine", "rows", status.quarantine, "Correct the rows, or accept them.")
        )
    feedback = status.feedback or {}
    if feedback.get("state") in ("held", "frozen"):
        found.append(
            _wrong(
                f"stopped/{feedback['since']}",
                str(feedback["state"]),
                f"The loop is {feedback['state']}: {feedback['reason']}",
                f"loopwright resume {status.file} --reason WHY, once the cause is mended.",
                # who was told of the faulty data knows why
                part_of="data_quality" if feedback.get("cause") == "data_quality" else "",
            )
        )
    latest: dict[str, Any] = status.round or {}
    number, conclusion = latest.get("number"), latest.get("conclusion", "")
    if latest.get("state") == "waiting for approval":
        action = f"loopwright approve {status.name}, or reject it with a reason."
        found.append(
            _wrong(
                f"approval/{number}",
                "approval",
                f"The model of round {number} waits for a person. {conclusion}",
                action,
            )
        )
    if latest.get("state") == "rolled back":
        found.append(
            _wrong(
                f"rollback/{number}",
                "rollout",
                f"The model of round {number} was rolled back. {conclusion}",
                "The model before it answers; see why it was rolled back.",
            )
        )
    return found


def _suspicious(suspects: Sequence[Suspect], file: str) -> list[Condition]:
    """Return one condition for each source with labels that wait for a person, however many batches.

    A source that goes on sending wrong labels is one cause, and told once.
    """
    open_ = [each for each in suspects if each.state == "open"]
    found = []
    for source in dict.fromkeys(each.batch.source for each in open_):
        batches = [each for each in open_ if each.batch.source == source]
        newest, n_labels = batches[-1], sum(each.n_rows for each in batches)
        several = f" in {len(batches)} batches; the newest" if len(batches) > 1 else ""
        name = newest.id if len(batches) == 1 else "ID"
        found.append(
            _wrong(
                f"held labels/{source}",
                "held labels",
                f"{n_labels:,} labels look wrong and count for nothing{several}: {newest.told}",
                f"Look at them (loopwright labels list {file}); then loopwright labels accept "
                f"{name} {file}, or loopwright labels reject {name} {file} --reason WHY.",
            )
        )
    return found


def _mistaught(suspects: Sequence[Suspect], status: LoopStatus) -> list[Condition]:
    """Return what is wrong where the champion learnt from labels that were taken back since."""
    live = (status.champion or {}).get("version")
    found = [each for each in suspects if each.state == "rejected" and live in each.taught]
    if not found:
        return []
    n_labels = sum(each.n_rows for each in found)
    return [
        _wrong(
            f"taken back/{live}",
            "labels taken back",
            f"The live model, version {live}, learnt from labels that were taken back since "
            f"({n_labels:,} labels, {', '.join(each.id for each in found[:5])}).",
            f"loopwright retrain {status.file} --reason WHY, once {LEAST_ROWS} labels have come for "
            "newer predictions.",
        )
    ]


def _unserved(status: LoopStatus) -> list[Condition]:
    endpoint = status.endpoint
    if status.champion is None or endpoint is None:
        return []
    if not endpoint["alive"]:
        message = f"The endpoint {endpoint['name']!r} does not run."
        return [_wrong("endpoint", "endpoint", message, "The next look starts it again.")]
    if endpoint["error"]:
        message = (
            f"The endpoint {endpoint['name']!r} could not follow a change: {endpoint['error']}"
        )
        return [_wrong("endpoint", "endpoint", message, "It answers with the model before.")]
    return []


def _wrong(
    mark: str,
    subject: str,
    message: str,
    action: str,
    *,
    is_certain: bool = True,
    part_of: str = "",
) -> Condition:
    return Condition(
        kind="operation",
        mark=mark,
        subject=subject,
        message=message,
        action=action,
        is_certain=is_certain,
        part_of=part_of,
    )
