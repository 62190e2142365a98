"""How the loops are, as figures: for `/status`, and in the text format that Prometheus reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import msgspec

from loopwright.core.prometheus import CONTENT_TYPE, family, labels
from loopwright.loop.alarm import list_alarms
from loopwright.loop.loop_gauge import alarm_samples, quality_samples
from loopwright.loop.outbox import list_outbox
from loopwright.loop.timetable import list_slots
from loopwright.loop.workspace import Workspace
from loopwright.server.keeper import Attended

__all__ = ["CONTENT_TYPE", "LoopGauge", "gauges", "metrics_text"]

_PREFIX = "loopwright_"
Sample = tuple[dict[str, str], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopGauge:
    """One loop as the server and the store see it.

    Parameters
    ----------
    tasks
        What is known of each task; see `loopwright.loop.timetable.Slot`.
    alarms
        The open ones, newest last.
    figures
        The criteria as the last look measured them.
    """

    attended: Attended
    version: str | None
    verdict: str | None
    tasks: list[dict[str, Any]]
    alarms: list[dict[str, Any]]
    figures: list[dict[str, Any]]
    n_waiting: int

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON types."""
        body: dict[str, Any] = msgspec.to_builtins(asdict(self.attended))
        body |= {"version": self.version, "verdict": self.verdict, "tasks": self.tasks}
        return body | {
            "alarms": self.alarms,
            "figures": self.figures,
            "messages_waiting": self.n_waiting,
        }


def gauges(workspace: Workspace, loops: Sequence[Attended]) -> list[LoopGauge]:
    """Return how loops are now."""
    return [_gauge(workspace, each) for each in loops]


def _gauge(workspace: Workspace, attended: Attended) -> LoopGauge:
    metadata, name = workspace.metadata, attended.name
    champion, monitor = metadata.find("champion", name), metadata.find("monitor", name)
    report: dict[str, Any] = monitor.body.get("report", {}) if monitor else {}
    shown = ("id", "kind", "subject", "message", "state", "opened_at", "since_at", "version")
    alarms = [each.to_json() for each in list_alarms(workspace, name, include_closed=False)]
    return LoopGauge(
        attended=attended,
        version=champion.body.get("version") if champion else None,
        verdict=report.get("verdict"),
        tasks=[slot.to_json() for slot in list_slots(metadata, name)],
        alarms=[{key: alarm[key] for key in shown} for alarm in alarms],
        figures=list(report.get("figures", ())),
        n_waiting=len(list_outbox(workspace, name)),
    )


def metrics_text(found: Sequence[LoopGauge], *, turned_at: datetime | None) -> bytes:
    """Return the figures of all loops in the text format of Prometheus."""
    lines: list[str] = []
    turned: list[Sample] = [({}, turned_at.timestamp())] if turned_at else []
    lines += _family("server_turn_timestamp_seconds", "When the server last looked.", turned)
    lines += _family("loop_info", "A loop and what answers for it.", _info(found))
    lines += _family(
        "turn_seconds",
        "How long the present turn at a loop has lasted.",
        _turns(found, turned_at),
    )
    lines += family(f"{_PREFIX}alarms_open", "gauge", "Open alarms, by kind.", _open_alarms(found))
    lines += _family(
        "messages_waiting",
        "Messages about alarms that no sink has taken yet.",
        [({"loop": each.attended.name}, each.n_waiting) for each in found],
    )
    lines += _family("task_failures", "Failures in a row.", _of_tasks(found, "n_failed"))
    lines += _family(
        "task_success_timestamp_seconds",
        "The last firing of a task that went well.",
        _of_tasks(found, "last_at"),
    )
    quality = [
        sample for each in found for sample in quality_samples(each.attended.name, each.figures)
    ]
    lines += family(f"{_PREFIX}quality", "gauge", "The criteria, measured live.", quality)
    return ("\n".join(lines) + "\n").encode()


def _info(found: Iterable[LoopGauge]) -> list[Sample]:
    return [
        (
            {
                "loop": each.attended.name,
                "state": each.attended.state,
                "version": each.version or "",
                "verdict": each.verdict or "",
            },
            1,
        )
        for each in found
    ]


def _turns(found: Iterable[LoopGauge], now: datetime | None) -> list[Sample]:
    return [
        ({"loop": each.attended.name}, (now - each.attended.since).total_seconds())
        for each in found
        if now is not None and each.attended.since is not None
    ]


def _open_alarms(found: Iterable[LoopGauge]) -> list[tuple[str, float]]:
    return [
        sample
        for each in found
        for sample in alarm_samples(
            each.attended.name, Counter(alarm["kind"] for alarm in each.alarms)
        )
    ]


def _of_tasks(found: Iterable[LoopGauge], field: str) -> list[Sample]:
    samples: list[Sample] = []
    for each in found:
        for task in each.tasks:
            value = task.get(field)
            if isinstance(value, str):
                value = datetime.fromisoformat(value).timestamp()
            if value is not None:
                samples.append(({"loop": each.attended.name, "task": task["task"]}, value))
    return samples


def _family(name: str, text: str, samples: Iterable[Sample]) -> Iterable[str]:
    told = ((labels(about), value) for about, value in samples)
    return family(_PREFIX + name, "gauge", text, told)
