"""What the page shows of labels: counts that matter, stretches of time, and lines by the hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from loopwright.monitor import GroundTruth, LabelCounts
from loopwright.monitor.ground_truth import OverTime, WindowFigure, told_truth
from loopwright.monitor.sheet import page_template
from loopwright.monitor.truth_chart import truth_view

START = datetime(2026, 5, 2, 12, tzinfo=UTC)


def hours(n: int) -> tuple[OverTime, ...]:
    return tuple(
        OverTime(
            start=START + timedelta(hours=k),
            n=100,
            n_labelled=50,
            loss=0.1 * (k + 1),
            prediction=None,
            largest=0.2,
        )
        for k in range(n)
    )


WEEK = WindowFigure(
    period="7 days",
    metric="mape",
    from_at=START,
    to_at=START,
    n=1_200,
    n_predictions=2_400,
    estimate=0.12,
    lower=None,
    upper=None,
    target=0.15,
    direction="at_most",
    verdict="undecided",
)


def test_only_counts_that_are_not_zero_are_told() -> None:
    counts = LabelCounts(n_labels=1_000, n_unknown=12, n_conflicting=3)

    assert told_truth(GroundTruth(counts=counts)) == [
        "Labels: 1,000 came; 12 unknown ids, 3 contradictory."
    ]
    assert told_truth(GroundTruth(counts=LabelCounts(n_labels=5))) == []


def test_nothing_known_is_nothing_shown() -> None:
    assert truth_view(None) is None
    assert truth_view(GroundTruth(counts=LabelCounts())) is None


def test_a_line_goes_from_the_first_hour_to_the_last_and_what_is_unknown_is_not_drawn() -> None:
    view = truth_view(GroundTruth(counts=LabelCounts(), over_time=hours(4)))

    assert view is not None
    loss, largest = view["charts"]
    assert loss["title"].endswith("0.4 last, 0.4 at most")
    (kind, points), *_ = loss["drawn"]["series"]
    assert (kind, len(points.split())) == ("data", 4)
    assert points.startswith("0.0,")
    assert points.split()[-1].startswith("640.0,")
    assert largest["title"].startswith("Largest distance")


def test_the_section_escapes_what_comes_from_outside() -> None:
    truth = GroundTruth(
        counts=LabelCounts(), windows=(WEEK,), over_time=hours(3), held=("from '<b>x</b>'",)
    )
    template = page_template("loopwright.monitor", "truth.html.j2")

    html = str(template.module.known_truth(truth_view(truth)))  # type: ignore[attr-defined]

    assert "&lt;b&gt;" in html
    assert "<b>x" not in html
    assert "1,200 of 2,400" in html
    assert html.count("<polyline") == 2
