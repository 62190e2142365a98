"""The record of a round: how it is closed, and which model is the champion then."""

from __future__ import annotations

from typing import Any

from loopwright.loop.feedback_state import FINAL, Ended, Event, Rolled, TakeBack, Waited
from loopwright.loop.feedback_store import tell
from loopwright.loop.step import round_key
from loopwright.loop.workspace import Workspace


def closed(
    workspace: Workspace, name: str, body: dict[str, Any], state: str, conclusion: str
) -> dict[str, Any]:
    """Record where a round of the loop `name` stands, ended or halted, and return its record.

    The feedback loop takes its step in the same transaction.
    """
    is_final = state in FINAL
    ended = {
        **body,
        "state": state,
        "conclusion": conclusion,
        "ended_at": workspace.clock.now().isoformat() if is_final else None,
    }
    with workspace.metadata.transaction():
        workspace.metadata.put("round", round_key(name, body["number"]), ended)
        if (body.get("state"), body["conclusion"]) != (state, conclusion):
            workspace.metadata.append(
                f"loop/{name}",
                "round ended" if is_final else "round halted",
                {"round": body["number"], "state": state, "conclusion": conclusion},
            )
        happened(workspace, name, ended)
    return ended


def happened(workspace: Workspace, name: str, body: dict[str, Any], *, share: float = 0.0) -> None:
    """Tell the feedback loop where a round stands; telling it twice does no harm.

    Parameters
    ----------
    body
        The round's record.
    share
        The part of the callers that its model answers while it is rolled out, 0 to 1.
    """
    number, told = int(body["number"]), str(body["conclusion"])
    version = str((body.get("waiting") or {}).get("version", ""))
    event: Event
    if body["state"] in FINAL:
        minutes, money = round_cost(workspace, name, body)
        event = Ended(
            number=number,
            outcome=body["state"],
            version=version,
            conclusion=told,
            minutes=minutes,
            money=money,
            evidence=_evidence(workspace, name, number),
        )
    elif body["state"] == "waiting for approval":
        event = Waited(number=number, version=version, reason=told)
    else:
        event = Rolled(number=number, version=version, share=share, told=told)
    tell(workspace.metadata, name, event, now=workspace.clock.now())


def round_cost(workspace: Workspace, name: str, body: dict[str, Any]) -> tuple[float, float]:
    """Return how many minutes a round has trained for, and what that cost at the file's price."""
    place = round_key(name, body["number"])
    steps = [
        step
        for stage in ("train", "refit")
        for step in workspace.metadata.list_("step", prefix=f"{place}/{stage}")
    ]
    minutes = sum(float(step.body.get("wall_s") or 0.0) for step in steps) / 60
    train = (body.get("spec") or {}).get("train") or {}
    price = (train.get("budget") or {}).get("price_per_cpu_hour") or 0.0
    cpus = (train.get("resources") or {}).get("cpus") or 1
    return minutes, minutes / 60 * float(cpus) * float(price)


def _evidence(workspace: Workspace, name: str, number: int) -> dict[str, Any]:
    """Return what a round's model was judged by, as far as a person wants to see it in a history."""
    record = workspace.metadata.find("step", f"{round_key(name, number)}/evaluate")
    output = (record.body.get("output") or {}) if record else {}
    return {key: output[key] for key in ("figures", "comparison", "gate") if output.get(key)}


def champion_of(workspace: Workspace, name: str) -> dict[str, Any] | None:
    """Return the record of the model that a loop serves; None if there is none."""
    record = workspace.metadata.find("champion", name)
    return record.body if record else None


def taken_back(workspace: Workspace, name: str, effect: TakeBack) -> None:
    """Make the champion before a round's model the champion again; doing it twice does no harm.

    The model is kept, and a person may approve it once more; the endpoint follows the record.
    """
    metadata = workspace.metadata
    champion = champion_of(workspace, name)
    if champion is None or champion["version"] != effect.version or champion["before"] is None:
        return
    now = workspace.clock.now().isoformat()
    told = f"It was taken back to version {effect.back}: {effect.reason}."
    key = round_key(name, effect.number)
    record = metadata.find("round", key)
    back = {**champion["before"], "before": None, "taken_back": effect.version}
    with metadata.transaction():
        metadata.put("champion", name, {**back, "since": now})
        if record is not None:
            conclusion = f"{record.body['conclusion']} {told}".strip()
            metadata.put(
                "round", key, {**record.body, "state": "rolled back", "conclusion": conclusion}
            )
        metadata.append(
            f"loop/{name}",
            "champion",
            {"round": champion["before"]["round"], "version": effect.back, "reason": told},
        )


__all__ = ["FINAL", "champion_of", "closed", "happened", "round_cost", "taken_back"]
