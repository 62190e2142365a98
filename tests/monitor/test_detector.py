"""The e-detector: its arithmetic, its episodes, its false alarms and its delay."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.monitor import (
    DetectorState,
    Reference,
    alarm_threshold,
    bin_counts,
    build_reference,
    start_detector,
    step,
)
from loopwright.monitor.bet import bet_table
from loopwright.monitor.detector import ERROR_ROLES, acknowledged, contributions

WINDOW = 250
THRESHOLD = math.log(8_766)  # one alarm in as many hours as a year has
Window = Callable[[int], tuple[pl.DataFrame, np.ndarray]]


def counts_of(
    reference: Reference, rows: pl.DataFrame, predictions: np.ndarray
) -> dict[str, np.ndarray]:
    counts = {each.key: bin_counts(each, rows[each.name]) for each in reference.inputs}
    prediction = reference.find("prediction")
    assert prediction is not None
    return counts | {"prediction": bin_counts(prediction, predictions)}


def run(
    reference: Reference, window: Window, n_windows: int, *, tolerance: float = 0.02
) -> DetectorState:
    """Step through windows until the first alarm or the last window."""
    state = start_detector(reference, threshold=THRESHOLD, tolerance=tolerance)
    for number in range(n_windows):
        state = step(state, reference, counts_of(reference, *window(number)))
        if state.episode:
            break
    return state


@pytest.fixture
def unchanged(
    houses: Callable[[int, int], pl.DataFrame],
    predicted: Callable[[pl.DataFrame, int], np.ndarray],
) -> Window:
    def window(number: int) -> tuple[pl.DataFrame, np.ndarray]:
        rows = houses(WINDOW, 10_000 + number)
        return rows, predicted(rows, 20_000 + number)

    return window


@pytest.fixture
def tilted(
    houses: Callable[[int, int], pl.DataFrame],
    predicted: Callable[[pl.DataFrame, int], np.ndarray],
) -> Callable[[float], Window]:
    """Windows whose sqft has density 1 + a (2u - 1), so that its KS distance is a / 4."""

    def with_ks(ks: float) -> Window:
        def window(number: int) -> tuple[pl.DataFrame, np.ndarray]:
            rng = np.random.default_rng(number)
            rows = houses(4 * WINDOW, 30_000 + number)
            ranks = np.argsort(np.argsort(rows["sqft"].to_numpy())) / rows.height
            share = 1 + 4 * ks * (2 * ranks - 1)
            taken = rng.choice(rows.height, WINDOW, p=share / share.sum(), replace=False)
            return rows[taken], predicted(rows[taken], 40_000 + number)

        return window

    return with_ks


def test_the_recursion_is_that_of_shiryaev_and_roberts(reference: Reference) -> None:
    stream = reference.streams[0]
    rng = np.random.default_rng(0)
    windows = [rng.multinomial(40, np.array(stream.counts) / stream.n_rows) for _ in range(5)]
    state = start_detector(reference, threshold=THRESHOLD)

    r = np.zeros(len(bet_table(stream, 0.02).names))
    for counts in windows:
        state = step(state, reference, {stream.key: counts})
        r = (r + 1) * np.exp(bet_table(stream, 0.02).log_factors @ counts)

    held = state.streams[stream.key]
    assert np.expm1(held.growth) == pytest.approx(r, abs=1e-4)
    assert np.expm1(held.evidence) == pytest.approx(r.mean(), abs=1e-4)
    # 7 inputs and 2 joint scores with weight 1, and the prediction with weight 3
    assert np.expm1(state.evidence) == pytest.approx(r.mean() / 12, abs=1e-4)


def test_under_no_change_the_mean_statistic_stays_below_the_number_of_windows() -> None:
    # E[R_t] <= t is the whole guarantee; 400 runs of 20 windows on the reference shares themselves
    values = pl.Series(np.arange(2_000) % 7)
    rows = values.to_frame("a")
    reference = build_reference(rows, values.to_list(), None, {"a": "number"})
    stream = reference.streams[0]
    rng = np.random.default_rng(1)
    share = np.array(stream.counts) / stream.n_rows
    ends = []
    for _ in range(400):
        state = start_detector(reference, threshold=THRESHOLD, tolerance=0.0)
        for _ in range(20):
            state = step(state, reference, {"a": rng.multinomial(50, share)})
        ends.append(np.expm1(state.streams["a"].evidence))

    assert np.mean(ends) < 20
    assert np.mean(ends) > 0.5  # and the statistic is alive


def test_a_hundred_unchanged_windows_raise_no_alarm(
    reference: Reference, unchanged: Window
) -> None:
    state = run(reference, unchanged, 100)

    assert (state.episode, state.n_windows) == (None, 100)


def test_a_small_reference_stays_quiet_without_any_tolerance(
    small_reference: Reference, unchanged: Window
) -> None:
    state = run(small_reference, unchanged, 150, tolerance=0.0)

    assert (state.episode, state.n_windows) == (None, 150)


def test_a_shift_of_ks_a_tenth_is_found_within_eight_windows_and_named(
    reference: Reference, tilted: Callable[[float], Window]
) -> None:
    state = run(reference, tilted(0.10), 8)

    assert state.episode is not None
    assert {"sqft", "prediction"} & set(state.episode.streams)
    assert next(iter(contributions(state, reference))) == state.episode.leader


def test_a_shift_of_ks_a_fifth_is_found_within_two_windows(
    reference: Reference, tilted: Callable[[float], Window]
) -> None:
    assert run(reference, tilted(0.20), 2).episode is not None


def test_values_that_go_missing_are_found_at_once(reference: Reference, unchanged: Window) -> None:
    def broken(number: int) -> tuple[pl.DataFrame, np.ndarray]:
        rows, predictions = unchanged(number)
        lost = pl.when(pl.int_range(pl.len()) % 4 == 0).then(None).otherwise(pl.col("bedrooms"))
        return rows.with_columns(lost.alias("bedrooms")), predictions

    state = run(reference, broken, 2)

    assert state.episode is not None
    assert state.episode.leader == "bedrooms"


def error_delay(reference: Reference, draw: Callable[[int], np.ndarray], n: int) -> int | None:
    error = reference.find("error")
    assert error is not None
    state = start_detector(reference, roles=ERROR_ROLES, threshold=THRESHOLD)
    for number in range(n):
        state = step(state, reference, {"error": bin_counts(error, draw(number))})
        if state.episode:
            return number + 1
    return None


def test_an_error_that_doubles_is_found_in_the_first_window(
    reference: Reference, losses: Callable[..., np.ndarray]
) -> None:
    assert error_delay(reference, lambda k: losses(WINDOW, k, 0.26), 3) == 1


def test_an_error_that_shrinks_or_stays_is_no_alarm(
    reference: Reference, losses: Callable[..., np.ndarray]
) -> None:
    assert error_delay(reference, lambda k: losses(WINDOW, k, 0.05), 60) is None
    assert error_delay(reference, lambda k: losses(WINDOW, k, 0.13), 60) is None


def test_an_episode_is_told_once_closes_itself_and_the_next_is_new(
    reference: Reference, unchanged: Window, tilted: Callable[[float], Window]
) -> None:
    story = [tilted(0.2)] * 10 + [unchanged] * 30 + [tilted(0.2)] * 5
    state = start_detector(reference, threshold=THRESHOLD)
    seen = []
    for number, window in enumerate(story):
        state = step(state, reference, counts_of(reference, *window(number)))
        seen.append((state.n_episodes, state.episode is not None))

    assert seen[9] == (1, True)
    assert seen[39] == (1, False)
    assert seen[44] == (2, True)


def test_the_time_of_the_change_is_remembered(
    reference: Reference, unchanged: Window, tilted: Callable[[float], Window]
) -> None:
    start, state = datetime(2026, 1, 1, tzinfo=UTC), start_detector(reference, threshold=THRESHOLD)
    for number in range(26):
        window = unchanged if number < 20 else tilted(0.15)
        at = start + timedelta(hours=number)
        state = step(state, reference, counts_of(reference, *window(number)), at=at)

    assert state.episode is not None
    since = state.streams[state.episode.leader].since_at
    assert since is not None
    assert abs((since - start) / timedelta(hours=1) - 20) <= 3


def test_an_acknowledged_change_that_is_still_there_is_told_again(
    reference: Reference, tilted: Callable[[float], Window]
) -> None:
    state = acknowledged(run(reference, tilted(0.2), 5), reference)
    assert (state.episode, state.evidence) == (None, 0.0)

    for number in range(5):
        state = step(state, reference, counts_of(reference, *tilted(0.2)(number)))

    assert state.n_episodes == 2


def test_a_stored_state_goes_on_like_the_one_in_memory(
    reference: Reference, unchanged: Window
) -> None:
    kept = moved = start_detector(reference, threshold=THRESHOLD)
    for number in range(4):
        counts = counts_of(reference, *unchanged(number))
        kept = step(kept, reference, counts)
        moved = step(
            DetectorState.from_json(json.loads(json.dumps(moved.to_json()))), reference, counts
        )

    assert moved == kept


def test_the_threshold_is_the_log_of_the_windows_per_false_alarm() -> None:
    assert alarm_threshold(false_alarms_per_year=2, windows_per_year=8_766) == pytest.approx(
        math.log(4_383)
    )
    assert alarm_threshold(false_alarms_per_year=100, windows_per_year=100) == math.log(20)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan")])
def test_a_threshold_needs_positive_numbers(wrong: float) -> None:
    with pytest.raises(InvalidInputError, match="false_alarms_per_year"):
        alarm_threshold(false_alarms_per_year=wrong, windows_per_year=100)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["reference", "small_reference"])
def test_three_thousand_unchanged_windows_raise_no_alarm(
    size: str, request: pytest.FixtureRequest, unchanged: Window
) -> None:
    reference = request.getfixturevalue(size)
    state = start_detector(reference, threshold=THRESHOLD)
    for number in range(3_000):
        state = step(state, reference, counts_of(reference, *unchanged(number)))

    # three times the windows would still be under half of what the threshold allows
    assert state.n_episodes == 0


@pytest.mark.slow
def test_the_median_delay_at_ks_a_tenth_is_at_most_six_windows(
    reference: Reference, tilted: Callable[[float], Window]
) -> None:
    window = tilted(0.10)

    delays = [
        run(reference, lambda number, k=k: window(1_000 * k + number), 40).n_windows
        for k in range(20)
    ]

    assert np.median(delays) <= 6
