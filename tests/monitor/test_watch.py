"""Looks at the capture: windows, states, alarms and reports, end to end without an endpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.monitor import (
    MonitorPlan,
    Reference,
    WatchState,
    acknowledge,
    live_figures,
    start_watch,
    watch,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
Table = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]


@pytest.fixture
def capture(
    houses: Callable[[int, int], pl.DataFrame],
    predicted: Callable[[pl.DataFrame, int], np.ndarray],
    losses: Callable[..., np.ndarray],
) -> Callable[..., Table]:
    """Predictions, their inputs and their losses, a minute apart, from hour `hour` on."""

    def made(
        n: int, *, seed: int = 0, hour: int = 0, scale: float = 0.13, version: str = "1"
    ) -> Table:
        rows = houses(n, 50_000 + seed)
        at = [START + timedelta(hours=hour, minutes=k) for k in range(n)]
        predictions = pl.DataFrame(
            {
                "inference_id": [f"{seed}-{k}" for k in range(n)],
                "at": pl.Series(at, dtype=pl.Datetime("us", "UTC")),
                "version": [version] * n,
                "prediction": predicted(rows, 60_000 + seed),
            }
        )
        labelled = predictions.select("at").with_columns(loss=losses(n, 70_000 + seed, scale))
        return predictions, rows, labelled

    return made


@pytest.fixture
def fresh(reference: Reference) -> WatchState:
    return start_watch(reference, MonitorPlan(), version="1")


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cuts=st.lists(st.integers(0, 700), max_size=5), seed=st.integers(0, 99))
def test_one_look_or_many_leave_the_same_state(
    reference: Reference,
    fresh: WatchState,
    capture: Callable[..., Table],
    cuts: list[int],
    seed: int,
) -> None:
    predictions, inputs, losses = capture(700, seed=seed, scale=0.3)
    once, _ = watch(reference, fresh, predictions, inputs=inputs, losses=losses)

    many = fresh
    for start, end in pairwise([0, *sorted(cuts), 700]):
        part = slice(start, end)
        many, _ = watch(
            reference, many, predictions[part], inputs=inputs[part], losses=losses[part]
        )
        many = WatchState.from_json(json.loads(json.dumps(many.to_json())))

    assert many == once
    assert (once.data.detector.n_windows, once.data.pending_rows) == (2, 200)


def test_the_order_of_rows_within_a_look_does_not_matter(
    reference: Reference, fresh: WatchState, capture: Callable[..., Table]
) -> None:
    predictions, inputs, losses = capture(600)
    mixed = np.random.default_rng(0).permutation(600)

    ordered, _ = watch(reference, fresh, predictions, inputs=inputs, losses=losses)
    shuffled, _ = watch(
        reference, fresh, predictions[mixed], inputs=inputs[mixed], losses=losses[mixed]
    )

    assert shuffled == ordered


def test_the_false_alarms_of_the_plan_are_shared_by_both_detectors(reference: Reference) -> None:
    plan = MonitorPlan(every="1 hour", false_alarms_per_year=4)

    state = start_watch(reference, plan, version="1")

    # 8,766 hours and twice 2 alarms
    assert np.exp(state.data.detector.bar) == pytest.approx(8_766 / 2)
    assert np.exp(state.error.detector.bar) == pytest.approx(8_766 / 2)
    assert state.data.detector.threshold < state.data.detector.bar
    assert state.error.detector.threshold < state.error.detector.bar


def test_unchanged_rows_are_ok(
    reference: Reference, fresh: WatchState, capture: Callable[..., Table]
) -> None:
    predictions, inputs, losses = capture(2_500)
    figures = live_figures(losses["loss"].to_numpy(), metric="mape", at_most=0.15)

    state, report = watch(
        reference, fresh, predictions, inputs=inputs, losses=losses, figures=figures
    )

    assert (report.verdict, report.alarms, report.findings) == ("ok", (), ())
    assert (report.n_windows, report.n_predictions, report.n_labelled) == (10, 2_500, 2_500)
    assert (state.first_at, state.last_at) == (START, START + timedelta(minutes=2_499))


def test_an_error_that_doubles_gives_one_alarm_that_says_how_much(
    reference: Reference, fresh: WatchState, capture: Callable[..., Table]
) -> None:
    predictions, _, losses = capture(1_000)
    before, _ = watch(reference, fresh, predictions, losses=losses)

    predictions, _, losses = capture(1_000, seed=1, hour=100, scale=0.26)
    state, report = watch(reference, before, predictions, losses=losses)
    predictions, _, losses = capture(500, seed=2, hour=200, scale=0.26)
    later, again = watch(reference, state, predictions, losses=losses)

    assert report.verdict == "drift"
    assert [alarm.kind for alarm in report.new_alarms] == ["error"]
    alarm = report.new_alarms[0]
    assert alarm.since_at == START + timedelta(hours=100)
    assert alarm.effect.mean is not None
    assert alarm.effect.reference_mean is not None
    assert 1.6 < alarm.effect.mean / alarm.effect.reference_mean < 2.2
    assert "since 2026-01-05 04:00" in alarm.message
    assert (again.new_alarms, again.alarms) == ((), report.alarms)
    assert later.error.detector.n_episodes == 1


def test_inputs_that_move_the_predictions_say_so(
    reference: Reference, fresh: WatchState, capture: Callable[..., Table]
) -> None:
    predictions, inputs, _ = capture(4_000)
    large = np.argsort(-inputs["sqft"].to_numpy())[:2_000]
    large.sort()

    _, report = watch(reference, fresh, predictions[large], inputs=inputs[large])

    assert report.verdict == "drift"
    assert report.new_alarms[0].prediction_effect is not None
    assert {"sqft", "prediction"} <= {report.alarms[0].stream, *report.alarms[0].others}
    assert report.drift[0].stream == "sqft"


def test_an_input_that_moves_alone_is_watched_not_acted_on(
    reference: Reference, fresh: WatchState, capture: Callable[..., Table]
) -> None:
    predictions, inputs, _ = capture(2_500)
    fewer = pl.when(pl.int_range(pl.len()) % 2 == 0).then(2.0).otherwise(pl.col("bedrooms"))

    _, report = watch(
        reference, fresh, predictions, inputs=inputs.with_columns(fewer.alias("bedrooms"))
    )

    assert (report.verdict, report.alarms[0].stream) == ("watch", "bedrooms")
    assert report.alarms[0].message.startswith(
        "bedrooms is lower since 2026-01-01 00:00: typically 2"
    )
    assert "Predictions have hardly moved." in report.alarms[0].message


def test_a_column_that_is_no_longer_sent_is_a_fault_of_the_data(
    reference: Reference, fresh: WatchState, capture: Callable[..., Table]
) -> None:
    predictions, inputs, _ = capture(500)

    _, report = watch(reference, fresh, predictions, inputs=inputs.drop("bedrooms"))

    assert report.verdict == "data_quality"
    assert [(each.stream, each.share) for each in report.findings] == [("bedrooms", 1.0)]


def test_rows_of_another_version_are_counted_and_left_out(
    reference: Reference, fresh: WatchState, capture: Callable[..., Table]
) -> None:
    mine, inputs, _ = capture(300)
    other, other_inputs, _ = capture(400, seed=1, version="2")

    both = pl.concat([mine, other])
    state, _ = watch(reference, fresh, both, inputs=pl.concat([inputs, other_inputs]))
    alone, _ = watch(reference, fresh, mine, inputs=inputs)

    assert (state.n_predictions, state.n_other_version) == (300, 400)
    assert state.data == alone.data


def test_an_acknowledged_alarm_is_closed(
    reference: Reference, fresh: WatchState, capture: Callable[..., Table]
) -> None:
    predictions, _, losses = capture(500, scale=0.4)
    state, _ = watch(reference, fresh, predictions, losses=losses)
    assert state.error.alarm is not None

    closed = acknowledge(reference, state, "error")
    _, report = watch(reference, closed, predictions.clear())

    assert (closed.error.alarm, report.alarms) == (None, ())


def test_no_rows_change_nothing(reference: Reference, fresh: WatchState) -> None:
    none = pl.DataFrame(
        schema={
            "inference_id": pl.String,
            "at": pl.Datetime("us", "UTC"),
            "version": pl.String,
            "prediction": pl.Float64,
        }
    )

    state, report = watch(reference, fresh, none)

    assert state == fresh
    assert (report.verdict, report.coverage) == ("ok", 0.0)


def test_the_state_stays_small(
    reference: Reference, fresh: WatchState, capture: Callable[..., Table]
) -> None:
    predictions, inputs, losses = capture(3_000, scale=0.3)

    state, _ = watch(reference, fresh, predictions, inputs=inputs, losses=losses)

    assert len(json.dumps(state.to_json(), separators=(",", ":"))) < 20_000


@pytest.mark.parametrize("column", ["inference_id", "at", "version", "prediction"])
def test_a_missing_column_is_named(
    reference: Reference, fresh: WatchState, capture: Callable[..., Table], column: str
) -> None:
    with pytest.raises(InvalidInputError, match=f"no column '{column}'"):
        watch(reference, fresh, capture(10)[0].drop(column))


def test_inputs_of_other_rows_are_refused(
    reference: Reference, fresh: WatchState, capture: Callable[..., Table]
) -> None:
    predictions, inputs, _ = capture(10)

    with pytest.raises(InvalidInputError, match="9 rows of inputs for 10 predictions"):
        watch(reference, fresh, predictions, inputs=inputs[:9])


def test_importing_the_monitor_loads_no_heavy_library() -> None:
    code = (
        "import sys, loopwright.monitor\n"
        "heavy = {'polars', 'numpy', 'scipy', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_an_alarm_that_is_over_within_one_look_is_told_nevertheless(
    reference: Reference, fresh: WatchState, capture: Callable[..., Table]
) -> None:
    predictions, _, _ = capture(9_000)
    scale = np.where((np.arange(9_000) >= 1_000) & (np.arange(9_000) < 1_500), 0.4, 0.13)
    losses = predictions.select("at").with_columns(
        loss=np.abs(np.random.default_rng(1).normal(size=9_000)) * scale
    )

    _, report = watch(reference, fresh, predictions, losses=losses)

    assert [alarm.kind for alarm in report.new_alarms] == ["error"]
    assert (report.alarms, report.verdict) == ((), "ok")


def test_a_state_of_another_format_is_refused(fresh: WatchState) -> None:
    with pytest.raises(InvalidInputError, match="has format 1; this release reads 2"):
        WatchState.from_json({**fresh.to_json(), "format": 1})


def test_a_column_that_is_new_is_told_and_nothing_is_held(
    reference: Reference, fresh: WatchState, capture: Callable[..., Table]
) -> None:
    predictions, inputs, _ = capture(500)

    _, report = watch(reference, fresh, predictions, inputs=inputs.with_columns(garden=pl.lit(1)))

    assert (report.verdict, [each.problem for each in report.findings]) == ("watch", ["new"])


def test_requests_that_stay_away_are_told(
    reference: Reference, fresh: WatchState, capture: Callable[..., Table]
) -> None:
    predictions, inputs, _ = capture(10_000)  # one a minute, a week long

    state, usual = watch(reference, fresh, predictions, inputs=inputs)
    _, report = watch(reference, state, predictions.clear(), now=START + timedelta(hours=180))

    assert usual.verdict == "ok"
    assert (report.verdict, [each.problem for each in report.findings]) == ("watch", ["volume"])
