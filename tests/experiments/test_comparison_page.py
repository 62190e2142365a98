"""The page of a comparison needs no network, escapes what comes from outside, and shows it all."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.loop.comparison_chart import curves, parallel, scale, scatter
from loopwright.loop.comparison_page import comparison_lines, comparison_page
from loopwright.loop.experiment import Experiment
from loopwright.tune.comparison import JobComparison, compared_jobs
from loopwright.tune.entry import Entry
from loopwright.tune.latency import Latency

ATTACK = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>"


def entry(n: int, **fields: Any) -> Entry:
    given: dict[str, Any] = {
        "job": f"job{n}",
        "name": f"houses/{n}",
        "kind": "training",
        "state": "succeeded",
        "algorithm": "lightgbm",
        "task": "regression",
        "quality": {"rmse": 10.0 - n},
        "parameters": {"rate": 10.0**-n, "depth": n, "kind": "ab"[n % 2]},
        "curves": {"validation:rmse": tuple((step, 5.0 / step + n) for step in range(1, 9))},
    }
    return Entry(**{**given, **fields})


def compared(entries: list[Entry], **options: Any) -> JobComparison:
    times = {
        each.job: Latency(median_us=20.0 + n, p99_us=50.0, n_calls=60, cpu="one")
        for n, each in enumerate(entries)
    }
    return compared_jobs(entries, latencies=times, **options)


class Tags(HTMLParser):
    """Collects the tags and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def tags(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(page)
    return parser.found


def test_the_page_holds_the_table_and_every_picture() -> None:
    page = comparison_page(compared([entry(n) for n in range(12)]))

    for heading in (
        "The jobs",
        "Quality against latency",
        "What mattered",
        "Parameters to result",
        "Learning curves",
        "What each job is made of",
    ):
        assert f"<h2>{heading}</h2>" in page
    rows = [attrs for tag, attrs in tags(page) if tag == "tr" and "data-n" in attrs]
    assert [row["data-n"] for row in rows] == [str(n) for n in range(12)]


def test_nothing_is_fetched_and_nothing_leads_away() -> None:
    page = comparison_page(compared([entry(n) for n in range(3)]))

    assert not re.search(r"https?://|//[a-z]|@import|url\(", page.replace("http://www.w3.org", ""))
    assert not [tag for tag, attrs in tags(page) if {"src", "href", "srcset"} & attrs.keys()]


def test_what_comes_from_outside_is_shown_as_text() -> None:
    odd = entry(
        1,
        name=ATTACK,
        algorithm=ATTACK,
        reason=ATTACK,
        state=ATTACK,
        parameters={ATTACK: ATTACK, "depth": 2},
        metrics={ATTACK: 1.0},
        curves={ATTACK: ((1, 1.0), (2, 3.0))},
        recipe=((ATTACK, (ATTACK,), ATTACK),),
        data={ATTACK: ATTACK},
        code={"commit": ATTACK},
        labels={ATTACK: ATTACK},
        importance=((ATTACK, 0.5),),
    )
    about = Experiment(name=ATTACK, hypothesis=ATTACK, conclusion=ATTACK, state=ATTACK)

    page = comparison_page(compared([odd, entry(2)]), title=ATTACK, experiments=[about])

    found = tags(page)
    assert [tag for tag, _ in found if tag == "script"] == ["script"]
    assert "img" not in {tag for tag, _ in found}
    assert not [n for _, attrs in found for n in attrs if n.startswith("on")]
    assert "&lt;script&gt;alert(1)" in page


def test_the_script_is_the_same_whatever_the_jobs_are() -> None:
    first, second = (
        comparison_page(compared([entry(n), entry(n + 1)], metric=None)) for n in (0, 5)
    )

    scripts = [re.findall(r"<script>(.*?)</script>", page, re.S) for page in (first, second)]
    assert scripts[0] == scripts[1]
    assert len(scripts[0]) == 1


def test_one_job_is_a_page_as_well() -> None:
    page = comparison_page(compared([entry(1)]))

    assert "1 job, ranked" in page
    assert "Parameters to result" not in page


def test_two_jobs_show_what_differs_from_the_first_to_the_second() -> None:
    found = compared([entry(1), entry(2)])

    page, lines = comparison_page(found), "\n".join(comparison_lines(found))

    assert "What differs" in page
    # job 2 is the better one and comes first
    assert "houses/2 (job2) → houses/1 (job1)" in lines
    assert "parameters  depth: 2 → 1" in lines


def test_jobs_without_curves_or_latency_leave_those_pictures_out() -> None:
    found = compared_jobs([entry(n, curves={}) for n in range(3)])

    page = comparison_page(found)

    assert "Learning curves" not in page
    assert "Quality against latency" not in page


def test_the_terminal_shows_front_importance_and_warnings() -> None:
    entries = [entry(n, data={"validation rows": str(n % 2)}) for n in range(12)]

    lines = comparison_lines(compared(entries))

    assert lines[0].startswith("! The jobs were judged on 2 different sets")
    assert any("Best rmse for its latency" in line for line in lines)
    assert any("What mattered (lightgbm, 12 jobs" in line for line in lines)


def test_the_scatter_puts_the_better_metric_higher_or_lower_as_it_is() -> None:
    chart = scatter(compared([entry(n) for n in range(4)]))

    assert chart is not None
    # the greatest rmse lies highest in the picture
    by_rank = {mark.n: mark for mark in chart.marks}
    assert by_rank[3].y < by_rank[0].y
    assert len(chart.line.split()) == sum(mark.is_front for mark in chart.marks)


def test_parallel_coordinates_have_an_axis_for_each_parameter_and_the_metric() -> None:
    chart = parallel(compared([entry(n) for n in range(6)]))

    assert chart is not None
    assert {axis.name for axis in chart.axes} == {"rate", "depth", "kind", "rmse"}
    assert chart.axes[-1].name == "rmse"
    assert all(len(mark.at.split()) == len(chart.axes) for mark in chart.marks)


def test_the_curves_of_the_best_are_drawn() -> None:
    (chart,) = curves(compared([entry(n) for n in range(40)]))

    assert (len(chart.marks), chart.n_left_out) == (30, 10)
    # the best is drawn last, on top of the others
    assert chart.marks[-1].n == 0


NUMBERS = st.lists(st.floats(-1e12, 1e12, allow_nan=False), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(NUMBERS)
def test_what_is_drawn_lies_within_the_picture(values: list[float]) -> None:
    place, ticks = scale(values, 0.0, 100.0)

    assert all(-1e-6 <= place(value) <= 100 + 1e-6 for value in values)
    assert all(-0.1 <= tick.at <= 100.1 for tick in ticks)
    assert 1 <= len(ticks) <= 8


def test_the_marks_of_a_narrow_range_can_be_told_apart() -> None:
    _, ticks = scale([0.408122, 0.408842], 0.0, 100.0)

    assert [tick.text for tick in ticks] == ["0.4082", "0.4084", "0.4086", "0.4088"]


def test_a_wide_range_is_laid_out_by_orders_of_magnitude() -> None:
    place, ticks = scale([0.001, 10.0], 0.0, 100.0)

    assert place(0.1) == pytest.approx(50.0)
    assert [tick.text for tick in ticks] == ["0.001", "0.01", "0.1", "1", "10"]


def test_parameters_that_only_one_job_has_are_told_together() -> None:
    first = entry(1, algorithm="knn", parameters={"k": 3, "metric": "l2", "seed": 1})
    second = entry(2, parameters={"depth": 4, "seed": 2})

    lines = comparison_lines(compared([first, second]))

    assert "  parameters  seed: 2 → 1" in lines
    assert "  parameters  only of the first: depth" in lines
    assert "  parameters  only of the second: k, metric" in lines
