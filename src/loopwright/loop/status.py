"""Where every loop stands, what was decided and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loopwright.core.errors import NotFoundError
from loopwright.core.names import did_you_mean
from loopwright.deploy import read_actual
from loopwright.loop.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopStatus:
    """One loop: its present round with every step, its champion, its endpoint, its monitor.

    `quarantine` says why the newest rows of the source are not used; None while they are.
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
        seals=tuple(seal.body["seals"]) if seal else (),
        quarantine=held["note"] if held else None,
    )


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
