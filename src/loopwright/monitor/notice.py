"""What is told of alarms: one notice for all that a look raised, and one for all that it closed."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Literal

import msgspec

_CONTROL = re.compile(r"[\x00-\x1f\x7f\x80-\x9f\u2028\u2029]+")
_LONGEST_LINE = 1_000


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One alarm, as it is told.

    Parameters
    ----------
    id
        By which it is acknowledged.
    kind
        `data`, `error`, `criterion`, `data_quality` or `operation`.
    subject
        The column, the metric or the task it is about.
    message
        What moved, how much, since when and how much it matters.
    action
        What to do.
    """

    id: str
    kind: str
    subject: str
    message: str
    action: str = ""
    version: str = ""
    opened_at: datetime | None = None
    since_at: datetime | None = None
    closed_at: datetime | None = None
    closed_because: str = ""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One message about the alarms of a loop.

    Parameters
    ----------
    key
        The same in every attempt to send it, and in no other notice.
    event
        `opened`: the alarms were raised. `closed`: they are over.
    """

    key: str
    event: Literal["opened", "closed"]
    loop: str
    at: datetime
    alarms: tuple[Told, ...]
    format: int = 1

    @property
    def title(self) -> str:
        """One line without control characters, at most 150 characters long."""
        first = self.alarms[0]
        more = f" and {len(self.alarms) - 1} more" if len(self.alarms) > 1 else ""
        word = "alarm" if self.event == "opened" else "over"
        kind = first.kind.replace("_", " ")
        return one_line(f"[{self.loop}] {word}: {kind}, {first.subject}{more}", longest=150)

    @property
    def text(self) -> str:
        """The whole notice as lines for a person."""
        return "\n".join([self.title, *(_told(each, self.event) for each in self.alarms)])

    def to_json(self) -> dict[str, Any]:
        """Return the notice as JSON types, with its title and text."""
        body: dict[str, Any] = msgspec.to_builtins(self)
        return {**body, "title": self.title, "text": self.text}


def one_line(text: str, *, longest: int = _LONGEST_LINE) -> str:
    """Return text without line breaks and control characters, cut to a length.

    Examples
    --------
    >>> one_line("price\\r\\nBcc: all@example.com")
    'price Bcc: all@example.com'
    """
    line = _CONTROL.sub(" ", text).encode(errors="replace").decode().strip()
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _told(alarm: Told, event: str) -> str:
    if event == "closed":
        return f"- {one_line(alarm.message)} Over: {one_line(alarm.closed_because)} ({alarm.id})"
    action = f" What to do: {one_line(alarm.action)}" if alarm.action else ""
    return f"- {one_line(alarm.message)}{action} ({alarm.id})"
