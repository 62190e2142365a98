"""Statistics of an hour add up, stay small, and tell what the rows themselves tell."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import polars as pl
import pytest

from loopwright.monitor import LiveStatistics, Reference, bin_counts, measured_effect
from loopwright.monitor.ground_truth import (
    arrival_curve,
    mature_age,
    merged_windows,
    selective_labels,
)
from loopwright.monitor.hourly import (
    DAY_S,
    Statistics,
    added,
    by_day,
    label_statistics,
    prediction_statistics,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def answers(values: np.ndarray, *, per_hour: int = 100) -> pl.DataFrame:
    n = len(values)
    return pl.DataFrame(
        {
            "at": [START + timedelta(seconds=3_600 * k / per_hour) for k in range(n)],
            "version": ["1"] * n,
            "variant": pl.Series([None] * n, dtype=pl.String),
            "prediction": values,
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )


def labelled(rows: pl.DataFrame, delay_s: np.ndarray, loss: float = 0.5) -> pl.DataFrame:
    delays = pl.Series(delay_s.astype(np.int64) * 1_000_000).cast(pl.Duration("us"))
    return rows.with_columns(
        (pl.col("at") + delays).alias("first_label_at"), pl.lit(loss).alias("loss")
    )


@pytest.fixture
def hours(
    reference: Reference,
    houses: Callable[[int, int], pl.DataFrame],
    predicted: Callable[[pl.DataFrame, int], np.ndarray],
) -> Statistics:
    rows = houses(500, 8)
    return prediction_statistics(reference, answers(predicted(rows, 9)), rows)


def test_hours_add_up_to_the_histograms_of_all_rows(
    reference: Reference,
    hours: Statistics,
    houses: Callable[[int, int], pl.DataFrame],
    predicted: Callable[[pl.DataFrame, int], np.ndarray],
) -> None:
    rows = houses(500, 8)

    total = by_day(hours)

    assert [each.n for each in hours.values()] == [100] * 5
    ((key, day),) = total.items()
    assert (key.span_s, day.n) == (DAY_S, 500)
    for stream in reference.streams:
        if stream.role == "input" and not stream.segment:
            assert list(day.counts[stream.key]) == bin_counts(stream, rows[stream.name]).tolist()
    values = bin_counts(reference.find("prediction"), predicted(rows, 9))
    assert list(day.counts["prediction"]) == values.tolist()
    assert measured_effect(reference.find("prediction"), day.counts["prediction"]).n_rows == 500


def test_the_order_of_adding_does_not_matter_and_nothing_is_lost_in_json(
    hours: Statistics,
) -> None:
    first, *rest = hours.values()
    forwards = sum(rest, first)
    backwards = sum(reversed(list(hours.values())), LiveStatistics())

    assert forwards == backwards
    assert msgspec.convert(msgspec.to_builtins(forwards), LiveStatistics) == forwards


def test_an_hour_of_thirty_columns_is_small(
    reference: Reference, houses: Callable[[int, int], pl.DataFrame]
) -> None:
    rows = houses(20_000, 3)
    (each,) = prediction_statistics(
        reference, answers(np.full(20_000, 5e5), per_hour=20_000), rows
    ).values()

    size = len(msgspec.json.encode(each)) / len(each.counts) * 30

    assert size < 20_000


def test_labels_count_for_the_hour_of_their_prediction(reference: Reference) -> None:
    rows = answers(np.full(200, 4e5))
    late = labelled(rows, np.full(200, 2 * DAY_S), loss=0.25)

    found = label_statistics(reference, late, pl.DataFrame())

    assert [(key.start, each.n_labelled) for key, each in found.items()] == [
        (START, 100),
        (START + timedelta(hours=1), 100),
    ]
    assert [each.mean_loss for each in found.values()] == [0.25, 0.25]


def test_the_arrival_curve_tells_from_when_on_labels_are_there(reference: Reference) -> None:
    # a quarter of the labels take an hour, half two days, a quarter never come
    rows = answers(np.full(400, 4e5))
    place = np.arange(400) % 4
    delays = np.where(place == 0, 3_000, 2 * DAY_S - 10)[place < 3]
    told = labelled(rows.filter(pl.Series(place < 3)), delays)
    statistics = added(
        prediction_statistics(reference, rows, pl.DataFrame()),
        label_statistics(reference, told, pl.DataFrame()),
    )

    curve = arrival_curve(statistics, now=START + timedelta(days=40))

    shares = {each.age_s: each.share for each in curve}
    assert (shares[3_600], shares[DAY_S], shares[3 * DAY_S]) == (0.25, 0.25, 0.75)
    assert curve[-1].age_s == 30 * DAY_S
    assert mature_age(curve) == 3 * DAY_S
    assert mature_age(curve[:5]) is not None
    assert mature_age(arrival_curve({}, now=START)) is None


@pytest.mark.parametrize(("selects", "told"), [(True, "labels are selective"), (False, "")])
def test_labels_that_come_only_for_high_predictions_are_selective(
    reference: Reference,
    predicted: Callable[[pl.DataFrame, int], np.ndarray],
    houses: Callable[[int, int], pl.DataFrame],
    selects: bool,
    told: str,
) -> None:
    values = predicted(houses(2_000, 5), 6)
    rows = answers(values)
    chosen = values > np.median(values) if selects else np.arange(2_000) % 2 == 0
    some = rows.filter(pl.Series(chosen))
    statistics = added(
        prediction_statistics(reference, rows, pl.DataFrame()),
        label_statistics(reference, labelled(some, np.full(some.height, 60)), pl.DataFrame()),
    )

    found = selective_labels(reference, statistics, until=START + timedelta(days=9))

    assert found[: len(told) or None] == told
    if selects:
        assert "labelled ones are higher" in found


def test_variants_of_a_version_are_shown_together(hours: Statistics) -> None:
    other = {msgspec.structs.replace(key, variant="b"): each for key, each in hours.items()}

    windows = merged_windows({**hours, **other}, version="1")

    assert [each.n for each in windows.values()] == [200] * 5
    assert list(windows) == sorted(windows)
