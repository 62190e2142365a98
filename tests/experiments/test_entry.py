"""The entry of a job tells all of it, and outlives its files."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from loopwright.core.digest import digest_file
from loopwright.core.errors import NotFoundError
from loopwright.tune.entry import Entry, find_entry, list_entries, read_entry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from loopwright.compute import Job
    from loopwright.loop import Workspace

    Train = Callable[..., Job]

CURVE = (
    "import json\n"
    "with open('out/metrics.jsonl', 'w') as file:\n"
    "    for step in range(1, 1001):\n"
    "        file.write(json.dumps({'name': 'loss', 'step': step, 'value': 1 / step}) + chr(10))\n"
    "    file.write(json.dumps({'name': 'odd', 'step': 1, 'value': None}) + chr(10))\n"
)


def test_an_entry_tells_what_a_job_was_made_of_and_came_to(
    workspace: Workspace, train: Train, trained_files: Path
) -> None:
    job = train(labels={"loop": "houses"})

    entry = find_entry(workspace.metadata, workspace.compute, job.id)

    assert (entry.algorithm, entry.task, entry.target) == ("linear-learner", "regression", "price")
    assert entry.parameters["alpha"] is not None
    assert entry.data["training rows"] == digest_file(trained_files / "train.parquet")
    assert [name for name, _, _ in entry.recipe]
    assert entry.code["loopwright"]
    assert entry.seed == 7
    assert entry.labels == {"loop": "houses"}
    # the metrics are those of the answers that the job left
    import numpy as np
    import polars as pl

    said = pl.read_parquet(trained_files / "out" / "validation.parquet")
    error = said["prediction"].to_numpy() - said["actual"].to_numpy()
    assert entry.quality["rmse"] == pytest.approx(float(np.sqrt((error**2).mean())))


def test_an_entry_outlives_the_files_of_its_job(workspace: Workspace, train: Train) -> None:
    job = train()
    before = find_entry(workspace.metadata, workspace.compute, job.id)
    shutil.rmtree(job.folder)

    after = find_entry(workspace.metadata, workspace.compute, job.id)

    # packages are kept with the origin of the job
    assert Entry.from_json({**before.to_json(), "packages": {}}) == after


def test_a_long_curve_is_thinned_and_keeps_its_ends(workspace: Workspace, train: Train) -> None:
    job = train(code=CURVE)

    entry = read_entry(workspace.compute, job)

    curve = entry.curves["loss"]
    assert len(curve) <= 202
    assert (curve[0], curve[-1]) == ((1, 1.0), (1000, 0.001))
    assert entry.metrics["loss"] == 0.001
    # a value that was not finite makes no curve
    assert entry.curves["odd"] == ()


def test_a_job_that_failed_is_on_record_with_what_was_ordered(
    workspace: Workspace, train: Train
) -> None:
    job = train(code="raise SystemExit('no luck')", hyperparameters={"alpha": 0.5})

    entry = find_entry(workspace.metadata, workspace.compute, job.id)

    assert entry.state == "failed"
    assert entry.parameters["alpha"] == 0.5
    assert entry.quality == {}


def test_jobs_that_learn_nothing_have_no_entry(workspace: Workspace, train: Train) -> None:
    other = train("other", kind="copy")
    mine = train()

    listed = list_entries(workspace.metadata, workspace.compute)

    assert [entry.job for entry in listed] == [mine.id]
    with pytest.raises(NotFoundError, match="learns nothing"):
        find_entry(workspace.metadata, workspace.compute, other.id)


def test_what_a_later_release_adds_to_an_entry_is_left_out() -> None:
    value: dict[str, Any] = {"job": "1", "name": "a", "kind": "training", "state": "failed"}

    entry = Entry.from_json({**value, "format": 9, "mood": "good"})

    assert entry == Entry(job="1", name="a", kind="training", state="failed")


def test_an_auto_job_tells_its_budget_its_trials_and_its_quality(
    workspace: Workspace, train: Train, trained_files: Path
) -> None:
    import json

    order = json.loads((trained_files / "training.json").read_text())
    tried = {"trials": [{"name": "linear", "weight": 1.0}]}
    code = (
        "import json, os, shutil, sys\n"
        "shutil.copytree(sys.argv[1], 'out', dirs_exist_ok=True)\n"
        f"json.dump({{'training': {order!r}, 'budget_s': 60.0, 'metric': 'rmse'}}, "
        "open('auto.json', 'w'))\n"
        f"json.dump({tried!r}, open('out/trials.json', 'w'))\n"
    )

    job = train(code=code, labels={"algorithm": "auto"})
    entry = find_entry(workspace.metadata, workspace.compute, job.id)

    assert entry.parameters["budget_s"] == 60.0
    assert entry.trials == ({"name": "linear", "weight": 1.0},)
    assert entry.task == "regression"
    assert entry.quality["rmse"] > 0
