"""When the tasks of a loop are due: kept in the store, so that a schedule outlives its process.

A task fires on a grid: the n-th time is the first plus n times the interval. Firings that were missed
while nothing ran are made up for by one. A firing is noted when it has ended; one that was killed is
due again, and finds what it had done.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from loopwright.loop.schedule import backoff_s
from loopwright.store import MetadataStore

_MOST = 1_000
_LONGEST_PAUSE_S = 60.0


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one task of one loop.

    Parameters
    ----------
    last_at
        The point of the grid that was served last.
    started_at, ended_at
        When the last firing began and ended; one without an end is under way or was killed.
    n_failed, failed_at
        Failures since it last went well, and when the last was.
    paused_until
        Another process had the loop; it is tried again then.
    told
        How the last firing ended, in words.
    """

    loop: str
    task: str
    last_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    n_failed: int = 0
    failed_at: datetime | None = None
    paused_until: datetime | None = None
    told: str = ""

    @property
    def state(self) -> str:
        """`never`, `running`, `failing` or `well`."""
        if self.started_at is None:
            return "never"
        if self.ended_at is None or self.ended_at < self.started_at:
            return "running"
        return "failing" if self.n_failed else "well"

    def to_json(self) -> dict[str, Any]:
        """Return the slot as JSON types, with its state."""
        body: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return {**body, "state": self.state}


def find_slot(metadata: MetadataStore, loop: str, task: str) -> Slot:
    """Return what is known of a task; an empty slot before it first fired."""
    record = metadata.find("schedule", f"{loop}/{task}")
    return msgspec.convert(record.body, Slot) if record else Slot(loop=loop, task=task)


def list_slots(metadata: MetadataStore, loop: str) -> list[Slot]:
    """Return what is known of the tasks of a loop, by name."""
    records = metadata.list_("schedule", prefix=f"{loop}/", limit=_MOST)
    return [msgspec.convert(record.body, Slot) for record in records]


def put_slot(metadata: MetadataStore, slot: Slot) -> Slot:
    """Keep what is known of a task."""
    body: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(slot))
    metadata.put("schedule", f"{slot.loop}/{slot.task}", body)
    return slot


def due_at(slot: Slot, every_s: float, *, now: datetime) -> datetime:
    """Return when a task is due next; `now` or earlier where that is at once.

    It is at once before the first firing, and where the clock was set back behind the last one: a
    firing too many does no harm, a year without one would.
    """
    due = _due_at(slot, every_s, now)
    pause = slot.paused_until
    if pause is not None and now < pause <= now + timedelta(seconds=_LONGEST_PAUSE_S):
        return max(due, pause)
    return due


def _due_at(slot: Slot, every_s: float, now: datetime) -> datetime:
    known = [at for at in (slot.last_at, slot.failed_at) if at is not None]
    if not known or max(known) > now:
        return now
    if slot.n_failed and slot.failed_at is not None:
        return slot.failed_at + timedelta(seconds=backoff_s(slot.n_failed, every_s))
    return known[0] + timedelta(seconds=every_s)


def begun(slot: Slot, *, now: datetime) -> Slot:
    """Return the slot while its task is under way."""
    return msgspec.structs.replace(slot, started_at=now)


def went_well(slot: Slot, every_s: float, *, now: datetime, told: str) -> Slot:
    """Return the slot after its task went well; the grid stays where it was."""
    return msgspec.structs.replace(
        slot,
        last_at=_served(slot, every_s, now),
        ended_at=now,
        n_failed=0,
        failed_at=None,
        told=told,
    )


def went_wrong(slot: Slot, *, now: datetime, told: str) -> Slot:
    """Return the slot after its task failed; it is due again, later after each failure in a row."""
    return msgspec.structs.replace(
        slot, ended_at=now, n_failed=slot.n_failed + 1, failed_at=now, told=told
    )


def postponed(slot: Slot, *, now: datetime, pause_s: float, told: str) -> Slot:
    """Return the slot after its task could not begin because another process has the loop."""
    until = now + timedelta(seconds=min(pause_s, _LONGEST_PAUSE_S))
    return msgspec.structs.replace(slot, ended_at=now, paused_until=until, told=told)


def _served(slot: Slot, every_s: float, now: datetime) -> datetime:
    """Return the latest point of the grid that is not in the future."""
    started = min(slot.started_at or now, now)
    if slot.last_at is None or slot.last_at > started:
        return started
    n_intervals = (started - slot.last_at).total_seconds() // every_s
    return slot.last_at + timedelta(seconds=n_intervals * every_s) if n_intervals else started
