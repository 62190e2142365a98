"""A search whose trials run on a cluster finds what it finds on this machine."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loopwright as lw
from loopwright.core.digest import digest_file
from loopwright.testing.ray_cluster import StartedRayCluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "house-prices"
LOOP_FILE = """\
name: houses
problem: {target: price, criteria: [{metric: mape, at_most: 0.24}]}
data: {source: {kind: file, path: houses.parquet}}
train: {hyperparameters: {lightgbm: {rounds: 60}}, resources: {cpus: 1, memory: 1 GiB}}
"""


def tuned(folder: Path, home: str, *, parallel: int, sampler: str = "random") -> Any:
    return lw.tune(
        folder / "loop.yaml",
        algorithm="lightgbm",
        trials=4,
        parallel=parallel,
        sampler=sampler,
        prune=False,
        space={"num_leaves": [8, 64], "learning_rate": [0.03, 0.2]},
        home=folder / home,
    )


def told(found: Any, folder: Path, home: str) -> list[Any]:
    """Return every trial, with the digest of its model."""
    workspace_jobs = {id_: lw.job(id_, home=folder / home).job for id_ in found.trials["job"]}
    return [
        (
            t.number,
            t.hyperparameters,
            t.value,
            digest_file(workspace_jobs[t.job].out / "predictor.npz"),
        )
        for t in found.found.trials
    ]


def test_trials_on_a_cluster_are_those_of_this_machine(
    cluster: StartedRayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pl.read_parquet(EXAMPLE / "houses.parquet")
    rows.gather_every(14).write_parquet(tmp_path / "houses.parquet")
    (tmp_path / "loop.yaml").write_text(LOOP_FILE)
    here = tuned(tmp_path, "here", parallel=1)
    expected = told(here, tmp_path, "here")

    monkeypatch.setenv("LOOPWRIGHT_COMPUTE", "ray")
    monkeypatch.setenv("LOOPWRIGHT_RAY_ADDRESS", cluster.address)
    monkeypatch.setenv("LOOPWRIGHT_RAY_TOKEN_FILE", str(cluster.token_file))
    there = tuned(tmp_path, "there", parallel=2)

    assert told(there, tmp_path, "there") == expected
    jobs = [lw.job(each, home=tmp_path / "there").job for each in there.trials["job"]]
    assert {job.host for job in jobs} == {"127.0.0.1"}
    # they ran side by side
    spans = sorted(
        (job.started_at, job.ended_at) for job in jobs if job.started_at and job.ended_at
    )
    assert any(begin < end for (_, end), (begin, _) in itertools.pairwise(spans))
    # a cluster's trial can be opened, compared and done again like any other
    best = there.found.best.job
    rows_as_they_come = rows.drop("price").head(3).to_dicts()
    opened = lw.open_model(there, home=tmp_path / "there").predict(rows_as_they_come)
    assert opened == lw.open_model(here, home=tmp_path / "here").predict(rows_as_they_come)
    assert lw.compare(there, measure=False, home=tmp_path / "there").best.job == best
    again = lw.reproduce(best, home=tmp_path / "there")
    assert again.is_same, again
