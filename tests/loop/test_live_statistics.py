"""Live statistics on record: added to, thinned out with age, and read as a time line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from loopwright.core.clock import FixedClock
from loopwright.loop.live_statistics import add_statistics, statistics_of, timeline
from loopwright.loop.workspace import Workspace
from loopwright.monitor import LiveStatistics, WindowKey, build_reference
from loopwright.store import MemoryMetadataStore

NOW = datetime(2026, 5, 2, 12, tzinfo=UTC)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    clock = FixedClock(NOW)
    return Workspace(
        home=tmp_path,
        metadata=MemoryMetadataStore(clock),
        artifacts=None,  # type: ignore[arg-type]
        compute=None,  # type: ignore[arg-type]
        clock=clock,
        user="ann",
    )


def hour(hours_ago: int, version: str = "1") -> WindowKey:
    start = (NOW - timedelta(hours=hours_ago)).replace(minute=0)
    return WindowKey(start=start, span_s=3_600, version=version)


def test_what_comes_later_for_an_hour_is_added_to_it(workspace: Workspace) -> None:
    add_statistics(workspace, "a", {hour(1): LiveStatistics(n=5, counts={"x": (2, 3)})})
    add_statistics(workspace, "a", {hour(1): LiveStatistics(n_labelled=2, loss_sum=1.0)})
    add_statistics(workspace, "b", {hour(1): LiveStatistics(n=99)})

    assert statistics_of(workspace, "a") == {
        hour(1): LiveStatistics(n=5, n_labelled=2, loss_sum=1.0, counts={"x": (2, 3)})
    }


def test_old_hours_become_days_and_old_days_are_forgotten(workspace: Workspace) -> None:
    old, older = 36 * 24, 740 * 24
    clock = workspace.clock
    assert isinstance(clock, FixedClock)
    early = Workspace(
        home=workspace.home,
        metadata=workspace.metadata,
        artifacts=workspace.artifacts,
        compute=workspace.compute,
        clock=FixedClock(NOW - timedelta(days=10)),
        user="ann",
    )
    add_statistics(early, "a", {hour(old + k): LiveStatistics(n=1) for k in range(5)})
    before = statistics_of(workspace, "a")

    add_statistics(workspace, "a", {hour(older): LiveStatistics(n=7), hour(0): LiveStatistics(n=3)})
    add_statistics(workspace, "a", {})

    after = statistics_of(workspace, "a")
    assert len(before) == 5
    assert {key.span_s for key in before} == {3_600}
    assert [(key.span_s, each.n) for key, each in sorted(after.items())] == [
        (86_400, 5),
        (3_600, 3),
    ]


def test_the_time_line_tells_drift_and_loss_by_the_hour(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    rows = pl.DataFrame({"x": rng.normal(size=2_000)})
    reference = build_reference(rows, rng.normal(size=2_000), None, {"x": "number"})
    usual = {each.key: each.counts for each in reference.streams}
    stream = reference.streams[0]
    moved = {"x": (0,) * (stream.n_bins - 2) + (500, 0)}
    add_statistics(
        workspace,
        "a",
        {
            hour(2): LiveStatistics(n=2_000, counts=usual, n_labelled=4, loss_sum=1.0),
            hour(1): LiveStatistics(n=500, counts=moved),
        },
    )

    first, second = timeline(workspace, "a", reference, version="1")

    assert (first["drift"]["x"], first["mean_loss"]) == (0.0, 0.25)
    assert second["drift"]["x"] > 0.9
    assert (second["mean_loss"], second["n"]) == (None, 500)
    assert len(timeline(workspace, "a", reference, since=NOW - timedelta(minutes=50))) == 1
