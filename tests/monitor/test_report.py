"""Faults, alarms, triage and how a report reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.monitor import (
    Alarm,
    LiveFigure,
    MonitorReport,
    Reference,
    StreamReference,
    bin_counts,
    measured_effect,
    monitor_page,
    summary,
    to_html,
)
from loopwright.monitor.finding import data_findings
from loopwright.monitor.report import StreamDrift, triage


def stream_named(reference: Reference, name: str) -> StreamReference:
    return next(stream for stream in reference.streams if stream.name == name)


def found(stream: StreamReference, values: list[object]) -> list[tuple[str, float]]:
    counts = bin_counts(stream, values).tolist()
    return [(each.problem, round(each.share, 2)) for each in data_findings(stream, counts)]


def drift_of(stream: StreamReference, values: np.ndarray, state: str = "drifted") -> StreamDrift:
    counts = bin_counts(stream, values)
    effect = measured_effect(stream, counts)
    return StreamDrift(
        stream=stream.key,
        role=stream.role,
        state=state,  # type: ignore[arg-type]
        effect=effect,
        floor_ratio=effect.floor_ratio,
        evidence=12.0,
        share=1.0,
        since_at=None,
        bins=stream.bin_names,
        live_shares=tuple((counts / counts.sum()).tolist()),
        reference_shares=tuple((np.array(stream.counts) / stream.n_rows).tolist()),
    )


def alarm_of(kind: str, stream: StreamReference) -> Alarm:
    return Alarm(
        kind=kind,  # type: ignore[arg-type]
        number=1,
        at=None,
        since_at=None,
        stream=stream.key,
        movement="moved up",
        others=(),
        effect=measured_effect(stream, stream.counts),
        prediction_effect=None,
        message=f"{stream.key} moved up.",
    )


def figure_of(verdict: str) -> LiveFigure:
    return LiveFigure(
        metric="mape",
        n=900,
        estimate=0.16,
        lower=0.151,
        upper=0.169,
        target=0.15,
        direction="at_most",
        verdict=verdict,  # type: ignore[arg-type]
        confidence=0.95,
        period="recent",
    )


@pytest.fixture
def report(reference: Reference) -> MonitorReport:
    sqft = stream_named(reference, "sqft")
    drift = (drift_of(sqft, np.full(250, 2_000.0)),)
    return MonitorReport(
        version="3",
        from_at=None,
        to_at=None,
        n_predictions=1_000,
        n_labelled=900,
        n_new_predictions=250,
        n_new_labelled=250,
        n_windows=4,
        drift=drift,
        alarms=(alarm_of("data", sqft),),
        new_alarms=(),
        figures=(figure_of("undecided"),),
        findings=(),
        verdict="watch",
        reason="sqft moved up.",
        action="Look.",
    )


def test_missing_values_are_a_fault_when_they_are_many_more_than_before(
    reference: Reference,
) -> None:
    waterfront = stream_named(reference, "waterfront")  # 10 % are missing in the reference

    assert found(waterfront, [None] * 30 + [0.0] * 220) == []
    assert found(waterfront, [None] * 100 + [0.0] * 150) == [("missing", 0.4)]


def test_unseen_categories_are_a_fault_but_a_single_one_is_not(reference: Reference) -> None:
    zipcode = stream_named(reference, "zipcode")

    assert found(zipcode, [98002] * 249 + [10115]) == []
    assert found(zipcode, [98002] * 200 + [10115] * 50) == [("unseen", 0.2)]


def test_a_change_of_unit_is_a_fault(
    reference: Reference, houses: Callable[..., pl.DataFrame]
) -> None:
    sqft = stream_named(reference, "sqft")
    rows = houses(250, 77)["sqft"]

    assert found(sqft, rows.to_list()) == []
    assert found(sqft, (rows * 0.0929).to_list()) == [
        ("out_of_range", pytest.approx(0.95, abs=0.06))
    ]


def test_a_date_later_than_all_before_is_no_fault_but_one_long_ago_is(
    reference: Reference,
) -> None:
    sold = stream_named(reference, "sold")

    assert found(sold, ["1/5/2016"] * 250) == []
    assert found(sold, ["1/1/1970"] * 250) == [("out_of_range", 1.0)]


def test_triage_puts_faults_before_criteria_before_drift(reference: Reference) -> None:
    sqft, prediction = stream_named(reference, "sqft"), reference.find("prediction")
    error = reference.find("error")
    assert prediction is not None
    assert error is not None
    far = drift_of(prediction, np.full(250, 1e9))
    near = drift_of(prediction, np.full(250, 1e9), state="quiet")
    fault = data_findings(sqft, bin_counts(sqft, [None] * 250).tolist())
    data, loss = alarm_of("data", sqft), alarm_of("error", error)
    missed, holds = figure_of("missed"), figure_of("holds")

    cases = [
        ("data_quality", [far], [loss], [missed], fault),
        ("criterion_missed", [far], [loss], [missed], []),
        ("drift", [near], [data, loss], [holds], []),
        ("drift", [far], [data], [holds], []),
        ("watch", [near], [data], [holds], []),
        ("ok", [near], [], [holds], []),
    ]
    for verdict, drift, alarms, figures, findings in cases:
        told = triage(drift=drift, alarms=alarms, figures=figures, findings=findings)
        assert told[0] == verdict
        assert told[1]


def test_a_report_reads_the_same_after_json(report: MonitorReport) -> None:
    assert MonitorReport.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_a_report_of_another_format_is_refused(report: MonitorReport) -> None:
    with pytest.raises(InvalidInputError, match="format 9"):
        MonitorReport.from_json(report.to_json() | {"format": 9})


def test_the_summary_says_what_was_looked_at_and_what_follows(report: MonitorReport) -> None:
    lines = summary(report)

    assert lines[0] == "Version 3: 1,000 predictions, 900 labelled (90%), 4 windows."
    assert lines[1] == "Verdict: watch. Look."
    assert any("mape recent: 0.16 (0.151 to 0.169 at 95.0%; 900 rows)" in line for line in lines)
    assert sum("sqft moved up." in line for line in lines) == 1


def test_html_escapes_what_comes_from_the_data(report: MonitorReport) -> None:
    evil = "<script>alert(1)</script>"
    spoilt = replace(
        report,
        version=evil,
        reason=evil,
        drift=(replace(report.drift[0], stream=evil, bins=(evil,) * len(report.drift[0].bins)),),
        alarms=(replace(report.alarms[0], message=evil),),
    )

    page = monitor_page(spoilt)

    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_html_draws_a_plot_for_each_stream_that_moved(report: MonitorReport) -> None:
    fragment = to_html(report)

    assert fragment.count("<svg") == 1
    assert fragment.count("<rect") == 2 * len(report.drift[0].bins)
    assert "http" not in fragment


def test_some_numbers_a_little_beyond_are_told_and_many_are_a_fault(
    reference: Reference, houses: Callable[..., pl.DataFrame]
) -> None:
    sqft = stream_named(reference, "sqft")
    beyond = sqft.edges[-1] * 1.01
    rows = houses(250, 77)["sqft"].to_list()

    def is_grave(n_beyond: int) -> list[bool]:
        values = pl.Series([beyond] * n_beyond + rows[n_beyond:], dtype=pl.Float64)
        return [each.is_grave for each in data_findings(sqft, bin_counts(sqft, values))]

    found = [is_grave(n) for n in (10, 60, 200)]

    assert found == [[], [False], [True]]
    assert all(type(each) is bool for told in found for each in told)  # numpy has another
