"""What a loop file may ask of the monitor."""

from __future__ import annotations

import msgspec
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.monitor import MonitorPlan


def test_the_keys_of_the_loop_file_are_read() -> None:
    written = {"every": "30 minutes", "false_alarms_per_year": 4, "window_rows": 100}

    plan = msgspec.convert(written, MonitorPlan).checked()

    assert (plan.every_s, plan.false_alarms_per_year, plan.window_rows) == (1800.0, 4.0, 100)


def test_a_misspelt_key_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="windw_rows"):
        msgspec.convert({"windw_rows": 100}, MonitorPlan)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("every", "sometimes"),
        ("every", "0 s"),
        ("false_alarms_per_year", 0),
        ("false_alarms_per_year", float("nan")),
        ("window_rows", 3),
        ("segments", ["plan", "plan"]),
        ("labels", {"key": ""}),
        ("labels", {"lag": "sometimes"}),
        ("labels", {"most_unreadable": 2}),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_key(key: str, value: object) -> None:
    plan = msgspec.convert({key: value}, MonitorPlan)

    with pytest.raises(InvalidInputError) as caught:
        plan.checked()

    assert caught.value.facts["field"].startswith(f"monitor.{key}")
    assert caught.value.hint


def test_windows_per_year_follow_the_traffic_when_it_is_known() -> None:
    plan = MonitorPlan(every="1 day", window_rows=250)

    by_look, by_traffic = plan.windows_per_year(), plan.windows_per_year(rows_per_year=1_000_000)

    assert (by_look, by_traffic) == (365.25, 4_000.0)
