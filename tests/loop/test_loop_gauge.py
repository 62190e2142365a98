"""How a loop is, as gauges beside its endpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from loopwright.core.clock import FixedClock
from loopwright.loop.alarm import keep_conditions, list_alarms
from loopwright.loop.condition import Condition
from loopwright.loop.file import LoopFile, parse_loop_file
from loopwright.loop.loop_gauge import keep_loop_gauges
from loopwright.loop.workspace import Workspace
from loopwright.settings import read_settings
from loopwright.wiring import open_workspace

REPORT = {
    "version": "v1",
    "verdict": "drift",
    "n_predictions": 500,
    "n_labelled": 20,
    "figures": [
        {
            "metric": "mape",
            "period": "since deployment",
            "estimate": 0.25,
            "lower": None,
            "upper": 0.3,
            "target": 0.5,
        }
    ],
    "drift": [{"stream": "size", "effect": {"distance": 0.12}}],
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return open_workspace(read_settings({}, home=tmp_path), clock=FixedClock())


def loop_of(deploy: str = "deploy: {endpoint: shop}\n") -> LoopFile:
    return parse_loop_file(
        b"name: shop\nproblem: {target: price, criteria: [{metric: mape, at_most: 0.5}]}\n"
        b"data: {source: {kind: file, path: sales.csv}}\n" + deploy.encode()
    )


def lines_of(workspace: Workspace) -> list[str]:
    return (workspace.endpoint_folder("shop") / "loop.prom").read_text().splitlines()


def test_open_alarms_and_what_the_monitor_measured_lie_beside_the_endpoint(
    workspace: Workspace,
) -> None:
    workspace.endpoint_folder("shop").mkdir(parents=True)
    wrong = Condition(kind="data", mark="1", subject='a "b"', message="moved")
    keep_conditions(workspace, loop_of(), [wrong], kinds={"data"})
    workspace.metadata.put("monitor", "shop", {"report": REPORT})
    (alarm,) = list_alarms(workspace, "shop")

    keep_loop_gauges(workspace, loop_of())

    lines = lines_of(workspace)
    about = f'loop="shop",id="{alarm.id}",kind="data",subject="a \\"b\\"",state="open"'
    at = alarm.opened_at.timestamp()
    assert f"loopwright_alarm_open_timestamp_seconds{{{about}}} {at}" in lines
    assert 'loopwright_alarms_open{loop="shop",kind="data"} 1' in lines
    assert 'loopwright_alarms_open{loop="shop",kind="error"} 0' in lines
    assert 'loopwright_monitor_info{loop="shop",version="v1",verdict="drift"} 1' in lines
    assert 'loopwright_drift_distance{loop="shop",stream="size"} 0.12' in lines
    assert 'loopwright_monitored_labels{loop="shop"} 20' in lines
    bounds = [line for line in lines if line.startswith("loopwright_quality{")]
    assert [line.rpartition('value="')[2] for line in bounds] == [
        'estimate"} 0.25',
        'upper"} 0.3',
        'target"} 0.5',
    ]


def test_an_alarm_that_is_over_is_no_gauge_any_more(workspace: Workspace) -> None:
    workspace.endpoint_folder("shop").mkdir(parents=True)
    wrong = Condition(kind="data", mark="1", subject="a", message="moved")
    keep_conditions(workspace, loop_of(), [wrong], kinds={"data"})
    keep_loop_gauges(workspace, loop_of())

    keep_conditions(workspace, loop_of(), [], kinds={"data"})
    keep_loop_gauges(workspace, loop_of())

    lines = lines_of(workspace)
    assert 'loopwright_alarms_open{loop="shop",kind="data"} 0' in lines
    assert not [line for line in lines if line.startswith("loopwright_alarm_open_t")]


@pytest.mark.parametrize("deploy", ["", "deploy: {endpoint: shop}\n"])
def test_nothing_is_written_where_no_endpoint_is(workspace: Workspace, deploy: str) -> None:
    keep_loop_gauges(workspace, loop_of(deploy))

    assert not workspace.endpoint_folder("shop").exists()
