"""The record of a round: how it is closed, and which model is the champion then."""

from __future__ import annotations

from typing import Any

from loopwright.loop.step import round_key
from loopwright.loop.workspace import Workspace

FINAL = frozenset(
    {
        "live",
        "kept champion",
        "criterion missed",
        "not ml",
        "rule enough",
        "rejected",
        "rolled back",
    }
)


def closed(
    workspace: Workspace, name: str, body: dict[str, Any], state: str, conclusion: str
) -> dict[str, Any]:
    """Record where a round of the loop `name` stands, ended or halted, and return its record."""
    is_final = state in FINAL
    ended = {
        **body,
        "state": state,
        "conclusion": conclusion,
        "ended_at": workspace.clock.now().isoformat() if is_final else None,
    }
    with workspace.metadata.transaction():
        workspace.metadata.put("round", round_key(name, body["number"]), ended)
        if (body["state"], body["conclusion"]) != (state, conclusion):
            workspace.metadata.append(
                f"loop/{name}",
                "round ended" if is_final else "round halted",
                {"round": body["number"], "state": state, "conclusion": conclusion},
            )
    return ended


def champion_of(workspace: Workspace, name: str) -> dict[str, Any] | None:
    """Return the record of the model that a loop serves; None if there is none."""
    record = workspace.metadata.find("champion", name)
    return record.body if record else None
