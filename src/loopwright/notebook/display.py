"""What a notebook shows: pages, what a run came to, where a loop stands."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

from loopwright.core.files import write_atomically
from loopwright.loop import LoopStatus, Outcome
from loopwright.loop.alarm import AlarmRecord


@dataclass(frozen=True, slots=True, repr=False)
class Page:
    """A self-contained HTML page; shown in a notebook, written with `save`."""

    html: str

    def __repr__(self) -> str:
        return f"<Page of {len(self.html) / 1024:,.0f} KiB>"

    def _repr_html_(self) -> str:
        framed = html.escape(self.html, quote=True)
        return (
            f'<iframe srcdoc="{framed}" sandbox style="width:100%;height:640px;border:0"></iframe>'
        )

    def save(self, path: str | Path) -> Path:
        """Write the page to a file and return its path."""
        write_atomically(Path(path), self.html.encode())
        return Path(path)


class RunResult:
    """What a run came to, with a display for notebooks; `outcome` holds the values."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def __repr__(self) -> str:
        return f"{self.outcome.loop}: {self.outcome.state}. {self.outcome.message}"

    def _repr_html_(self) -> str:
        state, message = html.escape(self.outcome.state), html.escape(self.outcome.message)
        return (
            f"<p><b>{html.escape(self.outcome.loop)}: {state}</b><br>"
            f"<span style='white-space:pre-wrap'>{message}</span></p>"
            f"{_steps_table(self.outcome.status)}"
        )


class Status:
    """Where a loop stands, with a display for notebooks; `value` holds the values."""

    def __init__(self, value: LoopStatus) -> None:
        self.value = value

    def __repr__(self) -> str:
        latest = self.value.round
        if latest is None:
            return f"{self.value.name}: has not run yet"
        return f"{self.value.name}: round {latest['number']}, {latest['state']}. {latest['conclusion']}"

    def _repr_html_(self) -> str:
        endpoint = self.value.endpoint
        place = (
            html.escape(str(endpoint["url"])) if endpoint and endpoint["alive"] else "none alive"
        )
        alarms = "".join(
            f"<li>{html.escape(str(alarm['message']))} <small>{html.escape(str(alarm['id']))}, "
            f"{html.escape(str(alarm['state']))}</small></li>"
            for alarm in self.value.alarms
        )
        told = f"<p><b>Alarms</b></p><ul>{alarms}</ul>" if alarms else ""
        words = html.escape(repr(self))
        return f"<p>{words}<br>endpoint: {place}</p>{told}{_steps_table(self.value)}"


class Alarms(list[AlarmRecord]):
    """Alarms of a loop, oldest first: a list that a notebook shows as a table."""

    def _repr_html_(self) -> str:
        if not self:
            return "<p>There is no alarm.</p>"
        rows = "".join(
            f"<tr><td>{alarm.id}</td><td>{alarm.opened_at:%Y-%m-%d %H:%M}</td>"
            f"<td>{alarm.state}</td><td>{html.escape(alarm.kind.replace('_', ' '))}</td>"
            f"<td style='text-align:left'>{html.escape(alarm.message)}</td></tr>"
            for alarm in self
        )
        head = "".join(f"<th>{name}</th>" for name in ("id", "opened", "state", "kind", "what"))
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _steps_table(status: LoopStatus) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(str(step['stage']))}</td>"
        f"<td style='text-align:left'>{html.escape(str(step.get('summary', step['state'])))}</td>"
        f"<td style='text-align:left;opacity:.7'>{html.escape(str(step.get('reason', '')))}</td>"
        f"<td>{float(step.get('wall_s') or 0):.2f} s</td></tr>"
        for step in status.steps
    )
    return (
        "<table><thead><tr><th>step</th><th>what</th><th>why</th><th>time</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )
