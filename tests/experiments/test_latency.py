"""The latency of a model is measured once, from the raw row to the answer."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Any

from loopwright.compute import Job
from loopwright.loop import Workspace
from loopwright.tune.entry import find_entry
from loopwright.tune.latency import latencies, measured_latency

Train = Callable[..., Job]


class Slow:
    """A model that takes its time and counts the rows."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def predict(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self.rows.append(len(rows))
        until = time.perf_counter() + 0.0005
        while time.perf_counter() < until:
            pass
        return [{"prediction": 0.0}]


def test_a_call_is_one_row_and_takes_as_long_as_the_model() -> None:
    model = Slow()

    found = measured_latency(model, [{"x": 1.0}, {"x": 2.0}])  # type: ignore[arg-type]

    assert set(model.rows) == {1}
    assert found.median_us >= 500
    assert found.p99_us >= found.median_us
    # the first calls only warm it up
    assert 50 <= found.n_calls <= len(model.rows) - 64
    assert found.cpu


def test_the_latency_of_a_job_is_kept(workspace: Workspace, train: Train) -> None:
    job = train()
    entry = find_entry(workspace.metadata, workspace.compute, job.id)

    first = latencies(workspace.metadata, workspace.compute, [entry])
    shutil.rmtree(job.folder)
    second = latencies(workspace.metadata, workspace.compute, [entry])

    assert first[job.id].median_us > 0
    assert second == first


def test_nothing_is_measured_that_was_not_asked_for_or_left_no_model(
    workspace: Workspace, train: Train
) -> None:
    failed = train(code="raise SystemExit(1)")
    done = train()
    entries = [find_entry(workspace.metadata, workspace.compute, job.id) for job in (failed, done)]

    assert latencies(workspace.metadata, workspace.compute, entries, measure=False) == {}
    assert list(latencies(workspace.metadata, workspace.compute, entries)) == [done.id]


def test_a_model_whose_files_are_gone_has_no_latency(workspace: Workspace, train: Train) -> None:
    job = train()
    entry = find_entry(workspace.metadata, workspace.compute, job.id)
    shutil.rmtree(job.folder)

    assert latencies(workspace.metadata, workspace.compute, [entry]) == {}
