"""Where every loop stands, what was decided and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loopwright.core.errors import NotFoundError
from loopwright.core.names import did_you_mean
from loopwright.deploy import read_actual
from loopwright.loop.alarm import list_alarms
from loopwright.loop.feedback_history import loop_history
from loopwright.loop.feedback_store import find_state
from loopwright.loop.judged_rows import Look, looks_at
from loopwright.loop.rollout import find_rollout
from loopwright.loop.step import round_key
from loopwright.loop.timetable import list_slots
from loopwright.loop.workspace import Workspace
from loopwright.problem import moves

_SHOWN_DECISIONS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopStatus:
    """One loop: its present round with every step, its champion, its endpoint, its monitor.

    Parameters
    ----------
    seals
        The criteria as they were agreed, oldest first.
    quarantine
        Why the newest rows of the source are not used; None while they are.
    goalposts
        How the criteria were moved since the first seal, oldest first.
    looks
        At the test rows of the present round, by this loop and others, oldest first.
    approval
        What was decided about the model of the present round: by whom, when and why.
    report
        Digest of the page of the model report, as it was when the loop last ran.
    rollout
        The last rollout on its endpoint: `phase`, `share`, `version`, `since`, `reason`, `told` and
        what the new version did in this step; None if there was none.
    feedback
        Where the feedback loop stands: `state`, `meaning`, `cause`, `reason`, `since`, `until`, and
        `decisions`, the last of them; `loop_history` has all.
    alarms
        The open ones, oldest first.
    tasks
        What was done on a schedule, when, and how it went.
    """

    name: str
    file: str
    question: str
    round: dict[str, Any] | None
    rounds: tuple[dict[str, Any], ...]
    steps: tuple[dict[str, Any], ...]
    champion: dict[str, Any] | None
    endpoint: dict[str, Any] | None
    monitor: dict[str, Any] | None
    seals: tuple[dict[str, Any], ...]
    quarantine: str | None = None
    goalposts: tuple[dict[str, Any], ...] = ()
    looks: tuple[dict[str, Any], ...] = ()
    approval: dict[str, Any] | None = None
    report: str | None = None
    rollout: dict[str, Any] | None = None
    feedback: dict[str, Any] | None = None
    alarms: tuple[dict[str, Any], ...] = ()
    tasks: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the status as JSON types."""
        return {
            name: list(value) if isinstance(value := getattr(self, name), tuple) else value
            for name in self.__slots__
        }


def list_loops(workspace: Workspace) -> list[str]:
    """Return the names of the loops in this home, sorted."""
    return [record.key for record in workspace.metadata.list_("loop")]


def loop_status(workspace: Workspace, name: str) -> LoopStatus:
    """Return where a loop stands.

    Raises
    ------
    NotFoundError
        If there is no such loop here, with the nearest name.
    """
    metadata = workspace.metadata
    record = metadata.find("loop", name)
    if record is None:
        raise NotFoundError(
            f"There is no loop {name!r} in {str(workspace.home)!r}.",
            hint=did_you_mean(name, list_loops(workspace)),
            kind="loop",
            name=name,
        )
    rounds = tuple(
        {key: value for key, value in found.body.items() if key != "spec"}
        for found in metadata.list_("round", prefix=f"{name}/")
    )
    latest = rounds[-1] if rounds else None
    steps: list[dict[str, Any]] = []
    if latest is not None:
        prefix = f"{name}/{latest['number']:06d}/"
        steps = [found.body for found in metadata.list_("step", prefix=prefix)]
        # deploy and monitor come back at every look; the others stand in the order they were taken
        steps.sort(key=lambda body: (body["stage"] == "monitor", body.get("place", 0)))
    champion = metadata.find("champion", name)
    monitor = metadata.find("monitor", name)
    seal = metadata.find("seal", name)
    source = metadata.find("source", name)
    held = source.body.get("quarantine") if source else None
    seals = tuple(seal.body["seals"]) if seal else ()
    approval = metadata.find("approval", round_key(name, latest["number"])) if latest else None
    page = metadata.find("model_report", round_key(name, latest["number"])) if latest else None
    return LoopStatus(
        name=name,
        file=record.body["file"],
        question=record.body["question"],
        round=latest,
        rounds=rounds,
        steps=tuple(steps),
        champion=champion.body if champion else None,
        endpoint=endpoint_status(workspace, record.body.get("endpoint")),
        monitor=monitor.body.get("report") if monitor else None,
        seals=seals,
        quarantine=held["note"] if held else None,
        goalposts=tuple(move.to_json() for move in moves(seals)),
        looks=tuple(look.to_json() for look in _looks(workspace, steps)),
        approval=approval.body if approval else None,
        report=page.body["page"] if page else None,
        rollout=rollout_status(workspace, record.body.get("endpoint")),
        feedback=feedback_status(workspace, name),
        alarms=tuple(open_alarms(workspace, name)),
        tasks=tuple(each.to_json() for each in list_slots(metadata, name)),
    )


def open_alarms(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    """Return the open alarms of a loop as JSON types, without what each was computed from."""
    found = list_alarms(workspace, name, include_closed=False)
    return [{k: v for k, v in each.to_json().items() if k != "details"} for each in found]


def feedback_status(workspace: Workspace, name: str) -> dict[str, Any] | None:
    """Return where the feedback loop of a loop stands; None before it has recorded anything."""
    if find_state(workspace.metadata, name) is None:
        return None
    history = loop_history(workspace, name)
    state = history.state
    return {
        "state": state.state,
        "meaning": history.meaning,
        "cause": state.cause,
        "reason": state.reason,
        "since": state.since.isoformat(),
        "until": state.until.isoformat() if state.until else None,
        "champion": state.champion,
        "previous": state.previous,
        "challenger": state.challenger,
        "n_decisions": len(history.decisions),
        "decisions": [each.to_json() for each in history.decisions[-_SHOWN_DECISIONS:]],
    }


def _looks(workspace: Workspace, steps: list[dict[str, Any]]) -> list[Look]:
    """Return the looks at the test rows of a round."""
    rows = [
        step["output"]["test"] for step in steps if step["stage"] == "data" and "output" in step
    ]
    return looks_at(workspace.metadata, rows[0]) if rows else []


def rollout_status(workspace: Workspace, name: str | None) -> dict[str, Any] | None:
    """Return where the last rollout on an endpoint stands; None if there was none."""
    state = find_rollout(workspace, name) if name is not None else None
    if state is None:
        return None
    seen = state.seen
    return {
        "phase": state.phase,
        "share": state.share,
        "version": state.next.version,
        "before": state.current.version,
        "begun_at": state.begun_at,
        "since": state.since,
        "reason": state.reason,
        "told": state.told,
        "n_requests": seen.n_requests,
        "n_errors": seen.n_errors,
    }


def endpoint_status(workspace: Workspace, name: str | None) -> dict[str, Any] | None:
    """Return what an endpoint serves and whether its process lives; None if there is none."""
    if name is None:
        return None
    job = workspace.compute.find(f"endpoint/{name}")
    actual = read_actual(workspace.endpoint_folder(name))
    if job is None or actual is None:
        return None
    alive = not job.state.has_ended
    return {
        "name": name,
        "alive": alive,
        "url": f"http://{actual.host}:{actual.port}" if alive else None,
        "version": actual.version,
        "generation": actual.generation,
        "pid": actual.pid,
        "error": actual.error,
        "job": job.id,
    }
