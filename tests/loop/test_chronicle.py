"""The history of a loop is one picture and one list that a person can follow."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from loopwright.core.clock import FixedClock
from loopwright.loop import loop_page, loop_status
from loopwright.loop.alarm import LOOK_KINDS, acknowledge_alarm, keep_conditions, keep_look
from loopwright.loop.chronicle import Chronicle, chronicle
from loopwright.loop.chronicle_chart import LEFT, RIGHT, timeline
from loopwright.loop.condition import Condition
from loopwright.loop.feedback_state import Begun, Ended, Held, Looked, Resumed, Trained
from loopwright.loop.feedback_store import tell
from loopwright.loop.file import parse_loop_file
from loopwright.loop.trigger import Seen
from loopwright.loop.workspace import Workspace
from loopwright.monitor import LiveFigure, MonitorReport
from loopwright.notebook.display import Alarms
from loopwright.settings import read_settings
from loopwright.wiring import open_workspace

ATTACK = "<script>alert(1)</script>"
LOOP = parse_loop_file(
    b"name: shop\nproblem: {target: price, criteria: [{metric: mape, at_most: 0.15}]}\n"
    b"data: {source: {kind: file, path: sales.csv}}\n"
)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def workspace(tmp_path: Path, clock: FixedClock) -> Workspace:
    return open_workspace(read_settings({"LOOPWRIGHT_USER": "ann"}, home=tmp_path), clock=clock)


def _round(workspace: Workspace, number: int, cause: str, *, days: float) -> None:
    clock: FixedClock = workspace.clock  # type: ignore[assignment]
    body = {"loop": "shop", "number": number, "cause": cause, "reason": "why", "overruled": ""}
    body |= {"started_at": clock.at.isoformat(), "state": "open", "conclusion": "", "live": None}
    tell(workspace.metadata, "shop", Begun(number=number, cause=cause, reason="why"), now=clock.at)
    tell(workspace.metadata, "shop", Trained(number=number, candidate="lightgbm"), now=clock.at)
    clock.advance(days=days)
    ended = {**body, "state": "live", "conclusion": "It is better.", "spec": {}}
    ended["ended_at"] = clock.at.isoformat()
    workspace.metadata.put("round", f"shop/{number:06d}", ended)
    event = Ended(number=number, outcome="live", version=f"v{number}", conclusion="It is better.")
    tell(workspace.metadata, "shop", event, now=clock.at)


def _look(workspace: Workspace, version: str, mape: float) -> None:
    clock: FixedClock = workspace.clock  # type: ignore[assignment]
    verdict = "missed" if mape - 0.02 > 0.15 else "holds" if mape + 0.02 < 0.15 else "undecided"
    figure = LiveFigure(
        metric="mape",
        n=500,
        estimate=mape,
        lower=mape - 0.02,
        upper=mape + 0.02,
        target=0.15,
        direction="at_most",
        verdict=verdict,  # type: ignore[arg-type]
        confidence=0.95,
        period="since deployment",
    )
    report = MonitorReport(
        version=version,
        from_at=clock.at,
        to_at=clock.at,
        n_predictions=1_000,
        n_labelled=500,
        n_new_predictions=100,
        n_new_labelled=50,
        n_windows=4,
        drift=(),
        alarms=(),
        new_alarms=(),
        figures=(figure,),
        findings=(),
        verdict="criterion_missed" if verdict == "missed" else "ok",
        reason=f"mape is {mape:.3f}.",
        action="Retrain with the newest labelled rows.",
    )
    keep_look(workspace, LOOP, report)
    seen = Seen(verdict=report.verdict, reason=report.reason, n_labelled=0)
    tell(workspace.metadata, "shop", Looked(seen=seen), now=clock.at)


@pytest.fixture
def lived(workspace: Workspace, clock: FixedClock) -> Workspace:
    """A loop with a year behind it: drift, an alarm, a hold, and a second champion."""
    known = {"file": "loop.yaml", "question": "What is it worth?", "endpoint": None}
    workspace.metadata.put("loop", "shop", known)
    _round(workspace, 1, "first run", days=1)
    for week in range(30):
        clock.advance(days=7)
        _look(workspace, "v1", 0.11 + 0.004 * max(0, week - 10))
    moved = Condition(kind="data", mark="v1/1", subject="size", message=f"size moved {ATTACK}")
    alarm = keep_conditions(workspace, LOOP, [moved], kinds={"data"})[0]
    acknowledge_alarm(workspace, "shop", alarm.id, reason="a new district")
    tell(workspace.metadata, "shop", Held(by="ann", reason="a holiday"), now=clock.at)
    clock.advance(days=3)
    tell(workspace.metadata, "shop", Resumed(by="ann", reason="back again"), now=clock.at)
    _round(workspace, 2, "changed", days=1)
    keep_conditions(workspace, LOOP, [], kinds=LOOK_KINDS)
    for _ in range(15):
        clock.advance(days=7)
        _look(workspace, "v2", 0.11)
    return workspace


@pytest.fixture
def story(lived: Workspace) -> Chronicle:
    return chronicle(lived, "shop")


def test_who_answered_when_has_no_gap_and_no_overlap(story: Chronicle) -> None:
    first, second = story.champions

    assert (first.label, second.label) == ("v1", "v2")
    assert first.end == second.start
    assert second.end is None


def test_the_states_follow_each_other_without_a_gap(story: Chronicle) -> None:
    ends = [each.end for each in story.states]

    assert [each.start for each in story.states[1:]] == ends[:-1]
    assert ends[-1] is None
    assert "held" in [each.label for each in story.states]


def test_what_a_person_did_and_what_was_decided_is_there_and_idle_looks_are_not(
    story: Chronicle,
) -> None:
    kinds = [each.kind for each in story.decisions]

    assert {"begun", "ended", "held", "resumed"} <= set(kinds)
    assert story.n_looks == 45
    assert kinds.count("looked") < 10


def test_quality_has_a_point_for_every_look_with_labels(story: Chronicle) -> None:
    assert len(story.quality) == 45
    assert {point.version for point in story.quality} == {"v1", "v2"}


def test_alarms_have_their_beginning_and_their_end(story: Chronicle) -> None:
    states = {(alarm.kind, alarm.state) for alarm in story.alarms}

    assert ("data", "closed") in states
    assert ("criterion", "closed") in states


def test_all_of_it_is_json(story: Chronicle) -> None:
    found = story.to_json()

    assert len(found["quality"]) == 45
    assert found["champions"][1]["end"] is None


def test_everything_in_the_picture_lies_inside_it(story: Chronicle) -> None:
    picture = timeline(story)

    assert picture is not None
    bars = [bar for lane in picture.lanes for bar in lane.bars]
    assert all(bar.x >= LEFT - 3 and bar.x + bar.width <= RIGHT + 0.2 for bar in bars)
    for chart in picture.charts:
        assert all(0 <= dot.y <= chart.height for dot in chart.dots)
        assert len(chart.lines) == 2  # one for each version
        assert 0 <= chart.target_y <= chart.height


def test_a_target_that_is_missed_by_far_is_where_it_belongs(
    workspace: Workspace, clock: FixedClock
) -> None:
    _round(workspace, 1, "first run", days=1)
    for _ in range(3):
        clock.advance(days=7)
        _look(workspace, "v1", 0.40)

    picture = timeline(chronicle(workspace, "shop"))

    assert picture is not None
    chart = picture.charts[0]
    assert chart.target_y > 50 + max(dot.y for dot in chart.dots)
    assert chart.low == "15%"


def test_a_history_of_years_makes_no_page_of_megabytes(lived: Workspace, clock: FixedClock) -> None:
    body = lived.metadata.list_events("quality/shop")[-1].body
    with lived.metadata.transaction():
        for _ in range(900):
            lived.metadata.append("quality/shop", "figures", body)

    picture = timeline(chronicle(lived, "shop"))

    assert picture is not None
    assert len(picture.charts[0].dots) <= 401


def test_a_loop_that_has_done_nothing_has_no_picture(workspace: Workspace) -> None:
    assert timeline(chronicle(workspace, "shop")) is None


def test_the_page_tells_it_all_and_escapes_what_came_from_outside(
    lived: Workspace, story: Chronicle
) -> None:
    page = loop_page(loop_status(lived, "shop"), [], story=story)

    words = re.sub(r"<[^>]+>", " ", page)
    assert "The whole history" in words
    assert "ann held the loop" in words
    assert "ann knows of it: a new district" in words
    assert ATTACK not in page
    assert "&lt;script&gt;" in page


def test_a_notebook_shows_alarms_as_a_table_that_runs_nothing(story: Chronicle) -> None:
    table = Alarms(story.alarms)._repr_html_()

    assert table.count("<tr>") == 3
    assert ATTACK not in table
    assert Alarms()._repr_html_() == "<p>There is no alarm.</p>"


def test_two_days_are_marked_by_the_hour(workspace: Workspace, clock: FixedClock) -> None:
    _round(workspace, 1, "first run", days=0.5)
    clock.advance(hours=1)

    picture = timeline(chronicle(workspace, "shop"))

    assert picture is not None
    assert re.fullmatch(r"\d\d:\d\d", picture.ticks[0][1])
    assert picture.ticks[-1][0] == RIGHT
    assert timedelta(hours=13) == clock.at - datetime(2026, 1, 1, tzinfo=UTC)
