"""Who says that a model may go live: the policy, or a person; and the models that people refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from loopwright.core.errors import InvalidInputError, WrongStateError
from loopwright.loop.round_record import happened
from loopwright.loop.step import round_key
from loopwright.loop.trigger import OWN_CAUSES

if TYPE_CHECKING:
    from loopwright.loop.file import LoopFile
    from loopwright.loop.workspace import Workspace

_KIND = "approval"
_MOST = 10_000
_POLICY = "policy"

Decision = Literal["approved", "rejected"]


def release_policy(loop: LoopFile, cause: str) -> Literal["auto", "manual"]:
    """Return who approves the model of a round: `auto`, the criteria; `manual`, a person.

    `retrain.approve` speaks of the rounds the loop begins by itself and, where `deploy.approve` is
    absent, of all others too.
    """
    asked = loop.deploy.approve if loop.deploy is not None else None
    if cause in OWN_CAUSES or asked is None:
        return loop.retrain.approve
    return asked


def allow_by_policy(
    workspace: Workspace, loop: LoopFile, number: int, model: dict[str, Any]
) -> None:
    """Record that the policy lets a model go live; once for each model of a round."""
    known = workspace.metadata.find(_KIND, round_key(loop.name, number))
    if known is not None and known.body["bundle"] == model["bundle"] and _says_yes(known.body):
        return
    reason = (
        "the policy lets a model go live that meets the criteria, or that is better beyond doubt "
        "than the one before it"
    )
    body = _decision(workspace, number, model, "approved", by=_POLICY, reason=reason)
    workspace.metadata.put(_KIND, round_key(loop.name, number), body)


def is_approved(workspace: Workspace, name: str, number: int, model: dict[str, Any]) -> bool:
    """Tell whether a person approved this very model, not one that stood there before."""
    record = workspace.metadata.find(_KIND, round_key(name, number))
    return (
        record is not None
        and record.body["bundle"] == model["bundle"]
        and _says_yes(record.body)
        and record.body.get("by") != _POLICY
    )


def find_rejection(workspace: Workspace, name: str, model: dict[str, Any]) -> dict[str, Any] | None:
    """Return what a person said who refused this model, in this round or an earlier one."""
    for body in reversed(_decisions(workspace, name)):
        same = body["bundle"] == model["bundle"] or body.get("predictor") == model["predictor"]
        if same and body.get("by") != _POLICY:
            return None if _says_yes(body) else body
    return None


def told_rejection(said: dict[str, Any]) -> str:
    """Return in words who refused a model, when and why."""
    return f"{said['by']} rejected it on {said['at'][:10]}: {said['reason']}"


def check_released(workspace: Workspace, name: str, bundle: str) -> None:
    """Refuse to serve a model that neither a person nor the policy approved.

    Every way to an endpoint passes here.

    Raises
    ------
    WrongStateError
        If nobody approved exactly this bundle.
    """
    decided = [body for body in _decisions(workspace, name) if body["bundle"] == bundle]
    if decided and _says_yes(decided[-1]):
        return
    champion = workspace.metadata.find("champion", name)
    served = [champion.body, champion.body.get("before") or {}] if champion else []
    # a champion of an earlier release of loopwright has no record of its approval
    if not decided and any(each.get("bundle") == bundle for each in served):
        return
    raise WrongStateError(
        f"The model {bundle} of the loop {name!r} was "
        f"{'rejected' if decided else 'not approved'}, so it is not deployed.",
        hint="`loopwright status` shows what waits; `loopwright approve` lets it go live.",
        kind="model",
        name=name,
    )


def approve_waiting(
    workspace: Workspace, name: str, *, by: str = "", reason: str = ""
) -> dict[str, Any]:
    """Approve the model that waits, or was rejected or rolled back last; return what was recorded.

    Raises
    ------
    WrongStateError
        If no model waits.
    """
    round_ = _asked_round(workspace, name, ("waiting for approval", "rejected", "rolled back"))
    with workspace.metadata.transaction():
        said = _said(workspace, name, round_, "approved", by=by, reason=reason)
        if round_["state"] == "rolled back":
            loop = workspace.metadata.get("loop", name)
            # it may be rolled out once more, from the beginning
            workspace.metadata.delete("rollout", loop.body["endpoint"])
        if round_["state"] in ("rejected", "rolled back"):
            waiting = {**round_, "state": "waiting for approval", "ended_at": None}
            workspace.metadata.put("round", round_key(name, round_["number"]), waiting)
            happened(workspace, name, waiting)
    return said


def reject_waiting(
    workspace: Workspace, name: str, *, by: str = "", reason: str = ""
) -> dict[str, Any]:
    """Reject the model that waits, which ends its round, and return what was recorded.

    Raises
    ------
    InvalidInputError
        If no reason is given.
    WrongStateError
        If no model waits.
    """
    if not reason.strip():
        raise InvalidInputError(
            "A rejection needs a reason: who plans the next round will ask for it.",
            hint="Give it with --reason.",
            field="reason",
            value=reason,
        )
    round_ = _asked_round(workspace, name, ("waiting for approval",))
    with workspace.metadata.transaction():
        said = _said(workspace, name, round_, "rejected", by=by, reason=reason)
        close_rejected(workspace, name, round_, said)
    return said


def close_rejected(
    workspace: Workspace, name: str, round_: dict[str, Any], said: dict[str, Any]
) -> dict[str, Any]:
    """End the round of a rejected model and return its record."""
    kept = "" if workspace.metadata.find("champion", name) is None else " The champion stays."
    ended = {
        **round_,
        "state": "rejected",
        "conclusion": f"Version {said['version']} does not go live: {told_rejection(said)}.{kept}",
        "ended_at": workspace.clock.now().isoformat(),
    }
    with workspace.metadata.transaction():
        workspace.metadata.put("round", round_key(name, round_["number"]), ended)
        workspace.metadata.append(
            f"loop/{name}",
            "round ended",
            {
                "round": round_["number"],
                "state": "rejected",
                "conclusion": ended["conclusion"],
            },
        )
        happened(workspace, name, ended)
    return ended


def _said(
    workspace: Workspace,
    name: str,
    round_: dict[str, Any],
    decision: Decision,
    *,
    by: str,
    reason: str,
) -> dict[str, Any]:
    number = int(round_["number"])
    body = _decision(
        workspace, number, round_["waiting"], decision, by=by or workspace.user, reason=reason
    )
    with workspace.metadata.transaction():
        workspace.metadata.put(_KIND, round_key(name, number), body)
        workspace.metadata.append(f"loop/{name}", decision, body)
    return body


def _decision(
    workspace: Workspace,
    number: int,
    model: dict[str, Any],
    decision: Decision,
    *,
    by: str,
    reason: str,
) -> dict[str, Any]:
    about = ("bundle", "version", "algorithm", "predictor", "figures", "conclusion")
    return {
        **{key: model[key] for key in about if key in model},
        "round": number,
        "decision": decision,
        "by": by,
        "at": workspace.clock.now().isoformat(),
        "reason": reason,
    }


def _asked_round(workspace: Workspace, name: str, states: tuple[str, ...]) -> dict[str, Any]:
    """Return the last round of the loop if it stands in one of the states."""
    rounds = workspace.metadata.list_("round", prefix=f"{name}/", limit=_MOST)
    if not rounds or rounds[-1].body["state"] not in states:
        state = f"it is {rounds[-1].body['state']!r}" if rounds else "it has not run"
        raise WrongStateError(
            f"No round of the loop {name!r} waits for approval; {state}.",
            hint="`loopwright status` shows where it stands.",
            kind="loop",
            name=name,
        )
    return rounds[-1].body


def _decisions(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    """Return all that was decided about models of the loop, by round."""
    return [
        record.body for record in workspace.metadata.list_(_KIND, prefix=f"{name}/", limit=_MOST)
    ]


def _says_yes(body: dict[str, Any]) -> bool:
    # before there were rejections every record was an approval
    return bool(body.get("decision", "approved") == "approved")
