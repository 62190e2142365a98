"""How the loops are, as figures: for `/status`, and in the text format that Prometheus reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import msgspec

from loopwright.loop.alarm import list_alarms
from loopwright.loop.outbox import list_outbox
from loopwright.loop.timetable import list_slots
from loopwright.loop.workspace import Workspace
from loopwright.server.keeper import Attended

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
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
    lines += _family("alarms_open", "Open alarms, by kind.", _open_alarms(found))
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
    lines += _family("quality", "The criteria, measured live.", _quality(found))
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


def _open_alarms(found: Iterable[LoopGauge]) -> list[Sample]:
    samples: list[Sample] = []
    for each in found:
        kinds = Counter(alarm["kind"] for alarm in each.alarms)
        for kind in ("data", "error", "criterion", "estimate", "data_quality", "operation"):
            samples.append(({"loop": each.attended.name, "kind": kind}, kinds[kind]))
    return samples


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


def _quality(found: Iterable[LoopGauge]) -> list[Sample]:
    samples: list[Sample] = []
    for each in found:
        for figure in each.figures:
            for bound in ("estimate", "lower", "upper", "target"):
                value = figure.get(bound)
                if value is None:
                    continue
                labels = {"loop": each.attended.name, "metric": figure["metric"]}
                samples.append(({**labels, "period": figure["period"], "value": bound}, value))
    return samples


def _family(name: str, text: str, samples: Iterable[Sample]) -> Iterable[str]:
    yield f"# HELP {_PREFIX}{name} {text}"
    yield f"# TYPE {_PREFIX}{name} gauge"
    for labels, value in samples:
        pairs = ",".join(f'{key}="{_escaped(word)}"' for key, word in labels.items())
        yield f"{_PREFIX}{name}{f'{{{pairs}}}' if pairs else ''} {value}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
