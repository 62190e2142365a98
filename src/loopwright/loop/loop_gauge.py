"""How a loop is, as gauges: the lines that its endpoint's `/metrics` ends with."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loopwright.core.files import write_atomically
from loopwright.core.prometheus import family, labels
from loopwright.deploy import Endpoint
from loopwright.loop.alarm import ALARM_KINDS, AlarmRecord, list_alarms
from loopwright.loop.file import LoopFile
from loopwright.loop.workspace import Workspace

_PREFIX = "loopwright_"
# what has drifted furthest comes first
_MOST_STREAMS = 200
Samples = list[tuple[str, float]]


def keep_loop_gauges(workspace: Workspace, loop: LoopFile) -> None:
    """Write how a loop is beside its endpoint, which shows it; a full disk keeps what was before."""
    if loop.deploy is None:
        return
    folder = workspace.endpoint_folder(loop.deploy.endpoint)
    if not folder.is_dir():
        return
    text = "\n".join(_lines(workspace, loop.name)) + "\n"
    path = Endpoint(loop.deploy.endpoint, folder).loop_gauges_path
    with contextlib.suppress(OSError):
        if not path.exists() or path.read_bytes() != text.encode():
            write_atomically(path, text.encode())


def quality_samples(name: str, figures: Sequence[Mapping[str, Any]]) -> Samples:
    """Return the criteria as the last look measured them."""
    found: Samples = []
    for figure in figures:
        about = {"loop": name, "metric": figure["metric"], "period": figure["period"]}
        for bound in ("estimate", "lower", "upper", "target"):
            if figure.get(bound) is not None:
                found.append((labels({**about, "value": bound}), figure[bound]))
    return found


def alarm_samples(name: str, kinds: Mapping[str, int]) -> Samples:
    """Return how many alarms of each kind are open, zeros too."""
    return [(labels({"loop": name, "kind": kind}), kinds.get(kind, 0)) for kind in ALARM_KINDS]


def _lines(workspace: Workspace, name: str) -> Iterator[str]:
    monitor = workspace.metadata.find("monitor", name)
    report: dict[str, Any] = monitor.body.get("report", {}) if monitor else {}
    alarms = list_alarms(workspace, name, include_closed=False)
    yield from _gauge(
        "alarms_open", "Open alarms, by kind.", alarm_samples(name, Counter(a.kind for a in alarms))
    )
    yield from _gauge(
        "alarm_open_timestamp_seconds",
        "When an alarm that is open was raised.",
        [(_told_alarm(each), each.opened_at.timestamp()) for each in alarms],
    )
    if not report:
        return
    yield from _gauge(
        "monitor_info",
        "What the last look came to.",
        [(labels({"loop": name, "version": report["version"], "verdict": report["verdict"]}), 1)],
    )
    yield from _gauge(
        "quality", "The criteria, measured live.", quality_samples(name, report["figures"])
    )
    yield from _gauge(
        "drift_distance",
        "How far a column, the prediction or the error lies from training: 0 as then, 1 nothing alike.",
        [
            (labels({"loop": name, "stream": each["stream"]}), each["effect"]["distance"])
            for each in report["drift"][:_MOST_STREAMS]
        ],
    )
    yield from _gauge(
        "monitored_predictions",
        "Predictions of this version that the monitor has seen.",
        [(labels({"loop": name}), report["n_predictions"])],
    )
    yield from _gauge(
        "monitored_labels",
        "How many of them have a label.",
        [(labels({"loop": name}), report["n_labelled"])],
    )


def _told_alarm(alarm: AlarmRecord) -> str:
    about = {"loop": alarm.loop, "id": alarm.id, "kind": alarm.kind, "subject": alarm.subject}
    return labels({**about, "state": alarm.state})


def _gauge(name: str, text: str, samples: Samples) -> Iterator[str]:
    yield from family(_PREFIX + name, "gauge", text, samples)
