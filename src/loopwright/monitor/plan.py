"""What a loop file asks of the monitor: how often, how many false alarms, from which labels."""

from __future__ import annotations

from typing import Literal

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.quantity import seconds
from loopwright.data import SourceSpec
from loopwright.monitor.sink import AlarmSink, LogSink, checked_sinks

_YEAR_S = 365.25 * 86_400.0


class LabelPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `monitor: labels:` block: where ground truth comes from by itself, and its rules.

    Parameters
    ----------
    source
        A data source, as under `data: source:`, read at every look; None where labels are sent.
    key
        The column that holds the inference id. Any other name is a business key: a column that
        requests have too; the label is for the newest prediction before it with that value.
    label
        The column of what turned out to be true; when absent, the target, else `label`.
    at
        The column of when it became known: labels are then read from where the last look ended.
        When absent, a label counts from when it is read, and the source is read in full.
    lag
        How much later than their time labels may appear in the source.
    grace
        How long after the first label of a prediction another may correct it; None: for ever.
    most_unreadable
        Share of a batch, 0 to 1, that may be no labels; of a batch with more nothing is taken.
    """

    source: SourceSpec | None = None
    key: str = "inference_id"
    label: str | None = None
    at: str | None = None
    lag: str = "1 day"
    grace: str | None = None
    most_unreadable: float = 0.2

    def checked(self) -> LabelPlan:
        """Return the plan if it can be carried out; `InvalidInputError` with the key if not."""
        seconds(self.lag, field="monitor.labels.lag")
        if self.grace is not None:
            seconds(self.grace, field="monitor.labels.grace")
        if not self.key:
            raise _wrong("labels.key", self.key, "Name the column of the id or the business key.")
        if not 0 <= self.most_unreadable <= 1:
            raise _wrong(
                "labels.most_unreadable", self.most_unreadable, "Write a share from 0 to 1."
            )
        return self


class MonitorPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `monitor:` block of a loop file.

    Parameters
    ----------
    every
        How often the monitor looks, a duration such as `1 hour`.
    false_alarms_per_year
        How many false alarms a year are acceptable, over all columns together; above 0.
    window_rows
        How many predictions make one window, 20 to 100,000. A window is judged when it is full.
    season
        What rows are compared with: those of the same `hour` of the day, `weekday` or
        `hour_of_week`; `auto` where the column that data is split by time with shows that it matters;
        `none`.
    segments
        Columns and conditions whose rows are watched of their own, at most 24 segments in all.
    labels
        Where ground truth comes from by itself, and its rules.
    alarms
        Where alarms are told: sinks of the kinds log, webhook, email and command.
    """

    every: str = "1 hour"
    false_alarms_per_year: float = 2.0
    window_rows: int = 250
    season: Literal["auto", "none", "hour", "weekday", "hour_of_week"] = "auto"
    segments: tuple[str, ...] = ()
    labels: LabelPlan | None = None
    alarms: tuple[AlarmSink, ...] = (LogSink(),)

    @property
    def every_s(self) -> float:
        """How often the monitor looks, in seconds."""
        return seconds(self.every, field="monitor.every")

    def checked(self) -> MonitorPlan:
        """Return the plan if it can be carried out.

        Raises
        ------
        InvalidInputError
            If a duration or number is out of range.
        """
        checked_sinks(self.alarms, field="monitor.alarms")
        if self.every_s < 1:
            raise _wrong("every", self.every, "Write at least 1 second, such as '1 hour'.")
        if not 0 < self.false_alarms_per_year <= 1_000:
            raise _wrong(
                "false_alarms_per_year",
                self.false_alarms_per_year,
                "Write a number above 0 and at most 1000; 2 is a good start.",
            )
        if not 20 <= self.window_rows <= 100_000:
            raise _wrong(
                "window_rows", self.window_rows, "Write 20 to 100000; 250 is a good start."
            )
        if len(set(self.segments)) < len(self.segments) or len(self.segments) > 24:
            raise _wrong("segments", list(self.segments), "Name each once, and at most 24.")
        if self.labels is not None:
            self.labels.checked()
        return self

    def windows_per_year(self, *, rows_per_year: float | None = None) -> float:
        """Return how many windows a year brings: by traffic, else one for every look."""
        if rows_per_year is not None:
            return rows_per_year / self.window_rows
        return _YEAR_S / self.every_s


def _wrong(key: str, value: object, hint: str) -> InvalidInputError:
    return InvalidInputError(
        f"monitor.{key} is {value!r}, which cannot be used.",
        hint=hint,
        field=f"monitor.{key}",
        value=value,
    )
