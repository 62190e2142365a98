"""What explains a report, drawn: places on the charts, the page around them, and what is escaped."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from loopwright.monitor import MonitorPlan, MonitorReport, Reference, monitor_page, start_watch
from loopwright.monitor import summary as told_report
from loopwright.monitor.alarm import Alarm
from loopwright.monitor.attribution import Attribution, MovedColumn
from loopwright.monitor.effect import Effect
from loopwright.monitor.estimate import Estimate
from loopwright.monitor.estimate_check import checked_estimate
from loopwright.monitor.explanation_drift import explanation_drift
from loopwright.monitor.fairness_drift import FairnessDrift, LiveGroup
from loopwright.monitor.insight import Insight, TrailPoint
from loopwright.monitor.insight_chart import (
    attribution_view,
    estimate_bullets,
    evidence_lines,
    gap_lines,
    split_bars,
)
from loopwright.monitor.loss_split import LossSplit
from loopwright.monitor.moved_segment import MovedSegment
from loopwright.monitor.report import sparkline, with_insight
from loopwright.monitor.skew import FeatureSkew, ServingSkew
from loopwright.monitor.watch import watch
from loopwright.monitor.weak_slice import WeakSlice

NOW = datetime(2026, 4, 1, tzinfo=UTC)
ATTACK = "<script>alert('x')</script>"
LIMIT = "selection_rate by sex: gap at most 0.1"


def made_split(covariate: float = 0.04, concept: float = -0.01) -> LossSplit:
    return LossSplit(
        metric="mape",
        n_rows=1_000,
        before=0.10,
        now=0.10 + covariate + concept,
        covariate=covariate,
        covariate_error=0.005,
        concept=concept,
        concept_error=0.005,
        cause="covariate",
        message="mape went up.",
    )


def made_attribution(name: str = "area") -> Attribution:
    column = MovedColumn(
        stream=name,
        state="drifted",
        floor_ratio=7.5,
        since_at=NOW,
        prediction_shift=81_325.0,
        prediction_error=2_490.0,
        loss_shift=0.0413,
    )
    segment = MovedSegment(condition=f"{name} = x", n_rows=30, share=0.3, inside=0.4, outside=0.01)
    return Attribution(
        columns=(column,),
        of="prediction",
        prediction_before=261_100.0,
        prediction_now=334_126.0,
        segment=segment,
        segment_of=name,
        loss=made_split(),
        n_rows=2_000,
        told=(f"Had {name} not moved, the mean prediction would be lower.",),
        advice=f"Ask about {name}.",
    )


def made_estimate(**changes: object) -> Estimate:
    estimate = Estimate(
        metric="mape",
        value=0.18,
        lower=0.16,
        upper=0.20,
        reference=0.11,
        target=0.15,
        direction="at_most",
        verdict="missed",
        confidence=0.95,
        n_rows=2_000,
        n_effective=1_500.0,
        method="modelled loss",
    )
    return replace(estimate, **changes)  # type: ignore[arg-type]


def made_trail(n: int) -> tuple[TrailPoint, ...]:
    return tuple(
        TrailPoint(
            at=NOW + timedelta(hours=hour),
            data=float(hour),
            error=0.0,
            data_threshold=4.0,
            error_threshold=4.0,
            gaps={LIMIT: (0.05 * hour, 0.0, 0.3)},
        )
        for hour in range(n)
    )


def made_insight(name: str = "area") -> Insight:
    sizes = np.abs(np.random.default_rng(1).normal(size=(100, 2)))
    check = checked_estimate(
        "mape",
        estimated=0.18,
        estimated_error=0.005,
        realised=0.17,
        realised_error=0.005,
        n_rows=900,
        best=0.0,
    )
    fairness = FairnessDrift(
        limit=LIMIT,
        column=name,
        metric="selection_rate",
        groups=(LiveGroup(name=name, n_rows=100, value=0.4, lower=None, upper=0.5),),
        gap=0.15,
        gap_lower=0.05,
        gap_upper=0.25,
        ratio=None,
        ratio_upper=None,
        high="a",
        low="b",
        verdict="undecided",
        needs_labels=False,
        n_rows=200,
        message=f"a gap of {name}",
    )
    skew = ServingSkew(
        n_replayed=200,
        n_different=0,
        worst=0.0,
        features=(FeatureSkew(feature=name, shift=1.0, missing=0.1, reference_missing=0.0),),
        n_features=10,
        n_rows=200,
        message=f"{name} is apart",
    )
    worst = WeakSlice(condition=name, n_rows=50, share=0.1, loss=0.3, elsewhere=0.1, p_value=0.001)
    return Insight(
        estimates=(made_estimate(), made_estimate(metric="mae", value=None, reason=f"no {name}")),
        checks=(check,),
        attributions={"data 1": made_attribution(name)},
        explanation=explanation_drift((name, "age"), sizes, sizes),
        fairness=(fairness,),
        skew=skew,
        slices=(worst,),
        told_apart=0.7,
        told_apart_error=0.01,
        trail=made_trail(5),
        n_rows=2_000,
        problems=(f"worst rows: {name}",),
    )


@pytest.fixture
def report(reference: Reference, houses: object, predicted: object) -> MonitorReport:
    import polars as pl

    rows = houses(300, 1)  # type: ignore[operator]
    frame = pl.DataFrame(
        {
            "inference_id": [f"r{k}" for k in range(300)],
            "at": [NOW + timedelta(minutes=k) for k in range(300)],
            "version": "v",
            "prediction": predicted(rows, 2),  # type: ignore[operator]
        }
    )
    state = start_watch(reference, MonitorPlan(), version="v")
    _, found = watch(reference, state, frame, inputs=rows)
    effect = Effect(
        n_rows=300,
        measure="superiority",
        size=0.2,
        distance=0.3,
        noise_floor=0.05,
        missing_share=0.0,
        reference_missing_share=0.0,
        novel_share=0.0,
    )
    alarm = Alarm(
        kind="data",
        number=1,
        at=NOW,
        since_at=NOW,
        stream="sqft",
        movement="moved up",
        others=(),
        effect=effect,
        prediction_effect=None,
        message="sqft moved up.",
    )
    return replace(found, alarms=(alarm,), new_alarms=(alarm,), verdict="watch", reason="sqft")


def test_an_alarm_carries_what_is_behind_it(report: MonitorReport) -> None:
    explained = with_insight(report, made_insight())

    assert explained.alarms[0].attribution == made_attribution()
    assert explained.new_alarms[0].attribution == made_attribution()
    assert MonitorReport.from_json(explained.to_json()) == explained


@pytest.mark.parametrize("verdict", ["data_quality", "criterion_missed"])
def test_what_is_known_comes_before_what_is_estimated(report: MonitorReport, verdict: str) -> None:
    known = with_insight(replace(report, verdict=verdict), made_insight())  # type: ignore[arg-type]
    estimated = with_insight(report, made_insight())
    wrong = replace(made_insight(), estimates=(made_estimate(standing="wrong"),))

    assert known.verdict == verdict
    assert estimated.verdict == "estimated_miss"
    assert "assumes that only the inputs moved" in estimated.reason
    assert with_insight(report, wrong).verdict == "watch"


def test_the_page_says_it_all_and_needs_nothing_else(report: MonitorReport) -> None:
    page = monitor_page(with_insight(report, made_insight()))

    for words in (
        "Had area not moved",
        "Ask about area.",
        "Estimated without labels",
        "mae cannot be estimated: no area",
        "Evidence over time",
        "Answered worst",
        "Groups of people",
        "Influence of the columns",
        "Training and serving",
        "not found out",
    ):
        assert words in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "<script" not in page


def test_names_from_the_data_are_escaped_everywhere(report: MonitorReport) -> None:
    page = monitor_page(with_insight(report, made_insight(ATTACK)))

    assert ATTACK not in page
    assert "&lt;script&gt;" in page


def test_the_terminal_draws_histograms_and_evidence(report: MonitorReport) -> None:
    lines = told_report(with_insight(report, made_insight()))

    histogram = next(line for line in lines if line.startswith("sqft: at release |"))
    assert histogram.count("|") == 4
    assert "Evidence over the last 5 looks, █ raises an alarm: | ▂▄▆█|" in lines
    assert "What to do: Ask about area." in lines


def test_parts_of_a_loss_stand_end_to_end() -> None:
    bars = split_bars(made_split())["bars"]

    release, inputs, truth, now = bars
    assert inputs["left"] == pytest.approx(release["left"] + release["width"], abs=0.02)
    assert truth["left"] + truth["width"] == pytest.approx(
        inputs["left"] + inputs["width"], abs=0.02
    )
    assert now["width"] == pytest.approx(truth["left"], abs=0.02)
    assert [bar["kind"] for bar in bars] == ["before", "worse", "better", "live"]


def test_evidence_is_drawn_as_a_share_of_an_alarm() -> None:
    drawn = evidence_lines(made_trail(5))

    assert drawn is not None
    data = dict(drawn["series"])["data"].split()
    assert len(data) == 5
    # the fifth look has as much evidence as an alarm takes
    assert float(data[-1].split(",")[1]) == drawn["line"]
    assert evidence_lines(made_trail(1)) is None


def test_gaps_of_one_limit_are_drawn_over_time() -> None:
    fairness = made_insight().fairness[0]

    drawn = gap_lines(made_trail(4), fairness)

    assert drawn is not None
    heights = [float(point.split(",")[1]) for point in drawn["series"][0][1].split()]
    assert heights == sorted(heights, reverse=True)
    assert gap_lines(made_trail(4), replace(fairness, limit="another")) is None


def test_an_estimate_that_was_wrong_is_drawn_as_undecided() -> None:
    held, wrong = estimate_bullets([made_estimate(), made_estimate(standing="wrong")])

    assert held.standing == "missed"
    assert wrong.standing == "undecided"
    assert "no say" in wrong.note


def test_shifts_are_told_in_few_characters() -> None:
    view = attribution_view(made_attribution())

    assert view["columns"][0]["prediction"] == "+81,325 ± 2,490"
    assert view["columns"][0]["loss"] == "+0.0413"


def test_a_sparkline_is_as_long_as_what_it_shows() -> None:
    assert sparkline([]) == ""
    assert sparkline([0.0, 0.0]) == "  "
    assert sparkline([1.0], most=2.0) == "▄"
