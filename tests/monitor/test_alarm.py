"""What an alarm says about errors that grew."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from loopwright.monitor import (
    MonitorPlan,
    MonitorReport,
    Reference,
    bin_counts,
    measured_effect,
    start_watch,
    watch,
)
from loopwright.monitor.alarm import told_effect

NOTHING = pl.DataFrame(
    schema={
        "inference_id": pl.String(),
        "at": pl.Datetime("us", "UTC"),
        "version": pl.String(),
        "prediction": pl.Float64(),
    }
)


def look_at(reference: Reference, losses: np.ndarray) -> MonitorReport:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    at = [start + timedelta(minutes=minute) for minute in range(len(losses))]
    labelled = pl.DataFrame({"at": at, "loss": losses})
    state = start_watch(reference, MonitorPlan(), version="1")
    return watch(reference, state, NOTHING, losses=labelled)[1]


def test_a_larger_mean_error_is_told_as_a_multiple(reference: Reference) -> None:
    report = look_at(reference, np.abs(np.random.default_rng(7).normal(size=1_000)) * 0.3)

    assert [alarm.kind for alarm in report.alarms] == ["error"]
    assert " times as much" in report.alarms[0].message


def test_errors_that_grew_in_rank_but_not_in_the_mean_are_told_by_rank(
    reference: Reference,
) -> None:
    # half of the reference errors lie below 0.088, their mean is 0.104: no live error is large
    report = look_at(reference, np.random.default_rng(8).uniform(0.095, 0.101, 4_000))

    alarm = report.alarms[0]
    assert alarm.effect.mean is not None
    assert alarm.effect.reference_mean is not None
    assert alarm.effect.mean < alarm.effect.reference_mean
    exceeds = f"exceeds a reference error with probability {0.5 + alarm.effect.size:.2f}"
    assert f"typical error larger: a live error {exceeds}" in alarm.details
    assert alarm.message.startswith("Typical errors are larger since 2026-01-01")
    assert "times as much" not in alarm.message


@pytest.mark.parametrize("loss", [0.0, 1e-9])
def test_smaller_errors_are_never_told_as_larger(reference: Reference, loss: float) -> None:
    error = reference.find("error")
    assert error is not None

    told = told_effect(error, measured_effect(error, bin_counts(error, np.full(250, loss))))

    assert "larger" not in told
    assert "times as much" not in told
