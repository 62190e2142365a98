"""Alarms are raised once, told together, close by themselves, and people can say they know."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.clock import FixedClock
from loopwright.core.errors import InvalidInputError, NotFoundError, WrongStateError
from loopwright.loop.alarm import (
    LOOK_KINDS,
    OPERATION_KINDS,
    AlarmRecord,
    acknowledge_alarm,
    keep_conditions,
    keep_look,
    list_alarms,
    reconciled,
)
from loopwright.loop.condition import Condition, conditions_of
from loopwright.loop.file import LoopFile, parse_loop_file
from loopwright.loop.outbox import list_outbox
from loopwright.loop.workspace import Workspace
from loopwright.monitor import (
    Alarm,
    DataFinding,
    LiveFigure,
    MonitorReport,
    StreamReference,
    measured_effect,
)
from loopwright.settings import read_settings
from loopwright.wiring import open_workspace

LOOP = b"""\
name: shop
problem: {target: price, criteria: [{metric: mape, at_most: 0.5}]}
data: {source: {kind: file, path: sales.csv}}
monitor: {alarms: [{kind: log}, {kind: command, run: [page-me]}]}
"""

_STREAM = StreamReference(
    name="size", role="input", kind="number", counts=(0, 5, 5, 0, 0), edges=(0.0, 1.0, 2.0)
)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def workspace(tmp_path: Path, clock: FixedClock) -> Workspace:
    return open_workspace(read_settings({"LOOPWRIGHT_USER": "ann"}, home=tmp_path), clock=clock)


@pytest.fixture
def loop() -> LoopFile:
    return parse_loop_file(LOOP)


def _drift(number: int = 1, subject: str = "price", version: str = "v1") -> Condition:
    return Condition(
        kind="data",
        mark=f"{version}/{number}/",
        subject=subject,
        message=f"{subject} moved up.",
        version=version,
    )


def _report(**said: object) -> MonitorReport:
    known: dict[str, object] = {
        "version": "v1",
        "from_at": None,
        "to_at": None,
        "n_predictions": 1_000,
        "n_labelled": 500,
        "n_new_predictions": 100,
        "n_new_labelled": 50,
        "n_windows": 4,
        "drift": (),
        "alarms": (),
        "new_alarms": (),
        "figures": (),
        "findings": (),
        "verdict": "ok",
        "reason": "",
        "action": "Nothing to do.",
    }
    return MonitorReport(**{**known, **said})  # type: ignore[arg-type]


def _figure(verdict: str, estimate: float = 0.6) -> LiveFigure:
    return LiveFigure(
        metric="mape",
        n=500,
        estimate=estimate,
        lower=estimate - 0.05,
        upper=float("inf"),
        target=0.5,
        direction="at_most",
        verdict=verdict,  # type: ignore[arg-type]
        confidence=0.95,
        period="since deployment",
    )


def _fault(stream: str) -> DataFinding:
    return DataFinding(
        stream=stream,
        problem="missing",
        share=0.4,
        reference_share=0.0,
        n_rows=250,
        message=f"{stream} is missing in 40.0% of 250 rows (0.0% before).",
    )


def _states(workspace: Workspace) -> list[str]:
    return [alarm.state for alarm in list_alarms(workspace, "shop")]


def test_an_alarm_is_raised_once_however_often_it_is_seen(
    workspace: Workspace, loop: LoopFile, clock: FixedClock
) -> None:
    for _ in range(3):
        clock.advance(hours=1)
        keep_conditions(workspace, loop, [_drift()], kinds=LOOK_KINDS)

    assert _states(workspace) == ["open"]
    assert len(list_outbox(workspace, "shop")) == 2  # one for each sink


def test_what_a_look_raises_is_one_message(workspace: Workspace, loop: LoopFile) -> None:
    keep_conditions(workspace, loop, [_drift(1), _drift(2, "size")], kinds=LOOK_KINDS)

    messages = {entry.notice.key for entry in list_outbox(workspace, "shop")}
    notice = list_outbox(workspace, "shop")[0].notice
    assert len(messages) == 1
    assert [alarm.subject for alarm in notice.alarms] == ["price", "size"]
    assert notice.title == "[shop] alarm: data, price and 1 more"


def test_an_alarm_closes_by_itself_and_that_is_told(
    workspace: Workspace, loop: LoopFile, clock: FixedClock
) -> None:
    keep_conditions(workspace, loop, [_drift()], kinds=LOOK_KINDS)
    clock.advance(hours=2)
    keep_conditions(workspace, loop, [], kinds=LOOK_KINDS)
    keep_conditions(workspace, loop, [_drift()], kinds=LOOK_KINDS)  # the episode is over for good

    alarm = list_alarms(workspace, "shop")[0]
    assert _states(workspace) == ["closed"]
    assert alarm.closed_at == alarm.opened_at + timedelta(hours=2)
    assert [entry.notice.event for entry in list_outbox(workspace, "shop")] == [
        "opened",
        "opened",
        "closed",
        "closed",
    ]


def test_a_new_version_ends_the_alarms_about_the_one_before(
    workspace: Workspace, loop: LoopFile
) -> None:
    keep_conditions(workspace, loop, [_drift()], kinds=LOOK_KINDS, version="v1")
    keep_conditions(workspace, loop, [_drift(1, version="v2")], kinds=LOOK_KINDS, version="v2")

    first, second = list_alarms(workspace, "shop")
    by_version = {alarm.version: alarm for alarm in (first, second)}
    assert by_version["v1"].closed_because == "another version answers now"
    assert by_version["v2"].state == "open"


def test_alarms_of_other_kinds_are_left_alone(workspace: Workspace, loop: LoopFile) -> None:
    down = Condition(kind="operation", mark="look", subject="look", message="It fails.")
    keep_conditions(workspace, loop, [down], kinds={"operation"})

    keep_conditions(workspace, loop, [], kinds=LOOK_KINDS)

    assert _states(workspace) == ["open"]


def test_a_missed_criterion_is_an_alarm_until_it_surely_holds(
    workspace: Workspace, loop: LoopFile, clock: FixedClock
) -> None:
    states = []
    for verdict in ("holds", "missed", "undecided", "missed", "holds", "undecided", "missed"):
        clock.advance(hours=1)
        keep_look(workspace, loop, _report(figures=(_figure(verdict),)))
        states.append(_states(workspace))

    assert states == [
        [],
        ["open"],
        ["open"],
        ["open"],
        ["closed"],
        ["closed"],
        ["closed", "open"],
    ]
    message = list_alarms(workspace, "shop")[0].message
    assert message.startswith("mape is 0.6")
    assert "agreed was at most 0.5" in message


def test_faults_of_many_columns_are_one_alarm_that_a_single_quiet_look_does_not_close(
    workspace: Workspace, loop: LoopFile
) -> None:
    faults = tuple(_fault(f"column_{n}") for n in range(9))
    looks = [faults, (), faults[:1], (), ()]
    states = []
    for findings in looks:
        keep_look(workspace, loop, _report(findings=findings))
        states.append(_states(workspace))

    assert states == [["open"], ["open"], ["open"], ["open"], ["closed"]]
    assert "And 4 more." in list_outbox(workspace, "shop")[0].notice.alarms[0].message


def test_figures_that_json_cannot_say_are_kept_as_unknown(
    workspace: Workspace, loop: LoopFile
) -> None:
    keep_look(workspace, loop, _report(figures=(_figure("missed"),)))

    events = workspace.metadata.list_events("quality/shop")
    assert events[0].body["figures"][0]["upper"] is None
    assert events[0].body["figures"][0]["estimate"] == 0.6


def test_a_look_without_labels_adds_no_point_to_the_chart(
    workspace: Workspace, loop: LoopFile
) -> None:
    keep_look(workspace, loop, _report(n_new_labelled=0))

    assert not workspace.metadata.list_events("quality/shop")


def test_nothing_is_kept_if_the_look_is_not(workspace: Workspace, loop: LoopFile) -> None:
    def killed() -> None:
        with workspace.metadata.transaction():
            keep_look(workspace, loop, _report(figures=(_figure("missed"),)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        killed()

    assert not list_alarms(workspace, "shop")
    assert not list_outbox(workspace, "shop")


def test_what_came_and_went_within_one_look_is_on_record_and_told(
    workspace: Workspace, loop: LoopFile
) -> None:
    effect = measured_effect(_STREAM, _STREAM.counts)
    passed = Alarm(
        kind="data",
        number=1,
        at=None,
        since_at=None,
        stream="size",
        movement="moved up",
        others=(),
        effect=effect,
        prediction_effect=None,
        message="size moved up.",
    )

    keep_look(workspace, loop, _report(new_alarms=(passed,)))

    assert _states(workspace) == ["closed"]
    events = [entry.notice.event for entry in list_outbox(workspace, "shop")]
    assert events == ["opened", "opened", "closed", "closed"]


def test_an_acknowledged_alarm_names_who_knows_and_stays_until_it_is_over(
    workspace: Workspace, loop: LoopFile
) -> None:
    alarm = keep_conditions(workspace, loop, [_drift()], kinds=LOOK_KINDS)[0]

    seen = acknowledge_alarm(workspace, "shop", alarm.id[:6], reason="a sale")

    assert (seen.acknowledged_by, seen.acknowledged_because) == ("ann", "a sale")
    assert _states(workspace) == ["acknowledged"]
    keep_conditions(workspace, loop, [], kinds=LOOK_KINDS)
    with pytest.raises(WrongStateError, match="is over since"):
        acknowledge_alarm(workspace, "shop", alarm.id)


def test_an_alarm_that_is_not_there_is_answered_with_those_that_are(
    workspace: Workspace, loop: LoopFile
) -> None:
    alarms = keep_conditions(workspace, loop, [_drift(1), _drift(2, "size")], kinds=LOOK_KINDS)

    with pytest.raises(NotFoundError, match=alarms[0].id):
        acknowledge_alarm(workspace, "shop", "nothing")
    with pytest.raises(NotFoundError):
        acknowledge_alarm(workspace, "shop", "")


def test_a_beginning_that_several_share_is_refused(workspace: Workspace, loop: LoopFile) -> None:
    many = [_drift(number) for number in range(20)]
    alarms = keep_conditions(workspace, loop, many, kinds=LOOK_KINDS)
    starts = [alarm.id[0] for alarm in alarms]
    shared = next(letter for letter in starts if starts.count(letter) > 1)

    with pytest.raises(InvalidInputError, match="Write more of it"):
        acknowledge_alarm(workspace, "shop", shared)


def test_the_estimate_is_a_condition_of_its_own() -> None:
    found = conditions_of(_report(verdict="estimated_miss", reason="mape is likely 0.7."))

    assert [(each.kind, each.message) for each in found] == [("estimate", "mape is likely 0.7.")]


@given(st.lists(st.sets(st.integers(0, 4)), max_size=12))
@settings(max_examples=60, deadline=None)
def test_whatever_comes_and_goes_nothing_is_raised_twice_at_once(looks: list[set[int]]) -> None:
    now = FixedClock()
    known: dict[str, AlarmRecord] = {}
    for wrong in looks:
        now.advance(hours=1)
        conditions = [
            Condition(kind="criterion", mark=str(n), subject=str(n), message=str(n))
            for n in sorted(wrong)
        ]
        opened, changed, closed = reconciled("shop", list(known.values()), conditions, now=now.at)
        assert not {each.id for each in opened} & known.keys()
        known.update({each.id: each for each in (*opened, *changed, *closed)})

        still_open = sorted(each.mark for each in known.values() if each.closed_at is None)
        assert still_open == sorted(map(str, wrong))


def test_what_is_to_be_done_about_an_open_alarm_is_what_the_last_look_says(
    workspace: Workspace, loop: LoopFile
) -> None:
    for action in ("Repair the data source first.", "Retrain with the newest labelled rows."):
        told = _report(verdict="criterion_missed", figures=(_figure("missed"),), action=action)
        keep_look(workspace, loop, told)

    assert [each.action for each in list_alarms(workspace, "shop")] == [action]


def test_what_an_open_alarm_told_the_cause_of_is_no_further_message(
    workspace: Workspace, loop: LoopFile
) -> None:
    fault = Condition(kind="data_quality", mark="inputs", subject="age", message="age is gone.")
    held = Condition(
        kind="operation", mark="stopped", subject="held", message="held", part_of="data_quality"
    )
    keep_conditions(workspace, loop, [fault], kinds=LOOK_KINDS)
    n_told = len(list_outbox(workspace, "shop"))

    keep_conditions(workspace, loop, [held], kinds=OPERATION_KINDS)

    cause, consequence = list_alarms(workspace, "shop", include_closed=False)
    assert (cause.part_of, consequence.part_of) == ("", cause.id)
    assert len(list_outbox(workspace, "shop")) == n_told
    keep_conditions(workspace, loop, [], kinds=OPERATION_KINDS)
    assert len(list_outbox(workspace, "shop")) == n_told
    assert len(list_alarms(workspace, "shop", include_closed=False)) == 1


def test_a_consequence_whose_cause_was_not_told_is_told_itself(
    workspace: Workspace, loop: LoopFile
) -> None:
    held = Condition(
        kind="operation", mark="stopped", subject="held", message="held", part_of="data_quality"
    )

    (opened,) = keep_conditions(workspace, loop, [held], kinds=OPERATION_KINDS)

    assert opened.part_of == ""
    assert len(list_outbox(workspace, "shop")) == 2
