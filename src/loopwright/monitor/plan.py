"""What a loop file asks of the monitor: how often, how many false alarms, from which labels."""

from __future__ import annotations

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.quantity import seconds

_YEAR_S = 365.25 * 86_400.0


class LabelPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where ground truth would come from by itself.

    Parameters
    ----------
    source
        A data source, as under `data: source:`.
    key
        The column that holds the inference id.
    """

    source: dict[str, object]
    key: str = "inference_id"


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
    labels
        Where ground truth comes from by itself. Not available yet: send labels by inference id.
    """

    every: str = "1 hour"
    false_alarms_per_year: float = 2.0
    window_rows: int = 250
    labels: LabelPlan | None = None

    @property
    def every_s(self) -> float:
        """How often the monitor looks, in seconds."""
        return seconds(self.every, field="monitor.every")

    def checked(self) -> MonitorPlan:
        """Return the plan if it can be carried out.

        Raises
        ------
        InvalidInputError
            If a duration or number is out of range, or labels are to come from a source.
        """
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
        if self.labels is not None:
            raise _wrong(
                "labels",
                self.labels.source,
                "Scheduled label sources are not available yet; leave the key out and send labels "
                "by inference id with `loopwright labels`.",
            )
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
