"""The monitor's page: what it says first, what it escapes, and that it needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.monitor import (
    MonitorPlan,
    MonitorReport,
    Reference,
    build_reference,
    live_figures,
    monitor_page,
    start_watch,
    to_html,
    watch,
)
from loopwright.monitor.bullet import bullet, live_bullets

ATTACK = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>"
VOID = {"meta", "br"}
SCHEMA = {
    "inference_id": pl.String(),
    "at": pl.Datetime("us", "UTC"),
    "version": pl.String(),
    "prediction": pl.Float64(),
}


class Page(HTMLParser):
    """Collects the elements of a page and fails when they are not nested rightly."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data


def times(n: int) -> pl.Series:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    at = [start + timedelta(minutes=minute) for minute in range(n)]
    return pl.Series(at, dtype=SCHEMA["at"])


def predictions_of(values: np.ndarray) -> pl.DataFrame:
    n = len(values)
    ids, at = [str(row) for row in range(n)], times(n)
    return pl.DataFrame(
        {"inference_id": ids, "at": at, "version": ["1"] * n, "prediction": values}, schema=SCHEMA
    )


def look_at(
    reference: Reference,
    rows: pl.DataFrame,
    predictions: np.ndarray,
    losses: np.ndarray | None = None,
) -> MonitorReport:
    state = start_watch(reference, MonitorPlan(), version="1")
    return watch(
        reference,
        state,
        predictions_of(predictions),
        inputs=rows,
        losses=None if losses is None else pl.DataFrame({"at": times(len(losses)), "loss": losses}),
        figures=[] if losses is None else live_figures(losses, metric="mape", at_most=0.15),
    )[1]


@pytest.fixture
def alarmed(
    reference: Reference,
    houses: Callable[[int, int], pl.DataFrame],
    losses: Callable[..., np.ndarray],
) -> MonitorReport:
    rows = houses(2_000, 31).with_columns(pl.col("sqft") * 2)
    return look_at(reference, rows, rows["sqft"].to_numpy() * 250.0, losses(2_000, 32, 0.4))


def test_the_first_words_are_the_verdict_and_what_to_do(alarmed: MonitorReport) -> None:
    page = Page(monitor_page(alarmed))

    before_criteria = page.words.partition("What was agreed")[0]
    assert alarmed.verdict == "criterion_missed"
    assert "The model no longer meets a criterion" in before_criteria
    assert alarmed.action in before_criteria
    assert "2,000 (100%)" in before_criteria


def test_alarms_criteria_and_moved_streams_are_shown(alarmed: MonitorReport) -> None:
    page = Page(monitor_page(alarmed))

    assert {alarm.kind for alarm in alarmed.alarms} == {"data", "error"}
    assert all(alarm.message in page.words for alarm in alarmed.alarms)
    assert "wanted at most 15%" in page.words
    open_part = page.words.partition(" quiet streams")[0]
    moved = [drift for drift in alarmed.drift if drift.state != "quiet"]
    assert all(drift.stream in open_part for drift in moved)
    assert page.tags.count("details") == 1


def test_a_page_without_labels_says_that_nobody_knows_how_good_the_model_is(
    reference: Reference,
    houses: Callable[[int, int], pl.DataFrame],
    predicted: Callable[[pl.DataFrame, int], np.ndarray],
) -> None:
    rows = houses(600, 41)
    report = look_at(reference, rows, predicted(rows, 42))

    page = Page(monitor_page(report))

    assert "send ground truth" in page.words
    assert "0 (0%)" in page.words
    assert "What was agreed" not in page.words


def test_a_page_without_predictions_claims_nothing(
    reference: Reference, houses: Callable[[int, int], pl.DataFrame]
) -> None:
    report = look_at(reference, houses(1, 51)[:0], np.zeros(0))

    page = Page(monitor_page(report))

    assert "Nothing was asked yet" in page.words
    assert "All is well" not in page.words
    assert "svg" not in page.tags


def test_the_page_needs_no_network_and_runs_no_script(alarmed: MonitorReport) -> None:
    text = monitor_page(alarmed)

    assert not {"script", "link", "img", "iframe"} & set(Page(text).tags)
    assert not re.search(r"https?:|url\(|@import|src=", text)
    assert "prefers-color-scheme: dark" in text
    assert Page(to_html(alarmed)).tags[0] == "section"


def test_nothing_from_the_data_becomes_markup() -> None:
    rng = np.random.default_rng(0)
    before = pl.DataFrame({ATTACK: [ATTACK, "b"] * 500, "price": rng.normal(size=1_000)})
    kinds = {ATTACK: "category", "price": "number"}
    reference = build_reference(before, rng.normal(size=1_000), np.abs(rng.normal(size=500)), kinds)
    live = pl.DataFrame({ATTACK: [ATTACK] * 1_000, "price": rng.normal(size=1_000)})
    report = look_at(reference, live, rng.normal(size=1_000), np.abs(rng.normal(size=1_000)))
    report = replace(report, version=ATTACK, reason=ATTACK, action=ATTACK)

    page = Page(monitor_page(report))

    assert any(drift.stream == ATTACK and drift.state == "drifted" for drift in report.drift)
    assert not {"script", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.words.count(ATTACK) >= 4


def test_the_bars_of_a_histogram_stay_inside_its_frame(alarmed: MonitorReport) -> None:
    places = re.findall(
        r'<rect class="\w+" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"',
        to_html(alarmed),
    )

    assert len(places) > 20
    for x, y, width, height in (map(float, numbers) for numbers in places):
        assert 0 <= x <= x + width <= 320
        assert -0.01 <= y <= y + height <= 84.02


def test_live_figures_of_one_metric_share_an_axis(losses: Callable[..., np.ndarray]) -> None:
    whole, recent = live_bullets(live_figures(losses(2_000, 61), metric="mape", at_most=0.15))

    assert (whole.low, whole.high, whole.target_at) == (recent.low, recent.high, recent.target_at)


@given(
    estimate=st.floats(-1e6, 1e6),
    room=st.floats(0, 1e6),
    target=st.floats(-1e6, 1e6),
    wants_low=st.booleans(),
)
def test_a_bullet_puts_an_estimate_on_its_side_of_the_target(
    estimate: float, room: float, target: float, wants_low: bool
) -> None:
    drawn = bullet(
        "mae",
        estimate=estimate,
        lower=estimate - room,
        upper=estimate + room,
        target=target,
        wants_low=wants_low,
    )

    assert drawn.at is not None
    assert drawn.target_at is not None
    assert drawn.span is not None
    assert drawn.good is not None
    assert 0 <= drawn.span[0] <= drawn.at <= sum(drawn.span) + 0.02 <= 100.04
    assert (drawn.at < drawn.target_at) <= (estimate < target)
    assert (drawn.at > drawn.target_at) <= (estimate > target)
    assert sum(drawn.good) == pytest.approx(drawn.target_at if wants_low else 100)


def test_a_figure_that_is_no_number_is_drawn_without_a_place() -> None:
    drawn = bullet("mape", estimate=float("nan"), lower=None, upper=float("inf"), target=0.15)

    assert drawn.at is None
    assert drawn.span is None
    assert drawn.value == "–"
