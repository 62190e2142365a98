"""What moved, in words that need no statistics."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from loopwright.monitor.effect import measured_effect
from loopwright.monitor.plain import middle, told_plainly, told_predictions
from loopwright.monitor.reference import StreamReference

SINCE = datetime(2026, 5, 2, 14, tzinfo=UTC)
AGE = StreamReference(
    name="age",
    role="input",
    kind="number",
    counts=(0, 100, 100, 100, 100, 0, 0),
    edges=(0.5, 1.5, 2.5, 3.5, 4.5),
)
PLAN = StreamReference(
    name="plan",
    role="input",
    kind="category",
    counts=(60, 40, 0, 0, 0),
    values=("basic", "plus"),
)
ERROR = StreamReference(
    name="error",
    role="error",
    kind="number",
    counts=(0, 50, 50, 0, 0),
    edges=(0.0, 1.0, 2.0),
    means=(0.0, 0.5, 1.5, 4.0, 0.0),
)


def told(stream: StreamReference, counts: tuple[int, ...], bet: str) -> str:
    return told_plainly(stream, counts, measured_effect(stream, counts), bet=bet, since=SINCE)


@pytest.mark.parametrize(
    ("stream", "counts", "bet", "expected"),
    [
        (
            AGE,
            (0, 10, 10, 40, 140, 0, 0),
            "up",
            "age is higher since 2026-05-02 14:00: typically 3.786, 2.5 in training.",
        ),
        (
            AGE,
            (0, 100, 0, 0, 100, 0, 0),
            "wider",
            "age varies more since 2026-05-02 14:00 (200 rows).",
        ),
        (
            AGE,
            (0, 25, 25, 25, 25, 0, 100),
            "missing",
            "age is missing more often since 2026-05-02 14:00: 50.0% of 200 rows, 0.0% in training.",
        ),
        (
            PLAN,
            (20, 80, 0, 0, 0),
            "plus",
            "plan has another mix of values than in training since 2026-05-02 14:00: 40% of 100 rows "
            "differ, most 'plus'.",
        ),
        (
            ERROR,
            (0, 0, 100, 0, 0),
            "mean up",
            "Errors are larger since 2026-05-02 14:00: 1.5 on average, 1 in training, 1.5 times as "
            "much.",
        ),
    ],
)
def test_a_change_is_one_plain_sentence(
    stream: StreamReference, counts: tuple[int, ...], bet: str, expected: str
) -> None:
    assert told(stream, counts, bet) == expected


def test_for_whom_is_told() -> None:
    north = StreamReference(
        name="age",
        role="input",
        kind="number",
        counts=AGE.counts,
        edges=AGE.edges,
        segment="region = 'north'",
    )

    assert told(north, (0, 0, 0, 0, 9, 0, 0), "up").startswith(
        "age is higher where region = 'north' since"
    )


def test_whole_numbers_stay_whole() -> None:
    rooms = StreamReference(
        name="rooms",
        role="input",
        kind="number",
        counts=(0, 5, 9, 5, 0, 0),
        edges=(0.0, 1.0, 2.0, 3.0),
    )

    assert middle(rooms, rooms.counts) == 2.0
    assert middle(rooms, (0, 0, 0, 0, 0, 7)) is None
    assert middle(rooms, (0, 0, 0, 0, 9, 0)) == 3.0


def test_what_became_of_the_predictions_is_told() -> None:
    same = measured_effect(ERROR, (0, 50, 50, 0, 0))
    other = measured_effect(ERROR, (0, 0, 500, 0, 0))

    assert told_predictions(None) == ""
    assert told_predictions(same) == "Predictions have hardly moved."
    assert told_predictions(other) == ("Predictions moved, too: 1.5 on average, 1 in training.")
