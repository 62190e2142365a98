"""When monitoring schedules are due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.monitoring.cron import read_expression, read_offset

MOMENTS = st.datetimes(
    min_value=datetime(2025, 1, 1),  # noqa: DTZ001 hypothesis adds the zone
    max_value=datetime(2027, 1, 1),  # noqa: DTZ001 hypothesis adds the zone
    timezones=st.just(UTC),
)


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("cron(0 * ? * * *)", set(range(24))),
        ("cron(0 * * * ? *)", set(range(24))),
        ("cron(0 0 ? * * *)", {0}),
        ("cron(0 17 ? * * *)", {17}),
        ("cron(0 0/6 ? * * *)", {0, 6, 12, 18}),
        ("cron(0 17/12 ? * * *)", {17}),
        ("cron(0 0/10 ? * * *)", {0, 10, 20}),
    ],
)
def test_an_expression_says_the_hours_of_each_day(text: str, hours: set[int]) -> None:
    found = read_expression(text)

    assert found is not None
    assert found.hours == hours


def test_now_is_due_once() -> None:
    assert read_expression("NOW") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "hourly",
        "cron(0 * * * *)",
        "cron(5 * ? * * *)",
        "cron(0/5 * ? * * *)",
        "cron(0 24 ? * * *)",
        "cron(0 3/0 ? * * *)",
        "cron(0 3/25 ? * * *)",
        "cron(0 * ? * MON *)",
        "cron(0 * 1 * ? *)",
        "cron(0 * ? * ? *)",
        "rate(1 hour)",
    ],
)
def test_what_is_neither_hourly_nor_daily_is_refused(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_expression(text)

    assert caught.value.code == "ValidationException"


@given(MOMENTS, st.integers(0, 23), st.integers(1, 24), st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_due_moments_are_the_full_hours_of_a_stretch_that_fit(
    after: datetime, start: int, step: int, n_hours: int
) -> None:
    due = read_expression(f"cron(0 {start}/{step} ? * * *)")
    assert due is not None
    until = after + timedelta(hours=n_hours)

    found = due.between(after, until)

    # every full hour, one by one
    hour = after.replace(minute=0, second=0, microsecond=0)
    expected = []
    while hour <= until:
        if hour > after and hour.hour >= start and (hour.hour - start) % step == 0:
            expected.append(hour)
        hour += timedelta(hours=1)
    assert found == expected


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("-PT1H", timedelta(hours=-1)),
        ("PT0H", timedelta()),
        ("-P1D", timedelta(days=-1)),
        ("-P1DT2H30M", -timedelta(days=1, hours=2, minutes=30)),
    ],
)
def test_an_offset_is_a_duration(text: str, found: timedelta) -> None:
    assert read_offset(text) == found


@pytest.mark.parametrize("text", ["", "P", "-PT", "1H", "-PTH", "-P1M"])
def test_what_is_no_offset_is_refused(text: str) -> None:
    with pytest.raises(ApiError):
        read_offset(text)
